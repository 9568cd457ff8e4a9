from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.points import read_brca_m2c
from dualproto_wsi.errors import DataError

CLASSES = ClassScheme(
    (
        TissueClass(1, "Tumor", (200, 0, 0)),
        TissueClass(2, "Stroma", (0, 200, 0)),
        TissueClass(3, "Lymphocyte", (0, 0, 9)),
    )
)
NAME = "TCGA-AA-0001-01Z-00-DX1_1_2_3_4_0.98.png"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    pixels = np.zeros((30, 40, 3), np.uint8)
    pixels[..., 0] = 250  # red
    cv2.imwrite(str(tmp_path / "images" / NAME), pixels[..., ::-1])
    (tmp_path / "train.txt").write_text(f"{NAME}\n")
    labels(tmp_path).write_text("10 35 1\n3 4 2\n\n29 39 3\n")
    return tmp_path


def labels(root: Path) -> Path:
    return root / "labels" / f"{NAME[:-4]}_gt_class_coords.txt"


def test_points_are_x_y_and_classes_in_the_scheme_s_order(data: Path) -> None:
    (image,) = read_brca_m2c(data, "train", CLASSES)
    assert image.patient == "TCGA-AA-0001"
    assert image.pixels.shape == (30, 40, 3)
    assert image.pixels[0, 0].tolist() == [250, 0, 0]
    assert image.points.tolist() == [[35, 10], [4, 3], [39, 29]]
    assert image.labels.tolist() == [2, 0, 1]


def test_image_without_points(data: Path) -> None:
    labels(data).write_text("")
    (image,) = read_brca_m2c(data, "train", CLASSES)
    assert image.points.shape == (0, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n", "line 1 is '1 2'; it must be three whole numbers: y x class"),
        ("1 2 3\n1 -2 3\n", "line 2 is '1 -2 3'; it must be three whole numbers: y x class"),
        (
            "1 2 7\n",
            "line 1 has class 7, which is outside the classes wanted (1 Lymphocyte, 2 Tumor, 3 Stroma); "
            "correct it or --classes",
        ),
        ("30 2 1\n", "line 1 lies at (2, 30), outside the image of 40 x 30 px"),
    ],
)
def test_wrong_lines_are_refused(data: Path, text: str, message: str) -> None:
    labels(data).write_text(text)
    with pytest.raises(DataError) as error:
        read_brca_m2c(data, "train", CLASSES)
    assert str(error.value) == f"{labels(data)}: {message}"


def test_missing_files_are_named(data: Path) -> None:
    with pytest.raises(DataError, match=r"val\.txt: no such list of images; --layout brca-m2c needs it"):
        read_brca_m2c(data, "val", CLASSES)
    labels(data).unlink()
    with pytest.raises(DataError, match=r"_gt_class_coords\.txt: no such label file; every image needs one"):
        read_brca_m2c(data, "train", CLASSES)
    image = data / "images" / NAME
    image.write_bytes(b"not a png")
    with pytest.raises(DataError, match=r"\.png: not an image that can be decoded; download it again"):
        read_brca_m2c(data, "train", CLASSES)
    image.unlink()
    with pytest.raises(DataError, match=r"\.png: no such image, though a list names it"):
        read_brca_m2c(data, "train", CLASSES)
    (data / "train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train\.txt: names no image; it needs a file name a line"):
        read_brca_m2c(data, "train", CLASSES)


def test_a_class_that_no_point_has_is_refused(data: Path) -> None:
    scheme = ClassScheme((TissueClass(1, "Necrosis", (0, 0, 0)),))
    with pytest.raises(DataError, match="no point is labelled 'Necrosis'; BRCA-M2C has Lymphocyte, Tumor, Stroma"):
        read_brca_m2c(data, "train", scheme)


def test_real_data(shared: Path) -> None:
    images = read_brca_m2c(shared / "data" / "brca-m2c", "val", CLASSES)
    assert len(images) == 10
    assert sum(len(image.points) for image in images) > 2449
    # the order of coordinates: nuclei are darker than the tissue around them, at (x, y) and not at (y, x)
    right, swapped = [], []
    for image in images:
        grey = image.pixels.mean(2)
        x, y = image.points.T
        inside = (x < grey.shape[0]) & (y < grey.shape[1])
        right.append(grey[y, x].mean() - grey.mean())
        swapped.append(grey[x[inside], y[inside]].mean() - grey.mean())
    assert np.mean(right) < -25
    assert np.mean(swapped) > np.mean(right) + 15
