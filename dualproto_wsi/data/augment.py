"""Augmentation of training images: turns, flips, stain, tone and sharpness."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Optical densities of haematoxylin, eosin and DAB (Ruifrok & Johnston, 2001), a row a stain.
_STAINS = torch.tensor([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
_STAINS = _STAINS / _STAINS.norm(dim=1, keepdim=True)

_LARGEST_PIXEL = 2.5  # of a blurred image, in its own px
_SMALLEST_SIDE = 16  # px, of a blurred image while it is small

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


def jitter_tone(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Vary what scanners and their software do: gamma, contrast, saturation and white balance, per image.

    Gamma, contrast and saturation are multiplied by e to the power of ± strength, each colour by 1 ± 0.3 strength.

    Parameters and result as for :func:`jitter_stain`.
    """
    if strength == 0:
        return images
    chance = (2 * torch.rand(6, len(images), 1, 1, 1, generator=generator) - 1).to(images) * strength
    gamma, contrast, saturation = chance[:3].exp()
    varied = images.clamp_min(1 / 255) ** gamma
    mean = varied.mean((2, 3), keepdim=True)
    varied = (varied - mean) * contrast + mean
    grey = varied.mean(1, keepdim=True)
    varied = (varied - grey) * saturation + grey
    balance = 1 + 0.3 * chance[3:].movedim(0, 2).flatten(1, 2)
    return torch.clamp(varied * balance, 0, 1)


def jitter_sharpness(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Show some images as if scanned with larger pixels, up to 2.5 times as large, at the size that they have.

    Parameters
    ----------
    images : Tensor of float32, shape (N, 3, H, W)
        RGB, 0…1.
    share : float
        How likely each image is among them; 0 changes nothing.
    generator : torch.Generator
        Source of chance, on the CPU.

    Returns
    -------
    Tensor of float32, shape (N, 3, H, W)
        RGB, 0…1.
    """
    if share == 0:
        return images
    chosen, sizes = torch.rand(2, len(images), generator=generator).tolist()
    return torch.cat(
        [
            enlarge_pixels(image, 1 + (_LARGEST_PIXEL - 1) * size) if choice < share else image
            for image, choice, size in zip(torch.split(images, 1), chosen, sizes, strict=True)
        ]
    )


def enlarge_pixels(images: Tensor, factor: float) -> Tensor:
    """Return images (N, 3, H, W) of their size, made from pixels of ``factor`` times theirs."""
    shape = images.shape[2:]
    small = [min(side, max(_SMALLEST_SIDE, round(side / factor))) for side in shape]
    reduced = F.interpolate(images, small, mode="bilinear", antialias=True, align_corners=False)
    return F.interpolate(reduced, shape, mode="bicubic", align_corners=False).clamp(0, 1)
