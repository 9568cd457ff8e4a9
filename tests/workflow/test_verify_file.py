from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.qupath.rules import READERS
from dualproto_wsi.workflow.checks.verify_file import UNCLASSIFIED, verify_file

CASES = Path(__file__).resolve().parents[3] / "shared" / "reference" / "qupath-cases"
NAMES = sorted(path.name for path in CASES.glob("*") if not path.name.startswith("RESULT"))

ROOT_CLASS = "Image"
"""The class that QuPath's root object has of its own, whatever the file says."""


@pytest.fixture(scope="module")
def told() -> dict[tuple[str, str], str]:
    versions = [reader.version for reader in READERS]
    lines = ((v, line) for v in versions for line in (CASES / f"RESULT-{v}.txt").read_text("utf-8").splitlines())
    return {(v, line.split("\t")[0]): line.split("\t")[1] for v, line in lines}


@pytest.mark.parametrize("name", NAMES or [pytest.param("", marks=pytest.mark.skip("../shared is not here"))])
def test_the_verdict_on_a_case_is_qupaths(name, told):
    expected = {reader.version: told[reader.version, name] for reader in READERS}
    try:
        verdicts = list(verify_file(CASES / name))
    except DataError as error:  # an ending that QuPath ignores: it finds nothing
        assert "QuPath ignores files of this ending" in str(error)
        assert {text.strip() for text in expected.values()} == {"n=0"}
        return
    for i, (version, text) in enumerate(expected.items()):
        ours = [verdict.versions[i] for verdict in verdicts]
        assert {verdict.version for verdict in ours} == {version}
        if not name.endswith(".zip"):  # in which QuPath passes over what it refuses
            assert (ours[0].refusal is not None) == text.startswith("EXC")
        if text.startswith("n="):
            count = int(re.match(r"n=(\d+)", text)[1])
            assert sum(verdict.objects - verdict.inside for verdict in ours) == count
            kinds = Counter(kind.lower() for kind in re.findall(r" ([A-Z]\w+)\[", text))
            assert sum(kinds.values()) == count
            assert kinds_of(ours, name) == kinds
            classes = set(re.findall(r"\w\[([^=\]]+?)#[0-9a-f]+ ", text)) - {ROOT_CLASS}
            assert {c for v in ours for groups in v.types.values() for c in groups} - {UNCLASSIFIED} == classes


def kinds_of(verdicts, name):
    kinds = Counter()
    for verdict in verdicts:
        kinds.update({kind.lower(): sum(groups.values()) for kind, groups in verdict.types.items()})
    if name == "children_props.geojson":
        kinds -= Counter(detection=1)  # the one inside, which the reference does not list
    return kinds


def test_the_cases_are_all_there():
    if not CASES.is_dir():
        pytest.skip("the folder ../shared (development data) is not here")
    assert len(NAMES) == 156


SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]}


def a_feature(x=0, name="Tumor", **properties):
    ring = [[a + x, b] for a, b in SQUARE["coordinates"][0]]
    properties |= {"classification": {"name": name, "color": [1, 2, 3]}}
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def write(path, *features):
    data = json.dumps({"type": "FeatureCollection", "features": features}).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def lines_of(path):
    (verdict,) = verify_file(path)
    return list(verdict.lines())


def test_a_verdict(tmp_path):
    inside = a_feature(2, "Cell", objectType="detection")
    features = [a_feature(isLocked=True), a_feature(20), a_feature(40, "Stroma", childObjects=[inside])]
    (verdict,) = verify_file(write(tmp_path / "a.GeoJSON.gz", *features))
    assert (verdict.name, verdict.agreed, len(verdict.versions)) == ("a.GeoJSON.gz", True, 4)
    newest = verdict.versions[-1]
    assert newest.types == {"annotation": {"Tumor": 2, "Stroma": 1}, "detection": {"Cell": 1}}
    assert newest.area_px2 == {"Tumor": 200, "Stroma": 100, "Cell": 100}
    assert newest.bounds_px == (0, 0, 50, 10)
    assert list(verdict.lines()) == [
        f"QuPath {version}: reads 4 objects, 1 inside others, 1 locked: "
        "3 annotations (Tumor 2, Stroma 1), 1 detection (Cell 1)"
        for version in ("0.4.4", "0.5.1", "0.6.0", "0.7.0")
    ]


