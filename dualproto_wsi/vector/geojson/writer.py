"""Regions → GeoJSON that QuPath 0.4 to 0.7 reads.

QuPath refuses a whole file for one bad feature, so the writer leaves nothing to chance: a Polygon (a MultiPolygon only
with two parts or more), closed rings with an area, a classification with name and colour, measurements that are finite
numbers under names of our own, a UUID, no nulls. A file without regions is a FeatureCollection without features, which
QuPath reads as 0 objects.

Coordinates are rounded to 0.01 px, as QuPath 0.6 does on reading, so what is valid here is valid there. A vertex that
regions share is rounded in the same way in all of them.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import orjson

from dualproto_wsi.classes import TissueClass
from dualproto_wsi.settings import OBJECT_TYPES
from dualproto_wsi.vector.geojson.coordinates import batches, encode_polygons
from dualproto_wsi.vector.geojson.output import Output, reported
from dualproto_wsi.vector.region import Polygon, Region

MEASUREMENT_PREFIX = "DualProto "
"""All our measurements begin with it: ``Area …`` or ``Num …`` would collide with columns of QuPath's own."""

_BLOCK = 1 << 20  # bytes that go out at a time
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Parts:
    """Polygons of one feature to come, kept as text: in memory first, in a temporary file if they are many.

    Made by :meth:`GeoJsonWriter.parts`, for its offset.

    Attributes
    ----------
    count : int
        Number of polygons added so far.
    """

    def __init__(self, folder: Path, offset: npt.NDArray[np.float64]) -> None:
        self.count = 0
        self._folder, self._offset = folder, offset
        self._file = tempfile.SpooledTemporaryFile(_BLOCK, "w+b", dir=str(folder))  # noqa: SIM115 - closed by close()

    def add(self, polygons: Iterable[Polygon]) -> None:
        """Append polygons that overlap none added before.

        Raises
        ------
        ValueError
            As :meth:`GeoJsonWriter.write` does.
        OutputError
            If there is no room for them.
        """
        for batch in batches(polygons, lambda polygon: sum(map(len, polygon))):
            text = b",".join(encode_polygons(batch, self._offset))
            with reported(self._folder):
                self._file.write(b"," + text if self.count else text)
            self.count += len(batch)

    def read(self) -> Iterator[bytes]:
        """Read the text of all polygons, separated by commas, block by block."""
        with reported(self._folder):
            self._file.seek(0)
            while block := self._file.read(_BLOCK):
                yield block

    def close(self) -> None:
        """Forget the polygons."""
        self._file.close()


