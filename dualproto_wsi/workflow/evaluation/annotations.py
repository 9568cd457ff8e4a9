"""Annotations of QuPath as the truth of whole slides: which file belongs to which slide, and where its outlines lie."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import TissueClass
from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.geojson import read_features
from dualproto_wsi.vector.geojson.output import SUFFIXES
from dualproto_wsi.vector.region import Polygon, Region
from dualproto_wsi.workflow.checks.verify_record import Told

IGNORED = "*"
"""QuPath ignores classes whose names end so, ``Ignore*`` for one; what they outline counts for nothing."""

OF_THE_MODEL = ("unchanged", "model")
"""Origins, as ``qupath export`` tells them, of regions that the model made and nobody changed."""

_HEAD = 1 << 20  # bytes in which the member that tells of the image stands
_MEMBER = re.compile(r'"dualproto"\s*:\s*')
_IGNORE = TissueClass(254, "Ignore*", (180, 180, 180))


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """What a person says of a slide.

    Parameters
    ----------
    path : Path
        The file.
    regions : tuple of Region
        Outlines of known classes, in the order in which they are to be filled: large ones first, so that what was drawn
        inside another counts; level-0 px of the slide.
    ignored : tuple of Region
        Outlines of what counts for nothing.
    unknown : mapping of str to int
        Outlines of classes that the model does not have, by name; not counted.
    of_the_model : int
        Outlines that the model made and nobody changed; not counted unless they are said to be reviewed.
    """

    path: Path
    regions: tuple[Region, ...]
    ignored: tuple[Region, ...]
    unknown: Mapping[str, int]
    of_the_model: int


def find_annotations(truth: Path) -> list[Path]:
    """List the annotation files of a path: itself, or the GeoJSON files in the folder that ``qupath export`` wrote.

    Raises
    ------
    DataError
        If there is no such file, or none in the folder.
    """
    if truth.is_dir():
        found = sorted(path for path in truth.iterdir() if path.name.endswith(SUFFIXES) and path.is_file())
        if not found:
            raise DataError(f"{truth}: no annotations in it ({', '.join(SUFFIXES)}); `qupath export` writes them")
        return found
    if not truth.is_file():
        raise DataError(f"{truth}: no such file or folder of annotations")
    if not truth.name.endswith(SUFFIXES):
        raise DataError(f"{truth}: annotations are GeoJSON; name a file ending in {', '.join(SUFFIXES)}")
    return [truth]


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


def match_slides(files: Sequence[Path], slides: Sequence[str]) -> list[int | None]:
    """Find the slide of each annotation file.

    A file that says of which image it is belongs to the slide of exactly that file name; one that does not, to the
    slide that it is named after (``a.svs.geojson``), or to the only slide if it is the only file.

    Parameters
    ----------
    files : sequence of Path
    slides : sequence of str
        File names of the slides.

    Returns
    -------
    list of int or None
        Position of each file's slide; None where there is none.

    Raises
    ------
    DataError
        If several slides have the name, or two files are of one slide.
    """
    plain = [_plain(name) for name in slides]
    found = [_match(file, plain, alone=len(files) == 1) for file in files]
    twice = [place for place, count in Counter(place for place in found if place is not None).items() if count > 1]
    if twice:
        names = [file.name for file, place in zip(files, found, strict=True) if place == twice[0]]
        raise DataError(f"{slides[twice[0]]}: {' and '.join(names)} are both of this slide; leave one of them")
    return found


def _match(file: Path, slides: Sequence[str], alone: bool) -> int | None:
    said = about_image(file).get("image", {}).get("file")
    name = _plain(str(said) if said else file.name.removesuffix(".gz").rpartition(".")[0])
    places = [i for i, slide in enumerate(slides) if slide == name]
    if len(places) > 1:
        raise DataError(
            f"{file}: {len(places)} slides are named {name}; name the folder of one of them in place of OUT"
        )
    if not places and alone and not said and len(slides) == 1:
        return 0
    return places[0] if places else None


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # macOS writes accents as two characters, others as one


def read_annotations(path: Path, told: Told, *, reviewed: bool) -> Annotations:
    """Read the annotations of a slide.

    Parameters
    ----------
    path : Path
        Polygons and MultiPolygons in QuPath's frame, as ``qupath export`` or QuPath write them; outlines without a
        class are passed over, and so are points and lines.
    told : Told
        The slide's record.
    reviewed : bool
        Whether regions that the model made and nobody changed count too.

    Raises
    ------
    DataError
        If it is no such file, is of another image, or was drawn on a turned one.
    """
    shift = _offset(path, told)
    by_name = {c.name.casefold(): c for c in told.classes}
    regions, ignored, unknown, own = [], [], Counter[str](), 0
    for name, origin, polygons in _outlines(path, shift):
        if name.endswith(IGNORED):
            ignored.append(Region("", _IGNORE, polygons))
        elif origin in OF_THE_MODEL and not reviewed:
            own += 1
        elif name.casefold() in by_name:
            regions.append(Region("", by_name[name.casefold()], polygons))
        else:
            unknown[name] += 1
    regions.sort(key=_area, reverse=True)
    return Annotations(path, tuple(regions), tuple(ignored), dict(unknown), own)


def _outlines(path: Path, shift: NDArray[np.float64]) -> Iterator[tuple[str, str, tuple[Polygon, ...]]]:
    """Yield class, origin and polygons of every outline that has a class."""
    for number, feature in enumerate(read_features(path)):
        try:
            properties = feature.get("properties") or {}
            name = str((properties.get("classification") or {}).get("name", ""))
            kind, coordinates = feature["geometry"]["type"], feature["geometry"].get("coordinates")
            parts = {"Polygon": lambda c: [c], "MultiPolygon": list}.get(kind, lambda c: [])(coordinates)
            polygons = tuple(
                tuple(np.array(ring, np.float64).reshape(-1, 2) + shift for ring in part) for part in parts
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: feature {number} is no outline: {error!r}") from error
        if not all(np.isfinite(ring).all() for part in polygons for ring in part):
            raise DataError(f"{path}: feature {number} has a coordinate that is no number")
        if name and polygons:
            yield name, str(properties.get("origin", "")), polygons


def _offset(path: Path, told: Told) -> NDArray[np.float64]:
    """Return what leads from the file's coordinates to level-0 px of the slide."""
    about, slide, bounds = about_image(path), told.data["slide"], told.bounds
    if about.get("turned"):
        raise DataError(f"{path}: was drawn on a rotated or mirrored image; add the slide to QuPath unturned")
    image = about.get("image", {})
    size = (image.get("width"), image.get("height"))
    if None not in size and size not in ((bounds.width, bounds.height), (slide["width"], slide["height"])):
        raise DataError(
            f"{path}: is of an image of {size[0]} x {size[1]} px, the slide {told.file} has {slide['width']} x "
            f"{slide['height']}: it is another slide of that name, or was exported at another size"
        )
    offset = about.get("offset")
    return np.array(offset if offset is not None else (bounds.x, bounds.y), np.float64).reshape(2)


def _area(region: Region) -> float:
    return sum(
        abs(float((ring[:-1, 0] * ring[1:, 1] - ring[1:, 0] * ring[:-1, 1]).sum())) / 2
        for polygon in region.polygons
        for ring in polygon[:1]
    )
