from __future__ import annotations

import gzip
import itertools
import json
import math
import tracemalloc
import uuid
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.errors import OutputError
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson import GeoJsonWriter, read_features, read_regions
from dualproto_wsi.vector.polygons import RegionTracer
from dualproto_wsi.vector.rasterise import rasterise
from dualproto_wsi.vector.region import Region, to_region

SCHEME = ClassScheme(
    (
        TissueClass(1, "Tumör – 肿瘤", (200, 0, 10)),
        TissueClass(2, "Stroma", (0, 200, 0)),
        TissueClass(3, "Nekrose \"x\" \\ / 'y'", (0, 0, 255)),
    )
)
SQUARE = np.array([[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]], np.float64)


def a_region(*polygons: tuple[np.ndarray, ...], **measurements: float) -> Region:
    return Region(str(uuid.uuid5(uuid.NAMESPACE_URL, "r")), SCHEME.by_id(1), polygons or ((SQUARE,),), measurements)


def label_map(rows: int = 160, columns: int = 190) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(3).standard_normal((rows, columns)), 2)
    return np.digitize(noise, np.quantile(noise, (0.3, 0.5, 0.8))).astype(np.uint8)


def regions_of(labels: np.ndarray, grid: LabelGrid) -> list[Region]:
    probabilities = np.random.default_rng(0).dirichlet((1, 1, 1), labels.shape).transpose(2, 0, 1).astype(np.float32)
    tracer = RegionTracer(grid.columns, 3)
    return [
        to_region(traced, grid, SCHEME, "slide.svs", "model")
        for traced in tracer.feed(labels, probabilities) + tracer.finish()
    ]


def write(path: Path, regions: list[Region], **options: object) -> Path:
    with GeoJsonWriter(path, **options) as writer:
        for region in regions:
            writer.write(region)
        assert writer.count == len(regions)
    return path


def grid_of(labels: np.ndarray, x: float = 0, y: float = 0, scale: float = 4) -> LabelGrid:
    return LabelGrid(x, y, scale, 2.0, labels.shape[1], labels.shape[0])


def only(path: Path) -> dict:
    (feature,) = read_features(path)
    return feature


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
@pytest.mark.parametrize(("x", "y", "scale"), [(0, 0, 4), (1033.37, 512.5, 15.8764), (-7, 3, 1.003)])
def test_what_is_written_is_read_back_as_the_same_label_map(
    tmp_path: Path, name: str, x: float, y: float, scale: float
) -> None:
    labels = label_map()
    grid = grid_of(labels, x, y, scale)
    path = write(tmp_path / name, regions_of(labels, grid))
    regions = list(read_regions(path, SCHEME))
    assert np.array_equal(rasterise(regions, grid), labels)
    area = 0.0
    for region in regions:
        polygon = shapely.Polygon(region.rings[0], region.rings[1:])
        assert polygon.is_valid
        area += polygon.area
    assert area == pytest.approx(np.count_nonzero(labels) * scale**2, rel=1e-3 if scale != 4 else 1e-12)


def test_neighbours_share_their_rounded_vertices(tmp_path: Path) -> None:
    labels = label_map() + np.uint8(1)
    labels[labels > 3] = 1
    path = write(tmp_path / "a.geojson", regions_of(labels, grid_of(labels, 0.123, 4.567, 3.3333)))
    polygons = [shapely.Polygon(r.rings[0], r.rings[1:]) for r in read_regions(path, SCHEME)]
    assert shapely.coverage_is_valid(polygons)


