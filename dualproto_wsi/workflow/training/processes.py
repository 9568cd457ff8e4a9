"""Several processes that fit one head: each takes its share of every batch, and gradients are added up.

``torchrun --nproc-per-node N -m dualproto_wsi train …`` starts them, and tells each its place in the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dualproto_wsi.errors import SettingsError
from dualproto_wsi.workflow.mapping.engine import choose_device
from dualproto_wsi.workflow.training.windows import Step


@dataclass(frozen=True, slots=True)
class Processes:
    """The place of a process among those that fit together.

    Parameters
    ----------
    rank, count : int
        Which one of how many.
    """

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes what is written."""
        return self.rank == 0

    def own(self, step: Step) -> Step:
        """Return a process's part of a step; the first one has the window that is moved."""
        if self.count == 1:
            return step
        mine = slice(self.rank, None, self.count)
        return replace(
            step,
            chosen=step.chosen[mine],
            origins=step.origins[mine],
            orientations=step.orientations[mine],
            stain_seed=step.stain_seed + self.rank,
            shift=step.shift if self.leads else 0,
        )

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all processes; one that no process has stays None."""
        if self.count == 1:
            return
        flat = torch.cat([_gradient(p).flatten() for p in parameters])
        there = torch.tensor([float(p.grad is not None) for p in parameters], device=flat.device)
        for tensor in (flat, there):
            dist.all_reduce(tensor)
        parts = torch.split(flat, [p.numel() for p in parameters])
        for parameter, part, held in zip(parameters, parts, there.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if held else None

    def add(self, values: Tensor) -> Tensor:
        """Return values added up over all processes."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@contextmanager
def join_processes(device: str) -> Iterator[tuple[Processes, torch.device]]:
    """Meet the other processes that torchrun started, if any.

    Parameters
    ----------
    device : str
        As for :func:`~dualproto_wsi.workflow.mapping.engine.choose_device`; ``auto`` and ``cuda`` give each process a
        GPU of its own.

    Raises
    ------
    DeviceUnavailable
        If a GPU was asked for and is not there.
    SettingsError
        If several processes are to share one GPU.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(), choose_device(device)
        return
    chosen = choose_device(device)
    if chosen.type == "cuda":
        if device not in ("auto", "cuda"):
            raise SettingsError(f"device is {device!r}, for {count} processes; use auto, which gives each its own GPU")
        chosen = choose_device(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count), chosen
    finally:
        dist.destroy_process_group()
