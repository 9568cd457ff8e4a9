"""What training shows to the model: windows of labelled images, where chance puts them, read ahead by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.data.augment import orient
from dualproto_wsi.data.crops import CropGrid, label_crops, label_crops_by_mask, whole_image
from dualproto_wsi.data.images import NOT_LABELLED, UNKNOWN, Dataset, LabelledImage, image_size
from dualproto_wsi.errors import DataError
from dualproto_wsi.settings import DataSettings

_GRID = 8  # px; windows and crops begin at multiples of it
_KEPT_BYTES = 256 << 20  # pixels of a data set this small stay in memory

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image with the crops whose labels teach.

    Parameters
    ----------
    image : LabelledImage
    shape : tuple of int
        (height, width), px.
    crops : list of CropGrid
        One a size; the whole image as one crop where nothing more is known.
    side : int
        Of the window that is shown to the model, px; a multiple of the encoder's step.
    whole : bool
        Whether the window is always the whole image, mirrored to a square.
    """

    image: LabelledImage
    shape: tuple[int, int]
    crops: list[CropGrid]
    side: int
    whole: bool

    @property
    def labelled(self) -> bool:
        """Whether anything is known of it: of some crop, whether it holds some class."""
        return any((grid.labels != UNKNOWN).any() for grid in self.crops)


