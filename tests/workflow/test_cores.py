from __future__ import annotations

import os

import pytest

from dualproto_wsi.workflow.cores import reading_threads, usable_cores

BOUND = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def limit(folder, **files: str):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_without_a_limit_all_cores_that_a_process_is_bound_to(tmp_path):
    assert usable_cores(tmp_path) == BOUND
    assert usable_cores(limit(tmp_path, cpu_dot_max="max 100000\n")) == BOUND
    assert 1 <= usable_cores() <= BOUND


@pytest.mark.parametrize(
    ("quota", "cores"), [("50000 100000\n", 1), ("100000 100000\n", 1), ("99900000 100000\n", BOUND)]
)
def test_a_container_may_have_fewer(tmp_path, quota, cores):
    assert usable_cores(limit(tmp_path, cpu_dot_max=quota)) == cores


@pytest.mark.parametrize(("quota", "cores"), [("50000", 1), ("-1", BOUND)])
def test_older_containers(tmp_path, quota, cores):
    folder = limit(tmp_path, cpu__cpu_dot_cfs_quota_us=quota, cpu__cpu_dot_cfs_period_us="100000")
    assert usable_cores(folder) == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux binds processes to cores")
def test_a_process_that_is_bound_to_a_core(tmp_path):
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("cores", "on_gpu", "threads"),
    [(1, False, 2), (16, False, 4), (512, False, 32), (1, True, 2), (8, True, 7), (16, True, 15), (64, True, 32)],
)  # fmt: skip
def test_threads_that_read(cores, on_gpu, threads):
    assert reading_threads(cores, on_gpu) == threads
