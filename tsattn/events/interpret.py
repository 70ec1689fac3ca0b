"""From rows of a file to events, for every door: texts become types, begins and ends of seizures become seizures.

Seizures stand in files as SzCORE types ("sz-foc-ia"), as words ("Seizure 2", with a duration or not), or as pairs of
marks ("sz onset" and "sz offset" in ds004100, "eeg sz start" and "eeg sz end", "onset" and "offset" in ds003029). Marks
that name contacts ("AD1-4, ATT1,2" in ds003029) keep them as channels. No other text leaves this file unless it is
let through by name.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from tsattn import messages
from tsattn.events.fitting import Outside, fit_events, mend
from tsattn.events.notes import Note
from tsattn.events.table import ALL, COLUMNS, NOT_STATED, SEIZURE, is_seizure, make_events, no_events, own_channels
from tsattn.events.vocabulary import ANNOTATION, BACKGROUND, Edge, clean, edge, event_type, join_names, let_through

Unpaired = Literal["raise", "mark"]
LONGEST = 7200.0  # s: marks further apart are no pair
SAME_EDGE = 600.0  # s: a second begin ("clinical onset" after "eeg onset") belongs to the first one till then


@dataclass(frozen=True)
class Rows:
    """What a file says, row by row, before anybody asks what it means.

    Attributes:
        onset: Seconds from the recording's start; NaN if not stated.
        length: Seconds; NaN if not stated.
        texts: What each row says.
        channels: Of each row, as in the table of events; empty if the file has no place for them.
        confidence: Of each row; empty if the file has no place for it.
        places: How errors call each row: "line 3", "annotation 2".
        shown: What the recording's own file said, where a table has a column for it; empty: `texts`.
        notes: What reading left out.
    """

    onset: np.ndarray
    length: np.ndarray
    texts: Sequence[str]
    channels: Sequence[str] = ()
    confidence: np.ndarray = field(default_factory=lambda: np.empty(0))
    places: Sequence[str] = ()
    shown: Sequence[str] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Understanding:
    """What the user says of a file's texts and of events that no recording can hold; the same on every door.

    Attributes:
        keep_text: Texts that may be shown (`*` stands for anything); they stand in the column `text`.
        seizure_words: Words that mean a seizure, besides `vocabulary.SEIZURE_WORDS`.
        unpaired: What happens to a seizure whose end is not known (a begin without an end, an end without a begin, no
            duration): an error, or a mark without duration, which cannot be scored.
        outside: What happens to events that the recording cannot hold: see `fitting.fit_events`.
    """

    keep_text: tuple[str, ...] = ()
    seizure_words: tuple[str, ...] = ()
    unpaired: Unpaired = "raise"
    outside: Outside = "raise"

    def __post_init__(self) -> None:
        for name, known in (("unpaired", ("raise", "mark")), ("outside", ("raise", "clip", "drop", "keep"))):
            if getattr(self, name) not in known:
                shown = ", ".join(word for word in known if word != "keep")
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {shown}.")


def listed(words: Collection[str], name: str = "a list of texts") -> tuple[str, ...]:
    """Return texts as a tuple.

    Raises:
        ValueError: If there is one text in the place of a list.
    """
    if isinstance(words, str):
        raise ValueError(f"{name} is the one text {words!r}, expected a list of texts: [{words!r}].")
    return tuple(words)


@dataclass(frozen=True)
class Understood:
    """Events of a file.

    Attributes:
        events: `tsattn.events.table`.
        background: Whether a row says that there was no seizure (bckg).
        notes: What was understood, changed or left out; holds no text of the file.
    """

    events: pd.DataFrame
    background: bool
    notes: tuple[Note, ...]


def understand(
    rows: Rows,
    how: Understanding,
    duration: float | None = None,
    *,
    sfreq: float | None = None,
    contacts: Callable[[str], list[str]] | None = None,
) -> Understood:
    """Make the events of a recording of rows of a file.

    Args:
        rows: Of the file.
        how: What the user says.
        duration: Of the recording, seconds; None leaves its end unchecked.
        sfreq: Hz; an event may end one sample after the recording.
        contacts: Returns the channels that a text names, if it names nothing else; it fills the column `channels`, and
            never changes what a row means.

    Raises:
        ValueError: If a row is wrong, and the user did not say what to do then; the row is named.
    """
    if not len(rows.texts):
        return Understood(no_events(), False, rows.notes)
    count = len(rows.texts)
    onset, length = np.asarray(rows.onset, float), np.asarray(rows.length, float)
    texts = [str(text) for text in rows.texts]
    sure = np.asarray(rows.confidence, float) if len(rows.confidence) else np.full(count, np.nan)
    shown = list(rows.shown) or texts
    places = list(rows.places) or [f"row {i + 1}" for i in range(count)]
    where = _where(rows, texts, contacts)
    edges = [None if length[i] > 0 else edge(text, how.seizure_words) for i, text in enumerate(texts)]
    kinds = [event_type(text, how.seizure_words) for text in texts]
    for i, mark in enumerate(edges):
        if mark is not None and mark.said and kinds[i] == ANNOTATION:
            kinds[i] = SEIZURE
    pairs = _pairs(onset, edges)
    whole = [i for i, kind in enumerate(kinds) if is_seizure([kind])[0] and length[i] > 0]
    bare = {begin for begin, end in pairs.joined.items() if not (_said(edges, begin) or _said(edges, end))}
    aside = 0
    if bare and (whole or len(pairs.joined) > len(bare)):  # "onset" may be of anything where seizures are called so
        aside, pairs.joined = len(bare), {a: b for a, b in pairs.joined.items() if a not in bare}
        bare = set()
    ends = set(pairs.joined.values())
    spans = [(onset[a], onset[b]) for a, b in pairs.joined.items()] + [(onset[i], onset[i] + length[i]) for i in whole]
    out: list[tuple] = []
    left = marks = background = 0
    for i, kind in enumerate(kinds):
        if i in ends:
            continue
        lasts = length[i]
        if i in pairs.joined:
            kind, lasts = SEIZURE, onset[pairs.joined[i]] - onset[i]
        elif i in pairs.same:
            kind = ANNOTATION  # the clinical onset of a seizure whose electrographic one is there
        elif kind == BACKGROUND:
            background += 1
            continue
        elif is_seizure([kind])[0] and not lasts > 0 and texts[i].strip().casefold() != SEIZURE:
            in_one = any(a <= onset[i] <= b for a, b in spans)  # "I'm having a seizure", said in one that is marked
            kind = ANNOTATION if in_one else kind
        if is_seizure([kind])[0]:
            _refuse_wrong(onset[i], lasts, edges[i] if i in pairs.single else None, places[i], how)
            marks += not lasts > 0 and not lasts < 0
        elif not np.isfinite(onset[i]):
            left += 1
            continue
        lasts = 0.0 if np.isnan(lasts) else lasts
        if kind == ANNOTATION and contacts is None:
            where[i] = ALL  # what hides its text may hold one in this column, too
        out.append((onset[i], lasts, kind, sure[i], where[i], let_through(shown[i], how.keep_text)))
    columns = [list(column) for column in zip(*_together(out), strict=True)] or [[] for _ in COLUMNS]
    events, told = fit_events(make_events(*columns), duration, how.outside, sfreq)
    notes = list(rows.notes)
    for number, text in (
        (len(pairs.joined), "{} seizures were made of marks for their beginning and end."),
        (-len(bare), "{} of these pairs of marks do not say what begins and ends; taken as seizures."),
        (-aside, "{} pairs of marks ('onset', 'offset') do not say of what, beside seizures that do: left aside."),
        (-marks, "{} seizure marks have no end: kept as marks of no duration."),
        (-left, "{} annotations have no onset: left out."),
    ):
        if number:
            notes.append(Note("info" if number > 0 else "warning", text.format(abs(number))))
    hidden = int(((events["event_type"] == ANNOTATION) & (events["text"] == "")).sum())
    if hidden:
        notes.append(Note("info", f"{hidden} {HIDDEN}.", messages.hint("{keep_text} lets texts through")))
    return Understood(events, background > 0, (*notes, *told))


HIDDEN = "annotations have a text that is not shown"


def hides_texts(note: Note) -> bool:
    """Return whether a note says that texts are not shown."""
    return HIDDEN in note.text


def _where(rows: Rows, texts: list[str], contacts: Callable[[str], list[str]] | None) -> list[str]:
    """Return the channels of each row: those that its column names, else those that its text names."""
    told = list(rows.channels) or [ALL] * len(texts)
    if contacts is None:
        return told
    return [
        place if own_channels(place) else join_names(contacts(text), otherwise=place)
        for place, text in zip(told, texts, strict=True)
    ]


@dataclass
class _Pairs:
    """Marks by their rows: those that make a seizure, those that repeat one of these, and those without a partner."""

    joined: dict[int, int] = field(default_factory=dict)
    same: set[int] = field(default_factory=set)
    single: set[int] = field(default_factory=set)


def _said(edges: Sequence[Edge | None], i: int) -> bool:
    mark = edges[i]
    return mark is not None and mark.said


def _pairs(onset: np.ndarray, edges: Sequence[Edge | None]) -> _Pairs:
    """Find the end of each begin, in time order."""
    found = _Pairs()
    opened: int | None = None
    closed: int | None = None
    for i in np.argsort(onset, kind="stable").tolist():
        mark = edges[i]
        if mark is None or not np.isfinite(onset[i]):
            if mark is not None:
                found.single.add(i)
            continue
        if mark.side == "begin":
            if opened is not None and _same(edges[opened], mark, onset[i] - onset[opened]):
                found.same.add(i)
                continue
            if opened is not None:
                found.single.add(opened)
            opened = i
        elif opened is not None:
            first = edges[opened]
            if first is not None and onset[opened] < onset[i] <= onset[opened] + LONGEST:
                found.joined[opened] = i
                closed = i
            else:
                found.single |= {opened, i}
            opened = None
        elif closed is not None and _same(edges[closed], mark, onset[i] - onset[closed]):
            found.same.add(i)
        else:
            found.single.add(i)
    if opened is not None:
        found.single.add(opened)
    return found


def _same(first: Edge | None, second: Edge, seconds: float) -> bool:
    """Return whether a second begin (or end) is of the same seizure: "eeg onset", then "clinical onset"."""
    if first is None or seconds > SAME_EDGE or (second.said and not first.said):
        return False
    return (first.what == second.what or not second.said) and first.how != second.how


def _refuse_wrong(onset: float, length: float, mark: Edge | None, place: str, how: Understanding) -> None:
    """Raise ValueError if a seizure has no time or no end and the user did not say what to do then."""
    if how.outside == "raise":
        drop = "leave it out by {outside=drop}"
        if not np.isfinite(onset):
            raise ValueError(f"{place} is a seizure without an onset, expected seconds. {mend(drop)}")
        cure = mend("cut it by {outside=clip}", drop)
        if onset < 0:
            raise ValueError(f"{place} is a seizure at {onset:g} s, before the recording's start. {cure}")
        if length < 0:
            raise ValueError(f"{place} is a seizure with a negative duration ({length:g} s). {cure}")
    if how.unpaired == "raise":
        cure = mend("read it as a mark by {unpaired=mark}")
        if mark is not None:
            begins = mark.side == "begin"
            what = "begins a seizure that nothing ends" if begins else "ends a seizure that nothing begins"
            raise ValueError(f"{place} {what}. {cure}")
        if np.isnan(length):
            raise ValueError(f"{place} is a seizure without a duration, expected seconds. {cure}")


def _together(rows: Iterable[tuple]) -> list[tuple]:
    """Join seizures that differ in their channels or words alone: some writers make an annotation for each channel."""
    joined: dict[tuple, list[tuple[str, str]]] = {}
    for begin, lasts, kind, sure, place, text in rows:
        alone = len(joined) if kind == ANNOTATION else -1
        joined.setdefault((begin, lasts, kind, None if np.isnan(sure) else sure, alone), []).append((place, text))
    return [
        (
            begin,
            lasts,
            kind,
            np.nan if sure is None else sure,
            _all_of([place for place, _ in found]),
            "; ".join(dict.fromkeys(text for _, text in found if text)),
        )
        for (begin, lasts, kind, sure, _), found in joined.items()
    ]


def _all_of(found: list[str]) -> str:
    if ALL in found:
        return ALL
    return join_names((name for place in found for name in own_channels(place)), otherwise=NOT_STATED)


def resolved(told: str, names: Collection[str], contacts: Callable[[str], list[str]] | None) -> tuple[str, bool]:
    """Return the channels of a cell of a file as the table holds them, and whether all are known.

    Args:
        told: "A1, A2", "all", "n/a", "AD1-3".
        names: Of the recording; empty if they are not known, and then every name is taken.
        contacts: See `understand`.
    """
    word = clean(told)
    if word.casefold() == ALL:
        return ALL, True
    if word.casefold() in (NOT_STATED, ""):
        return NOT_STATED, True
    parts: list[Any] = [part.strip() for part in word.replace(";", ",").split(",")]
    if not names:
        return join_names(parts), True
    known = [part for part in parts if part in names]
    if len(known) < len([part for part in parts if part]) and contacts is not None:
        known = list(dict.fromkeys([*known, *contacts(word)]))
    return join_names(known), bool(known)
