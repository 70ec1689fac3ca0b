"""What `mne.io.read_raw` reads, but EDF: BrainVision, FIF, EEGLAB, Persyst, Nihon Kohden, Nicolet, CNT, GDF, ...

mne opens the file at the first read in each process. What it says of the file may hold names: its warnings become notes
of ours or are counted, its errors become a sentence of ours.
"""

import contextlib
import functools
import io
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tsattn import messages
from tsattn.events.clock import Clock, union
from tsattn.events.edf_header import ANONYMOUS
from tsattn.events.interpret import Rows
from tsattn.events.vocabulary import MACHINE
from tsattn.recordings.privacy import label, pseudonym
from tsattn.recordings.readers import Reading, is_pointer, recording_id, version
from tsattn.recordings.readers.annotations import to_events
from tsattn.recordings.readers.channel_names import settle_types
from tsattn.recordings.readers.raw_times import brainvision_data, read_clock
from tsattn.recordings.recording import SIGNAL_TYPES, Note, Recording, make_channels
from tsattn.recordings.units import check_silent, factor, volts

NAME = "mne"
BEGINS = {  # ending: first bytes of such a file, if they are always the same
    ".vhdr": (b"Brain Vision", b"\xef\xbb\xbfBrain Vision", b"BrainVision"),
    ".ahdr": (b"Brain Vision", b"\xef\xbb\xbfBrain Vision"),
    ".fif": (b"\x00\x00\x00\x64",),
    ".fif.gz": (b"\x1f\x8b",),
    ".set": (b"MATLAB", b"\x89HDF"),
    ".gdf": (b"GDF ",),
    ".lay": (b"[", b"\xef\xbb\xbf["),
    ".eeg": (b"EEG-", b"QI-", b"DAE-"),  # Nihon Kohden; BrainVision's belongs to its .vhdr
    ".cnt": (b"Version", b"RIFF"),
    ".nedf": (),
    ".nxe": (),
    ".data": (),
    ".ns3": (b"NEURALCD", b"NEURALSG", b"BRSMPGRP"),
    ".cdt": (),
}
FOLDERS = (".mff", ".ds")
TYPED = (".fif", ".fif.gz")  # formats that state their channels' types
BESIDE = {  # other files of a recording, by the ending of the one that mne opens
    ".vhdr": (".vmrk", ".eeg", ".dat"),
    ".ahdr": (".amrk", ".eeg"),
    ".lay": (".dat",),
    ".set": (".fdt",),
    ".eeg": (".21e", ".pnt", ".log", ".cmt", ".cn2", ".11d", ".reg", ".evt"),
    ".data": (".head",),
}
WORDS = (  # in mne's warnings, and what we say instead
    ("annotation", "mne left out or cut annotations that lie outside of the data."),
    ("unit", "mne had to assume the unit of some channels."),
    ("truncat", "The file ends before its header says."),
    ("event", "mne left out events that it could not place."),
)


@dataclass(frozen=True)
class MneSource:
    """Samples that mne reads; opened at the first read in each process.

    Attributes:
        path: What mne opens.
        clock: Of the file's samples.
        sfreq: Hz.
        scales: From what mne returns to microvolts, of each channel.
        blanks: Stretches of the true clock that mne fills, in seconds: NaN here.
    """

    path: Path
    clock: Clock
    sfreq: float
    scales: tuple[float, ...]
    blanks: tuple[tuple[float, float], ...] = ()

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.full((len(rows), stop - start), np.nan, np.float32)
        raw = _opened(self.path, os.getpid(), version(self.path))[0]
        scales = np.array([self.scales[row] for row in rows])[:, None]
        for place, at, length in self.clock.pieces(start, stop, self.sfreq):
            if rows:
                out[:, place : place + length] = raw[list(rows), at : at + length][0] * scales
        for begin, end in self.blanks:
            a, b = (min(max(round(t * self.sfreq) - start, 0), stop - start) for t in (begin, end))
            out[:, a:b] = np.nan
        return out


def recognises(path: Path) -> bool:
    """Return whether mne has a reader for the ending, and the content is as in such a file."""
    if path.is_dir():
        return path.suffix.lower() in FOLDERS
    begins = BEGINS.get(_ending(path))
    if begins is None:
        return False
    with path.open("rb") as file:
        begin = file.read(32)
    return not begins or begin.startswith(begins)


