"""The command group, and the one place where an error becomes a line."""

from __future__ import annotations

import logging
import signal
import threading
from importlib import import_module
from types import FrameType
from typing import Any

import click

import dualproto_wsi
from dualproto_wsi.errors import DualProtoError

VERBS = (
    "segment",
    "plan",
    "status",
    "rerun",
    "demo",
    "verify",
    "export",
    "qupath",
    "info",
    "doctor",
    "config",
    "models",
    "prompts",
    "tiles",
    "train",
    "evaluate",
    "cohort",
    "ablate",
    "fed",
)


class Terminated(KeyboardInterrupt):
    """The process was asked to end, as schedulers do; it ends as cleanly as by Ctrl-C."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


class VerbGroup(click.Group):
    """Loads a verb's module when it is asked for, and tells errors in one line.

    Exit codes: 0 all done, 1 some slide failed or something was found, 2 wrong usage or nothing could be done.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order a newcomer needs them."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a verb and return its command."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(import_module(f"dualproto_wsi.cli.{cmd_name}"), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error raised on purpose becomes one line and exit code 2."""
        try:
            return super().invoke(ctx)
        except DualProtoError as error:
            if ctx.params.get("debug"):
                raise
            click.echo(f"error: {error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt as stop:
            click.echo("stopped; what was finished stays, and the same command goes on", err=True)
            ctx.exit(143 if isinstance(stop, Terminated) else 130)


@click.group(cls=VerbGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(dualproto_wsi.__version__, prog_name="dualproto-wsi")
@click.option("--debug", is_flag=True, help="Show the traceback of an error, and what this program logs.")
def main(debug: bool) -> None:
    """Tissue maps from whole-slide images: regions that QuPath opens, areas that a study can count."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    logging.basicConfig(level=logging.ERROR, format="%(levelname)s %(name)s: %(message)s")
    if debug:
        logging.getLogger("dualproto_wsi").setLevel(logging.DEBUG)
