"""Neurodata Without Borders: every ElectricalSeries of a file is a recording; metadata by pynwb, samples by h5py.

`data` is (time, channel); volts are data x conversion x channel_conversion + offset. Time is `starting_time` and
`rate`, or a time for every sample, in which holes are found. Events come from the tables of intervals. Source: NWB
schema 2 (nwb-schema.readthedocs.io), ElectricalSeries and TimeSeries; seen with pynwb 4.2.
"""

import re
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn import extras, messages
from tsattn.events.interpret import Rows
from tsattn.events.table import is_seizure
from tsattn.events.vocabulary import event_type
from tsattn.recordings import subjects
from tsattn.recordings.privacy import is_bids_name, label
from tsattn.recordings.readers import Reading, hdf5, recording_id
from tsattn.recordings.readers.annotations import to_events
from tsattn.recordings.readers.nwb_electrodes import electrodes
from tsattn.recordings.readers.stretches import Stretch, common_gaps, in_seconds
from tsattn.recordings.recording import Note, Recording
from tsattn.recordings.units import factor

NAME = "NWB"
LABELS = ("event_type", "label", "labels", "tags", "description", "name", "trial_type", "condition")
AT_ONCE = 2**20  # times read at a time


def recognises(path: Path) -> bool:
    """Return whether this is an NWB file, by its version attribute or its ending."""
    if path.is_dir():
        return False
    if path.suffix == ".nwb":
        return True
    if not hdf5.is_hdf5(path):
        return False
    try:
        with hdf5.open_file(path) as file:
            return "nwb_version" in file.attrs
    except (ValueError, OSError):
        return False


def read(path: Path, reading: Reading) -> list[Recording]:
    """Open every electrical series of a file.

    Args:
        path: An `.nwb` file (HDF5).
        reading: What the user says; `unit` is of the stored values and sets the file's conversion aside.

    Raises:
        ValueError: If a file is damaged, its links leave its folder, or it holds no electrical series.
    """
    who = label(path)
    with hdf5.open_file(path) as file:
        hdf5.refuse_links(file, path.parent)
    NWBHDF5IO = extras.need_file("pynwb", "NWB").NWBHDF5IO
    with ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of axes and lengths: checked here, and an error
                content = stack.enter_context(NWBHDF5IO(str(path), "r", load_namespaces=True)).read()
        except Exception as error:  # hdmf has a dozen kinds, whose texts quote the file
            raise ValueError(
                f"{who} is not built as NWB files are ({type(error).__name__}). Validate it: pynwb-validate."
            ) from None
        series, left = _series(content)
        if not series:
            raise ValueError(f"{who} holds no ElectricalSeries in acquisition or processing.")
        found = [_recording(path, one, content, who, reading) for one in series]
    if left:
        text = f"{left} electrical series in processing are left out: they may be the same signal, processed."
        found = [replace(one, notes=(*one.notes, Note("info", text))) for one in found]
    if len(found) > 1:
        found = [replace(one, id=f"{one.id}_run-{i + 1:02d}") for i, one in enumerate(found)]
    return found


@dataclass(frozen=True)
class NwbSource:
    """Samples of one series; see `tsattn.recordings.recording.Source`."""

    path: Path
    dataset: str
    cache: int
    factors: tuple[float, ...]
    offset: float
    stretches: tuple[Stretch, ...]

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        chosen = np.asarray(rows, int)
        out = np.full((len(chosen), stop - start), np.nan, np.float32)
        if len(chosen) == 0:
            return out
        low, high = int(chosen.min()), int(chosen.max()) + 1
        scale = np.asarray(self.factors)[chosen, None]
        data = hdf5.kept_open(self.path, self.dataset, self.cache)
        for stretch in self.stretches:
            a, b = max(start, stretch.begin), min(stop, stretch.begin + stretch.n)
            if a < b:
                shift = stretch.first - stretch.begin
                span = slice(a + shift, b + shift)
                with hdf5.damage_told(self.path):
                    values = data[span][:, None] if data.ndim == 1 else data[span, low:high][:, chosen - low]
                out[:, a - start : b - start] = values.T * scale + self.offset
        return out


