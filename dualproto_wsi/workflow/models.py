"""Models by what the user calls them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dualproto_wsi.files import cache_folder, file_sha256
from dualproto_wsi.model.absent_encoder import AbsentEncoder
from dualproto_wsi.model.checkpoint import DEFAULT, find_model, list_models, load_model, read_card
from dualproto_wsi.model.prompts import load_vocabulary
from dualproto_wsi.model.segmenter import Segmenter
from dualproto_wsi.model.zero_shot import build_zero_shot
from dualproto_wsi.settings import ZERO_SHOT, InferenceSettings
from dualproto_wsi.workflow.features.reuse import encoder_facts


def prepare_model(settings: InferenceSettings, features: Path | None = None) -> tuple[Segmenter, dict[str, Any]]:
    """Load or build the model that the settings name, on the CPU.

    Parameters
    ----------
    settings : InferenceSettings
    features : Path or None
        Folder of kept features: the encoder is not loaded, and only they can be scored.

    Returns
    -------
    model : Segmenter
    record : dict
        Its card, and the hash of its file where it has one: what ``record.json`` says of it.

    Raises
    ------
    ModelError
        If there is no such model, or a file of it is missing or wrong.
    FeaturesUnusable
        If the folder holds none of this model's encoder.
    """
    weights = Path(settings.weights) if settings.weights else None
    if settings.model == ZERO_SHOT:
        tokenizer = Path(settings.tokenizer) if settings.tokenizer else None
        scheme = load_vocabulary(settings.prompts)
        facts = encoder_facts(features, settings.encoder) if features else None
        zero_shot = build_zero_shot(settings.encoder, scheme, weights, tokenizer, cache_folder(), facts)
        return zero_shot, {"card": zero_shot.card.to_json()}
    encoder = None
    if features:
        card = read_card(find_model(settings.model))
        encoder = AbsentEncoder(encoder_facts(features, card.encoder, card.encoder_hash))
    model = load_model(settings.model, weights, encoder)
    if settings.gate is not None:
        model.gate = settings.gate
    return model, {"sha256": file_sha256(find_model(settings.model)), "card": model.card.to_json()}


def built_in_models() -> list[dict[str, Any]]:
    """Return name, encoder, class names, resolution and description of each; the default one first."""
    names = sorted(list_models(), key=lambda name: (name != DEFAULT, name))
    cards = [(name, read_card(find_model(name))) for name in names]
    return [
        {
            "name": name,
            "default": name == DEFAULT,
            "encoder": card.encoder,
            "classes": list(card.classes.names),
            "mpp": card.mpp,
            "description": card.description,
        }
        for name, card in cards
    ]
