"""Bundles: one safetensors file with the head's tensors, and the model card as JSON in its header.

Nothing in a bundle is executed. The image encoder is not inside: the card names it by name and hash. Only where an
encoder was adapted to the training data its weights are, as tensors whose names begin with ``encoder.``
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualproto_wsi.errors import BundleInvalid, ModelNotFound, SettingsError
from dualproto_wsi.files import replacing
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.encoder import ImageEncoder, build_encoder
from dualproto_wsi.model.heads import build_head
from dualproto_wsi.model.segmenter import DualProtoSegmenter

__all__ = [
    "DEFAULT",
    "Bundle",
    "ModelCard",
    "find_model",
    "list_models",
    "load_model",
    "read_bundle",
    "read_card",
    "save_bundle",
    "write_bundle",
]

DEFAULT = "compact-breast"
"""Name of the model that ``builtin`` means."""

_SUFFIX = ".safetensors"
_BUNDLES = Path(__file__).parent / "bundles"
_CARD_KEY = "dualproto_wsi.card"
_ENCODER = "encoder."


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """What a bundle holds.

    Parameters
    ----------
    card : ModelCard
    head : mapping of str to Tensor
        The state of the head.
    encoder : mapping of str to Tensor
        The weights of the encoder where it was adapted to the training data; else none.
    """

    card: ModelCard
    head: Mapping[str, Tensor]
    encoder: Mapping[str, Tensor] = field(default_factory=dict)


def list_models() -> tuple[str, ...]:
    """Return the names of the built-in models."""
    return tuple(sorted(path.stem for path in _BUNDLES.glob(f"*{_SUFFIX}")))


def find_model(name: str) -> Path:
    """Return the bundle file of ``builtin``, a built-in model's name or a path.

    Raises
    ------
    ModelNotFound
        If there is none.
    """
    stem = DEFAULT if name == "builtin" else name
    if stem in list_models():
        return _BUNDLES / f"{stem}{_SUFFIX}"
    path = Path(name)
    if name != "builtin" and path.is_file():
        return path
    known = ", ".join(list_models()) or "none"
    raise ModelNotFound(f"{name}: neither a model bundle file nor a built-in model; built in: {known}")


def save_bundle(path: Path, segmenter: DualProtoSegmenter) -> None:
    """Write head and card; the file appears whole or not at all, and its bytes depend on the content alone.

    Parameters
    ----------
    path : Path
        Ends in ``.safetensors``.
    segmenter : DualProtoSegmenter
        Its head's tensors and its card are written, and the weights of an encoder that was adapted.
    """
    write_bundle(path, Bundle(segmenter.card, segmenter.head.state_dict(), segmenter.encoder.adapted_weights()))


def write_bundle(path: Path, bundle: Bundle) -> None:
    """Write what :func:`read_bundle` returns; as :func:`save_bundle`."""
    tensors = {**bundle.head, **{f"{_ENCODER}{name}": tensor for name, tensor in bundle.encoder.items()}}
    plain = {name: tensor.detach().cpu().float().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(bundle.card.to_json(), ensure_ascii=False, allow_nan=False, sort_keys=True)
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata={_CARD_KEY: text})
        temporary.chmod(0o644)  # safetensors makes it the owner's alone


def read_bundle(path: Path) -> Bundle:
    """Read card and tensors of a bundle as they are; no encoder is built. Errors as for :func:`read_card`."""
    card, tensors = read_card(path), load_file(path)
    head = {name: tensor for name, tensor in tensors.items() if not name.startswith(_ENCODER)}
    encoder = {name.removeprefix(_ENCODER): t for name, t in tensors.items() if name.startswith(_ENCODER)}
    return Bundle(card, head, encoder)


def read_card(path: Path) -> ModelCard:
    """Read the card of a bundle; no tensor is loaded.

    Raises
    ------
    ModelNotFound
        If there is no such file.
    BundleInvalid
        If it is not a safetensors file, has no card, or a card of another layout.
    """
    if not path.is_file():
        raise ModelNotFound(f"{path}: no such model bundle")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise BundleInvalid(f"{path}: not a safetensors file, or a damaged one ({error})") from error
    if _CARD_KEY not in metadata:
        raise BundleInvalid(f"{path}: a safetensors file without a model card; only bundles of dualproto-wsi load")
    try:
        data = json.loads(metadata[_CARD_KEY])
        if not isinstance(data, dict):
            raise BundleInvalid(f"{path}: its model card is not a JSON object")
        return ModelCard.from_json(data)
    except (json.JSONDecodeError, SettingsError) as error:
        raise BundleInvalid(f"{path}: {error}") from error


def load_model(
    name_or_path: str | Path, weights: Path | None = None, encoder: ImageEncoder | None = None
) -> DualProtoSegmenter:
    """Load a model on the CPU, in evaluation mode.

    Parameters
    ----------
    name_or_path : str or Path
        ``builtin``, the name of a built-in model, or a bundle file.
    weights : Path or None
        The user's weights of the encoder, as for :func:`~dualproto_wsi.model.encoder.build_encoder`.
    encoder : ImageEncoder or None
        What to use, as it is, instead of building the one that the card names.

    Raises
    ------
    ModelNotFound
        If there is no such model, or no encoder of the name that its card says.
    BundleInvalid
        If the file is not a bundle, or a tensor is missing, unknown or of another shape.
    WeightsMismatch
        If the installed encoder's weights are not those that the head was trained on, or were adapted to.
    """
    path = find_model(str(name_or_path))
    bundle = read_bundle(path)
    card, tensors = bundle.card, bundle.head
    if encoder is None:
        encoder = build_encoder(card.encoder, weights)
        if card.adapted_from:
            encoder.take(_adapted(bundle, path))
    with torch.device("meta"):
        head = build_head(card.head, encoder.dim, len(card.classes), card.descriptions)
    _check(tensors, head.state_dict(), path)
    head.load_state_dict(tensors, assign=True)
    return DualProtoSegmenter(encoder, head, card)


def _adapted(bundle: Bundle, path: Path) -> Mapping[str, Tensor]:
    """Return the weights of the encoder that a bundle's head was trained with."""
    if not bundle.encoder:
        raise BundleInvalid(
            f"{path}: its encoder was adapted, but is not in the file; what `fed export` writes holds the head alone, "
            "and is for `fed aggregate`"
        )
    return bundle.encoder


def _check(tensors: Mapping[str, Tensor], needed: dict[str, Tensor], path: Path) -> None:
    for word, keys in (("no tensor", set(needed) - set(tensors)), ("an unknown tensor", set(tensors) - set(needed))):
        if keys:
            raise BundleInvalid(f"{path}: {word} {', '.join(sorted(keys)[:3])}; its card describes another head")
    for key, tensor in needed.items():
        found = tensors[key]
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise BundleInvalid(
                f"{path}: tensor {key} is {found.dtype} {tuple(found.shape)}; "
                f"its card needs {tensor.dtype} {tuple(tensor.shape)}"
            )
