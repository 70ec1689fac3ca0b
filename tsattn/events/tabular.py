"""Events as text: SzCORE TSV, BIDS events.tsv, and our CSV (the table's columns and `recording_duration`)."""

import csv as quoting
import io
import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from tsattn.events.files import EventFile
from tsattn.events.interpret import interpret
from tsattn.events.table import is_seizure, make_events
from tsattn.events.vocabulary import BACKGROUND

SZCORE = "onset duration eventType confidence channels dateTime recordingDuration".split()
DATE = "%Y-%m-%d %H:%M:%S"
MISSING = ("n/a", "")
BIDS_COLUMNS = json.dumps(
    {
        "onset": {"Description": "Begin of the event from the recording's start.", "Units": "s"},
        "duration": {"Description": "Length of the event; 0 is a mark.", "Units": "s"},
        "trial_type": {
            "Description": "sz, sz-foc-..., sz-gen-...: a seizure (SzCORE, ILAE 2017); annotation: a text that was "
            "taken out; other words were allowed by name. Written by tsattn, research software, not for diagnosis."
        },
        "confidence": {"Description": "In [0, 1], of a detector; n/a if not stated."},
        "channels": {"Description": "Names joined by commas, or all."},
    },
    indent=1,
)


def read_table(
    path: Path, allow: Collection[str], words: Collection[str], unpaired: Literal["raise", "mark"]
) -> EventFile:
    """Read a text table of events; errors name the line of the file."""
    separator, other = ("\t", ",") if path.suffix.lower() == ".tsv" else (",", ";")
    try:
        text = path.read_text(encoding="utf-8-sig")  # a byte order mark, as in ds004100, is no part of a name
    except UnicodeDecodeError:
        raise ValueError("it is no text in UTF-8.") from None
    quotes: Literal[0, 3] = quoting.QUOTE_NONE if separator == "\t" else quoting.QUOTE_MINIMAL
    try:
        rows = list(quoting.reader(io.StringIO(text), delimiter=separator, quoting=quotes))
    except quoting.Error:
        raise ValueError("it cannot be read as a table.") from None
    if not rows:
        raise ValueError("it is empty, expected a line of column names.")
    names = [name.strip() for name in rows[0]]
    if len(names) == 1 and other in names[0]:
        apart = "tabs" if separator == "\t" else "commas"
        raise ValueError(f"its columns are not separated by {apart}, which its ending promises.")
    lines = [place for place, row in enumerate(rows[1:], start=2) if row]
    for place in lines:
        if len(rows[place - 1]) != len(names):
            raise ValueError(f"line {place} has {len(rows[place - 1])} columns, expected {len(names)} as in line 1.")
    table = pd.DataFrame([rows[place - 1] for place in lines], columns=names, index=lines, dtype=object)
    kind = next((name for name in ("eventType", "trial_type", "event_type") if name in names), None)
    for name in ("onset", "duration"):
        if name not in names:
            raise ValueError(f"it has no column {name!r}, expected onset, duration and eventType (or trial_type).")
    if kind is None:
        raise ValueError("it has no column of types, expected eventType (SzCORE), trial_type (BIDS) or event_type.")
    return _understood(table, kind, allow, words, unpaired)


def _understood(
    table: pd.DataFrame, kind: str, allow: Collection[str], words: Collection[str], unpaired: Literal["raise", "mark"]
) -> EventFile:
    onset, length = (_numbers(table, name) for name in ("onset", "duration"))
    confidence = _numbers(table, "confidence")
    beyond = (confidence < 0) | (confidence > 1)
    if beyond.any():
        raise ValueError(
            f"line {table.index[beyond][0]} has a confidence of {confidence[beyond][0]:g}, expected 0 to 1 or n/a."
        )
    channels = [
        "all" if str(word).strip() in MISSING else ",".join(part.strip() for part in str(word).split(","))
        for word in table.get("channels", pd.Series("all", index=table.index))
    ]
    texts = [str(text).strip() for text in table[kind]]
    events, notes = interpret(onset, length, texts, channels, table.index, allow, words, unpaired, confidence, "line")
    whole = _one(table, ("recordingDuration", "recording_duration"), lambda text: float(text))
    if whole is not None and not (np.isfinite(whole) and whole > 0):
        raise ValueError(f"the recording's duration is {whole:g} s, expected a number above 0.")
    start = _one(table, ("dateTime",), lambda text: datetime.strptime(text, DATE))
    if start == datetime(2000, 1, 1):
        start = None
    return EventFile(events, whole, start, BACKGROUND in texts, notes)


def _numbers(table: pd.DataFrame, name: str) -> np.ndarray:
    if name not in table.columns:
        return np.full(len(table), np.nan)
    told = table[name].map(lambda text: str(text).strip()).replace(dict.fromkeys(MISSING, "nan"))
    numbers = pd.to_numeric(told, errors="coerce")
    wrong = numbers.isna() & (told.str.lower() != "nan")
    if wrong.any():
        raise ValueError(f"line {table.index[wrong][0]} has a text in {name!r}, expected a number or n/a.")
    return np.asarray(numbers, float)


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
    return str(told[SZCORE].to_csv(sep="\t", index=False, lineterminator="\n"))


def bids(events: pd.DataFrame) -> str:
    """Return a BIDS events.tsv."""
    told = _told(events).rename(columns={"event_type": "trial_type"})
    return str(told.to_csv(sep="\t", index=False, lineterminator="\n"))


def csv(events: pd.DataFrame, duration: float) -> str:
    """Return our CSV; without an event it has one row `bckg`, which holds the duration."""
    told = _told(events if len(events) else make_events([0.0], [duration], BACKGROUND))
    return str(told.assign(recording_duration=number(duration)).to_csv(index=False, lineterminator="\n"))


def number(value: float) -> str:
    """Return seconds as text, to the microsecond."""
    return np.format_float_positional(round(value, 6), trim="0")


def _told(events: pd.DataFrame) -> pd.DataFrame:
    sure = ["n/a" if np.isnan(value) else number(value) for value in events["confidence"]]
    seconds = {name: [number(value) for value in events[name]] for name in ("onset", "duration")}
    return events.assign(**seconds, confidence=sure)
