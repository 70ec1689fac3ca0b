"""The text files beside a signal in BIDS: which of them belong to it, and what stands in them.

Rules: BIDS 1.10, "The inheritance principle", "Intracranial EEG", "Task events"; SzCORE's columns (eventType,
confidence, channels). Real ones have a byte-order mark, CRLF, rows of n/a, and positions in mm under m (ds004100).
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn import documents
from tsattn.events.tabular import read_cells, table_rows
from tsattn.recordings.privacy import label
from tsattn.recordings.readers import Reading
from tsattn.recordings.readers.annotations import to_events
from tsattn.recordings.readers.channel_names import contacts, matched
from tsattn.recordings.recording import Note

ENTITY = re.compile(r"([a-z]+)-([A-Za-z0-9+]+)")
METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
HEAD = 0.5  # m: no contact is further from the origin of any head's frame
MISSING = ("n/a", "N/A", "")


def entities(path: Path) -> dict[str, str]:
    """Return the entities of a BIDS name: `{"sub": "01", "run": "02"}`."""
    return {
        key: value
        for part in path.name.split("_")
        if (found := ENTITY.fullmatch(part.split(".")[0]))
        for key, value in [found.groups()]
    }


def find_sidecars(signal: Path, root: Path, suffix: str, extension: str) -> list[Path]:
    """Return the sidecars that apply to a signal, the one that says most about it last.

    Args:
        signal: The data file.
        root: Of the data set.
        suffix: "channels", "events", "ieeg", ...
        extension: ".tsv" or ".json".
    """
    own = entities(signal)
    folders = [folder for folder in (signal.parent, *signal.parent.parents) if folder == root or root in folder.parents]
    found: list[Path] = []
    for folder in reversed(folders):
        names = folder.glob(f"*{suffix}{extension}")
        fitting = [
            path
            for path in names
            if path.name == suffix + extension or path.name.endswith(f"_{suffix}{extension}")
            if all(own.get(key) == value for key, value in entities(path).items() if key != "space")
        ]
        found += sorted(fitting, key=lambda path: (len(entities(path)), path.name))
    return found


def read_json(paths: Sequence[Path]) -> dict[str, Any]:
    """Return what the files say together; later ones overrule."""
    said: dict[str, Any] = {}
    for path in paths:
        try:
            said |= documents.read_json(path, label(path))
        except TypeError:
            raise ValueError(f"{label(path)} is no JSON object.") from None
    return said


def read_tsv(path: Path) -> pd.DataFrame:
    """Return a table of texts; "n/a" and nothing are NaN."""
    try:
        table = pd.read_csv(
            path, sep="\t", dtype=str, encoding="utf-8-sig", na_values=MISSING, keep_default_na=False, quoting=3
        )
    except UnicodeDecodeError:
        table = pd.read_csv(
            path, sep="\t", dtype=str, encoding="latin-1", na_values=MISSING, keep_default_na=False, quoting=3
        )
    except (pd.errors.EmptyDataError, pd.errors.ParserError):
        raise ValueError(f"{label(path)} is not a table of columns separated by tabs.") from None
    table.columns = [str(name).strip() for name in table.columns]
    return table.dropna(how="all").apply(lambda column: column.str.strip())


def number(column: pd.Series, what: str) -> np.ndarray:
    """Return a column of texts as numbers; NaN where nothing stands.

    Raises:
        ValueError: If a text is no number.
    """
    values = pd.to_numeric(column, errors="coerce")
    wrong = values.isna() & column.notna() & (column.str.casefold() != "nan")
    if wrong.any():
        raise ValueError(
            f"{what} has {int(wrong.sum())} entries that are not numbers, the first in row {int(np.argmax(wrong)) + 1}."
        )
    return values.to_numpy(float)


def read_events(
    path: Path, names: Sequence[str], reading: Reading, duration: float | None = None, sfreq: float | None = None
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Return the events of an events.tsv: BIDS (trial_type) or SzCORE (eventType, confidence, channels).

    Args:
        path: The table.
        names: Of the recording's channels.
        reading: What the user says of texts, and of events that the recording cannot hold.
        duration: Of the recording, seconds.
        sfreq: Hz, of the fastest channel.

    Raises:
        ValueError: If there is no column of onsets, an entry is not a number, or a row is wrong; the line is named.
    """
    try:
        rows = table_rows(read_cells(path)[0], names, partial(contacts, names=list(names)))
        return to_events(rows, reading, names, duration, sfreq)
    except ValueError as problem:
        raise ValueError(f"{label(path)}: {problem}") from problem


def read_positions(
    electrodes: Path, coordsystem: Path | None, names: Sequence[str]
) -> tuple[Float[np.ndarray, "channel 3"], str, tuple[Note, ...]]:
    """Return positions in metres (NaN where unknown), their frame, and notes.

    Args:
        electrodes: The electrodes.tsv.
        coordsystem: The coordsystem.json, if there is one.
        names: Of the recording's channels.

    Raises:
        ValueError: If a coordinate is no number, or a column is missing.
    """
    nowhere = np.full((len(names), 3), np.nan)
    table = read_tsv(electrodes)
    if not {"name", "x", "y", "z"} <= set(table):
        raise ValueError(
            f"{label(electrodes)} has the columns {', '.join(map(str, table))}, expected name, x, y and z."
        )
    said = read_json([coordsystem]) if coordsystem else {}
    frame = next((str(said[key]) for key in said if key.endswith("CoordinateSystem")), "unknown")
    unit = next((str(said[key]) for key in said if key.endswith("CoordinateUnits")), "nothing")
    if unit not in METRES:
        return (
            nowhere,
            frame,
            (Note("warning", f"Positions were left out: their unit is {_safe(unit)}, not m, cm or mm."),),
        )
    places = np.stack([number(table[axis], f"{label(electrodes)}, column {axis},") for axis in "xyz"], 1)
    row, _ = matched(names, [str(name) for name in table["name"]])
    out = np.stack([places[row[name]] if name in row else nowhere[0] for name in names])
    norm = np.linalg.norm(out[np.isfinite(out).all(1)], axis=1)
    notes = []
    scale = METRES[unit]
    if len(norm) and np.median(norm) * scale > HEAD:
        if unit == "m" and np.median(norm) * 1e-3 <= HEAD:
            scale = 1e-3
            notes.append(Note("warning", "Positions are said to be in m and lie outside of any head: taken as mm."))
        else:
            told = f"Positions were left out: in {unit} they lie {np.median(norm) * scale:.3g} m from the origin."
            return nowhere, frame, (Note("warning", told),)
    absent = sum(name not in row for name in names)
    if absent:
        notes.append(Note("info", f"{absent} channels have no position."))
    return out * scale, _safe(frame), tuple(notes)


def _safe(word: str) -> str:
    """Return a word of the standard's; what is none of its form is not shown."""
    return word if re.fullmatch(r"[A-Za-z0-9/]{1,24}", word) else "unknown"
