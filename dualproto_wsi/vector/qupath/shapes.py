"""A GeoJSON geometry → rings, and what every version of QuPath refuses in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dualproto_wsi.vector.qupath.gson import Refused, as_array, as_flag, as_integer, as_number, as_object, as_text, told

Points = npt.NDArray[np.float64]

POLYGONAL = ("Polygon", "MultiPolygon")
_LINEAL = ("LineString", "MultiLineString")
GEOMETRY_TYPES = ("Point", "MultiPoint", *_LINEAL, *POLYGONAL, "GeometryCollection")


@dataclass(frozen=True, slots=True)
class Shape:
    """The points of a geometry.

    Parameters
    ----------
    kind : str
        GeoJSON's type; of a GeometryCollection, the type of what QuPath takes from it.
    parts : tuple of tuple of ndarray of float64, (n, 2)
        Polygons by their rings, shell first, none for an empty one; lines and sets of points as parts of one.
    ellipse : bool
        The bounds are those of an ellipse.
    collection : bool
        It was a GeometryCollection.
    plane : tuple of int
        Channel, z and t.
    """

    kind: str
    parts: tuple[tuple[Points, ...], ...]
    ellipse: bool = False
    collection: bool = False
    plane: tuple[int, int, int] = (-1, 0, 0)


def read_shape(geometry: dict[str, Any]) -> Shape | None:
    """Read a GeoJSON geometry.

    Parameters
    ----------
    geometry : dict
        The geometry; ``isEllipse`` and ``plane`` are QuPath's own members.

    Returns
    -------
    Shape or None
        None for a geometry without type, which QuPath takes for none.

    Raises
    ------
    Refused
        If every version refuses it.
    """
    if "type" not in geometry:
        return None
    kind = as_text(geometry["type"], "the geometry's type")
    if kind not in GEOMETRY_TYPES:
        raise Refused(f"its geometry's type {told(kind)} is not one of GeoJSON's")
    shape = _collection(geometry) if kind == "GeometryCollection" else Shape(kind, _parts(kind, geometry))
    if "plane" not in geometry and "isEllipse" not in geometry:
        return shape
    return replace(shape, ellipse=as_flag(geometry.get("isEllipse")), plane=_plane(geometry.get("plane", {})))


def _plane(value: Any) -> tuple[int, int, int]:
    plane = as_object(value, "the plane")
    for key in plane:
        if key not in ("c", "z", "t"):
            raise Refused(f"its plane has a member {told(key)}; only c, z and t may be there")
    c, z, t = (
        as_integer(plane.get(key, default), f"the plane's {key}")
        for key, default in zip("czt", (-1, 0, 0), strict=True)
    )
    return c, z, t


def _parts(kind: str, geometry: dict[str, Any]) -> tuple[tuple[Points, ...], ...]:
    coordinates = as_array(geometry.get("coordinates"), "the geometry's coordinates")
    match kind:
        case "Polygon":
            return (_polygon(coordinates),)
        case "MultiPolygon":
            return tuple(_polygon(as_array(part, "a polygon")) for part in coordinates)
        case "LineString":
            return (_line(coordinates),)
        case "MultiLineString":
            return tuple(_line(line) for line in coordinates)
        case "MultiPoint":
            return ((_points(coordinates),),)
    return ((_points([coordinates]),),)


def _polygon(rings: list[Any]) -> tuple[Points, ...]:
    read = [_points(as_array(ring, "a ring")) for ring in rings]
    for points in read:
        if len(points) and (points[0, 0] != points[-1, 0] or points[0, 1] != points[-1, 1]):
            raise Refused("a ring is not closed: its last point is not its first")
        if 0 < len(points) < 3:
            raise Refused(f"a ring has {len(points)} point(s); it takes three and the first again")
    if read and not len(read[0]):
        if any(map(len, read)):
            raise Refused("a polygon has holes and an empty shell")
        return ()
    return tuple(points for points in read if len(points))


def _line(coordinates: Any) -> tuple[Points, ...]:
    points = _points(as_array(coordinates, "a line"))
    if len(points) == 1:
        raise Refused("a line has one point")
    return (points,)


def _points(coordinates: list[Any]) -> Points:
    """Return the points (n, 2), the third coordinate left out."""
    try:
        points = np.array(coordinates)
    except ValueError:
        points = np.array(None)  # of unequal lengths
    if points.ndim == 2 and points.shape[1] >= 2 and points.dtype.kind in "iuf":
        return points[:, :2].astype(np.float64)
    return np.array([_point(point) for point in coordinates], np.float64).reshape(-1, 2)


def _point(coordinates: Any) -> tuple[float, float]:
    values = as_array(coordinates, "a point")
    if len(values) < 2:
        raise Refused(f"a point has {len(values)} coordinate(s)")
    x, y, *_ = (as_number(value, "a coordinate") for value in values[:3])
    return x, y


def _collection(geometry: dict[str, Any]) -> Shape:
    """Return what QuPath takes from a collection: its polygons, or else its lines, or else its points."""
    members = list(_members(geometry))
    for kind, several in (POLYGONAL, _LINEAL, ("Point", "MultiPoint")):
        parts = tuple(part for member in members if member.kind in (kind, several) for part in member.parts)
        if parts and kind == "Point":
            points = np.concatenate([part[0] for part in parts])
            return Shape(kind if len(points) == 1 else several, ((points,),), collection=True)
        if parts:
            return Shape(kind if len(parts) == 1 else several, parts, collection=True)
    return Shape("Polygon", ((),), collection=True)


def _members(geometry: dict[str, Any]) -> Iterator[Shape]:
    for member in as_array(geometry.get("geometries"), "the collection's geometries"):
        shape = read_shape(as_object(member, "a geometry of a collection"))
        if shape is None:
            raise Refused("a geometry of a collection has no type")
        yield shape
