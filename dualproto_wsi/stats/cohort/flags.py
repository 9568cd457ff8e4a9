"""What a person should look at: slides that failed, have little tissue, or stand out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dualproto_wsi.stats.cohort.model import CohortSlide, Flag, Measure

LEAST_MM2 = 1.0
"""Analysed tissue below which a slide's shares hang on few cells, mm²."""
LEAST_CONFIDENCE, MOST_UNSURE = 0.6, 0.2
OUTLIER, LEAST_SLIDES = 3.5, 10
"""Robust z-score (Iglewicz & Hoaglin, How to Detect and Handle Outliers, 1993), and slides that it needs."""
PICTURE = {"qc_focus": "focus", "qc_haematoxylin": "stain", "qc_eosin": "stain"}
"""Measures of the picture that slides of a study have alike, and what one that stands out is called."""


def find_flags(slides: Sequence[CohortSlide], measures: Sequence[Measure]) -> tuple[Flag, ...]:
    """Return what stands out, in the order of the slides."""
    outliers = _outliers(slides, [m for m in measures if m.main or m.name in PICTURE])
    return tuple(flag for slide in slides for flag in (*_own(slide), *outliers.get(slide.key, ())))


def _own(slide: CohortSlide) -> Iterator[Flag]:
    if slide.status == "failed":
        kind = "pixel size" if "pixel size" in slide.error else "failed"
        yield Flag(slide.key, kind, "error", f"Not in the numbers: {slide.error or 'no reason was told'}.")
        return
    values = slide.values
    tissue, confidence, unsure = (values.get(n) for n in ("analysed_mm2", "mean_confidence", "unsure_fraction"))
    if slide.status == "empty":
        yield Flag(slide.key, "empty", "warning", "No tissue was found; is the slide blank, or very pale?")
    elif isinstance(tissue, float) and tissue < LEAST_MM2:
        text = f"Only {tissue:.3g} mm² of tissue were analysed; below {LEAST_MM2:g} mm² shares hang on few cells."
        yield Flag(slide.key, "low tissue", "warning", text)
    if isinstance(confidence, float) and confidence < LEAST_CONFIDENCE:
        text = f"Mean confidence is {confidence:.2f}; from {LEAST_CONFIDENCE:g} on is usual."
        yield Flag(slide.key, "low confidence", "warning", text)
    if isinstance(unsure, float) and unsure > MOST_UNSURE:
        text = f"{unsure:.0%} of the tissue has no confident class; up to {MOST_UNSURE:.0%} is usual."
        yield Flag(slide.key, "unsure", "warning", text)


def _outliers(slides: Sequence[CohortSlide], measures: Sequence[Measure]) -> dict[str, list[Flag]]:
    found: dict[str, list[Flag]] = {}
    for measure in measures:
        known = [(slide.key, slide.values.get(measure.name)) for slide in slides]
        pairs = [(key, value) for key, value in known if isinstance(value, float)]
        values = np.array([value for _, value in pairs])
        if len(values) < LEAST_SLIDES:
            continue
        median = float(np.median(values))
        spread = 1.4826 * float(np.median(abs(values - median)))
        if not spread:
            continue
        low, high = median - OUTLIER * spread, median + OUTLIER * spread
        for key, value in pairs:
            if not low <= value <= high:
                text = f"{measure.title} is {value:.3g}; {max(low, 0):.3g} to {high:.3g} is usual in this cohort."
                kind = PICTURE.get(measure.name, "outlier")
                found.setdefault(key, []).append(Flag(key, kind, "note", text))
    return found
