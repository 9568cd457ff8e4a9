"""The importer's decisions, as tables: which result belongs to which image, where regions lie, what is replaced."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def result(file: str, path: str | None = None, name: str | None = None, problem: str | None = None) -> dict[str, Any]:
    name = name or file
    return {"file": file, "path": path, "name": name, "folder": f"/out/{name}", "problem": problem}


def image(*uris: str, name: str = "") -> dict[str, Any]:
    return {"uris": list(uris), "name": name}


def matched(*results: str | None, unused: tuple[str, ...] = ()) -> dict[str, Any]:
    """Expected answer: for each image its result, None for none, or '!' and a word of the failure's note."""
    return {"results": list(results), "unused": list(unused)}


MATCHES = {
    "file name": ([image("file:/a/A.svs")], [result("A.svs")], matched("A.svs")),
    "a longer name is another slide": (
        [image("file:/a/A_2.svs"), image("file:/a/A.svs")],
        [result("A.svs")],
        matched(None, "A.svs"),
    ),
    "a shorter name is another slide": (
        [image("file:/a/A.svs")],
        [result("A_2.svs")],
        matched(None, unused=("A_2.svs",)),
    ),
    "another ending is another slide": ([image("file:/a/A.tif")], [result("A.svs")], matched(None, unused=("A.svs",))),
    "case counts": ([image("file:/a/a.svs")], [result("A.svs")], matched(None, unused=("A.svs",))),
    "two dots": ([image("file:/a/S.1.svs"), image("file:/a/S.2.svs")], [result("S.2.svs")], matched(None, "S.2.svs")),
    "blanks": ([image("file:/a%20b/my%20slide.svs")], [result("my slide.svs")], matched("my slide.svs")),
    "per cent sign in the name": ([image("file:/a/50%2520.svs")], [result("50%20.svs")], matched("50%20.svs")),
    "plus is no blank": ([image("file:/a/CD3+.svs")], [result("CD3+.svs")], matched("CD3+.svs")),
    "accents": (
        [image("file:/a/" + unicodedata.normalize("NFD", "é") + ".svs")],
        [result("é.svs")],
        matched("é.svs"),
    ),
    "accents, encoded": ([image("file:/a/caf%C3%A9.svs")], [result("café.svs")], matched("café.svs")),
    "Windows share": ([image("file://server/share/A.svs")], [result("A.svs")], matched("A.svs")),
    "masked or renamed image: its file decides": (
        [image("file:/a/A.svs", name="Case 7")],
        [result("A.svs")],
        matched("A.svs"),
    ),
    "name in the project": ([image("omero:42", name="A.svs")], [result("A.svs")], matched("A.svs")),
    "no address": ([image(name="A.svs")], [result("A.svs")], matched("A.svs")),
    "file before name": (
        [image("file:/a/B.svs", name="A.svs"), image("file:/a/A.svs", name="B.svs")],
        [result("A.svs"), result("B.svs")],
        matched("B.svs", "A.svs"),
    ),
    "a name does not take what a file asks for": (
        [image("file:/a/copy.svs", name="A.svs"), image("file:/a/A.svs", name="A.svs")],
        [result("A.svs")],
        matched(None, "A.svs"),
    ),
    "two results of one name": (
        [image("file:/a/A.svs")],
        [result("A.svs", name="A.svs"), result("A.svs", name="A.svs-2")],
        matched("!2 results"),
    ),
    "two results of one name, told apart by the whole path": (
        [image("file:/b/A.svs"), image("file:/a/A.svs")],
        [result("A.svs", "/a/A.svs", "first"), result("A.svs", "/b/A.svs", "second")],
        matched("second", "first"),
    ),
    "paths of Windows": (
        [image("file:/C:/b/A.svs"), image("file:/C:/a/A.svs")],
        [result("A.svs", "C:\\a\\A.svs", "first"), result("A.svs", "C:\\b\\A.svs", "second")],
        matched("second", "first"),
    ),
    "two images of one name, one result, other paths": (
        [image("file:/a/A.svs"), image("file:/b/A.svs")],
        [result("A.svs", "/cluster/A.svs")],
        matched("!2 images", "!2 images"),
    ),
    "two images of one name, the result is one's own": (
        [image("file:/a/A.svs"), image("file:/b/A.svs")],
        [result("A.svs", "/b/A.svs")],
        matched(None, "A.svs"),
    ),
    "the same file twice in the project": (
        [image("file:/a/A.svs"), image("file:/a/A.svs")],
        [result("A.svs", "/a/A.svs")],
        matched("!2 images", "!2 images"),
    ),
    "a record that cannot be read": (
        [image("file:/a/A.svs")],
        [result("A.svs", problem="A.svs/record.json cannot be read")],
        matched("!cannot be read"),
    ),
    "nothing fits": ([image("file:/a/A.svs")], [result("B.svs")], matched(None, unused=("B.svs",))),
    "empty project": ([], [result("B.svs")], matched(unused=("B.svs",))),
}

