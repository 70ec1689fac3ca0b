"""MEF3 sessions (`*.mefd`) through pymef, which comes with mef_tools: blocks on the clock, holes as NaN.

Every block of a channel states its first sample's time. We place the blocks ourselves and read by sample numbers, so
that a stretch begins at the same sample whatever window is read; mef_tools, which reads by time, gives the same (test).
Source: MEF3 specification (Stead, Halford); seen with pymef 1.4.8 and mef_tools 1.2.3.
"""

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn import extras, messages
from tsattn.events.interpret import Rows
from tsattn.events.table import no_events
from tsattn.recordings import subjects
from tsattn.recordings.privacy import is_bids_name, label
from tsattn.recordings.readers import Reading, recording_id
from tsattn.recordings.readers.annotations import to_events
from tsattn.recordings.readers.channel_names import settle_types
from tsattn.recordings.readers.stretches import Stretch, common_gaps, in_seconds
from tsattn.recordings.recording import Note, Recording, make_channels
from tsattn.recordings.units import factor, volts

NAME = "MEF3"
PASSWORD = "TSATTN_MEF_PASSWORD"  # of level 2; an environment variable leaves no trace in stores and logs
JITTER = 2  # samples by which the stated time of a block with the flag "discontinuity" may still follow the one before


def recognises(path: Path) -> bool:
    """Return whether this is a MEF3 session: a folder called so, or one with channels in it."""
    return path.is_dir() and (path.suffix == ".mefd" or any(path.glob("*.timd")))


def read(path: Path, reading: Reading) -> list[Recording]:
    """Open a session.

    Args:
        path: A `.mefd` folder.
        reading: What the user says.

    Raises:
        ValueError: If the password is missing or wrong, mef_tools is not there, or the session is damaged.
    """
    return [_open(path, reading)]


@dataclass(frozen=True)
class MefSource:
    """Samples of a session; see `tsattn.recordings.recording.Source`."""

    path: Path
    names: tuple[str, ...]
    factors: tuple[float, ...]
    stretches: tuple[tuple[Stretch, ...], ...]

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.full((len(rows), stop - start), np.nan, np.float32)
        session = _session(str(self.path))
        for i, row in enumerate(rows):
            for stretch in self.stretches[row]:
                a, b = max(start, stretch.begin), min(stop, stretch.begin + stretch.n)
                if a < b:
                    span = [a - stretch.begin + stretch.first, b - stretch.begin + stretch.first]
                    with warnings.catch_warnings(record=True) as told:  # pymef leaves damaged blocks out with a warning
                        warnings.simplefilter("always")
                        values = session.read_ts_channels_sample(self.names[row], [span])
                    if told or values is None or len(values) != b - a:
                        raise ValueError(f"{label(self.path)}: blocks of channel {row + 1} are damaged. Copy it again.")
                    out[i, a - start : b - start] = values * self.factors[row]
        return out


@lru_cache(maxsize=4)
def _session(path: str) -> Any:
    MefSession = extras.need_file("mef_tools.io", "MEF3").MefSession
    _refuse_damaged(Path(path))
    try:
        return MefSession(path, os.environ.get(PASSWORD), True)
    except RuntimeError as error:
        if "password" in str(error):
            state = "the one given opens it not" if os.environ.get(PASSWORD) else "none was given"
            raise ValueError(f"{label(path)} is encrypted and needs a password; {state}. Set {PASSWORD}.") from None
        raise ValueError(f"{label(path)} is a damaged MEF3 session. Copy it again.") from None
    except (ValueError, OSError, KeyError, TypeError):
        raise ValueError(f"{label(path)} is a damaged MEF3 session, or its folder is not called *.mefd.") from None


