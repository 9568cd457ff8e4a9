"""What a run would take, slide by slide, before it is run; nothing is kept on the disk."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dualproto_wsi.errors import DualProtoError, SettingsError
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.slide.reader import SlideInfo, open_slide
from dualproto_wsi.workflow.batch.estimate import Load, result_bytes, temporary_bytes
from dualproto_wsi.workflow.batch.record import peak_memory_bytes, read_record
from dualproto_wsi.workflow.batch.run_plan import RunPlan, SlidePlan
from dualproto_wsi.workflow.batch.speed import Speed, seconds_to_read
from dualproto_wsi.workflow.batch.tasks import SlideTask, list_tasks
from dualproto_wsi.workflow.listener import Listener
from dualproto_wsi.workflow.mapping.engine import Engine, all_devices
from dualproto_wsi.workflow.mapping.job import SlideJob
from dualproto_wsi.workflow.mapping.layout import analysed_tissue, label_grid, tile_plan
from dualproto_wsi.workflow.models import prepare_model
from dualproto_wsi.workflow.segment import is_unchanged

ENLARGED = 1.3
"""A slide so much coarser than the model's resolution lacks details that the model learned from."""
USUAL_MPP = (0.1, 2.0)
TINY_MM2 = 0.1
LARGE_CELLS = 500_000_000
"""2000 mm² at 2 µm a cell; a whole standard glass slide is about 1000 mm²."""
OVERLAY_S = 1.0
"""To draw and save ``overlay.png``, besides reading the picture."""


def plan_slides(
    paths: Sequence[Path],
    settings: SegmentSettings,
    out: Path | None = None,
    heard: Callable[[int, int], None] | None = None,
    loading_s: float = 0.0,
) -> RunPlan:
    """Open slides, find their tissue, measure how fast this machine is, and estimate what a run would take.

    Parameters
    ----------
    paths : sequence of Path
        Slide files, folders to search, and tables (``.csv``) of slides.
    settings : SegmentSettings
        Of the run.
    out : Path or None
        Where the results would go: what is done there already is skipped, its free space is looked at, and slides in
        it are passed over.
    heard : callable or None
        Hears (slides looked at, slides in all).
    loading_s : float
        What loading the program took already, seconds.

    Returns
    -------
    RunPlan

    Raises
    ------
    DualProtoError
        If the run could not even start: no slides, no such model or device, a wrong table.
    """
    start = time.perf_counter()
    if settings.features.source:
        raise SettingsError(
            f"--from-features {settings.features.source}: plan measures what reading and encoding takes; leave it out"
        )
    with TemporaryDirectory(prefix="dualproto-") as empty:
        tasks = list_tasks(paths, out or Path(empty), settings)
    model, model_record = prepare_model(settings.inference)
    engine = Engine(model, settings.inference)
    engine.launch(np.full((engine.windows_at_once, model.window_px, model.window_px, 3), 255, np.uint8))()
    survey = Survey(engine, settings, model_record, peak_memory_bytes())
    start_s = loading_s + time.perf_counter() - start
    for number, task in enumerate(tasks, start=1):
        survey.look_at(task)
        if heard:
            heard(number, len(tasks))
    slides = survey.estimates()
    _warn_of_names(slides)
    left = sum(not slide.done and not slide.error for slide in slides)
    plan = RunPlan(
        slides,
        engine.describe(),
        start_s + survey.speed.warm_up_s,
        survey.speed.windows,
        max(1, min(left, len(all_devices(settings.inference.device)))),
    )
    plan.warnings.extend(_about_cluster(settings))
    plan.warnings.extend(_about_disk(plan, out))
    return plan


@dataclass(slots=True)
class Seen:
    """A slide's plan while speeds are gathered, the seconds it took to look at it, and those to read a window."""

    plan: SlidePlan
    look_s: float = 0.0
    read_s: float = 0.0


