"""Cuts tiles with image-level labels from slides that a person annotated in QuPath.

A tile holds a class if the class's outlines fill at least a stated share of it. It is without a class only where that
can be known: no outline of the class touches it, and less than that share of it lies outside all outlines. Between,
the label is not known: nobody drew what is there. Where outlines overlap, the smaller one counts, so that what was
drawn inside another goes before it; a class that is not wanted is background, and what QuPath's ignored classes
(``Ignore*``) outline is not labelled.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import MAX_CLASSES, UNSURE_CLASS, TissueClass
from dualproto_wsi.data.layouts.names import patient_of, same_class
from dualproto_wsi.data.layouts.table import COLUMNS, FILE
from dualproto_wsi.errors import DataError, OutputError, SettingsError, SlideError
from dualproto_wsi.files import replacing
from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.settings import ReadSettings
from dualproto_wsi.slide.reader import SlideReader, open_slide
from dualproto_wsi.vector.rasterise import rasterise
from dualproto_wsi.vector.region import Region
from dualproto_wsi.workflow.batch.slide_list import SlideItem, gather_slides
from dualproto_wsi.workflow.evaluation.annotations import IGNORED, OF_THE_MODEL, find_annotations, match_slides
from dualproto_wsi.workflow.outlines import Outline, read_outlines, read_slide_outlines

_COARSER = 1.1  # how much coarser than its tiles a slide may be
_KEYS = ("path", "mask", "patient", "group", "mpp")


@dataclass(frozen=True, slots=True)
class CutSettings:
    """Which tiles, and when they hold a class.

    Parameters
    ----------
    tile_mpp : float
        Resolution of the tiles, µm per px.
    size, stride : int
        Side of a tile, and from one tile to the next, px of the tiles; a stride of 0 is the size.
    min_share : float
        Share of a tile that a class fills at least where the tile holds it.
    classes : tuple of str
        Classes wanted; empty: all that the annotations name.
    reviewed : bool
        Whether regions that the model made and nobody changed count, too.
    mpp, reader : float or None, str
        As :class:`~dualproto_wsi.settings.ReadSettings`.
    """

    tile_mpp: float = 0.5
    size: int = 224
    stride: int = 0
    min_share: float = 0.05
    classes: tuple[str, ...] = ()
    reviewed: bool = False
    mpp: float | None = None
    reader: str = "auto"

    def __post_init__(self) -> None:
        for option, wrong, rule in (
            ("tile_mpp", not 0.01 <= self.tile_mpp <= 100, "microns per pixel lie between 0.01 and 100"),
            ("size", self.size < 16, "it must be at least 16 px"),
            ("stride", self.stride < 0, "it must be 0, for the size, or more"),
            ("min_share", not 0 < self.min_share <= 1, "it must be above 0 and at most 1"),
        ):
            if wrong:
                raise SettingsError(f"{option} is {getattr(self, option)}; {rule}")
        keys = [same_class(name) for name in self.classes]
        if len(set(keys)) < len(keys) or len(keys) >= MAX_CLASSES:
            raise SettingsError(f"classes are {', '.join(self.classes)}; name each once, and at most {MAX_CLASSES - 1}")
        taken = [name for name in self.classes if name.strip().lower() in COLUMNS]
        if taken:
            raise SettingsError(f"class {taken[0]!r} has the name of a column of the table; rename it in QuPath")


@dataclass(frozen=True, slots=True)
class CutOutcome:
    """What became of a slide.

    Parameters
    ----------
    slide : Path
    tiles : int
        Written.
    present, absent : dict of str to int
        Tiles that hold a class, and that are known to be without.
    other : dict of str to int
        Outlines of classes that were not wanted, by name.
    error : str
        Why it failed; empty otherwise.
    """

    slide: Path
    tiles: int = 0
    present: Counter[str] = field(default_factory=Counter)
    absent: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    error: str = ""


def cut_tiles(
    slides: Iterable[Path],
    annotations: Path,
    out: Path,
    settings: CutSettings | None = None,
    on_slide: Callable[[CutOutcome], None] = lambda outcome: None,
) -> tuple[list[CutOutcome], list[Path]]:
    """Cut labelled tiles from annotated slides, for ``train --layout table``.

    Parameters
    ----------
    slides : iterable of Path
        Files, folders and tables of slides. A table's columns ``patient`` (else: what the slide's name says) and
        ``group`` go into that of the tiles.
    annotations : Path
        A GeoJSON file, or a folder with one a slide, named after it, as ``qupath export`` or QuPath write them.
    out : Path
        Folder to make: ``labels.csv``, and in ``tiles`` and ``masks`` a folder a slide.
    settings : CutSettings or None
    on_slide : callable
        Called with the outcome of each slide.

    Returns
    -------
    outcomes : list of CutOutcome
        One a slide; a slide that fails does not stop the others.
    unmatched : list of Path
        Annotation files of none of the slides.

    Raises
    ------
    DataError
        If there are no annotations, or none names a class.
    SettingsError, SlideNotFound
        If the slides or settings are wrong.
    OutputError
        If the folder holds tiles already, or cannot be written.
    """
    settings = settings or CutSettings()
    items, files = gather_slides(slides), find_annotations(annotations)
    names = [item.path.name for item in items]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise SettingsError(
            f"{twice[0]}: two slides have this name, so annotations may be of either; cut one at a time"
        )
    if (out / FILE).exists():
        raise OutputError(f"{out / FILE}: is there already; name a new folder")
    places = match_slides(files, names)
    of_slide = {place: file for file, place in zip(files, places, strict=True) if place is not None}
    classes = settings.classes or _annotated(annotations, of_slide.values())
    writer, outcomes = _TileWriter(out, classes, settings), []
    for place, item in enumerate(items):
        outcomes.append(_cut_slide(item, of_slide.get(place), annotations, writer))
        writer.write_table()
        on_slide(outcomes[-1])
    return outcomes, [file for file, place in zip(files, places, strict=True) if place is None]


def _annotated(annotations: Path, files: Iterable[Path]) -> tuple[str, ...]:
    """Return the classes that annotations name, each once, sorted."""
    found: dict[str, str] = {}
    for file in files:
        try:
            for outline in read_outlines(file, np.zeros(2), closed=True):
                if outline.name and not outline.name.endswith(IGNORED):
                    found.setdefault(same_class(outline.name), outline.name)
        except DataError:
            continue  # it is told when its slide is cut
    if not found:
        raise DataError(
            f"{annotations}: no outline of a class for these slides; set classes in QuPath and export again"
        )
    return CutSettings(classes=tuple(sorted(found.values()))).classes


def _cut_slide(item: SlideItem, file: Path | None, annotations: Path, writer: _TileWriter) -> CutOutcome:
    outcome = CutOutcome(item.path)
    settings = writer.settings
    try:
        if file is None:
            raise DataError(
                f"{item.path}: no annotations of it at {annotations}; name the file {item.path.name}.geojson"
            )
        with open_slide(item.path, ReadSettings(item.mpp or settings.mpp, settings.reader)) as reader:
            mpp = reader.info.require_mpp()
            if mpp > _COARSER * settings.tile_mpp:
                raise DataError(
                    f"{item.path}: has {mpp:g} µm/px, coarser than tiles of {settings.tile_mpp:g}; choose coarser tiles"
                )
            outlines = read_slide_outlines(file, reader.info)
            regions = writer.regions(outlines, outcome)
            rows = [writer.save(item, reader, tile, outcome) for tile in _tiles(reader, regions, settings)]
    except (SlideError, DataError) as error:
        return CutOutcome(item.path, error=str(error))
    known = [row for row in rows if row]
    writer.rows += known
    return replace(outcome, tiles=len(known))


def _tiles(
    reader: SlideReader, regions: Sequence[Region], settings: CutSettings
) -> Iterator[tuple[Box, NDArray[np.uint8]]]:
    """Yield place and label map of every tile of a regular grid that an outline touches, row by row."""
    content, scale = reader.info.content, settings.tile_mpp / reader.info.require_mpp()
    stride, side = (settings.stride or settings.size) * scale, settings.size * scale
    spans = [(min(r[:, 1].min() for r in region.rings), max(r[:, 1].max() for r in region.rings)) for region in regions]
    for row in range(int((content.height - side) / stride + 1 + 1e-6)):
        y = content.y + row * stride
        here = [region for region, (top, low) in zip(regions, spans, strict=True) if top < y + side and low > y]
        if here:
            columns = int(content.width / scale + 1e-6)
            strip = rasterise(here, LabelGrid(content.x, y, scale, settings.tile_mpp, columns, settings.size))
            for left in range(0, columns - settings.size + 1, settings.stride or settings.size):
                labels = strip[:, left : left + settings.size]
                if labels.any():
                    yield Box(content.x + left * scale, y, side, side), labels


class _TileWriter:
    """Labels tiles, writes them, and keeps what the table says of them."""

    def __init__(self, out: Path, classes: Sequence[str], settings: CutSettings) -> None:
        self.settings, self._out, self._names = settings, out, tuple(classes)
        self.rows: list[list[str]] = []
        self._classes = {
            same_class(name): TissueClass(number, name, (0, 0, 0)) for number, name in enumerate(classes, start=1)
        }
        self._ignored = TissueClass(len(classes) + 1, IGNORED, (0, 0, 0))

    def regions(self, outlines: Iterable[Outline], outcome: CutOutcome) -> list[Region]:
        """Return what to fill, in order: large before small, ignored last."""
        regions, ignored = [], []
        for outline in sorted(outlines, key=lambda o: o.area, reverse=True):
            if outline.name.endswith(IGNORED):
                ignored.append(Region("", self._ignored, outline.polygons))
            elif outline.name and (self.settings.reviewed or outline.origin not in OF_THE_MODEL):
                wanted = self._classes.get(same_class(outline.name))
                outcome.other.update([outline.name] if wanted is None else [])
                # the id of "unsure", 255, is what the masks of a table have for background
                regions.append(Region("", wanted or UNSURE_CLASS, outline.polygons))
        return [*regions, *ignored]

    def labels(self, mask: NDArray[np.uint8]) -> list[str]:
        """Return a tile's label of each class, as the table has them."""
        shares = np.bincount(mask.ravel(), minlength=256) / mask.size
        least, hidden = self.settings.min_share, shares[0]
        known = ((share >= least, share == 0 and hidden < least) for share in shares[1 : len(self._names) + 1])
        return ["1" if present else "0" if absent else "?" for present, absent in known]

    def save(
        self, item: SlideItem, reader: SlideReader, tile: tuple[Box, NDArray[np.uint8]], outcome: CutOutcome
    ) -> list[str]:
        """Write a tile and its mask, and return its line of the table; nothing of a tile of which nothing is known."""
        box, size = tile[0], self.settings.size
        mask = np.where(tile[1] == self._ignored.id, 0, tile[1])
        labels = self.labels(mask)
        if not {"0", "1"} & set(labels):
            return []
        name = f"{item.path.name}/x{round(box.x)}_y{round(box.y)}.png"
        self._write(f"tiles/{name}", reader.read(box, (size, size))[..., ::-1])
        self._write(f"masks/{name}", mask)
        outcome_of = {"1": outcome.present, "0": outcome.absent}
        for label, known in zip(labels, self._names, strict=True):
            outcome_of.get(label, Counter()).update([known])
        patient = {key.lower(): value for key, value in item.metadata}.get("patient")
        about = (f"tiles/{name}", f"masks/{name}", patient or patient_of(item.path.name), item.group)
        return [*about, f"{self.settings.tile_mpp:g}", *labels]

    def write_table(self) -> None:
        """Write the table of all tiles so far; none while there are none."""
        if not self.rows:
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([[*_KEYS, *self._names], *self.rows])
        try:
            self._out.mkdir(parents=True, exist_ok=True)
            with replacing(self._out / FILE) as path:
                path.write_text(text.getvalue(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self._out}: cannot be written ({error.strerror}); choose another folder") from error

    def _write(self, name: str, pixels: NDArray[np.uint8]) -> None:
        path = self._out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error
