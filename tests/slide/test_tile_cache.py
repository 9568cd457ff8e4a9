from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dualproto_wsi.slide.tile_cache import TileCache


def tile(value):
    return np.full(100, value, np.uint8)


def test_the_tiles_used_last_are_kept_as_many_as_fit():
    made = []
    cache = TileCache(300)

    def get(key):
        return cache.get(key, lambda: made.append(key) or tile(key))

    for key in (1, 2, 3, 1, 4, 1, 3, 4):  # 4 takes the place of 2: 1 was used since
        assert (get(key) == key).all()
    assert made == [1, 2, 3, 4]
    get(2)  # takes the place of 1
    assert (get(1) == 1).all()
    assert made == [1, 2, 3, 4, 2, 1]


def test_a_tile_larger_than_the_cache_is_still_returned():
    cache = TileCache(50)
    assert (cache.get("a", lambda: tile(7)) == 7).all()
    assert (cache.get("a", lambda: tile(8)) == 8).all()


def test_threads_that_ask_at_once_get_one_tile_made_once():
    together, made = threading.Barrier(8), []
    cache = TileCache(10_000)

    def make():
        made.append(1)
        threading.Event().wait(0.05)
        return tile(3)

    def ask(_):
        together.wait()
        return cache.get("a", make)

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(ask, range(8)))
    assert len(made) == 1
    assert all(one is got[0] for one in got)


def test_an_error_reaches_all_who_wait_and_is_forgotten():
    together = threading.Barrier(4)
    cache = TileCache(10_000)

    def fail():
        threading.Event().wait(0.05)
        raise ValueError("damaged")

    def ask(_):
        together.wait()
        with pytest.raises(ValueError, match="damaged"):
            cache.get("a", fail)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert (cache.get("a", lambda: tile(5)) == 5).all()


def test_many_threads_in_little_room():
    cache = TileCache(500)
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda key: cache.get(key, lambda: tile(key)), [i % 17 for i in range(2000)]))
    assert all((one == i % 17).all() for i, one in enumerate(got))
    assert len(cache._tiles) == 5
    assert cache._bytes == 500
