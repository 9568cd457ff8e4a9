"""Files of features: a ZIP archive a slide, whole or not at all, with a checksum for every window.

In an archive are ``header.json``, ``tissue`` (the mask), ``picture.png`` (the slide's overview) and ``windows/Y_X``,
of each window: Y and X of its top left in model px from the label grid's, and in it one half-precision array a level,
compressed by blosc (bit shuffle and zstd). The list of an archive's parts comes at its end, so that of a file cut short
nothing counts; the parts have CRC-32 sums.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.errors import FeaturesUnusable
from dualproto_wsi.workflow.features.header import SUFFIX, FeatureHeader

Half = NDArray[np.float16]
Pixels = NDArray[np.uint8]

HEADER, TISSUE, PICTURE, WINDOWS = "header.json", "tissue", "picture.png", "windows/"
ABANDONED_S = 86_400.0
"""After so long without a change, an unfinished file is of a process that is gone, s."""
LOOK_AGAIN_BYTES = 64_000_000
"""How much is written between two looks at the size of the folder."""
AGAIN = "delete it, and store the slide's features anew with --cache-features"


class CacheFull(Exception):
    """The folder would grow beyond its limit."""


def _pack(array: NDArray[np.generic]) -> bytes:
    shuffle = imagecodecs.BLOSC.SHUFFLE.BITSHUFFLE
    return bytes(
        imagecodecs.blosc_encode(
            array.tobytes(), level=1, compressor="zstd", shuffle=shuffle, typesize=array.itemsize, numthreads=1
        )
    )


def _unpack(packed: bytes) -> bytes:
    return bytes(imagecodecs.blosc_decode(packed, numthreads=1))


class FeatureWriter:
    """Writes the features of one slide; a context manager: without :meth:`finish` nothing is left.

    Parameters
    ----------
    path : Path
        Of the file; it appears when it is whole, and takes the place of an earlier one.
    header : FeatureHeader
    field : ndarray of uint8, shape header.field_shape
        The tissue mask.
    picture : ndarray of uint8, shape (h, w, 3)
        Overview of the slide, RGB.
    limit_bytes : float
        Most that the folder may hold, with the unfinished files of all processes.

    Raises
    ------
    OSError
        If it cannot be written.
    """

    def __init__(self, path: Path, header: FeatureHeader, field: Pixels, picture: Pixels, limit_bytes: float) -> None:
        self.path = path
        self._limit = limit_bytes
        self._written = self._look_at = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        drop_abandoned(path.parent)
        self._temporary = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.tmp")
        self._zip = zipfile.ZipFile(self._temporary, "w", zipfile.ZIP_STORED)
        with ExitStack() as failing:
            failing.callback(self.drop)
            self._put(HEADER, header.to_bytes())
            self._put(TISSUE, _pack(field))
            self._put(PICTURE, cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())
            failing.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def add(self, y_px: int, x_px: int, features: Sequence[Half]) -> None:
        """Add a window: its place, and an array (C, h, w) a level.

        Raises
        ------
        CacheFull
            If the folder has reached its limit.
        ValueError
            If a value is beyond half precision.
        OSError
            If the disk is full, for one.
        """
        if not all(np.isfinite(level).all() for level in features):
            raise ValueError("a value is not finite in half precision")
        parts = [_pack(level) for level in features]
        sizes = np.array([[len(part), *level.shape] for part, level in zip(parts, features, strict=True)], "<u4")
        self._put(f"{WINDOWS}{y_px}_{x_px}", b"".join([bytes([len(parts)]), sizes.tobytes(), *parts]))

    def finish(self) -> int:
        """Make the file appear; return its size, bytes.

        Raises
        ------
        CacheFull
            If the folder would grow beyond its limit.
        OSError
            If the disk is full, for one.
        """
        self._look()
        self._zip.close()
        size = self._temporary.stat().st_size
        self._temporary.replace(self.path)
        return size

    def drop(self) -> None:
        """Remove what was written, unless it was finished."""
        if self._temporary.exists():
            self._zip.close()
            self._temporary.unlink(missing_ok=True)

    def _put(self, name: str, data: bytes) -> None:
        self._written += len(data)
        if self._written >= self._look_at:
            self._look_at = self._written + LOOK_AGAIN_BYTES
            self._look()
        self._zip.writestr(zipfile.ZipInfo(name), data)  # without the time of day: equal content, equal bytes

    def _look(self) -> None:
        if folder_bytes(self.path.parent, besides=(self._temporary, self.path)) + self._written > self._limit:
            raise CacheFull


def folder_bytes(folder: Path, besides: Sequence[Path] = ()) -> int:
    """Return the size of all features in a folder, unfinished ones too, without the files `besides`, bytes."""
    total = 0
    for path in folder.iterdir():
        if SUFFIX in path.name and path not in besides:
            try:
                total += path.stat().st_size
            except FileNotFoundError:  # another process has just finished or dropped it
                continue
    return total


def drop_abandoned(folder: Path) -> None:
    """Remove unfinished files of processes that were killed."""
    for path in folder.glob(f"*{SUFFIX}.*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > ABANDONED_S:
                path.unlink()
        except FileNotFoundError:
            continue


class StoredFeatures:
    """A file of features, open for reading; a context manager; threads may share it.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    header : FeatureHeader
    sha256 : str
        Of the content: of the header and the checksums of all parts.
    windows : frozenset of (int, int)
        (y, x) of the top left of each window, model px.

    Raises
    ------
    FeaturesUnusable
        If it is cut short, damaged, no such file, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise FeaturesUnusable(f"{path}: cut short, or no file of features ({error}); {AGAIN}") from error
        try:
            text = self._part(HEADER)
            self.header = FeatureHeader.from_bytes(text)
        except ValueError as error:
            self._zip.close()
            raise FeaturesUnusable(f"{path}: {error}; {AGAIN}") from error
        parts = sorted((info.filename, info.CRC, info.file_size) for info in self._zip.infolist())
        self.sha256 = hashlib.sha256(text + repr(parts).encode()).hexdigest()
        self.windows = frozenset(_place(name) for name, _, _ in parts if name.startswith(WINDOWS))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def describe(self) -> dict[str, Any]:
        """Return what ``record.json`` says of it."""
        header = self.header
        return {"file": str(self.path), "level": header.key.level, "precision": header.precision, "used": True}

    def window(self, y_px: int, x_px: int) -> list[Half]:
        """Return the features of a window, float16 (C, h, w) a level.

        Raises
        ------
        FeaturesUnusable
            If they are damaged.
        """
        name = f"{WINDOWS}{y_px}_{x_px}"
        data = self._part(name)
        count = data[0]
        sizes = np.frombuffer(data, "<u4", 4 * count, 1).reshape(count, 4)
        start, found = 1 + 16 * count, []
        for length, *shape in sizes.tolist():
            level = np.frombuffer(_unpack(data[start : start + length]), np.float16)
            found.append(level.reshape(shape))
            start += length
        return found

    def field(self) -> Pixels:
        """Return the tissue mask, uint8 (rows, columns)."""
        return np.frombuffer(_unpack(self._part(TISSUE)), np.uint8).reshape(self.header.field_shape)

    def picture(self) -> Pixels:
        """Return the overview of the slide, RGB, uint8 (h, w, 3)."""
        encoded = np.frombuffer(self._part(PICTURE), np.uint8)
        return np.asarray(
            cv2.cvtColor(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB), np.uint8
        )

    def _part(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, KeyError, OSError, EOFError) as error:
            raise FeaturesUnusable(f"{self.path}: its part {name} is damaged ({error}); {AGAIN}") from error


def _place(name: str) -> tuple[int, int]:
    y_px, x_px = name.removeprefix(WINDOWS).split("_")
    return int(y_px), int(x_px)


def stored_files(folder: Path, slide: str = "") -> Iterator[Path]:
    """Yield the files of features in a folder, of a slide if its SHA-256 is given, sorted."""
    yield from sorted(folder.glob(f"{slide[:16]}*{SUFFIX}"))
