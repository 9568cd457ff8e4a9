"""``dualproto-wsi verify``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.pass_context
def verify(ctx: click.Context, out: Path) -> None:
    """Prove that the results in OUT agree with each other.

    Reads every slide's polygons again, fills them, and compares cell by cell with labels.tif; checks that every
    geometry is valid, that no two regions overlap, that each region's area is right, and that record.json and
    slides.csv tell the same areas.

    Exit code: 0 all agree, 1 something does not (the problems are listed), 2 OUT is no result folder.
    """
    from dualproto_wsi.workflow.verify import verify_run

    verdicts = []
    for verdict in verify_run(out):
        verdicts.append(verdict)
        click.echo(f"{'FAIL' if verdict.problems else 'ok  '}  {verdict.slide}  {verdict.checked}")
        for problem in verdict.problems:
            click.echo(f"      {problem}")
    failed = sum(bool(verdict.problems) for verdict in verdicts)
    click.echo(f"{len(verdicts)} slide(s) checked, {failed} with problems")
    ctx.exit(1 if failed else 0)
