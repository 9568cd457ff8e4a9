"""What to tell the owner of a file that a version of QuPath reads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from dualproto_wsi.vector.qupath.contents import Contents
from dualproto_wsi.vector.qupath.features import Item
from dualproto_wsi.vector.qupath.gson import told
from dualproto_wsi.vector.qupath.objects import ReadObject
from dualproto_wsi.vector.qupath.rules import OWN_COLUMNS, SLOW_ANNOTATIONS, SLOW_BYTES, SLOW_OBJECTS

NO_OBJECTS = "there are no objects in it"


def find_losses(contents: Contents, objects: list[ReadObject]) -> Iterator[str]:
    """Yield what the file holds and the version, which read the objects, does not."""
    if not objects:
        yield NO_OBJECTS
    if contents.ignored:
        yield f"entries that are no Feature, FeatureCollection or geometry are passed over: {contents.ignored}"
    yield from _counted(
        "nothing is left of the geometry, a ghost at (0, 0)",
        (o.item for o in objects if o.empty and o.item.shape is not None),
    )
    yield from _counted(
        "no region, for want of a geometry or as a root object", (o.item for o in objects if o.item.shape is None)
    )
    yield from _counted(
        "childObjects beside the properties are lost; write them into the properties",
        (o.item for o in objects if o.item.lost_children),
    )


def find_surprises(contents: Contents, objects: list[ReadObject]) -> Iterator[str]:
    """Yield what the version reads otherwise than one may think."""
    if not contents.utf8:
        yield "the text is not UTF-8: QuPath puts � for what it cannot read"
    checks: dict[str, Callable[[ReadObject], bool]] = {
        "the geometry is not valid and is kept so; measuring and merging may fail": lambda o: not (o.valid or o.empty),
        "a geometry that is not valid is rebuilt, perhaps not as it was meant": lambda o: o.rebuilt,
        "the objectType is not known; an annotation": lambda o: o.item.unknown_type is not None,
        "the id is no UUID; QuPath gives a new one on every import": lambda o: (
            o.item.written_id is not None and o.item.id is None
        ),
        "the class has no colour; QuPath makes one up": lambda o: bool(o.item.class_names) and o.colour is None,
        "the class has another colour earlier on, which stays": lambda o: (
            o.item.colour is not None and o.colour != o.item.colour
        ),
        "a measurement is neither number nor text and is left out": lambda o: (
            len(o.measurements) < len(o.item.measurements) and isinstance(o.item.measurements, dict)
        ),
        "a measurement is NaN or infinite; means and charts of it will be, too": lambda o: (
            not all(map(math.isfinite, o.measurements.values()))
        ),
        "a measurement has the name of a column that QuPath computes for annotations": lambda o: (
            o.item.type == "annotation" and any(name.startswith(OWN_COLUMNS) for name in o.measurements)
        ),
        "the metadata is left out": lambda o: len(o.metadata) < len(o.item.metadata),
    }
    for text, check in checks.items():
        yield from _counted(text, (o.item for o in objects if check(o)))
    shared = Counter(o.item.id for o in objects)
    yield from _counted(
        "another object has the same id", (o.item for o in objects if o.item.id and shared[o.item.id] > 1)
    )


def find_costs(contents: Contents, objects: list[ReadObject]) -> Iterator[str]:
    """Yield what makes QuPath slow."""
    size = contents.size
    if len(objects) >= SLOW_OBJECTS or size >= SLOW_BYTES:
        cost = f"{10 * size / SLOW_BYTES:.0f} s and {2.7 * size / SLOW_BYTES:.1f} GB of QuPath's memory"
        yield f"{size / 1e6:.0f} MB of JSON: reading takes about {cost}"
    annotations = sum(o.item.type == "annotation" for o in objects)
    if annotations >= SLOW_ANNOTATIONS:
        yield f"{annotations} annotations: do not resolve the hierarchy, it takes minutes; or write detections"


def _counted(text: str, items: Iterable[Item]) -> Iterator[str]:
    features = [item for item in items]
    if features:
        yield f"{text}: {len(features)} object(s), first {place(features[0].feature, features[0].written_id)}"


def place(feature: int, written_id: str | None) -> str:
    """Return how a message names a Feature."""
    return f"feature {feature}" + (f" (id {told(written_id)[1:-1]})" if written_id is not None else "")
