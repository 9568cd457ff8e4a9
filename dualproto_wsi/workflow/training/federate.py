"""Several sites, one model: heads travel and are averaged, images stay where they are.

Federated averaging (McMahan et al., 2017), with one refinement: what belongs to a class, its prototypes, is weighted by
how many positive images of that class a site has; everything shared by their sum. Sites must have started from the same
weights: prototypes that grew from different ones do not correspond, and their mean is noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dualproto_wsi.errors import DataError, OutputError, SettingsError
from dualproto_wsi.model.card import ModelCard, PresenceGate
from dualproto_wsi.model.checkpoint import Bundle, find_model, list_models, read_bundle, write_bundle
from dualproto_wsi.model.heads import CLASS_TENSORS
from dualproto_wsi.workflow.training.card import POSITIVES, STARTED_FROM

KEPT = ("data", "labels", "images", "settings", POSITIVES, STARTED_FROM, "continued")
"""What of a card's ``training`` leaves a site; patients and files never do."""


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """What one site sends.

    Parameters
    ----------
    path : Path
        The bundle.
    card : ModelCard
    head : mapping of str to Tensor
        Its state.
    """

    path: Path
    card: ModelCard
    head: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Site:
        """Read one; errors as for :func:`~dualproto_wsi.model.checkpoint.read_bundle`."""
        bundle = read_bundle(path)
        return cls(path, bundle.card, bundle.head)

    @property
    def name(self) -> str:
        """How the site calls itself."""
        return str(self.card.training.get("site", self.path.stem))

    @property
    def positives(self) -> NDArray[np.float64]:
        """Positive images of each class, (K,)."""
        counts = self.card.training[POSITIVES]
        return np.array([counts[name] for name in self.card.classes.names], np.float64)


def export_site(model: str, out: Path, site: str, positives: Mapping[str, int] | None = None) -> int:
    """Write what a site sends: the head, and a card without patients and file names.

    Parameters
    ----------
    model : str
        A bundle, or a built-in model's name.
    out : Path
        ``.safetensors``; a bundle, but without its encoder where that was adapted: all sites have the same.
    site : str
        What the site is called.
    positives : mapping of str to int, or None
        Positive images of each class; None: as the card says.

    Returns
    -------
    int
        Its size, bytes: all that travels.

    Raises
    ------
    DataError
        If the card does not say how many positive images there were, or the numbers do not fit its classes.
    OutputError
        If `out` is the bundle itself, or does not end in ``.safetensors``.
    """
    path = find_model(model)
    if out.suffix != ".safetensors" or out.resolve() == path.resolve():
        raise OutputError(f"{out}: must end in .safetensors and not be the model itself; choose another -o")
    bundle = read_bundle(path)
    card = bundle.card
    counts = positives if positives is not None else card.training.get(POSITIVES)
    _check_positives(path, card, counts)
    training = {key: card.training[key] for key in KEPT if key in card.training}
    training |= {"site": site, POSITIVES: dict(counts or {}), "patients_trained_on": len(_patients(card))}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(out, Bundle(replace(card, training=training, scores=_nameless(card.scores)), bundle.head))
    return out.stat().st_size


def aggregate_sites(paths: Sequence[Path], out: Path, start: str = "") -> ModelCard:
    """Average the heads of several sites into one bundle.

    Parameters
    ----------
    paths : sequence of Path
        Two or more, each from :func:`export_site`.
    out : Path
        The bundle to write, ``.safetensors``.
    start : str
        Bundle or built-in model that all started from, for its encoder where that was adapted; empty: the built-in
        model with the sites' encoder.

    Returns
    -------
    ModelCard
        Of the new bundle. Its calibration is the weighted mean of the sites', and no score is claimed.

    Raises
    ------
    DataError
        If there are fewer than two, one occurs twice, or they do not fit together, or their encoder is not at hand.
    OutputError
        If `out` does not end in ``.safetensors``.
    """
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: a bundle's name ends in .safetensors; choose another name for -o")
    if len(paths) < 2:
        raise DataError(f"{len(paths)} site(s) given; averaging needs two or more")
    sites = [Site.read(path) for path in paths]
    for site in sites[1:]:
        _check_fit(sites[0], site)
    _check_names(sites)
    positives = np.stack([site.positives for site in sites])
    head = average([site.head for site in sites], positives)
    card = _average_card(out.stem, sites, positives)
    encoder = _find_encoder(card, start) if card.adapted_from else {}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(out, Bundle(card, head, encoder))
    return card


def _find_encoder(card: ModelCard, start: str) -> Mapping[str, Tensor]:
    """Return the weights of the sites' adapted encoder."""
    for name in [start] if start else list_models():
        bundle = read_bundle(find_model(name))
        if bundle.card.encoder_hash == card.encoder_hash and bundle.encoder:
            return bundle.encoder
    wanted = f"the sites' encoder, {card.encoder} with weights {card.encoder_hash}, which was adapted"
    if start:
        raise DataError(f"--start {start}: does not hold {wanted}; name the bundle that all sites started from")
    raise DataError(f"no built-in model holds {wanted}; name the bundle that all sites started from with --start")


