"""The picture a person looks at first: the slide's thumbnail, the regions on it, and a legend."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dualproto_wsi.classes import NOT_ANALYSED, TissueClass
from dualproto_wsi.files import replacing
from dualproto_wsi.geometry import Box, LabelGrid

FILL = 0.28
"""Opacity of the colour inside a region."""


def labels_at(labels: NDArray[np.uint8], grid: LabelGrid, box: Box, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Sample a label map at the pixel centres of a picture.

    Parameters
    ----------
    labels : ndarray of uint8, shape (rows, columns)
        The map, or a coarser level of it.
    grid : LabelGrid
        Frame of the full map.
    box : Box
        What the picture shows, level-0 px.
    size : tuple of int
        (width, height) of the picture, px.

    Returns
    -------
    ndarray of uint8, shape (height, width)
        0 outside the map.
    """
    width, height = size
    column = ((np.arange(width) + 0.5) * box.width / width + box.x - grid.x) / grid.scale
    row = ((np.arange(height) + 0.5) * box.height / height + box.y - grid.y) / grid.scale
    rows, columns = labels.shape
    inside = ((row >= 0) & (row < grid.rows))[:, None] & ((column >= 0) & (column < grid.columns))[None, :]
    row_index = np.clip((row * rows / grid.rows).astype(int), 0, rows - 1)
    column_index = np.clip((column * columns / grid.columns).astype(int), 0, columns - 1)
    return np.where(inside, labels[row_index[:, None], column_index[None, :]], NOT_ANALYSED).astype(np.uint8)


def draw_overlay(
    thumbnail: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    classes: Sequence[TissueClass],
    captions: dict[str, str],
    title: str,
) -> Image.Image:
    """Draw regions and a legend onto a thumbnail.

    Parameters
    ----------
    thumbnail : ndarray of uint8, shape (height, width, 3)
        RGB.
    labels : ndarray of uint8, shape (height, width)
        Class ids at the thumbnail's pixels.
    classes : sequence of TissueClass
        Colours and names, in the legend's order.
    captions : dict
        Text behind each class name in the legend.
    title : str
        First line of the legend.

    Returns
    -------
    PIL.Image.Image
        The thumbnail with the legend below it.
    """
    picture = thumbnail.astype(np.float32)
    thickness = max(1, round(max(labels.shape) / 900))
    kernel = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
    for tissue_class in classes:
        mask = (labels == tissue_class.id).astype(np.uint8)
        colour = np.asarray(tissue_class.colour, np.float32)
        inside = mask.astype(bool)
        picture[inside] = (1 - FILL) * picture[inside] + FILL * colour
        edge = inside & ~cv2.erode(mask, kernel, borderType=cv2.BORDER_REPLICATE).astype(bool)
        picture[edge] = colour
    canvas = Image.fromarray(np.rint(picture).astype(np.uint8))
    return _with_legend(canvas, classes, captions, title)


def _with_legend(
    picture: Image.Image, classes: Sequence[TissueClass], captions: dict[str, str], title: str
) -> Image.Image:
    size = 18
    font = load_font(size)
    line = size + 10
    lines = [title, *(f"{c.name}  {captions.get(c.name, '')}".rstrip() for c in classes)]
    text_width = int(max(font.getlength(text) for text in lines)) + 3 * size + 10
    width = max(picture.width, text_width)
    canvas = Image.new("RGB", (width, picture.height + line * len(lines) + 12), "white")
    canvas.paste(picture, (0, 0))
    draw = ImageDraw.Draw(canvas)
    y = picture.height + 8
    draw.text((10, y), title, fill="black", font=font)
    for tissue_class, text in zip(classes, lines[1:], strict=True):
        y += line
        draw.rectangle((10, y + 2, 10 + size, y + 2 + size), fill=tissue_class.colour, outline="black")
        draw.text((20 + size, y), text, fill="black", font=font)
    return canvas


def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font that has ``²`` and most alphabets: the one that comes with matplotlib, found without its import."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


def save_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", compress_level=4)
