"""Corrections of a person as training data: labelled tiles under them, and windows of the rest that is to stay.

Tiles and windows have one size, else a head could tell them apart by their borders and learn nothing for the slide.
Crops inside the tiles are what is labelled: they are small enough to lie in a correction as a whole.
Nobody looked at the rest, so nothing is known of it: the windows have no label, and the map on them is kept as the
model that is continued makes it.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import UNSURE_CLASS
from dualproto_wsi.data.layouts.names import patient_of
from dualproto_wsi.data.layouts.table import FILE
from dualproto_wsi.errors import DataError, OutputError, SlideError
from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.settings import ReadSettings, TissueSettings, TrainSettings
from dualproto_wsi.slide.reader import SlideReader, open_slide
from dualproto_wsi.slide.tissue import find_tissue
from dualproto_wsi.vector.rasterise import rasterise
from dualproto_wsi.vector.region import Region
from dualproto_wsi.workflow.batch.slide_list import SlideItem, gather_slides
from dualproto_wsi.workflow.evaluation.annotations import IGNORED, OF_THE_MODEL, find_annotations, match_slides
from dualproto_wsi.workflow.outlines import Outline, read_outlines, read_slide_outlines
from dualproto_wsi.workflow.tiles import CutOutcome, CutSettings, cut_tiles

MIN_SHARE = 0.05
"""Share of a tile, or of a crop of it, from which on it holds a class."""

_CELLS = 16  # a window's side in cells of the grid on which tissue and corrections are looked up
_TISSUE = 0.5  # least share of a window that is tissue


@dataclass(frozen=True, slots=True)
class CorrectedSlide:
    """What a slide gave.

    Parameters
    ----------
    slide : Path
    tiles, windows : int
        Labelled tiles under corrections, and windows without a label outside of them.
    present : dict of str to int
        Tiles that hold a class.
    unknown : dict of str to int
        Corrections whose class the model does not have, by name; taken for background.
    error : str
        Why it failed; empty otherwise.
    """

    slide: Path
    tiles: int = 0
    windows: int = 0
    present: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    error: str = ""


def cut_corrections(
    slides: Path, out: Path, card: ModelCard, settings: TrainSettings
) -> tuple[list[CorrectedSlide], list[Path]]:
    """Cut the training data of corrections, in the layout ``table``.

    Parameters
    ----------
    slides : Path
        A slide, or a folder or table of slides.
    out : Path
        Folder to make; what is there is removed.
    card : ModelCard
        Of the model that is corrected: its resolution and classes.
    settings : TrainSettings
        With corrections; the seed decides which windows are drawn.

    Returns
    -------
    slides : list of CorrectedSlide
        A slide that fails does not stop the others; one without corrections gives windows alone.
    unmatched : list of Path
        Files of corrections of none of the slides.

    Raises
    ------
    DataError
        If there are no corrections, or none of them gives a tile.
    SettingsError, SlideNotFound
        If the slides are wrong.
    OutputError
        If the folder cannot be written.
    """
    chosen, corrections = settings.continuing, Path(settings.continuing.corrections)
    size, names, reviewed = settings.data.window_px, card.classes.names, chosen.reviewed
    cut = CutSettings(card.mpp, size, size // 2, MIN_SHARE, names, reviewed, settings.data.mpp)
    shutil.rmtree(out, ignore_errors=True)
    items, files = gather_slides([slides]), find_annotations(corrections)
    outcomes, unmatched = cut_tiles([slides], corrections, out, cut)
    places = match_slides(files, [item.path.name for item in items])
    of_slide = {place: file for file, place in zip(files, places, strict=True) if place is not None}
    if not any(outcome.tiles for outcome in outcomes):
        raise DataError(_why_nothing(corrections, outcomes, [of_slide[i] for i in sorted(of_slide)], cut))
    found = []
    for number, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
        rows, error = list[list[str]](), outcome.error
        if number not in of_slide or not error:
            rows, error = _cut_windows(item, of_slide.get(number), out, cut, settings)
        _add_rows(out / FILE, rows)
        found.append(_describe(outcome, len(rows), error))
    return found, unmatched


def _describe(outcome: CutOutcome, windows: int, error: str) -> CorrectedSlide:
    return CorrectedSlide(outcome.slide, outcome.tiles, windows, dict(outcome.present), dict(outcome.other), error)


def _why_nothing(corrections: Path, outcomes: Sequence[CutOutcome], files: Sequence[Path], cut: CutSettings) -> str:
    failed = [outcome.error for outcome in outcomes if outcome.error]
    if files and failed:
        return f"no slide gave a tile; the first failed: {failed[0]}"
    if not files:
        return (
            f"{corrections}: corrections of none of the {len(outcomes)} slide(s); a file is matched by the image that "
            "it names, or by its own name, as a.svs.geojson"
        )
    outlines = [outline for file in files for outline in read_outlines(file, np.zeros(2), closed=True) if outline.name]
    if not any(_counts(outline, cut.reviewed) for outline in outlines):
        return (
            f"{corrections}: none of its {len(outlines)} region(s) was drawn or changed; correct some in QuPath and "
            "export them, or let all count with --reviewed"
        )
    return f"{corrections}: none of its corrections fills {MIN_SHARE:.0%} of a tile of {cut.size} px; draw larger ones"


def _counts(outline: Outline, reviewed: bool) -> bool:
    known = outline.name and not outline.name.endswith(IGNORED)
    return bool(known) and (reviewed or outline.origin not in OF_THE_MODEL)


def _cut_windows(
    item: SlideItem, file: Path | None, out: Path, cut: CutSettings, settings: TrainSettings
) -> tuple[list[list[str]], str]:
    """Write windows of a slide's tissue outside its corrections; return their lines of the table, or why it failed."""
    if not (settings.continuing.windows and settings.continuing.keep):
        return [], ""
    side = settings.data.window_px
    patient = {key.lower(): value for key, value in item.metadata}.get("patient") or patient_of(item.path.name)
    rows = []
    try:
        with open_slide(item.path, ReadSettings(item.mpp or cut.mpp, cut.reader)) as reader:
            outlines = read_slide_outlines(file, reader.info) if file else []
            drawn = [outline for outline in outlines if _counts(outline, cut.reviewed)]
            for box in _draw(_free_windows(reader, drawn, cut.tile_mpp, side), settings):
                name = f"windows/{item.path.name}/x{round(box.x)}_y{round(box.y)}.png"
                _write(out / name, reader.read(box, (side, side)))
                rows.append([name, "", patient, item.group, f"{cut.tile_mpp:g}", *["?"] * len(cut.classes)])
    except (SlideError, DataError) as error:
        return [], str(error)
    return rows, ""


