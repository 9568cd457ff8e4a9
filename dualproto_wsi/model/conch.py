"""The encoder ``conch``: the image tower of CONCH (Lu et al., Nature Medicine 2024), from the user's own weights.

CONCH's weights are gated and under CC-BY-NC-ND 4.0: each user accepts the licence and brings the file. The tower is put
together from parts of timm and open_clip and loaded strictly; its text tower is :mod:`dualproto_wsi.model.conch_text`.

A patch in the space of the texts
    CONCH's image embedding is ``normalise(ln(pool(x_1 … x_n)) P)``, where ``pool`` is attention of one learned query
    over the tokens ``x`` of the last block: ``W_o (Σ_i a_i (W_v ln_k(x_i) + b_v)) + b_o`` with weights ``a`` from a
    softmax, so Σ a = 1. Over a single token the softmax is 1 whatever the query says, and pooling is the value path
    alone: ``pool(x_i) = W_o (W_v ln_k(x_i) + b_v) + b_o``. The pool of all tokens is the mean of these vectors
    weighted by ``a`` when there is one head; with eight heads each head's share of the vector has weights of its own.
    So ``normalise(ln(pool(x_i)) P)`` is what CONCH would say of a picture whose only token is ``x_i``, in the space
    that its texts were aligned to, and costs two matrix products a token. See
    :meth:`ConchEncoder.patch_embeddings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import timm
import torch
import torch.nn.functional as F
from open_clip.transformer import AttentionalPooler
from torch import Tensor, nn

from dualproto_wsi.model.conch_files import find_weights
from dualproto_wsi.model.encoder import TextAlignedEncoder, hash_tensors
from dualproto_wsi.model.weights import check_weights, load_strictly, read_tensors

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
TAPS = (2, 5, 8, 11)
"""Blocks of the tower whose outputs are the levels, counted from 0."""

ADVICE = "give the pytorch_model.bin of MahmoodLab/CONCH"

_PREFIX = "visual."
_UNUSED = ("attn_pool_caption.", "ln_caption.")  # of the captioning half of CONCH
_RECIPE = 1  # part of the hash: raise it when levels are made in another way from the same weights


class ConchEncoder(TextAlignedEncoder):
    """CONCH's ViT-B/16 with its contrastive pooler; levels are the raw outputs of blocks 2, 5, 8 and 11.

    Built at 448 px; other sizes get position embeddings resampled (bicubic, antialiased). Runs under autocast, and
    also after ``.to(torch.bfloat16)`` or ``.half()``; levels are float32 in any case.

    Parameters
    ----------
    state : mapping of str to Tensor
        CONCH's state dict; keys outside ``visual.`` are ignored.
    file : str
        What to call the weights in an error.

    Raises
    ------
    WeightsMismatch
        If keys or shapes differ from CONCH's.
    """

    name = "conch"
    dim = 768
    grid_px = 16
    step_px = 16
    mpp = 0.5
    native_px = 448
    embedding_dim = 512
    """Length of :meth:`embed`'s and :meth:`patch_embeddings`' vectors."""

    def __init__(self, state: Mapping[str, Tensor], file: str = "weights") -> None:
        super().__init__(MEAN, STD)
        with torch.device("meta"):
            self.trunk = timm.create_model(
                "vit_base_patch16_224", img_size=self.native_px, dynamic_img_size=True, num_classes=0, global_pool=""
            )
            self.attn_pool_contrast = AttentionalPooler(self.embedding_dim, self.dim, n_head=8, n_queries=1)
            self.ln_contrast = nn.LayerNorm(self.embedding_dim)
            self.proj_contrast = nn.Parameter(torch.empty(self.embedding_dim, self.embedding_dim))
        visual = {
            key: tensor
            for key, tensor in state.items()
            if key.startswith(_PREFIX) and not key.removeprefix(_PREFIX).startswith(_UNUSED)
        }
        needed = {_PREFIX + key: tensor for key, tensor in self.state_dict().items()}
        check_weights(visual, needed, file, "CONCH's image tower", ADVICE)
        load_strictly(self, {key.removeprefix(_PREFIX): tensor for key, tensor in visual.items()})
        self.hash = hash_tensors(self.state_dict().items(), f"{self.name} {_RECIPE}")
        scale = state.get("logit_scale", torch.tensor(0.0)).float().exp()
        self.register_buffer("logit_scale", scale, persistent=False)
        self.freeze()

    @classmethod
    def from_file(cls, path: Path | None = None) -> Self:
        """Build it from the user's weights.

        Parameters
        ----------
        path : Path or None
            The file; None: see :func:`~dualproto_wsi.model.conch_files.find_weights`.

        Raises
        ------
        ModelNotFound
            If no file was given and none is found; the message says how to get it.
        WeightsMismatch
            If it is another model's, or truncated.
        DownloadError
            If the Hugging Face hub refuses it or cannot be reached.
        """
        path = find_weights(path)
        return cls(read_tensors(path), str(path))

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Return the outputs of four blocks, float32 (N, 768, H / 16, W / 16), class token dropped, no norm."""
        taps = self.trunk.forward_intermediates(
            self._prepare(pixels), indices=list(TAPS), norm=False, output_fmt="NCHW", intermediates_only=True
        )
        return [tap.float() for tap in taps]

    @torch.no_grad()
    def embed(self, images: Tensor, project: bool = True) -> Tensor:
        """Return CONCH's image embedding.

        Parameters
        ----------
        images : Tensor of float, shape (N, 3, H, W)
            RGB, 0…1.
        project : bool
            Whether it ends in the space of the texts (``proj_contrast``), or before.

        Returns
        -------
        Tensor of float32, shape (N, 512)
            Of length 1.
        """
        return self._contrast(self._pool(self._tokens(images)), project)

    @torch.no_grad()
    def patch_embeddings(self, images: Tensor) -> Tensor:
        """Return the pool of each token alone, float32 (N, 512, H / 16, W / 16); the module says why."""
        tokens = self._tokens(images)[:, self.trunk.num_prefix_tokens :]
        attention = self.attn_pool_contrast.attn
        value_bias = attention.in_proj_bias.chunk(3)[2]
        values = F.linear(self.attn_pool_contrast.ln_k(tokens), attention.v_proj_weight, value_bias)
        embeddings = self._contrast(attention.out_proj(values), project=True)
        rows, columns = images.shape[2] // self.grid_px, images.shape[3] // self.grid_px
        return embeddings.transpose(1, 2).reshape(len(images), self.embedding_dim, rows, columns)

    def _tokens(self, images: Tensor) -> Tensor:
        """Return all tokens after the last norm, (N, 1 + h * w, 768)."""
        tokens: Tensor = self.trunk.forward_features(self._prepare(self.normalise(images)))
        return tokens

    def _pool(self, tokens: Tensor) -> Tensor:
        pooled: Tensor = self.attn_pool_contrast(tokens)
        return pooled[:, 0]

    def _contrast(self, pooled: Tensor, project: bool) -> Tensor:
        pooled = self.ln_contrast(pooled)
        return F.normalize((pooled @ self.proj_contrast if project else pooled).float(), dim=-1)

    def _prepare(self, pixels: Tensor) -> Tensor:
        return pixels.to(self.proj_contrast.dtype)


class ReleasedConchEncoder(ConchEncoder):
    """CONCH as the released code of DualProtoSeg feeds it: channels in the order blue, green, red, its own statistics.

    Heads that were trained with that code need it; nothing else should use it.
    """

    name = "conch-released"

    def __init__(self, state: Mapping[str, Tensor], file: str = "weights") -> None:
        super().__init__(state, file)
        self.mean.copy_(torch.tensor([0.70623304, 0.47791372, 0.66791496]).view(1, 3, 1, 1))
        self.std.copy_(torch.tensor([0.19820057, 0.22564577, 0.1736589]).view(1, 3, 1, 1))

    def _prepare(self, pixels: Tensor) -> Tensor:
        return super()._prepare(pixels.flip(1))
