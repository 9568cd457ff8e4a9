"""Checks that all settings share."""

from __future__ import annotations

from dualproto_wsi.errors import SettingsError


def require(condition: bool, message: str) -> None:
    """Raise a SettingsError with a message unless a condition holds."""
    if not condition:
        raise SettingsError(message)


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a SettingsError unless a value is one of the choices."""
    require(value in choices, f"{name} is {value!r}; choose one of {', '.join(choices)}")
