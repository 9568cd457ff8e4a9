"""The main job: slides in, regions and areas out; one slide after the other, each on its own."""

from __future__ import annotations

import errno
import logging
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import DualProtoError
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.vector.export import require_packages
from dualproto_wsi.workflow.batch.agenda import LOOK_AGAIN_S
from dualproto_wsi.workflow.batch.announce import announced
from dualproto_wsi.workflow.batch.claims import claimed
from dualproto_wsi.workflow.batch.fingerprint import Fingerprint
from dualproto_wsi.workflow.batch.folders import drop_unfinished, is_taken, own_folder
from dualproto_wsi.workflow.batch.outcome import (
    FAILED,
    SlideOutcome,
    SlideTable,
    outcome_from_record,
    outcome_from_row,
    same_row,
)
from dualproto_wsi.workflow.batch.record import read_record
from dualproto_wsi.workflow.batch.tasks import SlideTask, list_tasks
from dualproto_wsi.workflow.features.keep import are_kept
from dualproto_wsi.workflow.listener import Listener
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.mapping.job import SlideJob
from dualproto_wsi.workflow.models import prepare_model
from dualproto_wsi.workflow.stopwatch import Stopwatch

logger = logging.getLogger(__name__)

GRACE_S = 1.0
"""How long a process that ended in the middle of a slide has for telling why."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def segment_slides(
    paths: Sequence[Path], out: Path, settings: SegmentSettings, listener: Listener | None = None
) -> Generator[SlideOutcome, None, None]:
    """Segment slides in this process, and write their results.

    Slides that are done and unchanged are skipped; slides that another process works on are left to it.
    :func:`~dualproto_wsi.workflow.batch.workers.segment_in_workers` does the same in processes of their own, and keeps
    `settings.run.timeout_s`.

    Parameters
    ----------
    paths : sequence of Path
        Slide files, folders to search for slides, and tables of slides (CSV).
    out : Path
        Folder of the results.
    settings : SegmentSettings
    listener : Listener or None
        Hears of progress.

    Yields
    ------
    SlideOutcome
        One a slide, also for those that are skipped, empty or failed; its row is in ``slides.csv`` by then.

    Raises
    ------
    DualProtoError
        If nothing can be done at all: no slides, no such model or device, no place to write.
    """
    tasks = list_tasks(paths, out, settings)
    runner = SlideRunner(out, settings)
    with announced(tasks, out, settings, listener) as (tasks, told):
        told.run_started([task.slide for task in tasks], runner.engine.describe())
        try:
            yield from _do(tasks, runner, told)
        finally:
            told.run_ended()


def _do(tasks: list[SlideTask], runner: SlideRunner, listener: Listener) -> Iterator[SlideOutcome]:
    """Do slides; wait in the end for those that other processes had claimed, and do what they leave undone."""
    again = False
    while tasks:
        left = []
        for task in tasks:
            outcome = runner.run(task, listener, again)
            if outcome is None:
                left.append(task)
                continue
            listener.slide_finished(outcome)
            yield outcome
        if left and not again:
            listener.waiting([task.slide for task in left])
        tasks, again = left, True
        if tasks:
            time.sleep(LOOK_AGAIN_S)


class SlideRunner:
    """Does slides, one after the other, with one model on one device.

    Parameters
    ----------
    out : Path
        Folder of the results.
    settings : SegmentSettings

    Raises
    ------
    DualProtoError
        If there is no such model or device.
    """

    def __init__(self, out: Path, settings: SegmentSettings) -> None:
        self._out, self._settings = out, settings
        require_packages(settings.output.exports)
        source = settings.features.source
        model, self.model_record = prepare_model(settings.inference, Path(source) if source else None)
        self.engine = Engine(model, settings.inference)
        self._table = SlideTable(out)

    def run(self, task: SlideTask, listener: Listener, again: bool = False) -> SlideOutcome | None:
        """Do a slide, unless it is done; see to its row in ``slides.csv``.

        Parameters
        ----------
        task : SlideTask
        listener : Listener
        again : bool
            Whether another process had it before: that one may be about to tell why it failed.

        Returns
        -------
        SlideOutcome or None
            None if another process works on it.

        Raises
        ------
        OutputError
            If the table cannot be written.
        """
        with claimed(self._out, task.folder.name) as mine:
            if not mine:
                return None
            if not is_taken(task.folder, task.slide):
                return self._run(task, listener, again)
        # Meanwhile another process has put a slide of the same name there.
        return self.run(replace(task, folder=own_folder(task.slide, self._out)), listener, again)

    def _run(self, task: SlideTask, listener: Listener, again: bool) -> SlideOutcome:
        listener.slide_started(task.slide)
        job = SlideJob(task, self.engine, task.settings(self._settings), self.model_record, listener)
        outcome = self._earlier(job)
        if again and outcome is None:
            time.sleep(GRACE_S)
            outcome = self._earlier(job)
        outcome = outcome or _isolated(job, job.run)
        self._table.add(outcome)
        return outcome

    def _earlier(self, job: SlideJob) -> SlideOutcome | None:
        """Return what an earlier run, or another process, made of the slide; None if it is to be done."""
        task = job.task
        if task.is_redone or not self._settings.run.force:
            record = read_record(task.folder)
            if record is not None and is_unchanged(job, record):
                earlier = outcome_from_record(record, task.slide, task.folder, task.about)
                return _isolated(job, lambda clock: job.complete(earlier))
        row = self._table.row(task.slide)
        if row and row["status"] == FAILED and not same_row(row, task.row):
            return outcome_from_row(row, task.slide, task.about)
        return None


def is_unchanged(job: SlideJob, record: dict[str, Any]) -> bool:
    """Tell whether a slide's record is of the same slide, model and settings, and its features are kept as asked."""
    try:
        changes = job.fingerprint().changes(Fingerprint.from_json(record["fingerprint"]))
    except (OSError, TypeError, KeyError):  # the slide is gone: opening it says so; or the record is of another version
        return False
    if changes:
        logger.info("%s: done again; changed: %s", job.slide, ", ".join(changes))
    return not changes and are_kept(job.settings.features, record.get("features"))


def _isolated(job: SlideJob, work: Callable[[Stopwatch], SlideOutcome]) -> SlideOutcome:
    """Do something for one slide; whatever goes wrong costs that slide alone."""
    clock = Stopwatch()
    drop_unfinished(job.folder, job.slide.name)
    try:
        return work(clock)
    except DualProtoError as error:
        reason = str(error)
    except OSError as error:
        reason = _told(job, error)
    except Exception as error:  # noqa: BLE001 - the one place that isolates a slide's failure
        logger.error("%s\n%s", job.slide, traceback.format_exc())
        reason = f"{job.slide.name}: unexpected {type(error).__name__}: {error}"
    finally:
        drop_unfinished(job.folder, job.slide.name)
    return SlideOutcome(
        job.slide,
        None,
        FAILED,
        seconds=round(clock.total, 3),
        error=" ".join(reason.split()),
        about=job.task.about,
    )


def _told(job: SlideJob, error: OSError) -> str:
    if error.errno in NO_ROOM:
        return f"{job.slide.name}: no room for its results in {job.folder} ({error.strerror}); make room and run again"
    if error.filename and Path(error.filename).is_relative_to(job.folder):
        return f"{job.slide.name}: its results cannot be written to {job.folder} ({error.strerror}); is it writable?"
    return f"{job.slide.name}: {error}"
