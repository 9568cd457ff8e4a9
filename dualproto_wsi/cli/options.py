"""Options that several verbs share, as named objects, and options that are fields of the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from dualproto_wsi import settings

F = TypeVar("F", bound=Callable[..., Any])

DEFAULTS = settings.to_data(settings.SegmentSettings())


class CommaList(click.ParamType[tuple[str, ...]]):
    """A list of choices separated by commas."""

    name = "list"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split and check a value."""
        if isinstance(value, tuple | list):
            return tuple(value)
        parts = tuple(part.strip() for part in str(value).split(",") if part.strip())
        wrong = [part for part in parts if part not in self._choices]
        if wrong or not parts:
            named = f"{wrong[0]!r} is not known" if wrong else "the list is empty"
            self.fail(f"{named}; choose from {', '.join(self._choices)}", param, ctx)
        return parts


def setting(flag: str, field: str, **attributes: Any) -> Callable[[F], F]:
    """Return an option that is a field of the segment settings, with the field's default.

    Parameters
    ----------
    flag : str
        ``--name``, or ``--name/--no-name``.
    field : str
        ``section.field``; the verb gets the value as ``section__field``, for :func:`segment_settings`.
    **attributes
        For ``click.option``.
    """
    section, name = field.split(".")
    default = DEFAULTS[section][name]
    shown = default not in ("", None, 0, False)
    attributes = {"default": default, "show_default": shown, **attributes}
    return click.option(flag, f"{section}__{name}", **attributes)


def segment_settings(values: Mapping[str, Any]) -> settings.SegmentSettings:
    """Build the settings from the values of options made by :func:`setting`.

    Raises
    ------
    SettingsError
        If a value is out of range.
    """
    data: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        if value is not None:
            section, name = key.split("__")
            data.setdefault(section, {})[name] = str(value) if isinstance(value, Path) else value
    return settings.from_data(settings.SegmentSettings, data)


slides_argument = click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))

out_option = click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results; made if missing."
)

mpp_option = click.option(
    "--mpp", type=float, metavar="X", help="Microns per full-resolution pixel, in place of what the file says."
)

READER = {
    "type": click.Choice(settings.READERS),
    "help": "auto: the fastest that opens the file: libjpeg-turbo, OpenSlide, TIAToolbox.",
}
reader_option = click.option("--reader", default="auto", show_default=True, **READER)  # type: ignore[arg-type]

DEVICE = {"metavar": "auto|cpu|cuda[:N]", "help": "Where the model runs."}
device_option = click.option("--device", default="auto", show_default=True, **DEVICE)  # type: ignore[arg-type]

WEIGHTS = {
    "type": click.Path(path_type=Path),
    "metavar": "FILE",
    "help": "Weights of the encoder, where they do not come with this package.  [default: $DUALPROTO_CONCH_WEIGHTS, "
    "then the Hugging Face hub]",
}
weights_option = click.option("--weights", **WEIGHTS)  # type: ignore[arg-type]

TOKENIZER = {
    "type": click.Path(path_type=Path),
    "metavar": "FILE",
    "help": "CONCH's tokenizer.  [default: $DUALPROTO_CONCH_TOKENIZER, then an installed package conch]",
}
tokenizer_option = click.option("--tokenizer", **TOKENIZER)  # type: ignore[arg-type]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
