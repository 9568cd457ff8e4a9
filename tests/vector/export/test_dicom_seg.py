"""The label map as DICOM Segmentation, read back by highdicom."""

from __future__ import annotations

from dataclasses import replace

import highdicom
import numpy as np
import pytest

from dualproto_wsi.classes import UNSURE
from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.export.dicom_slide import described_slide


@pytest.fixture(scope="module")
def path(made):
    return made.export("dicom-seg")


@pytest.fixture(scope="module")
def image(path):
    return highdicom.seg.segread(path)


def matrix(image):
    return image.get_total_pixel_matrix(combine_segments=True)


def test_every_cell_is_in_the_segment_of_its_class(made, image):
    expected = np.where(made.labels == UNSURE, 5, made.labels)
    np.testing.assert_array_equal(matrix(image), expected)
    assert image.SegmentationType == "BINARY"
    assert image.DimensionOrganizationType == "TILED_SPARSE"


def test_segments_say_what_they_are(made, image):
    told = [image.get_segment_description(number) for number in image.segment_numbers]
    assert [
        (d.segment_label, d.segmented_property_type.value, d.segmented_property_type.scheme_designator) for d in told
    ] == [
        ("Tumor", "108369006", "SCT"),
        ("Stroma", "21793004", "SCT"),
        ("lymphocytes", "56972008", "SCT"),
        ("Fat / µ", "CLASS4", "99DUALPROTO"),
        ("Unsure", "CLASS255", "99DUALPROTO"),
    ]
    assert [d.segmented_property_category.value for d in told] == [
        "49755003", "85756007", "4421005", "85756007", "85756007",
    ]  # fmt: skip
    (algorithm,) = told[0].SegmentationAlgorithmIdentificationSequence
    assert algorithm.AlgorithmName == "compact-breast"
    assert algorithm.AlgorithmVersion == f"0.1.0 model {'cd' * 8}"


def test_cells_lie_where_they_lie_on_the_slide(made, image):
    measures = image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert [float(side) for side in measures.PixelSpacing] == [0.004, 0.004]
    origin = image.TotalPixelMatrixOriginSequence[0]
    # The centre of the first cell of 8 px at (1000, 600), from the centre of the first pixel of 0.5 µm.
    assert float(origin.XOffsetInSlideCoordinateSystem) == pytest.approx((1000 + 3.5) * 0.5e-3)
    assert float(origin.YOffsetInSlideCoordinateSystem) == pytest.approx((600 + 3.5) * 0.5e-3)


def test_identifiers_depend_on_slide_and_model_only(made, image, make_source, tmp_path):
    slide = described_slide(made.source)
    reference = image.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert reference.ReferencedSOPInstanceUID == slide.SOPInstanceUID
    assert image.StudyInstanceUID == slide.StudyInstanceUID
    assert image.FrameOfReferenceUID == slide.FrameOfReferenceUID
    other = replace(made.source, model_sha256="ef" * 32)
    assert described_slide(other).SOPInstanceUID == slide.SOPInstanceUID
    again = make_source(tmp_path)
    assert again.export("dicom-seg").read_bytes() == (made.folder / "labels.seg.dcm").read_bytes()
    assert image.ContentDate == "20260304"


def test_a_map_without_tissue_has_all_segments_and_no_cell(empty):
    image = highdicom.seg.segread(empty.export("dicom-seg"))
    assert list(image.segment_numbers) == [1, 2, 3, 4]
    assert not matrix(image).any()


def test_a_dicom_slide_is_referred_to_as_it_is_and_turned_as_it_is(made, tmp_path):
    slide = described_slide(replace(made.source, sha256="12" * 32))
    slide.PatientID, slide.ImageOrientationSlide = "P7", [0.0, -1.0, 0.0, -1.0, 0.0, 0.0]
    origin = slide.TotalPixelMatrixOriginSequence[0]
    origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 20.0, 40.0
    coarse = described_slide(replace(made.source, sha256="34" * 32, width=100, height=80))
    for name, level in (("0.dcm", slide), ("1.dcm", coarse)):
        level.save_as(tmp_path / name, enforce_file_format=True)
    files = tuple(sorted(tmp_path.glob("*.dcm"), reverse=True))
    made = replace(made, source=replace(made.source, dicom_files=files), folder=tmp_path)
    image = highdicom.seg.segread(made.export("dicom-seg"))
    assert image.PatientID == "P7"
    reference = image.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert reference.ReferencedSOPInstanceUID == slide.SOPInstanceUID
    first = image.TotalPixelMatrixOriginSequence[0]
    # To the right in the picture is down the slide, and down is to its left.
    assert float(first.XOffsetInSlideCoordinateSystem) == pytest.approx(20 - (600 + 3.5) * 0.5e-3)
    assert float(first.YOffsetInSlideCoordinateSystem) == pytest.approx(40 - (1000 + 3.5) * 0.5e-3)


def test_a_file_that_is_no_dicom_is_told(made, tmp_path):
    (tmp_path / "x.dcm").write_bytes(b"no")
    made = replace(made, source=replace(made.source, dicom_files=(tmp_path / "x.dcm",)), folder=tmp_path)
    with pytest.raises(DataError, match=r"x\.dcm: cannot be read as DICOM .*copy the slide again"):
        made.export("dicom-seg")


def test_a_dicom_slide_without_an_image_of_the_whole_is_told(made, tmp_path):
    label = described_slide(made.source)
    label.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
    label.save_as(tmp_path / "label.dcm", enforce_file_format=True)
    made = replace(made, source=replace(made.source, dicom_files=(tmp_path / "label.dcm",)), folder=tmp_path)
    with pytest.raises(DataError, match="no file of the slide is a whole-slide image"):
        made.export("dicom-seg")