def average(heads: Sequence[Mapping[str, Tensor]], positives: NDArray[np.float64]) -> dict[str, Tensor]:
    """Average heads of one shape.

    Parameters
    ----------
    heads : sequence of mapping of str to Tensor
        State dicts of heads.
    positives : ndarray of float64, shape (sites, K)
        Positive images. A class without any is weighted like what is shared.

    Returns
    -------
    dict of str to Tensor of float32
        Does not depend on the order of the sites, but for rounding; equal heads give themselves.
    """
    shared, of_class = site_weights(positives)
    averaged = {}
    for name, first in heads[0].items():
        stack = torch.stack([head[name].double() for head in heads])
        rows = [1] * (stack.ndim - 1)
        if name in CLASS_TENSORS:
            weights = of_class.repeat_interleave(len(first) // of_class.shape[1], 1)
            mean = (stack * weights.reshape(*weights.shape, *rows[1:])).sum(0)
        else:
            mean = (stack * shared.reshape(-1, *rows)).sum(0)
        averaged[name] = first.clone() if (stack == stack[0]).all() else mean.float()
    return averaged


def site_weights(positives: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Return the sites' weights for what is shared, (sites,), and for each class, (sites, K); both sum to 1."""
    counts = torch.from_numpy(positives)
    shared = counts.sum(1) / counts.sum()
    totals = counts.sum(0)
    of_class = torch.where(totals > 0, counts / totals.clamp_min(1), shared[:, None])
    return shared, of_class


def _check_positives(path: Path, card: ModelCard, counts: object) -> None:
    names = card.classes.names
    if not isinstance(counts, Mapping):
        raise DataError(
            f"{path}: its card does not say how many positive images each class had; "
            f"pass --positives {','.join(f'{name}=N' for name in names)}"
        )
    if set(counts) != set(names):
        raise DataError(f"{path}: --positives names {', '.join(map(str, counts))}; its classes are {', '.join(names)}")
    wrong = [f"{name}={count}" for name, count in counts.items() if not isinstance(count, int) or count < 0]
    if wrong or not sum(counts.values()):
        raise DataError(
            f"{path}: positives {', '.join(wrong) or 'are all 0'}; give whole numbers, one at least above 0"
        )


def _nameless(scores: dict[str, Any]) -> dict[str, Any]:
    """Return scores without the patients that were left out of them."""
    kept = {key: value for key, value in scores.items() if key != "left_out"}
    return {key: _nameless(value) if isinstance(value, dict) else value for key, value in kept.items()}


def _patients(card: ModelCard) -> Sequence[object]:
    patients = card.training.get("patients", ())
    return patients if isinstance(patients, list | tuple) else ()


def _check_names(sites: Sequence[Site]) -> None:
    names = [site.name for site in sites]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"site {twice[0]!r} is there more than once; each site counts once: name them with --site")


def _check_fit(one: Site, other: Site) -> None:
    """Check that two heads can be averaged."""
    pairs: dict[str, tuple[Any, ...]] = {
        "encoder": tuple(f"{s.card.encoder} {s.card.encoder_hash}" for s in (one, other)),
        "classes": (one.card.classes.names, other.card.classes.names),
        "descriptions": tuple([c.descriptions for c in s.card.classes] for s in (one, other)),
        "head": (one.card.head, other.card.head),
        "resolution": (one.card.mpp, other.card.mpp),
        "starting weights": tuple(s.card.training.get(STARTED_FROM, "unknown") for s in (one, other)),
    }
    for what, (first, second) in pairs.items():
        if first != second:
            raise DataError(
                f"{one.path.name} and {other.path.name}: {what} differ ({first} and {second}); "
                "start all sites from one bundle (train --continue)"
            )
    for site in (one, other):
        if STARTED_FROM not in site.card.training:
            raise DataError(
                f"{site.path}: its card does not say what its training started from; "
                "start all sites from one bundle (train --continue)"
            )
        if POSITIVES not in site.card.training:
            raise DataError(f"{site.path}: no export of a site; make one with `dualproto-wsi fed export`")
    shapes = [{name: tuple(tensor.shape) for name, tensor in site.head.items()} for site in (one, other)]
    if shapes[0] != shapes[1]:
        raise DataError(f"{one.path.name} and {other.path.name}: their heads have other tensors; export them again")


def _average_card(name: str, sites: Sequence[Site], positives: NDArray[np.float64]) -> ModelCard:
    shared, of_class = (weights.numpy() for weights in site_weights(positives))
    cards = [site.card for site in sites]
    names = cards[0].classes.names
    bias = (of_class * np.array([card.bias for card in cards])).sum(0)
    gates = [card.gate for card in cards]
    gate_bias = [gate.bias or (0.0,) * len(names) for gate in gates]
    return replace(
        cards[0],
        name=name,
        version="1",
        temperature=float(np.exp((shared * np.log([card.temperature for card in cards])).sum())),
        bias=tuple(map(float, bias)),
        gate=PresenceGate(
            strength=float((shared * [gate.strength for gate in gates]).sum()),
            scale=float(np.exp((shared * np.log([gate.scale for gate in gates])).sum())),
            bias=tuple(map(float, (of_class * np.array(gate_bias)).sum(0))),
            floor=min(gate.floor for gate in gates),
        ),
        training={
            "federated": [
                {
                    "site": site.name,
                    POSITIVES: site.card.training[POSITIVES],
                    "images": site.card.training.get("images"),
                }
                for site in sites
            ],
            POSITIVES: {k: int(n) for k, n in zip(names, positives.sum(0), strict=True)},
            STARTED_FROM: cards[0].training[STARTED_FROM],
        },
        scores={},
        limits=f"The average of {len(sites)} sites' heads, not yet measured. {cards[0].limits}".strip(),
    )


def parse_positives(text: str) -> dict[str, int]:
    """Return the counts of ``A=12,B=3``.

    Raises
    ------
    SettingsError
        If it is not of that form.
    """
    counts: dict[str, int] = {}
    for part in text.split(","):
        name, equals, number = part.strip().rpartition("=")
        if not equals or not name or not number.isdigit() or name in counts:
            raise SettingsError(f"--positives {text}: {part.strip()!r} is not CLASS=NUMBER, each class once")
        counts[name] = int(number)
    return counts
