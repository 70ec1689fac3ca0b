"""Events files: SzCORE TSV, BIDS events.tsv, CSV and EDF+ annotations, read into and written from one table.

`read_events` finds out which of them a file is; `write_events` writes one, whole or not at all, and never over a file
that is there. In every direction a text passes only if `tsattn.events.vocabulary` or the caller's allow-list knows it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import pandas as pd

from tsattn import files
from tsattn.events.interpret import Outside, Understanding, Unpaired, listed
from tsattn.events.notes import Note
from tsattn.events.table import ALL, check_events, is_seizure
from tsattn.events.vocabulary import ANNOTATION, BACKGROUND, event_type, let_through

Format = Literal["szcore", "bids", "csv", "edf"]
SUFFIXES: dict[str, str] = {"szcore": ".tsv", "bids": ".tsv", "csv": ".csv", "edf": ".edf"}
READ = (".tsv", ".csv", ".csv_bi", ".edf", ".bdf")
NO_DATE = datetime(2000, 1, 1)  # what a de-identified file says


@dataclass(frozen=True)
class EventFile:
    """What an events file holds.

    Attributes:
        events: `tsattn.events.table`; rows that say "no seizure" (bckg) are not events.
        duration: Of the recording, seconds; None if the file does not say.
        start: Clock time of the recording's start, if the file says. Never printed or exported unless asked for.
        background: Whether a row says that there was no seizure (bckg).
        notes: What was left out or understood; holds no text of the file.
    """

    events: pd.DataFrame
    duration: float | None = None
    start: datetime | None = None
    background: bool = False
    notes: tuple[Note, ...] = ()


def read_events(
    path: str | Path,
    *,
    keep_text: Collection[str] = (),
    seizure_words: Collection[str] = (),
    unpaired: Unpaired = "raise",
    outside: Outside = "raise",
    called: str = "The file",
) -> EventFile:
    """Read an events file; its ending and its header say which kind it is.

    Args:
        path: `.tsv` (SzCORE has the column `eventType`, BIDS `trial_type`), `.csv`, TUH's `.csv_bi`, or `.edf` and
            `.bdf` (annotations, and the list of seizures that CHB-MIT and TUH keep beside the file).
        keep_text: Texts of annotations that may be shown (`*` stands for anything), in the column `text`.
        seizure_words: Texts that mean a seizure, besides SzCORE's types, "seizure", "ictal" and these with a number.
        unpaired: What happens to a seizure whose end is not known (a begin without an end, an end without a begin, no
            duration): an error, or a mark without duration, which cannot be scored.
        outside: What happens to events that the recording cannot hold: an error, "clip" or "drop"; see
            `tsattn.events.fitting.fit_events`. Where the file does not say how long the recording is, its end is open.
        called: How errors call the file, whose name may hold a person's.

    Raises:
        ValueError: If it is no such file, a column is missing or a row is wrong; the line is named.
    """
    from tsattn.events import edf, tabular

    path = Path(path)
    how = Understanding(listed(keep_text, "keep_text"), listed(seizure_words, "seizure_words"), unpaired, outside)
    if not path.is_file():
        raise ValueError(f"{called} is not there, or is a folder.")
    suffix = path.suffix.lower()
    try:
        if suffix in (".edf", ".bdf"):
            return edf.read_edf(path, how)
        if suffix in READ:
            return tabular.read_table(path, how)
    except ValueError as problem:
        raise ValueError(f"{called}: {problem}") from problem
    raise ValueError(f"{called} ends in {suffix or 'nothing'}, expected .tsv, .csv, .csv_bi, .edf or .bdf.")


def write_events(
    path: str | Path,
    events: pd.DataFrame,
    format: Format,
    *,
    duration: float | None = None,
    start: datetime | None = None,
    keep_text: Collection[str] = (),
    overwrite: bool = False,
) -> int:
    """Write an events file.

    Args:
        path: To make.
        events: `tsattn.events.table`.
        format: `szcore` (seizures only), `bids` (with a JSON beside it that tells what the columns are), `csv`, or
            `edf` (EDF+ without signals; confidence has no place there).
        duration: Of the recording, seconds; all but `bids` need it.
        start: Clock time to write into a SzCORE file; None: 2000-01-01 00:00:00, which tells nothing.
        keep_text: Texts of annotations that may pass; every other one is left out.
        overwrite: Write over files that exist already.

    Returns:
        How many events that are no seizures were left out (SzCORE has no place for them).

    Raises:
        FileExistsError: If a file exists and `overwrite` is False.
        ValueError: If the events are wrong or lie outside the recording, or the duration is missing.
    """
    from tsattn.events import edf, tabular

    path = Path(path)
    if format not in SUFFIXES:
        raise ValueError(f"There is no format {format!r}, expected one of {', '.join(SUFFIXES)}.")
    if path.suffix.lower() != SUFFIXES[format]:
        raise ValueError(f"A file in the format {format} ends in {SUFFIXES[format]}, this one in {path.suffix!r}.")
    if duration is None and format != "bids":
        raise ValueError(f"The format {format} holds the recording's duration, which is not known: pass it in seconds.")
    events = scrubbed(check_events(events, duration, overlapping="keep"), keep_text)
    left_out = int((~is_seizure(events["event_type"])).sum()) if format == "szcore" else 0
    content: dict[Path, bytes] = {}
    if format == "edf":
        content[path] = edf.annotations_only(events, float(duration or 0))
    elif format == "szcore":
        content[path] = tabular.szcore(events, float(duration or 0), start or NO_DATE).encode()
    elif format == "bids":
        content[path] = tabular.bids(events).encode()
        content[path.with_suffix(".json")] = tabular.BIDS_COLUMNS.encode()
    else:
        content[path] = tabular.csv(events, float(duration or 0)).encode()
    for file in content:
        files.refuse_existing(file, overwrite)
    for file, data in content.items():
        files.write_atomically(file, _writer(data))
    return left_out


def scrubbed(events: pd.DataFrame, keep_text: Collection[str] = ()) -> pd.DataFrame:
    """Return events that are safe to write: types of the closed list, texts let through by name; no "bckg" rows.

    A text in the place of a type, as a table made by hand may have it, is treated as a text.
    """
    types = [event_type(kind) for kind in events["event_type"]]
    told = list(events["text"]) if "text" in events else [""] * len(events)
    for i, (kind, new) in enumerate(zip(events["event_type"], types, strict=True)):
        told[i] = told[i] or (kind if new == ANNOTATION else "")
    texts = [let_through(text, keep_text) if text else "" for text in told]
    channels = [ALL if kind == ANNOTATION else names for kind, names in zip(types, events["channels"], strict=True)]
    events = events.assign(event_type=types, channels=channels, text=texts)
    return events[events["event_type"] != BACKGROUND].reset_index(drop=True)


def _writer(data: bytes) -> Callable[..., int]:
    return lambda file: int(file.write(data))
