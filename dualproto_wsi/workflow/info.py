"""What a slide or a model says of itself, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dualproto_wsi.files import file_sha256
from dualproto_wsi.settings import ReadSettings


def is_model(target: str) -> bool:
    """Tell whether a name means a model (built in, or a bundle file) rather than a slide."""
    if Path(target).suffix == ".safetensors":
        return True
    from dualproto_wsi.model.checkpoint import list_models

    return target == "builtin" or target in list_models()


def describe_model(target: str) -> dict[str, Any]:
    """Return the card of a model, and the hash of its file.

    Raises
    ------
    ModelNotFound, BundleInvalid
        If there is no such model, or the file is not one.
    """
    from dualproto_wsi.model.checkpoint import find_model, read_card

    path = find_model(target)
    return {"file": str(path), "sha256": file_sha256(path), **read_card(path).to_json()}


def describe_slide(path: Path, settings: ReadSettings) -> dict[str, Any]:
    """Return size, pixel size, levels and frame of a slide.

    Raises
    ------
    SlideNotFound, SlideUnreadable
        If it cannot be opened.
    """
    from dualproto_wsi.slide.reader import open_slide
    from dualproto_wsi.workflow.batch.record import slide_record

    with open_slide(path, settings) as reader:
        info = reader.info
        data = slide_record(info)
        data["levels"] = [f"/{factor:.6g}" for factor in info.downsamples]
        if info.mpp:
            data["size_mm"] = [round(info.width * info.mpp / 1000, 3), round(info.height * info.mpp / 1000, 3)]
    return data
