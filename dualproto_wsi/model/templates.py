"""Templates: sentences with fields in braces, into which descriptions and their parts are put."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Any

from dualproto_wsi.errors import SettingsError

_WORDS = ("organ", "stain")
TEMPLATE_KEYS = ("templates", *_WORDS)
"""What a vocabulary file may say about templates."""

PLAIN = "{description}"
"""The template that leaves a description as it is."""


def read_templates(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the checked ``templates``, and ``organ`` and ``stain`` where they are given.

    Parameters
    ----------
    data : dict
        A vocabulary file's.
    path : Path
        The file, for errors.

    Raises
    ------
    SettingsError
        If one has the wrong type, a template has an unknown field or none for the description, or one occurs twice, or
        organ or stain are asked for and not given or the other way round.
    """
    words = {key: data[key] for key in _WORDS if key in data}
    for key, value in words.items():
        if not isinstance(value, str) or not value.strip():
            raise SettingsError(f"{path}: {key} is {value!r}; it must be a text that is not empty, or left out")
    templates = data.get("templates", [PLAIN])
    if not isinstance(templates, list) or not templates or not all(isinstance(t, str) for t in templates):
        raise SettingsError(f"{path}: templates is {templates!r}; it must be a list of texts, or left out")
    used = {field for template in templates for field in _checked_fields(template, words, path)}
    for key in words:
        if key not in used:
            raise SettingsError(
                f"{path}: {key} is {words[key]!r}, which no template asks for; write {{{key}}} into one or leave it out"
            )
    twice = [template for template in templates if templates.count(template) > 1]
    if twice:
        raise SettingsError(f"{path}: template {twice[0]!r} occurs twice; leave one out")
    return {"templates": tuple(templates), **words}


def _checked_fields(template: str, words: dict[str, str], path: Path) -> set[str]:
    where = f"{path}: template {template!r}"
    try:
        fields = set(template_fields(template))
    except ValueError as error:
        raise SettingsError(f"{where}: {error}; a brace that is no field is written twice") from error
    for field in sorted(fields - {"description", *words}):
        if field in _WORDS:
            raise SettingsError(f'{where} asks for {{{field}}}; add {field} = "…" above the first [[classes]]')
        raise SettingsError(f"{where}: unknown field {{{field}}}; fields are {{description}}, {{organ}}, {{stain}}")
    if "description" not in fields:
        raise SettingsError(f"{where} has no {{description}}; write it where the description goes")
    return fields


def template_fields(template: str) -> list[str]:
    """Return what stands between braces in a template.

    Raises
    ------
    ValueError
        If braces do not match.
    """
    parts = [part for part in Formatter().parse(template) if part[1] is not None]
    return [
        f"{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}"
        for _, name, spec, conversion in parts
    ]
