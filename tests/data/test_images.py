from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.images import BACKGROUND, NOT_LABELLED, Dataset, LabelledImage, MaskFile, image_size
from dualproto_wsi.errors import DataError

CODES = {0: 1, 1: 0, 4: BACKGROUND, 9: NOT_LABELLED}
VALUES = np.array([[0, 1, 4], [9, 0, 1]], np.uint8)
# two entries of one colour: read as colours, the values 0 and 1 could not be told apart
PALETTE = [10, 20, 30] * 2 + [0, 0, 0] * 2 + [255, 255, 255]


def labelled(folder: Path, mask: Image.Image | None, size: tuple[int, int] = (3, 2)) -> LabelledImage:
    """Return an image of (width, height) px and its mask."""
    Image.new("RGB", size, (250, 0, 7)).save(folder / "a.png")
    if mask is not None:
        mask.save(folder / "mask.png")
    return LabelledImage(folder / "a.png", "a", np.zeros(2, np.int8), mask=MaskFile(folder / "mask.png", CODES))


def palette_image() -> Image.Image:
    picture = Image.fromarray(VALUES)
    picture.putpalette(PALETTE)
    return picture


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_masks_of_one_channel_and_of_a_palette_mean_the_same(tmp_path: Path, mode: str) -> None:
    mask = {"L": Image.fromarray(VALUES), "P": palette_image(), "I;16": Image.fromarray(VALUES.astype(np.uint16))}[mode]
    assert mask.mode == mode
    found = labelled(tmp_path, mask).read_mask()
    assert found is not None
    assert found.dtype == np.uint8
    assert found.tolist() == [[1, 0, BACKGROUND], [NOT_LABELLED, 1, 0]]


def test_a_mask_of_bits(tmp_path: Path) -> None:
    found = labelled(tmp_path, Image.fromarray(VALUES == 1)).read_mask()
    assert found is not None
    assert found.tolist() == [[1, 0, 1], [1, 1, 0]]


def test_no_mask() -> None:
    assert LabelledImage(Path("a.png"), "a", np.zeros(2, np.int8)).read_mask() is None


def refusal(image: LabelledImage) -> str:
    with pytest.raises(DataError) as error:
        image.read_mask()
    return str(error.value)


def test_a_missing_mask(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    assert refusal(labelled(tmp_path, None)) == (
        f"{path}: no such mask, though the data set names it; complete the data set"
    )


def test_a_mask_that_cannot_be_decoded(tmp_path: Path) -> None:
    image = labelled(tmp_path, palette_image())
    path = tmp_path / "mask.png"
    whole = path.read_bytes()
    path.write_bytes(b"not a png")
    assert refusal(image).startswith(f"{path}: this mask cannot be decoded (cannot identify image file")
    path.write_bytes(whole[:-25])
    assert refusal(image).startswith(f"{path}: this mask cannot be decoded (")
    assert refusal(image).endswith("; fetch it again")


def test_a_value_without_a_meaning(tmp_path: Path) -> None:
    assert refusal(labelled(tmp_path, Image.fromarray(np.full((2, 3), 7, np.uint8)))) == (
        f"{tmp_path / 'mask.png'}: value 7 of the mask has no meaning; known are 0, 1, 4, 9: correct the mask, or"
        " choose the --layout it belongs to"
    )


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    assert refusal(labelled(tmp_path, palette_image(), (5, 4))) == (
        f"{tmp_path / 'mask.png'}: a mask of 3 x 2 px for an image of 5 x 4 px; it must be the mask of a.png, px by px"
    )


def test_a_mask_of_colours(tmp_path: Path) -> None:
    assert refusal(labelled(tmp_path, palette_image().convert("RGB"))) == (
        f"{tmp_path / 'mask.png'}: a mask of 3 channels; save it with one channel, or with a palette"
    )


def test_pixels_are_rgb_and_errors_name_the_file(tmp_path: Path) -> None:
    image = labelled(tmp_path, None)
    assert image.read_pixels().shape == (2, 3, 3)
    assert image.read_pixels()[0, 0].tolist() == [250, 0, 7]
    assert image_size(image.path) == (2, 3)
    image.path.write_bytes(b"not a png")
    with pytest.raises(DataError, match=r"a\.png: this image cannot be decoded; fetch it again"):
        image.read_pixels()
    with pytest.raises(DataError, match=r"a\.png: this image cannot be decoded \(cannot identify image file"):
        image_size(image.path)
    image.path.unlink()
    for read in (image.read_pixels, lambda: image_size(image.path)):
        with pytest.raises(DataError, match=r"a\.png: no such image, though the data set names it; complete the data"):
            read()


def test_a_photograph_that_says_how_to_turn_it_keeps_the_size_of_its_mask(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: a quarter turn
    Image.new("RGB", (40, 24)).save(tmp_path / "a.jpg", exif=turned)
    assert cv2.imread(str(tmp_path / "a.jpg")).shape == (40, 24, 3)
    image = LabelledImage(tmp_path / "a.jpg", "a", np.zeros(2, np.int8))
    assert image.read_pixels().shape[:2] == image_size(image.path) == (24, 40)


def test_patients_of_a_dataset_are_sorted_and_named_once() -> None:
    scheme = ClassScheme((TissueClass(1, "Tumor", (0, 0, 0)),))
    images = tuple(LabelledImage(Path("a"), name, np.zeros(1, np.int8)) for name in ("b", "a", "b"))
    assert Dataset("made up", scheme, 0.5, images).patients == ("a", "b")
