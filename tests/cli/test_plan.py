from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualproto_wsi.cli.main import main
from dualproto_wsi.cli.plan import as_table, duration, size
from dualproto_wsi.workflow.batch.run_plan import RunPlan, SlidePlan

LONG = Path("/data/TCGA-A2-A0CM-01Z-00-DX1.AC4901DE-4B6D-4185-BB9F-156033839828.svs")


def run(*arguments: object):
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


@pytest.fixture(scope="module")
def made_up() -> RunPlan:
    return RunPlan(
        slides=[
            SlidePlan(LONG, 0.2527, "openslide.mpp-x", "jpeg", 212.4, 48_233, 8000, 1_900_000_000, 40_000_000, 10**9),
            SlidePlan(
                Path("b.tif"), 1, "tiff resolution tag", "jpeg", 3, 50, 30, None, 900_000, 10, ["enlarged " * 20]
            ),
            SlidePlan(Path("c.svs"), error="c.svs: no pixel size in the file; pass --mpp (microns per pixel)"),
        ],
        engine="compact-breast on cpu in fp32, 2 of 2 cores",
        start_s=9.7,
        measured_windows=26,
        warnings=["out: 0.5 GB free, about 1.0 GB needed; make room, or choose another -o"],
    )


def test_table(made_up):
    assert as_table(made_up).splitlines() == [
        "slide                                  µm/px  from                 tissue mm²  windows   time  memory    disk",
        "TCGA-A2-A0CM-01Z-0…-156033839828.svs  0.2527  openslide.mpp-x          212.40   48,233  2.2 h  1.9 GB   40 MB",
        "b.tif                                      1  tiff resolution tag        3.00       50   30 s       —  900 kB",
        "c.svs                                      —  —                             —        —  fails       —       —",
        "",
        "would fail: c.svs: no pixel size in the file; pass --mpp (microns per pixel)",
        "look at b.tif: " + " ".join(["enlarged"] * 10),
        "    " + " ".join(["enlarged"] * 10),
        "out: 0.5 GB free, about 1.0 GB needed; make room, or choose another -o",
        "",
        "3 slide(s), 1 would fail: 215.40 mm² of tissue, 48,283 windows",
        "about 2.2 h, with 10 s to start: compact-breast on cpu in fp32, 2 of 2 cores; measured on 26 windows",
        "up to 1.9 GB of memory; 41 MB of results, and 1.0 GB of disk besides while it runs",
    ]


def test_table_of_slides_of_which_one_is_done(made_up):
    done = SlidePlan(Path("b.tif"), 1, "tiff resolution tag", done=True)
    plan = dataclasses.replace(made_up, slides=[made_up.slides[0], done], processes=2, warnings=[])
    lines = as_table(plan).splitlines()
    assert lines[2].split() == ["b.tif", "1", "tiff", "resolution", "tag", "—", "—", "done", "—", "—"]
    assert lines[-3] == "2 slide(s), 1 done already: 212.40 mm² of tissue, 48,233 windows"
    assert lines[-2].startswith("about 2.2 h, with 10 s to start in 2 processes: compact-breast")


def test_table_is_at_most_110_columns_wide(made_up):
    lines = as_table(made_up).splitlines()
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (99.4, "99 s"),
        (99.6, "1.7 min"),
        (594, "9.9 min"),
        (600, "10 min"),
        (5960, "99 min"),
        (7200, "2.0 h"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, "—"), (4321, "4 kB"), (999_600, "1 MB"), (123_456_789, "123 MB"), (1.96e9, "2.0 GB")]
)
def test_size(count, text):
    assert size(count) == text


def test_good_and_failing_slides(small_slide, make_slide, tmp_path):
    bare = make_slide(tmp_path / "bare.tif", 300, 300, mpp=None)
    result = run(small_slide, bare, "--device", "cpu", "--precision", "fp32", "--overlap", 0.25, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["slide", "µm/px", "from", "tissue", "mm²", "windows", "time", "memory", "disk"]
    assert lines[1].startswith("small.tif    0.5  tiff resolution tag ")
    assert lines[2].split() == ["bare.tif", "—", "missing", "—", "—", "fails", "—", "—"]
    assert "would fail: bare.tif: no pixel size in the file; pass --mpp (microns per pixel)" in lines
    assert "2 slide(s), 1 would fail: 0.07 mm² of tissue, 6 windows" in lines
    assert any(line.startswith("about ") and "compact-breast on cpu in fp32" in line for line in lines)
    assert not (tmp_path / "out").exists()


def test_json_and_options_of_segment(make_slide, tmp_path):
    bare = make_slide(tmp_path / "bare.tif", 300, 300, mpp=None)
    file = tmp_path / "run.toml"
    file.write_text("[output]\noverlay = false\n[inference]\ndevice = 'cpu'\n")
    result = run(bare, "--json", "--mpp", 0.5, "--config", file)
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    (slide,) = data["slides"]
    assert slide["slide"] == str(bare)
    assert (slide["mpp"], slide["mpp_source"], slide["error"]) == (0.5, "option --mpp", "")
    assert slide["disk_bytes"] < 1e6  # no overlay
    assert data["totals"]["slides"] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bare.tif", "run.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing argument 'SLIDES...'"),
        (["nowhere.csv"], "error: nowhere.csv: no such table of slides; check the path"),
        (["x.svs", "--model", "nothing"], "nothing"),
        (["x.svs", "--mpp", "0"], "mpp is 0.0; microns per pixel"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments, message):
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_help_says_that_nothing_stays():
    text = " ".join(run("--help").output.split())
    assert "Say what `segment` would take with the same SLIDES and options" in text
    assert "Nothing stays on the disk." in text
    assert "Exit code: 0 all could be done, 1 some slide would fail, 2 wrong usage." in text
    assert (
        "-o, --out PATH Where the results would go: leave out what is done there, and look whether there is room."
        in text
    )
