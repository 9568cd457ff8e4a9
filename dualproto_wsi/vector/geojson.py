"""Regions ↔ GeoJSON that QuPath 0.4 to 0.7 reads.

QuPath refuses a whole file for one bad feature, so the writer leaves nothing to chance: a Polygon (a MultiPolygon only
with two parts or more), closed rings, a classification with name and colour, measurements that are finite numbers, a
UUID, no nulls. A file without regions is a FeatureCollection without features, which QuPath reads as 0 objects.

Coordinates are rounded to 0.01 px, as QuPath 0.6 does on reading, so what is valid here is valid there. A vertex that
regions share is rounded in the same way in all of them.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import orjson

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError, OutputError
from dualproto_wsi.settings import OBJECT_TYPES
from dualproto_wsi.vector.region import Region, Ring, region_id, to_region

__all__ = ["GeoJsonWriter", "Region", "read_features", "read_regions", "region_id", "to_region"]

SUFFIXES = (".geojson", ".geojson.gz", ".json", ".json.gz")
"""Endings that QuPath reads; in a file of another name it finds no objects, without a word."""

DECIMALS = 2
_BUFFER = 1 << 20  # bytes


class GeoJsonWriter:
    """A GeoJSON file in the making; a context manager.

    Features go to the file one after the other, in bounded memory, under a temporary name beside the final one; the
    end of the ``with`` block renames it. If the block fails, the temporary file is removed and an earlier file of the
    final name stays. Equal regions give equal bytes, compressed or not.

    Parameters
    ----------
    path : Path
        File to write, ending in one of :data:`SUFFIXES`; with ``.gz`` it is compressed.
    object_type : str
        QuPath's type of every object: ``annotation``, ``detection`` or ``tile``.
    offset : tuple of float
        (dx, dy) to subtract from all coordinates, level-0 px: the top left of what QuPath shows of the slide.
    locked : bool
        Whether objects are locked against editing.

    Attributes
    ----------
    count : int
        Number of regions written so far.

    Raises
    ------
    OutputError
        If the name has another ending, or, in the ``with`` block, the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        object_type: str = "annotation",
        offset: tuple[float, float] = (0.0, 0.0),
        locked: bool = False,
    ) -> None:
        if not path.name.endswith(SUFFIXES):
            raise OutputError(f"{path}: QuPath reads no file of this ending; use one of {', '.join(SUFFIXES)}")
        if object_type not in OBJECT_TYPES:
            raise ValueError(f"object type is {object_type!r}; choose one of {', '.join(OBJECT_TYPES)}")
        self.path, self.count = path, 0
        self._object_type, self._locked, self._offset = object_type, locked, np.array(offset, np.float64)
        self._part = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> Self:
        with _reported(self.path):
            self._files.append(self._part.open("wb", buffering=_BUFFER))
            if self.path.suffix == ".gz":
                # Neither name nor time go into the header: they would change the bytes.
                packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._files[0], mtime=0)
                self._files.append(packed)  # type: ignore[arg-type]
            self._files[-1].write(b'{"type":"FeatureCollection","features":[')
        return self

    def write(self, region: Region) -> None:
        """Append a region.

        Raises
        ------
        ValueError
            If the region has no polygon, or a ring that is not closed or not finite.
        OutputError
            If the file cannot be written.
        """
        feature = self._encode(region)
        with _reported(self.path):
            self._files[-1].write(b",\n" if self.count else b"\n")
            self._files[-1].write(feature)
        self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with _reported(self.path):
                    self._files[-1].write(b"\n]}\n")
                    for file in reversed(self._files):
                        file.close()
                    self._part.replace(self.path)
        finally:
            # After a failure only; what a full disk says of the rest is of no interest then.
            for file in reversed(self._files):
                with contextlib.suppress(OSError):
                    file.close()
            self._part.unlink(missing_ok=True)

    def _encode(self, region: Region) -> bytes:
        polygons = [self._coordinates(region.id, polygon) for polygon in region.polygons]
        if not polygons:
            raise ValueError(f"region {region.id} has no polygon")
        kind, coordinates = b"Polygon", polygons[0]
        if len(polygons) > 1:
            kind, coordinates = b"MultiPolygon", b"[" + b",".join(polygons) + b"]"
        properties: dict[str, Any] = {
            "objectType": self._object_type,
            "classification": {"name": region.tissue_class.name, "color": region.tissue_class.colour},
        }
        if self._locked:
            properties["isLocked"] = True
        properties["measurements"] = {k: v for k, v in region.measurements.items() if math.isfinite(v)}
        return b'{"type":"Feature","id":"%s","geometry":{"type":"%s","coordinates":%s},"properties":%s}' % (
            region.id.encode(),
            kind,
            coordinates,
            orjson.dumps(properties, option=orjson.OPT_SERIALIZE_NUMPY),
        )

    def _coordinates(self, name: str, polygon: tuple[Ring, ...]) -> bytes:
        """Encode the rings of a polygon: at most two decimals, none where a number is whole."""
        for ring in polygon:
            if len(ring) < 4 or ring[0, 0] != ring[-1, 0] or ring[0, 1] != ring[-1, 1]:
                raise ValueError(f"region {name}: a ring must be closed and have four vertices or more")
        rounded = np.round(np.concatenate(polygon) - self._offset, DECIMALS)
        if not math.isfinite(rounded.sum()):
            raise ValueError(f"region {name}: a coordinate is not finite")
        whole = rounded.astype(np.int64)
        values = whole if np.array_equal(whole, rounded) else rounded + 0.0  # + 0.0: no negative zero
        rings, start = [], 0
        for ring in polygon:
            rings.append(values[start : start + len(ring)])
            start += len(ring)
        text = orjson.dumps(rings, option=orjson.OPT_SERIALIZE_NUMPY)
        return text if values is whole else text.replace(b".0,", b",").replace(b".0]", b"]")


