"""What a training keeps while it runs, so that the same command goes on where it was stopped.

A folder holds a file a fit (``fold-1-of-4.pt``, ``final.pt``), written after every epoch, whole or not at all: tensors,
numbers and text, nothing that is run when it is read. ``identity.json`` says by hashes which training it is of.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from dualproto_wsi.errors import OutputError, SettingsError
from dualproto_wsi.files import replacing

_IDENTITY, _LOCK, _TILES = "identity.json", "lock", "tiles"


class TrainingFolder:
    """Checkpoints of one training.

    Parameters
    ----------
    path : Path
    writes : bool
        Whether this process writes; the others of a training only read.
    """

    def __init__(self, path: Path, writes: bool = True) -> None:
        self.path = path
        self._writes = writes

    @property
    def tiles(self) -> Path:
        """Folder of tiles that are cut for this training; removed with the rest."""
        return self.path / _TILES

    def begin(self, identity: Mapping[str, str], force: bool) -> None:
        """Make the folder, or go on with it.

        Parameters
        ----------
        identity : mapping of str to str
            Hashes of all that decides the training.
        force : bool
            Whether to forget what is there.

        Raises
        ------
        SettingsError
            If the folder is of another training; the message says in what it differs.
        OutputError
            If it cannot be written.
        """
        if not self._writes:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = self.path / _IDENTITY
            if file.exists() and not force:
                self._compare(json.loads(file.read_text(encoding="utf-8")), identity)
                return
            for state in self.path.glob("*.pt"):
                state.unlink()
            with replacing(file) as temporary:
                temporary.write_text(json.dumps(identity, indent=2) + "\n", encoding="utf-8")
        except (OSError, ValueError) as error:
            if isinstance(error, SettingsError):
                raise
            raise OutputError(f"{self.path}: cannot keep checkpoints ({error}); choose another --checkpoint") from error

    def _compare(self, earlier: Mapping[str, str], identity: Mapping[str, str]) -> None:
        changed = [name for name in identity if earlier.get(name) != identity[name]]
        if changed:
            raise SettingsError(
                f"{self.path}: holds a training that was stopped, with other {', '.join(changed)}; run its command to "
                "go on, pass --force to begin anew, or choose another --checkpoint"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings out while inside the ``with``; leave no folder that holds no checkpoint.

        Raises
        ------
        OutputError
            If another process trains there.
        """
        if not self._writes:
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise OutputError(
                f"{self.path}: another process trains there; wait, or choose another --checkpoint"
            ) from error
        try:
            yield
        finally:
            lock.release()
            if not any(self.path.glob("*.pt")):
                self.remove()

    def load(self, title: str) -> dict[str, Any] | None:
        """Return the state of a fit; None if it has not begun.

        Raises
        ------
        OutputError
            If its file is damaged.
        """
        file = self._file(title)
        if not file.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
            raise OutputError(f"{file}: a damaged checkpoint; delete it to fit {title!r} anew") from error
        return state

    def save(self, title: str, state: Mapping[str, Any]) -> None:
        """Keep the state of a fit.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if not self._writes:
            return
        try:
            with replacing(self._file(title)) as temporary:
                torch.save(dict(state), temporary)
        except (OSError, RuntimeError) as error:
            raise OutputError(f"{self.path}: a checkpoint cannot be written ({error}); make room") from error

    def remove(self) -> None:
        """Remove the folder and all in it that is this package's; what else lies there stays."""
        if not self._writes:
            return
        for file in (*self.path.glob("*.pt"), self.path / _IDENTITY, self.path / _LOCK):
            file.unlink(missing_ok=True)
        shutil.rmtree(self.tiles, ignore_errors=True)
        if self.path.is_dir() and not any(self.path.iterdir()):
            shutil.rmtree(self.path)

    def _file(self, title: str) -> Path:
        return self.path / f"{re.sub(r'[^0-9a-z]+', '-', title.replace('/', ' of '))}.pt"
