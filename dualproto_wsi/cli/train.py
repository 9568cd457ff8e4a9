"""``dualproto-wsi train``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from dualproto_wsi.settings import LAYOUTS, TrainSettings, load_toml


@click.command()
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="BUNDLE", help="File.safetensors to write."
)
@click.option("--config", type=click.Path(path_type=Path), help="Settings in TOML; the options below go before it.")
@click.option("--layout", type=click.Choice(LAYOUTS), help="How DATA lies on disk.  [default: brca-m2c]")
@click.option("--split", metavar="NAME", help="Images to train on.  [default: train]")
@click.option("--vocabulary", metavar="NAME|FILE", help="Classes, colours and descriptions.  [default: bcss]")
@click.option("--classes", metavar="A,B,…", help="Classes of it to train.  [default: Tumor,Stroma,Lymphocyte]")
@click.option("--epochs", type=int, metavar="N", help="Passes over the images.")
@click.option("--folds", type=int, metavar="N", help="Patient-wise folds for calibration and scores; 0: none.")
@click.option("--seed", type=int, metavar="N", help="Of everything left to chance.  [default: 0]")
@click.option("--device", metavar="auto|cpu|cuda[:N]", help="Where to train.  [default: auto]")
def train(data: Path, out: Path, config: Path | None, classes: str | None, **given: Any) -> None:
    """Train a model on DATA and write it as a BUNDLE.

    DATA (layout brca-m2c) holds train.txt and val.txt, images/ and labels/ with `y x class` a line. Points only decide
    which classes a crop holds: the head learns from these image-level labels alone. It is calibrated and scored on
    patients held out in turn (--folds); val.txt, if it is there, scores the final model on patients not trained on.
    """
    from dualproto_wsi.cli.progress import training_listener
    from dualproto_wsi.cli.tables import score_table

    settings = load_toml(TrainSettings, config) if config else TrainSettings()
    changes = {name: value for name, value in given.items() if value is not None}
    if classes is not None:
        changes["classes"] = tuple(name.strip() for name in classes.split(",") if name.strip())
    settings = replace(settings, **changes)
    from dualproto_wsi.workflow.training.train import train_model

    with training_listener() as listener:
        report = train_model(data, out, settings, listener)
    rows = {}
    if report.folds:
        rows[f"{settings.split}, {settings.folds} patient-wise folds"] = report.folds
    if report.test:
        rows[f"{settings.test_split}, {report.test.patients} patients not trained on"] = report.test.model
    if rows:
        click.echo(score_table(rows))
    click.echo(out)
