"""``dualproto-wsi ablate``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--config", required=True, type=click.Path(path_type=Path), metavar="FILE", help="What to compare, TOML.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FOLDER", help="Bundles and the table."
)
def ablate(data: Path, config: Path, out: Path) -> None:
    """Train variants of a model on DATA with several seeds, score all alike, and print one table.

    FILE names what is common ([base]), what differs ([variants.NAME]) and, if wanted, lists to combine ([grid]), all in
    settings of `train`; `seeds`, and whether a linear `probe` on the points or masks is a row, too. A cell is mean ±
    standard deviation over the seeds. The same command goes on where it was stopped.
    """
    from dualproto_wsi.cli.progress import training_listener
    from dualproto_wsi.cli.tables import text_table
    from dualproto_wsi.settings import read_ablation
    from dualproto_wsi.workflow.batch.record import write_json
    from dualproto_wsi.workflow.training.ablate import MEASURES, run_ablation

    settings = read_ablation(config)
    with training_listener() as listener:
        rows = run_ablation(data, out, settings, listener)
    measures = [measure for measure in MEASURES if any(measure in row.figures for row in rows)]
    lines = [[row.name, *(row.told(measure) for measure in measures)] for row in rows]
    click.echo(f"{len(settings.seeds)} seed(s): mean ± standard deviation; cv: cross-validated by patient")
    click.echo(text_table(["", *measures], lines))
    write_json(out / "ablation.json", {"seeds": list(settings.seeds), "rows": [row.to_json() for row in rows]})
    click.echo(out / "ablation.json")
