"""Batches of windows for training and evaluation: patients with different channels side by side, through a mask."""

import copy
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tsattn.contracts import RecordingBatch
from tsattn.recordings.windows.reading import WindowReader
from tsattn.recordings.windows.slots import Slots
from tsattn.recordings.windows.table import WindowTable, draw, gather_locally

Shuffle = Literal["none", "full", "local"]
Columns = tuple[np.ndarray, ...]  # of a batch, without its signal


class WindowBatches(Dataset[Any]):
    """Makes the batch of some windows; opens its files where it reads, so it may go to a worker process.

    Args:
        reader: Reads windows.
        windows: All windows of a part.
        channels: Of each recording: the channels of each reading, by `channel_choice.choose_channels`.
    """

    slots: Slots | None = None

    def __init__(self, reader: WindowReader, windows: WindowTable, channels: Sequence[list[list[int]]]) -> None:
        self.reader = reader
        self.windows = windows
        self.channels = list(channels)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "slots": None}  # a process that was not forked has no part in them

    def shape(self, rows: Int[np.ndarray, "row 2"]) -> tuple[int, int, int, int]:
        """Return the shape of a batch's signal.

        Args:
            rows: Number of a window, and of a reading of its recording's channels.
        """
        owner = self.windows.recording[rows[:, 0]]
        widest = max((len(self.channels[i][k]) for i, k in zip(owner, rows[:, 1], strict=True)), default=1)
        return len(rows), self.reader.windowing.segments, widest, self.reader.samples(int(owner[0]) if len(rows) else 0)

    def fill(self, rows: Int[np.ndarray, "row 2"], signal: Float32[np.ndarray, "row segment channel time"]) -> Columns:
        """Read windows into `signal`, and return the other columns of `RecordingBatch`."""
        table = self.windows
        window, reading = rows.T
        owner = table.recording[window]
        chosen = [self.channels[i][k] for i, k in zip(owner, reading, strict=True)]
        observed = np.zeros(signal.shape[:3], dtype=bool)
        places = np.full((len(rows), signal.shape[2]), -1, np.int64)
        for row, channels in enumerate(chosen):
            places[row, : len(channels)] = channels
            signal[row, :, len(channels) :] = 0.0
        for i in sorted(set(owner.tolist())):
            here = np.flatnonzero(owner == i)
            found = self.reader.read(
                i,
                table.start[window[here]].tolist(),
                [chosen[k] for k in here],
                [signal[k, :, : len(chosen[k])] for k in here],
            )
            for k, seen in zip(here, found, strict=True):
                observed[k, :, : seen.shape[1]] = seen
        label, owner = table.label[window].astype(np.int64), owner.astype(np.int64)
        return places >= 0, observed, label, owner, table.begin[window], places

    def __getitem__(self, task: tuple[np.ndarray, int | None]) -> tuple[int | Tensor, Columns]:
        """Make a batch in a worker: in a slot, or, where none is free, in a tensor that is sent."""
        rows, slot = task
        shape = self.shape(rows)
        if slot is not None and self.slots is not None:
            return slot, self.fill(rows, self.slots.array(slot, shape))
        signal = np.empty(shape, np.float32)
        columns = self.fill(rows, signal)
        return torch.from_numpy(signal), columns


