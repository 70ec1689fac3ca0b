"""Prove that no window of two parts shares time or signal: the audit of a split.

Three ways in which the same seconds stand on both sides: spans of one recording that are too close, two recordings of
one person that ran at the same time or right after each other, and one signal under two names (`fingerprint`). Each is
an error that says where.
"""

import itertools
import logging
import re
from collections.abc import Iterable, Sequence
from datetime import UTC
from typing import Any

import numpy as np

from tsattn.events.table import seizures
from tsattn.recordings.recording import Recording
from tsattn.recordings.splits.fingerprint import OFFSET_BIN, Fingerprint, Twins, find_twins
from tsattn.recordings.splits.fingerprint_cache import kept_fingerprint
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.recordings.subjects import known

log = logging.getLogger(__name__)

TWIN_MARGIN = 20.0  # s that the same signal may go on beyond the landmarks that were found
PART = re.compile(r"train|val|test|fold\d+")


def same_signal(recordings: Sequence[Recording], fingerprints: Sequence[Fingerprint] | None = None) -> list[Twins]:
    """Find recordings that hold the same signal.

    Args:
        recordings: All that are split.
        fingerprints: Of each, if they are known; else every sample is read once, and those of a store
            are kept there.
    """
    if fingerprints is None:
        log.info("Looking for signals that stand in two of %d recordings.", len(recordings))
        fingerprints = [kept_fingerprint(recording) for recording in recordings]
    if len(fingerprints) != len(recordings):
        raise ValueError(f"There are {len(fingerprints)} fingerprints for {len(recordings)} recordings.")
    return find_twins(fingerprints)


def close_in_time(recordings: Sequence[Recording], within: float) -> list[Twins]:
    """Find recordings of one subject that ran at the same time, or nearly, by their clocks, in the form of twins.

    Args:
        recordings: All that are split.
        within: Seconds from the end of one to the start of the next one, below which they are close.
    """
    found = []
    for j, b in enumerate(recordings):
        for i, a in enumerate(recordings[:j]):
            offset = clock_offset(a, b) if a.subject == b.subject else None
            if offset is None:
                continue
            begin, end = max(0.0, offset), min(a.duration, offset + b.duration)
            if begin - end < within:
                found.append(Twins(i, j, begin, end, -offset, 0))
    return found


def clock_offset(a: Recording, b: Recording) -> float | None:
    """Seconds from the start of `a` to that of `b`; None if a clock is unknown, or both say the same.

    Clocks that agree to the second are those of files whose date was taken away.
    """
    if a.start is None or b.start is None or (a.start.tzinfo is None) != (b.start.tzinfo is None):
        return None
    aware = a.start.tzinfo is not None
    first = a.start.astimezone(UTC) if aware else a.start
    second = b.start.astimezone(UTC) if aware else b.start
    offset = (second - first).total_seconds()
    return None if offset == 0 else offset


def audit(
    recordings: Sequence[Recording],
    splits: Splits,
    embargo_seconds: float = 125.0,
    twins: Iterable[Twins] | None = None,
) -> Splits:
    """Check a split, and return it with a report.

    Args:
        recordings: All that the split speaks of; others are named in the report as unused.
        splits: What is checked.
        embargo_seconds: Least distance between stretches of two parts: a window's length or more.
        twins: What `same_signal` found; None: every sample is read once to find out.

    Raises:
        ValueError: If a span does not fit its recording, a part has another name than train, val, test, fold0, ...,
            or the same seconds or signal stand in two parts.
    """
    place = {recording.id: i for i, recording in enumerate(recordings)}
    if len(place) < len(recordings):
        double = next(r.id for i, r in enumerate(recordings) if place[r.id] != i)
        raise ValueError(f"Two recordings have the id {double}, expected unique ids.")
    if not splits.spans:
        raise ValueError("The split has no spans.")
    spans: dict[int, list[Span]] = {i: [] for i in range(len(recordings))}
    for span in splits.spans:
        if span.recording not in place:
            raise ValueError(f"The split has a recording {span.recording}, which is not among the {len(place)} here.")
        if not PART.fullmatch(span.part):
            raise ValueError(
                f"{span.recording}: the split has a part {span.part!r}, expected train, val, test, or fold0, fold1, ..."
            )
        duration = recordings[place[span.recording]].duration
        if not -1e-6 <= span.begin < span.end <= duration + 1e-3:
            raise ValueError(
                f"{span.recording}: the split has a span from {span.begin:g} to {span.end:g} s, expected one within "
                f"0 to {duration:g} s."
            )
        spans[place[span.recording]].append(span)
    nearest = np.inf
    for i in spans:
        spans[i].sort(key=lambda span: span.begin)
        for a, b in itertools.pairwise(spans[i]):
            if b.begin < a.end - 1e-6:
                raise ValueError(f"{a.recording}: spans {_told(a)} and {_told(b)} overlap, expected each second once.")
            if a.part != b.part:
                nearest = min(nearest, _apart(a, b, embargo_seconds, "lie in one recording"))
    found = same_signal(recordings) if twins is None else list(twins)
    for pairs, margin, why in (
        (close_in_time(recordings, embargo_seconds), np.inf, "were recorded in one subject"),
        (found, TWIN_MARGIN, "are the same signal under two names"),
    ):
        for twin in pairs:
            nearest = min(nearest, _check_pair(twin, spans, embargo_seconds, margin, why))
    _check_subjects(recordings, spans, found)
    report = {
        "parts": {part: _row(part, recordings, spans) for part in splits.parts},
        "twins": [
            {
                "recordings": [recordings[twin.first].id, recordings[twin.second].id],
                "begin": round(twin.begin, 2),
                "end": round(twin.end, 2),
                "offset": twin.offset,
                "matches": twin.matches,
            }
            for twin in found
        ],
        "embargo_seconds": embargo_seconds,
        "smallest_distance_seconds": None if np.isinf(nearest) else round(float(nearest), 3),
        "unused": [recordings[i].id for i in spans if not spans[i]],
        "notes": list(splits.report.get("notes", [])),
        "digest": splits.digest(recordings),
    }
    return Splits(splits.spans, splits.made, report)


