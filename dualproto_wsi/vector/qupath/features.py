"""A Feature → what is to become an object, as far as all versions of QuPath agree."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from dualproto_wsi.vector.qupath.gson import (
    Refused,
    as_array,
    as_flag,
    as_integer,
    as_number,
    as_object,
    as_text,
    mended,
    told,
)
from dualproto_wsi.vector.qupath.rules import OBJECT_TYPES, Reader
from dualproto_wsi.vector.qupath.shapes import Shape, read_shape

_UUID = re.compile(r"([0-9a-fA-F]+)-([0-9a-fA-F]+)-([0-9a-fA-F]+)-([0-9a-fA-F]+)-([0-9a-fA-F]+)")
_UUID_DIGITS = (8, 4, 4, 4, 12)


@dataclass(slots=True)
class Item:
    """What a Feature tells of the object it is to become.

    Parameters
    ----------
    feature : int
        Number of the Feature in the file, from 0; children have their parent's.
    written_id : str or None
        The id in the file.
    type : str
        QuPath's type.
    shape, nucleus : Shape or None
        Its outline, which a root object has not, and a cell's nucleus.
    id : str or None
        The id that QuPath keeps; None if it makes up a new one.
    unknown_type : str or None
        The word for the type, if QuPath does not know it.
    class_names : tuple of str
        Name of its class, parents first; empty if it has none.
    colour : int or None
        ARGB of its class; None if QuPath makes one up.
    own_colour : int or None
        ARGB of the object itself.
    name : str or None
        Its name.
    locked : bool
        Whether it is locked.
    measurements : dict or list
        As they stand in the file; :func:`read_measurements` tells what a version makes of them.
    metadata : dict
        Text by name.
    children : int
        Number of objects directly inside it.
    lost_children : int
        Number of objects that would be inside it, had they been written among the properties.
    is_child : bool
        It is inside another.
    """

    feature: int
    written_id: str | None
    type: str
    shape: Shape | None
    nucleus: Shape | None = None
    id: str | None = None
    unknown_type: str | None = None
    class_names: tuple[str, ...] = ()
    colour: int | None = None
    own_colour: int | None = None
    name: str | None = None
    locked: bool = False
    measurements: Any = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    children: int = 0
    lost_children: int = 0
    is_child: bool = False


def read_feature(feature: dict[str, Any], number: int, is_child: bool = False) -> Iterator[Item]:
    """Read a Feature and those inside it.

    Parameters
    ----------
    feature : dict
        A Feature; nobody looks at its ``type``.
    number : int
        Its number in the file.
    is_child : bool
        It is inside another.

    Yields
    ------
    Item
        The Feature's own comes first.

    Raises
    ------
    Refused
        If every version refuses it, and the whole file with it.
    """
    written_id = as_text(feature["id"], "its id") if "id" in feature else None
    if "geometry" not in feature:
        raise Refused("it has no geometry")
    item = Item(number, written_id, "annotation", read_shape(as_object(feature["geometry"], "its geometry")))
    item.is_child = is_child
    properties = as_object(feature["properties"], "its properties") if "properties" in feature else {}
    _read_properties(item, properties)
    if "nucleusGeometry" in feature:
        item.nucleus = read_shape(as_object(feature["nucleusGeometry"], "its nucleusGeometry"))
    if item.type == "tmaCore":
        if item.shape is None:
            raise Refused("a TMA core needs a geometry")
        item.shape = replace(item.shape, ellipse=True)
    elif item.type == "root":
        item.shape = None
    item.lost_children = sum(
        len(feature[key]) for key in ("childObjects", "children") if isinstance(feature.get(key), list)
    )
    inside = properties.get("childObjects" if "childObjects" in properties else "children")
    inside = inside if isinstance(inside, list) else []
    item.children = len(inside)
    yield item
    for child in inside:
        yield from read_feature(as_object(child, "an object inside it"), number, is_child=True)


def _read_properties(item: Item, properties: dict[str, Any]) -> None:
    word = "unknown"
    if item.written_id is not None:
        item.id = _uuid(item.written_id)
        word = item.written_id if item.written_id.startswith("Path") or item.written_id == "TMACoreObject" else word
        word = word if word in OBJECT_TYPES else "unknown"
    for key in ("objectType", "object_type", "type"):
        if key in properties:
            word = as_text(properties[key], f"its {key}")
            break
    item.type = OBJECT_TYPES.get(word, "annotation")
    item.unknown_type = None if word in OBJECT_TYPES else word
    if "name" in properties:
        item.name = as_text(properties["name"], "its name")
    if "color" in properties:
        item.own_colour = _own_colour(properties["color"])
    if "classification" in properties:
        item.class_names, item.colour = _classification(properties["classification"])
    item.locked = as_flag(properties.get("isLocked")) and item.type != "root"
    if isinstance(properties.get("measurements"), dict | list):
        item.measurements = properties["measurements"]
    if isinstance(properties.get("metadata"), dict):
        told_texts = ((key, value) for key, value in properties["metadata"].items() if _is_primitive(value))
        item.metadata = {key: as_text(value, "metadata") for key, value in told_texts}


def _is_primitive(value: Any) -> bool:
    return value is not None and not isinstance(value, dict | list)


def _uuid(text: str) -> str | None:
    """Return the UUID that Java reads; it fills up short groups and drops what is too long for one."""
    match = _UUID.fullmatch(text)
    if not match or len(text) > 36:
        return None
    return "-".join(group.lower().rjust(n, "0")[-n:] for group, n in zip(match.groups(), _UUID_DIGITS, strict=True))


def _argb(red: int, green: int, blue: int, alpha: int = 255) -> int:
    return (alpha & 255) << 24 | (red & 255) << 16 | (green & 255) << 8 | blue & 255


def _own_colour(value: Any) -> int | None:
    if isinstance(value, list):
        return _argb(*(as_integer(v, "its colour") for v in value)) if len(value) == 3 else None
    return as_integer(value, "its colour") & 0xFFFFFFFF if _is_primitive(value) else None


def _classification(value: Any) -> tuple[tuple[str, ...], int | None]:
    if value is None:
        return (), None
    if isinstance(value, str):
        return _split(mended(value)), None
    if isinstance(value, dict):
        if not value or "colorRGB" in value or "parentClass" in value:
            return _classification_of_03(value)
        if "color" in value and ("name" in value or "names" in value):
            return _class_names(value), _class_colour(value["color"])
        raise Refused("its classification has no color; write [red, green, blue], or the name alone as a text")
    raise Refused(f"its classification is {told(value)}")


def _class_names(value: dict[str, Any]) -> tuple[str, ...]:
    if value.get("name") is not None:
        name = value["name"]
        return _split(as_text(None if isinstance(name, list) else name, "the name of its class"))
    names = [as_text(name, "a name of its class") for name in as_array(value.get("names") or [], "the names")]
    if any(":" in name for name in names):
        raise Refused(f"its class {told(names)} has a colon in a name")
    return tuple(map(_checked, names))


def _split(name: str) -> tuple[str, ...]:
    """Return the names of a derived class; Java drops empty ones at the end, and refuses empty ones elsewhere."""
    names = name.split(":")
    while len(names) > 1 and not names[-1]:
        names.pop()
    if name and not any(names):
        return ()
    return tuple(map(_checked, names))


def _checked(name: str) -> str:
    name = name.strip()
    if not name:
        raise Refused("the name of its class is blank")
    if "\n" in name or "\r" in name:
        raise Refused(f"the name of its class, {told(name)}, has a line break")
    return name


def _class_colour(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise Refused(f"the colour of its class is {told(value)}; write [red, green, blue]")
    numbers = [as_integer(number, "the colour of its class") for number in value]
    if len(numbers) not in (0, 1, 3, 4):
        raise Refused(f"the colour of its class is {told(value)}; write [red, green, blue]")
    if len(numbers) < 2:
        return numbers[0] & 0xFFFFFFFF if numbers else None
    return _argb(*numbers)


def _classification_of_03(value: dict[str, Any]) -> tuple[tuple[str, ...], int | None]:
    """Read a class as QuPath 0.3 wrote it: name, colorRGB and parentClass."""
    parent = value.get("parentClass")
    parents = _classification_of_03(as_object(parent, "its parentClass"))[0] if parent is not None else ()
    colour = value.get("colorRGB")
    packed = as_integer(colour, "its colorRGB") & 0xFFFFFFFF if colour is not None else None
    if value.get("name") is None:
        if parents:
            raise Refused("its class has a parentClass and no name")
        return (), None
    return (*parents, as_text(value["name"], "the name of its class")), packed


def read_measurements(item: Item, reader: Reader) -> dict[str, float]:
    """Return the measurements that a version keeps.

    Parameters
    ----------
    item : Item
        Whose.
    reader : Reader
        The version.

    Returns
    -------
    dict of str to float
        With NaN and infinities, which QuPath keeps.

    Raises
    ------
    Refused
        If the version refuses them, and the whole file with them.
    """
    given = item.measurements
    if isinstance(given, list):  # as QuPath 0.3 wrote them
        pairs = [as_object(entry, "a measurement") for entry in given]
        return {
            as_text(pair.get("name"), "the name of a measurement"): as_number(
                pair.get("value"), f"its measurement {told(pair.get('name'))}"
            )
            for pair in pairs
        }
    kept = {}
    for name, value in given.items():
        if type(value) is float or type(value) is int:
            kept[name] = float(value)
        elif not reader.parses_measurements:
            raise Refused(f"its measurement {told(name)} is {told(value)}, a number is expected")
        elif isinstance(value, str):
            kept[name] = _spelled(name, value)
    return kept


def _spelled(name: str, value: str) -> float:
    special = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.get(value.lower())
    return as_number(value, f"its measurement {told(name)}") if special is None else special
