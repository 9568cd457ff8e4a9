from __future__ import annotations

import json

import pytest

from dualproto_wsi.errors import DataError
from dualproto_wsi.workflow.mapping.parts import read_part

SQUARE = [[[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]]


def feature(kind: str, coordinates: object, name: str = "Region") -> dict:
    properties = {"classification": {"name": name, "color": [1, 2, 3]}}
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, "properties": properties}


def write(path, *features):
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8")
    return path


def test_polygons_come_in_pixels_of_the_whole_slide(tmp_path):
    bare = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": SQUARE}, "properties": {}}
    file = write(tmp_path / "a.geojson", feature("MultiPolygon", [SQUARE, SQUARE]), bare, feature("Point", [1, 2]))
    polygons = read_part(file, (100, 50))
    assert len(polygons) == 3
    assert polygons[0][0].tolist() == [[100, 50], [110, 50], [110, 60], [100, 60], [100, 50]]


def test_ignored_classes_are_left_out(tmp_path):
    file = write(tmp_path / "a.geojson", feature("Polygon", SQUARE, "Ignore*"), feature("Polygon", SQUARE))
    assert len(read_part(file, (0, 0))) == 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([], "no polygon in it; draw the regions"),
        ([feature("Polygon", [[[0, None], [1, 1]]])], "feature 0 has a coordinate that is no number"),
        ([feature("Polygon", [[["x", 1]]])], "feature 0 is no outline: ValueError"),
        ([{"type": "Feature", "properties": None}], "feature 0 is no outline: KeyError"),
    ],
)
def test_files_without_outlines_are_told(tmp_path, features, message):
    with pytest.raises(DataError, match=message):
        read_part(write(tmp_path / "a.geojson", *features), (0, 0))


def test_a_mask_is_no_outline(tmp_path):
    with pytest.raises(DataError, match=r"mask\.png: regions to analyse are GeoJSON polygons; name a file ending in"):
        read_part(tmp_path / "mask.png", (0, 0))
