"""From a file's free text to event types that may be shown: seizures, names on an allow-list, and "annotation".

Seizures stand in files as SzCORE types ("sz-foc-ia"), as words ("Seizure 2", with a duration or not), or as pairs of
marks ("sz onset" and "sz offset" in ds004100, "eeg sz start" and "eeg sz end", "onset" and "offset" in ds003029). Marks
that name contacts ("AD1-4, ATT1,2" in ds003029) keep them as channels. No other text leaves this file.
"""

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch

import numpy as np
import pandas as pd

from tsattn.events.table import SEIZURE, Numbers, is_seizure, make_events, no_events
from tsattn.events.vocabulary import event_type, says_seizure
from tsattn.recordings.readers import Reading
from tsattn.recordings.readers.channel_names import contacts
from tsattn.recordings.recording import Note

SZCORE = re.compile(r"sz([-_][a-z0-9]+)*|bckg")
MACHINE = ("bad_acq_skip", "bad boundary", "edge boundary", "boundary")  # mne's and EEGLAB's own words
BEGIN = r"(onset|start|starts|begin|begins|beginning)"
END = r"(offset|end|ends|stop|stops|ending)"
PLAIN = {"", "eeg", "electrographic", "clinical", "definite", "probable", "possible", "first", "the", "of", "is"}
LONGEST = 7200.0  # s: marks further apart are no pair
TWO_BEGINNINGS = 600.0  # s: a second beginning ("clinical onset" after "eeg onset") belongs to the first one till then


def to_events(
    onset: Numbers,
    duration: Numbers,
    text: Sequence[str],
    reading: Reading,
    names: Sequence[str] = (),
    channels: Sequence[str] | None = None,
    confidence: Numbers | float = np.nan,
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Turn annotations into a table of events whose types may be shown.

    Args:
        onset: Seconds from the recording's start.
        duration: Seconds; zero or NaN for a mark.
        text: As in the file.
        reading: Which words are seizures, and which texts may be kept.
        names: Of the channels, to find contacts in texts.
        channels: Of each annotation, names joined by commas, or "all"; None takes them from the texts.
        confidence: As in `make_events`.

    Returns:
        `tsattn.events.table`, and what to say of it.
    """
    if not len(text):
        return no_events(), ()
    given = make_events(onset, duration, [str(word) for word in text], confidence, channels or "all")
    words = [re.sub(r"\s+", " ", word.strip().casefold()) for word in given["event_type"]]
    kinds = [_kind(word, raw, reading) for word, raw in zip(words, given["event_type"], strict=True)]
    where = [
        (",".join(contacts(word, names)) or "all") if place == "all" and names else place
        for word, place in zip(words, given["channels"], strict=True)
    ]
    notes = []
    joined, used, bare = _pairs(words, given["onset"].to_numpy(), where, names, reading)
    rows: list[tuple] = list(joined.values())
    begins, lengths, sure = (given[name].to_numpy(float) for name in ("onset", "duration", "confidence"))
    for i, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
        if i in used:
            continue
        kind = kinds[i]
        loose = kind == SEIZURE and not length > 0 and words[i] != SEIZURE
        if loose and any(a <= begin <= a + seconds for a, seconds, _ in joined.values()):
            kind = "annotation"  # "I'm having a seizure", said in a seizure that is marked
        rows.append((begin, length, kind, sure[i], where[i]))
    table = make_events(*(list(column) for column in zip(*_together(map(_full, rows)), strict=True)))
    ends_unknown = is_seizure(table["event_type"]) & ~(table["duration"].to_numpy() > 0)
    if joined:
        notes.append(Note("info", f"{len(joined)} seizures were made of marks for their beginning and end."))
    if bare:
        notes.append(
            Note("warning", f"{bare} of these pairs of marks do not say what begins and ends; taken as seizures.")
        )
    if ends_unknown.any():
        notes.append(Note("warning", f"{ends_unknown.sum()} seizure marks have no end: kept as marks of no duration."))
    hidden = (table["event_type"] == "annotation").sum()
    if hidden:
        notes.append(
            Note("info", f"{hidden} annotations have a text that is not shown; keep_text=... lets texts through.")
        )
    return table, tuple(notes)


def hides_texts(note: Note) -> bool:
    """Return whether a note says that texts are not shown."""
    return "have a text that is not shown" in note.text


def _together(rows: Iterable[tuple]) -> list[tuple]:
    """Join rows that differ in their channels alone: EDF+ writes one annotation for each ("sz@@A1", "sz@@A2")."""
    places: dict[tuple, list[str]] = {}
    for *event, where in rows:
        begin, length, kind, sure = event
        places.setdefault((begin, length, kind, None if np.isnan(sure) else sure), []).append(where)
    return [
        (begin, length, kind, np.nan if sure is None else sure, place)
        for (begin, length, kind, sure), found in places.items()
        for place in (found if "all" in found or kind == "annotation" else [",".join(dict.fromkeys(found))])
    ]


def _full(row: tuple) -> tuple:
    return row if len(row) == 5 else (row[0], row[1], SEIZURE, np.nan, row[2])


def _kind(word: str, raw: str, reading: Reading) -> str:
    if SZCORE.fullmatch(word):
        return event_type(raw)  # "sz-foc-jane" becomes "sz": sub-types are a closed list
    if word in MACHINE:
        return word
    if any(fnmatch(word, kept.casefold()) for kept in reading.keep_text):
        return raw.strip()
    return SEIZURE if says_seizure(word, reading.seizure_words) else "annotation"


def _boundary(word: str, names: Sequence[str], reading: Reading) -> tuple[str, bool, str] | None:
    """Return ("begin" or "end", whether the text says of what, the rest of the text); None if it is no such mark."""
    for side, pattern in (("begin", BEGIN), ("end", END)):
        found = re.fullmatch(rf"(.*?)[ _:-]*\b{pattern}\b[ _:-]*(.*)", word)
        if not found:
            continue
        rest = f"{found.group(1)} {found.group(3)}".strip()
        if says_seizure(rest, reading.seizure_words):
            return side, True, rest
        if all(part in PLAIN for part in rest.split(" ")) or (names and contacts(rest, names)):
            return side, False, rest
    return None


def _pairs(
    words: Sequence[str], onset: np.ndarray, where: Sequence[str], names: Sequence[str], reading: Reading
) -> tuple[dict[int, tuple[float, float, str]], set[int], int]:
    """Join marks: seizures as (onset, duration, channels) by the row that opens them, the rows used, bare pairs."""
    joined: dict[int, tuple[float, float, str]] = {}
    used: set[int] = set()
    bare = 0
    opened: tuple[int, bool, str] | None = None
    for i, word in enumerate(words):
        mark = _boundary(word, names, reading)
        if mark is None:
            continue
        side, said, rest = mark
        if side == "begin":
            if (
                opened is None
                or rest == opened[2]
                or (said and not opened[1])
                or onset[i] - onset[opened[0]] > TWO_BEGINNINGS
            ):
                opened = (i, said, rest)
        elif opened is not None and (said or not opened[1] or rest in PLAIN):
            begin, begin_said, _ = opened
            if onset[begin] < onset[i] <= onset[begin] + LONGEST:
                joined[begin] = (float(onset[begin]), float(onset[i] - onset[begin]), where[begin])
                used |= {begin, i}
                bare += not (said or begin_said)
            opened = None
    return joined, used, bare
