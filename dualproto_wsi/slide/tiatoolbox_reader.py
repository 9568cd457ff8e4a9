"""Slides through TIAToolbox: the formats that OpenSlide does not open. The only module that imports TIAToolbox."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile

from dualproto_wsi.errors import SlideUnreadable
from dualproto_wsi.geometry import Box
from dualproto_wsi.slide.pixel_size import Candidate, PixelSize, choose, from_tiff
from dualproto_wsi.slide.pyramid import Pixels, PyramidReader, exact_downsample
from dualproto_wsi.slide.reader import SlideInfo

TIFF_SUFFIXES = (".tif", ".tiff", ".svs", ".qptiff")


class TiaToolboxReader(PyramidReader):
    """A slide that TIAToolbox opens; reads take turns, its readers are not made for threads.

    Parameters
    ----------
    slide : tiatoolbox.wsicore.wsireader.WSIReader
        The open slide.
    info : SlideInfo
        What is known of it.
    """

    def __init__(self, slide: Any, info: SlideInfo) -> None:
        super().__init__(info, tuple(_levels(slide.info)))
        self._slide = slide
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, mpp: float | None = None) -> Self:
        """Open a file, or the folder of an NGFF image.

        Parameters
        ----------
        path : Path
            The file.
        mpp : float or None
            µm per level-0 px that replaces the file's.

        Raises
        ------
        SlideUnreadable
            If TIAToolbox does not open it, for whatever reason.
        """
        from tiatoolbox.wsicore.wsireader import WSIReader

        try:
            slide = WSIReader.open(path)
            return cls(slide, _info(path, slide, mpp))
        except _failures() as error:
            raise SlideUnreadable(
                f"{path}: TIAToolbox cannot open it ({_one_line(error)}); is it a complete slide in a supported format?"
            ) from error

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        downsample = self.info.downsamples[level]
        location = round(x * downsample), round(y * downsample)
        try:
            with self._lock:
                pixels = self._slide.read_rect(location, (width, height), resolution=level, units="level")
        except _failures() as error:
            raise SlideUnreadable(
                f"{self.info.name}: pixels near {location} cannot be decoded ({_one_line(error)}); "
                "copy or export the slide again"
            ) from error
        return np.ascontiguousarray(pixels[..., :3])

    def close(self) -> None:
        """Let go of the file; harmless when done twice."""
        for handle in ("tiff", "wsi", "openslide_wsi"):  # whichever of TIAToolbox's readers this is: none has a close
            if hasattr(self._slide, handle):
                getattr(self._slide, handle).close()


def _info(path: Path, slide: Any, mpp: float | None) -> SlideInfo:
    meta = slide.info
    width, height = (int(side) for side in meta.slide_dimensions)
    size = _pixel_size(path, meta, mpp)
    return SlideInfo(
        path=path,
        width=width,
        height=height,
        mpp=size.mpp,
        mpp_source=size.source,
        mpp_hint=size.hint,
        downsamples=tuple(exact_downsample(level, (width, height), width / level[0]) for level in _levels(meta)),
        content=_content(slide, Box(0, 0, width, height)),
        vendor="unknown" if str(meta.vendor) == "None" else str(meta.vendor),
        reader="tiatoolbox",
    )


def _levels(meta: Any) -> list[tuple[int, int]]:
    """Return the size of each level that TIAToolbox can read; of NGFF it lists all and reads the first."""
    return [(int(width), int(height)) for width, height in meta.level_dimensions][: len(meta.level_downsamples)]


def _pixel_size(path: Path, meta: Any, mpp: float | None) -> PixelSize:
    """Find the pixel size; a TIFF's from the file itself, since TIAToolbox makes one up from the objective power."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        return from_tiff(mpp, path)
    x, y = (float(side) for side in meta.mpp) if meta.mpp is not None else (None, None)
    return choose(mpp, [Candidate("TIAToolbox metadata", x, y)])


def _content(slide: Any, whole: Box) -> Box:
    """Return OpenSlide's bounds where TIAToolbox hands them through."""
    raw = slide.info.raw or {}
    bounds = [raw.get(f"openslide.bounds-{side}") for side in ("x", "y", "width", "height")]
    return Box(*(float(side) for side in bounds if side)).intersection(whole) if all(bounds) else whole


def _failures() -> tuple[type[Exception], ...]:
    """Return what TIAToolbox and the libraries below it raise on bad files."""
    import openslide
    from tiatoolbox.utils.exceptions import FileNotSupportedError
    from wsidicom import errors as dicom  # type: ignore[import-untyped]

    return (
        *(dicom.WsiDicomError, dicom.WsiDicomFileError, dicom.WsiDicomNotFoundError, dicom.WsiDicomNotSupportedError),
        *(FileNotSupportedError, openslide.OpenSlideError, tifffile.TiffFileError),
        *(OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError),
    )


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
