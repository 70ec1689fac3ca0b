"""The SWEC iEEG data set: `IDxx/IDxx_total.h5`, a virtual data set over `IDxx_part_n.h5`.

`data/ieeg` (channel, time) float32 in microvolts, chunks of all channels x 3 minutes packed with lz4; root attribute
`sampling_rate`; `data/seizures` with the fields `onsets` and `offsets` in seconds. Source: the data set's card
(Hugging Face, NeuroTec/SWEC_iEEG_Dataset, CDLA-Permissive-2.0) and Carzaniga et al. (arXiv 2506.20354).

The parts are read one by one, not through the virtual data set: HDF5 gives zeros for an absent part, and a virtual data
set that is open keeps decoded chunks of every part that was touched, which no limit bounds.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tsattn.events.table import no_events
from tsattn.recordings.privacy import label, pseudonym
from tsattn.recordings.readers import Left, Reading, hdf5
from tsattn.recordings.readers.seizures import seizure_table
from tsattn.recordings.recording import Note, Recording, make_channels
from tsattn.recordings.units import factor

NAME = "SWEC iEEG (HDF5)"
PATIENT = re.compile(r"ID\d+")
TOTAL = re.compile(r"(ID\d+)_total\.h5")
PART = re.compile(r"(ID\d+)_part_\d+\.h5")
SIGNAL = "data/ieeg"
CHUNKS_KEPT = 2  # a window of 125 s touches at most two chunks of 180 s
TWINS = dict(zip(range(1, 19), (20, 21, 22, 24, 25, *range(27, 33), *range(34, 41)), strict=True))
TWINS |= {b: a for a, b in TWINS.items()}  # the same patients published twice: two independent audits, and the
# channel counts in the authors' own loader (IBM/multi-variate-parallel-transformer, eeg_datasets/longterm.py)


def recognises(path: Path) -> bool:
    """Return whether this is a total file, a folder of one patient, or a folder of such folders."""
    if path.is_dir():
        return bool(_totals(path)) or any(PART.fullmatch(file.name) for file in path.iterdir())
    if TOTAL.fullmatch(path.name) or PART.fullmatch(path.name):
        return True
    if not hdf5.is_hdf5(path):
        return False
    try:
        with hdf5.open_file(path) as file:
            return file.get(SIGNAL, getclass=True) is not None
    except (ValueError, OSError, KeyError):
        return False


def read(path: Path, reading: Reading) -> tuple[list[Recording], list[Left]]:
    """Open every patient at a path.

    Args:
        path: A total file, a patient's folder, or the data set's folder.
        reading: What the user says.

    Returns:
        The recordings, and the patients' folders in which there is none.

    Raises:
        ValueError: If parts are absent, misnamed or outside the folder, or a file is not as the data set has it.
    """
    if PART.fullmatch(path.name):
        raise ValueError(
            "This is one part of a recording, which knows neither its place in time nor the seizures. "
            "Open the IDxx_total.h5 beside it."
        )
    totals = [path] if path.is_file() else _totals(path)
    if not totals:
        raise ValueError(f"{label(path)} holds parts of a SWEC recording but no IDxx_total.h5. Fetch that file, too.")
    if reading.subject and len(totals) > 1:
        raise ValueError(f"One subject was given for {len(totals)} patients. Open one patient's folder, or give none.")
    return [_open(total, reading) for total in totals], _left(path)


def _totals(folder: Path) -> list[Path]:
    """Return the total files in a folder and in its patients' folders."""
    inner = sorted(place for place in folder.iterdir() if PATIENT.fullmatch(place.name) and place.is_dir())
    return [
        file for place in (folder, *inner) for file in sorted(place.glob("ID*_total.h5")) if TOTAL.fullmatch(file.name)
    ]


def _left(folder: Path) -> list[Left]:
    """Return the patients' folders without a total file."""
    inner = [place for place in sorted(folder.iterdir()) if PATIENT.fullmatch(place.name)] if folder.is_dir() else []
    return [
        Left(place, f"SWEC {place.name} has no {place.name}_total.h5.")
        for place in inner
        if place.is_dir() and not any(TOTAL.fullmatch(file.name) for file in place.iterdir())
    ]


