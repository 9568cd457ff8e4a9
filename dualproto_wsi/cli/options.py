"""Options that several verbs share, as named objects."""

from __future__ import annotations

from pathlib import Path

import click

from dualproto_wsi import settings

slides_argument = click.argument("slides", nargs=-1, required=True, type=click.Path(path_type=Path))

out_option = click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder for the results; made if missing."
)

mpp_option = click.option(
    "--mpp", type=float, metavar="X", help="Microns per full-resolution pixel, in place of what the file says."
)

READER = {
    "type": click.Choice(settings.READERS),
    "help": "auto: the fastest that opens the file: libjpeg-turbo, OpenSlide, TIAToolbox.",
}
reader_option = click.option("--reader", default="auto", show_default=True, **READER)  # type: ignore[arg-type]

DEVICE = {"metavar": "auto|cpu|cuda[:N]", "help": "Where the model runs."}
device_option = click.option("--device", default="auto", show_default=True, **DEVICE)  # type: ignore[arg-type]

WEIGHTS = {
    "type": click.Path(path_type=Path),
    "metavar": "FILE",
    "help": "Weights of the encoder, where they do not come with this package.  [default: $DUALPROTO_CONCH_WEIGHTS, "
    "then the Hugging Face hub]",
}
weights_option = click.option("--weights", **WEIGHTS)  # type: ignore[arg-type]

TOKENIZER = {
    "type": click.Path(path_type=Path),
    "metavar": "FILE",
    "help": "CONCH's tokenizer.  [default: $DUALPROTO_CONCH_TOKENIZER, then an installed package conch]",
}
tokenizer_option = click.option("--tokenizer", **TOKENIZER)  # type: ignore[arg-type]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

log_file_option = click.option(
    "--log-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Append what happens to FILE, an event a line, in JSON.",
)
