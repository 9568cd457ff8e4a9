from __future__ import annotations

import json

import pytest

from dualproto_wsi.errors import OutputError
from dualproto_wsi.workflow.batch.folders import drop_unfinished, result_folders


def test_a_folder_has_the_slides_name(tmp_path):
    slides = [tmp_path / "a.svs", tmp_path / "b.tif"]
    assert [folder.name for folder in result_folders(slides, tmp_path / "out")] == ["a.svs", "b.tif"]


def test_slides_of_one_name_get_different_folders_that_do_not_depend_on_order(tmp_path):
    slides = [tmp_path / "x" / "a.svs", tmp_path / "y" / "A.svs"]
    folders = result_folders(slides, tmp_path / "out")
    assert len({folder.name.casefold() for folder in folders}) == 2
    assert all("--" in folder.name for folder in folders)
    assert result_folders(slides[::-1], tmp_path / "out") == folders[::-1]


def test_results_of_another_file_of_that_name_are_not_overwritten(tmp_path):
    out = tmp_path / "out"
    (out / "a.svs").mkdir(parents=True)
    (out / "a.svs" / "record.json").write_text(json.dumps({"slide": {"path": str(tmp_path / "x" / "a.svs")}}))
    (same,) = result_folders([tmp_path / "x" / "a.svs"], out)
    (other,) = result_folders([tmp_path / "y" / "a.svs"], out)
    assert same.name == "a.svs"
    assert other.name.startswith("a.svs--")


def test_a_damaged_record_takes_no_name(tmp_path):
    (tmp_path / "a.svs").mkdir()
    (tmp_path / "a.svs" / "record.json").write_text("{")
    assert result_folders([tmp_path / "q" / "a.svs"], tmp_path) == [tmp_path / "a.svs"]


def test_out_must_not_be_a_file(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="out: is a file; -o needs a folder"):
        result_folders([], tmp_path / "out")


def test_what_was_not_finished_goes_and_whole_results_stay(tmp_path):
    folder = tmp_path / "a.svs"
    folder.mkdir()
    unfinished = ["labels.tif.123.2.tmp", "a.svs.geojson.123.tmp"]
    names = ["labels.tif", "a.svs.geojson", "record.json", *unfinished, "overlay.png.77.tmp", "notes.tmp"]
    for name in names:
        (folder / name).touch()
    drop_unfinished(folder, "a.svs", 123)
    assert {path.name for path in folder.iterdir()} == {*names} - {*unfinished}
    drop_unfinished(folder, "a.svs")
    assert {path.name for path in folder.iterdir()} == {"labels.tif", "a.svs.geojson", "record.json", "notes.tmp"}
    (folder / "record.json").unlink()
    drop_unfinished(folder, "a.svs")
    assert {path.name for path in folder.iterdir()} == {"notes.tmp"}
    (folder / "notes.tmp").unlink()
    drop_unfinished(folder, "a.svs")
    drop_unfinished(tmp_path / "never", "a.svs")
    assert not folder.exists()
