from __future__ import annotations

import gzip
import json
import math
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualproto_wsi.classes import TissueClass
from dualproto_wsi.vector.geojson import GeoJsonWriter
from dualproto_wsi.vector.qupath.contents import read_contents
from dualproto_wsi.vector.qupath.gson import Refused, parse
from dualproto_wsi.vector.qupath.reading import read_as
from dualproto_wsi.vector.qupath.rules import READERS
from dualproto_wsi.vector.region import Region

VERSIONS = tuple(reader.version for reader in READERS)
RING = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
SQUARE = {"type": "Polygon", "coordinates": [RING]}


def a_feature(geometry=SQUARE, /, **properties):
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def read(document, version="0.6.0"):
    (reader,) = (reader for reader in READERS if reader.version == version)
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_as(read_contents(data), reader)


def refused_by(document):
    """The versions that refuse a document, and why."""
    refusals = {version: read(document, version).refusal for version in VERSIONS}
    return {version: refusal.reason for version, refusal in refusals.items() if refusal}


def polygon(*rings):
    return a_feature({"type": "Polygon", "coordinates": rings})


def parts(*rings):
    return a_feature({"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]})


def moved(ring, x, y):
    return [[a + x, b + y] for a, b in ring]


OLD, NEW = VERSIONS[:2], VERSIONS[2:]


@pytest.mark.parametrize(
    ("feature", "versions", "reason"),
    [
        (a_feature(classification={"name": "A"}), VERSIONS, "its classification has no color"),
        (a_feature(classification={"name": "A", "color": "#ff0000"}), VERSIONS, "the colour of its class is"),
        (a_feature(classification={"name": "A", "color": [1, 2]}), VERSIONS, "write [red, green, blue]"),
        (a_feature(classification={"name": " ", "color": [1, 2, 3]}), VERSIONS, "the name of its class is blank"),
        (a_feature(classification={"name": "a::b", "color": [1, 2, 3]}), VERSIONS, "the name of its class is blank"),
        (a_feature(classification={"names": ["a:b"], "color": None}), VERSIONS, "has a colon in a name"),
        (a_feature(classification="a\nb"), VERSIONS, "has a line break"),
        (a_feature(classification=["A"]), VERSIONS, 'its classification is ["A"]'),
        (a_feature(name=None), VERSIONS, "its name is null"),
        (a_feature(objectType=None), VERSIONS, "its objectType is null"),
        (a_feature(color="#ff0000"), VERSIONS, 'its colour is "#ff0000"'),
        (a_feature(measurements={"a": "x"}), VERSIONS, 'its measurement "a" is "x", a number is expected'),
        (a_feature(measurements={"a": None}), VERSIONS[:1], 'its measurement "a" is null, a number is expected'),
        (a_feature(measurements=[{"name": "a"}]), VERSIONS, 'its measurement "a" is null, a number is expected'),
        (a_feature(childObjects=[a_feature(name=None)]), VERSIONS, "its name is null"),
        (a_feature(None), VERSIONS, "its geometry is null"),
        ({"type": "Feature"}, VERSIONS, "it has no geometry"),
        ({"type": "Feature", "geometry": SQUARE, "properties": None}, VERSIONS, "its properties is null"),
        ({"type": "Feature", "geometry": SQUARE, "id": None}, VERSIONS, "its id is null"),
        (a_feature({"type": "Circle"}), VERSIONS, 'type "Circle" is not one of GeoJSON'),
        (a_feature({"type": "Polygon"}), VERSIONS, "coordinates is null, an array is expected"),
        (a_feature({"type": "LineString", "coordinates": [[0, 0]]}), VERSIONS, "a line has one point"),
        (a_feature({"type": "Point", "coordinates": [1]}), VERSIONS, "a point has 1 coordinate(s)"),
        (a_feature({"type": "Point", "coordinates": [1, None]}), VERSIONS, "a coordinate is null"),
        (a_feature(SQUARE | {"plane": {"x": 1}}), VERSIONS, 'its plane has a member "x"'),
        (polygon(RING[:-1]), VERSIONS, "a ring is not closed"),
        (polygon([[0, 0], [0, 0]]), VERSIONS, "a ring has 2 point(s)"),
        (polygon([], RING), VERSIONS, "holes and an empty shell"),
        (parts(RING), OLD, "its MultiPolygon has one part only; write a Polygon"),
        (a_feature({"type": "GeometryCollection", "geometries": [SQUARE]}), NEW, "write a MultiPolygon"),
        (polygon(RING, moved(RING, 20, 0)), NEW, "a hole lies outside its shell near (20, 0)"),
        (parts(RING, moved(RING, 5, 5)), NEW, "the parts of its MultiPolygon overlap near ("),
        (polygon([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]), NEW, "a ring crosses itself or another near (5, 5)"),
    ],
)
def test_what_refuses_a_file(feature, versions, reason):
    refusals = refused_by([a_feature(), feature])
    assert tuple(refusals) == versions
    assert all(reason in text for text in refusals.values()), refusals
    assert read([a_feature(), feature], versions[0]).refusal.feature == 1


def test_the_first_feature_at_fault_is_named_and_all_are_counted():
    good, bad = a_feature(), a_feature(name=None) | {"id": "seven"}
    crossing = polygon([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]])
    document = {"type": "FeatureCollection", "features": [good, crossing, bad, bad]}
    refusal = read(document, "0.5.1").refusal
    assert (refusal.feature, refusal.id, refusal.features) == (2, "seven", 2)
    refusal = read(document, "0.6.0").refusal
    assert (refusal.feature, refusal.id, refusal.features) == (1, None, 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1,,2;3,]", [1, None, 2, 3, None]),
        ("// a\n{'a': b, # c\n \"d\" = [TRUE, Null]; e => /* f */ 1.5e1}", {"a": "b", "d": [True, None], "e": 15.0}),
        ("{a: NaN, b: -Infinity, 1: 007}", {"a": "NaN", "b": "-Infinity", "1": "007"}),
        ('{"a": NaN}', {"a": "NaN"}),
        ('\ufeff["\\u00e9\\n\\\'", "a\tb"]', ["é\n'", "a\tb"]),
        (")]}'\n{}", {}),
        ("", None),
        (" \n", None),
    ],
)
def test_lenient_json(text, value):
    assert parse(text.encode()) == value