def test_remarks_tell_the_versions_that_they_hold_for(tmp_path):
    crossing = a_feature()
    crossing["geometry"]["coordinates"] = [[[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]]
    lines = lines_of(write(tmp_path / "a.json", crossing, crossing | {"id": "7"}))
    assert lines[2] == (
        "QuPath 0.6.0: refuses the file: feature 0: a ring crosses itself or another near (5, 5) "
        "(2 features are at fault)"
    )
    assert lines[4].startswith("note (0.4.4, 0.5.1): a geometry that is not valid is rebuilt")
    point = a_feature() | {"geometry": {"type": "Polygon", "coordinates": []}}
    (verdict,) = verify_file(write(tmp_path / "b.json", point))
    assert not verdict.agreed
    assert list(verdict.lines())[-1] == (
        "lost: nothing is left of the geometry, a ghost at (0, 0): 1 object(s), first feature 0"
    )
    assert verdict.versions[0].bounds_px is None


def test_many_classes_are_cut_short(tmp_path):
    lines = lines_of(write(tmp_path / "a.json", *(a_feature(0, f"C{i:02}") for i in range(20))))
    assert lines[0].endswith("C10 1, C11 1, and 8 more classes)")


def test_a_zip_is_told_file_by_file(tmp_path):
    inner = write(tmp_path / "a.json", a_feature())
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        packed.write(inner, "sub/a.json")
        packed.write(write(tmp_path / "b.json.gz"), "b.json.gz")
        packed.writestr("readme.txt", "nothing")
    first, second = verify_file(tmp_path / "all.zip")
    assert (first.name, first.agreed) == ("all.zip/sub/a.json", True)
    assert (second.name, second.agreed) == ("all.zip/b.json.gz", False)
    assert list(second.lines())[-1] == "lost: there are no objects in it"


SQUARE_OF = "[[[0,0],[N,0],[N,N],[0,N],[0,0]]]"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("geometry", "properties", "text"),
    [
        (SQUARE_OF.replace("N", "9" * 400), "{}", "a coordinate is not finite, or too large"),
        (SQUARE_OF.replace("N", "9" * 5000), "{}", "a coordinate is not finite, or too large"),
        (SQUARE_OF.replace("N", "1e308"), "{}", "a coordinate is not finite, or too large"),
        (SQUARE_OF.replace("N", "1e999"), "{}", "a coordinate is not finite, or too large"),
        ("[[[0,0],[1e308,1e308],[1e308,0],[0,1e308],[0,0]]]", "{}", "a coordinate is not finite, or too large"),
        (SQUARE_OF.replace("N", "9"), '{"measurements":{"a":%s}}' % ("9" * 400), "a measurement is NaN or infinite"),
        (SQUARE_OF.replace("N", "9"), '{"measurements":{"a":%s}}' % ("9" * 5000), "a measurement is NaN or infinite"),
        (SQUARE_OF.replace("N", "9") + ',"plane":{"z":%s}' % ("9" * 400), "{}", "the plane's z is inf, a whole"),
        (SQUARE_OF.replace("N", "9") + ',"plane":{"z":"%s"}' % ("9" * 5000), "{}", "a whole number is expected"),
    ],
)
@pytest.mark.parametrize("lenient", [False, True])
def test_wild_numbers_and_depths_are_told_of(tmp_path, geometry, properties, text, lenient):
    key = "geometry" if lenient else '"geometry"'  # without quotes, a lenient parser reads it
    shape = f'{{"type":"Polygon","coordinates":{geometry}}}'
    document = f'{{"type":"Feature",{key}:{shape},"properties":{properties}}}'
    path = tmp_path / "a.json"
    path.write_text(document, encoding="utf-8")
    assert text in "\n".join(lines_of(path))


