"""Settings: one frozen dataclass a step, plain data in and out, unknown keys refused.

Every dataclass checks its own values when it is made, so a settings object that exists is valid.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from dualproto_wsi.errors import SettingsError

READERS = ("auto", "openslide", "tiatoolbox")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
FORMATS = ("geojson", "geojson.gz")
OBJECT_TYPES = ("annotation", "detection", "tile")
FRAMES = ("qupath", "slide")
NORMS = ("group", "pixel")
MERGES = ("softmax", "mean", "logsumexp")
MAPS = ("mean", "finest")
ZERO_SHOT = "zero-shot"
LAYOUTS = ("brca-m2c",)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SettingsError(message)


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    _require(value in choices, f"{name} is {value!r}; choose one of {', '.join(choices)}")


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How slides are opened and read.

    Parameters
    ----------
    mpp : float or None
        µm per level-0 px; replaces what the file says. None: the file must say it.
    reader : str
        ``auto`` (OpenSlide where it opens the file, else TIAToolbox), ``openslide`` or ``tiatoolbox``.
    workers : int
        Threads that read ahead.
    """

    mpp: float | None = None
    reader: str = "auto"
    workers: int = 2

    def __post_init__(self) -> None:
        _require(
            self.mpp is None or 0.01 <= self.mpp <= 100,
            f"mpp is {self.mpp}; microns per pixel lie between 0.01 and 100",
        )
        _one_of("reader", self.reader, READERS)
        _require(1 <= self.workers <= 256, f"workers is {self.workers}; use 1 to 256")


@dataclass(frozen=True, slots=True)
class TissueSettings:
    """How tissue is told from glass.

    Parameters
    ----------
    mpp : float
        Resolution of the mask, µm per px.
    min_area_mm2 : float
        Smaller pieces of tissue are ignored, mm².
    max_hole_mm2 : float
        Smaller holes in tissue are filled, mm².
    """

    mpp: float = 4.0
    min_area_mm2: float = 0.01
    max_hole_mm2: float = 0.0005

    def __post_init__(self) -> None:
        _require(0.5 <= self.mpp <= 64, f"tissue mpp is {self.mpp}; use 0.5 to 64")
        _require(self.min_area_mm2 >= 0, f"min_area_mm2 is {self.min_area_mm2}; it cannot be negative")
        _require(self.max_hole_mm2 >= 0, f"max_hole_mm2 is {self.max_hole_mm2}; it cannot be negative")


@dataclass(frozen=True, slots=True)
class TilingSettings:
    """How windows cover the tissue.

    Parameters
    ----------
    overlap : float
        Share of a window's side that it shares with its neighbour, 0…0.75.
    """

    overlap: float = 0.25

    def __post_init__(self) -> None:
        _require(
            0 <= self.overlap <= 0.75,
            f"overlap is {self.overlap}; use 0 to 0.75 (a share of the window's side)",
        )


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """Where and how the model runs.

    Parameters
    ----------
    model : str
        Name of a built-in model, the path of a bundle, or ``zero-shot``.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    precision : str
        ``auto`` (bf16 on a GPU that has it, else fp16; fp32 on a CPU), ``fp32``, ``bf16`` or ``fp16``.
    batch_size : int
        Windows a forward pass; 0 chooses by device.
    compile : bool
        Whether torch compiles the model first: a minute once, then faster; needs a C++ compiler.
    encoder : str
        Encoder of ``zero-shot``: ``conch`` or ``open_clip:MODEL[:PRETRAINED|FILE]``.
    prompts : str
        Classes and descriptions of ``zero-shot``: a vocabulary's name or file.
    weights, tokenizer : str
        The user's files of a gated encoder; empty looks in the usual places.
    """

    model: str = "builtin"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 0
    compile: bool = False
    encoder: str = ""
    prompts: str = ""
    weights: str = ""
    tokenizer: str = ""

    def __post_init__(self) -> None:
        if self.model == ZERO_SHOT:
            _require(bool(self.encoder), "zero-shot needs an encoder: --encoder conch, or open_clip:MODEL")
            _require(bool(self.prompts), "zero-shot needs prompts: --prompts bcss, or a file of your own classes")
        else:
            for name in ("encoder", "prompts", "tokenizer"):
                _require(not getattr(self, name), f"{name} is for model {ZERO_SHOT} only; a bundle has its own")
        _require(
            self.device in ("auto", "cpu", "cuda") or (self.device.startswith("cuda:") and self.device[5:].isdigit()),
            f"device is {self.device!r}; use auto, cpu, cuda or cuda:N",
        )
        _one_of("precision", self.precision, PRECISIONS)
        _require(
            0 <= self.batch_size <= 4096,
            f"batch_size is {self.batch_size}; use 1 to 4096, or 0 for automatic",
        )


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """What is written.

    Parameters
    ----------
    formats : tuple of str
        Polygon files: ``geojson``, ``geojson.gz``.
    object_type : str
        QuPath's object type of each region.
    frame : str
        ``qupath`` (origin where QuPath crops the slide) or ``slide`` (origin of the whole file).
    overlay : bool
        Whether ``overlay.png`` is made.
    """

    formats: tuple[str, ...] = ("geojson",)
    object_type: str = "annotation"
    frame: str = "qupath"
    overlay: bool = True

    def __post_init__(self) -> None:
        _require(bool(self.formats), f"formats is empty; choose from {', '.join(FORMATS)}")
        for name in self.formats:
            _one_of("formats", name, FORMATS)
        _require(len(set(self.formats)) == len(self.formats), f"formats names one twice: {', '.join(self.formats)}")
        _one_of("object_type", self.object_type, OBJECT_TYPES)
        _one_of("frame", self.frame, FRAMES)


