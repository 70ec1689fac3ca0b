"""Stretches of time as two arrays, begins and ends: joined, split, and how much of them lies before a moment."""

import numpy as np
from jaxtyping import Float, Num

Times = Num[np.ndarray, " span"]


def join(begin: Times, end: Times, gap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted spans, those made one whose distance is under `gap` (at 0: those that overlap).

    The input may be unsorted and nested.
    """
    if len(begin) == 0:
        return begin, end
    order = np.argsort(begin, kind="stable")
    begin, end = begin[order], np.maximum.accumulate(end[order])
    new = begin[1:] - end[:-1] >= gap
    return begin[np.r_[True, new]], end[np.r_[new, True]]


def split(begin: Times, end: Times, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut spans longer than `longest` into pieces of that length and a rest."""
    pieces = np.maximum(np.ceil((end - begin) / longest - 1e-9), 1).astype(int)  # no piece of a rounding error's length
    which = np.repeat(np.arange(len(begin)), pieces)
    place = np.arange(len(which)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    first = begin[which] + place * longest
    return first, np.where(place + 1 == pieces[which], end[which], first + longest)


def covered(begin: Times, end: Times, at: Num[np.ndarray, " moment"]) -> Num[np.ndarray, " moment"]:
    """Return how much of sorted spans that do not overlap lies before each moment."""
    if len(begin) == 0:
        return np.zeros_like(at)
    before = np.r_[0, np.cumsum(end - begin)]
    place = np.searchsorted(begin, at, side="right")
    return before[place] - np.maximum(end[place - 1] - at, 0) * (place > 0)


def to_grid(seconds: Float[np.ndarray, " span"], rate: float, samples: int) -> np.ndarray:
    """Return the nearest sample of a grid (halves to even, as Python rounds), kept within `samples`."""
    return np.clip(np.rint(seconds * rate), 0, samples).astype(np.int64)
