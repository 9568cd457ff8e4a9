"""From final labels to the files of one slide, band by band."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE_NAME, ClassScheme
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import FORMATS, OutputSettings
from dualproto_wsi.stats.areas import AreaTally
from dualproto_wsi.vector.geojson import GeoJsonWriter
from dualproto_wsi.vector.geojson.merge import AnalysedArea, ClassMerger
from dualproto_wsi.vector.geojson.squares import SquareTally
from dualproto_wsi.vector.labelling import confidence_percent
from dualproto_wsi.vector.polygons import MOST_CELLS, RegionTracer, TracedRegion
from dualproto_wsi.vector.raster import RasterWriter
from dualproto_wsi.vector.region import to_region
from dualproto_wsi.workflow.batch.record import CONFIDENCE, LABELS, OVERLAY
from dualproto_wsi.workflow.stopwatch import Stopwatch


def drop_stale(folder: Path, slide: str, settings: OutputSettings) -> None:
    """Remove what an earlier run on the same slide left in its folder and this one does not make."""
    wanted = {CONFIDENCE: settings.confidence, OVERLAY: settings.overlay}
    wanted |= {f"{slide}.{suffix}": suffix in settings.formats for suffix in FORMATS}
    for name, made in wanted.items():
        if not made:
            (folder / name).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class MapFiles:
    """Where the results of a slide go.

    Parameters
    ----------
    folder : Path
        Exists.
    slide : str
        File name of the slide; polygon files are named after it.
    offset : tuple of float
        (x, y) taken off every coordinate, level-0 px.
    identity : str
        What the ids of features are derived from.
    """

    folder: Path
    slide: str
    offset: tuple[float, float]
    identity: str


class SlideOutputs:
    """Turns final rows of labels into rasters, areas and features at once.

    Use it as a context manager: files appear when :meth:`finish` was reached, and nothing is left behind otherwise.

    Parameters
    ----------
    grid : LabelGrid
    scheme : ClassScheme
    files : MapFiles
    settings : OutputSettings
    unsure : bool
        Whether cells may be unsure.
    clock : Stopwatch
        Gets the seconds of ``trace`` and ``write``.

    Raises
    ------
    SettingsError
        If outlines would be simplified by more cells than the tracer can.

    Attributes
    ----------
    tally : AreaTally
        Areas so far.
    regions : int
        Regions, or grid squares, found so far; all are in the files, be it merged.
    """

    def __init__(
        self,
        grid: LabelGrid,
        scheme: ClassScheme,
        files: MapFiles,
        settings: OutputSettings,
        unsure: bool,
        clock: Stopwatch,
    ) -> None:
        self._grid, self._scheme, self._files, self._settings, self._clock = grid, scheme, files, settings, clock
        self._unsure = unsure
        self._simplify_cells = settings.simplify_um / grid.cell_um
        if self._simplify_cells > MOST_CELLS:
            raise SettingsError(
                f"simplify_um is {settings.simplify_um:g}; with cells of {grid.cell_um:g} µm use 0 to "
                f"{MOST_CELLS * grid.cell_um:g}"
            )
        self.tally = AreaTally(scheme, grid.cell_mm2)
        self.regions = 0

    def __enter__(self) -> Self:
        settings, folder, grid = self._settings, self._files.folder, self._grid
        with ExitStack() as stack:
            self._labels = stack.enter_context(RasterWriter(folder / LABELS, grid))
            self._confidence = None
            if settings.confidence:
                self._confidence = stack.enter_context(RasterWriter(folder / CONFIDENCE, grid))
            paths = [folder / f"{self._files.slide}.{suffix}" for suffix in settings.formats]
            writer = stack.enter_context(GeoJsonWriter(paths, settings.object_type, self._files.offset))
            self._features = self._kind_of_features(writer)
            self._outline = None
            if settings.outline:
                self._outline = Outline(writer, grid, self._simplify_cells, self._files.identity)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _kind_of_features(self, writer: GeoJsonWriter) -> RegionFeatures | SquareFeatures:
        settings, grid, scheme, identity = self._settings, self._grid, self._scheme, self._files.identity
        if settings.object_type == "tile":
            side = settings.square_cells(grid.cell_um)
            return SquareFeatures(writer, SquareTally(grid, scheme, side, identity, unsure=self._unsure))
        return RegionFeatures(writer, grid, scheme, self._simplify_cells, settings.merge_per_class, identity)

    def append(self, labels: NDArray[np.uint8], probabilities: NDArray[np.float32]) -> None:
        """Take the next rows: labels, uint8 (n, columns), and probabilities, float32 (K, n, columns)."""
        if not len(labels):
            return
        self.tally.add(labels)
        self.regions += self._features.add(labels, probabilities, self._clock)
        if self._outline:
            self._outline.add(labels, self._clock)
        with self._clock("write"):
            self._labels.append(labels)
            if self._confidence:
                self._confidence.append(confidence_percent(probabilities, labels))

    def finish(self) -> None:
        """Complete the rasters and the list of features; polygon files complete when the context closes."""
        self.regions += self._features.finish(self._clock)
        if self._outline:
            self._outline.finish(self.tally.mm2() | {UNSURE_NAME: self.tally.unsure_mm2}, self._clock)
        with self._clock("write"):
            self._labels.finish()
            if self._confidence:
                self._confidence.finish()


class RegionFeatures:
    """A feature a region, or one a class."""

    def __init__(
        self,
        writer: GeoJsonWriter,
        grid: LabelGrid,
        scheme: ClassScheme,
        simplify_cells: float,
        merge: bool,
        identity: str,
    ) -> None:
        self._tracer = RegionTracer(grid.columns, len(scheme), simplify_cells)
        self._merger = ClassMerger(writer, grid, scheme, identity) if merge else None
        self._writer = writer
        self._to_region = lambda traced: to_region(traced, grid, scheme, identity)

    def add(self, labels: NDArray[np.uint8], probabilities: NDArray[np.float32], clock: Stopwatch) -> int:
        """Take the next rows; return the number of regions that they completed."""
        return self._take(lambda: self._tracer.feed(labels, probabilities), clock)

    def finish(self, clock: Stopwatch) -> int:
        """Write what is left; return the number of regions in it."""
        count = self._take(self._tracer.finish, clock)
        if self._merger:
            with clock("write"):
                self._merger.finish()
        return count

    def _take(self, trace: Callable[[], list[TracedRegion]], clock: Stopwatch) -> int:
        with clock("trace"):
            traced = trace()
        with clock("write"):
            if self._merger:
                self._merger.add(traced)
            else:
                self._writer.write_all(map(self._to_region, traced))
        return len(traced)


class SquareFeatures:
    """A feature a grid square, with the shares of the classes."""

    def __init__(self, writer: GeoJsonWriter, tally: SquareTally) -> None:
        self._writer, self._tally = writer, tally

    def add(self, labels: NDArray[np.uint8], probabilities: NDArray[np.float32], clock: Stopwatch) -> int:
        """Take the next rows; return the number of squares that they completed."""
        with clock("trace"):
            squares = self._tally.add(labels, probabilities)
        with clock("write"):
            self._writer.write_all(squares)
        return len(squares)

    def finish(self, clock: Stopwatch) -> int:
        """Return 0: the last row of the map completes the last squares."""
        return 0


class Outline:
    """One annotation around all that was analysed."""

    def __init__(self, writer: GeoJsonWriter, grid: LabelGrid, simplify_cells: float, identity: str) -> None:
        self._tracer = RegionTracer(grid.columns, 0, simplify_cells)
        self._area = AnalysedArea(writer, grid, identity)

    def add(self, labels: NDArray[np.uint8], clock: Stopwatch) -> None:
        """Take the next rows."""
        with clock("trace"):
            traced = self._tracer.feed((labels != NOT_ANALYSED).astype(np.uint8))
        with clock("write"):
            self._area.add(traced)

    def finish(self, mm2: dict[str, float], clock: Stopwatch) -> None:
        """Write the annotation, with the area of each class, mm²."""
        with clock("trace"):
            traced = self._tracer.finish()
        with clock("write"):
            self._area.add(traced)
            self._area.finish(mm2)
