"""What decides a slide's result, as hashes: equal fingerprints, equal results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import dualproto_wsi
from dualproto_wsi.settings import SegmentSettings, to_data

MB = 1 << 20
PIECES, PIECE_BYTES = 64, 1 << 16

NEUTRAL: dict[str, tuple[str, ...]] = {
    "read": ("workers",),
    "inference": ("model", "device", "precision", "batch_size", "encoder", "prompts", "weights", "tokenizer"),
    "features": ("cache", "level", "limit_gb", "source"),
    "output": ("exports",),
    "run": ("isolate", "timeout_s", "retry_failed", "force", "cluster"),
}
"""Settings that change no result, or that the fingerprint holds otherwise; any other setting counts."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What decides a slide's result.

    Parameters
    ----------
    slide : str
        :func:`slide_sha256`.
    regions : str
        SHA-256 of the file of regions to analyse; empty: all of the slide.
    model : str
        SHA-256 of the model's bundle and card; of a zero-shot model, of its encoder's weights and its descriptions.
    settings : str
        SHA-256 of the settings that change results.
    device : str
        ``cpu`` or ``cuda``.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``.
    version : str
        Of this package.
    features : str
        SHA-256 of the kept features that were scored; empty: the slide was encoded.
    """

    slide: str
    regions: str
    model: str
    settings: str
    device: str
    precision: str
    version: str = dualproto_wsi.__version__
    features: str = ""

    def changes(self, earlier: Self) -> list[str]:
        """Name the parts that differ."""
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(earlier, f.name)]

    def to_json(self) -> dict[str, str]:
        """Return plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, str]) -> Self:
        """Build one from :meth:`to_json`'s data.

        Raises
        ------
        TypeError
            If parts are missing or unknown.
        """
        return cls(**data)


def data_sha256(data: Any) -> str:
    """Return the SHA-256 of plain data, in hex; the order of keys does not matter."""
    text = json.dumps(data, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def settings_sha256(settings: SegmentSettings) -> str:
    """Return the SHA-256 of the settings that change results."""
    data = to_data(settings)
    kept = {
        section: {name: value for name, value in values.items() if name not in NEUTRAL.get(section, ())}
        for section, values in data.items()
    }
    return data_sha256({section: values for section, values in kept.items() if values})


def slide_sha256(path: Path) -> str:
    """Return the SHA-256 of a sample of a slide's bytes.

    The sample is the names and sizes of all files of the slide, the first and the last MB of their bytes put end to
    end, and 64 pieces of 64 kB evenly spread between; a slide of up to 6 MB is hashed whole. Reading a slide of some GB
    from a network share takes as long as mapping it; what happens to slides in practice (another export, a copy cut
    short, new metadata) changes a size or an end. Pixels painted over inside a file of the same size may be missed.

    Parameters
    ----------
    path : Path
        The slide as it is named to `open_slide`.

    Raises
    ------
    OSError
        If a file is missing or cannot be read.
    """
    files = [(file, _size(file)) for file in slide_files(path)]
    names = [[file.relative_to(path.parent).as_posix(), size] for file, size in files]
    names[0][0] = ""  # a slide that is renamed is the same slide
    digest = hashlib.sha256(data_sha256(names).encode())
    for offset, length in _sample(sum(size for _, size in files)):
        for piece in _read(files, offset, length):
            digest.update(piece)
    return digest.hexdigest()


def slide_bytes(path: Path) -> int:
    """Return the size of all files of a slide, bytes; 0 where it cannot be read."""
    try:
        return sum(map(_size, slide_files(path)))
    except OSError:
        return 0


def _size(path: Path) -> int:
    return 0 if path.is_dir() else path.stat().st_size


def slide_files(path: Path) -> list[Path]:
    """List the files that a slide consists of, the one that names it first, the others sorted.

    NGFF: all files of the ``.zarr`` folder. MRXS: those of its data folder. VMS and VMU: those beside it whose names
    begin with its own. DICOM: those beside it of the same series.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        return [path, *sorted(file for file in path.rglob("*") if file.is_file())]
    if suffix == ".mrxs":
        return [path, *sorted(file for file in path.with_suffix("").rglob("*") if file.is_file())]
    if suffix in (".vms", ".vmu"):
        return [path, *sorted(file for file in path.parent.glob(f"{path.stem}*") if file.is_file() and file != path)]
    if suffix in (".dcm", "") and (series := _dicom_series(path)):
        beside = (file for file in path.parent.iterdir() if file.is_file() and file != path)
        return [path, *sorted(file for file in beside if file.suffix == path.suffix and _dicom_series(file) == series)]
    return [path]


def _dicom_series(path: Path) -> bytes:
    """Return the Series Instance UID (0020,000E) of a DICOM file with explicit little-endian values; else nothing."""
    with path.open("rb") as file:
        start = file.read(PIECE_BYTES)
    tag = start.find(b"\x20\x00\x0e\x00UI")
    if start[128:132] != b"DICM" or tag < 0:
        return b""
    length = int.from_bytes(start[tag + 6 : tag + 8], "little")
    return start[tag + 8 : tag + 8 + length]


def _sample(total: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of the pieces to hash."""
    between = total - 2 * MB
    if between <= PIECES * PIECE_BYTES:
        yield 0, total
        return
    yield 0, MB
    step = (between - PIECE_BYTES) / (PIECES - 1)
    yield from ((MB + round(index * step), PIECE_BYTES) for index in range(PIECES))
    yield total - MB, MB


def _read(files: list[tuple[Path, int]], offset: int, length: int) -> Iterator[bytes]:
    """Read from files put end to end."""
    start = 0
    for path, size in files:
        first, last = max(offset, start), min(offset + length, start + size)
        if first < last:
            with path.open("rb") as file:
                file.seek(first - start)
                yield file.read(last - first)
        start += size
