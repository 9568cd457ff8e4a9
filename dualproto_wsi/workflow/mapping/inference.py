"""Windows through the model: reading ahead, and batches that compute while the last ones are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.workflow.features.reuse import block_features

if TYPE_CHECKING:
    from dualproto_wsi.slide.reader import SlideReader
    from dualproto_wsi.slide.tiling import Block, Tile
    from dualproto_wsi.workflow.features.store import StoredFeatures
    from dualproto_wsi.workflow.mapping.engine import Engine, Pending, Scored, Windows
    from dualproto_wsi.workflow.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Loaded:
    """A block that was read.

    Parameters
    ----------
    block : Block
    windows : ndarray of uint8, shape (n, window_px, window_px, 3), or list of ndarray of float16, (n, C, h, w)
        Its windows, RGB; or their features, as they were kept.
    colours : ndarray of uint8, shape (rows, columns, 3), or None
        Mean colour of each of its cells, where asked for.
    """

    block: Block
    windows: Windows
    colours: NDArray[np.uint8] | None = None

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Where its windows lie."""
        return self.block.tiles


def read_ahead(
    reader: SlideReader,
    blocks: Iterable[Block],
    workers: int,
    colours: bool = False,
    stored: StoredFeatures | None = None,
) -> Generator[Loaded, None, None]:
    """Read blocks in threads, a few ahead of the consumer, in order; close it before the reader.

    Parameters
    ----------
    reader : SlideReader
        Thread-safe.
    blocks : iterable of Block
    workers : int
        Threads; at most twice as many blocks are held.
    colours : bool
        Whether the cells' colours are wanted, too.
    stored : StoredFeatures or None
        Where the features of all windows are kept: pixels are read for colours only.

    Yields
    ------
    Loaded
    """

    def load(block: Block) -> Loaded:
        if stored and not colours:
            return Loaded(block, block_features(stored, block))
        pixels = reader.read(block.box, block.size)
        windows = block_features(stored, block) if stored else block.cut(pixels)
        return Loaded(block, windows, block.colours(pixels) if colours else None)

    waiting: deque[Future[Loaded]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        try:
            for block in blocks:
                waiting.append(pool.submit(load, block))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def predict(
    engine: Engine,
    loaded: Iterable[Loaded],
    clock: Stopwatch,
    level: Callable[[], str] = lambda: "",
    keep: bool = False,
) -> Iterator[tuple[list[Loaded], Scored]]:
    """Run windows through the model; one group computes while the result of the one before is used.

    Parameters
    ----------
    engine : Engine
    loaded : iterable of Loaded
        As :func:`read_ahead` yields them.
    clock : Stopwatch
        Gets the seconds spent waiting for pixels (``read``) and for the model (``infer``).
    level : callable
        Returns the level of features: of those that are loaded, or to keep; empty: the model's first one.
    keep : bool
        Whether features are wanted, too, as long as `level` names one.

    Yields
    ------
    blocks : list of Loaded
    scored : Scored
        Of all windows of the blocks, in order.
    """
    pending: tuple[list[Loaded], Pending] | None = None
    for blocks in _groups(clock.iterate("read", loaded), engine.windows_at_once):
        with clock("infer"):
            named = level()
            launched = engine.launch(_joined(blocks), named, keep and bool(named))
            result = pending[1]() if pending else None
        if pending and result is not None:
            yield pending[0], result
        pending = (blocks, launched)
    if pending:
        with clock("infer"):
            result = pending[1]()
        yield pending[0], result


def _joined(blocks: list[Loaded]) -> Windows:
    """Put the windows of blocks together."""
    windows = [block.windows for block in blocks]
    pixels = [part for part in windows if isinstance(part, np.ndarray)]
    if pixels:
        return np.concatenate(pixels)
    levels = zip(*(part for part in windows if isinstance(part, list)), strict=True)
    return [np.concatenate(level) for level in levels]


def _groups(loaded: Iterable[Loaded], windows_at_once: int) -> Iterator[list[Loaded]]:
    """Collect whole blocks until there are windows enough; a block may hold more than that by itself."""
    blocks: list[Loaded] = []
    count = 0
    for block in loaded:
        if blocks and count + len(block.tiles) > windows_at_once:
            yield blocks
            blocks, count = [], 0
        blocks.append(block)
        count += len(block.tiles)
    if blocks:
        yield blocks
