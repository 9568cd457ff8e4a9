"""Measures against what is known of made-up maps, by hand and by formula."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dualproto_wsi.errors import DataError
from dualproto_wsi.stats.cohort.definitions import Definitions, find_roles
from dualproto_wsi.stats.cohort.formula import compute_values
from dualproto_wsi.stats.cohort.measures import list_formulas
from dualproto_wsi.stats.cohort.model import Value
from dualproto_wsi.stats.cohort.quantities import Quantities
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.workflow.checks.verify_record import read_told
from dualproto_wsi.workflow.cohort.measure import MapMeter, measure_slide
from dualproto_wsi.workflow.cohort.rasters import read_bands

T, S, L, N = 1, 2, 3, 4


@pytest.fixture(scope="session")
def definitions(synthetic: ModuleType) -> Definitions:
    classes = synthetic.CLASSES
    return Definitions(classes, find_roles(classes, {}), (100.0, 250.0, 500.0), 0.01, 200.0, 5)


def measure(
    labels: np.ndarray, definitions: Definitions, cell_um: float = 10.0, cuts: tuple[int, ...] = ()
) -> Quantities:
    meter = MapMeter(labels.shape, cell_um, definitions)
    for start, stop in zip((0, *cuts), (*cuts, len(labels)), strict=True):
        meter.add(labels[start:stop])
    return meter.finish()


def values(labels: np.ndarray, definitions: Definitions, cell_um: float = 10.0) -> dict[str, Value]:
    return compute_values(measure(labels, definitions, cell_um), list_formulas(definitions), definitions.roles)


def test_a_half_plane_is_exact(definitions: Definitions) -> None:
    labels = np.full((200, 200), S, np.uint8)  # 2 x 2 mm
    labels[:, :100] = T
    labels[:, 100:106] = L  # 60 µm along the front
    labels[150:, 130:] = 0
    found = values(labels, definitions)
    assert found["analysed_mm2"] == pytest.approx(4 - 0.35)
    assert found["tumor_mm2"] == pytest.approx(2)
    assert found["stroma_mm2"] == pytest.approx(2 - 0.12 - 0.35)
    assert found["tumor_fraction"] == pytest.approx(2 / 3.65)
    assert found["tumor_stroma_ratio"] == pytest.approx(1.53 / 3.53)
    assert found["stromal_lymphocyte_fraction"] == pytest.approx(0.12 / (0.12 + 1.53))
    assert found["intratumoral_lymphocyte_fraction"] == 0
    assert found["margin_out_0_100um_lymphocyte_fraction"] == pytest.approx(0.6)
    assert found["margin_out_100_250um_lymphocyte_fraction"] == 0
    assert found["margin_in_250_500um_lymphocyte_fraction"] == 0
    assert found["margin_mm2"] == pytest.approx(1 + 1 - 0.1)
    assert found["margin_lymphocyte_fraction"] == pytest.approx(0.12 / 1.9)
    assert found["necrosis_of_tumor_fraction"] == 0
    assert found["unsure_fraction"] == 0
    assert found["mean_confidence"] is None
    assert (found["tumor_regions"], found["necrosis_regions"]) == (1, 0)
    assert found["tumor_region_largest_mm2"] == pytest.approx(2)
    assert found["necrosis_region_median_mm2"] is None


@pytest.mark.parametrize(("cell_um", "error"), [(2.0, 0.005), (4.0, 0.005), (8.0, 0.01)])
def test_discs_by_formula(synthetic: ModuleType, definitions: Definitions, cell_um: float, error: float) -> None:
    """All is within 0.5 % of the discs' formulas with cells of 2 and 4 µm, within 1 % with 8 µm.

    But the bands of the margin: their limits are right to half a cell.
    """
    discs = synthetic.Discs(400, 1000, 1080, 1900)
    found, area = values(discs.draw(cell_um), definitions, cell_um), discs.mm2()
    for name, value in area.items():
        assert found[f"{name.lower()}_mm2"] == pytest.approx(value, rel=error)
    total = math.pi * 1.9**2

    def ring(inner: float, outer: float) -> float:
        return math.pi * (outer**2 - inner**2) * 1e-6

    expected = {
        "analysed_mm2": total,
        "lymphocyte_fraction": area["Lymphocyte"] / total,
        "tumor_stroma_ratio": area["Stroma"] / (area["Stroma"] + area["Tumor"]),
        "stromal_lymphocyte_fraction": area["Lymphocyte"] / (area["Lymphocyte"] + area["Stroma"]),
        "necrosis_of_tumor_fraction": area["Necrosis"] / (area["Necrosis"] + area["Tumor"]),
        "border_mm_per_mm2": 2 * math.pi * (0.4 + 1 + 1.08) / total,
        "tumor_border_mm_per_mm2": 2 * math.pi * 1.4 / area["Tumor"],
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=error)
    half = cell_um / 2
    margin, share = found["margin_mm2"], found["margin_out_0_100um_lymphocyte_fraction"]
    assert ring(500, 1500) <= margin <= ring(500 - half, 1500 + half)
    assert area["Lymphocyte"] / ring(1000, 1100 + half) <= share <= area["Lymphocyte"] / ring(1000, 1100)
    assert found["margin_lymphocyte_fraction"] == pytest.approx(found["lymphocyte_mm2"] / margin)
    assert found["intratumoral_lymphocyte_fraction"] == found["margin_in_0_100um_lymphocyte_fraction"] == 0


def test_only_large_tumor_regions_and_gaps_make_a_front(definitions: Definitions) -> None:
    labels = np.full((300, 300), S, np.uint8)
    labels[100:200, 100:200] = T  # 1 mm²
    labels[120:129, 120:130] = L  # an enclosed gap of 0.009 mm²: part of the body
    labels[150:160, 150:160] = L  # one of 0.01 mm²: a front of its own
    labels[20:29, 20:30] = T  # a piece of 0.009 mm²: none
    found = values(labels, definitions)
    assert found["intratumoral_lymphocyte_fraction"] == pytest.approx(0.009 / (0.009 + 1 - 0.019))
    outside = 9 - 1 - 0.009
    assert found["stromal_lymphocyte_fraction"] == pytest.approx(0.01 / (0.01 + outside))
    assert found["tumor_mm2"] == pytest.approx(1 - 0.019 + 0.009)
    assert found["margin_out_0_100um_lymphocyte_fraction"] == pytest.approx(100 / (100 + ring_cells(labels)), rel=1e-12)


def ring_cells(labels: np.ndarray) -> int:
    """Return the stroma cells up to 100 µm outside a square of cells, counted by scipy on the whole map."""
    body = np.zeros(labels.shape, np.bool_)
    body[100:200, 100:200] = True
    distance = ndimage.distance_transform_edt(~body) - 0.5
    return int(((distance <= 10) & ~body & (labels == S)).sum())


def test_necrosis_is_inside_the_front(synthetic: ModuleType, definitions: Definitions) -> None:
    found = values(synthetic.Discs(600, 800, 900, 1500).draw(10.0), definitions)
    assert found["margin_mm2"] == pytest.approx(math.pi * (1.3**2 - 0.3**2), rel=0.01)


def test_mixing_by_hand(definitions: Definitions) -> None:
    labels = np.full((40, 40), S, np.uint8)  # 2 x 2 squares of 20 cells
    labels[:20, :20][:10] = T  # t: 200
    labels[:20, :20][10:15] = L  # l: 100
    labels[20:, :20] = T  # t: 400
    labels[20:, 20:][:5] = L  # l: 100
    t, cells = np.array([200, 0, 400, 0]) / 600, np.array([100, 0, 0, 100]) / 200
    expected = 2 * (t * cells).sum() / ((t**2).sum() + (cells**2).sum())
    assert values(labels, definitions)["tumor_lymphocyte_morisita_horn"] == pytest.approx(expected)
    labels[:] = S
    labels[::2, ::2], labels[1::2, 1::2] = T, L
    assert values(labels, definitions)["tumor_lymphocyte_morisita_horn"] == pytest.approx(1)
    labels[:, :20], labels[:, 20:] = T, L
    assert values(labels, definitions)["tumor_lymphocyte_morisita_horn"] == 0
    labels[:] = T
    assert values(labels, definitions)["tumor_lymphocyte_morisita_horn"] is None


def test_region_sizes_by_hand(definitions: Definitions) -> None:
    labels = np.full((30, 30), S, np.uint8)
    for place, size in ((2, 1), (6, 2), (10, 3), (15, 4)):
        labels[place, 2 : 2 + size] = L
    labels[3, 3] = L  # touches the first one at a corner: another region
    found = values(labels, definitions)
    names = ("regions", "region_q1_mm2", "region_median_mm2", "region_q3_mm2", "region_largest_mm2")
    expected = [5, *(np.quantile([1, 1, 2, 3, 4], (0.25, 0.5, 0.75, 1)) * 1e-4)]
    assert [found[f"lymphocyte_{name}"] for name in names] == pytest.approx(expected)


def test_classes_that_the_model_has_not(synthetic: ModuleType) -> None:
    classes = type(synthetic.CLASSES)(synthetic.CLASSES.classes[:2])
    definitions = Definitions(classes, find_roles(classes, {}), (100.0,), 0.01, 200.0, 5)
    labels = np.full((60, 60), S, np.uint8)
    labels[:, :30] = T
    labels[0] = 255
    found = values(labels, definitions)
    missing = {name for name, value in found.items() if value is None}
    assert missing == {
        "stromal_lymphocyte_fraction",
        "intratumoral_lymphocyte_fraction",
        "necrosis_of_tumor_fraction",
        "margin_lymphocyte_fraction",
        "margin_in_0_100um_lymphocyte_fraction",
        "margin_out_0_100um_lymphocyte_fraction",
        "tumor_lymphocyte_morisita_horn",
        "mean_confidence",
    }
    assert found["unsure_fraction"] == pytest.approx(1 / 60)
    nobody = Definitions(classes, {}, (100.0,), 0.01, 200.0, 5)
    assert values(labels, nobody)["tumor_stroma_ratio"] is None
    assert values(labels, nobody)["margin_mm2"] is None
    assert values(labels, nobody)["tumor_fraction"] == pytest.approx(59 / 120)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 80), max_size=4))
def test_bands_change_nothing(definitions: Definitions, seed: int, cuts: list[int]) -> None:
    generator = np.random.default_rng(seed)
    noise = ndimage.uniform_filter(generator.random((5, 80, 60)), (0, 7, 7))
    labels = noise.argmax(0).astype(np.uint8)
    whole, cut = measure(labels, definitions, 20.0), measure(labels, definitions, 20.0, tuple(sorted(cuts)))
    assert np.allclose(whole.blocks, cut.blocks, rtol=1e-12, atol=1e-15)
    assert all(np.array_equal(a, b) for a, b in zip(whole.regions, cut.regions, strict=True))


def test_from_files(synthetic: ModuleType, definitions: Definitions, tmp_path) -> None:
    labels = synthetic.Discs(200, 600, 700, 1000).draw()
    formulas = list_formulas(definitions)
    found = {}
    for name, confidence in (("with.tif", True), ("without.tif", False)):
        folder = synthetic.write_result(tmp_path / "out", name, labels, probability=0.8, confidence=confidence)
        told = read_told(folder)
        assert np.array_equal(np.concatenate(list(read_bands(folder / "labels.tif", told.grid))), labels)
        found[name] = compute_values(measure_slide(folder, told, definitions), formulas, definitions.roles)
    assert found["with.tif"] == pytest.approx(found["without.tif"], abs=1e-4)
    assert found["with.tif"]["mean_confidence"] == pytest.approx(0.8)
    for name in ("confidence.tif", "with.tif.geojson", "overlay.png"):
        (tmp_path / "out" / "with.tif" / name).unlink()  # the label map is enough
    folder = tmp_path / "out" / "with.tif"
    bare = compute_values(measure_slide(folder, read_told(folder), definitions), formulas, definitions.roles)
    assert bare == found["with.tif"] | {"mean_confidence": None}
    assert found["with.tif"] | {"mean_confidence": None} == values(labels, definitions, synthetic.CELL_UM)


def test_a_large_map_is_read_in_bands(synthetic: ModuleType, tmp_path) -> None:
    labels = np.random.default_rng(0).integers(0, 5, (1300, 1100)).astype(np.uint8)
    labels = ndimage.zoom(labels[:130, :110], 10, order=0)
    folder = synthetic.write_result(tmp_path / "out", "large.tif", labels)
    bands = list(read_bands(folder / "labels.tif", read_told(folder).grid))
    assert [len(band) for band in bands] == [512, 512, 276]
    assert np.array_equal(np.concatenate(bands), read_raster(folder / "labels.tif"))


def test_files_that_are_not_right(synthetic: ModuleType, definitions: Definitions, tmp_path) -> None:
    labels = synthetic.Discs(0, 300, 350, 500).draw()
    folder = synthetic.write_result(tmp_path / "out", "a.tif", labels)
    told, path = read_told(folder), folder / "labels.tif"
    other = synthetic.write_result(tmp_path / "out", "b.tif", np.where(labels == 1, 0, labels))
    smaller = synthetic.write_result(tmp_path / "out", "c.tif", labels[:-1])

    data = path.read_bytes()
    path.write_bytes((other / "labels.tif").read_bytes())
    with pytest.raises(DataError) as error:
        measure_slide(folder, told, definitions)
    assert str(error.value) == (
        f"{path}: has 0.502528 mm² of tissue, record.json says 0.784384 mm²; see `dualproto-wsi verify`, and run "
        "`segment` again"
    )

    path.write_bytes((smaller / "labels.tif").read_bytes())
    with pytest.raises(DataError) as error:
        measure_slide(folder, told, definitions)
    rows, columns = labels.shape
    assert str(error.value) == (
        f"{path}: is uint8 ({rows - 1}, {columns}), record.json says uint8 ({rows}, {columns}); run `segment` again"
    )

    for damaged in (data[: len(data) // 2], data[:-50] + b"x" * 50, data[:5], b"no TIFF"):
        path.write_bytes(damaged)
        with pytest.raises(
            DataError, match=r"labels\.tif: cannot be read, is it damaged\? \(.*\); run `segment` again"
        ):
            measure_slide(folder, told, definitions)
    path.unlink()
    with pytest.raises(DataError, match=r"labels\.tif: is not there; run `segment` again$"):
        measure_slide(folder, told, definitions)
