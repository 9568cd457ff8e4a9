"""Features that our writer wrote, read again; anything else is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import UNSURE_CLASS, ClassScheme, TissueClass
from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.geojson.reader import read_features
from dualproto_wsi.vector.geojson.writer import MEASUREMENT_PREFIX
from dualproto_wsi.vector.region import Polygon, Region

LARGEST_PX = 1e9
"""No slide has a coordinate beyond this."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MEMBERS = {"type", "id", "geometry", "properties"}
_PROPERTIES = {"objectType", "classification", "name", "isLocked", "measurements"}


@dataclass(frozen=True, slots=True, eq=False)
class WrittenFeature:
    """A feature as it stands in a file.

    Parameters
    ----------
    id : str
        A UUID.
    tissue_class : TissueClass or None
        Its class, with the file's colour; None for none.
    polygons : tuple of tuple of ndarray of float64, (n, 2)
        As of :class:`~dualproto_wsi.vector.region.Region`.
    measurements : mapping of str to float
        Finite values by name.
    object_type : str
        QuPath's type.
    name : str
        Empty for none.
    locked : bool
        Whether it is locked.
    """

    id: str
    tissue_class: TissueClass | None
    polygons: tuple[Polygon, ...]
    measurements: Mapping[str, float]
    object_type: str
    name: str
    locked: bool

    def to_region(self, tissue_class: TissueClass) -> Region:
        """Return it as a region of a class."""
        return Region(self.id, tissue_class, self.polygons, self.measurements)


def read_written(path: Path, classes: ClassScheme) -> Iterator[WrittenFeature]:
    """Read the features of a file that :class:`~dualproto_wsi.vector.geojson.GeoJsonWriter` wrote.

    Parameters
    ----------
    path : Path
        The file.
    classes : ClassScheme
        Classes by name; "unsure" is known too.

    Yields
    ------
    WrittenFeature
        In the file's own frame: the offset is not added again.

    Raises
    ------
    DataError
        If the file is no GeoJSON, or has a feature that the writer does not write: of an unknown class, with an
        unknown member, an id that is no UUID, a ring that is not closed or not finite, a measurement that is no number.
    """
    by_name = {c.name: c for c in (*classes, UNSURE_CLASS)}
    for number, feature in enumerate(read_features(path)):
        try:
            read = _feature(feature, by_name)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise DataError(f"{path}: feature {number} is not one of ours: {reason}") from error
        yield read


def read_regions(path: Path, classes: ClassScheme) -> Iterator[Region]:
    """Read the features of a file of ours like :func:`read_written`, those without a class left out, as regions."""
    for feature in read_written(path, classes):
        if feature.tissue_class is not None:
            yield feature.to_region(classes.by_id(feature.tissue_class.id))


def _feature(feature: dict[str, Any], by_name: Mapping[str, TissueClass]) -> WrittenFeature:
    geometry, properties, identifier = feature["geometry"], feature["properties"], feature["id"]
    _require_known(feature, _MEMBERS, "Feature")
    _require_known(geometry, {"type", "coordinates"}, "geometry")
    _require_known(properties, _PROPERTIES, "properties")
    if not isinstance(identifier, str) or not _UUID.fullmatch(identifier):
        raise ValueError(f"its id is {identifier!r:.60}, no UUID")
    parts = {"Polygon": lambda c: [c], "MultiPolygon": list}[geometry["type"]](geometry["coordinates"])
    polygons = tuple(tuple(map(_ring, part)) for part in parts)
    if not polygons or not all(polygons):
        raise ValueError("it has no polygon, or one without a ring")
    name, locked = properties.get("name", ""), properties.get("isLocked", False)
    if not isinstance(name, str) or not isinstance(locked, bool):
        raise ValueError(f"its name is {name!r:.60}, isLocked {locked!r:.60}; they are a text and true or false")
    return WrittenFeature(
        identifier,
        _tissue_class(properties["classification"], by_name) if "classification" in properties else None,
        polygons,
        _measurements(properties["measurements"]),
        str(properties["objectType"]),
        name,
        locked,
    )


def _require_known(given: Any, known: set[str], what: str) -> None:
    if not isinstance(given, dict):
        raise ValueError(f"the {what} is {given!r:.60}, an object is expected")
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ValueError(f"the {what} has an unknown member {unknown[0]!r:.60}")


def _ring(points: list[Any]) -> npt.NDArray[np.float64]:
    try:
        ring = np.array(points)
    except ValueError:  # of unequal lengths
        ring = np.zeros(0)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 4 or ring.dtype.kind not in "iuf":
        raise ValueError("a ring is not a list of four or more points [x, y]")
    if not (np.abs(ring) <= LARGEST_PX).all():
        raise ValueError(f"a coordinate is not finite, or beyond {LARGEST_PX:g} px")
    if (ring[0] != ring[-1]).any():
        raise ValueError("a ring is not closed: its last point is not its first")
    return ring.astype(np.float64)


def _tissue_class(given: dict[str, Any], by_name: Mapping[str, TissueClass]) -> TissueClass:
    _require_known(given, {"name", "color"}, "classification")
    name, (red, green, blue) = given["name"], given["color"]
    if name not in by_name:
        raise ValueError(f"it has the class {name!r:.60}; the classes are {', '.join(by_name)}")
    return TissueClass(by_name[name].id, name, (red, green, blue))


def _measurements(given: Any) -> dict[str, float]:
    if not isinstance(given, dict):
        raise ValueError(f"its measurements are {given!r:.60}, an object is expected")
    for name, value in given.items():
        if not name.startswith(MEASUREMENT_PREFIX):
            raise ValueError(f"it has a measurement {name!r:.60}, not one of ours")
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise ValueError(f"its {name!r} is {value!r:.60}, no number")
    return given
