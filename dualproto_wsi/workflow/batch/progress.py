"""How far a run is: counted once, told to the terminal, to ``status`` in another shell, and to a log."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from dualproto_wsi.files import absolute, replacing
from dualproto_wsi.workflow.batch.outcome import SlideOutcome
from dualproto_wsi.workflow.listener import Listener

EVERY_S = 2.0
"""How often the state of a run is written."""
LOG_EVERY_S = 10.0
"""How often a log tells how far a slide is."""


class RunTally(Listener):
    """Counts slides and windows.

    Attributes
    ----------
    slides : int
        Of the run.
    finished : Counter
        Slides by what became of them: ``done``, ``empty``, ``failed``; skipped ones among them.
    skipped : int
        Slides that were done before, or by another process.
    current : dict
        Windows needed and done, by slide under way; needed is None while they are not known.
    """

    def __init__(self) -> None:
        self.slides = 0
        self.engine = ""
        self.finished: Counter[str] = Counter()
        self.skipped = 0
        self.current: dict[Path, tuple[int | None, int]] = {}
        self._windows = 0
        self._planned: list[int] = []
        self._since: float | None = None

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Take the number of slides."""
        self.slides, self.engine = len(slides), engine

    def slide_started(self, slide: Path) -> None:
        """Take a slide that is under way."""
        self.current[slide] = (None, 0)

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Take the number of its windows."""
        self.current[slide] = (tiles, 0)
        self._planned.append(tiles)
        self._since = self._since or time.monotonic()

    def tiles_done(self, slide: Path, count: int) -> None:
        """Count windows."""
        needed, done = self.current.get(slide, (None, 0))
        self.current[slide] = (needed, done + count)
        self._windows += count

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Count a slide."""
        self.current.pop(outcome.slide, None)
        self.finished[outcome.status] += 1
        self.skipped += outcome.skipped

    @property
    def left(self) -> int:
        """Slides that have no outcome yet."""
        return self.slides - self.finished.total()

    @property
    def windows_per_s(self) -> float:
        """Windows a second since the first slide was planned, over all slides at a time."""
        return self._windows / max(time.monotonic() - self._since, 1e-3) if self._since else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate for the rest of the run: slides to come need as many windows as those before; None: not known."""
        rate = self.windows_per_s
        if not rate:
            return None
        mean = sum(self._planned) / len(self._planned)
        known = [max(needed - done, 0) for needed, done in self.current.values() if needed is not None]
        return (sum(known) + mean * (self.left - len(known))) / rate

    @property
    def share(self) -> float:
        """Slides finished, and parts of those under way."""
        parts = [done / needed for needed, done in self.current.values() if needed]
        return self.finished.total() + sum(min(part, 1.0) for part in parts)

    def pace(self) -> str:
        """Return "12.3 windows/s, about 4 min left", as far as it is known."""
        left = self.seconds_left
        told = [f"{self.windows_per_s:.1f} windows/s"] if left is not None else []
        told += [f"about {human_time(left)} left"] if left else []
        return ", ".join(told)

    def summary(self) -> str:
        """Return one line on all slides."""
        told = [f"{count} {status}" for status, count in sorted(self.finished.items())]
        told += [f"{self.left} left"] if self.left else []
        skipped = f" ({self.skipped} of them were there already)" if self.skipped else ""
        return f"{self.slides} slide(s): {', '.join(told) or 'none done'}{skipped}"


def human_time(seconds: float) -> str:
    """Return a time in the unit that fits: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class StateFile(RunTally):
    """Writes now and then how far the run is, for ``status``.

    Parameters
    ----------
    path : Path
        The file, as :func:`~dualproto_wsi.workflow.batch.claims.run_announced` gives it.
    forced_since : int or None
        Of a forced run, for others that begin later: from when on results count as new, ns.
    every_s : float
        Least time between two writes.
    """

    def __init__(self, path: Path, forced_since: int | None = None, every_s: float = EVERY_S) -> None:
        super().__init__()
        self._path, self._forced_since, self._every_s = path, forced_since, every_s
        self._started = _now()
        self._written = 0.0

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Write the first state."""
        super().run_started(slides, engine)
        self._write()

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Take the number of a slide's windows."""
        super().slide_planned(slide, tiles)
        self._write_if_due()

    def tiles_done(self, slide: Path, count: int) -> None:
        """Count windows."""
        super().tiles_done(slide, count)
        self._write_if_due()

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Count a slide."""
        super().slide_finished(outcome)
        self._write_if_due()

    def _write_if_due(self) -> None:
        if time.monotonic() - self._written >= self._every_s:
            self._write()

    def _write(self) -> None:
        self._written = time.monotonic()
        state = {
            "host": platform.node(),
            "pid": os.getpid(),
            "engine": self.engine,
            "started": self._started,
            "forced_since": self._forced_since,
            "updated": _now(),
            "slides": self.slides,
            "finished": dict(self.finished),
            "skipped": self.skipped,
            "left": self.left,
            "windows_per_s": round(self.windows_per_s, 2),
            "seconds_left": self.seconds_left,
            "current": [
                {"slide": absolute(slide), "tiles": needed, "tiles_done": done}
                for slide, (needed, done) in self.current.items()
            ],
        }
        # What is only for watching stops no run: a full disk is told where a result does not find room.
        with suppress(OSError), replacing(self._path) as temporary:
            temporary.write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")


class JsonLog(RunTally):
    """Writes a line of JSON for every event.

    Every line has ``time`` (UTC) and ``event``: ``preparing``, ``run_started``, ``slide_started``, ``slide_planned``,
    ``tiles_done`` (every 10 s at most a slide), ``slide_finished`` with the slide's row of ``slides.csv``, ``waiting``,
    ``run_ended``.

    Parameters
    ----------
    file : TextIO
    every_s : float
        Least time between two lines on how far a slide is.
    """

    def __init__(self, file: TextIO, every_s: float = LOG_EVERY_S) -> None:
        super().__init__()
        self._file, self._every_s = file, every_s
        self._told: dict[Path, float] = {}

    def preparing(self, what: str) -> None:
        """Log it."""
        self._log("preparing", what=what)

    def run_started(self, slides: list[Path], engine: str) -> None:
        """Log it."""
        super().run_started(slides, engine)
        self._log("run_started", slides=len(slides), engine=engine)

    def slide_started(self, slide: Path) -> None:
        """Log it."""
        super().slide_started(slide)
        self._log("slide_started", slide=absolute(slide))

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Log it."""
        super().slide_planned(slide, tiles)
        self._told[slide] = time.monotonic()
        self._log("slide_planned", slide=absolute(slide), tiles=tiles)

    def tiles_done(self, slide: Path, count: int) -> None:
        """Log it, if the last word on this slide is some time ago."""
        super().tiles_done(slide, count)
        if time.monotonic() - self._told.get(slide, 0.0) >= self._every_s:
            self._told[slide] = time.monotonic()
            self._log("tiles_done", slide=absolute(slide), tiles=self.current[slide][1])

    def slide_finished(self, outcome: SlideOutcome) -> None:
        """Log it."""
        super().slide_finished(outcome)
        self._log("slide_finished", skipped=outcome.skipped, **outcome.row())

    def waiting(self, slides: list[Path]) -> None:
        """Log it."""
        self._log("waiting", slides=[absolute(slide) for slide in slides])

    def run_ended(self) -> None:
        """Log the summary."""
        self._log("run_ended", finished=dict(self.finished), skipped=self.skipped, left=self.left)

    def _log(self, event: str, **values: Any) -> None:
        self._file.write(json.dumps({"time": _now(), "event": event, **values}, ensure_ascii=False) + "\n")
        self._file.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
