"""Augmentation of training images: turns, flips and stain."""

from __future__ import annotations

import torch
from torch import Tensor

# Optical densities of haematoxylin, eosin and DAB (Ruifrok & Johnston, 2001), a row a stain.
_STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_STAINS = _STAINS / _STAINS.norm(dim=1, keepdim=True)

ORIENTATIONS = 8
"""Four quarter turns, plain and mirrored."""


def orient(image: Tensor, orientation: int) -> Tensor:
    """Mirror (4…7) and turn by quarter turns a tensor of shape (…, H, W)."""
    mirrored = image.flip(-1) if orientation >= 4 else image
    return torch.rot90(mirrored, orientation % 4, (-2, -1))


def orient_back(image: Tensor, orientation: int) -> Tensor:
    """Undo :func:`orient`."""
    turned = torch.rot90(image, -(orientation % 4), (-2, -1))
    return turned.flip(-1) if orientation >= 4 else turned


def jitter_stain(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Vary the amount of each stain: optical density times 1 ± strength, plus ± strength / 4, per image and stain.

    Parameters
    ----------
    images : Tensor of float32, shape (N, 3, H, W)
        RGB, 0…1.
    strength : float
        0 changes nothing.
    generator : torch.Generator
        Source of chance, on the CPU.

    Returns
    -------
    Tensor of float32, shape (N, 3, H, W)
        RGB, 0…1.
    """
    if strength == 0:
        return images
    stains = _STAINS.to(images)
    density = torch.einsum("ncyx,cs->nsyx", -torch.log(images.clamp_min(1 / 255)), torch.linalg.inv(stains))
    chance = (2 * torch.rand(2, len(images), 3, 1, 1, generator=generator) - 1).to(images) * strength
    varied = density * (1 + chance[0]) + chance[1] / 4
    return torch.exp(-torch.einsum("nsyx,sc->ncyx", varied, stains)).clamp(0, 1)
