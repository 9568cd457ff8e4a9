"""Our verdicts on 156 small files against what QuPath itself made of them."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from dualproto_wsi.vector.qupath.contents import read_contents
from dualproto_wsi.vector.qupath.reading import Reading, read_as
from dualproto_wsi.vector.qupath.rules import READERS

VERSIONS = tuple(reader.version for reader in READERS)
CASES = Path(__file__).resolve().parents[3] / "shared" / "reference" / "qupath-cases"
NAMES = sorted(path.name for path in CASES.glob("*") if re.fullmatch(r".*(json|json\.gz)", path.name.lower()))

NOT_COMPARED = {
    "ot_root.geojson": {"class", "locked"},  # a root object has a class and a lock of its own, whatever the file says
}

OBJECT = re.compile(
    r"(?P<type>\w+)\[(?:-|(?P<class>\S.*?)#(?P<colour>[0-9a-f]+)) "
    r"(?:noROI|(?P<roi>\w+):\w+ A=(?P<area>\S+) b=\[(?P<bounds>[^]]*)\] valid=(?P<valid>\w+))"
    r"(?P<more>.*?)\](?= \w+\[|$)"
)


def data_of(name: str) -> bytes:
    data = (CASES / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


@pytest.fixture(scope="module")
def told() -> dict[tuple[str, str], str]:
    """What QuPath made of every file."""
    lines = ((v, line) for v in VERSIONS for line in (CASES / f"RESULT-{v}.txt").read_text("utf-8").splitlines())
    return {(v, line.split("\t")[0]): line.split("\t")[1] for v, line in lines}


@pytest.fixture(scope="module")
def readings() -> dict[tuple[str, str], Reading]:
    """What we make of every file; as in QuPath's run, one session by version reads all, in the order of their names."""
    contents = {name: read_contents(data_of(name)) for name in NAMES}
    found = {}
    for reader in READERS:
        session: dict[str, int | None] = {}
        found |= {(reader.version, name): read_as(contents[name], reader, session) for name in NAMES}
    return found


def test_the_cases_are_all_there():
    if not CASES.is_dir():
        pytest.skip("the folder ../shared (development data) is not here")
    assert len(NAMES) == 156 - 5  # three .zip, one .txt and one bare .gz: the tests of verify_file


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES or [pytest.param("", marks=pytest.mark.skip("../shared is not here"))])
def test_a_case_is_read_as_qupath_reads_it(name, version, told, readings):
    reading, expected = readings[version, name], told[version, name]
    if reading.refusal or expected.startswith("EXC"):
        assert (reading.refusal is not None, bool(reading.objects)) == (expected.startswith("EXC"), False), expected
        return
    top = [read for read in reading.objects if not read.item.is_child]
    matches = list(OBJECT.finditer(expected))
    assert len(top) == len(matches) == int(re.match(r"n=(\d+)", expected)[1])
    for read, match in zip(top, matches, strict=True):
        compare(read, match, NOT_COMPARED.get(name, set()))


def compare(read, match, left_out):
    item, more = read.item, match["more"]
    pairs = {
        "type": (item.type.lower(), match["type"].lower()),
        "class": (": ".join(item.class_names) or None, match["class"]),
        "roi": (read.roi, match["roi"] or ""),
        "locked": (item.locked, " LOCKED" in more),
        "name": (item.name, value(more, r'name="(.*?)"')),
        "id": (item.id, value(more, r" id=(\S+)")),
        "colour": (item.own_colour, value(more, r" color=(\w+)", lambda text: int(text, 16))),
        "metadata": (read.metadata, dict(pair.split(":") for pair in listed(more, "md"))),
        "plane": (
            item.shape.plane if item.shape else (-1, 0, 0),
            value(more, r"c/z/t=\[(.*?)\]", lambda text: tuple(map(int, text.split(",")))) or (-1, 0, 0),
        ),
        "nucleus": (item.nucleus is not None and item.type == "cell", (value(more, r"nuc=(\w+)") or "null") != "null"),
        "children": (item.children, int(value(more, r"children=(\d+)") or 0)),
    }
    for what, (ours, theirs) in pairs.items():
        assert ours == theirs or what in left_out, what
    measured = {pair.split("=")[0]: float(pair.split("=")[1]) for pair in listed(more, "m")}
    assert read.measurements == pytest.approx(measured, nan_ok=True)
    if read.colour is not None:  # QuPath makes up the others
        assert read.colour == int(match["colour"], 16)
    if read.roi:
        assert read.area == pytest.approx(float(match["area"]), rel=1e-4, abs=6e-4)
        assert read.bounds == pytest.approx([float(text) for text in match["bounds"].split(",")], abs=6e-5)
        assert read.valid == (match["valid"] == "true")


def value(text, pattern, convert=str):
    match = re.search(pattern, text)
    return convert(match[1]) if match else None


def listed(text, name):
    match = re.search(rf" {name}=\[(.*?)\]", text)
    return match[1].split(", ") if match else []