WHOLE = {"width": 1000, "height": 800, "bounds": {"x": 0, "y": 0, "width": 1000, "height": 800}}
BOUNDED = {"width": 1000.0, "height": 800.0, "bounds": {"x": 100.0, "y": 50.0, "width": 600.0, "height": 400.0}}
UNBOUNDED = {"width": 1000, "height": 800}

# slide, frame of the file, size in QuPath -> shift, or a word of the refusal
FRAMES = {
    "no bounds": (WHOLE, "qupath", (1000, 800), [0, 0]),
    "no bounds, slide frame": (WHOLE, "slide", (1000, 800), [0, 0]),
    "no bounds in the record": (UNBOUNDED, "qupath", (1000, 800), [0, 0]),
    "cropped as QuPath does": (BOUNDED, "qupath", (600, 400), [0, 0]),
    "opened with --no-crop": (BOUNDED, "qupath", (1000, 800), [100, 50]),
    "slide frame, cropped": (BOUNDED, "slide", (600, 400), [-100, -50]),
    "slide frame, opened with --no-crop": (BOUNDED, "slide", (1000, 800), [0, 0]),
    "another image": (WHOLE, "qupath", (999, 800), "999 x 800"),
    "another image, bounds named": (BOUNDED, "qupath", (601, 400), "600 x 400 px when cropped"),
    "rotated": (BOUNDED, "qupath", (400, 600), "rotated"),
    "rotated, whole": (WHOLE, "qupath", (800, 1000), "rotated"),
    "no size in the record": ({"file": "A.svs"}, "qupath", (600, 400), "how large"),
    "unknown frame": (WHOLE, "level-3", (1000, 800), "level-3"),
    "no frame": (WHOLE, None, (1000, 800), "frame"),
}

OURS, OURS_2, THEIRS = (f"00000000-0000-{version}000-8000-00000000000{n}" for n, version in enumerate("554"))


def thing(name: str, class_name: str | None, measured: bool) -> dict[str, Any]:
    return {"id": name, "className": class_name, "measured": measured}


REGION = thing(OURS, "Tumor", True)
REPLACE = {"replace": True, "replaceEdited": False}
ALL = {"replace": True, "replaceEdited": True}
ADD = {"replace": False, "replaceEdited": False}
# objects of the image, regions of the file, options -> ids that are removed, how many edited regions stay
PLANS = {
    "empty image": ([], [REGION], REPLACE, [], 0),
    "imported before": ([REGION], [REGION], REPLACE, [OURS], 0),
    "no-replace": ([REGION], [REGION], ADD, [], 0),
    "of another run": ([REGION], [thing(OURS_2, "Tumor", True)], REPLACE, [OURS], 0),
    "of another run, file without measurements": ([REGION], [thing(OURS_2, "Tumor", False)], REPLACE, [OURS], 0),
    "file without measurements": ([thing(OURS, "Tumor", False)], [thing(OURS, "Tumor", False)], REPLACE, [OURS], 0),
    "the user's": ([thing(THEIRS, "Tumor", False)], [REGION], ALL, [], 0),
    "outline changed": ([thing(OURS, "Tumor", False)], [REGION], REPLACE, [], 1),
    "outline changed, replace-edited": ([thing(OURS, "Tumor", False)], [REGION], ALL, [OURS], 0),
    "outline changed, no-replace": ([thing(OURS, "Tumor", False)], [REGION], ADD, [], 1),
    "class changed": ([thing(OURS, "Stroma", True)], [REGION], REPLACE, [], 1),
    "class removed": ([thing(OURS, None, True)], [REGION], REPLACE, [], 1),
    "class changed, replace-edited": ([thing(OURS, "Stroma", True)], [REGION], ALL, [OURS], 0),
    "outline changed, of another run": ([thing(OURS_2, "Tumor", False)], [REGION], REPLACE, [], 1),
    "outline changed, of another run, replace-edited": ([thing(OURS_2, "Tumor", False)], [REGION], ALL, [OURS_2], 0),
}
MEASURED = {
    "ours": (["DualProto area mm^2", "DualProto mean score"], True),
    "ours, measured by the user": (["Area µm^2", "DualProto mean score"], True),
    "none": ([], False),
    "the user's": (["Area µm^2", "Nucleus: DualProto", "Dualproto x", "DualPrototype"], False),
}

