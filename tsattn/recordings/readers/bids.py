"""BIDS iEEG and EEG: a data set, a subject's folder or one file, with what the sidecars say of it.

The signal comes through the readers of EDF and of what mne reads, so gaps hold: mne-bids reads EDF through mne, which
joins them. The tests compare with mne-bids. Where a sidecar and its signal disagree, `on_mismatch` decides.
"""

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from tsattn import messages
from tsattn.events.fitting import fit_events
from tsattn.events.interpret import hides_texts
from tsattn.recordings.privacy import label
from tsattn.recordings.readers import Left, Reading, Unit, edf, mef, nwb, raw, reason, refuse_absent, tick
from tsattn.recordings.readers.bids_parts import join_parts
from tsattn.recordings.readers.bids_sidecars import (
    entities,
    find_sidecars,
    number,
    read_events,
    read_json,
    read_positions,
    read_tsv,
)
from tsattn.recordings.readers.channel_names import UNKNOWN_UNIT, matched, tells_types
from tsattn.recordings.readers.nwb_electrodes import NAMELESS
from tsattn.recordings.recording import SIGNAL_TYPES, Note, Recording
from tsattn.recordings.units import SILENT, doubt, sampled_spread, volts

NAME = "BIDS"
DATATYPES = ("ieeg", "eeg")
ENDINGS = (".edf", ".bdf", ".vhdr", ".set", ".fif", ".fif.gz", ".gdf", ".cnt", ".lay", ".eeg")
ELSEWHERE = (".nwb", ".mefd")  # not mne's: the readers of NWB and of MEF3, whose sessions are folders
TYPES = {"SEEG": "seeg", "ECOG": "ecog", "EEG": "eeg", "DBS": "dbs", "ECG": "ecg", "EKG": "ecg", "EMG": "emg"} | {
    "EOG": "eog",
    "HEOG": "eog",
    "VEOG": "eog",
    "TRIG": "stim",
}
RATE_TOLERANCE = 1e-4  # a BrainVision header rounds the sampling interval


def recognises(path: Path) -> bool:
    """Return whether this is a data set, a subject's folder, or a signal with a BIDS name."""
    if _is_signal(path) and path.absolute().parent.name in DATATYPES:
        return True
    return path.is_dir() and bool(_signals(path))


def read(path: Path, reading: Reading) -> tuple[list[Recording], list[Left]]:
    """Read every recording of a data set or folder, and say which signals cannot be read.

    Raises:
        ValueError: If `path` is one signal that cannot be read, or no signal can.
    """
    if _is_signal(path) or path.is_file() or (path.is_symlink() and not path.is_dir()):
        return [_read([path], _root(path), reading)], []
    recordings, left = [], []
    groups: dict[tuple[str, str], list[Path]] = {}
    for signal in _signals(path):
        groups.setdefault((_id(signal), _datatype(signal)), []).append(signal)
    for (name, datatype), signals in groups.items():
        tick()
        both = all((name, kind) in groups for kind in DATATYPES)  # scalp and depth at the same time, as in ds004752
        try:
            recording = _read(signals, _root(signals[0]), reading)
            recordings.append(replace(recording, id=f"{name}_{datatype}") if both else recording)
        except (ValueError, OSError) as problem:
            left += [Left(signal, reason(signal, problem)) for signal in signals]
    if not recordings:
        raise ValueError(f"None of the {len(left)} signals in {label(path)} can be read. The first: {left[0].why}")
    return recordings, left


def _is_signal(path: Path) -> bool:
    name = path.name.lower()
    ending = next((e for e in sorted((*ENDINGS, *ELSEWHERE), key=len, reverse=True) if name.endswith(e)), None)
    if ending is None or not name.startswith("sub-"):
        return False
    return name.removesuffix(ending).rsplit("_", 1)[-1] in DATATYPES and (
        ending != ".eeg" or not path.with_suffix(".vhdr").exists()
    )


def _signals(folder: Path) -> list[Path]:
    """Return the signals of a data set, a subject, a session or a datatype's folder."""
    if folder.name in DATATYPES:
        inside = [folder]
    else:
        starts = [folder] if folder.name.startswith(("sub-", "ses-")) else sorted(folder.glob("sub-*"))
        inside = [start / part / kind for start in starts for part in _sessions(start) for kind in DATATYPES]
    return [path for place in inside if place.is_dir() for path in sorted(place.iterdir()) if _is_signal(path)]


