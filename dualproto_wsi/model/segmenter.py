"""The whole model: pixels in, class logits out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import WeightsMismatch
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.encoder import ImageEncoder
from dualproto_wsi.model.heads import Head


class Card(Protocol):
    """What a model must say of itself to be run on slides and to be told in their records."""

    @property
    def name(self) -> str:
        """Which model."""

    @property
    def classes(self) -> ClassScheme:
        """Its classes, in order of its logits."""

    @property
    def mpp(self) -> float:
        """Resolution of its images, µm per model px."""

    @property
    def window_px(self) -> int:
        """Side of a window, model px."""

    @property
    def stride_px(self) -> int:
        """Side of a cell of its score map, model px."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """What features of windows are: models with an equal key make the same ones of the same pixels.

    Parameters
    ----------
    level : str
        ``head`` (what prototypes are compared with), ``encoder`` (its levels) or ``patches`` (in the space of texts).
    encoder, encoder_hash : str
        Name and hash of the image encoder.
    trunk : str
        Hash of what lies between the encoder and the features; empty where nothing does.
    """

    level: str
    encoder: str
    encoder_hash: str
    trunk: str = ""


class Segmenter(nn.Module):
    """A model that maps windows to class logits: features of the windows first, then scores of the features.

    Features can be kept and scored again, by this or by another model with the same :meth:`feature_key`.

    Attributes
    ----------
    feature_levels : tuple of str
        Levels of features that it has, from the one that is scored fastest to the one that most models share.

    Parameters
    ----------
    encoder : ImageEncoder
        Frozen.
    card : Card
        Says classes, resolution, window and stride.
    """

    feature_levels: tuple[str, ...]

    def __init__(self, encoder: ImageEncoder, card: Card) -> None:
        super().__init__()
        self.encoder = encoder
        self.card = card

    @property
    def classes(self) -> ClassScheme:
        """The classes, in order of the logits."""
        return self.card.classes

    @property
    def mpp(self) -> float:
        """Resolution of the images, µm per model px."""
        return self.card.mpp

    @property
    def window_px(self) -> int:
        """Side of a window, model px."""
        return self.card.window_px

    @property
    def stride_px(self) -> int:
        """Side of a cell of the score map, model px."""
        return self.card.stride_px

    def forward(self, images: Tensor) -> Tensor:
        """Return class logits.

        Parameters
        ----------
        images : Tensor of uint8, shape (N, H, W, 3), or of float, shape (N, 3, H, W)
            RGB, 0…255 or 0…1, at ``mpp``; H and W multiples of the encoder's step.

        Returns
        -------
        Tensor of float32, shape (N, K, H / stride_px, W / stride_px)
            Softmax over K gives probabilities.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        level = self.feature_levels[0]
        return self.score(self.embed(images, level), level)

    def embed(self, images: Tensor, level: str) -> list[Tensor]:
        """Return the features of windows.

        Parameters
        ----------
        images : Tensor
            As for :meth:`forward`.
        level : str
            One of :attr:`feature_levels`.

        Returns
        -------
        list of Tensor of float, shape (N, C, h, w)

        Raises
        ------
        ValueError
            If the shape is another.
        """
        if images.dtype == torch.uint8:
            if images.ndim != 4 or images.shape[3] != 3:
                raise ValueError(f"images are uint8 {tuple(images.shape)}; give (N, H, W, 3), RGB")
            images = images.permute(0, 3, 1, 2).float() / 255
        return self.features(images, level)

    @abstractmethod
    def features(self, images: Tensor, level: str) -> list[Tensor]:
        """Return the features of float images, (N, 3, H, W), RGB 0…1, at a level."""

    @abstractmethod
    def score(self, features: Sequence[Tensor], level: str) -> Tensor:
        """Return class logits of the features of a level, as :meth:`forward` does of images."""

    def feature_key(self, level: str) -> FeatureKey:
        """Say what the features of a level are."""
        return FeatureKey(level, self.encoder.name, self.encoder.hash)


class DualProtoSegmenter(Segmenter):
    """Encoder, head, calibration and gate.

    Logits are the head's divided by the temperature, plus the bias of each class, plus what the
    :class:`~dualproto_wsi.model.card.PresenceGate` of the card says of the classes that the window holds.

    Parameters
    ----------
    encoder : ImageEncoder
        Frozen.
    head : Head
        For the encoder's channels and the card's classes.
    card : ModelCard
        Says classes, resolution, window, calibration and gate.

    Attributes
    ----------
    gate : float
        Strength of the gate; starts as the card's, and may be set: 0 switches it off.

    Raises
    ------
    WeightsMismatch
        If the encoder is not the one that the card names, by name and hash.
    ValueError
        If the head's stride is not the card's.
    """

    feature_levels = ("head", "encoder")
    card: ModelCard
    temperature: Tensor
    bias: Tensor
    presence_bias: Tensor

    def __init__(self, encoder: ImageEncoder, head: Head, card: ModelCard) -> None:
        super().__init__(encoder, card)
        check_encoder(encoder, card)
        if encoder.grid_px != card.stride_px * head.upsampling:
            raise ValueError(
                f"the card says stride_px {card.stride_px}; an encoder grid of {encoder.grid_px} px and a head that "
                f"upsamples {head.upsampling} times give {encoder.grid_px / head.upsampling:g}"
            )
        self.head = head
        self.register_buffer("temperature", torch.tensor(card.temperature), persistent=False)
        self.register_buffer("bias", torch.tensor(card.bias).view(1, -1, 1, 1), persistent=False)
        self.gate = card.gate.strength
        presence_bias = torch.tensor(card.gate.bias or (0.0,) * len(card.classes))
        self.register_buffer("presence_bias", presence_bias, persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    def features(self, images: Tensor, level: str) -> list[Tensor]:
        """Return what the head compares prototypes with, or the encoder's levels but those that the last begins with.

        Images are float, (N, 3, H, W), RGB 0…1.
        """
        levels = self.encoder.encode(images)
        return self.head.compared(levels) if level == "head" else levels[len(self.encoder.prefixes) :]

    def score(self, features: Sequence[Tensor], level: str) -> Tensor:
        """Return calibrated logits of the features of a level."""
        if level == "encoder":
            shallow = [features[-1][:, :channels] for channels in self.encoder.prefixes]
            features = self.head.compared([*shallow, *features])
        logits, pooled = self.head.map_of(features)
        logits = logits / self.temperature + self.bias
        if not self.gate:
            return logits
        presence = F.logsigmoid(self.card.gate.scale * pooled + self.presence_bias).clamp_min(self.card.gate.floor)
        return logits + self.gate * presence[:, :, None, None]

    def feature_key(self, level: str) -> FeatureKey:
        """Say what the features of a level are; those of the head depend on its weights."""
        trunk = self.head.trunk_hash() if level == "head" else ""
        return FeatureKey(level, self.encoder.name, self.encoder.hash, trunk)


def check_encoder(encoder: ImageEncoder, card: ModelCard) -> None:
    """Check that an encoder is the one that a card names.

    Raises
    ------
    WeightsMismatch
        If name or hash differ.
    """
    if (encoder.name, encoder.hash) != (card.encoder, card.encoder_hash):
        raise WeightsMismatch(
            f"model {card.name!r} was trained on the encoder {card.encoder} with weights {card.encoder_hash}; here are "
            f"{encoder.name} {encoder.hash}; install the weights that the model was made with"
        )
