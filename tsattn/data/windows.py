"""Windows of a table: index arithmetic over one contiguous buffer. No file, no clock, no scaling.

A window is `context` steps that are read and `horizon` steps that are predicted. All windows of a table are one strided
view of its buffer, and a batch is one `index_select` along the first axis of that view: nothing is copied but the batch
itself, and the cost does not depend on the length of the table (`tests/data/bench_windows.py` compares the ways).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tsattn.contracts import Batch


@dataclass(frozen=True)
class Split:
    """Rows that are predicted in one part of the experiment.

    Attributes:
        begin: First row.
        end: One past the last row.
        reach_back: Whether the first context may lie before `begin` (most benchmarks; not PEMS, not training).
    """

    begin: int
    end: int
    reach_back: bool = True

    def __len__(self) -> int:
        return self.end - self.begin


def window_starts(
    rows: int, begin: int, end: int, context: int, horizon: int, *, reach_back: bool = True
) -> Int[Tensor, " window"]:
    """List where the windows of rows `[begin, end)` start, one step apart.

    Args:
        rows: Length of the table.
        begin: First row of the part.
        end: One past its last row.
        context: Steps read.
        horizon: Steps predicted.
        reach_back: Whether the context of the first window may lie before `begin`, so that the first predicted row
            is `begin` itself (where the table has `context` rows before it).

    Returns:
        First row of every window, ascending; empty if none fits.

    Raises:
        ValueError: If the part does not lie within the table.
    """
    if not 0 <= begin <= end <= rows:
        raise ValueError(f"The part is rows [{begin}, {end}) of a table of {rows} rows, expected 0 <= begin <= end.")
    first = max(begin - context, 0) if reach_back else begin
    return torch.arange(first, max(end - context - horizon + 1, first))


class Windows:
    """All windows of a table, as views of its buffer.

    Args:
        values: The table, standardised, targets first. NaN where missing.
        targets: Number of targets.
        context: Steps read.
        horizon: Steps predicted.
        known: Rows of `Batch.known`: known covariates, calendar marks.
        observed: False where a value is missing; None if nothing is.
        truth: What the forecasts are compared with, if not the first rows of `values` (where those are filled).
        hidden: Rows of `known` that end with the context; their horizon is 0 in a batch.
    """

    def __init__(
        self,
        values: Float[Tensor, "variate time"],
        targets: int,
        context: int,
        horizon: int,
        known: Float[Tensor, "known time"] | None = None,
        observed: Bool[Tensor, "variate time"] | None = None,
        truth: Float[Tensor, "target time"] | None = None,
        hidden: slice = slice(0, 0),
    ) -> None:
        variates, rows = values.shape
        if rows < context + horizon:
            raise ValueError(
                f"The table has {rows} rows, expected at least context + horizon = {context} + {horizon} = "
                f"{context + horizon}."
            )
        if not 1 <= targets <= variates:
            raise ValueError(f"{targets} targets were asked of {variates} variates, expected 1 to {variates}.")
        self.values = values.contiguous()
        self.known = None if known is None or not len(known) else known.contiguous()
        self.observed = None if observed is None else observed.contiguous()
        self.truth = None if truth is None else truth.contiguous()
        self.hidden = hidden
        self.targets = targets
        self.context = context
        self.horizon = horizon
        self.rows = rows
        self._make_views()

    def _make_views(self) -> None:
        length = self.context + self.horizon

        def views(buffer: Tensor) -> Tensor:  # (row, time) -> (window, row, time)
            return buffer.unfold(1, length, 1).transpose(0, 1)

        every = views(self.values)
        self._past = every[..., : self.context]
        future = every[:, : self.targets] if self.truth is None else views(self.truth)
        self._future = future[..., self.context :]
        self._known = None if self.known is None else views(self.known)
        self._observed = None if self.observed is None else views(self.observed)[..., : self.context]

    def __len__(self) -> int:
        return self.rows - self.context - self.horizon + 1

    @property
    def device(self) -> torch.device:
        """Where the buffer lies, and where batches are made."""
        return self.values.device

    def to(self, device: torch.device | str) -> "Windows":
        """Return the same windows with the buffer on `device` (self, if it lies there)."""
        if torch.device(device) == self.device:
            return self

        def moved(buffer: Tensor | None) -> Tensor | None:
            return None if buffer is None else buffer.to(device)

        return Windows(
            self.values.to(device),
            self.targets,
            self.context,
            self.horizon,
            moved(self.known),
            moved(self.observed),
            moved(self.truth),
            self.hidden,
        )

    def gather(self, starts: Int[Tensor, " batch"]) -> Batch:
        """Copy the windows that start at these rows into one batch, on the buffer's device.

        Args:
            starts: First rows, int64, on the buffer's device; each from 0 to `len(self) - 1`.

        Returns:
            Contiguous tensors, time last. `observed` is set if anything in the table is missing.
        """
        known = None if self._known is None else self._known.index_select(0, starts)
        if known is not None and self.hidden.stop:
            known[:, self.hidden, self.context :] = 0.0
        return Batch(
            past=self._past.index_select(0, starts),
            future=self._future.index_select(0, starts),
            known=known,
            observed=None if self._observed is None else self._observed.index_select(0, starts),
        )


class WindowLoader:
    """Batches of windows for a training loop or an evaluation; looks like a DataLoader to Lightning.

    The order of an epoch depends on `(seed, epoch)` only, so an interrupted run can go on exactly. The last batch is
    never dropped.

    Args:
        windows: The table.
        starts: First rows of the windows of this part.
        batch_size: Windows per batch (per process).
        shuffle: Whether every epoch has its own order.
        seed: Of the shuffling.
        rank: Number of this process.
        world: Number of processes.
        even: How windows are shared among processes. True (training): every process gets the same number, the first
            windows of the epoch's order are used twice to fill up. False (evaluation): every window exactly once.
    """

    drop_last = False
    batch_sampler = None  # Lightning asks for it beside `sampler`

    def __init__(
        self,
        windows: Windows,
        starts: Int[Tensor, " window"],
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        even: bool = True,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}, expected at least 1 window.")
        if not 0 <= rank < world:
            raise ValueError(f"rank is {rank} of {world} processes, expected 0 <= rank < {world}.")
        self.windows = windows
        self.starts = starts
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world = world
        self.even = even
        self.epoch = 0
        self._given = 0  # batches of this pass that were handed out
        self._skip = 0  # batches that an interrupted pass had handed out

    @property
    def sampler(self) -> "WindowLoader":
        """Itself: Lightning announces a new epoch by `loader.sampler.set_epoch(epoch)`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; another epoch than before begins at its first batch."""
        if epoch != self.epoch:
            self._given = self._skip = 0
        self.epoch = epoch

    def order(self) -> Int[Tensor, " share"]:
        """Return the first rows of this process's windows in the order of this epoch."""
        starts = self.starts
        if self.shuffle:
            generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
            starts = starts[torch.randperm(len(starts), generator=generator)]
        if self.even and self.world > 1:
            share = math.ceil(len(starts) / self.world)
            starts = starts[torch.arange(share * self.world) % max(len(starts), 1)]
        return starts[self.rank :: self.world]

    def __len__(self) -> int:
        share = math.ceil(max(len(self.starts) - (0 if self.even else self.rank), 0) / self.world)
        return math.ceil(share / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        skip, self._skip = self._skip, 0
        self._given = skip
        order = self.order()[skip * self.batch_size :].to(self.windows.device)
        for starts in order.split(self.batch_size):
            if len(starts):
                self._given += 1
                yield self.windows.gather(starts)

    def state_dict(self) -> dict[str, int]:
        """Return how far this pass has come; Lightning keeps it in the checkpoint."""
        return {"epoch": self.epoch, "given": self._given if self._given < len(self) else 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Let the next pass go on where an interrupted one was."""
        self.epoch = state["epoch"]
        self._skip = state["given"]


def _mix(seed: int, epoch: int) -> int:
    """One number from two, such that (0, 1) and (1, 0) differ and neighbours are far apart."""
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 1) % 2**63
