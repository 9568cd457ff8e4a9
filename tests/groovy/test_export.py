"""The exporter: where annotations come from, names and frames as tables, and the whole script on stand-ins.

The stand-ins (standins/README.md) show that the script's own flow is right, not how QuPath behaves.
"""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Answers = dict[str, dict[str, Any]]
OURS, THEIRS = str(uuid.uuid5(uuid.NAMESPACE_URL, "A.svs/0")), str(uuid.UUID(int=1, version=4))
SCRIPT = {"script": "export_corrections"}

# id, class, carries our measurements, classes of the results by id (None: not given) -> origin
ORIGINS = {
    "hand-drawn": ((THEIRS, "Tumor", False, None), "drawn"),
    "hand-drawn, results given": ((THEIRS, "Tumor", False, {OURS: "Tumor"}), "drawn"),
    "ours, results not given": ((OURS, "Tumor", True, None), "model"),
    "ours, of another run": ((OURS, "Tumor", True, {}), "model"),
    "ours": ((OURS, "Tumor", True, {OURS: "Tumor"}), "unchanged"),
    "outline changed": ((OURS, "Tumor", False, {OURS: "Tumor"}), "changed"),
    "outline changed, results not given": ((OURS, "Tumor", False, None), "changed"),
    "class changed": ((OURS, "Stroma", True, {OURS: "Tumor"}), "changed"),
    "class removed": ((OURS, None, True, {OURS: "Tumor"}), "changed"),
}

BOUNDED = {"slide": {"width": 5000.0, "height": 4000.0, "bounds": {"x": 100, "y": 50, "width": 1000, "height": 800}}}
WHOLE = {"slide": {"width": 1000, "height": 800}}
# place that QuPath's reader tells, record.json, size in QuPath -> offset to the whole slide
OFFSETS = {
    "reader tells": (([100, 50], None, 1000, 800), [100, 50]),
    "reader before record": (([0, 0], BOUNDED, 1000, 800), [0, 0]),
    "cropped, by the record": ((None, BOUNDED, 1000, 800), [100, 50]),
    "whole, by the record": ((None, BOUNDED, 5000, 4000), [0, 0]),
    "no bounds": ((None, WHOLE, 1000, 800), [0, 0]),
    "another size": ((None, BOUNDED, 800, 1000), None),
    "nobody knows": ((None, None, 1000, 800), None),
}

NAMES = {
    "plain": ([("1", "A.svs"), ("2", "B.svs")], ["A.svs.geojson", "B.svs.geojson"]),
    "same name": ([("1", "A.svs"), ("7", "A.svs")], ["A.svs--1.geojson", "A.svs--7.geojson"]),
    "same but for case": ([("1", "A.svs"), ("2", "a.SVS")], ["A.svs--1.geojson", "a.SVS--2.geojson"]),
    "signs that files cannot have": ([("1", "a/b: 1?.tif")], ["a_b_ 1_.tif.geojson"]),
}

DEFAULTS = {"project": "", "out": "", "results": "", "changedOnly": False, "unclassified": False}
ARGUMENTS = {
    "script editor": ([], {"out": "/o"}, {"out": "/o"}),
    "loop": (["p.qpproj", "/o"], {}, {"project": "p.qpproj", "out": "/o"}),
    "with results": (["/o", "p.QPPROJ", "/r"], {}, {"project": "p.QPPROJ", "out": "/o", "results": "/r"}),
    "switches": (["changed-only", "/o", "unclassified"], {}, {"out": "/o", "changedOnly": True, "unclassified": True}),
    "nowhere to write": (["p.qpproj"], {}, "no folder to write to"),
    "a typing error": (["/o", "/r", "changed"], {}, "unexpected argument 'changed'"),
}


def annotation(identifier: str, class_name: str | None, x: int, **more: Any) -> dict[str, Any]:
    return {
        "id": identifier,
        "type": "annotation",
        "className": class_name,
        "locked": False,
        "measurements": {},
        "point": [x, 20],
        **more,
    }


def our_id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"A.svs/{number}"))


SCORE = {"measurements": {"DualProto mean score": 0.9}}
DRAWN = [str(uuid.UUID(int=n, version=4)) for n in range(3)]
OBJECTS = [
    annotation(our_id(0), "Tumor", 0, **SCORE, locked=True),
    annotation(our_id(1), "Tumor", 10, **SCORE),  # was Stroma
    annotation(our_id(2), "Tumor", 25),  # another outline
    annotation(DRAWN[0], "Ignore*", 100, locked=True, name='by "me"'),
    annotation(DRAWN[1], "Nekrose é", 110),
    annotation(DRAWN[2], None, 120),
    annotation(our_id(9), "Tumor", 90, **SCORE, type="detection", locked=True),
]


