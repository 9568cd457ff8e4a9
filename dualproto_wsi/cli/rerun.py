"""``dualproto-wsi rerun``."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import click


@click.command()
@click.argument("record", metavar="RECORD", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to keep the new results in.  [default: they are compared and removed]",
)
@click.pass_context
def rerun(ctx: click.Context, record: Path, out: Path | None) -> None:
    """Repeat a slide from its RECORD (a record.json, or the folder that it is in), and compare the results.

    Runs with the recorded settings, batch size, precision and kind of device, and says of every result file whether it
    has the recorded bytes. Refuses when the slide or the model is not the recorded one. Tells which packages have
    another version now.

    Exit code: 0 all files are equal, 1 some differ or the slide failed, 2 it cannot be repeated.
    """
    from dualproto_wsi.cli.progress import console_listener
    from dualproto_wsi.workflow.batch.rerun import rerun_slide

    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(TemporaryDirectory(prefix="dualproto-rerun-")))
        with console_listener() as listener:
            found = rerun_slide(record, folder, listener)
    for name, (told, present) in found.versions.items():
        click.echo(f"{name}: {told} recorded, {present or 'missing'} now")
    for name, equal in found.equal.items():
        click.echo(f"{'equal' if equal else 'DIFFERS'}  {name}")
    ctx.exit(0 if found.agrees else 1)
