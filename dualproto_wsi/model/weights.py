"""Weights files: tensors out of a file without running anything in it, and a mismatch told by key and shape."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dualproto_wsi.errors import ModelNotFound, WeightsMismatch

_NAMED = 3  # keys that a message spells out


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file; no code in it is run.

    Parameters
    ----------
    path : Path
        A ``.safetensors`` file, or what ``torch.save`` wrote of a state dict (also as the entry ``state_dict``).

    Returns
    -------
    dict of str to Tensor
        On the CPU; read from the disk when they are first used, where the format allows it.

    Raises
    ------
    ModelNotFound
        If there is no such file.
    WeightsMismatch
        If it is truncated or not a weights file.
    """
    if not path.is_file():
        raise ModelNotFound(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        size = path.stat().st_size / 1e6
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsMismatch(
            f"{path}: {size:.1f} MB that cannot be read as weights ({reason}); "
            "the file is truncated or of another kind: fetch it again"
        ) from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else loaded
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsMismatch(
            f"{path}: holds a {type(state).__name__} with other things than tensors, not a state dict"
        )
    return {str(key): value for key, value in state.items()}


def check_weights(found: Mapping[str, Tensor], needed: Mapping[str, Tensor], file: str, what: str, advice: str) -> None:
    """Compare keys and shapes.

    Parameters
    ----------
    found, needed : mapping of str to Tensor
        Of the file and of the model.
    file, what, advice : str
        For the message: the file's name, what the model is called, what to do.

    Raises
    ------
    WeightsMismatch
        If a key is missing or unknown or has another shape; it counts them and names the first few.
    """
    shapes = (
        f"{key} {tuple(found[key].shape)} for {tuple(needed[key].shape)}"
        for key in needed
        if key in found and found[key].shape != needed[key].shape
    )
    problems = [
        text
        for text in (
            _count("missing", (key for key in needed if key not in found)),
            _count("unknown", (key for key in found if key not in needed)),
            _count("of another shape", shapes),
        )
        if text
    ]
    if problems:
        raise WeightsMismatch(f"{file}: not the weights of {what}: {'; '.join(problems)}; {advice}")


def load_strictly(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module that was built on the ``meta`` device its weights, in float32 and without a copy of float32 ones.

    Parameters
    ----------
    module : Module
    state : mapping of str to Tensor
        Exactly its keys and shapes, as :func:`check_weights` assures.
    """
    module.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)


def _count(word: str, keys: Iterable[str]) -> str:
    names = sorted(keys)
    more = ", …" if len(names) > _NAMED else ""
    return f"{len(names)} {word} ({', '.join(names[:_NAMED])}{more})" if names else ""
