"""Which part of a slide to analyse, as the user drew it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.geojson import read_features
from dualproto_wsi.vector.geojson.output import SUFFIXES

Ring = NDArray[np.float64]

IGNORED = "*"
"""QuPath ignores classes whose names end so, ``Ignore*`` for one; what they outline is left out here, too."""


def read_part(path: Path, offset: tuple[float, float]) -> list[list[Ring]]:
    """Read the polygons of a GeoJSON file, as QuPath exports annotations.

    Parameters
    ----------
    path : Path
        Polygons and MultiPolygons in QuPath's frame; features of another kind, and of classes that end in ``*``, are
        passed over.
    offset : tuple of float
        (x, y) of that frame, level-0 px.

    Returns
    -------
    list of list of ndarray of float64, (n, 2)
        Each a shell and its holes, level-0 px.

    Raises
    ------
    DataError
        If it is no such file, or holds no polygon.
    """
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: regions to analyse are GeoJSON polygons; name a file ending in {', '.join(SUFFIXES)}")
    polygons = []
    for number, feature in enumerate(read_features(path)):
        try:
            kind, name = feature["geometry"]["type"], _class_name(feature)
            parts = {"Polygon": lambda c: [c], "MultiPolygon": list}.get(kind, lambda c: [])(
                feature["geometry"]["coordinates"]
            )
            rings = [[np.array(ring, np.float64).reshape(-1, 2) + offset for ring in part] for part in parts]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: feature {number} is no outline: {error!r}") from error
        if not all(np.isfinite(ring).all() for part in rings for ring in part):
            raise DataError(f"{path}: feature {number} has a coordinate that is no number")
        if not name.endswith(IGNORED):
            polygons += rings
    if not polygons:
        raise DataError(f"{path}: no polygon in it; draw the regions to analyse in QuPath and export them")
    return polygons


def _class_name(feature: dict[str, dict[str, dict[str, str]]]) -> str:
    return str((feature.get("properties") or {}).get("classification", {}).get("name", ""))
