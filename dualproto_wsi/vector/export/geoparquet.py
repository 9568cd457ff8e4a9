"""Regions as GeoParquet 1.1: a row a region, its polygon as WKB."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from shapely import Geometry, bounds, to_wkb

from dualproto_wsi.vector.export.shapes import to_geometry
from dualproto_wsi.vector.export.source import ExportSource
from dualproto_wsi.vector.region import AREA, MEAN_SCORE, RUNNER_UP, Region

ROWS = 8192
"""Of a row group; as many regions are in memory."""

COLUMNS = {AREA: "area_mm2", MEAN_SCORE: "score", RUNNER_UP: "runner_up"}
"""Column by measurement; grid squares, which have none of these, get empty cells."""


def write(source: ExportSource, path: Path) -> None:
    """Write the regions as GeoParquet 1.1, a few thousand at a time.

    Columns: ``id`` (UUID), ``class``, ``label`` (value in the label map), ``area_mm2``, ``score``, ``runner_up``,
    ``measurements`` (all of them, as JSON) and ``geometry``: WKB, level-0 px of the whole slide file, y down; a
    coordinate system on Earth it has none.

    Parameters
    ----------
    source : ExportSource
    path : Path
    """
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        [
            ("id", pyarrow.string()),
            ("class", pyarrow.string()),
            ("label", pyarrow.uint8()),
            *((name, pyarrow.float64()) for name in COLUMNS.values()),
            ("measurements", pyarrow.string()),
            ("geometry", pyarrow.binary()),
        ]
    )
    regions, box, kinds = source.regions(), np.array([np.inf, np.inf, -np.inf, -np.inf]), set[str]()
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := list(islice(regions, ROWS)):
            shapes = [to_geometry(region) for region in rows]
            edges = bounds(shapes)
            box[:2], box[2:] = np.minimum(box[:2], edges[:, :2].min(0)), np.maximum(box[2:], edges[:, 2:].max(0))
            kinds.update(shape.geom_type for shape in shapes)
            writer.write_table(pyarrow.Table.from_pylist(list(_rows(rows, shapes)), schema))
        writer.add_key_value_metadata(
            {"geo": json.dumps(_geo(kinds, box)), "dualproto-wsi": json.dumps(_about(source))}
        )


def _rows(regions: list[Region], shapes: list[Geometry]) -> Iterator[dict[str, Any]]:
    for region, wkb in zip(regions, to_wkb(shapes), strict=True):
        yield {
            "id": region.id,
            "class": region.tissue_class.name,
            "label": region.tissue_class.id,
            **{column: region.measurements.get(name) for name, column in COLUMNS.items()},
            "measurements": json.dumps(dict(region.measurements)),
            "geometry": wkb,
        }


def _geo(kinds: set[str], box: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    """Return the metadata that make a Parquet file a GeoParquet one."""
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": sorted(kinds), "crs": None, "edges": "planar"}
    if kinds:
        column["bbox"] = box.tolist()
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


def _about(source: ExportSource) -> dict[str, Any]:
    return {
        "slide": source.slide,
        "width_px": source.width,
        "height_px": source.height,
        "um_per_px": source.mpp,
        "frame": "level-0 px of the whole file, y down",
        "model": source.model,
        "model_sha256": source.model_sha256,
        "classes": [{"id": c.id, "name": c.name, "colour": list(c.colour)} for c in source.classes],
    }
