"""The fast path: TIFF and SVS made of JPEG tiles, the tiles decoded by libjpeg-turbo.

tifffile says where the tiles lie, OpenSlide what the slide is: its levels, pixel size and vendor, so that both readers
say the same. The pixels are OpenSlide's, which decodes the same tiles with the same library; what is saved is its way
through cairo (premultiplied ARGB, then RGB again), and more where less is wanted: JPEG can be decoded at 1/2, 1/4 and
1/8 of its size, where each pixel is the mean of the square that it stands for.

The library is simplejpeg: libjpeg-turbo in wheels of 0.4 MB for Linux, macOS and Windows with nothing but numpy below,
kept up with Python's releases. It decodes at reduced size, lets other threads run meanwhile, and says when a tile is
damaged. PyTurboJPEG needs a libjpeg-turbo installed by the user; imagecodecs has no reduced size, and like OpenSlide
it hands over whatever came out of a damaged tile without a word.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO, Self

import cv2
import numpy as np
import numpy.typing as npt
import openslide
import simplejpeg
import tifffile

from dualproto_wsi.errors import SlideUnreadable
from dualproto_wsi.slide.openslide_reader import describe, open_handle
from dualproto_wsi.slide.pyramid import LEVEL_TOLERANCE, Pixels, PyramidReader
from dualproto_wsi.slide.reader import SlideInfo
from dualproto_wsi.slide.tile_cache import TileCache

VENDORS = ("aperio", "generic-tiff")  # whose levels are single pages, their tiles side by side from (0, 0) on
JPEG, RGB, YCBCR, CONTIGUOUS = 7, 2, 6, 1  # values of TIFF tags
REDUCTIONS = (2, 4, 8)
#: Bytes of decoded tiles kept. Blocks of one band share a column of tiles with the next block, and a row of tiles with
#: the next band: of tissue 20,000 px wide in tiles of 512 px, three rows are 90 MB.
CACHE_BYTES = 128 << 20
BLANK = np.full((1, 1, 3), 255, np.uint8)  # stands for a tile that was left out, of whatever size
START, END = b"\xff\xd8", b"\xff\xd9"
JFIF, ADOBE, FRAMES = 0xE0, 0xEE, (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)  # JPEG markers: who wrote it, what follows
#: What tifffile and simplejpeg raise on bad files.
DAMAGED = (tifffile.TiffFileError, struct.error, OSError, ValueError, LookupError, TypeError, AttributeError)
HARMLESS = "extraneous bytes"  # libjpeg's word for bytes between the end of the picture and the end marker


@dataclass(frozen=True, slots=True)
class TiledPage:
    """Where the JPEG tiles of a pyramid level lie.

    Parameters
    ----------
    width, height : int
        Size of the level, px.
    tile_width, tile_height : int
        Size of a tile, px; multiples of 16.
    offsets, counts : ndarray of int64
        First byte and number of bytes of each tile, row by row; 0 where a tile was left out.
    head : bytes
        What goes before every tile: the colour space and the tables that all tiles share.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    head: bytes


