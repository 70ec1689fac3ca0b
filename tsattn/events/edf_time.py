"""When each data record of an EDF+ began, and its annotations: the time-stamped lists of the annotation signals.

Time-stamped annotation lists (TAL): https://www.edfplus.info/specs/edfplus.html, 2.2.2 to 2.2.4. The first list of each
record says when the record began; mne and edfio read the samples as if each record followed the one before.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tsattn.events.clock import Clock, follow
from tsattn.events.edf_header import Header
from tsattn.events.notes import Note

SECONDS = rb"\d+(?:[.,]\d*)?"  # a comma is not EDF's, and some recorders write it
TAL = re.compile(rb"([+-]?" + SECONDS + rb")(?:\x15(" + SECONDS + rb")?)?\x14(.*?)\x14?", re.DOTALL)


class Annotation(NamedTuple):
    """Seconds from the recording's start; NaN if no duration is given."""

    onset: float
    duration: float
    text: str


def read_times(
    path: Path, header: Header, records: int, called: str
) -> tuple[Clock, list[Annotation], float, tuple[Note, ...]]:
    """Read the clock of the records and the annotations.

    Args:
        path: The file.
        header: Of it.
        records: How many to read.
        called: How errors may call it.

    Returns:
        The clock, the annotations, seconds from the header's start time to the first sample, and notes.

    Raises:
        ValueError: If an EDF+D does not say when its records began, or says it out of order.
    """
    stamps, annotations, unread = _read_lists(path, header, records)
    seconds = header.record_seconds
    whole = Clock((0.0,), (records * seconds,))
    notes: list[Note] = [*_unread(unread)]
    missing = int(np.isnan(stamps).sum())
    if not any(signal.is_annotation for signal in header.signals) or (missing and not header.kind.endswith("D")):
        if missing and header.kind.endswith("C"):
            notes.append(Note("warning", f"{missing} of {records} data records do not say when they began: no gaps."))
        if header.kind.endswith("D"):
            raise ValueError(f"{called} is a discontinuous EDF+ without times of its records: gaps cannot be placed.")
        return whole, annotations, 0.0, tuple(notes)
    if missing:
        raise ValueError(
            f"{called} is a discontinuous EDF+, and {missing} of its {records} data records do not say when they "
            "began: gaps cannot be placed."
        )
    fastest = max(signal.samples for signal in header.signals if not signal.is_annotation) / seconds
    try:
        clock, drift = follow(stamps.tolist(), [seconds] * records, max(1e-3, 1.01 / fastest), "data record")
    except ValueError as problem:
        raise ValueError(f"{called}: {problem}") from None
    if clock.gaps and header.kind.endswith("C"):
        notes.append(
            Note("warning", "The header says continuous, the times of the records say otherwise: the times were taken.")
        )
    if drift > 1.01 / fastest:
        notes.append(Note("warning", f"The times of the records drift by {drift:.3g} s from the count of samples."))
    first = float(stamps[0])
    moved = [Annotation(one.onset - first, one.duration, one.text) for one in annotations]
    return clock, moved, first, tuple(notes)


def read_annotations(path: Path, header: Header, records: int) -> tuple[list[Annotation], tuple[Note, ...]]:
    """Read the annotations of a file without signals, whose times count from its start."""
    _, annotations, unread = _read_lists(path, header, records)
    return annotations, _unread(unread)


def _unread(count: int) -> tuple[Note, ...]:
    if not count:
        return ()
    return (Note("warning", f"{count} annotations of the file cannot be read: their time is not a number."),)


def _read_lists(path: Path, header: Header, records: int) -> tuple[np.ndarray, list[Annotation], int]:
    """Return when each record began (NaN if it does not say), annotations as stamped, and how many cannot be read."""
    stamps = np.full(records, np.nan)
    annotations: list[Annotation] = []
    unread = 0
    columns = [(signal.offset, signal.samples * header.width) for signal in header.signals if signal.is_annotation]
    if not columns:
        return stamps, annotations, 0
    with path.open("rb", buffering=0) as file:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        for record in range(records):
            at = header.header_bytes + record * header.record_bytes
            for order, (offset, length) in enumerate(columns):
                file.seek(at + offset)
                lists, lost = parse_lists(file.read(length) or b"")
                unread += lost
                for place, (onset, duration, texts) in enumerate(lists):
                    if order == 0 and place == 0 and texts and texts[0] == "":
                        stamps[record] = onset
                    annotations += [Annotation(onset, duration, text) for text in texts if text]
    return stamps, annotations, unread


def parse_lists(raw: bytes) -> tuple[list[tuple[float, float, list[str]]], int]:
    """Return the time-stamped lists of one annotation signal in one record, and how many cannot be read.

    Args:
        raw: The bytes of the signal.

    Returns:
        Onset (s), duration (s, NaN if not stated) and texts of each list. An empty first text is a record's time.
    """
    found, unread = [], 0
    for part in raw.split(b"\x00"):
        if not part.strip(b" \x14"):
            continue
        parsed = TAL.fullmatch(part)
        if parsed is None:
            unread += 1
            continue
        onset, duration = (float(text.replace(b",", b".")) if text else np.nan for text in parsed.groups()[:2])
        found.append((onset, duration, [text.decode("utf-8", "replace") for text in parsed[3].split(b"\x14")]))
    return found, unread
