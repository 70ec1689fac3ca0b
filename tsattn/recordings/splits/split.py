"""Make a split: by subject, by seizure within each subject, or by time within each subject.

Recordings that share seconds (the same signal under two names, or two recorders on one person), or follow each other
within an embargo, lie on one time axis and are cut at the same places; subjects who share a signal are one group. Every
split is audited before it is returned.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from tsattn import messages
from tsattn.events.table import seizures
from tsattn.recordings.recording import Recording
from tsattn.recordings.splits.fingerprint import Fingerprint, Twins
from tsattn.recordings.splits.leaks import audit, close_in_time, same_signal
from tsattn.recordings.splits.splits import PARTS, Span, Splits
from tsattn.recordings.splits.time_axes import Axis, Piece, groups_of, in_time, merged, time_axes, to_spans
from tsattn.recordings.store import Store, open_store
from tsattn.recordings.subjects import Whose, assigned, known, refuse_idle_table, refuse_unknown

By = Literal["subject", "seizure", "time"]
Same = Literal["together", "drop", "raise"]
DEALS = 20_000  # subjects that are dealt out in search of a fair split, over all orders that are tried


def split(
    recordings: Store | str | Path | Sequence[Recording],
    by: By = "subject",
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    folds: int | None = None,
    seed: int = 0,
    embargo_seconds: float = 125.0,
    twins: Same = "together",
    fingerprints: Sequence[Fingerprint] | None = None,
    subject: Whose = None,
) -> Splits:
    """Split recordings into training, validation and test, or into folds.

    Args:
        recordings: A store, its path, or recordings.
        by: "subject": a subject lies in one part; validation and test get seizures if there are enough subjects with
            some. "seizure": each subject's seizures are dealt out, with the hours around them up to half way to the
            next seizure; seizures closer than three embargoes stay together. "time": each subject's first hours are
            for training, the next ones for validation, the last ones for test.
        fractions: Of train, val and test; 0 leaves a part out. Of subjects' hours, of seizures, or of hours.
        folds: Parts of the same size instead, for cross-validation; not by time, which has one direction.
        seed: Random seed for the order in which subjects or stretches are shared out.
        embargo_seconds: What is left out between parts: at least one window.
        twins: Of recordings that hold the same signal: "together" cuts them at the same places, and keeps subjects
            who share a signal in one part; "drop" leaves the later id out; "raise" refuses.
        fingerprints: Of each recording, if they are known; else every sample is read once.
        subject: Whose recordings are, where their files do not say it: "folder" (those of one folder are one
            person's), the path of a .csv or .tsv of recordings and subjects, or a mapping of ids to subjects. It is
            kept in the split, and training reads it there.

    Returns:
        The split, audited; `report["notes"]` says what could not be had.

    Raises:
        ValueError: If there are too few subjects, a number is out of range, with "raise" there are twins, or by
            "subject" nothing says whose a recording is.
    """
    for name, word, words in (("by", by, get_args(By)), ("twins", twins, get_args(Same))):
        if word not in words:
            raise ValueError(f"{name} is {word!r}, expected one of {', '.join(words)}.")
    given = as_recordings(recordings)
    listed = assigned(given, subject)
    refuse_idle_table(listed, subject)
    if by == "subject":
        refuse_unknown(listed, "A split by subject")
    shares = _shares(fractions, folds, by)
    if not embargo_seconds >= 0:
        raise ValueError(f"embargo_seconds is {embargo_seconds:g}, expected at least a window's length.")
    same = same_signal(listed, fingerprints)
    notes: list[str] = []
    nobody = sum(not known(recording) for recording in listed)
    if nobody and len(listed) > 1:
        notes.append(f"{nobody} recordings do not say whose they are: each is taken for a person of its own.")
    if same and twins == "raise":
        a, b = listed[same[0].first].id, listed[same[0].second].id
        ways = messages.advice("remove one", "pass {twins=together} or {twins=drop}")
        raise ValueError(f"{a} and {b} hold the same signal: {ways}.")
    dropped = _copies(listed, same, notes) if twins == "drop" else set()
    used = [i for i in range(len(listed)) if i not in dropped]
    shared = [t for t in [*same, *close_in_time(listed, embargo_seconds)] if t.first in used and t.second in used]
    axes = time_axes(listed, used, shared)
    groups = groups_of(listed, axes)
    if by == "subject":
        dealt = _by_subject(groups, shares, seed)
    elif by == "seizure":
        dealt = _by_seizure(groups, shares, seed, embargo_seconds, notes)
    else:
        dealt = _by_time(listed, groups, shares, embargo_seconds, notes)
    spans = to_spans(listed, dealt, embargo_seconds)
    made: dict[str, Any] = {"by": by, "seed": seed, "embargo_seconds": embargo_seconds, "twins": twins}
    made |= {"fractions": list(fractions)} if folds is None else {"folds": folds}
    renamed = {new.id: new.subject for new, old in zip(listed, given, strict=True) if new.subject != old.subject}
    made |= {"subjects": renamed} if renamed else {}
    place = {recording.id: recording for recording in listed}
    why = {"subject": ": too few subjects have one", "seizure": ": too few lie far enough apart"}.get(by, "")
    for part in shares:
        inside = [s for s in spans if s.part == part]
        if inside and not any(_holds_seizure(place[s.recording], s) for s in inside):
            notes.append(f"{part} has no seizure{why}.")
        if not inside:
            notes.append(f"{part} is empty.")
    return audit(listed, Splits(tuple(spans), made, {"notes": notes}), embargo_seconds, same)


def as_recordings(recordings: Store | str | Path | Sequence[Recording]) -> list[Recording]:
    """Return the recordings of a store, of the store at a path, or of a list."""
    if isinstance(recordings, str | Path):
        recordings = open_store(recordings)
    return recordings.recordings() if isinstance(recordings, Store) else list(recordings)


def _shares(fractions: Sequence[float], folds: int | None, by: str) -> dict[str, float]:
    if folds is not None:
        if folds < 2 or by == "time":
            raise ValueError(
                f"folds is {folds} with by={by!r}, expected 2 or more, by subject or by seizure (time has no folds)."
            )
        return {f"fold{i}": 1 / folds for i in range(folds)}
    fractions = [float(share) for share in fractions]
    if len(fractions) != 3 or not all(0 <= share <= 1 for share in fractions) or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions is {fractions}, expected three numbers for train, val and test that add up to 1.")
    return {part: share for part, share in zip(PARTS, fractions, strict=True) if share > 0}


def _copies(recordings: list[Recording], twins: list[Twins], notes: list[str]) -> set[int]:
    """The later of two recordings of which one lies in the other for at least half."""
    dropped: set[int] = set()
    for twin in twins:
        shorter = min(recordings[twin.first].duration, recordings[twin.second].duration)
        if twin.end - twin.begin < shorter / 2 or {twin.first, twin.second} & dropped:
            continue
        later = max((twin.first, twin.second), key=lambda i: recordings[i].id)
        dropped.add(later)
        notes.append(f"{recordings[later].id} is left out: it holds the signal of another recording.")
    return dropped


def _by_subject(groups: list[list[Axis]], shares: dict[str, float], seed: int) -> list[tuple[Piece, str]]:
    """Try many orders: each subject goes where most is lacking, of hours and of seizures; the fairest result stands."""
    if len(groups) < len(shares):
        raise ValueError(
            f"{len(groups)} subject{'s' if len(groups) != 1 else ''} cannot fill {len(shares)} parts "
            f"({', '.join(shares)}), expected at least one for each; give fewer parts, or split by seizure or time."
        )
    weight = np.array([[sum(a.end - a.begin for a in g), sum(len(a.seizures) for a in g)] for g in groups], dtype=float)
    weight /= np.maximum(weight.sum(0), 1e-9)
    want = np.array(list(shares.values()))
    need = 10.0 * np.array([{"train": 3, "test": 2}.get(name, 1) for name in shares])  # who goes first where few are
    random = np.random.default_rng(seed)
    best, lowest = np.zeros(len(groups), int), np.inf
    for _ in range(max(10, min(200, DEALS // len(groups)))):
        chosen, have = np.zeros(len(groups), int), np.zeros((len(want), 2))
        order = sorted(random.permutation(len(groups)), key=lambda i: weight[i, 1] == 0)
        for number, i in enumerate(order):
            lack = (want[:, None] - have)[:, weight[i] > 0].mean(1) + 0.05 * random.random(len(want))
            for column in (1, 0):  # the last ones with a seizure, and the last ones at all, go where nobody is yet
                waiting, empty = (weight[order[number:], column] > 0).sum(), have[:, column] == 0
                if weight[i, column] > 0 and empty.any() and empty.sum() >= waiting:
                    lack[~empty] = -np.inf
            chosen[i] = int(np.argmax(lack))
            have[chosen[i]] += weight[i]
        cost = np.abs(have - want[:, None]).sum() + (need * ((have[:, 1] == 0) + 10 * (have[:, 0] == 0))).sum()
        if cost < lowest:
            best, lowest = chosen, cost
    names = list(shares)
    return [
        (Piece(axis, axis.begin, axis.end, len(axis.seizures)), names[best[i]])
        for i, group in enumerate(groups)
        for axis in group
    ]


def _by_seizure(
    groups: list[list[Axis]], shares: dict[str, float], seed: int, embargo: float, notes: list[str]
) -> list[tuple[Piece, str]]:
    dealt, few = [], 0
    names = list(shares)
    for number, group in enumerate(groups):
        random = np.random.default_rng([seed, number])
        pieces = [piece for axis in group for piece in _zones(axis, embargo)]
        with_seizure = [piece for piece in pieces if piece.seizures]
        few += 0 < len(with_seizure) < len(names)
        counts = _deal(len(with_seizure), shares, random)
        order = [name for name in names for _ in range(counts[name])]
        order = [order[i] for i in random.permutation(len(order))]
        here = list(zip(with_seizure, order, strict=True))
        hours = {name: sum(p.end - p.begin for p, part in here if part == name) for name in names}
        for piece in sorted((p for p in pieces if not p.seizures), key=lambda p: p.begin - p.end):
            total = sum(hours.values()) + piece.end - piece.begin
            part = max(names, key=lambda name: shares[name] * total - hours[name])
            hours[part] += piece.end - piece.begin
            here.append((piece, part))
        dealt += here
    if few:
        notes.append(
            f"{few} of {len(groups)} subjects have fewer separate seizures than parts: train comes first, then test."
        )
    return dealt


def _zones(axis: Axis, embargo: float) -> list[Piece]:
    """Cut an axis half way between seizures; seizures closer than three embargoes stay together."""
    bunches = merged(axis.seizures, 3 * embargo)
    if not bunches:
        return [Piece(axis, axis.begin, axis.end, 0)]
    middles = [(a[1] + b[0]) / 2 for a, b in itertools.pairwise(bunches)]
    edges = [axis.begin, *middles, axis.end]
    return [
        Piece(axis, begin, end, sum(low <= onset <= high for onset, _ in axis.seizures))
        for begin, end, (low, high) in zip(edges, edges[1:], bunches, strict=False)
    ]


def _deal(count: int, shares: dict[str, float], random: np.random.Generator) -> dict[str, int]:
    """How many of `count` each part gets: one each while they last (train, test, val), then by share."""
    first = sorted(shares, key=lambda name: {"train": 0, "test": 1, "val": 2}.get(name, 3))
    if any(name.startswith("fold") for name in shares):
        first = [first[i] for i in random.permutation(len(first))]
    counts = dict.fromkeys(shares, 0)
    for name in first[:count]:
        counts[name] = 1
    for _ in range(count - min(count, len(first))):
        counts[max(shares, key=lambda name: shares[name] * count - counts[name])] += 1
    return counts


def _by_time(
    recordings: list[Recording], groups: list[list[Axis]], shares: dict[str, float], embargo: float, notes: list[str]
) -> list[tuple[Piece, str]]:
    dealt = []
    guessed = 0
    for group in groups:
        axes, known = in_time(recordings, group)
        guessed += not known
        begins = np.cumsum([0.0, *(axis.end - axis.begin for axis in axes)])  # of the axes, laid end to end
        events = [
            (a - x.begin + at, b - x.begin + at) for x, at in zip(axes, begins, strict=False) for a, b in x.seizures
        ]
        edges = np.cumsum([0.0, *shares.values()]) * begins[-1]
        edges[1:-1] = [_beside(edge, merged(events, embargo), embargo, begins[-1]) for edge in edges[1:-1]]
        half = np.full(len(edges), embargo / 2)  # of what is left out at a border, even one between two recordings
        half[[0, -1]] = 0
        for axis, at in zip(axes, begins, strict=False):
            for part, low, high in zip(shares, edges + half, (edges - half)[1:], strict=False):
                begin, end = max(axis.begin, axis.begin + low - at), min(axis.end, axis.begin + high - at)
                if end > begin:
                    dealt.append((Piece(axis, begin, end, 0), part))
    if guessed:
        notes.append(f"{guessed} subjects have several recordings without clocks: they are taken in the order of ids.")
    return dealt


def _beside(edge: float, seizures: list[tuple[float, float]], embargo: float, end: float) -> float:
    """Move a border that would fall into a seizure, or within half an embargo of one, to the nearer side of it."""
    for onset, offset in seizures:
        low, high = onset - embargo / 2, offset + embargo / 2
        if low < edge < high:
            return low if (edge - low < high - edge and low > 0) or high >= end else high
    return edge


def _holds_seizure(recording: Recording, span: Span) -> bool:
    events = seizures(recording.events)
    return bool(((events["onset"] <= span.end) & (events["onset"] + events["duration"] >= span.begin)).any())
