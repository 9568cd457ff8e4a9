"""Annotations of QuPath as the truth of whole slides: which file belongs to which slide, and where its outlines lie."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dualproto_wsi.classes import TissueClass
from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.geojson.output import SUFFIXES
from dualproto_wsi.vector.region import Region
from dualproto_wsi.workflow.checks.verify_record import Told
from dualproto_wsi.workflow.outlines import about_image, find_shift, read_outlines

IGNORED = "*"
"""QuPath ignores classes whose names end so, ``Ignore*`` for one; what they outline counts for nothing."""

OF_THE_MODEL = ("unchanged", "model")
"""Origins, as ``qupath export`` tells them, of regions that the model made and nobody changed."""

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
    slide = told.data["slide"]
    shift = find_shift(path, told.file, (slide["width"], slide["height"]), told.bounds)
    by_name = {c.name.casefold(): c for c in told.classes}
    regions, ignored, unknown, own = [], [], Counter[str](), 0
    outlines = [outline for outline in read_outlines(path, shift) if outline.name]
    for outline in sorted(outlines, key=lambda outline: outline.area, reverse=True):
        name = outline.name
        if name.endswith(IGNORED):
            ignored.append(Region("", _IGNORE, outline.polygons))
        elif outline.origin in OF_THE_MODEL and not reviewed:
            own += 1
        elif name.casefold() in by_name:
            regions.append(Region("", by_name[name.casefold()], outline.polygons))
        else:
            unknown[name] += 1
    return Annotations(path, tuple(regions), tuple(ignored), dict(unknown), own)
