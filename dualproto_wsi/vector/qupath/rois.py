"""Shapes → the regions that a version of QuPath holds, or the reason for which it refuses them.

QuPath's geometries are JTS's, shapely's are GEOS's: two libraries of one origin, which build and refuse the same. Whole
arrays are handled at once; only what is invalid, empty or a line is handled one by one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from dualproto_wsi.vector.qupath.rules import DECIMALS, Reader
from dualproto_wsi.vector.qupath.shapes import POLYGONAL, Shape

Geometries = npt.NDArray[np.object_]

_FAR = "its geometry is not valid: a coordinate is not finite, or too large"
_GRID_PX = 10.0**-DECIMALS
_EMPTY = shapely.Polygon()

LARGEST_PX = 1e12
"""Beyond this a double has no 0.01 px left."""


@dataclass(frozen=True, slots=True)
class Rois:
    """The regions of shapes, in their order.

    Parameters
    ----------
    kinds : list of str
        QuPath's kind of region; empty where there is none.
    area : ndarray of float64, (n,)
        px².
    bounds : ndarray of float64, (n, 4)
        x, y, width and height in px.
    valid : ndarray of bool, (n,)
        Whether QuPath calls its geometry valid.
    rebuilt : ndarray of bool, (n,)
        Whether it was invalid, is no longer, and has another area than its points tell.
    empty : ndarray of bool, (n,)
        Whether nothing is left of it: a ghost at (0, 0).
    refused : dict of int to str
        By number, those for which the version refuses the file, and why.
    """

    kinds: list[str]
    area: npt.NDArray[np.float64]
    bounds: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]
    rebuilt: npt.NDArray[np.bool_]
    empty: npt.NDArray[np.bool_]
    refused: dict[int, str]


def build_geometries(shapes: Sequence[Shape | None]) -> Geometries:
    """Return the shapes as geometries, as they stand in the file.

    Parameters
    ----------
    shapes : sequence of Shape or None
        What :func:`~dualproto_wsi.vector.qupath.shapes.read_shape` returned.

    Returns
    -------
    ndarray of Geometry, (n,)
        Empty where there is no shape; a single polygon where there is one part only.
    """
    built = np.full(len(shapes), _EMPTY, object)
    rings: list[npt.NDArray[np.float64]] = []
    polygon_of_ring: list[int] = []
    shape_of_polygon: list[int] = []
    for number, shape in enumerate(shapes):
        if shape is None:
            continue
        if shape.kind not in POLYGONAL:
            built[number] = _lines_or_points(shape)
            continue
        for polygon in filter(None, shape.parts):
            # GEOS wants four points where JTS takes three; the area is none either way.
            rings += [ring if len(ring) > 3 else ring[[0, 1, 1, 2]] for ring in polygon]
            polygon_of_ring += [len(shape_of_polygon)] * len(polygon)
            shape_of_polygon.append(number)
    if rings:
        lengths = [len(ring) for ring in rings]
        closed = shapely.linearrings(np.concatenate(rings), indices=np.repeat(np.arange(len(rings)), lengths))
        polygons = shapely.polygons(closed, indices=np.array(polygon_of_ring))
        owners, first, counts = np.unique(shape_of_polygon, return_index=True, return_counts=True)
        built[owners] = polygons[first]
        for owner, start, count in zip(owners[counts > 1], first[counts > 1], counts[counts > 1], strict=True):
            built[owner] = shapely.MultiPolygon(polygons[start : start + count].tolist())
    return built


def in_range(geometries: Geometries) -> npt.NDArray[np.bool_]:
    """Tell of each geometry whether its coordinates are finite and within :data:`LARGEST_PX`."""
    points, owners = shapely.get_coordinates(geometries, return_index=True)
    found = np.ones(len(geometries), np.bool_)
    found[owners[~(np.abs(points) <= LARGEST_PX).all(axis=1)]] = False
    return found


def _lines_or_points(shape: Shape) -> shapely.Geometry:
    if "Line" in shape.kind:
        lines = [shapely.LineString(part[0]) for part in shape.parts]
        return lines[0] if len(lines) == 1 else shapely.MultiLineString(lines)
    points = shapely.points(shape.parts[0][0])
    return points[0] if len(points) == 1 else shapely.MultiPoint(points)


def read_rois(
    shapes: Sequence[Shape | None], geometries: Geometries, sound: npt.NDArray[np.bool_], reader: Reader
) -> Rois:
    """Return what a version makes of shapes.

    Parameters
    ----------
    shapes : sequence of Shape or None
        The shapes.
    geometries : ndarray of Geometry
        Their geometries, from :func:`build_geometries`.
    sound : ndarray of bool
        Which of them are valid.
    reader : Reader
        The version.

    Returns
    -------
    Rois
    """
    refused = _refused_kinds(shapes, reader)
    far = ~in_range(geometries)
    if far.any():
        geometries = geometries.copy()
        geometries[far] = _EMPTY
        if reader.rounds:
            refused |= dict.fromkeys(np.flatnonzero(far).tolist(), _FAR)
    held = _rounded(geometries, sound, refused) if reader.rounds else _repaired(geometries, sound)
    valid = shapely.is_valid(held)
    empty = shapely.is_empty(held)
    kinds = _kinds(held, reader.rounds)
    corners = np.where(empty[:, None], 0.0, shapely.bounds(held))
    bounds = np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    area = shapely.area(held)
    # QuPath 0.6 calls an empty geometry invalid, earlier ones do not; what rounds to nothing is invalid for those.
    outline = (kinds == "RectangleROI") & ~empty
    valid[outline & (np.round(corners[:, :2], DECIMALS) == np.round(corners[:, 2:], DECIMALS)).any(axis=1)] = False
    valid[empty] = not reader.rounds
    for number, shape in enumerate(shapes):
        if shape is None:
            kinds[number] = ""
        elif shape.ellipse:
            kinds[number], area[number] = "EllipseROI", math.pi / 4 * bounds[number, 2] * bounds[number, 3]
    kinds[far], valid[far], empty[far] = "PolygonROI", False, False
    told = shapely.area(geometries)
    rebuilt = ~sound & valid & ~empty & (np.abs(shapely.area(held) - told) > _GRID_PX * shapely.length(geometries))
    return Rois(kinds.tolist(), area, bounds, valid, rebuilt, empty, refused)


def _refused_kinds(shapes: Sequence[Shape | None], reader: Reader) -> dict[int, str]:
    refused = {}
    for number, shape in enumerate(shapes):
        if shape is None:
            continue
        if shape.collection and not reader.collections:
            refused[number] = "its geometry is a GeometryCollection; write a MultiPolygon"
        elif shape.kind == "MultiPolygon" and len(shape.parts) == 1 and shape.parts[0] and not reader.lone_parts:
            refused[number] = "its MultiPolygon has one part only; write a Polygon"
    return refused


def _repaired(geometries: Geometries, sound: npt.NDArray[np.bool_]) -> Geometries:
    """Do as QuPath up to 0.5: an outline without holes becomes what it encloses, by the even-odd rule."""
    held = geometries.copy()
    outline = (shapely.get_type_id(held) == shapely.GeometryType.POLYGON) & (shapely.get_num_interior_rings(held) == 0)
    for number in np.flatnonzero(outline & ~sound).tolist():
        if np.isfinite(shapely.get_coordinates(held[number])).all():
            repaired = shapely.get_parts(shapely.make_valid(held[number]))
            areas = repaired[shapely.get_dimensions(repaired) == 2]
            held[number] = _together(shapely.get_parts(areas))
    return held


def _together(polygons: Geometries) -> shapely.Geometry:
    if len(polygons) == 1:
        return polygons[0]
    return shapely.MultiPolygon(polygons.tolist()) if len(polygons) else _EMPTY


def _rounded(geometries: Geometries, sound: npt.NDArray[np.bool_], refused: dict[int, str]) -> Geometries:
    """Do as QuPath from 0.6: round; rebuild what is invalid before or after; note what cannot be rebuilt."""
    held: Geometries = shapely.transform(geometries, lambda points: np.round(points, DECIMALS))
    polygonal = np.isin(shapely.get_type_id(held), (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON))
    again = ~(sound & shapely.is_valid(held) & polygonal)
    for number in np.flatnonzero(again & ~shapely.is_empty(held)).tolist():
        try:
            rebuilt = shapely.set_precision(geometries[number], _GRID_PX)
            held[number] = _together(shapely.get_parts(rebuilt)) if polygonal[number] else rebuilt
        except shapely.GEOSException:
            refused.setdefault(number, _reason(geometries[number]))
    return held


def _reason(geometry: shapely.Geometry) -> str:
    """Return in a user's words why a geometry cannot be rebuilt."""
    reason = shapely.is_valid_reason(geometry)
    place = re.search(r"\[(\S+) (\S+)\]", reason)
    near = f" near ({place[1]}, {place[2]})" if place else ""
    if reason.startswith("Valid"):
        return "its geometry falls apart when rounded to 0.01 px"
    if reason.startswith("Hole lies outside"):
        return f"a hole lies outside its shell{near}"
    if geometry.geom_type == "MultiPolygon" and shapely.is_valid(shapely.get_parts(geometry)).all():
        return f"the parts of its MultiPolygon overlap{near}"
    if reason.startswith(("Self-intersection", "Ring Self-intersection")):
        return f"a ring crosses itself or another{near}"
    return f"its geometry is not valid: {reason.split('[')[0].lower()}{near}"


def _kinds(held: Geometries, exactly: bool) -> npt.NDArray[np.object_]:
    """Return QuPath's kinds of regions; from 0.6 on, a rectangle has its four corners and no other vertex."""
    type_id, parts = shapely.get_type_id(held), shapely.get_num_geometries(held)
    west, south, east, north = shapely.bounds(held).T
    whole = np.isclose(shapely.area(held), (east - west) * (north - south), rtol=1e-12, atol=0)
    points = shapely.get_num_coordinates(shapely.remove_repeated_points(held))
    polygon = type_id == shapely.GeometryType.POLYGON
    rectangle = polygon & (whole & (points == 5) if exactly else whole) | shapely.is_empty(held)
    conditions = {
        "PointsROI": np.isin(type_id, (shapely.GeometryType.POINT, shapely.GeometryType.MULTIPOINT)),
        "GeometryROI": (parts > 1) | (shapely.get_num_interior_rings(held) > 0),
        "RectangleROI": rectangle,
        "PolygonROI": polygon,
        "LineROI": points == 2,
    }
    kinds: npt.NDArray[np.object_] = np.select(list(conditions.values()), list(conditions), "PolylineROI").astype(
        object
    )
    return kinds
