"""Reads a run's results again and proves that they agree with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dualproto_wsi.errors import DataError, DualProtoError
from dualproto_wsi.workflow.batch.outcome import DONE, EMPTY, FAILED, TABLE
from dualproto_wsi.workflow.batch.record import CONFIDENCE, LABELS, OVERLAY, RECORD, read_record
from dualproto_wsi.workflow.checks.verify_polygons import polygon_problems
from dualproto_wsi.workflow.checks.verify_rasters import (
    area_problems,
    confidence_problems,
    read_checked,
    require_png,
)
from dualproto_wsi.workflow.checks.verify_record import Told, file_problems, read_told, record_problems
from dualproto_wsi.workflow.checks.verify_table import Row, doubled, read_table, row_problems

T = TypeVar("T")

MOST_TOLD = 20
"""Problems of a slide that are listed; one mistake of a file may be in each of thousands of regions."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What checking one slide's results found.

    Parameters
    ----------
    slide : str
        Name of the slide's folder, or of the slide where it has none.
    checked : str
        What was looked at.
    problems : tuple of str
        Empty when all agree.
    """

    slide: str
    checked: str
    problems: tuple[str, ...]


def verify_run(out: Path) -> Iterator[Verdict]:
    """Check every slide of an output folder that did not fail.

    Parameters
    ----------
    out : Path
        A folder that ``segment`` wrote.

    Yields
    ------
    Verdict
        Whatever is wrong with a slide's files is a problem of that slide; the others are checked all the same.

    Raises
    ------
    DataError
        If it is not such a folder, or there is nothing to check in it.
    """
    rows = read_table(out)
    twice = doubled(rows)
    done = [row for row in rows if row.get("status") != FAILED]
    for row in done:
        problems = [text for text, wrong in twice.items() if row in wrong]
        yield _verify_slide(out, row, problems)
    strays = list(_strays(out, rows))
    yield from strays
    if not done and not strays:
        why = f"none of its {len(rows)} slide(s) was done, see its column error" if rows else "it has no slides"
        raise DataError(f"{out / TABLE}: there is nothing to check: {why}; run `dualproto-wsi segment` again")


def _strays(out: Path, rows: list[Row]) -> Iterator[Verdict]:
    """Find folders of results that the table does not tell of."""
    listed = {row.get("folder") for row in rows if row.get("status") != FAILED}
    failed = {row.get("path") for row in rows if row.get("status") == FAILED}
    for folder in sorted(path for path in out.iterdir() if path.name not in listed and (path / RECORD).is_file()):
        record = read_record(folder)
        if isinstance(record, dict) and record.get("status") in (DONE, EMPTY):
            path = record["slide"].get("path") if isinstance(record.get("slide"), dict) else None
            says = "says that the slide failed" if path in failed else "has no row of it"
            yield Verdict(folder.name, "", (f"{RECORD} is whole, but {TABLE} {says}; run `segment` again",))


def _verify_slide(out: Path, row: Row, problems: list[str]) -> Verdict:
    name = str(row.get("folder"))
    if name in ("", ".", "..", "None") or set(name) & set("/\\\0"):
        problems.append(f"{TABLE}: folder is {name!r:.80}; it must be one in the output folder")
        return Verdict(str(row.get("slide")), "", tuple(problems))
    folder = out / name
    told = _attempt(problems, RECORD, lambda: read_told(folder))
    checked = _check(folder, row, told, problems) if told else ""
    if len(problems) > MOST_TOLD:
        problems[MOST_TOLD:] = [f"and {len(problems) - MOST_TOLD} more problems"]
    return Verdict(name, checked, tuple(problems))


def _check(folder: Path, row: Row, told: Told, problems: list[str]) -> str:
    """Check all that a record tells of; return what was looked at."""
    _extend(problems, TABLE, row_problems(row, told, folder))
    _extend(problems, RECORD, record_problems(told))
    _extend(problems, RECORD, file_problems(folder, told))
    if told.output.overlay:
        _attempt(problems, OVERLAY, lambda: require_png(folder / OVERLAY))
    labels = _attempt(problems, LABELS, lambda: read_checked(folder / LABELS, told.grid))
    if labels is None:
        return ""
    _extend(problems, RECORD, area_problems(labels, told))
    confidence = None
    if told.output.confidence:
        confidence = _attempt(problems, CONFIDENCE, lambda: read_checked(folder / CONFIDENCE, told.grid))
        if confidence is not None:
            _extend(problems, CONFIDENCE, confidence_problems(confidence, labels, told))
    checked = [f"{labels.size} cells"]
    for suffix in told.output.formats:
        file = folder / f"{told.file}.{suffix}"
        _extend(problems, file.name, polygon_problems(file, told, labels, confidence, checked))
    return "; ".join(checked)


def _extend(problems: list[str], name: str, found: Iterator[str]) -> None:
    def check() -> None:
        for text in found:
            problems.append(text if text.startswith(name) else f"{name}: {text}")

    _attempt(problems, name, check)


def _attempt(problems: list[str], name: str, action: Callable[[], T]) -> T | None:
    """Do something with a file; whatever goes wrong is a problem of that file."""
    try:
        return action()
    except FileNotFoundError:
        problems.append(f"{name}: is not there")
    except (DualProtoError, OSError) as error:
        problems.append(str(error) if name in str(error) else f"{name}: {error}")
    except Exception as error:  # noqa: BLE001 - decoders raise all kinds of errors on damaged files
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        problems.append(f"{name}: cannot be checked, is it damaged? {reason:.200}")
    return None
