from __future__ import annotations

import json

from click.testing import CliRunner

from dualproto_wsi.cli.info import as_text
from dualproto_wsi.cli.main import main


def run(*arguments: object):
    return CliRunner().invoke(main, ["info", *map(str, arguments)])


def test_a_slide(small_slide):
    data = json.loads(run(small_slide, "--json").output)
    assert (data["file"], data["width"], data["height"], data["mpp"]) == ("small.tif", 900, 700, 0.5)
    assert data["mpp_source"] == "tiff resolution tag"
    assert "mpp_source  tiff resolution tag" in run(small_slide).output


def test_a_pixel_size_given_replaces_the_files(small_slide):
    data = json.loads(run(small_slide, "--mpp", 0.25, "--json").output)
    assert (data["mpp"], data["mpp_source"]) == (0.25, "option --mpp")


def test_a_model():
    data = json.loads(run("builtin", "--json").output)
    assert [item["name"] for item in data["classes"]] == ["Tumor", "Stroma", "Lymphocyte"]
    assert len(data["sha256"]) == 64
    assert "  name          Tumor" in run("builtin").output


def test_neither_slide_nor_model(tmp_path):
    result = run(tmp_path / "a.svs")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "a.svs: no such slide" in result.stderr
    result = run(tmp_path / "a.safetensors")
    assert result.exit_code == 2
    assert "neither a model bundle file nor a built-in model" in result.stderr


def test_nested_data_as_text():
    text = as_text({"a": 1, "box": {"x": 2}, "rows": [{"k": None}], "none": {}, "many": [1, 2]})
    assert text.splitlines() == ["a     1", "box", "  x  2", "rows", "  k  —", "none  —", "many  1, 2"]
