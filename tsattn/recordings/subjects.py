"""Whose a recording is: what its file says, what the user says, and that nothing says it.

A recording whose file does not say whose it is counts as a person of its own, and that is a guess: a child's 39 files
would be 39 people. `Recording.about` keeps the guess as such (`subject_from`), through a store; a split by subject and
the training of a detector refuse it, and the user decides: a pseudonym, "folder" (each folder holds one person's
recordings), or a table of files and subjects.
"""

import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsattn import messages
from tsattn.recordings.privacy import label, pseudonym
from tsattn.recordings.recording import Note, Recording

if TYPE_CHECKING:
    from tsattn.recordings.readers import Reading

FOLDER = "folder"
TABLES = (".csv", ".tsv")
FILES = ("file", "files", "filename", "path", "recording", "recording_id", "id")  # names of a table's column
SUBJECTS = ("subject", "subject_id", "participant", "participant_id", "patient", "person")
BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+(?=_)")
TOLD = 3  # recordings that a message names
UNKNOWN = "does not tell whose recording it is"  # in a note
Whose = str | Path | Mapping[str, str] | None


def is_table(subject: object) -> bool:
    """Return whether a user's word for the subject is the path of a table of files and subjects."""
    return isinstance(subject, str | Path) and Path(subject).suffix.lower() in TABLES


def of_file(path: Path, reading: "Reading", code: str = "") -> tuple[str, dict[str, Any], tuple[Note, ...]]:
    """Return whose a file is: the pseudonym, what `Recording.about` says of it, and a note if nothing tells it.

    Args:
        path: Of the file.
        reading: What the user says.
        code: The patient's, as the file has it; "" if it has none.
    """
    place = os.path.abspath(path)
    about = {"subject_from": "header" if code else "unknown", "folder": pseudonym(os.path.dirname(place), "sub")}
    if reading.subject:
        return reading.subject, about | {"subject_from": "user"}, ()
    if code:
        return pseudonym(code, "sub"), about, ()
    way = messages.hint("pass {subject} if there are more of theirs", "{subject=folder} if a folder is a person")
    return pseudonym(place, "sub"), about, (Note("warning", f"The file {UNKNOWN}.", way),)


def known(recording: Recording) -> bool:
    """Return whether something says whose a recording is, so that another subject is another person."""
    return _said(recording).get("subject_from") != "unknown" and not any(
        "not tell whose recording" in note.text and "subject_from" not in _said(recording) for note in recording.notes
    )


def assigned(recordings: Sequence[Recording], subject: Whose) -> list[Recording]:
    """Return recordings as of the people that the user names.

    Args:
        recordings: Of files, or of a store.
        subject: "folder": those of one folder are one person's, where no data set names the people. A path: a CSV or
            TSV with a column of files (or of recordings' ids) and one of subjects. A mapping of ids to subjects. None:
            as they are.

    Raises:
        ValueError: If the table speaks of none of them, or the folder of a recording is not known.
    """
    if subject is None:
        return list(recordings)
    if subject == FOLDER:
        return [_of_folder(recording) for recording in recordings]
    if isinstance(subject, Mapping):
        people = dict(subject)
    elif is_table(subject):
        people = read_table(Path(subject))
    else:
        raise ValueError(
            f"subject is {str(subject)!r}, expected 'folder' (each folder is one person), or a .csv or .tsv of files "
            "and subjects."
        )
    return [_called(one, people[one.id], "table") if one.id in people else one for one in recordings]


def refuse_idle_table(recordings: Sequence[Recording], subject: Whose) -> None:
    """Raise ValueError if a table of subjects speaks of none of the recordings."""
    if is_table(subject) and not any(_said(one).get("subject_from") == "table" for one in recordings):
        raise ValueError(
            f"{label(Path(str(subject)))} speaks of none of the {len(recordings)} recordings: its first column should "
            "hold their files (as seen from the table's folder, or from here) or their ids "
            f"({', '.join(one.id for one in recordings[:TOLD])})."
        )


def refuse_several(recordings: Sequence[Recording], subject: Whose) -> None:
    """Raise ValueError if one subject was given for recordings that a data set says are of several people."""
    if not isinstance(subject, str) or subject == FOLDER or is_table(subject):
        return
    people = sorted({found[0] for one in recordings if (found := BIDS_SUBJECT.match(one.id))})
    if len(people) > 1:
        more = f" and {len(people) - TOLD} more" if len(people) > TOLD else ""
        raise ValueError(
            f"The subject {subject!r} was given for recordings that name several people: "
            f"{', '.join(people[:TOLD])}{more}. Open those of one person, or leave the subject out."
        )


