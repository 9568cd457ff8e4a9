"""What of a slide is looked at: its grid, its tissue, its windows, and its overview."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.geometry import LabelGrid
from dualproto_wsi.model.absent_encoder import EncoderFacts
from dualproto_wsi.model.segmenter import Segmenter
from dualproto_wsi.settings import SegmentSettings, to_data
from dualproto_wsi.slide.quality import SlideQuality, measure_quality
from dualproto_wsi.slide.reader import SlideReader
from dualproto_wsi.slide.tiling import TilePlan
from dualproto_wsi.slide.tissue import TissueMask
from dualproto_wsi.workflow.features.header import FeatureHeader
from dualproto_wsi.workflow.features.reuse import check_slide, kept_tissue
from dualproto_wsi.workflow.features.store import StoredFeatures
from dualproto_wsi.workflow.mapping.engine import Engine
from dualproto_wsi.workflow.mapping.layout import analysed_tissue, label_grid, tile_plan

OVERLAY_PX = 1600
"""Longer side of ``overlay.png``, px."""


@dataclass(frozen=True)
class SlideView:
    """An open slide, and what of it is looked at.

    Parameters
    ----------
    reader : SlideReader
    grid : LabelGrid
        The cells to label.
    whole, tissue : TissueMask
        Of all of the slide, and of the part that is analysed.
    plan : TilePlan
        The windows.
    stored : StoredFeatures or None
        Their features, where these are not to be computed.
    """

    reader: SlideReader
    grid: LabelGrid
    whole: TissueMask
    tissue: TissueMask
    plan: TilePlan
    stored: StoredFeatures | None

    @cached_property
    def picture(self) -> NDArray[np.uint8]:
        """The slide's overview, RGB, uint8 (h, w, 3): the longer side is at most :data:`OVERLAY_PX`."""
        if self.stored:
            return self.stored.picture()
        box = self.reader.info.content
        shrink = max(1.0, max(box.width, box.height) / OVERLAY_PX)
        return self.reader.read(box, (max(1, round(box.width / shrink)), max(1, round(box.height / shrink))))

    def quality(self, focus: Sequence[float], analysed_mm2: float) -> SlideQuality:
        """Say what the slide is like as a picture, by the picture that its tissue was found on.

        Parameters
        ----------
        focus : sequence of float
            Of some windows; none where features were scored.
        analysed_mm2 : float
        """
        # Tissue that was kept with features has no picture of its own.
        picture = self.whole.thumbnail if self.whole.thumbnail.size else self.picture
        return measure_quality(self.whole, picture, focus, analysed_mm2)


def look_at(
    reader: SlideReader,
    model: Segmenter,
    settings: SegmentSettings,
    part: Path | None = None,
    stored: StoredFeatures | None = None,
) -> SlideView:
    """Find the tissue of a slide, and lay the windows over it.

    Parameters
    ----------
    reader : SlideReader
    model : Segmenter
    settings : SegmentSettings
    part : Path or None
        GeoJSON with the outlines of the part to analyse.
    stored : StoredFeatures or None
        Kept features of the slide: they have its tissue, too.

    Raises
    ------
    SlideError
        If the pixel size is not known, the pixels cannot be read, or the features are of another pixel size.
    DataError
        If `part` holds no outlines.
    """
    grid = label_grid(reader.info, model)
    whole = None
    if stored:
        check_slide(stored, reader.info, settings)
        whole = kept_tissue(stored, reader.info, settings)
    whole = whole or analysed_tissue(reader, settings.tissue)
    tissue = analysed_tissue(reader, settings.tissue, part, whole)
    return SlideView(reader, grid, whole, tissue, tile_plan(grid, tissue, model, settings.tiling.overlap), stored)


def feature_header(
    view: SlideView, sha256: str, regions_sha256: str, engine: Engine, settings: SegmentSettings
) -> FeatureHeader:
    """Say what the features of a slide's windows are, if they are kept by these settings."""
    model, info = engine.model, view.reader.info
    level = model.feature_levels[0 if settings.features.level == "head" else -1]
    return FeatureHeader(
        slide_name=info.name,
        slide=sha256,
        key=model.feature_key(level),
        encoder=EncoderFacts.of(model.encoder),
        model_mpp=model.mpp,
        window_px=model.window_px,
        mpp=info.require_mpp(),
        content=info.content,
        overlap=settings.tiling.overlap,
        tissue=to_data(settings.tissue),
        regions=regions_sha256,
        precision=engine.precision,
        device=engine.device.type,
        field_shape=(view.whole.field.shape[0], view.whole.field.shape[1]),
        tissue_mm2=view.tissue.area_mm2,
    )
