"""``dualproto-wsi evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from dualproto_wsi.cli import options


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--split", default="val", show_default=True, metavar="NAME", help="Images to score.")
@click.option(
    "--probe",
    is_flag=True,
    help="Also train a linear classifier on the encoder's frozen features and the POINTS of --probe-split.",
)
@click.option("--probe-split", default="train", show_default=True, metavar="NAME", help="Images of the probe.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path), metavar="FILE", help="Write everything there too."
)
@options.device_option
def evaluate(
    model: str, data: Path, split: str, probe: bool, probe_split: str, json_path: Path | None, device: str
) -> None:
    """Score MODEL (a built-in model's name or a bundle) at the labelled points of DATA, layout brca-m2c.

    Patients that the model was trained on are left out. Points are nuclei, not masks: the class of the label map under
    each point is compared with the point's.
    """
    from dualproto_wsi.cli.progress import console_progress
    from dualproto_wsi.cli.tables import score_table
    from dualproto_wsi.workflow.batch.record import write_json
    from dualproto_wsi.workflow.training.evaluate import evaluate_model

    with console_progress() as progress:
        task = progress.add_task("images", total=None)
        result = evaluate_model(
            model,
            data,
            split,
            probe_split=probe_split if probe else None,
            device=device,
            on_image=lambda: progress.advance(task),
        )
    rows = {model: result.model}
    if result.probe:
        rows["linear probe, trained on points"] = result.probe
    click.echo(f"{split}: {result.images} images of {result.patients} patients, {result.model.total} points")
    if result.left_out:
        click.echo(f"left out, because trained on: {', '.join(result.left_out)}")
    click.echo(score_table(rows))
    if json_path:
        write_json(json_path, result.to_json())
