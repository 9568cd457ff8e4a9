"""Objects as a version of QuPath holds them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dualproto_wsi.vector.qupath.contents import Contents
from dualproto_wsi.vector.qupath.features import Item
from dualproto_wsi.vector.qupath.rois import Rois
from dualproto_wsi.vector.qupath.rules import Reader


@dataclass(frozen=True, slots=True)
class ReadObject:
    """An object as a version holds it.

    Parameters
    ----------
    item : Item
        What the file tells of it.
    roi : str
        QuPath's kind of region; empty if it has none.
    area : float
        px².
    bounds : tuple of float
        x, y, width and height in px.
    valid, rebuilt, empty : bool
        Whether its geometry is valid; was rebuilt from an invalid one, with another area; has nothing left.
    colour : int or None
        ARGB of its class; None if QuPath makes one up.
    measurements : dict of str to float
        What is kept of them.
    metadata : dict of str to str
        What is kept of it.
    """

    item: Item
    roi: str
    area: float
    bounds: tuple[float, ...]
    valid: bool
    rebuilt: bool
    empty: bool
    colour: int | None
    measurements: dict[str, float]
    metadata: dict[str, str]


def hold_objects(
    contents: Contents,
    rois: Rois,
    measurements: list[dict[str, float]],
    reader: Reader,
    classes: dict[str, int | None],
) -> Iterator[ReadObject]:
    """Put together what a version holds of a file.

    Parameters
    ----------
    contents : Contents
        The file.
    rois : Rois
        The regions of its shapes in the version.
    measurements : list of dict of str to float
        What the version keeps of each item's.
    reader : Reader
        The version.
    classes : dict of str to int
        Colours of the classes that the session knows; the file's are added.

    Yields
    ------
    ReadObject
        One for each of the file's items.
    """
    area, bounds = rois.area.tolist(), rois.bounds.tolist()
    valid, rebuilt, empty = rois.valid.tolist(), rois.rebuilt.tolist(), rois.empty.tolist()
    for i, item in enumerate(contents.items):
        for depth in range(1, len(item.class_names)):
            parent = ": ".join(item.class_names[:depth])
            classes.setdefault(parent, item.colour if reader.colours_parents else None)
        colour = classes.setdefault(": ".join(item.class_names), item.colour) if item.class_names else None
        metadata = item.metadata if reader.keeps_metadata else {}
        region = rois.kinds[i], area[i], tuple(bounds[i]), valid[i], rebuilt[i], empty[i]
        yield ReadObject(item, *region, colour, measurements[i], metadata)
