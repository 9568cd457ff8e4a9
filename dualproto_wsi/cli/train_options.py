"""Options that are fields of the training settings, one list for all verbs that take them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from dualproto_wsi import settings
from dualproto_wsi.cli import options
from dualproto_wsi.errors import SettingsError

F = TypeVar("F", bound=Callable[..., Any])


def _field(flag: str, path: str, **attributes: Any) -> Callable[[F], F]:
    """Return an option that is the field ``section.field`` of the training settings, or ``field`` of none."""
    return click.option(flag, f"set__{path.replace('.', '__')}", default=None, **attributes)


_OPTIONS = (
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Settings file (TOML), with a section a concern; options given here win over it.",
    ),
    _field(
        "--preset",
        "preset",
        type=click.Choice(settings.TRAIN_PRESETS),
        help="Recipe that all other settings change: this project's, or the published code's to the letter.  "
        "[default: default]",
    ),
    _field("--layout", "data.layout", type=click.Choice(settings.LAYOUTS), help="How DATA lies.  [default: brca-m2c]"),
    _field("--split", "data.split", metavar="NAME", help="Images to train on.  [default: train]"),
    _field("--test-split", "data.test_split", metavar="NAME", help="Images to score once at the end; '': none."),
    _field("--mpp", "data.mpp", type=float, metavar="X", help="Microns per pixel, in place of what the layout says."),
    _field("--vocabulary", "data.vocabulary", metavar="NAME|FILE", help="Classes and descriptions.  [default: bcss]"),
    _field("--classes", "data.classes", metavar="A,B,…", help="Classes of it to train; '': all."),
    _field("--encoder", "encoder.name", metavar="NAME", help="compact, conch or open_clip:MODEL.  [default: compact]"),
    _field("--weights", "encoder.weights", **options.WEIGHTS),
    _field("--tokenizer", "encoder.tokenizer", **options.TOKENIZER),
    _field("--precision", "encoder.precision", type=click.Choice(settings.PRECISIONS), help="Of the encoder."),
    _field("--cache", "encoder.cache", metavar="FOLDER", help="Keep the encoder's features of whole images here."),
    _field("--epochs", "optimiser.epochs", type=int, metavar="N", help="Passes over the images."),
    _field("--batch-size", "optimiser.batch_size", type=int, metavar="N", help="Images a step."),
    _field("--folds", "validation.folds", type=int, metavar="N", help="Patient-wise folds for calibration; 0: none."),
    _field("--valid-split", "validation.split", metavar="NAME", help="Images to score after every epoch; '': none."),
    _field("--valid-share", "validation.share", type=float, metavar="F", help="Share of patients to hold out instead."),
    _field(
        "--select",
        "validation.select",
        type=click.Choice(settings.SELECTIONS),
        help="Which epoch to keep: auc and loss need image-level labels alone.",
    ),
    _field(
        "--patience", "validation.patience", type=int, metavar="N", help="Stop after N epochs without a better one."
    ),
    _field("--seed", "seed", type=int, metavar="N", help="Of everything left to chance.  [default: 0]"),
    _field("--device", "device", metavar="auto|cpu|cuda[:N]", help="Where to train.  [default: auto]"),
    _field(
        "--continue",
        "continuing.model",
        metavar="MODEL",
        help="Start from this bundle or built-in model: its encoder, classes, descriptions, head, recipe and "
        "calibration; a quarter of its learning rate (half with --replay), and 10 epochs.",
    ),
    _field(
        "--corrections",
        "continuing.corrections",
        metavar="DIR|FILE",
        help="With --continue: GeoJSON of `qupath export`; DATA is then slides, and what was drawn or changed on them "
        "is learned.",
    ),
    _field(
        "--reviewed", "continuing.reviewed", is_flag=True, help="Regions of the model that nobody changed count, too."
    ),
    _field(
        "--replay",
        "continuing.replay",
        metavar="DATA",
        help="With --continue: labelled images of the model's own training, learned from again so that they are not "
        "forgotten.",
    ),
    click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other setting, as in the file: --set objective.diversity=0 --set head.merge=mean.",
    ),
)


def train_options(command: F) -> F:
    """Add ``--config``, ``--set`` and the options of the training settings to a verb; it gets them as ``**values``."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def chosen_settings(ctx: click.Context, values: Mapping[str, Any]) -> settings.TrainSettings:
    """Build the settings from the values of :func:`train_options`: the command line wins over the file.

    Raises
    ------
    SettingsError
        If the file is wrong, a value is out of range, or contradicts the model that is continued.
    """
    config: Path | None = values["config"]
    data: dict[str, Any] = settings.read_toml(config) if config else {}
    given = [_assignment(text) for text in values["assignments"]]
    for key, value in values.items():
        if key.startswith("set__") and ctx.get_parameter_source(key) == ParameterSource.COMMANDLINE:
            given.append((key.split("__")[1:], _plain(key, value)))
    for path, value in given:
        _put(data, path, value)
    where = " and ".join(["command line"] * bool(given) + [str(config)] * bool(config)) or "settings"
    continuing = data.get("continuing")
    if isinstance(continuing, Mapping) and continuing.get("model"):
        from dualproto_wsi.workflow.training.continuing import continued_settings

        return continued_settings(data, where)
    return settings.train_settings(data, where)


def _plain(key: str, value: Any) -> Any:
    if key == "set__data__classes":
        return [name.strip() for name in value.split(",") if name.strip()]
    return str(value) if isinstance(value, Path) else value


def _assignment(text: str) -> tuple[list[str], Any]:
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise SettingsError(f"--set {text}: write KEY=VALUE, such as objective.diversity=0")
    try:
        return key.strip().split("."), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip().split("."), value.strip()  # a word without quotes


def _put(data: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        below = data.setdefault(name, {})
        if not isinstance(below, dict):
            raise SettingsError(f"{'.'.join(path)}: {name!r} is no section of the settings")
        data = below
    data[path[-1]] = value
