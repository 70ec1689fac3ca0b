"""Lightning data module of recordings: a prepared store and a split become batches for training, validation and test.

Signals come in microvolts as they were prepared: no scaling and no cropping happens here. Training may be balanced and
shuffled; validation and test see every window once, in order, at its natural prevalence.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import lightning
import numpy as np
import xarray as xr

from tsattn.contracts import RecordingBatch, SignalSpec
from tsattn.recordings.domain import describe
from tsattn.recordings.places import revealed
from tsattn.recordings.preparation.preset import differences
from tsattn.recordings.recording import Recording
from tsattn.recordings.splits.leaks import audit, same_signal, twins_in_report
from tsattn.recordings.splits.split import By, as_recordings, split
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.recordings.store import open_store
from tsattn.recordings.subjects import assigned
from tsattn.recordings.windows.batches import RecordingLoader, WindowBatches
from tsattn.recordings.windows.channel_choice import MoreChannels, choose_channels, describe_choice
from tsattn.recordings.windows.labels import Rule
from tsattn.recordings.windows.places import Gaps, Windowing, read_window
from tsattn.recordings.windows.reading import WindowReader
from tsattn.recordings.windows.table import Labelling, WindowTable, tabulate

log = logging.getLogger(__name__)
SHARE, HORIZON = 0.5, 1800.0  # of the label rules

Part = Literal["train", "val", "test"]
Bads = Literal["drop", "keep"]
Shuffle = Literal["full", "local"]


class RecordingDataModule(lightning.LightningDataModule):
    """Windows of recordings for training, validation and test.

    Args:
        store: Path of a prepared store; `from_recordings` takes recordings from memory.
        splits: File that `tsattn recordings split` wrote, or a split; "subject", "seizure" or "time" makes one with the
            usual shares. None: everything is for test and prediction.
        fold: Which fold is for test, if the split has folds; the next one is for validation.
        segments: Of a window.
        segment_seconds: Length of a segment.
        stride_seconds: Between training windows.
        eval_stride_seconds: Between windows of validation and test; None: as in training.
        label: Rule: last_segment, any_segment, share, per_segment, preictal (`labels.label_windows`).
        label_share: Of a window that seizures must cover, for "share".
        label_horizon: Seconds before a seizure, for "preictal".
        gaps: "drop" leaves out windows that touch a gap; "mask" keeps them if at least half of them was recorded.
        bads: Whether channels that are marked as bad are read: "drop" or "keep".
        max_channels: Room of the model; None: any number.
        more_channels: Of recordings with more: raise, spread, variance, ensemble (`channel_choice.choose_channels`);
            "variance" looks at a recording's training part, at all of it if it has none.
        batch_size: Training windows per batch and process.
        eval_batch_size: Windows per batch of validation and test; None: as in training.
        balance: Share of windows with a seizure in a training epoch; None: as they are. Never in validation and test.
        windows_per_epoch: Training windows of an epoch; None: all, or with `balance` every seizure window once.
        near_seconds: Train only on windows at most this far from a seizure; None: on all.
        shuffle: Of training windows: "full", or "local": those of `blocks` / 2 random stretches are mixed at a time,
            so that each stretch is read once an epoch and reader process.
        block_seconds: Length of a stretch for "local".
        blocks: Stretches that each reader keeps in memory for "local" (64 channels at 512 Hz: 79 MB per 600 s).
        workers: Reader processes of each loader.
        pin_memory: Whether signals come in page-locked memory, for a GPU.
        seed: Random seed for the order of the training windows.
        protocol: "all" windows that fit; "ibm": those of the authors' loader of MVPFormer, for comparison only.
        slowdown: With "ibm": training strides of stride / segments near seizures.
        ibm_sfreq: With "ibm": rate in Hz to which windows are interpolated without a filter, as that loader does.

    Raises:
        ValueError: If an option is out of range; what only the recordings can show is raised by `prepare`.
    """

    def __init__(
        self,
        store: str | Path | None = None,
        splits: str | Path | Splits | None = None,
        fold: int | None = None,
        segments: int = 25,
        segment_seconds: float = 5.0,
        stride_seconds: float = 5.0,
        eval_stride_seconds: float | None = None,
        label: Rule = "last_segment",
        label_share: float = SHARE,
        label_horizon: float = HORIZON,
        gaps: Gaps = "drop",
        bads: Bads = "drop",
        max_channels: int | None = None,
        more_channels: MoreChannels = "raise",
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        balance: float | None = None,
        windows_per_epoch: int | None = None,
        near_seconds: float | None = None,
        shuffle: Shuffle = "full",
        block_seconds: float = 600.0,
        blocks: int = 16,
        workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
        protocol: Literal["all", "ibm"] = "all",
        slowdown: bool = False,
        ibm_sfreq: float | None = None,
    ) -> None:
        super().__init__()
        for name, number in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size), ("blocks", blocks)):
            if number is not None and number < 1:
                raise ValueError(f"{name} is {number}, expected at least 1.")
        for name, word, words in (
            ("label", label, get_args(Rule)),
            ("bads", bads, get_args(Bads)),
            ("more_channels", more_channels, get_args(MoreChannels)),
            ("shuffle", shuffle, get_args(Shuffle)),
        ):
            if word not in words:
                raise ValueError(f"{name} is {word!r}, expected one of {', '.join(words)}.")
        _refuse_idle(label, label_share, label_horizon, splits, fold)
        for name, least, given in (
            ("max_channels", 1, max_channels), ("workers", 0, workers), ("near_seconds", 0, near_seconds),
        ):  # fmt: skip
            if given is not None and given < least:
                raise ValueError(f"{name} is {given:g}, expected {least} or more.")
        if not block_seconds > 0:
            raise ValueError(f"block_seconds is {block_seconds:g}, expected above 0.")
        if balance is not None and not 0 < balance < 1:
            raise ValueError(f"balance is {balance:g}, expected between 0 and 1: the share of windows with a seizure.")
        if windows_per_epoch is not None and windows_per_epoch < 1:
            raise ValueError(f"windows_per_epoch is {windows_per_epoch}, expected at least 1.")
        self.windowing = Windowing(
            segments, segment_seconds, stride_seconds, gaps, protocol=protocol, slowdown=slowdown, sfreq=ibm_sfreq
        )
        stride_seconds = stride_seconds if eval_stride_seconds is None else eval_stride_seconds
        self.eval_windowing = replace(self.windowing, stride_seconds=stride_seconds, slowdown=False)
        self.labelling = Labelling(label, label_share, label_horizon)
        self.store = None if store is None else revealed(store)
        self.splits = revealed(splits) if isinstance(splits, str | Path) and splits not in get_args(By) else splits
        self.fold = fold
        self.bads = bads
        self.max_channels = max_channels
        self.more_channels = more_channels
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.balance = balance
        self.windows_per_epoch = windows_per_epoch
        self.near_seconds = near_seconds
        self.shuffle = shuffle
        self.block_seconds = block_seconds
        self.blocks = blocks
        self.workers = workers
        self.pin_memory = pin_memory
        self.seed = seed
        self._told = False
        self._given: list[Recording] | None = None
        self._recordings: list[Recording] = []
        self._audited: Splits | None = None
        self._channels: list[list[list[int]]] = []
        self._choices: list[dict[str, Any]] = []
        self._tables: dict[str, WindowTable] = {}

    @classmethod
    def from_recordings(cls, recordings: Sequence[Recording], **options: Any) -> "RecordingDataModule":
        """Take recordings from memory, or from wherever they are read.

        Args:
            recordings: At one sampling rate.
            **options: As in the constructor, without `store`.
        """
        data = cls(**options)
        data._given = list(recordings)
        return data

    # Recordings --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Open the recordings and audit the split; once, however often it is called.

        Raises:
            FileNotFoundError: If the store or the split is not there.
            ValueError: If the recordings differ in rate, a recording has more channels than the model, or the split
                lets parts share time or signal.
        """
        if self._recordings:
            return
        if (self.store is None) == (self._given is None):
            raise ValueError("There are no recordings: pass store, or use RecordingDataModule.from_recordings.")
        recordings = self._given if self._given is not None else as_recordings(open_store(str(self.store)))
        if not recordings:
            raise ValueError("There are no recordings in the store.")
        rates = sorted({recording.sfreq for recording in recordings})
        if len(rates) > 1 and self.windowing.sfreq is None:
            raise ValueError(
                f"The recordings have {', '.join(f'{rate:g}' for rate in rates)} Hz, expected one rate: prepare them."
            )
        self.windowing.segment_samples(self.windowing.sfreq or rates[0])
        splits = self._given_split()
        if splits is not None:
            recordings = assigned(recordings, splits.made.get("subjects") or {})
        self._audited = self._audit(recordings, splits)
        if self.bads == "drop":
            bad = sum(int((recording.channels["status"] == "bad").sum()) for recording in recordings)
            if bad:
                log.info("%d channels of %d recordings are bad and left out.", bad, len(recordings))
            recordings = [recording.pick(bads=False) for recording in recordings]
        channels, choices = [], []
        for item in recordings:
            train = self._audited.of(item.id, "train")
            parts = [(max(span.begin, 0.0), span.end) for span in train] or None
            readings = choose_channels(item, self.max_channels, self.more_channels, parts)
            choice = describe_choice(item, readings, self.more_channels, parts)
            if choice["left_out"]:
                log.warning(
                    "%s: %d of %d channels are read, chosen by %r.",
                    item.id,
                    choice["read"],
                    choice["of"],
                    choice["policy"],
                )
            channels.append(readings)
            choices.append(choice)
        self._channels, self._choices, self._recordings = channels, choices, recordings

    def _given_split(self) -> Splits | None:
        """Return the split that was given, None if it is made here."""
        if self.splits is None or self.splits in get_args(By):
            return None
        if self.splits is not None and not isinstance(self.splits, Splits) and not Path(self.splits).exists():
            raise FileNotFoundError(
                f"There is no split at {self.splits}, expected a file of `tsattn recordings split`, or one of "
                f"{', '.join(get_args(By))}."
            )
        return self.splits if isinstance(self.splits, Splits) else Splits.load(self.splits)

    def _audit(self, recordings: list[Recording], splits: Splits | None) -> Splits:
        if splits is None and self.splits is not None:
            by: Any = self.splits
            return split(recordings, by=by, seed=self.seed, embargo_seconds=self.windowing.window_seconds)
        if splits is None:
            return Splits(tuple(Span(item.id, 0.0, item.duration, "test") for item in recordings))
        twins = twins_in_report(recordings, splits)
        if twins is None:
            log.info("The split was not audited for these recordings: looking for leaks.")
            twins = same_signal(recordings)
        if self.fold is not None:
            splits = splits.fold(self.fold)
        elif folds := [part for part in splits.parts if part.startswith("fold")]:
            raise ValueError(f"The split has {len(folds)} folds: choose one by fold=0, 1, ...")
        return audit(recordings, splits, self.windowing.window_seconds, twins)

    @property
    def recordings(self) -> list[Recording]:
        """The recordings; `RecordingBatch.recording` counts in this list."""
        self.prepare()
        return self._recordings

    @property
    def channel_choices(self) -> list[dict[str, Any]]:
        """Which channels of each recording are read, in plain data (`channel_choice.describe_choice`)."""
        self.prepare()
        return self._choices

    @property
    def audited(self) -> Splits:
        """The split with its report."""
        self.prepare()
        assert self._audited is not None
        return self._audited

    @property
    def sfreq(self) -> float:
        """Hz, of all windows."""
        return self.windowing.sfreq or self.recordings[0].sfreq

    @property
    def spec(self) -> SignalSpec:
        """What a network that is trained on these recordings must know of them.

        Raises:
            ValueError: If the recordings were prepared in different ways.
        """
        found = [item.about.get("provenance", {}).get("preset", {}) for item in self.recordings]
        for item, one in zip(self.recordings, found, strict=True):
            if differences(found[0], one) or differences(one, found[0]):
                raise ValueError(
                    f"{item.id} was prepared in another way than {self.recordings[0].id}: prepare them in one store."
                )
        train = {span.recording for span in self.audited.spans if span.part == "train"}
        domain = describe([item for item in self.recordings if item.id in train] or self.recordings)
        return SignalSpec(dict(found[0]), more_channels=self.more_channels, gaps=self.windowing.gaps, domain=domain)

    def names(self, batch: RecordingBatch, row: int) -> list[str]:
        """Return the names of the channels of one row of a batch, in its order.

        Args:
            batch: From this module's loaders.
            row: Of the batch.
        """
        names = self.recordings[int(batch.recording[row])].names
        return [names[i] for i in batch.channels[row].tolist() if i >= 0]

    # Windows -----------------------------------------------------------------------------------------------------

    def windows(self, part: Part) -> WindowTable:
        """Return all windows of a part, in order.

        Args:
            part: "train", "val" or "test".
        """
        self.prepare()
        if part not in self._tables:
            train = part == "train"
            spans = [span for span in self.audited.spans if span.part == part]
            self._tables[part] = tabulate(
                self._recordings,
                spans,
                self.windowing if train else self.eval_windowing,
                self.labelling,
                self.near_seconds if train else None,
            )
        return self._tables[part]

    @property
    def window_counts(self) -> dict[str, int]:
        """Number of windows of each part."""
        return {part: len(self.windows(part)) for part in ("train", "val", "test")}

    @property
    def summary(self) -> str:
        """One line a part: recordings, windows, how many have a seizure, what was left out."""
        lines = []
        for part in ("train", "val", "test"):
            table = self.windows(part)
            left = f", {table.touching_gaps} left out at gaps" if table.touching_gaps else ""
            left += f", {table.unlabelled} without a label" if table.unlabelled else ""
            lines.append(
                f"{part}: {len(np.unique(table.recording))} recordings, {len(table):,} windows, "
                f"{int(table.positive.sum()):,} with a seizure{left}"
            )
        return "\n".join(lines)

    def window_array(self, part: Part, number: int) -> xr.DataArray:
        """Read one window as a labelled array, NaN where nothing was recorded.

        Args:
            part: "train", "val" or "test".
            number: Of the window, as in `windows(part)`.

        Returns:
            Dims `segment` (seconds from the recording's start), `channel` (names) and `time` (seconds from the
            segment's start); attributes `recording`, `begin`, `label`, `sfreq` and `unit`.
        """
        table = self.windows(part)
        item = self.recordings[int(table.recording[number])]
        signal, observed = read_window(item, int(table.start[number]), self.windowing)
        signal[~observed] = np.nan
        begin = float(table.begin[number])
        return xr.DataArray(
            signal,
            dims=("segment", "channel", "time"),
            coords={
                "segment": begin + np.arange(self.windowing.segments) * self.windowing.segment_seconds,
                "channel": item.names,
                "time": np.arange(signal.shape[2]) / self.sfreq,
            },
            attrs={
                "recording": item.id,
                "begin": begin,
                "label": table.label[number].tolist(),
                "sfreq": self.sfreq,
                "unit": "uV",
            },
            name="signal",
        )

    # Lightning ---------------------------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Open the recordings, audit the split, and refuse to train on nothing.

        Raises:
            ValueError: As `prepare`; or if there is no training window to fit on.
        """
        self.prepare()
        if stage == "fit" and not len(self.windows("train")):
            raise ValueError(
                "There is no training window: the split has no span for training that is as long as a window "
                f"({self.windowing.window_seconds:g} s). Make one by `tsattn recordings split`."
            )
        if not self._told:
            log.info("%s", self.summary)
            self._told = True

    def train_dataloader(self) -> RecordingLoader:
        """Training windows, drawn and shuffled for each epoch."""
        return self._loader("train")

    def val_dataloader(self) -> RecordingLoader | list[RecordingLoader]:
        """Every validation window once, in order."""
        return self._each("val")

    def test_dataloader(self) -> RecordingLoader | list[RecordingLoader]:
        """Every test window once, in order."""
        return self._each("test")

    def predict_dataloader(self) -> RecordingLoader | list[RecordingLoader]:
        """The test windows."""
        return self.test_dataloader()

    def _each(self, part: Part) -> RecordingLoader | list[RecordingLoader]:
        if len(self.windows(part)):
            return self._loader(part)
        if part in self.audited.parts:
            raise ValueError(
                f"No window of {self.eval_windowing.window_seconds:g} s fits into what the split has for {part}, or "
                "all touch gaps. Take shorter windows, or gaps='mask'."
            )
        return []

    def _loader(self, part: Part) -> RecordingLoader:
        trainer, train = self.trainer, part == "train"
        local = train and self.shuffle == "local"
        reader = WindowReader(
            self.recordings,
            self.windowing if train else self.eval_windowing,
            self.block_seconds if local else None,
            self.blocks,
        )
        return RecordingLoader(
            WindowBatches(reader, self.windows(part), self._channels),
            self.batch_size if train else self.eval_batch_size or self.batch_size,
            shuffle=self.shuffle if train else "none",
            seed=self.seed,
            balance=self.balance if train else None,
            count=self.windows_per_epoch if train else None,
            rank=0 if trainer is None else trainer.global_rank,
            world=1 if trainer is None else trainer.world_size,
            even=train,
            every_reading=not train,
            workers=self.workers,
            pin_memory=self.pin_memory,
        )


def _refuse_idle(label: str, share: float, horizon: float, splits: Any, fold: int | None) -> None:
    """Raise ValueError for an option that is out of range, or would do nothing beside the others; opens no file."""
    if not 0 < share <= 1:
        raise ValueError(f"label_share is {share:g}, expected above 0 and at most 1 (of a window, in seizures).")
    if not horizon > 0:
        raise ValueError(f"label_horizon is {horizon:g} s, expected above 0.")
    for name, number, usual, rule in (
        ("label_share", share, SHARE, "share"), ("label_horizon", horizon, HORIZON, "preictal"),
    ):  # fmt: skip
        if number != usual and label != rule:
            raise ValueError(f"{name} is {number:g}, which label={label!r} does not look at: it belongs to {rule!r}.")
    if fold is not None and (splits is None or splits in get_args(By)):
        made = "there is no split" if splits is None else f"splits={splits!r} makes one without folds"
        raise ValueError(
            f"fold is {fold}, and {made}: write one by `tsattn recordings split STORE --folds 5 --out splits.json`, "
            "and give it as splits."
        )
    if fold is not None and fold < 0:
        raise ValueError(f"fold is {fold}, expected 0 or more.")
