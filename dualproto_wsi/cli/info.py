"""``dualproto-wsi info``."""

from __future__ import annotations

from pathlib import Path

import click

from dualproto_wsi.cli import options


@click.command()
@click.argument("target", metavar="SLIDE|MODEL")
@options.mpp_option
@options.reader_option
@options.json_option
def info(target: str, mpp: float | None, reader: str, as_json: bool) -> None:
    """Show what a slide file or a model bundle says of itself.

    MODEL is a built-in model's name (`builtin`) or a .safetensors bundle; anything else is opened as a slide.
    """
    import json

    from dualproto_wsi.settings import ReadSettings
    from dualproto_wsi.workflow.info import describe_model, describe_slide, is_model

    data = describe_model(target) if is_model(target) else describe_slide(Path(target), ReadSettings(mpp, reader))
    click.echo(json.dumps(data, indent=2, ensure_ascii=False) if as_json else as_text(data))


def as_text(data: dict[str, object], indent: str = "") -> str:
    """Lay out nested data as aligned lines."""
    width = max(map(len, data), default=0)
    lines = []
    for key, value in data.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{key}", as_text(value, indent + "  ")]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{indent}{key}", *(as_text(item, indent + "  ") for item in value)]
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            lines.append(f"{indent}{key:<{width}}  {shown if shown not in (None, '', {}) else '—'}")
    return "\n".join(lines)