def twins_in_report(recordings: Sequence[Recording], splits: Splits) -> list[Twins] | None:
    """Return the twins that the split's own audit found; None if it was not audited, or changed since."""
    if splits.report.get("digest") != splits.digest(recordings):
        return None
    place = {recording.id: i for i, recording in enumerate(recordings)}
    return [
        Twins(place[a], place[b], twin["begin"], twin["end"], twin["offset"], twin["matches"])
        for twin in splits.report["twins"]
        for a, b in [twin["recordings"]]
    ]


def _told(span: Span) -> str:
    return f"{span.part} {span.begin:g} to {span.end:g} s"


def _apart(a: Span, b: Span, least: float, why: str) -> float:
    """Distance in seconds of two spans on one time axis."""
    distance = max(a.begin, b.begin) - min(a.end, b.end)
    if distance < least - 1e-3:
        states = "share time" if distance < 0 else f"are {distance:g} s apart"
        raise ValueError(
            f"Leak: {a.recording} ({_told(a)}) and {b.recording} ({_told(b)}) {states}; they {why}, expected at least "
            f"{least:g} s between parts (one window). Split again by `tsattn recordings split`."
        )
    return distance


def _check_pair(twin: Twins, spans: dict[int, list[Span]], least: float, margin: float, why: str) -> float:
    low, high = twin.begin - margin, twin.end + margin
    nearest = np.inf
    for a in spans[twin.first]:
        for b in spans[twin.second]:
            moved = Span(b.recording, b.begin - twin.offset, b.end - twin.offset, b.part)  # on the first one's clock
            first, second = (Span(s.recording, max(s.begin, low), min(s.end, high), s.part) for s in (a, moved))
            if a.part != b.part and first.end > first.begin and second.end > second.begin:
                nearest = min(nearest, _apart(first, second, least - OFFSET_BIN, why))
    return nearest


def _check_subjects(recordings: Sequence[Recording], spans: dict[int, list[Span]], twins: list[Twins]) -> None:
    """Where every subject lies in one part, a subject under two names must, too."""
    parts: dict[str, set[str]] = {}
    for i, recording in enumerate(recordings):
        parts.setdefault(recording.subject, set()).update(span.part for span in spans[i])
    if any(len(found) > 1 for found in parts.values()):
        return
    for twin in twins:
        a, b = recordings[twin.first], recordings[twin.second]
        both = parts[a.subject] | parts[b.subject]
        if len(both) > 1:
            raise ValueError(
                f"Leak: {a.id} and {b.id} hold the same signal under two names, and their subjects lie in "
                f"{' and '.join(sorted(both))}. Split again by `tsattn recordings split`, which keeps them together."
            )


def _row(part: str, recordings: Sequence[Recording], spans: dict[int, list[Span]]) -> dict[str, Any]:
    inside = {i: [span for span in spans[i] if span.part == part] for i in spans}
    used = [i for i in inside if inside[i]]
    count = 0
    for i in used:
        events = seizures(recordings[i].events)
        for onset, duration in zip(events["onset"], events["duration"], strict=True):
            count += any(s.begin <= onset + duration and onset <= s.end for s in inside[i])
    return {
        "recordings": len(used),
        "subjects": len({recordings[i].subject for i in used}),
        "unknown": sum(not known(recordings[i]) for i in used),
        "hours": round(sum(s.end - s.begin for i in used for s in inside[i]) / 3600, 4),
        "seizures": int(count),
    }
