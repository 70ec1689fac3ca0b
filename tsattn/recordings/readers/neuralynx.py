"""Neuralynx .ncs: a file a channel, in records of up to 512 samples that each carry their time, so gaps are known.

Format: Neuralynx, "Neuralynx Data File Formats" (16 kB of text, then records of 1044 bytes). mne reads it through neo,
which refuses files with gaps (neo 0.14.6); where there are none, values are the same as neo's.
"""

import itertools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tsattn import messages
from tsattn.events.clock import LONGEST_GAP, Clock, follow
from tsattn.recordings.privacy import label, pseudonym
from tsattn.recordings.readers import Reading, recording_id
from tsattn.recordings.readers.channel_names import settle_types, unique
from tsattn.recordings.readers.stretches import common_gaps
from tsattn.recordings.recording import Note, Recording, make_channels
from tsattn.recordings.units import factor

NAME = "Neuralynx"
HEADER = 16384
RECORD = np.dtype([("time", "<u8"), ("channel", "<u4"), ("sfreq", "<u4"), ("valid", "<u4"), ("samples", "<i2", 512)])
FIRST = b"######## Neuralynx"
AT_ONCE = 4096  # records
DRIFT = 0.01  # s; a larger one is told


class Channel(NamedTuple):
    """One file: its clock begins `begin` microseconds on the recorder's clock."""

    path: Path
    name: str
    sfreq: float
    gain: float  # microvolts
    begin: int
    clock: Clock
    records: tuple[int, ...]  # the first of each stretch


@dataclass(frozen=True)
class NcsSource:
    """Samples of one file a channel; opened for each read.

    Attributes:
        channels: In order.
        begin: Microseconds of the recording's start on the recorder's clock.
    """

    channels: tuple[Channel, ...]
    begin: int

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.full((len(rows), stop - start), np.nan, np.float32)
        for into, row in zip(out, rows, strict=True):
            channel = self.channels[row]
            late = round((channel.begin - self.begin) * 1e-6 * channel.sfreq)
            with channel.path.open("rb") as file:
                for onset, length, first in zip(
                    channel.clock.onsets, channel.clock.lengths, channel.records, strict=True
                ):
                    at, count = late + round(onset * channel.sfreq), round(length * channel.sfreq)
                    a, b = max(start, at), min(stop, at + count)
                    for here in range(a, b, AT_ONCE * 512):
                        until = min(b, here + AT_ONCE * 512)
                        low, high = (here - at) // 512, -(-(until - at) // 512)
                        file.seek(HEADER + (first + low) * RECORD.itemsize)
                        block = np.fromfile(file, RECORD, high - low)["samples"].reshape(-1)
                        part = block[here - at - low * 512 : until - at - low * 512]
                        into[here - start : until - start] = part * np.float32(channel.gain)
        return out


def recognises(path: Path) -> bool:
    """Return whether this is an .ncs file, or a folder that holds some."""
    if path.is_dir():
        return any(_is_ncs(file) for file in path.glob("*.[nN][cC][sS]"))
    return _is_ncs(path)


def read(path: Path, reading: Reading) -> list[Recording]:
    """Read a folder's files as one recording, or one file.

    Raises:
        ValueError: If a file is cut off, or a header lacks its rate or its calibration.
    """
    files = sorted(path.glob("*.[nN][cC][sS]")) if path.is_dir() else [path]
    notes: list[Note] = []
    channels = []
    for file in (file for file in files if _is_ncs(file)):
        channel, told = _channel(file, reading)
        channels.append(channel)
        notes += told
    names = unique([channel.name for channel in channels])
    if names != [channel.name for channel in channels]:
        notes.append(Note("warning", "Several files state the same channel: a number was put behind its name."))
    types, said = settle_types([channel.name for channel in channels], [True] * len(channels), reading.type)
    notes += said
    if path.is_dir() and any(path.glob("*.[nN][eE][vV]")):
        notes.append(Note("warning", "Events in .nev files are not read."))
    begin = min(channel.begin for channel in channels)
    recorded = [_recorded(channel, begin) for channel in channels]
    duration = max(spans[-1][1] for spans in recorded)
    if duration > LONGEST_GAP:
        raise ValueError(
            f"{label(path)}: the files' times lie {duration / 86400:.0f} days apart, expected one recording."
        )
    rates = [channel.sfreq for channel in channels]
    gaps, lost = common_gaps(recorded, rates, duration)
    notes += lost
    if reading.subject is None:
        notes.append(
            Note(
                "warning", "The files do not tell whose recording it is: pass subject=... if there are more of theirs."
            )
        )
    used = tuple(channel.path for channel in channels)
    recording = Recording(
        NcsSource(tuple(channels), begin),
        recording_id(path),
        reading.subject or pseudonym(os.path.abspath(path), "sub"),
        make_channels(names, rates, types, unit="V"),
        duration,
        gaps=gaps,
        notes=tuple(dict.fromkeys(notes)),
        files=used,
        about={"reader": NAME},
    )
    return [recording]


