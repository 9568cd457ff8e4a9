"""The two kinds of ViT that open_clip uses as image towers, seen as one: embed, blocks, project."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import Block
from timm.models.vision_transformer import VisionTransformer as TimmTransformer
from torch import Tensor, nn

from dualproto_wsi.errors import WeightsMismatch


class ViTTower(nn.Module):
    """A ViT, token by token.

    Attributes
    ----------
    visual : Module
        open_clip's image tower.
    width : int
        Channels of a token.
    patch_px : int
        Side of a patch.
    prefix : int
        Tokens before those of the patches.
    """

    visual: Any
    width: int
    patch_px: int
    prefix: int

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    @property
    @abstractmethod
    def blocks(self) -> Any:
        """The blocks, each of which maps tokens to tokens."""

    @abstractmethod
    def embed(self, pixels: Tensor) -> Tensor:
        """Return the tokens that enter the first block, (N, prefix + h * w, width), of any image size."""

    @abstractmethod
    def attend_to_self(self, tokens: Tensor) -> Tensor:
        """Return the last block's output where every token attends to itself alone.

        A block of a rarer kind runs as it is.
        """

    @abstractmethod
    def project(self, tokens: Tensor) -> Tensor:
        """Return what the model makes of each of the last block's tokens as if it were the pooled one."""


class ClipTower(ViTTower):
    """open_clip's own ViT."""

    def __init__(self, visual: VisionTransformer) -> None:
        super().__init__(visual)
        self.width = visual.conv1.out_channels
        self.patch_px = visual.conv1.kernel_size[0]
        self.prefix = 1

    @property
    def blocks(self) -> Any:
        """The residual blocks."""
        return self.visual.transformer.resblocks

    def embed(self, pixels: Tensor) -> Tensor:
        """Embed patches."""
        patches = self.visual.conv1(pixels.to(self.visual.conv1.weight.dtype))
        grid = list(patches.shape[2:])
        first = self.visual.class_embedding.expand(len(patches), 1, -1).to(patches.dtype)
        positions = resample_abs_pos_embed(
            self.visual.positional_embedding[None], grid, list(self.visual.grid_size), num_prefix_tokens=1
        )
        tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1) + positions.to(patches.dtype)
        embedded: Tensor = self.visual.ln_pre(tokens)
        return embedded

    def attend_to_self(self, tokens: Tensor) -> Tensor:
        """Run the last block."""
        block = self.blocks[-1]
        output: Tensor
        if not isinstance(block, ResidualAttentionBlock):
            output = block(tokens)
            return output
        attention = block.attn
        values = F.linear(block.ln_1(tokens), attention.in_proj_weight.chunk(3)[2], attention.in_proj_bias.chunk(3)[2])
        tokens = tokens + block.ls_1(attention.out_proj(values))
        output = tokens + block.ls_2(block.mlp(block.ln_2(tokens)))
        return output

    def project(self, tokens: Tensor) -> Tensor:
        """Norm and projection."""
        if self.visual.attn_pool is not None:
            queries = self.visual.attn_pool(tokens.flatten(0, 1)[:, None])
            tokens = queries[:, 0].unflatten(0, tokens.shape[:2])
        projected: Tensor = self.visual.ln_post(tokens) @ self.visual.proj
        return projected


class TimmTower(ViTTower):
    """A ViT of timm inside open_clip's wrapper (BiomedCLIP, SigLIP …)."""

    def __init__(self, visual: TimmModel) -> None:
        super().__init__(visual)
        visual.trunk.dynamic_img_size = True
        self.width = visual.trunk.embed_dim
        self.patch_px = visual.trunk.patch_embed.patch_size[0]
        self.prefix = visual.trunk.num_prefix_tokens

    @property
    def blocks(self) -> Any:
        """The residual blocks."""
        return self.visual.trunk.blocks

    def embed(self, pixels: Tensor) -> Tensor:
        """Embed patches."""
        trunk = self.visual.trunk
        patches = trunk.patch_embed.proj(pixels.to(trunk.patch_embed.proj.weight.dtype))
        tokens: Tensor = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed.norm(patches.permute(0, 2, 3, 1))))
        return tokens

    def attend_to_self(self, tokens: Tensor) -> Tensor:
        """Run the last block."""
        block = self.blocks[-1]
        output: Tensor
        if not isinstance(block, Block):
            output = block(tokens)
            return output
        qkv = block.attn.qkv
        bias = None if qkv.bias is None else qkv.bias.chunk(3)[2]
        values = F.linear(block.norm1(tokens), qkv.weight.chunk(3)[2], bias)
        tokens = tokens + block.ls1(block.attn.proj(values))
        output = tokens + block.ls2(block.mlp(block.norm2(tokens)))
        return output

    def project(self, tokens: Tensor) -> Tensor:
        """Norm and projection."""
        trunk = self.visual.trunk
        tokens = trunk.norm(tokens)
        if trunk.attn_pool is not None:
            tokens = trunk.attn_pool(tokens.flatten(0, 1)[:, None]).unflatten(0, tokens.shape[:2])
        projected: Tensor = self.visual.head(trunk.head(trunk.fc_norm(tokens)))
        return projected


def make_tower(visual: nn.Module, name: str) -> ViTTower:
    """Wrap an image tower.

    Raises
    ------
    WeightsMismatch
        If it is no ViT.
    """
    if isinstance(visual, VisionTransformer):
        return ClipTower(visual)
    trunk = getattr(visual, "trunk", None)
    if isinstance(visual, TimmModel) and isinstance(trunk, TimmTransformer):
        return TimmTower(visual)
    kind = type(visual if trunk is None else trunk).__name__
    raise WeightsMismatch(
        f"{name}: its image tower is a {kind}; only a ViT has levels of one grid: choose such a model"
    )
