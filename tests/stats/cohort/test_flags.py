"""Slides that a person should look at."""

from __future__ import annotations

from dualproto_wsi.stats.cohort.flags import find_flags
from dualproto_wsi.stats.cohort.model import CohortSlide, Measure, Value

MAIN = Measure("tsr", "Tumor-stroma ratio", "1", "", "", main=True)


def slide(key: str, status: str = "done", error: str = "", **values: Value) -> CohortSlide:
    return CohortSlide(key, key, "", "", status, {"analysed_mm2": 10.0, "mean_confidence": 0.9} | values, error=error)


def told(*slides: CohortSlide) -> list[tuple[str, str, str, str]]:
    return [(flag.slide, flag.kind, flag.severity, flag.text) for flag in find_flags(slides, [MAIN])]


def test_each_kind() -> None:
    assert told(
        slide("a"),
        slide("b", "failed", "b: no pixel size in the file; pass --mpp"),
        slide("c", "failed"),
        slide("d", "empty", analysed_mm2=0.0, mean_confidence=None),
        slide("e", analysed_mm2=0.25, mean_confidence=0.5, unsure_fraction=0.3),
    ) == [
        ("b", "pixel size", "error", "Not in the numbers: b: no pixel size in the file; pass --mpp."),
        ("c", "failed", "error", "Not in the numbers: no reason was told."),
        ("d", "empty", "warning", "No tissue was found; is the slide blank, or very pale?"),
        (
            "e",
            "low tissue",
            "warning",
            "Only 0.25 mm² of tissue were analysed; below 1 mm² shares hang on few cells.",
        ),
        ("e", "low confidence", "warning", "Mean confidence is 0.50; from 0.6 on is usual."),
        ("e", "unsure", "warning", "30% of the tissue has no confident class; up to 20% is usual."),
    ]


def test_outliers_by_robust_z() -> None:
    usual = [slide(str(i), tsr=0.4 + 0.01 * i) for i in range(9)]
    assert told(*usual, slide("far", tsr=0.61)) == [
        ("far", "outlier", "note", "Tumor-stroma ratio is 0.61; 0.315 to 0.575 is usual in this cohort.")
    ]
    stains = [slide(str(i), qc_eosin=0.2 + 0.01 * i) for i in range(10)]
    flags = find_flags([*stains, slide("red", qc_eosin=0.9)], [Measure("qc_eosin", "Eosin", "OD", "", "")])
    assert [(flag.slide, flag.kind) for flag in flags] == [("red", "stain")]
    assert told(*usual, slide("near", tsr=0.52)) == []
    assert told(*usual[:8], slide("far", tsr=0.99)) == [], "nine slides are too few"
    assert told(*[slide(str(i), tsr=0.4) for i in range(12)], slide("other", tsr=0.5)) == [], (
        "no spread to compare with"
    )
