from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dualproto_wsi.classes import UNSURE_CLASS, ClassScheme, TissueClass
from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.geojson import GeoJsonWriter, read_features, read_regions
from dualproto_wsi.vector.region import Region, region_id

SCHEME = ClassScheme((TissueClass(1, "Tumör", (200, 0, 0)),))
SQUARE = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], np.float64)


def feature(number: int, text: str = "") -> dict[str, Any]:
    return {"type": "Feature", "id": number, "properties": {"name": text, "x": [[{}], number]}, "geometry": None}


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def collection(features: list[Any], **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", **members, "features": features}


LAYOUTS: dict[str, Callable[[list[Any]], str]] = {
    "one line": lambda f: json.dumps(collection(f), separators=(",", ":")),
    "indented": lambda f: json.dumps(collection(f), indent=2),
    "a feature a line": lambda f: (
        '{"type":"FeatureCollection","features":[\n' + ",\n".join(map(json.dumps, f)) + "\n]}\n"
    ),
    "windows": lambda f: '{"type":"FeatureCollection",\r\n"features":[\r\n' + ",\r\n".join(map(json.dumps, f)) + "]}",
    "not escaped": lambda f: json.dumps(collection(f), ensure_ascii=False),
    "list": json.dumps,
    "list after blanks": lambda f: "\n\n  " + json.dumps(f) + "  ",
    "members around": lambda f: (
        json.dumps(collection(f, bbox=[0, [1]], crs={"features": [1]}, name='"features":['))[:-1]
        + ',"after":[{"a":1}]}'
    ),
    "type last": lambda f: json.dumps({"features": f, "type": "FeatureCollection"}),
    "long head": lambda f: json.dumps(collection(f, name="x" * 2_000_000)),
}


@pytest.mark.parametrize("suffix", ["geojson", "geojson.gz"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("count", [0, 1, 3000])
def test_every_layout_is_read(tmp_path: Path, layout: str, count: int, suffix: str) -> None:
    features = [feature(i, 'ß"\\]}{[,' + "肿" * (i % 7)) for i in range(count)]
    assert list(read_features(written(tmp_path / f"a.{suffix}", LAYOUTS[layout](features)))) == features


def test_features_longer_than_a_block(tmp_path: Path) -> None:
    features = [feature(i, "long, " * 50_000) for i in range(4)]
    assert list(read_features(written(tmp_path / "a.json", json.dumps(collection(features))))) == features


def test_one_feature(tmp_path: Path) -> None:
    assert list(read_features(written(tmp_path / "a.json", json.dumps(feature(1))))) == [feature(1)]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=30), max_size=8), st.integers(1, 60), st.booleans(), st.sampled_from((None, 1)))
def test_blocks_may_end_anywhere(
    tmp_path: Path, texts: list[str], block: int, ascii_only: bool, indent: int | None
) -> None:
    features = [feature(i, text) for i, text in enumerate(texts)]
    text = json.dumps(collection(features), indent=indent, ensure_ascii=ascii_only)
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dualproto_wsi.vector.geojson.reader._BLOCK", block)
        patch.setattr("dualproto_wsi.vector.geojson.reader._HEAD", 50)
        assert list(read_features(path)) == features


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not JSON",
        "{",
        '{"type":"FeatureCollection","features":[',
        '{"type":"FeatureCollection","features":[{"type":"Feature"},',
        '{"type":"FeatureCollection","features":[{"type":"Feature"},]}',
        '{"type":"FeatureCollection","features":[,]}',
        '{"type":"FeatureCollection","features":[{"type":"Feature"} {"type":"Feature"}]}',
        '{"type":"FeatureCollection","features":[{"type":"Feature"}]',
        '{"type":"FeatureCollection","features":[{"type":"Feature"}}',
        '{"type":"FeatureCollection","features":[{"type":"Feature"]]}',
        '{"type":"FeatureCollection","features":[{"type":"Feature"}]} and more',
        '{"type":"FeatureCollection","features":[{"type":"Feature","x":NaN}]}',
        '[{"type":"Feature"}',
        '[{"type":"Feature"}]]',
        '{"type":"Feature"}\n{"type":"Feature"}',
    ],
)
@pytest.mark.parametrize("suffix", ["geojson", "geojson.gz"])
def test_what_is_not_json_is_refused(tmp_path: Path, text: str, suffix: str) -> None:
    with pytest.raises(DataError, match=rf"a.{suffix}: not GeoJSON, or cut off: "):
        list(read_features(written(tmp_path / f"a.{suffix}", text)))


def test_comma_at_the_end_of_a_block_does_not_hide_a_missing_feature(tmp_path: Path) -> None:
    text = json.dumps(collection([feature(i) for i in range(1000)]))
    path = written(tmp_path / "a.json", text[:-2] + "," + " " * 50_000 + "]}")
    with pytest.raises(DataError, match="not GeoJSON"):
        list(read_features(path))


