"""Tables for the terminal, plain text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dualproto_wsi.stats.metrics import ConfusionMatrix
    from dualproto_wsi.workflow.evaluation.report import EvaluationReport
    from dualproto_wsi.workflow.evaluation.score import Scores
    from dualproto_wsi.workflow.evaluation.slides import SlidesReport


def text_table(heads: Sequence[str], lines: Sequence[Sequence[str]], titles: int = 1) -> str:
    """Return lines of cells below their heads; the first ``titles`` columns to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < titles else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (heads, *lines)
    )


def score_table(rows: Mapping[str, ConfusionMatrix]) -> str:
    """Return accuracy, IoU of each class and mean IoU, a row a confusion matrix; undefined is ``nan``."""
    names = next(iter(rows.values())).names
    heads = ["", "accuracy", *(f"IoU {name}" for name in names), "mean IoU"]
    lines = [
        [title, *(f"{value:.3f}" for value in (matrix.accuracy, *matrix.iou, matrix.mean_iou))]
        for title, matrix in rows.items()
    ]
    return text_table(heads, lines)


def evaluation_table(report: EvaluationReport) -> str:
    """Return the figures of an evaluation on images, a row a model and protocol; gate and background always named."""
    from dualproto_wsi.stats.metrics import measure

    tta = any(row.protocol.tta for row in report.rows)
    refined = any(row.protocol.refine != "none" for row in report.rows)
    masks = any(row.boundaries for row in report.rows)
    heads = ["model", "gate", "background", *["tta"] * tta, *["refine"] * refined, "accuracy"]
    titles = len(heads) - 1
    heads += [*(f"IoU {name}" for name in report.classes), "mean IoU", "mean Dice", "fw IoU", "ECE"]
    heads += [f"boundary F1 ({report.settings.boundary_um:g} µm)", "small found"] * masks
    lines = []
    for row in report.rows:
        found = measure(row.matrix.counts, len(report.classes))
        line = [row.title, row.protocol.gate, row.protocol.background]
        line += ["8" if row.protocol.tta else "-"] * tta + [row.protocol.refine] * refined
        line.append(_with_interval(found, "accuracy", row.intervals))
        line += [f"{value:.3f}" for value in found["iou"][: len(report.classes)]]
        line.append(_with_interval(found, "mean_iou", row.intervals))
        line += [f"{float(found[name]):.3f}" for name in ("mean_dice", "frequency_weighted_iou")]
        line.append(f"{row.calibration.expected_calibration_error:.3f}" if row.calibration else "-")
        lines.append(line + _mask_cells(row) * masks)
    return text_table(heads, lines, titles)


def _mask_cells(row: Scores) -> list[str]:
    if not row.boundaries:
        return ["-", "-"]
    return [f"{row.boundary.mean():.3f}", f"{row.small_found.sum()} of {row.small.sum()}"]


def _with_interval(
    found: Mapping[str, NDArray[np.float64]], name: str, intervals: Mapping[str, NDArray[np.float64]]
) -> str:
    low, high = intervals[name].tolist() if name in intervals else (math.nan, math.nan)
    return f"{float(found[name]):.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")


def presence_table(report: EvaluationReport) -> str:
    """Return how well each model knows which classes an image holds, against image-level labels."""
    threshold = report.settings.threshold
    heads = ["class in the image", "model", "AUC", f"F1 (from {threshold:g} on)", "images with", "without"]
    lines = [
        [
            name,
            model,
            f"{scores.auc[k]:.3f}",
            f"{scores.f1[k]:.3f}",
            str(scores.present[k]),
            str(scores.absent[k]),
        ]
        for k, name in enumerate(report.classes)
        for model, scores in report.presence.items()
    ]
    return text_table(heads, lines, titles=2)


def slides_table(report: SlidesReport) -> str:
    """Return the figures of slides against annotations, a row a slide and one of all together."""
    from dualproto_wsi.stats.metrics import measure

    names = report.classes
    heads = ["slide", "annotated mm²", "accuracy", *(f"IoU {name}" for name in names), "mean IoU", "mean Dice"]
    heads += ["unsure", "not analysed"]
    matrices = [(slide.slide, slide.mm2, slide.matrix) for slide in report.slides]
    matrices.append(("all", math.fsum(slide.mm2 for slide in report.slides), report.pooled))
    lines = []
    for title, mm2, matrix in matrices:
        found = measure(matrix.counts, len(names))
        line = [title, f"{mm2:.3g}", _with_interval(found, "accuracy", report.intervals if title == "all" else {})]
        line += [f"{value:.3f}" for value in found["iou"][: len(names)]]
        line.append(_with_interval(found, "mean_iou", report.intervals if title == "all" else {}))
        line.append(f"{float(found['mean_dice']):.3f}")
        other = matrix.counts[:, len(names) :].sum(0) / max(matrix.total, 1)
        lines.append(line + [f"{share:.1%}" for share in other])
    return text_table(heads, lines)
