"""The importer from end to end: twice, another run, the user's work, bad files, frames, open images.

QuPath cannot be installed from a package registry, so its API is played by stand-ins (standins/README.md): these tests
show that the script's own flow is right, not how QuPath behaves.
"""

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

COLOURS = {"Tumor": [200, 0, 30], "Stroma": [90, 160, 90]}
Answers = dict[str, dict[str, Any]]


def region_id(slide: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{slide}/{number}"))


USERS = [
    {
        "id": str(uuid.UUID(int=1, version=4)),
        "type": "annotation",
        "className": "Tumor",
        "locked": False,
        "measurements": {},
        "point": [1, 1],
    },
    {
        "id": str(uuid.UUID(int=2, version=4)),
        "type": "detection",
        "className": None,
        "locked": True,
        "measurements": {"Nucleus: Area": 30.0},
        "point": [2, 2],
    },
]
# Our regions, two as imported, one with another outline (QuPath drops its measurements), one with another class
EDITED = [
    {
        "id": region_id("A.svs", number),
        "type": "annotation",
        "className": ["Tumor", "Stroma"][(number + (number == 3)) % 2],
        "locked": False,
        "measurements": {} if number == 2 else {"DualProto mean score": 0.9},
        "point": [10 * number, 21 if number == 2 else 20],
    }
    for number in range(4)
]
CLASSES = [{"name": "Stroma", "colour": [150, 200, 150]}, {"name": "My class", "colour": [1, 2, 3]}]


def _user_draws(project: Path, image: str) -> None:
    (project.parent / f"data-{image}.json").write_text(json.dumps(USERS))
    (project.parent / "classes.json").write_text(json.dumps(CLASSES))


@pytest.fixture(scope="module")
def answers(
    run_jobs: Callable[..., list[dict[str, Any]]],
    make_result: Callable[..., Path],
    make_project: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """Run every scenario, in one JVM."""
    root = tmp_path_factory.mktemp("import")
    jobs: dict[str, dict[str, Any]] = {}

    def loop(name: str, project: Path, out: Path, *more: str) -> None:
        jobs[name] = {"run": str(project), "mode": "loop", "arguments": [str(project), str(out), *more]}

    out = root / "my results"
    make_result(out, "A.svs", 5)
    make_result(out, "A.1 b.svs", 3, suffix=".geojson.gz", kind="detection")
    make_result(out, "empty.svs", 0)
    make_result(out, "elsewhere.svs", 2)
    good = [{"name": "A.svs"}, {"name": "A.1 b.svs"}, {"name": "empty.svs"}, {"name": "no result.svs"}]

    project = make_project(root / "plain", good)
    _user_draws(project, "1")
    loop("dry run", project, out, "dry-run")
    loop("first", project, out)
    loop("again", project, out)
    again = root / "another run"
    make_result(again, "A.svs", 4, first=3)  # 2 regions as before, 2 new ones
    loop("another run", project, again)
    loop("added", project, out, "no-replace")
    loop("added again", project, out, "no-replace", "no-lock")

    project = make_project(root / "edited", [{"name": "A.svs"}])
    (project.parent / "data-1.json").write_text(json.dumps(EDITED))
    loop("edited", project, out)
    loop("edited again", project, out)
    loop("put back", project, out, "replace-edited")

    bad = root / "bad"
    for file, count in {
        "A.svs": 5,
        "cut.svs": 3,
        "gone.svs": 3,
        "lost.svs": 3,
        "size.svs": 3,
        "turned.svs": 3,
        "zero.svs": 0,
        "Z.svs": 2,
    }.items():
        make_result(bad, file, count, recorded=7 if file == "zero.svs" else None)
    make_result(bad, "unreadable.svs", 3)
    cut = bad / "cut.svs" / "cut.svs.geojson"
    cut.write_bytes(cut.read_bytes()[:-40])
    (bad / "gone.svs" / "gone.svs.geojson").unlink()
    (bad / "unreadable.svs" / "record.json").write_text('{"slide": ')
    images: list[dict[str, Any]] = [{"name": path.name} for path in sorted(bad.iterdir())]
    numbers = {image["name"]: str(number) for number, image in enumerate(images, 1)}
    images[int(numbers["lost.svs"]) - 1]["missing"] = True
    images[int(numbers["size.svs"]) - 1]["width"] = 999
    images[int(numbers["turned.svs"]) - 1]["turned"] = True
    loop("bad", make_project(root / "bad project", images), bad)

    project = make_project(root / "corrupt project", [{"name": "A.svs"}])
    (project.parent / "data-1.json").write_text('[{"id": ')
    loop("corrupt", project, out)

    bounded = root / "bounded"
    slide = {"width": 5000, "height": 4000, "bounds": {"x": 100, "y": 50, "width": 1000, "height": 800}}
    make_result(bounded, "A.svs", 1, slide=slide)
    make_result(bounded, "B.svs", 1, slide=slide, frame="slide")
    whole = {"width": 5000, "height": 4000}
    loop("cropped", make_project(root / "cropped", [{"name": "A.svs"}, {"name": "B.svs"}]), bounded)
    loop(
        "uncropped",
        make_project(root / "uncropped", [{"name": "A.svs", **whole}, {"name": "B.svs", **whole}]),
        bounded,
    )

    masked = make_project(root / "masked", [{"name": "A.svs"}], masked=True)
    loop("masked", masked, out)
    loop("other slides", make_project(root / "others", [{"name": "X.svs"}]), out)
    loop("no such project", masked, out)
    jobs["no such project"]["arguments"][0] = str(root / "absent.qpproj")

    for name in ("old", "new"):
        project = make_project(root / f"{name} gui", good)
        jobs[f"{name} gui"] = {
            "run": str(project),
            "mode": "gui",
            "gui": name,
            "opened": ["2", "1"],
            "unsaved": USERS,
            "edit": {"RESULTS": str(out), "LOCK": False},
        }
    project = make_project(root / "gui batch", good)
    batch = {
        "run": str(project),
        "mode": "gui-batch",
        "gui": "new",
        "opened": ["1"],
        "current": "2",
        "edit": {"RESULTS": str(out)},
    }
    jobs["gui batch"] = batch
    jobs["no edit"] = {"run": str(project), "mode": "gui", "gui": "new", "opened": ["1"]}
    project = make_project(root / "headless batch", good)
    for image in ("1", "4"):
        jobs[f"headless batch {image}"] = {
            "run": str(project),
            "mode": "batch",
            "current": image,
            "arguments": [str(out)],
        }
    jobs["nothing open"] = {"run": str(project), "mode": "loop", "arguments": [str(out)]}
    return {name: answer.get("value", answer) for name, answer in zip(jobs, run_jobs(list(jobs.values())), strict=True)}


def saved(answer: dict[str, Any], image: str) -> list[dict[str, Any]]:
    text = answer["saved"][image]
    assert text is not None, answer
    objects: list[dict[str, Any]] = json.loads(text)
    return objects


def ids(objects: list[dict[str, Any]]) -> list[str]:
    return sorted(item["id"] for item in objects)


def row(answer: dict[str, Any], image: str) -> list[str]:
    """Words of an image's line in the report."""
    lines = [line for line in answer["output"].splitlines() if line.startswith(image + "  ")]
    assert len(lines) == 1, answer["output"]
    return [cell.strip() for cell in lines[0].split("  ") if cell.strip()]


OWN_A = [region_id("A.svs", number) for number in range(5)]
USER_IDS = [item["id"] for item in USERS]


def test_import_puts_every_region_beside_what_the_user_drew(answers: Answers) -> None:
    answer = answers["first"]
    assert answer["error"] is None
    assert ids(saved(answer, "1")) == sorted(OWN_A + USER_IDS)
    assert [item for item in saved(answer, "1") if item["id"] in USER_IDS] == USERS
    own = [item for item in saved(answer, "1") if item["id"] in OWN_A]
    assert {item["className"] for item in own} == set(COLOURS)
    assert all(item["locked"] and item["measurements"]["DualProto mean score"] == 0.9 for item in own)
    assert row(answer, "A.svs") == ["A.svs", "A.svs", "imported", "5", "0", "2"]
    assert row(answer, "A.1 b.svs") == ["A.1 b.svs", "A.1 b.svs", "imported", "3", "0", "0"]
    assert len(saved(answer, "2")) == 3
    assert saved(answer, "3") == []  # a slide without tissue has a result: no region
    assert row(answer, "no result.svs") == ["no result.svs", "no result"]
    assert answer["saved"]["4"] is None
    assert "Results without an image here: elsewhere.svs" in answer["output"]
    assert answer["output"].splitlines()[-1] == "DualProto import: 3 imported, 1 no result"


def test_importing_twice_leaves_the_same_objects(answers: Answers) -> None:
    first, again = answers["first"], answers["again"]
    assert again["error"] is None
    for image in ("1", "2", "3"):
        assert ids(saved(again, image)) == ids(saved(first, image))
    assert row(again, "A.svs") == ["A.svs", "A.svs", "imported", "5", "5", "2"]


def test_another_run_replaces_all_earlier_regions(answers: Answers) -> None:
    answer = answers["another run"]
    assert ids(saved(answer, "1")) == sorted([region_id("A.svs", n) for n in range(3, 7)] + USER_IDS)
    assert ids(saved(answer, "2")) == ids(saved(answers["first"], "2"))


def test_no_replace_adds_what_is_not_there_yet(answers: Answers) -> None:
    everything = sorted([region_id("A.svs", n) for n in range(7)] + USER_IDS)
    assert ids(saved(answers["added"], "1")) == everything
    assert row(answers["added"], "A.svs") == ["A.svs", "A.svs", "imported", "3", "0", "6"]
    assert ids(saved(answers["added again"], "1")) == everything


def test_regions_changed_by_hand_are_kept_until_replacing_them_is_asked_for(answers: Answers) -> None:
    for job in ("edited", "edited again"):
        answer = answers[job]
        assert answer["error"] is None
        assert ids(saved(answer, "1")) == sorted(OWN_A)
        kept = [item for item in saved(answer, "1") if item["id"] in (OWN_A[2], OWN_A[3])]
        assert kept == EDITED[2:]
        assert row(answer, "A.svs")[-2:] == ["2", "2 changed by hand kept (replace-edited replaces them)"]
    back = saved(answers["put back"], "1")
    assert ids(back) == sorted(OWN_A)
    assert all(item["locked"] and item["measurements"] and item["point"][1] == 20 for item in back)
    assert row(answers["put back"], "A.svs") == ["A.svs", "A.svs", "imported", "5", "5", "0"]


def test_dry_run_changes_nothing(answers: Answers) -> None:
    answer = answers["dry run"]
    assert answer["error"] is None
    assert json.loads(answer["saved"]["1"]) == USERS
    assert [answer["saved"][image] for image in "234"] == [None] * 3
    assert answer["classes"] == CLASSES
    assert row(answer, "A.svs") == ["A.svs", "A.svs", "would import", "5", "0", "2"]


def test_classes_are_merged_with_the_model_s_colours(answers: Answers) -> None:
    assert answers["first"]["classes"] == [
        {"name": "Stroma", "colour": COLOURS["Stroma"]},
        {"name": "My class", "colour": [1, 2, 3]},
        {"name": "Tumor", "colour": COLOURS["Tumor"]},
    ]
    assert answers["again"]["classes"] == answers["first"]["classes"]


@pytest.mark.parametrize(
    ("image", "word"),
    [
        ("cut.svs", "cut.svs.geojson cannot be read"),
        ("gone.svs", "neither gone.svs.geojson nor gone.svs.geojson.gz"),
        ("lost.svs", "no such image"),
        ("size.svs", "999 x 800 px in QuPath"),
        ("turned.svs", "rotated or mirrored"),
        ("unreadable.svs", "record.json cannot be read"),
        ("zero.svs", "record.json counts 7"),
    ],
)
def test_a_failure_stays_with_its_image(image: str, word: str, answers: Answers) -> None:
    answer = answers["bad"]
    cells = row(answer, image)
    assert "FAILED" in cells
    assert any(word in cell for cell in cells)


def test_one_bad_image_fails_the_run_and_stops_nothing(answers: Answers) -> None:
    answer = answers["bad"]
    assert "7 of 9 images failed; first: cut.svs" in answer["error"]
    assert sum(data is not None for data in answer["saved"].values()) == 2
    assert len(saved(answer, "1")) == 5
    assert row(answer, "Z.svs")[2] == "imported"
    assert answer["output"].splitlines()[-1] == "DualProto import: 2 imported, 7 FAILED"


def test_saved_work_that_qupath_cannot_read_is_not_overwritten(answers: Answers) -> None:
    answer = answers["corrupt"]
    assert "cannot read the data saved for this image" in answer["error"]
    assert answer["saved"]["1"] == '[{"id": '


def test_regions_lie_where_the_image_shows_them(answers: Answers) -> None:
    point = {name: [saved(answers[name], image)[0]["point"] for image in "12"] for name in ("cropped", "uncropped")}
    assert point["cropped"] == [[0, 20], [-100, -30]]
    assert point["uncropped"] == [[100, 70], [0, 20]]
    assert ids(saved(answers["uncropped"], "1")) == [region_id("A.svs", 0)]
    assert saved(answers["uncropped"], "1")[0]["measurements"]["DualProto mean score"] == 0.9
    assert "moved by 100, 50 px" in answers["uncropped"]["output"]


def test_masked_names_are_matched_and_stay_masked(answers: Answers) -> None:
    answer = answers["masked"]
    assert answer["error"] is None
    assert len(saved(answer, "1")) == 5
    assert row(answer, "masked-1")[1] == "(masked)"
    assert "A.svs" not in answer["output"].replace("elsewhere.svs", "")


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ("other slides", "no image of the project has a result"),
        ("no such project", "no such file"),
        ("nothing open", "no project: open one in QuPath"),
        ("no edit", "no results: set RESULTS"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(job: str, words: str, answers: Answers) -> None:
    assert words in answers[job]["error"]
    assert "\n" not in answers[job]["error"]


@pytest.mark.parametrize("gui", ["old gui", "new gui"])
def test_open_images_are_changed_themselves_and_keep_unsaved_work(gui: str, answers: Answers) -> None:
    answer = answers[gui]
    assert answer["error"] is None
    live_2, live_1 = answer["live"]
    assert ids(live_1) == sorted(OWN_A + USER_IDS)
    assert ids(saved(answer, "1")) == ids(live_1)
    assert ids(saved(answer, "2")) == ids(live_2)
    assert len(live_2) == 3 + len(USERS)
    assert not any(item["locked"] for item in live_1 if item["type"] == "annotation")
    assert all(item["locked"] for item in live_2 if item["type"] == "detection")
    assert {item["name"] for item in answer["shown"]} == set(COLOURS)


def test_run_for_project_does_one_image_at_a_time(answers: Answers) -> None:
    answer = answers["gui batch"]
    assert answer["error"] is None
    assert [image for image, data in answer["saved"].items() if data] == ["2"]
    assert answers["headless batch 1"]["error"] is None
    assert [image for image, data in answers["headless batch 1"]["saved"].items() if data] == ["1"]
    assert answers["headless batch 4"]["error"] is None  # no result: said, no failure
    assert row(answers["headless batch 4"], "no result.svs") == ["no result.svs", "no result"]