def read_table(path: Path) -> dict[str, str]:
    """Return the subject of each recording's id from a table of files (or ids) and subjects.

    Args:
        path: CSV or TSV with a header; columns "file" and "subject", or the first two.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it has no two columns, a cell is empty, or one file has two subjects.
    """
    from tsattn.recordings.readers import recording_id

    if not path.is_file():
        raise FileNotFoundError(f"There is no table of subjects at {label(path)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{label(path)} is not text in UTF-8, expected a table of files and subjects.") from None
    between = "\t" if path.suffix.lower() == ".tsv" else ";" if ";" in text.partition("\n")[0] else ","
    rows = [row for row in csv.reader(text.splitlines(), delimiter=between) if any(cell.strip() for cell in row)]
    if len(rows) < 2 or len(rows[0]) < 2:
        raise ValueError(f"{label(path)} is not a table of files and subjects: expected a header and two columns.")
    head = [cell.strip().casefold() for cell in rows[0]]
    file = next((head.index(name) for name in FILES if name in head), 0)
    person = next((head.index(name) for name in SUBJECTS if name in head), 1)
    found: dict[str, str] = {}
    for number, row in enumerate(rows[1:], 2):
        cells = [row[place].strip() if place < len(row) else "" for place in (file, person)]
        if not all(cells):
            raise ValueError(f"{label(path)}, row {number}: a file or a subject is missing.")
        for id in {cells[0], *(recording_id(folder / cells[0]) for folder in (path.absolute().parent, Path.cwd()))}:
            if found.setdefault(id, cells[1]) != cells[1]:
                raise ValueError(f"{label(path)}, row {number}: this file has another subject in an earlier row.")
    return found


def refuse_unknown(recordings: Sequence[Recording], what: str, store: str = "") -> None:
    """Raise ValueError if nothing says whose some of several recordings are.

    Args:
        recordings: That are to be told apart by their people.
        what: What needs to know, as the begin of a sentence.
        store: How the command that helps may call the store; "" where `subject` is the caller's own option.
    """
    nobody = [one.id for one in recordings if not known(one)]
    if not nobody or len(recordings) < 2:
        return
    told = ", ".join(nobody[:TOLD]) + (f" and {len(nobody) - TOLD} more" if len(nobody) > TOLD else "")
    if store:
        line = f"tsattn recordings split {store} --by subject"
        way = f"Make a split that says it: `{line} --subject folder --out splits.json` if each folder holds one person"
        way += f", or `{line} --subject people.csv --out splits.json`"
    else:
        folder, table = "subject='folder'", "subject='people.csv'"
        if messages.on_command_line() and messages.has("subject"):
            folder, table = messages.option("subject", FOLDER), messages.option("subject", "people.csv")
        way = f"Pass {folder} if each folder holds one person, or {table}"
    raise ValueError(
        f"{what} needs to know whose each recording is, and {len(nobody)} of {len(recordings)} do not say it ({told}): "
        f"two of them may be one person's. {way}, a table with the columns recording and subject."
    )


def count_told(recordings: Sequence[Any], unknown: Sequence[bool]) -> str:
    """Return how many people some recordings are of, as far as anything says it.

    Args:
        recordings: Things with a `subject`.
        unknown: Whether nothing says whose each of them is.
    """
    sure = {one.subject for one, nobody in zip(recordings, unknown, strict=True) if not nobody}
    open_ = sum(unknown)
    parts = [f"{len(sure)} subject{'s' * (len(sure) != 1)}"] if sure or not open_ else []
    parts += [f"{open_} recordings that do not say whose they are"] if open_ else []
    return " and ".join(parts)


def _said(recording: Recording) -> dict[str, Any]:
    """Return what the reader said of a recording, from before its preparation if it was prepared."""
    read = (recording.about.get("provenance") or {}).get("read")
    return {**(read or {}), **{key: recording.about[key] for key in ("subject_from",) if key in recording.about}}


def _of_folder(recording: Recording) -> Recording:
    said = {**_said(recording), **recording.about}
    if said.get("subject_from") not in ("unknown", "header") and known(recording):
        return recording  # a data set names the people, or the user did
    if "folder" not in said:
        raise ValueError(
            f"{recording.id}: its folder is not known here, so "
            f"{messages.advice('{subject=folder}') or 'a subject for each folder'} cannot be taken; prepare it again "
            "with it, or name a table of recordings and subjects."
        )
    return _called(recording, str(said["folder"]), "folder")


def _called(recording: Recording, subject: str, how: str) -> Recording:
    notes = tuple(note for note in recording.notes if UNKNOWN not in note.text)
    return replace(recording, subject=subject, notes=notes, about={**recording.about, "subject_from": how})
