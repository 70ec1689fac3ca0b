"""One recording: channels x time on a true clock, read only where somebody asks, labelled, in microvolts.

A `Recording` holds facts (channels, events, gaps, rate) and a `Source`, which opens its file at the first read in each
process; so it is cheap to make, to pickle and to send to a worker. What was not recorded is NaN and stands in `gaps`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float, Num

from tsattn.events.notes import Note as Note
from tsattn.events.table import no_events
from tsattn.recordings.guard import guarded

CHANNEL_COLUMNS = ("name", "type", "sfreq", "status", "reason", "x", "y", "z", "unit")
CLOCK_ROUNDING = 1e-3  # s
SIGNAL_TYPES = ("seeg", "ecog", "eeg", "dbs")  # what the models read; names as in mne


@runtime_checkable
class Source(Protocol):
    """Where the samples are. It pickles without an open file: paths and numbers only."""

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples `[start, stop)` of these channels, which share one rate, at that rate.

        Args:
            rows: Channels by their place in the file.
            start: First sample, counted on the true clock (gaps have samples, too).
            stop: One past the last.

        Returns:
            Microvolts (for channels of voltage), float32 or float64; NaN where nothing was recorded.
        """
        ...


def make_channels(
    name: Sequence[str],
    sfreq: float | Sequence[float],
    type: str | Sequence[str] = "seeg",
    status: str | Sequence[str] = "good",
    reason: str | Sequence[str] = "",
    position: Float[np.ndarray, "channel 3"] | None = None,
    unit: str | Sequence[str] = "uV",
) -> pd.DataFrame:
    """Return a table of channels.

    Args:
        name: Unique names, as in the file (stripped).
        sfreq: Hz, of each channel.
        type: mne's word: seeg, ecog, eeg, dbs, ecg, emg, eog, misc, stim.
        status: "good" or "bad".
        reason: Why a channel is bad.
        position: Metres, in the coordinate frame that the recording names; NaN where unknown.
        unit: In the file, for the record: what is read is in microvolts all the same.
    """
    position = np.full((len(name), 3), np.nan) if position is None else position
    columns = dict(name=list(name), type=type, sfreq=sfreq, status=status, reason=reason, unit=unit)
    columns |= dict(zip("xyz", position.T, strict=True))
    table = pd.DataFrame(columns, index=range(len(name)))[list(CHANNEL_COLUMNS)]
    return table.astype({"sfreq": float, "x": float, "y": float, "z": float})


