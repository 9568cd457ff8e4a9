"""Slides through OpenSlide."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

import numpy as np
import openslide
from PIL import Image

from dualproto_wsi.errors import SlideUnreadable
from dualproto_wsi.geometry import Box
from dualproto_wsi.slide.pixel_size import from_openslide
from dualproto_wsi.slide.pyramid import Pixels, PyramidReader, exact_downsample
from dualproto_wsi.slide.reader import SlideInfo


class OpenSlideReader(PyramidReader):
    """A slide that OpenSlide opens; safe to read from several threads (OpenSlide's handles are).

    Parameters
    ----------
    slide : openslide.OpenSlide
        The open slide.
    info : SlideInfo
        What is known of it.
    """

    def __init__(self, slide: openslide.OpenSlide, info: SlideInfo) -> None:
        super().__init__(info, slide.level_dimensions)
        self._slide = slide
        self._reads = 0
        self._idle = threading.Condition()

    @classmethod
    def open(cls, path: Path, mpp: float | None = None) -> Self:
        """Open a file.

        Parameters
        ----------
        path : Path
            The file.
        mpp : float or None
            µm per level-0 px that replaces the file's.

        Raises
        ------
        SlideUnreadable
            If OpenSlide does not know the format, or the file is damaged.
        """
        slide = open_handle(path)
        return cls(slide, describe(path, slide, mpp))

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        location = self._location(level, x, y)
        with self._idle:
            self._reads += 1
        try:
            image = self._slide.read_region(location, level, (width, height))
        except openslide.OpenSlideError as error:
            raise SlideUnreadable(
                f"{self.info.name}: pixels near {location} cannot be decoded ({error}); copy or export the slide again"
            ) from error
        finally:
            with self._idle:
                self._reads -= 1
                self._idle.notify_all()
        if image.getchannel("A").getextrema()[0] < 255:
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))

    def _location(self, level: int, x: int, y: int) -> tuple[int, int]:
        """Return the whole level-0 pixel nearest to a level's pixel, as OpenSlide sees the two."""
        reported = self._slide.level_downsamples[level]
        return round(x * reported), round(y * reported)

    def _drift(self, level: int, x: int, y: int) -> tuple[float, float]:
        """OpenSlide starts at whole level-0 pixels and interpolates between the level's."""
        reported = self._slide.level_downsamples[level]
        location = self._location(level, x, y)
        return location[0] / reported - x, location[1] / reported - y

    def close(self) -> None:
        """Let go of the file once no thread reads it any more: OpenSlide would end the process otherwise."""
        with self._idle:
            self._idle.wait_for(lambda: not self._reads)
            self._slide.close()


def open_handle(path: Path) -> openslide.OpenSlide:
    """Open a file with OpenSlide.

    Raises
    ------
    SlideUnreadable
        If OpenSlide does not know the format, or the file is damaged.
    """
    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise SlideUnreadable(
            f"{path}: no reader knows this file; is it a complete slide in a supported format?"
        ) from error
    except openslide.OpenSlideError as error:
        raise SlideUnreadable(f"{path}: the slide is damaged ({error}); copy or export it again") from error


def describe(path: Path, slide: openslide.OpenSlide, mpp: float | None, reader: str = "openslide") -> SlideInfo:
    """Gather what OpenSlide says of a slide.

    Parameters
    ----------
    path : Path
        The file.
    slide : openslide.OpenSlide
        The same, opened.
    mpp : float or None
        µm per level-0 px that replaces the file's.
    reader : str
        Who reads the pixels.
    """
    properties = slide.properties
    size = from_openslide(mpp, properties)
    width, height = slide.dimensions
    bounds = [properties.get(f"openslide.bounds-{side}") for side in ("x", "y", "width", "height")]
    whole = Box(0, 0, width, height)
    return SlideInfo(
        path=path,
        width=width,
        height=height,
        mpp=size.mpp,
        mpp_source=size.source,
        mpp_hint=size.hint,
        downsamples=tuple(
            exact_downsample(level, slide.dimensions, reported)
            for level, reported in zip(slide.level_dimensions, slide.level_downsamples, strict=True)
        ),
        content=Box(*(float(side) for side in bounds if side)).intersection(whole) if all(bounds) else whole,
        vendor=properties.get("openslide.vendor", "unknown"),
        reader=reader,
    )
