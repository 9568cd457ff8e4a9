"""Repeating a slide from its record, and comparing byte by byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dualproto_wsi.errors import DataError, SlideNotFound
from dualproto_wsi.files import file_sha256
from dualproto_wsi.settings import FeatureSettings, RunSettings, SegmentSettings, from_data
from dualproto_wsi.workflow.batch.claims import tidy
from dualproto_wsi.workflow.batch.fingerprint import data_sha256, slide_sha256
from dualproto_wsi.workflow.batch.outcome import SlideOutcome
from dualproto_wsi.workflow.batch.record import RECORD, versions
from dualproto_wsi.workflow.batch.slide_list import SlideItem
from dualproto_wsi.workflow.batch.tasks import SlideTask, make_folder
from dualproto_wsi.workflow.listener import Listener
from dualproto_wsi.workflow.segment import SlideRunner


@dataclass(frozen=True, slots=True)
class Rerun:
    """What came of repeating a slide.

    Parameters
    ----------
    outcome : SlideOutcome
        Of the repetition.
    equal : dict of bool
        Whether a result file has the recorded bytes, by name.
    versions : dict of (str, str)
        Packages whose version is another now: recorded and present version, by name.
    """

    outcome: SlideOutcome
    equal: dict[str, bool]
    versions: dict[str, tuple[str, str]]

    @property
    def agrees(self) -> bool:
        """Whether all files have the recorded bytes."""
        return bool(self.equal) and all(self.equal.values())


def rerun_slide(record_file: Path, out: Path, listener: Listener | None = None) -> Rerun:
    """Repeat a slide from its ``record.json``, on the same kind of device, and compare the results.

    Parameters
    ----------
    record_file : Path
        The record, or the folder that holds it.
    out : Path
        Folder of the new results; not the one of the old.
    listener : Listener or None

    Raises
    ------
    DataError
        If the record is none, or too old; or the slide, the model or the file of regions is not the recorded one.
    DualProtoError
        If the slide, the model or the device is not there.
    """
    record_file = record_file / RECORD if record_file.is_dir() else record_file
    record = _read(record_file)
    if out.resolve() == record_file.resolve().parent.parent:
        raise DataError(f"{out}: holds the results to compare with; choose another -o")
    task, settings = _task(record, record_file, out)
    runner = SlideRunner(out, settings)
    told = record["fingerprint"]
    model = data_sha256(runner.model_record)
    if model != told["model"]:
        name = settings.inference.model
        raise DataError(
            f"{record_file}: model {name} is another now than the one recorded ({model[:12]} now); {_AGAIN}"
        )
    make_folder(out)
    listener = listener or Listener()
    listener.run_started([task.slide], runner.engine.describe())
    outcome = runner.run(task, listener)
    tidy(out)
    if outcome is None:
        raise DataError(f"{out}: another process works on {task.slide.name} there; choose another -o")
    listener.slide_finished(outcome)
    return Rerun(outcome, _compare(record["outputs"], outcome), _other_versions(record["versions"], versions()))


_AGAIN = "there is nothing to compare with; map the slide anew with `dualproto-wsi segment`"


def _read(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such record; name a record.json, or the folder of a slide's results") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a record of this program ({error})") from error
    missing = [name for name in ("fingerprint", "outputs", "command", "settings") if name not in record]
    if missing:
        raise DataError(f"{path}: has no {missing[0]!r}: no record of this program, or one from before 'rerun'")
    return record


def _task(record: Mapping[str, Any], source: Path, out: Path) -> tuple[SlideTask, SegmentSettings]:
    """Return what to do, with files named as they were, from the folder that the command was given in."""
    start = Path(record["command"]["cwd"])
    slide, regions = Path(record["slide"]["path"]), record["regions_file"]
    item = SlideItem(slide, regions=start / regions if regions else None)
    told = record["fingerprint"]
    if not slide.exists():
        raise SlideNotFound(f"{slide}: no such slide; {source} tells of it")
    if slide_sha256(slide) != told["slide"]:
        raise DataError(f"{slide}: another file now than the one in {source} (its content differs); {_AGAIN}")
    if item.regions and (not item.regions.exists() or file_sha256(item.regions) != told["regions"]):
        raise DataError(f"{item.regions}: gone, or another file now than the one in {source}; {_AGAIN}")
    settings = from_data(SegmentSettings, record["settings"], str(source))
    named: dict[str, Any] = {
        name: str(start / value)
        for name in ("model", "prompts", "weights", "tokenizer")
        if (value := getattr(settings.inference, name)) and (start / value).is_file()
    }
    inference = replace(
        settings.inference,
        **named,
        device=told["device"] if settings.inference.device == "auto" else settings.inference.device,
        precision=told["precision"],
        batch_size=record["batch_size"],
    )
    encoded = settings.features.source
    features = FeatureSettings(source=str(start / encoded) if encoded else "")
    settings = replace(settings, inference=inference, features=features, run=RunSettings(force=True))
    return SlideTask(item, out / slide.name), settings


def _compare(recorded: Mapping[str, Mapping[str, Any]], outcome: SlideOutcome) -> dict[str, bool]:
    folder = outcome.folder
    if folder is None:
        return {}
    return {
        name: (folder / name).is_file() and file_sha256(folder / name) == told["sha256"]
        for name, told in recorded.items()
    }


def _other_versions(recorded: Mapping[str, str], present: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {name: (told, present.get(name, "")) for name, told in recorded.items() if present.get(name) != told}
