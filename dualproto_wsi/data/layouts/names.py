"""What data sets call their classes and their files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError

SYNONYMS = (
    ("Tumor", "Tumour", "TUM", "TE", "Tumor epithelial", "Tumor epithelium", "Tumour epithelial", "Tumour epithelium"),
    ("Stroma", "STR", "TAS", "Tumor-associated stroma", "Tumour-associated stroma"),
    ("Lymphocyte", "Lymphocytes", "LYM", "Lymphocytic infiltrate"),
    ("Necrosis", "NEC", "Necrosis or debris"),
    ("Normal", "NOR", "Normal tissue"),
)
"""Names of one class, a row a class; letter case does not matter, and ``_`` and ``-`` are blanks."""

_TCGA = re.compile(r"TCGA-\w{2}-\w{4}")
_LABELS = re.compile(r"[-_ ]*\[[^\[\]]*\]$")
_PLACE = re.compile(r"(\+|_x).*|[-_]\d+[-_]\d+$")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.strip()).casefold()


_MEANING = {_plain(name): row[0].casefold() for row in SYNONYMS for name in row}


def same_class(name: str) -> str:
    """Return a form of a class's name that all its :data:`SYNONYMS` share."""
    return _MEANING.get(_plain(name), _plain(name))


def match_classes(
    where: Path, own: Sequence[str], classes: ClassScheme, partial: bool = False, hint: str = ""
) -> list[int | None]:
    """Find the classes of a data set among those of a scheme, by name or synonym.

    Parameters
    ----------
    where : Path
        The data set, for messages.
    own : sequence of str
        What it calls its classes.
    classes : ClassScheme
        The ones wanted.
    partial : bool
        Whether the two may differ, as long as they share a class.
    hint : str
        What else to do about a class that is not wanted, for the message.

    Returns
    -------
    list of int or None
        The position in the scheme of each class of the data set; None: it has none there.

    Raises
    ------
    DataError
        If one has a class that the other lacks, or two names of one of them mean the same class.
    """
    position = {key: at for at, key in enumerate(_keys(where, classes.names))}
    found = [position.get(key) for key in _keys(where, own)]
    lacking = [name for at, name in enumerate(classes.names) if at not in found]
    surplus = [name for name, at in zip(own, found, strict=True) if at is None]
    if lacking and (not partial or len(lacking) == len(classes)):
        raise DataError(
            f"{where}: nothing is labelled {lacking[0]!r}; the data has {', '.join(own)}: name the classes wanted with"
            " --classes"
        )
    if surplus and not partial:
        raise DataError(
            f"{where}: {surplus[0]!r} is labelled, too, but is none of the classes wanted ({', '.join(classes.names)});"
            f" add it to --classes{hint}"
        )
    return found


def _keys(where: Path, names: Sequence[str]) -> list[str]:
    keys = [same_class(name) for name in names]
    for at, key in enumerate(keys):
        if key in keys[:at]:
            raise DataError(f"{where}: {names[keys.index(key)]!r} and {names[at]!r} mean the same class; keep one")
    return keys


def patient_of(name: str) -> str:
    """Return whose tissue an image shows, as far as its file name says.

    The first 12 characters of a TCGA barcode (``TCGA-XX-YYYY``) that begins the name. Of another name, what is left
    without labels in brackets and without the place on the slide: what begins with the first ``+`` or ``_x``, or two
    numbers at the end (``1031280-2300-27920-[1 0 0 1].png``: ``1031280``). Where that leaves nothing, the name without
    its ending: each image is then a patient of its own.
    """
    stem = Path(name).stem
    barcode = _TCGA.match(stem)
    return barcode.group() if barcode else _PLACE.sub("", _LABELS.sub("", stem)) or stem
