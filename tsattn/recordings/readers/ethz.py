"""The SWEC-ETHZ iEEG data sets of the years before: one hour, or one seizure, in a MATLAB file.

Long-term: `IDxx/IDxx_{h}h.mat` with `EEG` (channel, time), hours counted from 1, and `IDxx_info.mat` with `fs`,
`seizure_begin` and `seizure_end` in seconds from the start of the whole recording. Short-term: `IDxx/SzN.mat` with
`EEG` (time, channel) at 512 Hz, the seizure with 3 minutes before and after. Source: ieeg-swez.ethz.ch; Burrello et al.
(2019, 2020). A missing hour is a gap of NaN on the one clock of the recording; hours are never joined over it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn import messages
from tsattn.events.table import make_events
from tsattn.recordings.privacy import label
from tsattn.recordings.readers import Reading, matlab
from tsattn.recordings.readers.seizures import seizure_table
from tsattn.recordings.recording import Note, Recording, make_channels
from tsattn.recordings.units import factor

NAME = "SWEC-ETHZ iEEG (MATLAB)"
INFO = re.compile(r"(ID\d+)_info\.mat")
HOUR = re.compile(r"(ID\d+)_(\d+)h\.mat")
SEIZURE_FILE = re.compile(r"Sz(\d+)\.mat")
AROUND = 180.0  # s before and after the seizure of a short-term file
SHORT_RATE = 512.0
SIGNAL = "EEG"
TWINS = Note("warning", "These patients may be ID01 to ID18 of the SWEC iEEG data set: audit before a split over both.")
ABOUT = {
    "reader": NAME,
    "licence": "free for research and education; see ieeg-swez.ethz.ch",
    "done before": "16 bit; zero-phase band-pass 0.5-120 Hz, 4th order; median reference",
}


def recognises(path: Path) -> bool:
    """Return whether this is a file or a folder of one of the two data sets, by the names of the files."""
    if path.is_file():
        return any(pattern.fullmatch(path.name) for pattern in (INFO, HOUR, SEIZURE_FILE))
    return bool(_folders(path))


def read(path: Path, reading: Reading) -> list[Recording]:
    """Open every recording at a path.

    Args:
        path: A patient's folder, a folder of such folders, or one `SzN.mat`.
        reading: What the user says.

    Raises:
        ValueError: If a file is missing, damaged, or not as the data set has it.
    """
    if path.is_file():
        if not SEIZURE_FILE.fullmatch(path.name):
            raise ValueError(
                "This is one file of a long-term recording, whose times count from the first hour. Open its folder."
            )
        return [_short(path, path.absolute().parent.name, reading)]
    folders = _folders(path)
    if reading.subject and len(folders) > 1:
        raise ValueError(f"One subject was given for {len(folders)} patients. Open one patient's folder, or give none.")
    found = []
    for folder in folders:
        shorts = [file for file in _files(folder) if SEIZURE_FILE.fullmatch(file.name)]
        found += [_short(file, folder.absolute().name, reading) for file in sorted(shorts, key=_number)]
        if len(shorts) < len(_files(folder)):
            found.append(_long(folder, reading))
    return found


def _files(folder: Path) -> list[Path]:
    """Return the files in a folder that are of one of the two data sets."""
    patterns = (INFO, HOUR, SEIZURE_FILE)
    return sorted(file for file in folder.iterdir() if any(pattern.fullmatch(file.name) for pattern in patterns))


def _number(file: Path) -> int:
    match = SEIZURE_FILE.fullmatch(file.name)
    assert match
    return int(match[1])


def _folders(path: Path) -> list[Path]:
    inner = sorted(place for place in path.iterdir() if re.fullmatch(r"ID\d+", place.name) and place.is_dir())
    return [folder for folder in (path, *inner) if _files(folder)]


@dataclass(frozen=True)
class Piece:
    """A file and where its samples lie on the recording's clock."""

    path: Path
    begin: int
    n: int


@dataclass(frozen=True)
class EthzSource:
    """Samples of the files, one of them in memory at a time; see `tsattn.recordings.recording.Source`."""

    pieces: tuple[Piece, ...]
    time_axis: Literal[0, 1]
    factor: float

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.full((len(rows), stop - start), np.nan, np.float32)
        for piece in self.pieces:
            a, b = max(start, piece.begin), min(stop, piece.begin + piece.n)
            if a < b:
                values = matlab.stretch(piece.path, SIGNAL, self.time_axis, a - piece.begin, b - piece.begin)
                out[:, a - start : b - start] = values[list(rows)]
        return out if self.factor == 1 else out * np.float32(self.factor)


def _size(path: Path, time_axis: Literal[0, 1], who: str) -> tuple[int, int]:
    """Return how many channels and samples a file holds."""
    found = matlab.shape(path, SIGNAL)
    expected = "(channel, time)" if time_axis else "(time, channel)"
    if len(found) != 2 or 0 in found:
        raise ValueError(f"{who}: {SIGNAL} has shape {found}, expected {expected}.")
    channels, samples = found[1 - time_axis], found[time_axis]
    if channels > samples:
        raise ValueError(
            f"{who}: {SIGNAL} has {channels} channels of {samples} samples; the axes seem to be swapped, "
            f"expected {expected}. Transpose it."
        )
    return channels, samples


