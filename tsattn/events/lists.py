"""Lists of seizures that public data sets keep beside their recordings, in the place of annotations in the files.

CHB-MIT (physionet.org/content/chbmit): `chb01-summary.txt` names the files of a folder and the seizures in each.
TUH (`tuh.py`): `x.csv_bi`, or `x.csv`, beside `x.edf`.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from tsattn.events import tuh
from tsattn.events.interpret import Rows, Understanding, Understood, understand
from tsattn.events.notes import Note
from tsattn.events.table import NOT_STATED, SEIZURE, is_seizure, seizures
from tsattn.events.vocabulary import event_type

SUMMARY = re.compile(r".+-summary\.txt", re.IGNORECASE)
FILE = re.compile(r"^\s*File Name:\s*(.+?)\s*$", re.IGNORECASE)
EDGE = re.compile(r"^\s*Seizure(?:\s+\d+)?\s+(Start|End)\s+Time:\s*(\d+(?:\.\d+)?)\s*(?:sec|s\b|$)", re.IGNORECASE)
COUNT = re.compile(r"^\s*Number of Seizures in File:\s*(\d+)", re.IGNORECASE)


def is_summary(path: Path) -> bool:
    """Return whether a file is called as CHB-MIT's lists are."""
    return path.is_file() and bool(SUMMARY.fullmatch(path.name))


def beside(recording: Path) -> Path | None:
    """Return the list of seizures that belongs to a recording's file, if one lies beside it."""
    for ending in (".csv_bi", ".csv"):
        own = recording.with_suffix(ending)
        if own.is_file() and (ending == ".csv_bi" or _is_tuh(own)):
            return own
    subject = recording.stem.partition("_")[0]  # chb17a_03.edf is in chb17-summary.txt; no folder is searched for it
    for name in dict.fromkeys((subject, subject.rstrip("abcABC"), recording.absolute().parent.name)):
        summary = recording.with_name(f"{name}-summary.txt")
        if summary.is_file() and recording.name.casefold() in read_summary(summary):
            return summary
    return None


def read_summary(path: Path) -> dict[str, Rows]:
    """Return the seizures of each file that a summary of CHB-MIT names, by the file's name in small letters.

    Raises:
        ValueError: If a seizure has a begin and no end, or their number is not the one that the summary states.
    """
    state = path.stat()
    return _read_summary(path, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=64)  # a folder has one for all of its files
def _read_summary(path: Path, _: tuple[int, int]) -> dict[str, Rows]:
    found: dict[str, list[tuple[float, float, int]]] = {}
    promised: dict[str, int] = {}
    name, begin = "", None
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig", "replace").splitlines(), 1):
        if match := FILE.match(line):
            name, begin = match[1].casefold(), None
            found.setdefault(name, [])
        elif (match := COUNT.match(line)) and name:
            promised[name] = promised.get(name, 0) + int(match[1])
        elif (match := EDGE.match(line)) and name:
            if match[1].lower() == "start":
                begin = float(match[2])
            elif begin is None:
                raise ValueError(f"line {number} of the list of seizures ends a seizure that nothing begins.")
            else:
                found[name].append((begin, float(match[2]) - begin, number))
                begin = None
    for name, seizures_of in found.items():
        if len(seizures_of) != promised.get(name, len(seizures_of)):
            raise ValueError(
                f"the list of seizures promises {promised[name]} in file {list(found).index(name) + 1} of it, and "
                f"states {len(seizures_of)} with a begin and an end."
            )
    return {name: _rows(seizures_of) for name, seizures_of in found.items()}


def _rows(seizures_of: list[tuple[float, float, int]]) -> Rows:
    onset, length = (np.array([row[i] for row in seizures_of], float) for i in (0, 1))
    places = [f"line {row[2]} of the list of seizures" for row in seizures_of]
    count = len(seizures_of)
    return Rows(onset, length, [SEIZURE] * count, [NOT_STATED] * count, np.full(count, np.nan), places)


def list_rows(path: Path, recording: Path) -> Rows:
    """Return what a list says of one recording."""
    from tsattn.events.tabular import read_cells

    if SUMMARY.fullmatch(path.name):
        return read_summary(path)[recording.name.casefold()]
    return tuh.rows(read_cells(path)[0])


def understand_with(
    own: Rows,
    beside: Path | None,
    recording: Path,
    how: Understanding,
    duration: float | None,
    *,
    sfreq: float | None = None,
    contacts: Callable[[str], list[str]] | None = None,
) -> Understood:
    """Make the events of a recording of its own annotations and of the list beside it, which decides on seizures.

    Args:
        own: Annotations in the recording's file.
        beside: The list, if there is one.
        recording: The file.
        how: What the user says.
        duration: Of the recording, seconds.
        sfreq: See `interpret.understand`.
        contacts: See `interpret.understand`.
    """
    if beside is None:
        return understand(own, how, duration, sfreq=sfreq, contacts=contacts)
    listed = list_rows(beside, recording)
    marked = replace(how, unpaired="mark", outside="clip" if how.outside == "raise" else how.outside)
    mine = understand(own, marked, duration, sfreq=sfreq, contacts=contacts)
    others = [i for i, text in enumerate(own.texts) if not is_seizure([event_type(text, how.seizure_words)])[0]]
    both = Rows(
        np.r_[listed.onset, np.asarray(own.onset, float)[others]],
        np.r_[listed.length, np.asarray(own.length, float)[others]],
        [*listed.texts, *(own.texts[i] for i in others)],
        [*listed.channels, *(own.channels[i] for i in others)],
        np.r_[listed.confidence, np.full(len(others), np.nan)],
        [*listed.places, *(own.places[i] for i in others)],
        notes=own.notes,
    )
    found = understand(both, how, duration, sfreq=sfreq, contacts=contacts)
    count = len(seizures(found.events))
    notes = [Note("info", f"A list of seizures lies beside the file: {count} are of this recording.")]
    if len(seizures(mine.events)):
        gone = len(seizures(mine.events))
        notes.append(Note("warning", f"{gone} seizures among the file's own annotations gave way to that list."))
    return replace(found, background=found.background or not count, notes=(*notes, *found.notes))


def _is_tuh(path: Path) -> bool:
    from tsattn.events.tabular import read_cells

    try:
        return tuh.is_list(read_cells(path)[0].columns)
    except ValueError:
        return False
