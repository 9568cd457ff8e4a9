"""CONCH's text tower and the two layouts against the numbers of the released code; the tokenizer file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from dualproto_wsi.errors import ModelNotFound, WeightsMismatch
from dualproto_wsi.model.conch_text import (
    BEGIN,
    CONTEXT_SLOTS,
    END,
    PAD,
    PLACES,
    VOCABULARY,
    ConchText,
    ConchTextTower,
    ConchTokenizer,
    lay_out,
)
from dualproto_wsi.model.prompts import load_vocabulary
from dualproto_wsi.model.weights import read_tensors
from dualproto_wsi.model.zero_shot import build_zero_shot


def relative(found: torch.Tensor, expected: np.ndarray) -> float:
    """Return the largest difference as a share of the standard deviation of what is expected."""
    return float(np.abs(found.numpy() - expected).max() / expected.std())


@pytest.fixture(scope="module")
def tower(conch_file: Path) -> ConchTextTower:
    return ConchTextTower.from_file(conch_file)


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE of CONCH's kind, trained on a few words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    special = ["<pad>", "<start_of_text>", "<end_of_text>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["a histopathology image of tumor necrosis and fibrous stroma"] * 20, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start_of_text> $A <end_of_text>", special_tokens=[("<start_of_text>", 1), ("<end_of_text>", 2)]
    )
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(9)
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: Path) -> ConchTokenizer:
    return ConchTokenizer(tokenizer_file)


@torch.no_grad()
def test_text_features_are_those_of_conch(tower, rule):
    numbers = rule.numbers("conch")
    ids = torch.from_numpy(numbers["text_ids"]).long()[:, :PLACES]
    assert relative(tower(ids), numbers["text_features"]) < 1e-5


@torch.no_grad()
def test_short_prompts_are_cut_without_a_change(tower, rule):
    numbers = rule.numbers("conch")
    short = torch.from_numpy(numbers["text_ids"]).long()[:3, :PLACES]
    assert (short != PAD).sum(1).max() < 24
    assert relative(tower(short), numbers["text_features"][:3]) < 1e-5
    assert relative(tower(short[:1, :4]), numbers["text_features"][:1]) < 1e-5


@torch.no_grad()
def test_released_layout_gives_the_released_features(tower, rule):
    numbers = rule.numbers("head")
    ids = torch.from_numpy(numbers["released_prompt_ids"]).long()[::8]
    context = 0.3 * rule.array("prompt_learner.ctx", (4, CONTEXT_SLOTS, 768))
    assert relative(tower.released(ids, context), numbers["released_text_features"][::8]) < 1e-5


def test_released_prompts_are_laid_out_as_released(rule):
    expected = torch.from_numpy(rule.numbers("head")["released_prompt_ids"]).long()
    words = [[i for i in row.tolist() if END < i < VOCABULARY] for row in expected]
    found = lay_out(words, [i // 10 for i in range(40)])
    assert torch.equal(found[:, :77], expected)


def test_context_words_and_end_have_their_places():
    ids = lay_out([[7, 8], [9]], [0, 2], slots=3)
    assert ids.shape == (2, PLACES)
    assert ids[0, :8].tolist() == [BEGIN, VOCABULARY, VOCABULARY + 1, VOCABULARY + 2, 7, 8, END, PAD]
    assert ids[1, :7].tolist() == [BEGIN, VOCABULARY + 6, VOCABULARY + 7, VOCABULARY + 8, 9, END, PAD]
    assert lay_out([[7]])[0, :4].tolist() == [BEGIN, 7, END, PAD]


def test_words_without_a_place_are_dropped_and_the_end_stays():
    row = lay_out([list(range(10, 210))])[0]
    assert row[-1] == END
    assert row[-2] == 10 + PLACES - 3


def test_gradients_reach_the_context_alone(tower, tokenizer):
    words = tokenizer(["tumor", "stroma"])
    start = tower.initial_context(tokenizer, 2)
    context = start.requires_grad_()
    tower(lay_out(words, [0, 1]), context)[0, 0].backward()
    gradient = context.grad
    assert gradient[0].abs().sum() > 0
    assert gradient[1].abs().sum() == 0  # the context of the other class
    assert all(p.grad is None for p in tower.parameters())


def test_context_starts_from_the_words_repeated(tower, tokenizer):
    context = tower.initial_context(tokenizer, 3)
    words = tokenizer(["a histopathology image of"])[0]
    assert context.shape == (3, CONTEXT_SLOTS, 768)
    for slot in range(CONTEXT_SLOTS):
        assert torch.equal(context[2, slot], tower.text.token_embedding.weight[words[slot % len(words)]])


def test_tokenizer_gives_words_alone_in_lower_case(tokenizer, tokenizer_file):
    plain = Tokenizer.from_file(str(tokenizer_file))
    assert tokenizer(["Tumor  NECROSIS"]) == tokenizer(["tumor  necrosis"])
    words = tokenizer(["tumor", "a histopathology image of tumor necrosis and fibrous stroma and tumor"])
    assert len(words[0]) < 9 < len(words[1])  # neither padded nor cut, whatever the file says
    assert plain.decode(words[0]).strip() == "tumor"
    assert not {PAD, BEGIN, END} & set(words[0] + words[1])


def test_tokenizer_from_the_environment_and_from_an_installed_package(tokenizer_file, monkeypatch, tmp_path):
    monkeypatch.setenv("DUALPROTO_CONCH_TOKENIZER", str(tokenizer_file))
    assert ConchTokenizer()(["tumor"])
    monkeypatch.delenv("DUALPROTO_CONCH_TOKENIZER")
    with pytest.raises(
        ModelNotFound, match=r"no tokenizer of CONCH is on this machine: take conch_byte_level_bpe_unca"
    ):
        ConchTokenizer()
    folder = tmp_path / "conch" / "open_clip_custom" / "tokenizers"
    folder.mkdir(parents=True)
    (tmp_path / "conch" / "__init__.py").write_text("raise RuntimeError('only its file is wanted')")
    (folder / "conch_byte_level_bpe_uncased.json").write_bytes(tokenizer_file.read_bytes())
    monkeypatch.syspath_prepend(tmp_path)
    assert ConchTokenizer()(["tumor"])


def test_tokenizer_file_must_exist_and_be_conchs(tokenizer_file, tmp_path):
    with pytest.raises(ModelNotFound, match=r"gone\.json: no such tokenizer file; take conch_byte_level_bpe_uncased"):
        ConchTokenizer(tmp_path / "gone.json")
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(WeightsMismatch, match=r"broken\.json: not a tokenizer file \(.*\); give CONCH's"):
        ConchTokenizer(broken)
    data = json.loads(tokenizer_file.read_text())
    data["added_tokens"] = []
    del data["model"]["vocab"]["<pad>"]
    del data["post_processor"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(data))
    with pytest.raises(WeightsMismatch, match=r"other\.json: not CONCH's tokenizer: \d+ tokens with .*'<pad>': None"):
        ConchTokenizer(other)


def test_zero_shot_with_conch(conch_file, tokenizer_file, tmp_path):
    scheme = load_vocabulary("bcss", only=["Tumor", "Necrosis"])
    model = build_zero_shot("conch", scheme, conch_file, tokenizer_file, tmp_path)
    assert (model.window_px, model.stride_px, model.mpp, model.text_features.shape) == (448, 4, 0.5, (20, 512))
    assert model(torch.zeros(1, 32, 48, 3, dtype=torch.uint8)).shape == (1, 2, 8, 12)
    again = build_zero_shot("conch", scheme, conch_file, tmp_path / "no tokenizer is needed", tmp_path)
    assert torch.equal(again.text_features, model.text_features)
    with pytest.raises(ValueError, match="images are 40 x 32 px; the encoder 'conch' needs multiples of 16 px"):
        model(torch.zeros(1, 32, 40, 3, dtype=torch.uint8))


def test_places_are_counted_before_words_are_dropped(conch_file, tokenizer_file, tokenizer):
    texts = ["tumor", "fibrous stroma " * 30, "tumor " * 200]
    encoder = ConchText(conch_file, tokenizer_file)
    counts = encoder.count_tokens(texts)
    taken = (lay_out(tokenizer(texts)) != PAD).sum(1).tolist()
    assert [min(count, encoder.max_tokens) for count in counts] == taken
    assert encoder.max_tokens == PLACES < counts[2]


def test_another_models_text_tower_is_refused(conch_file):
    state = read_tensors(conch_file)
    state["text.token_embedding.weight"] = torch.zeros(49408, 768)
    with pytest.raises(
        WeightsMismatch,
        match=r"x\.bin: not the weights of CONCH's text tower: 1 of another shape \(text\.token_embedding\.weight "
        r"\(49408, 768\) for \(32007, 768\)\)",
    ):
        ConchTextTower(state, "x.bin")
