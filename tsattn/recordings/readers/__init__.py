"""Readers of recordings, one file a format; what they return is a `Recording`, whatever the format.

A reader is a module with `NAME` (what it is called), `recognises(path)` (by what is in the file or folder, not by its
ending alone; cheap) and `read(path, reading)` (a list of recordings, or that and what was `Left`; opens headers only).
The order of READERS decides where two would do. In a folder of no known layout every file is tried, and what was left
is named, with a reason.
"""

import importlib
import logging
import os
from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tsattn.events.interpret import Outside, Understanding, Unpaired, listed
from tsattn.recordings.guard import guarded
from tsattn.recordings.privacy import is_bids_name, known_suffix, label, pseudonym
from tsattn.recordings.recording import Note, Recording

# modules here
READERS = ("prepared", "bids", "edf", "swec", "ethz", "segments", "treebank", "mef", "nwb", "neuralynx", "raw")
Unit = Literal["nV", "uV", "mV", "V"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What the user says of files that the files do not say, or say wrongly.

    Attributes:
        unit: Of the values in the file, against what it says or keeps silent about.
        subject: Pseudonym of the person; or "folder": each folder holds one person's recordings, where no data set
            names the people; or the path of a .csv or .tsv with a column of files (or recordings' ids) and one of
            subjects. Without it BIDS says who it is, or a hash of the header's patient code; if nothing does, the
            recording counts as unknown (`tsattn.recordings.subjects`).
        type: Of the channels that may record the brain, where only their names tell (LA3, F3) or nothing does.
        signals: Names of channels that record the brain, whatever their names or the file's sidecars tell, or
            patterns (`POST*`); a leading `!` says of channels that they do not (`!EKG*`). Case makes no difference,
            and a later pattern overrules those before it.
        seizure_words: Annotations that hold one of these words are seizures, besides "seizure", "sz", "ictal".
        keep_text: Annotation texts that may be shown (`*` stands for anything), in the column `text` of the events;
            what an event means does not change.
        unpaired: What to do with a seizure whose end is not known: "mark" (of no duration, with a warning) or "raise".
        on_mismatch: What to do if a file contradicts itself or its sidecars (number of records or samples, sampling
            rate, names of channels): "raise", or "warn" and believe what the samples' own file holds.
        outside: What to do with events that the recording cannot hold: "clip", "drop" or "raise"; see
            `tsattn.events.fitting.fit_events`.
    """

    unit: Unit | None = None
    subject: str | None = None
    type: str | None = None
    signals: tuple[str, ...] = ()
    seizure_words: Collection[str] = ()
    keep_text: Collection[str] = ()
    unpaired: Unpaired = "mark"
    on_mismatch: Literal["raise", "warn"] = "raise"
    outside: Outside = "clip"

    def __post_init__(self) -> None:
        for name in ("seizure_words", "keep_text"):
            object.__setattr__(self, name, listed(getattr(self, name), name))
        self.understanding  # noqa: B018  (refuses what is no policy)

    @property
    def understanding(self) -> Understanding:
        """What the user says of events."""
        return Understanding(listed(self.keep_text), listed(self.seizure_words), self.unpaired, self.outside)


_told: ContextVar[Callable[[], object] | None] = ContextVar("what open_recordings tells of its progress", default=None)


def tick() -> None:
    """Say that one more file of a folder is being opened, to whoever waits for it."""
    progress = _told.get()
    if progress is not None:
        progress()


@dataclass(frozen=True)
class Left:
    """A file that was not read, and why; the reason calls it by its label."""

    path: Path
    why: str


def open_recordings(
    path: str | Path | Sequence[str | Path], *, progress: Callable[[], object] | None = None, **reading: Any
) -> list[Recording]:
    """Open every recording at a path or several: files, or folders.

    Files that were left in a folder are logged, and a note on the folder's first recording counts them;
    `find_recordings` returns them.

    Args:
        path: What to open.
        progress: Called when a file of a folder was opened, or left.
        reading: Attributes of `Reading`.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If no reader knows it, it is damaged, or two recordings have the same id: what was found, and what
            was expected.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    said = asked(**reading)
    found = [recording for one in paths for recording in open_path(one, said, progress)]
    settle(found, said)
    return found


def asked(**reading: Any) -> Reading:
    """Return what the user says of files, checked before one of them is opened.

    Args:
        reading: Attributes of `Reading`.

    Raises:
        FileNotFoundError: If the table of subjects is not there.
        ValueError: If that table cannot be read, or a policy is not one.
    """
    from tsattn.recordings.subjects import is_table, read_table

    said = Reading(**reading)
    if said.subject is not None and is_table(said.subject):
        read_table(Path(said.subject))
    return said


def open_path(path: str | Path, reading: Reading, progress: Callable[[], object] | None = None) -> list[Recording]:
    """Open every recording at one path of several; when all are open, `settle` checks them together.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If no reader knows it, or it is damaged.
    """
    token = _told.set(progress)
    try:
        return with_left(*find_recordings(path, reading))
    finally:
        _told.reset(token)


def settle(found: Sequence[Recording], reading: Reading, *, doubles: bool = False) -> None:
    """Check what can be said of all recordings of a call alone.

    Args:
        found: By `open_path`.
        reading: What the user says of them.
        doubles: Whether two of them may have the same id.

    Raises:
        ValueError: If two have the same id, or a pattern of `Reading.signals` or the whole table of subjects speaks of
            none of them, or one subject was given for several people.
    """
    from tsattn.recordings.readers.channel_names import refuse_idle
    from tsattn.recordings.subjects import refuse_idle_table, refuse_several

    if not doubles:
        _refuse_doubles(found)
    refuse_idle(reading.signals, found)
    refuse_idle_table(found, reading.subject)
    refuse_several(found, reading.subject)


def find_recordings(path: str | Path, reading: Reading) -> tuple[list[Recording], list[Left]]:
    """Open every recording at a path, and return what was left beside it.

    Args:
        path: A file, or a folder.
        reading: What the user says of it.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it is a file that cannot be read, or a folder in which nothing can.
    """
    from tsattn.recordings import subjects
    from tsattn.recordings.readers.channel_names import call_signals

    path = Path(path)
    refuse_absent(path)
    read = _reader_for(path)
    if read is not None:
        whose = reading.subject if reading.subject == subjects.FOLDER or subjects.is_table(reading.subject) else None
        settled = whose is not None and not (path / "zarr.json").is_file()
        with guarded(label(path), [path]):
            found = read(path, replace(reading, subject=None) if settled else reading)
        recordings, left = found if isinstance(found, tuple) else (found, [])
        recordings = subjects.assigned(recordings, whose) if settled else recordings
        return [call_signals(recording, reading.signals, reading.type) for recording in recordings], left
    if path.is_file():
        raise ValueError(_unknown(path))
    recordings, left = _search(path, reading)
    if not recordings:
        first = f" The first of {len(left)} files: {left[0].why}" if left else " It is empty."
        raise ValueError(f"{label(path)} holds no recording that can be read.{first}")
    return recordings, left


def with_left(recordings: list[Recording], left: list[Left]) -> list[Recording]:
    """Log what was left, and say it in a note on the first recording."""
    if not left or not recordings:
        return recordings
    for one in left:
        logger.warning("Left out: %s", one.why)
    told = " ".join(one.why for one in left[:5]) + (f" And {len(left) - 5} more." if len(left) > 5 else "")
    first = recordings[0]
    note = Note("warning", f"{len(left)} files beside this recording were left out. {told}")
    return [replace(first, notes=(*first.notes, note)), *recordings[1:]]


def reason(path: Path, problem: Exception) -> str:
    """Return why a file was not read; the system's own errors hold its whole path, ours do not."""
    if isinstance(problem, OSError) and problem.strerror:
        return f"{label(path)} cannot be opened: {problem.strerror}."
    return str(problem)


def recording_id(path: Path) -> str:
    """Return the id of a recording in a file of its own: its BIDS name without the suffix, or a pseudonym."""
    stem = path.name.removesuffix(known_suffix(path.name))
    if stem.startswith("sub-") and is_bids_name(stem):
        return stem.removesuffix("_ieeg").removesuffix("_eeg")
    return pseudonym(os.path.abspath(path), "rec")


def _reader_for(path: Path) -> Any:
    for name in READERS:
        reader = importlib.import_module(f"tsattn.recordings.readers.{name}")
        with guarded(label(path), [path]):
            recognised = reader.recognises(path)
        if recognised:
            return reader.read
    return None


def _search(folder: Path, reading: Reading) -> tuple[list[Recording], list[Left]]:
    recordings: list[Recording] = []
    left: list[Left] = []
    for path in sorted(folder.iterdir()):
        tick()
        try:
            if path.is_symlink() and folder.resolve().is_relative_to(path.resolve()):
                raise ValueError(f"{label(path)} is a link to a folder that it lies in.")
            if path.is_dir() and _reader_for(path) is None:
                found, more = _search(path, reading)
            else:
                found, more = find_recordings(path, reading)
        except (ValueError, OSError) as problem:
            found, more = [], [Left(path, reason(path, problem))]
        recordings += found
        left += more
    used = {file.resolve() for recording in recordings for file in recording.files}
    return recordings, [one for one in left if one.path.resolve() not in used]


def _refuse_doubles(recordings: Sequence[Recording]) -> None:
    seen: dict[str, Recording] = {}
    for recording in recordings:
        other = seen.setdefault(recording.id, recording)
        if other is not recording:
            told = []
            for one in (other, recording):
                where = one.files[0].absolute() if one.files else Path(one.id)
                told.append(f"{label(where)} ({pseudonym(str(where), 'rec')})")
            raise ValueError(
                f"Two recordings are called {recording.id}: {told[0]} and {told[1]}. Expected one; open them apart, or "
                "rename one."
            )


WAY = (  # out of every format that is not read
    "Open it with a program that reads it, and pass the signal on in Python: `tsattn.recordings.from_mne(raw)` takes "
    'what mne reads, `tsattn.recordings.from_array(values, sfreq, names, unit="uV")` a matrix (channel, time); '
    "preparation and detectors take both."
)
ENDING = {"EDF": ".edf", "BDF": ".bdf", "a BrainVision header": ".vhdr", "FIF": ".fif"}
PACKED = ("a zip archive", "gzip")
POINTERS = (b"/annex/objects/", b"../.git/annex/objects/", b"version https://git-lfs")
MAGIC = {
    b"\x89HDF\r\n\x1a\n": "HDF5",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "gzip",
    b"MATLAB 5.0": "a MATLAB file",
    b"0       ": "EDF",
    b"\xffBIOSEMI": "BDF",
    b"Brain Vision": "a BrainVision header",
    b"\x00\x00\x00\x64": "FIF",
    b"\x93NUMPY": "an array of numpy",
    b"* MICROMED": "a Micromed file",
    b"NEURALCD": "a Blackrock file",
    b"%PDF": "PDF",
    b"\x89PNG": "PNG",
}


def version(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written anew, for what a process keeps of it: time and size."""
    try:
        found = path.stat()
    except OSError:  # whose text holds the whole path
        raise FileNotFoundError(f"{label(path)} is no longer there.") from None
    return found.st_mtime_ns, found.st_size


def is_pointer(path: Path) -> bool:
    """Return whether git-annex, DataLad or Git LFS left a pointer here (or a link to nothing)."""
    if not path.exists():
        return path.is_symlink()
    if not path.is_file() or path.stat().st_size > 1024:
        return False
    begin = path.read_bytes()
    return any(pointer in begin[:200] for pointer in POINTERS)


def refuse_absent(path: Path) -> None:
    """Raise if nothing is there, or a pointer instead of the content."""
    if is_pointer(path):
        raise ValueError(
            f"{label(path)} is a pointer of git-annex, DataLad or Git LFS: its content is not here. "
            "Fetch it (`datalad get`, `git lfs pull`)."
        )
    if not path.exists():
        raise FileNotFoundError(f"There is nothing at {label(path)}.")


def _unknown(path: Path) -> str:
    with path.open("rb") as file:
        begin = file.read(64)
    kind = next((kind for magic, kind in MAGIC.items() if begin.startswith(magic)), None)
    if not begin:
        return f"{label(path)} is empty."
    if kind in ("PDF", "PNG"):
        return f"{label(path)} is a {kind} file, not a recording."
    if kind in ENDING:
        return f"{label(path)} begins as {kind} does, and has another ending: call it *{ENDING[kind]}."
    if kind in PACKED:
        return f"{label(path)} is {kind}: unpack it, and open what is in it."
    if kind is None:
        return (
            f"{label(path)} is of no format that tsattn reads: neither its ending nor its first bytes are known. {WAY}"
        )
    return f"{label(path)} is {kind}, and its content is of no layout that tsattn reads by itself. {WAY}"
