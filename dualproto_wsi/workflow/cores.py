"""CPU cores that a process may use, and how many threads read slides; the rule is in :func:`reading_threads`."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MAX_READERS = 32


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """Return how many cores this process may use: those it is bound to, or fewer where its container has a limit.

    Parameters
    ----------
    cgroups : Path
        Where Linux tells the limits of a container.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, _limit(cgroups))))


def _limit(cgroups: Path) -> float:
    """Return a container's limit in cores; of cgroups 2, else of 1; infinity where there is none."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            quota, period, *_ = " ".join((cgroups / name).read_text() for name in names).split()
            return int(quota) / int(period) if int(quota) > 0 else math.inf
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return math.inf


def reading_threads(cores: int, on_gpu: bool) -> int:
    """Return how many threads read ahead where the user leaves it open.

    A model on a GPU takes windows faster than a core decodes them: all cores but one read, and that one does what
    comes behind the model. A model on the CPU takes ten times longer for a window than decoding it: a quarter of the
    cores read. At least 2, so that one waits for the disk while the other decodes, and at most 32.

    Parameters
    ----------
    cores : int
        For this process; processes on one machine share them equally.
    on_gpu : bool
        Whether the model runs on a GPU.
    """
    return min(max(2, cores - 1 if on_gpu else cores // 4), MAX_READERS)
