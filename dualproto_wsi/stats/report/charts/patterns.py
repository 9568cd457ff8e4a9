"""How classes look: the colour of the model, and a hatch of its own for those who cannot tell the colours apart."""

from __future__ import annotations

from collections.abc import Sequence

from dualproto_wsi.stats.report.markup import Html, tag

HATCHES = (
    "",
    "M0 8 L8 0 M-2 2 L2 -2 M6 10 L10 6",
    "M2 2 h1.6 v1.6 h-1.6 z M6 6 h1.6 v1.6 h-1.6 z",
    "M0 4 H8",
    "M0 0 L8 8 M6 -2 L10 2 M-2 6 L2 10",
    "M4 0 V8",
    "M0 4 H8 M4 0 V8",
    "M0 0 L8 8 M8 0 L0 8",
)
"""Paths in squares of 8 × 8; the first class is plain."""

REST_NAME = "Unsure or no class"
REST_COLOUR = (215, 218, 222)


def fill_of(index: int) -> str:
    """Return the fill of class ``index`` (0-based)."""
    return f"url(#class-{index})"


def definitions(classes: Sequence[tuple[str, tuple[int, int, int]]]) -> Html:
    """Return the patterns of all classes and of the rest, once for the whole page."""
    looks = [*classes, (REST_NAME, REST_COLOUR)]
    patterns = [_pattern(index, colour, plain=index == 0) for index, (_, colour) in enumerate(looks)]
    return tag("svg", tag("defs", patterns), width=0, height=0, class_="defs", aria_hidden="true", focusable="false")


def _pattern(index: int, colour: tuple[int, int, int], plain: bool) -> Html:
    red, green, blue = colour
    hatch = HATCHES[index % len(HATCHES)]
    dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 110
    lines = tag("path", d=hatch, stroke="#fff" if dark else "#000", stroke_width=1.1, stroke_opacity=0.55, fill="none")
    ground = tag("rect", width=8, height=8, fill=f"rgb({red},{green},{blue})")
    return tag(
        "pattern", ground, lines if not plain else None, id=f"class-{index}", width=8, height=8,
        patternUnits="userSpaceOnUse",
    )  # fmt: skip


def legend(classes: Sequence[tuple[str, tuple[int, int, int]]], rest: bool) -> Html:
    """Return names beside their looks; ``rest`` adds what is of no class."""
    names = [name for name, _ in classes] + ([REST_NAME] if rest else [])
    rest_index = len(classes)
    return tag(
        "ul",
        [tag("li", swatch(rest_index if rest and i == rest_index else i), name) for i, name in enumerate(names)],
        class_="legend",
    )


def swatch(index: int) -> Html:
    """Return a small square in the look of a class."""
    square = tag("rect", x=0.5, y=0.5, width=17, height=17, rx=2, fill=fill_of(index), class_="edge")
    return tag("svg", square, width=18, height=18, aria_hidden="true", focusable="false")
