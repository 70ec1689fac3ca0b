"""What `mne.io.read_raw` reads, but EDF: BrainVision, FIF, EEGLAB, Persyst, Nihon Kohden, Nicolet, CNT, GDF, ...

mne opens the file at the first read in each process. What it says of the file may hold names: its warnings become notes
of ours or are counted, its errors become a sentence of ours.
"""

import contextlib
import functools
import io
import os
import re
import struct
import warnings
import zlib
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
from tsattn.recordings import subjects
from tsattn.recordings.privacy import label
from tsattn.recordings.readers import WAY, Reading, is_pointer, recording_id, version
from tsattn.recordings.readers.annotations import to_events
from tsattn.recordings.readers.channel_names import settle_types
from tsattn.recordings.readers.raw_times import brainvision_data, read_clock
from tsattn.recordings.recording import SIGNAL_TYPES, Note, Recording, make_channels
from tsattn.recordings.units import check_silent, factor, known_as_other, volts

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
MNE_VOLTS = ("V", "mV", "µV", "uV", "nV")  # that mne brings to volts
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
    subject, whose, nobody = subjects.of_file(path, reading, who)
    notes += nobody
    recording = Recording(
        MneSource(path, clock, sfreq, scales, blanks),
        recording_id(path),
        subject,
        channels,
        clock.duration,
        events,
        gaps=union((*clock.gaps, *blanks)),
        start=raw.info["meas_date"].replace(tzinfo=None) if raw.info["meas_date"] else None,
        coordinate_frame=_frame(raw),
        notes=notes,
        files=_files(path, raw),
        about={"reader": NAME, "format": _ending(path).lstrip("."), "mne": _version(), **whose},
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
        raise ValueError(f"{label(path)} {_why(path, problem)}") from None
    texts = [str(warning.message).casefold() for warning in caught]
    notes = [Note("warning", ours) for word, ours in WORDS if any(word in text for text in texts)]
    others = sum(not any(word in text for word, _ in WORDS) for text in texts)
    if others:
        notes.append(Note("info", f"mne had {others} more warnings, not shown: they may hold texts of the file."))
    return raw, tuple(notes)


def _why(path: Path, problem: Exception) -> str:
    """Return why mne does not read a file, in our words, and the way out; only what looks damaged is called so."""
    text = str(problem)
    missing = problem.name if isinstance(problem, ImportError) else None
    if missing is None and (found := re.search(r"(?:module|package|modules) ['\"]?([A-Za-z][\w-]*)", text)):
        missing = found[1] if "need" in text or "require" in text or "install" in text else None
    if missing:
        package = PACKAGES.get(missing.partition(".")[0], missing.partition(".")[0])
        return f"needs a package that is not installed: pip install {package}"
    if re.search(r"number of trials|epochs|No raw data|evoked", text, re.IGNORECASE):
        return (
            "holds epochs (trials, segments cut around events) or averages, not one continuous recording, which is "
            "what tsattn reads: save the continuous recording. Each epoch alone is "
            '`tsattn.recordings.from_array(values, sfreq, names, unit="V")` with the values that mne has '
            "(`mne.read_epochs_eeglab`, `mne.read_epochs`)."
        )
    if isinstance(problem, FileNotFoundError):
        return "cannot be read: a file that belongs to it is missing. Put the files of the recording into one folder."
    if "meg" in text.casefold() and "only" in text.casefold():
        return f"cannot be read: mne stops with {type(problem).__name__}. {WAY}"
    if isinstance(problem, (EOFError, struct.error, zlib.error)) or re.search(
        r"truncat|corrupt|unexpected end|could not read|buffer is smaller|cannot reshape|out of range|invalid start",
        text,
        re.IGNORECASE,
    ):
        return "may be damaged or cut short: copy it again. " + f"(mne stops with {type(problem).__name__}.)"
    return (
        f"cannot be read: mne stops with {type(problem).__name__}. It may need arguments that tsattn does not know, or "
        f"a file that belongs to it may be missing. {WAY}"
    )


PACKAGES = {
    "pymatreader": "pymatreader",
    "h5py": "'tsattn[neuro]'",
    "defusedxml": "defusedxml",
    "edfio": "'tsattn[neuro]'",
}


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
    written = getattr(raw, "_orig_units", {})
    words = [str(written.get(name, "V")) for name in raw.ch_names]
    named = [name in written and kind != "stim" for name, kind in zip(raw.ch_names, kinds, strict=True)]
    unknown = [mine and volts(word) is None and not known_as_other(word)
               for mine, word in zip(named, words, strict=True)]  # fmt: skip
    in_volts = [
        (channel["unit"] == FIFF.FIFF_UNIT_V and kind != "stim")
        or (mine and volts(word) is not None)
        or (strange and reading.unit is not None)
        for channel, kind, mine, word, strange in zip(raw.info["chs"], kinds, named, words, unknown, strict=True)
    ]
    stated = [kind if kind in (*SIGNAL_TYPES, "ecg", "emg", "eog", "stim") else "misc" for kind in kinds]
    notes: tuple[Note, ...] = ()
    if _ending(path) not in TYPED:
        open_ = [kind in ("eeg", "misc", "bio") for kind in kinds]  # mne guesses by unit and position, and we by name
        strange_words = [word if strange else "" for word, strange in zip(words, unknown, strict=True)]
        could = [may and volt for may, volt in zip(open_, in_volts, strict=True)]
        guessed, notes = settle_types(raw.ch_names, could, reading, strange_words)
        stated = [g if may else s for g, s, may in zip(guessed, stated, could, strict=True)]
    elif reading.type:
        stated = [reading.type if kind == "eeg" else kind for kind in stated]
    if reading.unit and not written and _ending(path) not in TYPED:
        raise ValueError(
            f"{label(path)}: unit={reading.unit!r} cannot be taken for this format, whose own calibration mne uses."
        )
    units, scales = [], []
    for name, volt, word, mine in zip(raw.ch_names, in_volts, words, named, strict=True):
        unit = volts(word) if volt else word if name in written else ""
        scale = 1e6 if volt else 1.0
        if volt and mine and word not in MNE_VOLTS:  # mne leaves the file's numbers as they are
            scale = factor(reading.unit or unit or "uV")
            unit = reading.unit or unit
        elif volt and reading.unit:
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
