from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dualproto_wsi.settings import (
    FeatureSettings,
    InferenceSettings,
    LabelSettings,
    OutputSettings,
    ReadSettings,
    RunSettings,
    SegmentSettings,
)  # fmt: skip
from dualproto_wsi.workflow.batch.fingerprint import (
    MB,
    NEUTRAL,
    Fingerprint,
    data_sha256,
    settings_sha256,
    slide_bytes,
    slide_files,
    slide_sha256,
)  # fmt: skip


def big(path: Path, size: int = 12 * MB) -> Path:
    path.write_bytes(os.urandom(MB) * (size // MB))
    return path


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_a_copy_under_another_name_and_date_is_the_same_slide(tmp_path):
    first, copy = big(tmp_path / "a.svs"), tmp_path / "b.svs"
    copy.write_bytes(first.read_bytes())
    os.utime(copy, (1, 1))
    assert slide_sha256(first) == slide_sha256(copy)
    assert slide_bytes(first) == 12 * MB


@pytest.mark.parametrize("at", [0, MB - 1, MB, 11 * MB - 1, 11 * MB, 12 * MB - 1])
def test_a_byte_in_a_sampled_piece_counts(tmp_path, at):
    slide = big(tmp_path / "a.svs")
    before = slide_sha256(slide)
    flip(slide, at)
    assert slide_sha256(slide) != before


def test_every_byte_of_a_small_slide_counts_and_so_does_a_size(tmp_path):
    slide = big(tmp_path / "a.svs", 5 * MB)
    seen = {slide_sha256(slide)}
    for at in range(0, 5 * MB, 1234567):
        flip(slide, at)
        seen.add(slide_sha256(slide))
    assert len(seen) == 6
    large = big(tmp_path / "b.svs")
    before = slide_sha256(large)
    with large.open("ab") as file:
        file.write(b"\0")
    assert slide_sha256(large) != before


def test_files_that_belong_to_a_slide_count(tmp_path):
    data = tmp_path / "a"
    data.mkdir()
    (tmp_path / "a.mrxs").write_bytes(b"jpeg")
    for name in ("Slidedat.ini", "Data0000.dat"):
        (data / name).write_bytes(b"12345")
    (tmp_path / "b.mrxs").touch()
    before = slide_sha256(tmp_path / "a.mrxs")
    assert [path.name for path in slide_files(tmp_path / "a.mrxs")] == ["a.mrxs", "Data0000.dat", "Slidedat.ini"]
    (data / "Data0000.dat").write_bytes(b"12346")
    assert slide_sha256(tmp_path / "a.mrxs") != before


def test_a_zarr_folder_is_its_files(tmp_path):
    store = tmp_path / "a.zarr"
    (store / "0").mkdir(parents=True)
    (store / ".zattrs").write_text("{}")
    (store / "0" / "0.0").write_bytes(b"chunk")
    before = slide_sha256(store)
    (store / "0" / "0.0").write_bytes(b"chuNk")
    assert slide_sha256(store) != before
    assert slide_bytes(store) == 7


def dicom(path: Path, series: bytes) -> Path:
    element = b"\x20\x00\x0e\x00UI" + len(series).to_bytes(2, "little") + series
    path.write_bytes(bytes(128) + b"DICM" + bytes(40) + element + path.name.encode())
    return path


def test_a_dicom_slide_is_the_files_of_its_series(tmp_path):
    slide = dicom(tmp_path / "1.dcm", b"1.2.3\0")
    dicom(tmp_path / "2.dcm", b"1.2.3\0")
    dicom(tmp_path / "3.dcm", b"1.2.4\0")
    assert [path.name for path in slide_files(slide)] == ["1.dcm", "2.dcm"]


def test_a_missing_slide_has_no_size_and_no_hash(tmp_path):
    assert slide_bytes(tmp_path / "no.svs") == 0
    with pytest.raises(FileNotFoundError):
        slide_sha256(tmp_path / "no.svs")


def test_settings_that_change_results_count_and_the_others_do_not():
    base = SegmentSettings()
    same = [
        replace(base, read=ReadSettings(workers=7)),
        replace(base, inference=InferenceSettings(batch_size=5, device="cpu")),
        replace(base, run=RunSettings(force=True, timeout_s=9, cluster="local:2")),
        replace(base, features=FeatureSettings(cache="a", level="encoder")),
        replace(base, features=FeatureSettings(source="a")),
    ]
    other = [
        replace(base, read=ReadSettings(mpp=0.5)),
        replace(base, labels=LabelSettings(min_area_um2=3)),
        replace(base, output=OutputSettings(overlay=False)),
    ]
    assert {settings_sha256(settings) for settings in same} == {settings_sha256(base)}
    assert len({settings_sha256(settings) for settings in [base, *other]}) == 4


def test_neutral_settings_exist():
    base = SegmentSettings()
    for section, names in NEUTRAL.items():
        for name in names:
            assert hasattr(getattr(base, section), name)


def test_changes_are_named():
    one = Fingerprint("s", "", "m", "x", "cpu", "fp32")
    two = replace(one, model="n", precision="bf16")
    assert two.changes(one) == ["model", "precision"]
    assert replace(one, features="f").changes(one) == ["features"]
    assert Fingerprint.from_json(one.to_json()) == one
    assert data_sha256({"a": 1, "b": 2}) == data_sha256({"b": 2, "a": 1})
