"""The label map as OME-TIFF: tiled, pyramidal, with the names and colours of the classes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from dualproto_wsi.classes import NOT_ANALYSED, UNSURE, UNSURE_CLASS
from dualproto_wsi.vector.export.source import ExportSource

NAMESPACE = "dualproto-wsi/classes"
"""Of the OME map annotation that gives each label value its class."""

CHANNEL = "Tissue class"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "ome.dualproto-wsi")


def write(source: ExportSource, path: Path) -> None:
    """Write the label map as OME-TIFF 2016-06.

    One channel of uint8, photometric *palette*: pixels are label values, the colour map has the classes' colours.
    Coarser levels are SubIFDs that keep every second cell. Tiles are taken over as they are compressed in the label
    map: memory holds one of them, and no value can change.

    Parameters
    ----------
    source : ExportSource
    path : Path
    """
    palette = _palette(source)
    with tifffile.TiffFile(source.labels) as given, tifffile.TiffWriter(path, bigtiff=given.is_bigtiff) as tiff:
        levels = [given.pages.get(index) for index in range(len(given.pages))]
        for index, level in enumerate(levels):
            per_cm = 1e4 / source.grid.cell_um / 2**index
            tiff.write(
                _tiles(level),
                shape=level.shape,
                dtype=np.uint8,
                tile=(level.tilelength, level.tilewidth),
                compression=level.compression,
                photometric="palette",
                colormap=palette,
                subfiletype=1 if index else 0,
                subifds=0 if index else len(levels) - 1,
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                description=None if index else _ome_xml(source, level.shape),
                software="dualproto-wsi",
                metadata=None,
            )


def _tiles(level: Any) -> Iterator[bytes]:
    """Yield the tiles of a level as they are in the file."""
    for offset, count in zip(level.dataoffsets, level.databytecounts, strict=True):
        level.parent.filehandle.seek(offset)
        yield level.parent.filehandle.read(count)


def _palette(source: ExportSource) -> NDArray[np.uint16]:
    """Return the colour of each label value, uint16 (3, 256): black for those that are none."""
    palette = np.zeros((3, 256), np.uint16)
    for kind in (*source.classes, UNSURE_CLASS):
        palette[:, kind.id] = [257 * level for level in kind.colour]  # 255 becomes 65535
    return palette


def _ome_xml(source: ExportSource, shape: tuple[int, int]) -> bytes:
    names = {str(NOT_ANALYSED): "not analysed"}
    names |= {str(c.id): c.name for c in source.classes} | {str(UNSURE): UNSURE_CLASS.name}
    grid = source.grid
    xml = tifffile.OmeXml(
        UUID=str(uuid.uuid5(_NAMESPACE, f"{source.sha256} {source.model_sha256} {grid}")), Creator="dualproto-wsi"
    )
    xml.addimage(
        dtype="uint8",
        shape=shape,
        storedshape=(1, 1, 1, *shape, 1),
        axes="YX",
        Name=f"{source.slide} tissue classes",
        Description=(
            f"Label map of {source.slide}, made by model {source.model}. The centre of its first cell lies at "
            f"({grid.x + grid.scale / 2:g}, {grid.y + grid.scale / 2:g}) px of the slide; a cell is {grid.scale:g} px."
        ),
        PhysicalSizeX=grid.cell_um,
        PhysicalSizeXUnit="µm",
        PhysicalSizeY=grid.cell_um,
        PhysicalSizeYUnit="µm",
        Channel={"Name": CHANNEL},
        MapAnnotation={"Namespace": NAMESPACE, **names},
    )
    text: str = xml.tostring(declaration=True)
    return text.encode()
