"""Synonyms: how the parts of a tissue's look can be worded, and the sentences that hold them together.

A file is a table a class, with its sentences and a list of wordings for each part that they name::

    [Stroma]
    templates = ["{arrangement} of {colour} fibres with {nuclei}"]
    arrangement = ["wavy bundles", "a loose mesh"]
    colour = ["pale pink", "bright pink"]
    nuclei = ["slender nuclei", "few, drawn-out nuclei"]
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.templates import template_fields

BUILT_IN = Path(__file__).with_name("synonyms.toml")


@dataclass(frozen=True, slots=True)
class Synonyms:
    """Sentences of one class, and the wordings of their parts.

    Parameters
    ----------
    templates : tuple of str
        With parts in braces.
    parts : dict of str to tuple of str
        Wordings of each part.
    """

    templates: tuple[str, ...]
    parts: dict[str, tuple[str, ...]]

    def texts(self) -> list[str]:
        """Return every sentence with every combination of wordings, in order."""
        texts = []
        for template in self.templates:
            names = list(dict.fromkeys(template_fields(template)))
            for wordings in product(*(self.parts[name] for name in names)):
                texts.append(template.format(**dict(zip(names, wordings, strict=True))))
        return texts

    def sample(self, count: int) -> list[str]:
        """Return ``count`` of the texts, or all if there are fewer: always the same, spread over all of them."""
        texts = self.texts()
        return random.Random(0).sample(texts, min(count, len(texts)))


def load_synonyms(path: Path = BUILT_IN) -> dict[str, Synonyms]:
    """Read a synonyms file.

    Returns
    -------
    dict of str to Synonyms
        By the class's name, case folded.

    Raises
    ------
    SettingsError
        If it cannot be read, is not TOML, or a class has no templates, an empty part, a part that no template names, or
        a template that names a part that is not there.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: no synonyms file ({error.strerror}); leave --synonyms out for ours") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    return {name.casefold(): _synonyms(f"{path}: [{name}]", table) for name, table in data.items()}


def _synonyms(where: str, table: Any) -> Synonyms:
    if not isinstance(table, dict) or "templates" not in table:
        raise SettingsError(f"{where} has no templates; a class is a table with templates and their parts")
    for key, value in table.items():
        if not isinstance(value, list) or not value or not all(isinstance(v, str) and v.strip() for v in value):
            raise SettingsError(f"{where}: {key} is {value!r}; it must be a list of texts, none of them empty")
    parts = {key: tuple(value) for key, value in table.items() if key != "templates"}
    unused = dict(parts)
    for template in table["templates"]:
        for field in _fields(where, template):
            if field not in parts:
                raise SettingsError(f"{where}: template {template!r} names {{{field}}}; add a list {field} = [...]")
            unused.pop(field, None)
    if unused:
        raise SettingsError(f"{where}: no template names {{{min(unused)}}}; write it into one or leave the list out")
    return Synonyms(tuple(table["templates"]), parts)


def _fields(where: str, template: str) -> list[str]:
    try:
        return template_fields(template)
    except ValueError as error:
        raise SettingsError(f"{where}: template {template!r}: {error}") from error


def read_texts(path: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """Read texts that somebody or a language model wrote: a line each, ``Class: text``; ``#`` starts a comment line.

    Parameters
    ----------
    path : Path
    names : sequence of str
        The classes.

    Returns
    -------
    dict of str to list of str
        By the class's name, as in ``names``; classes without a line are left out.

    Raises
    ------
    SettingsError
        If the file cannot be read, or a line has no class of these or no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SettingsError(f"--from {path}: cannot be read ({error.strerror}); give a text file") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"--from {path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    known = {name.casefold(): name for name in names}
    texts: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        prefix, colon, text = line.partition(":")
        if not colon or not text.strip():
            raise SettingsError(f"--from {path}: line {number} is {line!r}; it must be `Class: text`")
        name = known.get(prefix.strip().casefold())
        if name is None:
            raise SettingsError(
                f"--from {path}: line {number} has the class {prefix.strip()!r}; classes are {', '.join(names)}"
            )
        texts.setdefault(name, []).append(text.strip())
    return texts