def _free_windows(reader: SlideReader, drawn: Sequence[Outline], mpp: float, side: int) -> list[Box]:
    """Return windows that are half tissue or more and that no correction touches, half overlapping, row by row."""
    content, slide_mpp = reader.info.content, reader.info.require_mpp()
    cell, half = side / _CELLS * mpp / slide_mpp, _CELLS // 2
    rows, columns = (int(px / cell / half + 1e-6) for px in (content.height, content.width))
    if min(rows, columns) < 2:
        return []
    grid = LabelGrid(content.x, content.y, cell, cell * slide_mpp, columns * half, rows * half)
    tissue = find_tissue(reader, TissueSettings(), slide_mpp).sample(grid, 0, grid.rows)
    taken = rasterise([Region("", UNSURE_CLASS, outline.polygons) for outline in drawn], grid) > 0
    tissue_share, taken_share = (_window_means(cells, half) for cells in (tissue, taken))
    free = np.argwhere((tissue_share >= _TISSUE) & (taken_share == 0))
    px = side * mpp / slide_mpp
    return [Box(content.x + column * px / 2, content.y + row * px / 2, px, px) for row, column in free.tolist()]


def _window_means(cells: NDArray[np.bool_], half: int) -> NDArray[np.float64]:
    """Return the mean over each window of two by two blocks of ``half`` cells a side, from block to block."""
    rows, columns = (count // half for count in cells.shape)
    blocks = cells.reshape(rows, half, columns, half).mean((1, 3))
    means: NDArray[np.float64] = (blocks[:-1, :-1] + blocks[1:, :-1] + blocks[:-1, 1:] + blocks[1:, 1:]) / 4
    return means


def _draw(boxes: Sequence[Box], settings: TrainSettings) -> list[Box]:
    """Return as many of the boxes as are wanted, drawn by chance, in order."""
    wanted = settings.continuing.windows
    if len(boxes) <= wanted:
        return list(boxes)
    chosen = np.random.default_rng(settings.seed).choice(len(boxes), wanted, replace=False)
    return [boxes[i] for i in sorted(chosen.tolist())]


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another folder") from error


def _add_rows(table: Path, rows: Sequence[Sequence[str]]) -> None:
    with table.open("a", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
