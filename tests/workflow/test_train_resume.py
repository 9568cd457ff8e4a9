"""A training that is stopped, killed, or shared by several processes gives what an undisturbed one gives."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dualproto_wsi.errors import OutputError, SettingsError
from dualproto_wsi.model.checkpoint import read_bundle, read_card
from dualproto_wsi.model.encoder import build_encoder
from dualproto_wsi.settings import TrainSettings, to_data, to_toml, train_settings
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.training.train import TrainFiles, train_model

STILL = {"alike": False, "stain": 0.0, "tone": 0.0, "blur": 0.0, "zoom": 0.0}
ADAPTED = {"encoder": {"adapt": 0.2}, "augment": {"tone": 0.1, "blur": 0.5, "zoom": 0.2}}
PLAIN = {"augment": STILL, "objective": {"steadiness": 0.0, "absence": 0.0}}


def settings(**changes: Any) -> TrainSettings:
    """Return settings without a text side, for tiles."""
    base: dict[str, Any] = {
        "data": {"layout": "bcss-wsss", "workers": 2},
        "encoder": {"adapt": 0.0},
        "augment": {"tone": 0.0, "blur": 0.0, "zoom": 0.0},
        "head": {"text": False},
        "optimiser": {"epochs": 4, "batch_size": 8, "warm_up": 4},
        "device": "cpu",
    }
    for section, values in changes.items():
        base[section] = {**base.get(section, {}), **values} if isinstance(values, dict) else values
    return train_settings(base)


def card_of(bundle: Path) -> dict[str, Any]:
    """Return a bundle's card without the time that it took."""
    data = read_card(bundle).to_json()
    data["training"]["effort"].pop("seconds")
    return data


def log_of(bundle: Path) -> list[dict[str, str]]:
    with bundle.with_suffix(".csv").open() as file:
        return list(csv.DictReader(file))


class Stop(Exception):
    pass


class StopAfter(TrainListener):
    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def epoch_done(self, loss: float) -> None:
        self.left -= 1
        if not self.left:
            raise Stop


@pytest.mark.parametrize(
    "changes",
    [{}, {"validation": {"split": "", "select": "last", "folds": 2}}, ADAPTED],
    ids=["split", "folds", "adapted"],
)
def test_a_training_that_was_stopped_goes_on(tiles: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    chosen = settings(**changes)
    whole, stopped = tmp_path / "whole" / "a.safetensors", tmp_path / "stopped" / "a.safetensors"
    train_model(tiles, whole, chosen)
    for epochs in (1, 3):
        with pytest.raises(Stop):
            train_model(tiles, stopped, chosen, StopAfter(epochs))
    assert not stopped.exists()
    train_model(tiles, stopped, chosen)
    assert_same(whole, stopped)


def assert_same(one: Path, other: Path) -> None:
    """Check that two bundles and their logs are the same, times aside."""
    tensors = [load_file(path) for path in (one, other)]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(tensors[0][key], tensors[1][key]) for key in tensors[0])
    assert card_of(one) == card_of(other)
    logs = [[{**row, "seconds": ""} for row in log_of(path)] for path in (one, other)]
    assert logs[0] == logs[1]


def command(tiles: Path, bundle: Path, chosen: TrainSettings) -> list[str]:
    """Return a command line for settings of this file; the file of them lies beside the bundle."""
    bundle.parent.mkdir(parents=True, exist_ok=True)
    config = bundle.with_suffix(".toml")
    config.write_text(to_toml(to_data(chosen)))
    return ["-m", "dualproto_wsi", "train", str(tiles), "-o", str(bundle), "--config", str(config)]


def test_a_training_that_was_killed_goes_on(tiles: Path, tmp_path: Path) -> None:
    chosen = settings(optimiser={"epochs": 6})
    whole, killed = tmp_path / "whole" / "a.safetensors", tmp_path / "killed" / "a.safetensors"
    arguments = command(tiles, killed, chosen)
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL, env=_one_thread())
    deadline = time.monotonic() + 120
    log = killed.with_suffix(".csv")
    while not (log.is_file() and len(log.read_text().splitlines()) > 2) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not killed.exists() and list(killed.with_name("a.safetensors.training").glob("*.pt"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_model(tiles, killed, chosen)
        train_model(tiles, whole, chosen)
    finally:
        torch.set_num_threads(threads)
    assert_same(whole, killed)


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def test_checkpoints_of_another_training_are_refused(tiles: Path, tmp_path: Path) -> None:
    bundle, chosen = tmp_path / "a.safetensors", settings()
    with pytest.raises(Stop):
        train_model(tiles, bundle, chosen, StopAfter(1))
    other = replace(chosen, seed=1)
    with pytest.raises(SettingsError) as error:
        train_model(tiles, bundle, other)
    assert str(error.value) == (
        f"{bundle}.training: holds a training that was stopped, with other settings; run its command to go on, pass "
        "--force to begin anew, or choose another --checkpoint"
    )
    state = tmp_path / "a.safetensors.training" / "final.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(OutputError, match=r"final\.pt: a damaged checkpoint; delete it to fit 'final' anew"):
        train_model(tiles, bundle, chosen)
    report = train_model(tiles, bundle, other, files=TrainFiles(force=True, keep=True))
    assert report.card.training["effort"]["epochs"]["final"]["run"] == 4
    assert state.is_file()


@pytest.mark.slow
@pytest.mark.parametrize("adapt", [0.0, 0.2], ids=["frozen", "adapted"])
def test_two_processes_learn_what_one_does(tiles: Path, tmp_path: Path, adapt: float) -> None:
    chosen = settings(**PLAIN, optimiser={"epochs": 2, "batch_size": 6}, encoder={"adapt": adapt})
    one, two = tmp_path / "one" / "a.safetensors", tmp_path / "two" / "a.safetensors"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*torchrun, *command(tiles, two, chosen)], env=_one_thread(), capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    train_model(tiles, one, chosen)
    alone, together = (read_bundle(path) for path in (one, two))
    for key, tensor in alone.head.items():
        assert torch.allclose(tensor, together.head[key], rtol=1e-3, atol=1e-4), key
    if adapt:  # of weights with hardly any gradient Adam makes steps of which rounding decides: told by all together
        start = build_encoder("compact").state_dict()
        apart = sum((tensor - together.encoder[key]).square().sum() for key, tensor in alone.encoder.items())
        moved = sum((tensor - start[key]).square().sum() for key, tensor in alone.encoder.items())
        assert float(apart / moved) ** 0.5 < 0.02
    losses = [[float(row["loss"]) for row in log_of(path)] for path in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert read_card(two).training["effort"]["processes"] == 2
