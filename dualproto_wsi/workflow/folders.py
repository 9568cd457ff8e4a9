"""One folder of results a slide, never shared by two."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

from dualproto_wsi.errors import OutputError
from dualproto_wsi.workflow.record import RECORD


def result_folders(slides: list[Path], out: Path) -> list[Path]:
    """Choose the folder of each slide's results.

    A slide's folder has its file's name. Where two slides share a name (letter case aside), or the folder already holds
    results of another file of that name, a short hash of the slide's own folder is added.

    Parameters
    ----------
    slides : list of Path
        All slides of the run, each path once.
    out : Path
        The output folder.

    Returns
    -------
    list of Path
        A folder a slide, all different.

    Raises
    ------
    OutputError
        If ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; -o needs a folder")
    count = Counter(slide.name.casefold() for slide in slides)
    return [
        out / (_hashed(slide) if count[slide.name.casefold()] > 1 or _taken(out / slide.name, slide) else slide.name)
        for slide in slides
    ]


def _hashed(slide: Path) -> str:
    return f"{slide.name}--{hashlib.sha256(str(slide.resolve().parent).encode()).hexdigest()[:8]}"


def _taken(folder: Path, slide: Path) -> bool:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return Path(record["slide"]["path"]).resolve() != slide.resolve()
    except (FileNotFoundError, KeyError, ValueError, TypeError):
        return False
