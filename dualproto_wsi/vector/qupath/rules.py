"""The rules in which QuPath's versions differ, as one table.

What all versions do alike is where it happens, in the other modules of this package. Every rule was seen in QuPath
itself, fed with small files.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reader:
    """How a version reads; two versions that read alike are equal.

    Parameters
    ----------
    version : str
        QuPath's version; no part of the comparison.
    parses_measurements : bool
        In the object of measurements, text that spells a number is that number, and what is neither number nor text is
        left out. Otherwise anything but a number refuses the file.
    keeps_metadata : bool
        ``metadata`` is read; otherwise it is left out.
    colours_parents : bool
        Of a derived class ("Tumor: Positive"), the parents get the colour too; otherwise QuPath makes theirs up.
    lone_parts : bool
        A MultiPolygon of one polygon is read; otherwise it refuses the file.
    collections : bool
        A GeometryCollection is read; otherwise it refuses the file.
    rounds : bool
        Geometries are rounded to 0.01 px and rebuilt; one that cannot be rebuilt (a ring that crosses itself, a hole
        outside its shell, parts that overlap) refuses the file. Otherwise a ring that crosses itself becomes what it
        encloses, and the other two are kept, invalid.
    """

    version: str = field(compare=False)
    parses_measurements: bool
    keeps_metadata: bool
    colours_parents: bool
    lone_parts: bool
    collections: bool
    rounds: bool


#          version  parses_measurements  keeps_metadata  colours_parents  lone_parts  collections  rounds
READERS = (
    Reader("0.4.4", False,               False,          True,            False,      True,        False),
    Reader("0.5.1", True,                True,           False,           False,      True,        False),
    Reader("0.6.0", True,                True,           False,           True,       False,       True),
    Reader("0.7.0", True,                True,           False,           True,       False,       True),
)  # fmt: skip

DECIMALS = 2
"""Of a pixel, to which a version that rounds rounds."""

ENDINGS = (".geojson", ".json", ".geojson.gz", ".json.gz", ".zip")
"""Endings of files that QuPath reads, in lower case; it finds no objects in others, without a word."""

OBJECT_TYPES = {
    "annotation": "annotation",
    "PathAnnotationObject": "annotation",
    "unknown": "annotation",
    "detection": "detection",
    "PathDetectionObject": "detection",
    "tile": "tile",
    "PathTileObject": "tile",
    "cell": "cell",
    "PathCellObject": "cell",
    "tmaCore": "tmaCore",
    "tma_core": "tmaCore",
    "TMACoreObject": "tmaCore",
    "root": "root",
    "PathRootObject": "root",
}
"""QuPath's types of objects by the words for them; any other word makes an annotation."""

OWN_COLUMNS = ("Area px^2", "Area µm^2", "Num ")
"""Starts of the columns that QuPath computes for annotations; a measurement of such a name collides."""

SLOW_OBJECTS = 100_000
SLOW_BYTES = 64_000_000
"""From here on reading takes some 10 s and 2 to 3 GB of QuPath's memory: it builds the whole tree."""

SLOW_ANNOTATIONS = 20_000
"""From here on "resolve hierarchy" takes minutes."""
