"""CONCH's image tower against the numbers of CONCH's own code, and its weights files."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from dualproto_wsi.errors import DownloadError, ModelNotFound, SettingsError, WeightsMismatch
from dualproto_wsi.model import conch_files
from dualproto_wsi.model.conch import MEAN, STD, TAPS, ConchEncoder, ReleasedConchEncoder
from dualproto_wsi.model.encoder import build_encoder
from dualproto_wsi.model.weights import read_tensors


def relative(found: torch.Tensor, expected: np.ndarray) -> float:
    """Return the largest difference as a share of the standard deviation of what is expected."""
    return float(np.abs(found.numpy() - expected).max() / expected.std())


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, 2))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def encoder(conch_file: Path) -> ConchEncoder:
    return ConchEncoder.from_file(conch_file)


@pytest.fixture(scope="module")
def picture(rule):
    """Return the reference input of a size, as RGB 0…1."""

    def make(side: int) -> torch.Tensor:
        coarse = rule.array(f"image{side}", (1, 3, side // 16, side // 16))
        smooth = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
        pixels = smooth + 0.3 * rule.array(f"image{side}.fine", (1, 3, side, side))
        return pixels * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)

    return make


@pytest.mark.parametrize("side", [224, 448])
def test_levels_and_embeddings_are_those_of_conch(encoder, picture, rule, side):
    numbers = rule.numbers("conch")
    levels = encoder.encode(picture(side))
    assert [tuple(level.shape) for level in levels] == [(1, 768, side // 16, side // 16)] * 4
    for block, level in zip(TAPS, levels, strict=True):
        tokens = level[0].permute(1, 2, 0)[::4, ::4, ::8]
        assert relative(tokens, numbers[f"tokens_{side}_block{block}"]) < 1e-5
    pooled = encoder._pool(encoder._tokens(picture(side)))
    for project, name in [(True, "proj"), (False, "noproj")]:
        embedding = encoder._contrast(pooled, project)[0].detach()
        assert relative(embedding, numbers[f"pooled_{name}_{side}"]) < 1e-5


def test_embed_is_the_contrast_of_the_pool(encoder, picture):
    image = picture(224)[:, :, :32, :64]
    for project in (True, False):
        expected = encoder._contrast(encoder._pool(encoder._tokens(image)), project)
        torch.testing.assert_close(encoder.embed(image, project), expected)
        torch.testing.assert_close(expected.norm(dim=1), torch.ones(1))


def test_patch_embedding_is_the_pool_of_one_token(encoder, picture):
    image = picture(224)[:, :, :64, :96]
    patches = encoder.patch_embeddings(image)
    assert patches.shape == (1, 512, 4, 6)
    tokens = encoder._tokens(image)
    for row, column in [(0, 0), (2, 5), (3, 1)]:
        token = tokens[:, 1 + row * 6 + column][:, None]
        pooled = encoder._contrast(encoder._pool(token), project=True)
        torch.testing.assert_close(patches[:, :, row, column], pooled, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
def test_half_precision_stays_near(encoder, picture, dtype, tolerance):
    image = picture(224)[:, :, :96, :96]
    exact = encoder.encode(image)
    with torch.autocast("cpu", dtype=dtype):
        mixed = encoder.encode(image)
    for a, b in zip(exact, mixed, strict=True):
        assert b.dtype == torch.float32
        assert relative(b, a.numpy()) < tolerance * 3
        assert (a - b).std() / a.std() < tolerance / 2


def test_whole_encoder_can_be_cast(conch_file, picture):
    image = picture(224)[:, :, :64, :64]
    encoder = ConchEncoder.from_file(conch_file)
    exact = encoder.encode(image)[-1]
    cast = encoder.to(torch.bfloat16).encode(image)[-1]
    assert cast.dtype == torch.float32
    assert (exact - cast).std() / exact.std() < 0.05


def test_released_pixels_are_blue_first_with_their_own_statistics(encoder, conch_file, picture):
    released = ReleasedConchEncoder.from_file(conch_file)
    image = picture(224)[:, :, :64, :64]
    bgr = image.flip(1)
    mean = torch.tensor([0.66791496, 0.47791372, 0.70623304]).view(1, 3, 1, 1)
    std = torch.tensor([0.1736589, 0.22564577, 0.19820057]).view(1, 3, 1, 1)
    torch.testing.assert_close(released.encode(image)[3], encoder.levels((bgr - mean) / std)[3])
    assert (released.name, released.dim) == ("conch-released", 768)
    assert released.hash != encoder.hash


def test_same_weights_same_hash_and_no_text_tower(encoder, conch_file):
    assert build_encoder("conch", conch_file).hash == encoder.hash
    assert sum(p.numel() for p in encoder.parameters()) < 90e6
    assert not any(p.requires_grad for p in encoder.parameters())


def test_safetensors_are_read_too(conch_file, encoder, tmp_path):
    visual = {key: value for key, value in read_tensors(conch_file).items() if key.startswith("visual.")}
    file = tmp_path / "conch.safetensors"
    save_file(visual, file)
    assert ConchEncoder.from_file(file).hash == encoder.hash
    file.unlink()


def test_another_models_keys_are_named(conch_file):
    state = read_tensors(conch_file)
    del state["visual.ln_contrast.bias"]
    state["visual.head.weight"] = torch.zeros(3)
    state["visual.trunk.pos_embed"] = torch.zeros(1, 197, 768)
    with pytest.raises(WeightsMismatch) as caught:
        ConchEncoder(state, "other.bin")
    assert str(caught.value) == (
        "other.bin: not the weights of CONCH's image tower: 1 missing (visual.ln_contrast.bias); "
        "1 unknown (visual.head.weight); 1 of another shape (visual.trunk.pos_embed (1, 197, 768) for (1, 785, 768)); "
        "give the pytorch_model.bin of MahmoodLab/CONCH"
    )


def test_many_missing_keys_are_counted():
    with pytest.raises(
        WeightsMismatch, match=r"164 missing \(visual.attn_pool_contrast.attn.in_proj_bias, .*, …\); giv"
    ):
        ConchEncoder({"blocks.0.norm1.weight": torch.zeros(8)}, "uni.bin")


def test_truncated_file(tmp_path):
    whole = tmp_path / "whole.bin"
    torch.save({"visual.proj_contrast": torch.zeros(512, 512)}, whole)
    cut = tmp_path / "cut.bin"
    cut.write_bytes(whole.read_bytes()[:-1000])
    with pytest.raises(
        WeightsMismatch, match=r"cut\.bin: 1\.0 MB that cannot be read as weights \(.*\); the file is tru"
    ):
        ConchEncoder.from_file(cut)
    safe = tmp_path / "cut.safetensors"
    save_file({"a": torch.zeros(512)}, safe)
    safe.write_bytes(safe.read_bytes()[:-10])
    with pytest.raises(WeightsMismatch, match=r"cut\.safetensors: 0\.0 MB that cannot be read as weights"):
        ConchEncoder.from_file(safe)


def test_a_pickle_is_not_run(tmp_path):
    witness = tmp_path / "witness"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (witness,))

    file = tmp_path / "evil.bin"
    torch.save({"visual.proj_contrast": Payload()}, file)
    with pytest.raises(WeightsMismatch, match=r"evil\.bin: .* cannot be read as weights"):
        ConchEncoder.from_file(file)
    assert not witness.exists()


def test_a_file_of_other_things_than_tensors(tmp_path):
    file = tmp_path / "numbers.bin"
    torch.save({"epoch": 3}, file)
    with pytest.raises(WeightsMismatch, match="holds a dict with other things than tensors"):
        ConchEncoder.from_file(file)


def test_encoder_with_its_own_weights_refuses_others(tmp_path):
    with pytest.raises(
        SettingsError, match=r"--weights .*: the encoder 'compact' comes with its own; leave the option"
    ):
        build_encoder("compact", tmp_path / "x.bin")
    with pytest.raises(
        ModelNotFound, match="no encoder is called 'conch:448'; known are compact, conch, conch-released"
    ):
        build_encoder("conch:448")


@pytest.fixture
def no_conch(monkeypatch, tmp_path):
    """A machine without CONCH, token or hub cache."""
    for variable in ("DUALPROTO_CONCH_WEIGHTS", "DUALPROTO_CONCH_TOKENIZER", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def test_no_weights_anywhere_says_how_to_get_them(no_conch):
    with pytest.raises(ModelNotFound) as caught:
        build_encoder("conch")
    assert str(caught.value) == (
        "no weights of CONCH are on this machine: accept the licence (CC-BY-NC-ND) at "
        "https://huggingface.co/MahmoodLab/CONCH, then either download pytorch_model.bin and name it with --weights or "
        "$DUALPROTO_CONCH_WEIGHTS, or log in with `hf auth login`"
    )


def test_named_weights_must_exist(no_conch, monkeypatch, tmp_path):
    monkeypatch.setenv("DUALPROTO_CONCH_WEIGHTS", str(tmp_path / "gone.bin"))
    with pytest.raises(ModelNotFound, match=r"gone\.bin: no such file of CONCH weights; accept the licence"):
        conch_files.find_weights()
    present = tmp_path / "present.bin"
    present.touch()
    assert conch_files.find_weights(present) == present


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that refuses, for the reason in ``code``."""

    code: str

    def do_HEAD(self):
        self.send_response(403 if self.code == "GatedRepo" else 401)
        self.send_header("X-Error-Code", self.code)
        self.send_header("X-Error-Message", "refused")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 - the name that http.server calls

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "GatedRepo",
            r"MahmoodLab/CONCH: your Hugging Face account has not been given access; open https://.*, accept",
        ),
        ("RepoNotFound", "MahmoodLab/CONCH: the hub does not accept your token; log in again with `hf auth login`"),
    ],
)
def test_hub_that_refuses(no_conch, monkeypatch, code, message):
    server = http.server.HTTPServer(("127.0.0.1", 0), type("Refusing", (Hub,), {"code": code}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        with pytest.raises(DownloadError, match=message):
            conch_files.find_weights()
    finally:
        server.shutdown()
        server.server_close()


def test_hub_out_of_reach(no_conch, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        DownloadError, match=r"cannot be fetched from the Hugging Face hub \(.*\); on a machine without"
    ):
        conch_files.find_weights()
