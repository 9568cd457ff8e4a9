"""The slides of a run, each with the place of its results; no process has begun with them yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualproto_wsi.errors import OutputError, SlideNotFound
from dualproto_wsi.files import absolute
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.workflow.batch.folders import result_folders
from dualproto_wsi.workflow.batch.outcome import FAILED, SlideOutcome, SlideTable
from dualproto_wsi.workflow.batch.record import RECORD
from dualproto_wsi.workflow.batch.slide_list import SlideItem, gather_slides


@dataclass(frozen=True, slots=True)
class SlideTask:
    """A slide to do.

    Parameters
    ----------
    item : SlideItem
        The slide, and what the user says of it.
    folder : Path
        Where its results go.
    row : dict or None
        Its row in ``slides.csv`` when the run began; a failure that is told there later is another process's.
    since : int or None
        In a forced run: results that were recorded later are this run's, or those of another forced run at the same
        time, and stand; ns of the file system's clock. None: none do.
    """

    item: SlideItem
    folder: Path
    row: dict[str, str] | None = None
    since: int | None = None

    @property
    def slide(self) -> Path:
        """The slide file."""
        return self.item.path

    @property
    def about(self) -> dict[str, str]:
        """What the user says of the slide that belongs into ``slides.csv``."""
        named = {"id": self.item.id, "group": self.item.group, **dict(self.item.metadata)}
        return {name: value for name, value in named.items() if value}

    @property
    def is_redone(self) -> bool:
        """Whether its results are younger than the forced run."""
        try:
            return self.since is not None and (self.folder / RECORD).stat().st_mtime_ns > self.since
        except OSError:
            return False

    def failed(self, reason: str, seconds: float = 0.0) -> SlideOutcome:
        """Return the outcome of a slide that could not be done."""
        error = f"{self.slide.name}: {reason}"
        return SlideOutcome(self.slide, None, FAILED, seconds=round(seconds, 3), error=error, about=self.about)

    def settings(self, settings: SegmentSettings) -> SegmentSettings:
        """Return the settings of the run with what the user says of this slide alone."""
        if self.item.mpp is None:
            return settings
        return replace(settings, read=replace(settings.read, mpp=self.item.mpp))


def list_tasks(paths: Sequence[Path], out: Path, settings: SegmentSettings) -> list[SlideTask]:
    """List the slides of a run; nothing is written.

    Parameters
    ----------
    paths : sequence of Path
        Slide files, folders to search for slides, and tables of slides.
    out : Path
        Folder of the results; slides in it are passed over.
    settings : SegmentSettings

    Raises
    ------
    SlideNotFound
        If there are none, or none that failed where only those are to be done.
    SettingsError
        If a table of slides is wrong.
    OutputError
        If `out` is a file, or holds something else.
    """
    inside = out.resolve()
    items = [item for item in gather_slides(paths) if inside not in item.path.resolve().parents]
    if not items:
        raise SlideNotFound(
            f"{', '.join(map(str, paths))}: no slides found; name slide files, or folders that hold some"
        )
    folders = result_folders([item.path for item in items], out)
    rows = SlideTable(out).rows()
    tasks = [
        SlideTask(item, folder, rows.get(absolute(item.path))) for item, folder in zip(items, folders, strict=True)
    ]
    if settings.run.retry_failed:
        tasks = [task for task in tasks if task.row and task.row["status"] == FAILED]
        if not tasks:
            raise SlideNotFound(f"{out}: none of these {len(items)} slide(s) failed there; leave out --retry-failed")
    return tasks


def make_folder(out: Path) -> None:
    """Make the output folder.

    Raises
    ------
    OutputError
        If that cannot be done.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error}); choose another -o") from error