class GeoJsonWriter:
    """GeoJSON files in the making, all of the same features; a context manager.

    Features are encoded once and go to all files one after the other, in bounded memory, under temporary names beside
    the final ones; the end of the ``with`` block renames them. If the block fails, the temporary files are removed and
    earlier files of the final names stay. Equal regions give equal bytes, compressed or not.

    Parameters
    ----------
    paths : Path or sequence of Path
        At least one file to write, ending in one of :data:`SUFFIXES`; those of ``.gz`` are compressed.
    object_type : str
        QuPath's type of every object: ``annotation``, ``detection`` or ``tile``.
    offset : tuple of float
        (dx, dy) to subtract from all coordinates, level-0 px: the top left of what QuPath shows of the slide.
    locked : bool
        Whether objects are locked against editing.

    Attributes
    ----------
    count : int
        Number of features written so far.

    Raises
    ------
    OutputError
        If a name has another ending, or, in the ``with`` block, a file cannot be written.
    """

    def __init__(
        self,
        paths: Path | Sequence[Path],
        object_type: str = "annotation",
        offset: tuple[float, float] = (0.0, 0.0),
        locked: bool = False,
    ) -> None:
        if object_type not in OBJECT_TYPES:
            raise ValueError(f"object type is {object_type!r}; choose one of {', '.join(OBJECT_TYPES)}")
        self.count = 0
        self._outputs = [Output(path) for path in ([paths] if isinstance(paths, Path) else paths)]
        if not self._outputs:
            raise ValueError("no file to write; name at least one")
        self._object_type, self._locked, self._offset = object_type, locked, np.array(offset, np.float64)
        self._starts: dict[object, bytes] = {}
        self._pending = bytearray()
        self._stack = ExitStack()
        self._making = self._make()

    def __enter__(self) -> Self:
        self._making.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._making.__exit__(kind, error, trace)

    @contextmanager
    def _make(self) -> Iterator[None]:
        with self._stack as stack:
            for output in self._outputs:
                stack.enter_context(output)
            self._pending += b'{"type":"FeatureCollection","features":['
            yield
            self._pending += b"\n]}\n"
            self._flush()
            self._send(len(self._pending))
            for output in self._outputs:  # all are complete before the first is renamed
                output.finish()

    def write(self, region: Region) -> None:
        """Append a region; see :meth:`write_all`, which is faster for many."""
        self.write_all((region,))

    def write_all(self, regions: Iterable[Region]) -> None:
        """Append regions.

        Raises
        ------
        ValueError
            If a region has no polygon, a ring that is not closed, not finite or of no area, an id that is no UUID, or
            a measurement of a foreign name.
        OutputError
            If a file cannot be written.
        """
        for batch in batches(regions, _vertices):
            texts, done = self._encode(batch), 0
            for region in batch:
                polygons = texts[done : done + len(region.polygons)]
                done += len(polygons)
                properties = self._properties(region.tissue_class, region.measurements)
                self._append(region.id, len(polygons), (b",".join(polygons),), properties)

    def parts(self) -> Parts:
        """Start a feature whose polygons are found one by one; close it, or leave that to the ``with`` block."""
        folder = self._outputs[0].path.parent
        with reported(folder):
            parts = Parts(folder, self._offset)
        self._stack.callback(parts.close)
        return parts

    def write_parts(
        self,
        parts: Parts,
        identifier: str,
        tissue_class: TissueClass | None,
        measurements: Mapping[str, float],
        **properties: str | bool,
    ) -> None:
        """Append one feature of all the polygons of `parts`.

        Parameters
        ----------
        parts : Parts
            At least one polygon.
        identifier : str
            A UUID.
        tissue_class : TissueClass or None
            None leaves the object unclassified.
        measurements : mapping of str to float
            As of :class:`Region`.
        **properties : str or bool
            ``name``, and ``objectType`` or ``isLocked`` where they differ from the writer's.

        Raises
        ------
        ValueError, OutputError
            As :meth:`write_all`.
        """
        text = self._properties(tissue_class, measurements, **properties)
        self._append(identifier, parts.count, parts.read(), text)

    def _encode(self, regions: Sequence[Region]) -> list[bytes]:
        """Encode the polygons of all regions, one after the other."""
        try:
            return encode_polygons([polygon for region in regions for polygon in region.polygons], self._offset)
        except ValueError:
            for region in regions:
                try:
                    encode_polygons(region.polygons, self._offset)
                except ValueError as error:
                    raise ValueError(f"region {region.id}: {error}") from error
            raise

    def _append(self, identifier: str, count: int, polygons: Iterable[bytes], properties: bytes) -> None:
        if not count:
            raise ValueError(f"region {identifier} has no polygon")
        if not _UUID.fullmatch(identifier):
            raise ValueError(f"region id {identifier!r} is no UUID; QuPath would replace it by another at each import")
        many = count > 1
        self._pending += b'%s\n{"type":"Feature","id":"%s","geometry":{"type":"%s","coordinates":%s' % (
            b"," if self.count else b"",
            identifier.encode(),
            b"MultiPolygon" if many else b"Polygon",
            b"[" if many else b"",
        )
        for text in polygons:
            self._pending += text
            self._flush()
        self._pending += b'%s},"properties":%s}' % (b"]" if many else b"", properties)
        self.count += 1

    def _properties(
        self, tissue_class: TissueClass | None, measurements: Mapping[str, float], **properties: str | bool
    ) -> bytes:
        key = (tissue_class and (tissue_class.name, tissue_class.colour), *properties.items())
        start = self._starts.get(key)
        if start is None:
            values: dict[str, Any] = {"objectType": self._object_type}
            if tissue_class is not None:
                values["classification"] = {"name": tissue_class.name, "color": tissue_class.colour}
            if self._locked:
                values["isLocked"] = True
            start = self._starts[key] = orjson.dumps(values | properties)[:-1] + b',"measurements":'
        finite = {}
        for name, value in measurements.items():
            if not name.startswith(MEASUREMENT_PREFIX):
                raise ValueError(f"measurement {name!r} must begin with {MEASUREMENT_PREFIX!r}")
            value = float(value)
            if value - value == 0:  # neither NaN nor infinite
                finite[name] = value
        return b"%s%s}" % (start, orjson.dumps(finite))

    def _flush(self) -> None:
        """Send what fills whole blocks: cut elsewhere, the same text would be compressed to other bytes."""
        while len(self._pending) >= _BLOCK:
            self._send(_BLOCK)

    def _send(self, size: int) -> None:
        block = bytes(self._pending[:size])
        del self._pending[:size]
        for output in self._outputs:
            output.write(block)


def _vertices(region: Region) -> int:
    return sum(map(len, region.rings))