def test_every_rule_of_the_reader(tmp_path: Path) -> None:
    labels = label_map()
    path = write(tmp_path / "a.geojson", regions_of(labels, grid_of(labels, 1.5, 2.5, 3.77)), locked=True)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["type"] == "FeatureCollection"
    assert "null" not in path.read_text(encoding="utf-8")
    assert "NaN" not in path.read_text(encoding="utf-8")
    identifiers = set()
    for feature in data["features"]:
        assert set(feature) == {"type", "id", "geometry", "properties"}
        identifiers.add(str(uuid.UUID(feature["id"])))
        properties = feature["properties"]
        assert set(properties) == {"objectType", "classification", "isLocked", "measurements"}
        assert properties["objectType"] == "annotation"
        assert properties["isLocked"] is True
        tissue_class = next(c for c in SCHEME if c.name == properties["classification"]["name"])
        assert properties["classification"] == {"name": tissue_class.name, "color": list(tissue_class.colour)}
        assert len(properties["measurements"]) == 3
        assert all(isinstance(v, float) and math.isfinite(v) for v in properties["measurements"].values())
        assert feature["geometry"]["type"] == "Polygon"
        for ring in feature["geometry"]["coordinates"]:
            assert ring[0] == ring[-1]
            assert all(round(value, 2) == value for point in ring for value in point)
    assert len(identifiers) == len(data["features"])


def test_locked_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    assert "isLocked" not in only(write(tmp_path / "a.geojson", [a_region()]))["properties"]


@pytest.mark.parametrize("kind", ["annotation", "detection", "tile"])
def test_object_types(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.geojson", [a_region()], object_type=kind)
    assert only(path)["properties"]["objectType"] == kind


def test_unknown_object_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="object type is 'Annotation'; choose one of annotation, detection, tile"):
        GeoJsonWriter(tmp_path / "a.geojson", "Annotation")


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    values = {"a": 1.5, "b": math.nan, "c": math.inf, "d": np.float32(2), "e": np.float64(0.25), "f": -math.inf, "g": 3}
    region = a_region(**{f"DualProto {k}": v for k, v in values.items()})
    written = only(write(tmp_path / "a.geojson", [region]))["properties"]["measurements"]
    assert written == {"DualProto a": 1.5, "DualProto d": 2, "DualProto e": 0.25, "DualProto g": 3}
    assert all(isinstance(value, float) for value in written.values())


@pytest.mark.parametrize("name", ["Area px^2", "Area µm^2", "Num Detections", "", "DualProto"])
def test_measurements_that_could_be_columns_of_qupath_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="must begin with 'DualProto '"):
        write(tmp_path / "a.geojson", [a_region(**{name: 1.0})])


def test_id_that_is_no_uuid_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="region id 'Tumour 1' is no UUID; QuPath would replace it"):
        write(tmp_path / "a.geojson", [Region("Tumour 1", SCHEME.by_id(1), ((SQUARE,),))])


def test_several_files_of_the_same_features(tmp_path: Path) -> None:
    labels = label_map()
    regions = regions_of(labels, grid_of(labels, 0.1, 0.2, 3.3))
    names = ("a.geojson", "a.geojson.gz", "b.json")
    with GeoJsonWriter([tmp_path / name for name in names]) as writer:
        writer.write_all(iter(regions))
    assert writer.count == len(regions)
    (tmp_path / "one").mkdir()
    for name in names:
        assert (tmp_path / name).read_bytes() == write(tmp_path / "one" / name, regions).read_bytes()


def test_no_file_is_refused() -> None:
    with pytest.raises(ValueError, match="no file to write; name at least one"):
        GeoJsonWriter([])


def test_second_file_that_cannot_be_made_undoes_the_first(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"missing.b.json: cannot be written"),
        GeoJsonWriter([tmp_path / "a.geojson", tmp_path / "missing" / "b.json"]),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_errors_of_the_block_are_not_taken_for_errors_of_writing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="slide is gone") as caught, GeoJsonWriter(tmp_path / "a.geojson"):
        raise OSError("slide is gone")
    assert not isinstance(caught.value, OutputError)
    assert not list(tmp_path.iterdir())


def test_target_that_is_a_folder_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "a.geojson").mkdir()
    with pytest.raises(OutputError, match=r"a.geojson: cannot be written \("):
        write(tmp_path / "a.geojson", [a_region()])
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]


