"""Pauses that mne closes: BrainVision's new segments with a clock time, Persyst's sample times.

A BrainVision marker of a new segment ends in the clock time of its first sample (BrainVision Core Data Format 1.0,
marker file); a Persyst .lay file lists `sample=seconds of the day` (section [SampleTimes]). mne reads neither.
"""

import re
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from tsattn.events.clock import Clock, follow

SEGMENT = re.compile(r"^Mk\d+=New Segment,[^,\n]*,(\d+)(?:,[^,\n]*,[^,\n]*,(\d*))?", re.MULTILINE)
SAMPLE_TIME = re.compile(r"^(\d+)=([\d.]+)\s*$", re.MULTILINE)
BYTES = {"INT_16": 2, "UINT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4, "IEEE_FLOAT_64": 8}
DAY = 86400.0
TOLERANCE = 0.1  # s: these clocks are coarse


def read_clock(path: Path, samples: int, sfreq: float) -> tuple[Clock, float, int]:
    """Return where the file's samples lie on the true clock, and what its time stamps leave open.

    Args:
        path: The file that mne opens.
        samples: That mne finds.
        sfreq: Hz.

    Returns:
        The clock, by how many seconds the time stamps drift from the count of samples, and how many stretches follow
        another one after a pause of unknown length.

    Raises:
        ValueError: If a stretch begins before the one before it ends.
    """
    ending = path.suffix.lower()
    stamps: list[tuple[int, float]] = []
    unplaced = 0
    if ending == ".vhdr":
        markers = _beside(path, _entry(path, "MarkerFile"))
        if markers is not None:
            found = [(int(at) - 1, _seconds(clock)) for at, clock in SEGMENT.findall(_text(markers))]
            unplaced = sum(None in (a[1], b[1]) for a, b in pairwise(found))
            stamps = [(at, clock) for at, clock in found if clock is not None]
    elif ending == ".lay":
        _, _, section = _text(path).partition("[SampleTimes]")
        stamps = [(int(at), float(clock)) for at, clock in SAMPLE_TIME.findall(section.partition("\n[")[0])]
        for i in range(1, len(stamps)):  # past midnight
            while stamps[i][1] < stamps[i - 1][1] - DAY / 2:
                stamps[i] = (stamps[i][0], stamps[i][1] + DAY)
    stamps = [stamp for stamp in stamps if stamp[0] < samples]
    if len(stamps) < 2:
        return Clock((0.0,), (samples / sfreq,)), 0.0, unplaced
    firsts = [0, *(at for at, _ in stamps[1:])]
    begins = [stamps[0][1] - stamps[0][0] / sfreq, *(clock for _, clock in stamps[1:])]
    lengths = [(b - a) / sfreq for a, b in zip(firsts, [*firsts[1:], samples], strict=True)]
    return *follow(begins, lengths, TOLERANCE, "stretch"), unplaced


def brainvision_data(path: Path) -> tuple[Path | None, int, int]:
    """Return the data file of a BrainVision header, its bytes for one time, and bytes that make no whole sample.

    Args:
        path: The header.

    Returns:
        The data file (None if absent); zeros if the header does not tell its format.
    """
    data = _beside(path, _entry(path, "DataFile"))
    channels, kind = _entry(path, "NumberOfChannels"), BYTES.get(_entry(path, "BinaryFormat").upper(), 0)
    frame = int(channels) * kind if channels.isdigit() else 0
    return data, frame, (data.stat().st_size % frame if data is not None and data.exists() and frame else 0)


def _seconds(stamp: str) -> float | None:
    """Return seconds since a day long ago of YYYYMMDDhhmmssuuuuuu; None if it is no time (all zeros, nothing)."""
    try:
        return (datetime.strptime(stamp, "%Y%m%d%H%M%S%f") - datetime(1900, 1, 1)).total_seconds()
    except ValueError:
        return None


def _entry(path: Path, name: str) -> str:
    found = re.search(rf"^{name}\s*=\s*(.+?)\s*$", _text(path), re.MULTILINE | re.IGNORECASE)
    return found.group(1).replace("$b", path.stem) if found else ""


def _beside(path: Path, name: str) -> Path | None:
    if not name:
        return None
    beside = path.parent / name
    return beside if beside.exists() or beside.is_symlink() else None


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace")
