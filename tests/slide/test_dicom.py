"""DICOM slides, written here with pydicom (TIAToolbox brings it): one file a level, JPEG tiles, TILED_FULL."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from pydicom import Dataset, Sequence
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit, VLWholeSlideMicroscopyImageStorage, generate_uid

from dualproto_wsi.errors import SlideUnreadable
from dualproto_wsi.geometry import Box
from dualproto_wsi.settings import ReadSettings
from dualproto_wsi.slide.reader import open_slide

TILE = 128


def item(**values):
    dataset = Dataset()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def tiles_of(level):
    rows, columns = -(-level.shape[0] // TILE), -(-level.shape[1] // TILE)
    full = np.pad(level, ((0, rows * TILE - level.shape[0]), (0, columns * TILE - level.shape[1]), (0, 0)))
    for row in range(rows):
        for column in range(columns):
            tile = full[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
            yield imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), 95, subsampling="422")


def write_level(path, level, number, mpp, uids):
    """Write one level of VL Whole Slide Microscopy; `mpp` is the level's, µm per px."""
    frames = list(tiles_of(level))
    height, width = level.shape[:2]
    dataset = item(
        SOPClassUID=VLWholeSlideMicroscopyImageStorage,
        SOPInstanceUID=generate_uid(),
        StudyInstanceUID=uids[0],
        SeriesInstanceUID=uids[1],
        FrameOfReferenceUID=uids[2],
        PositionReferenceIndicator="SLIDE_CORNER",
        PyramidUID=uids[3],
        Modality="SM",
        Manufacturer="nobody",
        ManufacturerModelName="none",
        DeviceSerialNumber="0",
        SoftwareVersions="0",
        PatientID="1",
        PatientName="nobody",
        PatientBirthDate="",
        PatientSex="",
        StudyDate="20260101",
        StudyTime="000000",
        StudyID="1",
        AccessionNumber="",
        ReferringPhysicianName="",
        SeriesNumber=1,
        InstanceNumber=number + 1,
        ContentDate="20260101",
        ContentTime="000000",
        AcquisitionDateTime="20260101000000",
        AcquisitionDuration=1.0,
        ContainerIdentifier="1",
        IssuerOfTheContainerIdentifierSequence=Sequence(),
        ContainerTypeCodeSequence=Sequence(),
        AcquisitionContextSequence=Sequence(),
        SpecimenDescriptionSequence=Sequence(
            [
                item(
                    SpecimenIdentifier="1",
                    SpecimenUID=generate_uid(),
                    IssuerOfTheSpecimenIdentifierSequence=Sequence(),
                    SpecimenPreparationSequence=Sequence(),
                )
            ]
        ),
        ImageType=["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]
        if number
        else ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"],
        VolumetricProperties="VOLUME",
        SpecimenLabelInImage="NO",
        FocusMethod="AUTO",
        ExtendedDepthOfField="NO",
        BurnedInAnnotation="NO",
        LossyImageCompression="01",
        LossyImageCompressionRatio=10.0,
        LossyImageCompressionMethod="ISO_10918_1",
        DimensionOrganizationType="TILED_FULL",
        DimensionOrganizationSequence=Sequence([item(DimensionOrganizationUID=uids[4])]),
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL_422",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        Rows=TILE,
        Columns=TILE,
        NumberOfFrames=len(frames),
        TotalPixelMatrixColumns=width,
        TotalPixelMatrixRows=height,
        TotalPixelMatrixFocalPlanes=1,
        ImagedVolumeWidth=width * mpp / 1000,
        ImagedVolumeHeight=height * mpp / 1000,
        ImagedVolumeDepth=0.005,
        ImageOrientationSlide=[0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        TotalPixelMatrixOriginSequence=Sequence(
            [item(XOffsetInSlideCoordinateSystem=0.0, YOffsetInSlideCoordinateSystem=0.0)]
        ),
        NumberOfOpticalPaths=1,
        OpticalPathSequence=Sequence(
            [
                item(
                    OpticalPathIdentifier="0",
                    ObjectiveLensPower=20.0,
                    IlluminationTypeCodeSequence=Sequence(
                        [item(CodeValue="111744", CodingSchemeDesignator="DCM", CodeMeaning="Brightfield illumination")]
                    ),
                    IlluminationColorCodeSequence=Sequence(
                        [item(CodeValue="414298005", CodingSchemeDesignator="SCT", CodeMeaning="Full Spectrum")]
                    ),
                )
            ]
        ),
        SharedFunctionalGroupsSequence=Sequence(
            [
                item(
                    PixelMeasuresSequence=Sequence(
                        [item(PixelSpacing=[mpp / 1000, mpp / 1000], SliceThickness=0.005, SpacingBetweenSlices=0.005)]
                    ),
                    OpticalPathIdentificationSequence=Sequence([item(OpticalPathIdentifier="0")]),
                    WholeSlideMicroscopyImageFrameTypeSequence=Sequence(
                        [item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])]
                    ),
                )
            ]
        ),
    )
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="module")
def first_file(tmp_path_factory, wave_levels):
    folder, uids = tmp_path_factory.mktemp("dicom"), [generate_uid() for _ in range(5)]
    for number, (level, factor) in enumerate(zip(wave_levels, (1, 4), strict=True)):
        write_level(folder / f"{number}.dcm", level, number, 0.5 * factor, uids)
    return folder / "0.dcm"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("reader", "named", "downsamples"),
    [("auto", "openslide", (1, 4)), ("tiatoolbox", "tiatoolbox", (1,))],  # TIAToolbox reads the file that is named
)
def test_pixels_levels_and_pixel_size(first_file, wave_levels, wave_at, reader, named, downsamples):
    with open_slide(first_file, ReadSettings(reader=reader)) as slide:
        info = slide.info
        assert (info.reader, info.width, info.height, info.content) == (named, 1203, 901, Box(0, 0, 1203, 901))
        assert info.downsamples == downsamples
        assert info.mpp == pytest.approx(0.5)
        exact = slide.read(Box(37, 41, 300, 250), (300, 250)).astype(int)
        for ratio in (1.0112, 2.0, 4.0, 4.3):
            got = slide.read(Box(300.3, 200.6, 90 * ratio, 80 * ratio), (90, 80)).astype(float)
            assert np.abs(got - wave_at(300.3, 200.6, ratio, (90, 80))).mean() < 3
    assert np.abs(exact - wave_levels[0][41:291, 37:337]).mean() < 2


def test_dicom_is_not_for_the_reader_of_tiff(first_file):
    with pytest.raises(SlideUnreadable, match=r"0.dcm: no TIFF"):
        open_slide(first_file, ReadSettings(reader="jpeg"))
