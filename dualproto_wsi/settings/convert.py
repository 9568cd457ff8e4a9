"""Settings from and to plain data and TOML; unknown keys and wrong types are refused."""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from dualproto_wsi.errors import SettingsError

T = TypeVar("T")


def to_data(settings: Any) -> dict[str, Any]:
    """Return a settings dataclass as plain data (tuples become lists), ready for JSON or TOML."""
    return {
        f.name: to_data(value)
        if dataclasses.is_dataclass(value)
        else list(value)
        if isinstance(value, tuple)
        else value
        for f in dataclasses.fields(settings)
        for value in (getattr(settings, f.name),)
    }


def from_data(cls: type[T], data: dict[str, Any], where: str = "settings") -> T:
    """Build a settings dataclass from plain data.

    Parameters
    ----------
    cls : type
        A settings dataclass of this module or one like it.
    data : dict
        Values by field name; what is absent keeps its default.
    where : str
        What to call the data in an error.

    Raises
    ------
    SettingsError
        If a key is unknown, or a value has the wrong type or is out of range.
    """
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        near = difflib.get_close_matches(unknown[0], hints, 1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise SettingsError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(hints))}{meant}")
    try:
        return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()})
    except SettingsError as error:
        message = str(error)
        raise SettingsError(message if message.startswith(where) else f"{where}: {message}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise SettingsError(f"{where}: {value!r} must be a table")
        return from_data(typing.cast(type, hint), value, where)
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        hint = next(h for h in typing.get_args(hint) if h is not type(None))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise SettingsError(f"{where}: {value!r} must be a list")
        return tuple(_convert(typing.get_args(hint)[0], v, where) for v in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise SettingsError(f"{where}: {value!r} must be of type {hint.__name__}")
    return value


def load_toml(cls: type[T], path: Path) -> T:
    """Read a settings dataclass from a TOML file.

    Raises
    ------
    SettingsError
        If the file is missing, is not TOML, or has an unknown key or a wrong value.
    """
    return from_data(cls, read_toml(path), str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as plain data.

    Raises
    ------
    SettingsError
        If the file is missing, cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such settings file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read as a settings file: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error


def to_toml(data: Mapping[str, Any], notes: Mapping[tuple[str, str], str] | None = None) -> str:
    """Write settings as TOML that :func:`load_toml` reads back.

    Parameters
    ----------
    data : mapping
        Sections of values, as :func:`to_data` returns them: text, numbers, truth values and lists of those. None is
        written as a comment, since TOML has no word for it: a key that is absent means the default. Values outside a
        section come first.
    notes : mapping, optional
        A comment for some (section, key); of a value outside a section the section is empty.
    """
    loose = {key: value for key, value in data.items() if not isinstance(value, Mapping)}
    inside = {key: values for key, values in data.items() if isinstance(values, Mapping)}
    sections = []
    for section, values in ({"": loose, **inside} if loose else inside).items():
        lines = [f"# {key} is not set" if value is None else f"{key} = {_toml(value)}" for key, value in values.items()]
        texts = [(notes or {}).get((section, key), "") for key in values]
        width = max(map(len, lines), default=0)
        noted = [f"{line:<{width}}  # {text}" if text else line for line, text in zip(lines, texts, strict=True)]
        sections.append("\n".join([f"[{section}]", *noted] if section else noted) + "\n")
    return "\n".join(sections)


def _toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
