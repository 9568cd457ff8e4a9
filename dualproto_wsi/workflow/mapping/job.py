"""One slide, from file to files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from dualproto_wsi.classes import UNSURE_CLASS, UNSURE_NAME
from dualproto_wsi.files import file_sha256
from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.settings import OutputSettings, SegmentSettings
from dualproto_wsi.slide.reader import SlideReader, open_slide
from dualproto_wsi.slide.tiling import TilePlan
from dualproto_wsi.slide.tissue import TissueMask
from dualproto_wsi.stats.areas import AreaTally
from dualproto_wsi.vector.overlay import draw_overlay, labels_at, save_png
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.workflow.batch import record
from dualproto_wsi.workflow.batch.fingerprint import Fingerprint, data_sha256, settings_sha256, slide_sha256
from dualproto_wsi.workflow.batch.outcome import DONE, EMPTY, SlideOutcome
from dualproto_wsi.workflow.batch.record import CONFIDENCE, LABELS, OVERLAY
from dualproto_wsi.workflow.batch.tasks import SlideTask
from dualproto_wsi.workflow.listener import Listener
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.mapping.layout import analysed_tissue, label_grid, tile_plan
from dualproto_wsi.workflow.mapping.mapper import map_slide
from dualproto_wsi.workflow.mapping.outputs import MapFiles, SlideOutputs, drop_stale
from dualproto_wsi.workflow.stopwatch import Stopwatch

OVERLAY_PX = 1600
"""Longer side of ``overlay.png``, px."""


@dataclass(frozen=True, slots=True)
class SlideJob:
    """One slide, from file to files.

    Parameters
    ----------
    task : SlideTask
        The slide, and where its results go.
    engine : Engine
    settings : SegmentSettings
        With what the user says of this slide alone.
    model_record : dict
        What ``record.json`` says of the model.
    listener : Listener
    """

    task: SlideTask
    engine: Engine
    settings: SegmentSettings
    model_record: dict[str, object]
    listener: Listener

    @property
    def slide(self) -> Path:
        """The slide file."""
        return self.task.slide

    @property
    def folder(self) -> Path:
        """Where its results go."""
        return self.task.folder

    def fingerprint(self) -> Fingerprint:
        """Return what decides the result.

        Raises
        ------
        OSError
            If the slide cannot be read.
        """
        regions = self.task.item.regions
        return Fingerprint(
            slide=slide_sha256(self.slide),
            regions=file_sha256(regions) if regions else "",
            model=data_sha256(self.model_record),
            settings=settings_sha256(self.settings),
            device=self.engine.device.type,
            precision=self.engine.precision,
        )

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
            with clock("hash"):
                fingerprint = self.fingerprint()
            with clock("tissue"):
                tissue = analysed_tissue(reader, self.settings.tissue, self.task.item.regions)
            grid = label_grid(reader.info, model)
            plan = tile_plan(grid, tissue, model, self.settings.tiling.overlap)
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
                seconds=round(clock.total, 3),
                about=self.task.about,
            )
            self._record(reader, grid, tissue, outcome, clock, started, fingerprint)
        return outcome

    def _map(
        self, reader: SlideReader, grid: LabelGrid, tissue: TissueMask, plan: TilePlan, clock: Stopwatch
    ) -> SlideOutputs:
        settings, info = self.settings, reader.info
        files = MapFiles(
            folder=self.folder,
            slide=info.name,
            offset=(info.content.x, info.content.y) if settings.output.frame == "qupath" else (0.0, 0.0),
            identity=f"{info.name} {info.width} {info.height}",
        )
        heard = partial(self.listener.tiles_done, self.slide)
        return map_slide(reader, grid, tissue, plan, self.engine, settings, files, clock, heard)

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
        fingerprint: Fingerprint,
    ) -> None:
        output, name = self.settings.output, reader.info.name
        data = {
            "format": 1,
            "status": outcome.status,
            "started": started.isoformat(timespec="seconds"),
            "fingerprint": fingerprint.to_json(),
            "command": record.command_record(),
            "slide": record.slide_record(reader.info),
            "about": outcome.about,
            "regions_file": str(self.task.item.regions or ""),
            "outputs": record.outputs_record(self.folder, wanted_files(name, output)),
            "frame": output.frame,
            "grid": {
                "columns": grid.columns,
                "rows": grid.rows,
                "scale_px": grid.scale,
                "cell_um": grid.cell_um,
            },
            "classes": [{"id": c.id, "name": c.name, "colour": list(c.colour)} for c in self.engine.model.classes],
            "formats": list(output.formats),
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
            "batch_size": self.engine.batch_size,
            "seconds": {step: round(seconds, 3) for step, seconds in clock.seconds.items()}
            | {"total": outcome.seconds},
            "peak_memory_bytes": record.peak_memory_bytes(),
        }
        record.write_json(self.folder / record.RECORD, data)


def wanted_files(slide: str, settings: OutputSettings) -> list[str]:
    """Name the result files that the settings ask for."""
    rasters = {LABELS: True, CONFIDENCE: settings.confidence, OVERLAY: settings.overlay}
    return [*(name for name, made in rasters.items() if made), *(f"{slide}.{suffix}" for suffix in settings.formats)]
