"""Regions in a GeoParquet file and an annotation store, read back by pyarrow and TIAToolbox."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest
import shapely
from pyarrow import parquet

from dualproto_wsi.errors import MissingDependency, OutputError
from dualproto_wsi.vector.export import EXPORTERS, annotation_store, kinds, require_packages
from dualproto_wsi.vector.export.annotation_store import compile_options
from dualproto_wsi.vector.region import AREA, MEAN_SCORE


@pytest.fixture(scope="module")
def written(made):
    """The features of the GeoJSON file by id, as any JSON reader sees them, in level-0 px of the whole file."""
    data = json.loads(made.source.regions_file.read_text(encoding="utf-8"))
    found = {}
    for feature in data["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        found[feature["id"]] = (shapely.affinity.translate(shape, *made.source.offset), feature["properties"])
    return found


def test_parquet_has_every_region_of_the_geojson_file(made, written):
    table = parquet.read_table(made.export("parquet"))
    assert table.num_rows == len(written) > 1000
    for row, shape in zip(table.to_pylist(), shapely.from_wkb(table["geometry"].to_pylist()), strict=True):
        expected, properties = written[row["id"]]
        assert row["class"] == properties["classification"]["name"]
        assert row["area_mm2"] == properties["measurements"][AREA]
        assert row["score"] == properties["measurements"][MEAN_SCORE]
        assert json.loads(row["measurements"]) == properties["measurements"]
        assert shape.equals(expected)
        assert shape.area == expected.area


def test_parquet_cells_and_polygons_have_the_same_area(made):
    table = parquet.read_table(made.export("parquet"), columns=["label", "geometry"])
    labels, areas = np.array(table["label"]), shapely.area(shapely.from_wkb(table["geometry"].to_pylist()))
    for label in (1, 2, 3, 4, 255):
        cells = np.count_nonzero(made.labels == label)
        assert areas[labels == label].sum() == pytest.approx(cells * made.source.grid.scale**2, rel=1e-12)


def test_parquet_says_that_it_is_geoparquet(made, written):
    metadata = parquet.read_metadata(made.export("parquet")).metadata
    geo, about = json.loads(metadata[b"geo"]), json.loads(metadata[b"dualproto-wsi"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column = geo["columns"]["geometry"]
    assert (column["encoding"], column["crs"], column["geometry_types"]) == ("WKB", None, ["Polygon"])
    expected = shapely.total_bounds([shape for shape, _ in written.values()])
    assert column["bbox"] == expected.tolist()
    assert (about["slide"], about["um_per_px"]) == ("ü.svs", 0.5)


def test_parquet_without_a_region_is_a_table_without_a_row(empty):
    path = empty.export("parquet")
    table = parquet.read_table(path)
    assert table.num_rows == 0
    assert "geometry" in table.column_names
    column = json.loads(parquet.read_metadata(path).metadata[b"geo"])["columns"]["geometry"]
    assert column["geometry_types"] == []
    assert "bbox" not in column


@pytest.fixture(scope="module")
def open_store():
    """Open TIAToolbox's store; where this Python cannot load SQLite extensions, without asking for it."""
    from tiatoolbox.annotation.storage import SQLiteStore

    patch = pytest.MonkeyPatch()
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        patch.setattr(SQLiteStore, "compile_options", staticmethod(compile_options))
    yield SQLiteStore
    patch.undo()


@pytest.fixture(scope="module")
def store(made, open_store):
    opened = open_store(made.export("annotationstore"))
    yield opened
    opened.close()


def test_the_store_has_every_region_of_the_geojson_file(store, written):
    assert set(store.keys()) == set(written)
    for key, annotation in store.items():
        expected, properties = written[key]
        assert annotation.geometry.equals(expected)
        assert annotation.properties["type"] == properties["classification"]["name"]
        assert annotation.properties["area_mm2"] == properties["measurements"][AREA]
        assert annotation.properties["score"] == properties["measurements"][MEAN_SCORE]
        assert annotation.properties["id"] == key


def test_the_store_answers_queries_by_place_and_class(store, written):
    box = (2000, 1500, 4000, 3000)
    found = store.query(box, where="props['type'] == 'Tumor'", geometry_predicate="intersects")
    assert set(found) == {
        key
        for key, (shape, properties) in written.items()
        if properties["classification"]["name"] == "Tumor" and shape.intersects(shapely.box(*box))
    }
    assert len(found) > 10


def test_a_store_without_a_region_opens(empty, open_store):
    store = open_store(empty.export("annotationstore"))
    assert len(store) == 0
    store.close()


def test_a_store_that_cannot_be_written_is_told(made, tmp_path):
    with pytest.raises(OutputError, match=r"x\.db: cannot be written \(unable to open database file\); make room"):
        EXPORTERS["annotationstore"].write(made.source, tmp_path / "nowhere" / "x.db")


def test_an_sqlite_without_rtree_is_told(monkeypatch):
    monkeypatch.setattr(annotation_store, "compile_options", list)
    with pytest.raises(MissingDependency, match=r"needs SQLite with its R\*Tree module.*or export parquet"):
        require_packages(["annotationstore"])


@pytest.mark.parametrize(
    ("kind", "package", "extra"), [("dicom-seg", "highdicom", "dicom"), ("parquet", "pyarrow", "parquet")]
)
def test_a_missing_package_is_told_with_how_to_get_it(monkeypatch, kind, package, extra):
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=rf"{kind} needs {package}.*pip install 'dualproto-wsi\[{extra}\]'"):
        require_packages(["ome-tiff", kind])


def test_every_kind_of_the_settings_has_its_exporter():
    from dualproto_wsi.settings import EXPORTS

    assert tuple(EXPORTERS) == EXPORTS