DEFAULTS = {
    "project": "",
    "results": "",
    "replace": True,
    "replaceEdited": False,
    "lock": True,
    "dryRun": False,
    "resolve": False,
}
# arguments, what is set in the script -> what differs from the defaults, or a word of the refusal
ARGUMENTS = {
    "script editor": ([], {"results": "/out"}, {"results": "/out"}),
    "with -p": (["/out"], {}, {"results": "/out"}),
    "loop": (["/p/project.qpproj", "/out"], {}, {"project": "/p/project.qpproj", "results": "/out"}),
    "any order": (["dry-run", "/out", "P.QPPROJ"], {}, {"project": "P.QPPROJ", "results": "/out", "dryRun": True}),
    "switches": (
        ["/out", "no-replace", "replace-edited", "no-lock", "resolve-hierarchy"],
        {},
        {"results": "/out", "replace": False, "replaceEdited": True, "lock": False, "resolve": True},
    ),
    "arguments win": (["/new"], {"results": "/old"}, {"results": "/new"}),
    "blanks around": ([" /my results ", ""], {}, {"results": "/my results"}),
    "no results": ([], {}, "no results"),
    "only a project": (["p.qpproj"], {}, "no results"),
    "a typing error": (["/out", "dryrun"], {}, "unexpected argument 'dryrun'"),
    "two projects": (["a.qpproj", "b.qpproj", "/out"], {}, "unexpected argument 'b.qpproj'"),
}

OK = {"image": "A.svs", "result": "A.svs", "status": "imported", "added": 3, "replaced": 2, "kept": 1, "note": ""}
NONE = {"image": "B.svs", "result": None, "status": "no result", "note": ""}
BAD = {"image": "C.svs", "result": "C.svs", "status": "FAILED", "note": "no such file"}
WOULD = {**OK, "status": "would import"}
# rows, whole project -> a word of the failure, None for success
FAILURES = {
    "all fine": ([OK, OK], True, None),
    "some without result": ([OK, NONE], True, None),
    "dry run": ([WOULD], True, None),
    "one bad": ([OK, BAD, NONE], True, "1 of 3 images failed; first: C.svs: no such file"),
    "only bad": ([BAD], True, "1 of 1"),
    "no match at all": ([NONE, NONE], True, "no image of the project has a result"),
    "empty project": ([], True, "no image of the project has a result"),
    "one image without result, in a batch": ([NONE], False, None),
    "one bad image, in a batch": ([BAD], False, "1 of 1"),
}

COUNTS = {
    "some": (5, {"regions": 5}, None),
    "slide without tissue": (0, {"regions": 0}, None),
    "slide without tissue, as Gson reads it": (0, {"regions": 0.0}, None),
    "nothing read": (0, {"regions": 5}, "counts 5"),
    "nothing read, nothing recorded": (0, {}, "no region"),
}

# class of QuPath's reader -> refused
SERVERS = {
    "OpenslideImageServer": False,
    "BioFormatsImageServer": False,
    "RotatedImageServer": True,
    "FlippedImageServer": True,
    "AffineTransformImageServer": True,
}

FILE_NAMES = {
    "file:/a/b.svs": "b.svs",
    "file:///a/my%20slide.svs": "my slide.svs",
    "file:/C:/a/b.c.svs": "b.c.svs",
    "https://host/x/b.svs?series=2#z": "b.svs",
    "omero:42": "42",
}


