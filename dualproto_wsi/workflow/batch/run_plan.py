"""The figures of a plan: a slide's, and those of the run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualproto_wsi.files import absolute


@dataclass(slots=True)
class SlidePlan:
    """What one slide would take.

    Parameters
    ----------
    slide : Path
    mpp : float or None
        µm per level-0 px.
    mpp_source : str
        Where that comes from.
    reader : str
        Who reads its pixels.
    tissue_mm2 : float
    windows : int
        Windows that go through the model.
    seconds : float
        Estimate.
    memory_bytes : int or None
        Estimate of the whole program's peak; None where the system does not say what the program takes now.
    disk_bytes : int
        Estimate of the results' size.
    temporary_bytes : int
        What is needed on the same disk until the slide is finished, besides.
    warnings : list of str
        What to look at first.
    error : str
        Why it would fail; empty if nothing is known against it.
    done : bool
        Whether its results are there already: the run would skip it.
    """

    slide: Path
    mpp: float | None = None
    mpp_source: str = ""
    reader: str = ""
    tissue_mm2: float = 0.0
    windows: int = 0
    seconds: float = 0.0
    memory_bytes: int | None = None
    disk_bytes: int = 0
    temporary_bytes: int = 0
    warnings: list[str] = field(default_factory=list)
    error: str = ""
    done: bool = False


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run would take.

    Parameters
    ----------
    slides : list of SlidePlan
    engine : str
        Which model would run where.
    start_s : float
        Seconds until the first slide begins.
    measured_windows : int
        On how many windows the estimate of the time rests.
    processes : int
        How many slides would be done at a time, each on a GPU of its own.
    warnings : list of str
        About the run as a whole.
    """

    slides: list[SlidePlan]
    engine: str
    start_s: float
    measured_windows: int
    processes: int = 1
    warnings: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """How many slides would be skipped."""
        return sum(slide.done for slide in self.slides)

    @property
    def failing(self) -> int:
        """How many slides would fail."""
        return sum(bool(slide.error) for slide in self.slides)

    def totals(self) -> dict[str, Any]:
        """Return the sums over the slides that are to be done, seconds with the start, and the peaks."""
        slides = [slide for slide in self.slides if not slide.done]
        memory = [slide.memory_bytes for slide in slides if slide.memory_bytes is not None]
        return {
            "slides": len(self.slides),
            "skipped": self.skipped,
            "failing": self.failing,
            "tissue_mm2": sum(slide.tissue_mm2 for slide in slides),
            "windows": sum(slide.windows for slide in slides),
            "seconds": self.start_s + makespan([slide.seconds for slide in slides], self.processes),
            "memory_bytes": self._peak(memory) if memory else None,
            "disk_bytes": sum(slide.disk_bytes for slide in slides),
            "temporary_bytes": self._peak([slide.temporary_bytes for slide in slides]),
        }

    def _peak(self, values: list[int]) -> int:
        """Return the sum of the largest values that may come together."""
        return sum(sorted(values)[-self.processes :])

    def to_data(self) -> dict[str, Any]:
        """Return all as plain data, ready for JSON."""
        slides = [{**dataclasses.asdict(slide), "slide": absolute(slide.slide)} for slide in self.slides]
        return {
            "engine": self.engine,
            "start_s": self.start_s,
            "measured_windows": self.measured_windows,
            "processes": self.processes,
            "warnings": self.warnings,
            "totals": self.totals(),
            "slides": slides,
        }


def makespan(seconds: Sequence[float], processes: int) -> float:
    """Return how long jobs take that are shared out longest first, each to the process that is free next."""
    busy = [0.0] * processes
    for job in sorted(seconds, reverse=True):
        busy[busy.index(min(busy))] += job
    return max(busy)
