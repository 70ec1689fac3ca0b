"""How well seizures are found in simulated patients that no detector has seen: event F1 against two honest baselines.

    OMP_NUM_THREADS=1 python tests/bench/detection.py --work DIR [--subjects 10] [--hours 1] [--level hard] [--folds 5]
        [--seizures-per-hour 6] [--methods always line-length band-power mvpformer] [--csv out.csv]

Patients are simulated (`simulate_bids`, 16 to 32 channels) and prepared with the preset swec at `--sfreq` into DIR;
what is there already is used again. In each fold the subjects for training, validation and test are disjoint:
a method is fitted on the first, its post-processing on the second (`fit_postprocessing`, one grid for all), and the
last are predicted once. The predictions of all folds are scored together, by SzCORE's rules; intervals are bootstraps
over subjects, and a difference between two methods is drawn with the same subjects for both.

Every method gives one probability for each 5 s. The first 120 s of a recording are scored for none, as MVPFormer needs
them before its first word. "line-length" and "band-power" know the past only, as it does; with "-offline" they are
levelled by the whole recording (`baselines.py`). Their seconds include the features, each computed once.

Read event F1 beside the row "always" and kappa_5s: a detection of hours is cut into pieces of 300 s, and those that
touch a seizure are right, so at six seizures an hour calling everything a seizure has an event F1 near 0.8. The level
"faint" is made here: seizures are added to a hard recording at gains at which many drown (`faint_recordings`).

The data is synthetic: skill here is no evidence of clinical accuracy.
"""

import argparse
import csv
import platform
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from importlib.metadata import version
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr
from baselines import SEGMENT, Always, BandPower, LineLength, segment_labels
from lightning.pytorch.callbacks import Callback

from tsattn.detection.detector import Detector
from tsattn.events.cohort import Scored, Scores, score_recordings
from tsattn.events.counting import COUNTS
from tsattn.events.detect import PostProcessing
from tsattn.events.fit import fit_postprocessing
from tsattn.events.score import measure
from tsattn.events.table import check_events
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import ArraySource, Recording
from tsattn.recordings.simulate import simulate_bids, simulate_recording
from tsattn.recordings.simulate.record import SUBJECT
from tsattn.recordings.simulate.scene import implant, plan
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.recordings.store import Store, open_store

WARM_UP = 120.0  # s that are scored for no method: a window of MVPFormer less its last segment
CHANNELS = (16, 32)
FAINT = (0.03, 0.3)  # gains of the level "faint", log-uniform: ictal rhythms of roughly 8 to 80 uV in each contact
FAINT_REACH = (10.0, 25.0)  # mm, of its seizures; 18 or 45 in "hard"
LONGEST_DISCHARGE = 15.0  # s; 8 in "hard"
ICTAL_RUN = 1000  # run number, out of all others' way, from which "faint" takes its seizures
DRAWS = 2000
ABOUT = "level subjects hours seizures_per_hour sfreq seed folds val_subjects".split()  # in each row of the CSV


class Method(Protocol):
    """A seizure detector as this bench sees it. `fit` begins anew each time."""

    def fit(self, train: Sequence[Recording], val: Sequence[Recording]) -> None:
        """Fit on training recordings; choose, or stop early, on validation recordings."""
        ...

    def probability(self, recording: Recording) -> xr.DataArray:
        """Return a probability of each 5 s that the method speaks of, NaN where it cannot.

        The coordinate `time` says when those 5 s begin, seconds from the recording's start: not the begin of the
        window that was read.
        """
        ...


