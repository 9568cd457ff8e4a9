"""Boundary refinement of a whole slide: rows come in as they are finished and go out refined, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from dualproto_wsi.model.dense_crf import DenseCrf, Refiner, refine_core
from dualproto_wsi.model.mean_field import MeanField, choose_landmarks
from dualproto_wsi.settings import RefineSettings

TILE = 256
"""Side of the tiles that are refined at once, cells; they lie on the grid's multiples of it."""

HALO = 32
"""What a tile sees of its surroundings on every side, cells."""

Pixels = NDArray[np.uint8]
Scores = NDArray[np.float32]
Mask = NDArray[np.bool_]


def build_refiner(
    settings: RefineSettings, device: torch.device, stride_px: int, thumbnail_colours: Pixels
) -> Refiner | None:
    """Make the refiner of one slide.

    Parameters
    ----------
    settings : RefineSettings
    device : torch.device
        Where ``fast`` runs.
    stride_px : int
        Side of a cell, model px.
    thumbnail_colours : ndarray of uint8, shape (n, 3)
        Colours of the slide's tissue at about the size of a cell, RGB.

    Returns
    -------
    Refiner or None
        None where nothing is to be done: method ``none``, or ``fast`` on a slide without tissue.

    Raises
    ------
    MissingDependency
        If ``crf`` is asked for and pydensecrf is not installed.
    """
    if settings.method == "none":
        return None
    if settings.method == "crf":
        return DenseCrf(settings.parameters, stride_px)
    if not len(thumbnail_colours):
        return None
    return MeanField(settings.parameters, stride_px, choose_landmarks(thumbnail_colours), device)


@dataclass(frozen=True, slots=True, eq=False)
class RefinedBand:
    """Rows that are final.

    Parameters
    ----------
    first_row : int
        Row of the grid.
    probabilities : ndarray of float32, shape (K, n, columns)
        Refined: for labels. Much sharper than calibrated ones.
    calibrated : ndarray of float32, shape (K, n, columns)
        As they came in: for what is said about confidence.
    analysed : ndarray of bool, shape (n, columns)
        As it came in.
    """

    first_row: int
    probabilities: Scores
    calibrated: Scores
    analysed: Mask


