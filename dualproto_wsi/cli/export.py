"""``dualproto-wsi export``."""

from __future__ import annotations

from pathlib import Path

import click

from dualproto_wsi import settings
from dualproto_wsi.cli.segment_options import CommaList


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "kinds",
    type=CommaList(settings.EXPORTS),
    required=True,
    metavar="LIST",
    help=f"Which, with commas: {', '.join(settings.EXPORTS)}.",
)
@click.option("--force", is_flag=True, help="Make those anew that are there.")
@click.pass_context
def export(ctx: click.Context, out: Path, kinds: tuple[str, ...], force: bool) -> None:
    """Write the results in OUT, a folder that `segment` wrote, once more for other programs; no slide is mapped again.

    ome-tiff: labels.ome.tif, the label map with names and colours of its classes. dicom-seg: labels.seg.dcm, a DICOM
    segmentation with a segment a class (needs highdicom). annotationstore: SLIDE.db, the regions for TIAToolbox.
    parquet: SLIDE.parquet, the regions as GeoParquet (needs pyarrow). Coordinates are full-resolution pixels of the
    whole slide file; record.json tells of each file, and `verify` checks it.

    Exit code: 0 all are there, 1 some slide could not be exported, 2 wrong usage.
    """
    from dualproto_wsi.workflow.mapping.exports import export_run

    failed = False
    for exported in export_run(out, kinds, force):
        for path in exported.files:
            click.echo(path)
        if exported.error:
            failed = True
            click.echo(f"{exported.slide}: {exported.error}", err=True)
    ctx.exit(1 if failed else 0)
