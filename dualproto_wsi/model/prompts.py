"""Vocabularies: tissue classes with the descriptions that become text prototypes, in TOML files.

A file is a list of tables, below what holds for all of them::

    templates = ["a histopathology image of {description}", "{stain} stained {organ} with {description}"]  # optional
    organ = "breast"                                                                     # where a template asks for it
    stain = "H&E"

    [[classes]]
    name = "Stroma"                      # shown in QuPath
    colour = [150, 200, 150]
    descriptions = ["pink collagen fibers in wavy parallel bundles", "…"]

A *prompt* is a description put into a template; each becomes a text prototype of its own. Without templates the
descriptions are the prompts.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.errors import OutputError, SettingsError
from dualproto_wsi.files import replacing
from dualproto_wsi.model.templates import PLAIN, TEMPLATE_KEYS, read_templates

_VOCABULARIES = Path(__file__).parent / "vocabularies"
_KEYS = {"name", "colour", "descriptions"}


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a vocabulary file says.

    Parameters
    ----------
    classes : ClassScheme
        With the descriptions as they are written.
    templates : tuple of str
        Each with ``{description}``, and perhaps ``{organ}`` and ``{stain}``.
    organ, stain : str
        What stands for these two; empty if no template asks.
    """

    classes: ClassScheme
    templates: tuple[str, ...] = (PLAIN,)
    organ: str = ""
    stain: str = ""

    def prompts(self, description: str) -> tuple[str, ...]:
        """Return a description in every template."""
        return tuple(t.format(description=description, organ=self.organ, stain=self.stain) for t in self.templates)

    def scheme(self) -> ClassScheme:
        """Return the classes with their prompts for descriptions, as models use them."""
        return self.with_descriptions(
            [[p for d in c.descriptions for p in self.prompts(d)] for c in self.classes]
        ).classes

    def with_descriptions(self, descriptions: Sequence[Sequence[str]]) -> Vocabulary:
        """Return it with other descriptions, one list a class."""
        pairs = zip(self.classes, descriptions, strict=True)
        return replace(self, classes=ClassScheme(tuple(replace(c, descriptions=tuple(texts)) for c, texts in pairs)))

    def to_toml(self, comment: str = "") -> str:
        """Return the text of its file, which :func:`read_vocabulary` reads back; comment lines go on top."""
        lines = [f"# {line}" for line in comment.splitlines()]
        if self.templates != (PLAIN,):
            lines += ["templates = [", *(f"    {_quote(t)}," for t in self.templates), "]"]
        lines += [f"{key} = {_quote(value)}" for key, value in (("organ", self.organ), ("stain", self.stain)) if value]
        for tissue in self.classes:
            lines += ["", "[[classes]]", f"name = {_quote(tissue.name)}", f"colour = {list(tissue.colour)}"]
            lines += ["descriptions = [", *(f"    {_quote(d)}," for d in tissue.descriptions), "]"]
        return "\n".join(lines).lstrip("\n") + "\n"


