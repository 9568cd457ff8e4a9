"""One slide, from file to files."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dualproto_wsi.classes import UNSURE_CLASS, UNSURE_NAME
from dualproto_wsi.files import file_sha256
from dualproto_wsi.settings import OutputSettings, SegmentSettings
from dualproto_wsi.slide.quality import FocusTally
from dualproto_wsi.slide.reader import open_slide
from dualproto_wsi.stats.areas import AreaTally
from dualproto_wsi.vector.overlay import draw_overlay, labels_at, save_png
from dualproto_wsi.vector.raster import read_raster
from dualproto_wsi.workflow.batch import record
from dualproto_wsi.workflow.batch.fingerprint import Fingerprint, data_sha256, settings_sha256, slide_sha256
from dualproto_wsi.workflow.batch.outcome import DONE, EMPTY, SlideOutcome
from dualproto_wsi.workflow.batch.record import CONFIDENCE, LABELS, OVERLAY
from dualproto_wsi.workflow.batch.tasks import SlideTask
from dualproto_wsi.workflow.features.header import file_name
from dualproto_wsi.workflow.features.keep import FeatureKeeper
from dualproto_wsi.workflow.features.reuse import check_windows, open_features
from dualproto_wsi.workflow.features.store import StoredFeatures
from dualproto_wsi.workflow.listener import Listener
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.mapping.exports import drop_exports, export_slide
from dualproto_wsi.workflow.mapping.mapper import map_slide
from dualproto_wsi.workflow.mapping.outputs import MapFiles, SlideOutputs, drop_stale
from dualproto_wsi.workflow.mapping.view import SlideView, feature_header, look_at
from dualproto_wsi.workflow.stopwatch import Stopwatch


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
            If the slide, or its kept features where they are asked for, cannot be read.
        """
        sha256 = slide_sha256(self.slide)
        with ExitStack() as stack:
            return self._fingerprint(sha256, self._stored(sha256, stack))

    def _fingerprint(self, sha256: str, stored: StoredFeatures | None) -> Fingerprint:
        return Fingerprint(
            slide=sha256,
            regions=self._regions_sha256,
            model=data_sha256(self.model_record),
            settings=settings_sha256(self.settings),
            device=self.engine.device.type,
            precision=self.engine.precision,
            features=stored.sha256 if stored else "",
        )

    @property
    def _regions_sha256(self) -> str:
        regions = self.task.item.regions
        return file_sha256(regions) if regions else ""

    def _stored(self, sha256: str, stack: ExitStack) -> StoredFeatures | None:
        """Open the slide's features, where they are asked for."""
        source = self.settings.features.source
        if not source:
            return None
        return stack.enter_context(open_features(Path(source), self.slide, sha256, self.engine.model))

    def run(self, clock: Stopwatch) -> SlideOutcome:
        """Do it.

        Raises
        ------
        SlideError
            If the slide cannot be opened, has no pixel size, or its pixels cannot be read; or if its kept features are
            asked for and are not there, or others.
        """
        started = datetime.now(UTC)
        with ExitStack() as stack:
            reader = stack.enter_context(open_slide(self.slide, self.settings.read))
            mpp = reader.info.require_mpp()
            with clock("hash"):
                sha256 = slide_sha256(self.slide)
                stored = self._stored(sha256, stack)
                fingerprint = self._fingerprint(sha256, stored)
            with clock("tissue"):
                view = look_at(reader, self.engine.model, self.settings, self.task.item.regions, stored)
            if stored:
                check_windows(stored, self.slide, view.plan, self.settings, self._regions_sha256)
            keeper = self._keeper(view, sha256, stack)
            self.listener.slide_planned(self.slide, view.plan.tiles)
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / record.RECORD).unlink(missing_ok=True)
            drop_exports(self.folder, reader.info.name)
            focus = None if stored else FocusTally(view.plan, view.grid, view.tissue, self.engine.model.mpp)
            outputs = self._map(view, keeper, focus, clock)
            with clock("qc"):
                quality = view.quality(focus.values if focus else (), outputs.tally.analysed_mm2)
            with clock("overlay"):
                self._draw(view, outputs.tally)
            drop_stale(self.folder, reader.info.name, self.settings.output)
            outcome = SlideOutcome(
                slide=self.slide,
                folder=self.folder,
                status=DONE if view.plan.tiles else EMPTY,
                tiles=view.plan.tiles,
                regions=outputs.regions,
                mpp=mpp,
                mpp_source=reader.info.mpp_source,
                analysed_mm2=outputs.tally.analysed_mm2,
                unsure_mm2=outputs.tally.unsure_mm2,
                mm2=outputs.tally.mm2(),
                fractions=outputs.tally.fractions(),
                seconds=round(clock.total, 3),
                about=self.task.about,
                qc=quality.to_json(),
            )
            features = stored.describe() if stored else keeper.finish() if keeper else None
            self._record(view, outcome, features, clock, started, fingerprint)
        export_slide(self.folder, self.settings.output.exports)
        return outcome

    def complete(self, earlier: SlideOutcome) -> SlideOutcome:
        """Make the exports that an earlier run on the slide was not asked for; return what became of that run.

        Raises
        ------
        DualProtoError
            If one cannot be made.
        """
        export_slide(self.folder, self.settings.output.exports)
        return earlier

    def _keeper(self, view: SlideView, sha256: str, stack: ExitStack) -> FeatureKeeper | None:
        """Make ready for keeping features, where that is asked for."""
        folder = self.settings.features.cache
        if not folder:
            return None
        header = feature_header(view, sha256, self._regions_sha256, self.engine, self.settings)
        path = Path(folder) / file_name(sha256, header.key, self.engine.model)
        keeper = FeatureKeeper(self.settings.features, path, header, view.plan, view.whole.field, view.picture)
        return stack.enter_context(keeper)

    def _map(
        self, view: SlideView, keeper: FeatureKeeper | None, focus: FocusTally | None, clock: Stopwatch
    ) -> SlideOutputs:
        settings, info = self.settings, view.reader.info
        files = MapFiles(
            folder=self.folder,
            slide=info.name,
            offset=(info.content.x, info.content.y) if settings.output.frame == "qupath" else (0.0, 0.0),
            identity=f"{info.name} {info.width} {info.height}",
        )
        return map_slide(
            view.reader,
            view.grid,
            view.tissue,
            view.plan,
            self.engine,
            settings,
            files,
            clock,
            tiles_done=partial(self.listener.tiles_done, self.slide),
            stored=view.stored,
            keeper=keeper,
            focus=focus,
        )

    def _draw(self, view: SlideView, tally: AreaTally) -> None:
        if not self.settings.output.overlay:
            return
        info, grid, picture = view.reader.info, view.grid, view.picture
        box, height, width = info.content, *picture.shape[:2]
        shrink = box.width / width
        labels = labels_at(read_raster(self.folder / LABELS, int(shrink / grid.scale)), grid, box, (width, height))
        areas, shares = tally.mm2(), tally.fractions()
        captions = {name: f"{areas[name]:.3g} mm²  {shares[name]:.1%}" for name in areas if tally.analysed_mm2}
        classes = list(self.engine.model.classes)
        if tally.unsure_mm2:
            classes.append(UNSURE_CLASS)
            captions[UNSURE_NAME] = f"{tally.unsure_mm2:.3g} mm²  {tally.unsure_mm2 / tally.analysed_mm2:.1%}"
        title = f"{info.name}: {tally.analysed_mm2:.3g} mm² of tissue analysed"
        save_png(draw_overlay(picture, labels, classes, captions, title), self.folder / OVERLAY)

    def _record(
        self,
        view: SlideView,
        outcome: SlideOutcome,
        features: dict[str, Any] | None,
        clock: Stopwatch,
        started: datetime,
        fingerprint: Fingerprint,
    ) -> None:
        info, grid, output = view.reader.info, view.grid, self.settings.output
        data = {
            "format": 1,
            "status": outcome.status,
            "started": started.isoformat(timespec="seconds"),
            "fingerprint": fingerprint.to_json(),
            "command": record.command_record(),
            "slide": record.slide_record(info),
            "about": outcome.about,
            "regions_file": str(self.task.item.regions or ""),
            "outputs": record.outputs_record(self.folder, wanted_files(info.name, output)),
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
            "tissue_mm2": view.tissue.area_mm2,
            "analysed_mm2": outcome.analysed_mm2,
            "unsure_mm2": outcome.unsure_mm2,
            "mm2": outcome.mm2,
            "qc": outcome.qc,
            "model": self.model_record,
            "features": features,
            "settings": record.settings_record(self.settings),
            "versions": record.versions(),
            "hardware": {
                **record.hardware(str(self.engine.device)),
                "cores_used": self.engine.cores,
                "readers": self.engine.readers(self.settings.read.workers),
            },
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