@pytest.mark.parametrize(
    "text", ['{"a":1,}', '{"a" 1}', "[1", '["a', "[1 2]", "{} {}", "]", '{"a":}', "{1}", r'["\x"]', "[" * 5000]
)
def test_what_is_no_json_even_then(text):
    with pytest.raises(Refused, match=r"^it is not JSON: line 1, column \d+: |nested too deep"):
        parse(text.encode())


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(LEAVES | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(VALUES, st.booleans(), st.sampled_from([None, 1]))
def test_what_is_strict_json_reads_the_same_leniently(value, ascii_only, indent):
    strict = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert parse(strict.encode()) == value
    assert parse(f"/* lenient */ {strict}".encode()) == value


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("1-2-3-4-5", "00000001-0002-0003-0004-000000000005"),
        ("A0000000-0000-0000-0000-00000000000b", "a0000000-0000-0000-0000-00000000000b"),
        ("region 7", None),
        ("", None),
        (7, None),
    ],
)
def test_ids(written, kept):
    reading = read(a_feature() | {"id": written})
    assert reading.objects[0].item.id == kept
    assert any("the id is no UUID" in text for text in reading.warnings) == (kept is None)


def test_halves_of_characters_can_be_told():
    half = '{"type": "Feature", "id": "\\ud800", "geometry": {}, "properties": {"classification": "a\\udc00"}}'
    item = read(half.encode()).objects[0].item
    assert (item.written_id, item.class_names) == ("?", ("a?",))
    refusal = read(half.replace("{}", "null").encode()).refusal
    assert refusal.id == "?"


def test_entries_that_are_no_feature_are_passed_over():
    reading = read([{"features": []}, SQUARE, {"type": "Topology"}, 5])
    assert len(reading.objects) == 1
    assert reading.losses == ("entries that are no Feature, FeatureCollection or geometry are passed over: 3",)
    assert read([]).losses == ("there are no objects in it",)