def _jobs() -> dict[tuple[str, str], dict[str, Any]]:
    jobs: dict[tuple[str, str], dict[str, Any]] = {}

    def add(table: str, case: str, call: str, *arguments: Any) -> None:
        jobs[table, case] = {"call": call, "arguments": list(arguments)}

    for case, (images, results, _) in MATCHES.items():
        add("match", case, "match", images, results)
    for case, (slide, frame, size, _) in FRAMES.items():
        add("frame", case, "shift", {"slide": slide, "frame": frame}, *size)
    for case, (present, regions, options, *_) in PLANS.items():
        add("plan", case, "plan", present, regions, options)
    for case, (arguments, edited, _) in ARGUMENTS.items():
        add("arguments", case, "readArguments", arguments, {**DEFAULTS, **edited})
    for case, (rows, whole, _) in FAILURES.items():
        add("failure", case, "failure", rows, whole)
    for case, (read, record, _) in COUNTS.items():
        add("count", case, "checkCount", read, record)
    jobs |= {("measured", case): {"call": "isMeasured", "arguments": [names]} for case, (names, _) in MEASURED.items()}
    jobs |= {("server", name): {"call": "refuseTurned", "arguments": [name]} for name in SERVERS}
    jobs |= {("file name", uri): {"call": "fileName", "arguments": [uri]} for uri in FILE_NAMES}
    add("report", "open", "report", [OK, NONE, BAD], ["D.svs", "E.svs"], False)
    add("report", "masked", "report", [{**OK, "image": "7f3a"}], [], True)
    add("report", "empty", "report", [], [], False)
    return jobs


