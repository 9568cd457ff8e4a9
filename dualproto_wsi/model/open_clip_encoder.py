"""Encoders ``open_clip:MODEL[:PRETRAINED|FILE]``: any CLIP-like model with a ViT image tower that open_clip builds.

``MODEL`` is a name that open_clip knows (``ViT-B-32``), ``hf-hub:OWNER/NAME`` (QuiltNet, PLIP, BiomedCLIP …) or
``local-dir:FOLDER`` (the same files, downloaded by hand). ``PRETRAINED`` is one of open_clip's tags for the model,
``FILE`` a weights file. Without network: ``local-dir:``, or ``MODEL`` with ``FILE``.

Levels are the outputs of the blocks at a quarter, half, three quarters and the end of the tower's depth, without the
class token and without norm.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from dualproto_wsi.errors import DownloadError, ModelNotFound, SettingsError, WeightsMismatch
from dualproto_wsi.model.encoder import LEVELS, TextAlignedEncoder, hash_tensors
from dualproto_wsi.model.vit_tower import make_tower
from dualproto_wsi.model.weights import check_weights, read_tensors

PREFIX = "open_clip:"

_SCHEMAS = ("hf-hub:", "local-dir:")
_LOADING_ERRORS = (RuntimeError, ValueError, OSError, KeyError, EOFError, pickle.UnpicklingError, SafetensorError)


class OpenClipEncoder(TextAlignedEncoder):
    """The image tower of a CLIP-like model; the text tower is dropped.

    Sizes other than the one that the model was trained at get position embeddings resampled (bicubic, antialiased).

    Parameters
    ----------
    name : str
        ``open_clip:MODEL[:PRETRAINED|FILE]``. The attribute ``name`` leaves a file out: where it lies is no part of
        what the encoder is, and its ``hash`` is.
    weights : Path or None
        The file, if the name has none.
    mpp : float
        Resolution that it is used at, µm per px: these models do not say one.

    Raises
    ------
    ModelNotFound
        If open_clip does not know the model, or weights are neither named nor there.
    WeightsMismatch
        If the weights are another model's, or the image tower is no ViT.
    DownloadError
        If they cannot be fetched.
    """

    def __init__(self, name: str, weights: Path | None = None, mpp: float = 0.5) -> None:
        model, _, canonical = build_clip(name, weights)
        preprocessing = open_clip.get_model_preprocess_cfg(model)
        super().__init__(tuple(preprocessing["mean"]), tuple(preprocessing["std"]))
        self.name = canonical
        self.tower = make_tower(model.visual, canonical)
        self.dim = self.tower.width
        self.grid_px = self.step_px = self.tower.patch_px
        self.native_px = preprocessing["size"][0]
        self.mpp = mpp
        self.hash = hash_tensors(self.state_dict().items(), "open_clip 1")
        self.register_buffer("logit_scale", model.logit_scale.detach().float().exp().reshape(()), persistent=False)
        self.freeze()

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Return the outputs of four blocks, float32 (N, dim, H / grid_px, W / grid_px)."""
        depth = len(self.tower.blocks)
        taps = [max(round(depth * (level + 1) / LEVELS), 1) - 1 for level in range(LEVELS)]
        outputs = []
        tokens = self.tower.embed(pixels)
        for block in self.tower.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        return [self._grid(outputs[tap], pixels).float().contiguous() for tap in taps]

    @torch.no_grad()
    def patch_embeddings(self, images: Tensor) -> Tensor:
        """Return each patch in the space of the texts, float32 (N, E, H / grid_px, W / grid_px).

        In the last block a token attends to itself alone: the softmax over one key is 1, so attention is its value path
        (as in MaskCLIP; Zhou, Loy and Dai, 2022). Then the model's last norm and projection are applied to each token
        as if it were the pooled one.
        """
        tokens = self.tower.embed(self.normalise(images))
        for block in list(self.tower.blocks)[:-1]:
            tokens = block(tokens)
        tokens = self.tower.project(self.tower.attend_to_self(tokens))
        return F.normalize(self._grid(tokens, images).float(), dim=1)

    def _grid(self, tokens: Tensor, images: Tensor) -> Tensor:
        """Bring (N, prefix + h * w, C) to (N, C, h, w)."""
        rows, columns = images.shape[2] // self.grid_px, images.shape[3] // self.grid_px
        patches = tokens[:, self.tower.prefix :].transpose(1, 2)
        return patches.reshape(len(images), -1, rows, columns)


