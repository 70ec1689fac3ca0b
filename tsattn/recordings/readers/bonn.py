"""The Bonn EEG set: 500 text files of 4097 integers, one channel at 173.61 Hz (23.6 s each), in five zips or folders.

S: seizures, N and F: between seizures, all intracranial; Z and O: scalp of healthy people. Source: Andrzejak et al.
(Physical Review E 64:061907, 2001); CC BY 4.0, doi 10.34810/data490. Which of the five patients (or five volunteers) a
file is of was never published: all count as one, so that a split by subject cannot part a person. No file states a
unit. The integers have the size of microvolts: median absolute deviation 30 between seizures, 170 in them.
"""

import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Float

from tsattn.events.table import make_events, no_events
from tsattn.recordings.privacy import label
from tsattn.recordings.readers import Reading
from tsattn.recordings.recording import Note, Recording, make_channels
from tsattn.recordings.units import factor

MEMBER = re.compile(r"([SNFZO])\d{3}\.txt", re.IGNORECASE)
SFREQ = 173.61
BIGGEST = 2**20  # bytes of a member; they have 20 kB
INTRACRANIAL = "SNF"
NOTES = (
    Note("warning", "The files state no unit: taken as microvolts, whose size the values have."),
    Note("warning", "Which person a file is of was never published: all patients count as one subject."),
)


def recognises(path: Path) -> bool:
    """Return whether this is a zip of the set, a folder of its texts, or a folder of its zips."""
    if path.is_dir():
        return any(MEMBER.fullmatch(file.name) or _is_archive(file) for file in path.iterdir())
    return _is_archive(path)


def read(path: Path, reading: Reading) -> list[Recording]:
    """Open one recording a file.

    Args:
        path: A zip, a folder of texts, or a folder of zips.
        reading: What the user says.

    Raises:
        ValueError: If a zip holds links or leads out of its folder, or a file holds anything but numbers.
    """
    found = [_recording(file, member, text, reading) for file, member, text in _texts(path)]
    return sorted(found, key=lambda recording: recording.id)


def _is_archive(path: Path) -> bool:
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as opened:
        return any(MEMBER.fullmatch(PurePosixPath(name).name) for name in opened.namelist())


def _texts(path: Path) -> Iterator[tuple[Path, str, bytes]]:
    """Return each file of the set: its path, its name in it if that is an archive, its bytes."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if MEMBER.fullmatch(file.name) and file.is_file():
            yield file, "", file.read_bytes()
        elif _is_archive(file):
            try:
                with zipfile.ZipFile(file) as archive:
                    yield from ((file, name, archive.read(name)) for name in _checked(file, archive))
            except (zipfile.BadZipFile, zlib.error, RuntimeError):  # the last: a password, an odd packing
                raise ValueError(
                    f"{label(file)} is a zip archive that cannot be unpacked. Download it again."
                ) from None


def _checked(path: Path, archive: zipfile.ZipFile) -> list[str]:
    """Return the members that are recordings; refuse an archive that leads out of itself."""
    for entry in archive.infolist():
        place = PurePosixPath(entry.filename)
        if place.is_absolute() or ".." in place.parts or "\\" in entry.filename:
            raise ValueError(f"{label(path)} holds a file that leads out of it, which is refused.")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"{label(path)} holds a link, which is refused.")
        if MEMBER.fullmatch(place.name) and entry.file_size > BIGGEST:
            raise ValueError(f"{label(path)} holds a text of {entry.file_size} bytes, expected about 20000.")
    names = [name for name in archive.namelist() if "__MACOSX" not in name]
    return [name for name in names if MEMBER.fullmatch(PurePosixPath(name).name)]


def _called(file: Path, member: str) -> str:
    return PurePosixPath(member or file.name).stem.upper()


def _numbers(text: bytes, called: str) -> Float[np.ndarray, " time"]:
    try:
        return np.array(text.split(), dtype=np.float32)
    except ValueError:
        raise ValueError(f"{called} of the Bonn set is damaged: no column of numbers.") from None


@dataclass(frozen=True)
class BonnSource:
    """Numbers of one text; see `tsattn.recordings.recording.Source`."""

    path: Path
    member: str
    factor: float

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        if self.member:
            with zipfile.ZipFile(self.path) as archive:
                values = _numbers(archive.read(self.member), _called(self.path, self.member))
        else:
            values = _numbers(self.path.read_bytes(), _called(self.path, ""))
        return np.repeat(values[None, start:stop] * np.float32(self.factor), len(rows), axis=0)


def _recording(path: Path, member: str, text: bytes, reading: Reading) -> Recording:
    called = _called(path, member)
    samples = len(_numbers(text, called))
    if samples < 2:
        raise ValueError(f"{called} of the Bonn set holds {samples} numbers, expected 4097.")
    inside = called[0] in INTRACRANIAL
    subject = reading.subject or ("sub-bonnpatients" if inside else "sub-bonnvolunteers")
    duration = samples / SFREQ
    return Recording(
        source=BonnSource(path, member, factor(reading.unit or "uV")),
        id=f"{subject}_acq-{called}",
        subject=subject,
        channels=make_channels(
            [called], SFREQ, reading.type or ("seeg" if inside else "eeg"), unit=reading.unit or "uV"
        ),
        duration=duration,
        events=make_events([0.0], [duration]) if called[0] == "S" else no_events(),
        notes=NOTES,
        files=(path,),
        about={
            "reader": "Bonn EEG set",
            "licence": "CC BY 4.0, doi 10.34810/data490",
            "cite": "Andrzejak et al., Physical Review E 64:061907 (2001)",
            "set": called[0],
        },
    )
