from __future__ import annotations

import json
import math
import tracemalloc
import uuid
from pathlib import Path

import numpy as np
import pytest
import shapely
from scipy.ndimage import gaussian_filter, label

from dualproto_wsi.classes import UNSURE, ClassScheme, TissueClass
from dualproto_wsi.errors import OutputError, SettingsError
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson import GeoJsonWriter, read_features, read_regions
from dualproto_wsi.vector.geojson.merge import ANALYSED_NAME, REGIONS, AnalysedArea, ClassMerger, area_name
from dualproto_wsi.vector.polygons import RegionTracer, TracedRegion
from dualproto_wsi.vector.rasterise import rasterise
from dualproto_wsi.vector.region import AREA, MEAN_SCORE, RUNNER_UP, share_name

SCHEME = ClassScheme(
    (
        TissueClass(1, "Tumör – 肿瘤", (200, 0, 10)),
        TissueClass(2, "Stroma", (0, 200, 0)),
        TissueClass(3, "Never", (0, 0, 255)),
        TissueClass(4, "Once", (0, 0, 255)),
    )
)


def label_map(rows: int = 120, columns: int = 140) -> np.ndarray:
    """Not analysed, 1, 2 and unsure in many regions; one region of 4; none of 3."""
    noise = gaussian_filter(np.random.default_rng(5).standard_normal((rows, columns)), 1.5)
    labels = np.array([0, 1, 2, UNSURE], np.uint8)[np.digitize(noise, np.quantile(noise, (0.3, 0.5, 0.8)))]
    labels[10:15, 20:26] = 4
    return labels


def scores_of(labels: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).dirichlet((1, 1, 1, 1), labels.shape).transpose(2, 0, 1).astype(np.float32)


def grid_of(labels: np.ndarray, x: float = 3.25, y: float = -8, scale: float = 3.77) -> LabelGrid:
    return LabelGrid(x, y, scale, 2.0, labels.shape[1], labels.shape[0])


def traced(labels: np.ndarray, probabilities: np.ndarray | None = None, band: int = 50) -> list[list[TracedRegion]]:
    """Return the regions of each band."""
    tracer = RegionTracer(labels.shape[1], 0 if probabilities is None else len(probabilities))
    bands = [
        tracer.feed(labels[row : row + band], None if probabilities is None else probabilities[:, row : row + band])
        for row in range(0, len(labels), band)
    ]
    return [*bands, tracer.finish()]


def merge(path: Path, bands: list[list[TracedRegion]], grid: LabelGrid, **options: object) -> Path:
    with GeoJsonWriter(path, **options) as writer:
        merger = ClassMerger(writer, grid, SCHEME, "slide", "model")
        for band in bands:
            merger.add(band)
        merger.finish()
    return path


def test_one_feature_a_class_with_all_its_cells(tmp_path: Path) -> None:
    labels = label_map()
    probabilities, grid = scores_of(labels), grid_of(labels)
    path = merge(tmp_path / "a.geojson.gz", traced(labels, probabilities), grid)
    regions = list(read_regions(path, SCHEME))
    assert [r.tissue_class.id for r in regions] == [1, 2, 4, UNSURE]
    assert np.array_equal(rasterise(regions, grid), labels)
    kinds = [f["geometry"]["type"] for f in read_features(path)]
    assert kinds == ["MultiPolygon", "MultiPolygon", "Polygon", "MultiPolygon"]
    for region in regions:
        mask = labels == region.tissue_class.id
        means = probabilities[:, mask].mean(axis=1, dtype=np.float64)
        own = means.argmax() if region.tissue_class.id == UNSURE else region.tissue_class.id - 1
        assert region.measurements == {
            AREA: pytest.approx(mask.sum() * 4e-6),
            MEAN_SCORE: pytest.approx(means[own]),
            RUNNER_UP: pytest.approx(np.delete(means, own).max()),
            REGIONS: label(mask)[1],
        }
        assert len(region.polygons) == region.measurements[REGIONS]


def test_multipolygons_are_valid_once_rounded(tmp_path: Path) -> None:
    labels = (np.random.default_rng(1).random((60, 60)) < 0.5).astype(np.uint8)  # touches itself in many corners
    path = merge(tmp_path / "a.geojson", traced(labels), grid_of(labels, 0.123, 4.567, 3.3333))
    (feature,) = read_features(path)
    shape = shapely.geometry.shape(feature["geometry"])
    assert shape.is_valid
    assert shape.area == pytest.approx(labels.sum() * 3.3333**2, rel=1e-3)


