"""Crops of an image with image-level labels: which classes each one holds.

A crop says only "there is some of class k in here" or "there is none": what a pathologist would answer about a small
picture. Where in the crop the points lie is not handed on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.data.points import PointImage

ABSENT, PRESENT, UNKNOWN = 0, 1, -1
"""Image-level labels of a class in a crop."""


@dataclass(frozen=True, slots=True, eq=False)
class CropGrid:
    """All crops of one size from one image, a regular grid of them.

    Parameters
    ----------
    size : int
        Side of a crop, px.
    step : int
        From one crop to the next, px; the first lies at the image's top left corner.
    labels : ndarray of int8, shape (K, rows, columns)
        :data:`PRESENT`, :data:`ABSENT` or :data:`UNKNOWN`.
    """

    size: int
    step: int
    labels: NDArray[np.int8]


def label_crops(
    image: PointImage, classes: int, sizes: Sequence[int], min_points: int, multiple: int = 8
) -> list[CropGrid]:
    """Cut an image into overlapping crops of several sizes and label each crop as a whole.

    Parameters
    ----------
    image : PointImage
    classes : int
        K.
    sizes : sequence of int
        Sides of the crops, px, multiples of ``multiple``; crops of one size overlap by half.
    min_points : int
        From this many points on a class is present; without any it is absent; between, it is unknown.
    multiple : int
        Steps are multiples of this, px.

    Returns
    -------
    list of CropGrid
        One a size, without any crop if the image is smaller.
    """
    height, width = image.pixels.shape[:2]
    grids = []
    for size in sizes:
        step = max(multiple, size // 2 // multiple * multiple)
        starts_y, starts_x = np.arange(0, height - size + 1, step), np.arange(0, width - size + 1, step)
        x, y = image.points.T
        in_row = (y >= starts_y[:, None]) & (y < starts_y[:, None] + size)
        in_column = (x >= starts_x[:, None]) & (x < starts_x[:, None] + size)
        of_class = image.labels == np.arange(classes)[:, None]
        counts = np.einsum("kn,rn,cn->krc", of_class.astype(np.int64), in_row, in_column.astype(np.int64))
        labels = np.where(counts >= min_points, PRESENT, np.where(counts == 0, ABSENT, UNKNOWN)).astype(np.int8)
        grids.append(CropGrid(size, step, labels))
    return grids
