"""``dualproto-wsi config``."""

from __future__ import annotations

from typing import Any

import click

from dualproto_wsi.cli.segment_options import segment_options, settings_and_origins
from dualproto_wsi.cli.train_options import chosen_settings, train_options


@click.group()
def config() -> None:
    """Show settings, and make a settings file of them.

    A settings file (TOML) holds any of the options of `segment`, and some finer ones, in sections; `segment --config
    FILE` and `plan --config FILE` read it; `config train` does the same for `train`. Paths in it count from the folder
    where the command runs.
    """


@config.command()
@segment_options
@click.pass_context
def show(ctx: click.Context, /, **values: Any) -> None:
    """Print the settings that `segment` would use with these options, as TOML that --config takes.

    A comment says where each value came from: default, the settings file, or the command line.
    """
    import dualproto_wsi
    from dualproto_wsi.settings import to_data, to_toml

    chosen, origins = settings_and_origins(ctx, values)
    click.echo(f"# settings of dualproto-wsi {dualproto_wsi.__version__}\n")
    click.echo(to_toml(to_data(chosen), origins), nl=False)


@config.command("train")
@train_options
@click.pass_context
def show_train(ctx: click.Context, /, **values: Any) -> None:
    """Print the settings that `train` would use with these options, as TOML that its --config takes."""
    import dualproto_wsi
    from dualproto_wsi.settings import to_data, to_toml

    click.echo(f"# training settings of dualproto-wsi {dualproto_wsi.__version__}\n")
    click.echo(to_toml(to_data(chosen_settings(ctx, values))), nl=False)
