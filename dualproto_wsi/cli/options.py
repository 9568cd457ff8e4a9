"""Options that several verbs share, as named objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dualproto_wsi import settings


class CommaList(click.ParamType[tuple[str, ...]]):
    """A list of choices separated by commas."""

    name = "list"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Split and check a value."""
        if isinstance(value, tuple):
            return value
        parts = tuple(part.strip() for part in str(value).split(",") if part.strip())
        wrong = [part for part in parts if part not in self._choices]
        if wrong or not parts:
            named = f"{wrong[0]!r} is not known" if wrong else "the list is empty"
            self.fail(f"{named}; choose from {', '.join(self._choices)}", param, ctx)
        return parts


slides_argument = click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))

out_option = click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results; made if missing."
)

model_option = click.option(
    "--model",
    default="builtin",
    show_default=True,
    metavar="NAME|FILE",
    help="Built-in model by name, a bundle file, or zero-shot (with --encoder and --prompts).",
)

encoder_option = click.option(
    "--encoder", default="", metavar="NAME", help="Encoder of zero-shot: conch, or open_clip:MODEL[:PRETRAINED|FILE]."
)

prompts_option = click.option(
    "--prompts", default="", metavar="NAME|FILE", help="Classes and descriptions of zero-shot: bcss, or a TOML file."
)

mpp_option = click.option(
    "--mpp", type=float, metavar="X", help="Microns per full-resolution pixel, in place of what the file says."
)

reader_option = click.option(
    "--reader",
    type=click.Choice(settings.READERS),
    default="auto",
    show_default=True,
    help="auto: OpenSlide where it opens the file, else TIAToolbox.",
)

device_option = click.option(
    "--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:N]", help="Where the model runs."
)

precision_option = click.option(
    "--precision",
    type=click.Choice(settings.PRECISIONS),
    default="auto",
    show_default=True,
    help="auto: bf16 on a GPU that has it, fp16 on one that has not, fp32 on a CPU.",
)

batch_size_option = click.option(
    "--batch-size",
    type=int,
    default=0,
    metavar="N",
    help="Windows a forward pass.  [default: 2 a CPU core, 64 on a GPU]",
)

compile_option = click.option(
    "--compile",
    "compile_model",
    is_flag=True,
    help="Let torch compile the model: a minute once, then faster. Needs a C++ compiler.",
)

workers_option = click.option(
    "--workers", type=int, default=2, show_default=True, metavar="N", help="Threads that read ahead."
)

overlap_option = click.option(
    "--overlap",
    type=float,
    default=settings.TilingSettings().overlap,
    show_default=True,
    metavar="F",
    help="Share of a window's side that it has in common with its neighbour.",
)

formats_option = click.option(
    "--formats",
    type=CommaList(settings.FORMATS),
    default="geojson",
    show_default=True,
    metavar=",".join(settings.FORMATS),
    help="Polygon files to write.",
)

object_type_option = click.option(
    "--object-type",
    type=click.Choice(settings.OBJECT_TYPES),
    default="annotation",
    show_default=True,
    help="What a region becomes in QuPath.",
)

frame_option = click.option(
    "--frame",
    type=click.Choice(settings.FRAMES),
    default="qupath",
    show_default=True,
    help="Origin of the polygons: where QuPath crops the slide, or the whole file.",
)

weights_option = click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights of the encoder, where they do not come with this package.  [default: $DUALPROTO_CONCH_WEIGHTS, then "
    "the Hugging Face hub]",
)

tokenizer_option = click.option(
    "--tokenizer",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CONCH's tokenizer.  [default: $DUALPROTO_CONCH_TOKENIZER, then an installed package conch]",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
