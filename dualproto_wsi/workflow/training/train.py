"""Trains a model from image-level labels, calibrates it on held-out patients, scores it, and writes the bundle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

import dualproto_wsi
from dualproto_wsi.data.checks import check_classes
from dualproto_wsi.data.splits import patient_folds
from dualproto_wsi.errors import DataError, SettingsError
from dualproto_wsi.model.card import ModelCard
from dualproto_wsi.model.checkpoint import save_bundle
from dualproto_wsi.model.encoder import ImageEncoder, build_encoder, hash_tensors
from dualproto_wsi.model.heads import prototype_cosines
from dualproto_wsi.model.segmenter import DualProtoSegmenter
from dualproto_wsi.settings import TrainSettings, to_data
from dualproto_wsi.stats.metrics import ConfusionMatrix
from dualproto_wsi.workflow.batch.fingerprint import data_sha256
from dualproto_wsi.workflow.listener import TrainListener
from dualproto_wsi.workflow.mapping.engine import choose_precision
from dualproto_wsi.workflow.training.calibrate import HeldOut
from dualproto_wsi.workflow.training.card import STARTED_FROM, effort, make_card, selection
from dualproto_wsi.workflow.training.checkpoints import TrainingFolder
from dualproto_wsi.workflow.training.continuing import First, continue_card, read_data, read_first
from dualproto_wsi.workflow.training.corrections import MIN_SHARE, CorrectedSlide
from dualproto_wsi.workflow.training.datasets import Splits
from dualproto_wsi.workflow.training.features import FeatureCache, Features
from dualproto_wsi.workflow.training.fit import Fitted, Fitter
from dualproto_wsi.workflow.training.held_out import Measures, predict
from dualproto_wsi.workflow.training.learner import Teaching
from dualproto_wsi.workflow.training.log import TrainingLog
from dualproto_wsi.workflow.training.processes import Processes, join_processes
from dualproto_wsi.workflow.training.text_side import TextSide, build_text_side
from dualproto_wsi.workflow.training.verdict import check_truth, judge, split_scores, spread
from dualproto_wsi.workflow.training.windows import Sample, make_samples

_PATHS = (
    ("data", "workers"),
    ("encoder", "weights"),
    ("encoder", "tokenizer"),
    ("continuing", "model"),
    ("continuing", "corrections"),
    ("continuing", "replay"),
)
"""Settings that do not decide the result; what lies in the files is told by hashes of its own."""


@dataclass(frozen=True, slots=True)
class TrainFiles:
    """Where a training keeps what is not its result.

    Parameters
    ----------
    checkpoint : Path or None
        Folder of checkpoints; None: beside the bundle, ``<bundle>.training``. Removed at the end.
    keep : bool
        Whether the checkpoints stay.
    force : bool
        Whether to begin anew where a training was stopped.
    tensorboard : Path or None
        Folder for TensorBoard.
    """

    checkpoint: Path | None = None
    keep: bool = False
    force: bool = False
    tensorboard: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What came out of a training.

    Parameters
    ----------
    card : ModelCard
        Of the bundle.
    folds : ConfusionMatrix or None
        At the points or mask px of the training split, each image scored by the fold's model that never saw its
        patient.
    test : Measures or None
        Of the final model on the test split's patients that are not in training; None without such a split.
    left_out : tuple of str
        Patients of the test split that the model was trained or chosen on.
    corrected : tuple of CorrectedSlide
        What each slide gave; empty where no corrections were learned from.
    unmatched : tuple of Path
        Files of corrections of none of the slides.
    """

    card: ModelCard
    folds: ConfusionMatrix | None
    test: Measures | None
    left_out: tuple[str, ...] = ()
    corrected: tuple[CorrectedSlide, ...] = ()
    unmatched: tuple[Path, ...] = ()