@pytest.mark.parametrize("depth", [990, 100_000])
def test_lists_in_lists_without_end(tmp_path, depth):
    (tmp_path / "a.json").write_text("[" * depth + "]" * depth, encoding="utf-8")
    assert lines_of(tmp_path / "a.json")[0] == "QuPath 0.4.4: refuses the file: its JSON is nested too deep"


@pytest.mark.parametrize(
    ("start", "end", "text"),
    [
        ('{"type":"GeometryCollection","geometries":[', "]}", "feature 0: its JSON is nested too deep"),
        ('{"type":"Polygon","coordinates":' + "[" * 900, "]" * 900 + "}", "feature 0: a point has 1 coordinate(s)"),
    ],
)
def test_geometries_in_geometries_without_end(tmp_path, start, end, text):
    depth = 330 if "Collection" in start else 1
    geometry = start * depth + (json.dumps(SQUARE) if depth > 1 else "1") + end * depth
    (tmp_path / "a.json").write_text(f'{{"type":"Feature","geometry":{geometry}}}', encoding="utf-8")
    assert text in lines_of(tmp_path / "a.json")[0]


def test_what_unpacks_without_end_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("dualproto_wsi.workflow.checks.verify_file.MOST_BYTES", 100_000)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b" " * 100_001))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.json", b" " * 100_001)
    (tmp_path / "c.json").write_bytes(b" " * 100_001)
    for name in ("a.json.gz", "b.zip", "c.json"):
        with pytest.raises(DataError, match=r"json(\.gz)?: is larger than 100_000 bytes of JSON; QuPath has no room"):
            list(verify_file(tmp_path / name))
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(b" " * 100_000))
    assert lines_of(tmp_path / "d.json.gz")[-1] == "lost: there are no objects in it"


def test_zips_that_cannot_be_unpacked(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("a.json", "[]")
    data = path.read_bytes()
    entry = data.index(b"PK\x01\x02")
    for place, values, text in ((6, b"\x01", "is encrypted"), (8, b"\x63", "compression method is not supported")):
        changed = bytearray(data)
        for at in (place, entry + place + 2):  # in the file's own header and in the directory
            changed[at : at + 1] = values
        path.write_bytes(changed)
        with pytest.raises(DataError, match=f"a.zip: cannot be unpacked .*{text}.*; pack it again"):
            list(verify_file(path))


def test_files_that_cannot_be_told_of(tmp_path):
    def message(path):
        with pytest.raises(DataError) as caught:
            list(verify_file(path))
        return str(caught.value)

    assert "none.json: no such file or folder; name a GeoJSON file, or" in message(tmp_path / "none.json")
    write(tmp_path / "a.txt")
    assert "a.txt: QuPath ignores files of this ending; name it one of .geojson, .json," in message(tmp_path / "a.txt")
    write(tmp_path / "a.json").rename(tmp_path / "a.json.gz")
    assert "a.json.gz: cannot be unpacked (Not a gzipped file" in message(tmp_path / "a.json.gz")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"[]" * 99)[:-9])
    assert "cut.json.gz: cannot be unpacked (Compressed file ended" in message(tmp_path / "cut.json.gz")
    (tmp_path / "a.zip").write_bytes(b"PK")
    assert "a.zip: cannot be unpacked (File is not a zip file); pack it again" in message(tmp_path / "a.zip")
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    assert "empty.zip: QuPath finds no GeoJSON in it" in message(tmp_path / "empty.zip")
    (tmp_path / "folder.json").mkdir()
    assert "folder.json: cannot be read (Is a directory); check its rights" in message(tmp_path / "folder.json")
