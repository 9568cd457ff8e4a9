"""The text side of training: where the text features of a step come from.

Fixed features are computed once. Learned ones come from a frozen text tower at every step, since a context in front of
the words is trained; the released code does so. Either way a bundle stores the features, and inference needs no tower.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path

import torch
from torch import Tensor, nn

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.conch_text import ConchTextTower, ConchTokenizer, lay_out
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.heads import Head
from dualproto_wsi.model.text_encoder import SENTENCES, build_text_encoder
from dualproto_wsi.settings import HeadSettings, TextSettings

LEARNING_ENCODERS = ("conch", "conch-released")
"""Encoders whose text tower a context can be learned for, and that know the released layout."""

_TEXT_FAMILIES = (*LEARNING_ENCODERS, "open_clip")


class TextSide(nn.Module):
    """Gives the text features of the descriptions; its parameters, if any, are to be trained with the head's."""

    @abstractmethod
    def forward(self) -> Tensor:
        """Return one text feature a description, class by class, float32 (K * D, text_dim)."""


class FixedText(TextSide):
    """The same features at every step; nothing to train and nothing to keep in a checkpoint.

    Parameters
    ----------
    features : Tensor of float, shape (K * D, text_dim)
    """

    features: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features.float(), persistent=False)

    def forward(self) -> Tensor:
        """Return the features."""
        return self.features


class LearnedText(TextSide):
    """Features of descriptions behind a context that is learned, one for each class.

    The state dict holds the context alone: the tower is the user's file.

    Parameters
    ----------
    tower : ConchTextTower
        Frozen.
    ids : Tensor of int64, shape (K * D, 127)
        The descriptions, as :func:`~dualproto_wsi.model.conch_text.lay_out` makes them, with classes.
    context : Tensor of float, shape (K, slots, 768)
        Where learning starts.
    layout : str
        ``own`` or ``released``.
    """

    ids: Tensor

    def __init__(self, tower: ConchTextTower, ids: Tensor, context: Tensor, layout: str = "own") -> None:
        super().__init__()
        self.register_buffer("ids", ids, persistent=False)
        self.context = nn.Parameter(context.clone())
        self.layout = layout
        self._tower = (tower,)  # in a tuple, so that it is no part of the state dict

    def forward(self) -> Tensor:
        """Run the tower; gradients reach the context."""
        tower = self._tower[0].to(self.context.device)
        run = tower.released if self.layout == "released" else tower
        features: Tensor = run(self.ids, self.context)
        return features


def build_text_side(
    head: HeadSettings,
    text: TextSettings,
    encoder: str,
    classes: ClassScheme,
    weights: Path | None = None,
    tokenizer: Path | None = None,
    seed: int = 0,
) -> TextSide:
    """Build the text side for a head.

    Parameters
    ----------
    head : HeadSettings
        One without text prototypes gets zeros: no text tower is built for it.
    text : TextSettings
    encoder : str
        Name of the image encoder; one without a text tower (``compact``) gets the sentence encoder.
    classes : ClassScheme
        Equally many descriptions a class.
    weights, tokenizer : Path or None
        The user's files of the encoder.
    seed : int
        Of the noise that a context starts with.

    Raises
    ------
    SettingsError
        If a context or the released layout is asked for with an encoder that has none, or ``head.text_dim`` is not the
        length of the features.
    ModelNotFound, WeightsMismatch, MissingDependency
        As :func:`~dualproto_wsi.model.text_encoder.build_text_encoder`.
    """
    texts = [description for tissue in classes for description in tissue.descriptions]
    if not head.uses_text:
        return FixedText(torch.zeros(len(texts), head.text_dim))
    for name, value, off in (("slots", text.slots, 0), ("layout", text.layout, "own")):
        if value != off and encoder not in LEARNING_ENCODERS:
            raise SettingsError(
                f"text.{name} is {value!r}: the encoder {encoder!r} has no text tower for it; use the encoder "
                f"{' or '.join(LEARNING_ENCODERS)}, or set {name} to {off!r}"
            )
    if text.slots or text.layout == "released":
        side = _conch_side(text, classes, texts, weights, tokenizer, seed)
        dim = ConchTextTower.dim
    else:
        side = FixedText(_fixed_features(encoder, texts, weights, tokenizer))
        dim = side().shape[1]
    if dim != head.text_dim:
        raise SettingsError(
            f"head.text_dim is {head.text_dim}: the text features for the encoder {encoder!r} have length {dim}; set "
            f"text_dim to {dim}"
        )
    return side


def _fixed_features(encoder: str, texts: list[str], weights: Path | None, tokenizer: Path | None) -> Tensor:
    if encoder.partition(":")[0] in _TEXT_FAMILIES:
        return build_text_encoder(encoder, weights, tokenizer).features(texts)
    return build_text_encoder(SENTENCES).features(texts)


def _conch_side(
    text: TextSettings,
    classes: ClassScheme,
    texts: list[str],
    weights: Path | None,
    tokenizer: Path | None,
    seed: int,
) -> TextSide:
    tower, words = ConchTextTower.from_file(weights), ConchTokenizer(tokenizer)
    owners = [index for index, tissue in enumerate(classes) for _ in tissue.descriptions]
    ids = lay_out(words(texts), owners, text.slots)
    if not text.slots:
        with torch.no_grad():
            return FixedText(tower.released(ids))
    generator = torch.Generator().manual_seed(seed)
    context = tower.initial_context(words, len(classes), text.slots, text.start, generator)
    return LearnedText(tower, ids, context, text.layout)


@torch.no_grad()
def store_text_features(head: Head, text_side: TextSide) -> None:
    """Put the present text features into a head, so that it can be used without the text side."""
    if isinstance(head, DualProtoHead):
        head.bank.text_features.copy_(text_side())
