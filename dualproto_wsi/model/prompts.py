"""Vocabularies: tissue classes with the descriptions that become text prototypes, in TOML files.

A file is a list of tables::

    [[classes]]
    name = "Stroma"
    colour = [150, 200, 150]
    descriptions = ["pink collagen fibers in wavy parallel bundles", "…"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.errors import SettingsError

_VOCABULARIES = Path(__file__).parent / "vocabularies"
_KEYS = {"name", "colour", "descriptions"}


def list_vocabularies() -> tuple[str, ...]:
    """Return the names of the built-in vocabularies."""
    return tuple(sorted(path.stem for path in _VOCABULARIES.glob("*.toml")))


def load_vocabulary(name_or_path: str | Path, only: Sequence[str] | None = None) -> ClassScheme:
    """Read a vocabulary.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a built-in vocabulary (``bcss``), or a TOML file.
    only : sequence of str or None
        Names of the classes to keep, in the order wanted; None keeps all. Ids are given anew from 1.

    Raises
    ------
    SettingsError
        If there is no such file, it is not TOML, a key is unknown or missing, a value has the wrong type, a class has
        no description, a class or a description occurs twice, or ``only`` names a class that is not there.
    """
    path = Path(name_or_path)
    if str(name_or_path) in list_vocabularies():
        path = _VOCABULARIES / f"{name_or_path}.toml"
    tables = _tables(path)
    classes = [_tissue_class(number, table, path) for number, table in enumerate(tables, start=1)]
    _refuse_repeated(classes, path)
    if only is not None:
        classes = _select(classes, only, path)
    try:
        return ClassScheme(tuple(classes))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def _tables(path: Path) -> list[Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        known = ", ".join(list_vocabularies())
        raise SettingsError(f"{path}: no such vocabulary file; built in: {known}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    unknown = sorted(set(data) - {"classes"})
    if unknown:
        raise SettingsError(f"{path}: unknown key {unknown[0]!r}; a vocabulary is a list of [[classes]]")
    tables = data.get("classes")
    if not isinstance(tables, list) or not tables:
        raise SettingsError(f"{path}: no [[classes]]; a vocabulary needs at least one")
    return tables


def _tissue_class(number: int, table: Any, path: Path) -> TissueClass:
    where = f"{path}: class {number}"
    if not isinstance(table, dict):
        raise SettingsError(f"{where} is {table!r}; it must be a table with {', '.join(sorted(_KEYS))}")
    for word, keys in (("unknown", set(table) - _KEYS), ("missing", _KEYS - set(table))):
        if keys:
            raise SettingsError(f"{where}: {word} key {', '.join(sorted(keys))}; keys are {', '.join(sorted(_KEYS))}")
    name, colour, descriptions = table["name"], table["colour"], table["descriptions"]
    if not isinstance(name, str) or not isinstance(colour, list):
        raise SettingsError(f"{where}: name must be a string and colour a list, not {name!r} and {colour!r}")
    if not isinstance(descriptions, list) or not all(isinstance(d, str) and d.strip() for d in descriptions):
        raise SettingsError(f"{where} ({name}): descriptions must be a list of texts, none of them empty")
    if not descriptions:
        raise SettingsError(f"{where} ({name}) has no description; give at least one")
    try:
        return TissueClass(number, name, tuple(colour), tuple(d.strip() for d in descriptions))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error


def _refuse_repeated(classes: Sequence[TissueClass], path: Path) -> None:
    owner: dict[str, str] = {}
    for tissue_class in classes:
        for description in tissue_class.descriptions:
            key = " ".join(description.casefold().split())
            if key in owner:
                raise SettingsError(
                    f"{path}: {description!r} describes both {owner[key]} and {tissue_class.name}; "
                    "a description may occur once"
                    if owner[key] != tissue_class.name
                    else f"{path}: {tissue_class.name} has {description!r} twice; a description may occur once"
                )
            owner[key] = tissue_class.name


def _select(classes: Sequence[TissueClass], only: Sequence[str], path: Path) -> list[TissueClass]:
    by_name = {c.name.casefold(): c for c in classes}
    chosen = []
    for number, name in enumerate(only, start=1):
        found = by_name.get(name.casefold())
        if found is None:
            raise SettingsError(f"{path}: no class {name!r}; classes are {', '.join(c.name for c in classes)}")
        chosen.append(TissueClass(number, found.name, found.colour, found.descriptions))
    return chosen
