"""The log of a training: a table that grows by a line an epoch, and TensorBoard's files if asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import MissingDependency, OutputError
from dualproto_wsi.files import replacing

Row = dict[str, float]
"""Figures of an epoch by name."""


class TrainingLog:
    """Writes the figures of every epoch.

    Parameters
    ----------
    table : Path or None
        A CSV file, made anew with every line, so that it is whole at any time; None: no log at all.
    tensorboard : Path or None
        Folder for TensorBoard, one folder a fit in it.

    Raises
    ------
    MissingDependency
        If TensorBoard is asked for and not installed.
    """

    def __init__(self, table: Path | None, tensorboard: Path | None = None) -> None:
        self._table = table
        self._tensorboard = tensorboard if table else None
        self._rows: dict[str, Sequence[Row]] = {}
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingDependency(
                    f"--tensorboard {tensorboard}: the package tensorboard is not installed; pip install tensorboard"
                ) from error
            self._writer: Any = SummaryWriter

    def note(self, title: str, rows: Sequence[Row], new: int) -> None:
        """Log the epochs of a fit.

        Parameters
        ----------
        title : str
            Of the fit.
        rows : sequence of dict
            Of all epochs so far.
        new : int
            How many of them, the last ones, were not logged before.

        Raises
        ------
        OutputError
            If the table cannot be written.
        """
        if self._table is None:
            return
        self._rows[title] = rows
        columns = list(dict.fromkeys(name for lines in self._rows.values() for line in lines for name in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, ["fit", *columns], restval="", lineterminator="\n")
        writer.writeheader()
        for fit, lines in self._rows.items():
            writer.writerows({"fit": fit} | line for line in lines)
        try:
            self._table.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._table) as temporary:
                temporary.write_text(text.getvalue(), encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self._table}: the log cannot be written ({error.strerror})") from error
        if self._tensorboard:
            self._to_tensorboard(self._tensorboard / title.replace("/", " of "), rows[len(rows) - new :])

    def _to_tensorboard(self, folder: Path, rows: Sequence[Row]) -> None:
        if not rows:
            return
        with self._writer(str(folder)) as writer:
            for row in rows:
                for name, value in row.items():
                    if name != "epoch":
                        writer.add_scalar(name, value, int(row["epoch"]))
