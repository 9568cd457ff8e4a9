"""Labelled tiles of images, and their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.data.crops import label_crops
from dualproto_wsi.data.images import LabelledImage
from dualproto_wsi.data.layouts import read_dataset
from dualproto_wsi.data.layouts.brca_m2c import CLASSES
from dualproto_wsi.errors import DataError, SettingsError
from dualproto_wsi.model.encoder import TextAlignedEncoder
from dualproto_wsi.workflow.training.windows import pad, to_tensor

LABELLED = tuple(CLASSES.values())
"""Classes that the data labels."""

_TILE_PX = 112


@dataclass(frozen=True, slots=True)
class TileSettings:
    """Which tiles.

    Parameters
    ----------
    split : str
        Images of which list.
    tile_px : int
        Side of a tile, px of the images; a multiple of the encoder's patch; 0: the multiple nearest 112.
    min_points : int
        From this many points on a class is in a tile; without any it is not; between, the tile does not count for it.
    device : str
        Where the encoder runs.
    """

    split: str = "train"
    tile_px: int = 0
    min_points: int = 2
    device: str = "auto"

    def __post_init__(self) -> None:
        for option, value, least in (("--tile", self.tile_px, 0), ("--min-points", self.min_points, 1)):
            if value < least:
                raise SettingsError(f"{option} {value}: it must be {least} or more")


def read_labelled(root: Path, split: str) -> tuple[LabelledImage, ...]:
    """Read the images of a list, with the points of all classes that the data labels; errors as the reader's."""
    scheme = ClassScheme(tuple(TissueClass(i, name, (0, 0, 0)) for i, name in enumerate(LABELLED, start=1)))
    return read_dataset(root, "brca-m2c", split, scheme).images


def fitting_tile(wanted: int, encoder: TextAlignedEncoder) -> int:
    """Return the side of a tile, px: ``wanted``, or by default the multiple of the encoder's patch nearest 112.

    Raises
    ------
    SettingsError
        If what is wanted is no multiple.
    """
    step = encoder.grid_px
    nearest = max(1, round((wanted or _TILE_PX) / step)) * step
    if wanted and wanted != nearest:
        raise SettingsError(f"--tile {wanted}: {encoder.name} needs a multiple of its patch, {step} px; use {nearest}")
    return nearest


@torch.inference_mode()
def embed_tiles(
    encoder: TextAlignedEncoder,
    images: Sequence[LabelledImage],
    tile_px: int,
    min_points: int,
    on_image: Callable[[int, int], None],
) -> tuple[Tensor, NDArray[np.int8]]:
    """Embed and label all tiles of all images, overlapping by about half.

    Parameters
    ----------
    encoder : TextAlignedEncoder
    images : sequence of LabelledImage
        With points, at the encoder's resolution.
    tile_px : int
        A multiple of the encoder's patch.
    min_points : int
    on_image : callable

    Returns
    -------
    embeddings : Tensor of float32, shape (N, E)
        Of length 1, on the CPU.
    labels : ndarray of int8, shape (K, N)
        K classes of :data:`LABELLED`.
    """
    patch = encoder.grid_px
    embeddings, labels = [], []
    for number, image in enumerate(images, start=1):
        pixels = image.read_pixels()
        (grid,) = label_crops(image, pixels.shape[:2], len(LABELLED), [tile_px], min_points, patch)
        rows, columns = grid.labels.shape[1:]
        if rows and columns:
            padded = pad(to_tensor(pixels)[None], encoder.step_px).to(encoder.mean.device)
            means = F.avg_pool2d(encoder.patch_embeddings(padded).float(), tile_px // patch, grid.step // patch)
            embeddings.append(F.normalize(means[0, :, :rows, :columns].flatten(1).T, dim=1).cpu())
            labels.append(grid.labels.reshape(len(LABELLED), -1))
        on_image(number, len(images))
    if not labels:
        raise DataError(f"no image of {len(images)} is as large as a tile of {tile_px} px; pass a smaller --tile")
    return torch.cat(embeddings), np.concatenate(labels, axis=1)
