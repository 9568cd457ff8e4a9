"""The main job: slides in, regions and areas out; one slide after the other, each on its own."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dualproto_wsi.classes import UNSURE_CLASS, UNSURE_NAME
from dualproto_wsi.errors import DualProtoError, OutputError, SlideNotFound, SlideUnreadable
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import SegmentSettings
from dualproto_wsi.slide.reader import SlideReader, find_slides, open_slide
from dualproto_wsi.slide.tiling import TilePlan, plan_tiles
from dualproto_wsi.slide.tissue import TissueMask, find_tissue
from dualproto_wsi.stats.areas import AreaTally
from dualproto_wsi.vector.overlay import draw_overlay, labels_at, save_png
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.workflow import record
from dualproto_wsi.workflow.engine import Engine
from dualproto_wsi.workflow.folders import result_folders
from dualproto_wsi.workflow.inference import predict, read_ahead
from dualproto_wsi.workflow.listener import Listener
from dualproto_wsi.workflow.mapping import SlideMapper
from dualproto_wsi.workflow.models import prepare_model
from dualproto_wsi.workflow.outcome import DONE, EMPTY, FAILED, SlideOutcome, SlideTable
from dualproto_wsi.workflow.outputs import LABELS, OVERLAY, MapFiles, SlideOutputs, drop_stale
from dualproto_wsi.workflow.refine import BandRefiner, build_refiner
from dualproto_wsi.workflow.stopwatch import Stopwatch

logger = logging.getLogger(__name__)

OVERLAY_PX = 1600
"""Longer side of ``overlay.png``, px."""


def segment_slides(
    paths: Sequence[Path], out: Path, settings: SegmentSettings, listener: Listener | None = None
) -> Iterator[SlideOutcome]:
    """Segment slides and write their results.

    Parameters
    ----------
    paths : sequence of Path
        Slide files, and folders to search for slides.
    out : Path
        Folder of the results.
    settings : SegmentSettings
    listener : Listener or None
        Hears of progress.

    Yields
    ------
    SlideOutcome
        One a slide, also for those that are empty or failed; its row is in ``slides.csv`` by then.

    Raises
    ------
    DualProtoError
        If nothing can be done at all: no slides, no such model or device, no place to write.
    """
    listener = listener or Listener()
    slides = [slide for slide in find_slides(paths) if out.resolve() not in slide.resolve().parents]
    if not slides:
        raise SlideNotFound(
            f"{', '.join(map(str, paths))}: no slides found; name slide files, or folders that hold some"
        )
    folders = result_folders(slides, out)
    model, model_record = prepare_model(settings.inference)
    engine = Engine(model, settings.inference)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error}); choose another -o") from error
    table = SlideTable(out)
    listener.run_started(slides, engine.describe())
    for slide, folder in zip(slides, folders, strict=True):
        outcome = _isolated(SlideJob(slide, folder, engine, settings, model_record, listener))
        table.add(outcome)
        listener.slide_finished(outcome)
        yield outcome


def _isolated(job: SlideJob) -> SlideOutcome:
    """Run one slide; whatever goes wrong costs that slide alone."""
    clock = Stopwatch()
    try:
        return job.run(clock)
    except DualProtoError as error:
        reason = str(error)
    except OSError as error:
        reason = f"{job.slide.name}: {error}"
    except Exception as error:  # noqa: BLE001 - the one place that isolates a slide's failure
        logger.error("%s\n%s", job.slide, traceback.format_exc())
        reason = f"{job.slide.name}: unexpected {type(error).__name__}: {error}"
    return SlideOutcome(job.slide, None, FAILED, seconds=clock.total, error=" ".join(reason.split()))


@dataclass(frozen=True, slots=True)
class SlideJob:
    """One slide, from file to files.

    Parameters
    ----------
    slide : Path
        The slide file.
    folder : Path
        Where its results go.
    engine : Engine
    settings : SegmentSettings
    model_record : dict
        What ``record.json`` says of the model.
    listener : Listener
    """

    slide: Path
    folder: Path
    engine: Engine
    settings: SegmentSettings
    model_record: dict[str, object]
    listener: Listener

    def run(self, clock: Stopwatch) -> SlideOutcome:
        """Do it.

        Raises
        ------
        SlideError
            If the slide cannot be opened, has no pixel size, or its pixels cannot be read.
        """
        started = datetime.now(UTC)
        model = self.engine.model
        with open_slide(self.slide, self.settings.read) as reader:
            mpp = reader.info.require_mpp()
            with clock("tissue"):
                tissue = find_tissue(reader, self.settings.tissue, mpp)
            grid = LabelGrid.over(reader.info.content, mpp, model.stride_px * model.mpp)
            if not grid.columns or not grid.rows:
                raise SlideUnreadable(
                    f"{self.slide.name}: {reader.info.width} x {reader.info.height} px at {mpp:g} µm/px is smaller than"
                    f" a cell of the label map ({grid.cell_um:g} µm); is this the slide, and is --mpp right?"
                )
            overlap = self.settings.tiling.overlap
            plan = plan_tiles(grid, tissue, model.window_px, model.stride_px, overlap, lattice_px=model.encoder.step_px)
            self.listener.slide_planned(self.slide, plan.tiles)
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / record.RECORD).unlink(missing_ok=True)
            outputs = self._map(reader, grid, tissue, plan, clock)
            with clock("overlay"):
                self._draw(reader, grid, outputs.tally)
            drop_stale(self.folder, reader.info.name, self.settings.output)
            outcome = SlideOutcome(
                slide=self.slide,
                folder=self.folder,
                status=DONE if plan.tiles else EMPTY,
                tiles=plan.tiles,
                regions=outputs.regions,
                mpp=mpp,
                mpp_source=reader.info.mpp_source,
                analysed_mm2=outputs.tally.analysed_mm2,
                unsure_mm2=outputs.tally.unsure_mm2,
                mm2=outputs.tally.mm2(),
                fractions=outputs.tally.fractions(),
                seconds=clock.total,
            )
            self._record(reader, grid, tissue, outcome, clock, started)
        return outcome

    def _map(
        self, reader: SlideReader, grid: LabelGrid, tissue: TissueMask, plan: TilePlan, clock: Stopwatch
    ) -> SlideOutputs:
        settings, info, model = self.settings, reader.info, self.engine.model
        files = MapFiles(
            folder=self.folder,
            slide=info.name,
            offset=(info.content.x, info.content.y) if settings.output.frame == "qupath" else (0.0, 0.0),
            identity=f"{info.name} {info.width} {info.height}",
        )
        with ExitStack() as stack:
            refiner = self._refiner(grid, tissue)
            if refiner:
                stack.enter_context(refiner)
            unsure = settings.labels.unsure_below > 0
            outputs = stack.enter_context(SlideOutputs(grid, model.classes, files, settings.output, unsure, clock))
            window = model.window_px // model.stride_px
            mapper = SlideMapper(grid, len(model.classes), window, tissue, settings.labels, refiner, outputs, clock)
            loaded = read_ahead(reader, plan.blocks, settings.read.workers, colours=refiner is not None)
            for blocks, logits in predict(self.engine, loaded, clock):
                mapper.add(blocks, logits)
                self.listener.tiles_done(len(logits))
            mapper.finish()
            outputs.finish()
        return outputs

    def _refiner(self, grid: LabelGrid, tissue: TissueMask) -> BandRefiner | None:
        model = self.engine.model
        refiner = build_refiner(self.settings.refine, self.engine.device, model.stride_px, tissue.colours)
        return BandRefiner(refiner, grid.columns, len(model.classes)) if refiner else None

    def _draw(self, reader: SlideReader, grid: LabelGrid, tally: AreaTally) -> None:
        if not self.settings.output.overlay:
            return
        info = reader.info
        box = info.content
        shrink = max(1.0, max(box.width, box.height) / OVERLAY_PX)
        size = (max(1, round(box.width / shrink)), max(1, round(box.height / shrink)))
        labels = labels_at(read_raster(self.folder / LABELS, int(shrink / grid.scale)), grid, box, size)
        areas, shares = tally.mm2(), tally.fractions()
        captions = {name: f"{areas[name]:.3g} mm²  {shares[name]:.1%}" for name in areas if tally.analysed_mm2}
        classes = list(self.engine.model.classes)
        if tally.unsure_mm2:
            classes.append(UNSURE_CLASS)
            captions[UNSURE_NAME] = f"{tally.unsure_mm2:.3g} mm²  {tally.unsure_mm2 / tally.analysed_mm2:.1%}"
        title = f"{info.name}: {tally.analysed_mm2:.3g} mm² of tissue analysed"
        save_png(
            draw_overlay(reader.read(box, size), labels, classes, captions, title),
            self.folder / OVERLAY,
        )

    def _record(
        self,
        reader: SlideReader,
        grid: LabelGrid,
        tissue: TissueMask,
        outcome: SlideOutcome,
        clock: Stopwatch,
        started: datetime,
    ) -> None:
        data = {
            "format": 1,
            "status": outcome.status,
            "started": started.isoformat(timespec="seconds"),
            "slide": record.slide_record(reader.info),
            "frame": self.settings.output.frame,
            "grid": {
                "columns": grid.columns,
                "rows": grid.rows,
                "scale_px": grid.scale,
                "cell_um": grid.cell_um,
            },
            "classes": [{"id": c.id, "name": c.name, "colour": list(c.colour)} for c in self.engine.model.classes],
            "formats": list(self.settings.output.formats),
            "regions": outcome.regions,
            "tiles": outcome.tiles,
            "tissue_mm2": tissue.area_mm2,
            "analysed_mm2": outcome.analysed_mm2,
            "unsure_mm2": outcome.unsure_mm2,
            "mm2": outcome.mm2,
            "model": self.model_record,
            "settings": record.settings_record(self.settings),
            "versions": record.versions(),
            "hardware": record.hardware(str(self.engine.device)),
            "precision": self.engine.precision,
            "seconds": {step: round(seconds, 3) for step, seconds in clock.seconds.items()}
            | {"total": round(clock.total, 3)},
            "peak_memory_bytes": record.peak_memory_bytes(),
        }
        record.write_json(self.folder / record.RECORD, data)