@pytest.fixture(scope="module")
def answers(
    run_jobs: Callable[..., list[dict[str, Any]]],
    make_result: Callable[..., Path],
    make_project: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    root = tmp_path_factory.mktemp("export")
    jobs: dict[str, dict[str, Any]] = {}

    def add(name: str, call: str, *arguments: Any) -> None:
        jobs[name] = {**SCRIPT, "call": call, "arguments": list(arguments)}

    for case, (arguments, _) in ORIGINS.items():
        add(f"origin {case}", "origin", *arguments)
    for case, (arguments, _) in OFFSETS.items():
        add(f"offset {case}", "offset", *arguments)
    for case, (images, _) in NAMES.items():
        add(f"names {case}", "fileNames", [{"id": number, "file": file} for number, file in images])
    for case, (given, edited, _) in ARGUMENTS.items():
        add(f"arguments {case}", "readArguments", given, {**DEFAULTS, **edited})

    results = root / "results"
    make_result(results, "A.svs", 3)
    images: list[dict[str, Any]] = [
        {"name": "A.svs", "mpp": 0.25, "bounds": [7, 9]},
        {"name": "B 1.svs"},
        {"name": "lost.svs", "missing": True},
        {"name": "corrupt.svs"},
    ]
    project = make_project(root / "project", images)
    (project.parent / "data-1.json").write_text(json.dumps(OBJECTS))
    (project.parent / "data-2.json").write_text(json.dumps(OBJECTS[-1:]))
    (project.parent / "data-4.json").write_text('[{"id": ')

    def loop(name: str, project: Path, *arguments: str | Path) -> None:
        words = [str(project), str(root / f"out {name}"), *map(str, arguments)]
        jobs[name] = {**SCRIPT, "run": str(project), "mode": "loop", "arguments": words}

    loop("bad", project, results)
    good = make_project(root / "good", [images[0]])
    (good.parent / "data-1.json").write_text(json.dumps(OBJECTS))
    loop("plain", good)
    loop("changed", good, results, "changed-only", "unclassified")
    turned = make_project(root / "turned", [{**images[0], "turned": True}])
    (turned.parent / "data-1.json").write_text(json.dumps(OBJECTS))
    loop("turned", turned, results)
    empty = make_project(root / "empty", [{"name": "E.svs"}])
    (root / "out empty").mkdir()
    (root / "out empty" / "E.svs.geojson").write_text("old")
    loop("empty", empty)
    loop("no results", good, root / "project")
    edit = {"OUT": str(root / "out gui")}
    jobs["gui"] = {**SCRIPT, "run": str(empty), "mode": "gui", "gui": "old", "opened": ["1"]}
    jobs["gui"] |= {"unsaved": OBJECTS[3:4], "edit": edit}
    jobs["batch"] = {
        **SCRIPT,
        "run": str(good),
        "mode": "batch",
        "current": "1",
        "arguments": [str(root / "out batch")],
    }
    found = dict(zip(jobs, run_jobs(list(jobs.values())), strict=True))
    for name in ("bad", "plain", "changed", "turned", "empty", "no results", "gui", "batch"):
        found[name] = found[name].get("value", found[name])
        found[name]["files"] = {file.name: file.read_text("utf-8") for file in sorted((root / f"out {name}").glob("*"))}
    return found


def check(answer: dict[str, Any], expected: Any) -> None:
    if isinstance(expected, str) and "error" in answer:
        assert expected in answer["error"]
        assert "\n" not in answer["error"]
    else:
        assert answer == {"value": expected}


@pytest.mark.parametrize("case", ORIGINS)
def test_origin(case: str, answers: Answers) -> None:
    check(answers[f"origin {case}"], ORIGINS[case][1])


@pytest.mark.parametrize("case", OFFSETS)
def test_offset(case: str, answers: Answers) -> None:
    check(answers[f"offset {case}"], OFFSETS[case][1])


@pytest.mark.parametrize("case", NAMES)
def test_every_image_gets_a_file_of_its_own(case: str, answers: Answers) -> None:
    check(answers[f"names {case}"], NAMES[case][1])


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case: str, answers: Answers) -> None:
    expected = ARGUMENTS[case][2]
    check(answers[f"arguments {case}"], expected if isinstance(expected, str) else {**DEFAULTS, **expected})