def _sessions(folder: Path) -> list[str]:
    return ["", *(path.name for path in sorted(folder.glob("ses-*")) if path.is_dir())]


def _root(signal: Path) -> Path:
    """Return the data set's folder: above the subject's."""
    signal = signal.absolute()
    above = [folder for folder in signal.parents if folder.name.startswith("sub-")]
    return above[0].parent if above else signal.parent


def _id(signal: Path) -> str:
    """Return the entities; parts of one recording have the same."""
    return "_".join(f"{key}-{value}" for key, value in entities(signal).items() if key != "split")


def _datatype(signal: Path) -> str:
    """Return the suffix of a signal: "ieeg" or "eeg"."""
    return signal.name.split(".")[0].rsplit("_", 1)[-1]


def _read(signals: list[Path], root: Path, reading: Reading) -> Recording:
    signals = [signal.absolute() for signal in signals]
    # a seizure may begin in one part and end in the next: what lies outside is judged when they are joined
    of_part = replace(reading, outside="keep") if len(signals) > 1 else reading
    parts = [_read_signal(signal, root, of_part) for signal in signals]
    starts = [_start(signal, root, part) for signal, part in zip(signals, parts, strict=True)]
    if len(parts) > 1:
        recording = join_parts(parts, starts, [label(signal) for signal in signals])
        fastest = float(recording.channels["sfreq"].max())
        events, told = fit_events(recording.events, recording.duration, reading.outside, fastest)
        recording = replace(recording, events=events, notes=(*recording.notes, *told))
    else:
        recording = replace(parts[0], start=starts[0])
    table = _events_table(signals[0], root)
    if table and _of_all_parts(table, signals[0]):
        recording = _with_events(recording, table, reading)
        if len(parts) == 1:
            note = Note("warning", "events.tsv is of all parts of the recording: its times count from the first one.")
            recording = replace(recording, notes=(*recording.notes, note))
    return replace(recording, id=_id(signals[0]))


def _read_signal(signal: Path, root: Path, reading: Reading) -> Recording:
    """Read one file and lay its sidecars over it."""
    called = label(signal)
    refuse_absent(signal)
    tables = {kind: find_sidecars(signal, root, kind, ".tsv")[-1:] for kind in ("channels", "electrodes")}
    said = read_json(find_sidecars(signal, root, _datatype(signal), ".json"))
    channels = read_tsv(tables["channels"][0]) if tables["channels"] else None
    if channels is not None and "name" not in channels:
        raise ValueError(f"{label(tables['channels'][0])} has no column `name`.")
    mine = replace(reading, subject=reading.subject or f"sub-{entities(signal)['sub']}")
    recording = _base(signal, channels, mine)
    notes = list(recording.notes)
    if channels is None:
        notes.append(Note("warning", "No channels.tsv: types come from names, and no channel is known to be bad."))
    else:
        if "type" in channels:
            notes = [note for note in notes if not tells_types(note)]
        recording, said_of = _with_channels(recording, channels, called, reading)
        notes += said_of
    _check_times(recording, said, called, reading, notes)
    if tables["electrodes"]:
        recording, told = _with_positions(recording, signal, root, tables["electrodes"][0])
        notes += told
    events = _events_table(signal, root)
    if events is None:
        notes.append(Note("warning", "No events.tsv: no event but the annotations in the signal's own file."))
    used = tuple(path for paths in tables.values() for path in paths)
    mains = said.get("PowerLineFrequency")
    about = recording.about | {"bids": True} | ({"mains": mains} if isinstance(mains, int | float) else {})
    recording = replace(recording, notes=tuple(notes), files=recording.files + used, about=about)
    return recording if events is None or _of_all_parts(events, signal) else _with_events(recording, events, reading)


def _events_table(signal: Path, root: Path) -> Path | None:
    return next(reversed(find_sidecars(signal, root, "events", ".tsv")), None)


def _of_all_parts(events: Path, signal: Path) -> bool:
    return "split" in entities(signal) and "split" not in entities(events)


def _with_events(recording: Recording, path: Path, reading: Reading) -> Recording:
    """Return the recording with the events of an events.tsv in place of its own."""
    notes = [note for note in recording.notes if not hides_texts(note)]
    if len(recording.events):
        notes.append(Note("info", f"{len(recording.events)} annotations in the signal's file gave way to events.tsv."))
    fastest = float(recording.channels["sfreq"].max())
    events, told = read_events(path, recording.names, reading, recording.duration, fastest)
    return replace(recording, events=events, notes=(*notes, *told), files=(*recording.files, path))


