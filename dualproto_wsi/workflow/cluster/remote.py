"""What a Dask worker does: one slide at a time, in a process of its own, as a run without a cluster does."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dualproto_wsi
from dualproto_wsi.errors import ClusterError, DualProtoError, ModelError
from dualproto_wsi.workflow.batch.messages import Duty, Ready
from dualproto_wsi.workflow.batch.outcome import SlideOutcome
from dualproto_wsi.workflow.batch.tasks import SlideTask
from dualproto_wsi.workflow.batch.worker import allow_children
from dualproto_wsi.workflow.batch.workers import Crew
from dualproto_wsi.workflow.listener import Listener

IDLE_S = 300.0
"""How long a process with a loaded model waits for the next slide; its GPU is others' then."""
TELL_EVERY_S = 0.5
"""How often a worker tells how far its slide is; a scheduler hears of many."""


@dataclass(frozen=True, slots=True)
class Order:
    """What all slides of a run have in common.

    Parameters
    ----------
    run : str
        A name that no other run has.
    duty : Duty
    version : str
        Of this package, where the run was started.
    devices : tuple of str
        The worker of number n takes the n-th, and so on; empty: that of the duty.
    """

    run: str
    duty: Duty
    version: str
    devices: tuple[str, ...] = ()


class EventListener(Listener):
    """Sends what a slide tells to whoever started the run, as events of Dask.

    Parameters
    ----------
    worker : distributed.Worker
    topic : str
    """

    def __init__(self, worker: Any, topic: str) -> None:
        self._worker, self._topic = worker, topic
        self._count = 0
        self._told = 0.0

    def slide_started(self, slide: Path) -> None:
        """Pass it on."""
        self._send("slide_started", slide)

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Pass it on."""
        self._send("slide_planned", slide, tiles)

    def tiles_done(self, slide: Path, count: int) -> None:
        """Pass the sum on, now and then."""
        self._count += count
        if time.monotonic() - self._told >= TELL_EVERY_S:
            self.flush(slide)

    def flush(self, slide: Path) -> None:
        """Pass on what was not passed on yet."""
        if self._count:
            self._send("tiles_done", slide, self._count)
            self._count, self._told = 0, time.monotonic()

    def _send(self, method: str, slide: Path, *arguments: int) -> None:
        self._worker.log_event(self._topic, [method, str(slide), *arguments])


class Post:
    """The one slide process of a Dask worker, with the model of the run at hand."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._crew: Crew | None = None
        self._order: Order | None = None
        self._stopped = ""
        self._timer = threading.Timer(0, self._rest)

    def prepare(self, order: Order, worker: Any) -> Ready:
        """Load the model of a run."""
        with self._lock:
            crew = self._crew_for(order, worker)
            try:
                return crew.prepare()
            except DualProtoError as error:
                self._end()
                hint = "; models must be where all machines see them" if isinstance(error, ModelError) else ""
                raise ClusterError(f"{_place(worker)}: {error}{hint}") from None

    def do(self, order: Order, task: SlideTask, again: bool, worker: Any) -> SlideOutcome | None:
        """Do a slide; None if a process of another run works on it."""
        with self._lock:
            crew, listener = self._crew_for(order, worker), EventListener(worker, order.run)
            try:
                outcome = crew.do_one(task, again, listener)
            except DualProtoError as error:
                self._end()
                raise ClusterError(f"{_place(worker)}: {error}") from None
            listener.flush(task.slide)
            self._timer = threading.Timer(IDLE_S, self._rest)
            self._timer.daemon = True
            self._timer.start()
            return outcome

    def stop(self, run: str) -> None:
        """End the process of a run, also in the middle of a slide."""
        self._stopped = run
        crew = self._crew
        if crew and self._order and self._order.run == run:
            crew.stopping.set()
            with self._lock:
                if self._crew is crew:
                    self._end()

    def _crew_for(self, order: Order, worker: Any) -> Crew:
        """Return the process of the run, without one of an earlier run."""
        self._timer.cancel()
        if order.version != dualproto_wsi.__version__:
            raise ClusterError(other_version(worker.address, dualproto_wsi.__version__, order.version))
        if order.run == self._stopped:
            raise ClusterError("the run was stopped")
        if self._crew is None or self._order != order:
            self._end()
            allow_children()
            duty, name = order.duty, str(worker.name)
            if len(order.devices) > 1 and name.isdecimal():
                duty = duty.on(order.devices[int(name) % len(order.devices)], duty.processes)
            self._crew, self._order = Crew(duty), order
        return self._crew

    def _rest(self) -> None:
        """End a process that has nothing to do."""
        if self._lock.acquire(blocking=False):
            try:
                self._end()
            finally:
                self._lock.release()

    def _end(self) -> None:
        if self._crew:
            self._crew.end()
        self._crew = self._order = None


def _place(worker: Any) -> str:
    """Return how to call a worker in a message."""
    return f"worker {worker.address}"


def other_version(address: str, found: str, wanted: str) -> str:
    """Return what to say of a worker with another version of this package, or without it."""
    return (
        f"worker {address} has {'dualproto-wsi ' + found if found else 'no dualproto-wsi'}, and here it is {wanted}; "
        "install the same version on all machines"
    )


POST = Post()


def prepare(order: Order) -> Ready:
    """Load the model of a run on this Dask worker; a task of Dask."""
    from distributed import get_worker

    return POST.prepare(order, get_worker())


def do_slide(order: Order, task: SlideTask, again: bool) -> SlideOutcome | None:
    """Do a slide on this Dask worker; a task of Dask."""
    from distributed import get_worker

    return POST.do(order, task, again, get_worker())


def dask_setup(worker: Any) -> None:
    """Leave Ctrl-C to the process that started this worker; Dask calls it when the worker begins (preload)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def stop(run: str) -> None:
    """Stop a run on this Dask worker, from its event loop."""
    import asyncio

    await asyncio.to_thread(POST.stop, run)