def _results_folder(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    for name in ("B.svs", "A.svs", "broken", "colourless", "nameless", "no record"):
        (out / name).mkdir(parents=True)
    (out / "slides.csv").write_text("slide\n")
    for name in ("A.svs", "B.svs", "colourless"):
        classes = [{"name": "Tumor", "colour": [200, 0] if name == "colourless" else [200, 0, 30]}]
        record = {"slide": {"file": name, "path": f"/s/{name}"}, "classes": classes}
        (out / name / "record.json").write_text(json.dumps(record))
    (out / "broken" / "record.json").write_text('{"slide": ')
    (out / "broken" / "C.1.svs.geojson.gz").write_text("")
    (out / "nameless" / "record.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    return out


@pytest.fixture(scope="module")
def answers(
    run_jobs: Callable[..., list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], dict[str, Any]]:
    jobs = _jobs()
    out = _results_folder(tmp_path_factory.mktemp("results"))
    folders = {"every": out, "single": out / "A.svs", "empty": out.parent / "empty", "absent": out.parent / "absent"}
    for case, folder in folders.items():
        jobs["results", case] = {"call": "findResults", "arguments": [str(folder)]}
    return dict(zip(jobs, run_jobs(list(jobs.values())), strict=True))


def _check(answer: dict[str, Any], expected: Any) -> None:
    if isinstance(expected, str):
        assert expected in answer.get("error", f"no error, but {answer}")
        assert answer["error"].count("\n") == 0
    else:
        assert answer.get("error") is None
        assert answer["value"] == expected


@pytest.mark.parametrize("case", MATCHES)
def test_a_result_goes_to_the_image_of_exactly_its_name(
    case: str, answers: dict[tuple[str, str], dict[str, Any]]
) -> None:
    expected = MATCHES[case][2]
    answer = answers["match", case]["value"]
    assert answer["unused"] == expected["unused"]
    assert len(answer["matches"]) == len(expected["results"])
    for found, wanted in zip(answer["matches"], expected["results"], strict=True):
        if wanted is not None and wanted.startswith("!"):
            assert found["status"] == "FAILED"
            assert wanted[1:] in found["note"]
            assert found["result"] is None
        else:
            assert found == {"result": wanted, "status": "" if wanted else "no result", "note": ""}


@pytest.mark.parametrize("case", FRAMES)
def test_regions_are_shifted_into_the_image_s_frame_or_refused(
    case: str, answers: dict[tuple[str, str], dict[str, Any]]
) -> None:
    _check(answers["frame", case], FRAMES[case][3])


@pytest.mark.parametrize("name", SERVERS)
def test_images_turned_in_qupath_are_refused_whatever_their_size(
    name: str, answers: dict[tuple[str, str], dict[str, Any]]
) -> None:
    _check(answers["server", name], "rotated or mirrored" if SERVERS[name] else None)


@pytest.mark.parametrize("case", PLANS)
def test_own_regions_are_replaced_and_the_user_s_work_is_kept(
    case: str, answers: dict[tuple[str, str], dict[str, Any]]
) -> None:
    present, _, _, remove, edited = PLANS[case]
    stay = sorted({item["id"] for item in present} - set(remove))
    assert answers["plan", case] == {"value": {"remove": remove, "stay": stay, "edited": edited}}


@pytest.mark.parametrize("case", MEASURED)
def test_own_measurements_are_told_from_the_user_s(case: str, answers: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert answers["measured", case] == {"value": MEASURED[case][1]}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case: str, answers: dict[tuple[str, str], dict[str, Any]]) -> None:
    expected = ARGUMENTS[case][2]
    _check(answers["arguments", case], expected if isinstance(expected, str) else {**DEFAULTS, **expected})


@pytest.mark.parametrize("case", FAILURES)
def test_exit_code(case: str, answers: dict[tuple[str, str], dict[str, Any]]) -> None:
    expected = FAILURES[case][2]
    value = answers["failure", case]["value"]
    assert (value is None) if expected is None else (expected in value)


@pytest.mark.parametrize("case", COUNTS)
def test_a_file_that_reads_as_nothing_is_a_failure(case: str, answers: dict[tuple[str, str], dict[str, Any]]) -> None:
    _check(answers["count", case], COUNTS[case][2])


@pytest.mark.parametrize("uri", FILE_NAMES)
def test_file_name_of_an_address(uri: str, answers: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert answers["file name", uri] == {"value": FILE_NAMES[uri]}


def test_report_is_a_table(answers: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert answers["report", "open"]["value"].splitlines() == [
        "image  result  status     regions  replaced  kept  note",
        "A.svs  A.svs   imported   3        2         1",
        "B.svs          no result",
        "C.svs  C.svs   FAILED                              no such file",
        "Results without an image here: D.svs, E.svs",
        "DualProto import: 1 imported, 1 no result, 1 FAILED",
    ]
    assert answers["report", "empty"]["value"].endswith("DualProto import: no image")


def test_report_keeps_masked_names_masked(answers: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert "7f3a" in answers["report", "masked"]["value"]
    assert "A.svs" not in answers["report", "masked"]["value"]


def test_results_are_found_by_their_records(answers: dict[tuple[str, str], dict[str, Any]]) -> None:
    every, single, empty, absent = (answers["results", case] for case in ("every", "single", "empty", "absent"))
    found = {item["name"]: item for item in every["value"]}
    assert list(found) == ["A.svs", "B.svs", "broken", "colourless", "nameless"]
    assert found["A.svs"] == {"name": "A.svs", "file": "A.svs", "path": "/s/A.svs", "problem": None}
    assert found["broken"]["file"] == "C.1.svs"
    assert "broken/record.json cannot be read" in found["broken"]["problem"]
    assert "every class needs a name and a colour" in found["colourless"]["problem"]
    assert "names no slide" in found["nameless"]["problem"]
    assert [item["file"] for item in single["value"]] == ["A.svs"]
    assert "no record.json" in empty["error"]
    assert "no such folder" in absent["error"]


def test_the_scripts_call_nothing_that_some_version_lacks(scripts: list[Path]) -> None:
    """Gone in 0.6 or deprecated before, new in 0.6, or not on QuPath's class path (groovy-json)."""
    absent = (
        "addPathObject putMeasurement getMeasurementValue getMeasurementNames getServerURIs removeAllObjects "
        "getMetadataMap entry.getMetadata fireHierarchyUpdate clearAll importObjectsFromFile PathClassFactory "
        "getPathClass(' JsonSlurper groovy.json toJsonTree"
    )
    assert len(scripts) == 3
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        assert [name for name in absent.split() if name in text] == [], script.name