@contextlib.contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Say which file could not be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder, its rights and the free space"
        ) from error


def read_features(path: Path) -> Iterator[dict[str, Any]]:
    """Read the features of a GeoJSON file as plain data.

    Parameters
    ----------
    path : Path
        A FeatureCollection, a list of Features or one Feature; compressed if it ends in ``.gz``.

    Yields
    ------
    dict
        A Feature.

    Raises
    ------
    DataError
        If the file is not JSON, is cut off, or holds something other than features.
    """
    try:
        data = orjson.loads(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not GeoJSON, or cut off: {error}") from error
    if isinstance(data, dict):
        data = data.get("features") if data.get("type") == "FeatureCollection" else [data]
    for number, feature in enumerate(data if isinstance(data, list) else [data]):
        if not isinstance(feature, dict) or feature.get("type") != "Feature":
            raise DataError(f"{path}: entry {number} is not a Feature; write the file again")
        yield feature


def read_regions(path: Path, classes: ClassScheme) -> Iterator[Region]:
    """Read the regions of a file that :class:`GeoJsonWriter` wrote.

    Parameters
    ----------
    path : Path
        The file.
    classes : ClassScheme
        Classes by name.

    Yields
    ------
    Region
        In the file's own frame: the offset is not added again.

    Raises
    ------
    DataError
        If the file is no GeoJSON, has a class that is not in `classes`, or a feature that is not an area.
    """
    by_name = {c.name: c for c in classes}
    for number, feature in enumerate(read_features(path)):
        try:
            geometry, properties = feature["geometry"], feature["properties"]
            name = properties["classification"]["name"]
            parts = {"Polygon": lambda c: [c], "MultiPolygon": list}[geometry["type"]](geometry["coordinates"])
            polygons = tuple(tuple(np.array(ring, np.float64).reshape(-1, 2) for ring in part) for part in parts)
            identifier, measurements = feature["id"], properties.get("measurements", {})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: feature {number} is not a region of ours: {error!r}") from error
        if name not in by_name:
            raise DataError(
                f"{path}: feature {number} has the class {name!r}; the classes are {', '.join(classes.names)}"
            )
        yield Region(identifier, by_name[name], polygons, measurements)
