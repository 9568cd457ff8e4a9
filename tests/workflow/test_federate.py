"""Heads of several sites become one: weighted class by class, and only where that makes sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dualproto_wsi.cli.main import main
from dualproto_wsi.errors import BundleInvalid, DataError, OutputError, SettingsError
from dualproto_wsi.model.checkpoint import find_model, load_model, read_bundle, write_bundle
from dualproto_wsi.settings import train_settings
from dualproto_wsi.workflow.training.continuing import continued_settings
from dualproto_wsi.workflow.training.federate import (
    aggregate_sites,
    average,
    export_site,
    parse_positives,
    site_weights,
)
from dualproto_wsi.workflow.training.train import train_model

NAMES = ("Tumor", "Stroma", "Lymphocyte")
START = "0123456789abcdef"


def make_site(folder: Path, name: str, positives: tuple[int, ...], shift: float = 0.0, **card) -> Path:
    """Write the built-in model with its tensors shifted, as a site that trained on it would send it."""
    original = read_bundle(find_model("builtin"))
    training = {
        **original.card.training,
        "started_from": START,
        "positives": dict(zip(NAMES, positives, strict=True)),
        **card.pop("training", {}),
    }
    moved = {key: tensor + shift for key, tensor in original.head.items()}
    local = folder / f"{name}-local.safetensors"
    write_bundle(local, replace(original, card=replace(original.card, training=training, **card), head=moved))
    export_site(str(local), folder / f"{name}.safetensors", name)
    return folder / f"{name}.safetensors"


def test_what_travels_names_no_patient(tmp_path: Path) -> None:
    site = make_site(tmp_path, "A", (5, 4, 3))
    bundle, original = read_bundle(site), read_bundle(find_model("builtin"))
    sent, told = site.read_bytes(), bundle.card.training
    assert not [patient for patient in original.card.training["patients"] if patient.encode() in sent]
    assert told["patients_trained_on"] == len(original.card.training["patients"]) > 0
    assert told["positives"] == {"Tumor": 5, "Stroma": 4, "Lymphocyte": 3}
    assert bundle.head.keys() == original.head.keys()
    assert not bundle.encoder


def test_an_adapted_encoder_stays_and_is_found_again(tmp_path: Path) -> None:
    sites = [make_site(tmp_path, "A", (1, 1, 1)), make_site(tmp_path, "B", (1, 1, 1), 1.0)]
    with pytest.raises(BundleInvalid, match=r"A.safetensors: its encoder was adapted, but is not in the file; .*fed a"):
        load_model(sites[0])
    original = read_bundle(find_model("builtin"))
    aggregate_sites(sites, tmp_path / "both.safetensors")
    merged = read_bundle(tmp_path / "both.safetensors")
    assert merged.encoder.keys() == original.encoder.keys()
    assert all(torch.equal(merged.encoder[name], tensor) for name, tensor in original.encoder.items())
    load_model(tmp_path / "both.safetensors")

    other = {"encoder_hash": "f" * 16}
    strange = [make_site(tmp_path, name, (1, 1, 1), **other) for name in "CD"]
    out = tmp_path / "out.safetensors"
    with pytest.raises(DataError, match=r"no built-in model holds the sites' encoder, compact with weights ffff.*--st"):
        aggregate_sites(strange, out)
    with pytest.raises(DataError, match=r"--start builtin: does not hold the sites' encoder"):
        aggregate_sites(strange, out, "builtin")
    card = replace(original.card, encoder_hash="f" * 16)
    write_bundle(tmp_path / "start.safetensors", replace(original, card=card))
    aggregate_sites(strange, out, str(tmp_path / "start.safetensors"))
    assert read_bundle(out).encoder.keys() == original.encoder.keys()


def test_weights_by_class_and_in_sum(tmp_path: Path) -> None:
    sites = [make_site(tmp_path, "A", (30, 0, 10), 0.0), make_site(tmp_path, "B", (10, 0, 50), 1.0)]
    out = tmp_path / "both.safetensors"
    card = aggregate_sites(sites, out)
    start, merged = read_bundle(find_model("builtin")).head, read_bundle(out).head
    shift = (merged["bank.image"] - start["bank.image"]).reshape(3, -1)
    torch.testing.assert_close(shift.mean(1), torch.tensor([0.25, 0.6, 5 / 6]), atol=1e-5, rtol=0)
    other = merged["refiner.project.weight"] - start["refiner.project.weight"]
    torch.testing.assert_close(other, torch.full_like(other, 0.6), atol=1e-5, rtol=0)
    assert card.training["positives"] == {"Tumor": 40, "Stroma": 0, "Lymphocyte": 60}
    assert [site["site"] for site in card.training["federated"]] == ["A", "B"]
    assert card.scores == {}
    assert "not yet measured" in load_model(out).card.limits


def test_calibration_is_averaged(tmp_path: Path) -> None:
    sites = [
        make_site(tmp_path, "A", (1, 1, 1), temperature=1.0, bias=(0.3, 0.0, -0.3)),
        make_site(tmp_path, "B", (1, 1, 1), temperature=4.0, bias=(0.1, 0.0, -0.1)),
    ]
    card = aggregate_sites(sites, tmp_path / "both.safetensors")
    assert card.temperature == pytest.approx(2.0)
    assert card.bias == pytest.approx((0.2, 0.0, -0.2))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict[str, Path]:
    """Train bundles of two sites, fresh with one seed and with another, and going on from the built-in model."""
    root = tmp_path_factory.mktemp("sites")
    generator = np.random.default_rng(0)
    bundles = {}
    for site, images in (("A", 4), ("B", 6)):
        lines = ["path,patient,mpp,Tumor,Stroma,Lymphocyte"]
        (root / site).mkdir()
        for number in range(images):
            pixels = generator.integers(100, 250, (64, 64, 3), dtype=np.uint8)
            cv2.imwrite(str(root / site / f"{number}.png"), pixels)
            lines.append(f"{number}.png,{site}{number},0.5,{number % 2},{1 - number % 2},{number // 2 % 2}")
        (root / site / "labels.csv").write_text("\n".join(lines) + "\n")
        own = {"data": {"layout": "table", "workers": 1}, "optimiser": {"epochs": 1}, "device": "cpu"}
        fresh = train_settings(
            {
                **own,
                "encoder": {"adapt": 0.0},
                "head": {"text": False},
                "validation": {"share": 0.0, "select": "last", "calibration": "none"},
            }
        )
        fresh = replace(fresh, data=replace(fresh.data, classes=NAMES))
        jobs = {
            f"{site} fresh": fresh,
            f"{site} other seed": replace(fresh, seed=1),
            f"{site} continued": continued_settings({**own, "continuing": {"model": "builtin"}}),
        }
        for name, settings in jobs.items():
            bundles[name] = root / f"{name}.safetensors"
            train_model(root / site, bundles[name], settings)
    return bundles


def send(bundle: Path, site: str) -> Path:
    out = bundle.with_name(f"{bundle.stem} sent.safetensors")
    export_site(str(bundle), out, site)
    return out


@pytest.mark.parametrize("kind", ["fresh", "continued"])
def test_trained_bundles_of_two_sites_become_one(trained, tmp_path, kind) -> None:
    sites = [send(trained[f"{site} {kind}"], site) for site in "AB"]
    card = aggregate_sites(sites, tmp_path / "both.safetensors")
    assert card.training["positives"] == {"Tumor": 5, "Stroma": 5, "Lymphocyte": 4}
    cards = [read_bundle(site).card for site in sites]
    assert {c.training["started_from"] for c in cards} == {card.training["started_from"]}
    assert not any("patients" in c.training for c in cards)
    again = continued_settings({"continuing": {"model": str(tmp_path / "both.safetensors")}})
    assert again.head == card.head  # the next round starts from it


def test_sites_that_started_apart_are_refused(trained, tmp_path) -> None:
    for one, other in (("A fresh", "B other seed"), ("A fresh", "B continued")):
        sites = [send(trained[one], "A"), send(trained[other], "B")]
        with pytest.raises(DataError, match=r"(starting weights|encoder) differ"):
            aggregate_sites(sites, tmp_path / "out.safetensors")


counts = st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=2, max_size=4).filter(
    lambda sites: sum(map(sum, sites)) > 0
)


@given(counts)
def test_weights_sum_to_one(positives: list[list[int]]) -> None:
    shared, of_class = site_weights(np.array(positives, np.float64))
    assert shared.sum() == pytest.approx(1)
    assert of_class.sum(0).tolist() == pytest.approx([1, 1, 1])


@given(counts, st.randoms())
def test_order_does_not_matter_and_equal_heads_stay(positives: list[list[int]], random) -> None:
    generator = torch.Generator().manual_seed(random.randrange(1000))
    heads = [
        {"bank.image": torch.randn(6, 4, generator=generator), "factors": torch.randn(2, generator=generator)}
        for _ in positives
    ]
    order = list(range(len(heads)))
    random.shuffle(order)
    one = average(heads, np.array(positives, np.float64))
    other = average([heads[i] for i in order], np.array(positives, np.float64)[order])
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name])
    same = average([heads[0]] * len(heads), np.array(positives, np.float64))
    assert all(torch.equal(same[name], heads[0][name]) for name in same)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": {"started_from": "ffff"}}, "starting weights differ"),
        ({"encoder_hash": "ffff"}, "encoder differ"),
        ({"mpp": 0.25}, "resolution differ"),
    ],
)
def test_sites_that_do_not_fit(tmp_path: Path, change: dict, message: str) -> None:
    sites = [make_site(tmp_path, "A", (1, 1, 1)), make_site(tmp_path, "B", (1, 1, 1), **change)]
    with pytest.raises(DataError, match=rf"A.safetensors and B.safetensors: {message} .*train --continue"):
        aggregate_sites(sites, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_refusals(tmp_path: Path) -> None:
    site = make_site(tmp_path, "A", (1, 1, 1))
    out = tmp_path / "out.safetensors"
    with pytest.raises(DataError, match=r"1 site\(s\) given; averaging needs two or more"):
        aggregate_sites([site], out)
    with pytest.raises(DataError, match=r"site 'A' is there more than once"):
        aggregate_sites([site, site], out)
    with pytest.raises(OutputError, match=r"ends in \.safetensors"):
        aggregate_sites([site, site], tmp_path / "out.bin")
    with pytest.raises(OutputError, match=r"not be the model itself"):
        export_site(str(site), site, "A")
    with pytest.raises(DataError, match=r"--positives names Tumor; its classes are Tumor, Stroma, Lymphocyte"):
        export_site("builtin", out, "A", {"Tumor": 3})
    with pytest.raises(DataError, match=r"are all 0; give whole numbers"):
        export_site("builtin", out, "A", dict.fromkeys(NAMES, 0))
    for text in ("Tumor", "Tumor=x", "Tumor=1,Tumor=2", "=3"):
        with pytest.raises(SettingsError, match=r"is not CLASS=NUMBER"):
            parse_positives(text)


def test_unknown_start_is_refused(tmp_path: Path) -> None:
    original = read_bundle(find_model("builtin"))
    training = {key: value for key, value in original.card.training.items() if key != "started_from"}
    counts = dict(zip(NAMES, (1, 1, 1), strict=True))
    for name in "AB":
        local = tmp_path / f"{name}-local.safetensors"
        write_bundle(local, replace(original, card=replace(original.card, training=training)))
        export_site(str(local), tmp_path / f"{name}.safetensors", name, counts)
    with pytest.raises(DataError, match=r"does not say what its training started from"):
        aggregate_sites([tmp_path / "A.safetensors", tmp_path / "B.safetensors"], tmp_path / "out.safetensors")


def test_command_line(tmp_path: Path) -> None:
    sites = [str(make_site(tmp_path, name, (2, 3, 4))) for name in "AB"]
    sent = tmp_path / "again.safetensors"
    done = CliRunner().invoke(main, ["fed", "export", sites[0], "-o", str(sent), "--site", "C"])
    assert done.exit_code == 0, done.output
    assert done.output == f"{sent}: {sent.stat().st_size / 1e6:.2f} MB, all that travels\n"
    out = tmp_path / "all.safetensors"
    done = CliRunner().invoke(main, ["fed", "aggregate", *sites, str(sent), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "A: positive images Tumor 2, Stroma 3, Lymphocyte 4" in done.output
    assert load_model(out).card.name == "all"


@pytest.mark.parametrize("verb", ["export", "aggregate"])
def test_help(verb: str) -> None:
    done = CliRunner().invoke(main, ["fed", verb, "--help"])
    assert done.exit_code == 0 and "-o, --out" in done.output
