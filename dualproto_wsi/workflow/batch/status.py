"""How far an output folder is, seen from another process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import DataError
from dualproto_wsi.workflow.batch.claims import RUNS, run_states
from dualproto_wsi.workflow.batch.outcome import FAILED, TABLE, SlideTable
from dualproto_wsi.workflow.batch.progress import human_time


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What is known of an output folder.

    Parameters
    ----------
    slides : dict of int
        Number of slides in ``slides.csv`` by status.
    failed : dict of str
        Why, by the slide's path.
    running : tuple of dict
        State of each run that is alive, as :class:`~dualproto_wsi.workflow.batch.progress.StateFile` writes it.
    ended : tuple of dict
        The same of runs that were killed, and not gone on with since.
    """

    slides: dict[str, int]
    failed: dict[str, str]
    running: tuple[dict[str, Any], ...]
    ended: tuple[dict[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    def lines(self) -> Iterator[str]:
        """Yield what to show."""
        told = ", ".join(f"{count} {status}" for status, count in sorted(self.slides.items()))
        yield f"in {TABLE}: {told or 'no slides yet'}"
        for state in self.running:
            yield f"running: {_where(state)}, {_counts(state)}{_pace(state)}"
            for slide in state["current"]:
                windows = f"{slide['tiles_done']} of {slide['tiles']} windows" if slide["tiles"] else "being opened"
                yield f"    {Path(slide['slide']).name}: {windows}"
        for state in self.ended:
            yield f"killed:  {_where(state)}, {_counts(state)}; the same command goes on"
        for path, reason in self.failed.items():
            yield f"failed:  {reason or path}"


def read_status(out: Path) -> RunStatus:
    """Read how far an output folder is; nothing in it is changed.

    Parameters
    ----------
    out : Path
        A folder that ``segment`` writes, or wrote; on any machine that sees it.

    Raises
    ------
    DataError
        If it is not such a folder.
    """
    if not (out / TABLE).exists() and not (out / RUNS).exists():
        raise DataError(f"{out}: no {TABLE} and no run in it; name a folder that `dualproto-wsi segment` writes")
    states: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for path, alive in run_states(out):
        try:
            states[alive].append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # it ended this very moment
            continue
    rows = SlideTable(out).rows()
    return RunStatus(
        slides=dict(Counter(row["status"] for row in rows.values())),
        failed={path: row.get("error", "") for path, row in rows.items() if row["status"] == FAILED},
        running=tuple(states[True]),
        ended=tuple(states[False]),
    )


def _where(state: dict[str, Any]) -> str:
    return f"{state['host']}, process {state['pid']}, since {state['started'][:16].replace('T', ' ')} UTC"


def _counts(state: dict[str, Any]) -> str:
    finished = sum(state["finished"].values())
    return f"{finished} of {state['slides']} slide(s), {state['finished'].get(FAILED, 0)} failed"


def _pace(state: dict[str, Any]) -> str:
    if state["seconds_left"] is None:
        return ""
    return f", {state['windows_per_s']:.1f} windows/s, about {human_time(state['seconds_left'])} left"
