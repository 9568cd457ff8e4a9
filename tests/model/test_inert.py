"""Checkpoints whose pickle holds more than tensors: tensors come out, nothing is run."""

from __future__ import annotations

import argparse
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from dualproto_wsi.errors import ModelNotFound, WeightsMismatch
from dualproto_wsi.model.inert import Inert, read_checkpoint


class ListOfThings(list):
    pass


class DictOfThings(dict):
    pass


class SetOfThings(set):
    pass


def test_tensors_come_out_beside_objects_of_any_kind(tmp_path):
    layer = nn.Linear(3, 2)
    config = argparse.Namespace(rate=0.1, kinds=ListOfThings([1, 2]), names=DictOfThings(a=1), ids=SetOfThings({1}))
    file = tmp_path / "checkpoint.pth"
    optimizer = torch.optim.AdamW(layer.parameters())
    torch.save(
        {
            "cfg": config,
            "epoch": 3,
            "model": layer.state_dict(),
            "optimizer": optimizer.state_dict(),
            "p": layer.weight,
        },
        file,
    )
    loaded = read_checkpoint(file)
    assert loaded["epoch"] == 3
    assert isinstance(loaded["cfg"], Inert)
    assert isinstance(loaded["model"], OrderedDict)
    assert torch.equal(loaded["model"]["weight"], layer.weight)
    assert torch.equal(loaded["p"], layer.weight)


def test_views_of_one_storage_keep_their_shapes(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    torch.save({"a": base, "b": base.T, "c": base[1:, ::2], "half": base.bfloat16()}, tmp_path / "views.pth")
    loaded = read_checkpoint(tmp_path / "views.pth")
    for key, expected in {"a": base, "b": base.T, "c": base[1:, ::2], "half": base.bfloat16()}.items():
        assert torch.equal(loaded[key], expected)


@pytest.mark.parametrize(
    "reduce",
    [
        lambda witness: (Path.touch, (witness,)),
        lambda witness: (eval, (f"__import__('pathlib').Path({str(witness)!r}).touch()",)),
        lambda witness: (exec, (f"open({str(witness)!r}, 'w')",)),
        lambda witness: (getattr, (witness, "touch")),
        lambda witness: (torch.load, (str(witness),)),
    ],
)
def test_nothing_is_run(tmp_path, reduce):
    witness = tmp_path / "witness"

    class Payload:
        def __reduce__(self):
            return reduce(witness)

    file = tmp_path / "evil.pth"
    torch.save({"x": Payload(), "weight": torch.ones(2)}, file)
    loaded = read_checkpoint(file)
    assert isinstance(loaded["x"], Inert)
    assert torch.equal(loaded["weight"], torch.ones(2))
    assert not witness.exists()


def test_an_archive_that_torch_would_run_is_refused(tmp_path):
    file = tmp_path / "script.pt"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{name}", b"")
    with pytest.raises(
        WeightsMismatch, match=r"script\.pt: not a checkpoint that torch\.save wrote, or a truncated one"
    ):
        read_checkpoint(file)


def test_files_of_another_kind(tmp_path):
    with pytest.raises(ModelNotFound, match=r"gone\.pth: no such checkpoint"):
        read_checkpoint(tmp_path / "gone.pth")
    file = tmp_path / "old.pth"
    torch.save({"a": torch.ones(2)}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsMismatch, match=r"old\.pth: not a checkpoint that torch\.save wrote"):
        read_checkpoint(file)
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    with pytest.raises(WeightsMismatch, match=r"list\.pth: holds a list, not a dict"):
        read_checkpoint(tmp_path / "list.pth")
    with zipfile.ZipFile(tmp_path / "zip.pth", "w") as archive:
        archive.writestr("zip/data.pkl", b"\x80\x02}q\x00.")
    with pytest.raises(WeightsMismatch, match=r"zip\.pth: cannot be read as a checkpoint \("):
        read_checkpoint(tmp_path / "zip.pth")
