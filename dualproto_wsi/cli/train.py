"""``dualproto-wsi train``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dualproto_wsi.cli.train_options import chosen_settings, train_options


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="BUNDLE", help="File.safetensors to write."
)
@train_options
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to keep what a stop would lose.  [default: BUNDLE.training]",
)
@click.option("--keep-checkpoint", is_flag=True, help="Leave it there when all is done.")
@click.option("--force", is_flag=True, help="Begin anew where a training was stopped.")
@click.option("--tensorboard", type=click.Path(path_type=Path), metavar="DIR", help="Write TensorBoard's files, too.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    data: Path,
    out: Path,
    checkpoint: Path | None,
    keep_checkpoint: bool,
    force: bool,
    tensorboard: Path | None,
    **values: Any,
) -> None:
    """Train a model on DATA and write it as a BUNDLE.

    DATA says which classes an image holds (names as `tile[1010].png`, a table, or points, which label crops): the head
    learns from these image-level labels alone. It is calibrated and scored on patients held out in turn (--folds), or
    on a split or a share of the patients, by which the best epoch is kept. The test split scores the final model.

    A training that was stopped goes on with the same command. BUNDLE.csv tells all epochs. Several GPUs:
    `torchrun --nproc-per-node 4 -m dualproto_wsi train …`.
    """
    from dualproto_wsi.cli.progress import training_listener
    from dualproto_wsi.cli.tables import score_table

    settings = chosen_settings(ctx, values)
    from dualproto_wsi.workflow.training.train import TrainFiles, train_model

    files = TrainFiles(checkpoint, keep_checkpoint, force, tensorboard)
    with training_listener() as listener:
        report = train_model(data, out, settings, listener, files=files)
    rows = {}
    if report.folds:
        rows[f"{settings.data.split}, {settings.validation.folds} patient-wise folds"] = report.folds
    if report.test and report.test.places.total:
        rows[f"{settings.data.test_split}, {len(report.test.patients)} patients not trained on"] = report.test.places
    if rows:
        click.echo(score_table(rows))
    if report.test:
        click.echo(f"{settings.data.test_split}: mean image-level AUC {report.test.auc:.3f}")
    click.echo(out)
