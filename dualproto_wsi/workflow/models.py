"""The built-in models, as plain data."""

from __future__ import annotations

from typing import Any

from dualproto_wsi.model.checkpoint import DEFAULT, find_model, list_models, read_card


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
