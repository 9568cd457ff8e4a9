"""What the released code of DualProtoSeg does: names and first values of its weights, and scores to probabilities."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dualproto_wsi.errors import WeightsMismatch
from dualproto_wsi.model.head import DualProtoHead

_UNUSED = ("global_img_proj.weight", "contrastive_temperature", "prototypes", "class_prototypes")

_RENAMED = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"learnable_image_prototypes", "bank.image"),
        (r"text_proj\.(weight|bias)", r"bank.project_text.\1"),
        (r"shared_decoder\.proj\.0\.(\w+)", r"refiner.project.\1"),
        (r"shared_decoder\.proj\.1\.(\w+)", r"refiner.project_norm.\1"),
        (r"shared_decoder\.blocks\.(\d+)\.0\.(\w+)", r"refiner.blocks.\1.conv1.\2"),
        (r"shared_decoder\.blocks\.(\d+)\.1\.(\w+)", r"refiner.blocks.\1.norm1.\2"),
        (r"shared_decoder\.blocks\.(\d+)\.4\.(\w+)", r"refiner.blocks.\1.conv2.\2"),
        (r"shared_decoder\.blocks\.(\d+)\.5\.(\w+)", r"refiner.blocks.\1.norm2.\2"),
        (r"shared_decoder\.skips\.(\d+)\.(\w+)", r"refiner.blocks.\1.skip.\2"),
        (r"shared_decoder\.final\.0\.(\w+)", r"refiner.expand.\1"),
        (r"shared_decoder\.final\.1\.(\w+)", r"refiner.expand_norm.\1"),
        (r"feature_pyramid\.projections\.(\d+)\.0\.(\w+)", r"pyramid.\1.reduce.\2"),
        (r"feature_pyramid\.projections\.(\d+)\.1\.(\w+)", r"pyramid.\1.reduce_norm.\2"),
        (r"feature_pyramid\.projections\.(\d+)\.3\.(\w+)", r"pyramid.\1.smooth.\2"),
        (r"feature_pyramid\.projections\.(\d+)\.4\.(\w+)", r"pyramid.\1.smooth_norm.\2"),
        (r"proto_projections\.(\d+)\.weight", r"project_prototypes.\1.weight"),
    )
)


def from_released(state: Mapping[str, Tensor], text_features: Tensor) -> dict[str, Tensor]:
    """Translate the released code's head weights to a state dict of :class:`~dualproto_wsi.model.head.DualProtoHead`.

    Parameters
    ----------
    state : mapping of str to Tensor
        Keys as in the released code's head, plus ``logit_scale1`` …; what its forward pass never uses is dropped.
    text_features : Tensor of float, shape (K * D, text_dim)
        One a description, class by class.

    Raises
    ------
    WeightsMismatch
        If a key is not one of the released head's, or the factors of the scales are not numbered 1, 2, ….
    """
    ours = {"bank.text_features": text_features}
    factors = {}
    for key, tensor in state.items():
        if key.startswith("logit_scale"):
            factors[key] = tensor
        elif key not in _UNUSED:
            ours[_our_name(key)] = tensor
    names = [f"logit_scale{number + 1}" for number in range(len(factors))]
    if not factors or sorted(factors) != names:
        raise WeightsMismatch(f"the factors of the scales must be logit_scale1, logit_scale2, …, not {sorted(factors)}")
    ours["factors"] = torch.stack([factors[name] for name in names])
    return ours


def _our_name(key: str) -> str:
    for pattern, replacement in _RENAMED:
        match = pattern.fullmatch(key)
        if match:
            return match.expand(replacement)
    raise WeightsMismatch(f"{key!r} is not a weight of the released DualProtoSeg head")


def start_as_released(head: DualProtoHead) -> None:
    """Draw a head's weights as the released code does before training, from torch's global random state.

    Convolutions by Kaiming's normal rule for what goes out, text and prototype projections by Xavier's uniform rule,
    image prototypes with standard deviation 0.02. They are brought to length 1 before use, so their length, 0.45 here,
    says how fast they turn.

    Parameters
    ----------
    head : DualProtoHead
        Changed in place; norms, biases and the scales' factors start there as in the released code already.
    """
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    if head.bank.project_text is not None:
        nn.init.zeros_(head.bank.project_text.bias)
    if head.bank.image is not None:
        nn.init.normal_(head.bank.image, std=0.02)


def released_scores(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the released code's class activation: ReLU, minimum to maximum of each image and class to 0…1, × labels.

    Parameters
    ----------
    scores : Tensor of float, shape (N, K, H, W)
        Merged scores of the finest scale.
    labels : Tensor of float, shape (N, K)
        Image-level labels, the true ones in the released evaluation, or predicted probabilities.
    """
    scores = scores.relu()
    low, high = scores.amin((2, 3), keepdim=True), scores.amax((2, 3), keepdim=True)
    return (scores - low) / (high - low + 1e-8) * labels[:, :, None, None]


def released_probabilities(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the released code's probabilities: those scores, background (1 - maximum)^10 last, softmax over all.

    Parameters
    ----------
    scores, labels
        As for :func:`released_scores`.

    Returns
    -------
    Tensor of float, shape (N, K + 1, H, W)
        Background is the last class.
    """
    activation = released_scores(scores, labels)
    background = (1 - activation.amax(1, keepdim=True)) ** 10
    return torch.cat([activation, background], dim=1).softmax(1)
