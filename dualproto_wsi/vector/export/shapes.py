"""Regions → shapely geometry."""

from __future__ import annotations

from shapely import Geometry, MultiPolygon, Polygon

from dualproto_wsi.vector.region import Region


def to_geometry(region: Region) -> Geometry:
    """Return the polygon of a region; a MultiPolygon where it has several."""
    polygons = [Polygon(shell, holes) for shell, *holes in region.polygons]
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)
