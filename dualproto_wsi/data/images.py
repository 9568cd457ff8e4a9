"""A labelled image, wherever its labels come from.

Image-level labels say which classes an image holds. Masks and points, where a data set has them, say where; training
from image-level labels never looks at them, evaluation does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError

ABSENT, PRESENT, UNKNOWN = 0, 1, -1
"""Image-level labels of a class."""

BACKGROUND, NOT_LABELLED = 254, 255
"""Values of a mask beside the classes 0…K-1: known to be none of them, and not said."""


def require_file(path: Path, what: str) -> None:
    """Raise a DataError if there is no such file; ``what`` says of what kind it is."""
    if not path.is_file():
        raise DataError(f"{path}: no such {what}, though the data set names it; complete the data set")


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Image.Image]:
    require_file(path, what)
    try:
        with Image.open(path) as picture:
            yield picture
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:  # what Pillow raises on damaged files
        raise DataError(f"{path}: this {what} cannot be decoded ({error}); fetch it again") from error


def image_size(path: Path) -> tuple[int, int]:
    """Return (height, width) of an image, px, without decoding its pixels.

    Raises
    ------
    DataError
        If the file is missing or is no image.
    """
    with _opened(path, "image") as picture:
        return picture.height, picture.width


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Labelled points of an image.

    Parameters
    ----------
    places : ndarray of int64, shape (n, 2)
        (x, y) of each, px of the image.
    labels : ndarray of int64, shape (n,)
        Class of each, 0…K-1 in the order of the class scheme.
    """

    places: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class MaskFile:
    """A mask on disk.

    Parameters
    ----------
    path : Path
        One channel, or a palette image.
    codes : mapping of int to int
        What its values mean: 0…K-1, :data:`BACKGROUND` or :data:`NOT_LABELLED`; any other value is refused.
    """

    path: Path
    codes: Mapping[int, int]

    def read_values(self) -> NDArray[np.integer]:
        """Return what is in the file, (height, width); of a palette image the indices, whatever their colours.

        Raises
        ------
        DataError
            If the file is missing, cannot be decoded, or has several channels.
        """
        with _opened(self.path, "mask") as picture:
            values = np.asarray(picture)
        if values.ndim != 2:
            raise DataError(
                f"{self.path}: a mask of {values.shape[2]} channels; save it with one channel, or with a palette"
            )
        return values.astype(np.uint8) if values.dtype == bool else values

    def decode(self, values: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return what values mean, uint8 of the same shape.

        Raises
        ------
        DataError
            If one of them has no meaning.
        """
        found = np.unique(values)
        unknown = [value for value in found.tolist() if value not in self.codes]
        if unknown:
            raise DataError(
                f"{self.path}: value {unknown[0]} of the mask has no meaning; known are"
                f" {', '.join(map(str, sorted(self.codes)))}: correct the mask, or choose the --layout it belongs to"
            )
        meanings = np.array([self.codes[value] for value in found.tolist()], np.uint8)
        return meanings[np.searchsorted(found, values)]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """One image of a data set; pixels are read when asked for.

    Parameters
    ----------
    path : Path
        The image file.
    patient : str
        Whose tissue it shows; images of one patient never part between training and evaluation.
    labels : ndarray of int8, shape (K,)
        :data:`PRESENT`, :data:`ABSENT` or :data:`UNKNOWN` for each class, of the image as a whole.
    group : str
        What the data set says of it besides, a site for one.
    points : Points or None
    mask : MaskFile or None
    """

    path: Path
    patient: str
    labels: NDArray[np.int8]
    group: str = ""
    points: Points | None = None
    mask: MaskFile | None = None

    def read_pixels(self) -> NDArray[np.uint8]:
        """Return the pixels, uint8 (height, width, 3), RGB.

        Raises
        ------
        DataError
            If the file is missing or cannot be decoded.
        """
        require_file(self.path, "image")
        pixels = cv2.imread(str(self.path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is None:
            raise DataError(f"{self.path}: this image cannot be decoded; fetch it again")
        return np.ascontiguousarray(pixels[:, :, ::-1], dtype=np.uint8)

    def read_mask(self) -> NDArray[np.uint8] | None:
        """Return the mask, uint8 (height, width): 0…K-1, :data:`BACKGROUND` or :data:`NOT_LABELLED`; None without one.

        Raises
        ------
        DataError
            If the file is missing, cannot be decoded, is not as large as the image, or holds a value without a
            meaning.
        """
        if self.mask is None:
            return None
        values, size = self.mask.read_values(), image_size(self.path)
        if values.shape != size:
            raise DataError(
                f"{self.mask.path}: a mask of {values.shape[1]} x {values.shape[0]} px for an image of"
                f" {size[1]} x {size[0]} px; it must be the mask of {self.path.name}, px by px"
            )
        return self.mask.decode(values)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images with labels of one class scheme at one resolution.

    Parameters
    ----------
    name : str
        What the data is, for cards and tables.
    classes : ClassScheme
        In order of the labels.
    mpp : float
        Resolution of the images, µm per px.
    images : tuple of LabelledImage
    """

    name: str
    classes: ClassScheme
    mpp: float
    images: tuple[LabelledImage, ...]

    @property
    def patients(self) -> tuple[str, ...]:
        """The patients, sorted, each once."""
        return tuple(sorted({image.patient for image in self.images}))