@pytest.mark.parametrize(
    ("feature", "version", "remark"),
    [
        (polygon([[0, 0], [5, 0], [0, 0]]), "0.4.4", "a ghost at (0, 0): 1 object(s), first feature 0"),
        (polygon([[1, 1], [1.004, 1], [1, 1.004], [1, 1]]), "0.6.0", "a ghost at (0, 0)"),
        (a_feature({}), "0.6.0", "no region"),
        (a_feature() | {"childObjects": [a_feature()]}, "0.6.0", "childObjects beside the properties are lost"),
        (polygon(RING, moved(RING, 20, 0)), "0.5.1", "the geometry is not valid and is kept so"),
        (polygon([[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]), "0.4.4", "not valid is rebuilt, perhaps not as"),
        (a_feature(objectType="region"), "0.7.0", "the objectType is not known; an annotation"),
        (a_feature(classification="A"), "0.7.0", "the class has no colour"),
        (a_feature(measurements={"a": True}), "0.7.0", "is neither number nor text and is left out"),
        (a_feature(measurements={"a": "NaN"}), "0.5.1", "a measurement is NaN or infinite"),
        (a_feature(measurements={"Area µm^2": 1}), "0.4.4", "the name of a column that QuPath computes"),
        (a_feature(metadata={"a": "b"}), "0.4.4", "the metadata is left out"),
    ],
)
def test_losses_and_warnings(feature, version, remark):
    reading = read(feature, version)
    assert remark in " | ".join(reading.losses + reading.warnings)
    assert reading.refusal is None


def test_a_clean_feature_has_no_remarks():
    coloured = a_feature(objectType="tile", classification={"name": "A", "color": [1, 2, 3]}, measurements={"a": 1})
    for version in VERSIONS:
        reading = read(coloured | {"id": str(uuid.uuid4())}, version)
        assert (reading.losses, reading.warnings, len(reading.objects)) == ((), (), 1)


def test_a_ring_that_touches_itself_at_a_point_is_as_it_was_meant():
    ring = [[0, 0], [10, 0], [10, 10], [20, 10], [20, 20], [10, 20], [10, 10], [0, 10], [0, 0]]
    for version in VERSIONS:
        reading = read(polygon(ring), version)
        assert (reading.warnings, reading.objects[0].area, reading.objects[0].valid) == ((), 200, True)


def test_the_first_colour_of_a_class_stays_and_parents_get_it_in_0_4_only():
    features = [a_feature(classification={"name": name, "color": [1, 2, k]}) for k, name in enumerate(["A: B", "A"])]
    assert [hex(o.colour) for o in read(features, "0.4.4").objects] == ["0xff010200", "0xff010200"]
    reading = read(features, "0.5.1")
    assert [o.colour for o in reading.objects] == [0xFF010200, None]
    assert "the class has another colour earlier on, which stays" in " | ".join(reading.warnings)


def test_equal_ids_and_children():
    child = a_feature(objectType="detection") | {"id": "0-0-0-0-1"}
    reading = read(a_feature(childObjects=[child]) | {"id": "0-0-0-0-1"})
    assert [(o.item.type, o.item.is_child) for o in reading.objects] == [("annotation", False), ("detection", True)]
    assert any("another object has the same id: 2 object(s)" in text for text in reading.warnings)


def test_large_files_are_called_slow():
    many = [a_feature() for _ in range(20_000)]
    assert any(text.startswith("20000 annotations: do not resolve") for text in read(many).costs)
    padded = json.dumps(a_feature()).encode() + b" " * 64_000_000
    assert any("reading takes about 10 s and 2.7 GB" in text for text in read(padded).costs)


def test_coordinates_of_other_kinds():
    texts = [[str(x), y, 5, "ignored"] for x, y in RING]
    assert read(polygon(texts)).objects[0].area == 100
    rounded = read(a_feature({"type": "Point", "coordinates": [1.234, 5.678]}))
    assert rounded.objects[0].bounds == pytest.approx((1.23, 5.68, 0, 0))
    kept = read(
        a_feature({"type": "MultiLineString", "coordinates": [[[0, 0], [1.234, 1]], [[0, 1], [1, 2]]]}), "0.4.4"
    )
    assert (kept.objects[0].roi, kept.objects[0].bounds) == ("GeometryROI", pytest.approx((0, 0, 1.234, 2)))


def test_a_coordinate_that_is_no_number():
    bad = [[math.nan if point == [10, 0] else point[0], point[1]] for point in RING]
    assert not read(polygon(bad), "0.5.1").objects[0].valid
    assert "not valid" in read(polygon(bad), "0.6.0").refusal.reason


@pytest.mark.parametrize("ending", [".geojson", ".geojson.gz"])
@pytest.mark.parametrize("object_type", ["annotation", "detection", "tile"])
def test_what_our_writer_writes_is_clean(tmp_path, ending, object_type):
    ring = np.array(RING, np.float64) / 3
    one = TissueClass(1, "Tumör – 肿瘤", (200, 0, 10))
    with GeoJsonWriter(tmp_path / f"a{ending}", object_type, offset=(0.125, 7), locked=True) as writer:
        writer.write(Region(str(uuid.uuid4()), one, ((ring * 9, ring + 5),), {"DualProto area mm^2": 1.5}))
        writer.write(Region(str(uuid.uuid4()), one, ((ring,), (ring + 50,)), {"DualProto mean score": math.nan}))
    data = (tmp_path / f"a{ending}").read_bytes()
    data = gzip.decompress(data) if ending.endswith(".gz") else data
    for version in VERSIONS:
        reading = read(data, version)
        assert (reading.refusal, reading.losses, reading.warnings) == (None, (), ())
        assert [(o.item.type, o.item.class_names, o.colour) for o in reading.objects] == [
            (object_type, (one.name,), 0xFFC8000A)
        ] * 2
        assert all(o.item.locked and o.valid for o in reading.objects)
