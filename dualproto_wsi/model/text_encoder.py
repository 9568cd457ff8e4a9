"""Text features by name of the encoder, and a cache of them, so that a text tower is built once for each new text."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualproto_wsi.errors import ModelNotFound, SettingsError
from dualproto_wsi.files import replacing

logger = logging.getLogger(__name__)


class TextEncoder(Protocol):
    """Texts into the space of an image encoder's patch embeddings.

    Attributes
    ----------
    dim : int
        Length of a feature.
    max_tokens : int
        Places a text may take, with beginning and end; what is beyond is cut.
    """

    dim: int
    max_tokens: int

    def features(self, texts: Sequence[str]) -> Tensor:
        """Return one feature a text, float32 (P, dim), of length 1."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many places each text takes, with beginning and end, before it is cut."""


SENTENCES = "sentences"
"""Name of the sentence encoder of the extra ``train``: texts alone, no images."""


def build_text_encoder(name: str, weights: Path | None = None, tokenizer: Path | None = None) -> TextEncoder:
    """Build the text side of an encoder.

    Parameters
    ----------
    name : str
        The encoder's name, as for :func:`~dualproto_wsi.model.encoder.build_encoder`, or :data:`SENTENCES`.
    weights, tokenizer : Path or None
        The user's files; None: looked for where the encoder's documentation says.

    Raises
    ------
    ModelNotFound
        If the encoder has no text side, or a file is not there.
    WeightsMismatch
        If a file is another model's.
    SettingsError
        If a file is given for an encoder that comes with its own.
    MissingDependency
        If the sentence encoder is not installed.
    """
    family = name.partition(":")[0]
    if name == SENTENCES:
        from dualproto_wsi.model.text import SentenceEncoder

        for option, file in (("--weights", weights), ("--tokenizer", tokenizer)):
            if file:
                raise SettingsError(f"{option} {file}: {name} comes with its own; leave the option out")
        return SentenceEncoder()
    if family in ("conch", "conch-released"):
        from dualproto_wsi.model.conch_text import ConchText

        return ConchText(weights, tokenizer)
    if family == "open_clip":
        from dualproto_wsi.model.open_clip_encoder import OpenClipText

        if tokenizer:
            raise SettingsError(f"--tokenizer {tokenizer}: {name} comes with its own; leave the option out")
        return OpenClipText(name, weights)
    raise ModelNotFound(f"the encoder {name!r} has no text tower; use conch or open_clip:MODEL")


def text_features(
    name: str,
    image_hash: str,
    texts: Sequence[str],
    weights: Path | None = None,
    tokenizer: Path | None = None,
    cache: Path | None = None,
) -> Tensor:
    """Return text features for an image encoder; the text tower is built only for texts that are not in the cache.

    Parameters
    ----------
    name : str
        The encoder's name.
    image_hash : str
        Hash of the image encoder; names the cache's file.
    texts : sequence of str
        P descriptions.
    weights, tokenizer : Path or None
        As for :func:`build_text_encoder`.
    cache : Path or None
        Folder of the cache; None: no cache.

    Returns
    -------
    Tensor of float32, shape (P, dim)
        Of length 1.

    Raises
    ------
    ModelNotFound, WeightsMismatch, SettingsError
        As :func:`build_text_encoder`.
    """

    def compute(missing: list[str]) -> Tensor:
        return build_text_encoder(name, weights, tokenizer).features(missing)

    return cached_features(_cache_file(cache, image_hash), texts, compute)


def known_features(image_hash: str, texts: Sequence[str], cache: Path | None) -> Tensor | None:
    """Return text features for an image encoder from the cache alone; None if one is not in it."""
    known = _read(_cache_file(cache, image_hash))
    if not all(_key(text) in known for text in texts):
        return None
    return torch.stack([known[_key(text)] for text in texts])


def _cache_file(cache: Path | None, image_hash: str) -> Path | None:
    return cache / f"texts-{image_hash}.safetensors" if cache else None


def cached_features(file: Path | None, texts: Sequence[str], compute: Callable[[list[str]], Tensor]) -> Tensor:
    """Return features from a file of them, and add those that it lacks.

    A file that cannot be read is made anew; one that cannot be written costs the time to compute them again.

    Parameters
    ----------
    file : Path or None
        A ``.safetensors`` file; None: compute all.
    texts : sequence of str
        P texts.
    compute : callable
        Turns texts into features, (p, dim).

    Returns
    -------
    Tensor of float32, shape (P, dim)
    """
    known = _read(file)
    missing = [text for text in dict.fromkeys(texts) if _key(text) not in known]
    if missing:
        known |= {_key(text): feature for text, feature in zip(missing, compute(missing), strict=True)}
        _write(file, known)
    return torch.stack([known[_key(text)] for text in texts])


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(file: Path | None) -> dict[str, Tensor]:
    if file is None or not file.is_file():
        return {}
    try:
        return dict(load_file(file))
    except SafetensorError as error:
        logger.warning("%s: damaged (%s); made anew", file, error)
        return {}


def _write(file: Path | None, known: dict[str, Tensor]) -> None:
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            save_file({key: feature.detach().float().contiguous().clone() for key, feature in known.items()}, temporary)
    except OSError as error:
        logger.warning("%s: text features cannot be kept (%s)", file, error)