def _refuse_damaged(path: Path) -> None:
    """Look at the sizes first: the C library ends the process over a header that is cut short."""
    channels = list(path.glob("*.timd"))
    if not channels:
        raise ValueError(f"{label(path)} holds no channel (*.timd), expected at least one. Copy the whole session.")
    for channel in channels:
        segments = list(channel.glob("*.segd"))
        whole = segments and all(
            any(file.stat().st_size >= least for file in segment.glob(ending))
            for segment in segments
            for ending, least in (("*.tmet", 16384), ("*.tidx", 1024 + 56), ("*.tdat", 1024))
        )
        if not whole:
            raise ValueError(
                f"{label(path)}: a channel lacks a segment, or one of its files is cut short. Copy the session again."
            )


def _refuse_cut(path: Path, session: Any, channel: str) -> None:
    for name, segment in session.session_md["time_series_channels"][channel]["segments"].items():
        index = segment["indices"]
        end = int((index["file_offset"] + index["block_bytes"]).max()) if len(index) else 0
        held = (path / f"{channel}.timd" / f"{name}.segd" / f"{name}.tdat").stat().st_size
        if held < end:
            raise ValueError(f"{label(path)}: a .tdat file holds {held} of {end} bytes. Copy the session again.")


def _open(path: Path, reading: Reading) -> Recording:
    who = label(path)
    session = _session(str(path))
    info = session.read_ts_channel_basic_info()
    notes: list[Note] = []
    rates = [_rate(channel, who) for channel in info]
    begin = min(int(channel["start_time"][0]) for channel in info)
    stretches, apart = [], 0.0
    for channel, sfreq in zip(info, rates, strict=True):
        _refuse_cut(path, session, channel["name"])
        found, off = _stretches(session.get_channel_toc(channel["name"]), sfreq, begin, who)
        stretches.append(found)
        apart = max(apart, off)
        held = sum(stretch.n for stretch in found)
        if held != int(channel["nsamp"][0]):
            raise ValueError(
                f"{who}: a channel's blocks hold {held} samples, its header says {int(channel['nsamp'][0])}."
            )
    if apart > 1:
        notes.append(
            Note("warning", f"The blocks' times and their count of samples differ by up to {apart:.3g} samples.")
        )
    duration = max((s[-1].begin + s[-1].n) / sfreq for s, sfreq in zip(stretches, rates, strict=True))
    recorded = [in_seconds(found, sfreq) for found, sfreq in zip(stretches, rates, strict=True)]
    gaps, told = common_gaps(recorded, rates, duration)
    notes += told
    units, factors = _units(info, reading, notes)
    events, said = _events(session, [channel["name"] for channel in info], begin, duration, reading)
    subject, whose, nobody = _subject(path, _patient(session), reading)
    notes += nobody
    names = [channel["name"].strip() for channel in info]
    types, told_types = settle_types(names, [True] * len(names), reading, default="seeg")
    notes += told_types
    return Recording(
        source=MefSource(path, tuple(channel["name"] for channel in info), factors, tuple(stretches)),
        id=recording_id(path),
        subject=subject,
        channels=make_channels(names, rates, types, unit=units),
        duration=duration,
        events=events,
        gaps=gaps,
        start=datetime.fromtimestamp(begin / 1e6, UTC) if begin > 0 else None,
        notes=(*notes, *said),
        files=tuple(sorted(path.rglob("*.tdat"))),
        about={"reader": NAME, **whose},
    )


def _rate(channel: dict[str, Any], who: str) -> float:
    rates = np.unique(channel["fsamp"])
    if len(rates) != 1 or not 0 < rates[0] < 1e6:
        raise ValueError(f"{who}: a channel has the rates {rates.tolist()} Hz, expected one above 0.")
    return float(rates[0])


