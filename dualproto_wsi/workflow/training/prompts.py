"""Looks after vocabularies: what is wrong with one, and how it could be wider."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dualproto_wsi.classes import ClassScheme
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.prompts import Finding, Vocabulary, plain, repeated_descriptions
from dualproto_wsi.model.synonyms import Synonyms
from dualproto_wsi.model.text_encoder import TextEncoder, build_text_encoder
from dualproto_wsi.workflow.training.score_prompts import EncoderChoice, ScoreReport, score_vocabulary
from dualproto_wsi.workflow.training.tiles import LABELLED, TileSettings


def describe_vocabulary(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return templates, organ, stain, and each class with its descriptions and prompts, as plain data."""
    return {
        "templates": list(vocabulary.templates),
        "organ": vocabulary.organ,
        "stain": vocabulary.stain,
        "classes": [
            {
                "name": tissue.name,
                "colour": list(tissue.colour),
                "descriptions": list(tissue.descriptions),
                "prompts": list(prompts.descriptions),
            }
            for tissue, prompts in zip(vocabulary.classes, vocabulary.scheme(), strict=True)
        ],
    }


@dataclass(frozen=True, slots=True)
class LintReport:
    """What :func:`lint_vocabulary` found, and the length of the longest prompt beside the encoder's limit, tokens."""

    findings: tuple[Finding, ...]
    longest: int
    max_tokens: int


def lint_vocabulary(vocabulary: Vocabulary, choice: EncoderChoice) -> LintReport:
    """Find descriptions that repeat another, are too long for a text encoder, or resemble another class more.

    Parameters
    ----------
    vocabulary : Vocabulary
    choice : EncoderChoice
        ``sentences``, or an encoder with a text side.

    Raises
    ------
    ModelError
        If the encoder cannot be built or has no text side.
    MissingDependency
        If the sentence encoder is not installed.
    """
    encoder = build_text_encoder(choice.name, choice.weights, choice.tokenizer)
    too_long, longest = _too_long(vocabulary, encoder)
    prompts = [prompt for tissue in vocabulary.scheme() for prompt in tissue.descriptions]
    features = encoder.features(prompts)
    features = features.reshape(-1, len(vocabulary.templates), features.shape[1]).mean(1)
    findings = (*repeated_descriptions(vocabulary.classes), *too_long, *misplaced(vocabulary.classes, features))
    return LintReport(findings, longest, encoder.max_tokens)


def _too_long(vocabulary: Vocabulary, encoder: TextEncoder) -> tuple[list[Finding], int]:
    found, longest = [], 0
    for tissue in vocabulary.classes:
        for text in tissue.descriptions:
            count = max(encoder.count_tokens(vocabulary.prompts(text)))
            longest = max(longest, count)
            if count > encoder.max_tokens:
                problem = f"{text!r} takes {count} tokens; the encoder cuts off what is beyond {encoder.max_tokens}"
                found.append(Finding(tissue.name, text, "too long", problem))
    return found, longest


def misplaced(classes: ClassScheme, features: Tensor) -> list[Finding]:
    """Return the descriptions whose feature is nearer (cosine) to another class's mean than to that of their own.

    Parameters
    ----------
    classes : ClassScheme
    features : Tensor of float, shape (P, E)
        One a description, class by class.
    """
    features = F.normalize(features, dim=1)
    parts = torch.split(features, [len(tissue.descriptions) for tissue in classes])
    means = F.normalize(torch.stack([part.mean(0) for part in parts]), dim=1)
    found = []
    for own, (tissue, part) in enumerate(zip(classes, parts, strict=True)):
        for text, cosines in zip(tissue.descriptions, part @ means.T, strict=True):
            nearest = int(cosines.argmax())
            if cosines[nearest] > cosines[own]:
                name = classes.names[nearest]
                problem = (
                    f"{text!r} resembles {name} ({cosines[nearest]:.2f}) more than {tissue.name} ({cosines[own]:.2f})"
                )
                found.append(Finding(tissue.name, text, "nearer to another class", problem))
    return found


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A wider vocabulary.

    Parameters
    ----------
    vocabulary : Vocabulary
        What to write.
    candidates : dict of str to int
        New texts of each class that were looked at.
    dropped : tuple of Finding
        New texts that linting threw out.
    score : ScoreReport or None
        None: nothing was scored.
    """

    vocabulary: Vocabulary
    candidates: dict[str, int]
    dropped: tuple[Finding, ...]
    score: ScoreReport | None


def suggest_vocabulary(
    vocabulary: Vocabulary,
    synonyms: Mapping[str, Synonyms],
    written: Mapping[str, Sequence[str]],
    count: int,
    choice: EncoderChoice,
    data: tuple[Path, int, TileSettings] | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> Suggestion:
    """Widen a vocabulary and sort out what is no good: by score where there is data, else by lint.

    Parameters
    ----------
    vocabulary : Vocabulary
    synonyms : mapping of str to Synonyms
        By the class's name, case folded.
    written : mapping of str to sequence of str
        More texts, by the class's name; all are taken.
    count : int
        Texts from synonyms for each class.
    choice : EncoderChoice
    data : (Path, int, TileSettings) or None
        Labelled images, the number of descriptions to keep a class, and the tiles. A class that the data does not
        label is not widened then.
    on_image : callable
        As for :func:`~dualproto_wsi.workflow.training.score_prompts.score_vocabulary`.

    Raises
    ------
    SettingsError
        If there is no new text for any class.
    DualProtoError
        As :func:`lint_vocabulary` and :func:`~dualproto_wsi.workflow.training.score_prompts.score_vocabulary`.
    """
    if count < 0:
        raise SettingsError(f"--count {count}: it must be 0 or more")
    labelled = {name.casefold() for name in LABELLED}
    new = _candidates(vocabulary, synonyms, written, count)
    new = {name: texts for name, texts in new.items() if texts and (data is None or name.casefold() in labelled)}
    if not new:
        known = ", ".join(sorted(synonyms)) or "no class"
        raise SettingsError(
            f"nothing new for {', '.join(vocabulary.classes.names)}: synonyms are there for {known}; "
            "give --synonyms or --from a file with these classes"
        )
    wide = vocabulary.with_descriptions([(*c.descriptions, *new.get(c.name, ())) for c in vocabulary.classes])
    counts = {name: len(texts) for name, texts in new.items()}
    if data is not None:
        root, keep, tiles = data
        report = score_vocabulary(root, wide, choice, keep, tiles, on_image)
        return Suggestion(report.vocabulary, counts, (), report)
    faulty = [f for f in lint_vocabulary(wide, choice).findings if f.description in new.get(f.tissue, ())]
    out = {(f.tissue, f.description) for f in faulty}
    clean = [[text for text in c.descriptions if (c.name, text) not in out] for c in wide.classes]
    return Suggestion(wide.with_descriptions(clean), counts, tuple(faulty), None)


def _candidates(
    vocabulary: Vocabulary, synonyms: Mapping[str, Synonyms], written: Mapping[str, Sequence[str]], count: int
) -> dict[str, list[str]]:
    """Return texts that are new to the vocabulary and differ from each other, by the class's name."""
    known = {plain(text) for tissue in vocabulary.classes for text in tissue.descriptions}
    new: dict[str, list[str]] = {}
    for name in vocabulary.classes.names:
        wordings = synonyms.get(name.casefold())
        for text in (*written.get(name, ()), *(wordings.sample(count) if wordings else ())):
            if plain(text) not in known:
                known.add(plain(text))
                new.setdefault(name, []).append(text)
    return new
