"""What is known of an image, brought to the cells of its map; images read ahead, in batches of one size."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.data.images import BACKGROUND, NOT_LABELLED, LabelledImage
from dualproto_wsi.errors import DataError

SAME_SCALE = 0.02
"""Resolutions that differ by less count as equal: a pixel more or less in fifty; the image is not resampled."""

READERS = 2
"""Threads that read images ahead."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image, read.

    Parameters
    ----------
    image : LabelledImage
    pixels : ndarray of uint8, shape (H, W, 3)
        RGB, at the model's resolution.
    size : tuple of int
        (height, width) of the image as it is on disk, px.
    mask : ndarray of uint8, shape (height, width), or None
        As :meth:`LabelledImage.read_mask` returns it.
    """

    image: LabelledImage
    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    mask: NDArray[np.uint8] | None


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The truth of an image on the cells of its map.

    Parameters
    ----------
    cells : ndarray of int64, shape (K + 1, h, w)
        How many labelled pixels or points of each class a cell holds; background last.
    mask : ndarray of uint8, shape (height, width), or None
        0…K-1, K for background, 255 for pixels that are not labelled.
    rows, columns : ndarray of int64, shape (height,) and (width,)
        The cell that each pixel lies in.
    """

    cells: NDArray[np.int64]
    mask: NDArray[np.uint8] | None
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def to_pixels(self, cells: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a map of cells at the pixels of the image, uint8 (height, width)."""
        return np.asarray(cells[self.rows[:, None], self.columns[None, :]])


def find_truth(sample: Sample, classes: int, shape: tuple[int, int], cell_px: int) -> Truth:
    """Bring what is known of an image to cells.

    Parameters
    ----------
    sample : Sample
        Its mask counts, else its points.
    classes : int
        K.
    shape : tuple of int
        (h, w) of the map; its cells may go beyond the image.
    cell_px : int
        Side of a cell, model px.

    Raises
    ------
    DataError
        If a point lies outside the image.
    """
    rows, columns = (
        np.asarray((np.arange(length) * 2 + 1) * model // (2 * length) // cell_px)
        for length, model in zip(sample.size, sample.pixels.shape[:2], strict=True)
    )
    mask = None
    if sample.mask is not None:
        mask = sample.mask.copy()
        mask[sample.mask == BACKGROUND] = classes
        y, x = np.nonzero(mask != NOT_LABELLED)
        labels = mask[y, x].astype(np.int64)
    else:
        x, y, labels = _points(sample)
    where = (labels * shape[0] + rows[y]) * shape[1] + columns[x]
    counted = np.bincount(where, minlength=(classes + 1) * shape[0] * shape[1])
    return Truth(counted.reshape(classes + 1, *shape), mask, rows, columns)


def _points(sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    points, (height, width) = sample.image.points, sample.size
    if points is None:
        none = np.zeros(0, np.int64)
        return none, none, none
    x, y = points.places.T
    outside = (x < 0) | (y < 0) | (x >= width) | (y >= height)
    if outside.any():
        first = points.places[outside][0]
        raise DataError(
            f"{sample.image.path}: a point lies at ({first[0]}, {first[1]}), outside the image of {width} x {height} "
            "px; correct its labels"
        )
    return x, y, points.labels


def read_sample(image: LabelledImage, scale: float) -> Sample:
    """Read an image and its mask, and bring its pixels to the model's resolution.

    Parameters
    ----------
    image : LabelledImage
    scale : float
        Model px a px of the image.
    """
    pixels = image.read_pixels()
    size = pixels.shape[:2]
    if scale != 1:
        height, width = (max(1, round(length * scale)) for length in size)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=how), np.uint8)
    return Sample(image, pixels, (size[0], size[1]), image.read_mask())


def scale_between(image_mpp: float, model_mpp: float) -> float:
    """Return model px a px of an image; exactly 1 where the two resolutions are nearly equal."""
    scale = image_mpp / model_mpp
    return 1.0 if abs(scale - 1) < SAME_SCALE else scale


def read_batches(images: Sequence[LabelledImage], scale: float, most_px: int) -> Iterator[list[Sample]]:
    """Read images ahead of the model, in order, and hand them out in batches of one size.

    Parameters
    ----------
    images : sequence of LabelledImage
    scale : float
        As for :func:`read_sample`.
    most_px : int
        Pixels a batch holds at most, one image apart.
    """
    batch: list[Sample] = []
    for sample in _read_ahead(images, scale):
        shape = sample.pixels.shape
        full = (len(batch) + 1) * shape[0] * shape[1] > most_px
        if batch and (full or batch[0].pixels.shape != shape):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _read_ahead(images: Iterable[LabelledImage], scale: float) -> Iterator[Sample]:
    waiting: deque[Future[Sample]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="read") as pool:
        try:
            for image in images:
                waiting.append(pool.submit(read_sample, image, scale))
                if len(waiting) > 16:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
