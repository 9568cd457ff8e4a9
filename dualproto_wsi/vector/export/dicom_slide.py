"""What a DICOM segmentation says of its slide: read from a DICOM slide, made for any other."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.export.source import ExportSource

if TYPE_CHECKING:
    from pydicom import Dataset

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "dicom.dualproto-wsi")


def derived_uid(source: ExportSource, what: str) -> str:
    """Return a DICOM identifier: the same one for the same slide, model and map.

    Parameters
    ----------
    source : ExportSource
    what : str
        What it identifies; that of ``study`` and ``slide …`` depends on the slide alone.
    """
    of_slide = what.startswith(("study", "slide"))
    rest = "" if of_slide else f"{source.model_sha256} {source.created.isoformat()} {source.grid}"
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{source.sha256} {what} {rest}').int}"


def long_text(text: str) -> str:
    """Return a text as DICOM's "Long String" takes it: 64 characters at most, no backslash."""
    return text.replace("\\", "/")[:64]


def read_slide(files: Sequence[Path]) -> Dataset:
    """Read what a DICOM slide says of itself, of its finest level; no pixels.

    Raises
    ------
    DataError
        If no file is an image of the whole slide.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    levels = []
    for file in files:
        try:
            level = dcmread(file, stop_before_pixels=True)
        except (InvalidDicomError, OSError) as error:
            raise DataError(f"{file}: cannot be read as DICOM ({error}); copy the slide again") from error
        if "TotalPixelMatrixColumns" in level and "VOLUME" in level.get("ImageType", ()):
            levels.append(level)
    if not levels:
        raise DataError(f"{files[0]}: no file of the slide is a whole-slide image (VOLUME); name one of its levels")
    finest: Dataset = max(levels, key=lambda level: int(level.TotalPixelMatrixColumns))
    return finest


def described_slide(source: ExportSource) -> Dataset:
    """Describe a slide that is no DICOM one, as far as a segmentation refers to it.

    A VL Whole Slide Microscopy Image of the slide's size and pixel size, without pixels; its first pixel lies at the
    origin of the slide's coordinates. Patient and study are unknown; identifiers come from the slide's hash.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage

    def item(**values: Any) -> Dataset:
        dataset = Dataset()
        for name, value in values.items():
            setattr(dataset, name, value)
        return dataset

    pixel_mm = source.mpp / 1e3
    orientation = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    measures = item(PixelSpacing=[pixel_mm, pixel_mm], SliceThickness=0.001)
    slide = item(
        SOPClassUID=VLWholeSlideMicroscopyImageStorage,
        SOPInstanceUID=derived_uid(source, "slide image"),
        StudyInstanceUID=derived_uid(source, "study"),
        SeriesInstanceUID=derived_uid(source, "slide series"),
        FrameOfReferenceUID=derived_uid(source, "slide frame of reference"),
        PositionReferenceIndicator="SLIDE_CORNER",
        SpecificCharacterSet="ISO_IR 192",
        Modality="SM",
        ImageType=["DERIVED", "PRIMARY", "VOLUME", "NONE"],
        PatientID="",
        PatientName="",
        PatientBirthDate="",
        PatientSex="",
        AccessionNumber="",
        ReferringPhysicianName="",
        StudyID="",
        StudyDate="",
        StudyTime="",
        SeriesNumber=1,
        InstanceNumber=1,
        ContainerIdentifier=long_text(source.slide),
        IssuerOfTheContainerIdentifierSequence=[],
        ContainerTypeCodeSequence=[],
        SpecimenDescriptionSequence=[
            item(
                SpecimenIdentifier=long_text(source.slide),
                SpecimenUID=derived_uid(source, "slide specimen"),
                IssuerOfTheSpecimenIdentifierSequence=[],
                SpecimenPreparationSequence=[],
            )
        ],
        ImageOrientationSlide=orientation,
        TotalPixelMatrixColumns=source.width,
        TotalPixelMatrixRows=source.height,
        TotalPixelMatrixFocalPlanes=1,
        TotalPixelMatrixOriginSequence=[item(XOffsetInSlideCoordinateSystem=0.0, YOffsetInSlideCoordinateSystem=0.0)],
        DimensionOrganizationType="TILED_FULL",
        Rows=source.height if source.height < 65536 else 512,
        Columns=source.width if source.width < 65536 else 512,
        NumberOfFrames=1,
        SamplesPerPixel=3,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        PhotometricInterpretation="RGB",
        NumberOfOpticalPaths=1,
        OpticalPathSequence=[item(OpticalPathIdentifier="1")],
        SharedFunctionalGroupsSequence=[item(PixelMeasuresSequence=[measures])],
    )
    slide.file_meta = FileMetaDataset()
    slide.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return slide
