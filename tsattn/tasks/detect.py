"""Seizure detection: fine-tune a recording network on labelled windows, choose by events, fit the post-processing.

Ours. What is trained of a pre-trained network is one word, `adapt`. The best epoch is that with the highest F1 of
events in validation subjects; the post-processing that gave it is fitted on them alone and travels in the checkpoint.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xarray as xr
from jaxtyping import Bool, Float, Int
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from tsattn import checkpoint as files
from tsattn import messages
from tsattn.contracts import Network, RecordingBatch, SegmentNetwork, SignalSpec
from tsattn.events.cohort import Scores, score_recordings
from tsattn.events.detect import PostProcessing
from tsattn.events.fit import Fitted, fit_postprocessing
from tsattn.events.table import seizures
from tsattn.layers.classifier import Pooling, SegmentClassifier, answered
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.places import revealed
from tsattn.recordings.splits.splits import Span
from tsattn.recordings.subjects import refuse_unknown
from tsattn.tasks.optim import Decay
from tsattn.tasks.recordings import Contract, RecordingTask, gathered, masks, subjects

log = logging.getLogger(__name__)
Adapt = Literal["full", "lora", "linear", "attentive", "subject"]
TIE = 1e-4  # by how much a loss counts beside the F1 of events, which often ties on few seizures


class DetectTask(RecordingTask):
    """Train a seizure detector.

    Args:
        checkpoint: Start from these weights: an exported folder (of `tsattn import-checkpoint` or of a run), or a
            `.ckpt`; of pre-training, or of a detector.
        scratch: In the place of a checkpoint: a network to train from scratch, which takes adapt="full".
        adapt: What is trained. "lora": low-rank adapters and the head. "full": everything. "linear": the head alone.
            "attentive": a head that pools by attention over channels and segments, alone. "subject": adapters alone,
            on top of a finished detector, for one new patient with few seizures; training and validation may then be
            of one person.
        pooling: Of a new head, for "lora" and "full": "mean" over the last segment's channels, or "attentive".
        lora_rank: Of adapters.
        lora_alpha: Their scale, times rank.
        lora_targets: Linear maps that have one, by the ends of their names.
        class_weights: Of no seizure and seizure in the loss; "balanced" makes them equal in sum; None weighs windows
            alike.
        focal: Exponent of the focal loss (Lin et al., 2017), which lets easy windows count less; None for none.
        lr: Largest learning rate.
        warmup: Share of the steps in which it rises.
        weight_decay: Of AdamW.
        decay: "matrices": of linear maps only. "all": everything.
        contract: "keep" refuses recordings that were prepared in another way than the checkpoint's; "adopt" takes
            theirs from now on.
        run: A checkpoint of this task that is scored, or goes on: the network is built as it says. In the place of
            checkpoint and scratch.

    Raises:
        ValueError: If a word is unknown, a number is out of range, there is no network, or the checkpoint has no head
            to adapt.
    """

    monitor = ("val_score", "max")
    shown = ("val_score", "val_f1_event", "val_sensitivity", "val_fp_per_hour", "val_loss")
    own_settings = ("adapt", "class_weights", "focal")
    network: SegmentClassifier

    def __init__(
        self,
        checkpoint: Path | None = None,
        scratch: SegmentNetwork | None = None,
        adapt: Adapt = "lora",
        pooling: Pooling = "mean",
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_targets: Sequence[str] = ("query", "value"),
        class_weights: Literal["balanced"] | list[float] | None = None,
        focal: float | None = None,
        lr: float = 1e-4,
        warmup: float = 0.1,
        weight_decay: float = 0.01,
        decay: Decay = "matrices",
        contract: Contract = "keep",
        run: Path | None = None,
    ) -> None:
        super().__init__(lr, warmup, weight_decay, decay, contract)
        if adapt not in ("full", "lora", "linear", "attentive", "subject"):
            raise ValueError(f"adapt is {adapt!r}, expected full, lora, linear, attentive or subject.")
        if focal is not None and not focal > 0:
            raise ValueError(f"focal is {focal:g}, expected above 0, or None.")
        if class_weights not in (None, "balanced") and not (
            isinstance(class_weights, list)
            and len(class_weights) == 2
            and all(0 < weight < math.inf for weight in class_weights)
        ):
            raise ValueError(
                f"class_weights is {class_weights!r}, expected two numbers above 0 (no seizure, seizure), balanced or "
                "None."
            )
        self.adapt, self.class_weights, self.focal = adapt, class_weights, focal
        self.about["adapt"] = adapt
        lora = dict(lora_rank=lora_rank, lora_alpha=lora_alpha, lora_targets=lora_targets)
        if run is not None:
            built: Network = files.load(revealed(run)).network
            if not isinstance(built, SegmentClassifier):
                raise ValueError(f"{run} holds {type(built).__name__}, expected a seizure detector.")
            self.network = built
        elif checkpoint is not None:
            if scratch is not None:
                raise ValueError("A checkpoint and a network were given: the checkpoint brings its own.")
            checkpoint = revealed(checkpoint)
            loaded: files.Loaded[Network] = files.load(checkpoint)
            self.past = loaded.spec
            self.about["started_from"] = files.digest(checkpoint)
            self.network = adapted(loaded.network, adapt, pooling, lora)
        elif scratch is not None and adapt == "full":
            self.network = SegmentClassifier(scratch, pooling=pooling)
        else:
            raise ValueError(
                f"adapt={adapt!r} trains little on top of a network that has learned something: "
                + messages.advice(
                    "pass {checkpoint}", "{adapt=full} with {scratch}, an untrained network", joint=", or "
                )
                + "."
            )
        freeze(self.network.train(), adapt)
        self.register_buffer("weights_of_classes", None, persistent=False)
        self.weights_of_classes: Tensor | None
        self.fitted: Fitted | None = None
        self.scores: Scores | None = None
        self._found: list[tuple[Tensor, ...]] = []

    @property
    def body(self) -> SegmentNetwork:
        """The network under the head."""
        return self.network.network

    def check_options(self, data: RecordingDataModule) -> None:
        """Refuse labels that a detector of seizures cannot learn: its events are scored where seizures are."""
        rule = data.labelling.rule
        if rule != "last_segment":
            given = messages.option("label") if messages.on_command_line() and messages.has("label") else "label"
            raise ValueError(
                f"{given} is {rule!r}, expected last_segment for a detector: its probability speaks of the window's "
                "last segment, and its events are scored against the seizures themselves. Leave the option out; "
                f"windows labelled by {rule!r} are for a training loop of your own (RecordingDataModule)."
            )

    def setup(self, stage: str) -> None:
        """Compare the data with the network and with the contract, and refuse what cannot be learned from or scored.

        Raises:
            ValueError: If a subject that is scored was trained on, or the labels are of another kind or one-sided.
        """
        super().setup(stage)
        if not self.has_data:
            return
        self._check_people("val" if stage in ("fit", "validate") else "test", stage)
        people = subjects(self.data, "train")
        if stage == "fit" and self.adapt == "subject" and len(people) > 1:
            raise ValueError(f"adapt='subject' is for one person, training has {len(people)}: prepare theirs alone.")
        self._check_subjects("val" if stage in ("fit", "validate") else "test")
        if stage == "fit":
            self._check_labels(self.data)

    def learn_of(self, spec: SignalSpec, train: tuple[str, ...], val: tuple[str, ...]) -> SignalSpec:
        """Return the specification with this training's subjects."""
        return replace(spec, trained_on=tuple(sorted({*spec.trained_on, *train})), validated_on=val)

    def _check_people(self, part: str, stage: str) -> None:
        """Refuse to train on and to score recordings of people whom nothing tells apart."""
        if stage != "fit" or self.adapt == "subject":
            return
        ids = {
            name: {span.recording for span in self.data.audited.spans if span.part == name} for name in ("train", part)
        }
        if any(a != b for a in ids["train"] for b in ids[part]):
            those = [item for item in self.data.recordings if item.id in ids["train"] | ids[part]]
            refuse_unknown(those, "Training a detector", store="STORE")

    def _check_subjects(self, part: str) -> None:
        """Refuse to score a subject whose labels were seen, except by a detector that is made for one person."""
        assert self.spec is not None
        scored = set(subjects(self.data, part))
        seen = {"trained on": set(self.spec.trained_on)}
        if part == "test":
            seen["used to fit the post-processing"] = set(self.spec.validated_on)
        for how, those in seen.items():
            both = sorted(scored & those)
            if both and self.adapt == "subject":
                log.info("%s was %s: the scores say nothing of other people.", both[0], how)
            elif both:
                name = {"val": "validation", "test": "test"}[part]
                more = f", as are {len(both) - 1} more" if len(both) > 1 else ""
                raise ValueError(
                    f"{both[0]} is in {name} and was {how}{more}: such a score flatters itself. Split by subject, "
                    "without those; only adapt='subject' trains and scores one person."
                )

    def _check_labels(self, data: RecordingDataModule) -> None:
        table = data.windows("train")
        count = int(table.positive.sum()), len(table)
        if count[0] == 0:
            raise ValueError(
                f"None of the {count[1]} training windows has a seizure: a detector cannot learn from them. Give "
                "training a recording with one (`tsattn recordings split --by subject`)."
            )
        if count[0] == count[1]:
            raise ValueError(f"All {count[1]} training windows have a seizure: a detector needs both classes.")
        if not any(len(reference) for reference, _ in stretches(data, "val").values()):
            raise ValueError(
                "No validation recording holds a seizure, so no epoch and no threshold can be chosen: take another "
                "split (`tsattn recordings split --seed ...`)."
            )
        if self.class_weights == "balanced":
            share = data.balance or count[0] / count[1]
            self.weights_of_classes = torch.tensor([0.5 / (1 - share), 0.5 / share])
        elif self.class_weights is not None:
            self.weights_of_classes = torch.tensor(self.class_weights)

    # ---- the loops

    def forward(self, batch: RecordingBatch) -> Float[Tensor, "batch class"]:
        """Return the logits of each window."""
        return self.network(batch.signal, *masks(batch))

    def loss(self, logits: Float[Tensor, "batch class"], label: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
        """Return the cross entropy, weighted by class and, if asked, focal."""
        each = F.cross_entropy(logits, label, reduction="none")
        if self.focal is not None:
            each = each * (1 - (-each).exp()) ** self.focal
        if self.weights_of_classes is None:
            return each.mean()
        weight = self.weights_of_classes.to(logits.dtype)[label]
        return (each * weight).sum() / weight.sum()

    def training_step(self, batch: RecordingBatch, index: int) -> Tensor:
        """Return the loss of the windows that have an answer."""
        known = self._answered(batch)
        if bool(known.all()):
            return self.count(self.loss(self(batch), batch.label))
        logits = self(batch)
        return self.count(self.loss(logits[known], batch.label[known]) if bool(known.any()) else logits.sum() * 0.0)

    def _answered(self, batch: RecordingBatch) -> Bool[Tensor, " batch"]:
        gaps = self.data.windowing.gaps if self.has_data else "drop"
        return answered(batch.observed, gaps, batch.channel_mask)

    def on_validation_epoch_start(self) -> None:
        """Start collecting."""
        self._found = []

    def validation_step(self, batch: RecordingBatch, index: int) -> None:
        """Keep the probability of every window."""
        logits = self(batch).float()
        probability = logits.softmax(-1)[:, 1]
        each = F.cross_entropy(logits, batch.label, reduction="none")
        unknown = ~self._answered(batch)
        if not bool(logits[~unknown].isfinite().all()):
            raise ValueError(
                "The detector's answer is not a finite number for a window that was recorded: its weights or the "
                f"samples are damaged, or the training went astray (lower {self.called_rate()})."
            )
        probability, each = probability.masked_fill(unknown, math.nan), each.masked_fill(unknown, math.nan)
        self._found.append((batch.recording.cpu(), batch.begin.cpu(), probability.cpu().double(), each.cpu().double()))

    def on_validation_epoch_end(self) -> None:
        """Fit the post-processing and log what it scores; `val_score` is what early stopping and the best epoch go by.

        `val_score` is the F1 of events, less a ten-thousandth of the loss, which decides among equals. Plain loaders
        know no recordings and so no events: of them, `val_loss` is logged alone.
        """
        if not self.has_data:  # events are of whole recordings
            self.log("val_loss", self._mean_loss(), sync_dist=True)
            return
        data = self.data
        probabilities, loss = self._collected(data, "val")
        if self.trainer.state.fn == TrainerFn.VALIDATING:  # `tsattn validate`: the checkpoint is scored as it is
            self.scores = self._scored(probabilities, "val")
            return
        cut = stretches(data, "val")
        references = {name: reference for name, (reference, _) in cut.items()}
        durations = {name: span.end - span.begin for name, (_, span) in cut.items()}
        where: dict[str, Any] = spoken_of(self.network.network, data)
        self.fitted = fit_postprocessing(probabilities, references, durations, **where)
        assert self.spec is not None
        plain = self.fitted.to_dict()
        self.spec = replace(self.spec, postprocessing=plain["setting"], fitted=plain)
        best = {name: float(self.fitted.table.iloc[0][name]) for name in ("f1_event", "sensitivity", "fp_per_hour")}
        f1 = best["f1_event"] if math.isfinite(best["f1_event"]) else 0.0
        scores = {f"val_{name}": value for name, value in best.items()}
        self.log_dict(scores | {"val_loss": loss, "val_score": f1 - TIE * loss}, sync_dist=True)

    def on_test_epoch_start(self) -> None:
        """Start collecting."""
        self._found = []

    def test_step(self, batch: RecordingBatch, index: int) -> None:
        """Keep the probability of every window."""
        self.validation_step(batch, index)

    def on_test_epoch_end(self) -> None:
        """Turn probabilities into events by the checkpoint's post-processing, and score them; see `scores`.

        Raises:
            ValueError: If the checkpoint has no post-processing.
        """
        if not self.has_data:
            self.log("test_loss", self._mean_loss(), sync_dist=True)
            return
        probabilities, _ = self._collected(self.data, "test")
        self.scores = self._scored(probabilities, "test")
        pooled = self.scores.pooled["value"]
        shown = {f"test_{name}": float(pooled[name]) for name in ("f1_event", "sensitivity", "fp_per_hour")}
        self.log_dict(shown, sync_dist=True)

    def _mean_loss(self) -> float:
        each = torch.cat([losses for *_, losses in self._found])
        return float(each.nanmean())

    def _scored(self, probabilities: dict[str, xr.DataArray], part: Literal["val", "test"]) -> Scores:
        if self.spec is None or self.spec.postprocessing is None:
            raise ValueError(
                "The checkpoint has no post-processing, which `tsattn fit` fits on validation subjects: fine-tune it."
            )
        setting = PostProcessing.from_dict(self.spec.postprocessing)
        where = spoken_of(self.body, self.data)
        scored = {}
        for name, (reference, span) in stretches(self.data, part).items():
            length = span.end - span.begin
            events = setting(probabilities[name], duration=length, **where)
            subject = next(item.subject for item in self.data.recordings if item.id == span.recording)
            scored[name] = (subject, reference, events, length)
        return score_recordings(scored)

    def _collected(
        self, data: RecordingDataModule, part: Literal["val", "test"]
    ) -> tuple[dict[str, xr.DataArray], float]:
        """Return each stretch's probabilities over all processes and readings, and the mean loss."""
        columns = gathered([torch.cat(parts) for parts in zip(*self._found, strict=True)])
        recording, begin, probability, each = (column.numpy() for column in columns)
        found = {}
        for name, (_, span) in stretches(data, part).items():
            place = next(i for i, item in enumerate(data.recordings) if item.id == span.recording)
            here = (recording == place) & (begin >= span.begin - 1e-9) & (begin < span.end)
            times, row = np.unique(begin[here], return_inverse=True)
            mean = np.bincount(row, probability[here], len(times)) / np.bincount(row, minlength=len(times))
            found[name] = xr.DataArray(mean.clip(0, 1), dims="time", coords={"time": times - span.begin})
        return found, float(np.nanmean(each)) if np.isfinite(each).any() else math.nan

    def report(self) -> dict[str, Any]:
        """Return the scores of the last test or validation in plain data."""
        return {} if self.scores is None else self.scores.to_dict()


def adapted(network: Network, adapt: Adapt, pooling: Pooling, lora: dict[str, Any]) -> SegmentClassifier:
    """Return a classifier of which the right parameters are trainable.

    Args:
        network: Pre-trained, or a classifier.
        adapt: See `DetectTask`.
        pooling: Of a new head.
        lora: Arguments of `SegmentClassifier`.

    Raises:
        ValueError: If the checkpoint holds something else, or "subject" meets no classifier.
    """
    before = network.merged() if isinstance(network, SegmentClassifier) else None
    body = before.network if before is not None else network
    if not isinstance(body, SegmentNetwork):
        raise ValueError(f"The checkpoint holds {type(network).__name__}, expected a network of recordings.")
    if adapt == "subject" and before is None:
        raise ValueError("adapt='subject' starts from a finished detector, and the checkpoint has no head.")
    pooling = "attentive" if adapt == "attentive" else "mean" if adapt == "linear" else pooling
    if adapt == "subject" and before is not None:
        pooling = before.pooling
    arguments = dict(lora) if adapt in ("lora", "subject") else {}
    kept = before is not None and before.pooling == pooling
    if before is not None and kept:
        arguments |= {name: before.recipe["init_args"][name] for name in ("outputs", "queries")}
    made = SegmentClassifier(body, pooling=pooling, **arguments)
    if before is not None and kept:
        made.pool, made.head = before.pool, before.head
    return made


def freeze(network: SegmentClassifier, adapt: Adapt) -> None:
    """Stop the gradients of what is not trained; adapters have done so inside the network already."""
    if adapt in ("linear", "attentive"):
        network.network.requires_grad_(False)
    if adapt == "subject":
        network.head.requires_grad_(False)
        if network.pool is not None:
            network.pool.requires_grad_(False)


def stretches(data: RecordingDataModule, part: str) -> dict[str, tuple[pd.DataFrame, Span]]:
    """Return the stretches of a part by name: the seizures in it, from its begin on, and where it is."""
    found = {}
    place = {item.id: item for item in data.recordings}
    for span in data.audited.spans:
        if span.part != part:
            continue
        item = place[span.recording]
        end = min(span.end, item.duration)
        whole = span.begin <= 0 and end >= item.duration
        events = seizures(item.events)
        events = events[(events["onset"] < end) & (events["onset"] + events["duration"] > span.begin)]
        onset = (events["onset"] - span.begin).clip(lower=0)
        offset = (events["onset"] + events["duration"]).clip(upper=end) - span.begin
        events = events.assign(onset=onset, duration=offset - onset).reset_index(drop=True)
        name = item.id if whole else f"{item.id}, {span.begin:g} to {end:g} s"
        found[name] = (events, replace(span, begin=max(span.begin, 0.0), end=end))
    return found


def spoken_of(network: SegmentNetwork, data: RecordingDataModule) -> dict[str, float]:
    """Return which seconds a window's probability speaks of, for `tsattn.events.detect.to_events`."""
    windowing = data.eval_windowing
    return {
        "hop": windowing.stride_seconds,
        "span": network.segment_seconds,
        "offset": network.window_seconds - network.segment_seconds,
    }