def origins(text: str) -> dict[str, str]:
    return {item["id"]: item["properties"]["origin"] for item in json.loads(text)["features"]}


def test_classified_annotations_are_written_with_their_origin(answers: Answers) -> None:
    text = answers["bad"]["files"]["A.svs.geojson"]
    assert origins(text) == {
        our_id(0): "unchanged",
        our_id(1): "changed",
        our_id(2): "changed",
        DRAWN[0]: "drawn",
        DRAWN[1]: "drawn",
    }
    assert json.loads(text)["dualproto"] == {
        "content": "annotations of QuPath",
        "version": 1,
        "image": {
            "file": "A.svs",
            "name": "A.svs",
            "width": 1000,
            "height": 800,
            "uri": "file:/slides/A.svs",
            "mpp_x": 0.25,
            "mpp_y": 0.25,
        },
        "frame": "qupath",
        "offset": [7, 9],
        "classes": {"Ignore*": 1, "Nekrose é": 1, "Tumor": 3},
        "origins": {"changed": 2, "drawn": 2, "unchanged": 1},
    }
    features = {item["id"]: item for item in json.loads(text)["features"]}
    assert list(features) == sorted(features)
    assert features[DRAWN[0]]["properties"] == {
        "objectType": "annotation",
        "origin": "drawn",
        "name": 'by "me"',
        "classification": {"name": "Ignore*", "color": [128, 128, 128]},
        "isLocked": True,
    }
    assert features[our_id(2)]["properties"]["classification"] == {"name": "Tumor", "color": [200, 0, 30]}
    assert features[our_id(2)]["geometry"]["coordinates"] == [25, 20]


def test_a_failure_stays_with_its_image_and_fails_the_run(answers: Answers) -> None:
    answer = answers["bad"]
    assert list(answer["files"]) == ["A.svs.geojson"]
    assert "2 of 4 images failed; first: lost.svs" in answer["error"]
    lines = {line.split("  ")[0]: line for line in answer["output"].splitlines()}
    assert lines["A.svs"].split() == ["A.svs", "written", "5", "2", "2", "1", "A.svs.geojson"]
    assert lines["B 1.svs"].split() == ["B", "1.svs", "nothing", "0"]
    assert "no such image" in lines["lost.svs"]
    assert "cannot read the data saved" in lines["corrupt.svs"]
    assert answer["output"].splitlines()[-1] == "DualProto export: 1 written, 1 nothing, 2 FAILED"


def test_without_results_a_class_is_not_compared(answers: Answers) -> None:
    assert answers["plain"]["error"] is None
    found = origins(answers["plain"]["files"]["A.svs.geojson"])
    assert [found[our_id(n)] for n in range(3)] == ["model", "model", "changed"]


def test_changed_only_and_unclassified(answers: Answers) -> None:
    text = answers["changed"]["files"]["A.svs.geojson"]
    assert set(origins(text)) == {our_id(1), our_id(2), *DRAWN}
    properties = next(item["properties"] for item in json.loads(text)["features"] if item["id"] == DRAWN[2])
    assert "classification" not in properties
    assert json.loads(text)["dualproto"]["classes"][""] == 1


def test_nothing_to_write_is_said_and_leaves_old_files(answers: Answers) -> None:
    answer = answers["empty"]
    assert "no image of the project has an annotation to write" in answer["error"]
    assert answer["files"] == {"E.svs.geojson": "old"}
    assert "E.svs.geojson of an earlier export is still there" in answer["output"]


def test_no_offset_is_told_for_an_image_turned_in_qupath(answers: Answers) -> None:
    about = json.loads(answers["turned"]["files"]["A.svs.geojson"])["dualproto"]
    assert about["turned"] is True
    assert "offset" not in about


def test_results_that_are_none_are_refused(answers: Answers) -> None:
    assert "no record.json" in answers["no results"]["error"]


def test_script_editor_sees_unsaved_work_and_a_batch_one_image_at_a_time(answers: Answers) -> None:
    assert answers["gui"]["error"] is None
    assert set(origins(answers["gui"]["files"]["E.svs.geojson"])) == {DRAWN[0]}
    assert answers["gui"]["saved"] == {"1": None}
    assert answers["batch"]["error"] is None
    assert list(answers["batch"]["files"]) == ["A.svs.geojson"]
