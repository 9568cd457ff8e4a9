"""Settings of an ablation: the same training again and again, each time with something changed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.settings.checks import one_of
from dualproto_wsi.settings.convert import read_toml
from dualproto_wsi.settings.refine import REFINERS
from dualproto_wsi.settings.train import TrainSettings
from dualproto_wsi.settings.train_presets import overlay, train_settings

_KEYS = ("seeds", "probe", "refiners", "base", "variants", "grid")


@dataclass(frozen=True, slots=True)
class Variant:
    """One row of the table.

    Parameters
    ----------
    name : str
        What it is called.
    settings : TrainSettings
        Its training; the seed is replaced.
    """

    name: str
    settings: TrainSettings


@dataclass(frozen=True, slots=True)
class AblateSettings:
    """What is trained and compared.

    Parameters
    ----------
    variants : tuple of Variant
    seeds : tuple of int
        Each variant is trained with each.
    probe : bool
        Also score a linear classifier trained on the points or masks themselves.
    refiners : tuple of str
        How maps are refined on the test split: of ``none``, ``fast`` and ``crf``, a row each.
    """

    variants: tuple[Variant, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    probe: bool = False
    refiners: tuple[str, ...] = ("none",)


def read_ablation(path: Path) -> AblateSettings:
    """Read an ablation from a TOML file.

    An example::

        seeds = [0, 1, 2]
        probe = true
        refiners = ["none", "fast"]
        [base]                            # any setting of `train`, for all variants
        optimiser.epochs = 20
        [variants."text only"]            # any setting of `train`, on top of that
        head.image = false
        [grid]                            # each variant with each combination
        "data.descriptions" = [1, 10]

    Raises
    ------
    SettingsError
        If the file cannot be read, a key is unknown, or a value is wrong.
    """
    data = read_toml(path)
    unknown = sorted(set(data) - set(_KEYS))
    if unknown:
        raise SettingsError(f"{path}: unknown key {unknown[0]!r}; known are {', '.join(_KEYS)}")
    base, named, grid = (_table(data, key, path) for key in ("base", "variants", "grid"))
    variants = []
    for name, changes in (named or {"all": {}}).items():
        if not isinstance(changes, Mapping):
            raise SettingsError(f"{path}: variants.{name} is {changes!r}; it must be a table of settings")
        for combination in _combinations(grid, path):
            told = ", ".join([name, *(f"{key}={value}" for key, value in combination.items())])
            settings = overlay(overlay(base, changes), _nested(combination))
            variants.append(Variant(told, train_settings(settings, f"{path}: {told}")))
    return AblateSettings(tuple(variants), _seeds(data, path), _flag(data, path), _refiners(data, path))


def _table(data: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    value = data.get(key, {})
    if not isinstance(value, dict):
        raise SettingsError(f"{path}: {key} is {value!r}; it must be a table")
    return value


def _combinations(grid: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise SettingsError(f"{path}: grid.{key} is {values!r}; it must be a list of values, its key in quotes")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *sections, last = key.split(".")
        inner: dict[str, Any] = {last: value}
        for section in reversed(sections):
            inner = {section: inner}
        nested = overlay(nested, inner)
    return nested


def _seeds(data: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    seeds = data.get("seeds", [0, 1, 2])
    whole = isinstance(seeds, list) and all(isinstance(seed, int) and seed >= 0 for seed in seeds)
    if not whole or not seeds or len(set(seeds)) < len(seeds):
        raise SettingsError(f"{path}: seeds is {seeds!r}; it must be a list of different whole numbers from 0 on")
    return tuple(seeds)


def _flag(data: Mapping[str, Any], path: Path) -> bool:
    probe = data.get("probe", False)
    if not isinstance(probe, bool):
        raise SettingsError(f"{path}: probe is {probe!r}; it must be true or false")
    return probe


def _refiners(data: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    refiners = data.get("refiners", ["none"])
    if not isinstance(refiners, list) or not refiners:
        raise SettingsError(f"{path}: refiners is {refiners!r}; it must be a list of {', '.join(REFINERS)}")
    for refiner in refiners:
        one_of(f"{path}: refiner", refiner, REFINERS)
    return tuple(refiners)