class OpenClipText:
    """The text tower of a CLIP-like model, with its own tokenizer.

    Parameters and errors as for :class:`OpenClipEncoder`.

    Attributes
    ----------
    dim : int
        Length of a text embedding.
    max_tokens : int
        The model's context length.
    """

    def __init__(self, name: str, weights: Path | None = None) -> None:
        self._model, identifier, canonical = build_clip(name, weights)
        self._model.eval()
        try:
            self._tokenizer = open_clip.get_tokenizer(identifier)
        except (OSError, ValueError, ImportError) as error:
            raise DownloadError(f"{canonical}: its tokenizer cannot be had ({_first_line(error)})") from error
        self.dim = self.features(["tissue"]).shape[1]
        self.max_tokens = int(self._tokenizer.context_length)

    @torch.no_grad()
    def features(self, texts: Sequence[str]) -> Tensor:
        """Return text embeddings, float32 (P, dim), of length 1; what is beyond the model's context length is cut."""
        return F.normalize(self._model.encode_text(self._tokenizer(list(texts))).float(), dim=-1)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many places each text takes, with beginning and end."""
        if isinstance(self._tokenizer, open_clip.SimpleTokenizer):
            return [len(self._tokenizer.encode(text)) + 2 for text in texts]
        cleaned = [self._tokenizer.clean_fn(text) for text in texts]
        return [len(ids) for ids in self._tokenizer.tokenizer(cleaned, verbose=False)["input_ids"]]


def build_clip(name: str, weights: Path | None = None) -> tuple[Any, str, str]:
    """Build a whole model.

    Returns
    -------
    model : Module
        With both towers.
    identifier : str
        What open_clip calls it.
    canonical : str
        The encoder's name, without a file.
    """
    rest = name.removeprefix(PREFIX)
    if rest.startswith(_SCHEMAS):
        if weights:
            raise SettingsError(f"--weights {weights}: {name} names its weights itself; leave the option out")
        return _create(rest, None, name), rest, name
    identifier, _, source = rest.partition(":")
    if identifier not in open_clip.list_models():
        close = ", ".join(get_close_matches(identifier, open_clip.list_models(), cutoff=0.4))
        raise ModelNotFound(f"{name}: open_clip has no model {identifier!r}; similar: {close or 'none'}")
    tags = open_clip.list_pretrained_tags_by_model(identifier)
    if source in tags:
        return _create(identifier, source, name), identifier, name
    file = Path(source) if source else weights
    if file is None or not file.is_file():
        raise ModelNotFound(
            f"{name}: {f'{file} is no weights file' if file else 'no weights named'}; add :FILE or one of open_clip's "
            f"tags: {', '.join(tags) or 'there are none for this model'}"
        )
    return _create_from_file(identifier, file), identifier, PREFIX + identifier


def _create(identifier: str, tag: str | None, name: str) -> Any:
    try:
        return open_clip.create_model(identifier, pretrained=tag, require_pretrained=True)
    except _LOADING_ERRORS as error:
        where = "check the folder" if "local-dir:" in name else "without network use local-dir:FOLDER or MODEL:FILE"
        raise DownloadError(f"{name}: cannot be loaded ({_first_line(error)}); {where}") from error


def _create_from_file(identifier: str, file: Path) -> Any:
    try:
        return open_clip.create_model(identifier, pretrained=str(file), require_pretrained=True)
    except _LOADING_ERRORS as error:
        needed = open_clip.create_model(identifier, pretrained_text=False).state_dict()
        check_weights(read_tensors(file), needed, str(file), f"open_clip's {identifier}", "name the model they are of")
        raise WeightsMismatch(f"{file}: open_clip cannot load it as {identifier} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
