"""Tells of anyone's GeoJSON file what each version of QuPath makes of it."""

from __future__ import annotations

import gzip
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from dualproto_wsi.errors import DataError
from dualproto_wsi.vector.qupath.contents import Refusal, read_contents
from dualproto_wsi.vector.qupath.reading import Reading, read_as
from dualproto_wsi.vector.qupath.remarks import NO_OBJECTS, place
from dualproto_wsi.vector.qupath.rules import ENDINGS, READERS

UNCLASSIFIED = "unclassified"

MOST_BYTES = 2 << 30
"""Of JSON in a file, unpacked; QuPath would need 40 times that of memory."""

_CLASSES_TOLD = 12
_CANNOT_UNPACK = (
    zipfile.BadZipFile, gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError,
    RuntimeError,  # zipfile's word for encrypted
    NotImplementedError,  # and for a compression that it does not know
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class VersionVerdict:
    """What a version of QuPath makes of a file.

    Parameters
    ----------
    version : str
        QuPath's version.
    refusal : Refusal or None
        Why it does not read the file.
    objects, inside, locked : int
        Number of objects; of those, how many are inside others, and how many are locked.
    types : dict of str to dict of str to int
        Number of objects by QuPath's type, then by class.
    area_px2 : dict of str to float
        Summed area of the objects of each class.
    bounds_px : tuple of float or None
        Left, top, right and bottom of all objects together.
    losses : tuple of str
        What the file holds and QuPath does not.
    warnings : tuple of str
        What is read otherwise than one may think.
    costs : tuple of str
        What makes QuPath slow.
    """

    version: str
    refusal: Refusal | None = None
    objects: int = 0
    inside: int = 0
    locked: int = 0
    types: dict[str, dict[str, int]] = field(default_factory=dict)
    area_px2: dict[str, float] = field(default_factory=dict)
    bounds_px: tuple[float, float, float, float] | None = None
    losses: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    costs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What every version of QuPath makes of a file.

    Parameters
    ----------
    name : str
        The file; of one packed in a .zip, both names.
    versions : tuple of VersionVerdict
        Oldest version first.
    """

    name: str
    versions: tuple[VersionVerdict, ...]

    @property
    def agreed(self) -> bool:
        """Whether every version reads the file and loses nothing."""
        return not any(version.refusal or version.losses for version in self.versions)

    def lines(self) -> Iterator[str]:
        """Yield the verdict for people to read: a line a version, then what is lost, then what may surprise."""
        for verdict in self.versions:
            told = _refusal_line(verdict.refusal) if verdict.refusal else _summary(verdict)
            yield f"QuPath {verdict.version}: {told}"
        yield from self._remarks("lost", lambda verdict: verdict.losses)
        yield from self._remarks("note", lambda verdict: verdict.warnings + verdict.costs)

    def objections(self, may_be_empty: bool) -> Iterator[str]:
        """Yield what any version refuses, loses or reads otherwise than one may think, a line each."""
        yield from self._remarks("QuPath", lambda v: (_refusal_line(v.refusal),) if v.refusal else ())
        for text in self._remarks("QuPath", lambda verdict: verdict.losses + verdict.warnings):
            if not (may_be_empty and text.endswith(NO_OBJECTS)):
                yield text

    def _remarks(self, word: str, remarks: Callable[[VersionVerdict], tuple[str, ...]]) -> Iterator[str]:
        by_text: dict[str, list[str]] = {}
        for verdict in self.versions:
            for text in remarks(verdict):
                by_text.setdefault(text, []).append(verdict.version)
        for text, versions in by_text.items():
            which = "" if len(versions) == len(self.versions) else f" ({', '.join(versions)})"
            yield f"{word}{which}: {text}"


def verify_file(path: Path) -> Iterator[FileVerdict]:
    """Tell what QuPath makes of a GeoJSON file.

    Parameters
    ----------
    path : Path
        A file of an ending that QuPath reads, upper or lower case: .geojson, .json, either with .gz, or a .zip of them.

    Yields
    ------
    FileVerdict
        One, or one for each file in a .zip; of those, QuPath passes over one that it refuses, without a word.

    Raises
    ------
    DataError
        If there is no such file, it cannot be read or unpacked, is larger than :data:`MOST_BYTES`, or QuPath ignores
        files of its ending.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; name a GeoJSON file, or a folder that `segment` wrote")
    if not path.name.lower().endswith(ENDINGS):
        raise DataError(f"{path}: QuPath ignores files of this ending; name it one of {', '.join(ENDINGS)}")
    try:
        if path.suffix.lower() != ".zip":
            with path.open("rb") as file:
                yield _verify(path.name, _read(path.name, file))
            return
        with zipfile.ZipFile(path) as packed:
            names = [name for name in packed.namelist() if name.lower().endswith(ENDINGS[:-1])]
            for name in names:
                with packed.open(name) as file:
                    yield _verify(f"{path.name}/{name}", _read(f"{path.name}/{name}", file))
    except _CANNOT_UNPACK as error:
        raise DataError(f"{path}: cannot be unpacked ({error}); pack it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); check its rights") from error
    if not names:
        raise DataError(f"{path}: QuPath finds no GeoJSON in it; pack files ending in {', '.join(ENDINGS[:-1])}")


def _read(name: str, file: IO[bytes]) -> bytes:
    """Read and unpack, but no more than is fair."""
    with gzip.open(file) if name.lower().endswith(".gz") else file as plain:
        data = plain.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise DataError(f"{name}: is larger than {MOST_BYTES:_} bytes of JSON; QuPath has no room for that, split it")
    return data


def _verify(name: str, data: bytes) -> FileVerdict:
    contents = read_contents(data)
    versions: list[VersionVerdict] = []
    for i, reader in enumerate(READERS):
        if i and reader == READERS[i - 1]:  # reads alike
            versions.append(replace(versions[-1], version=reader.version))
        else:
            versions.append(_verdict(read_as(contents, reader)))
    return FileVerdict(name, tuple(versions))


def _verdict(reading: Reading) -> VersionVerdict:
    if reading.refusal:
        return VersionVerdict(reading.version, reading.refusal)
    types: dict[str, Counter[str]] = {}
    areas: dict[str, float] = {}
    for read in reading.objects:
        name = ": ".join(read.item.class_names) or UNCLASSIFIED
        types.setdefault(read.item.type, Counter())[name] += 1
        areas[name] = areas.get(name, 0.0) + read.area
    corners = [read.bounds for read in reading.objects if read.roi and not read.empty]
    bounds = None
    if corners:
        left, top = (min(corner[axis] for corner in corners) for axis in (0, 1))
        right, bottom = (max(corner[axis] + corner[axis + 2] for corner in corners) for axis in (0, 1))
        bounds = left, top, right, bottom
    return VersionVerdict(
        reading.version,
        None,
        len(reading.objects),
        sum(read.item.is_child for read in reading.objects),
        sum(read.item.locked for read in reading.objects),
        {kind: dict(counts.most_common()) for kind, counts in types.items()},
        areas,
        bounds,
        reading.losses,
        reading.warnings,
        reading.costs,
    )


def _refusal_line(refusal: Refusal) -> str:
    if refusal.feature is None:
        return f"refuses the file: {refusal.reason}"
    others = f" ({refusal.features} features are at fault)" if refusal.features > 1 else ""
    return f"refuses the file: {place(refusal.feature, refusal.id)}: {refusal.reason}{others}"


def _summary(verdict: VersionVerdict) -> str:
    inside = f", {verdict.inside} inside others" if verdict.inside else ""
    locked = f", {verdict.locked} locked" if verdict.locked else ""
    groups = (_group(kind, counts) for kind, counts in verdict.types.items())
    told = ": " + ", ".join(groups) if verdict.types else ""
    return f"reads {_number(verdict.objects, 'object')}{inside}{locked}{told}"


def _group(kind: str, counts: dict[str, int]) -> str:
    told = [f"{name} {count}" for name, count in counts.items()]
    if len(told) > _CLASSES_TOLD:
        told[_CLASSES_TOLD:] = [f"and {len(told) - _CLASSES_TOLD} more classes"]
    return f"{_number(sum(counts.values()), kind)} ({', '.join(told)})"


def _number(count: int, word: str) -> str:
    return f"{count} {word}" + ("" if count == 1 else "s")
