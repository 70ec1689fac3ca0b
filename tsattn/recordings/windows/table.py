"""All windows of a part of a split, as columns: which recording, where, which label; and the order to read them in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from tsattn.events.table import seizures
from tsattn.recordings.recording import Recording
from tsattn.recordings.splits.splits import Span
from tsattn.recordings.windows.labels import NO_LABEL, Rule, label_windows, touches
from tsattn.recordings.windows.places import Windowing, place_windows


@dataclass(frozen=True)
class Labelling:
    """How windows are labelled; see `labels.label_windows`.

    Attributes:
        rule: Name.
        share: Of a window, for "share".
        horizon: Seconds, for "preictal".
    """

    rule: Rule = "last_segment"
    share: float = 0.5
    horizon: float = 1800.0


@dataclass(frozen=True)
class WindowTable:
    """Windows by recording and time.

    Attributes:
        recording: Place in the list of recordings.
        start: First sample.
        begin: Seconds from the recording's start.
        label: 0 or 1, of a window or of its segments.
        touching_gaps: Windows that were left out because they touch a gap.
        unlabelled: Windows that were left out because the rule gives them no label.
    """

    recording: Int[np.ndarray, " window"]
    start: Int[np.ndarray, " window"]
    begin: Float[np.ndarray, " window"]
    label: Int8[np.ndarray, "window *segment"]
    touching_gaps: int = 0
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.start)

    @property
    def positive(self) -> Bool[np.ndarray, " window"]:
        """Whether a window, or one of its segments, has the label 1."""
        return (self.label.reshape(len(self), -1) == 1).any(1) if len(self) else np.zeros(0, dtype=bool)


def tabulate(
    recordings: Sequence[Recording],
    spans: Sequence[Span],
    windowing: Windowing,
    labelling: Labelling | None = None,
    near_seconds: float | None = None,
) -> WindowTable:
    """List the windows of some stretches of recordings.

    Args:
        recordings: All; each at a rate of its own.
        spans: Stretches, of one part.
        windowing: How windows are laid.
        labelling: How they are labelled.
        near_seconds: Keep only windows at most this far from a seizure; None keeps all.
    """
    labelling = labelling or Labelling()
    place = {recording.id: i for i, recording in enumerate(recordings)}
    columns: list[tuple[np.ndarray, ...]] = []
    dropped = unlabelled = 0
    for span in sorted(spans, key=lambda span: (place[span.recording], span.begin)):
        i = place[span.recording]
        recording = recordings[i]
        placed = place_windows(recording, windowing, span.begin, span.end)
        label = label_windows(
            recording.events,
            placed.begin,
            windowing.segments,
            windowing.segment_seconds,
            labelling.rule,
            share=labelling.share,
            horizon=labelling.horizon,
            last_seconds=windowing.last_seconds,
        )
        keep = (label != NO_LABEL).reshape(len(placed), -1).all(1) if len(placed) else np.zeros(0, dtype=bool)
        dropped, unlabelled = dropped + placed.dropped, unlabelled + int((~keep).sum())
        if near_seconds is not None:
            events = seizures(recording.events)
            onset = events["onset"].to_numpy(float)
            offset = onset + events["duration"].to_numpy(float)
            end = placed.begin + windowing.window_seconds
            keep &= touches(onset - near_seconds, offset + near_seconds, placed.begin, end)
        owner = np.full(int(keep.sum()), i, np.int32)
        columns.append((owner, placed.start[keep], placed.begin[keep], label[keep]))
    if not columns:
        shape = (0, windowing.segments) if labelling.rule == "per_segment" else (0,)
        return WindowTable(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0), np.zeros(shape, np.int8))
    owner, start, begin, label = (np.concatenate(column) for column in zip(*columns, strict=True))
    return WindowTable(owner, start, begin, label, dropped, unlabelled)


def draw(
    positive: Bool[np.ndarray, " window"], balance: float | None, count: int | None, random: np.random.Generator
) -> Int[np.ndarray, " drawn"]:
    """Draw the windows of a training epoch, in random order.

    Args:
        positive: Of all windows.
        balance: Share of positive windows; None: as they come.
        count: Windows of an epoch. None: all; with `balance` as many as hold every positive window once.
        random: Decides.

    Returns:
        Places of the windows; each is drawn once before one is drawn twice.

    Raises:
        ValueError: If there is nothing of one kind to draw from.
    """
    if balance is None:
        return _cycle(np.arange(len(positive)), len(positive) if count is None else count, random)
    kinds = np.flatnonzero(positive), np.flatnonzero(~positive)
    for kind, name, share in zip(kinds, ("with a seizure", "without a seizure"), (balance, 1 - balance), strict=True):
        if share > 0 and not len(kind):
            raise ValueError(
                f"There is no training window {name} among {len(positive)}, but balance is {balance:g}: pass "
                "balance=None, or split so that training has both."
            )
    if count is None:
        count = round(len(kinds[0]) / balance) if balance > 0 else len(kinds[1])
    first = round(count * balance)
    drawn = np.concatenate([_cycle(kinds[0], first, random), _cycle(kinds[1], count - first, random)])
    return random.permutation(drawn)


def _cycle(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    turns = [random.permutation(rows) for _ in range(-(-count // max(len(rows), 1)))]
    return np.concatenate(turns)[:count] if turns else rows[:0]


def gather_locally(
    block: Int[np.ndarray, "window 2"], buffer: int, random: np.random.Generator
) -> Int[np.ndarray, " window"]:
    """Order windows so that a reader which remembers `buffer` blocks reads each block once.

    Blocks come in random order, `buffer` of them at a time, and the windows of these in random order.

    Args:
        block: Recording and number of the block in which each window begins.
        buffer: Blocks that are mixed with each other.
        random: Decides.
    """
    _, number = np.unique(block, axis=0, return_inverse=True)
    number = number.reshape(-1)
    turn = random.permutation(int(number.max()) + 1 if len(number) else 0)
    return np.lexsort((random.random(len(number)), turn[number] // buffer))
