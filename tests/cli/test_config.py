from __future__ import annotations

import dataclasses
import json
import re

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dualproto_wsi.cli.main import main
from dualproto_wsi.cli.segment_options import DEFAULTS
from dualproto_wsi.settings import (
    CrfParameters,
    LabelSettings,
    OutputSettings,
    ReadSettings,
    RefineSettings,
    SegmentSettings,
    load_toml,
    to_data,
    to_toml,
)


def show(*arguments: object):
    return CliRunner().invoke(main, ["config", "show", *map(str, arguments)])


def options_of(*verbs: str) -> set[str]:
    command: click.Command = main
    for verb in verbs:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), verb)
    return {option for parameter in command.params for option in parameter.opts if "__" in (parameter.name or "")}


def test_segment_plan_and_config_show_have_the_same_options():
    assert options_of("segment") == options_of("plan") == options_of("config", "show") >= {"--mpp", "--simplify"}


def test_every_value_and_where_it_came_from(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[tiling]\noverlap = 0.5\n[inference]\ndevice = "cpu"\nbatch_size = 3\n[tissue]\nmpp = 8\n')
    result = show(
        "--config", file, "--device", "cuda", "--formats", "geojson.gz,geojson", "--no-overlay", "--weights", "w"
    )
    assert result.exit_code == 0, result.output
    notes = {line.split(" = ")[0]: line for line in result.output.splitlines() if " = " in line}
    for key, value, origin in [
        ("overlap", "0.5", str(file)),
        ("batch_size", "3", str(file)),
        ("device", '"cuda"', "command line"),
        ("formats", '["geojson.gz", "geojson"]', "command line"),
        ("overlay", "false", "command line"),
        ("weights", '"w"', "command line"),
        ("reader", '"auto"', "default"),
    ]:
        assert notes[key].split("  # ")[0].rstrip() == f"{key} = {value}"
        assert notes[key].endswith(f"  # {origin}")
    assert sum(" = " in line or " is not set" in line for line in result.output.splitlines()) == sum(
        map(len, DEFAULTS.values())
    )


def test_what_is_shown_can_be_fed_back(tmp_path):
    first = show("--mpp", 0.25, "--refine", "fast", "--min-area", 200, "--simplify", 2, "--object-type", "detection")
    file = tmp_path / "run.toml"
    file.write_text(first.output, encoding="utf-8")
    settings = load_toml(SegmentSettings, file)
    assert (settings.read.mpp, settings.refine.method, settings.output.simplify_um) == (0.25, "fast", 2.0)
    second = show("--config", file)
    strip = [line.split("  #")[0].rstrip() for line in first.output.splitlines()]
    assert [line.split("  #")[0].rstrip() for line in second.output.splitlines()] == strip


def test_a_default_named_on_the_command_line_wins_over_the_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("[tiling]\noverlap = 0.5\n[output]\noverlay = false\n")
    result = show("--config", file, "--overlap", 0.25, "--overlay")
    assert "overlap = 0.25  # command line" in result.output
    assert re.search("^overlay = true +# command line$", result.output, re.MULTILINE)


def test_file_and_command_line_are_checked_together(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text('[inference]\nmodel = "zero-shot"\nprompts = "bcss"\n')
    assert show("--config", file, "--encoder", "conch").exit_code == 0
    result = show("--config", file)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {file}.inference: zero-shot needs an encoder: --encoder conch, or open_clip:MODEL\n"
    )


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("[tilin]\n", (), "error: {file}: unknown key 'tilin'; known are features, inference, labels, output, read, "
         "refine, run, tiling, tissue; did you mean 'tiling'?\n"),
        ("[tiling]\noverlp = 1\n", (), "error: {file}.tiling: unknown key 'overlp'; known are overlap; did you mean "
         "'overlap'?\n"),
        ("[tiling]\nx = 1\n", (), "error: {file}.tiling: unknown key 'x'; known are overlap\n"),
        ("tiling = 1\n", ("--overlap", "0.5"), "error: command line and {file}.tiling: 1 must be a table\n"),
        ("[tiling]\noverlap = 0.9\n", (), "error: {file}.tiling: overlap is 0.9; use 0 to 0.75 (a share of the "
         "window's side)\n"),
        ("[tiling]\n", ("--overlap", "0.9"), "error: command line and {file}.tiling: overlap is 0.9; use 0 to 0.75 (a "
         "share of the window's side)\n"),
        ("[tiling]\noverlap = 'much'\n", (), "error: {file}.tiling.overlap: 'much' must be of type float\n"),
        ("[tiling\n", (), "error: {file}: not valid TOML: "),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_line_and_exit_code_2(tmp_path, text, arguments, message):
    file = tmp_path / "run.toml"
    file.write_text(text)
    result = show("--config", file, *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message.format(file=file))
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_there(tmp_path):
    result = CliRunner().invoke(main, ["segment", "x", "-o", str(tmp_path / "out"), "--config", str(tmp_path / "no")])
    assert result.exit_code == 2
    assert result.stderr == f"error: {tmp_path / 'no'}: no such settings file\n"
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_text(tmp_path):
    file = tmp_path / "run.toml"
    file.write_bytes(b"\xff\xfe")
    result = show("--config", file)
    assert result.exit_code == 2
    assert f"{file}: cannot be read as a settings file" in result.stderr


def test_help_tells_of_the_file_and_of_precedence():
    for verb in (["segment"], ["plan"], ["config", "show"]):
        text = " ".join(CliRunner().invoke(main, [*verb, "--help"]).output.split())
        assert "Settings file (TOML), as `dualproto-wsi config show` prints; options given here win over it." in text
    text = " ".join(CliRunner().invoke(main, ["config", "--help"]).output.split())
    assert "Paths in it count from the folder where the command runs." in text


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.floats(0.1, 100)


@given(
    st.builds(
        SegmentSettings,
        read=st.builds(ReadSettings, mpp=st.none() | NUMBER),
        refine=st.builds(
            RefineSettings,
            st.just("fast"),
            bilateral_srgb=st.none() | NUMBER,
            iterations=st.none() | st.integers(1, 50),
        ),
        labels=st.builds(LabelSettings, unsure_below=st.floats(0, 0.99), min_area_um2=st.floats(0, 1e8)),
        output=st.builds(OutputSettings, overlay=st.booleans(), formats=st.just(("geojson", "geojson.gz"))),
    ),
    TEXT,
)
def test_toml_gives_the_same_settings_back(tmp_path_factory, settings, text):
    settings = dataclasses.replace(settings, inference=dataclasses.replace(settings.inference, weights=text))
    file = tmp_path_factory.getbasetemp() / "round.toml"
    file.write_text(to_toml(to_data(settings), {("read", "mpp"): "a note"}), encoding="utf-8", newline="")
    assert load_toml(SegmentSettings, file) == settings


def test_toml_is_as_a_person_would_write_it():
    data = {"a": {"x": 1, "longer": 'µ "q" \\ \n'}, "b": {"none": None, "list": ["u", 2.5, True]}}
    assert to_toml(data, {("a", "x"): "why", ("b", "none"): "default"}) == (
        '[a]\nx = 1                     # why\nlonger = "µ \\"q\\" \\\\ \\n"\n\n'
        '[b]\n# none is not set        # default\nlist = ["u", 2.5, true]\n'
    )


def test_settings_of_the_published_crf_are_named_in_the_file():
    assert {f.name for f in dataclasses.fields(CrfParameters)} < set(DEFAULTS["refine"])


def test_segment_takes_the_file_and_a_table_of_slides(make_slide, tmp_path):
    make_slide(tmp_path / "bare.tif", 300, 300, mpp=None)
    table = tmp_path / "slides.csv"
    table.write_text("path;mpp;group;patient\nbare.tif;0,5;A;P 1\n")
    file = tmp_path / "run.toml"
    file.write_text('[output]\noverlay = false\nformats = ["geojson.gz"]\n[inference]\ndevice = "cpu"\n')
    arguments = ["segment", table, "-o", tmp_path / "out", "--config", file, "--formats", "geojson", "--no-isolate"]
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    folder = tmp_path / "out" / "bare.tif"
    assert {path.name for path in folder.iterdir()} == {"bare.tif.geojson", "labels.tif", "record.json"}
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert record["slide"]["mpp"] == 0.5
    assert record["settings"]["output"]["formats"] == ["geojson"]
    assert record["settings"]["inference"]["device"] == "cpu"
