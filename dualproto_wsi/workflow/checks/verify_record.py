"""What a slide's ``record.json`` tells, and whether it can be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError, DualProtoError
from dualproto_wsi.files import file_sha256
from dualproto_wsi.geometry import Box, LabelGrid
from dualproto_wsi.settings import FORMATS, LabelSettings, OutputSettings, RefineSettings, from_data
from dualproto_wsi.workflow.batch.outcome import DONE, EMPTY
from dualproto_wsi.workflow.batch.record import RECORD

AREAS = ("tissue_mm2", "analysed_mm2", "unsure_mm2")


@dataclass(frozen=True, slots=True)
class Told:
    """A record whose parts are of the right kind.

    Parameters
    ----------
    data : dict
        All of it.
    grid : LabelGrid
        The label grid in the frame of the polygons: QuPath's crop, or the whole file.
    bounds : Box
        What QuPath shows of the slide, level-0 px.
    classes : ClassScheme
    output : OutputSettings
    labels : LabelSettings
    refined : bool
        Whether scores were refined.
    file : str
        The slide's file name.
    """

    data: dict[str, Any]
    grid: LabelGrid
    bounds: Box
    classes: ClassScheme
    output: OutputSettings
    labels: LabelSettings
    refined: bool
    file: str

    @property
    def by_probability(self) -> bool:
        """Whether every cell has the class of its best probability, or is unsure."""
        return not (self.refined or self.labels.min_area_um2 or self.labels.fill_holes_um2)

    @property
    def simplify_cells(self) -> float:
        """How far outlines may leave the cells' edges, cells."""
        return self.output.simplify_um / self.grid.cell_um


def read_told(folder: Path) -> Told:
    """Read the record in a slide's folder.

    Raises
    ------
    DataError
        If there is none, or a part is missing or of the wrong kind.
    """
    try:
        return _told(json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"{RECORD}: cannot be read ({error.strerror or error}); run `segment` again") from error
    except DualProtoError as error:
        raise DataError(f"{RECORD}: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise DataError(f"{RECORD}: is damaged or not of this program: {type(error).__name__}: {error}") from error


def _told(data: dict[str, Any]) -> Told:
    slide, grid, settings = data["slide"], data["grid"], data["settings"]
    box = {name: _number(slide["bounds"], name, -math.inf) for name in ("x", "y", "width", "height")}
    x, y = (0.0, 0.0) if data["frame"] == "qupath" else (box["x"], box["y"])
    scale, cell_um = _number(grid, "scale_px", 1e-6), _number(grid, "cell_um", 1e-6)
    for name in (*AREAS, "regions", "tiles"):
        _number(data, name)
    for name in data["mm2"]:
        _number(data["mm2"], name)
    _number(slide, "mpp", 1e-6)
    _number(data["seconds"], "total")
    if not isinstance(slide["file"], str) or not slide["file"] or set(slide["file"]) & set("/\\\0"):
        raise DataError(f"the slide's file is {slide['file']!r:.80}, no file name")
    return Told(
        data,
        LabelGrid(x, y, scale, cell_um, _count(grid, "columns"), _count(grid, "rows")),
        Box(**box),
        ClassScheme.from_json(data["classes"]),
        from_data(OutputSettings, settings["output"], "settings.output"),
        from_data(LabelSettings, settings["labels"], "settings.labels"),
        from_data(RefineSettings, settings["refine"], "settings.refine").method != "none",
        slide["file"],
    )


def _number(data: dict[str, Any], name: str, least: float = 0.0) -> float:
    value = data[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value < math.inf:
        raise DataError(f"{name} is {value!r:.80}; it must be a number" + (f" from {least:g} on" if least >= 0 else ""))
    return float(value)


def _count(data: dict[str, Any], name: str) -> int:
    _number(data, name, 1)
    if not isinstance(data[name], int):
        raise DataError(f"{name} is {data[name]!r}; it must be a whole number")
    return int(data[name])


def record_problems(told: Told) -> Iterator[str]:
    """Yield what in a record contradicts itself."""
    data, grid, bounds = told.data, told.grid, told.bounds
    mpp = data["slide"]["mpp"]
    for name, wanted in (("frame", told.output.frame), ("formats", list(told.output.formats))):
        if data[name] != wanted:
            yield f"{name} is {data[name]!r:.80}, its settings say {wanted!r}"
    if data.get("format") != 1:
        yield f"format is {data.get('format')!r:.80}; this version knows 1"
    status = DONE if data["tiles"] else EMPTY
    if data["status"] != status:
        yield f"status is {data['status']!r:.80}, but {data['tiles']} windows went through the model: {status}"
    if not math.isclose(grid.scale, grid.cell_um / mpp, rel_tol=1e-9):
        yield f"scale_px is {grid.scale:g}; cells of {grid.cell_um:g} µm at {mpp:g} µm/px have {grid.cell_um / mpp:g}"
    fitting = LabelGrid.over(bounds, mpp, grid.cell_um).shape
    if grid.shape != fitting:
        yield f"the grid has {grid.shape} rows and columns, into the slide's bounds fit {fitting}"
    slide = data["slide"]
    if not (bounds.x >= 0 and bounds.y >= 0 and bounds.right <= slide["width"] and bounds.bottom <= slide["height"]):
        yield f"the bounds {bounds} leave the slide of {slide['width']} x {slide['height']} px"
    if list(data["mm2"]) != list(told.classes.names):
        yield f"mm2 has {', '.join(data['mm2'])}; the classes are {', '.join(told.classes.names)}"


def file_problems(folder: Path, told: Told) -> Iterator[str]:
    """Yield which result files are not those that the record tells of, by size and SHA-256."""
    exports = ((about["file"], about) for about in told.data.get("exports", {}).values())
    for name, about in (*told.data.get("outputs", {}).items(), *exports):
        path = folder / name
        if path.name != name or not path.is_file():
            yield f"tells of a file {name!r:.80}, which is not there"
        elif path.stat().st_size != about["bytes"] or file_sha256(path) != about["sha256"]:
            yield f"{name} was changed after it was written: its size or SHA-256 is another"
    for suffix in sorted({*FORMATS} - {*told.output.formats}):
        if (folder / f"{told.file}.{suffix}").exists():
            yield f"does not tell of {told.file}.{suffix}, which is there"