def _open(path: Path, reading: Reading) -> Recording:
    match = TOTAL.fullmatch(path.name)
    patient = match[1] if match else None
    who = f"SWEC {patient}" if patient else label(path)
    with hdf5.open_file(path) as file:
        if file.get(SIGNAL, getclass=True) is None:
            raise ValueError(f"{who} has no data set {SIGNAL}: it is not a SWEC recording, or half written.")
        hdf5.refuse_links(file, path.parent, virtual=False)
        signal = file[SIGNAL]
        check_signal(signal, who)
        n_channels, n_samples = signal.shape
        sfreq = _rate(file, who)
        parts = _parts(path, signal, who)
        duration = n_samples / sfreq
        events, notes = _seizures(file, duration, sfreq, who, reading)
    notes += (Note("info", "The file states no unit and no names: microvolts as the data set's card says, C1 ... Cn."),)
    if patient and int(patient[2:]) in TWINS:
        twin = f"ID{TWINS[int(patient[2:])]:02d}"
        notes += (
            Note("warning", f"{patient} is known to be the same patient as {twin}: keep both on one side of a split."),
        )
    subject = reading.subject or (f"sub-swec{patient}" if patient else pseudonym(os.path.abspath(path), "sub"))
    return Recording(
        source=SwecSource(parts, factor(reading.unit or "uV")),
        id=subject,
        subject=subject,
        channels=make_channels(
            [f"C{i + 1}" for i in range(n_channels)], sfreq, reading.type or "seeg", unit=reading.unit or "uV"
        ),
        duration=duration,
        events=events,
        notes=notes,
        files=tuple(dict.fromkeys((path, *(part.path for part in parts)))),
        about={
            "reader": NAME,
            "data set": "SWEC iEEG",
            "licence": "CDLA-Permissive-2.0",
            "done before": "median reference; zero-phase band-pass from 0.5 Hz to 120 or 150 Hz (its documents differ)",
        },
    )


def check_signal(signal: Any, who: str) -> None:
    """Refuse what is not a matrix of numbers (channel, time).

    Args:
        signal: Data set with a shape and a dtype.
        who: How to call the recording in an error.

    Raises:
        ValueError: What it is instead.
    """
    if len(signal.shape) != 2 or signal.dtype.kind not in "fiu":
        raise ValueError(
            f"{who}: {SIGNAL} is {signal.dtype} of shape {signal.shape}, expected a matrix of numbers (channel, time)."
        )
    if 0 in signal.shape:
        raise ValueError(f"{who}: {SIGNAL} is empty, of shape {signal.shape}.")
    if signal.shape[0] > signal.shape[1]:
        raise ValueError(
            f"{who}: {SIGNAL} has {signal.shape[0]} channels of {signal.shape[1]} samples; "
            "the axes seem to be swapped, expected (channel, time). Transpose it."
        )


def _rate(file: Any, who: str) -> float:
    if "sampling_rate" not in file.attrs:
        raise ValueError(f"{who} lacks the attribute sampling_rate (Hz) of the root group. Set it, or fetch it again.")
    rate = np.asarray(file.attrs["sampling_rate"])
    if rate.size != 1 or rate.dtype.kind not in "fiu" or not 0 < float(rate.reshape(-1)[0]) < 1e6:
        raise ValueError(f"{who}: sampling_rate is {rate.tolist()!r}, expected one rate in Hz above 0.")
    return float(rate.reshape(-1)[0])


def _seizures(file: Any, duration: float, sfreq: float, who: str, reading: Reading) -> tuple[Any, tuple[Note, ...]]:
    if "data/seizures" not in file:
        return no_events(), (Note("warning", "No table of seizures in the file: none is known, there may be some."),)
    table = file["data/seizures"]
    fields = table.dtype.names or ()
    if table.shape is None or table.size == 0:
        return no_events(), ()
    if not {"onsets", "offsets"} <= set(fields):
        raise ValueError(f"{who}: data/seizures has fields {fields}, expected onsets and offsets in seconds.")
    values = table[()]
    return seizure_table(values["onsets"], values["offsets"], duration, sfreq, who, reading.outside)


@dataclass(frozen=True)
class Part:
    """Where samples `[begin, begin + n)` of the recording are: from `first` on in a data set of a file."""

    path: Path
    dataset: str
    begin: int
    n: int
    first: int
    cache: int


