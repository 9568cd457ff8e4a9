"""Scores descriptions on labelled tiles, with an encoder that sees images and texts.

A tile is a square of an image with an image-level label for each class: which it holds. Its embedding is the mean of
the embeddings of its patches, brought to length 1; an image is put through the encoder as a whole, so a patch sees
beyond its tile. A description's feature is the mean over its templates, brought to length 1. Their cosine is what is
ranked (:mod:`dualproto_wsi.stats.ranking`).

The tiles that rank the descriptions also choose the ones to keep: the figures of those are optimistic. Measure the
result on other patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.classes import TissueClass
from dualproto_wsi.data.images import PRESENT, UNKNOWN
from dualproto_wsi.errors import DataError, ModelNotFound, SettingsError
from dualproto_wsi.files import cache_folder
from dualproto_wsi.model.encoder import TextAlignedEncoder, build_encoder
from dualproto_wsi.model.prompts import Vocabulary
from dualproto_wsi.model.text_encoder import SENTENCES, text_features
from dualproto_wsi.model.zero_shot import MAX_SCALE
from dualproto_wsi.stats.ranking import choose_descriptions, rank_descriptions
from dualproto_wsi.workflow.mapping.engine import choose_device
from dualproto_wsi.workflow.training.tiles import LABELLED, TileSettings, embed_tiles, fitting_tile, read_labelled


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """An encoder by name, and the user's files of it."""

    name: str
    weights: Path | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True, slots=True)
class DescriptionScore:
    """One description's figures, as :class:`~dualproto_wsi.stats.ranking.Rank`, and whether it is among the kept."""

    description: str
    auc: float
    margin: float
    redundancy: float
    kept: bool


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class: in how many tiles it is or is not, its AUC with all descriptions and the kept, and these, ranked."""

    name: str
    present: int
    absent: int
    auc_all: float
    auc_kept: float
    descriptions: tuple[DescriptionScore, ...]


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What scoring found.

    Parameters
    ----------
    encoder, encoder_hash : str
    tile_px, images, tiles : int
    classes : tuple of ClassScore
    unscored : tuple of str
        Classes that the data does not label.
    vocabulary : Vocabulary
        With the kept descriptions, best first; a class that was not scored has all of its own.
    """

    encoder: str
    encoder_hash: str
    tile_px: int
    images: int
    tiles: int
    classes: tuple[ClassScore, ...]
    unscored: tuple[str, ...]
    vocabulary: Vocabulary

    def to_json(self) -> dict[str, Any]:
        """Return plain data without the vocabulary; undefined is None."""
        names = ("encoder", "encoder_hash", "tile_px", "images", "tiles", "unscored")
        return {name: getattr(self, name) for name in names} | {"classes": [_plain(asdict(c)) for c in self.classes]}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value


