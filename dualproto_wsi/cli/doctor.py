"""``dualproto-wsi doctor``."""

from __future__ import annotations

import click

from dualproto_wsi.cli import options

_MARKS = {"ok": "ok  ", "note": "note", "fail": "FAIL"}


@click.command()
@options.json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check this installation: GPU, versions, slide readers, models and weights.

    Exit code: 0 when the built-in model can segment a slide here, 1 when something it needs is broken.
    """
    import json

    from dualproto_wsi.workflow.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in findings], indent=2, ensure_ascii=False))
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            click.echo(f"{_MARKS[finding.level]}  {finding.subject:<{width}}  {finding.text}")
    ctx.exit(1 if any(finding.level == "fail" for finding in findings) else 0)
