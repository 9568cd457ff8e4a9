"""``dualproto-wsi models``: list, show, import."""

from __future__ import annotations

from pathlib import Path

import click

from dualproto_wsi.cli import options
from dualproto_wsi.cli.info import as_text


@click.group()
def models() -> None:
    """List the built-in models, show one, or import a checkpoint of the released DualProtoSeg code."""


@models.command("list")
@options.json_option
def list_command(as_json: bool) -> None:
    """List the built-in models: name, encoder, classes and one line about each."""
    import json

    from dualproto_wsi.workflow.models import built_in_models

    rows = built_in_models()
    if as_json:
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        click.echo(f"{row['name']}  ({row['encoder']}; {', '.join(row['classes'])})  {row['description']}")


@models.command()
@click.argument("model", metavar="NAME|FILE")
@options.json_option
def show(model: str, as_json: bool) -> None:
    """Show the card of a model: classes, encoder, resolution, training data, scores, licence, limits."""
    import json

    from dualproto_wsi.workflow.info import describe_model

    data = describe_model(model)
    click.echo(json.dumps(data, indent=2, ensure_ascii=False) if as_json else as_text(data))


@models.command("import")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The bundle to write, .safetensors.")
@click.option(
    "--prompts",
    required=True,
    metavar="NAME|FILE",
    help="Classes with the descriptions that it was trained with, word for word and in its order (TOML).",
)
@options.weights_option
@options.tokenizer_option
@click.option("--mpp", default=0.25, show_default=True, metavar="X", help="Microns per pixel of its training images.")
def import_command(
    checkpoint: Path, out: Path, prompts: str, weights: Path | None, tokenizer: Path | None, mpp: float
) -> None:
    """Turn CHECKPOINT, which the released DualProtoSeg code saved, into a bundle that gives the same maps.

    Needs CONCH's weights and tokenizer. Nothing in the checkpoint is run: its tensors are read, and nothing else.
    """
    from dualproto_wsi.model.prompts import load_vocabulary
    from dualproto_wsi.workflow.training.import_released import import_released

    import_released(checkpoint, out, load_vocabulary(prompts), weights, tokenizer, mpp)
    click.echo(out)