class BandRefiner:
    """Refines the rows of a grid as they come, top to bottom, in tiles that lie on a fixed lattice.

    The result depends neither on how the rows were cut into bands nor on how many workers there are. A tile without
    analysed cells is passed on as it is. ``fast`` runs in threads (one on a GPU), ``crf`` in processes, as pydensecrf
    holds the GIL; they are started with ``spawn``, so a script that uses it needs ``if __name__ == "__main__":``.

    It holds TILE + 2 halo rows, and hands out a refined and a plain copy of TILE rows: 105 and 138 MB with 4 classes
    and 16,384 columns (33 mm at 2 µm a cell). With the caller's last band and two workers at work, some 50 MB each, the
    process grows by 0.6 GB at most, whatever the slide's height.

    Use it as a context manager: it closes the workers.

    Parameters
    ----------
    refiner : Refiner
    columns : int
        Width of the grid, cells.
    classes : int
        Number of classes K.
    halo : int
        What a tile sees of its surroundings, cells.
    workers : int or None
        Threads or processes; None: as many as torch uses threads.
    """

    def __init__(
        self, refiner: Refiner, columns: int, classes: int, halo: int = HALO, workers: int | None = None
    ) -> None:
        if halo < 0:
            raise ValueError(f"halo is {halo}; it cannot be negative")
        self._refiner, self._halo = refiner, halo
        rows = TILE + 2 * halo
        self._scores = np.empty((classes, rows, columns), np.float32)
        self._analysed = np.empty((rows, columns), np.bool_)
        self._colours = np.empty((rows, columns, 3), np.uint8)
        self._top = 0  # row of the grid that the first row held is
        self._held = 0
        self._next = 0  # row of the grid that is refined next
        self._workers = _start(refiner, workers or torch.get_num_threads())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._workers.shutdown(cancel_futures=True)

    def feed(self, probabilities: Scores, analysed: Mask, colours: Pixels) -> Iterator[RefinedBand]:
        """Take the next rows and hand out those that have become final, in order.

        Parameters
        ----------
        probabilities : ndarray of float32, shape (K, n, columns)
            Sum to 1 over the first axis.
        analysed : ndarray of bool, shape (n, columns)
            The cells that count; the others pull no label and keep their probabilities.
        colours : ndarray of uint8, shape (n, columns, 3)
            Mean colour of each cell, RGB.

        Yields
        ------
        RefinedBand
            The rows are taken while this is iterated: use it up.

        Raises
        ------
        ValueError
            If a shape is not that of this grid.
        """
        rows, columns = analysed.shape
        classes, _, width = self._scores.shape
        if probabilities.shape != (classes, rows, width) or colours.shape != (rows, width, 3) or columns != width:
            raise ValueError(
                f"rows of shapes {probabilities.shape}, {analysed.shape} and {colours.shape}; this grid takes "
                f"({classes}, n, {width}), (n, {width}) and (n, {width}, 3)"
            )
        taken = 0
        while taken < rows:
            count = min(rows - taken, self._next + TILE + self._halo - self._top - self._held)
            source, target = slice(taken, taken + count), slice(self._held, self._held + count)
            self._scores[:, target] = probabilities[:, source]
            self._analysed[target] = analysed[source]
            self._colours[target] = colours[source]
            self._held += count
            taken += count
            if self._top + self._held == self._next + TILE + self._halo:
                yield self._release(self._next + TILE)

    def finish(self) -> Iterator[RefinedBand]:
        """Hand out all rows that are left."""
        end = self._top + self._held
        while self._next < end:
            yield self._release(min(self._next + TILE, end))

    def _release(self, stop: int) -> RefinedBand:
        """Refine the rows up to `stop` and forget what no later tile sees."""
        core = slice(self._next - self._top, stop - self._top)
        band = RefinedBand(
            self._next, self._scores[:, core].copy(), self._scores[:, core].copy(), self._analysed[core].copy()
        )
        # The last tiles see as much below them as the others do, however many rows are held.
        seen = slice(0, min(self._held, core.stop + self._halo))
        futures = {left: self._submit(seen, core, left) for left in range(0, self._analysed.shape[1], TILE)}
        for left, future in futures.items():
            if future:
                band.probabilities[:, :, left : left + TILE] = future.result()
        keep = max(self._top, stop - self._halo)
        self._forget(keep - self._top)
        self._next = stop
        return band

    def _submit(self, seen: slice, core: slice, left: int) -> Future[Scores] | None:
        right = min(left + TILE, self._analysed.shape[1])
        if not self._analysed[core, left:right].any():
            return None
        first = max(left - self._halo, 0)
        across = slice(first, right + self._halo)
        return self._workers.submit(
            refine_core,
            self._refiner,
            self._scores[:, seen, across],
            self._analysed[seen, across],
            self._colours[seen, across],
            (self._top, first),
            (core, slice(left - first, right - first)),
        )

    def _forget(self, rows: int) -> None:
        kept = self._held - rows
        self._scores[:, :kept] = self._scores[:, rows : self._held].copy()
        self._analysed[:kept] = self._analysed[rows : self._held].copy()
        self._colours[:kept] = self._colours[rows : self._held].copy()
        self._top, self._held = self._top + rows, kept


def _start(refiner: Refiner, workers: int) -> Executor:
    if isinstance(refiner, DenseCrf):
        return ProcessPoolExecutor(workers, get_context("spawn"))
    if isinstance(refiner, MeanField) and refiner.device.type == "cuda":
        workers = 1
    return ThreadPoolExecutor(workers, "refine", torch.set_num_threads, (1,))
