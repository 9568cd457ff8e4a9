"""Slides in processes of their own: one a GPU, or one on the CPU; what breaks one costs the slide at hand alone."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Self

from dualproto_wsi.errors import WorkerLost
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.workflow.batch.claims import run_announced
from dualproto_wsi.workflow.batch.fingerprint import slide_bytes
from dualproto_wsi.workflow.batch.folders import drop_unfinished
from dualproto_wsi.workflow.batch.outcome import FAILED, SlideOutcome, SlideTable
from dualproto_wsi.workflow.batch.progress import StateFile
from dualproto_wsi.workflow.batch.tasks import SlideTask, list_tasks, make_folder
from dualproto_wsi.workflow.batch.worker import LEAVE_S, Event, Finished, Message, Ready, Refused, Worker
from dualproto_wsi.workflow.listener import Listener, Listeners

LOOK_AGAIN_S = 0.5
"""How often a slide is looked at that another process works on."""


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
    is_new = not out.exists()
    make_folder(out)
    try:
        with run_announced(out) as state, Crew(out, settings) as crew:
            ready = crew.wait_until_ready(crew.hire(settings.inference.device))
            for device in ready.devices[1 : len(tasks)]:
                crew.hire(device)
            extra = len(crew.workers) - 1
            if extra:
                tasks.sort(key=lambda task: slide_bytes(task.slide), reverse=True)
            listener = Listeners(listener or Listener(), StateFile(state))
            engine = ready.engine + (f", and {extra} more GPU(s)" if extra else "")
            listener.run_started([task.slide for task in tasks], engine)
            try:
                yield from crew.do(tasks, listener)
            finally:
                listener.run_ended()
    finally:
        if is_new:
            with suppress(OSError):
                out.rmdir()  # nothing was begun


class Crew:
    """The processes of a run; none outlives the ``with``.

    Parameters
    ----------
    out : Path
    settings : SegmentSettings
    """

    def __init__(self, out: Path, settings: SegmentSettings) -> None:
        self._out, self._settings = out, settings
        self._table = SlideTable(out)
        self.workers: list[Worker] = []
        self._todo: deque[tuple[SlideTask, bool]] = deque()
        self._claimed_by_others: list[SlideTask] = []
        self._given_back: list[SlideTask] = []
        self._waiting_told = False
        self._look_again_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.leave()
        until = time.monotonic() + LEAVE_S
        for worker in self.workers:
            worker.end(until)
            if worker.task:
                drop_unfinished(worker.task.folder, worker.task.slide.name, worker.pid)
        self.workers.clear()

    def hire(self, device: str) -> Worker:
        """Start a process for a device."""
        inference = replace(self._settings.inference, device=device)
        worker = Worker(self._out, replace(self._settings, inference=inference))
        self.workers.append(worker)
        return worker

    def wait_until_ready(self, worker: Worker) -> Ready:
        """Wait until a process has loaded its model.

        Raises
        ------
        DualProtoError
            If it cannot.
        """
        while True:
            message = worker.hear()
            if isinstance(message, Ready):
                worker.ready = True
                return message
            self._handle(worker, message, Listener())

    def do(self, tasks: list[SlideTask], listener: Listener) -> Iterator[SlideOutcome]:
        """Do slides; yield what becomes of each."""
        self._todo.extend((task, False) for task in tasks)
        while self._todo or self._claimed_by_others or any(worker.task for worker in self.workers):
            self._hand_out(listener)
            for worker in self._due():
                outcome = self._handle(worker, worker.hear(), listener)
                if outcome:
                    listener.slide_finished(outcome)
                    yield outcome
            for worker in [worker for worker in self.workers if worker.is_late]:
                outcome = self._stop(worker)
                listener.slide_finished(outcome)
                yield outcome

    def _hand_out(self, listener: Listener) -> None:
        """Give slides to processes that have none; those that others had claimed come last, and now and then."""
        idle = [worker for worker in self.workers if worker.ready and not worker.leaving and worker.task is None]
        if idle and not self._todo and self._claimed_by_others and time.monotonic() >= self._look_again_at:
            self._look_again_at = time.monotonic() + LOOK_AGAIN_S
            if not self._waiting_told:
                self._waiting_told = True
                listener.waiting([task.slide for task in self._claimed_by_others])
            self._todo.extend((task, True) for task in self._claimed_by_others)
            self._claimed_by_others.clear()
        for worker in idle:
            if self._todo:
                worker.give(*self._todo.popleft())

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
                    self._claimed_by_others.append(task)
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
                f"the process for {worker.settings.inference.device} died before it was ready ({ending}); "
                "run `dualproto-wsi doctor`, or --no-isolate to see more"
            )
        reason = f"the process died ({ending}) while it was at this slide; is the file intact?"
        return self._replace(worker, reason)

    def _stop(self, worker: Worker) -> SlideOutcome:
        """End and replace a process that is late, and return the outcome of its slide."""
        limit = worker.settings.run.timeout_s
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
        if task and not worker.has_begun and task not in self._given_back:
            self._given_back.append(task)  # it died on the way to the slide: not the slide's fault, unless again
            self._todo.appendleft((task, False))
        elif task:
            drop_unfinished(task.folder, task.slide.name, worker.pid)
            error = f"{task.slide.name}: {reason}"
            outcome = SlideOutcome(task.slide, None, FAILED, seconds=round(seconds, 3), error=error, about=task.about)
            self._table.add(outcome)
        if self._todo or self._claimed_by_others:
            self.hire(worker.settings.inference.device)
        return outcome