def _quote(text: str) -> str:
    """Return a TOML string: JSON's escapes are TOML's, but for the delete character, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def list_vocabularies() -> tuple[str, ...]:
    """Return the names of the built-in vocabularies."""
    return tuple(sorted(path.stem for path in _VOCABULARIES.glob("*.toml")))


def load_vocabulary(name_or_path: str | Path, only: Sequence[str] | None = None) -> ClassScheme:
    """Read a vocabulary as models use it: classes with their prompts.

    Parameters
    ----------
    name_or_path : str or Path
        Name of a built-in vocabulary (``bcss``), or a TOML file.
    only : sequence of str or None
        Names of the classes to keep, in the order wanted; None keeps all. Ids are given anew from 1.

    Raises
    ------
    SettingsError
        As :func:`read_vocabulary`; if a description occurs twice; if ``only`` names a class that is not there.
    """
    vocabulary = read_vocabulary(name_or_path)
    repeated = repeated_descriptions(vocabulary.classes)
    if repeated:
        raise SettingsError(f"{name_or_path}: {repeated[0].problem}; a description may occur once")
    scheme = vocabulary.scheme()
    return scheme if only is None else ClassScheme(tuple(_select(scheme, only, name_or_path)))


def read_vocabulary(name_or_path: str | Path) -> Vocabulary:
    """Read a vocabulary as it is written; a description may occur twice.

    Raises
    ------
    SettingsError
        If there is no such file, it is not TOML, a key is unknown or missing, a value has the wrong type, a class has
        no description or occurs twice, or a template is wrong.
    """
    path = Path(name_or_path)
    if str(name_or_path) in list_vocabularies():
        path = _VOCABULARIES / f"{name_or_path}.toml"
    data = _data(path)
    classes = [_tissue_class(number, table, path) for number, table in enumerate(data["classes"], start=1)]
    try:
        scheme = ClassScheme(tuple(classes))
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    return Vocabulary(scheme, **read_templates(data, path))


def write_vocabulary(path: Path, vocabulary: Vocabulary, comment: str = "") -> None:
    """Write a vocabulary's file, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(vocabulary.to_toml(comment), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place with -o") from error


def _data(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError) as error:
        known = ", ".join(list_vocabularies())
        raise SettingsError(f"{path}: no such vocabulary file; built in: {known}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    unknown = sorted(set(data) - {"classes", *TEMPLATE_KEYS})
    if unknown:
        raise SettingsError(
            f"{path}: unknown key {unknown[0]!r}; a vocabulary is a list of [[classes]], "
            f"with {', '.join(TEMPLATE_KEYS)} above it"
        )
    if not isinstance(data.get("classes"), list) or not data["classes"]:
        raise SettingsError(f"{path}: no [[classes]]; a vocabulary needs at least one")
    return data


def _tissue_class(number: int, table: Any, path: Path) -> TissueClass:
    where = f"{path}: class {number}"
    if not isinstance(table, dict):
        raise SettingsError(f"{where} is {table!r}; it must be a table with {', '.join(sorted(_KEYS))}")
    for word, keys in (("unknown", set(table) - _KEYS), ("missing", _KEYS - set(table))):
        if keys:
            above = "; templates, organ and stain go above the first [[classes]]" if keys & set(TEMPLATE_KEYS) else ""
            raise SettingsError(
                f"{where}: {word} key {', '.join(sorted(keys))}; keys are {', '.join(sorted(_KEYS))}{above}"
            )
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


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one description.

    Parameters
    ----------
    tissue : str
        Its class.
    description : str
    kind : str
        ``duplicate``, ``too long`` or ``nearer to another class``.
    problem : str
        In words, with the values.
    """

    tissue: str
    description: str
    kind: str
    problem: str


def repeated_descriptions(classes: ClassScheme) -> list[Finding]:
    """Return the descriptions that repeat one before them, but for case and blanks, in any class."""
    owners: dict[str, str] = {}
    found = []
    for tissue in classes:
        for text in tissue.descriptions:
            first = owners.get(plain(text))
            if first is None:
                owners[plain(text)] = tissue.name
                continue
            same = first == tissue.name
            problem = (
                f"{tissue.name} has {text!r} twice" if same else f"{text!r} describes both {first} and {tissue.name}"
            )
            found.append(Finding(tissue.name, text, "duplicate", problem))
    return found


def plain(text: str) -> str:
    """Return a text by which two that differ in case and blanks alone are one."""
    return " ".join(text.casefold().split())


def _select(scheme: ClassScheme, only: Sequence[str], path: str | Path) -> list[TissueClass]:
    by_name = {c.name.casefold(): c for c in scheme}
    chosen = []
    for number, name in enumerate(only, start=1):
        found = by_name.get(name.casefold())
        if found is None:
            raise SettingsError(f"{path}: no class {name!r}; classes are {', '.join(scheme.names)}")
        chosen.append(TissueClass(number, found.name, found.colour, found.descriptions))
    return chosen
