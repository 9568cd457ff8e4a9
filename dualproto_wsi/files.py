"""Files that appear whole or not at all."""

from __future__ import annotations

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
