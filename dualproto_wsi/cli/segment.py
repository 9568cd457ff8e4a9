"""``dualproto-wsi segment``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from dualproto_wsi.cli import options
from dualproto_wsi.cli.segment_options import segment_options, segment_settings


@click.command()
@options.slides_argument
@options.out_option
@segment_options
@options.log_file_option
@click.pass_context
def segment(ctx: click.Context, /, slides: tuple[Path, ...], out: Path, log_file: Path | None, **values: Any) -> None:
    """Map the tissue of SLIDES: files, folders searched for slides, and tables (.csv) that name slides.

    Each slide gets a folder in OUT with its regions for QuPath (.geojson), the label map (labels.tif), a picture
    (overlay.png) and a record (record.json); OUT/slides.csv has a row a slide with mm² and fraction of each class. A
    slide that cannot be done is told in its row, and the others go on.

    The same command goes on where it was stopped, or killed: slides that are done are skipped as long as slide, model
    and settings are the same; failed ones are tried again. Several such commands at a time share the slides of one OUT.

    Exit code: 0 all done, 1 some slide failed, 2 wrong usage, 130 stopped.
    """
    chosen = segment_settings(ctx, values)
    from dualproto_wsi.cli.progress import console_listener

    if chosen.run.cluster:
        from dualproto_wsi.workflow.cluster.run import segment_on_cluster as run
    elif chosen.run.isolate:
        from dualproto_wsi.workflow.batch.workers import segment_in_workers as run
    else:
        from dualproto_wsi.workflow.segment import segment_slides as run

    with console_listener(log_file) as listener, closing(run(slides, out, chosen, listener)) as outcomes:
        failed = sum(outcome.status == "failed" for outcome in outcomes)
    click.echo(out / "slides.csv")
    ctx.exit(1 if failed else 0)
