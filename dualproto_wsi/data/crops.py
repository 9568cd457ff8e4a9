"""Crops of an image with image-level labels: which classes each one holds.

A crop says only "there is some of class k in here" or "there is none": what a pathologist would answer about a small
picture. Where in the crop the points lie is not handed on. An image without points is one crop, itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.data.images import ABSENT, NOT_LABELLED, PRESENT, UNKNOWN, LabelledImage
from dualproto_wsi.errors import DataError


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
        ``PRESENT``, ``ABSENT`` or ``UNKNOWN`` of :mod:`dualproto_wsi.data.images`.
    """

    size: int
    step: int
    labels: NDArray[np.int8]


def label_crops(
    image: LabelledImage,
    shape: tuple[int, int],
    classes: int,
    sizes: Sequence[int],
    min_points: int,
    multiple: int = 8,
) -> list[CropGrid]:
    """Cut an image into overlapping crops of several sizes and label each crop by the points in it.

    Parameters
    ----------
    image : LabelledImage
        With points.
    shape : tuple of int
        (height, width) of the image, px.
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

    Raises
    ------
    DataError
        If the image has no labelled points, which is not the same as an empty list of them.
    """
    if image.points is None:
        raise DataError(
            f"{image.path}: has no labelled points, so its crops have no labels; train on whole images, or on a layout"
            " with points"
        )
    height, width = shape
    grids = []
    for size in sizes:
        step = max(multiple, size // 2 // multiple * multiple)
        starts_y, starts_x = np.arange(0, height - size + 1, step), np.arange(0, width - size + 1, step)
        x, y = image.points.places.T
        in_row = (y >= starts_y[:, None]) & (y < starts_y[:, None] + size)
        in_column = (x >= starts_x[:, None]) & (x < starts_x[:, None] + size)
        of_class = image.points.labels == np.arange(classes)[:, None]
        counts = np.einsum("kn,rn,cn->krc", of_class.astype(np.int64), in_row, in_column.astype(np.int64))
        labels = np.where(counts >= min_points, PRESENT, np.where(counts == 0, ABSENT, UNKNOWN)).astype(np.int8)
        grids.append(CropGrid(size, step, labels))
    return grids


def label_crops_by_mask(
    mask: NDArray[np.uint8], classes: int, sizes: Sequence[int], min_share: float, multiple: int = 8
) -> list[CropGrid]:
    """Cut an image into overlapping crops of several sizes and label each crop by what a mask says of it.

    Parameters
    ----------
    mask : ndarray of uint8, shape (height, width)
        0…K-1, ``BACKGROUND`` or ``NOT_LABELLED``.
    classes : int
        K.
    sizes : sequence of int
        As for :func:`label_crops`.
    min_share : float
        From this share of a crop on a class is present; with nothing of it, and less than this share not labelled, it
        is absent; between, it is unknown.
    multiple : int
        As for :func:`label_crops`.

    Returns
    -------
    list of CropGrid
        One a size, without any crop if the image is smaller.
    """
    of_class = [mask == value for value in (*range(classes), NOT_LABELLED)]
    grids = []
    for size in sizes:
        step = max(multiple, size // 2 // multiple * multiple)
        if min(mask.shape) < size:
            grids.append(CropGrid(size, step, np.zeros((classes, 0, 0), np.int8)))
            continue
        views = [np.lib.stride_tricks.sliding_window_view(one, (size, size))[::step, ::step] for one in of_class]
        shares = np.stack([view.mean((2, 3)) for view in views])
        present, absent = shares[:-1] >= min_share, (shares[:-1] == 0) & (shares[-1] < min_share)
        labels = np.where(present, PRESENT, np.where(absent, ABSENT, UNKNOWN)).astype(np.int8)
        grids.append(CropGrid(size, step, labels))
    return grids


def whole_image(image: LabelledImage, shape: tuple[int, int], multiple: int = 8) -> CropGrid:
    """Return a grid of one crop, the whole image with its image-level labels.

    Parameters
    ----------
    image : LabelledImage
    shape : tuple of int
        (height, width) of the image, px.
    multiple : int
        The crop's side is a multiple of this, px.

    Returns
    -------
    CropGrid
        Of the smallest such square that the image fits into. What it lacks to the right and below is to be its mirror
        image: that shows the same classes, so the labels stay true.
    """
    side = -(-max(shape) // multiple) * multiple
    return CropGrid(side, side, image.labels[:, None, None])
