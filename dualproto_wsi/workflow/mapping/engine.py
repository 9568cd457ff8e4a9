"""A model on a device: where it runs, how precisely, and how a forward pass runs while the caller goes on."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.errors import DeviceUnavailable
from dualproto_wsi.model.segmenter import Segmenter
from dualproto_wsi.settings import InferenceSettings

logger = logging.getLogger(__name__)

Pending = Callable[[], NDArray[np.float32]]
"""Waits for a forward pass, and returns its logits: float32 (n, K, h, w)."""

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
            self.model.compile()
        on_gpu = self.device.type == "cuda"
        self._cores = 1 if on_gpu else torch.get_num_threads()
        self._pool = None if on_gpu else ThreadPoolExecutor(self._cores, "infer", torch.set_num_threads, (1,))

    @property
    def windows_at_once(self) -> int:
        """Windows that keep the device busy: a batch a core, or a batch on a GPU."""
        return self.batch_size * self._cores

    def launch(self, windows: NDArray[np.uint8]) -> Pending:
        """Start forward passes; they run while the caller goes on.

        Parameters
        ----------
        windows : ndarray of uint8, shape (n, window_px, window_px, 3)
            RGB; more than a batch is run batch by batch.

        Returns
        -------
        Pending

        Raises
        ------
        DeviceUnavailable
            If memory does not suffice for a single window; on a CPU the waiting raises it.
        """
        batches = torch.split(torch.from_numpy(windows), self.batch_size)
        if self._pool is None:
            return self._launch_on_gpu(batches)
        futures = [self._pool.submit(self._forward, batch) for batch in batches]
        return lambda: np.concatenate([future.result().numpy() for future in futures])

    @torch.inference_mode()
    def _forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch; where memory runs out, go on with halves of it, and with such from then on."""
        try:
            with self._autocast():
                return self.model(images).float()  # type: ignore[no-any-return]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(images) == 1:
                raise DeviceUnavailable(
                    f"{self.device}: out of memory with a single window; close what else runs there, or use another "
                    "--device"
                ) from None
        # Out of the except clause: the error holds on to the memory that it complains of.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = (len(images) + 1) // 2
        if half < self.batch_size:
            self.batch_size = half
            logger.warning("%s: out of memory; windows at a time: %d from now on", self.device, half)
        return torch.cat([self._forward(part) for part in torch.split(images, half)])

    @torch.inference_mode()
    def _launch_on_gpu(self, batches: tuple[Tensor, ...]) -> Pending:
        pinned = (batch.pin_memory().to(self.device, non_blocking=True) for batch in batches)
        logits = torch.cat([self._forward(batch) for batch in pinned])
        host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        host.copy_(logits, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

        def wait() -> NDArray[np.float32]:
            done.synchronize()
            array: NDArray[np.float32] = host.numpy()
            return array

        return wait

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    def describe(self) -> str:
        """Return one line: which model runs where, and how."""
        cores = f", {self._cores} of {os.cpu_count()} cores" if self._pool else ""
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
