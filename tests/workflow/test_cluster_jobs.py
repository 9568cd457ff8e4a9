"""Which cluster, and the jobs that SLURM is asked for."""

from __future__ import annotations

import os
import stat
import sys
import time

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.errors import ClusterError, MissingDependency, SettingsError
from dualproto_wsi.settings import (
    ClusterSpec,
    InferenceSettings,
    RunSettings,
    SegmentSettings,
    SlurmSettings,
    load_toml,
    parse_cluster,
)
from dualproto_wsi.workflow.cluster.connect import connected, slurm_cluster
from dualproto_wsi.workflow.cluster.run import segment_on_cluster

FILE = """
jobs = 3
cores = 8
memory = "32GB"
walltime = "1-02:00:00"
gpus = 1
queue = "gpu"
account = "pathology"
directives = ["--constraint=a100"]
prologue = ["source /shared/venv/bin/activate"]
python = "/shared/venv/bin/python"
interface = "lo"
log_directory = "/shared/logs"
"""


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("dask://login1:8786", ClusterSpec("dask", "login1:8786")),
        ("dask://10.0.0.1:8786/", ClusterSpec("dask", "10.0.0.1:8786")),
        ("slurm:my jobs.toml", ClusterSpec("slurm", "my jobs.toml")),
        ("local:04", ClusterSpec("local", "4")),
    ],
)
def test_names_of_clusters(text, spec):
    assert parse_cluster(text) == spec
    assert parse_cluster(str(spec)) == spec


USE = "use dask://HOST:PORT, slurm:FILE or local:N"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", f"cluster is 'foo'; {USE}"),
        ("dask://host", f"cluster is 'dask://host'; {USE}"),
        ("dask:host:1", f"cluster is 'dask:host:1'; {USE}"),
        ("slurm:", f"cluster is 'slurm:'; {USE}"),
        ("local:", f"cluster is 'local:'; {USE}"),
        ("local:two", f"cluster is 'local:two'; {USE}"),
        ("local:0", "cluster is 'local:0'; local:N needs 1 to 256 processes"),
        ("local:257", "cluster is 'local:257'; local:N needs 1 to 256 processes"),
    ],
)
def test_what_is_no_cluster(text, message, tmp_path):
    for refuse in (parse_cluster, lambda value: RunSettings(cluster=value)):
        with pytest.raises(SettingsError) as error:
            refuse(text)
        assert str(error.value) == message
    result = CliRunner().invoke(main, ["segment", "a.svs", "-o", str(tmp_path / "out"), "--cluster", text])
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_cluster_needs_processes_of_their_own():
    with pytest.raises(SettingsError, match="cluster needs isolate: a worker does each slide in a process of its own"):
        RunSettings(cluster="local:1", isolate=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cores = 1\nmemory = '1GB'\ncorse = 2", "unknown key 'corse'; known are "),
        ("memory = '1GB'", "cores is 0; say how many CPU cores a job gets, 1 to 1024"),
        ("cores = 4", "memory is ''; say how much a job gets, such as '32GB'"),
        ("cores = 4\nmemory = 'much'", "memory is 'much'; say how much a job gets, such as '32GB'"),
        ("cores = 4\nmemory = '4GB'\njobs = 0", "jobs is 0; use 1 to 10000"),
        ("cores = 4\nmemory = '4GB'\ngpus = 4", "gpus is 4; a job has 0 or 1, and several GPUs are several jobs"),
        ("cores = 4\nmemory = '4GB'\nwalltime = '1h'", "walltime is '1h'; use HH:MM:SS or D-HH:MM:SS"),
        ("cores = 'x'", ".cores: 'x' must be of type int"),
        ("cores 4", "not valid TOML: "),
    ],
)
def test_a_file_that_is_wrong(tmp_path, text, message):
    (tmp_path / "jobs.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        load_toml(SlurmSettings, tmp_path / "jobs.toml")
    assert str(error.value).startswith(str(tmp_path / "jobs.toml"))
    assert message in str(error.value)


def settings(cluster: str, device: str = "cpu") -> SegmentSettings:
    return SegmentSettings(inference=InferenceSettings(device=device), run=RunSettings(cluster=cluster))


def test_a_file_that_is_missing(three_slides, tmp_path):
    with pytest.raises(SettingsError, match=r"jobs\.toml: no such settings file"):
        list(segment_on_cluster([three_slides], tmp_path / "out", settings(f"slurm:{tmp_path / 'jobs.toml'}")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("package", "cluster"), [("distributed", "local:1"), ("dask_jobqueue", "slurm:{}")])
def test_packages_that_are_missing(monkeypatch, tmp_path, package, cluster):
    (tmp_path / "jobs.toml").write_text("cores = 1\nmemory = '1GB'")
    monkeypatch.setitem(sys.modules, package, None)
    spec = parse_cluster(cluster.format(tmp_path / "jobs.toml"))
    with pytest.raises(MissingDependency, match=r"pip install 'dualproto-wsi\[cluster\]'$"), connected(spec, "cpu"):
        pass


def test_the_job_that_slurm_gets(tmp_path):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "jobs.toml").write_text(FILE)
    wanted = load_toml(SlurmSettings, tmp_path / "jobs.toml")
    with slurm_cluster(wanted, start=False) as cluster:
        script = cluster.job_script().splitlines()
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -A pathology",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --mem=30G",
        "#SBATCH -t 1-02:00:00",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --constraint=a100",
        "source /shared/venv/bin/activate",
    ):
        assert line in script, line
    worker = next(line for line in script if line.startswith("/shared/venv/bin/python -m distributed.cli.dask_worker"))
    assert worker.index("--nthreads 8") < worker.index("--nthreads 1 ")  # the last one counts
    assert "--resources GPU=1" in worker
    assert "--interface lo" in worker


