"""Readers of the layouts that labelled images lie in on disk, one a layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial as _with
from pathlib import Path

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.data.images import Dataset
from dualproto_wsi.data.layouts import brca_m2c, table, wsss
from dualproto_wsi.errors import DataError
from dualproto_wsi.settings.checks import one_of


@dataclass(frozen=True, slots=True)
class Layout:
    """How to read a layout: one split of it, and which splits there are."""

    read: Callable[[Path, str, ClassScheme, float | None, bool], Dataset]
    find_splits: Callable[[Path], tuple[str, ...]]


READERS = {
    "brca-m2c": Layout(brca_m2c.read, brca_m2c.find_splits),
    "bcss-wsss": Layout(_with(wsss.read, wsss.BCSS_WSSS), wsss.find_splits),
    "luad-histoseg": Layout(_with(wsss.read, wsss.LUAD_HISTOSEG), wsss.find_splits),
    "wsss4luad": Layout(_with(wsss.read, wsss.WSSS4LUAD), wsss.find_splits),
    "table": Layout(table.read, table.find_splits),
}
"""The layouts by name; ``dualproto_wsi.settings.LAYOUTS`` has the same names."""


def read_dataset(
    root: Path,
    layout: str,
    split: str,
    classes: ClassScheme,
    mpp: float | None = None,
    *,
    partial: bool = False,
) -> Dataset:
    """Read the images of one split with their labels; pixels are not read yet.

    Parameters
    ----------
    root : Path
        The folder of the data; for ``table`` also the table itself.
    layout : str
        A name of :data:`READERS`.
    split : str
        Which images: ``train``, ``val`` …
    classes : ClassScheme
        The classes wanted, by name or synonym (:data:`dualproto_wsi.data.layouts.names.SYNONYMS`).
    mpp : float or None
        µm per px; replaces what the layout says.
    partial : bool
        Whether the classes may differ from the data's, for scoring a model of other classes: what the data has beyond
        them is background in masks and left out of the points; what it lacks is not known of any image.

    Raises
    ------
    DataError
        If the data is not what its layout says, there is no image, or the classes differ.
    SettingsError
        If there is no such layout.
    """
    one_of("layout", layout, tuple(READERS))
    dataset = READERS[layout].read(root, split, classes, mpp, partial)
    if not dataset.images:
        raise DataError(f"{root}: no image in split {split!r}; it has {', '.join(find_splits(root, layout)) or 'none'}")
    return dataset


def find_splits(root: Path, layout: str) -> tuple[str, ...]:
    """Return the names of the splits that the data has; of a table without a column ``split``, none.

    Raises
    ------
    DataError
        If a table cannot be read.
    SettingsError
        If there is no such layout.
    """
    one_of("layout", layout, tuple(READERS))
    return READERS[layout].find_splits(root)
