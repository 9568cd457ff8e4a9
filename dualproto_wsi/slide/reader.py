"""Opening slides and finding them on the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from dualproto_wsi.errors import MissingPixelSize, SlideNotFound, SlideUnreadable
from dualproto_wsi.geometry import Box
from dualproto_wsi.settings import ReadSettings

#: Endings of the files that a search of a folder takes for slides. Plain images (PNG, JPEG) and DICOM, where many files
#: make one slide, are opened too, but only when named one by one.
SLIDE_SUFFIXES = frozenset(
    (".bif", ".czi", ".mrxs", ".ndpi", ".qptiff", ".scn", ".svs", ".svslide", ".tif", ".tiff", ".vms", ".vmu", ".zarr")
)
JPEG_SUFFIXES = frozenset((".svs", ".tif", ".tiff"))  # what may be made of JPEG tiles that we decode ourselves
OME_SUFFIXES = (".ome.tif", ".ome.tiff")
#: What TIAToolbox opens by other means than OpenSlide, and how such files begin.
TIATOOLBOX_SUFFIXES = frozenset((".dcm", ".jp2", ".jpeg", ".jpg", ".png", ".qptiff", ".tif", ".tiff", ".zarr"))
IMAGE_STARTS = (
    b"II*\0",
    b"II+\0",
    b"MM\0*",
    b"MM\0+",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"\0\0\0\x0cjP",
    b"\xff\x4f\xff\x51",
)


@dataclass(frozen=True, slots=True)
class SlideInfo:
    """What is known of a slide without reading its pixels.

    Parameters
    ----------
    path : Path
        The file.
    width, height : int
        Size of the whole file, level-0 px.
    mpp : float or None
        µm per level-0 px, geometric mean of x and y; None when the file does not say and nobody else did.
    mpp_source : str
        Where `mpp` comes from: ``option --mpp``, ``openslide.mpp-x``, ``tiff resolution tag`` …, ``missing``.
    downsamples : tuple of float
        Level-0 px per px of each pyramid level, finest first.
    content : Box
        The part that QuPath shows: OpenSlide's bounds where the file has them, else all; level-0 px.
    vendor : str
        Scanner or format, as the reader names it.
    reader : str
        ``jpeg``, ``openslide`` or ``tiatoolbox``.
    mpp_hint : str
        What may help to name a missing pixel size; empty when there is nothing.
    """

    path: Path
    width: int
    height: int
    mpp: float | None
    mpp_source: str
    downsamples: tuple[float, ...]
    content: Box
    vendor: str
    reader: str
    mpp_hint: str = ""

    @property
    def name(self) -> str:
        """File name with its ending."""
        return self.path.name

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole file, level-0 px."""
        return self.width, self.height

    def require_mpp(self) -> float:
        """Return µm per level-0 px.

        Raises
        ------
        MissingPixelSize
            If it is not known.
        """
        if self.mpp is None:
            hint = f" ({self.mpp_hint})" if self.mpp_hint else ""
            raise MissingPixelSize(f"{self.name}: no pixel size in the file; pass --mpp (microns per pixel){hint}")
        return self.mpp


