"""Several processes on one output folder: who does which slide, and who still runs.

All locks are the operating system's: they vanish with the process that holds them, however it ends. They lie in a
hidden folder of the output folder, which is gone again when nobody needs it.
"""

from __future__ import annotations

import errno
import itertools
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from dualproto_wsi.errors import OutputError

RUNS = ".run"
"""Folder in the output folder for locks and for how far each run is."""

_NUMBER = itertools.count(1)


@contextmanager
def claimed(out: Path, name: str) -> Iterator[bool]:
    """Claim a result folder while inside the ``with``.

    Parameters
    ----------
    out : Path
        The output folder.
    name : str
        Name of a slide's result folder.

    Yields
    ------
    bool
        False if another process holds it.
    """
    with _locked(out, f"{name}.claim", wait=False) as mine:
        yield mine


@contextmanager
def table_locked(out: Path) -> Iterator[None]:
    """Keep ``slides.csv`` to this process while inside the ``with``."""
    with _locked(out, "table.lock", wait=True):
        yield


def _run_name() -> str:
    """Return a name that no other run has, on any machine."""
    return f"{platform.node() or 'host'}-{os.getpid()}-{next(_NUMBER)}"


@contextmanager
def run_announced(out: Path) -> Iterator[Path]:
    """Tell other processes that a run works on ``out`` while inside the ``with``.

    Yields
    ------
    Path
        A file that may say how far it is; removed at the end.
    """
    state = out / RUNS / f"{_run_name()}.json"
    try:
        with _locked(out, f"{state.stem}.lock", wait=True):
            try:
                yield state
            finally:
                state.unlink(missing_ok=True)
    finally:
        tidy(out)


def run_states(out: Path) -> Iterator[tuple[Path, bool]]:
    """Yield the file of each run on ``out``, and whether that run is alive."""
    for state in sorted((out / RUNS).glob("*.json")):
        try:
            with _locked(out, f"{state.stem}.lock", wait=False) as free:
                alive = not free
        except OutputError:  # a folder of somebody else, which may be looked at only
            alive = True
        yield state, alive


def tidy(out: Path) -> None:
    """Remove what ended runs left behind, and the hidden folder when it is empty."""
    for state, alive in run_states(out):
        if not alive:
            state.unlink(missing_ok=True)
    for path in (out / RUNS).glob("*.claim"):
        with _locked(out, path.name, wait=False):  # whoever lets go of a lock removes its file
            pass
    with suppress(OSError):
        (out / RUNS).rmdir()


@contextmanager
def _locked(out: Path, name: str, wait: bool) -> Iterator[bool]:
    lock = FileLock(out / RUNS / name, thread_local=False)
    try:
        acquired = _acquire(lock, wait)
    except OSError as error:
        raise OutputError(
            f"{out / RUNS}: cannot be locked ({error.strerror or error}); choose an -o where files can be written"
        ) from error
    except NotImplementedError as error:  # the system says that its file system cannot
        raise OutputError(
            f"{out / RUNS}: its file system has no locks (flock); choose another -o, or mount it with them"
        ) from error
    try:
        yield acquired
    finally:
        if acquired:
            lock.release()


def _acquire(lock: BaseFileLock, wait: bool) -> bool:
    for _ in range(8):  # a run that ends may remove the hidden folder between its making and ours
        try:
            lock.acquire(blocking=wait)
        except Timeout:
            return False
        except FileNotFoundError:
            continue
        return True
    raise FileNotFoundError(errno.ENOENT, "the folder vanishes")
