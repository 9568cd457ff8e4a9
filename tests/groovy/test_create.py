"""The script that makes a project: which slides, what it refuses, and the whole script on stand-ins.

The stand-ins (standins/README.md) show that the script's own flow is right, not how QuPath behaves.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Answers = dict[str, dict[str, Any]]
SCRIPT = {"script": "create_project"}
DEFAULTS = {"project": "", "places": []}
ARGUMENTS = {
    "script editor": ([], {"project": "p.qpproj", "places": ["/r"]}, {"project": "p.qpproj", "places": ["/r"]}),
    "arguments": (["/r", "p.QPPROJ", " /s "], {}, {"project": "p.QPPROJ", "places": ["/r", "/s"]}),
    "no project": (["/r"], {}, "no project"),
    "another name": (["/r"], {"project": "p.txt"}, "no project"),
    "no slides": (["p.qpproj"], {}, "no slides"),
    "two projects": (["p.qpproj", "q.qpproj", "/r"], {}, "unexpected argument 'q.qpproj'"),
}


def analysed(out: Path, slide: Path, mpp: float | None) -> None:
    folder = out / slide.name
    folder.mkdir(parents=True)
    record = {"slide": {"file": slide.name, "path": str(slide), "mpp": mpp}}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("create")
    slides, moved, out = root / "my slides", root / "moved", root / "out"
    for folder in (slides, moved, root / "old" / "data", root / "other"):
        folder.mkdir(parents=True)
    (root / "other" / "x.qpproj").write_text("{}")
    size: dict[str, Any] = {"width": 1000, "height": 800}
    (slides / "A.1 é.svs").write_text(json.dumps(size))
    (slides / "says.svs").write_text(json.dumps({**size, "mpp": 0.25}))
    (slides / "bad.svs").write_text("nonsense")
    (moved / "M.svs").write_text(json.dumps(size))
    (moved / "extra.svs").write_text(json.dumps(size))
    for file in (slides / "A.1 é.svs", slides / "says.svs", slides / "bad.svs", slides / "M.svs", slides / "gone.svs"):
        analysed(out, file, 0.5)
    return root


@pytest.fixture(scope="module")
def answers(run_jobs: Callable[..., list[dict[str, Any]]], world: Path) -> Answers:
    jobs: dict[str, dict[str, Any]] = {}

    def add(name: str, call: str, *arguments: Any) -> None:
        jobs[name] = {**SCRIPT, "call": call, "arguments": list(arguments)}

    for case, (given, edited, _) in ARGUMENTS.items():
        add(f"arguments {case}", "readArguments", given, {**DEFAULTS, **edited})
    out, moved = str(world / "out"), str(world / "moved")
    add("found", "findSlides", out, moved, str(world / "moved" / "extra.svs"))
    add("named file", "findSlides", out, str(world / "moved" / "M.svs"))
    add("nothing", "findSlides", moved)
    add("absent", "findSlides", str(world / "absent"))
    add("new", "refuseOld", str(world / "new" / "p.qpproj"))
    add("there", "refuseOld", str(world / "other" / "x.qpproj"))
    add("beside", "refuseOld", str(world / "other" / "y.qpproj"))
    add("data", "refuseOld", str(world / "old" / "p.qpproj"))

    def create(name: str, project: Path, *places: str) -> None:
        jobs[name] = {**SCRIPT, "run": str(project), "mode": "create", "arguments": [str(project), *places]}

    create("run", world / "made" / "p.qpproj", out, moved)
    create("again", world / "made" / "p.qpproj", out, moved)
    create("no slide", world / "none" / "p.qpproj", str(world / "my slides" / "bad.svs"))
    jobs["import"] = {"run": str(world / "made" / "p.qpproj"), "mode": "loop", "arguments": []}
    jobs["import"]["arguments"] = [jobs["import"]["run"], out, "dry-run"]
    return dict(zip(jobs, run_jobs(list(jobs.values())), strict=True))


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case: str, answers: Answers) -> None:
    expected = ARGUMENTS[case][2]
    answer = answers[f"arguments {case}"]
    if isinstance(expected, str):
        assert expected in answer["error"]
    else:
        assert answer == {"value": {**DEFAULTS, **expected}}


def test_slides_of_a_run_are_found_where_they_were_or_in_the_places_named(answers: Answers, world: Path) -> None:
    found = {Path(item["file"]).name: item for item in answers["found"]["value"]}
    assert list(found) == ["A.1 é.svs", "M.svs", "bad.svs", "extra.svs", "gone.svs", "says.svs"]
    assert found["M.svs"] == {"file": str(world / "moved" / "M.svs"), "mpp": 0.5}
    assert found["extra.svs"] == {"file": str(world / "moved" / "extra.svs"), "mpp": None}
    assert found["gone.svs"]["file"] == str(world / "my slides" / "gone.svs")
    named = {Path(item["file"]): item["mpp"] for item in answers["named file"]["value"]}
    assert named[world / "moved" / "M.svs"] == 0.5
    assert len(named) == 5


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("nothing", "no record.json in"),
        ("absent", "no such file or folder"),
        ("there", "is there already"),
        ("beside", "holds a project already"),
        ("data", "holds a project already"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(job: str, words: str, answers: Answers) -> None:
    assert words in answers[job]["error"]
    assert "\n" not in answers[job]["error"]
    assert answers["new"] == {"value": None}


def test_a_project_is_made_and_a_bad_slide_stops_nothing(answers: Answers, world: Path) -> None:
    answer = answers["run"]["value"]
    lines = answer["output"].splitlines()
    assert lines[-1] == "DualProto project: 3 added, 2 FAILED"
    assert "2 of 5 slides failed; first: bad.svs: no reader of QuPath opens it" in answer["error"]
    assert any(line.startswith("gone.svs") and "name the folder where it is now" in line for line in lines)
    project = json.loads((world / "made" / "p.qpproj").read_text("utf-8"))
    images = {image["name"]: image for image in project["images"]}
    assert list(images) == ["A.1 é.svs", "M.svs", "says.svs"]
    assert {image["type"] for image in images.values()} == {"BRIGHTFIELD_H_E"}
    assert [images[name]["mpp"] for name in images] == [0.5, 0.5, 0.25]  # a slide's own pixel size stays
    assert sum("pixel size set to 0.5 um" in line for line in lines) == 2


def test_an_old_project_is_not_touched(answers: Answers) -> None:
    assert "is there already; nothing was changed" in answers["again"]["value"]["error"]


def test_no_project_is_left_where_no_slide_could_be_added(answers: Answers, world: Path) -> None:
    assert "1 of 1 slides failed" in answers["no slide"]["value"]["error"]
    assert not (world / "none" / "p.qpproj").exists()


def test_the_importer_matches_the_images_of_the_new_project(answers: Answers) -> None:
    output = answers["import"]["value"]["output"]
    assert "no result" not in output
    assert "Results without an image here: bad.svs, gone.svs" in output
