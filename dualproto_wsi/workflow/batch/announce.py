"""A run on an output folder: told to other processes while it goes on, and what it may take over from them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.workflow.batch.claims import run_announced, run_states
from dualproto_wsi.workflow.batch.progress import StateFile
from dualproto_wsi.workflow.batch.tasks import SlideTask, make_folder
from dualproto_wsi.workflow.listener import Listener, Listeners


@contextmanager
def announced(
    tasks: Sequence[SlideTask], out: Path, settings: SegmentSettings, listener: Listener | None
) -> Iterator[tuple[list[SlideTask], Listener]]:
    """Make the output folder, and tell other processes of a run on it while inside the ``with``.

    Parameters
    ----------
    tasks : sequence of SlideTask
    out : Path
        Gone again at the end when it was made and nothing came into it.
    settings : SegmentSettings
    listener : Listener or None

    Yields
    ------
    tasks : list of SlideTask
        With `force`, they know from when on results count as new.
    listener : Listener
        Tells that of the caller, and the file that ``status`` reads.

    Raises
    ------
    OutputError
        If the folder cannot be made or written.
    """
    is_new = not out.exists()
    make_folder(out)
    try:
        with run_announced(out) as state:
            since = _forced_since(out, state) if settings.run.force else None
            told = [replace(task, since=since) for task in tasks]
            yield told, Listeners(listener or Listener(), StateFile(state, since))
    finally:
        if is_new:
            with suppress(OSError):
                out.rmdir()  # nothing was begun


def _forced_since(out: Path, state: Path) -> int:
    """Return from when on results count as new for a forced run, ns of the file system's clock.

    From its own start on; or from that of another forced run that is at work now, so that they share the slides. A run
    tells its time before it begins with its first slide, so one that is not told yet has done nothing.
    """
    times = [state.with_suffix(".lock").stat().st_mtime_ns]
    for path, alive in run_states(out):
        with suppress(OSError, ValueError, AttributeError):  # it ends this very moment
            told = json.loads(path.read_text(encoding="utf-8")).get("forced_since")
            times += [told] if alive and isinstance(told, int) else []
    return min(times)