class SlideReader(Protocol):
    """An open slide; all methods may be called from several threads at once."""

    info: SlideInfo

    def read(self, box: Box, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Read a box (level-0 px, fractions allowed) resampled to (width, height) px as RGB (height, width, 3).

        The result is antialiased and exact below the pixel; it is white outside the slide and where the slide is
        transparent.

        Raises
        ------
        SlideUnreadable
            If the pixels cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_slide(path: Path, settings: ReadSettings | None = None) -> SlideReader:
    """Open a slide.

    ``auto`` decodes TIFF and SVS of JPEG tiles itself, uses OpenSlide for what else it opens and TIAToolbox for the
    rest. OME-TIFF goes to TIAToolbox first: OpenSlide opens it as a plain TIFF and misses its pyramid and its pixel
    size.

    Parameters
    ----------
    path : Path
        The file (NGFF: the ``.zarr`` folder; MRXS, DICOM: any one file of the slide as the format wants it).
    settings : ReadSettings, optional
        Pixel size that replaces the file's, and which reader to use.

    Returns
    -------
    SlideReader
        To be closed, best by a ``with`` statement.

    Raises
    ------
    SlideNotFound
        If nothing is at `path`.
    SlideUnreadable
        If it is a folder, empty, damaged or of a kind that no reader knows.
    """
    settings = settings or ReadSettings()
    path = Path(path)
    _check_file(path)
    *others, last = _readers_for(path) if settings.reader == "auto" else [settings.reader]
    for name in others:
        try:
            return _open_with(name, path, settings.mpp)
        except SlideUnreadable:
            continue
    return _open_with(last, path, settings.mpp)


def _readers_for(path: Path) -> list[str]:
    """Return the readers to try, in order; not TIAToolbox in vain, since importing it takes seconds."""
    if path.suffix.lower() == ".zarr":
        return ["tiatoolbox"]
    if path.name.lower().endswith(OME_SUFFIXES):
        return ["tiatoolbox", "openslide"]
    first = ["jpeg"] if path.suffix.lower() in JPEG_SUFFIXES else []
    return [*first, "openslide", "tiatoolbox"] if _is_for_tiatoolbox(path) else [*first, "openslide"]


def _open_with(name: str, path: Path, mpp: float | None) -> SlideReader:
    if name == "tiatoolbox":
        from dualproto_wsi.slide.tiatoolbox_reader import TiaToolboxReader

        return TiaToolboxReader.open(path, mpp)
    if name == "jpeg":
        from dualproto_wsi.slide.jpeg_reader import JpegTiffReader

        return JpegTiffReader.open(path, mpp)
    from dualproto_wsi.slide.openslide_reader import OpenSlideReader

    return OpenSlideReader.open(path, mpp)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise SlideNotFound(f"{path}: no such slide; check the path")
    if path.is_dir():
        if path.suffix.lower() != ".zarr":
            raise SlideUnreadable(f"{path}: a folder, not a slide; name a slide in it")
        return
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise SlideUnreadable(f"{path}: cannot be opened ({error.strerror}); check its permissions") from error
    if not first:
        raise SlideUnreadable(f"{path}: the file is empty; copy or export it again")


def _is_for_tiatoolbox(path: Path) -> bool:
    """Tell whether TIAToolbox may know more than OpenSlide, from the ending and the first bytes."""
    if path.suffix.lower() not in TIATOOLBOX_SUFFIXES:
        return False
    with path.open("rb") as file:
        start = file.read(132)
    return start.startswith(IMAGE_STARTS) or start[128:] == b"DICM"


def find_slides(paths: Iterable[Path]) -> list[Path]:
    """List the slides named by files and folders.

    Parameters
    ----------
    paths : iterable of Path
        A file is kept whatever it is, also when it is missing: opening it says what is wrong. A folder is searched with
        all folders in it for :data:`SLIDE_SUFFIXES`; hidden files and folders, and the data folders of MRXS slides, are
        passed over; links are followed.

    Returns
    -------
    list of Path
        In the order given, sorted by path within a folder, each once.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        inside = path.is_dir() and path.suffix.lower() != ".zarr"
        found.update(dict.fromkeys(sorted(_search(path)) if inside else [path]))
    return list(found)


def _search(folder: Path) -> Iterable[Path]:
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        mirax = {Path(name).stem for name in files if name.lower().endswith(".mrxs")}
        entries = [] if real in seen else [name for name in folders if not name.startswith(".") and name not in mirax]
        stores = [name for name in entries if name.lower().endswith(".zarr")]
        folders[:] = [name for name in entries if name not in stores]
        if real not in seen:
            yield from (Path(root, name) for name in [*files, *stores] if _looks_like_slide(name))
        seen.add(real)


def _looks_like_slide(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in SLIDE_SUFFIXES
