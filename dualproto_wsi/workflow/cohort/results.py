"""What ``segment`` left in its output folders, slide by slide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import DataError
from dualproto_wsi.workflow.batch.fingerprint import NEUTRAL
from dualproto_wsi.workflow.batch.outcome import FAILED, TABLE
from dualproto_wsi.workflow.batch.record import RECORD
from dualproto_wsi.workflow.batch.slide_list import RESERVED
from dualproto_wsi.workflow.checks.verify_record import Told, read_told
from dualproto_wsi.workflow.checks.verify_table import Row, read_table


@dataclass(frozen=True, slots=True)
class SlideResult:
    """A slide of an output folder.

    Parameters
    ----------
    name : str
        File name of the slide.
    path : str
        Where it was.
    out : Path
        The output folder.
    folder : Path or None
        Of the slide's results; None where it has none that can be used.
    told : Told or None
        Its record.
    error : str
        Why there are no results; empty otherwise.
    about : dict of str to str
        Further columns that the user gave.
    key : str
        Unique in the cohort; empty until all slides are known.
    """

    name: str
    path: str
    out: Path
    folder: Path | None
    told: Told | None
    error: str = ""
    about: dict[str, str] = field(default_factory=dict)
    key: str = ""

    @property
    def where(self) -> str:
        """The folder of its results, or the output folder."""
        return str(self.folder or self.out)

    @property
    def identity(self) -> str:
        """What tells the slide from others: its hash, or its path."""
        return self.told.data["fingerprint"]["slide"] if self.told else self.path


def read_results(outs: Sequence[Path]) -> tuple[list[SlideResult], list[str]]:
    """Read what is told of every slide in output folders.

    Parameters
    ----------
    outs : sequence of Path
        Folders that ``segment`` wrote.

    Returns
    -------
    results : list of SlideResult
        Each slide once, sorted by key.
    notes : list of str
        What a reader must know.

    Raises
    ------
    DataError
        If a folder is not one of ``segment``, there is no slide at all, or slides are of different models or classes.
    """
    notes: list[str] = []
    found: list[SlideResult] = []
    for out in dict.fromkeys(path.resolve() for path in outs):
        rows = read_table(out)
        found += [_result(out, row) for row in rows]
        notes += _strays(out, rows)
    if not found:
        raise DataError(f"{outs[0] / TABLE}: there are no slides; run `dualproto-wsi segment` first")
    kept = _each_once(found, notes)
    done = [result for result in kept if result.told]
    _require_one_model(done)
    notes += _different_settings(done)
    return _with_keys(kept), notes


def _result(out: Path, row: Row) -> SlideResult:
    if None in row or None in row.values():
        raise DataError(f"{out / TABLE}: the row of {row.get('slide')!r} has more or fewer cells than columns")
    about = {name: value for name, value in row.items() if value and not _is_ours(name)}
    name, path = row["slide"], row["path"]
    if row["status"] == FAILED:
        return SlideResult(name, path, out, None, None, row.get("error") or "no reason was told", about)
    folder = out / row["folder"]
    if not row["folder"] or folder.parent != out:
        raise DataError(f"{out / TABLE}: folder is {row['folder']!r} for {name}; it must be one in the output folder")
    try:
        told = read_told(folder)
        _ = told.data["fingerprint"]["slide"], told.data["fingerprint"]["model"], told.data["started"]
    except DataError as error:
        return SlideResult(name, path, out, None, None, f"{folder}: {error}", about)
    except (KeyError, TypeError) as error:
        return SlideResult(name, path, out, None, None, f"{folder / RECORD}: lacks {error}; run `segment` again", about)
    return SlideResult(name, path, out, folder, told, "", about)


def _is_ours(column: str) -> bool:
    return column in (*RESERVED, "path", "mpp", "regions") or column.endswith(("_mm2", "_fraction"))


def _strays(out: Path, rows: list[Row]) -> Iterator[str]:
    listed = {row.get("folder") for row in rows}
    strays = sorted(path.name for path in out.iterdir() if path.name not in listed and (path / RECORD).is_file())
    if strays:
        yield f"{out / TABLE} does not tell of {len(strays)} folder(s) of results, left out: {some(strays)}."


def _each_once(found: list[SlideResult], notes: list[str]) -> list[SlideResult]:
    """Keep the newest results of each slide; a failure counts only where there are none."""
    newest: dict[str, SlideResult] = {}
    left_out: list[str] = []
    for result in sorted(found, key=lambda result: str(result.told.data["started"]) if result.told else ""):
        earlier = newest.pop(result.identity, None)
        if earlier and earlier.told:
            left_out.append(earlier.where)
        newest[result.identity] = result
    paths = {result.path for result in newest.values() if result.told}
    kept = [result for result in newest.values() if result.told or result.path not in paths]
    if left_out:
        notes.append(f"Slides that are there twice count once, with their newest results; left out: {some(left_out)}.")
    return kept


def _require_one_model(done: list[SlideResult]) -> None:
    for one, other in pairwise(done):
        classes = [_classes(result) for result in (one, other)]
        if classes[0] != classes[1]:
            raise DataError(
                f"{one.where} has the classes {classes[0]}, {other.where} {classes[1]}; measure slides of one class "
                "scheme together"
            )
        models = [result.told.data["fingerprint"]["model"] for result in (one, other) if result.told]
        if models[0] != models[1]:
            raise DataError(
                f"{one.where} is by the model {model_name(one)} ({models[0][:12]}), {other.where} by "
                f"{model_name(other)} ({models[1][:12]}); measure slides of one model together"
            )


def _classes(result: SlideResult) -> str:
    return ", ".join(classes_of(result).names)


def classes_of(result: SlideResult) -> ClassScheme:
    """Return the classes of a slide that has results."""
    assert result.told is not None
    return result.told.classes


def model_name(result: SlideResult) -> str:
    """Return name and version of the model of a slide that has results."""
    assert result.told is not None
    card: dict[str, Any] = result.told.data["model"].get("card", {})
    return f"{card.get('name', 'unknown')} {card.get('version', '')}".strip()


def _different_settings(done: list[SlideResult]) -> Iterator[str]:
    """Tell which settings that change results are not the same for all slides."""
    values: dict[str, Counter[str]] = {}
    for result in done:
        assert result.told is not None
        for section, settings in result.told.data["settings"].items():
            for name, value in settings.items():
                if section != "output" and name not in (*NEUTRAL.get(section, ()), "mpp") and section != "features":
                    values.setdefault(f"{section}.{name}", Counter())[str(value)] += 1
        values.setdefault("size of a cell, µm", Counter())[f"{result.told.grid.cell_um:g}"] += 1
    for name, counts in values.items():
        if len(counts) > 1:
            told = ", ".join(f"{value} for {count} slide(s)" for value, count in counts.most_common())
            yield f"Slides were not mapped alike: {name} is {told}."


def _with_keys(results: list[SlideResult]) -> list[SlideResult]:
    """Name each slide by its file; by its folder too, or by its path, where two share that."""

    def names(result: SlideResult) -> tuple[str, ...]:
        folder = result.folder.name if result.folder else result.name
        return result.name, folder, f"{result.out.name}/{folder}", f"{result.where} {result.path}"

    counts = Counter(name for result in results for name in set(names(result)))
    keyed = [replace(r, key=next((name for name in names(r) if counts[name] == 1), names(r)[-1])) for r in results]
    return sorted(keyed, key=lambda result: result.key)


def some(names: Sequence[str], most: int = 5) -> str:
    """Return names, the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + more
