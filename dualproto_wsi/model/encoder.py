"""The image encoder: one network that gives four feature levels on one grid; frozen, but while it is being adapted.

A family of encoders is one module; :func:`build_encoder` knows them by name.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from dualproto_wsi.errors import ModelNotFound, SettingsError
from dualproto_wsi.model.weights import check_weights

LEVELS = 4
"""Feature levels that every encoder gives, from shallow to deep."""


class ImageEncoder(nn.Module):
    """A frozen network from RGB pixels to four feature levels of one size.

    A subclass sets the attributes and writes :meth:`levels`. It never leaves evaluation mode, and its parameters take
    no gradient, but between :meth:`thaw` and :meth:`settle` where it is of a kind that can be adapted.

    Attributes
    ----------
    name : str
        Name in the registry.
    dim : int
        Channels D of the deepest level; a shallow one may have the first channels only, the others being zero.
    grid_px : int
        Side of a cell of the feature grid, model px.
    step_px : int
        Height and width of an image must be multiples of this, model px.
    mpp : float
        Resolution that the encoder is meant for, µm per model px.
    hash : str
        Short SHA-256 of the weights; a bundle names the encoder that its head was trained on by it.
    prefixes : tuple of int
        Channels of the shallow levels, where these are the first channels of the deepest one; else empty.
    adapted_from : str
        Hash of the weights that it came with, if they were adapted to training data since; else empty.
    """

    name: str
    dim: int
    grid_px: int
    step_px: int
    mpp: float
    hash: str
    prefixes: tuple[int, ...] = ()
    adapted_from: str = ""
    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def freeze(self) -> Self:
        """Switch to evaluation mode for good and take the parameters out of training."""
        super().train(False)
        self.requires_grad_(False)
        return self

    def train(self, mode: bool = True) -> Self:
        """Do nothing: an encoder stays in evaluation mode, whatever happens to the model around it."""
        return self

    def adaptable(self) -> list[nn.Parameter]:
        """Return the weights that training may change; none: the encoder cannot be adapted."""
        return []

    def adapted_weights(self) -> dict[str, Tensor]:
        """Return what must be kept beside a head that was trained with an adapted encoder, by name; else nothing."""
        return dict(self.state_dict()) if self.adapted_from else {}

    def thaw(self) -> list[nn.Parameter]:
        """Let the weights that can be adapted take gradients, and return them."""
        weights = self.adaptable()
        for weight in weights:
            weight.requires_grad_()
        return weights

    def settle(self) -> Self:
        """Freeze the weights as they are now, and name them by a hash of their own."""
        self.adapted_from = self.adapted_from or self.hash
        self.hash = hash_tensors(self.state_dict().items(), f"adapted from {self.adapted_from}")
        return self.freeze()

    def take(self, weights: Mapping[str, Tensor]) -> Self:
        """Take the weights of an adapted encoder, as :meth:`adapted_weights` returned them.

        Raises
        ------
        WeightsMismatch
            If names or shapes are others, or an encoder of this kind cannot be adapted.
        """
        needed = self.state_dict() if self.adaptable() else {}
        check_weights(dict(weights), needed, f"the {self.name} encoder in a bundle", self.name, "train it again")
        self.load_state_dict(weights)
        return self.settle()

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return the four feature levels.

        Parameters
        ----------
        images : Tensor of float, shape (N, 3, H, W)
            RGB, 0…1; H and W multiples of ``step_px``.

        Returns
        -------
        list of Tensor of float32, shape (N, C, H / grid_px, W / grid_px)
            From shallow to deep; C is ``dim`` or less.

        Raises
        ------
        ValueError
            If the shape is another.
        """
        return self.levels(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Return images with the encoder's own mean and standard deviation taken out.

        Parameters and errors as for :meth:`encode`.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"images are {images.dtype} {tuple(images.shape)}; give float (N, 3, H, W), RGB 0 to 1")
        height, width = images.shape[2:]
        if height % self.step_px or width % self.step_px or not height or not width:
            raise ValueError(
                f"images are {width} x {height} px; the encoder {self.name!r} needs multiples of {self.step_px} px"
            )
        return (images - self.mean) / self.std

    @abstractmethod
    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Return the levels of normalised ``pixels``, float (N, 3, H, W)."""


class TextAlignedEncoder(ImageEncoder):
    """An image encoder that also puts each patch into the space of a text tower.

    Attributes
    ----------
    native_px : int
        Side of the images that it was trained on, model px.
    logit_scale : Tensor of float32, scalar
        Factor with which the model turns a cosine between image and text into a logit.
    """

    native_px: int
    logit_scale: Tensor

    @abstractmethod
    def patch_embeddings(self, images: Tensor) -> Tensor:
        """Return each patch in the space of the texts.

        Parameters
        ----------
        images : Tensor of float, shape (N, 3, H, W)
            RGB, 0…1; H and W multiples of ``step_px``.

        Returns
        -------
        Tensor of float32, shape (N, E, H / grid_px, W / grid_px)
            Of length 1 over the channels.
        """


def hash_tensors(named: Iterable[tuple[str, Tensor]], salt: str) -> str:
    """Return 16 hex digits of the SHA-256 of ``salt`` and of all names, shapes and values, in order of the names."""
    digest = hashlib.sha256(salt.encode())
    for name, tensor in sorted(named, key=lambda item: item[0]):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _compact(name: str, weights: Path | None) -> ImageEncoder:
    from dualproto_wsi.model.compact import CompactEncoder

    if weights:
        raise SettingsError(f"--weights {weights}: the encoder {name!r} comes with its own; leave the option out")
    return CompactEncoder()


def _conch(name: str, weights: Path | None) -> ImageEncoder:
    from dualproto_wsi.model.conch import ConchEncoder, ReleasedConchEncoder

    family = ReleasedConchEncoder if name == ReleasedConchEncoder.name else ConchEncoder
    return family.from_file(weights)


def _open_clip(name: str, weights: Path | None) -> ImageEncoder:
    from dualproto_wsi.model.open_clip_encoder import OpenClipEncoder

    return OpenClipEncoder(name, weights)


_BUILDERS: dict[str, Callable[[str, Path | None], ImageEncoder]] = {
    "compact": _compact,
    "conch": _conch,
    "conch-released": _conch,
    "open_clip": _open_clip,
}

ENCODERS = tuple(_BUILDERS)
"""Families that :func:`build_encoder` knows; ``open_clip`` needs more: ``open_clip:MODEL[:PRETRAINED|FILE]``."""


def build_encoder(name: str, weights: Path | None = None) -> ImageEncoder:
    """Build an encoder by name, with its weights, on the CPU.

    Parameters
    ----------
    name : str
        One of :data:`ENCODERS`, which may go on after a colon.
    weights : Path or None
        The user's weights file, for an encoder whose weights do not come with the package; None: looked for where the
        encoder's documentation says.

    Raises
    ------
    ModelNotFound
        If no encoder has that name, or its weights are not there.
    WeightsMismatch
        If its weights are not the ones that it needs.
    SettingsError
        If ``weights`` are given for an encoder that comes with its own.
    """
    family = name.partition(":")[0]
    if family not in _BUILDERS or (family != "open_clip" and family != name):
        raise ModelNotFound(f"no encoder is called {name!r}; known are {', '.join(ENCODERS)}")
    return _BUILDERS[family](name, weights)