@pytest.mark.parametrize("cut", [1, 3, 50, 2000, -1, -9, -100])
def test_cut_files_are_refused(tmp_path: Path, cut: int) -> None:
    text = json.dumps(collection([feature(i) for i in range(2000)])).encode()
    for name, data in (("a.json", text), ("a.json.gz", gzip.compress(text))):
        (tmp_path / name).write_bytes(data[:cut])
        with pytest.raises(DataError, match=f"{name}: not GeoJSON, or cut off: "):
            list(read_features(tmp_path / name))


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(json.dumps(collection([feature(i) for i in range(2000)])).encode()))
    for damage in (b"\0" * 40, b"\xff" * 40):
        packed[400:440] = damage
        (tmp_path / "a.json.gz").write_bytes(packed)
        with pytest.raises(DataError, match="not GeoJSON, or cut off"):
            list(read_features(tmp_path / "a.json.gz"))
    (tmp_path / "a.json.gz").write_bytes(b"plain text")
    with pytest.raises(DataError, match="not GeoJSON, or cut off"):
        list(read_features(tmp_path / "a.json.gz"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"type":"FeatureCollection","features":[null]}', "entry 0 is not a Feature"),
        ('{"type":"FeatureCollection","features":[{"type":"Feature"},{"type":"Polygon"}]}', "entry 1 is not a Feature"),
        ('{"type":"FeatureCollection"}', "entry 0 is not a Feature"),
        ('{"type":"FeatureCollection","features":null}', "entry 0 is not a Feature"),
        ("[[]]", "entry 0 is not a Feature"),
        ("7", "entry 0 is not a Feature"),
        ('{"type":"Thing","features":[{"type":"Feature"}]}', "its list of features is in no FeatureCollection"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=rf"a.json: {words}.*; write the file again"):
        list(read_features(written(tmp_path / "a.json", text)))


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"FeatureCollection","features":[],"features":[]}',
        '{"features":[{"type":"Feature","id":1}],"type":"FeatureCollection","name":{"features":1},"f\\u0065atures":[]}',
        '{"type":"FeatureCollection","features":null,"features":[{"type":"Feature"}]}',
        '{"features":null,"name":"' + "x" * 2_000_000 + '","features":[{"type":"Feature"}]}',
    ],
)
def test_two_lists_of_features_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"a.json: has two lists of features; QuPath reads the last one only"):
        list(read_features(written(tmp_path / "a.json", text)))


def test_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("a.json", "a.json.gz"):
        with pytest.raises(DataError, match=f"{name}: no such file"):
            list(read_features(tmp_path / name))


@pytest.mark.parametrize("suffix", ["geojson", "geojson.gz"])
@pytest.mark.parametrize("layout", ["a feature a line", "one line"])
def test_memory_is_flat(tmp_path: Path, layout: str, suffix: str) -> None:
    def peak(count: int) -> int:
        path = written(tmp_path / f"a.{suffix}", LAYOUTS[layout]([feature(i, "x" * 500) for i in range(count)]))
        tracemalloc.start()
        assert sum(1 for _ in read_features(path)) == count
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(10)
    assert peak(16_000) < 1.1 * peak(5_000)


def region(**options: Any) -> Region:
    identifier = region_id(label=1, row=0, column=0)
    return Region(**{"id": identifier, "tissue_class": SCHEME.by_id(1), "polygons": ((SQUARE,),)} | options)


def test_regions_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    written(path, '[{"type":"Feature","properties":{}}]')
    with pytest.raises(DataError, match="feature 0 is not one of ours: KeyError"):
        list(read_regions(path, SCHEME))
    with GeoJsonWriter(path) as writer:
        writer.write(region())
    with pytest.raises(
        DataError, match="feature 0 is not one of ours: it has the class 'Tumör'; the classes are Other, Unsure"
    ):
        list(read_regions(path, ClassScheme((TissueClass(1, "Other", (0, 0, 0)),))))


def test_unsure_is_known_and_what_has_no_class_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    with GeoJsonWriter(path) as writer:
        parts = writer.parts()
        parts.add([(SQUARE,)])
        writer.write_parts(parts, region_id(label=0, row=0, column=0), None, {})
        writer.write(region(tissue_class=UNSURE_CLASS))
    assert len(list(read_features(path))) == 2
    (found,) = read_regions(path, SCHEME)
    assert found.tissue_class is UNSURE_CLASS


def test_files_of_other_programs(shared: Path) -> None:
    cases = shared / "reference" / "qupath-cases"
    assert len(list(read_features(cases / "single_feature.geojson"))) == 1
    assert len(list(read_features(cases / "wrap_array_empty.geojson"))) == 0
    assert len(list(read_features(cases / "ext_gz.geojson.gz"))) >= 1
