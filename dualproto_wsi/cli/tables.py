"""Tables for the terminal, plain text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dualproto_wsi.stats.metrics import ConfusionMatrix


def score_table(rows: Mapping[str, ConfusionMatrix]) -> str:
    """Return accuracy, IoU of each class and mean IoU, a row a confusion matrix; undefined is ``nan``."""
    names = next(iter(rows.values())).names
    heads = ["", "accuracy", *(f"IoU {name}" for name in names), "mean IoU"]
    lines = [
        [title, *(f"{value:.3f}" for value in (matrix.accuracy, *matrix.iou, matrix.mean_iou))]
        for title, matrix in rows.items()
    ]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in (heads, *lines)
    )
