"""Seconds by step."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Stopwatch:
    """Adds up wall-clock seconds by the name of a step.

    Examples
    --------
    >>> clock = Stopwatch()
    >>> with clock("trace"):
    ...     pass
    >>> list(clock.seconds)
    ['trace']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self._start

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Count what runs inside a ``with`` to a step."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start

    def iterate(self, step: str, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, counting the time spent waiting for each to a step."""
        iterator = iter(items)
        while True:
            with self(step):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