def train_model(
    root: Path,
    output: Path,
    settings: TrainSettings,
    listener: TrainListener | None = None,
    text: TextSide | None = None,
    files: TrainFiles | None = None,
) -> TrainReport:
    """Train a head and write it as a bundle; a new head, or that of a model that is continued.

    The encoder is frozen, or adapted with the head where the settings say so; then every fold adapts its own.

    Points of the data decide which classes a crop holds, and score the result. Where in a crop they lie is used by the
    calibration ``points`` alone; masks are used by the selection ``masks`` alone, and for scores.

    A training that was stopped goes on when it is called again in the same way; its result is the same. Beside the
    bundle a table of all epochs is written, ``<bundle>.csv``.

    Parameters
    ----------
    root : Path
        Training data in the layout of the settings; slides where these name corrections.
    output : Path
        The bundle, ``.safetensors``.
    settings : TrainSettings
    listener : TrainListener or None
    text : TextSide or None
        None: as the settings say; a model that is continued has its own.
    files : TrainFiles or None

    Raises
    ------
    DataError
        If the data is not what its layout says, or cannot teach one of the classes.
    SettingsError
        If settings do not go with the data, or the checkpoints are of another training.
    MissingDependency
        If text features are needed and the sentence encoder is not installed.
    OutputError
        If something cannot be written.
    """
    files = files or TrainFiles()
    if output.suffix != ".safetensors":
        raise DataError(f"{output}: a bundle's name ends in .safetensors; choose another name for -o")
    with join_processes(settings.device) as (processes, device):
        listener = listener if listener and processes.leads else TrainListener()
        log = TrainingLog(output.with_suffix(".csv") if processes.leads else None, files.tensorboard)
        folder = TrainingFolder(files.checkpoint or output.with_name(f"{output.name}.training"), processes.leads)
        with folder.locked():
            splits, corrected = read_data(root, settings, folder, processes)
            first = read_first(settings, device) if settings.continuing.model else None
            encoder = first.encoder if first else build_encoder(settings.encoder.name, _path(settings.encoder.weights))
            encoder = encoder.to(device)
            teaching = _teaching(settings, splits, processes, encoder, text, first)
            job = _Job(teaching, splits, listener, first)
            folder.begin(_identity(teaching, splits), files.force)
            processes.wait()
            report, model = job.run(output.stem, folder, log)
            if processes.leads:
                output.parent.mkdir(parents=True, exist_ok=True)
                save_bundle(output, model)
        if not files.keep:
            folder.remove()
    return replace(report, corrected=corrected.slides, unmatched=corrected.unmatched)


def _path(name: str) -> Path | None:
    return Path(name) if name else None


def _teaching(
    settings: TrainSettings,
    splits: Splits,
    processes: Processes,
    encoder: ImageEncoder,
    text: TextSide | None,
    first: First | None,
) -> Teaching:
    chosen, classes, device = settings.encoder, splits.train.classes, encoder.mean.device
    features = Features(encoder, choose_precision(chosen.precision, device))
    if first:
        text = first.text
    elif text is None:
        weights, tokenizer = _path(chosen.weights), _path(chosen.tokenizer)
        text = build_text_side(settings.head, settings.text, chosen.name, classes, weights, tokenizer, settings.seed)
    cache = FeatureCache(Path(chosen.cache), features) if chosen.cache else None
    head = first.head if first else None
    return Teaching(settings, classes.names, features, text.to(device), cache, processes, head)


def _identity(teaching: Teaching, splits: Splits) -> dict[str, str]:
    """Return hashes of all that decides the result."""
    data, features = to_data(teaching.settings), teaching.features
    data["encoder"]["cache"] = bool(teaching.cache)  # half precision
    for section, name in _PATHS:
        del data[section][name]
    del data["device"]
    first = teaching.first.state_dict().items() if teaching.first else ()
    with torch.no_grad():
        texts = [("text", teaching.text()), *teaching.text.state_dict().items()]
    return {
        "settings": data_sha256(data),
        "data": splits.sha256(),
        "encoder": f"{features.encoder.name} {features.encoder.hash}",
        "texts": hash_tensors(texts, "texts 1"),
        "first head": hash_tensors(first, "head 1"),
        "device": f"{features.device.type} {features.precision}, {teaching.processes.count} process(es)",
        "version": dualproto_wsi.__version__,
    }