def _base(signal: Path, channels: pd.DataFrame | None, reading: Reading) -> Recording:
    """Return the recording as its own file tells it; a unit that only channels.tsv states counts."""
    reader = next((reader for reader in (edf, mef, nwb, raw) if reader.recognises(signal)), None)
    if reader is None:
        raise ValueError(f"{label(signal)} is not what its ending says: its first bytes are of no such file.")
    stated = set() if channels is None or "units" not in channels else {volts(u) for u in channels["units"].dropna()}
    stated.discard(None)
    try:
        found = _single(reader.read(signal, reading), signal, reading)
        silent = any(SILENT in note.text or UNKNOWN_UNIT in note.text for note in found.notes)
    except ValueError as problem:
        if SILENT not in str(problem) or len(stated) != 1 or reading.unit:
            raise
        silent = True
    if not silent or len(stated) != 1 or reading.unit:
        return found
    (unit,) = stated
    found = _single(reader.read(signal, replace(reading, unit=cast(Unit, unit))), signal, reading)
    problem_of_unit = doubt(sampled_spread(found))
    if problem_of_unit:
        raise ValueError(f"{label(signal)}: channels.tsv says that its unit is {unit}. {problem_of_unit}")
    return replace(found, notes=(*found.notes, Note("info", f"The unit, {unit}, comes from channels.tsv.")))


def _single(found: list[Recording], signal: Path, reading: Reading) -> Recording:
    """Return the signal of a file; NWB may hold several."""
    if len(found) == 1:
        return found[0]
    told = f"{label(signal)} holds {len(found)} signals, and its sidecars are of one"
    if reading.on_mismatch == "raise":
        raise ValueError(
            f"{told}." + messages.hint("keep one series in the file", "pass {on_mismatch=warn} to take the first")
        )
    return replace(found[0], notes=(*found[0].notes, Note("warning", f"{told}: the first was taken.")))


def _with_channels(
    recording: Recording, table: pd.DataFrame, called: str, reading: Reading
) -> tuple[Recording, list[Note]]:
    notes: list[Note] = []
    own = recording.channels.copy()
    listed = [name if isinstance(name, str) else "" for name in table["name"]]
    nameless_file = any(NAMELESS in note.text for note in recording.notes)
    if nameless_file and len(listed) == len(own) == len(set(filter(None, listed))):
        own["name"] = listed
        notes.append(
            Note("info", "The signal's file names no channel: the names of channels.tsv were taken, in order.")
        )
    row, other_form = matched(own["name"].tolist(), listed)
    row |= {name: i for i, name in enumerate(listed) if name and name not in row and i not in row.values()}
    if other_form:
        example = f"{listed[row[other_form[0]]]!r} for {other_form[0]!r}"
        notes.append(
            Note("info", f"channels.tsv writes {len(other_form)} names in another form ({example}): matched by order.")
        )
    nameless, others = np.flatnonzero(table["name"].isna()), [name for name in own["name"] if name not in row]
    if len(nameless) == len(others) == 1:  # ds003029
        row[others[0]] = int(nameless[0])
    extra = sorted(set(row) - set(own["name"]))
    absent = [name for name in own["name"] if name not in row]
    if len(row) < len(table) or extra or absent:
        told = (
            f"channels.tsv has {len(table)} rows, {len(extra)} of them for channels that the signal does not have; "
            f"{len(absent)} of the signal's {len(own)} channels have no row"
        )
        if reading.on_mismatch == "raise":
            raise ValueError(
                f"{called}: {told}." + messages.hint("mend channels.tsv", "pass {on_mismatch=warn} to go by the signal")
            )
        notes.append(Note("warning", f"{told}."))
    places = [row.get(name) for name in own["name"]]
    if "sampling_frequency" in table:
        rates = number(table["sampling_frequency"], f"channels.tsv of {called}, column sampling_frequency,")
        for place, name, sfreq in zip(places, own["name"], own["sfreq"], strict=True):
            if place is not None and np.isfinite(rates[place]) and abs(rates[place] / sfreq - 1) > RATE_TOLERANCE:
                _mismatch(
                    f"channels.tsv says {rates[place]:g} Hz for {name}, the signal {sfreq:g} Hz", called, reading, notes
                )
                break
    for column, put in (("type", _put_type), ("status", _put_status), ("units", _put_unit)):
        if column in table:
            values = table[column].tolist()
            reasons = table.get("status_description", pd.Series([np.nan] * len(table))).tolist()
            notes += put(own, [(i, values[p], reasons[p]) for i, p in enumerate(places) if p is not None])
    return replace(recording, channels=own), notes


