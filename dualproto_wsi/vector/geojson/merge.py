"""Regions → few large objects: one a class, and one for all that was analysed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson.writer import GeoJsonWriter, Parts
from dualproto_wsi.vector.polygons import TracedRegion
from dualproto_wsi.vector.region import AREA, region_id, score_measurements, share_name, to_polygon

REGIONS = "DualProto regions"
"""Measurement: number of regions that were merged."""

ANALYSED_NAME = "DualProto analysed area"
"""Name of the object around all that was analysed."""


def area_name(class_name: str) -> str:
    """Return the name of the measurement "area of a class", mm²."""
    return f"DualProto {class_name} area mm^2"


class ClassMerger:
    """Merge all regions of a class into one feature, in bounded memory.

    A class without a region gets no feature. The measurements of a feature are those of a region, taken over all its
    cells, and :data:`REGIONS`.

    Parameters
    ----------
    writer : GeoJsonWriter
        Gets the features; its ``with`` block must be open.
    grid : LabelGrid
        Where the label map lies.
    classes : ClassScheme
        Classes by label.
    *namespace : str
        Goes into the ids; see :func:`~dualproto_wsi.vector.region.region_id`.
    """

    def __init__(self, writer: GeoJsonWriter, grid: LabelGrid, classes: ClassScheme, *namespace: str) -> None:
        self._writer, self._grid, self._classes, self._namespace = writer, grid, classes, namespace
        self._merged: dict[int, _Merged] = {}

    def add(self, regions: Iterable[TracedRegion]) -> None:
        """Add regions of the grid's label map.

        Raises
        ------
        SettingsError
            If no class has a region's label.
        OutputError
            If there is no room for the polygons.
        """
        by_label: dict[int, list[TracedRegion]] = {}
        for region in regions:
            by_label.setdefault(region.label, []).append(region)
        for label, same in by_label.items():
            if label not in self._merged:
                self._merged[label] = _Merged(self._classes.by_id(label), self._writer.parts())
            merged = self._merged[label]
            merged.parts.add(to_polygon(region, self._grid) for region in same)
            merged.cells += sum(region.cells for region in same)
            merged.probability_sums = sum((region.probability_sums for region in same), merged.probability_sums)

    def finish(self) -> None:
        """Write the features, in order of their labels.

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        for label, merged in sorted(self._merged.items()):
            measurements = {
                AREA: merged.cells * self._grid.cell_mm2,
                **score_measurements(label, merged.cells, merged.probability_sums),
                REGIONS: merged.parts.count,
            }
            identifier = region_id(*self._namespace, "merged", label=label, row=0, column=0)
            self._writer.write_parts(merged.parts, identifier, merged.tissue_class, measurements)
            merged.parts.close()


@dataclass(slots=True)
class _Merged:
    tissue_class: TissueClass
    parts: Parts
    cells: int = 0
    probability_sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))


class AnalysedArea:
    """One unclassified, locked annotation around all cells that were analysed, in bounded memory.

    With regions as detections, it is the parent that QuPath's "resolve hierarchy" finds for them; QuPath finds it by
    geometry, so that the annotation may come last in the file.

    Parameters
    ----------
    writer : GeoJsonWriter
        Gets the annotation; its ``with`` block must be open.
    grid : LabelGrid
        Where the label map lies.
    *namespace : str
        Goes into the id; see :func:`~dualproto_wsi.vector.region.region_id`.
    """

    def __init__(self, writer: GeoJsonWriter, grid: LabelGrid, *namespace: str) -> None:
        self._writer, self._grid, self._namespace = writer, grid, namespace
        self._parts = writer.parts()
        self._cells = 0

    def add(self, regions: Iterable[TracedRegion]) -> None:
        """Add regions traced in the map of what was analysed: 1 there, 0 elsewhere.

        Raises
        ------
        OutputError
            If there is no room for the polygons.
        """
        regions = list(regions)
        self._parts.add(to_polygon(region, self._grid) for region in regions)
        self._cells += sum(region.cells for region in regions)

    def finish(self, mm2: Mapping[str, float]) -> None:
        """Write the annotation, if anything was analysed.

        Its measurements are :data:`~dualproto_wsi.vector.region.AREA` and, for each class, :func:`area_name` and
        :func:`share_name`.

        Parameters
        ----------
        mm2 : mapping of str to float
            Area of each class by its name, mm².

        Raises
        ------
        OutputError
            If a file cannot be written.
        """
        if not self._cells:
            return
        analysed = self._cells * self._grid.cell_mm2
        measurements = {AREA: analysed}
        for name, area in mm2.items():
            measurements |= {area_name(name): area, share_name(name): area / analysed}
        identifier = region_id(*self._namespace, "analysed", label=0, row=0, column=0)
        self._writer.write_parts(
            self._parts,
            identifier,
            None,
            measurements,
            objectType="annotation",
            name=ANALYSED_NAME,
            isLocked=True,
        )
        self._parts.close()
