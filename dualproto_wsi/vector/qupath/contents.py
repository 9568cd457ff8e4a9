"""A file's bytes → what it holds, as far as all versions of QuPath agree."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from dualproto_wsi.vector.qupath.features import Item, read_feature
from dualproto_wsi.vector.qupath.gson import TOO_DEEP, Refused, as_object, as_text, mended, parse, told
from dualproto_wsi.vector.qupath.rois import Geometries, build_geometries, in_range
from dualproto_wsi.vector.qupath.shapes import GEOMETRY_TYPES, Shape, read_shape


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version does not read a file.

    Parameters
    ----------
    reason : str
        In a user's words.
    feature : int or None
        Number of the first Feature at fault, from 0; None if the file as a whole is.
    id : str or None
        Its id in the file.
    features : int
        Number of Features at fault.
    """

    reason: str
    feature: int | None = None
    id: str | None = None
    features: int = 0


@dataclass(slots=True)
class Contents:
    """What a file holds, as far as all versions agree.

    Parameters
    ----------
    items : list of Item
        What is to become objects.
    shapes : list of Shape or None
        Their outlines, then the nuclei.
    geometries : ndarray of Geometry
        The shapes, built.
    sound : ndarray of bool
        Which of them are valid.
    refusals : list of Refusal
        What every version refuses, in the file's order.
    ignored : int
        Number of entries that are no Feature, collection or geometry: no version reads them.
    size : int
        Bytes of JSON.
    utf8 : bool
        Whether the text is UTF-8.
    """

    items: list[Item]
    shapes: list[Shape | None]
    geometries: Geometries
    sound: npt.NDArray[np.bool_]
    refusals: list[Refusal]
    ignored: int
    size: int
    utf8: bool


@np.errstate(all="ignore")  # numbers that are not finite are what is told of
def read_contents(data: bytes) -> Contents:
    """Read what all versions read alike.

    Parameters
    ----------
    data : bytes
        The file, uncompressed.

    Returns
    -------
    Contents
    """
    with _no_garbage_collection():
        items, ignored, refusals = _read(data)
    nuclei = [item.nucleus for item in items]
    shapes = [item.shape for item in items] + (nuclei if any(nuclei) else [])
    geometries = build_geometries(shapes)
    sound = in_range(geometries)
    sound[sound] = shapely.is_valid(geometries[sound])
    return Contents(items, shapes, geometries, sound, refusals, ignored, len(data), _is_utf8(data))


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Put off the search for cycles: there are none, and among millions of small lists it costs most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read(data: bytes) -> tuple[list[Item], int, list[Refusal]]:
    items: list[Item] = []
    ignored, refusals = 0, []
    try:
        entries = list(_entries(parse(data)))
    except Refused as refused:
        return [], 0, [Refusal(str(refused))]
    except RecursionError:
        return [], 0, [Refusal(TOO_DEEP)]
    for number, (entry, in_collection) in enumerate(entries):
        try:
            read = _read_entry(entry, in_collection, number)
        except (Refused, RecursionError) as refused:
            reason = str(refused) if isinstance(refused, Refused) else TOO_DEEP
            refusals.append(Refusal(reason, number, _written_id(entry), 1))
        else:
            ignored += not read
            items += read
    return items, ignored, refusals


def _written_id(entry: Any) -> str | None:
    written = entry.get("id") if isinstance(entry, dict) else None
    return written and mended(written) if isinstance(written, str | None) else told(written)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _entries(element: Any) -> Iterator[tuple[Any, bool]]:
    """Yield what is to be read, and whether it stands in a collection, where QuPath looks at no ``type``."""
    if isinstance(element, list):
        for entry in element:
            yield from _entries(entry)
    elif isinstance(element, dict) and element.get("type") == "FeatureCollection":
        features = element.get("features")
        yield from ((entry, True) for entry in (features if isinstance(features, list) else ()))
    elif element is not None:
        yield element, False


def _read_entry(entry: Any, in_collection: bool, number: int) -> list[Item]:
    """Return the objects of an entry; none if QuPath takes no notice of it."""
    if in_collection:
        return list(read_feature(as_object(entry, "it"), number))
    if not isinstance(entry, dict) or "type" not in entry:
        return []
    kind = as_text(entry["type"], "its type")
    if kind == "Feature":
        return list(read_feature(entry, number))
    if kind in GEOMETRY_TYPES:  # QuPath's own members are not looked at here
        bare = {key: value for key, value in entry.items() if key not in ("plane", "isEllipse")}
        return [Item(number, None, "annotation", read_shape(bare))]
    return []
