"""Quality of a slide as a picture: focus, stain, pen marks.

Every measure is taken from pixels that are read anyway: some of the windows, and the overview that tissue was found on.
Flags are only raised where an absolute limit can be defended; what is odd among the slides of a study is for the study.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.slide.tiling import Tile, TilePlan
from dualproto_wsi.slide.tissue import INSIDE, TissueMask, glass_colour, ink_colours, optical_density

Pixels = npt.NDArray[np.uint8]

FOCUS_UM = 0.5
"""µm per px at which focus is measured."""
COARSEST_UM = 0.6
"""Windows coarser than this, µm per px, say nothing of focus."""
MOST_WINDOWS = 100
"""As many windows of a slide are looked at, evenly spread."""
LEAST_TISSUE = 0.5
"""Share of a window that must be tissue."""

BLURRED_BELOW = 40.0
"""Focus of a blurred window. Of the sharp windows of three slides 95 in 100 have 230 and more; of the same windows
after a Gaussian blur of sigma 1 µm, 95 in 100 have 39 and less."""
BLURRED_SHARE = 0.25
"""So many blurred windows make a slide blurred: a fold or a bubble alone does not."""
PEN_SHARE = 0.01
"""So much ink, by area of tissue, makes a pen mark; slides without one have none at all."""
PALE_BELOW = 0.05
"""Mean optical density of the tissue, over red, green and blue. Slides of full stain have 0.25, the palest good one
known here 0.08; at half of that, tissue is no longer told from glass everywhere."""
FIELD_MM2 = 0.2
"""A high-power field of a microscope."""

OVERVIEW_PX = 500_000
_STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical densities of haematoxylin, eosin and DAB (Ruifrok & Johnston, 2001), a row a stain."""


