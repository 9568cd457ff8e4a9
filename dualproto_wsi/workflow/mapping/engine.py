"""A model on a device: where it runs, how precisely, and how a forward pass runs while the caller goes on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.errors import DeviceUnavailable
from dualproto_wsi.model.segmenter import Segmenter
from dualproto_wsi.settings import InferenceSettings
from dualproto_wsi.workflow.cores import reading_threads, usable_cores

logger = logging.getLogger(__name__)

Windows = NDArray[np.uint8] | list[NDArray[np.float16]]
"""Pixels, (n, window_px, window_px, 3), RGB; or their features, (n, C, h, w) a level."""


class Scored(NamedTuple):
    """What comes of windows.

    Parameters
    ----------
    logits : ndarray of float32, shape (n, K, h, w)
    features : list of ndarray of float16, shape (n, C, h, w)
        Where they were asked for; else empty.
    """

    logits: NDArray[np.float32]
    features: list[NDArray[np.float16]]


Pending = Callable[[], Scored]
"""Waits for a forward pass."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BATCH_SIZES = {"cpu": 2, "cuda": 64}


def choose_device(name: str) -> torch.device:
    """Return the device of a name.

    Parameters
    ----------
    name : str
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    DeviceUnavailable
        If a GPU was asked for and is not there.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if found else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= found:
        built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        raise DeviceUnavailable(
            f"--device {name}: torch {torch.__version__}, built for {built}, sees {found} GPU(s); "
            "use --device cpu, or run `dualproto-wsi doctor` for the reason"
        )
    return device


def all_devices(name: str) -> tuple[str, ...]:
    """Return every device that a name stands for: all GPUs for ``auto`` and ``cuda``, else the one that it names."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name in ("auto", "cuda") and found:
        return tuple(f"cuda:{index}" for index in range(found))
    return (name,)


