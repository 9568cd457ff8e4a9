"""How large a level-0 pixel is, and where that figure comes from."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tifffile

SMALLEST_UM, LARGEST_UM = 0.01, 20.0  # beyond these a value is a default of some writer (72, 96, 300 dpi; 1 px per cm)
UNIT_UM = {"inch": 25_400.0, "centimeter": 10_000.0}
OME_UNIT_UM = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}


@dataclass(frozen=True, slots=True)
class PixelSize:
    """A pixel size and its origin.

    Parameters
    ----------
    mpp : float or None
        µm per level-0 px, geometric mean of x and y; None when nothing believable is known.
    source : str
        ``option --mpp``, ``openslide.mpp-x``, ``tiff resolution tag``, ``OME PhysicalSizeX``, ``missing`` …
    hint : str
        What the file says that is no pixel size but helps to name one; may be empty.
    """

    mpp: float | None
    source: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place of a file that may state the pixel size, µm per px along x and y."""

    source: str
    x: float | None
    y: float | None

    @property
    def mpp(self) -> float | None:
        """Geometric mean of x and y, µm per px; None when it cannot be a slide's."""
        if self.x is None or self.y is None or not (self.x > 0 and self.y > 0):
            return None
        mean = math.sqrt(self.x * self.y)
        return mean if SMALLEST_UM <= mean <= LARGEST_UM else None


def choose(option: float | None, candidates: list[Candidate], objective_power: float | None = None) -> PixelSize:
    """Take the pixel size given by the user, else the first believable one of the file.

    Parameters
    ----------
    option : float or None
        What the user gave, µm per px.
    candidates : list of Candidate
        What the file says, most trusted first.
    objective_power : float or None
        Magnification; never a pixel size, only a hint in the error.
    """
    if option is not None:
        return PixelSize(option, "option --mpp")
    for candidate in candidates:
        if candidate.mpp is not None:
            return PixelSize(candidate.mpp, candidate.source)
    hints = [
        f"{candidate.source} of {candidate.x:g} µm is not a slide's"
        for candidate in candidates
        if candidate.x is not None
    ]
    if objective_power is not None and objective_power > 0:
        hints.append(f"objective power {objective_power:g}x suggests --mpp {10 / objective_power:g}")
    return PixelSize(None, "missing", "; ".join(hints))


def from_openslide(option: float | None, properties: Mapping[str, str]) -> PixelSize:
    """Find the pixel size in OpenSlide's properties.

    Parameters
    ----------
    option : float or None
        What the user gave, µm per px.
    properties : mapping of str to str
        ``OpenSlide.properties``.
    """
    generic = properties.get("openslide.vendor") == "generic-tiff"  # there OpenSlide takes its value from the tags
    vendor = Candidate(
        "tiff resolution tag" if generic else "openslide.mpp-x",
        _number(properties.get("openslide.mpp-x")),
        _number(properties.get("openslide.mpp-y")),
    )
    unit = properties.get("tiff.ResolutionUnit", "")
    tags = _from_resolution(
        _number(properties.get("tiff.XResolution")), _number(properties.get("tiff.YResolution")), unit
    )
    power = properties.get("openslide.objective-power", properties.get("aperio.AppMag"))
    return choose(option, [vendor, tags], _number(power))


def from_tiff(option: float | None, path: Path) -> PixelSize:
    """Find the pixel size in a TIFF: OME metadata, Aperio's description, then the resolution tags.

    Parameters
    ----------
    option : float or None
        What the user gave, µm per px.
    path : Path
        The file.

    Raises
    ------
    tifffile.TiffFileError
        If the file is no TIFF.
    """
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        tags = {name: page.tags[name].value for name in ("XResolution", "YResolution") if name in page.tags}
        unit = page.tags["ResolutionUnit"].value if "ResolutionUnit" in page.tags else 1
        description = page.description
        ome = (tiff.ome_metadata or "") if tiff.is_ome else ""
    resolution = {name: value[0] / value[1] if value[1] else None for name, value in tags.items()}
    candidates = [
        Candidate("OME PhysicalSizeX", _ome_size(ome, "X"), _ome_size(ome, "Y")),
        Candidate("aperio.MPP", *[_aperio(description, "MPP")] * 2),
        _from_resolution(
            resolution.get("XResolution"),
            resolution.get("YResolution"),
            {2: "inch", 3: "centimeter"}.get(int(unit), ""),
        ),
    ]
    magnification = re.search(r'NominalMagnification="([^"]+)"', ome)
    power = _number(magnification[1]) if magnification else _aperio(description, "AppMag")
    return choose(option, candidates, power)


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _from_resolution(x: float | None, y: float | None, unit: str) -> Candidate:
    """Turn pixels per unit into µm per pixel."""
    if not x or not y or unit not in UNIT_UM:
        return Candidate("tiff resolution tag", None, None)
    return Candidate("tiff resolution tag", UNIT_UM[unit] / x, UNIT_UM[unit] / y)


def _ome_size(xml: str, axis: str) -> float | None:
    size = re.search(rf'\bPhysicalSize{axis}="([^"]+)"', xml)
    unit = re.search(rf'\bPhysicalSize{axis}Unit="([^"]+)"', xml)
    value = _number(size[1]) if size else None
    scale = OME_UNIT_UM.get(unit[1]) if unit else 1.0  # µm is the schema's default
    return None if value is None or scale is None else value * scale


def _aperio(description: str, key: str) -> float | None:
    found = re.search(rf"\|\s*{key}\s*=\s*([0-9.]+)", description)
    return _number(found[1]) if found else None
