"""A Dask cluster by its name: connected to, or started and ended with the run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import ClusterError, MissingDependency
from dualproto_wsi.settings import ClusterSpec, SlurmSettings, load_toml
from dualproto_wsi.settings.cluster import LOCAL, SLURM
from dualproto_wsi.workflow.cluster import remote

ANSWER_S = 15.0
"""How long a scheduler has for answering, and a cluster that is said to run for having a worker."""
GPU = "GPU"
"""Dask's name for it by custom: workers are started with ``--resources GPU=1``."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster that can do slides.

    Parameters
    ----------
    spec : ClusterSpec
    client : distributed.Client
    device : str
        What the models run on.
    processes : int
        How many workers share the cores of a machine.
    """

    spec: ClusterSpec
    client: Any
    device: str
    processes: int = 1

    @property
    def resources(self) -> dict[str, float]:
        """What a worker must have for a slide; workers of ``local`` are all alike."""
        return {GPU: 1} if self.device.startswith("cuda") and self.spec.kind != LOCAL else {}

    def worker_count(self) -> int:
        """Return how many workers can do slides now."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return sum(all(worker["resources"].get(name, 0) for name in self.resources) for worker in workers)


@contextmanager
def connected(spec: ClusterSpec, device: str) -> Iterator[Cluster]:
    """Connect to a cluster while inside the ``with``; one that is started here is ended, too.

    Parameters
    ----------
    spec : ClusterSpec
    device : str
        As the user gives it. ``auto`` is a GPU where workers offer some.

    Yields
    ------
    Cluster

    Raises
    ------
    MissingDependency
        If Dask distributed, or dask-jobqueue, is not installed.
    SettingsError
        If the file for SLURM is wrong.
    ClusterError
        If there is no such cluster, or no worker or GPU where there should be some.
    """
    distributed = _import_distributed()
    with ExitStack() as stack:
        if spec.kind == LOCAL:
            address = stack.enter_context(_local_cluster(int(spec.target)))
        elif spec.kind == SLURM:
            wanted = load_toml(SlurmSettings, Path(spec.target))
            address = stack.enter_context(slurm_cluster(wanted))
        else:
            address = f"tcp://{spec.target}"
        try:
            client = stack.enter_context(distributed.Client(address, timeout=ANSWER_S, set_as_default=False))
        except OSError as error:
            raise ClusterError(
                f"{spec}: no Dask scheduler answers there; start one with `dask scheduler`, and check host and port"
            ) from error
        stack.enter_context(_logging_forwarded(client))
        if spec.kind == LOCAL:
            yield Cluster(spec, client, device, int(spec.target))
        elif spec.kind == SLURM:
            yield Cluster(spec, client, _slurm_device(spec, wanted, device))
        else:
            yield Cluster(spec, client, _offered(spec, client, device))


def _import_distributed() -> Any:
    """Return the module; unless the user wants to see more, it tells of errors only, as all that we use."""
    try:
        import dask

        dask.config.update_defaults({"logging": {"distributed": "error"}})  # read when it is imported first
        import distributed
    except ImportError as error:
        raise MissingDependency(
            f"--cluster needs the package {error.name}; pip install 'dualproto-wsi[cluster]'"
        ) from error
    return distributed


@contextmanager
def _logging_forwarded(client: Any) -> Iterator[None]:
    """Let the loggers of this process handle what workers log."""
    client.forward_logging("dualproto_wsi", logging.getLogger("dualproto_wsi").getEffectiveLevel())
    try:
        yield
    finally:
        if client.status == "running":  # else the scheduler is gone, and what it was told with it
            client.unforward_logging("dualproto_wsi")


@contextmanager
def _local_cluster(processes: int) -> Iterator[Any]:
    from distributed import LocalCluster

    # Its memory is that of the slides' processes, which Dask does not see; nobody is to meet a dashboard.
    with LocalCluster(
        n_workers=processes,
        threads_per_worker=1,
        processes=True,
        memory_limit=0,
        preload=remote.__name__,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


@contextmanager
def slurm_cluster(wanted: SlurmSettings, start: bool = True) -> Iterator[Any]:
    """Ask SLURM for jobs while inside the ``with``.

    Parameters
    ----------
    wanted : SlurmSettings
    start : bool
        Whether jobs are asked for at once.

    Yields
    ------
    dask_jobqueue.SLURMCluster

    Raises
    ------
    MissingDependency
        If dask-jobqueue is not installed.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise MissingDependency(
            "--cluster slurm: needs the package dask-jobqueue; pip install 'dualproto-wsi[cluster]'"
        ) from error
    optional = {
        "queue": wanted.queue,
        "account": wanted.account,
        "python": wanted.python,
        "interface": wanted.interface,
        "local_directory": wanted.local_directory,
        "log_directory": wanted.log_directory,
    }
    with SLURMCluster(
        cores=wanted.cores,
        memory=wanted.memory,
        walltime=wanted.walltime,
        processes=1,
        job_extra_directives=[*(["--gres=gpu:1"] if wanted.gpus else []), *wanted.directives],
        job_script_prologue=list(wanted.prologue),
        worker_extra_args=["--nthreads", "1", *(["--resources", f"{GPU}=1"] if wanted.gpus else [])],
        scheduler_options={"dashboard": False},
        silence_logs=logging.CRITICAL,
        **{name: value for name, value in optional.items() if value},
    ) as cluster:
        if start:
            cluster.adapt(minimum_jobs=wanted.jobs, maximum_jobs=wanted.jobs)  # replaces those whose time is over
        yield cluster


def _slurm_device(spec: ClusterSpec, wanted: SlurmSettings, device: str) -> str:
    if device == "auto":
        return "cuda" if wanted.gpus else "cpu"
    if device != "cpu" and not wanted.gpus:
        raise ClusterError(f"{spec}: asks for no GPU, and --device is {device}; add `gpus = 1`, or use --device cpu")
    return device


def _offered(spec: ClusterSpec, client: Any, device: str) -> str:
    """Return the device of a cluster that runs already."""
    try:
        client.wait_for_workers(1, timeout=ANSWER_S)
    except TimeoutError as error:
        raise ClusterError(
            f"{spec}: the scheduler has no workers; start some with `dask worker {spec.target} --nthreads 1`"
        ) from error
    offered = any(worker["resources"].get(GPU, 0) for worker in client.scheduler_info(n_workers=-1)["workers"].values())
    if device.startswith("cuda") and not offered:
        raise ClusterError(
            f"{spec}: no worker offers a GPU, and --device is {device}; start workers with "
            f"`dask worker {spec.target} --nthreads 1 --resources {GPU}=1`"
        )
    return device if device != "auto" else "cuda" if offered else "cpu"
