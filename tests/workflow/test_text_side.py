"""Where the text features of a training step come from: fixed, or behind a learned context."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from dualproto_wsi.classes import ClassScheme, TissueClass
from dualproto_wsi.errors import SettingsError
from dualproto_wsi.model.conch_text import END, VOCABULARY, ConchText, ConchTextTower, ConchTokenizer, lay_out
from dualproto_wsi.model.encoder import hash_tensors
from dualproto_wsi.model.heads import build_head
from dualproto_wsi.model.text import SentenceEncoder
from dualproto_wsi.settings import HeadSettings, TextSettings, from_data, to_data
from dualproto_wsi.workflow.training.released_recipe import released_loss, released_optimiser
from dualproto_wsi.workflow.training.text_side import FixedText, LearnedText, build_text_side, store_text_features


def small(text_dim: int = 512, **changes: object) -> HeadSettings:
    shape = {"prototype_dim": 16, "refiner_width": 16, "refiner_blocks": 1, "refiner_groups": 1, "pyramid_groups": 1}
    return HeadSettings(text_dim=text_dim, upsampling=(1, 2), channels=(16, 8), **shape, **changes)


def scheme(descriptions: list[list[str]]) -> ClassScheme:
    return ClassScheme(
        tuple(TissueClass(i + 1, f"class {i}", (9, 9, i), tuple(texts)) for i, texts in enumerate(descriptions))
    )


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory) -> Path:
    """A tokenizer for which the text ``w17`` is the token 17; the words of the context are tokens as well."""
    vocabulary = {"<pad>": 0, "<start_of_text>": 1, "<end_of_text>": 2} | {f"w{i}": i for i in range(3, VOCABULARY - 4)}
    vocabulary |= {word: VOCABULARY - 4 + i for i, word in enumerate(["a", "histopathology", "image", "of"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def reference_scheme(rule) -> ClassScheme:
    """The first two descriptions of each class of the reference, as words of that tokenizer."""
    ids = rule.numbers("head")["released_prompt_ids"].reshape(4, 10, 77)[:, :2]
    return scheme([[" ".join(f"w{i}" for i in row if END < i < VOCABULARY) for row in rows] for rows in ids])


WORDS = scheme([["w17 w18", "w19"], ["w20", "w21 w22"]])


@pytest.fixture(scope="module")
def learned(conch_file, tokenizer_file) -> LearnedText:
    side = build_text_side(small(), TextSettings(slots=4), "conch", WORDS, conch_file, tokenizer_file)
    assert isinstance(side, LearnedText)
    return side


def test_the_released_text_side_gives_the_released_features(rule, conch_file, tokenizer_file, reference_scheme):
    settings = TextSettings(slots=16, start="released", layout="released")
    side = build_text_side(small(), settings, "conch-released", reference_scheme, conch_file, tokenizer_file)
    with torch.no_grad():
        side.context.copy_(0.3 * rule.array("prompt_learner.ctx", (4, 16, 768)))
        found = side().numpy()
    expected = rule.numbers("head")["released_text_features"].reshape(4, 10, 512)[:, :2].reshape(8, 512)
    assert np.abs(found - expected).max() < 1e-5 * expected.std()


def test_the_context_alone_is_trained_and_saved(learned):
    head = build_head(small(), 20, 2, 2).train()
    tower = learned._tower[0]
    assert [name for name, _ in learned.named_parameters()] == list(learned.state_dict()) == ["context"]
    before, first = learned.context.detach().clone(), learned().detach()
    optimiser, _ = released_optimiser([*head.parameters(), *learned.parameters()], 10)
    output = head([torch.randn(2, 20, 6, 6) for _ in range(4)], learned())
    released_loss(output, torch.tensor([[1, 0], [0, 1]])).backward()
    optimiser.step()
    moved = (learned.context.detach() - before).abs().amax((1, 2))
    assert moved.tolist() == pytest.approx([5e-5, 5e-5], rel=0.1)  # Adam's first step is the rate
    assert hash_tensors(tower.state_dict().items(), "conch text 1") == tower.hash
    assert all(p.grad is None for p in tower.parameters())
    store_text_features(head, learned)
    torch.testing.assert_close(head.bank.text_features, learned().detach())
    assert not torch.equal(head.bank.text_features, first)
    learned.load_state_dict({"context": before})
    torch.testing.assert_close(learned().detach(), first)


def test_no_slots_give_the_towers_own_features(conch_file, tokenizer_file):
    texts = [text for tissue in WORDS for text in tissue.descriptions]
    side = build_text_side(small(), TextSettings(), "conch", WORDS, conch_file, tokenizer_file)
    assert torch.equal(side(), ConchText(conch_file, tokenizer_file).features(texts))
    assert isinstance(side, FixedText)
    assert not list(side.parameters())
    assert not side.state_dict()


def test_no_slots_in_the_released_layout(conch_file, tokenizer_file):
    texts = [text for tissue in WORDS for text in tissue.descriptions]
    side = build_text_side(small(), TextSettings(layout="released"), "conch", WORDS, conch_file, tokenizer_file)
    with torch.no_grad():
        expected = ConchTextTower.from_file(conch_file).released(lay_out(ConchTokenizer(tokenizer_file)(texts)))
    assert torch.equal(side(), expected)


def test_what_a_context_starts_from(learned, tokenizer_file):
    tower, words = learned._tower[0], ConchTokenizer(tokenizer_file)
    embedding = tower.text.token_embedding.weight
    four = [VOCABULARY - 4 + i for i in range(4)]
    assert torch.equal(tower.initial_context(words, 2, 6)[1], embedding[[*four, *four[:2]]])
    released, noise = (
        tower.initial_context(words, 2, 6, start, torch.Generator().manual_seed(3)) for start in ("released", "noise")
    )
    torch.testing.assert_close(released - noise, embedding[[*four, END, END]].expand(2, 6, 768))
    assert noise.std().item() == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(noise[0], noise[1])
    again = tower.initial_context(words, 2, 6, "noise", torch.Generator().manual_seed(3))
    assert torch.equal(again, noise)


def test_the_compact_encoder_has_fixed_sentence_features():
    texts = [text for tissue in WORDS for text in tissue.descriptions]
    side = build_text_side(small(384), TextSettings(), "compact", WORDS)
    torch.testing.assert_close(side(), SentenceEncoder().features(texts))
    head = build_head(small(384), 20, 2, 2)
    store_text_features(head, side)
    assert torch.equal(head.bank.text_features, side())


@pytest.mark.parametrize("changes", [{"text": False}, {"kind": "cam"}])
def test_a_head_without_text_needs_no_text_tower(changes):
    settings = small(**changes)
    side = build_text_side(settings, TextSettings(slots=16), "conch", WORDS, Path("there is none"))
    assert side().shape == (4, 512)
    assert not side().any()
    head = build_head(settings, 20, 2, 2).eval()
    levels = [torch.randn(1, 20, 4, 4) for _ in range(4)]
    assert torch.equal(head(levels, side()).pooled[0], head(levels).pooled[0])
    store_text_features(head, side)


@pytest.mark.parametrize("encoder", ["compact", "open_clip:ViT-B-32"])
def test_encoders_that_cannot_learn_a_context_are_refused(encoder):
    with pytest.raises(SettingsError) as raised:
        build_text_side(small(), TextSettings(slots=16), encoder, WORDS)
    assert str(raised.value) == (
        f"text.slots is 16: the encoder {encoder!r} has no text tower for it; use the encoder conch or "
        "conch-released, or set slots to 0"
    )
    with pytest.raises(SettingsError, match=r"text\.layout is 'released': .* or set layout to 'own'"):
        build_text_side(small(), TextSettings(layout="released"), encoder, WORDS)


def test_a_head_for_other_text_features_is_refused():
    with pytest.raises(
        SettingsError,
        match=r"head\.text_dim is 512: the text features for the encoder 'compact' have "
        "length 384; set text_dim to 384",
    ):
        build_text_side(small(), TextSettings(), "compact", WORDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slots": -1}, r"slots is -1; use 0 \(no learned context\) to 64"),
        ({"start": "words"}, "start is 'words'; choose one of tiled, released, noise"),
        ({"layout": "conch"}, "layout is 'conch'; choose one of own, released"),
    ],
)
def test_wrong_settings_are_refused(change, message):
    with pytest.raises(SettingsError, match=message):
        TextSettings(**change)
    assert from_data(TextSettings, to_data(TextSettings(slots=3))) == TextSettings(slots=3)
