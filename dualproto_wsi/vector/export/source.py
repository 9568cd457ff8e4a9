"""What there is to be exported of a slide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.vector.geojson import read_regions
from dualproto_wsi.vector.region import Region


@dataclass(frozen=True, slots=True)
class ExportSource:
    """The results of a slide, and what is known of it.

    Parameters
    ----------
    labels : Path
        The label map, as :class:`~dualproto_wsi.vector.raster.RasterWriter` wrote it.
    regions_file : Path
        The polygons, as :class:`~dualproto_wsi.vector.geojson.GeoJsonWriter` wrote them.
    offset : tuple of float
        (x, y) that brings their coordinates to level-0 px of the whole file.
    grid : LabelGrid
        Of the label map, in level-0 px of the whole file.
    classes : ClassScheme
    slide : str
        File name of the slide.
    sha256 : str
        Of the slide, in hex; identifiers are derived from it.
    width, height : int
        Size of the slide, level-0 px.
    mpp : float
        µm per level-0 px.
    model, model_sha256 : str
        Name and hash of the model that made the map.
    version : str
        Of this package when the map was made.
    created : datetime
        When the map was made; with its time zone.
    dicom_files : tuple of Path
        The files of the slide, where it is a DICOM one.
    """

    labels: Path
    regions_file: Path
    offset: tuple[float, float]
    grid: LabelGrid
    classes: ClassScheme
    slide: str
    sha256: str
    width: int
    height: int
    mpp: float
    model: str
    model_sha256: str
    version: str
    created: datetime
    dicom_files: tuple[Path, ...] = field(default=())

    def regions(self) -> Iterator[Region]:
        """Read the regions one by one, in level-0 px of the whole file; what has no class is left out.

        Raises
        ------
        DataError
            If the file of polygons is damaged.
        """
        offset = np.array(self.offset)
        for region in read_regions(self.regions_file, self.classes):
            polygons = tuple(tuple(ring + offset for ring in polygon) for polygon in region.polygons)
            yield Region(region.id, region.tissue_class, polygons, region.measurements)
