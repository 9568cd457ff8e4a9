"""Settings of a run over many slides; none of them changes what becomes of a slide."""

from __future__ import annotations

from dataclasses import dataclass

from dualproto_wsi.settings.checks import require
from dualproto_wsi.settings.cluster import parse_cluster


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How slides are shared out, and which are done.

    Parameters
    ----------
    isolate : bool
        Whether slides are done in processes of their own kind, so that a crash costs one slide alone.
    timeout_s : float
        Longest time for a slide, s; 0: no limit. Needs `isolate`.
    retry_failed : bool
        Whether only slides are done that failed before.
    force : bool
        Whether slides are done again that are done and unchanged.
    cluster : str
        Which cluster does the slides: ``dask://HOST:PORT``, ``slurm:FILE`` or ``local:N``; empty: this machine, without
        one. Needs `isolate`.
    """

    isolate: bool = True
    timeout_s: float = 0.0
    retry_failed: bool = False
    force: bool = False
    cluster: str = ""

    def __post_init__(self) -> None:
        require(0 <= self.timeout_s <= 1e7, f"timeout is {self.timeout_s:g}; seconds a slide, or 0 for no limit")
        require(
            self.isolate or not self.timeout_s,
            "timeout needs isolate: only a process of its own can be stopped in the middle of a slide",
        )
        if self.cluster:
            parse_cluster(self.cluster)
            require(self.isolate, "cluster needs isolate: a worker does each slide in a process of its own")
