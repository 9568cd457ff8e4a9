"""A process that does slides for another, seen from both sides.

It loads the model once, and tells its parent everything through a pipe.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from dualproto_wsi.errors import DualProtoError
from dualproto_wsi.workflow.batch.messages import Duty, Event, Finished, Message, Ready, Refused
from dualproto_wsi.workflow.batch.outcome import FAILED
from dualproto_wsi.workflow.batch.tasks import SlideTask
from dualproto_wsi.workflow.listener import Listener

LEAVE_S = 5.0
"""How long a process has for ending by itself when it is asked to."""
ENDING_S = 10.0
"""How long a process that lost its parent has for removing what it was writing."""


HINTS = {
    "SIGKILL": "killed from outside, often by the system for want of memory",
    "SIGSEGV": "segmentation fault",
    "SIGABRT": "aborted",
    "SIGBUS": "bus error; was the file cut short meanwhile?",
}


class Outbox:
    """Sends messages to the parent; any thread may.

    Parameters
    ----------
    connection : Connection
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """Send one."""
        with self._lock:
            self._connection.send(message)


class PipeListener(Listener):
    """Passes on what a slide tells.

    Parameters
    ----------
    outbox : Outbox
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def slide_started(self, slide: Path) -> None:
        """Pass it on."""
        self._outbox.send(Event("slide_started", (slide,)))

    def slide_planned(self, slide: Path, tiles: int) -> None:
        """Pass it on."""
        self._outbox.send(Event("slide_planned", (slide, tiles)))

    def tiles_done(self, slide: Path, count: int) -> None:
        """Pass it on."""
        self._outbox.send(Event("tiles_done", (slide, count)))


class PipeHandler(QueueHandler):
    """Passes log records on, so that the parent alone decides what is shown."""

    def __init__(self, outbox: Outbox) -> None:
        logging.Handler.__init__(self)
        self._outbox = outbox

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record."""
        self._outbox.send(record)


def serve(connection: Connection, duty: Duty, level: int) -> None:
    """Do slides until the parent says that there are no more; what a worker process runs.

    Parameters
    ----------
    connection : Connection
        Brings a :class:`~dualproto_wsi.workflow.batch.tasks.SlideTask` and whether another process had it before, or
        None at the end; takes messages.
    duty : Duty
    level : int
        Of the log.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends us
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    allow_children()
    sys.argv[:] = duty.argv
    with suppress(OSError):  # another machine may not have it; slides and results are named from the root then
        os.chdir(duty.folder)
    log = logging.getLogger("dualproto_wsi")
    outbox = Outbox(connection)
    log.addHandler(PipeHandler(outbox))
    log.setLevel(level)
    log.propagate = False
    try:
        _serve(connection, outbox, duty)
    except DualProtoError as error:
        outbox.send(Refused(error))
    except (EOFError, BrokenPipeError):
        sys.exit(1)  # the parent is gone
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is left to remove


def allow_children() -> None:
    """Let this process start others, though it ends with its parent: --refine crf works in processes."""
    multiprocessing.current_process().daemon = False


def _serve(connection: Connection, outbox: Outbox, duty: Duty) -> None:
    # Here, so that a failure to import or load is told through the pipe, and the parent needs no torch.
    import torch

    from dualproto_wsi.workflow.cores import usable_cores
    from dualproto_wsi.workflow.mapping.engine import all_devices
    from dualproto_wsi.workflow.segment import SlideRunner

    devices = all_devices(duty.settings.inference.device)
    cores = min(torch.get_num_threads(), usable_cores()) // (duty.processes or len(devices))
    torch.set_num_threads(max(1, cores))
    runner = SlideRunner(duty.out, duty.settings)
    listener = PipeListener(outbox)
    outbox.send(Ready(runner.engine.describe(), devices))
    while True:
        order: tuple[SlideTask, bool] | None = connection.recv()
        if order is None:
            return
        task, again = order
        outcome = runner.run(task, listener, again)
        leaving = outcome is not None and outcome.status == FAILED and not runner.engine.is_usable()
        outbox.send(Finished(outcome, leaving))
        if leaving:
            return


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(ENDING_S)
        os._exit(1)


class Worker:
    """One process, seen from its parent.

    Parameters
    ----------
    duty : Duty
    """

    def __init__(self, duty: Duty) -> None:
        self.duty = duty
        self.task: SlideTask | None = None
        self.ready = self.leaving = False
        self._since: float | None = None
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        level = logging.getLogger("dualproto_wsi").getEffectiveLevel()
        self._process = context.Process(target=serve, args=(theirs, duty, level), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    @property
    def seconds(self) -> float:
        """How long it has been at its slide."""
        return time.monotonic() - self._since if self._since is not None else 0.0

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a slide."""
        return self.ready and not self.leaving and self.task is None

    @property
    def is_late(self) -> bool:
        """Whether it has been at its slide for longer than allowed."""
        return self.task is not None and 0 < self.duty.settings.run.timeout_s < self.seconds

    def give(self, task: SlideTask, again: bool) -> None:
        """Let it do a slide."""
        self.task, self._since = task, None
        with suppress(OSError):  # it has just died; its pipe tells that next
            self.connection.send((task, again))

    @property
    def has_begun(self) -> bool:
        """Whether it has told that it is at its slide."""
        return self._since is not None

    def begin(self) -> None:
        """Start the clock of its slide."""
        self._since = time.monotonic()

    def hear(self) -> Message | None:
        """Return its next message; None when it is dead."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return None
        return message

    def ending(self) -> str:
        """Wait for its end, and say what kind it was."""
        self._process.join(LEAVE_S)
        code = self._process.exitcode
        if code is not None and code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                return f"signal {-code}"
            return f"signal {-code}, {HINTS.get(name, name)}"
        return f"exit code {code}"

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.join()
        self.connection.close()

    def leave(self) -> None:
        """Ask it to end; it removes what it was writing."""
        self._process.terminate()

    def end(self, until: float) -> None:
        """Wait for its end until a time of the monotonic clock, then end it."""
        self._process.join(max(until - time.monotonic(), 0.0))
        self.kill()
