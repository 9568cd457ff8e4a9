"""The reader of BRCA-M2C: images with labelled points.

BRCA-M2C (Abousamra et al., ICCV 2021; https://github.com/TopoXLab/Dataset-BRCA-M2C): H&E breast images at 0.5 µm/px and
nuclei as points of three classes::

    train.txt, val.txt                      a file name of an image a line
    images/<name>.png
    labels/<name>_gt_class_coords.txt       `y x class` a line, px; 1 lymphocyte, 2 tumour or epithelial, 3 stromal
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.data.images import ABSENT, PRESENT, UNKNOWN, Dataset, LabelledImage, Points, image_size
from dualproto_wsi.data.layouts.names import match_classes, patient_of
from dualproto_wsi.errors import DataError

CLASSES = {1: "Lymphocyte", 2: "Tumor", 3: "Stroma"}
"""The codes in the label files, as names of the vocabulary ``bcss``."""

MPP = 0.5


def find_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the lists in the folder."""
    return tuple(sorted(path.stem for path in root.glob("*.txt")))


def read(root: Path, split: str, classes: ClassScheme, mpp: float | None, partial: bool) -> Dataset:
    """Read one list of images; see :func:`dualproto_wsi.data.layouts.read_dataset`.

    The image-level label of a class says whether a point of it is in the image.
    """
    positions = dict(zip(CLASSES, match_classes(root, list(CLASSES.values()), classes, partial), strict=True))
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise DataError(f"{listing}: no such list of images; --layout brca-m2c needs it beside images and labels")
    names = listing.read_text(encoding="utf-8").split()
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{listing}: names {twice[0]} twice; name each image once")
    images = tuple(_read_image(root, name, positions, len(classes)) for name in names)
    return Dataset("BRCA-M2C", classes, mpp or MPP, images)


def _read_image(root: Path, name: str, positions: Mapping[int, int | None], count: int) -> LabelledImage:
    path = root / "images" / name
    rows = _read_points(root / "labels" / f"{path.stem}_gt_class_coords.txt", image_size(path))
    wanted = np.array([(x, y, position) for x, y, code in rows if (position := positions[code]) is not None], np.int64)
    points = Points(wanted.reshape(-1, 3)[:, :2], wanted.reshape(-1, 3)[:, 2])
    return LabelledImage(path, patient_of(name), _labels(points, positions, count), points=points)


def _labels(points: Points, positions: Mapping[int, int | None], count: int) -> NDArray[np.int8]:
    labels = np.full(count, UNKNOWN, np.int8)
    labels[[position for position in positions.values() if position is not None]] = ABSENT
    labels[points.labels] = PRESENT
    return labels


def _read_points(path: Path, shape: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return (x, y, code) of each point."""
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
        if code not in CLASSES:
            raise DataError(
                f"{path}: line {number} has class {code}; BRCA-M2C has"
                f" {', '.join(f'{known} {name}' for known, name in CLASSES.items())}: correct it"
            )
        if x >= width or y >= height:
            raise DataError(f"{path}: line {number} lies at ({x}, {y}), outside the image of {width} x {height} px")
        rows.append((x, y, code))
    return rows
