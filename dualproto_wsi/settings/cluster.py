"""Settings of a cluster: which one, and the jobs that SLURM is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dualproto_wsi.settings.checks import require

DASK, SLURM, LOCAL = "dask", "slurm", "local"
MAX_LOCAL = 256


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Which cluster does the slides.

    Parameters
    ----------
    kind : str
        ``dask``, ``slurm`` or ``local``.
    target : str
        ``HOST:PORT`` of a Dask scheduler, the file of :class:`SlurmSettings`, or the number of processes.
    """

    kind: str
    target: str

    def __str__(self) -> str:
        return f"dask://{self.target}" if self.kind == DASK else f"{self.kind}:{self.target}"


def parse_cluster(text: str) -> ClusterSpec:
    """Parse the name of a cluster.

    Parameters
    ----------
    text : str
        ``dask://HOST:PORT``, ``slurm:FILE`` or ``local:N``.

    Raises
    ------
    SettingsError
        If it is none of these.
    """
    kind, _, target = text.partition(":")
    if kind == LOCAL and target.isdecimal():
        require(1 <= int(target) <= MAX_LOCAL, f"cluster is {text!r}; local:N needs 1 to {MAX_LOCAL} processes")
        return ClusterSpec(LOCAL, str(int(target)))
    if kind == SLURM and target:
        return ClusterSpec(SLURM, target)
    address = re.fullmatch(r"//([^/\s]+:\d{1,5})/?", target) if kind == DASK else None
    require(address is not None, f"cluster is {text!r}; use dask://HOST:PORT, slurm:FILE or local:N")
    assert address is not None
    return ClusterSpec(DASK, address[1])


@dataclass(frozen=True, slots=True)
class SlurmSettings:
    """What SLURM is asked for; a job does one slide at a time.

    Parameters
    ----------
    jobs : int
        Jobs at a time; one that SLURM ends is replaced while slides are left.
    cores : int
        CPU cores a job.
    memory : str
        Of a job, such as ``32GB``.
    walltime : str
        Longest time of a job, ``HH:MM:SS`` or ``D-HH:MM:SS``.
    gpus : int
        GPUs a job: 0 or 1; several GPUs are several jobs.
    queue : str
        Partition; empty: the usual one.
    account : str
        Empty: the usual one.
    directives : tuple of str
        Further lines for ``#SBATCH``, such as ``--constraint=a100``.
    prologue : tuple of str
        Shell commands before the worker, such as ``source /shared/venv/bin/activate``.
    python : str
        Python of the jobs, with this package; empty: the one that runs this.
    interface : str
        Network interface that the jobs reach this machine by, such as ``ib0``; empty: the usual one.
    local_directory : str
        Where a job keeps what is Dask's; empty: the folder that the command is given in.
    log_directory : str
        For the output of the jobs; empty: as SLURM does.
    """

    jobs: int = 1
    cores: int = 0
    memory: str = ""
    walltime: str = "04:00:00"
    gpus: int = 0
    queue: str = ""
    account: str = ""
    directives: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    python: str = ""
    interface: str = ""
    local_directory: str = ""
    log_directory: str = ""

    def __post_init__(self) -> None:
        require(1 <= self.jobs <= 10_000, f"jobs is {self.jobs}; use 1 to 10000")
        require(1 <= self.cores <= 1024, f"cores is {self.cores}; say how many CPU cores a job gets, 1 to 1024")
        require(
            re.fullmatch(r"\d+(\.\d+)? ?[KMGT]i?B", self.memory) is not None,
            f"memory is {self.memory!r}; say how much a job gets, such as '32GB'",
        )
        require(
            re.fullmatch(r"(\d+-)?\d{1,3}:\d\d(:\d\d)?", self.walltime) is not None,
            f"walltime is {self.walltime!r}; use HH:MM:SS or D-HH:MM:SS",
        )
        require(self.gpus in (0, 1), f"gpus is {self.gpus}; a job has 0 or 1, and several GPUs are several jobs")
