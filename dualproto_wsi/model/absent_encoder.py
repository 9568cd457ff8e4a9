"""What stands in for an image encoder where features of windows are at hand, so that its weights are not needed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from dualproto_wsi.model.encoder import ImageEncoder, TextAlignedEncoder


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """All that a model asks of its encoder besides features; attributes as of the encoders.

    ``native_px`` and ``logit_scale`` are 0 where the encoder has no text side.
    """

    name: str
    hash: str
    dim: int
    grid_px: int
    step_px: int
    mpp: float
    prefixes: tuple[int, ...]
    native_px: int
    logit_scale: float

    @classmethod
    def of(cls, encoder: ImageEncoder) -> Self:
        """Tell them of an encoder."""
        aligned = encoder if isinstance(encoder, TextAlignedEncoder) else None
        return cls(
            name=encoder.name,
            hash=encoder.hash,
            dim=encoder.dim,
            grid_px=encoder.grid_px,
            step_px=encoder.step_px,
            mpp=encoder.mpp,
            prefixes=encoder.prefixes,
            native_px=aligned.native_px if aligned else 0,
            logit_scale=float(aligned.logit_scale) if aligned else 0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"prefixes": list(self.prefixes)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Build them from :meth:`to_json`'s data.

        Raises
        ------
        TypeError, KeyError
            If parts are missing or unknown.
        """
        return cls(**data | {"prefixes": tuple(data["prefixes"])})


class AbsentEncoder(TextAlignedEncoder):
    """An encoder that says what it is, but has no weights and encodes nothing.

    Parameters
    ----------
    facts : EncoderFacts
    """

    def __init__(self, facts: EncoderFacts) -> None:
        super().__init__((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        self.name, self.hash, self.dim = facts.name, facts.hash, facts.dim
        self.grid_px, self.step_px, self.mpp = facts.grid_px, facts.step_px, facts.mpp
        self.prefixes, self.native_px = facts.prefixes, facts.native_px
        self.register_buffer("logit_scale", torch.tensor(facts.logit_scale), persistent=False)
        self.freeze()

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Refuse."""
        raise NotImplementedError(f"{self.name} is not loaded; only features that it made before can be scored")

    def patch_embeddings(self, images: Tensor) -> Tensor:
        """Refuse."""
        return self.levels(images)[0]