class Survey:
    """Looks at slides one by one, then estimates.

    Parameters
    ----------
    engine : Engine
    settings : SegmentSettings
    model_record : dict
        What ``record.json`` says of the model.
    program_bytes : int or None
        Memory of the program and its model.
    """

    def __init__(
        self, engine: Engine, settings: SegmentSettings, model_record: dict[str, Any], program_bytes: int | None
    ) -> None:
        self._engine, self._settings, self._program_bytes = engine, settings, program_bytes
        self._model_record = model_record
        self.speed = Speed(engine, settings)
        self._seen: list[Seen] = []

    def look_at(self, task: SlideTask) -> None:
        """Open a slide and find its tissue, unless it is done; what is wrong with it goes into its plan."""
        item, seen = task.item, Seen(SlidePlan(task.slide))
        self._seen.append(seen)
        try:
            self._look(task, seen)
        except (DualProtoError, OSError) as error:
            seen.plan.tissue_mm2, seen.plan.windows = 0.0, 0
            message = str(error)
            seen.plan.error = " ".join(message.split()) if item.path.name in message else f"{item.path.name}: {message}"

    def _look(self, task: SlideTask, seen: Seen) -> None:
        plan, model, start = seen.plan, self._engine.model, time.perf_counter()
        with open_slide(task.slide, task.settings(self._settings).read) as reader:
            info = reader.info
            plan.mpp, plan.reader = info.mpp, info.reader
            plan.mpp_source = info.mpp_source
            plan.done = self._is_done(task)
            if plan.done:
                return
            grid = label_grid(info, model)
            tissue = analysed_tissue(reader, self._settings.tissue, task.item.regions)
            windows = tile_plan(grid, tissue, model, self._settings.tiling.overlap)
            plan.tissue_mm2, plan.windows = tissue.area_mm2, windows.tiles
            seen.look_s = time.perf_counter() - start
            seen.read_s = seconds_to_read(reader, windows)
            self.speed.measure(reader, grid, tissue, windows)
        readers = self._engine.readers(self._settings.read.workers)
        load = Load(
            grid,
            len(model.classes),
            model.window_px,
            model.stride_px,
            tissue.field.size,
            readers,
            self._engine.cores,
        )
        if self._program_bytes is not None:
            plan.memory_bytes = self._program_bytes + load.memory_bytes(self._settings)
        plan.temporary_bytes = temporary_bytes(grid, self._settings)
        plan.disk_bytes = result_bytes(grid, tissue.area_mm2, 0, self._settings)
        plan.warnings = _warnings(info, plan, grid.columns * grid.rows, model.mpp)

    def _is_done(self, task: SlideTask) -> bool:
        record = None if self._settings.run.force else read_record(task.folder)
        if record is None:
            return False
        job = SlideJob(task, self._engine, task.settings(self._settings), self._model_record, Listener())
        return is_unchanged(job, record)

    def estimates(self) -> list[SlidePlan]:
        """Return the plans of the slides looked at, with what they take."""
        for seen in self._seen:
            plan = seen.plan
            if not plan.error and not plan.done:
                overlay_s = OVERLAY_S + seen.look_s if self._settings.output.overlay else 0.0
                plan.seconds = seen.look_s + overlay_s + self.speed.seconds(plan.windows, seen.read_s)
                plan.disk_bytes += round(plan.windows * self.speed.window_polygon_bytes)
        return [seen.plan for seen in self._seen]


def _warnings(info: SlideInfo, plan: SlidePlan, cells: int, model_mpp: float) -> list[str]:
    mpp = info.require_mpp()
    found = []
    if not plan.windows:
        found.append("no tissue found; its results would be empty")
    elif plan.tissue_mm2 < TINY_MM2:
        found.append(
            f"only {plan.tissue_mm2:.2g} mm² of tissue found; is the stain very pale, or the pixel size right?"
        )
    if not USUAL_MPP[0] <= mpp <= USUAL_MPP[1]:
        found.append(f"{mpp:g} µm/px is unusual for a slide ({USUAL_MPP[0]:g} to {USUAL_MPP[1]:g}); is it right?")
    if mpp > ENLARGED * model_mpp:
        found.append(
            f"{mpp:g} µm/px is coarser than the model's {model_mpp:g}: enlarged {mpp / model_mpp:.1f}x, it lacks detail"
        )
    if info.reader == "tiatoolbox":
        found.append("only TIAToolbox reads this format: several times slower to read than others")
    if cells > LARGE_CELLS:
        found.append(
            f"a very large label map of {cells / 1e6:,.0f} million cells: {plan.temporary_bytes / 1e9:.1f} GB of disk"
            " until it is finished; is the pixel size right?"
        )
    return found


def _warn_of_names(slides: list[SlidePlan]) -> None:
    count = Counter(slide.slide.name.casefold() for slide in slides)
    for slide in slides:
        same = count[slide.slide.name.casefold()]
        if same > 1:
            slide.warnings.append(f"{same} slides have this name: the folders of their results get a suffix")


def _about_cluster(settings: SegmentSettings) -> list[str]:
    if not settings.run.cluster:
        return []
    return [f"measured in one process on this machine; workers of {settings.run.cluster} share the slides"]


def _about_disk(plan: RunPlan, out: Path | None) -> list[str]:
    if out is None:
        return []
    exists = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(exists).free
    needed = sum(plan.totals()[name] for name in ("disk_bytes", "temporary_bytes"))
    if needed < free:
        return []
    return [f"{out}: {free / 1e9:.1f} GB free, about {needed / 1e9:.1f} GB needed; make room, or choose another -o"]
