"""Events as text: SzCORE TSV, BIDS events.tsv, TUH's lists, and our CSV (the table's columns and a duration)."""

import csv as quoting
import io
import json
import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tsattn.events import tuh
from tsattn.events.files import EventFile
from tsattn.events.interpret import Rows, Understanding, resolved, understand
from tsattn.events.notes import Note
from tsattn.events.table import NOT_STATED, is_seizure, make_events
from tsattn.events.vocabulary import BACKGROUND, cell, from_cell, names_cell, szcore_type

SZCORE = "onset duration eventType confidence channels dateTime recordingDuration".split()
TYPES = ("eventType", "trial_type", "event_type", "value")
DATE = "%Y-%m-%d %H:%M:%S"
MISSING = ("n/a", "N/A", "")
BIDS_COLUMNS = json.dumps(
    {
        "onset": {"Description": "Begin of the event from the recording's start.", "Units": "s"},
        "duration": {"Description": "Length of the event; 0 is a mark.", "Units": "s"},
        "trial_type": {
            "Description": "sz, sz_foc_..., sz_gen_...: a seizure (SzCORE, ILAE 2017); annotation: another event. "
            "Written by tsattn, research software, not for diagnosis."
        },
        "confidence": {"Description": "In [0, 1], of a detector; n/a if not stated."},
        "channels": {"Description": "Names joined by commas, or all; n/a if not stated."},
        "text": {"Description": "What the annotation says, if it was let through by name; else n/a."},
    },
    indent=1,
)


def read_table(path: Path, how: Understanding) -> EventFile:
    """Read a text table of events; errors name the line of the file."""
    table, comments = read_cells(path)
    if tuh.is_list(table.columns):
        found = understand(tuh.rows(table), how, tuh.duration(comments))
        return EventFile(found.events, tuh.duration(comments), None, found.background, found.notes)
    whole = _one(table, ("recordingDuration", "recording_duration"), lambda text: float(text))
    if whole is not None and not (np.isfinite(whole) and whole > 0):
        raise ValueError(f"the recording's duration is {whole:g} s, expected a number above 0.")
    start = _one(table, ("dateTime",), lambda text: datetime.strptime(text, DATE))
    if start == datetime(2000, 1, 1):
        start = None
    found = understand(table_rows(table), how, whole)
    return EventFile(found.events, whole, start, found.background, found.notes)


def table_rows(
    table: pd.DataFrame, names: Collection[str] = (), contacts: Callable[[str], list[str]] | None = None
) -> Rows:
    """Return the rows of a table of events.

    Args:
        table: Of texts, indexed by the lines of the file.
        names: Of the recording's channels; empty if they are not known, and then every name is taken.
        contacts: See `interpret.understand`.

    Raises:
        ValueError: If there is no column of onsets, or an entry is not a number; the line is named.
    """
    notes: list[Note] = []
    if "onset" not in table:
        raise ValueError("it has no column 'onset', expected onset, duration and eventType (or trial_type).")
    kind = next((name for name in TYPES if name in table), None)
    if kind is None:
        notes.append(Note("warning", f"No column says what the events are (expected {', '.join(TYPES)})."))
    confidence = numbers(table, "confidence")
    wrong = (confidence < 0) | (confidence > 1)
    if wrong.any():
        line, value = table.index[wrong][0], confidence[wrong][0]
        raise ValueError(f"line {line} has a confidence of {value:g}, expected 0 to 1.")
    channels: list[str] = []
    if "channels" in table:
        told = [resolved(_names(text), names, contacts) for text in table["channels"]]
        channels = [place for place, _ in told]
        unknown = sum(not known for _, known in told)
        if unknown:
            notes.append(Note("warning", f"{unknown} events are marked on channels that the recording does not have."))
    texts = [NOT_STATED] * len(table) if kind is None else [from_cell(str(text).strip()) for text in table[kind]]
    shown: list[str] = []
    if "text" in table and kind is not None:
        told_texts = [from_cell(str(text).strip()) for text in table["text"]]
        shown = ["" if text in MISSING else text for text in told_texts]
    return Rows(
        numbers(table, "onset"),
        numbers(table, "duration"),
        texts,
        channels,
        confidence,
        [f"line {line}" for line in table.index],
        shown,
        tuple(notes),
    )


