"""How a measure follows from what was counted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.stats.cohort.model import Measure, Value
from dualproto_wsi.stats.cohort.quantities import Quantities

COUNT = "regions"
"""Unit of whole numbers."""

Sums = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Formula:
    """A measure and how it is computed.

    Parameters
    ----------
    measure : Measure
    top, bottom : tuple of str
        Names of quantities; the measure is the sum of the one by that of the other, or the former alone.
    needs : tuple of str
        Roles without which it is undefined.
    compute : callable or None
        In place of ``top`` and ``bottom``, where a measure is no quotient of sums.
    """

    measure: Measure
    top: tuple[str, ...] = ()
    bottom: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    compute: Callable[[Quantities], float] | None = None

    def of_sums(self, sums: Sums) -> NDArray[np.float64]:
        """Return the quotient, NaN where its lower part is 0."""
        top = sum((sums[name] for name in self.top), np.zeros(1))
        if not self.bottom:
            return top
        bottom = sum((sums[name] for name in self.bottom), np.zeros(1))
        return np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1), np.nan)


def compute_values(found: Quantities, formulas: Sequence[Formula], roles: Collection[str]) -> dict[str, Value]:
    """Return the value of each measure by name; undefined is None."""
    sums = {name: column.sum(keepdims=True) for name, column in zip(found.names, found.blocks.T, strict=True)}
    values: dict[str, Value] = {}
    for formula in formulas:
        value = np.nan
        if set(formula.needs) <= set(roles):
            value = formula.compute(found) if formula.compute else float(formula.of_sums(sums)[0])
        values[formula.measure.name] = (
            None if np.isnan(value) else int(value) if formula.measure.unit == COUNT else value
        )
    return values
