"""Re-reference: which channels come out, and how each is made of those that go in.

- median, average: each channel minus the median or mean of the good channels at that instant. Scalp channels and
  intracranial ones are apart. A sample that is missing in one channel is left out of it.
- bipolar: contact k minus contact k + 1 of one shaft, called "A1-A2", at the middle between them.
- laplacian: contact k minus the mean of k - 1 and k + 1; the last contact of a shaft minus its one neighbour.

Bad channels take no part. With bads="keep" they come out as well: minus the same median or mean, or as a pair or
contact that is marked bad. What has nothing to be referenced to (a lone channel of its kind, a contact without a good
neighbour, a scalp channel along shafts) is left out and named in a note.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32
from scipy import sparse

from tsattn.recordings.preparation.preset import Method
from tsattn.recordings.recording import Note
from tsattn.recordings.shafts import GRID_ROW, contact, grids, neighbours

INTRACRANIAL = ("seeg", "ecog", "dbs")
PIECE = 1024  # samples whose median is found together, in the cache
TOLD = 8  # names in a note


@dataclass(frozen=True)
class Group:
    """Channels with one median or mean: `rows` come out, `good` make it; places among the channels that go in."""

    rows: tuple[int, ...]
    good: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Montage:
    """How the channels that come out are made.

    Attributes:
        method: The reference.
        channels: The table of what comes out.
        groups: For median and average; in the order of `channels`, their rows make up all of it.
        order: Place among the channels that go in of each that comes out, for none, median and average.
        matrix: `(out, in)`, for bipolar and laplacian.
        notes: What was left out.
    """

    method: Method
    channels: pd.DataFrame
    groups: tuple[Group, ...] = ()
    order: tuple[int, ...] = ()
    matrix: sparse.csr_array | None = None
    notes: tuple[Note, ...] = ()

    def apply(self, values: Float32[np.ndarray, "channel time"]) -> Float32[np.ndarray, "out time"]:
        """Re-reference samples, in place if it can; what misses a sample gives a missing sample to all made of it."""
        if self.matrix is not None:
            return self.matrix @ values
        middle = _median if self.method == "median" else _mean
        for begin in range(0, values.shape[1] if self.groups else 0, PIECE):
            part = values[:, begin : begin + PIECE]
            middles = [middle(part[list(group.good)]) for group in self.groups]
            for group, line in zip(self.groups, middles, strict=True):
                for row in group.rows:
                    part[row] -= line
        return values if self.order == tuple(range(len(values))) else values[list(self.order)]


def make_montage(channels: pd.DataFrame, method: Method, names: Sequence[str] | None = None) -> Montage:
    """Return how to re-reference these channels.

    Args:
        channels: Table; those with status "bad" are not used for the reference.
        method: The reference.
        names: All contacts of the recording, which tell shafts from grids even if some channels are left out.

    Raises:
        ValueError: If no channel comes out, or two are one contact.
    """
    channels = channels.reset_index(drop=True)
    if method == "none":
        return Montage(method, channels, order=tuple(range(len(channels))))
    if method in ("median", "average"):
        return _common(channels, method)
    return _along_shafts(channels, method, list(channels["name"]) if names is None else list(names))


def _common(channels: pd.DataFrame, method: Method) -> Montage:
    good, inside = channels["status"] != "bad", channels["type"].isin(INTRACRANIAL)
    groups, lone = [], []
    for kind in (inside, ~inside):
        members, makers = np.flatnonzero(kind), np.flatnonzero(kind & good)
        if len(makers) > 1:
            groups.append(Group(tuple(members.tolist()), tuple(makers.tolist())))
        else:
            lone += members.tolist()
    order = sorted(row for group in groups for row in group.rows)
    if not order:
        raise ValueError(
            f"Reference {method!r} needs at least two good channels of a kind, found {int(good.sum())} good ones of "
            f"{len(channels)}: choose reference='none'."
        )
    notes = _left_out(channels["name"].iloc[lone].tolist(), "the only good one of its kind (scalp or intracranial)")
    return Montage(
        method, channels.iloc[order].reset_index(drop=True), tuple(groups), order=tuple(order), notes=tuple(notes)
    )


def _along_shafts(channels: pd.DataFrame, method: Method, names: list[str]) -> Montage:
    inside = channels[channels["type"].isin(INTRACRANIAL)]
    place = dict(zip(inside["name"], inside.index.tolist(), strict=True))
    pairs = [(place[a], place[b]) for a, b in neighbours(names) if a in place and b in place]
    bad = (channels["status"] == "bad").to_numpy()
    records: list[dict[str, Any]] = [dict(zip(channels.columns, row, strict=True)) for row in channels.to_numpy(object)]
    rows: list[dict[str, Any]] = []
    weights: list[dict[int, float]] = []
    if method == "bipolar":
        for a, b in sorted(pairs):
            rows.append(_pair(records[a], records[b]))
            weights.append({a: 1.0, b: -1.0})
        used = {row for pair in pairs for row in pair}
    else:
        beside: dict[int, list[int]] = {}
        for a, b in pairs:
            beside.setdefault(a, []).append(b)
            beside.setdefault(b, []).append(a)
        for row in sorted(beside):
            around = [other for other in beside[row] if not bad[other]]
            if around:
                rows.append(records[row])
                weights.append({row: 1.0} | {other: -1 / len(around) for other in around})
        used = {row for weight in weights for row, value in weight.items() if value == 1.0}
    if not rows:
        raise ValueError(
            f"Reference {method!r} needs contacts side by side on a shaft, told from names such as LA1, LA2; among "
            f"{len(channels)} channels there are none: choose another reference, or rename the channels."
        )
    column = [list(weight) for weight in weights]
    matrix = sparse.csr_array(
        (
            np.array([value for weight in weights for value in weight.values()], np.float32),
            np.concatenate(column),
            np.concatenate([[0], np.cumsum([len(c) for c in column])]),
        ),
        shape=(len(rows), len(channels)),
    )
    notes = [
        Note("info", f"{shaft} is taken for a grid with rows of {GRID_ROW} contacts.")
        if known
        else Note("warning", f"{shaft} is taken for a grid whose rows the names do not tell.")
        for shaft, known in grids(names).items()
    ]
    notes += _left_out(channels["name"].drop(sorted(used)).tolist(), "no good neighbour on a shaft, by the names")
    return Montage(method, pd.DataFrame(rows)[channels.columns.tolist()], matrix=matrix, notes=tuple(notes))


def _pair(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    names = []
    for row in (first, second):
        place = contact(row["name"])
        assert place is not None
        names.append(f"{place[0]}{place[1]}")
    middle = {axis: (first[axis] + second[axis]) / 2 for axis in "xyz"}
    status = "bad" if "bad" in (first["status"], second["status"]) else "good"
    reasons = dict.fromkeys(text for text in (first["reason"], second["reason"]) if text)
    return {**first, "name": "-".join(names), "status": status, "reason": "; ".join(reasons), **middle}


def _left_out(names: Sequence[str], why: str) -> list[Note]:
    if not names:
        return []
    told = ", ".join(names[:TOLD]) + (", ..." if len(names) > TOLD else "")
    return [Note("warning", f"{len(names)} channels are left out ({told}): {why}.")]


def _median(values: Float32[np.ndarray, "channel time"]) -> Float32[np.ndarray, " time"]:
    ranked = np.sort(values.T.copy(), axis=1)  # NaN stands last; a sort of rows in the cache is np.partition's better
    if not np.isnan(ranked[:, -1]).any():
        return ranked[:, (len(values) - 1) // 2] / 2 + ranked[:, len(values) // 2] / 2
    count = (~np.isnan(ranked)).sum(1, keepdims=True)
    lower = np.take_along_axis(ranked, np.maximum(count - 1, 0) // 2, axis=1)
    upper = np.take_along_axis(ranked, np.minimum(count // 2, len(values) - 1), axis=1)
    return (lower / 2 + upper / 2)[:, 0]


def _mean(values: Float32[np.ndarray, "channel time"]) -> Float32[np.ndarray, " time"]:
    mean = values.mean(axis=0, dtype=float)
    if np.isnan(mean).any():
        known = ~np.isnan(values)
        mean = np.where(known, values, 0).sum(0, dtype=float) / np.where(known.any(0), known.sum(0), np.nan)
    return mean.astype(np.float32)
