"""GeoJSON → features, in bounded memory whoever wrote the file."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import orjson

from dualproto_wsi.compiled import compiled
from dualproto_wsi.errors import DataError

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
    except (json.JSONDecodeError, RecursionError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not GeoJSON, or cut off: {error}") from error


def _entries(path: Path, file: BinaryIO) -> Iterator[Any]:
    """Parse the entries of the list of features, a block of text at a time, and then what is around the list."""
    block = file.read(_HEAD)
    start = _list_start(block)
    if start is None:  # one Feature, or no list where one would be expected
        text = block + file.read()
        data = orjson.loads(text)
        _require_one_list(path, text)
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
    text = head + block[end:] + file.read()
    around = orjson.loads(text)
    _require_one_list(path, text)
    if isinstance(around, dict) and around.get("type") != "FeatureCollection":
        raise DataError(f"{path}: its list of features is in no FeatureCollection; write the file again")


def _require_one_list(path: Path, text: bytes) -> None:
    """Refuse a second list of features: QuPath would read that one, and not the one that we read."""
    if text.count(b"features") + text.count(b"\\u") < 2:
        return
    members = json.loads(text, object_pairs_hook=list, parse_int=float, strict=False)
    # An object has become a list of pairs; in a list of Features none is a pair that begins with a text.
    names = [member[0] for member in members if isinstance(member, tuple)] if isinstance(members, list) else []
    if names.count("features") > 1:
        raise DataError(f"{path}: has two lists of features; QuPath reads the last one only: write the file again")


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