@dataclass(frozen=True, slots=True)
class Level:
    """A level that can be read: page `number` of the pyramid, at its own size or reduced by a factor."""

    page: TiledPage
    number: int
    reduction: int
    downsample: float

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), px; a part pixel at the far sides counts."""
        return -(-self.page.width // self.reduction), -(-self.page.height // self.reduction)

    @property
    def tile(self) -> tuple[int, int]:
        """(width, height) of a tile, px."""
        return self.page.tile_width // self.reduction, self.page.tile_height // self.reduction


class JpegTiffReader(PyramidReader):
    """A TIFF or SVS of JPEG tiles; safe to read from several threads.

    Parameters
    ----------
    file : BinaryIO
        The open file.
    pages : list of TiledPage
        Where the tiles of each level lie.
    info : SlideInfo
        What is known of it.
    """

    def __init__(self, file: BinaryIO, pages: list[TiledPage], info: SlideInfo) -> None:
        self._levels = _levels(pages, info.downsamples)
        super().__init__(
            info, tuple(level.size for level in self._levels), tuple(level.downsample for level in self._levels)
        )
        self._file = file
        self._file_lock = threading.Lock()
        self._cache = TileCache(CACHE_BYTES)

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
            If it is damaged, or is not made of 8-bit RGB or YCbCr JPEG tiles throughout.
        """
        try:
            with tifffile.TiffFile(path) as tiff:
                _require(path, tiff.pages[0].is_tiled and tiff.pages[0].compression == JPEG, "no JPEG tiles")
                tiled = [page for page in tiff.pages if page.is_tiled]
                with open_handle(path) as slide:
                    pages = [_tiled_page(path, page) for page in _pages(path, tiled, slide)]
                    info = describe(path, slide, mpp, reader="jpeg")
        except SlideUnreadable:
            raise
        except DAMAGED as error:
            raise SlideUnreadable(
                f"{path}: no TIFF, or a damaged one ({error}); copy or export it again, or use --reader auto"
            ) from error
        return cls(path.open("rb"), pages, info)

    def _read_level(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        tile_width, tile_height = self._levels[level].tile
        pixels = np.empty((height, width, 3), np.uint8)
        for row, column in product(_touched(y, height, tile_height), _touched(x, width, tile_width)):
            tile = self._tile(level, row, column)
            top, left = row * tile_height - y, column * tile_width - x
            into = pixels[max(top, 0) : top + tile_height, max(left, 0) : left + tile_width]
            if tile is not BLANK:
                tile = tile[max(-top, 0) :, max(-left, 0) :][: into.shape[0], : into.shape[1]]
            into[:] = tile
        return pixels

    def _tile(self, level: int, row: int, column: int) -> Pixels:
        return self._cache.get((level, row, column), lambda: self._decode(self._levels[level], row, column))

    def _decode(self, level: Level, row: int, column: int) -> Pixels:
        """Return a tile, or :data:`BLANK` for one that was left out."""
        page = level.page
        index = row * -(-page.width // page.tile_width) + column
        if not (page.counts[index] and page.offsets[index]):
            return BLANK
        try:
            stream, square = _stream(page, self._bytes(int(page.offsets[index]), int(page.counts[index])))
            right, bottom = page.width - column * page.tile_width, page.height - row * page.tile_height
            inside = right >= page.tile_width and bottom >= page.tile_height
            if level.reduction == 1 or (inside and square):
                return _decoded(stream, level.tile, level.reduction)
            tile = _decoded(stream, (page.tile_width, page.tile_height), 1)
        except DAMAGED as error:
            raise SlideUnreadable(
                f"{self.info.name}: tile at row {row}, column {column} of level {level.number} cannot be decoded "
                f"({error}); copy or export the slide again, or look at it with --reader openslide"
            ) from error
        tile[:, right:], tile[bottom:] = 255, 255  # a part pixel at the far sides is part white
        reduced: Pixels = cv2.resize(tile, level.tile, interpolation=cv2.INTER_AREA)
        return reduced

    def _bytes(self, offset: int, count: int) -> bytes:
        with self._file_lock:
            self._file.seek(offset)
            data = self._file.read(count)
        if len(data) < count:
            raise ValueError(f"the file ends {count - len(data)} bytes too early")
        return data

    def close(self) -> None:
        """Let go of the file; harmless when done twice."""
        self._file.close()


def _touched(start: int, length: int, side: int) -> range:
    """Return the tiles that a stretch of pixels touches, along one side."""
    return range(start // side, (start + length - 1) // side + 1)


def _levels(pages: list[TiledPage], downsamples: tuple[float, ...]) -> list[Level]:
    """List what can be read: the file's own levels, and between them pages at reduced size."""
    own = list(zip(pages, downsamples, strict=True))
    levels = [Level(page, number, 1, downsample) for number, (page, downsample) in enumerate(own)]
    for number, (page, downsample) in reversed(list(enumerate(own))):  # the smallest page that will do
        for reduction in REDUCTIONS:
            wanted = downsample * reduction
            if all(abs(level.downsample / wanted - 1) > LEVEL_TOLERANCE for level in levels):
                levels.append(Level(page, number, reduction, wanted))
    return levels


def _require(path: Path, fits: bool, reason: str) -> None:
    if not fits:
        raise SlideUnreadable(
            f"{path}: not for the reader jpeg, which takes TIFF and SVS of 8-bit RGB JPEG tiles ({reason}); "
            "use --reader auto"
        )


def _pages(path: Path, tiled: list[Any], slide: openslide.OpenSlide) -> Iterator[Any]:
    """Yield the page of each of OpenSlide's levels."""
    vendor = slide.properties.get("openslide.vendor")
    _require(path, vendor in VENDORS, f"OpenSlide takes it for {vendor}")
    for size in slide.level_dimensions:
        pages = [page for page in tiled if (page.imagewidth, page.imagelength) == size]
        _require(path, len(pages) == 1, f"{len(pages)} pages of {size[0]} x {size[1]} px")
        missing = vendor == "aperio" and 0 in pages[0].databytecounts
        _require(path, not missing, "tiles left out, which OpenSlide takes from other levels")
        yield pages[0]


def _tiled_page(path: Path, page: Any) -> TiledPage:
    layout = (page.compression, page.bitspersample, page.samplesperpixel, page.planarconfig)
    fits = layout == (JPEG, 8, 3, CONTIGUOUS) and page.photometric in (RGB, YCBCR)
    _require(path, fits, f"a level of compression {int(page.compression)}, photometric {int(page.photometric)}")
    _require(path, page.tilewidth % 16 == 0 == page.tilelength % 16, f"tiles of {page.tilewidth} x {page.tilelength}")
    tiles = -(-page.imagewidth // page.tilewidth) * -(-page.imagelength // page.tilelength)
    _require(path, len(page.dataoffsets) == len(page.databytecounts) == tiles, f"not {tiles} tiles as there should be")
    tables = page.jpegtables or START + END
    return TiledPage(
        width=page.imagewidth,
        height=page.imagelength,
        tile_width=page.tilewidth,
        tile_height=page.tilelength,
        offsets=np.asarray(page.dataoffsets, np.int64),
        counts=np.asarray(page.databytecounts, np.int64),
        head=START + _adobe(page.photometric == YCBCR) + tables[len(START) : tables.rindex(END)],
    )


def _adobe(ycbcr: bool) -> bytes:
    """Return the segment that tells libjpeg the colour space; the TIFF knows it, libjpeg guesses."""
    return bytes((0xFF, ADOBE, 0, 14)) + b"Adobe" + bytes((0, 100, 0, 0, 0, 0, int(ycbcr)))


def _stream(page: TiledPage, data: bytes) -> tuple[bytes, bool]:
    """Make a JPEG of its own from a tile: the page's head, and the tile without its word on the colour space.

    Returns
    -------
    bytes
        What libjpeg takes.
    bool
        Whether the colours are as fine along x as along y. Otherwise libjpeg decodes them coarser than it need when it
        reduces the tile.
    """
    if not data.startswith(START):
        raise ValueError("it does not begin as a JPEG does")
    kept, position = [page.head], len(START)
    while data[position] == 0xFF:
        marker, end = data[position + 1], position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position:end]
        if marker in FRAMES:
            height, width = struct.unpack(">HH", segment[5:9])
            if (width, height) != (page.tile_width, page.tile_height):
                raise ValueError(f"it has {width} x {height} px and not {page.tile_width} x {page.tile_height}")
            factors = [(factor >> 4, factor & 15) for factor in segment[11::3]]
            square = all(x * factors[0][1] == y * factors[0][0] for x, y in factors)
            return b"".join((*kept, data[position:])), square
        if marker not in (JFIF, ADOBE):
            kept.append(segment)
        position = end
    raise ValueError("its header is damaged")


def _decoded(stream: bytes, size: tuple[int, int], reduction: int) -> Pixels:
    """Decode a JPEG to (width, height) px, its own size divided by `reduction`."""
    wanted = {"min_width": size[0], "min_height": size[1], "min_factor": reduction}
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(stream, "RGB", **wanted)
    except ValueError as error:
        if HARMLESS not in str(error):
            raise
        pixels = simplejpeg.decode_jpeg(stream, "RGB", strict=False, **wanted)
    return pixels