class MVPFormerMethod:
    """A small MVPFormer, pre-trained on the fold's training subjects, then trained whole on their labels.

    Windows of 12 x 5 s, distances that serve any number of channels, balanced epochs; the epoch with the best events in
    the validation subjects is kept. On a GPU, if there is one.

    Args:
        store: Path of the prepared store.
        d_model: Width; heads of 16, a gated map of twice the width.
        layers: Blocks.
        epochs: Of pre-training (512 windows each) and of training.
        level_power: Whether tokens hold the power of each octave; MVPFormer's do not.
    """

    def __init__(
        self,
        store: Path,
        d_model: int = 64,
        layers: int = 2,
        epochs: tuple[int, int] = (2, 5),
        level_power: bool = False,
    ) -> None:
        self.store = store
        self.epochs = epochs
        self.network: dict[str, Any] = dict(segments=12, positions=12, index="absolute", dropout=0.1)
        self.network |= dict(d_model=d_model, layers=layers, heads=d_model // 16, kv_heads=d_model // 32)
        self.network |= dict(d_ff=2 * d_model, level_power=level_power)
        self.detector: Detector | None = None

    def fit(self, train: Sequence[Recording], val: Sequence[Recording]) -> None:
        """Train anew."""
        import lightning as L

        from tsattn.models.mvpformer import MVPFormer
        from tsattn.tasks.detect import DetectTask
        from tsattn.tasks.pretrain import PretrainTask
        from tsattn.train import quiet

        quiet()
        warnings.filterwarnings("ignore")
        L.seed_everything(0, verbose=False)
        knobs: dict[str, Any] = dict(segments=12, batch_size=16, eval_batch_size=32, shuffle="local")
        splits = splits_of({"train": train, "val": val})
        silent: dict[str, Any] = dict(logger=False, enable_progress_bar=False, enable_model_summary=False)
        silent |= dict(devices=1, gradient_clip_val=1.0, num_sanity_val_steps=0, enable_checkpointing=False)
        body = MVPFormer(sfreq=train[0].sfreq, **self.network)
        data = RecordingDataModule(self.store, splits, windows_per_epoch=512, **knobs)
        trainer = L.Trainer(max_epochs=self.epochs[0], limit_val_batches=0, **silent)
        trainer.fit(PretrainTask(body, lr=1e-3), datamodule=data)
        data = RecordingDataModule(self.store, splits, balance=0.5, **knobs)
        task = DetectTask(scratch=body, adapt="full", lr=1e-3, weight_decay=0.05)
        kept = _KeepBest()
        trainer = L.Trainer(max_epochs=self.epochs[1], callbacks=[kept], **silent)
        trainer.fit(task, datamodule=data)
        task.network.load_state_dict(kept.state)
        print(f"  val_score of each epoch: {', '.join(f'{score:.3f}' for score in kept.scores)}", flush=True)
        assert task.spec is not None
        self.detector = Detector(task.network.to(trainer.strategy.root_device), task.spec)

    def probability(self, recording: Recording) -> xr.DataArray:
        """Predict; of each window, at the 5 s that it speaks of."""
        assert self.detector is not None
        found = self.detector.detect(recording).probability
        return xr.DataArray(found.values, dims="time", coords={"time": found["time"].values + found.attrs["offset"]})


class _KeepBest(Callback):
    """Keeps the weights of the epoch with the best validation score."""

    def __init__(self) -> None:
        self.scores: list[float] = []
        self.state: dict[str, Any] = {}

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        score = float(trainer.callback_metrics["val_score"])
        if not self.scores or score > max(self.scores):
            self.state = {name: tensor.clone() for name, tensor in module.network.state_dict().items()}
        self.scores.append(score)


METHODS: dict[str, Callable[[Path], Method]] = {
    "always": lambda store: Always(),
    "line-length": lambda store: LineLength("past"),
    "band-power": lambda store: BandPower("past"),
    "line-length-offline": lambda store: LineLength("recording"),
    "band-power-offline": lambda store: BandPower("recording"),
    "mvpformer": MVPFormerMethod,
    "mvpformer-power": partial(MVPFormerMethod, level_power=True),
    "mvpformer-128": partial(MVPFormerMethod, d_model=128, layers=3, epochs=(4, 10)),
}


# Data ----------------------------------------------------------------------------------------------------------------


def make_store(work: Path, subjects: int, hours: float, level: str, per_hour: float, sfreq: float, seed: int) -> Store:
    """Return the store of simulated patients; it is made if it is not there. Its name says what is in it."""
    name = f"{level}-{subjects}x{hours:g}h-{per_hour:g}-an-hour-seed{seed}"
    raw, store = work / f"bids-{name}", work / f"{name}-{sfreq:g}Hz.zarr"
    if level == "faint":
        recordings = faint_recordings(subjects, hours, per_hour, seed)
        done = set(open_store(store, partial=True).ids) if store.exists() else set()
        for id, make in recordings.items():
            if id not in done:
                prepare(make(), store, preset="swec", sfreq=sfreq)
    elif not store.exists():
        if not raw.exists():
            work.mkdir(parents=True, exist_ok=True)
            simulate_bids(
                raw,
                subjects=subjects,
                hours=hours,
                level=level,  # type: ignore[arg-type]
                channels=CHANNELS,
                seizures_per_hour=per_hour,
                seed=seed,
            )
        prepare(raw, store, preset="swec", sfreq=sfreq)
    return open_store(store)


def faint_recordings(subjects: int, hours: float, per_hour: float, seed: int) -> dict[str, Callable[[], Recording]]:
    """Return what makes each recording of the level "faint", by its id.

    A recording of the level "hard" without any seizure, to which seizures and unmarked discharges of a second recording
    of the same electrodes are added, each times a gain from the same wide range. Added: a small `Seizure.gain` would
    turn the contact's own background down as well, and a detector can find that silence.
    """
    runs = max(1, round(hours))
    return {
        f"sub-{subject:02d}_task-simulated_run-{run:02d}": partial(
            _faint_recording, subject, run, hours / runs * 3600, round(per_hour * hours / runs), seed
        )
        for subject in range(1, subjects + 1)
        for run in range(1, runs + 1)
    }


def _faint_recording(subject: int, run: int, seconds: float, number: int, seed: int) -> Recording:
    channels = int(np.random.default_rng([seed, subject]).integers(CHANNELS[0], CHANNELS[1] + 1))
    implantation = implant(channels, "hard", np.random.default_rng([seed, subject, 0, SUBJECT, 0]))
    random = np.random.default_rng([seed, subject, run])
    happening = []
    for event in plan(implantation, seconds, number, "hard", random):
        if event.marked:
            happening.append(replace(event, gain=1.0, reach=float(random.uniform(*FAINT_REACH))))
        else:
            happening.append(replace(event, gain=1.0, duration=float(random.uniform(5, LONGEST_DISCHARGE))))
    same = dict(channels=channels, duration=seconds, seed=seed, subject=subject)
    calm = simulate_recording(level="hard", seizures=[], run=run, **same)  # type: ignore[arg-type]
    ictal = simulate_recording(level="easy", seizures=happening, run=ICTAL_RUN + run, **same)  # type: ignore[arg-type]
    clock = np.arange(calm.n_samples) / calm.sfreq
    gain = np.zeros(len(clock), np.float32)
    for event in happening:
        edges = [event.onset, event.onset + 1, event.onset + event.duration - 1, event.onset + event.duration]
        gain += np.exp(random.uniform(*np.log(FAINT))) * np.interp(clock, edges, [0, 1, 1, 0]).astype(np.float32)
    values = calm.read(0, len(clock)) + gain * ictal.read(0, len(clock))
    flat = implantation.flat
    if flat is not None:
        values[flat, calm.read(0, len(clock), [flat])[0] == 0] = 0  # a dead contact sees no seizure
    return replace(calm, source=ArraySource(values), events=ictal.events, about={})


@dataclass(frozen=True)
class Fold:
    """Subjects by part."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def make_folds(subjects: Sequence[str], folds: int, val: int) -> list[Fold]:
    """Deal subjects into folds: each is tested once; the next `val` ones in the circle are for validation.

    Raises:
        ValueError: If a fold would have no test subject, or nobody to train on.
    """
    most = -(-len(subjects) // max(folds, 1))
    if not 2 <= folds <= len(subjects) or val < 1 or most + val >= len(subjects):
        raise ValueError(
            f"{len(subjects)} subjects, {folds} folds and {val} validation subjects were asked for, expected 2 folds "
            "or more, one subject at least to test, validate and train on: change --folds or --val-subjects."
        )
    found = []
    for place in np.array_split(np.arange(len(subjects)), folds):
        circle = [subjects[(place[-1] + 1 + i) % len(subjects)] for i in range(len(subjects) - len(place))]
        found.append(Fold(tuple(circle[val:]), tuple(circle[:val]), tuple(subjects[i] for i in place)))
    return found


def splits_of(parts: Mapping[str, Sequence[Recording]]) -> Splits:
    """Return whole recordings by part as a split for `RecordingDataModule`."""
    spans = [Span(item.id, 0.0, item.duration, part) for part, items in parts.items() for item in items]
    return Splits(tuple(sorted(spans, key=lambda span: span.recording)), {"by": "subject"})


# One method ----------------------------------------------------------------------------------------------------------


def after_warm_up(recording: Recording) -> tuple[pd.DataFrame, float]:
    """Return the events and the duration of what is scored: the recording without its first 120 s."""
    events = recording.events.assign(onset=recording.events["onset"] - WARM_UP)
    left = recording.duration - WARM_UP
    return check_events(events, left, overlapping="keep", outside="clip"), left


def scored_probability(method: Method, recording: Recording) -> xr.DataArray:
    """Return a method's probabilities of what is scored, on its clock."""
    found = method.probability(recording)
    found = found[found["time"].values >= WARM_UP - 1e-6]
    return found.assign_coords(time=found["time"] - WARM_UP)


@dataclass(frozen=True)
class Result:
    """What a method found in all test subjects.

    Attributes:
        scores: Of the events.
        auroc: Of the segments' probabilities, by subject; NaN without both classes.
        settings: The post-processing of each fold, and what it scored on the validation subjects.
        fit_seconds: Over all folds, post-processing included.
        predict_seconds: The same, per hour of recordings.
    """

    scores: Scores
    auroc: dict[str, float]
    settings: list[dict[str, Any]]
    fit_seconds: float
    predict_seconds: float


@dataclass
class Folded:
    """What one fold gave: the setting fitted on validation subjects, each test recording's events, and the time."""

    setting: dict[str, Any]
    found: dict[str, Scored]
    ranks: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    fit_seconds: float
    predict_seconds: float
    hours: float


def run_fold(method: Method, recordings: Sequence[Recording], fold: Fold) -> Folded:
    """Fit on a fold's training and validation subjects, and predict its test subjects once."""
    parts = (fold.train, fold.val, fold.test)
    train, val, test = ([item for item in recordings if item.subject in part] for part in parts)
    begun = time.perf_counter()
    method.fit(train, val)
    judged = {item.id: after_warm_up(item) for item in (*val, *test)}
    fitted = fit_postprocessing(
        {item.id: scored_probability(method, item) for item in val},
        {item.id: judged[item.id][0] for item in val},
        {item.id: judged[item.id][1] for item in val},
        SEGMENT,
        span=SEGMENT,
    )
    result = Folded(fitted.to_dict(), {}, {}, time.perf_counter() - begun, 0.0, 0.0)
    for item in test:
        begun = time.perf_counter()
        probability = scored_probability(method, item)
        result.predict_seconds += time.perf_counter() - begun
        result.hours += item.duration / 3600
        events, duration = judged[item.id]
        result.found[item.id] = (item.subject, events, detect(fitted.best, probability, duration), duration)
        place = np.round((probability["time"].values + WARM_UP) / SEGMENT).astype(int)
        result.ranks.setdefault(item.subject, []).append((probability.values, segment_labels(item)[place]))
    return result


def cross_validate(
    method: Method, recordings: Sequence[Recording], folds: Sequence[Fold], draws: int, processes: int = 1
) -> Result:
    """Fit and predict every fold, in several processes if asked, then score all test subjects together."""
    if processes == 1:
        every = [run_fold(method, recordings, fold) for fold in folds]
    else:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            every = list(pool.map(run_fold, repeat(method), repeat(recordings), folds))
    found = {id: scored for one in every for id, scored in one.found.items()}
    ranks = {name: pairs for one in every for name, pairs in one.ranks.items()}
    auroc = {name: auroc_of(*map(np.concatenate, zip(*pairs, strict=True))) for name, pairs in ranks.items()}
    scores = score_recordings(dict(sorted(found.items())), bootstrap=draws)
    hours = sum(one.hours for one in every)
    fit_seconds, predict_seconds = sum(one.fit_seconds for one in every), sum(one.predict_seconds for one in every)
    return Result(scores, auroc, [one.setting for one in every], fit_seconds, predict_seconds / hours)


def detect(setting: PostProcessing, probability: xr.DataArray, duration: float) -> pd.DataFrame:
    """Return the events of the scored part of a recording."""
    return setting(probability, SEGMENT, span=SEGMENT, duration=duration)


def auroc_of(values: np.ndarray, positive: np.ndarray) -> float:
    """Return how often a segment in a seizure has a higher value than one outside; ties count half."""
    known = np.isfinite(values)
    values, positive = values[known], positive[known]
    high, low = values[positive], np.sort(values[~positive])
    if not (len(high) and len(low)):
        return float("nan")
    below = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(below.mean() / 2 / len(low))


# Comparison ----------------------------------------------------------------------------------------------------------


def paired(first: Scores, second: Scores, draws: int, seed: int = 0) -> dict[str, float]:
    """Return the difference in pooled event F1, its 95 % interval over subjects, and the share of draws above 0."""
    a, b = (scores.per_subject[list(COUNTS)] for scores in (first, second))
    if list(a.index) != list(b.index):
        raise ValueError("The two methods were scored on different subjects, expected the same ones.")
    everyone = np.arange(len(a))[None]
    drawn = np.random.default_rng(seed).integers(len(a), size=(draws, len(a)))

    def difference(chosen: np.ndarray) -> np.ndarray:
        f1 = [
            measure({name: counts[name].to_numpy(float)[chosen].sum(1) for name in COUNTS})["f1_event"]
            for counts in (a, b)
        ]
        return f1[0] - f1[1]

    differences = difference(drawn)
    low, high = np.nanpercentile(differences, (2.5, 97.5))
    return {
        "difference": float(difference(everyone)[0]),
        "low": float(low),
        "high": float(high),
        "above_0": float(np.mean(differences > 0)),
    }


def summary(name: str, result: Result) -> dict[str, Any]:
    """Return one row on a method."""
    pooled = result.scores.pooled
    row: dict[str, Any] = {"method": name, "subject": "all", "seizures": int(result.scores.per_subject.reference.sum())}
    row |= {"f1_event": pooled.value["f1_event"], "f1_low": pooled.low["f1_event"], "f1_high": pooled.high["f1_event"]}
    for metric in ("sensitivity", "precision", "fp_per_hour", "kappa_5s", "f1_5s", "latency"):
        row[metric] = pooled.value[metric]
    seconds = {"fit_s": result.fit_seconds, "predict_s_per_h": result.predict_seconds}
    return row | {"auroc_5s": np.nanmean(list(result.auroc.values()))} | seconds


def per_subject(name: str, result: Result) -> list[dict[str, Any]]:
    """Return one row a subject on a method."""
    rows = []
    for subject, found in result.scores.per_subject.iterrows():
        row = {"method": name, "subject": subject, "seizures": int(found["reference"])}
        for metric in ("f1_event", "sensitivity", "precision", "fp_per_hour", "kappa_5s", "f1_5s", "latency"):
            row[metric] = found[metric]
        rows.append(row | {"auroc_5s": result.auroc[str(subject)]})
    return rows


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print rows as a table."""
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="n/a"), flush=True)


def write_csv(file: Path, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Write rows, each with the versions and the date."""
    versions = {name: version(name) for name in ("tsattn", "torch", "numpy", "scipy")}
    made = versions | {"python": platform.python_version(), "machine": platform.machine(), "date": str(date.today())}
    columns = list(dict.fromkeys(name for row in rows for name in row)) + list(about) + list(made)
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        for row in rows:
            short = {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in row.items()}
            writer.writerow(short | dict(about) | made)


def main() -> None:
    """Make the patients, run the methods, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the data; 1.3 GB for 10 subjects of 1 h")
    parser.add_argument("--subjects", type=int, default=10)
    parser.add_argument("--hours", type=float, default=1.0, help="of each subject")
    parser.add_argument("--level", choices=("easy", "hard", "faint"), default="hard")
    parser.add_argument("--seizures-per-hour", type=float, default=6.0)
    parser.add_argument("--sfreq", type=float, default=256.0, help="Hz of the store; signals are simulated at 512 Hz")
    parser.add_argument("--seed", type=int, default=0, help="of the patients")
    parser.add_argument("--folds", type=int, default=5, help="as many as subjects: leave one out")
    parser.add_argument("--val-subjects", type=int, default=2, help="of each fold")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["always", "line-length", "band-power"])
    parser.add_argument("--processes", type=int, default=1, help="folds that are fitted side by side")
    parser.add_argument("--draws", type=int, default=DRAWS, help="of the bootstraps")
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args()

    store = make_store(
        asked.work, asked.subjects, asked.hours, asked.level, asked.seizures_per_hour, asked.sfreq, asked.seed
    )
    recordings = store.recordings()
    folds = make_folds(sorted({item.subject for item in recordings}), asked.folds, asked.val_subjects)
    channels = [len(item.names) for item in recordings]
    print(
        f"{len(recordings)} recordings of {asked.subjects} subjects, {min(channels)} to {max(channels)} channels, "
        f"{sum(item.duration for item in recordings) / 3600:g} h, {sum(len(item.events) for item in recordings)} "
        f"seizures; {len(folds)} folds: {len(folds[0].train)} to train on, {asked.val_subjects} to validate",
        flush=True,
    )
    results = {}
    rows: list[dict[str, Any]] = []
    for name in asked.methods:
        results[name] = cross_validate(METHODS[name](store.path), recordings, folds, asked.draws, asked.processes)
        print(f"\n{name}")
        show(per_subject(name, results[name]))
        for number, fitted in enumerate(results[name].settings):
            settings = ", ".join(f"{key} {value:g}" for key, value in fitted["setting"].items())
            print(f"fold {number}: {settings}; F1 {fitted['scored']['f1_event']:.2f} on validation", flush=True)
        rows += [summary(name, results[name]), *per_subject(name, results[name])]
    print()
    show([row for row in rows if row["subject"] == "all"])
    print("\nDifferences in event F1, of the same draws of subjects")
    differences = [
        {"method": f"{second} less {first}", "subject": "all"}
        | paired(results[second].scores, results[first].scores, asked.draws)
        for place, first in enumerate(results)
        for second in list(results)[place + 1 :]
    ]
    if differences:
        show(differences)
    if asked.csv:
        about = {name: getattr(asked, name) for name in ABOUT}
        write_csv(asked.csv, rows + differences, about | {"rules": results[asked.methods[0]].scores.rules.version})


if __name__ == "__main__":
    sys.exit(main())
