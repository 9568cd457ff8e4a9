"""Files that polygons go to: plain or compressed, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from isal import isal_zlib

from dualproto_wsi.errors import OutputError

SUFFIXES = (".geojson", ".geojson.gz", ".json", ".json.gz")
"""Endings that QuPath reads; in a file of another name it finds no objects, without a word."""

_GZIP = 31  # zlib's number for a gzip header, here one without name and time: they would change the bytes
_LEVEL = 3  # of isal: as small as zlib's level 6, more than ten times as fast


class Output:
    """A file in the making; a context manager.

    What is written goes to a temporary file beside the final one. The end of the ``with`` block renames it; if the
    block fails, the temporary file is removed and an earlier file of the final name stays.

    Parameters
    ----------
    path : Path
        File to write, ending in one of :data:`SUFFIXES`; with ``.gz`` it is compressed.

    Raises
    ------
    OutputError
        If the name has another ending, or, later, the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if not path.name.endswith(SUFFIXES):
            raise OutputError(f"{path}: QuPath reads no file of this ending; use one of {', '.join(SUFFIXES)}")
        self.path = path
        self._part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        self._file: IO[bytes] | None = None
        self._packer = isal_zlib.compressobj(_LEVEL, wbits=_GZIP) if path.suffix == ".gz" else None

    def __enter__(self) -> Self:
        with reported(self.path):
            self._file = self._part.open("wb")
        return self

    def write(self, block: bytes) -> None:
        """Append a block; of compressed files, equal blocks give equal bytes."""
        assert self._file is not None, "use it as a context manager"
        with reported(self.path):
            self._file.write(self._packer.compress(block) if self._packer else block)

    def finish(self) -> None:
        """Complete the file under its temporary name."""
        assert self._file is not None, "use it as a context manager"
        with reported(self.path):
            if self._packer:
                self._file.write(self._packer.flush())
            self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with reported(self.path):
                    self._part.replace(self.path)
        finally:
            # After a failure only; what a full disk says of the rest is of no interest then.
            with suppress(OSError):
                if self._file is not None:
                    self._file.close()
            self._part.unlink(missing_ok=True)


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Say which file or folder could not be written."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder, its rights and the free space"
        ) from error
