"""Numbers as a person reads them: three significant digits, no false exactness, no blank where nothing is known."""

from __future__ import annotations

import math
import re

from dualproto_wsi.stats.cohort.model import Value
from dualproto_wsi.stats.report.markup import Html, hidden, join, tag

THIN = "\u202f"
"""A narrow space that no line breaks at."""

MINUS = "\u2212"

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

LEAST_DECIMAL = 1e-4
"""Below, a number is written with a power of ten."""


def finite(value: Value) -> float | None:
    """Return a value as a number, or None where it is text or undefined."""
    if value is None or isinstance(value, (str, bool)) or not math.isfinite(value):
        return None
    return float(value)


def number(value: float) -> str:
    """Return a finite number in three significant digits; whole numbers (type int) in full.

    Examples
    --------
    0.42, 12 300, −0.00123, 1.2 × 10⁻⁵
    """
    if isinstance(value, int):
        text = f"{value:,}"
    else:
        rounded = float(f"{value:.3g}")
        size = abs(rounded)
        if 0 < size < LEAST_DECIMAL or size >= 1e9:
            digits, power = f"{rounded:.2e}".split("e")
            digits = digits.rstrip("0").rstrip(".")
            return f"{digits} × 10{str(int(power)).translate(SUPERSCRIPT)}".replace("-", MINUS)
        decimals = 0 if size >= 100 or not size else 2 - math.floor(math.log10(size))
        text = f"{rounded:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace(",", THIN).replace("-", MINUS)


def with_unit(value: float, unit: str) -> str:
    """Return a number and its unit; a plain number has none."""
    return f"{number(value)}{THIN}{unit}" if shown_unit(unit) else number(value)


def shown_unit(unit: str) -> str:
    """Return a unit as it is printed: a ratio (``1``) has none."""
    return "" if unit in ("", "1") else unit


def titled(title: str, unit: str) -> str:
    """Return the heading of a measure: ``Tumor area (mm²)``."""
    return f"{title} ({unit})" if shown_unit(unit) else title


UNDEFINED = join(tag("span", "–", aria_hidden="true"), hidden("not defined"))
"""A dash for the eye and two words for the ear."""


def value_text(value: Value) -> str | Html:
    """Return a cell: a number in three digits, text as it is, or :data:`UNDEFINED`."""
    if isinstance(value, str) and value:
        return value
    found = finite(value)
    if found is None:
        return UNDEFINED
    return number(value) if isinstance(value, int) else number(found)


def interval_text(value: Value, low: Value, high: Value) -> str | Html:
    """Return a number with its interval, ``0.42 (0.31 to 0.55)``; without limits the number alone."""
    limits = finite(low), finite(high)
    if finite(value) is None or limits[0] is None or limits[1] is None:
        return value_text(value)
    return join(value_text(value), f" ({number(limits[0])} to {number(limits[1])})")


def p_text(p: float | None) -> str | Html:
    """Return a p value; below 0.001 no digits are told, since the tests do not hold that far out."""
    if finite(p) is None or p is None:
        return UNDEFINED
    return "< 0.001" if p < 0.001 else number(round(p, 3))


def count(n: int, singular: str, plural: str = "") -> str:
    """Return ``1 slide``, ``2 slides``."""
    return f"{number(n)} {singular if n == 1 else plural or singular + 's'}"


def listed(words: list[str], at_most: int = 6) -> str:
    """Return ``a, b and c``; of a long list the first ones and how many more."""
    if len(words) > at_most:
        words = [*words[: at_most - 1], f"{len(words) - at_most + 1} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def slug(name: str) -> str:
    """Return a name as a column writes it: lower case, ``_`` for all but letters and digits."""
    return re.sub(r"\W+", "_", name.casefold()).strip("_")
