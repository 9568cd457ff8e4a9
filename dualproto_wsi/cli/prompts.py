"""``dualproto-wsi prompts``: show, lint, score, suggest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dualproto_wsi.cli import options

if TYPE_CHECKING:
    from dualproto_wsi.model.prompts import Vocabulary
    from dualproto_wsi.workflow.training.score_prompts import EncoderChoice, ScoreReport
    from dualproto_wsi.workflow.training.tiles import TileSettings

_vocabulary_argument = click.argument("vocabulary", metavar="[NAME|FILE]", default="bcss")
_prompts_option = click.option(
    "--prompts", default="bcss", show_default=True, metavar="NAME|FILE", help="The vocabulary (TOML)."
)
_text_encoder_option = click.option(
    "--encoder",
    default="sentences",
    show_default=True,
    metavar="NAME",
    help="Encoder of the texts: sentences, conch, or open_clip:MODEL[:PRETRAINED|FILE].",
)
_split_option = click.option("--split", default="train", show_default=True, metavar="NAME", help="Which images.")
_tile_option = click.option(
    "--tile", type=int, default=0, metavar="PX", help="Side of a tile.  [default: the encoder's multiple nearest 112]"
)
_min_points_option = click.option(
    "--min-points",
    type=int,
    default=2,
    show_default=True,
    metavar="N",
    help="Labelled nuclei from which on a tile holds a class.",
)


@click.group()
def prompts() -> None:
    """Show, check, rank or widen a vocabulary: classes with the descriptions that stand for them."""


@prompts.command()
@_vocabulary_argument
@options.json_option
def show(vocabulary: str, as_json: bool) -> None:
    """Show the classes and every prompt: each description in each template."""
    import json

    from dualproto_wsi.model.prompts import read_vocabulary
    from dualproto_wsi.workflow.training.prompts import describe_vocabulary

    data = describe_vocabulary(read_vocabulary(vocabulary))
    if as_json:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    for tissue in data["classes"]:
        click.echo(f"{tissue['name']}  rgb {tuple(tissue['colour'])}, {len(tissue['prompts'])} prompts")
        for prompt in tissue["prompts"]:
            click.echo(f"  {prompt}")


@prompts.command()
@_vocabulary_argument
@_text_encoder_option
@options.weights_option
@options.tokenizer_option
@options.json_option
@click.pass_context
def lint(
    ctx: click.Context, vocabulary: str, encoder: str, weights: Path | None, tokenizer: Path | None, as_json: bool
) -> None:
    """Find descriptions that occur twice, are too long for the encoder, or resemble another class more than theirs.

    Exit code 1 when something is found. The encoder `sentences` knows language, not pathology: take what it says of
    resemblance as a hint.
    """
    import json
    from dataclasses import asdict

    from dualproto_wsi.model.prompts import read_vocabulary
    from dualproto_wsi.workflow.training.prompts import lint_vocabulary
    from dualproto_wsi.workflow.training.score_prompts import EncoderChoice

    report = lint_vocabulary(read_vocabulary(vocabulary), EncoderChoice(encoder, weights, tokenizer))
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2, ensure_ascii=False))
    else:
        for finding in report.findings:
            click.echo(f"{finding.kind}: {finding.problem}")
        click.echo(
            f"{vocabulary}: {len(report.findings) or 'nothing'} found with {encoder}; "
            f"the longest prompt takes {report.longest} of {report.max_tokens} tokens"
        )
    ctx.exit(1 if report.findings else 0)


@prompts.command()
@click.argument("data", type=click.Path(path_type=Path))
@_prompts_option
@click.option(
    "--encoder", required=True, metavar="NAME", help="Of images and texts: conch, or open_clip:MODEL[:PRETRAINED|FILE]."
)
@options.weights_option
@options.tokenizer_option
@click.option("--keep", type=int, default=5, show_default=True, metavar="K", help="Descriptions to choose a class.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="Vocabulary of the chosen, to write."
)
@_split_option
@_tile_option
@_min_points_option
@options.device_option
@options.json_option
def score(data: Path, prompts: str, keep: int, out: Path | None, as_json: bool, **given: Any) -> None:
    """Rank descriptions by how well they find their class in DATA, and choose the best K together (*).

    DATA has the layout brca-m2c, as for `train`; a tile's label says only which classes it holds. A tile's embedding is
    the mean of its patch embeddings. AUC: tiles with the class against tiles without. Margin: that AUC less the best
    one that the description reaches for another class. Redundancy: highest cosine to a better description of its class.

    The same tiles rank and choose: measure the result on other patients.
    """
    import json

    from dualproto_wsi.model.prompts import read_vocabulary, write_vocabulary
    from dualproto_wsi.workflow.training.score_prompts import score_vocabulary

    choice, tiles = _parse(given)
    report = score_vocabulary(data, read_vocabulary(prompts), choice, keep, tiles, _count_images)
    click.echo(json.dumps(report.to_json(), indent=2, ensure_ascii=False) if as_json else _table(report))
    if out:
        write_vocabulary(out, report.vocabulary, _origin(report, keep, prompts))
        click.echo(_written(out, report.vocabulary), err=as_json)


@prompts.command()
@click.argument("data", required=False, type=click.Path(path_type=Path))
@_prompts_option
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="Vocabulary to write."
)
@click.option("--count", type=int, default=30, show_default=True, metavar="N", help="Texts from synonyms a class.")
@click.option("--synonyms", type=click.Path(path_type=Path), metavar="FILE", help="Synonyms (TOML).  [default: ours]")
@click.option(
    "--from",
    "written",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="More texts, a line each, `Class: text`: from a colleague or a language model.",
)
@_text_encoder_option
@options.weights_option
@options.tokenizer_option
@click.option(
    "--keep", type=int, default=10, show_default=True, metavar="K", help="Descriptions to choose a class, with DATA."
)
@_split_option
@_tile_option
@_min_points_option
@options.device_option
def suggest(data: Path | None, prompts: str, out: Path, keep: int, **given: Any) -> None:
    """Widen a vocabulary offline, with texts made of synonyms, and sort out what is no good.

    With DATA (as for `score`) and --encoder conch or open_clip:MODEL all texts, old and new, are scored, and the best K
    of each class written. Without, new texts that `lint` faults are left out, and the rest is written unscored.
    """
    from dualproto_wsi.model.prompts import read_vocabulary, write_vocabulary
    from dualproto_wsi.model.synonyms import BUILT_IN, load_synonyms, read_texts
    from dualproto_wsi.workflow.training.prompts import suggest_vocabulary

    vocabulary = read_vocabulary(prompts)
    synonyms = load_synonyms(given.pop("synonyms") or BUILT_IN)
    file, count = given.pop("written"), given.pop("count")
    written = read_texts(file, vocabulary.classes.names) if file else {}
    choice, tiles = _parse(given)
    scored = (data, keep, tiles) if data else None
    result = suggest_vocabulary(vocabulary, synonyms, written, count, choice, scored, _count_images)
    click.echo(f"new texts: {', '.join(f'{name} {number}' for name, number in result.candidates.items())}")
    for finding in result.dropped:
        click.echo(f"left out, {finding.kind}: {finding.problem}")
    if result.score:
        click.echo(_table(result.score))
        origin = _origin(result.score, keep, prompts)
    else:
        origin = f"Widened from {prompts}; unscored: checked by lint with {choice.name}, not on images."
        click.echo("unscored: give DATA and --encoder conch or open_clip:MODEL to rank the texts on images")
    write_vocabulary(out, result.vocabulary, origin)
    click.echo(_written(out, result.vocabulary))


def _parse(given: dict[str, Any]) -> tuple[EncoderChoice, TileSettings]:
    from dualproto_wsi.workflow.training.score_prompts import EncoderChoice
    from dualproto_wsi.workflow.training.tiles import TileSettings

    return (
        EncoderChoice(given["encoder"], given["weights"], given["tokenizer"]),
        TileSettings(given["split"], given["tile"], given["min_points"], given["device"]),
    )


def _count_images(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{done}/{total} images", nl=done == total, err=True)


def _written(out: Path, vocabulary: Vocabulary) -> str:
    counts = {tissue.name: len(tissue.descriptions) for tissue in vocabulary.classes}
    if len(set(counts.values())) == 1:
        return str(out)
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{out}: descriptions: {listed}; zero-shot takes it as it is, `train` needs as many in each class"


def _origin(report: ScoreReport, keep: int, source: str) -> str:
    return (
        f"The best {keep} descriptions a class of {source}, by {report.encoder} ({report.encoder_hash}) on "
        f"{report.tiles} tiles of {report.tile_px} px."
        + (f"\nNot scored, all kept: {', '.join(report.unscored)}." if report.unscored else "")
    )


def _table(report: ScoreReport) -> str:
    lines = [f"{report.tiles} tiles of {report.tile_px} px from {report.images} images, {report.encoder}"]
    for tissue in report.classes:
        kept = sum(d.kept for d in tissue.descriptions)
        lines += [
            f"\n{tissue.name}: in {tissue.present} tiles, not in {tissue.absent}; AUC {tissue.auc_all:.3f} with all "
            f"{len(tissue.descriptions)}, {tissue.auc_kept:.3f} with the {kept} chosen",
            "     AUC  margin  redundancy",
        ]
        for d in tissue.descriptions:
            redundancy = "—" if d.redundancy != d.redundancy else f"{d.redundancy:.2f}"
            margin = "—" if d.margin != d.margin else f"{d.margin:+.3f}"
            lines.append(f"{'*' if d.kept else ' '}  {d.auc:.3f}  {margin:>6}  {redundancy:>10}  {d.description}")
    if report.unscored:
        lines.append(f"\nnot scored, for DATA has no labels of them, and kept whole: {', '.join(report.unscored)}")
    return "\n".join(lines)
