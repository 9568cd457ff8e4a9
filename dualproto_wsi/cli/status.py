"""``dualproto-wsi status``."""

from __future__ import annotations

from pathlib import Path

import click

from dualproto_wsi.cli import options


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@options.json_option
def status(out: Path, as_json: bool) -> None:
    """Tell how far `segment` is with OUT, from any shell and any machine that sees the folder.

    Shows slides by what became of them, every run that works on OUT (slides, windows, pace, time left), runs that were
    killed, and why slides failed. Changes nothing.

    Exit code: 0 told, 2 OUT is no such folder.
    """
    import json

    from dualproto_wsi.workflow.batch.status import read_status

    found = read_status(out)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    for line in found.lines():
        click.echo(line)
