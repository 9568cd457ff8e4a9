"""Tensors out of a training checkpoint whose pickle holds more than tensors, without running anything in it.

``torch.load(weights_only=True)`` refuses a checkpoint with, say, a configuration object in it. Here every global that
the pickle names, but for the few that make tensors, becomes an inert placeholder: it is never imported, let alone
called. What is not made of tensors, containers and plain values comes back as placeholders.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

from dualproto_wsi.errors import ModelNotFound, WeightsMismatch


class Inert:
    """Stands for an object or a function that a pickle names; takes whatever is done to it, and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        """Return another placeholder."""
        return Inert()

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget the item."""

    def append(self, item: Any) -> None:
        """Forget the item."""

    extend = add = append


def _rebuild(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: function(*args)  # a new one each time: what a pickle may set on it is gone with it


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        """Return what the pickle may use for a global: hardly ever the global."""
        match (module_name, global_name):
            case ("collections", "OrderedDict"):
                return OrderedDict
            case ("torch._utils", "_rebuild_tensor_v2"):
                return _rebuild(_rebuild_tensor_v2)
            case ("torch._utils", "_rebuild_parameter"):
                return _rebuild(_rebuild_parameter)
        return Inert


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read what ``torch.save`` wrote of a dict; see the module for what becomes of its parts.

    Parameters
    ----------
    path : Path
        In the zip format of torch 1.6 and later.

    Returns
    -------
    dict
        Tensors on the CPU, read from the disk when they are first used.

    Raises
    ------
    ModelNotFound
        If there is no such file.
    WeightsMismatch
        If it is truncated or no such file.
    """
    if not path.is_file():
        raise ModelNotFound(f"{path}: no such checkpoint")
    if not _is_checkpoint(path):
        raise WeightsMismatch(f"{path}: not a checkpoint that torch.save wrote, or a truncated one")
    reader: Any = SimpleNamespace(__name__="inert", Unpickler=_Unpickler)
    try:
        loaded = torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsMismatch(f"{path}: cannot be read as a checkpoint ({reason})") from error
    if not isinstance(loaded, dict):
        raise WeightsMismatch(f"{path}: holds a {type(loaded).__name__}, not a dict")
    return loaded


def _is_checkpoint(path: Path) -> bool:
    """Tell whether it is a zip of torch.save; an archive of TorchScript, which torch would run, is not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = [name.rpartition("/")[2] for name in archive.namelist()]
    return "data.pkl" in names and "constants.pkl" not in names