def read(path: Path, reading: Reading) -> list[Recording]:
    """Read what mne finds in the header, and the pauses that it closes.

    Raises:
        ValueError: If mne cannot read the file, it is not whole, or units cannot be what they are said to be.
    """
    called = label(path)
    notes = _whole(path, called, reading)
    raw, said = _opened(path, os.getpid(), version(path))
    notes += said
    sfreq = float(raw.info["sfreq"])
    if raw.n_times == 0 or not raw.ch_names:
        raise ValueError(f"{called} has {len(raw.ch_names)} channels of {raw.n_times} samples, expected at least one.")
    try:
        clock, drift, unplaced = read_clock(path, int(raw.n_times), sfreq)
    except ValueError as problem:
        raise ValueError(f"{called}: {problem}") from None
    if drift > 0.5:
        notes += (Note("warning", f"The file's time stamps drift by {drift:.3g} s from the count of samples."),)
    channels, scales, told = _channels(raw, path, reading)
    notes += told
    onset = raw.annotations.onset - raw.first_time  # mne counts from before what was cropped away, dated or not
    skips = [text.casefold() == "bad_acq_skip" for text in raw.annotations.description]
    blanks = tuple(
        (float(a), float(a + b)) for a, b, skip in zip(onset, raw.annotations.duration, skips, strict=True) if skip
    )
    rows = _rows(raw, onset, skips, clock)
    events, told = to_events(rows, reading, channels["name"].tolist(), clock.duration, sfreq)
    joined = unplaced + sum(text.casefold() in MACHINE for text in raw.annotations.description) - sum(skips)
    if joined:
        notes += (
            Note(
                "warning", f"The file says {joined} times that stretches were joined; how much time is missing is lost."
            ),
        )
    notes += told
    who = _person(raw)
    if not who and reading.subject is None:
        notes += (
            Note(
                "warning", "The file does not tell whose recording it is: pass subject=... if there are more of theirs."
            ),
        )
    recording = Recording(
        MneSource(path, clock, sfreq, scales, blanks),
        recording_id(path),
        reading.subject or pseudonym(who or os.path.abspath(path), "sub"),
        channels,
        clock.duration,
        events,
        gaps=union((*clock.gaps, *blanks)),
        start=raw.info["meas_date"].replace(tzinfo=None) if raw.info["meas_date"] else None,
        coordinate_frame=_frame(raw),
        notes=notes,
        files=_files(path, raw),
        about={"reader": NAME, "format": _ending(path).lstrip("."), "mne": _version()},
    )
    return [check_silent(recording, called)]


@functools.lru_cache(maxsize=8)
def _opened(path: Path, process: int, written: tuple[int, int]) -> tuple[Any, tuple[Note, ...]]:
    """Return mne's raw object of this process and version of the file, and notes for its warnings."""
    import mne

    try:
        with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            raw = mne.io.read_raw(path, preload=False, verbose="CRITICAL")
    except Exception as problem:
        needed = (
            re.search(r"module ['\"]?(\w+)", str(problem))
            if "needed" in str(problem) or isinstance(problem, ImportError)
            else None
        )
        why = f"it needs the package {needed.group(1)}" if needed else f"mne stops with {type(problem).__name__}"
        raise ValueError(
            f"{label(path)} cannot be read: {why}. It may be damaged, or a file that belongs to it is missing."
        ) from None
    texts = [str(warning.message).casefold() for warning in caught]
    notes = [Note("warning", ours) for word, ours in WORDS if any(word in text for text in texts)]
    others = sum(not any(word in text for word, _ in WORDS) for text in texts)
    if others:
        notes.append(Note("info", f"mne had {others} more warnings, not shown: they may hold texts of the file."))
    return raw, tuple(notes)


