"""Slides in processes of their own: one a GPU, or one on the CPU; what breaks one costs the slide at hand alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Self

from dualproto_wsi.errors import WorkerLost
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.workflow.batch.agenda import LOOK_AGAIN_S, Agenda
from dualproto_wsi.workflow.batch.announce import announced
from dualproto_wsi.workflow.batch.fingerprint import slide_bytes
from dualproto_wsi.workflow.batch.folders import drop_unfinished
from dualproto_wsi.workflow.batch.messages import Duty, Event, Finished, Message, Ready, Refused
from dualproto_wsi.workflow.batch.outcome import SlideOutcome, SlideTable
from dualproto_wsi.workflow.batch.tasks import SlideTask, list_tasks
from dualproto_wsi.workflow.batch.worker import LEAVE_S, Worker
from dualproto_wsi.workflow.listener import Listener

STOPPED = "the run was stopped"


def segment_in_workers(
    paths: Sequence[Path], out: Path, settings: SegmentSettings, listener: Listener | None = None
) -> Generator[SlideOutcome, None, None]:
    """Segment slides in processes of their own, and write their results.

    A process that dies, or needs longer than ``settings.run.timeout_s`` for a slide, costs that slide alone: its row
    says why, and a fresh process goes on. With ``device`` ``auto`` or ``cuda`` every GPU of the machine gets a process,
    and the largest slides come first. This process itself loads no model and opens no slide. Closing the generator ends
    the processes. A script that calls this needs ``if __name__ == "__main__":`` around its main part, as always with
    processes that Python spawns.

    Parameters
    ----------
    paths, out, settings, listener
        As for :func:`~dualproto_wsi.workflow.segment.segment_slides`.

    Yields
    ------
    SlideOutcome
        As they finish; the row is in ``slides.csv`` by then.

    Raises
    ------
    DualProtoError
        If nothing can be done at all: no slides, no such model or device, no place to write.
    """
    tasks = list_tasks(paths, out, settings)
    with announced(tasks, out, settings, listener) as (tasks, told), Crew(Duty(out, settings)) as crew:
        ready = crew.wait_until_ready(crew.hire(settings.inference.device))
        for device in ready.devices[1 : len(tasks)]:
            crew.hire(device, len(ready.devices))
        extra = len(crew.workers) - 1
        if extra:
            tasks.sort(key=lambda task: slide_bytes(task.slide), reverse=True)
        engine = ready.engine + (f", and {extra} more GPU(s)" if extra else "")
        told.run_started([task.slide for task in tasks], engine)
        try:
            yield from crew.do(tasks, told)
        finally:
            told.run_ended()


class Crew:
    """The processes of a run; none outlives the ``with``.

    Parameters
    ----------
    duty : Duty
        Of each; devices apart.

    Attributes
    ----------
    workers : list of Worker
    stopping : threading.Event
        Set by another thread to have :meth:`prepare` and :meth:`do_one` return at once.
    """

    def __init__(self, duty: Duty) -> None:
        self._duty = duty
        self._table = SlideTable(duty.out)
        self._agenda = Agenda()
        self.workers: list[Worker] = []
        self.stopping = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """End all processes; what they leave of a slide is removed."""
        for worker in self.workers:
            worker.leave()
        until = time.monotonic() + LEAVE_S
        for worker in self.workers:
            worker.end(until)
            if worker.task:
                drop_unfinished(worker.task.folder, worker.task.slide.name, worker.pid)
        self.workers.clear()

    def hire(self, device: str, processes: int = 0) -> Worker:
        """Start a process for a device, which shares the cores of the machine with the others of so many processes."""
        worker = Worker(self._duty.on(device, processes))
        self.workers.append(worker)
        return worker

    def prepare(self) -> Ready:
        """Start a process for the device of the duty, and wait until it has loaded its model.

        Raises
        ------
        DualProtoError
            If it cannot, or :attr:`stopping` is set.
        """
        return self.wait_until_ready(self.hire(self._duty.settings.inference.device, self._duty.processes))

    def wait_until_ready(self, worker: Worker) -> Ready:
        """Wait until a process has loaded its model.

        Raises
        ------
        DualProtoError
            If it cannot, or :attr:`stopping` is set.
        """
        while not self.stopping.is_set():
            if worker.connection.poll(LOOK_AGAIN_S):
                message = worker.hear()
                self._handle(worker, message, Listener())
                if isinstance(message, Ready):
                    return message
        raise WorkerLost(STOPPED)

    def do(self, tasks: list[SlideTask], listener: Listener) -> Iterator[SlideOutcome]:
        """Do slides; yield what becomes of each."""
        for task in tasks:
            self._agenda.add(task, again=False)
        while self._agenda or self._is_busy:
            for outcome in self._step(listener):
                listener.slide_finished(outcome)
                yield outcome

    def do_one(self, task: SlideTask, again: bool, listener: Listener) -> SlideOutcome | None:
        """Do a slide, in a fresh process if there is none; return what becomes of it.

        Parameters
        ----------
        task : SlideTask
        again : bool
            Whether another process had it before.
        listener : Listener
            Hears of the slide, but not that it is finished.

        Returns
        -------
        SlideOutcome or None
            None if a process of another run works on it.

        Raises
        ------
        DualProtoError
            If no slide can be done at all, or :attr:`stopping` is set.
        """
        if not self.workers:
            self.hire(self._duty.settings.inference.device, self._duty.processes)
        self._agenda.add(task, again)
        while self._agenda.has_fresh or self._is_busy:
            if self.stopping.is_set():
                raise WorkerLost(STOPPED)
            for outcome in self._step(listener):
                return outcome
        self._agenda.drop_postponed()
        return None

    @property
    def _is_busy(self) -> bool:
        return any(worker.task for worker in self.workers)

    def _step(self, listener: Listener) -> Iterator[SlideOutcome]:
        """Hand out slides, wait a little for news, and yield what has become of slides."""
        for worker in self.workers:
            if worker.is_idle and (order := self._agenda.take(listener)):
                worker.give(*order)
        for worker in self._due():
            outcome = self._handle(worker, worker.hear(), listener)
            if outcome:
                yield outcome
        for worker in [worker for worker in self.workers if worker.is_late]:
            yield self._stop(worker)

    def _due(self) -> list[Worker]:
        """Wait a little for messages; return the processes that sent some, or died."""
        said = wait([worker.connection for worker in self.workers], timeout=LOOK_AGAIN_S)
        return [worker for worker in self.workers if worker.connection in said]

    def _handle(self, worker: Worker, message: Message | None, listener: Listener) -> SlideOutcome | None:
        match message:
            case None:
                return self._bury(worker)
            case Ready():
                worker.ready = True
            case Event(method, arguments):
                if method == "slide_started":
                    worker.begin()
                getattr(listener, method)(*arguments)
            case Finished(outcome, leaving):
                task, worker.task, worker.leaving = worker.task, None, leaving
                if outcome is None and task:
                    self._agenda.postpone(task)
                return outcome
            case Refused(error):
                raise error
            case logging.LogRecord():
                logging.getLogger(message.name).handle(message)
        return None

    def _bury(self, worker: Worker) -> SlideOutcome | None:
        """Replace a process that died, and return the outcome of its slide, if it had one."""
        ending = worker.ending()
        if not worker.ready:
            raise WorkerLost(
                f"the process for {worker.duty.settings.inference.device} died before it was ready ({ending}); "
                "run `dualproto-wsi doctor`, or --no-isolate to see more"
            )
        reason = f"the process died ({ending}) while it was at this slide; is the file intact?"
        return self._replace(worker, reason)

    def _stop(self, worker: Worker) -> SlideOutcome:
        """End and replace a process that is late, and return the outcome of its slide."""
        limit = worker.duty.settings.run.timeout_s
        outcome = self._replace(
            worker, f"stopped after {limit:g} s; give it longer with --timeout, or look at the file"
        )
        assert outcome is not None  # only a process that is at a slide can be late
        return outcome

    def _replace(self, worker: Worker, reason: str) -> SlideOutcome | None:
        task, seconds = worker.task, worker.seconds
        worker.kill()
        self.workers.remove(worker)
        outcome = None
        # If it died on the way to the slide, that is not the slide's fault, unless it happens again.
        if task and (worker.has_begun or not self._agenda.give_back(task)):
            drop_unfinished(task.folder, task.slide.name, worker.pid)
            outcome = task.failed(reason, seconds)
            self._table.add(outcome)
        if self._agenda:
            self.hire(worker.duty.settings.inference.device, worker.duty.processes)
        return outcome
