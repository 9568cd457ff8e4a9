"""Regions in TIAToolbox's annotation store, an SQLite database that its viewer and its queries read."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import MissingDependency, OutputError
from dualproto_wsi.vector.export.shapes import to_geometry
from dualproto_wsi.vector.export.source import ExportSource
from dualproto_wsi.vector.region import AREA, MEAN_SCORE, Region

ROWS = 8192
"""Regions that are in memory at a time."""


def compile_options() -> list[str]:
    """Return what this Python's SQLite was built with."""
    with closing(sqlite3.connect(":memory:")) as database:
        return [name for (name,) in database.execute("PRAGMA compile_options")]


def require_sqlite() -> None:
    """Require an SQLite that can hold an annotation store.

    Raises
    ------
    MissingDependency
        If it has no R*Tree index.
    """
    if "ENABLE_RTREE" not in compile_options():
        raise MissingDependency(
            f"annotationstore needs SQLite with its R*Tree module; this Python's SQLite {sqlite3.sqlite_version} was "
            "built without: use a Python of python.org or conda, or export parquet"
        )


def write(source: ExportSource, path: Path) -> None:
    """Write the regions as a ``SQLiteStore``.

    Keys are the regions' UUIDs, geometry is in level-0 px of the whole file. Properties: ``type`` (the class, which the
    viewer colours by), ``label``, ``area_mm2``, ``score``, ``id``, and every measurement under its own name.

    Parameters
    ----------
    source : ExportSource
    path : Path

    Raises
    ------
    MissingDependency
        If this Python's SQLite cannot do it.
    OutputError
        If the file cannot be written.

    Notes
    -----
    TIAToolbox itself opens the file on a Python with ``sqlite3.Connection.enable_load_extension`` only.
    """
    require_sqlite()
    from tiatoolbox.annotation.storage import Annotation, SQLiteStore

    class Store(SQLiteStore):  # type: ignore[misc]
        """TIAToolbox's store, also on a Python built without loading of SQLite extensions, where it would crash."""

        # It asks for the same list, but switches the loading of extensions on before, which it has no need of.
        compile_options = staticmethod(compile_options)

        def __del__(self) -> None:
            """Do nothing: TIAToolbox's would open the file once more, when it has its final name or is gone."""

    regions = source.regions()
    try:
        store = Store(path, auto_commit=False)
        try:
            while rows := list(islice(regions, ROWS)):
                annotations = [Annotation(to_geometry(region), properties=_properties(region)) for region in rows]
                store.append_many(annotations, keys=[region.id for region in rows])
            store.commit()
        finally:
            store.close()
    except sqlite3.Error as error:
        raise OutputError(f"{path}: cannot be written ({error}); make room, or check the folder's rights") from error


def _properties(region: Region) -> dict[str, Any]:
    return {
        "type": region.tissue_class.name,
        "label": region.tissue_class.id,
        "id": region.id,
        "area_mm2": region.measurements.get(AREA),
        "score": region.measurements.get(MEAN_SCORE),
        **region.measurements,
    }