def _put_type(own: pd.DataFrame, rows: list[tuple]) -> list[Note]:
    strange: list[str] = []
    for i, value, _ in rows:
        if isinstance(value, str):
            kind = TYPES.get(value.upper(), "misc")
            if kind in SIGNAL_TYPES and str(own.loc[i, "unit"]) and volts(str(own.loc[i, "unit"])) is None:
                strange.append(str(own.loc[i, "name"]))
                continue
            own.loc[i, "type"] = kind
    if not strange:
        return []
    told = f"channels.tsv says that {len(strange)} channels are signals, and the file's own unit is none of voltage"
    way = messages.hint("{unit=uV} says that they are microvolts")
    return [Note("warning", f"{told}: left out ({', '.join(strange[:12])}).", way)]


def _put_status(own: pd.DataFrame, rows: list[tuple]) -> list[Note]:
    for i, value, why in rows:
        if isinstance(value, str) and value.casefold() == "bad":
            own.loc[i, ["status", "reason"]] = ["bad", "channels.tsv"]
        elif isinstance(why, str) and isinstance(value, str):
            roles = [word for word in ("soz", "resect") if word in why.casefold()]  # ds004100
            own.loc[i, "reason"] = ",".join(roles)
    return []


def _put_unit(own: pd.DataFrame, rows: list[tuple]) -> list[Note]:
    other = sum(
        isinstance(value, str)
        and volts(value) is not None
        and volts(str(own.loc[i, "unit"])) not in (None, volts(value))
        for i, value, _ in rows
    )
    if not other:
        return []
    return [
        Note(
            "warning",
            f"channels.tsv states another unit of {other} channels than was taken: the signal's or the given one.",
        )
    ]


def _mismatch(told: str, called: str, reading: Reading, notes: list[Note]) -> None:
    if reading.on_mismatch == "raise":
        raise ValueError(
            f"{called}: {told}." + messages.hint("mend the sidecar", "pass {on_mismatch=warn} to go by the signal")
        )
    notes.append(Note("warning", f"{told}; the signal was believed."))


def _check_times(recording: Recording, said: dict, called: str, reading: Reading, notes: list[Note]) -> None:
    sfreq, seconds = said.get("SamplingFrequency"), said.get("RecordingDuration")
    rates = recording.channels["sfreq"].unique()
    if isinstance(sfreq, int | float) and np.abs(rates / sfreq - 1).min() > RATE_TOLERANCE:
        _mismatch(f"the JSON sidecar says {sfreq:g} Hz, the signal {rates.max():g} Hz", called, reading, notes)
    if isinstance(seconds, int | float) and said.get("RecordingType", "continuous") == "continuous":
        recorded = recording.duration - sum(end - begin for begin, end in recording.gaps)
        if abs(recorded - seconds) > max(1.0, 1e-3 * seconds):
            _mismatch(f"the JSON sidecar says {seconds:g} s, the signal has {recorded:g} s", called, reading, notes)


def _with_positions(
    recording: Recording, signal: Path, root: Path, electrodes: Path
) -> tuple[Recording, tuple[Note, ...]]:
    systems = find_sidecars(signal, root, "coordsystem", ".json")
    space = entities(electrodes).get("space")
    same = [path for path in systems if entities(path).get("space") == space]
    positions, frame, notes = read_positions(electrodes, same[-1] if same else None, recording.names)
    channels = recording.channels.copy()
    channels[["x", "y", "z"]] = positions
    return replace(recording, channels=channels, coordinate_frame=frame), notes


def _start(signal: Path, root: Path, recording: Recording) -> datetime | None:
    """Return when the signal began by scans.tsv, or by its own file."""
    for scans in reversed(find_sidecars(signal, root, "scans", ".tsv")):
        table = read_tsv(scans)
        if {"filename", "acq_time"} <= set(table):
            mine = table[table["filename"].fillna("").str.endswith(signal.name)]["acq_time"].dropna()
            if len(mine):
                try:
                    return datetime.fromisoformat(mine.iloc[0].replace("Z", "+00:00")).replace(tzinfo=None)
                except ValueError:  # whose text quotes the table
                    raise ValueError(
                        f"{label(scans)}: acq_time of {label(signal)} is not a date and time, expected "
                        "YYYY-MM-DDThh:mm:ss or n/a."
                    ) from None
    return recording.start
