"""Decoded tiles that neighbouring reads share."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]


class TileCache:
    """The tiles used last, as many as fit; safe to use from several threads.

    A tile is made by the first thread that asks for it; others that ask meanwhile wait for that one.

    Parameters
    ----------
    capacity : int
        Bytes of pixels to keep. Tiles in the hands of a thread are not counted.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Hashable, Future[Pixels]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], Pixels]) -> Pixels:
        """Return a tile, made by `make` if it is not there.

        Parameters
        ----------
        key : hashable
            Which tile.
        make : callable
            Returns its pixels. What it raises is raised here too, for all who wait; the next call tries again.

        Returns
        -------
        ndarray of uint8
            Not to be written to.
        """
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
            else:
                made: Future[Pixels] = Future()
                self._tiles[key] = made
        if tile is not None:
            return tile.result()
        try:
            pixels = make()
        except BaseException as error:
            with self._lock:
                del self._tiles[key]
            made.set_exception(error)
            raise
        made.set_result(pixels)
        self._make_room(pixels.nbytes)
        return pixels

    def _make_room(self, added: int) -> None:
        """Count a tile in and drop the ones used longest ago; a tile in the making stays."""
        with self._lock:
            self._bytes += added
            done = (key for key, tile in self._tiles.items() if tile.done())
            while self._bytes > self._capacity and (key := next(done, None)) is not None:
                self._bytes -= self._tiles.pop(key).result().nbytes
                done = (key for key, tile in self._tiles.items() if tile.done())
