"""EDF, EDF+C, EDF+D and BDF: rates as they are in the file, gaps where its records say so, and never the whole file.

Header: edf_header.py; times of the records and annotations: edf_time.py. mne joins the records of an EDF+D silently,
edfio reads one channel at a time and the whole of a BDF, so samples are read here, in blocks of records.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from tsattn import messages
from tsattn.events import lists
from tsattn.events.clock import Clock
from tsattn.events.edf_header import Header, Signal, is_edf, read_header
from tsattn.events.edf_marks import annotation_rows, signal_labels
from tsattn.events.edf_time import read_times
from tsattn.recordings.privacy import label, pseudonym
from tsattn.recordings.readers import Reading, recording_id
from tsattn.recordings.readers.channel_names import contacts, settle_types, unique
from tsattn.recordings.recording import Note, Recording, make_channels
from tsattn.recordings.units import check_silent, factor, volts

NAME = "EDF"
BLOCK = 1 << 25  # bytes read at once


@dataclass(frozen=True)
class EdfSource:
    """Samples in the data records of a file; opened for each read, so it may be pickled and forked.

    Attributes:
        path: The file.
        clock: Of its records.
        header_bytes: Where the first record begins.
        record_bytes: Length of a record.
        width: Bytes of a sample.
        record_seconds: That a record lasts.
        offsets: Bytes from a record's start to each signal.
        samples: Of each signal in a record.
        gains: To microvolts.
        bases: Microvolts at digital zero.
    """

    path: Path
    clock: Clock
    header_bytes: int
    record_bytes: int
    width: int
    record_seconds: float
    offsets: tuple[int, ...]
    samples: tuple[int, ...]
    gains: tuple[float, ...]
    bases: tuple[float, ...]

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.empty((len(rows), stop - start), np.float32)
        if not rows or stop == start:
            return out
        samples = self.samples[rows[0]]
        pieces = list(self.clock.pieces(start, stop, samples / self.record_seconds))
        if sum(piece.length for piece in pieces) < stop - start:
            out.fill(np.nan)
        low = min(self.offsets[row] for row in rows)
        high = max(self.offsets[row] + samples * self.width for row in rows)
        with self.path.open("rb", buffering=0) as file:
            for place, at, length in pieces:
                first, last = at // samples, -(-(at + length) // samples)
                step = max(1, BLOCK // self.record_bytes)
                for record in range(first, last, step):
                    until = min(record + step, last)
                    block = self._block(file, record, until, low, high)
                    begin, end = max(at, record * samples), min(at + length, until * samples)
                    into = slice(place + begin - at, place + end - at)
                    part = slice(begin - record * samples, end - record * samples)
                    for i, row in enumerate(rows):
                        column = self.offsets[row] - low
                        digital = self._integers(block[:, column : column + samples * self.width])[part]
                        np.multiply(digital, np.float32(self.gains[row]), out=out[i, into], casting="same_kind")
                        out[i, into] += np.float32(self.bases[row])
        return out

    def _block(self, file: Any, record: int, until: int, low: int, high: int) -> np.ndarray:
        """Return bytes `[low, high)` of records `[record, until)`, one row a record."""
        begin = self.header_bytes + record * self.record_bytes
        if 4 * (high - low) > self.record_bytes:  # reading on is cheaper than seeking
            raw = np.empty((until - record, self.record_bytes), np.uint8)
            self._fill(file, begin, raw)
            return raw[:, low:high]
        raw = np.empty((until - record, high - low), np.uint8)
        for i in range(len(raw)):
            self._fill(file, begin + i * self.record_bytes + low, raw[i])
        return raw

    def _fill(self, file: Any, at: int, into: np.ndarray) -> None:
        file.seek(at)
        view = into.reshape(-1).data.cast("B")
        while len(view):
            got = file.readinto(view)
            if not got:
                raise ValueError(f"{label(self.path)} has become shorter since it was opened.")
            view = view[got:]

    def _integers(self, column: np.ndarray) -> np.ndarray:
        if self.width == 2:
            return np.ascontiguousarray(column).view("<i2").reshape(-1)
        wide = np.zeros((column.size // 3, 4), np.uint8)
        wide[:, 1:] = column.reshape(-1, 3)
        return wide.view("<i4").reshape(-1) >> 8


def recognises(path: Path) -> bool:
    """Return whether a file begins as EDF or BDF do."""
    return path.is_file() and is_edf(path)


def read(path: Path, reading: Reading) -> list[Recording]:
    """Read the header, the times of the records and the annotations of one file.

    Raises:
        ValueError: If the header is impossible, the file is shorter or longer than the header says
            (`on_mismatch="warn"` reads what is there), or units cannot be what they are said to be.
    """
    called = label(path)
    header = read_header(path, called)
    records, notes = _records(header, called, reading)
    clock, annotations, first, said = read_times(path, header, records, called)
    notes += header.notes + said
    recording, told = _recording(path, header, clock, reading)
    find = partial(contacts, names=recording.names)
    rows = annotation_rows(annotations, signal_labels(header), recording.names, contacts=find)
    listed = lists.beside(path)
    fastest = float(recording.channels["sfreq"].max())
    try:
        found = lists.understand_with(
            rows, listed, path, reading.understanding, clock.duration, sfreq=fastest, contacts=find
        )
    except ValueError as problem:
        raise ValueError(f"{called}: {problem}") from problem
    if len(header.person) == 0 and reading.subject is None:
        told += (
            Note(
                "warning",
                "The header does not tell whose recording it is: pass subject=... if there are more of theirs.",
            ),
        )
    start = None if header.start is None else header.start + timedelta(seconds=first)
    files = recording.files if listed is None else (*recording.files, listed)
    recording = replace(recording, events=found.events, start=start, notes=notes + told + found.notes, files=files)
    return [check_silent(recording, called)]


def _records(header: Header, called: str, reading: Reading) -> tuple[int, tuple[Note, ...]]:
    if header.held == 0:
        raise ValueError(f"{called} holds no whole data record: its EDF header promises {header.records}.")
    if header.records == -1:
        return header.held, (
            Note("warning", f"The recorder did not close the file: {header.held} records were found."),
        )
    if header.records == header.held and header.rest == 0:
        return header.held, ()
    found = f"{header.held} records" + (f" and {header.rest} bytes more" if header.rest else "")
    if reading.on_mismatch == "raise":
        raise ValueError(
            f"{called}: the EDF header promises {header.records} data records, the file holds {found}."
            + messages.hint("fetch the file again", "pass {on_mismatch=warn} to read what both have")
        )
    told = f"The header promises {header.records} data records, the file holds {found}."
    records = min(header.records, header.held)
    if records == 0:
        raise ValueError(f"{called} has no samples: its EDF header promises 0 data records.")
    return records, (Note("warning", told),)


def _recording(path: Path, header: Header, clock: Clock, reading: Reading) -> tuple[Recording, tuple[Note, ...]]:
    signals = [signal for signal in header.signals if not signal.is_annotation and signal.samples]
    names = unique([signal.label or "unnamed" for signal in signals])
    notes = []
    renamed = sum(name != signal.label for name, signal in zip(names, signals, strict=True))
    if renamed:
        notes.append(Note("warning", f"{renamed} channels share their name or have none: a number was put behind it."))
    blank = [not any(letter.isalnum() for letter in signal.dimension) for signal in signals]
    known = [volts(signal.dimension) for signal in signals]
    in_volts = [unit is not None or empty for unit, empty in zip(known, blank, strict=True)]
    types, said = settle_types([signal.label for signal in signals], in_volts, reading.type)
    notes += said
    flat = [s.physical[0] == s.physical[1] or s.digital[0] == s.digital[1] for s in signals]
    gains, bases, units = [], [], []
    for signal, unit, voltage, broken in zip(signals, known, in_volts, flat, strict=True):
        scale = factor(reading.unit or unit or "uV") if voltage else 1.0
        gain, base = (1.0, 0.0) if broken else _calibration(signal, scale)
        gains.append(gain)
        bases.append(base)
        units.append((reading.unit or unit or "") if voltage and not broken else signal.dimension if not broken else "")
    if any(flat):
        notes.append(
            Note("warning", f"{sum(flat)} channels have no calibration in the header: bad, not in microvolts.")
        )
    overruled = sum(bool(unit) and unit != reading.unit for unit in known) if reading.unit else 0
    if overruled:
        notes.append(
            Note("info", f"unit={reading.unit!r} was taken for {overruled} channels whose header says otherwise.")
        )
    channels = make_channels(
        names,
        [signal.samples / header.record_seconds for signal in signals],
        ["misc" if broken else kind for broken, kind in zip(flat, types, strict=True)],
        ["bad" if broken else "good" for broken in flat],
        ["no calibration in the header" if broken else "" for broken in flat],
        unit=units,
    )
    source = EdfSource(
        path,
        clock,
        header.header_bytes,
        header.record_bytes,
        header.width,
        header.record_seconds,
        tuple(signal.offset for signal in signals),
        tuple(signal.samples for signal in signals),
        tuple(gains),
        tuple(bases),
    )
    filters = sorted({text for signal in signals if (text := _prefilter(signal.prefilter))})
    subject = reading.subject or pseudonym(header.person or str(path.absolute()), "sub")
    recording = Recording(
        source,
        recording_id(path),
        subject,
        channels,
        clock.duration,
        gaps=clock.gaps,
        files=(path,),
        about={"reader": NAME, "format": header.kind, "prefilter": filters},
    )
    return recording, tuple(notes)


def _calibration(signal: Signal, scale: float) -> tuple[float, float]:
    gain = (signal.physical[1] - signal.physical[0]) / (signal.digital[1] - signal.digital[0])
    return gain * scale, (signal.physical[0] - signal.digital[0] * gain) * scale


def _prefilter(text: str) -> str:
    """Return the cut-offs of a prefilter field ("HP:0.1Hz LP:75Hz"), without what else stands there."""
    found = re.findall(r"\b(HP|LP|BP|N|NOTCH)\s*:?\s*(DC|-?\d+(?:\.\d+)?)\s*([mk]?Hz)?", text, re.IGNORECASE)
    return " ".join(f"{name.upper()}:{value}{unit}" for name, value, unit in found)
