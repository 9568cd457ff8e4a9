"""The kinds of export: what each is called, what it needs, and who writes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from dualproto_wsi.errors import MissingDependency
from dualproto_wsi.vector.export.source import ExportSource


@dataclass(frozen=True, slots=True)
class Exporter:
    """A kind of export.

    Parameters
    ----------
    file : str
        Name of the file in the slide's folder; ``{slide}`` stands for the slide's name.
    write : callable
        ``write(source, path)`` makes the file at a path; whoever calls renames it when it is whole.
    package : str
        Module that it needs beyond what is always installed; empty for none.
    extra : str
        Extra of this package that brings it.
    """

    file: str
    write: Callable[[ExportSource, Path], None]
    package: str = ""
    extra: str = ""

    def file_name(self, slide: str) -> str:
        """Return the name of the file for a slide."""
        return self.file.format(slide=slide)


def _write(module: str, source: ExportSource, path: Path) -> None:
    """Load the module of a kind, whose packages take seconds, and let it write."""
    import_module(f"dualproto_wsi.vector.export.{module}").write(source, path)


EXPORTERS = {
    "ome-tiff": Exporter("labels.ome.tif", partial(_write, "ome_tiff")),
    "dicom-seg": Exporter("labels.seg.dcm", partial(_write, "dicom_seg"), "highdicom", "dicom"),
    "annotationstore": Exporter("{slide}.db", partial(_write, "annotation_store")),
    "parquet": Exporter("{slide}.parquet", partial(_write, "geoparquet"), "pyarrow", "parquet"),
}
"""By the word that settings use."""


def require_packages(kinds: Iterable[str]) -> None:
    """Require what kinds of export need, before work is done for them.

    Raises
    ------
    MissingDependency
        If a package is not installed.
    """
    for kind in kinds:
        exporter = EXPORTERS[kind]
        if exporter.package and find_spec(exporter.package) is None:
            raise MissingDependency(
                f"{kind} needs {exporter.package}, which is not installed; pip install "
                f"'dualproto-wsi[{exporter.extra}]', or leave {kind} out of --export"
            )
        if kind == "annotationstore":
            import_module("dualproto_wsi.vector.export.annotation_store").require_sqlite()
