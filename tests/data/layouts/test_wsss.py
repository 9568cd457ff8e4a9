from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.images import ABSENT, BACKGROUND, PRESENT, UNKNOWN, Dataset
from dualproto_wsi.data.layouts import READERS, find_splits, read_dataset
from dualproto_wsi.errors import DataError, SettingsError
from dualproto_wsi.settings import LAYOUTS


def scheme(*names: str) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(i, name, (i, 0, 0)) for i, name in enumerate(names, start=1)))


FOUR = scheme("Tumor", "Stroma", "Lymphocyte", "Necrosis")
BCSS = "TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101].png"


def save(path: Path, values: np.ndarray | None = None) -> Path:
    """Write an image, or a palette mask of values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (6, 4)) if values is None else Image.fromarray(values.astype(np.uint8))
    if values is not None:
        picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 153, 0, 255, 255, 255, 255])
    picture.save(path)
    return path


def read(root: Path, split: str = "train", classes: ClassScheme = FOUR, layout: str = "bcss-wsss") -> Dataset:
    return read_dataset(root, layout, split, classes)


def refusal(root: Path, split: str = "train", classes: ClassScheme = FOUR, layout: str = "bcss-wsss") -> str:
    with pytest.raises(DataError) as error:
        read(root, split, classes, layout)
    return str(error.value)


def test_names_of_layouts_are_those_of_the_settings(tmp_path: Path) -> None:
    assert tuple(READERS) == LAYOUTS
    for use in (lambda: read(tmp_path, layout="pets"), lambda: find_splits(tmp_path, "pets")):
        with pytest.raises(SettingsError, match="layout is 'pets'; choose one of brca-m2c, bcss-wsss"):
            use()


def test_bcss_wsss(tmp_path: Path) -> None:
    save(tmp_path / "train" / BCSS)
    save(tmp_path / "train" / "TCGA-EW-A1PB-DX1_xmin1_ymin2_MPP-0.2500+3[0010].png")
    (tmp_path / "train" / "Thumbs.db").write_text("no image")
    for folder, values in (("val", [[0, 1, 2, 3, 4, 0]] * 4), ("test", [[4, 4, 1, 1, 1, 4]] * 4)):
        save(tmp_path / folder / "img" / "TCGA-D8-A27F-DX1_xmin9_ymin6_MPP-0.2500+0.png")
        save(tmp_path / folder / "mask" / "TCGA-D8-A27F-DX1_xmin9_ymin6_MPP-0.2500+0.png", np.array(values))
    train = read(tmp_path)
    assert (train.name, train.mpp, train.patients) == ("BCSS-WSSS", 0.25, ("TCGA-A1-A0SK", "TCGA-EW-A1PB"))
    assert [image.labels.tolist() for image in train.images] == [[1, 1, 0, 1], [0, 0, 1, 0]]
    assert train.images[0].read_mask() is None
    (image,) = read(tmp_path, "valid").images
    assert image.labels.tolist() == [PRESENT] * 4
    mask = image.read_mask()
    assert mask is not None
    assert mask[0].tolist() == [0, 1, 2, 3, BACKGROUND, 0]
    (image,) = read(tmp_path, "test").images
    assert image.labels.tolist() == [ABSENT, PRESENT, ABSENT, ABSENT]
    assert find_splits(tmp_path, "bcss-wsss") == ("train", "val", "test")


def test_luad_histoseg_has_another_order_than_the_scheme(tmp_path: Path) -> None:
    # digits and mask: tumour epithelium, necrosis, lymphocyte, stroma
    save(tmp_path / "training" / "1031280-2300-27920-[1 1 0 0].png")
    save(tmp_path / "test" / "img" / "387709-10004-55944.png")
    save(tmp_path / "test" / "mask" / "387709-10004-55944.png", np.array([[0, 1, 2, 3, 4, 4]] * 4))
    found = read(tmp_path, layout="luad-histoseg")
    assert (found.name, found.mpp, found.patients) == ("LUAD-HistoSeg", 1.0, ("1031280",))
    assert found.images[0].labels.tolist() == [PRESENT, ABSENT, ABSENT, PRESENT]
    mask = read(tmp_path, "test", layout="luad-histoseg").images[0].read_mask()
    assert mask is not None
    assert mask[0].tolist() == [0, 3, 2, 1, BACKGROUND, BACKGROUND]


def test_wsss4luad(tmp_path: Path) -> None:
    three = scheme("Normal", "Tumor", "Stroma")
    save(tmp_path / "1.training" / "1000004-15920-51024-[0, 1, 0].png")
    save(tmp_path / "2.validation" / "img" / "00.png")
    save(tmp_path / "2.validation" / "mask" / "00.png", np.array([[0, 0, 2, 2, 3, 3]] * 4))
    assert read(tmp_path, "train", three, "wsss4luad").images[0].labels.tolist() == [ABSENT, ABSENT, PRESENT]
    (image,) = read(tmp_path, "val", three, "wsss4luad").images
    assert (image.patient, image.labels.tolist()) == ("00", [PRESENT, PRESENT, ABSENT])
    mask = image.read_mask()
    assert mask is not None
    assert mask[0].tolist() == [1, 1, 0, 0, BACKGROUND, BACKGROUND]


def test_folder_img_within_train_and_masks_of_training_images(tmp_path: Path) -> None:
    save(tmp_path / "train" / "img" / "a+1[1000].jpg")
    save(tmp_path / "train" / "mask" / "a+1[1000].png", np.full((4, 6), 1))
    (image,) = read(tmp_path).images
    assert image.labels.tolist() == [1, 0, 0, 0]  # what the name says goes before the mask
    mask = image.read_mask()
    assert mask is not None
    assert (mask == 1).all()


def test_classes_shared_in_part(tmp_path: Path) -> None:
    save(tmp_path / "test" / "img" / "a.png")
    save(tmp_path / "test" / "mask" / "a.png", np.array([[0, 1, 2, 3, 4, 0]] * 4))
    found = read_dataset(tmp_path, "bcss-wsss", "test", scheme("Stroma", "Fat", "Tumor"), partial=True)
    (image,) = found.images
    assert image.labels.tolist() == [PRESENT, UNKNOWN, PRESENT]
    mask = image.read_mask()
    assert mask is not None
    assert mask[0].tolist() == [2, 0, BACKGROUND, BACKGROUND, BACKGROUND, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a[1020].png", "label '2' in [1020] is neither 1 for present nor 0 for absent; correct it"),
        ("a[1, x, 0, 0].png", "label 'x' in [1, x, 0, 0] is neither 1 for present nor 0 for absent; correct it"),
        (
            "a[101].png",
            "3 label(s) in [101], but BCSS-WSSS has 4 classes (Tumor, Stroma, Lymphocyte, Necrosis); correct the name,"
            " or choose the --layout it belongs to",
        ),
        (
            "a.png",
            "no labels in brackets at the end of its name; BCSS-WSSS names its training images ...[1010].png: rename"
            " it, or use --layout table",
        ),
    ],
)
def test_wrong_names_are_refused(tmp_path: Path, name: str, message: str) -> None:
    path = save(tmp_path / "train" / name)
    assert refusal(tmp_path) == f"{path}: {message}"


def test_wrong_masks_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "test" / "img" / "a.png")
    (tmp_path / "test" / "mask").mkdir()
    mask = tmp_path / "test" / "mask" / "a.png"
    assert refusal(tmp_path, "test") == f"{mask}: no such mask, though the data set names it; complete the data set"
    save(mask, np.zeros((5, 6)))
    assert refusal(tmp_path, "test") == (
        f"{mask}: a mask of 6 x 5 px for an image of 6 x 4 px; it must be the mask of a.png, px by px"
    )
    save(mask, np.full((4, 6), 7))
    assert refusal(tmp_path, "test").startswith(f"{mask}: value 7 of the mask has no meaning; known are 0, 1, 2, 3, 4:")


def test_splits_that_are_not_there_or_empty_or_doubled(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path}: no folder 'train'; it has none of train, val, test"
    (tmp_path / "valid").mkdir()
    assert refusal(tmp_path) == f"{tmp_path}: no folder 'train'; it has val"
    assert refusal(tmp_path, "val") == f"{tmp_path}: no image in split 'val'; it has val"
    (tmp_path / "validation").mkdir()
    assert refusal(tmp_path, "val") == f"{tmp_path}: valid and validation are the same split; keep one"
    assert refusal(tmp_path / "gone") == f"{tmp_path / 'gone'}: no folder 'train'; it has none of train, val, test"


def test_other_classes_than_the_data_s_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "train" / BCSS)
    assert "'Necrosis' is labelled, too, but is none of" in refusal(tmp_path, classes=scheme("Tumor", "STR", "LYM"))
    assert "nothing is labelled 'Fat'; the data has Tumor" in refusal(tmp_path, classes=scheme("Tumor", "Fat"))
