"""A checkpoint of the released DualProtoSeg code becomes a bundle that gives the same maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError, OutputError, WeightsMismatch
from dualproto_wsi.files import file_sha256
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.checkpoint import save_bundle
from dualproto_wsi.model.conch import ReleasedConchEncoder
from dualproto_wsi.model.conch_files import find_weights
from dualproto_wsi.model.conch_text import ConchTextTower, ConchTokenizer, lay_out
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.inert import read_checkpoint
from dualproto_wsi.model.released import from_released
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.model.weights import check_weights, read_tensors
from dualproto_wsi.settings import HeadSettings
from dualproto_wsi.workflow.batch.record import versions

WINDOW_PX = 224
"""Side of the images that the released code trains on, px."""

MPP = 0.25
"""Resolution of BCSS, µm per px."""

RELEASED_HEAD = HeadSettings(merge="softmax", map="finest")
"""Shape of the released head, with the merge and the map of its evaluation."""

_ADAPTER = "clip_adapter."
_ENCODERS = (f"{_ADAPTER}model.", f"{_ADAPTER}prompt_learner.model_conch.")  # the same tensors, twice
_CONTEXT = f"{_ADAPTER}prompt_learner.ctx"
_IMAGE_PROTOTYPES = "learnable_image_prototypes"
_POSITIONS = "visual.trunk.pos_embed"
_VOCABULARY = "text.token_embedding.weight"


def import_released(
    checkpoint: Path,
    out: Path,
    scheme: ClassScheme,
    weights: Path | None = None,
    tokenizer: Path | None = None,
    mpp: float = MPP,
) -> ModelCard:
    """Turn a released checkpoint into a bundle; nothing in the checkpoint is run.

    Parameters
    ----------
    checkpoint : Path
        What the released code saved: ``{"model": state dict, "cfg": …, …}``, or a state dict alone.
    out : Path
        The bundle, ``.safetensors``.
    scheme : ClassScheme
        Classes with the descriptions that it was trained with, in its order: a checkpoint does not hold them.
    weights, tokenizer : Path or None
        CONCH's files; None: see :mod:`dualproto_wsi.model.conch_files`.
    mpp : float
        Resolution of its training images, µm per px.

    Returns
    -------
    ModelCard
        Of the bundle.

    Raises
    ------
    ModelNotFound
        If a file is not there.
    WeightsMismatch
        If the checkpoint is not of that code, or was trained on another CONCH.
    DataError
        If the classes and descriptions are not as many as the checkpoint's.
    OutputError
        If the bundle cannot be written.
    """
    state = _state(checkpoint)
    _check_descriptions(state, scheme)
    head = _head(state, len(scheme), checkpoint)
    conch_path = find_weights(weights)
    conch = read_tensors(conch_path)
    _check_conch(state, conch, checkpoint, conch_path)
    encoder = ReleasedConchEncoder(conch, str(conch_path))
    tower, words = ConchTextTower(conch, str(conch_path)), ConchTokenizer(tokenizer)
    head.bank.text_features.copy_(_text_features(state, scheme, tower, words))
    card = ModelCard(
        name=checkpoint.stem,
        version="released",
        description="imported from a checkpoint of the released DualProtoSeg code (arXiv 2512.10314)",
        classes=scheme,
        encoder=encoder.name,
        encoder_hash=encoder.hash,
        head=RELEASED_HEAD,
        mpp=mpp,
        window_px=WINDOW_PX,
        stride_px=encoder.grid_px // max(RELEASED_HEAD.upsampling),
        training={"checkpoint": checkpoint.name, "sha256": file_sha256(checkpoint)},
        licence="that of the checkpoint; its encoder is CONCH, CC-BY-NC-ND 4.0",
        limits="scores are not calibrated: the released code stretches each image's scores from 0 to 1",
        created_with=versions(),
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_bundle(out, DualProtoSegmenter(encoder, head, card))
    except OSError as error:
        raise OutputError(f"{out}: cannot be written ({error}); choose another -o") from error
    return card


def _state(checkpoint: Path) -> dict[str, Tensor]:
    """Return the state dict of a released checkpoint."""
    loaded: Any = read_checkpoint(checkpoint)
    state = loaded.get("model", loaded)
    if not isinstance(state, Mapping) or not {_CONTEXT, _IMAGE_PROTOTYPES} <= set(state):
        raise WeightsMismatch(
            f"{checkpoint}: not a checkpoint of the released DualProtoSeg code: it has no {_CONTEXT} and "
            f"{_IMAGE_PROTOTYPES}"
        )
    return {key: value for key, value in state.items() if isinstance(value, Tensor)}


def _check_conch(state: Mapping[str, Tensor], conch: Mapping[str, Tensor], checkpoint: Path, weights: Path) -> None:
    """Refuse a CONCH other than the frozen one inside the checkpoint."""
    different = []
    for key, ours in conch.items():
        theirs = next((state[prefix + key] for prefix in _ENCODERS if prefix + key in state), None)
        if theirs is None or (key == _POSITIONS and theirs.shape != ours.shape):
            continue  # the released code may have resampled the position embeddings to 224 px
        if key == _VOCABULARY:
            theirs = theirs[: len(ours)]  # followed by copies of the context
        if not torch.equal(theirs, ours):
            different.append(key)
    if different:
        raise WeightsMismatch(
            f"{weights}: not the CONCH inside {checkpoint.name}: {len(different)} tensors differ "
            f"({', '.join(different[:3])}{', …' if len(different) > 3 else ''}); give the weights it was trained with"
        )


def _check_descriptions(state: Mapping[str, Tensor], scheme: ClassScheme) -> None:
    classes, prototypes = len(state[_CONTEXT]), len(state[_IMAGE_PROTOTYPES])
    given = sum(len(tissue.descriptions) for tissue in scheme)
    if (len(scheme), given) != (classes, prototypes):
        raise DataError(
            f"the vocabulary has {len(scheme)} classes with {given} descriptions, the checkpoint {classes} with "
            f"{prototypes}; give the ones it was trained with (--prompts)"
        )


def _head(state: Mapping[str, Tensor], classes: int, checkpoint: Path) -> DualProtoHead:
    """Return the checkpoint's head; its text features are still zeros."""
    empty = torch.zeros(len(state[_IMAGE_PROTOTYPES]), RELEASED_HEAD.text_dim)
    ours = from_released({key: value for key, value in state.items() if not key.startswith(_ADAPTER)}, empty)
    with torch.device("meta"):
        head = DualProtoHead(RELEASED_HEAD, ReleasedConchEncoder.dim, classes, len(empty) // classes, empty)
    advice = "only heads of the published shape can be imported"
    check_weights(ours, head.state_dict(), str(checkpoint), "the released head", advice)
    head.load_state_dict({key: value.detach().float().clone() for key, value in ours.items()}, assign=True)
    return head


def _text_features(
    state: Mapping[str, Tensor], scheme: ClassScheme, tower: ConchTextTower, tokenizer: ConchTokenizer
) -> Tensor:
    """Return one feature a description by the released layout, with the context that was learned."""
    context = state[_CONTEXT].float()
    owners = [index for index, tissue in enumerate(scheme) for _ in tissue.descriptions]
    texts = [text for tissue in scheme for text in tissue.descriptions]
    with torch.no_grad():
        return tower.released(lay_out(tokenizer(texts), owners, slots=context.shape[1]), context)
