"""Windows through the model: reading ahead, and batches that compute while the last ones are used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from dualproto_wsi.slide.reader import SlideReader
    from dualproto_wsi.slide.tiling import Block
    from dualproto_wsi.workflow.engine import Engine, Pending
    from dualproto_wsi.workflow.stopwatch import Stopwatch


def read_ahead(reader: SlideReader, blocks: Iterable[Block], workers: int) -> Iterator[tuple[Block, NDArray[np.uint8]]]:
    """Read blocks in threads, a few ahead of the consumer, in order.

    Parameters
    ----------
    reader : SlideReader
        Thread-safe.
    blocks : iterable of Block
    workers : int
        Threads; at most twice as many blocks are held.

    Yields
    ------
    block : Block
    windows : ndarray of uint8, shape (n, window_px, window_px, 3)
    """

    def load(block: Block) -> NDArray[np.uint8]:
        return block.cut(reader.read(block.box, block.size))

    waiting: deque[tuple[Block, Future[NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        try:
            for block in blocks:
                waiting.append((block, pool.submit(load, block)))
                if len(waiting) >= 2 * workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def predict(
    engine: Engine, loaded: Iterable[tuple[Block, NDArray[np.uint8]]], clock: Stopwatch
) -> Iterator[tuple[list[Block], NDArray[np.float32]]]:
    """Run windows through the model; one group computes while the result of the one before is used.

    Parameters
    ----------
    engine : Engine
    loaded : iterable
        Blocks with their windows, as :func:`read_ahead` yields them.
    clock : Stopwatch
        Gets the seconds spent waiting for pixels (``read``) and for the model (``infer``).

    Yields
    ------
    blocks : list of Block
    logits : ndarray of float32, shape (n, K, h, w)
        Of all windows of the blocks, in order.
    """
    pending: tuple[list[Block], Pending] | None = None
    for blocks, windows in _groups(clock.iterate("read", loaded), engine.windows_at_once):
        with clock("infer"):
            launched = engine.launch(windows)
            result = pending[1]() if pending else None
        if pending and result is not None:
            yield pending[0], result
        pending = (blocks, launched)
    if pending:
        with clock("infer"):
            result = pending[1]()
        yield pending[0], result


def _groups(
    loaded: Iterable[tuple[Block, NDArray[np.uint8]]], windows_at_once: int
) -> Iterator[tuple[list[Block], NDArray[np.uint8]]]:
    """Collect whole blocks until there are windows enough; a block may hold more than that by itself."""
    blocks: list[Block] = []
    windows: list[NDArray[np.uint8]] = []
    count = 0
    for block, pixels in loaded:
        if blocks and count + len(pixels) > windows_at_once:
            yield blocks, np.concatenate(windows)
            blocks, windows, count = [], [], 0
        blocks.append(block)
        windows.append(pixels)
        count += len(pixels)
    if blocks:
        yield blocks, np.concatenate(windows)