def _series(content: Any) -> tuple[list[Any], int]:
    """Return the electrical series of the acquisition, else of the processing modules, and how many were left out."""
    from pynwb.ecephys import ElectricalSeries, SpikeEventSeries

    def of(parents: Any) -> list[Any]:
        found = []
        for thing in parents:
            if isinstance(thing, ElectricalSeries) and not isinstance(thing, SpikeEventSeries):
                found.append(thing)
            elif hasattr(thing, "electrical_series"):
                found += list(thing.electrical_series.values())
        return found

    raw = of(content.acquisition.values())
    processed = [one for module in content.processing.values() for one in of(module.data_interfaces.values())]
    return (raw, len(processed)) if raw else (processed, 0)


def _recording(path: Path, series: Any, content: Any, who: str, reading: Reading) -> Recording:
    data = series.data
    if type(data).__module__.partition(".")[0] != "h5py":
        raise ValueError(f"{who}: the samples of a series are not in HDF5. Convert it to an .nwb file of HDF5.")
    n_channels = len(series.electrodes.data)
    _check_shape(data, n_channels, who)
    hdf5.need_written(data, f"{who}, a series,")
    sfreq, stretches, begin, notes = _clock(series, data.shape[0], who)
    duration = (stretches[-1].begin + stretches[-1].n) / sfreq
    gaps, told = common_gaps([in_seconds(stretches, sfreq)], [sfreq], duration)
    notes += told
    channels, said = electrodes(series, sfreq, reading)
    factors, offset = _scale(series, n_channels, who, reading)
    if reading.unit is None and float(series.conversion) == 1 and series.channel_conversion is None:
        notes.append(
            Note(
                "warning",
                "The file says that its values are volts (conversion 1).",
                messages.hint("say otherwise by {unit}"),
            )
        )
    events, heard = _events(content, begin, duration, channels["name"].tolist(), reading)
    named = re.match(r"sub-[A-Za-z0-9]+", path.name) if is_bids_name(path.name) else None
    subject, whose, nobody = subjects.of_file(path, reading, getattr(content.subject, "subject_id", None) or "")
    if named and not reading.subject:
        subject, whose, nobody = named[0], {}, ()
    notes += nobody
    return Recording(
        source=NwbSource(Path(data.file.filename), data.name, _cache(data), factors, offset, stretches),
        id=recording_id(path),
        subject=subject,
        channels=channels,
        duration=duration,
        events=events,
        gaps=gaps,
        start=content.session_start_time + timedelta(seconds=begin) if content.session_start_time else None,
        notes=(*notes, *said, *heard),
        files=tuple(dict.fromkeys((path, Path(data.file.filename)))),
        about={"reader": NAME, **whose},
    )


def _check_shape(data: Any, n_channels: int, who: str) -> None:
    if data.ndim not in (1, 2) or data.dtype.kind not in "fiu" or 0 in data.shape:
        raise ValueError(f"{who}: a series is {data.dtype} of shape {data.shape}, expected numbers (time, channel).")
    held = 1 if data.ndim == 1 else data.shape[1]
    if held != n_channels:
        swapped = " The axes seem to be swapped: transpose it." if data.shape[0] == n_channels else ""
        raise ValueError(
            f"{who}: a series of shape {data.shape} has {n_channels} electrodes, expected (time, channel).{swapped}"
        )
    if held > data.shape[0]:
        raise ValueError(
            f"{who}: a series has {held} channels of {data.shape[0]} samples; its axes seem to be swapped."
        )


def _cache(data: Any) -> int:
    return 2 * int(np.prod(data.chunks)) * data.dtype.itemsize if data.chunks else 0


def _scale(series: Any, n: int, who: str, reading: Reading) -> tuple[tuple[float, ...], float]:
    """Return what to multiply each channel with, and what to add, to have microvolts."""
    if reading.unit is not None:
        return (factor(reading.unit),) * n, 0.0
    each = np.ones(n) if series.channel_conversion is None else np.asarray(series.channel_conversion[:], float)
    scale = each * float(series.conversion) * 1e6
    if scale.shape != (n,) or not np.isfinite(scale).all() or (scale == 0).any():
        raise ValueError(
            f"{who}: conversion or channel_conversion of a series is 0, NaN or of another length than {n}."
        )
    return tuple(scale.tolist()), float(series.offset or 0.0) * 1e6