class _Job:
    def __init__(self, teaching: Teaching, splits: Splits, listener: TrainListener, first: First | None) -> None:
        self._teaching, self._splits, self._listener, self._first = teaching, splits, listener, first
        settings = teaching.settings
        min_share = MIN_SHARE if settings.continuing.corrections else None
        self._samples, self._held_out, self._test, self._replayed = (
            make_samples(part, settings.data, teaching.features.encoder.step_px, min_share) if part else []
            for part in (splits.train, splits.held_out, splits.test, splits.replayed)
        )
        self._fits: dict[str, Fitted] = {}
        sizes = {len(part[0].crops) for part in (self._samples, self._replayed) if part}
        if len(sizes) > 1:
            raise SettingsError(
                f"continuing.replay is {settings.continuing.replay!r}: of its images and the new ones some have labels "
                "of crops, the others of whole images; set data.crop_sizes to [] to learn from whole images alone"
            )
        check_truth(self._samples, self._held_out, teaching.settings.validation)
        if self._samples[0].whole:
            if not first:  # a head that is there knows the classes already
                check_classes(splits.train)
        elif teaching.cache:
            raise SettingsError(
                f"encoder.cache is {teaching.settings.encoder.cache!r}, but windows are cut at places of chance, and "
                "their features cannot be kept; set data.crop_sizes to [] to train on whole images, or leave the cache "
                "out"
            )

    def run(self, name: str, folder: TrainingFolder, log: TrainingLog) -> tuple[TrainReport, DualProtoSegmenter]:
        """Fit, calibrate and score."""
        teaching, splits = self._teaching, self._splits
        settings = teaching.settings
        self._fill_cache()
        card = make_card(name, settings, teaching.features.encoder, splits.train, self._samples)
        fitter = Fitter(teaching, self._held_out, folder, log)
        held, parts = self._cross_validate(fitter)
        final = self._fit(fitter, "final", range(len(self._samples)))
        if self._held_out:
            held = list(self._predict(final, spread(self._held_out), teaching.cache))
        verdict = judge(held, parts, teaching.names, settings.validation, self._first.card if self._first else None)
        test = None
        if self._test:
            test = Measures(teaching.names, verdict.calibration, average=settings.objective.pooling == "average")
            for one in self._predict(final, self._test, None):
                test.add(one)
        kept = selection(settings.validation, splits.held_out)
        took = effort(self._fits, teaching.features, teaching.processes.count)
        if self._first:
            card = continue_card(card, self._first, final.started_from)
        encoder = final.features.encoder
        card = replace(
            card,
            encoder_hash=encoder.hash,
            adapted_from=encoder.adapted_from,
            temperature=verdict.calibration.temperature,
            bias=verdict.calibration.bias,
            gate=verdict.gate,
            scores=verdict.to_json(settings) | split_scores(test, splits, settings),
            training=card.training
            | {STARTED_FROM: final.started_from, "selection": kept, "effort": took}
            | {"prototype_cosines": prototype_cosines(final.head, teaching.names)},
        )
        report = TrainReport(card, verdict.folds, test, splits.left_out)
        return report, DualProtoSegmenter(encoder, final.head, card)

    def _fill_cache(self) -> None:
        if self._teaching.cache and self._teaching.processes.leads:
            settings, done = self._teaching.settings, self._listener.features_done
            orientations = range(settings.augment.orientations)
            self._teaching.cache.fill([*self._samples, *self._replayed], orientations, settings.data.workers, done)
            self._teaching.cache.fill(self._held_out, [0], settings.data.workers, done)
        self._teaching.processes.wait()

    def _fit(self, fitter: Fitter, title: str, chosen: Sequence[int]) -> Fitted:
        self._listener.fit_started(title, self._teaching.settings.optimiser.epochs)
        learned = set(chosen)
        away = {sample.image.patient for i, sample in enumerate(self._samples) if i not in learned}
        again = [sample for sample in self._replayed if sample.image.patient not in away]
        samples = [self._samples[i] for i in chosen] + again
        self._fits[title] = fitter.fit(title, samples, self._listener.epoch_done)
        return self._fits[title]

    def _predict(self, fitted: Fitted, samples: Sequence[Sample], cache: FeatureCache | None) -> Iterator[HeldOut]:
        return predict(fitted.features, fitted.head, samples, cache, self._teaching.settings.data.workers)

    def _cross_validate(self, fitter: Fitter) -> tuple[list[HeldOut], list[list[int]]]:
        """Return images as a head says that was fitted without their patients, and the folds, by positions of these."""
        settings = self._teaching.settings
        count = settings.validation.folds
        if not count:
            return [], []
        folds = patient_folds([s.image.patient for s in self._samples], count, settings.seed)
        scored, found = spread(range(len(self._samples))), dict[int, HeldOut]()
        for number, fold in enumerate(folds, start=1):
            fitted = self._fit(fitter, f"fold {number}/{count}", sorted(set(range(len(self._samples))) - set(fold)))
            part = [i for i in fold if i in scored]
            heard = self._predict(fitted, [self._samples[i] for i in part], self._teaching.cache)
            found |= zip(part, heard, strict=True)
        place = {i: position for position, i in enumerate(scored)}
        return [found[i] for i in scored], [[place[i] for i in fold if i in place] for fold in folds]
