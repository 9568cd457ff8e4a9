"""Outlines that a person drew in QuPath: their classes, and their places on the slide."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.errors import DataError
from dualproto_wsi.geometry import Box
from dualproto_wsi.slide.reader import SlideInfo
from dualproto_wsi.vector.geojson import read_features
from dualproto_wsi.vector.region import Polygon

_HEAD = 1 << 20  # bytes in which the member that tells of the image stands
_MEMBER = re.compile(r'"dualproto"\s*:\s*')


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """What a feature of a GeoJSON file outlines.

    Parameters
    ----------
    name : str
        Of its class, as it is written; empty without one.
    origin : str
        As ``qupath export`` tells it: ``drawn``, ``changed``, ``unchanged`` or ``model``; empty in other files.
    polygons : tuple of tuple of ndarray of float64, (n, 2)
        Each a shell and its holes, closed rings of (x, y), level-0 px.
    """

    name: str
    origin: str
    polygons: tuple[Polygon, ...]

    @property
    def area(self) -> float:
        """Area of the polygons with their holes filled, level-0 px²."""
        shells = [polygon[0] for polygon in self.polygons]
        return sum(abs(float((s[:-1, 0] * s[1:, 1] - s[1:, 0] * s[:-1, 1]).sum())) / 2 for s in shells)


def read_outlines(path: Path, shift: NDArray[np.float64], *, closed: bool = False) -> Iterator[Outline]:
    """Read the polygons of a GeoJSON file, as ``qupath export`` or QuPath itself write it.

    Parameters
    ----------
    path : Path
        Features of other kinds, points and lines, are passed over.
    shift : ndarray of float64, (2,)
        (x, y) to add for level-0 px of the slide; see :func:`find_shift`.
    closed : bool
        Whether a ring that does not end where it began is refused.

    Raises
    ------
    DataError
        If it is no such file, or an outline in it is damaged.
    """
    for number, feature in enumerate(read_features(path)):
        try:
            properties = feature.get("properties") or {}
            name = str((properties.get("classification") or {}).get("name", ""))
            kind, coordinates = feature["geometry"]["type"], feature["geometry"].get("coordinates")
            parts = {"Polygon": lambda c: [c], "MultiPolygon": list}.get(kind, lambda c: [])(coordinates)
            polygons = tuple(tuple(np.array(ring, np.float64).reshape(-1, 2) + shift for ring in p) for p in parts)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: feature {number} is no outline: {error!r}; export it again") from error
        rings = [ring for polygon in polygons for ring in polygon]
        if not all(np.isfinite(ring).all() for ring in rings):
            raise DataError(f"{path}: feature {number} has a coordinate that is no number; export it again")
        if closed and not all(len(ring) > 3 and (ring[0] == ring[-1]).all() for ring in rings):
            raise DataError(f"{path}: feature {number} has an outline that is not closed; export it again")
        if polygons and all(polygons):
            yield Outline(name, str(properties.get("origin", "")), polygons)


def about_image(path: Path) -> dict[str, Any]:
    """Return what an annotation file says of its image, as ``qupath export`` writes it; empty where it does not.

    Raises
    ------
    DataError
        If the member is damaged.
    """
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8", errors="replace")
    found = _MEMBER.search(head)
    if not found or '"Feature"' in head[: found.start()]:
        return {}
    try:
        about = json.JSONDecoder().raw_decode(head, found.end())[0]
        return about if isinstance(about["image"], dict) else {}
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path}: what it says of its image is damaged: {error!r}; export it again") from error


def find_shift(path: Path, slide: str, size: tuple[int, int], shown: Box) -> NDArray[np.float64]:
    """Return (x, y) that leads from the coordinates of an annotation file to level-0 px of its slide.

    It is what the file itself says, as ``qupath export`` writes it; else 0 where its image is the whole slide, and the
    corner of what QuPath shows of it where it is that, or the file does not say.

    Parameters
    ----------
    path : Path
        The file.
    slide : str
        Name of the slide's file.
    size : (int, int)
        Its width and height, level-0 px.
    shown : Box
        What QuPath shows of it, level-0 px.

    Raises
    ------
    DataError
        If the file is of another image, or of a turned one.
    """
    about = about_image(path)
    if about.get("turned"):
        raise DataError(f"{path}: was drawn on a rotated or mirrored image; add the slide to QuPath unturned")
    image = about.get("image", {})
    drawn_on = (image.get("width"), image.get("height"))
    if None not in drawn_on and drawn_on not in ((round(shown.width), round(shown.height)), size):
        raise DataError(
            f"{path}: is of an image of {drawn_on[0]} x {drawn_on[1]} px, the slide {slide} has {size[0]} x"
            f" {size[1]}: it is another slide of that name, or was exported at another size"
        )
    corner = (0, 0) if drawn_on == size else (shown.x, shown.y)
    return np.array(about.get("offset") or corner, np.float64).reshape(2)


def read_slide_outlines(path: Path, info: SlideInfo) -> list[Outline]:
    """Read the outlines of a file, closed ones, in level-0 px of its slide.

    Raises
    ------
    DataError
        As :func:`read_outlines` and :func:`find_shift`.
    """
    shift = find_shift(path, info.name, info.size, info.content)
    return list(read_outlines(path, shift, closed=True))
