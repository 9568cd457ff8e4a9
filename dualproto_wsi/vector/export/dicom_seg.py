"""The label map as DICOM Segmentation, a segment a class."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dualproto_wsi.classes import UNSURE, UNSURE_CLASS, TissueClass
from dualproto_wsi.vector.export.dicom_codes import CATEGORY, OWN_SCHEME, TYPES
from dualproto_wsi.vector.export.dicom_slide import derived_uid, described_slide, long_text, read_slide
from dualproto_wsi.vector.export.source import ExportSource
from dualproto_wsi.vector.raster import TILE, read_raster

if TYPE_CHECKING:
    from pydicom import Dataset

MANUFACTURER = "dualproto-wsi"


def write(source: ExportSource, path: Path) -> None:
    """Write the label map as DICOM SEG: BINARY, tiled (TILED_SPARSE), one segment a class.

    Segment *i* is class *i*; "unsure", where there is any, is one more. Tiles without a cell of a segment are left out.
    A DICOM slide is referenced by its own identifiers. For any other slide the references lead to identifiers derived
    from the slide's hash, which no file has: the same slide always gets the same ones, and the patient is not known.

    Parameters
    ----------
    source : ExportSource
    path : Path

    Notes
    -----
    Memory: the label map, a byte a cell, three times.
    """
    import highdicom
    from highdicom import seg

    labels = read_raster(source.labels)
    kinds: list[TissueClass] = list(source.classes)
    if (labels == UNSURE).any():
        kinds.append(UNSURE_CLASS)
        labels[labels == UNSURE] = len(kinds)
    slide = read_slide(source.dicom_files) if source.dicom_files else described_slide(source)
    cell_mm = source.grid.cell_um / 1e3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an empty map, which has frames all the same
        image = seg.Segmentation(
            source_images=[slide],
            pixel_array=labels,
            segmentation_type=seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_description(number, kind, source) for number, kind in enumerate(kinds, 1)],
            series_instance_uid=derived_uid(source, "series"),
            series_number=100,
            sop_instance_uid=derived_uid(source, "segmentation"),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=long_text(source.model),
            software_versions=source.version,
            device_serial_number=source.model_sha256[:16] or "0",
            content_description="Tissue classes",
            content_label="TISSUE_CLASSES",
            pixel_measures=highdicom.PixelMeasuresSequence((cell_mm, cell_mm), slice_thickness=_thickness(slide)),
            plane_positions=[_position(slide, source)],
            tile_pixel_array=True,
            tile_size=(TILE, TILE),
            omit_empty_frames=True,
        )
    _make_steady(image, source)
    image.save_as(path)


def _description(number: int, kind: TissueClass, source: ExportSource) -> Any:
    import highdicom
    from highdicom import seg
    from highdicom.sr.coding import CodedConcept
    from pydicom.sr.codedict import codes

    category, value, meaning = TYPES.get(kind.name.casefold(), ("", "", ""))
    own = CodedConcept(f"CLASS{kind.id}", OWN_SCHEME, long_text(kind.name))
    return seg.SegmentDescription(
        segment_number=number,
        segment_label=long_text(kind.name),
        segmented_property_category=CodedConcept(*CATEGORY[category or "tissue"]),
        segmented_property_type=CodedConcept(value, "SCT", meaning) if value else own,
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=long_text(source.model),
            family=codes.cid7162.ArtificialIntelligence,
            version=f"{source.version} model {source.model_sha256[:16]}"[:64],
            source=MANUFACTURER,
        ),
        display_color=highdicom.color.CIELabColor.from_rgb(*kind.colour),
    )


def _position(slide: Dataset, source: ExportSource) -> Any:
    """Return where the centre of the label map's first cell lies, mm in the slide's coordinates."""
    from highdicom import CoordinateSystemNames, PlanePositionSequence

    origin = slide.TotalPixelMatrixOriginSequence[0]
    first = np.array([origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem, 0.0], np.float64)
    along_rows, along_columns = np.array(slide.ImageOrientationSlide, np.float64).reshape(2, 3)
    # The origin is the centre of the slide's first pixel.
    half = (source.grid.scale - 1) / 2
    right, down = (source.grid.x + half) * source.mpp / 1e3, (source.grid.y + half) * source.mpp / 1e3
    position = first + right * along_rows + down * along_columns
    return PlanePositionSequence(
        CoordinateSystemNames.SLIDE, image_position=position.tolist(), pixel_matrix_position=(1, 1)
    )


def _thickness(slide: Dataset) -> float:
    measures = slide.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return float(measures.get("SliceThickness") or 0.001)


def _make_steady(image: Dataset, source: ExportSource) -> None:
    """Put what follows from the map for what the moment and chance gave: the same map gives the same bytes."""
    date, time = source.created.strftime("%Y%m%d"), source.created.strftime("%H%M%S")
    values = {
        "ContentDate": date,
        "ContentTime": time,
        "SeriesDate": date,
        "SeriesTime": time,
        "InstanceCreationDate": date,
        "InstanceCreationTime": time,
        "ContributionDateTime": date + time,
        "DimensionOrganizationUID": derived_uid(source, "dimensions"),
    }

    def replace(dataset: Dataset, element: Any) -> None:
        if element.keyword in values:
            element.value = values[element.keyword]

    image.walk(replace)
