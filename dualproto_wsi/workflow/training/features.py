"""What the encoder makes of windows, computed anew or kept on disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dualproto_wsi.errors import OutputError
from dualproto_wsi.files import file_sha256, replacing
from dualproto_wsi.model.encoder import ImageEncoder
from dualproto_wsi.workflow.mapping.engine import DTYPES
from dualproto_wsi.workflow.training.windows import Sample, WindowReader, batches, read_ahead, turn

_BATCH = 16
_LARGEST = 65504.0  # of half precision
_AT_A_TIME = 4096  # windows; bounds what is planned ahead


class Features:
    """The encoder's levels at a precision.

    Parameters
    ----------
    encoder : ImageEncoder
        On the device to train on.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``.
    """

    def __init__(self, encoder: ImageEncoder, precision: str = "fp32") -> None:
        self.encoder = encoder
        self.precision = precision

    def copy(self) -> Features:
        """Return the same with an encoder of its own, whose weights can change."""
        return Features(deepcopy(self.encoder), self.precision)

    @property
    def device(self) -> torch.device:
        """Where the encoder is."""
        return self.encoder.mean.device

    def encode(self, images: Tensor) -> list[Tensor]:
        """Return the four levels of (N, 3, H, W), float32, on the device."""
        images = images.to(self.device)
        if self.precision == "fp32":
            return self.encoder.encode(images)
        with torch.autocast(self.device.type, dtype=DTYPES[self.precision]):
            return [level.float() for level in self.encoder.encode(images)]


def zoomed_levels(features: Features, images: Tensor, strength: float, generator: torch.Generator) -> list[Tensor]:
    """Return the levels of images that are shown larger or smaller, on the grid of the images as they are.

    Parameters
    ----------
    features : Features
    images : Tensor of float32, shape (N, 3, side, side)
        RGB, 0…1.
    strength : float
        Their size is multiplied by e to the power of ± strength, all alike; 0 changes nothing.
    generator : torch.Generator
        Source of chance, on the CPU.

    Returns
    -------
    list of Tensor of float32, shape (N, C, side / grid_px, side / grid_px)
    """
    if strength == 0:
        return features.encode(images)
    encoder, side = features.encoder, images.shape[-1]
    factor = float(torch.exp((2 * torch.rand((), generator=generator) - 1) * strength))
    shown = max(1, round(side * factor / encoder.step_px)) * encoder.step_px
    levels = features.encode(F.interpolate(images, (shown, shown), mode="bilinear", antialias=True))
    cells = side // encoder.grid_px
    return [F.interpolate(level, (cells, cells), mode="bilinear", align_corners=False) for level in levels]


class FeatureCache:
    """Levels of whole images on disk, in half precision, a file an image and orientation.

    A file is named by the SHA-256 of the image's file, the window's side and the orientation, in a folder named by the
    encoder, the hash of its weights and the precision: images that change, and other encoders, never meet.

    Parameters
    ----------
    folder : Path
    features : Features
    """

    def __init__(self, folder: Path, features: Features) -> None:
        encoder = features.encoder
        name = "".join(letter if letter.isalnum() else "-" for letter in encoder.name)
        self._folder = folder / f"{name}-{encoder.hash}-{features.precision}"
        self._features = features
        self._hashes: dict[Path, str] = {}

    def read(self, sample: Sample, orientation: int) -> list[Tensor]:
        """Return the levels of a sample's window, float16 (C, h, w), on the CPU.

        Raises
        ------
        OutputError
            If they are not there, or damaged.
        """
        path = self._path(sample, orientation)
        try:
            stored = load_file(path)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{path}: features cannot be read ({error}); delete the file and run again") from error
        return [stored[f"level{number}"] for number in range(len(stored))]

    def fill(
        self,
        samples: Sequence[Sample],
        orientations: Sequence[int],
        threads: int,
        on_done: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Compute what is not there yet.

        Windows go through the encoder in batches that depend on the samples alone, so that a fill that was stopped and
        one that was not leave the same files.

        Parameters
        ----------
        samples : sequence of Sample
            All shown whole.
        orientations : sequence of int
        threads : int
            That read images.
        on_done : callable
            Gets the number of windows done, and of all, now and then.

        Raises
        ------
        OutputError
            If the folder cannot be written, or the disk has too little room.
        """
        reader = WindowReader(samples, 0)
        groups = batches(range(len(samples)), lambda i: samples[i].side, _BATCH)
        jobs = [(group, orientation) for group in groups for orientation in orientations]
        total, done = len(samples) * len(orientations), 0
        room_checked = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for start in range(0, len(jobs), _AT_A_TIME // _BATCH):
                part = jobs[start : start + _AT_A_TIME // _BATCH]
                missing = [(g, o) for g, o in part if not all(self._path(samples[i], o).is_file() for i in g)]
                reading = [[partial(reader.window, i, (0, 0)) for i in group] for group, _ in missing]
                for (group, orientation), windows in zip(missing, read_ahead(reading, threads), strict=True):
                    levels = self._features.encode(turn(windows, [orientation] * len(windows)))
                    stored = [level.clamp(-_LARGEST, _LARGEST).half().cpu() for level in levels]
                    if not room_checked:
                        self._check_room(stored, len(group), total - done)
                        room_checked = True
                    for place, i in enumerate(group):
                        self._write(samples[i], orientation, [level[place] for level in stored])
                    done += len(group)
                    on_done(done, total)
                done = sum(len(group) for group, _ in jobs[: start + len(part)])
                on_done(done, total)
        except OSError as error:
            raise OutputError(
                f"{self._folder}: features cannot be kept ({error.strerror or error}); choose another --cache"
            ) from error

    def _check_room(self, levels: Sequence[Tensor], windows: int, left: int) -> None:
        needed = sum(level.nbytes for level in levels) // windows * left
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise OutputError(
                f"{self._folder}: the features need {needed / 1e9:.1f} GB and the disk has {free / 1e9:.1f} GB; choose "
                "another --cache, or fewer augment.orientations"
            )

    def _write(self, sample: Sample, orientation: int, levels: Sequence[Tensor]) -> None:
        path = self._path(sample, orientation)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as temporary:
            save_file({f"level{number}": level.contiguous() for number, level in enumerate(levels)}, temporary)

    def _path(self, sample: Sample, orientation: int) -> Path:
        file = sample.image.path
        if file not in self._hashes:
            self._hashes[file] = file_sha256(file)
        digest = self._hashes[file]
        return self._folder / digest[:2] / f"{digest}-{sample.side}-{orientation}.safetensors"
