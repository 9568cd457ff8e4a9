"""One folder of results a slide, never shared by two."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path

from dualproto_wsi.errors import OutputError
from dualproto_wsi.settings import FORMATS
from dualproto_wsi.workflow.batch.fingerprint import slide_sha256
from dualproto_wsi.workflow.batch.record import CONFIDENCE, LABELS, OVERLAY, RECORD


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
        own_folder(slide, out)
        if count[slide.name.casefold()] > 1 or is_taken(out / slide.name, slide)
        else out / slide.name
        for slide in slides
    ]


def own_folder(slide: Path, out: Path) -> Path:
    """Return a result folder that no other slide of that name gets."""
    return out / f"{slide.name}--{hashlib.sha256(str(slide.resolve().parent).encode()).hexdigest()[:8]}"


def is_taken(folder: Path, slide: Path) -> bool:
    """Tell whether a folder holds results of another slide; a slide that was moved, unchanged, is itself."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        earlier = Path(record["slide"]["path"])
        if earlier.resolve() == slide.resolve():
            return False
        return earlier.exists() or record["fingerprint"]["slide"] != slide_sha256(slide)
    except KeyError:
        return "slide" in record
    except (OSError, ValueError, TypeError):
        return False


def drop_unfinished(folder: Path, slide: str, pid: int | None = None) -> None:
    """Remove what a process left that did not finish a slide; the folder, too, when nothing else is in it.

    Results with a record are whole and stay.

    Parameters
    ----------
    folder : Path
        A slide's result folder that this process has claimed, or whose claimant has ended.
    slide : str
        File name of the slide.
    pid : int or None
        Of the process; None: any.
    """
    if not folder.is_dir():
        return
    for path in folder.glob(f"*.{pid or '[0-9]*'}.*tmp"):
        path.unlink(missing_ok=True)
    if not (folder / RECORD).exists():
        for name in (LABELS, CONFIDENCE, OVERLAY, *(f"{slide}.{suffix}" for suffix in FORMATS)):
            (folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
