"""What a process that does slides is told, and what it tells."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from dualproto_wsi.errors import DualProtoError
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.workflow.batch.outcome import SlideOutcome


@dataclass(frozen=True, slots=True)
class Duty:
    """What a process is for.

    Parameters
    ----------
    out : Path
        Folder of the results.
    settings : SegmentSettings
    processes : int
        How many such processes share the cores of the machine; 0: as many as there are devices of the settings' name.
    argv : tuple of str
        The command, for the records.
    folder : str
        The folder that it was given in.
    """

    out: Path
    settings: SegmentSettings
    processes: int = 0
    argv: tuple[str, ...] = field(default_factory=lambda: tuple(sys.argv))
    folder: str = field(default_factory=lambda: str(Path.cwd()))

    def on(self, device: str, processes: int = 0) -> Duty:
        """Return the same for a device."""
        inference = replace(self.settings.inference, device=device)
        return replace(self, settings=replace(self.settings, inference=inference), processes=processes)


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded.

    Parameters
    ----------
    engine : str
        Which model runs where.
    devices : tuple of str
        All devices that were asked for; the process that tells it has the first.
    """

    engine: str
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A call of a listener's method."""

    method: str
    arguments: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """A slide has its row; or, without an outcome, another process works on it.

    Parameters
    ----------
    outcome : SlideOutcome or None
    leaving : bool
        Whether the process ends now, since its GPU computes no more; a fresh one gets a fresh context.
    """

    outcome: SlideOutcome | None
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing can be done at all."""

    error: DualProtoError


Message = Ready | Event | Finished | Refused | logging.LogRecord
