"""The model card: everything that a bundle says of itself besides its tensors, as plain data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.settings import HeadSettings, from_data, to_data

FORMAT = 1
"""Version of the card's layout; a reader refuses every other."""

_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "version": (str,),
    "description": (str,),
    "classes": (list,),
    "encoder": (str,),
    "encoder_hash": (str,),
    "head": (dict,),
    "mpp": (float, int),
    "window_px": (int,),
    "stride_px": (int,),
    "temperature": (float, int),
    "bias": (list,),
    "gate": (dict,),
    "training": (dict,),
    "scores": (dict,),
    "licence": (str,),
    "limits": (str,),
    "created_with": (dict,),
    "adapted_from": (str,),
}

_OPTIONAL = {"gate", "adapted_from"}  # bundles of before have none


@dataclass(frozen=True, slots=True)
class PresenceGate:
    """How far a window's own answer to "does it hold the class at all" counts in its map.

    To every logit of class k ``strength * max(log(sigmoid(scale * pooled_k + bias_k)), floor)`` is added; pooled_k is
    the class's score of the whole window. Windows overlap, and what is added is blended with their logits: a gate fades
    from window to window. It is the soft form of the published code's multiplication by the image's labels.

    Parameters
    ----------
    strength : float
        0 switches the gate off; 1 takes the presence for a factor of the class's probability.
    scale : float
        Calibration of the presence: pooled scores are multiplied by it, …
    bias : tuple of float
        … and this is added, one a class. Empty means zeros.
    floor : float
        Least logarithm of a presence: how far a class can be pushed down, below 0.

    Raises
    ------
    SettingsError
        If a value is out of range.
    """

    strength: float = 0.0
    scale: float = 1.0
    bias: tuple[float, ...] = ()
    floor: float = -4.0

    def __post_init__(self) -> None:
        checks = {
            f"strength is {self.strength}; use 0 (off) to 10": 0 <= self.strength <= 10,
            f"scale is {self.scale}; it must be above 0": 0 < self.scale < math.inf,
            f"bias is {list(self.bias)}; it must be finite": all(map(math.isfinite, self.bias)),
            f"floor is {self.floor}; it must be below 0": -math.inf < self.floor < 0,
        }
        for problem, holds in checks.items():
            if not holds:
                raise SettingsError(f"gate: {problem}")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a model is, what it was trained on, and what it is not for.

    Parameters
    ----------
    name, version, description : str
        Which model, and one line about it.
    classes : ClassScheme
        Names, colours and descriptions; every class has the same number of descriptions, at least one.
    encoder, encoder_hash : str
        Registered name of the image encoder, and the hash of the weights that the head was trained on.
    head : HeadSettings
        Shape of the head.
    mpp : float
        Resolution of the windows, µm per model px.
    window_px : int
        Side of a window, model px.
    stride_px : int
        Side of a cell of the score map, model px.
    temperature : float
        Calibration: logits are divided by it, …
    bias : tuple of float
        … and this is added, one a class. Empty means zeros.
    gate : PresenceGate
        How far the classes that a window holds count in its map; off unless the bundle says so.
    training : dict
        Training data and settings, plain data.
    scores : dict
        What was measured, on what, plain data.
    licence : str
        Licence of the weights.
    limits : str
        What the model cannot do.
    created_with : dict of str to str
        Versions of the packages that made it.
    adapted_from : str
        Hash of the encoder's weights before they were adapted to the training data; the adapted ones, which
        ``encoder_hash`` is of, are in the bundle. Empty: the encoder is as it comes, and not in the bundle.

    Raises
    ------
    SettingsError
        If values contradict each other or are out of range.
    """

    name: str
    version: str
    description: str
    classes: ClassScheme
    encoder: str
    encoder_hash: str
    head: HeadSettings
    mpp: float
    window_px: int
    stride_px: int
    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    gate: PresenceGate = field(default_factory=PresenceGate)
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    licence: str = ""
    limits: str = ""
    created_with: dict[str, str] = field(default_factory=dict)
    adapted_from: str = ""

    def __post_init__(self) -> None:
        if not self.bias:
            object.__setattr__(self, "bias", (0.0,) * len(self.classes))
        for problem in self._problems():
            raise SettingsError(f"model card {self.name!r}: {problem}")

    def _problems(self) -> list[str]:
        counts = {len(c.descriptions) for c in self.classes}
        checks = {
            "name must not be empty": bool(self.name.strip()),
            f"mpp is {self.mpp}; microns per pixel must be above 0": 0 < self.mpp < math.inf,
            f"window_px {self.window_px} must be a multiple of stride_px {self.stride_px}, both above 0": (
                self.stride_px > 0 and self.window_px > 0 and self.window_px % self.stride_px == 0
            ),
            f"temperature is {self.temperature}; it must be above 0": 0 < self.temperature < math.inf,
            f"bias has {len(self.bias)} finite values for {len(self.classes)} classes": (
                len(self.bias) == len(self.classes) and all(map(math.isfinite, self.bias))
            ),
            f"gate has a bias of {len(self.gate.bias)} values for {len(self.classes)} classes": (
                len(self.gate.bias) in (0, len(self.classes))
            ),
            f"classes have {sorted(counts)} descriptions; all need the same number, at least 1": (
                len(counts) == 1 and 0 not in counts
            ),
        }
        return [problem for problem, holds in checks.items() if not holds]

    @property
    def descriptions(self) -> int:
        """Descriptions a class, D."""
        return len(self.classes.classes[0].descriptions)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, with the version of its layout."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data |= {"classes": self.classes.to_json(), "head": to_data(self.head), "bias": list(self.bias)}
        data["gate"] = to_data(self.gate)
        return {"format": FORMAT, **data}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelCard:
        """Build a card from :meth:`to_json`'s data.

        Raises
        ------
        SettingsError
            If the layout's version is another, or a key is unknown, missing, of the wrong type or out of range.
        """
        data = dict(data)
        version = data.pop("format", None)
        if version != FORMAT:
            raise SettingsError(f"model card: its format is {version!r}; this version reads {FORMAT}")
        for word, keys in (("unknown", set(data) - set(_TYPES)), ("missing", set(_TYPES) - _OPTIONAL - set(data))):
            if keys:
                raise SettingsError(f"model card: {word} key {', '.join(sorted(keys))}")
        data = {"gate": {}, "adapted_from": ""} | data
        for key, types in _TYPES.items():
            if not isinstance(data[key], types) or isinstance(data[key], bool):
                raise SettingsError(f"model card: {key} must be of type {types[0].__name__}, not {data[key]!r}")
        try:
            data["bias"] = tuple(float(value) for value in data["bias"])
        except (TypeError, ValueError) as error:
            raise SettingsError(f"model card: bias must be a list of numbers, not {data['bias']!r}") from error
        data["classes"] = ClassScheme.from_json(data["classes"])
        data["gate"] = from_data(PresenceGate, data["gate"], "model card: gate")
        data["head"] = from_data(HeadSettings, data["head"], "model card: head")
        return cls(**data)
