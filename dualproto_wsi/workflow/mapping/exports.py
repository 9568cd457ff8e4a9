"""Results of slides once more, for other programs; told in ``record.json`` beside the other files."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import DataError, DualProtoError, OutputError
from dualproto_wsi.files import file_sha256, replacing
from dualproto_wsi.vector.export import EXPORTERS, ExportSource, require_packages
from dualproto_wsi.workflow.batch.claims import claimed, tidy
from dualproto_wsi.workflow.batch.fingerprint import slide_files, slide_sha256
from dualproto_wsi.workflow.batch.outcome import FAILED
from dualproto_wsi.workflow.batch.record import LABELS, RECORD, read_record, write_json
from dualproto_wsi.workflow.checks.verify_record import Told, read_told
from dualproto_wsi.workflow.checks.verify_table import read_table


def lacking_exports(folder: Path, kinds: Iterable[str], record: Mapping[str, Any]) -> list[str]:
    """Name the kinds of export that are not in a slide's folder as its record tells of them."""
    told = record.get("exports", {})
    return [kind for kind in kinds if kind not in told or not _is_there(folder, told[kind])]


def _is_there(folder: Path, told: Mapping[str, Any]) -> bool:
    path = folder / str(told["file"])
    return path.is_file() and path.stat().st_size == int(told["bytes"])


def drop_exports(folder: Path, slide: str) -> None:
    """Remove the exports in a slide's folder: the results that they are made of are about to change."""
    for exporter in EXPORTERS.values():
        (folder / exporter.file_name(slide)).unlink(missing_ok=True)


def export_slide(folder: Path, kinds: Iterable[str], force: bool = False) -> list[Path]:
    """Export the results of a slide.

    Parameters
    ----------
    folder : Path
        A slide's results, as ``segment`` wrote them; their record is told of the exports.
    kinds : iterable of str
        Of :data:`~dualproto_wsi.settings.EXPORTS`.
    force : bool
        Whether those that are there are made anew.

    Returns
    -------
    list of Path
        The files that were made; those that were there already are not among them.

    Raises
    ------
    DataError
        If the results are not whole, or the slide is gone where it is needed.
    MissingDependency
        If a package is not installed.
    OutputError
        If a file cannot be written.
    """
    record = read_record(folder)
    if record is None:
        raise DataError(f"{folder}: its results are not whole; run `dualproto-wsi segment` again")
    wanted = list(kinds) if force else lacking_exports(folder, kinds, record)
    if not wanted:
        return []
    require_packages(wanted)
    source = _source(folder, read_told(folder), needs_slide="dicom-seg" in wanted)
    made = []
    for kind in wanted:
        started = time.perf_counter()
        path = folder / EXPORTERS[kind].file_name(source.slide)
        try:
            with replacing(path) as temporary:
                EXPORTERS[kind].write(source, temporary)
        except OSError as error:
            if isinstance(error, DualProtoError):
                raise
            why = error.strerror or error
            raise OutputError(f"{path}: cannot be written ({why}); make room or check the folder's rights") from error
        told = {"file": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
        told["seconds"] = round(time.perf_counter() - started, 3)
        record.setdefault("exports", {})[kind] = told
        write_json(folder / RECORD, record)
        made.append(path)
    return made


def _source(folder: Path, told: Told, needs_slide: bool) -> ExportSource:
    data, bounds = told.data, told.bounds
    slide = Path(data["slide"]["path"])
    qupath = told.output.frame == "qupath"
    return ExportSource(
        labels=folder / LABELS,
        regions_file=folder / f"{told.file}.{told.output.formats[0]}",
        offset=(bounds.x, bounds.y) if qupath else (0.0, 0.0),
        grid=replace(told.grid, x=bounds.x, y=bounds.y),
        classes=told.classes,
        slide=told.file,
        sha256=data["fingerprint"]["slide"],
        width=data["slide"]["width"],
        height=data["slide"]["height"],
        mpp=data["slide"]["mpp"],
        model=str(data["model"].get("card", {}).get("name") or data["settings"]["inference"]["model"]),
        model_sha256=data["fingerprint"]["model"],
        version=data["fingerprint"]["version"],
        created=datetime.fromisoformat(data["started"]),
        dicom_files=_dicom_files(slide, data) if needs_slide else (),
    )


def _dicom_files(slide: Path, data: Mapping[str, Any]) -> tuple[Path, ...]:
    """Return the files of a DICOM slide; of any other, none."""
    try:
        with slide.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                return ()
        if slide_sha256(slide) == data["fingerprint"]["slide"]:
            return tuple(slide_files(slide))
    except IsADirectoryError:
        return ()
    except OSError as error:
        if "dicom" not in str(data["slide"]["vendor"]).lower() and slide.suffix.lower() != ".dcm":
            return ()
        raise DataError(
            f"{slide}: cannot be read ({error.strerror}); a segmentation of a DICOM slide refers to it: bring it back, "
            "or leave dicom-seg out"
        ) from error
    raise DataError(f"{slide}: is another file now than the one that was mapped; map it again, or leave dicom-seg out")


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of exporting a slide.

    Parameters
    ----------
    slide : str
        Name of its folder.
    files : tuple of Path
        Made now.
    error : str
        Why not all were made; empty otherwise.
    """

    slide: str
    files: tuple[Path, ...]
    error: str = ""


def export_run(out: Path, kinds: Iterable[str], force: bool = False) -> Iterator[Exported]:
    """Export the results of every slide of an output folder that did not fail.

    Parameters
    ----------
    out : Path
        A folder that ``segment`` wrote.
    kinds : iterable of str
        Of :data:`~dualproto_wsi.settings.EXPORTS`.
    force : bool
        Whether exports that are there are made anew.

    Yields
    ------
    Exported
        One a slide; what goes wrong with one costs that slide alone.

    Raises
    ------
    DataError
        If it is not such a folder.
    MissingDependency
        If a package is not installed.
    """
    kinds = list(kinds)
    require_packages(kinds)
    for row in read_table(out):
        if row["status"] == FAILED:
            continue
        folder = out / row["folder"]
        if not row["folder"] or folder.parent != out:
            yield Exported(str(row["slide"]), (), f"folder is {row['folder']!r}; it must be one in the output folder")
            continue
        with claimed(out, folder.name) as mine:
            yield _attempt(folder, kinds, force) if mine else Exported(folder.name, (), "another process works on it")
    tidy(out)


def _attempt(folder: Path, kinds: list[str], force: bool) -> Exported:
    try:
        return Exported(folder.name, tuple(export_slide(folder, kinds, force)))
    except DualProtoError as error:
        return Exported(folder.name, (), str(error))
    except OSError as error:
        return Exported(folder.name, (), f"{folder}: {error}")
