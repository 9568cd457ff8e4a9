from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.images import ABSENT, PRESENT, UNKNOWN, Dataset
from dualproto_wsi.data.layouts import find_splits, read_dataset
from dualproto_wsi.errors import DataError


def scheme(*names: str) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(i, name, (i, 0, 0)) for i, name in enumerate(names, start=1)))


CLASSES = scheme("Tumor", "Stroma", "Lymphocyte")
NAME = "TCGA-AA-0001-01Z-00-DX1_1_2_3_4_0.98.png"


def read(root: Path, split: str = "train", classes: ClassScheme = CLASSES) -> Dataset:
    return read_dataset(root, "brca-m2c", split, classes)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "images" / NAME), np.zeros((30, 40, 3), np.uint8))
    (tmp_path / "train.txt").write_text(f"{NAME}\n")
    labels(tmp_path).write_text("10 35 1\n3 4 2\n\n29 39 1\n")
    return tmp_path


def labels(root: Path) -> Path:
    return root / "labels" / f"{NAME[:-4]}_gt_class_coords.txt"


def test_points_are_x_y_and_classes_in_the_scheme_s_order(data: Path) -> None:
    found = read(data)
    assert (found.name, found.mpp, found.classes) == ("BRCA-M2C", 0.5, CLASSES)
    (image,) = found.images
    assert image.patient == "TCGA-AA-0001"
    assert image.points is not None
    assert image.points.places.tolist() == [[35, 10], [4, 3], [39, 29]]
    assert image.points.labels.tolist() == [2, 0, 2]
    assert image.labels.tolist() == [PRESENT, ABSENT, PRESENT]
    assert image.mask is None
    assert find_splits(data, "brca-m2c") == ("train",)
    assert read_dataset(data, "brca-m2c", "train", CLASSES, mpp=0.25).mpp == 0.25


def test_image_without_points(data: Path) -> None:
    labels(data).write_text("")
    (image,) = read(data).images
    assert image.points is not None
    assert image.points.places.shape == (0, 2)
    assert image.labels.tolist() == [ABSENT] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n", "line 1 is '1 2'; it must be three whole numbers: y x class"),
        ("1 2 3\n1 -2 3\n", "line 2 is '1 -2 3'; it must be three whole numbers: y x class"),
        ("1 2 7\n", "line 1 has class 7; BRCA-M2C has 1 Lymphocyte, 2 Tumor, 3 Stroma: correct it"),
        ("30 2 1\n", "line 1 lies at (2, 30), outside the image of 40 x 30 px"),
    ],
)
def test_wrong_lines_are_refused(data: Path, text: str, message: str) -> None:
    labels(data).write_text(text)
    with pytest.raises(DataError) as error:
        read(data)
    assert str(error.value) == f"{labels(data)}: {message}"


def test_missing_files_are_named(data: Path) -> None:
    with pytest.raises(DataError, match=r"val\.txt: no such list of images; --layout brca-m2c needs it"):
        read(data, "val")
    labels(data).unlink()
    with pytest.raises(DataError, match=r"_gt_class_coords\.txt: no such label file; every image needs one"):
        read(data)
    image = data / "images" / NAME
    image.write_bytes(b"not a png")
    with pytest.raises(DataError, match=r"\.png: this image cannot be decoded .*; fetch it again"):
        read(data)
    image.unlink()
    with pytest.raises(DataError, match=r"\.png: no such image, though the data set names it"):
        read(data)
    (data / "train.txt").write_text(f"{NAME}\n" * 2)
    with pytest.raises(DataError, match=rf"train\.txt: names {NAME} twice; name each image once"):
        read(data)
    (data / "train.txt").write_text("\n")
    with pytest.raises(DataError, match=r": no image in split 'train'; it has train"):
        read(data)


def test_other_classes_than_the_data_s_are_refused(data: Path) -> None:
    with pytest.raises(
        DataError, match=r"nothing is labelled 'Necrosis'; the data has Lymphocyte, Tumor, Stroma: name"
    ):
        read(data, classes=scheme("Necrosis"))
    with pytest.raises(
        DataError, match=r"'Lymphocyte' is labelled, too, but is none of the classes wanted \(Tumor, St"
    ):
        read(data, classes=scheme("Tumor", "Stroma"))


def test_classes_shared_in_part(data: Path) -> None:
    found = read_dataset(data, "brca-m2c", "train", scheme("Stroma", "Necrosis", "TUM"), partial=True)
    (image,) = found.images
    assert image.points is not None
    assert image.points.places.tolist() == [[4, 3]]
    assert image.points.labels.tolist() == [2]
    assert image.labels.tolist() == [ABSENT, UNKNOWN, PRESENT]


def test_real_data(shared: Path) -> None:
    images = read(shared / "data" / "brca-m2c", "val").images
    assert len(images) == 10
    assert sum(len(image.points.places) for image in images if image.points) > 2449
    # the order of coordinates: nuclei are darker than the tissue around them, at (x, y) and not at (y, x)
    right, swapped = [], []
    for image in images:
        assert image.points is not None
        grey = image.read_pixels().mean(2)
        x, y = image.points.places.T
        inside = (x < grey.shape[0]) & (y < grey.shape[1])
        right.append(grey[y, x].mean() - grey.mean())
        swapped.append(grey[x[inside], y[inside]].mean() - grey.mean())
    assert np.mean(right) < -25
    assert np.mean(swapped) > np.mean(right) + 15