@dataclass(frozen=True, slots=True)
class SegmentSettings:
    """All settings of the segment job, a section a step."""

    read: ReadSettings = field(default_factory=ReadSettings)
    tissue: TissueSettings = field(default_factory=TissueSettings)
    tiling: TilingSettings = field(default_factory=TilingSettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    output: OutputSettings = field(default_factory=OutputSettings)


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """Shape of the DualProto head; the defaults are the published model's.

    Parameters
    ----------
    text_dim : int
        Length of a text feature.
    prototype_dim : int
        Length of a prototype and of a refined feature.
    refiner_width, refiner_blocks : int
        Channels and number of residual blocks of the refiner.
    refiner_groups, pyramid_groups : int
        Groups of the group normalisation.
    norm : str
        ``group`` (statistics over the window, as published) or ``pixel`` (statistics over the channels of a group at
        each place, so that a score does not depend on the window around it).
    upsampling : tuple of int
        Side of each scale's map as a multiple of the encoder's grid.
    channels : tuple of int
        Channels of each scale.
    text, image : bool
        Which prototypes are in the bank; at least one.
    merge : str
        How the prototypes of a class become its score: ``softmax`` (softmax-weighted sum), ``mean`` or ``logsumexp``.
    map : str
        How the scales become the map: ``mean`` of all, brought to the finest one, or the ``finest`` alone.
    dropout : float
        Dropout in the refiner while training.
    """

    text_dim: int = 512
    prototype_dim: int = 512
    refiner_width: int = 256
    refiner_blocks: int = 8
    refiner_groups: int = 16
    pyramid_groups: int = 16
    norm: str = "group"
    upsampling: tuple[int, ...] = (2, 4, 8, 16)
    channels: tuple[int, ...] = (256, 128, 64, 32)
    text: bool = True
    image: bool = True
    merge: str = "softmax"
    map: str = "mean"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        _one_of("norm", self.norm, NORMS)
        _one_of("merge", self.merge, MERGES)
        _one_of("map", self.map, MAPS)
        _require(
            self.text or self.image,
            "text and image are both off; a head needs prototypes of one kind at least",
        )
        _require(
            len(self.upsampling) == len(self.channels) > 0,
            f"upsampling {self.upsampling} and channels {self.channels} must name the same number of scales",
        )
        _require(0 <= self.dropout < 1, f"dropout is {self.dropout}; use 0 to below 1")
        _require(self.refiner_blocks >= 0, f"refiner_blocks is {self.refiner_blocks}; it cannot be negative")
        for name, number in {"text_dim": self.text_dim, "upsampling": min(self.upsampling)}.items():
            _require(number >= 1, f"{name} is {number}; it must be 1 or more")
        least = 4 if self.norm == "pixel" else 1
        grouped = [("refiner_width", self.refiner_width, self.refiner_groups)]
        grouped += [("prototype_dim", self.prototype_dim, self.refiner_groups)]
        grouped += [("channels", channels, self.pyramid_groups) for channels in self.channels]
        for name, size, groups in grouped:
            _require(
                groups >= 1 and size % groups == 0 and size // groups >= least,
                f"{name} {size} does not divide into {groups} groups of {least} or more, as norm {self.norm!r} needs",
            )


def _compact_head() -> HeadSettings:
    return HeadSettings(
        text_dim=384,
        prototype_dim=128,
        refiner_width=64,
        refiner_blocks=0,
        refiner_groups=8,
        pyramid_groups=8,
        norm="pixel",
        upsampling=(1, 1, 2, 2),
        channels=(64, 64, 64, 64),
        map="finest",
    )


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a head is trained from the image-level labels of crops.

    Parameters
    ----------
    layout : str
        How the training data lies on disk: ``brca-m2c``.
    split, test_split : str
        Which images to train on, and which to score once at the end (those of patients not trained on).
    vocabulary : str
        Name of a built-in vocabulary or path of one; it says names, colours and descriptions.
    classes : tuple of str
        Classes of the vocabulary to train, in this order; empty takes all.
    encoder : str
        Frozen image encoder.
    head : HeadSettings
        Shape of the head.
    crop_sizes : tuple of int
        Sides of the labelled crops, px.
    min_points : int
        Points from which on a class counts as present in a crop.
    window_px : int
        Side of the window cut from each image in each step, px; inference is not tied to it.
    epochs, batch_size : int
        Passes over the images, and images a step.
    learning_rate, weight_decay : float
        Of AdamW; the rate falls to 0 along a cosine.
    sharpness : float
        How scores are pooled over a crop: r of log(mean(exp(r · score))) / r.
    balance : float
        0: all crops weigh alike; 1: crops with and without a class weigh the same in sum.
    absence : float
        Weight of the term that keeps every place free of classes that a crop around it does not hold.
    diversity : float
        Weight of the term that keeps prototypes of a class apart.
    stain : float
        Strength of the stain augmentation.
    folds : int
        Patient-wise folds that give the calibration and the cross-validated scores; 0 does without.
    seed : int
        Of everything that is left to chance.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    layout: str = "brca-m2c"
    split: str = "train"
    test_split: str = "val"
    vocabulary: str = "bcss"
    classes: tuple[str, ...] = ("Tumor", "Stroma", "Lymphocyte")
    encoder: str = "compact"
    head: HeadSettings = field(default_factory=_compact_head)
    crop_sizes: tuple[int, ...] = (64, 96)
    min_points: int = 2
    window_px: int = 224
    epochs: int = 40
    batch_size: int = 3
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    sharpness: float = 1.0
    balance: float = 0.5
    absence: float = 0.3
    diversity: float = 0.1
    stain: float = 0.15
    folds: int = 4
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        _one_of("layout", self.layout, LAYOUTS)
        _require(
            bool(self.crop_sizes) and min(self.crop_sizes) >= 8,
            f"crop_sizes is {self.crop_sizes}; name sizes of at least 8 px",
        )
        _require(
            self.window_px >= min(self.crop_sizes, default=0),
            f"window_px is {self.window_px}; the smallest of crop_sizes {self.crop_sizes} must fit into it",
        )
        for name in ("min_points", "epochs", "batch_size"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "sharpness"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("weight_decay", "balance", "absence", "diversity", "stain"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it cannot be negative")
        _require(self.folds == 0 or self.folds >= 2, f"folds is {self.folds}; use 0, or 2 and more")


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
        raise SettingsError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(sorted(hints))}")
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
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"{path}: no such settings file") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    return from_data(cls, data, str(path))
