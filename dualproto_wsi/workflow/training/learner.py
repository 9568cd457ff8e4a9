"""A head that is being fitted: its weights, optimiser, schedule and chance, an epoch at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dualproto_wsi.data.augment import jitter_sharpness, jitter_stain, jitter_tone
from dualproto_wsi.model.encoder import hash_tensors
from dualproto_wsi.model.head import DualProtoHead
from dualproto_wsi.model.heads import Head, build_head
from dualproto_wsi.model.released import start_as_released
from dualproto_wsi.settings import OptimiserSettings, TrainSettings
from dualproto_wsi.workflow.training.features import FeatureCache, Features, zoomed_levels
from dualproto_wsi.workflow.training.keeping import make_keeper
from dualproto_wsi.workflow.training.loss import TERMS, Batch, Objective
from dualproto_wsi.workflow.training.objective import class_weights
from dualproto_wsi.workflow.training.processes import Processes
from dualproto_wsi.workflow.training.text_side import TextSide, store_text_features
from dualproto_wsi.workflow.training.windows import Chances, Sample, Step, WindowReader, read_ahead, turn


@dataclass(frozen=True, slots=True, eq=False)
class Teaching:
    """What all fits of a training share.

    Parameters
    ----------
    settings : TrainSettings
    names : tuple of str
        The K classes.
    features : Features
        The encoder, on the device to train on; where it is adapted, every fit adapts one of its own from it.
    text : TextSide
        On the same device; every fit begins with it as it was first.
    cache : FeatureCache or None
        Where features of whole images are kept.
    processes : Processes
    first : DualProtoHead, CamHead or None
        What every fit starts from, in evaluation mode on the same device; None: from a new head.
    """

    settings: TrainSettings
    names: tuple[str, ...]
    features: Features
    text: TextSide
    cache: FeatureCache | None = None
    processes: Processes = field(default_factory=Processes)
    first: Head | None = None


class Learner:
    """One fit.

    Parameters
    ----------
    teaching : Teaching
    samples : sequence of Sample
        What is learned from.
    text_start : dict of str to Tensor
        State of the text side to begin with.

    Attributes
    ----------
    head : DualProtoHead or CamHead
    features : Features
        The encoder: that of the teaching, or this fit's own.
    started_from : str
        Hash of its first weights: heads of several sites can be averaged where it is the same.

    Raises
    ------
    DataError
        If a class is in no crop, or in every one, and the head is new.
    """

    def __init__(self, teaching: Teaching, samples: Sequence[Sample], text_start: dict[str, Tensor]) -> None:
        settings, adapt = teaching.settings, teaching.settings.encoder.adapt
        features = self.features = teaching.features.copy() if adapt else teaching.features
        self._teaching, self._samples = teaching, samples
        first, crops = teaching.first, [s.crops for s in samples]
        weights = class_weights(crops, teaching.names, settings.objective.balance, partial=first is not None)
        torch.manual_seed(settings.seed)
        self._rng = np.random.default_rng(settings.seed)
        self._text = teaching.text
        self._text.load_state_dict(text_start)
        self.head = deepcopy(first).requires_grad_() if first else _new_head(teaching)
        self.started_from = hash_tensors(self.head.state_dict().items(), "head 1")
        rates = settings.optimiser
        self._optimiser = torch.optim.AdamW(
            [{"params": [*self.head.parameters(), *self._text.parameters()], "relative_rate": 1.0}],
            lr=rates.learning_rate,
            weight_decay=rates.weight_decay,
        )
        if adapt:  # weights that are worth keeping are not drawn towards 0
            group = {"params": features.encoder.thaw(), "relative_rate": adapt, "weight_decay": 0.0}
            self._optimiser.add_param_group(group)
        keep, keeper = settings.continuing.keep, None
        if first and keep:
            keeper = make_keeper(features, first, samples, teaching.cache, settings.data.workers)
        self._objective = Objective(settings.objective, weights.to(features.device), features, keeper, keep)
        self._chances = _chances(settings, features, self.head)
        self._reader = WindowReader(samples, settings.data.window_px)
        self._total = rates.epochs * self._chances.steps(samples)
        self._done = 0  # steps
        self._use_merge(settings.objective.merge or settings.head.merge)

    def epoch(self) -> dict[str, float]:
        """Learn from every sample once.

        Returns
        -------
        dict of str to float
            Mean over the steps of the terms of :data:`~dualproto_wsi.workflow.training.loss.TERMS`, and the last
            learning rate.
        """
        processes = self._teaching.processes
        steps = self._chances.draw_epoch(self._samples, self._rng)
        own = [processes.own(step) for step in steps]
        self.head.train()
        sums = torch.zeros(len(TERMS), dtype=torch.float64)
        threads = self._teaching.settings.data.workers
        for whole, step, loaded in zip(steps, own, read_ahead([*map(self._jobs, own)], threads), strict=True):
            sums += self._step(step, loaded, len(step.chosen) / len(whole.chosen))
        means = processes.add(sums.to(self._teaching.features.device)).cpu() / len(steps)
        rate = self._optimiser.param_groups[0]["lr"]
        return {**dict(zip(TERMS, means.tolist(), strict=True)), "learning_rate": rate}

    def _step(self, step: Step, loaded: Sequence[Any], share: float) -> Tensor:
        settings, groups = self._teaching.settings.optimiser, self._optimiser.param_groups
        rate = settings.learning_rate * rate_factor(settings, self._done, self._total)
        for group in groups:
            group["lr"] = rate * group["relative_rate"]
        self._optimiser.zero_grad()
        values = torch.zeros(len(TERMS), dtype=torch.float64)
        if step.chosen:
            terms = self._objective(self.head, self._text(), self._batch(step, loaded, share))
            terms["loss"].backward()  # type: ignore[no-untyped-call]
            values = torch.stack([terms[name].detach().double() for name in TERMS]).cpu()
        for group in groups:
            self._teaching.processes.add_gradients(group["params"])
            if settings.gradient_norm:
                torch.nn.utils.clip_grad_norm_(group["params"], settings.gradient_norm)
        self._optimiser.step()
        self._done += 1
        return values

    def _jobs(self, step: Step) -> list[partial[Any]]:
        if self._teaching.cache:
            read = self._teaching.cache.read
            pairs = zip(step.chosen, step.orientations, strict=True)
            return [partial(read, self._samples[i], orientation) for i, orientation in pairs]
        places = zip(step.chosen, step.origins, strict=True)
        return [partial(self._reader.window, i, origin) for i, origin in places]

    def _batch(self, step: Step, loaded: Sequence[Any], share: float) -> Batch:
        samples, features = [self._samples[i] for i in step.chosen], self.features
        if self._teaching.cache:
            levels = [torch.stack(level).to(features.device).float() for level in zip(*loaded, strict=True)]
            return Batch(samples, step, None, levels, share)
        chance = torch.Generator().manual_seed(step.stain_seed)
        images = turn(loaded, step.orientations).to(features.device)
        augment = self._teaching.settings.augment
        images = jitter_stain(images, augment.stain, chance)
        images = jitter_tone(images, augment.tone, chance)
        images = jitter_sharpness(images, augment.blur, chance)
        return Batch(samples, step, images, zoomed_levels(features, images, augment.zoom, chance), share)

    def ready(self) -> Head:
        """Return the head as it is used after training: in evaluation mode, with its merge and the text features."""
        self._use_merge(self._teaching.settings.head.merge)
        store_text_features(self.head, self._text)
        return self.head.eval()

    def go_on(self) -> None:
        """Bring the head back to training after :meth:`ready`."""
        self._use_merge(self._teaching.settings.objective.merge or self._teaching.settings.head.merge)

    def _use_merge(self, merge: str) -> None:
        self.head.settings = replace(self._teaching.settings.head, merge=merge)

    @property
    def _parts(self) -> dict[str, nn.Module]:
        """What learns."""
        parts: dict[str, nn.Module] = {"head": self.head, "text": self._text}
        return parts | ({"encoder": self.features.encoder} if self._teaching.settings.encoder.adapt else {})

    def weights(self) -> dict[str, dict[str, Tensor]]:
        """Return a copy of the weights of all that learns, on the CPU."""
        return {
            name: {k: v.detach().cpu().clone() for k, v in part.state_dict().items()}
            for name, part in self._parts.items()
        }

    def load_weights(self, weights: dict[str, dict[str, Tensor]]) -> None:
        """Take weights that :meth:`weights` returned."""
        for name, part in self._parts.items():
            part.load_state_dict(weights[name])

    def state(self) -> dict[str, Any]:
        """Return all that the next epoch depends on: tensors, numbers and text."""
        return {
            **self.weights(),
            "optimiser": self._optimiser.state_dict(),
            "steps": self._done,
            "numpy": json.dumps(self._rng.bit_generator.state),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self._teaching.features.device) if self._on_gpu else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a state that :meth:`state` returned."""
        self.load_weights(state)
        self._optimiser.load_state_dict(state["optimiser"])
        self._done = state["steps"]
        self._rng.bit_generator.state = json.loads(state["numpy"])
        torch.set_rng_state(state["torch"])
        if self._on_gpu:
            torch.cuda.set_rng_state(state["cuda"], self._teaching.features.device)

    @property
    def _on_gpu(self) -> bool:
        return self._teaching.features.device.type == "cuda"


def rate_factor(settings: OptimiserSettings, step: int, steps: int) -> float:
    """Return what the learning rate is multiplied by at a step, counted from 0, of ``steps``."""
    rise = min(1, (step + 1) / settings.warm_up) if settings.warm_up else 1
    if settings.schedule == "linear":
        return rise * (1 - step / steps)
    return rise * (1 + math.cos(math.pi * step / steps)) / 2


def _new_head(teaching: Teaching) -> Head:
    settings, features = teaching.settings, teaching.features
    with torch.no_grad():
        text_features = teaching.text()
    classes = len(teaching.names)
    head = build_head(settings.head, features.encoder.dim, classes, len(text_features) // classes, text_features.cpu())
    if settings.optimiser.start == "released" and isinstance(head, DualProtoHead):
        start_as_released(head)
    return head.to(features.device)


def _chances(settings: TrainSettings, features: Features, head: Head) -> Chances:
    encoder = features.encoder
    phases = encoder.step_px * head.upsampling // encoder.grid_px if settings.objective.steadiness else 0
    return Chances(
        settings.optimiser.batch_size,
        settings.data.window_px,
        settings.augment.orientations,
        settings.augment.alike,
        phases,
        4 * encoder.step_px,
    )