class RecordingLoader:
    """Batches of one part; looks like a DataLoader to Lightning.

    The order of an epoch depends on `(seed, epoch)` only, whatever the workers, so an interrupted run can go on
    exactly. The last batch is never dropped.

    Args:
        batches: Makes batches.
        batch_size: Windows per batch and process.
        shuffle: "none": by recording and time. "full": anew in every epoch. "local": the same, but so that the
            reader's remembered stretches are used up before the next ones come.
        seed: Random seed of shuffling and drawing.
        balance: Share of positive windows in an epoch, drawn anew; None: all windows as they are.
        count: Windows of an epoch; None: all, see `table.draw`.
        rank: Number of this process.
        world: Number of processes.
        even: True (training): every process gets the same number of windows, the first ones of the epoch's order are
            used twice to fill up. False (evaluation): every window exactly once, and every process gets the same number
            of batches, as sharded networks must; where there are too few windows for that, batches of no rows.
        every_reading: Whether all readings of a recording with too many channels are made (evaluation), or one of
            them, by chance (training).
        workers: Reader processes; 0 reads in this one.
        pin_memory: Whether signals come in page-locked memory.
    """

    drop_last = False
    batch_sampler = None  # Lightning asks for it beside `sampler`

    def __init__(
        self,
        batches: WindowBatches,
        batch_size: int,
        *,
        shuffle: Shuffle = "none",
        seed: int = 0,
        balance: float | None = None,
        count: int | None = None,
        rank: int = 0,
        world: int = 1,
        even: bool = False,
        every_reading: bool = True,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1 window.")
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank} of {world} processes, expected 0 <= rank < {world}.")
        self.dataset = copy.copy(batches)  # with slots of its own
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.balance = balance
        self.count = count
        self.rank, self.world, self.even = rank, world, even
        self.every_reading = every_reading
        self.workers = workers
        self.pin_memory = pin_memory
        self.epoch = 0
        self._given = 0  # batches of this pass that were handed out
        self._skip = 0  # batches that an interrupted pass had handed out
        self._order: tuple[int, np.ndarray, int] | None = None  # epoch, rows, batches
        self._loader: DataLoader[RecordingBatch] | None = None
        self._rest: list[np.ndarray] = []
        self._tasks = _Tasks(self.dataset)

    @property
    def sampler(self) -> "RecordingLoader":
        """Itself: Lightning announces a new epoch by `loader.sampler.set_epoch(epoch)`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; another epoch than before begins at its first batch."""
        if epoch != self.epoch:
            self._given = self._skip = 0
        self.epoch = epoch

    def order(self) -> Int[np.ndarray, "row 2"]:
        """Return this process's rows of this epoch: number of a window, and of a reading of its channels."""
        return self._ordered()[0]

    def _ordered(self) -> tuple[np.ndarray, int]:
        if self._order is None or self._order[0] != self.epoch:
            rows = self._make_order()
            most = len(rows)
            if not self.even:
                parts = np.array_split(rows, self.world)
                rows, most = parts[self.rank], len(parts[0])
            self._order = (self.epoch, rows, math.ceil(most / self.batch_size))
        return self._order[1:]

    def _make_order(self) -> np.ndarray:
        table = self.dataset.windows
        random = np.random.default_rng([self.seed, self.epoch])
        if self.shuffle == "none":
            window = np.arange(len(table))
        else:
            window = draw(table.positive, self.balance, self.count, random)
        if self.shuffle == "local":
            reader = self.dataset.reader
            seconds = reader.block_seconds or reader.windowing.window_seconds
            block = np.stack([table.recording[window], (table.begin[window] // seconds).astype(np.int64)], axis=1)
            window = window[gather_locally(block, max(1, reader.blocks // 2), random)]  # a batch may span two turns
        number = np.random.default_rng([self.seed, self.epoch, 1]).random(len(window))  # of a reading, if one is made
        if self.world > 1 and self.even:
            share = math.ceil(len(window) / self.world)
            mine = np.arange(self.rank * share, (self.rank + 1) * share) % max(len(window), 1)
            window, number = window[mine], number[mine]
        readings = np.array([len(readings) for readings in self.dataset.channels], dtype=np.int64)
        several = readings[table.recording[window]]
        if self.every_reading:
            first = np.repeat(np.cumsum(several) - several, several)
            return np.stack([np.repeat(window, several), np.arange(several.sum()) - first], axis=1)
        return np.stack([window, (number * several).astype(np.int64)], axis=1)

    def __len__(self) -> int:
        return self._ordered()[1]

    def __iter__(self) -> Iterator[RecordingBatch]:
        skip, self._skip = self._skip, 0
        self._given = skip
        order, count = self._ordered()
        if self.even or self.world == 1:
            cut = [order[i * self.batch_size : (i + 1) * self.batch_size] for i in range(count)]
        else:
            cut = np.array_split(order, count) if count else []
        self._rest = self._tasks.rows = cut[skip:]
        for batch in self._batches():
            self._given += 1
            yield batch

    def _batches(self) -> Iterator[RecordingBatch]:
        data = self.dataset
        reach = not self.workers or multiprocessing.get_start_method() == "fork"
        if data.slots is None and reach and len(self.order()):
            widest = max(len(channels) for readings in data.channels for channels in readings)
            _, segments, _, samples = data.shape(self.order()[:1])
            # each worker has two batches in work, and the caller holds one or two
            size = 4 * self.batch_size * segments * widest * samples
            data.slots = Slots(2 * self.workers + 2, size, shared=self.workers > 0)
        if not self.workers:
            for rows, slot in self._tasks:
                yield self._batch(data[rows, slot], rows)
            return
        if self._loader is None:
            self._loader = DataLoader(
                data,
                batch_size=None,
                sampler=self._tasks,
                num_workers=self.workers,
                collate_fn=_as_it_is,
                persistent_workers=True,
            )
        for made, rows in zip(self._loader, self._rest, strict=True):
            yield self._batch(made, rows)

    def _batch(self, made: tuple[int | Tensor, Columns], rows: np.ndarray) -> RecordingBatch:
        signal, columns = made
        if isinstance(signal, int):
            assert self.dataset.slots is not None
            signal = self.dataset.slots.lend(signal, self.dataset.shape(rows))
        if self.pin_memory:
            signal = signal.pin_memory()
        return RecordingBatch(signal, *map(torch.from_numpy, columns))

    def state_dict(self) -> dict[str, int]:
        """Return how far this pass has come; Lightning keeps it in the checkpoint."""
        return {"epoch": self.epoch, "given": self._given if self._given < len(self) else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass go on where an interrupted one was."""
        self.epoch = state["epoch"]
        self._skip = state["given"]


class _Tasks:
    """The rows of the batches of a pass, each with a slot if one is free when a worker is asked for it."""

    def __init__(self, batches: WindowBatches) -> None:
        self.batches = batches
        self.rows: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[np.ndarray, int | None]]:
        slots = self.batches.slots
        if slots is not None:
            slots.reclaim()  # of a pass that was broken off: by now the workers have put down what they had
        for rows in self.rows:
            yield rows, None if slots is None else slots.take()


def _as_it_is(batch: Any) -> Any:
    return batch