def score_vocabulary(
    root: Path,
    vocabulary: Vocabulary,
    choice: EncoderChoice,
    keep: int,
    settings: TileSettings | None = None,
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> ScoreReport:
    """Rank the descriptions of a vocabulary on labelled tiles and choose the best ones of each class.

    Parameters
    ----------
    root : Path
        Data in the layout ``brca-m2c``.
    vocabulary : Vocabulary
        Classes that the data does not label are left as they are.
    choice : EncoderChoice
        One with a text side.
    keep : int
        Descriptions of a class to choose.
    settings : TileSettings or None
    on_image : callable
        Gets the number of images done and of all.

    Raises
    ------
    DataError
        If the data is not what its layout says, labels none of the classes, or a class is in every tile or in none.
    SettingsError
        If ``keep`` is more than a class has, or the tile is no multiple of the encoder's patch.
    ModelError
        If the encoder cannot be built or does not see images and texts both.
    """
    settings = settings or TileSettings()
    codes = {name.casefold(): code for code, name in enumerate(LABELLED)}
    scored = [tissue for tissue in vocabulary.classes if tissue.name.casefold() in codes]
    if not scored:
        raise DataError(
            f"{root}: labels none of {', '.join(vocabulary.classes.names)}; BRCA-M2C has {', '.join(LABELLED)}: "
            "give the vocabulary's classes these names"
        )
    for tissue in scored:
        if not 1 <= keep <= len(tissue.descriptions):
            raise SettingsError(
                f"--keep {keep}: {tissue.name} has {len(tissue.descriptions)} description(s); keep 1 to that many"
            )
    images = read_labelled(root, settings.split)
    encoder = _build(choice).to(choose_device(settings.device))
    tile_px = fitting_tile(settings.tile_px, encoder)
    tiles, labels = embed_tiles(encoder, images, tile_px, settings.min_points, on_image)
    labels = labels[[codes[tissue.name.casefold()] for tissue in scored]]
    _refuse_one_sided(labels, scored, root, tile_px)
    features = description_features(vocabulary, scored, choice, encoder.hash)
    classes, kept = _rank(scored, features, tiles, labels, keep, float(encoder.logit_scale.clamp(max=MAX_SCALE)))
    reduced = vocabulary.with_descriptions([kept.get(c.name, c.descriptions) for c in vocabulary.classes])
    unscored = tuple(name for name in vocabulary.classes.names if name not in kept)
    return ScoreReport(encoder.name, encoder.hash, tile_px, len(images), labels.shape[1], classes, unscored, reduced)


def _build(choice: EncoderChoice) -> TextAlignedEncoder:
    way_out = "use conch or open_clip:MODEL[:PRETRAINED|FILE]"
    if choice.name == SENTENCES:
        raise ModelNotFound(f"--encoder {choice.name}: it sees no images, so it cannot score on them; {way_out}")
    encoder = build_encoder(choice.name, choice.weights)
    if not isinstance(encoder, TextAlignedEncoder):
        raise ModelNotFound(f"--encoder {choice.name}: it has no text side; {way_out}")
    return encoder


def _refuse_one_sided(labels: NDArray[np.int8], scored: list[TissueClass], root: Path, tile_px: int) -> None:
    for tissue, row in zip(scored, labels, strict=True):
        known = row[row != UNKNOWN]
        if not len(known) or (known == known[0]).all():
            which, change = ("every", "smaller") if len(known) and known[0] == PRESENT else ("no", "larger")
            raise DataError(
                f"{root}: {tissue.name} is in {which} tile of {tile_px} px, so nothing can be ranked; "
                f"pass a {change} --tile, or leave the class out of the vocabulary"
            )


def description_features(
    vocabulary: Vocabulary, classes: list[TissueClass], choice: EncoderChoice, encoder_hash: str
) -> Tensor:
    """Return one feature a description, the mean over its templates, float32 (P, E), of length 1."""
    texts = [prompt for c in classes for d in c.descriptions for prompt in vocabulary.prompts(d)]
    features = text_features(choice.name, encoder_hash, texts, choice.weights, choice.tokenizer, cache_folder())
    return F.normalize(features.reshape(-1, len(vocabulary.templates), features.shape[1]).mean(1), dim=1)


def _rank(
    scored: list[TissueClass], features: Tensor, tiles: Tensor, labels: NDArray[np.int8], keep: int, scale: float
) -> tuple[tuple[ClassScore, ...], dict[str, list[str]]]:
    similarity = (features @ tiles.T).numpy()
    owners = np.repeat(np.arange(len(scored)), [len(tissue.descriptions) for tissue in scored])
    texts = [text for tissue in scored for text in tissue.descriptions]
    classes, kept = [], {}
    for tissue, row, ranks in zip(
        scored, labels, rank_descriptions(similarity, features.numpy(), owners, labels), strict=True
    ):
        known, order = row != UNKNOWN, [rank.index for rank in ranks]
        present = row[known] == PRESENT
        chosen = choose_descriptions(similarity[order][:, known], present, len(order), scale)
        best = sorted(place for place, _ in chosen[:keep])
        kept[tissue.name] = [texts[order[place]] for place in best]
        scores = tuple(
            DescriptionScore(texts[rank.index], rank.auc, rank.margin, rank.redundancy, place in best)
            for place, rank in enumerate(ranks)
        )
        counts = int(present.sum()), int((~present).sum())
        classes.append(ClassScore(tissue.name, *counts, chosen[-1][1], chosen[keep - 1][1], scores))
    return tuple(classes), kept