@dataclass(frozen=True, slots=True)
class SlideQuality:
    """What can be said of a slide as a picture; what could not be measured is None.

    Parameters
    ----------
    focus : float or None
        Median over windows of the variance of the Laplacian at :data:`FOCUS_UM` (Pech-Pacheco et al., 2000,
        doi:10.1109/ICPR.2000.903548), squared 8-bit grey levels; more is sharper.
    blurred_share : float or None
        Share of the windows below :data:`BLURRED_BELOW`, 0…1.
    focus_windows : int
        Windows that were looked at.
    haematoxylin_od, haematoxylin_sd, eosin_od, eosin_sd : float or None
        Mean and standard deviation over the tissue of each stain's optical density (base 10, against the slide's own
        glass), unmixed by the vectors of Ruifrok & Johnston (2001).
    density : float or None
        Mean optical density of the tissue over red, green and blue.
    ink_share : float or None
        Area of blue, green, red and orange ink by area of tissue; it may exceed 1.
    tissue_mm2 : float
        Area of all tissue of the slide.
    analysed_share : float or None
        Part of it that was analysed.
    flags : tuple of str
        ``blurred``, ``pen``, ``pale``, ``little tissue``.
    """

    focus: float | None
    blurred_share: float | None
    focus_windows: int
    haematoxylin_od: float | None
    haematoxylin_sd: float | None
    eosin_od: float | None
    eosin_sd: float | None
    density: float | None
    ink_share: float | None
    tissue_mm2: float
    analysed_share: float | None
    flags: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data, numbers to six digits."""
        data = asdict(self) | {"flags": list(self.flags)}
        return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in data.items()}


class FocusTally:
    """Collects the focus of some windows of a slide.

    Parameters
    ----------
    plan : TilePlan
        All windows.
    grid : LabelGrid
    tissue : TissueMask
    mpp : float
        µm per px of the windows.
    """

    def __init__(self, plan: TilePlan, grid: LabelGrid, tissue: TissueMask, mpp: float) -> None:
        self._mpp = mpp
        self._chosen = _chosen_tiles(plan, grid, tissue) if mpp <= COARSEST_UM else frozenset()
        self.values: list[float] = []

    def add(self, tiles: Sequence[Tile], windows: Pixels) -> None:
        """Take windows, RGB, uint8 (n, h, w, 3), and where they lie; those not of the sample are passed over."""
        for tile, window in zip(tiles, windows, strict=True):
            if tile in self._chosen:
                self.values.append(focus_of(window, self._mpp))


def _chosen_tiles(plan: TilePlan, grid: LabelGrid, tissue: TissueMask) -> frozenset[Tile]:
    """Return an even sample of the windows that are mostly tissue."""
    every = max(1, plan.tiles // (2 * MOST_WINDOWS))
    tiles = [(tile, block) for block in plan.blocks for tile in block.tiles][::every]
    found = []
    for tile, block in tiles:
        side = block.window_px / block.stride_px * grid.scale
        box = Box(grid.x + tile.column * grid.scale, grid.y + tile.row * grid.scale, side, side)
        if tissue_share(tissue, box) >= LEAST_TISSUE:
            found.append(tile)
    return frozenset(found[:: max(1, math.ceil(len(found) / MOST_WINDOWS))])


def tissue_share(tissue: TissueMask, box: Box) -> float:
    """Return the share of a box (level-0 px) that is tissue, 0…1; what lies outside the mask is none."""
    height, width = tissue.field.shape
    px, py = tissue.box.width / width, tissue.box.height / height
    left, top = max(0, round((box.x - tissue.box.x) / px)), max(0, round((box.y - tissue.box.y) / py))
    part = tissue.field[
        top : round((box.bottom - tissue.box.y) / py) + 1, left : round((box.right - tissue.box.x) / px) + 1
    ]
    whole = max(1.0, (box.width / px) * (box.height / py))
    return min(1.0, float(np.count_nonzero(part >= INSIDE)) / float(whole))


def focus_of(window: Pixels, mpp: float) -> float:
    """Return the variance of the Laplacian of a window at :data:`FOCUS_UM`.

    Parameters
    ----------
    window : ndarray of uint8, shape (h, w, 3)
        RGB.
    mpp : float
        µm per px of the window; a finer one is shrunk first.
    """
    if mpp < 0.9 * FOCUS_UM:
        size = max(3, round(window.shape[1] * mpp / FOCUS_UM)), max(3, round(window.shape[0] * mpp / FOCUS_UM))
        window = cv2.resize(window, size, interpolation=cv2.INTER_AREA)
    edges = cv2.Laplacian(cv2.cvtColor(window, cv2.COLOR_RGB2GRAY), cv2.CV_16S)
    deviation = float(cv2.meanStdDev(edges)[1].item())
    return deviation * deviation


def measure_quality(tissue: TissueMask, picture: Pixels, focus: Sequence[float], analysed_mm2: float) -> SlideQuality:
    """Put together what is known of a slide as a picture.

    Parameters
    ----------
    tissue : TissueMask
        Of all of the slide.
    picture : ndarray of uint8, shape (h, w, 3)
        What the mask's box looks like, RGB.
    focus : sequence of float
        Of some windows; empty where no pixels were read.
    analysed_mm2 : float
        Area that was analysed.
    """
    picture, inside = _overview(picture, tissue)
    mpp = tissue.mpp * math.sqrt(tissue.box.area / inside.size)
    stains = _stains(picture, inside)
    covered = int(np.count_nonzero(inside))
    ink = float(np.count_nonzero(ink_colours(picture, mpp))) / float(covered) if covered else None
    blurred = float(np.mean(np.array(focus) < BLURRED_BELOW)) if focus else None
    area = tissue.area_mm2
    flags = {
        "blurred": blurred is not None and blurred > BLURRED_SHARE,
        "pen": ink is not None and ink > PEN_SHARE,
        "pale": stains["density"] is not None and stains["density"] < PALE_BELOW,
        "little tissue": area < FIELD_MM2,
    }
    return SlideQuality(
        focus=float(np.median(focus)) if focus else None,
        blurred_share=blurred,
        focus_windows=len(focus),
        **stains,
        ink_share=ink,
        tissue_mm2=area,
        analysed_share=analysed_mm2 / area if area else None,
        flags=tuple(name for name, raised in flags.items() if raised),
    )


def _overview(picture: Pixels, tissue: TissueMask) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Return picture and tissue at one size that is large enough and no larger."""
    height, width = picture.shape[:2]
    shrink = max(1.0, math.sqrt(height * width / OVERVIEW_PX))
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if shrink > 1 else picture
    field = cv2.resize(tissue.field, size, interpolation=cv2.INTER_AREA)
    return small, np.asarray(field >= INSIDE)


def _stains(picture: Pixels, inside: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    """Return mean and spread of the stains in the tissue, and its mean density."""
    names = ("haematoxylin_od", "haematoxylin_sd", "eosin_od", "eosin_sd", "density")
    pixels = picture[inside]
    if not len(pixels):
        return dict.fromkeys(names)
    density = optical_density(pixels[None], glass_colour(picture.reshape(-1, 3)))[:, 0]
    unmixing = np.linalg.inv(_STAINS / np.linalg.norm(_STAINS, axis=1, keepdims=True))
    amounts = unmixing.T @ density
    values = (amounts[0].mean(), amounts[0].std(), amounts[1].mean(), amounts[1].std(), density.mean())
    return {name: float(value) for name, value in zip(names, values, strict=True)}