def _parts(path: Path, signal: Any, who: str) -> tuple[Part, ...]:
    if not signal.is_virtual:
        hdf5.need_written(signal, who)
        return (Part(path, SIGNAL, 0, signal.shape[1], 0, _cache(signal)),)
    found = hdf5.blocks(signal)
    _refuse_absent(path, [block.file for block in found], who)
    parts: list[Part] = []
    at = 0
    for block in found:
        file = hdf5.inside(path.parent, block.file)
        assert file is not None  # refused above
        if block.begin != (0, at) or block.shape[0] != signal.shape[0] or block.source_begin[0] != 0:
            raise ValueError(
                f"{who}: its parts do not follow one another (sample {at} comes from none, or two). Fetch it again."
            )
        with hdf5.open_file(file) as opened:
            hdf5.refuse_links(opened, path.parent)
            inner = opened.get(block.dataset)
            if inner is None or inner.is_virtual or len(inner.shape) != 2:
                raise ValueError(f"{who}: part {len(parts) + 1} holds no data set {SIGNAL} of its own. Fetch it again.")
            hdf5.need_written(inner, f"{who}, part {len(parts) + 1},")
            stop = block.source_begin[1] + block.shape[1]
            if inner.shape[0] != signal.shape[0] or inner.shape[1] < stop:
                raise ValueError(
                    f"{who}: part {len(parts) + 1} holds {inner.shape} (channel, time), "
                    f"expected {signal.shape[0]} channels and at least {stop} samples."
                )
            parts.append(Part(file, block.dataset, at, block.shape[1], block.source_begin[1], _cache(inner)))
        at += block.shape[1]
    if at != signal.shape[1]:
        raise ValueError(f"{who}: its parts hold {at} of {signal.shape[1]} samples. Fetch the total file again.")
    return tuple(parts)


def _cache(signal: Any) -> int:
    return CHUNKS_KEPT * int(np.prod(signal.chunks)) * signal.dtype.itemsize if signal.chunks else 0


def _refuse_absent(path: Path, names: list[str], who: str) -> None:
    """Say which parts are not there: HDF5 itself would read zeros."""
    outside = [name for name in names if hdf5.inside(path.parent, name) is None]
    if outside:
        raise ValueError(
            f"{who} takes {len(outside)} of {len(names)} parts from outside its folder, which is refused. Put the "
            "parts themselves, not links to elsewhere, beside it (huggingface-cli download has --local-dir for it)."
        )
    absent = [name for name in names if not (path.parent / name).is_file()]
    if not absent:
        return
    told = ", ".join(name if PART.fullmatch(name) else label(name) for name in absent[:20])
    more = f" and {len(absent) - 20} more" if len(absent) > 20 else ""
    own, theirs = TOTAL.fullmatch(path.name), PART.fullmatch(absent[0])
    advice = "Fetch them into its folder."
    if own and theirs and int(theirs[1][2:]) == int(own[1][2:]) - 18:
        advice = (
            f"These are the names of another patient, {theirs[1]}: the total files of ID19 to ID68 on Hugging Face "
            f"name their parts 18 too low. If {own[1]}_part_n.h5 are here, link them: ln -s {own[1]}_part_1.h5 "
            f"{theirs[1]}_part_1.h5 and so on; do not copy the parts of {theirs[1]} here."
        )
    raise ValueError(f"{who} lacks {len(absent)} of {len(names)} parts, read as zeros by HDF5: {told}{more}. {advice}")


@dataclass(frozen=True)
class SwecSource:
    """Samples of the parts; see `tsattn.recordings.recording.Source`."""

    parts: tuple[Part, ...]
    factor: float

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        chosen = np.asarray(rows, int)
        out = np.empty((len(chosen), stop - start), np.float32)
        if out.size == 0:
            return out
        low, high = int(chosen.min()), int(chosen.max()) + 1
        for part in self.parts:
            a, b = max(start, part.begin), min(stop, part.begin + part.n)
            if a < b:
                shift = part.first - part.begin
                signal = hdf5.kept_open(part.path, part.dataset, part.cache)
                with hdf5.damage_told(part.path):
                    if len(chosen) == high - low and (np.diff(chosen) == 1).all():  # no copy between
                        signal.read_direct(out, np.s_[low:high, a + shift : b + shift], np.s_[:, a - start : b - start])
                    else:
                        out[:, a - start : b - start] = signal[low:high, a + shift : b + shift][chosen - low]
        return out if self.factor == 1 else out * np.float32(self.factor)
