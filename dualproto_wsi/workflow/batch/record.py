"""``record.json``: what was done to a slide, with what, and how long it took."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dualproto_wsi
from dualproto_wsi.files import absolute, file_sha256, replacing
from dualproto_wsi.settings import SegmentSettings, to_data

if TYPE_CHECKING:
    from dualproto_wsi.slide.reader import SlideInfo

RECORD = "record.json"
LABELS, CONFIDENCE, OVERLAY = "labels.tif", "confidence.tif", "overlay.png"

PACKAGES = (
    "torch", "timm", "open_clip_torch", "tiatoolbox", "openslide-python", "openslide-bin", "shapely", "numpy", "numba",
    "opencv-python", "tifffile",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of this package, Python and the packages that touch pixels or geometry."""
    found = {"dualproto-wsi": dualproto_wsi.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def hardware(device: str) -> dict[str, Any]:
    """Processor, cores and the device of the model."""
    return {"machine": platform.machine(), "system": platform.platform(), "cores": os.cpu_count(), "device": device}


def peak_memory_bytes() -> int | None:
    """Return the largest resident memory of this process so far, bytes; None where the system does not say."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def slide_record(info: SlideInfo) -> dict[str, Any]:
    """Return what identifies a slide and its frame, as plain data."""
    return {
        "file": info.name,
        "path": absolute(info.path),
        "bytes": info.path.stat().st_size,
        "width": info.width,
        "height": info.height,
        "mpp": info.mpp,
        "mpp_source": info.mpp_source,
        "bounds": {
            "x": info.content.x,
            "y": info.content.y,
            "width": info.content.width,
            "height": info.content.height,
        },
        "vendor": info.vendor,
        "reader": info.reader,
    }


def settings_record(settings: SegmentSettings) -> dict[str, Any]:
    """Return the settings as plain data, without those of the run, which are no part of what became of a slide."""
    return {section: values for section, values in to_data(settings).items() if section != "run"}


def outputs_record(folder: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of result files, by name."""
    return {name: {"bytes": (folder / name).stat().st_size, "sha256": file_sha256(folder / name)} for name in names}


def command_record() -> dict[str, Any]:
    """Return the command line and the folder it was given in."""
    return {"argv": sys.argv, "cwd": str(Path.cwd())}


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a slide whose results are whole: each file there, with its size; else None."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        sizes = {name: told["bytes"] for name, told in record["outputs"].items()}
        whole = all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return record if whole else None


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write JSON, whole or not at all."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
