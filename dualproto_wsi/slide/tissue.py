"""Telling H&E tissue from glass, shadows, ink and scanner borders on a thumbnail."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt

from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.settings import TissueSettings
from dualproto_wsi.slide.reader import SlideReader

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Density = npt.NDArray[np.float32]
Polygon = Sequence[npt.NDArray[np.float64]]

LARGEST_THUMBNAIL_PX = 24_000_000  # 20 mm square at 4 µm; finding tissue takes about 20 bytes a px
LEVEL_REACH = 1.5  # a pyramid level up to this much coarser than asked for saves reading a finer one
INSIDE = 128  # of 255: where the smoothed outline runs
SMOOTH_UM = 5.0  # sigma, takes grain off the colours; more would push the outline outwards
OUTLINE_PX = 1.0  # sigma, rounds the outline
ROWS_AT_ONCE = 128  # of colours: the fractions of so few rows stay in the processor's cache
FIXED_POINT = 16  # steps to a px of polygons that are filled
COLUMNS_AT_ONCE = 16_384  # cv2.warpAffine takes 32767 at most

GLASS_MIN, GLASS_SPREAD, GLASS_PINK = 170, 32, 7  # glass: bright, near grey, never pink; 8-bit levels
GLASS_SAMPLE_PX = 1_000_000  # as many tell its colour
GLASS_SHARE = 0.002  # of the pixels; less is no glass at all
WHITE = 254  # at and above this a pixel was never scanned
CHROMA = 0.018  # optical density between the most and the least absorbed channel; glass stays below 0.01
RIM_UM = 8.0  # how far the blurred rim of an edge reaches
EDGE = 0.35  # share of the strongest neighbour's colour; less is the blurred rim of an edge
GREY = 0.2  # chroma / mean density below which a pixel is a shadow, dust, black ink or border
INK_DENSITY = 0.3
INK_RATIO, INK_RIM_RATIO = 0.75, 1.0  # blue and green ink: dense in red, green less so than in any H&E stain
RED_INK_RATIO, RED_INK_RIM_RATIO = 0.58, 0.5  # red and orange: (blue - red) / green; up to 0.45 in tissue, blood too
STROKE_UM = 40.0  # a pen stroke is wider, most lakes of red blood cells are not
INK_REACH_UM = 80.0  # so far around it even a fainter colour of the kind is ink


@dataclass(frozen=True, slots=True)
class TissueMask:
    """Where tissue is.

    Parameters
    ----------
    thumbnail : ndarray of uint8, shape (h, w, 3)
        The picture it was found on, RGB.
    box : Box
        What the thumbnail shows, level-0 px.
    mpp : float
        µm per level-0 px.
    field : ndarray of uint8, shape (h, w)
        Smooth: 255 in tissue, 0 on glass, 128 on the outline.
    """

    thumbnail: Pixels
    box: Box
    mpp: float
    field: Pixels = field(repr=False)

    @property
    def fraction(self) -> float:
        """Share of the box that is tissue, 0…1."""
        return float(np.count_nonzero(self.field >= INSIDE)) / self.field.size

    @property
    def area_mm2(self) -> float:
        """Area of the tissue, mm²."""
        return self.fraction * self.box.area * self.mpp**2 * 1e-6

    @property
    def colours(self) -> Pixels:
        """Colours of the tissue in the thumbnail, RGB, uint8 (n, 3)."""
        return np.asarray(self.thumbnail[self.field >= INSIDE])

    def within(self, polygons: Iterable[Polygon]) -> TissueMask:
        """Return the tissue that lies in polygons, to a pixel of the thumbnail.

        Parameters
        ----------
        polygons : iterable of sequence of ndarray of float64, (n, 2)
            Each a shell and its holes: rings of (x, y), level-0 px.
        """
        inside = np.zeros(self.field.shape, np.uint8)
        scale = np.array([self.field.shape[1] / self.box.width, self.field.shape[0] / self.box.height])
        for polygon in polygons:
            rings = [(np.asarray(ring) - (self.box.x, self.box.y)) * scale - 0.5 for ring in polygon]
            filled = np.zeros_like(inside)  # even-odd over the rings of one polygon only: two polygons may overlap
            fixed = [np.rint(ring * FIXED_POINT).astype(np.int32) for ring in rings]
            cv2.fillPoly(filled, fixed, 255, shift=FIXED_POINT.bit_length() - 1)
            inside |= filled
        return replace(self, field=np.minimum(self.field, inside))

    def sample(self, grid: LabelGrid, first_row: int, rows: int) -> Mask:
        """Tell which cells of some rows of a grid have their centre in tissue.

        Parameters
        ----------
        grid : LabelGrid
            The grid.
        first_row, rows : int
            Which of its rows.

        Returns
        -------
        ndarray of bool, shape (rows, grid.columns)
        """
        found = np.empty((rows, grid.columns), np.uint8)
        px, py = self.box.width / self.field.shape[1], self.box.height / self.field.shape[0]
        step_x, step_y = grid.scale / px, grid.scale / py
        y = (grid.y - self.box.y + (first_row + 0.5) * grid.scale) / py - 0.5
        for left in range(0, grid.columns, COLUMNS_AT_ONCE):
            part = found[:, left : left + COLUMNS_AT_ONCE]
            x = (grid.x - self.box.x + (left + 0.5) * grid.scale) / px - 0.5
            part[:] = cv2.warpAffine(
                self.field,
                np.array([[step_x, 0, x], [0, step_y, y]]),
                part.shape[::-1],
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            )
        return found >= INSIDE

    def overlaps(self, box: Box) -> bool:
        """Tell whether tissue lies in a box, level-0 px; where in doubt (within two thumbnail px) yes."""
        px, py = self.box.width / self.field.shape[1], self.box.height / self.field.shape[0]
        left, top = math.floor((box.x - self.box.x) / px) - 1, math.floor((box.y - self.box.y) / py) - 1
        right, bottom = math.ceil((box.right - self.box.x) / px) + 1, math.ceil((box.bottom - self.box.y) / py) + 1
        part = self.field[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        return bool((part >= INSIDE).any())


def find_tissue(reader: SlideReader, settings: TissueSettings, mpp: float) -> TissueMask:
    """Find the tissue of a slide.

    A pixel is tissue when its colour, as optical density against the slide's own glass, is a colour at all (not grey)
    and none of ink. The limits are absolute, not the slide's own as Otsu's would be: a slide without glass is all
    tissue, a slide without tissue is empty, and pale tissue beside dark tissue is not lost. Pink and purple ink
    cannot be told from stain by colour and stays tissue.

    Parameters
    ----------
    reader : SlideReader
        The slide; its content box is looked at.
    settings : TissueSettings
        Resolution, and the smallest pieces and holes.
    mpp : float
        µm per level-0 px.

    Raises
    ------
    SlideUnreadable
        If the pixels cannot be decoded.
    """
    box = reader.info.content
    shrink = _shrink(reader, settings.mpp / mpp)
    size = max(1, round(box.width / shrink)), max(1, round(box.height / shrink))
    thumbnail = reader.read(box, size)
    px_mm2 = box.area / (size[0] * size[1]) * mpp**2 * 1e-6
    mask = tissue_colours(thumbnail, math.sqrt(px_mm2) * 1e3)
    mask = _without_small(mask, settings.min_area_mm2 / px_mm2)
    mask = ~_without_small(~mask, settings.max_hole_mm2 / px_mm2)
    smooth = cv2.GaussianBlur(mask.astype(np.uint8) * 255, (0, 0), OUTLINE_PX, borderType=cv2.BORDER_REPLICATE)
    return TissueMask(thumbnail, box, mpp, smooth)


def _shrink(reader: SlideReader, wanted: float) -> float:
    """Return level-0 px per thumbnail px: as wanted, or a level a little coarser, and never too large a picture."""
    box = reader.info.content
    wanted = max(1.0, wanted, math.sqrt(box.area / LARGEST_THUMBNAIL_PX))
    levels = [d for d in reader.info.downsamples if wanted <= d <= LEVEL_REACH * wanted]
    return min(levels, default=wanted)


def tissue_colours(rgb: Pixels, mpp: float) -> Mask:
    """Tell which pixels of a picture have the colours of stained tissue.

    Parameters
    ----------
    rgb : ndarray of uint8, shape (h, w, 3)
        The picture.
    mpp : float
        µm per px of the picture.

    Returns
    -------
    ndarray of bool, shape (h, w)
    """
    tissue, ink = _tissue_and_ink(rgb, mpp)
    tissue &= ~ink
    return tissue


def ink_colours(rgb: Pixels, mpp: float) -> Mask:
    """Tell which pixels of a picture are pen marks: blue, green, red or orange; parameters as :func:`tissue_colours`.

    Black ink counts as none: as a grey it cannot be told from shadows and dust.
    """
    return _tissue_and_ink(rgb, mpp)[1]


def _tissue_and_ink(rgb: Pixels, mpp: float) -> tuple[Mask, Mask]:
    smooth = cv2.GaussianBlur(rgb, (0, 0), SMOOTH_UM / mpp)
    step = math.ceil(math.sqrt(smooth.size / 3 / GLASS_SAMPLE_PX))
    sample, scanned = smooth[::step, ::step], rgb[::step, ::step].min(axis=2) < WHITE
    glass = glass_colour(sample[scanned])
    height, rim_px = len(rgb), max(1, round(RIM_UM / mpp))
    kinds = np.empty((5, *rgb.shape[:2]), np.bool_)
    for top in range(0, height, ROWS_AT_ONCE):
        first, stop = max(0, top - rim_px), min(height, top + ROWS_AT_ONCE)
        found = _kinds(optical_density(smooth[first : stop + rim_px], glass), rim_px)
        kinds[:, top:stop] = found[:, top - first : stop - first]
    tissue, cold_core, cold, warm_core, warm = kinds
    cold &= _around(cold_core, 3, mpp)
    warm &= _around(warm_core, max(3, round(STROKE_UM / mpp)), mpp)
    return tissue, cold | warm


def _kinds(density: Density, rim_px: int) -> Mask:
    """Tell what the pixels can be by themselves.

    Returns
    -------
    ndarray of bool, shape (5, h, w)
        Stained tissue; blue or green ink for certain, or perhaps; red or orange ink for certain, or perhaps.
    """
    red, green, blue = density
    chroma = density.max(axis=0) - density.min(axis=0)
    beside = cv2.dilate(chroma, np.ones((2 * rim_px + 1, 2 * rim_px + 1), np.uint8))
    kinds = np.empty((5, *chroma.shape), np.bool_)
    kinds[0] = (chroma > np.maximum(CHROMA, EDGE * beside)) & (chroma > GREY / 3 * density.sum(axis=0))
    kinds[1] = (red > INK_DENSITY) & (green < INK_RATIO * red)
    kinds[2] = green < INK_RIM_RATIO * red
    warmth = blue - red
    kinds[3] = (blue > INK_DENSITY) & (warmth > RED_INK_RATIO * green)
    kinds[4] = warmth > RED_INK_RIM_RATIO * green
    return kinds


def _around(core: Mask, least_px: int, mpp: float) -> Mask:
    """Return what lies within an ink's reach of squares of `least_px` that are all core."""
    squares = cv2.morphologyEx(core.view(np.uint8), cv2.MORPH_OPEN, np.ones((least_px, least_px), np.uint8))
    if not squares.any():
        return np.zeros_like(core)
    distance = cv2.distanceTransform(1 - squares, cv2.DIST_L2, cv2.DIST_MASK_5)
    return np.asarray(distance <= INK_REACH_UM / mpp)