def _stretches(toc: np.ndarray, sfreq: float, begin: int, who: str) -> tuple[tuple[Stretch, ...], float]:
    """Return the stretches of a channel from its blocks, and by how many samples stated times differ from the count.

    Args:
        toc: Rows: discontinuity flag, samples, first sample, time in µs; one column a block.
        sfreq: Hz.
        begin: Time of the recording's first sample, µs.
        who: How to call the session in an error.
    """
    found: list[Stretch] = []
    stated = (toc[3] - begin) * (sfreq / 1e6)
    first, worst = 0, 0.0
    for flag, n, at in zip(toc[0].tolist(), toc[1].tolist(), stated.tolist(), strict=True):
        end = found[-1].begin + found[-1].n if found else 0
        if found and (abs(at - end) <= (JITTER if flag else 0.5 * sfreq)):
            worst = max(worst, abs(at - end))
            found[-1] = Stretch(found[-1].begin, found[-1].first, found[-1].n + n)
        elif found and at < end:
            raise ValueError(
                f"{who}: a block begins {end - at:g} samples before the one before it ends. Copy it again."
            )
        else:
            found.append(Stretch(round(at), first, n))
        first += n
    if not found:
        raise ValueError(f"{who}: a channel holds no block of samples.")
    return tuple(found), worst


def _units(info: list[dict[str, Any]], reading: Reading, notes: list[Note]) -> tuple[list[str], tuple[float, ...]]:
    units, factors, silent, unscaled = [], [], 0, 0
    words: dict[str, None] = {}
    for channel in info:
        word = bytes(channel["unit"][0]).split(b"\0")[0].decode("utf-8", "replace")
        unit = reading.unit or volts(word)
        if unit is None:
            silent += 1
            words[repr("".join(filter(str.isprintable, word))[:16])] = None
        scale = float(channel["ufact"][0])
        if scale == 0 or not np.isfinite(scale):  # the format's "no entry"
            unscaled += 1
            scale = 1.0
        units.append(unit or "uV")
        factors.append(scale * factor(unit or "uV"))
    if silent:
        notes.append(
            Note(
                "warning",
                f"{silent} channels state no unit of voltage ({', '.join(words)}): taken as uV.",
                messages.hint("say otherwise by {unit}"),
            )
        )
    if unscaled:
        notes.append(Note("warning", f"{unscaled} channels have no conversion factor: taken as 1."))
    return units, tuple(factors)


def _patient(session: Any) -> str:
    """Return the code of the patient in the header, which only a hash of is shown."""
    section = (session.session_md.get("time_series_metadata") or {}).get("section_3")
    if section is None or "subject_ID" not in (section.dtype.names or ()):
        return ""
    code = bytes(section["subject_ID"][0]).split(b"\0")[0].decode("utf-8", "replace").strip()
    return "" if code.casefold() in ("", "none", "not_entered", "not entered") else code


def _subject(path: Path, patient: str, reading: Reading) -> tuple[str, dict[str, Any], tuple[Note, ...]]:
    named = re.match(r"sub-[A-Za-z0-9]+", path.name)
    if named and is_bids_name(path.name) and not reading.subject:
        return named[0], {}, ()
    return subjects.of_file(path, reading, patient)


def _events(
    session: Any, names: list[str], begin: int, duration: float, reading: Reading
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    found = []
    for channel in (None, *names):
        held = session.session_md if channel is None else session.session_md["time_series_channels"][channel]
        if (held.get("records_info") or {}).get("records") is None:
            continue
        for record in session.read_records(channel):
            if "time" not in record:
                continue
            onset, end = record["time"], record["time"] + max(int(record.get("duration", 0)), 0)
            text = str(record.get("text", "")).split("\0")[0]
            if record["type"] == "Seiz":
                onset, end, text = record.get("earliest_onset", onset), record.get("latest_offset", end), "sz"
            found.append(((int(onset) - begin) / 1e6, (int(end) - int(onset)) / 1e6, text, channel or "all"))
    if not found:
        return no_events(), ()
    onset, length, texts, where = (list(column) for column in zip(*found, strict=True))
    rows = Rows(np.array(onset, float), np.array(length, float), texts, where)
    return to_events(rows, reading, names, duration)