@dataclass(frozen=True, eq=False, repr=False)
class Recording:
    """A recording of one subject.

    Attributes:
        source: Gives the samples.
        id: Name without a person in it: BIDS entities, or a pseudonym. Unique in a store.
        subject: The same of the subject; recordings of one person have the same.
        channels: One row a channel: `make_channels`.
        duration: Seconds, gaps included.
        events: `tsattn.events.table`.
        gaps: `(begin, end)` in seconds of what was not recorded, sorted, apart from each other.
        start: Clock time of the first sample, if known. Never printed, plotted or exported unless asked for; in a store
            it is shifted by a time that is the subject's secret.
        coordinate_frame: Of the positions ("mni_tal", "fsaverage", "unknown", ...).
        notes: What reading and checking found.
        files: What the samples come from (for hashes). Never printed: a file's name may hold a person's.
        about: Provenance in plain data: reader, and after preparation every step with its parameters.
        rows: Place of each channel in the source.
    """

    source: Source
    id: str
    subject: str
    channels: pd.DataFrame
    duration: float
    events: pd.DataFrame = field(default_factory=no_events)
    gaps: tuple[tuple[float, float], ...] = ()
    start: datetime | None = None
    coordinate_frame: str = "unknown"
    notes: tuple[Note, ...] = ()
    files: tuple[Path, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    rows: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.rows:
            object.__setattr__(self, "rows", tuple(range(len(self.channels))))
        if len(self.channels) == 0:
            raise ValueError(f"{self.id} has no channels, expected at least one.")
        if len(self.rows) != len(self.channels):
            raise ValueError(f"{self.id}: {len(self.rows)} rows for {len(self.channels)} channels.")
        doubles = self.channels["name"][self.channels["name"].duplicated()]
        if len(doubles):
            raise ValueError(f"{self.id}: channel name {doubles.iloc[0]!r} stands twice, expected unique names.")
        if not (self.channels["sfreq"] > 0).all():
            raise ValueError(f"{self.id}: a sampling rate is {self.channels['sfreq'].min():g} Hz, expected above 0.")
        if not 0 < self.duration < np.inf:
            raise ValueError(f"{self.id} lasts {self.duration:g} s, expected a finite duration above 0.")
        last = 0.0
        for begin, end in self.gaps:
            if not last <= begin < end <= self.duration + CLOCK_ROUNDING:
                raise ValueError(
                    f"{self.id} has a gap from {begin:g} to {end:g} s after one that ends at {last:g} s, expected gaps "
                    f"in order, apart from each other, within 0 and {self.duration:g} s."
                )
            last = end

    def __repr__(self) -> str:  # neither files nor start: they hold names and dates
        rates = "/".join(f"{rate:g}" for rate in self.channels["sfreq"].unique())
        return f"Recording({self.id!r}, {len(self.channels)} channels, {rates} Hz, {self.duration:g} s)"

    @classmethod
    def open(cls, path: str | Path, **reading: Any) -> "Recording":
        """Open the one recording at a path; see `tsattn.recordings.readers.open_recordings`."""
        from tsattn.recordings.readers import open_recordings

        found = open_recordings(path, **reading)
        if len(found) != 1:
            raise ValueError(
                f"There are {len(found)} recordings there, expected one: "
                "tsattn.recordings.readers.open_recordings opens all of them."
            )
        return found[0]

    @property
    def sfreq(self) -> float:
        """Hz; an error if the channels differ."""
        rates = self.channels["sfreq"].unique()
        if len(rates) > 1:
            told = ", ".join(f"{rate:g}" for rate in sorted(rates))
            raise ValueError(
                f"{self.id} has channels at {told} Hz. Prepare it, which brings them to one rate, or pick(sfreq=...)."
            )
        return float(rates[0])

    @property
    def n_samples(self) -> int:
        """Samples of a channel, gaps included."""
        return round(self.duration * self.sfreq)

    @property
    def names(self) -> list[str]:
        """Names of the channels."""
        return self.channels["name"].tolist()

    def read(self, start: int, stop: int, channels: Sequence[int] | None = None) -> Float[np.ndarray, "channel time"]:
        """Read samples `[start, stop)`.

        Args:
            start: First sample.
            stop: One past the last.
            channels: Places in `self.channels`; None reads all.

        Returns:
            Microvolts; NaN where nothing was recorded.

        Raises:
            ValueError: If the samples lie outside the recording, or the channels have several rates.
        """
        chosen = range(len(self.rows)) if channels is None else channels
        rates = self.channels["sfreq"].to_numpy()[list(chosen)]
        if len(set(rates)) > 1:
            self.sfreq  # noqa: B018  (says so)
        samples = round(self.duration * rates[0]) if len(rates) else 0
        if not 0 <= start <= stop <= samples:
            raise ValueError(f"{self.id}: samples [{start}, {stop}) of {samples} were asked for.")
        with guarded(self.id, self.files):
            values = self.source.read([self.rows[i] for i in chosen], start, stop)
        if values.shape != (len(chosen), stop - start):
            raise ValueError(
                f"{self.id}: samples [{start}, {stop}) of {len(chosen)} channels were asked for, {values.shape[1]} of "
                f"{values.shape[0]} came. The file is shorter than the {self.duration:g} s that its header says."
            )
        return values

    def to_xarray(self, begin: float = 0.0, end: float | None = None) -> xr.DataArray:
        """Read a stretch as a labelled array.

        Args:
            begin: Seconds from the start.
            end: Seconds; None reads to the end.

        Returns:
            Dims `channel` (names, with a `type` each) and `time` (seconds from the start), attributes `sfreq`, `unit`.
            Events stay behind: `from_array(..., events=...)` takes them.
        """
        sfreq = self.sfreq
        end = self.duration if end is None else end
        start, stop = round(begin * sfreq), round(end * sfreq)
        coords = {"channel": self.names, "time": np.arange(start, stop) / sfreq}
        return xr.DataArray(
            self.read(start, stop),
            dims=("channel", "time"),
            coords=coords | {"type": ("channel", self.channels["type"].tolist())},
            attrs={"sfreq": sfreq, "unit": "uV", "recording": self.id},
            name="signal",
        )

    def pick(
        self,
        names: Sequence[str] | None = None,
        *,
        types: Sequence[str] | None = None,
        sfreq: float | None = None,
        bads: bool = True,
    ) -> "Recording":
        """Return a recording of fewer channels, in the order of this one (of `names`, if given).

        Args:
            names: Channels to keep.
            types: Types to keep.
            sfreq: Rate to keep, Hz.
            bads: Whether channels with status "bad" stay.
        """
        table = self.channels
        missing = sorted(set(names or ()) - set(table["name"]))
        if missing:
            raise ValueError(f"{self.id} has no channel {missing[0]!r}.")
        place = {name: i for i, name in enumerate(table["name"])}
        kept = np.ones(len(table), dtype=bool)
        if types is not None:
            kept &= table["type"].isin(types).to_numpy()
        if sfreq is not None:
            kept &= (table["sfreq"] == sfreq).to_numpy()
        if not bads:
            kept &= (table["status"] != "bad").to_numpy()
        order = [i for i in (range(len(table)) if names is None else map(place.__getitem__, names)) if kept[i]]
        if not order:
            raise ValueError(f"{self.id}: no channel is left of {len(table)} (types, rates and bads considered).")
        return replace(self, channels=table.iloc[order].reset_index(drop=True), rows=tuple(self.rows[i] for i in order))

    def observed(self, sfreq: float | None = None) -> list[tuple[int, int]]:
        """Return the stretches between gaps as `(start, stop)` samples, at the recording's rate or another."""
        rate = self.sfreq if sfreq is None else sfreq
        edges = [0.0, *(t for gap in self.gaps for t in gap), self.duration]
        spans = [(round(a * rate), round(b * rate)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
        return [span for span in spans if span[1] > span[0]]


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Samples that lie in memory, for tests, notebooks and the simulator."""

    values: Float[np.ndarray, "channel time"]

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        return self.values[list(rows), start:stop]


def from_array(
    values: xr.DataArray | Num[np.ndarray, "channel time"],
    sfreq: float | None = None,
    *,
    id: str = "array",
    subject: str | None = None,
    names: Sequence[str] | None = None,
    **rest: Any,
) -> Recording:
    """Make a recording of an array; stretches that are NaN in every channel become gaps.

    Args:
        values: `(channel, time)` in microvolts; an xarray brings its own names, its rate as the attribute `sfreq`, a
            unit as the attribute `unit` (then brought to microvolts), types as a coordinate `type` of the channels.
        sfreq: Hz.
        id: Of the recording.
        subject: Of the subject; the recording's id if not given.
        names: Of the channels.
        rest: Other attributes of `Recording`.
    """
    if isinstance(values, xr.DataArray):
        values = values.transpose("channel", "time")
        names = values["channel"].values.tolist() if names is None else names
        sfreq = values.attrs.get("sfreq") if sfreq is None else sfreq
        kinds = values["type"].values.tolist() if "type" in values.coords else "seeg"
        if sfreq is not None:
            rest.setdefault("channels", make_channels(names, sfreq, kinds))
        values = values.values * _to_microvolts(values.attrs.get("unit", "uV"))
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float64)
    if sfreq is None:
        raise ValueError("No sampling rate: pass sfreq in Hz (an xarray may carry it as attrs['sfreq']).")
    names = [f"C{i + 1}" for i in range(len(values))] if names is None else names
    missing = np.concatenate([[False], np.isnan(values).all(0), [False]])
    edges = np.flatnonzero(missing[1:] != missing[:-1]) / sfreq
    rest.setdefault("gaps", tuple(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)))
    rest.setdefault("channels", make_channels(names, sfreq))
    return Recording(ArraySource(values), id, subject or id, duration=values.shape[1] / sfreq, **rest)


def _to_microvolts(unit: str) -> float:
    from tsattn.recordings.units import factor, volts

    known = volts(unit)
    if known is None:
        raise ValueError(f"The array's unit is {unit!r}, expected nV, uV, mV or V (attrs['unit']).")
    return factor(known)