def _long(folder: Path, reading: Reading) -> Recording:
    hours = {int(match[2]): file for file in _files(folder) if (match := HOUR.fullmatch(file.name))}
    infos = [(match[1], file) for file in _files(folder) if (match := INFO.fullmatch(file.name))]
    if len(infos) != 1 or not hours:
        raise ValueError(
            f"{label(folder)} holds {len(hours)} hour files and {len(infos)} IDxx_info.mat (rate, seizures), "
            "expected hours and one IDxx_info.mat. Fetch what is missing."
        )
    patient, info = infos[0]
    who = f"SWEC-ETHZ {patient}"
    others = {match[1] for file in hours.values() if (match := HOUR.fullmatch(file.name))} - {patient}
    if others or min(hours) < 1:
        raise ValueError(f"{who}: its folder holds hours of another patient, or an hour 0. Keep one patient a folder.")
    rate = matlab.load(info, "fs").reshape(-1)
    if len(rate) != 1 or not 0 < rate[0] < 1e6:
        raise ValueError(f"{who}: fs in its info file is {rate.tolist()}, expected one rate in Hz above 0.")
    sfreq = float(rate[0])
    full = round(3600 * sfreq)
    pieces, counts = [], set()
    for hour, file in sorted(hours.items()):
        channels, samples = _size(file, 1, f"{who}, hour {hour}")
        if samples > full:
            raise ValueError(
                f"{who}: hour {hour} holds {samples} samples, more than an hour at {sfreq:g} Hz has ({full}). "
                "Is fs in the info file right?"
            )
        counts.add(channels)
        pieces.append(Piece(file, (hour - 1) * full, samples))
    if len(counts) > 1:
        raise ValueError(f"{who}: its hours hold {sorted(counts)} channels, expected one number. Fetch them again.")
    end = pieces[-1].begin + pieces[-1].n
    gaps, at = [], 0
    for piece in pieces:
        if piece.begin > at:
            gaps.append((at / sfreq, piece.begin / sfreq))
        at = piece.begin + piece.n
    notes = [_silent(), TWINS]
    if gaps:
        lost = sum(b - a for a, b in gaps)
        text = f"{len(gaps)} gaps of {lost / 3600:.3g} h in all, where hour files are missing or short: read as NaN."
        notes.append(Note("warning", text))
    onset, offset = (matlab.load(info, name) for name in ("seizure_begin", "seizure_end"))
    events, found = seizure_table(onset, offset, end / sfreq, sfreq, who, reading.outside)
    inside = sum(any(a <= onset < b for a, b in gaps) for onset in events["onset"].tolist())
    if inside:
        notes.append(Note("warning", f"{inside} seizures begin in a gap: nothing of them was read there."))
    return Recording(
        source=EthzSource(tuple(pieces), 1, factor(reading.unit or "uV")),
        id=reading.subject or f"sub-ethzlong{patient}",
        subject=reading.subject or f"sub-ethzlong{patient}",
        channels=_channels(counts.pop(), sfreq, reading),
        duration=end / sfreq,
        events=events,
        gaps=tuple(gaps),
        notes=(*notes, *found),
        files=(info, *(piece.path for piece in pieces)),
        about={**ABOUT, "data set": "SWEC-ETHZ long-term"},
    )


def _short(path: Path, folder: str, reading: Reading) -> Recording:
    number = _number(path)
    patient = folder if re.fullmatch(r"ID\d+", folder) else "unknown"
    who = f"SWEC-ETHZ {patient}, seizure {number}"
    n_channels, samples = _size(path, 0, who)
    duration = samples / SHORT_RATE
    if duration <= 2 * AROUND:
        raise ValueError(
            f"{who} lasts {duration:g} s, expected over {2 * AROUND:g} s: three minutes before and after the seizure."
        )
    subject = reading.subject or (f"sub-ethzshort{patient}" if patient != "unknown" else label(path.parent))
    return Recording(
        source=EthzSource((Piece(path, 0, samples),), 0, factor(reading.unit or "uV")),
        id=f"{subject}_run-{number:02d}",
        subject=subject,
        channels=_channels(n_channels, SHORT_RATE, reading),
        duration=duration,
        events=make_events([AROUND], [duration - 2 * AROUND]),
        notes=(
            _silent(),
            Note("info", "512 Hz and the seizure's place (180 s from both ends) are the data set's, not in the file."),
        ),
        files=(path,),
        about={**ABOUT, "data set": "SWEC-ETHZ short-term"},
    )


def _channels(n: int, sfreq: float, reading: Reading) -> pd.DataFrame:
    names = [f"C{i + 1}" for i in range(n)]
    return make_channels(names, sfreq, reading.type or "seeg", unit=reading.unit or "uV")


def _silent() -> Note:
    told = "The files state no unit and no names: taken as microvolts, C1 ... Cn."
    return Note("warning", told, messages.hint("say otherwise by {unit}"))
