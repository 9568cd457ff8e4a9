"""``dualproto-wsi train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dualproto_wsi.cli.train_options import chosen_settings, train_options

if TYPE_CHECKING:
    from dualproto_wsi.workflow.training.corrections import CorrectedSlide


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
    learns from these image-level labels alone, and the encoder `compact` with it; others are frozen. The model is
    calibrated and scored on patients held out in turn (--folds), or on a split or a share of the patients, by which the
    best epoch is kept. The test split scores the final one.

    A training that was stopped goes on with the same command. BUNDLE.csv tells all epochs. Several GPUs:
    `torchrun --nproc-per-node 4 -m dualproto_wsi train …`.

    With --continue a model learns more: images that the table says nothing of (`?`) keep it as it was. With
    --corrections too, DATA is slides (a file, a folder, or a table), and tiles are cut where a person corrected the map
    in QuPath; tissue elsewhere on these slides keeps the model as it was.
    """
    from dualproto_wsi.cli.progress import training_listener
    from dualproto_wsi.cli.tables import score_table

    settings = chosen_settings(ctx, values)
    from dualproto_wsi.workflow.training.train import TrainFiles, train_model

    files = TrainFiles(checkpoint, keep_checkpoint, force, tensorboard)
    with training_listener() as listener:
        report = train_model(data, out, settings, listener, files=files)
    for slide in report.corrected:
        click.echo(describe(slide), err=bool(slide.error))
    for file in report.unmatched:
        click.echo(f"{file}: corrections of none of these slides", err=True)
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


def describe(slide: CorrectedSlide) -> str:
    """Return one line on what the corrections of a slide gave."""
    if slide.error:
        return f"failed: {slide.error}"
    held = "".join(f", {name} in {count}" for name, count in sorted(slide.present.items()))
    other = ", ".join(f"{name} ({count})" for name, count in sorted(slide.unknown.items()))
    told = f"; the model has no class {other}: taken for background" if other else ""
    return f"{slide.slide.name}: {slide.tiles} tiles under corrections{held}; {slide.windows} windows elsewhere{told}"
