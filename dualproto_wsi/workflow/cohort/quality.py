"""What ``segment`` found of the slides as pictures, as columns and flags of a cohort."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dualproto_wsi.slide.quality import BLURRED_SHARE, PALE_BELOW, PEN_SHARE
from dualproto_wsi.stats.cohort.model import Flag, Measure, Value
from dualproto_wsi.workflow.batch.outcome import QC_NUMBERS
from dualproto_wsi.workflow.checks.verify_record import Told

_FOCUS = "Pech-Pacheco et al., ICPR 2000, doi:10.1109/ICPR.2000.903548"
_STAIN = "Ruifrok & Johnston, Anal Quant Cytol Histol 23:291, 2001"

MEASURES = (
    Measure(
        "qc_focus",
        "Focus",
        "1",
        "Median over windows of the variance of the Laplacian at 0.5 µm/px; more is sharper.",
        "record.json: qc.focus",
        _FOCUS,
    ),
    Measure(
        "qc_blurred",
        "Blurred share",
        "1",
        "Share of the windows that are blurred.",
        "record.json: qc.blurred_share",
        _FOCUS,
    ),
    Measure(
        "qc_haematoxylin",
        "Haematoxylin",
        "OD",
        "Mean optical density of haematoxylin over the tissue.",
        "record.json: qc.haematoxylin_od",
        _STAIN,
    ),
    Measure(
        "qc_eosin",
        "Eosin",
        "OD",
        "Mean optical density of eosin over the tissue.",
        "record.json: qc.eosin_od",
        _STAIN,
    ),
    Measure("qc_ink", "Ink", "1", "Area of pen marks by area of tissue.", "record.json: qc.ink_share"),
)
"""Columns of ``cohort.csv``, called as in ``slides.csv``."""


def quality_values(told: Told | None) -> dict[str, Value]:
    """Return what is known of a slide's picture, by column; empty for a slide that was done before it was measured."""
    found = _quality(told)
    return {column: found.get(name) for column, name in QC_NUMBERS.items()} if found else {}


def quality_flags(slide: str, told: Told | None) -> Iterator[Flag]:
    """Yield the flags that ``segment`` raised, with the values that they are about."""
    found = _quality(told)
    kinds = {
        "blurred": (
            "focus",
            "{:.0%} of the windows are blurred; up to {:.0%} is usual.",
            "blurred_share",
            BLURRED_SHARE,
        ),
        "pen": (
            "pen",
            "Pen marks cover as much as {:.1%} of the tissue; up to {:.0%} is usual.",
            "ink_share",
            PEN_SHARE,
        ),
        "pale": ("stain", "Mean optical density is {:.3f}; from {:.2f} on is usual.", "density", PALE_BELOW),
    }
    for flag in found.get("flags", ()):
        if flag in kinds:
            kind, text, name, limit = kinds[flag]
            value = found.get(name)
            yield Flag(slide, kind, "warning", text.format(value if isinstance(value, float | int) else 0.0, limit))


def _quality(told: Told | None) -> Mapping[str, Any]:
    found = told.data.get("qc") if told else None
    return found if isinstance(found, dict) else {}