def read_cells(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return a text table as it stands in a file, indexed by lines, and the lines of comments before its head.

    Raises:
        ValueError: If it is no table.
    """
    separator, other = ("\t", ",") if path.suffix.lower() == ".tsv" else (",", ";")
    data = path.read_bytes()
    if b"\x00" in data:
        raise ValueError("it is not text in UTF-8 or Latin-1.")
    try:
        text = data.decode("utf-8-sig")  # a byte order mark, as in ds004100, is no part of a name
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    quotes: Literal[0, 3] = quoting.QUOTE_NONE if separator == "\t" else quoting.QUOTE_MINIMAL
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    comments = [line for line in lines if line.startswith("#")]
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), None)
    if first is None:
        raise ValueError("it is empty, expected a line of column names.")
    try:
        rows = list(quoting.reader(io.StringIO("\n".join(lines[first:])), delimiter=separator, quoting=quotes))
    except quoting.Error:
        raise ValueError("it cannot be read as a table.") from None
    names = [name.strip() for name in rows[0]]
    if len(names) == 1 and other in names[0]:
        apart = "tabs" if separator == "\t" else "commas"
        raise ValueError(f"its columns are not separated by {apart}, which its ending promises.")
    kept = [
        (place, row)
        for place, row in enumerate(rows[1:], start=first + 2)
        if any(text.strip() not in MISSING for text in row)
    ]
    for place, row in kept:
        if len(row) != len(names):
            raise ValueError(f"line {place} has {len(row)} columns, expected {len(names)} as in line {first + 1}.")
    table = pd.DataFrame([row for _, row in kept], columns=names, index=[place for place, _ in kept], dtype=object)
    return table, comments


def numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a column as numbers; NaN where nothing stands, or if there is no such column.

    Raises:
        ValueError: If an entry is not a number; its line is named.
    """
    if name not in table.columns:
        return np.full(len(table), np.nan)
    told = table[name].map(lambda text: str(text).strip()).replace(dict.fromkeys(MISSING, "nan"))
    found = pd.to_numeric(told, errors="coerce")
    wrong = found.isna() & (told.str.lower() != "nan")
    if wrong.any():
        raise ValueError(f"line {table.index[wrong][0]} has a text in {name!r}, expected a number or n/a.")
    return np.asarray(found, float)


def _names(told: Any) -> str:
    return ",".join(from_cell(name.strip()) for name in re.split("[,;]", str(told)))


def _one(table: pd.DataFrame, names: Sequence[str], read: Callable[[str], Any]) -> Any:
    """The value that a column has in all rows; None if nobody states one."""
    name = next((name for name in names if name in table.columns), None)
    if name is None:
        return None
    found: Any = None
    for line, text in table[name].items():
        if str(text).strip() in MISSING:
            continue
        try:
            value = read(str(text).strip())
        except ValueError:
            form = "a number" if name != "dateTime" else "YYYY-MM-DD hh:mm:ss"
            raise ValueError(f"line {line} has no valid {name!r}, expected {form} or n/a.") from None
        if found is not None and value != found:
            raise ValueError(f"line {line} has another {name!r} than the lines before: one file, one recording.")
        found = value
    return found


def szcore(events: pd.DataFrame, duration: float, start: datetime) -> str:
    """Return a SzCORE TSV: the seizures, or one row `bckg` if there is none."""
    events = events[is_seizure(events["event_type"])]
    if events.empty:
        events = make_events([0.0], [duration], BACKGROUND)
    told = _told(events).rename(columns={"event_type": "eventType"})
    told = told.assign(dateTime=start.strftime(DATE), recordingDuration=number(duration))
    return _tsv(told[SZCORE])


def bids(events: pd.DataFrame) -> str:
    """Return a BIDS events.tsv."""
    return _tsv(_told(events).rename(columns={"event_type": "trial_type"}))


def csv(events: pd.DataFrame, duration: float) -> str:
    """Return our CSV; without an event it has one row `bckg`, which holds the duration."""
    told = _told(events if len(events) else make_events([0.0], [duration], BACKGROUND))
    return str(told.assign(recording_duration=number(duration)).to_csv(index=False, lineterminator="\n"))


def number(value: float) -> str:
    """Return seconds as text, to the microsecond."""
    return np.format_float_positional(round(value, 6), trim="0")


def _tsv(table: pd.DataFrame) -> str:
    """Return a table with tabs and without quotation marks, which BIDS does not know; no cell holds a tab."""
    return "".join("\t".join(map(str, row)) + "\n" for row in [table.columns, *table.to_numpy()])


def _told(events: pd.DataFrame) -> pd.DataFrame:
    """Return the table as texts that are safe in a spreadsheet, types in SzCORE's words."""
    sure = ["n/a" if np.isnan(value) else number(value) for value in events["confidence"]]
    seconds = {name: [number(value) for value in events[name]] for name in ("onset", "duration")}
    return events.assign(
        **seconds,
        event_type=[szcore_type(kind) if is_seizure([kind])[0] else cell(kind) for kind in events["event_type"]],
        confidence=sure,
        channels=[names_cell(names) for names in events["channels"]],
        text=[cell(text) or NOT_STATED for text in events["text"]],
    )