def test_a_gpu_that_jobs_do_not_have(three_slides, tmp_path):
    pytest.importorskip("dask_jobqueue")
    file = tmp_path / "jobs.toml"
    file.write_text("cores = 1\nmemory = '1GB'")
    with pytest.raises(ClusterError) as error:
        list(segment_on_cluster([three_slides], tmp_path / "out", settings(f"slurm:{file}", "cuda")))
    assert str(error.value) == (
        f"slurm:{file}: asks for no GPU, and --device is cuda; add `gpus = 1`, or use --device cpu"
    )


SBATCH = """#!/bin/sh
cp "$1" {folder}/job.$$.sh
setsid sh {folder}/job.$$.sh >/dev/null 2>{folder}/job.$$.log &
echo $! > {folder}/pid.$$
echo "Submitted batch job $$"
"""
SCANCEL = """#!/bin/sh
kill -TERM -$(cat {folder}/pid.$1)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="stands in for SLURM by shell scripts")
def test_jobs_of_a_stand_in_for_slurm(three_slides, undisturbed, tmp_path, contents, monkeypatch):
    """`sbatch` and `scancel` that run and end the job's script on this machine: the rest is as on a cluster."""
    pytest.importorskip("dask_jobqueue")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (programs / name).write_text(text.format(folder=tmp_path))
        (programs / name).chmod(0o755 | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    file = tmp_path / "jobs.toml"
    file.write_text(f"cores = 2\nmemory = '2GB'\ninterface = 'lo'\nlocal_directory = '{tmp_path}'\n")
    out = tmp_path / "out"
    outcomes = list(segment_on_cluster([three_slides], out, settings(f"slurm:{file}", "auto")))
    assert [outcome.status for outcome in outcomes] == ["done"] * 3
    assert contents(out) == contents(undisturbed)
    pids = [int(path.read_text()) for path in tmp_path.glob("pid.*")]
    assert len(pids) == 1
    for _ in range(100):
        try:
            os.kill(pids[0], 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("the job is still there")
