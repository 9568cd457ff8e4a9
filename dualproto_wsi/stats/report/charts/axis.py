"""Where values lie on an axis, and which of them are written at it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SKEWED = 20.0
"""An axis is logarithmic where the largest value is this many times the median (and none is 0 or less)."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range with its ticks.

    Parameters
    ----------
    ticks : tuple of float
        Rising; the first and the last are the ends.
    logarithmic : bool
    """

    ticks: tuple[float, ...]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies: 0 at the first tick, 1 at the last; values outside are put at the ends."""
        low, high, value = (math.log(v) if self.logarithmic else v for v in (self.ticks[0], self.ticks[-1], value))
        return min(max((value - low) / (high - low), 0.0), 1.0)


def axis_for(values: Sequence[float]) -> Axis:
    """Return an axis that holds all values; 0 is on it unless the values are far from it.

    Parameters
    ----------
    values : sequence of float
        At least one, finite.
    """
    low, high = min(values), max(values)
    if low > 0 and high > SKEWED * float(np.median(values)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        step = -(-(len(powers) - 1) // 5)
        kept = [*powers[::step]]
        return Axis(
            tuple(10.0**power for power in (*kept, *([kept[-1] + step] if kept[-1] < powers[-1] else []))), True
        )
    if 0 <= low <= high / 2:
        low = 0.0
    if low == high:
        margin = abs(low) / 2 or 0.5
        low, high = low - margin, high + margin
    return Axis(nice_ticks(low, high))


def nice_ticks(low: float, high: float, at_most: int = 5) -> tuple[float, ...]:
    """Return round numbers (1, 2, 2.5 or 5 times a power of ten apart) that enclose a range.

    Parameters
    ----------
    low, high : float
        low < high.
    at_most : int
        Steps within the range.
    """
    rough = (high - low) / at_most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(index * step, 12) if step > 1e-9 else index * step for index in range(first, last + 1))
