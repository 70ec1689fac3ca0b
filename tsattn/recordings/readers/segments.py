"""Short pieces that experts sorted: MAYO and FNUSA (`segments.csv`, one `.mat` a piece), and the Bonn set (`bonn.py`).

`DATASET_X/segments.csv` names for each `{segment_id}.mat` (variable `data`, 1 x 15000 at 5000 Hz, one channel) its
category, patient, reviewer and whether the contact lies in the seizure onset zone. Source: Nejedly et al. (Scientific
Data 7:179, 2020); figshare, CC BY.

One patient is one recording: a `Recording` for each of 350,000 pieces would fill the memory before a sample is read.
The files do not say when a piece was recorded, so its clock is ours and stands for nothing: piece k begins at 6 k
seconds, with 3 s of NaN after it, so that no window and no filter joins two. `about["clock"]` is "none"; what counts
per hour or splits by time has no meaning here. Each piece is an event whose type is its category.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn import messages
from tsattn.events.table import make_events
from tsattn.events.vocabulary import let_through
from tsattn.recordings.privacy import label, pseudonym
from tsattn.recordings.readers import Reading, bonn, matlab, version
from tsattn.recordings.recording import Note, Recording, make_channels
from tsattn.recordings.units import factor

NAME = "segments (MAYO, FNUSA; Bonn)"
SFREQ = 5000.0
LENGTH = 15_000
EVERY = 2 * LENGTH  # samples from one piece's begin to the next one's
CATEGORIES = frozenset(
    "powerline,power line,noise,artifact,artifacts,artefact,artefacts,pathology,pathological,pathological activity,"
    "physiology,physiological,physiological activity".split(",")
)
TABLE = "segments.csv"


def recognises(path: Path) -> bool:
    """Return whether this is such a table, a folder with one, a folder of such folders, or the Bonn set."""
    return bool(_tables(path)) or bonn.recognises(path)


def read(path: Path, reading: Reading) -> list[Recording]:
    """Open one recording a patient (of the Bonn set: one a file).

    Args:
        path: The table, its folder, or the folder above.
        reading: What the user says; `keep_text` lets category names through that are not the data sets' own.

    Raises:
        ValueError: If the table lacks a column, names a file that is not there, or one outside its folder.
    """
    tables = _tables(path)
    if not tables:
        return bonn.read(path, reading)
    found = [recording for table in tables for recording in _patients(table, reading)]
    if reading.subject and len(found) > 1:
        raise ValueError(f"One subject was given for {len(found)} patients. Give none: the table has them.")
    return found


def _tables(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name == TABLE else []
    places = [path, *sorted(path.glob("DATASET_*"))]
    return [place / TABLE for place in places if (place / TABLE).is_file()]


@dataclass(frozen=True)
class SegmentSource:
    """Pieces with NaN between them; see `tsattn.recordings.recording.Source`."""

    folder: Path
    names: tuple[str, ...]
    factor: float

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.full(stop - start, np.nan, np.float32)
        for k in range(start // EVERY, min(-(-stop // EVERY), len(self.names))):
            a, b = max(start, k * EVERY), min(stop, k * EVERY + LENGTH)
            if a < b:
                path = self.folder / f"{self.names[k]}.mat"
                out[a - start : b - start] = _piece(path, version(path))[a - k * EVERY : b - k * EVERY]
        return np.repeat(out[None] * np.float32(self.factor), len(rows), axis=0)


@lru_cache(maxsize=8)
def _piece(path: Path, written: tuple[int, int]) -> np.ndarray:
    values = matlab.load(path, "data")
    if values.size != LENGTH:
        raise ValueError(f"{label(path)} holds {values.shape} values, expected 1 x {LENGTH} (3 s at 5000 Hz).")
    return values.reshape(-1).astype(np.float32)


def _patients(path: Path, reading: Reading) -> list[Recording]:
    table = pd.read_csv(path, dtype={"segment_id": str, "patient_id": str})
    missing = {"segment_id", "category_name", "patient_id"} - set(table.columns)
    if missing:
        raise ValueError(f"{label(path)} (segments.csv) lacks the column {sorted(missing)[0]}. Fetch it again.")
    nobody = int(table["patient_id"].isna().sum())
    if nobody:
        raise ValueError(
            f"{label(path)} (segments.csv): {nobody} of {len(table)} segments have no patient_id. Fetch it again, or "
            "take their rows out of the table."
        )
    _refuse_absent(path, table["segment_id"])
    table["reviewer"] = _codes(table, "reviewer_id")
    table["row"] = range(len(table))
    data_set = {"DATASET_MAYO": "mayo", "DATASET_FNUSA": "fnusa"}.get(path.absolute().parent.name.upper(), "segments")
    return [
        _patient(path, data_set, str(patient), rows, reading)
        for patient, rows in table.groupby("patient_id", sort=False)
    ]


def _refuse_absent(path: Path, names: pd.Series) -> None:
    odd = ~names.fillna("").str.fullmatch(r"[A-Za-z0-9_-]+")
    if odd.any():
        raise ValueError(
            f"{label(path)} (segments.csv): {odd.sum()} segment ids are not plain names, the first in row "
            f"{int(np.flatnonzero(odd)[0]) + 1}; expected letters, digits, - and _ (no file elsewhere is read)."
        )
    doubles = names.duplicated().sum()
    if doubles:
        raise ValueError(f"{label(path)} (segments.csv): {doubles} segment ids stand twice. Fetch it again.")
    here = set(os.listdir(path.parent))
    absent = [name for name in names if f"{name}.mat" not in here]
    if absent:
        raise ValueError(
            f"{len(absent)} of {len(names)} segments that {label(path)} (segments.csv) names have no .mat file beside "
            "it. Fetch them, or take their rows out of the table."
        )


def _codes(table: pd.DataFrame, column: str) -> list[int] | None:
    """Number people, so that no name passes; -1 where nobody is named."""
    return pd.factorize(table[column], sort=True)[0].tolist() if column in table else None


def _patient(path: Path, data_set: str, patient: str, rows: pd.DataFrame, reading: Reading) -> Recording:
    named = [str(kind).strip() for kind in rows["category_name"]]
    kinds = [kind if kind.casefold() in CATEGORIES else "annotation" for kind in named]
    texts = [let_through(kind, reading.keep_text) for kind in named]
    notes = [
        Note("warning", "The pieces have no common clock: times, rates per hour and splits by time mean nothing here."),
        Note("warning", "The files state no unit: taken as microvolts.", messages.hint("say otherwise by {unit}")),
    ]
    hidden = sum(kind == "annotation" and not text for kind, text in zip(kinds, texts, strict=True))
    if hidden:
        notes.append(Note("warning", f"{hidden} pieces have a category that is not shown."))
    n = len(rows)
    begin = np.arange(n) * EVERY / SFREQ
    seconds = LENGTH / SFREQ
    subject = reading.subject or (
        f"sub-{data_set}{patient}" if re.fullmatch(r"\d{1,4}", patient) else pseudonym(f"{data_set} {patient}", "sub")
    )
    about = {
        "reader": NAME,
        "data set": data_set,
        "clock": "none",
        "licence": "CC BY",
        "row of segments.csv": rows["row"].tolist(),
        "reviewer": rows["reviewer"].tolist() if rows["reviewer"].notna().any() else None,
        "soz": [None if pd.isna(value) else bool(value) for value in rows["soz"]] if _binary(rows) else None,
    }
    return Recording(
        source=SegmentSource(path.parent, tuple(rows["segment_id"]), factor(reading.unit or "uV")),
        id=subject,
        subject=subject,
        channels=make_channels(["segment"], SFREQ, reading.type or "seeg", unit=reading.unit or "uV"),
        duration=((n - 1) * EVERY + LENGTH) / SFREQ,
        events=make_events(begin, np.full(n, seconds), kinds, text=texts),
        gaps=tuple((t + seconds, t + 2 * seconds) for t in begin[:-1].tolist()),
        notes=tuple(notes),
        files=(path,),
        about=about,
    )


def _binary(rows: pd.DataFrame) -> bool:
    return "soz" in rows and bool(rows["soz"].dropna().isin([0, 1, True, False]).all())