def choose_precision(name: str, device: torch.device) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``; ``auto`` takes what is fast and safe on the device.

    A CPU that multiplies bf16 (AVX512-BF16, AMX) is about twice as fast with it; others only pretend to, more slowly.
    """
    if name != "auto":
        return name
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    can: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.9 does not tell
    return "bf16" if can.get("avx512_bf16") or can.get("amx_bf16") else "fp32"


class Engine:
    """A model on a device, ready to take windows.

    On a CPU every core runs batches of its own: a small model scales better so than by sharing each operation among the
    cores, which wait for each other after every one.

    Parameters
    ----------
    model : Segmenter
    settings : InferenceSettings
        Device, precision and batch size.

    Attributes
    ----------
    precision : str
        ``fp32``, ``bf16`` or ``fp16``.
    batch_size : int
        Windows a forward pass; halves itself where memory runs out.
    cores : int
        CPU cores for all that this process does.

    Raises
    ------
    DeviceUnavailable
        If the device is not there.
    """

    def __init__(self, model: Segmenter, settings: InferenceSettings) -> None:
        self.device = choose_device(settings.device)
        self.precision = choose_precision(settings.precision, self.device)
        self.batch_size = settings.batch_size or BATCH_SIZES[self.device.type]
        self.model = model.to(self.device).eval()
        if settings.compile:
            self.model.embed = torch.compile(self.model.embed)  # type: ignore[method-assign]
        on_gpu = self.device.type == "cuda"
        self.cores = min(torch.get_num_threads(), usable_cores())
        self._pool = None if on_gpu else ThreadPoolExecutor(self.cores, "infer", torch.set_num_threads, (1,))

    @property
    def windows_at_once(self) -> int:
        """Windows that keep the device busy: a batch a core, or a batch on a GPU."""
        return self.batch_size * (self.cores if self._pool else 1)

    def readers(self, asked: int) -> int:
        """Return how many threads read ahead: as many as asked for, or with 0 as many as suit cores and device."""
        return asked or reading_threads(self.cores, self.device.type == "cuda")

    def launch(self, windows: Windows, level: str = "", keep: bool = False) -> Pending:
        """Start forward passes; they run while the caller goes on.

        Parameters
        ----------
        windows : ndarray of uint8, or list of ndarray of float16
            Pixels, or features of `level`, which need no encoder; more than a batch is run batch by batch.
        level : str
            Of the features; empty: the model's first one.
        keep : bool
            Whether the features of pixels are wanted, too.

        Returns
        -------
        Pending

        Raises
        ------
        DeviceUnavailable
            If memory does not suffice for a single window; on a CPU the waiting raises it.
        """
        level = level or self.model.feature_levels[0]
        arrays = [windows] if isinstance(windows, np.ndarray) else windows
        split = (torch.split(torch.from_numpy(array), self.batch_size) for array in arrays)
        batches = [list(batch) for batch in zip(*split, strict=True)]
        if self._pool is None:
            return self._launch_on_gpu(batches, level, keep)
        futures = [self._pool.submit(self._forward, batch, level, keep) for batch in batches]

        def wait() -> Scored:
            logits, *features = zip(*(future.result() for future in futures), strict=True)
            return Scored(_joined(logits), [_joined(parts) for parts in features])

        return wait

    @torch.inference_mode()
    def _forward(self, batch: list[Tensor], level: str, keep: bool) -> list[Tensor]:
        """Return logits, and features to keep; where memory runs out, go on with half batches from then on."""
        try:
            with self._autocast():
                return self._score(batch, level, keep)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch[0]) == 1:
                raise DeviceUnavailable(
                    f"{self.device}: out of memory with a single window; close what else runs there, or use another "
                    "--device"
                ) from None
        # Out of the except clause: the error holds on to the memory that it complains of.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = (len(batch[0]) + 1) // 2
        if half < self.batch_size:
            self.batch_size = half
            logger.warning("%s: out of memory; windows at a time: %d from now on", self.device, half)
        halves = zip(*(torch.split(part, half) for part in batch), strict=True)
        found = [self._forward(list(part), level, keep) for part in halves]
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def _score(self, batch: list[Tensor], level: str, keep: bool) -> list[Tensor]:
        encoded = batch[0].dtype != torch.uint8
        features = [part.float() for part in batch] if encoded else self.model.embed(batch[0], level)
        logits = self.model.score(features, level).float()
        return [logits, *(part.half() for part in features)] if keep else [logits]

    @torch.inference_mode()
    def _launch_on_gpu(self, batches: list[list[Tensor]], level: str, keep: bool) -> Pending:
        found = []
        for batch in batches:
            pinned = [part.pin_memory().to(self.device, non_blocking=True) for part in batch]
            found.append(self._forward(pinned, level, keep))
        results = [torch.cat(parts) for parts in zip(*found, strict=True)]
        host = [torch.empty(result.shape, dtype=result.dtype, pin_memory=True) for result in results]
        for target, result in zip(host, results, strict=True):
            target.copy_(result, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def wait() -> Scored:
            done.synchronize()
            return Scored(host[0].numpy(), [part.numpy() for part in host[1:]])

        return wait

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    def describe(self) -> str:
        """Return one line: which model runs where, and how."""
        cores = f", {self.cores} of {os.cpu_count()} cores" if self._pool else ""
        return f"{self.model.card.name} on {self.device} in {self.precision}{cores}"

    def is_usable(self) -> bool:
        """Tell whether the device still computes; a GPU does not after an illegal access, until the process ends."""
        if self.device.type != "cuda":
            return True
        try:
            torch.cuda.synchronize(self.device)
        except RuntimeError:
            return False
        return True


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error of torch means that memory ran out; on a CPU only its text says so."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or ("alloc" in text and "memory" in text)


def _joined(parts: Sequence[Tensor]) -> NDArray[Any]:
    """Put the results of batches together."""
    return np.concatenate([part.numpy() for part in parts])
