"""Windows through the model: reading ahead, and batches that compute while the last ones are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dualproto_wsi.slide.reader import SlideReader
    from dualproto_wsi.slide.tiling import Block, Tile
    from dualproto_wsi.workflow.mapping.engine import Engine, Pending
    from dualproto_wsi.workflow.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class Loaded:
    """A block that was read.

    Parameters
    ----------
    block : Block
    windows : ndarray of uint8, shape (n, window_px, window_px, 3)
        Its windows, RGB.
    colours : ndarray of uint8, shape (rows, columns, 3), or None
        Mean colour of each of its cells, where asked for.
    """

    block: Block
    windows: NDArray[np.uint8]
    colours: NDArray[np.uint8] | None = None

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Where its windows lie."""
        return self.block.tiles


def read_ahead(
    reader: SlideReader, blocks: Iterable[Block], workers: int, colours: bool = False
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

    Yields
    ------
    Loaded
    """

    def load(block: Block) -> Loaded:
        pixels = reader.read(block.box, block.size)
        return Loaded(block, block.cut(pixels), block.colours(pixels) if colours else None)

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
    engine: Engine, loaded: Iterable[Loaded], clock: Stopwatch
) -> Iterator[tuple[list[Loaded], NDArray[np.float32]]]:
    """Run windows through the model; one group computes while the result of the one before is used.

    Parameters
    ----------
    engine : Engine
    loaded : iterable of Loaded
        As :func:`read_ahead` yields them.
    clock : Stopwatch
        Gets the seconds spent waiting for pixels (``read``) and for the model (``infer``).

    Yields
    ------
    blocks : list of Loaded
    logits : ndarray of float32, shape (n, K, h, w)
        Of all windows of the blocks, in order.
    """
    pending: tuple[list[Loaded], Pending] | None = None
    for blocks in _groups(clock.iterate("read", loaded), engine.windows_at_once):
        with clock("infer"):
            launched = engine.launch(np.concatenate([block.windows for block in blocks]))
            result = pending[1]() if pending else None
        if pending and result is not None:
            yield pending[0], result
        pending = (blocks, launched)
    if pending:
        with clock("infer"):
            result = pending[1]()
        yield pending[0], result


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
