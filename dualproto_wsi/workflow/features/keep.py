"""Keeping the features of a slide while it is segmented; whatever goes wrong with that costs the features alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dualproto_wsi.errors import FeaturesUnusable
from dualproto_wsi.settings import FeatureSettings
from dualproto_wsi.slide.tiling import TilePlan
from dualproto_wsi.workflow.features.header import FeatureHeader
from dualproto_wsi.workflow.features.reuse import places
from dualproto_wsi.workflow.features.store import CacheFull, FeatureWriter, Half, StoredFeatures

logger = logging.getLogger(__name__)

GB, MB = 1e9, 1e6


class FeatureKeeper:
    """Keeps features of a slide's windows, block by block; a context manager.

    Nothing is kept of a slide whose features are there already, or do not fit, or cannot be written; the slide goes
    on.

    Parameters
    ----------
    settings : FeatureSettings
        Folder and limit.
    path : Path
        Of the slide's file in it.
    header : FeatureHeader
    plan : TilePlan
    field, picture : ndarray of uint8
        As for :class:`~dualproto_wsi.workflow.features.store.FeatureWriter`.
    """

    def __init__(
        self,
        settings: FeatureSettings,
        path: Path,
        header: FeatureHeader,
        plan: TilePlan,
        field: NDArray[np.uint8],
        picture: NDArray[np.uint8],
    ) -> None:
        self._settings, self._path, self._header = settings, path, header
        self._writer: FeatureWriter | None = None
        self._told: dict[str, Any] = {"file": str(path), "level": header.key.level}
        if not plan.tiles:
            self._give_up("no tissue", warn=False)
        elif _covers(path, header, plan):
            self._told |= {"bytes": path.stat().st_size, "kept_before": True}
        else:
            try:
                self._writer = FeatureWriter(path, header, field, picture, settings.limit_gb * GB)
            except (OSError, CacheFull) as error:
                self._give_up(self._reason(error))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer:
            self._writer.drop()

    @property
    def level(self) -> str:
        """Level of the features that are wanted now; empty: none are."""
        return self._header.key.level if self._writer else ""

    def keep(self, windows: Sequence[tuple[int, int]], features: Sequence[Half]) -> None:
        """Keep features of windows.

        Parameters
        ----------
        windows : sequence of (int, int)
            (y, x) of n windows, model px.
        features : sequence of ndarray of float16, shape (n, C, h, w)
            One a level; none where they were not wanted when the windows were launched.
        """
        if not self._writer or not features:
            return
        try:
            for number, place in enumerate(windows):
                self._writer.add(*place, [level[number] for level in features])
        except (OSError, ValueError, CacheFull) as error:
            self._give_up(self._reason(error))

    def finish(self) -> dict[str, Any]:
        """Make the file appear; return what ``record.json`` says of it."""
        if self._writer:
            try:
                self._told["bytes"] = self._writer.finish()
            except (OSError, CacheFull) as error:
                self._give_up(self._reason(error))
        if "bytes" in self._told and self._header.tissue_mm2:
            per_mm2 = self._told["mb_per_mm2"] = round(self._told["bytes"] / MB / self._header.tissue_mm2, 2)
            logger.info("%s: features take %.1f MB/mm² (%s)", self._header.slide_name, per_mm2, self._path)
        return self._told

    def _reason(self, error: Exception) -> str:
        if isinstance(error, CacheFull):
            return (
                f"{self._path.parent} would hold more than {self._settings.limit_gb:g} GB; raise --cache-limit, or "
                "delete files of slides that are done with"
            )
        return str(error)

    def _give_up(self, reason: str, warn: bool = True) -> None:
        if self._writer:
            self._writer.drop()
            self._writer = None
        self._told |= {"not_kept": reason, "limit_gb": self._settings.limit_gb}
        if warn:
            logger.warning("%s: features are not kept: %s", self._header.slide_name, reason)


def _covers(path: Path, header: FeatureHeader, plan: TilePlan) -> bool:
    """Tell whether a whole file of the same features with all windows of the plan is there."""
    if not path.exists():
        return False
    try:
        with StoredFeatures(path) as stored:
            found = stored.header
            same = all(
                getattr(found, name) == getattr(header, name)
                for name in ("slide", "key", "mpp", "content", "tissue", "precision", "device", "version")
            )
            return same and stored.windows.issuperset(place for block in plan.blocks for place in places(block))
    except FeaturesUnusable:
        return False


def are_kept(settings: FeatureSettings, told: dict[str, Any] | None) -> bool:
    """Tell whether a slide need not be done again to have its features kept as the settings ask.

    Parameters
    ----------
    settings : FeatureSettings
    told : dict or None
        What the slide's ``record.json`` says of its features.
    """
    if not settings.cache:
        return True
    if not told or "used" in told:
        return False
    path = Path(told["file"])
    if path.parent.resolve() != Path(settings.cache).resolve():
        return False
    if (told["level"] == "encoder") != (settings.level == "encoder"):
        return False
    return settings.limit_gb <= told["limit_gb"] if "not_kept" in told else path.exists()