def test_offset_is_subtracted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", [a_region((SQUARE + 100,))], offset=(100.0, 90.5))
    assert only(path)["geometry"]["coordinates"][0][0] == [0, 9.5]


def test_holes_and_several_parts(tmp_path: Path) -> None:
    hole = (SQUARE[::-1] / 4) + 1
    path = write(tmp_path / "a.geojson", [a_region((SQUARE, hole), (SQUARE + 10,))])
    geometry = only(path)["geometry"]
    assert geometry["type"] == "MultiPolygon"
    shape = shapely.geometry.shape(geometry)
    assert shape.is_valid
    assert shape.area == 31
    (region,) = read_regions(path, SCHEME)
    assert [len(polygon) for polygon in region.polygons] == [2, 1]
    grid = LabelGrid(0, 0, 1, 1, 14, 14)
    assert rasterise([region], grid).astype(bool).sum() == 31


def test_no_regions_make_an_empty_collection(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", [])
    assert json.loads(path.read_text()) == {"type": "FeatureCollection", "features": []}
    assert list(read_features(path)) == []


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_same_regions_same_bytes(tmp_path: Path, name: str) -> None:
    labels = label_map()
    (tmp_path / "other").mkdir()
    one = write(tmp_path / name, regions_of(labels, grid_of(labels)))
    two = write(tmp_path / "other" / f"b{name}", regions_of(labels, grid_of(labels)))
    assert one.read_bytes() == two.read_bytes()


def test_compressed_file_holds_the_same_text_and_no_time(tmp_path: Path) -> None:
    labels = label_map()
    regions = regions_of(labels, grid_of(labels))
    plain = write(tmp_path / "a.geojson", regions).read_bytes()
    packed = write(tmp_path / "a.geojson.gz", regions).read_bytes()
    assert gzip.decompress(packed) == plain
    assert packed[3] == 0  # no name
    assert packed[4:8] == b"\0\0\0\0"  # no time
    assert len(packed) < len(plain) / 3


def test_one_feature_a_line(tmp_path: Path) -> None:
    labels = label_map()
    regions = regions_of(labels, grid_of(labels))
    assert len(write(tmp_path / "a.geojson", regions).read_text().splitlines()) == len(regions) + 2


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_interrupted_writing_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for before in (None, b"earlier"):
        if before:
            path.write_bytes(before)
        with pytest.raises(KeyboardInterrupt), GeoJsonWriter(path) as writer:
            for _ in range(1000):
                writer.write(a_region())
            raise KeyboardInterrupt
        assert [p.name for p in tmp_path.iterdir()] == ([name] if before else [])
    assert path.read_bytes() == b"earlier"


def test_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.geojson"
    with GeoJsonWriter(path) as writer:
        writer.write(a_region())
        assert not path.exists()
    assert path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.geojson"]


def test_bad_rings_are_refused_and_leave_no_file(tmp_path: Path) -> None:
    for polygons, words in (
        (((SQUARE[:-1],),), "a ring must be closed"),
        (((SQUARE[[0, 1, 0]],),), "four vertices"),
        (((SQUARE * math.nan,),), "must be closed"),
        (((SQUARE + math.inf,),), "not finite"),
        (((SQUARE, SQUARE[:-1] / 4),), "a ring must be closed"),
        (((SQUARE * 1e-4,),), "has no area once it is rounded"),
        (((SQUARE * (1, 0),),), "has no area once it is rounded"),
    ):
        with (
            np.errstate(invalid="ignore"),
            pytest.raises(ValueError, match=f"region {a_region().id}: .*{words}"),
            GeoJsonWriter(tmp_path / "a.geojson") as writer,
        ):
            writer.write_all([Region(str(uuid.uuid4()), SCHEME.by_id(2), ((SQUARE,),)), a_region(*polygons)])
    with pytest.raises(ValueError, match="has no polygon"), GeoJsonWriter(tmp_path / "a.geojson") as writer:
        writer.write(Region("x", SCHEME.by_id(1), ()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.GEOJSON", "a.geojson.zip"])
def test_endings_that_qupath_does_not_read_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="QuPath reads no file of this ending; use one of"):
        GeoJsonWriter(tmp_path / name)


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match=r"missing.a.geojson: cannot be written \(No such file.*check the folder"),
        GeoJsonWriter(tmp_path / "missing" / "a.geojson"),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
@pytest.mark.parametrize("vertices", [5, 500_000])
def test_full_disk_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, vertices: int
) -> None:
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: real(Path("/dev/full") if self.name.endswith(".tmp") else self, *a, **k)
    )
    with pytest.raises(OutputError, match=f"{name}: .*No space left"), GeoJsonWriter(tmp_path / name) as writer:
        writer.write(a_region((np.tile(SQUARE, (vertices // 5, 1)),)))
    assert not list(tmp_path.iterdir())


@st.composite
def regions_to_write(draw: st.DrawFn) -> list[Region]:
    """Regions of rectangles and holes with nasty names and numbers."""
    names = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=":"), min_size=1, max_size=12)
    numbers = st.floats(-1e7, 1e7)
    regions = []
    for number in range(draw(st.integers(0, 5))):
        polygons = []
        for _ in range(draw(st.integers(1, 3))):
            corner = draw(st.tuples(numbers, numbers))
            rings = [SQUARE * draw(st.floats(0.1, 1e5)) + corner for _ in range(draw(st.integers(1, 3)))]
            polygons.append(tuple(rings))
        name = draw(names.map(str.strip).filter(bool))
        measurements = draw(st.dictionaries(names.map("DualProto {}".format), st.floats(allow_nan=False)))
        tissue = TissueClass(number + 1, f"{number} {name}", (draw(st.integers(0, 255)), 0, 255))
        regions.append(Region(str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))), tissue, tuple(polygons), measurements))
    return regions


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(regions_to_write(), st.tuples(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5)))
def test_what_is_written_is_read(tmp_path: Path, regions: list[Region], offset: tuple[float, float]) -> None:
    paths = [tmp_path / "a.geojson", tmp_path / "a.geojson.gz"]
    with GeoJsonWriter(paths, offset=offset) as writer:
        writer.write_all(regions)
    scheme = ClassScheme(tuple(r.tissue_class for r in regions)) if regions else SCHEME
    for path in paths:
        found = list(read_regions(path, scheme))
        assert [r.id for r in found] == [r.id for r in regions]
        for one, two in zip(found, regions, strict=True):
            assert one.tissue_class == two.tissue_class
            assert one.measurements == {k: v for k, v in two.measurements.items() if math.isfinite(v)}
            assert [len(p) for p in one.polygons] == [len(p) for p in two.polygons]
            for ring, original in zip(one.rings, two.rings, strict=True):
                expected = np.round(original - offset, 2)
                assert np.array_equal(ring, expected)


def test_bytes_do_not_depend_on_how_regions_are_handed_over(tmp_path: Path) -> None:
    regions = [a_region((np.tile(SQUARE + number / 7, (3000, 1)),)) for number in range(30)]
    one = write(tmp_path / "a.geojson.gz", regions).read_bytes()
    with GeoJsonWriter(tmp_path / "b.geojson.gz") as writer:
        writer.write_all(regions[:17])
        writer.write_all(regions[17:])
    assert len(gzip.decompress(one)) > 3 << 20
    assert (tmp_path / "b.geojson.gz").read_bytes() == one


def test_memory_is_flat(tmp_path: Path) -> None:
    region = a_region((np.tile(SQUARE, (2000, 1)),))

    def peak(count: int) -> int:
        tracemalloc.start()
        with GeoJsonWriter([tmp_path / "a.geojson", tmp_path / "a.geojson.gz"]) as writer:
            writer.write_all(itertools.repeat(region, count))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(10)
    few = peak(60)
    assert peak(300) < 1.2 * few
    assert (tmp_path / "a.geojson").stat().st_size > 15e6
