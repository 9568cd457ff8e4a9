"""The reader of tiles whose file names end in image-level labels, as data sets of weak supervision have them.

::

    train/<name>[1010].png                  a digit a class, 1 for present; also [1 0 1 0] and [1, 0, 1]
    val/img/<name>.png, val/mask/<name>.png
    test/img/<name>.png, test/mask/<name>.png

``training``, ``valid``, ``validation`` and ``testing`` are read as well, also with a number before (``1.training``),
and so is ``train/img``. An image whose name has no brackets takes its labels from its mask: a class is present where
the mask holds a pixel of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.data.images import (
    ABSENT,
    BACKGROUND,
    PRESENT,
    UNKNOWN,
    Dataset,
    LabelledImage,
    MaskFile,
    require_file,
)
from dualproto_wsi.data.layouts.names import match_classes, patient_of
from dualproto_wsi.errors import DataError

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""Names of the splits, and of their folders."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")

_BRACKETS = re.compile(r"\[([^\[\]]*)\]$")


@dataclass(frozen=True, slots=True)
class WsssData:
    """What a data set of this layout says beyond it.

    Parameters
    ----------
    name : str
    classes : tuple of str
        In the order of the digits and of the mask's values 0…K-1; value K is background.
    mpp : float
        µm per px.
    """

    name: str
    classes: tuple[str, ...]
    mpp: float


# Han et al., Medical Image Analysis 80 (2022) 102487, and the Readme.txt of either data set.
BCSS_WSSS = WsssData("BCSS-WSSS", ("Tumor", "Stroma", "Lymphocyte", "Necrosis"), 0.25)
LUAD_HISTOSEG = WsssData(
    "LUAD-HistoSeg", ("Tumor epithelium", "Necrosis", "Lymphocyte", "Tumor-associated stroma"), 1.0
)
# Han et al., arXiv 2204.06455 (2022).
WSSS4LUAD = WsssData("WSSS4LUAD", ("Tumor", "Stroma", "Normal"), 1.0)


def find_splits(root: Path) -> tuple[str, ...]:
    """Return the splits that the folder has, by the names of :data:`SPLITS`."""
    return tuple(split for split in SPLITS if _folders(root, split))


def read(data: WsssData, root: Path, split: str, classes: ClassScheme, mpp: float | None, partial: bool) -> Dataset:
    """Read one split; see :func:`dualproto_wsi.data.layouts.read_dataset`."""
    positions = match_classes(root, data.classes, classes, partial)
    folder = _folder(root, split)
    pictures = folder / "img" if (folder / "img").is_dir() else folder
    masks = folder / "mask" if (folder / "mask").is_dir() else None
    codes = {code: BACKGROUND if at is None else at for code, at in enumerate(positions)} | {len(positions): BACKGROUND}
    images = []
    for path in sorted(pictures.iterdir()):
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        mask = MaskFile(_mask_path(masks, path), codes) if masks else None
        image = LabelledImage(path, patient_of(path.name), np.full(len(classes), UNKNOWN, np.int8), mask=mask)
        image.labels[[at for at in positions if at is not None]] = _labels(image, data, positions)
        images.append(image)
    return Dataset(data.name, classes, mpp or data.mpp, tuple(images))


def _folders(root: Path, split: str) -> list[Path]:
    names = next((names for names in SPLITS.values() if split.lower() in names), ())
    inside = sorted(root.iterdir()) if root.is_dir() else []
    return [path for path in inside if path.is_dir() and re.sub(r"^\d+[._ -]*", "", path.name).lower() in names]


def _folder(root: Path, split: str) -> Path:
    folders = _folders(root, split)
    if not folders:
        raise DataError(
            f"{root}: no folder {split!r}; it has {', '.join(find_splits(root)) or 'none of train, val, test'}"
        )
    if len(folders) > 1:
        raise DataError(f"{root}: {' and '.join(path.name for path in folders)} are the same split; keep one")
    return folders[0]


def _mask_path(folder: Path, image: Path) -> Path:
    named = folder / image.name
    path = named if named.is_file() else named.with_suffix(".png")
    require_file(path, "mask")
    return path


def _labels(image: LabelledImage, data: WsssData, positions: Sequence[int | None]) -> NDArray[np.int8]:
    """Return the labels of the data's classes that are wanted, in the data's order."""
    kept = [at for at, position in enumerate(positions) if position is not None]
    brackets = _BRACKETS.search(image.path.stem)
    if brackets:
        return _digits(image.path, brackets.group(1), data)[kept]
    mask = image.read_mask()
    if mask is None:
        raise DataError(
            f"{image.path}: no labels in brackets at the end of its name; {data.name} names its training images"
            f" ...[{'10' * len(data.classes):.{len(data.classes)}}].png: rename it, or use --layout table"
        )
    held = set(np.unique(mask).tolist())
    return np.array([PRESENT if positions[at] in held else ABSENT for at in kept], np.int8)


def _digits(path: Path, text: str, data: WsssData) -> NDArray[np.int8]:
    fields = re.findall(r"\S", text.replace(",", " "))
    wrong = [field for field in fields if field not in "01"]
    if wrong:
        raise DataError(f"{path}: label {wrong[0]!r} in [{text}] is neither 1 for present nor 0 for absent; correct it")
    if len(fields) != len(data.classes):
        raise DataError(
            f"{path}: {len(fields)} label(s) in [{text}], but {data.name} has {len(data.classes)} classes"
            f" ({', '.join(data.classes)}); correct the name, or choose the --layout it belongs to"
        )
    return np.array([PRESENT if field == "1" else ABSENT for field in fields], np.int8)