def _whole(path: Path, called: str, reading: Reading) -> tuple[Note, ...]:
    if path.suffix.lower() != ".vhdr":
        return ()
    data, frame, rest = brainvision_data(path)
    if data is None or is_pointer(data):
        raise ValueError(f"{called}: the data file that its header names is not here. Fetch it (`datalad get`).")
    if not rest:
        return ()
    told = f"the data file ends {rest} bytes into a sample of {frame} bytes: it was cut off, or the header is another's"
    if reading.on_mismatch == "raise":
        raise ValueError(f"{called}: {told}.{messages.hint('fetch it again', 'pass {on_mismatch=warn}')}")
    return (Note("warning", f"For this recording, {told}."),)


def _channels(raw: Any, path: Path, reading: Reading) -> tuple[Any, tuple[float, ...], tuple[Note, ...]]:
    from mne._fiff.constants import FIFF

    kinds = raw.get_channel_types()
    in_volts = [
        channel["unit"] == FIFF.FIFF_UNIT_V and kind != "stim"
        for channel, kind in zip(raw.info["chs"], kinds, strict=True)
    ]
    stated = [kind if kind in (*SIGNAL_TYPES, "ecg", "emg", "eog", "stim") else "misc" for kind in kinds]
    notes: tuple[Note, ...] = ()
    if _ending(path) not in TYPED:
        guessed, notes = settle_types(raw.ch_names, [kind == "eeg" for kind in kinds], reading.type)
        stated = [g if kind == "eeg" else s for g, s, kind in zip(guessed, stated, kinds, strict=True)]
    elif reading.type:
        stated = [reading.type if kind == "eeg" else kind for kind in stated]
    written = getattr(raw, "_orig_units", {})
    if reading.unit and not written and _ending(path) not in TYPED:
        raise ValueError(
            f"{label(path)}: unit={reading.unit!r} cannot be taken for this format, whose own calibration mne uses."
        )
    units, scales = [], []
    for name, volt in zip(raw.ch_names, in_volts, strict=True):
        word = str(written.get(name, "V"))
        unit = volts(word) if volt else word if name in written else ""
        scale = 1e6 if volt else 1.0
        if volt and reading.unit:
            scale *= factor(reading.unit) / factor(unit or "uV")  # mne takes what says nothing for microvolts
            unit = reading.unit
        units.append(unit or "")
        scales.append(scale)
    bads = set(raw.info["bads"])
    places = np.array([channel["loc"][:3] for channel in raw.info["chs"]], float)
    places[~np.isfinite(places).all(1) | (places == 0).all(1)] = np.nan
    channels = make_channels(
        [name.strip() for name in raw.ch_names],
        float(raw.info["sfreq"]),
        stated,
        ["bad" if name in bads else "good" for name in raw.ch_names],
        ["marked in the file" if name in bads else "" for name in raw.ch_names],
        places,
        units,
    )
    return channels, tuple(scales), notes


def _rows(raw: Any, onset: np.ndarray, skips: list[bool], clock: Clock) -> Rows:
    """Return what the annotations say, on the true clock; mne counts recorded samples only."""
    keep = [i for i, skip in enumerate(skips) if not skip]
    marked = [",".join(raw.annotations.ch_names[i]) or "all" for i in keep]
    texts = [str(raw.annotations.description[i]) for i in keep]
    return Rows(*clock.true_times(onset[keep], raw.annotations.duration[keep]), texts, marked)


def _person(raw: Any) -> str:
    info = raw.info.get("subject_info") or {}
    words = [str(info.get(key, "")) for key in ("his_id", "last_name", "first_name")]
    return " ".join(word for word in words if word.casefold() not in ANONYMOUS)


def _frame(raw: Any) -> str:
    montage = raw.get_montage()
    return str(montage.get_positions()["coord_frame"]) if montage is not None else "unknown"


def _files(path: Path, raw: Any) -> tuple[Path, ...]:
    named = [Path(name) for name in raw.filenames if name]
    others = BESIDE.get(_ending(path), ())
    stem = path.name[: -len(_ending(path))]
    beside = [one for one in sorted(path.parent.glob("*")) if one.stem == stem and one.suffix.lower() in others]
    return tuple(dict.fromkeys([path, *named, *beside]))


def _ending(path: Path) -> str:
    name = path.name.lower()
    return ".fif.gz" if name.endswith(".fif.gz") else path.suffix.lower()


def _version() -> str:
    import mne

    return str(mne.__version__)
