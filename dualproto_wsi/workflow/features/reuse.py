"""Finding the kept features of a slide, and refusing those that are not the ones asked for."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from dualproto_wsi.errors import FeaturesUnusable
from dualproto_wsi.model.absent_encoder import EncoderFacts
from dualproto_wsi.model.segmenter import FeatureKey, Segmenter
from dualproto_wsi.settings import SegmentSettings, to_data
from dualproto_wsi.slide.reader import SlideInfo
from dualproto_wsi.slide.tiling import Block, TilePlan
from dualproto_wsi.slide.tissue import TissueMask
from dualproto_wsi.workflow.features.header import FeatureHeader, file_name
from dualproto_wsi.workflow.features.store import Half, StoredFeatures, stored_files

WORDS = {"level": "level", "encoder": "encoder", "encoder_hash": "encoder weights", "trunk": "refiner and pyramid"}


def encoder_facts(folder: Path, encoder: str, encoder_hash: str = "") -> EncoderFacts:
    """Return what a folder of features says of an encoder.

    Parameters
    ----------
    folder : Path
    encoder : str
        Its name; ``open_clip:MODEL:FILE`` is looked for without the file.
    encoder_hash : str
        Of its weights; empty: any.

    Raises
    ------
    FeaturesUnusable
        If it holds no features of that encoder, or none at all, or only damaged ones.
    """
    head, _, tail = encoder.rpartition(":")
    name = head if tail and Path(tail).is_file() else encoder
    seen, damaged = set(), []
    for path in stored_files(folder):
        try:
            with StoredFeatures(path) as stored:
                facts = stored.header.encoder
        except FeaturesUnusable as error:  # its slide will tell, if another file knows the encoder
            damaged.append(error)
            continue
        if facts.name == name and encoder_hash in ("", facts.hash):
            return facts
        seen.add(f"{facts.name} {facts.hash}")
    if damaged and not seen:
        raise damaged[0]
    wanted = f"{name} {encoder_hash}".strip()
    holds = f"features of {', '.join(sorted(seen))}" if seen else "no features"
    raise FeaturesUnusable(
        f"{folder}: holds {holds}; this model needs those of {wanted}; make them with --cache-features, or name "
        "another folder with --from-features"
    )


def open_features(folder: Path, slide: Path, sha256: str, model: Segmenter) -> StoredFeatures:
    """Open the features of a slide: of the level that this model scores fastest, if there are several.

    Parameters
    ----------
    folder : Path
    slide : Path
    sha256 : str
        Of the slide.
    model : Segmenter

    Raises
    ------
    FeaturesUnusable
        If there are none for this slide and model, or they are damaged.
    """
    keys = [model.feature_key(level) for level in model.feature_levels]
    for key in keys:
        path = folder / file_name(sha256, key, model)
        if path.exists():
            stored = StoredFeatures(path)
            if (stored.header.slide, stored.header.key) == (sha256, key):
                return stored
            stored.close()
            raise FeaturesUnusable(
                f"{slide.name}: {path} holds {stored.header.key.level} features of the slide "
                f"{stored.header.slide_name} ({stored.header.slide[:12]}), not of this one ({sha256[:12]}); was the "
                "file renamed? store this slide's features anew with --cache-features"
            )
    for path in stored_files(folder, sha256):
        with StoredFeatures(path) as stored:
            reason = _difference(stored.header, keys, model)
        raise FeaturesUnusable(
            f"{slide.name}: {path} holds {reason}; store this slide's features anew with --cache-features, or name the "
            "model that they were made for"
        )
    raise FeaturesUnusable(
        f"{slide.name}: no features of it in {folder}; make them with --cache-features (a slide whose file changed is "
        "another slide)"
    )


def _difference(header: FeatureHeader, keys: list[FeatureKey], model: Segmenter) -> str:
    if (header.model_mpp, header.window_px) != (model.mpp, model.window_px):
        return (
            f"windows of {header.window_px} px at {header.model_mpp:g} µm; this model needs {model.window_px} px at "
            f"{model.mpp:g} µm"
        )
    wanted = next((key for key in keys if key.level == header.key.level), keys[0])
    names = [f.name for f in fields(FeatureKey)]
    name = next((name for name in names if getattr(header.key, name) != getattr(wanted, name)), "")
    if not name:
        return "the right features under a name that is not its own"
    return f"features of {WORDS[name]} {getattr(header.key, name)}; this model needs those of {getattr(wanted, name)}"


def check_slide(stored: StoredFeatures, info: SlideInfo, settings: SegmentSettings) -> None:
    """Check that features were made at the same pixel size and at the precision asked for.

    Raises
    ------
    FeaturesUnusable
        If not.
    """
    header, asked = stored.header, settings.inference.precision
    if header.mpp != info.mpp:
        raise FeaturesUnusable(
            f"{info.name}: {stored.path} was made at {header.mpp:g} µm/px, this run takes the slide for "
            f"{info.mpp:g} µm/px; give the same --mpp, or store its features anew with --cache-features"
        )
    if header.content != info.content:
        raise FeaturesUnusable(
            f"{info.name}: {stored.path} was made with other bounds of the slide; give the same --reader, or store its "
            "features anew with --cache-features"
        )
    if asked not in ("auto", header.precision):
        raise FeaturesUnusable(
            f"{info.name}: {stored.path} was made with precision {header.precision}, asked for is {asked}; leave "
            "--precision out, or store its features anew with --cache-features"
        )


def kept_tissue(stored: StoredFeatures, info: SlideInfo, settings: SegmentSettings) -> TissueMask | None:
    """Return the tissue of a slide as it was found before, without its picture; None if it is to be found anew.

    It is where other settings are asked for, and where refinement needs the picture's colours.
    """
    header = stored.header
    if header.tissue != to_data(settings.tissue) or settings.refine.method != "none":
        return None
    return TissueMask(np.empty((0, 0, 3), np.uint8), info.content, header.mpp, stored.field())


def check_windows(stored: StoredFeatures, slide: Path, plan: TilePlan, settings: SegmentSettings, regions: str) -> None:
    """Check that every window of a plan is kept.

    Raises
    ------
    FeaturesUnusable
        If one is not; the message names what was set otherwise.
    """
    wanted = {place for block in plan.blocks for place in places(block)}
    missing = len(wanted - stored.windows)
    if not missing:
        return
    header, tissue = stored.header, to_data(settings.tissue)
    pairs: dict[str, tuple[Any, Any]] = {"--overlap": (header.overlap, settings.tiling.overlap)}
    pairs |= {f"tissue.{name}": (header.tissue.get(name), tissue[name]) for name in tissue}
    pairs["regions"] = (header.regions[:12] or "the whole slide", regions[:12] or "the whole slide")
    changed = [f"{name} {was} then, {now} now" for name, (was, now) in pairs.items() if was != now]
    why = "; ".join(changed) or "no setting differs"
    raise FeaturesUnusable(
        f"{slide.name}: {stored.path} lacks {missing} of {len(wanted)} windows ({why}); give the settings that it was "
        "made with, or store its features anew with --cache-features"
    )


def places(block: Block) -> list[tuple[int, int]]:
    """Return (y, x) of the top left of each window of a block, model px from the grid's."""
    return [(tile.row * block.stride_px, tile.column * block.stride_px) for tile in block.tiles]


def block_features(stored: StoredFeatures, block: Block) -> list[Half]:
    """Return the features of a block's windows, float16 (n, C, h, w) a level."""
    windows = [stored.window(*place) for place in places(block)]
    return [np.stack(level) for level in zip(*windows, strict=True)]
