"""Windows through the model: device, precision, reading ahead, batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dualproto_wsi.errors import DeviceUnavailable
from dualproto_wsi.settings import InferenceSettings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dualproto_wsi.model.segmenter import Segmenter
    from dualproto_wsi.slide.reader import SlideReader
    from dualproto_wsi.slide.tiling import Block
    from dualproto_wsi.workflow.stopwatch import Stopwatch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BATCH_SIZES = {"cpu": 8, "cuda": 64}


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


def choose_precision(name: str, device: torch.device) -> str:
    """Return ``fp32``, ``bf16`` or ``fp16``; ``auto`` takes what is fast and safe on the device."""
    if name != "auto":
        return name
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


@dataclass(frozen=True, slots=True)
class Engine:
    """A model on a device, ready to take windows.

    Parameters
    ----------
    model : Segmenter
        On ``device``, in evaluation mode.
    device : torch.device
    precision : str
        ``fp32``, ``bf16`` or ``fp16``.
    batch_size : int
        Windows a forward pass.
    """

    model: Segmenter
    device: torch.device
    precision: str
    batch_size: int

    @classmethod
    def prepare(cls, model: Segmenter, settings: InferenceSettings) -> Engine:
        """Move a model to the device that the settings name.

        Raises
        ------
        DeviceUnavailable
            If that device is not there.
        """
        device = choose_device(settings.device)
        precision = choose_precision(settings.precision, device)
        return cls(model.to(device).eval(), device, precision, settings.batch_size or BATCH_SIZES[device.type])

    def autocast(self) -> AbstractContextManager[object]:
        """Mixed precision as set; nothing for fp32."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    @torch.inference_mode()
    def launch(self, windows: NDArray[np.uint8]) -> Pending:
        """Start a forward pass; on a GPU it runs while the caller goes on.

        Parameters
        ----------
        windows : ndarray of uint8, shape (n, window_px, window_px, 3)
            RGB; more than a batch is run batch by batch.
        """
        images = torch.from_numpy(windows)
        if self.device.type == "cuda":
            images = images.pin_memory().to(self.device, non_blocking=True)
        with self.autocast():
            logits = torch.cat([self.model(part).float() for part in torch.split(images, self.batch_size)])
        if self.device.type != "cuda":
            return Pending(logits, None)
        host = torch.empty(logits.shape, dtype=logits.dtype, pin_memory=True)
        host.copy_(logits, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return Pending(host, event)


@dataclass(frozen=True, slots=True)
class Pending:
    """Logits that may still be on their way from the device."""

    tensor: torch.Tensor
    event: torch.cuda.Event | None

    def result(self) -> NDArray[np.float32]:
        """Wait, and return (n, K, h, w) float32."""
        if self.event is not None:
            self.event.synchronize()
        array: NDArray[np.float32] = self.tensor.numpy()
        return array


def read_ahead(reader: SlideReader, blocks: Iterable[Block], workers: int) -> Iterator[tuple[Block, NDArray[np.uint8]]]:
    """Read blocks in threads, a few ahead of the consumer, in order.

    Parameters
    ----------
    reader : SlideReader
        Thread-safe.
    blocks : iterable of Block
    workers : int
        Threads; at most twice as many blocks are held.

    Yields
    ------
    block : Block
    windows : ndarray of uint8, shape (n, window_px, window_px, 3)
    """

    def load(block: Block) -> NDArray[np.uint8]:
        return block.cut(reader.read(block.box, block.size))

    waiting: deque[tuple[Block, Future[NDArray[np.uint8]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="read") as pool:
        try:
            for block in blocks:
                waiting.append((block, pool.submit(load, block)))
                if len(waiting) >= 2 * workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def predict(
    engine: Engine, loaded: Iterable[tuple[Block, NDArray[np.uint8]]], clock: Stopwatch
) -> Iterator[tuple[list[Block], NDArray[np.float32]]]:
    """Run windows through the model; on a GPU one batch computes while the last one's result is used.

    Parameters
    ----------
    engine : Engine
    loaded : iterable
        Blocks with their windows, as :func:`read_ahead` yields them.
    clock : Stopwatch
        Gets the seconds spent waiting for pixels (``read``) and computing (``infer``).

    Yields
    ------
    blocks : list of Block
    logits : ndarray of float32, shape (n, K, h, w)
        Of all windows of the blocks, in order.
    """
    pending: tuple[list[Block], Pending] | None = None
    for blocks, windows in _batches(clock.iterate("read", loaded), engine.batch_size):
        with clock("infer"):
            launched = engine.launch(windows)
            result = pending[1].result() if pending else None
        if pending and result is not None:
            yield pending[0], result
        pending = (blocks, launched)
    if pending:
        with clock("infer"):
            result = pending[1].result()
        yield pending[0], result


def _batches(
    loaded: Iterable[tuple[Block, NDArray[np.uint8]]], batch_size: int
) -> Iterator[tuple[list[Block], NDArray[np.uint8]]]:
    blocks: list[Block] = []
    windows: list[NDArray[np.uint8]] = []
    count = 0
    for block, pixels in loaded:
        if blocks and count + len(pixels) > batch_size:
            yield blocks, np.concatenate(windows)
            blocks, windows, count = [], [], 0
        blocks.append(block)
        windows.append(pixels)
        count += len(pixels)
    if blocks:
        yield blocks, np.concatenate(windows)
