from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.settings import TissueSettings
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.slide.tissue import TissueMask, find_tissue, glass_colour, tissue_colours

MPP = 2.0
HEIGHT, WIDTH = 1000, 1400
GLASS = (243, 243, 240)
EOSIN, HAEMATOXYLIN = np.array([0.07, 0.99, 0.11]), np.array([0.65, 0.70, 0.29])  # Ruifrok and Johnston, 2001


def disc(x: float = 700, y: float = 500, radius: float = 300) -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2 < radius**2


def scan(glass=GLASS, tissue=None, strength=0.25, seed=0) -> np.ndarray:
    """A made-up scan: glass, and stain of varying amount where there is tissue; float, no noise yet."""
    picture = np.broadcast_to(np.array(glass, float), (HEIGHT, WIDTH, 3)).copy()
    if tissue is not None:
        generator = np.random.default_rng(seed)
        amounts = [
            cv2.resize(generator.uniform(low, 1.4, (HEIGHT // 20, WIDTH // 20)), (WIDTH, HEIGHT))[..., None] * strength
            for low in (0.6, 0.0)
        ]
        density = amounts[0] * EOSIN + 0.4 * amounts[1] * HAEMATOXYLIN
        picture[tissue] = (picture * 10**-density)[tissue]
    return picture


@pytest.fixture
def found(tmp_path, write_slide):
    """Write a picture as a JPEG slide with grain, and find its tissue."""

    def find(picture: np.ndarray, wanted: TissueSettings | None = None) -> TissueMask:
        grain = np.random.default_rng(1).normal(0, 4, picture.shape)
        pixels = np.clip(picture + grain, 0, 255).astype(np.uint8)
        path = write_slide(tmp_path / "made.tif", pixels, MPP, compression="jpeg", compressionargs={"level": 70})
        with open_slide(path) as slide:
            return find_tissue(slide, wanted or TissueSettings(), MPP)

    return find


def at_full_size(mask: TissueMask) -> np.ndarray:
    return mask.sample(LabelGrid.over(mask.box, MPP, MPP), 0, HEIGHT)


def overlap(mask: TissueMask, truth: np.ndarray) -> float:
    got = at_full_size(mask)
    return float((got & truth).sum() / (got | truth).sum())


@pytest.mark.parametrize(
    ("strength", "glass"), [(0.05, GLASS), (0.1, (232, 228, 214)), (0.3, GLASS), (0.8, (225, 224, 228))]
)
def test_pale_and_dark_tissue_on_any_glass(found, strength, glass):
    mask = found(scan(glass, disc(), strength))
    assert overlap(mask, disc()) > 0.96
    assert mask.area_mm2 == pytest.approx(np.pi * 0.6**2, rel=0.03)


def test_pale_tissue_beside_dark_tissue_is_kept(found):
    pale, dark = disc(350, 500, 250), disc(1000, 500, 250)
    picture = scan(tissue=dark, strength=0.9)
    picture[pale] = scan(tissue=pale, strength=0.06)[pale]
    assert overlap(found(picture), pale | dark) > 0.96


@pytest.mark.parametrize("strength", [0.08, 0.8])
def test_a_slide_full_of_tissue_has_no_glass_to_compare_with(found, strength):
    assert found(scan(tissue=np.ones((HEIGHT, WIDTH), bool), strength=strength)).fraction > 0.99


@pytest.mark.parametrize("glass", [(255, 255, 255), GLASS, (205, 203, 206), (232, 228, 214)])
def test_empty_glass_is_empty(found, glass):
    shade = np.linspace(0.94, 1.0, WIDTH)[None, :, None]
    mask = found(scan(glass) * shade)
    assert (mask.area_mm2, mask.fraction) == (0, 0)
    assert not mask.overlaps(mask.box)
    assert not at_full_size(mask).any()


def test_shadows_dust_and_borders_are_not_tissue(found):
    picture = scan()
    picture[disc(300, 300, 150)] *= 0.75  # a shadow
    picture[disc(800, 300, 60)] = (70, 68, 72)  # dirt
    picture[:, :60] = (4, 3, 5)  # outside the scanner's field
    picture[-90:] = 255  # never scanned
    picture[:, 900:906] *= 0.5  # an edge of the cover slip
    assert found(picture).area_mm2 == 0


BLUE, GREEN, BLACK = (25, 50, 160), (20, 110, 60), (30, 28, 34)
RED, DARK_RED, ORANGE, YELLOW = (205, 30, 40), (170, 20, 35), (240, 120, 30), (250, 225, 50)


@pytest.mark.parametrize("ink", [BLUE, (60, 90, 200), GREEN, BLACK, RED, DARK_RED, ORANGE, YELLOW])
def test_ink_is_not_tissue(found, ink):
    tissue = disc(400, 500, 250)
    picture = scan(tissue=tissue)
    pen = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.polylines(pen, [np.array([[800, 100], [1200, 400], [900, 900]])], False, 1, 40, cv2.LINE_AA)
    picture[pen > 0] = ink
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    mask = found(picture)
    assert overlap(mask, tissue) > 0.95
    assert (at_full_size(mask) & (pen > 0)).sum() < 0.02 * pen.sum()


@pytest.mark.parametrize(
    "density",
    [
        (0.19, 0.48, 0.36),  # red blood cells
        (0.39, 1.07, 0.80),  # the same, thick
        (0.03, 0.45, 0.24),  # muscle in vivid eosin
        (0.05, 0.48, 0.30),
    ],
)
def test_blood_and_eosin_are_no_red_ink(found, density):
    picture = scan()
    picture[disc()] = picture[disc()] * 10 ** -np.array(density)
    assert overlap(found(picture), disc()) > 0.97


@pytest.mark.parametrize("ink", [BLUE, GREEN, RED, DARK_RED, ORANGE])
@pytest.mark.parametrize(("name", "mpp"), [("CMU-1-Small-Region.svs", 0.499), ("tcga-cr-7395-01a-01-ts1.svs", 0.25)])
def test_pens_on_real_slides(shared, name, mpp, ink):
    """A stroke that lets light through, with a soft rim: gone from the glass, and tissue beside it is kept."""
    with open_slide(shared / "data/slides" / name) as slide:
        before = find_tissue(slide, TissueSettings(), mpp)
    thumbnail, tissue = before.thumbnail, before.field >= 128
    height, width = tissue.shape
    px_um = before.box.width / width * mpp
    amount = np.zeros((height, width), np.float32)
    corners = np.array([(0.05, 0.1), (0.6, 0.2), (0.95, 0.6), (0.1, 0.7)]) * (width, height)
    cv2.polylines(amount, [corners.astype(np.int32)], True, 0.8, round(300 / px_um), cv2.LINE_AA)
    amount = cv2.GaussianBlur(amount, (0, 0), 10 / px_um)[..., None]
    painted = thumbnail * ((np.array(ink) + 1) / 245) ** amount
    got = tissue_colours(painted.astype(np.uint8), px_um)
    glass = (amount[..., 0] > 0.4) & ~cv2.dilate(tissue.view(np.uint8), np.ones((5, 5))).astype(bool)
    assert glass.sum() > 1000
    assert got[glass].mean() < 0.03
    reach = 2 * round(80 / px_um) + 1
    far = cv2.dilate((amount > 0.01).astype(np.uint8), np.ones((reach, reach), np.uint8)) == 0
    assert (got ^ tissue_colours(thumbnail, px_um))[far].mean() < 0.005


def test_rows_at_once_make_no_difference(monkeypatch):
    picture = scan(tissue=disc(), strength=0.3)
    picture[450:550, 300:] = RED
    picture[:, 100:140] = BLUE
    picture = np.random.default_rng(0).normal(picture, 3).clip(0, 255).astype(np.uint8)
    found = tissue_colours(picture, 4.0)
    for rows in (7, 10_000):
        monkeypatch.setattr("dualproto_wsi.slide.tissue.ROWS_AT_ONCE", rows)
        assert np.array_equal(tissue_colours(picture, 4.0), found)


def test_small_pieces_go_and_small_holes_close(found):
    radius_px = {"crumb": 20, "piece": 45, "hole": 5, "lumen": 60}  # 0.005, 0.025, 0.0003, 0.045 mm²
    tissue = disc(500, 500, 300)
    hole, lumen = disc(500, 300, radius_px["hole"]), disc(500, 600, radius_px["lumen"])
    crumb, piece = disc(1200, 200, radius_px["crumb"]), disc(1200, 700, radius_px["piece"])
    got = at_full_size(found(scan(tissue=(tissue & ~hole & ~lumen) | crumb | piece, strength=0.4)))
    assert got[hole].all()
    assert not got[lumen & disc(500, 600, 45)].any()
    assert not got[crumb].any()
    assert got[piece & disc(1200, 700, 35)].all()
    kept = at_full_size(found(scan(tissue=crumb, strength=0.4), TissueSettings(min_area_mm2=0.002)))
    assert kept[crumb].mean() > 0.9


def test_the_outline_is_smooth_on_a_finer_grid(found):
    mask = found(scan(tissue=disc(), strength=0.4))
    got = at_full_size(mask)
    rows, columns = np.nonzero(got ^ cv2.erode(got.astype(np.uint8), np.ones((3, 3))).astype(bool))
    distance = np.hypot(columns + 0.5 - 700, rows + 0.5 - 500)
    assert distance.std() < 2  # px of 2 µm, where the mask's own are 4 µm
    runs = np.diff(np.nonzero(np.diff(got[:, 400:1000].sum(axis=1)))[0])
    assert np.median(runs) < 3  # steps of the outline from row to row, not every 4th


def test_a_grid_off_the_content_box_is_sampled_in_its_own_place(found):
    mask = found(scan(tissue=disc(), strength=0.4))
    whole = at_full_size(mask)
    part = mask.sample(LabelGrid(301, 203, 1.0, MPP, 500, 400), 100, 50)
    assert (part == whole[303:353, 301:801]).mean() > 0.999


def test_sampling_in_bands_and_wide_grids_equals_sampling_at_once(monkeypatch):
    generator = np.random.default_rng(3)
    field = cv2.GaussianBlur(generator.integers(0, 2, (60, 90), dtype=np.uint8) * 255, (0, 0), 2)
    mask = TissueMask(np.zeros((60, 90, 3), np.uint8), Box(10, 20, 900, 600), 1.0, field)
    grid = LabelGrid(10, 20, 3.7, 3.7, 243, 162)
    once = mask.sample(grid, 0, 162)
    bands = np.vstack([mask.sample(grid, row, min(50, 162 - row)) for row in range(0, 162, 50)])
    monkeypatch.setattr("dualproto_wsi.slide.tissue.COLUMNS_AT_ONCE", 100)
    assert (bands == once).mean() > 0.999  # cv2 interpolates at steps of 1/32 px
    assert (mask.sample(grid, 0, 162) == once).mean() > 0.999


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.3, 40), data=st.data())
def test_wherever_a_cell_is_tissue_its_box_overlaps(seed, scale, data):
    generator = np.random.default_rng(seed)
    field = (generator.random((23, 31)) < 0.05).astype(np.uint8) * 255
    mask = TissueMask(np.zeros((23, 31, 3), np.uint8), Box(5.5, 7.25, 310, 230), 1.0, field)
    grid = LabelGrid.over(Box(5.5, 7.25, 310, 230), 1.0, max(scale, 1.0))
    cells = mask.sample(grid, 0, grid.rows)
    rows, columns = np.nonzero(cells)
    if len(rows):
        i = data.draw(st.integers(0, len(rows) - 1))
        cell = Box(grid.x + columns[i] * grid.scale, grid.y + rows[i] * grid.scale, grid.scale, grid.scale)
        assert mask.overlaps(cell)
    assert not mask.overlaps(Box(1000, 1000, 50, 50))
    assert not mask.overlaps(Box(-1000, -1000, 50, 50))


def test_a_slide_smaller_than_a_thumbnail_pixel(tmp_path, write_slide):
    path = write_slide(tmp_path / "tiny.tif", np.full((8, 8, 3), (200, 120, 170), np.uint8))
    with open_slide(path) as slide:
        mask = find_tissue(slide, TissueSettings(min_area_mm2=0), 0.5)
    assert mask.thumbnail.shape == (1, 1, 3)
    assert mask.fraction == 1


def test_glass_colour():
    pixels = np.vstack([np.full((900, 3), (232, 228, 214)), np.full((1100, 3), (225, 190, 215))]).astype(np.uint8)
    assert glass_colour(pixels).tolist() == [232, 228, 214]
    assert glass_colour(pixels[900:]).tolist() == [255, 255, 255]
    assert glass_colour(np.empty((0, 3), np.uint8)).tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("name", "mpp", "low", "high"),
    [
        ("CMU-1-Small-Region.svs", 0.499, 0.36, 0.42),
        ("tcga-cr-7395-01a-01-ts1.svs", 0.25, 0.61, 0.70),
        ("breast-lobular-carcinoma-20x.tif", 0.5056, 0.09, 0.11),
    ],
)
def test_real_slides_looked_at(shared, name, mpp, low, high):
    with open_slide(shared / "data/slides" / name) as slide:
        assert low < find_tissue(slide, TissueSettings(), mpp).fraction < high


def test_only_what_lies_in_polygons_is_kept():
    field = np.full((60, 80), 255, np.uint8)
    field[:, 70:] = 0
    mask = TissueMask(np.zeros((60, 80, 3), np.uint8), Box(100, 200, 800, 600), 0.5, field)
    shell = np.array([[300.0, 300], [1000, 300], [1000, 600], [300, 600], [300, 300]])
    hole = np.array([[400.0, 400], [500, 400], [500, 500], [400, 500], [400, 400]])
    again = shell - (0, 50)
    part = mask.within([(shell, hole)])
    assert part.area_mm2 == pytest.approx((500 * 300 - 100 * 100) * 0.25e-6, rel=0.1)
    assert part.field[25, 35] == 0  # in the hole
    assert part.field[15, 25] == 255
    assert not part.field[:, 70:].any()
    assert mask.within([(shell, hole), (again,)]).field[25, 35] == 255
    assert mask.field[0, 0] == 255
