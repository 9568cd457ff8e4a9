"""What is read of output folders, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from dualproto_wsi.errors import DataError
from dualproto_wsi.workflow.cohort.results import read_results


@pytest.fixture(scope="module")
def labels(synthetic: ModuleType) -> np.ndarray:
    return synthetic.Discs(0, 100, 120, 200).draw()


def test_each_slide_is_told_of(synthetic: ModuleType, labels: np.ndarray, tmp_path: Path) -> None:
    out = tmp_path / "out"
    synthetic.write_result(out, "b.tif", labels, {"patient": "P1", "stain": "HE"})
    synthetic.write_result(out, "a.tif", np.zeros_like(labels))
    synthetic.write_failure(out, "c.tif", "c.tif: broken", {"patient": "P2"})
    (synthetic.write_result(out, "d.tif", labels) / "record.json").unlink()
    found, notes = read_results([out, out / ".." / "out"])
    assert [(r.key, r.error, r.about) for r in found] == [
        ("a.tif", "", {}),
        ("b.tif", "", {"patient": "P1", "stain": "HE"}),
        ("c.tif", "c.tif: broken", {"patient": "P2"}),
        (
            "d.tif",
            f"{out / 'd.tif'}: record.json: cannot be read (No such file or directory); run `segment` again",
            {},
        ),
    ]
    assert notes == []


def test_a_damaged_record_costs_its_slide_alone(synthetic: ModuleType, labels: np.ndarray, tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        synthetic.write_result(tmp_path, name, labels)
    path = tmp_path / "a.tif" / "record.json"
    data = json.loads(path.read_text())
    del data["fingerprint"]["model"]
    path.write_text(json.dumps(data))
    found, _ = read_results([tmp_path])
    assert [r.error for r in found] == [f"{path}: lacks 'model'; run `segment` again", ""]


def test_the_newest_of_a_slide_that_is_there_twice(synthetic: ModuleType, labels: np.ndarray, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    synthetic.write_result(one, "a.tif", labels, started="2026-02-02T00:00:00+00:00")
    synthetic.write_result(other, "a.tif", labels, started="2026-01-01T00:00:00+00:00")
    synthetic.write_failure(one, "b.tif", "b.tif: no room")
    synthetic.write_result(other, "b.tif", labels)
    synthetic.write_failure(one, "c.tif", "c.tif: broken")
    synthetic.write_failure(other, "c.tif", "c.tif: broken")
    found, notes = read_results([one, other])
    assert [(r.key, r.folder) for r in found] == [
        ("a.tif", one / "a.tif"),
        ("b.tif", other / "b.tif"),
        ("c.tif", None),
    ]
    assert notes[0] == (
        f"Slides that are there twice count once, with their newest results; left out: {other / 'a.tif'}."
    )


def test_slides_of_one_name_have_different_keys(synthetic: ModuleType, labels: np.ndarray, tmp_path: Path) -> None:
    for name in ("one", "other"):
        folder = synthetic.write_result(tmp_path / name / "results", "a.tif", labels)
        data = json.loads((folder / "record.json").read_text())
        data["fingerprint"]["slide"] = name
        (folder / "record.json").write_text(json.dumps(data))
    synthetic.write_result(tmp_path / "one" / "results", "b.tif", labels)
    found, _ = read_results([tmp_path / "one" / "results", tmp_path / "other" / "results"])
    assert len({r.key for r in found}) == 3
    assert found[-1].key == "b.tif"


def test_what_is_not_in_the_table_is_left_out(synthetic: ModuleType, labels: np.ndarray, tmp_path: Path) -> None:
    synthetic.write_result(tmp_path, "a.tif", labels)
    kept = (tmp_path / "slides.csv").read_text()
    synthetic.write_result(tmp_path, "b.tif", labels)
    (tmp_path / "slides.csv").write_text(kept)
    found, notes = read_results([tmp_path])
    assert [r.key for r in found] == ["a.tif"]
    assert notes == [f"{tmp_path / 'slides.csv'} does not tell of 1 folder(s) of results, left out: b.tif."]


def test_different_settings_are_told(synthetic: ModuleType, labels: np.ndarray, tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif", "c.tif"):
        synthetic.write_result(tmp_path, name, labels, cell_um=4.0 if name == "c.tif" else 8.0)
    path = tmp_path / "b.tif" / "record.json"
    data = json.loads(path.read_text())
    data["settings"]["labels"]["min_area_um2"] = 500.0
    data["settings"]["inference"]["batch_size"] = 7
    path.write_text(json.dumps(data))
    _, notes = read_results([tmp_path])
    assert notes == [
        "Slides were not mapped alike: labels.min_area_um2 is 0.0 for 2 slide(s), 500.0 for 1 slide(s).",
        "Slides were not mapped alike: size of a cell, µm is 8 for 2 slide(s), 4 for 1 slide(s).",
    ]


def test_another_model_is_refused(synthetic: ModuleType, labels: np.ndarray, tmp_path: Path) -> None:
    one = synthetic.write_result(tmp_path / "one", "a.tif", labels)
    other = synthetic.write_result(tmp_path / "other", "b.tif", labels, model="another")
    hashes = [json.loads((folder / "record.json").read_text())["fingerprint"]["model"][:12] for folder in (one, other)]
    with pytest.raises(DataError) as error:
        read_results([tmp_path / "one", tmp_path / "other"])
    assert str(error.value) == (
        f"{one} is by the model made-up 1 ({hashes[0]}), {other} by another 1 ({hashes[1]}); measure slides of one "
        "model together"
    )


def test_other_classes_are_refused(synthetic: ModuleType, labels: np.ndarray, tmp_path: Path) -> None:
    one = synthetic.write_result(tmp_path, "a.tif", labels)
    three = type(synthetic.CLASSES)(synthetic.CLASSES.classes[:3])
    other = synthetic.write_result(tmp_path, "b.tif", labels, classes=three)
    with pytest.raises(DataError) as error:
        read_results([tmp_path])
    assert str(error.value) == (
        f"{one} has the classes Tumor, Stroma, Lymphocyte, Necrosis, {other} Tumor, Stroma, Lymphocyte; measure slides "
        "of one class scheme together"
    )


def test_no_folder_of_segment(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_results([tmp_path])
    assert str(error.value) == (
        f"{tmp_path / 'slides.csv'}: no such file; name a folder that `dualproto-wsi segment` wrote"
    )
    (tmp_path / "slides.csv").write_text("slide,path,folder,status,seconds\n")
    with pytest.raises(DataError) as error:
        read_results([tmp_path])
    assert str(error.value) == f"{tmp_path / 'slides.csv'}: there are no slides; run `dualproto-wsi segment` first"
    (tmp_path / "slides.csv").write_text("slide,path,folder,status,seconds\na.tif,/a.tif,../x,done,1\n")
    with pytest.raises(DataError) as error:
        read_results([tmp_path])
    assert str(error.value) == (
        f"{tmp_path / 'slides.csv'}: folder is '../x' for a.tif; it must be one in the output folder"
    )
    (tmp_path / "slides.csv").write_text("slide,path,folder,status,seconds\na.tif,/a.tif\n")
    with pytest.raises(DataError, match=r"slides.csv: the row of 'a.tif' has more or fewer cells than columns$"):
        read_results([tmp_path])
