"""Time axes that recordings share, and the way from stretches of them back to each recording's own seconds."""

import itertools
from dataclasses import dataclass, field

import numpy as np

from tsattn.events.table import check_events, seizures
from tsattn.recordings.recording import Recording
from tsattn.recordings.splits.fingerprint import Twins
from tsattn.recordings.splits.leaks import clock_offset
from tsattn.recordings.splits.splits import Span


@dataclass
class Axis:
    """Recordings that share seconds or nearly do, on one time axis: second t of recording i is t + offset[i].

    Attributes:
        offset: By place of the recording.
        seizures: `(onset, offset)` on the axis, merged, sorted.
        begin: Of the first recording.
        end: Of the last one to end.
    """

    offset: dict[int, float]
    seizures: list[tuple[float, float]] = field(default_factory=list)
    begin: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Piece:
    """A stretch of an axis that goes to one part as a whole."""

    axis: Axis
    begin: float
    end: float
    seizures: int


def time_axes(recordings: list[Recording], used: list[int], shared: list[Twins]) -> list[Axis]:
    """Lay each recording on an axis; those that share seconds, or nearly do, lie on one.

    Args:
        recordings: All.
        used: Places of those to lay.
        shared: Pairs of used ones that share seconds or nearly do, with their offsets.
    """
    edges: dict[int, list[tuple[int, float]]] = {i: [] for i in used}
    for twin in sorted(shared, key=lambda twin: twin.begin - twin.end):  # the longest match decides
        edges[twin.first].append((twin.second, -twin.offset))
        edges[twin.second].append((twin.first, twin.offset))
    axes, seen = [], set()
    for i in used:
        if i in seen:
            continue
        axis = Axis({i: 0.0})
        queue = [i]
        while queue:
            here = queue.pop(0)
            for other, offset in edges[here]:
                if other not in axis.offset:
                    axis.offset[other] = axis.offset[here] + offset
                    queue.append(other)
        seen |= set(axis.offset)
        events = [
            (onset + axis.offset[j], onset + duration + axis.offset[j])
            for j in axis.offset
            for onset, duration in _seizures(recordings[j])
        ]
        axis.seizures = merged(sorted(events))
        axis.begin = min(axis.offset.values())
        axis.end = max(recordings[j].duration + offset for j, offset in axis.offset.items())
        axes.append(axis)
    return axes


def _seizures(recording: Recording) -> list[tuple[float, float]]:
    """Onset and duration of what lies in the recording; an error if one has none."""
    events = seizures(recording.events)
    try:
        events = check_events(events, recording.duration, overlapping="keep", outside="clip")
    except ValueError as error:
        raise ValueError(f"{recording.id}, seizures: {error}") from error
    return list(events[["onset", "duration"]].itertuples(index=False, name=None))


def merged(spans: list[tuple[float, float]], gap: float = 0.0) -> list[tuple[float, float]]:
    """Join sorted spans that are at most `gap` seconds apart."""
    out: list[tuple[float, float]] = []
    for begin, end in spans:
        if out and begin <= out[-1][1] + gap:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return out


def groups_of(recordings: list[Recording], axes: list[Axis]) -> list[list[Axis]]:
    """Return the axes of each subject, sorted by subject; subjects who meet on an axis are one group."""
    owner: dict[str, str] = {}

    def root(subject: str) -> str:
        owner.setdefault(subject, subject)
        while owner[subject] != subject:
            subject = owner[subject]
        return subject

    for axis in axes:
        roots = sorted({root(recordings[i].subject) for i in axis.offset})
        for other in roots[1:]:
            owner[other] = roots[0]
    groups: dict[str, list[Axis]] = {}
    for axis in axes:
        groups.setdefault(root(recordings[min(axis.offset)].subject), []).append(axis)
    return [groups[name] for name in sorted(groups)]


def in_time(recordings: list[Recording], axes: list[Axis]) -> tuple[list[Axis], bool]:
    """Return a group's axes in the order of their clocks and True, or, without clocks, of their ids and False."""
    if len(axes) == 1:
        return axes, True
    first = [min(axis.offset.items(), key=lambda item: item[1])[0] for axis in axes]
    offsets = [clock_offset(recordings[first[0]], recordings[i]) for i in first[1:]]
    if None in offsets or len(set(offsets)) < len(offsets):
        order = sorted(range(len(axes)), key=lambda k: recordings[first[k]].id)
        return [axes[k] for k in order], False
    times = [0.0, *(offset for offset in offsets if offset is not None)]
    return [axes[k] for k in np.argsort(times, kind="stable")], True


def to_spans(recordings: list[Recording], dealt: list[tuple[Piece, str]], embargo: float) -> list[Span]:
    """Join neighbouring pieces of one part, leave an embargo between parts, and go back to each recording's seconds.

    Args:
        recordings: All.
        dealt: Pieces and the parts that they go to.
        embargo: Seconds.
    """
    spans = []
    by_axis: dict[int, list[tuple[float, float, str]]] = {}
    axes = {id(piece.axis): piece.axis for piece, _ in dealt}
    for piece, part in dealt:
        by_axis.setdefault(id(piece.axis), []).append((piece.begin, piece.end, part))
    for key, pieces in by_axis.items():
        joined: list[tuple[float, float, str]] = []
        for begin, end, part in sorted(pieces):
            if joined and joined[-1][2] == part and begin <= joined[-1][1] + 1e-6:
                joined[-1] = (joined[-1][0], end, part)
            else:
                joined.append((begin, end, part))
        for k, (a, b) in enumerate(itertools.pairwise(joined)):
            middle = (a[1] + b[0]) / 2
            joined[k] = (joined[k][0], min(a[1], middle - embargo / 2), a[2])
            joined[k + 1] = (max(b[0], middle + embargo / 2), b[1], b[2])
        for i, offset in axes[key].offset.items():
            for begin, end, part in joined:
                low, high = max(begin - offset, 0.0), min(end - offset, recordings[i].duration)
                if high - low > 1e-6:
                    spans.append(Span(recordings[i].id, round(float(low), 4), round(float(high), 4), part))
    return sorted(spans, key=lambda span: (span.recording, span.begin))
