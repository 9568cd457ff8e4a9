"""Images with labelled points, and the reader of BRCA-M2C.

BRCA-M2C (Abousamra et al., ICCV 2021; https://github.com/TopoXLab/Dataset-BRCA-M2C): H&E breast images at 0.5 µm/px and
nuclei as points of three classes::

    train.txt, val.txt                      a file name of an image a line
    images/<name>.png
    labels/<name>_gt_class_coords.txt       `y x class` a line, px; 1 lymphocyte, 2 tumour or epithelial, 3 stromal
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError

BRCA_M2C_CLASSES = {1: "Lymphocyte", 2: "Tumor", 3: "Stroma"}
"""The codes in BRCA-M2C's label files, as names of the vocabulary ``bcss``."""

BRCA_M2C_MPP = 0.5

_PATIENT_CHARACTERS = 12  # TCGA-XX-YYYY


@dataclass(frozen=True, slots=True, eq=False)
class PointImage:
    """One image and its labelled points.

    Parameters
    ----------
    path : Path
        The image file.
    patient : str
        Whose tissue it shows; images of one patient never part between training and evaluation.
    pixels : ndarray of uint8, shape (height, width, 3)
        RGB.
    points : ndarray of int64, shape (n, 2)
        (x, y) of each point, px of the image.
    labels : ndarray of int64, shape (n,)
        Class of each point, 0…K-1 in the order of the class scheme.
    """

    path: Path
    patient: str
    pixels: NDArray[np.uint8]
    points: NDArray[np.int64]
    labels: NDArray[np.int64]


def read_brca_m2c(root: Path, split: str, classes: ClassScheme) -> list[PointImage]:
    """Read one split of BRCA-M2C.

    Parameters
    ----------
    root : Path
        The folder with ``train.txt``, ``images`` and ``labels``.
    split : str
        Name of the list, without ``.txt``.
    classes : ClassScheme
        Its classes by name; the data set knows Tumor, Stroma and Lymphocyte.

    Raises
    ------
    DataError
        If a file is missing or cannot be read, or a line is not ``y x class`` with a class of the scheme at a place
        inside the image.
    """
    codes = _codes(root, classes)
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise DataError(f"{listing}: no such list of images; --layout brca-m2c needs it beside images and labels")
    names = listing.read_text(encoding="utf-8").split()
    if not names:
        raise DataError(f"{listing}: names no image; it needs a file name a line")
    return [_read_image(root, name, codes) for name in names]


def _codes(root: Path, classes: ClassScheme) -> dict[int, int]:
    position = {name.casefold(): index for index, name in enumerate(classes.names)}
    known = {name.casefold() for name in BRCA_M2C_CLASSES.values()}
    missing = [name for name in classes.names if name.casefold() not in known]
    if missing:
        raise DataError(
            f"{root}: no point is labelled {missing[0]!r}; BRCA-M2C has {', '.join(BRCA_M2C_CLASSES.values())}: "
            "name the classes wanted with --classes"
        )
    return {code: position[name.casefold()] for code, name in BRCA_M2C_CLASSES.items() if name.casefold() in position}


def _read_image(root: Path, name: str, codes: dict[int, int]) -> PointImage:
    path = root / "images" / name
    if not path.is_file():
        raise DataError(f"{path}: no such image, though a list names it; complete the download or edit the list")
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise DataError(f"{path}: not an image that can be decoded; download it again")
    rows = _read_points(root / "labels" / f"{path.stem}_gt_class_coords.txt", pixels.shape[:2], codes)
    return PointImage(path, name[:_PATIENT_CHARACTERS], pixels[:, :, ::-1].astype(np.uint8), rows[:, :2], rows[:, 2])


def _read_points(path: Path, shape: Sequence[int], codes: dict[int, int]) -> NDArray[np.int64]:
    if not path.is_file():
        raise DataError(f"{path}: no such label file; every image needs one")
    height, width = shape
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 3 or not all(field.isdigit() for field in fields):
            raise DataError(f"{path}: line {number} is {line!r}; it must be three whole numbers: y x class")
        y, x, code = map(int, fields)
        if code not in codes:
            raise DataError(
                f"{path}: line {number} has class {code}, which is outside the classes wanted "
                f"({', '.join(f'{c} {BRCA_M2C_CLASSES[c]}' for c in sorted(codes))}); correct it or --classes"
            )
        if x >= width or y >= height:
            raise DataError(f"{path}: line {number} lies at ({x}, {y}), outside the image of {width} x {height} px")
        rows.append((x, y, codes[code]))
    return np.array(rows, dtype=np.int64).reshape(-1, 3)
