"""GeoJSON → features and regions, in bounded memory whoever wrote the file."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import orjson

from dualproto_wsi.classes import UNSURE_CLASS, ClassScheme
from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.compiled import compiled
from dualproto_wsi.vector.region import Region

_HEAD = 1 << 20  # bytes in which the list of features must begin for the rest to be read block by block
_BLOCK = 1 << 14  # bytes; with more, the garbage collector takes longer than the parser
_FEATURES = re.compile(rb'"features"\s*:\s*\[')
_DEPTH, _QUOTED, _ESCAPED = range(3)  # of what is known of the text so far
_QUOTE, _BACKSLASH, _COMMA = (ord(c) for c in '"\\,')
_OPENING, _CLOSING = tuple(b"[{"), tuple(b"]}")


def read_features(path: Path) -> Iterator[dict[str, Any]]:
    """Read the features of a GeoJSON file as plain data, in memory that does not grow with their number.

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
        If the file is not JSON, is cut off, or holds something other than features. What comes before the place in
        question may have been yielded by then.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, feature in enumerate(_entries(path, cast(BinaryIO, file))):
                if not isinstance(feature, dict) or feature.get("type") != "Feature":
                    raise DataError(f"{path}: entry {number} is not a Feature; write the file again")
                yield feature
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (orjson.JSONDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not GeoJSON, or cut off: {error}") from error


def _entries(path: Path, file: BinaryIO) -> Iterator[Any]:
    """Parse the entries of the list of features, a block of text at a time, and then what is around the list."""
    block = file.read(_HEAD)
    start = _list_start(block)
    if start is None:  # one Feature, or no list where one would be expected
        data = orjson.loads(block + file.read())
        yield from data["features"] if isinstance(data, dict) and isinstance(data.get("features"), list) else [data]
        return
    head, block = block[:start], block[start:]
    state, pending, known = np.zeros(3, np.int64), [b"["], 0
    while True:
        comma, end = _scan(np.frombuffer(block, np.uint8), state)
        if end >= 0:
            break
        if comma >= 0:
            yield from orjson.loads(b"".join((*pending, block[:comma], b"]")))[known:]
            # The comma stays: an entry must follow it, and the first one of the next list is ours.
            pending, known, block = [b"[null"], 1, block[comma:]
        pending.append(block)
        block = file.read(_BLOCK)
        if not block:
            raise EOFError("the list of features does not end")
    yield from orjson.loads(b"".join((*pending, block[:end], b"]")))[known:]
    around = orjson.loads(head + block[end:] + file.read())
    if isinstance(around, dict) and around.get("type") != "FeatureCollection":
        raise DataError(f"{path}: its list of features is in no FeatureCollection; write the file again")


def _list_start(text: bytes) -> int | None:
    """Return where the text of the first entry begins."""
    if text.lstrip().startswith(b"["):
        return text.index(b"[") + 1
    for match in _FEATURES.finditer(text):
        state = np.zeros(3, np.int64)
        _scan(np.frombuffer(text[: match.start()], np.uint8), state)
        if state[_DEPTH] == 1 and not state[_QUOTED]:
            return match.end()
    return None


@compiled
def _scan(text: npt.NDArray[np.uint8], state: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Return the last comma between entries and the bracket that ends the list, -1 for none; go on from `state`."""
    depth, quoted, escaped = state
    comma, i = -1, 0
    while i < len(text) and depth >= 0:
        c = text[i]
        if escaped:
            escaped = 0
        elif quoted:
            escaped, quoted = int(c == _BACKSLASH), int(c != _QUOTE)
        elif c == _QUOTE:
            quoted = 1
        elif c == _COMMA and depth == 0:
            comma = i
        else:
            depth += int(c in _OPENING) - int(c in _CLOSING)
        i += 1
    state[_DEPTH], state[_QUOTED], state[_ESCAPED] = depth, quoted, escaped
    return comma, i - 1 if depth < 0 else -1


def read_regions(path: Path, classes: ClassScheme) -> Iterator[Region]:
    """Read the regions of a file that :class:`~dualproto_wsi.vector.geojson.GeoJsonWriter` wrote.

    Parameters
    ----------
    path : Path
        The file.
    classes : ClassScheme
        Classes by name; "unsure" is known too.

    Yields
    ------
    Region
        In the file's own frame: the offset is not added again. Features without a classification, such as the analysed
        area, are left out.

    Raises
    ------
    DataError
        If the file is no GeoJSON, has a class that is not in `classes`, or a feature that is not an area.
    """
    by_name = {c.name: c for c in (*classes, UNSURE_CLASS)}
    for number, feature in enumerate(read_features(path)):
        try:
            geometry, properties = feature["geometry"], feature["properties"]
            parts = {"Polygon": lambda c: [c], "MultiPolygon": list}[geometry["type"]](geometry["coordinates"])
            polygons = tuple(tuple(np.array(ring, np.float64).reshape(-1, 2) for ring in part) for part in parts)
            identifier, measurements = feature["id"], properties.get("measurements", {})
            if "classification" not in properties:
                continue
            name = properties["classification"]["name"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: feature {number} is not a region of ours: {error!r}") from error
        if name not in by_name:
            raise DataError(
                f"{path}: feature {number} has the class {name!r}; the classes are {', '.join(classes.names)}"
            )
        yield Region(identifier, by_name[name], polygons, measurements)
