"""Files: whole or not at all, known by their hash, kept for the next time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` when the block succeeds, remove it when it fails.

    Parameters
    ----------
    path : Path
        The file to make or replace; an earlier file of that name stays until the new one is whole.

    Yields
    ------
    Path
        Where to write. The name holds the process id, so two processes never write into one file.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def absolute(path: Path) -> str:
    """Return a path from the root, without ``..``; links are not followed, so a linked slide keeps its name."""
    return os.path.abspath(path)  # noqa: PTH100 - Path.resolve() would follow links


def cache_folder() -> Path:
    """Return where fetched and computed files are kept: ``$DUALPROTO_CACHE``, else ``~/.cache/dualproto_wsi``."""
    named = os.environ.get("DUALPROTO_CACHE")
    return Path(named) if named else Path.home() / ".cache" / "dualproto_wsi"