def test_bytes_and_ids_do_not_depend_on_bands(tmp_path: Path) -> None:
    labels = label_map()
    one = merge(tmp_path / "a.geojson", traced(labels, None, 7), grid_of(labels)).read_bytes()
    two = merge(tmp_path / "b.geojson", traced(labels, None, 120), grid_of(labels)).read_bytes()
    ids = [f["id"] for f in json.loads(one)["features"]]
    assert ids == [f["id"] for f in json.loads(two)["features"]]
    assert all(str(uuid.UUID(i)) == i for i in ids)
    assert len(set(ids)) == 4
    assert one == merge(tmp_path / "c.geojson", traced(labels, None, 7), grid_of(labels)).read_bytes()


def test_offset_lock_and_type_are_the_writers(tmp_path: Path) -> None:
    labels = np.ones((2, 2), np.uint8)
    grid = grid_of(labels, 100, 200, 4)
    path = merge(tmp_path / "a.json", traced(labels), grid, offset=(90, 200.5), locked=True, object_type="detection")
    (feature,) = read_features(path)
    assert feature["geometry"]["coordinates"][0][0] == [10, -0.5]
    assert feature["properties"]["isLocked"] is True
    assert feature["properties"]["objectType"] == "detection"
    assert feature["properties"]["measurements"] == {AREA: 4 * 4e-6, REGIONS: 1}  # without scores


def test_nothing_traced_gives_no_feature_and_leaves_no_file(tmp_path: Path) -> None:
    path = merge(tmp_path / "a.geojson", [[]], grid_of(np.zeros((1, 1))))
    assert list(read_features(path)) == []
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]


def test_label_without_a_class_is_an_error(tmp_path: Path) -> None:
    labels = np.full((1, 1), 9, np.uint8)
    with pytest.raises(SettingsError, match="no class has the id 9"):
        merge(tmp_path / "a.geojson", traced(labels), grid_of(labels))
    assert not list(tmp_path.iterdir())


def long_regions(count: int) -> list[TracedRegion]:
    """Return regions of label 1 with 10,000 vertices each."""
    ring = np.tile(np.array([[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]], np.int32), (2000, 1))
    return [TracedRegion(1, i, 0, 81, np.zeros(0), [ring + np.int32(10 * i)]) for i in range(count)]


def test_folder_that_is_gone_is_an_error_of_ours(tmp_path: Path) -> None:
    writer = GeoJsonWriter(tmp_path / "missing" / "a.geojson")
    merger = ClassMerger(writer, grid_of(np.zeros((9, 9))), SCHEME)
    with pytest.raises(OutputError, match="missing: cannot be written"):
        merger.add(long_regions(20))


def test_memory_is_flat(tmp_path: Path) -> None:
    grid = grid_of(np.zeros((9, 9)))

    def peak(repeats: int) -> int:
        tracemalloc.start()
        merge(tmp_path / "a.geojson", [long_regions(10)] * repeats, grid)
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(1)
    few = peak(5)
    assert peak(20) < 1.1 * few
    assert (tmp_path / "a.geojson").stat().st_size > 20e6


def outline(path: Path, labels: np.ndarray, grid: LabelGrid, mm2: dict[str, float]) -> list[dict]:
    with GeoJsonWriter(path, object_type="detection") as writer:
        area = AnalysedArea(writer, grid, "slide", "model")
        for band in traced((labels > 0).astype(np.uint8)):
            area.add(band)
        area.finish(mm2)
    return list(read_features(path))


def test_analysed_area(tmp_path: Path) -> None:
    labels = label_map()
    grid = grid_of(labels)
    mm2 = {c.name: float((labels == c.id).sum() * grid.cell_mm2) for c in SCHEME}
    (feature,) = outline(tmp_path / "a.geojson", labels, grid, mm2)
    analysed = np.count_nonzero(labels) * grid.cell_mm2
    assert set(feature) == {"type", "id", "geometry", "properties"}
    assert str(uuid.UUID(feature["id"])) == feature["id"]
    properties = feature["properties"]
    assert {k: properties[k] for k in properties if k != "measurements"} == {
        "objectType": "annotation",
        "name": ANALYSED_NAME,
        "isLocked": True,
    }
    assert properties["measurements"][AREA] == pytest.approx(analysed)
    for tissue_class in SCHEME:
        area = properties["measurements"][area_name(tissue_class.name)]
        assert area == mm2[tissue_class.name]
        assert properties["measurements"][share_name(tissue_class.name)] == pytest.approx(area / analysed)
    assert all(math.isfinite(v) for v in properties["measurements"].values())
    shape = shapely.geometry.shape(feature["geometry"])
    assert shape.is_valid
    assert shape.area == pytest.approx(np.count_nonzero(labels) * grid.scale**2, rel=1e-3)


def test_nothing_analysed_gives_no_annotation(tmp_path: Path) -> None:
    labels = np.zeros((3, 3), np.uint8)
    assert outline(tmp_path / "a.geojson", labels, grid_of(labels), {"Stroma": 0.0}) == []
