"""Files of features: what is written comes back, and what is not whole counts for nothing."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualproto_wsi.errors import FeaturesUnusable
from dualproto_wsi.geometry import Box
from dualproto_wsi.model.absent_encoder import EncoderFacts
from dualproto_wsi.model.segmenter import FeatureKey
from dualproto_wsi.workflow.features.header import FeatureHeader
from dualproto_wsi.workflow.features.store import (
    ABANDONED_S,
    CacheFull,
    FeatureWriter,
    StoredFeatures,
    folder_bytes,
    stored_files,
)

HEADER = FeatureHeader(
    slide_name="a ü.svs",
    slide="ab" * 32,
    key=FeatureKey("encoder", "compact", "0123", ""),
    encoder=EncoderFacts("compact", "0123", 256, 8, 16, 0.5, (24, 64, 144), 0, 0.0),
    model_mpp=0.5,
    window_px=448,
    mpp=0.2527,
    content=Box(3, 4, 1000, 700),
    overlap=0.125,
    tissue={"mpp": 4.0},
    regions="",
    precision="bf16",
    device="cpu",
    field_shape=(30, 40),
    tissue_mm2=0.7,
)
PLACES = [(0, 0), (0, 392), (392, 0)]


def made(seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[list[np.ndarray]]]:
    generator = np.random.default_rng(seed)
    field, picture = generator.integers(0, 256, (30, 40), np.uint8), generator.integers(0, 256, (20, 30, 3), np.uint8)
    levels = [[generator.normal(0, 3, shape).astype(np.float16) for shape in ((6, 9, 9), (2, 5, 7))] for _ in PLACES]
    return field, picture, levels


def write(path: Path, seed: int = 0, header: FeatureHeader = HEADER, limit: float = 1e9) -> int:
    field, picture, levels = made(seed)
    with FeatureWriter(path, header, field, picture, limit) as writer:
        for place, features in zip(PLACES, levels, strict=True):
            writer.add(*place, features)
        return writer.finish()


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "dir" / "a.features"
    write(path)
    return path


def test_all_comes_back_bit_for_bit(stored):
    field, picture, levels = made()
    with StoredFeatures(stored) as found:
        assert found.header == HEADER
        assert found.windows == set(PLACES)
        assert np.array_equal(found.field(), field)
        assert np.array_equal(found.picture(), picture)
        for place, features in zip(PLACES, levels, strict=True):
            for one, other in zip(found.window(*place), features, strict=True):
                assert one.dtype == np.float16
                assert np.array_equal(one, other)


def test_equal_content_gives_equal_bytes_and_hashes_and_other_content_others(stored, tmp_path):
    assert write(tmp_path / "b.features") == stored.stat().st_size
    assert (tmp_path / "b.features").read_bytes() == stored.read_bytes()
    write(tmp_path / "c.features", seed=1)
    write(tmp_path / "d.features", header=replace(HEADER, precision="fp32"))
    hashes = []
    for path in (stored, *(tmp_path / f"{name}.features" for name in "bcd")):
        with StoredFeatures(path) as found:
            hashes.append(found.sha256)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_threads_may_read_at_once(stored):
    _, _, levels = made()
    with StoredFeatures(stored) as found:
        wrong = []

        def read() -> None:
            for _ in range(50):
                for place, features in zip(PLACES, levels, strict=True):
                    if not np.array_equal(found.window(*place)[0], features[0]):
                        wrong.append(place)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_without_its_end_it_never_counts(tmp_path):
    path = tmp_path / "a.features"
    field, picture, levels = made()
    with FeatureWriter(path, HEADER, field, picture, 1e9) as writer:
        writer.add(0, 0, levels[0])
        assert not list(stored_files(tmp_path))
        assert folder_bytes(tmp_path) > 0
    assert not list(tmp_path.iterdir())


def test_a_file_cut_short_is_refused_wherever_it_ends(stored):
    whole = stored.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        stored.write_bytes(whole[:length])
        with pytest.raises(
            FeaturesUnusable, match=r"a\.features: cut short, or no file of features .*; delete it, and store the"
        ):
            StoredFeatures(stored)


def test_every_damaged_byte_is_noticed(stored):
    """In whichever part a bit flips: the file is refused, or the part, or nothing of what is read differs."""
    whole, (field, picture, levels) = stored.read_bytes(), made()
    refused = 0
    for at in range(0, len(whole), 41):
        stored.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1 :])
        try:
            with StoredFeatures(stored) as found:
                assert np.array_equal(found.field(), field)
                assert np.array_equal(found.picture(), picture)
                for place, features in zip(PLACES, levels, strict=True):
                    assert np.array_equal(found.window(*place)[0], features[0])
        except FeaturesUnusable as error:
            assert str(stored) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 0.9 * len(range(0, len(whole), 41))


def test_a_damaged_window_is_named(stored):
    with zipfile.ZipFile(stored) as archive:
        info = archive.getinfo("windows/0_392")
    data = bytearray(stored.read_bytes())
    data[info.header_offset + 200] ^= 1
    stored.write_bytes(data)
    with StoredFeatures(stored) as found:
        found.window(0, 0)
        with pytest.raises(
            FeaturesUnusable, match=r"a\.features: its part windows/0_392 is damaged .*CRC-32.*delete it"
        ):
            found.window(0, 392)
        with pytest.raises(FeaturesUnusable, match="its part windows/9_9 is damaged"):
            found.window(9, 9)


def rewritten(path: Path, header: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", header)


def test_other_versions_and_other_files_are_refused(stored):
    rewritten(stored, HEADER.to_bytes().replace(b'"format": 1', b'"format": 7'))
    with pytest.raises(FeaturesUnusable, match="its format is 7, this version reads 1; delete it, and store"):
        StoredFeatures(stored)
    rewritten(stored, b'{"format": 1}')
    with pytest.raises(FeaturesUnusable, match=r"its header lacks something \(KeyError\('key'\)\)"):
        StoredFeatures(stored)
    rewritten(stored, b"\xff")
    with pytest.raises(FeaturesUnusable, match=r"a\.features: .*; delete it"):
        StoredFeatures(stored)


def test_values_beyond_half_precision_are_refused(tmp_path):
    field, picture, levels = made()
    with FeatureWriter(tmp_path / "a.features", HEADER, field, picture, 1e9) as writer:
        levels[0][0][0, 0, 0] = np.inf
        with pytest.raises(ValueError, match="a value is not finite in half precision"):
            writer.add(0, 0, levels[0])


def test_the_limit_counts_all_files_also_unfinished_ones_of_others(stored, tmp_path):
    size, folder = stored.stat().st_size, stored.parent
    write(folder / "b.features", limit=2 * size + 10)
    with pytest.raises(CacheFull):
        write(folder / "c.features", limit=2 * size + 10)
    shutil.copy(stored, folder / "d.features.1.tmp")
    with pytest.raises(CacheFull):
        write(folder / "c.features", limit=3 * size)
    assert sorted(path.name for path in folder.iterdir()) == ["a.features", "b.features", "d.features.1.tmp"]
    write(folder / "a.features", limit=1e9)


def test_unfinished_files_of_killed_processes_are_removed_after_a_day(stored):
    fresh, old = (stored.with_name(f"b.features.{number}.tmp") for number in (1, 2))
    fresh.write_bytes(b"x")
    old.write_bytes(b"x")
    day = time.time() - ABANDONED_S - 60
    os.utime(old, (day, day))
    write(stored.with_name("c.features"))
    assert fresh.exists() and not old.exists()


def write_often(path: Path, seed: int) -> None:
    for _ in range(20):
        write(path, seed)


def test_processes_that_write_the_same_file_leave_a_whole_one(tmp_path):
    path = tmp_path / "a.features"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(path, seed)) for seed in (0, 1, 2)]
    for process in writers:
        process.start()
    seen = 0
    while any(process.is_alive() for process in writers):
        if path.exists():
            with StoredFeatures(path) as found:  # also while it is replaced
                first = found.window(*PLACES[2])[0]
            assert any(np.array_equal(first, made(seed)[2][2][0]) for seed in (0, 1, 2))
            seen += 1
    assert seen and [process.exitcode for process in writers] == [0, 0, 0]
    assert [file.name for file in tmp_path.iterdir()] == ["a.features"]