def glass_colour(pixels: Pixels) -> npt.NDArray[np.float64]:
    """Return the colour of empty glass.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (n, 3)
        RGB.

    Returns
    -------
    ndarray of float64, shape (3,)
        The median of the pixels around the commonest brightness of those that can be glass; white if hardly any can.
    """
    low, high = pixels.min(axis=1, initial=255), pixels.max(axis=1, initial=0)
    pink = np.minimum(pixels[:, 0], pixels[:, 2]).astype(np.int16) - pixels[:, 1]
    glass = pixels[(low >= GLASS_MIN) & (high - low <= GLASS_SPREAD) & (pink <= GLASS_PINK)]
    if len(glass) <= GLASS_SHARE * len(pixels):
        return np.full(3, 255.0)
    brightness = glass[:, 1]
    mode = int(np.bincount(brightness, minlength=256).argmax())
    near: npt.NDArray[np.float64] = np.median(glass[np.abs(brightness.astype(np.int16) - mode) <= 3], axis=0)
    return near


def optical_density(rgb: Pixels, glass: npt.NDArray[np.float64]) -> Density:
    """Return log10(glass / colour), not below 0: float32 of shape (3, h, w) for `rgb` of shape (h, w, 3)."""
    levels = np.arange(256)[:, None] + 1.0
    table = np.maximum(np.log10((glass + 1.0) / levels), 0).astype(np.float32)
    density = np.empty((3, *rgb.shape[:2]), np.float32)
    for channel, plane in enumerate(cv2.split(rgb)):
        cv2.LUT(plane, table[:, channel], density[channel])
    return density


def _without_small(mask: Mask, least_px: float) -> Mask:
    """Drop connected pieces of fewer than `least_px` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    keep = stats[:, cv2.CC_STAT_AREA] >= least_px
    keep[0] = False
    return np.asarray(keep[labels])