def make_samples(
    dataset: Dataset, settings: DataSettings, step_px: int, min_share: float | None = None
) -> list[Sample]:
    """Prepare the images of a data set; pixels are not read.

    Points label crops of ``settings.crop_sizes``; without sizes, or where an image has no points, each image is one
    crop with its image-level labels.

    Parameters
    ----------
    dataset : Dataset
    settings : DataSettings
    step_px : int
        Sides of windows are multiples of this, px: the encoder's.
    min_share : float or None
        Masks label crops, with this least share of a crop for a class to be present; for regions that a person drew as
        corrections. None: masks are not looked at.

    Raises
    ------
    DataError
        If an image is missing, is none, or is too small to be mirrored.
    """
    with ThreadPoolExecutor(settings.workers) as pool:
        shapes = list(pool.map(lambda image: image_size(image.path), dataset.images))
    classes, sizes = len(dataset.classes), settings.crop_sizes
    pairs = list(zip(dataset.images, shapes, strict=True))
    for image, (height, width) in pairs:
        if min(height, width) < 2:
            raise DataError(f"{image.path}: an image of {width} x {height} px; the smallest is 2 x 2 px: leave it out")
    if sizes and all(image.points is not None for image in dataset.images):
        side = -(-settings.window_px // step_px) * step_px
        return [
            Sample(image, shape, label_crops(image, shape, classes, sizes, settings.min_points), side, False)
            for image, shape in pairs
        ]
    wholes = [whole_image(image, shape, step_px) for image, shape in pairs]
    grids = [[whole] for whole in wholes]
    if sizes and min_share is not None:
        grids = [_crops_of_mask(image, shape, classes, sizes, min_share) for image, shape in pairs]
    return [
        Sample(image, shape, crops, whole.size, True)
        for (image, shape), crops, whole in zip(pairs, grids, wholes, strict=True)
    ]


def _crops_of_mask(
    image: LabelledImage, shape: tuple[int, int], classes: int, sizes: Sequence[int], min_share: float
) -> list[CropGrid]:
    mask = image.read_mask()
    if mask is None:
        mask = np.full(shape, NOT_LABELLED, np.uint8)
    return label_crops_by_mask(mask, classes, sizes, min_share)


@dataclass(frozen=True, slots=True)
class Step:
    """What chance decides of one step of the optimiser.

    Parameters
    ----------
    chosen : tuple of int
        Positions of the samples; all windows have one size.
    origins : tuple of (int, int)
        Row and column of each window's first pixel, px.
    orientations : tuple of int
        Of each window.
    stain_seed : int
    shift : int
        Which of the places inside the encoder's step the moved window begins at; 0: no window is moved.
    """

    chosen: tuple[int, ...]
    origins: tuple[tuple[int, int], ...]
    orientations: tuple[int, ...]
    stain_seed: int
    shift: int


@dataclass(frozen=True, slots=True)
class Chances:
    """From what chance may draw.

    Parameters
    ----------
    batch_size : int
    window_px : int
        Side of windows that are cut from larger images, px.
    orientations : int
    alike : bool
        Whether windows of a batch are turned alike.
    phases : int
        Places a side inside the encoder's step; below 2: no window is moved.
    shifted_from_px : int
        Windows from this side on are moved.
    """

    batch_size: int
    window_px: int
    orientations: int
    alike: bool
    phases: int
    shifted_from_px: int

    def draw_epoch(self, samples: Sequence[Sample], rng: np.random.Generator) -> list[Step]:
        """Decide all steps of an epoch: each sample once, in batches of one size."""
        return [self._draw(samples, chosen, rng) for chosen in self._batches(samples, rng.permutation(len(samples)))]

    def steps(self, samples: Sequence[Sample]) -> int:
        """Return how many steps an epoch has."""
        return len(self._batches(samples, np.arange(len(samples))))

    def _batches(self, samples: Sequence[Sample], order: NDArray[np.int64]) -> list[tuple[int, ...]]:
        return batches([int(i) for i in order], lambda i: samples[i].side, self.batch_size)

    def _draw(self, samples: Sequence[Sample], chosen: tuple[int, ...], rng: np.random.Generator) -> Step:
        origins = tuple(self._origin(samples[i], rng) for i in chosen)
        drawn = tuple(int(rng.integers(self.orientations)) for _ in range(1 if self.alike else len(chosen)))
        stain_seed = int(rng.integers(2**31))
        moved = self.phases > 1 and samples[chosen[0]].side >= self.shifted_from_px
        shift = int(rng.integers(1, self.phases**2)) if moved else 0
        return Step(chosen, origins, drawn * len(chosen) if self.alike else drawn, stain_seed, shift)

    def _origin(self, sample: Sample, rng: np.random.Generator) -> tuple[int, int]:
        if sample.whole:
            return 0, 0
        free = (max(0, size - self.window_px) for size in sample.shape)
        row, column = (int(rng.integers(0, px // _GRID + 1)) * _GRID for px in free)
        return row, column


def batches(order: Sequence[int], size_of: Callable[[int], int], batch_size: int) -> list[tuple[int, ...]]:
    """Part positions into batches of one size each, in order; what fills no batch comes last."""
    waiting: dict[int, list[int]] = {}
    full = []
    for position in order:
        group = waiting.setdefault(size_of(position), [])
        group.append(position)
        if len(group) == batch_size:
            full.append(tuple(group))
            group.clear()
    return full + [tuple(group) for group in waiting.values() if group]


class WindowReader:
    """Cuts windows out of images; small data sets stay in memory once read.

    Parameters
    ----------
    samples : sequence of Sample
    window_px : int
        Side of windows that are cut from larger images, px.
    """

    def __init__(self, samples: Sequence[Sample], window_px: int) -> None:
        self._samples = samples
        self._window_px = window_px
        self._kept: dict[int, NDArray[np.uint8]] | None = None
        if sum(3 * height * width for height, width in (sample.shape for sample in samples)) <= _KEPT_BYTES:
            self._kept = {}

    def window(self, position: int, origin: tuple[int, int]) -> Tensor:
        """Return the window of a sample, float32 (3, side, side), 0…1; borders that it lacks are mirrored."""
        sample, (row, column) = self._samples[position], origin
        pixels = to_tensor(self._pixels(position))
        if not sample.whole:
            pixels = pixels[:, row : row + self._window_px, column : column + self._window_px]
        return pad(pixels[None], sample.side, sample.side)[0]

    def _pixels(self, position: int) -> NDArray[np.uint8]:
        if self._kept is None:
            return self._samples[position].image.read_pixels()
        if position not in self._kept:
            self._kept[position] = self._samples[position].image.read_pixels()
        return self._kept[position]


def read_ahead(jobs: Sequence[Sequence[Callable[[], T]]], threads: int) -> Iterator[list[T]]:
    """Run groups of jobs in threads, some groups ahead, and yield the results of each group in order.

    An error of a job is raised when its group is due.
    """
    with ThreadPoolExecutor(threads, "read") as pool:
        under_way: deque[list[Future[T]]] = deque()
        left = iter(jobs)
        try:
            for group in left:
                under_way.append([pool.submit(job) for job in group])
                if sum(map(len, under_way)) >= 2 * threads + len(group):
                    yield [future.result() for future in under_way.popleft()]
            while under_way:
                yield [future.result() for future in under_way.popleft()]
        finally:
            for future in (future for futures in under_way for future in futures):
                future.cancel()


def turn(windows: Sequence[Tensor], orientations: Sequence[int]) -> Tensor:
    """Return windows in their orientations, (N, …, side, side)."""
    if len(set(orientations)) == 1:
        return orient(torch.stack(list(windows)), orientations[0])
    return torch.stack([orient(window, one) for window, one in zip(windows, orientations, strict=True)])


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """Return float32 (3, H, W), 0…1, of uint8 (H, W, 3)."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


def pad(images: Tensor, multiple: int, least: int = 0) -> Tensor:
    """Mirror the right and lower border of (N, 3, H, W) until both sides are multiples, and at least ``least``."""
    height, width = images.shape[2:]
    right, below = (-(-max(size, least) // multiple) * multiple - size for size in (width, height))
    while right or below:
        height, width = images.shape[2:]
        step_right, step_below = min(right, width - 1), min(below, height - 1)
        images = F.pad(images, (0, step_right, 0, step_below), mode="reflect")
        right, below = right - step_right, below - step_below
    return images
