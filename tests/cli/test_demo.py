from __future__ import annotations

from click.testing import CliRunner

from dualproto_wsi.cli.main import main


def test_demo_with_a_slide_of_ones_own_says_where_to_look(small_slide, tmp_path):
    result = CliRunner().invoke(main, ["demo", "--slide", str(small_slide), "-o", str(tmp_path), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    told = dict(line.split(maxsplit=1) for line in result.stdout.replace("label map", "label_map").splitlines())
    assert told["picture"] == str(tmp_path / "small.tif" / "overlay.png")
    assert told["regions"].startswith(str(tmp_path / "small.tif" / "small.tif.geojson"))
    assert "QuPath" in told["regions"]
    for name in ("overlay.png", "small.tif.geojson", "labels.tif"):
        assert (tmp_path / "small.tif" / name).is_file()


def test_demo_of_a_slide_that_fails(tmp_path):
    result = CliRunner().invoke(main, ["demo", "--slide", str(tmp_path / "no.svs"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 1
    assert "no.svs: no such slide" in result.stderr
    assert result.stdout == ""


def test_demo_without_the_sample_says_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("DUALPROTO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    result = CliRunner().invoke(main, ["demo", "-o", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "sample slide: pip could not download" in result.stderr
    assert "--slide" in result.stderr
