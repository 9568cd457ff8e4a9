"""Slides on a cluster, one a task; what becomes of each is the same as without it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import dualproto_wsi
from dualproto_wsi.errors import ClusterError, DualProtoError
from dualproto_wsi.files import absolute
from dualproto_wsi.settings import SegmentSettings, parse_cluster
from dualproto_wsi.workflow.batch.agenda import LOOK_AGAIN_S, Agenda
from dualproto_wsi.workflow.batch.announce import announced
from dualproto_wsi.workflow.batch.claims import claimed
from dualproto_wsi.workflow.batch.fingerprint import slide_bytes
from dualproto_wsi.workflow.batch.folders import drop_unfinished
from dualproto_wsi.workflow.batch.messages import Duty, Ready
from dualproto_wsi.workflow.batch.outcome import SlideOutcome, SlideTable
from dualproto_wsi.workflow.batch.tasks import SlideTask, list_tasks
from dualproto_wsi.workflow.batch.worker import ENDING_S
from dualproto_wsi.workflow.cluster import remote
from dualproto_wsi.workflow.cluster.connect import Cluster, connected
from dualproto_wsi.workflow.listener import Listener

COUNT_EVERY_S = 2.0
"""How often the workers are counted."""


def segment_on_cluster(
    paths: Sequence[Path], out: Path, settings: SegmentSettings, listener: Listener | None = None
) -> Generator[SlideOutcome, None, None]:
    """Segment slides on the cluster of ``settings.run.cluster``, the largest first, and write their results.

    Slides, models and `out` are on storage that all machines see by the same paths. A worker does one slide at a time,
    in a process of its own, so crashes and late slides cost what they cost without a cluster. A slide whose worker is
    lost is done by another; it fails when several were lost with it. A slide is done once: results are skipped that
    are there already, and locks keep two workers from one slide where the storage has them. Closing the generator
    stops the workers' slides. A script that calls this needs ``if __name__ == "__main__":`` around its main part.

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
    ClusterError
        If there is no such cluster, or it cannot do slides.
    DualProtoError
        If nothing can be done at all: no slides, no place to write.
    """
    out = Path(absolute(out))
    found = [_absolute(task) for task in list_tasks(paths, out, settings)]
    spec = parse_cluster(settings.run.cluster)
    with announced(found, out, settings, listener) as (tasks, told):
        told.preparing(f"waiting for a worker of {spec}")
        with connected(spec, settings.inference.device) as cluster:
            tasks.sort(key=lambda task: slide_bytes(task.slide), reverse=True)
            yield from _run(cluster, tasks, Duty(out, settings), told)


def _absolute(task: SlideTask) -> SlideTask:
    """Return a task whose files are named from the root: a worker starts in another folder."""
    item = task.item
    regions = Path(absolute(item.regions)) if item.regions else None
    return replace(task, item=replace(item, path=Path(absolute(item.path)), regions=regions))


def _run(cluster: Cluster, tasks: list[SlideTask], duty: Duty, listener: Listener) -> Iterator[SlideOutcome]:
    run = ClusterRun(cluster, duty, listener)
    try:
        ready = run.prepare()
        listener.run_started([task.slide for task in tasks], f"{ready.engine}, on {cluster.spec}")
        try:
            yield from run.do(tasks)
        finally:
            listener.run_ended()
    finally:
        run.end()


class ClusterRun:
    """Hands slides to the workers of a cluster, and hears of them.

    No more slides are handed out than there are workers: a slide that waits at a worker would count as lost with it.

    Parameters
    ----------
    cluster : Cluster
    duty : Duty
    listener : Listener
    """

    def __init__(self, cluster: Cluster, duty: Duty, listener: Listener) -> None:
        self._cluster, self._client, self._listener = cluster, cluster.client, listener
        self._name = f"dualproto-wsi-{uuid.uuid4().hex}"
        self._order = remote.Order(self._name, duty.on(cluster.device, cluster.processes), dualproto_wsi.__version__)
        self._table = SlideTable(duty.out)
        self._agenda = Agenda()
        self._given: dict[Any, SlideTask] = {}
        self._begun: set[Path] = set()
        self._news: SimpleQueue[Any] = SimpleQueue()
        self._workers, self._counted = 0, -COUNT_EVERY_S
        self._client.subscribe_topic(self._name, self._news.put)

    def prepare(self) -> Ready:
        """Load the model on a worker, as soon as there is one.

        Raises
        ------
        ClusterError
            If it cannot.
        """
        while not self._worker_count():
            time.sleep(LOOK_AGAIN_S)
        self._check_versions()
        future = self._submit(remote.prepare, self._order)
        while future.status == "pending":
            with suppress(Empty):
                self._news.get(timeout=LOOK_AGAIN_S)
        from distributed import KilledWorker

        try:
            ready: Ready = self._result(future)
        except KilledWorker as error:
            raise ClusterError(
                f"{self._cluster.spec}: {error.allowed_failures + 1} workers were lost while they loaded the model; is "
                "their memory large enough?"
            ) from error
        if len(ready.devices) > 1:
            self._order = replace(self._order, devices=ready.devices)
        return ready

    def _check_versions(self) -> None:
        """Ask the workers that are there; those to come tell themselves, if they can."""

        def ask() -> str:  # a function in a function: Dask sends its code, where it names others
            try:
                import dualproto_wsi
            except ImportError:
                return ""
            return dualproto_wsi.__version__

        for worker, found in self._client.run(ask).items():
            if found != self._order.version:
                raise ClusterError(remote.other_version(worker, found, self._order.version))

    def do(self, tasks: list[SlideTask]) -> Iterator[SlideOutcome]:
        """Do slides; yield what becomes of each."""
        for task in tasks:
            self._agenda.add(task, again=False)
        while self._agenda or self._given:
            while len(self._given) < self._worker_count() and (order := self._agenda.take(self._listener)):
                self._give(*order)
            try:
                news = self._news.get(timeout=LOOK_AGAIN_S)
            except Empty:
                continue
            if isinstance(news, tuple):
                self._pass_on(news)
            elif news in self._given and (outcome := self._take(news)):
                self._listener.slide_finished(outcome)
                yield outcome

    def end(self) -> None:
        """Take back what was handed out, and end the processes of the run on all workers."""
        with suppress(OSError, RuntimeError):
            if self._client.status != "running":
                return  # the scheduler is gone, and workers end with it
            self._client.cancel(list(self._given), reason="the run was stopped")
            self._client.run(remote.stop, self._name, on_error="ignore")
            self._client.unsubscribe_topic(self._name)

    def _worker_count(self) -> int:
        if time.monotonic() - self._counted >= COUNT_EVERY_S:
            if self._client.status != "running":
                raise self._gone()
            try:
                count = self._cluster.worker_count()
            except (OSError, RuntimeError) as error:
                raise self._gone() from error
            if self._workers and not count:
                self._listener.preparing(f"waiting for a worker of {self._cluster.spec}")
            self._counted, self._workers = time.monotonic(), count
        return self._workers

    def _gone(self) -> ClusterError:
        return ClusterError(f"{self._cluster.spec}: the scheduler is gone; the same command goes on")

    def _submit(self, function: Any, *arguments: object) -> Any:
        future = self._client.submit(
            function, *arguments, key=f"{self._name}-{uuid.uuid4().hex}", pure=False, resources=self._cluster.resources
        )
        future.add_done_callback(self._news.put)
        return future

    def _give(self, task: SlideTask, again: bool) -> None:
        self._given[self._submit(remote.do_slide, self._order, task, again)] = task

    def _pass_on(self, event: tuple[float, list[Any]]) -> None:
        method, slide, *arguments = event[1]
        if method == "slide_started":
            self._begun.add(Path(slide))
        getattr(self._listener, method)(Path(slide), *arguments)

    def _take(self, future: Any) -> SlideOutcome | None:
        """Return what became of a slide that a worker had; None if it is not done."""
        from distributed import KilledWorker

        task = self._given.pop(future)
        try:
            outcome: SlideOutcome | None = self._result(future)
        except KilledWorker as error:
            if task.slide not in self._begun and self._agenda.give_back(task):
                return None  # they were lost on the way to the slide: not its fault, unless it happens again
            return self._lost(task, error.allowed_failures + 1, str(error.last_worker.address))
        if outcome is None:
            self._agenda.postpone(task)
        return outcome

    def _lost(self, task: SlideTask, workers: int, last: str) -> SlideOutcome:
        until, mine = time.monotonic() + ENDING_S, False
        while not mine and time.monotonic() < until:
            with claimed(self._order.duty.out, task.folder.name) as mine:
                if mine:
                    drop_unfinished(task.folder, task.slide.name)
            time.sleep(0 if mine else 0.1)  # its last process is about to end
        outcome = task.failed(
            f"{workers} workers were lost while they were at this slide, the last one {last}; is the file intact, and "
            "their memory large enough?"
        )
        self._table.add(outcome)
        return outcome

    def _result(self, future: Any) -> Any:
        from distributed import KilledWorker

        if future.status in ("cancelled", "lost"):
            raise self._gone()
        try:
            return future.result()
        except (DualProtoError, KilledWorker):
            raise
        except Exception as error:
            raise ClusterError(
                f"{self._cluster.spec}: a worker cannot run this program ({type(error).__name__}: {error}); install "
                f"dualproto-wsi {dualproto_wsi.__version__} and the same Python there"
            ) from error
