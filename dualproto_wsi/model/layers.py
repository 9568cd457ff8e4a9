"""Building blocks of the head: normalisation, refiner, pyramid scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dualproto_wsi.settings import HeadSettings


class PixelGroupNorm(nn.Module):
    """Group normalisation with statistics over the channels of a group at each place.

    Unlike :class:`torch.nn.GroupNorm` nothing is averaged over the window, so a place's value does not depend on what
    else the window shows.

    Parameters
    ----------
    groups, channels : int
        As in :class:`torch.nn.GroupNorm`.
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W)."""
        x = x.permute(0, 2, 3, 1)
        if self.groups == 1:
            x = F.layer_norm(x, x.shape[-1:], self.weight, self.bias)
        else:
            grouped = x.reshape(*x.shape[:-1], self.groups, -1)
            x = F.layer_norm(grouped, grouped.shape[-1:]).flatten(-2) * self.weight + self.bias
        return x.permute(0, 3, 1, 2)


def make_norm(kind: str, groups: int, channels: int) -> nn.Module:
    """Return the normalisation layer of :attr:`HeadSettings.norm` ``kind``."""
    return PixelGroupNorm(groups, channels) if kind == "pixel" else nn.GroupNorm(groups, channels)


class ResidualBlock(nn.Module):
    """SiLU(norm(conv(dropout(SiLU(norm(conv(x)))))) + skip(x)): 3x3 convolutions, a 1x1 one as skip."""

    def __init__(self, settings: HeadSettings) -> None:
        super().__init__()
        width, groups = settings.refiner_width, settings.refiner_groups
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = make_norm(settings.norm, groups, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = make_norm(settings.norm, groups, width)
        self.skip = nn.Conv2d(width, width, 1)
        self.dropout = nn.Dropout2d(settings.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, h, w) to the same shape."""
        y = self.dropout(F.silu(self.norm1(self.conv1(x))))
        return F.silu(self.norm2(self.conv2(y)) + self.skip(x))


class Refiner(nn.Module):
    """Brings encoder features into the space of the prototypes; one for all levels.

    Parameters
    ----------
    settings : HeadSettings
        Width, blocks, groups, norm and dropout.
    in_dim : int
        Channels of an encoder level.
    """

    def __init__(self, settings: HeadSettings, in_dim: int) -> None:
        super().__init__()
        width, groups, out = settings.refiner_width, settings.refiner_groups, settings.prototype_dim
        self.project = nn.Conv2d(in_dim, width, 1, bias=False)
        self.project_norm = make_norm(settings.norm, groups, width)
        self.blocks = nn.Sequential(*(ResidualBlock(settings) for _ in range(settings.refiner_blocks)))
        self.expand = nn.Conv2d(width, out, 1, bias=False)
        self.expand_norm = make_norm(settings.norm, groups, out)

    def forward(self, level: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, prototype_dim, h, w) of unit length over the channels.

        A level of fewer channels than ``in_dim`` counts as the first of them, the others being zero.
        """
        weight = self.project.weight[:, : level.shape[1]]
        x = F.silu(self.project_norm(F.conv2d(level, weight)))
        return unit(self.expand_norm(self.expand(self.blocks(x))))


class PyramidScale(nn.Module):
    """One scale of the pyramid: fewer channels, more pixels.

    Parameters
    ----------
    settings : HeadSettings
        Norm, groups and the dimension that comes in.
    channels : int
        Channels that go out.
    upsampling : int
        Side of the map that goes out as a multiple of the one that comes in.
    """

    def __init__(self, settings: HeadSettings, channels: int, upsampling: int) -> None:
        super().__init__()
        self.upsampling = upsampling
        groups = settings.pyramid_groups
        self.reduce = nn.Conv2d(settings.prototype_dim, channels, 1, bias=False)
        self.reduce_norm = make_norm(settings.norm, groups, channels)
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.smooth_norm = make_norm(settings.norm, groups, channels)

    def forward(self, refined: Tensor) -> Tensor:
        """Map (N, prototype_dim, h, w) to (N, channels, h * upsampling, w * upsampling)."""
        return enlarge(self.coarse(refined), self.upsampling)

    def coarse(self, refined: Tensor) -> Tensor:
        """Map (N, prototype_dim, h, w) to (N, channels, h, w): all but the enlarging, which comes last."""
        x = F.silu(self.reduce_norm(self.reduce(refined)))
        return F.silu(self.smooth_norm(self.smooth(x)))


def enlarge(x: Tensor, factor: float) -> Tensor:
    """Bring (N, C, h, w) to ``factor`` times its size, bilinear."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def unit(x: Tensor) -> Tensor:
    """Return float32 ``x`` of length 1 over axis 1."""
    return F.normalize(x.float(), dim=1)