def _recorded(channel: Channel, begin: int) -> list[tuple[float, float]]:
    """Return begin and end in seconds of a channel's stretches on the recording's clock."""
    late = (channel.begin - begin) * 1e-6
    clock = channel.clock
    return [(late + onset, late + onset + length) for onset, length in zip(clock.onsets, clock.lengths, strict=True)]


def _is_ncs(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() != ".ncs":
        return False
    with path.open("rb") as file:
        return file.read(len(FIRST)) == FIRST


def _channel(path: Path, reading: Reading) -> tuple[Channel, list[Note]]:
    called = label(path)
    with path.open("rb") as file:
        text = file.read(HEADER).decode("latin-1")
    sfreq, bit = _entry(text, "SamplingFrequency"), _entry(text, "ADBitVolts")
    name = re.search(r"-AcqEntName\s+\"?([\w'-]+)", text)
    if not sfreq > 0 or not bit > 0:
        raise ValueError(f"{called}: the header lacks SamplingFrequency or ADBitVolts.")
    records, rest = divmod(path.stat().st_size - HEADER, RECORD.itemsize)
    notes = []
    if records < 1:
        raise ValueError(f"{called} holds no record of samples.")
    if rest:
        told = f"{called} ends {rest} bytes into a record of {RECORD.itemsize}"
        if reading.on_mismatch == "raise":
            raise ValueError(f"{told}.{messages.hint('fetch it again', 'pass {on_mismatch=warn}')}")
        notes.append(Note("warning", f"{told}."))
    times, valid = _stamps(path, records)
    if (valid > 512).any():
        raise ValueError(f"{called}: a record says that it holds {valid.max()} samples, expected at most 512.")
    seconds = (times - times[0]) * 1e-6
    begins, lengths, firsts, drift = [], [], [], 0.0
    jumps = np.abs(np.diff(seconds) - valid[:-1] / sfreq) > 1.5 / sfreq
    edges = [0, *(np.flatnonzero(jumps | (valid[:-1] < 512)) + 1).tolist(), records]
    for low, high in itertools.pairwise(edges):
        begins.append(float(seconds[low]))
        lengths.append(float(valid[low:high].sum() / sfreq))
        firsts.append(low)
        drift = max(drift, abs(float(seconds[high - 1] - seconds[low] - valid[low : high - 1].sum() / sfreq)))
    try:
        follow(begins, lengths, 1.5 / sfreq, "stretch")
    except ValueError as problem:
        raise ValueError(f"{called}: {problem}") from None
    if drift > DRIFT:
        notes.append(
            Note("warning", f"The times of the records drift by up to {drift:.3g} s from the count of samples.")
        )
    inverted = re.search(r"-InputInverted\s+True", text, re.IGNORECASE)
    gain = bit * 1e6 * (-1 if inverted else 1) * (factor(reading.unit) / 1e6 if reading.unit else 1)
    own = name.group(1) if name else "unnamed"
    return Channel(path, own, sfreq, gain, int(times[0]), Clock(tuple(begins), tuple(lengths)), tuple(firsts)), notes


def _stamps(path: Path, records: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the time (microseconds) and the number of valid samples of each record."""
    times, valid = np.empty(records, np.int64), np.empty(records, np.int64)
    with path.open("rb") as file:
        file.seek(HEADER)
        for at in range(0, records, AT_ONCE):
            block = np.fromfile(file, RECORD, min(AT_ONCE, records - at))
            times[at : at + len(block)], valid[at : at + len(block)] = block["time"], block["valid"]
    return times, valid


def _entry(text: str, name: str) -> float:
    found = re.search(rf"-{name}\s+([\d.eE+-]+)", text)
    try:
        return float(found.group(1)) if found else float("nan")
    except ValueError:
        return float("nan")