def _clock(series: Any, samples: int, who: str) -> tuple[float, tuple[Stretch, ...], float, list[Note]]:
    """Return the rate, the stretches, the first sample's time (s from the session's start), and what to say."""
    if series.rate is not None:
        if not 0 < series.rate < 1e6:
            raise ValueError(f"{who}: the rate of a series is {series.rate} Hz, expected above 0.")
        return float(series.rate), (Stretch(0, 0, samples),), float(series.starting_time or 0.0), []
    times = series.timestamps
    if times is None or len(times) != samples or samples < 2:
        held = 0 if times is None else len(times)
        raise ValueError(f"{who}: a series of {samples} samples has {held} timestamps and no rate.")
    step = float(np.median(np.diff(np.asarray(times[: min(samples, 10_000)], float))))
    edges, begin, end = [0], float(times[0]), float(times[0])
    for at in range(0, samples, AT_ONCE):
        block = np.concatenate([[end], np.asarray(times[at : at + AT_ONCE], float)])
        apart = np.diff(block)[0 if at else 1 :]
        if not np.isfinite(apart).all() or (apart <= 0).any():
            raise ValueError(f"{who}: the timestamps of a series do not rise all the way. Sort out its clock first.")
        edges += (np.flatnonzero(apart > 1.5 * step) + (at if at else 1)).tolist()
        end = float(block[-1])
    edges.append(samples)
    runs = [(a, b, float(times[a]), float(times[b - 1])) for a, b in pairwise(edges)]
    longest = max(runs, key=lambda run: run[1] - run[0])
    sfreq = _rate(longest, step)
    stretches: list[Stretch] = []
    worst = 0.0
    for first, stop, opens, closes in runs:
        here = round((opens - begin) * sfreq)
        if stretches and here < stretches[-1].begin + stretches[-1].n:
            raise ValueError(f"{who}: the timestamps of a series give no one rate: stretches overlap at {sfreq:g} Hz.")
        stretches.append(Stretch(here, first, stop - first))
        worst = max(worst, abs((closes - opens) * sfreq - (stop - first - 1)))
    notes = []
    if worst > 1:
        text = f"Timestamps and the count of samples at {sfreq:g} Hz differ by up to {worst:.3g} samples."
        notes.append(Note("warning", text))
    return sfreq, tuple(stretches), begin, notes


def _rate(run: tuple[int, int, float, float], step: float) -> float:
    first, stop, opens, closes = run
    if stop - first < 2:
        return 1 / step
    exact = (stop - first - 1) / (closes - opens)
    for digits in (0, 1, 2, 3):
        simple = round(exact, digits)
        if simple > 0 and abs((closes - opens) * simple - (stop - first - 1)) < 0.5:
            return simple
    return exact


def _events(
    content: Any, begin: float, duration: float, names: list[str], reading: Reading
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    from pynwb.misc import AnnotationSeries

    onset: list[float] = []
    length: list[float] = []
    texts: list[str] = []
    for title, table in (content.intervals or {}).items():
        frame = table.to_dataframe()
        onset += (frame["start_time"].astype(float) - begin).tolist()
        length += (frame["stop_time"] - frame["start_time"]).astype(float).tolist()
        column = next((name for name in LABELS if name in frame), None)
        says = is_seizure([event_type(title.replace("_", " "), reading.seizure_words)])[0]
        texts += [title] * len(frame) if says or column is None else [_text(value) for value in frame[column]]
    for series in content.acquisition.values():
        if isinstance(series, AnnotationSeries):
            onset += (np.asarray(series.timestamps[:], float) - begin).tolist()
            length += [0.0] * len(series.data)
            texts += [_text(value) for value in series.data[:]]
    rows = Rows(np.array(onset, float), np.array(length, float), texts)
    return to_events(rows, reading, names, duration)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else " ".join(map(str, np.atleast_1d(value)))
