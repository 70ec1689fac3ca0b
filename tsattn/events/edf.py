"""Events as EDF+ annotations, through edfio: a file of annotations only, or a new copy of a recording with them.

Events that belong to channels are written once for each, as `sz@@A1` (the way of mne and EDFbrowser). Headers are
scrubbed: no person, no date, no free text. Confidence has no place in EDF+.
"""

import math
import re
from collections.abc import Collection, Sequence
from datetime import time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from tsattn import files
from tsattn.events.files import EventFile, scrubbed
from tsattn.events.interpret import interpret
from tsattn.events.table import check_events
from tsattn.events.vocabulary import BACKGROUND

WHOLE = "recording_duration"  # the annotation that states it in a file without signals
FILTER = re.compile(r"((HP|LP|N):\s*\d+(\.\d+)?\s*Hz\s*)+")  # a prefiltering text that is no free text
RECORD_BYTES = 61440  # EDF's recommended largest data record


def read_edf(
    path: Path, allow: Collection[str], words: Collection[str], unpaired: Literal["raise", "mark"]
) -> EventFile:
    """Read the annotations of an EDF+ file; `sz@@A1` and `sz@@A2` at the same time become one event of both."""
    edf = _open(path)
    if not edf.reserved.startswith("EDF+"):
        raise ValueError("it is EDF without annotations, expected EDF+.")
    grouped: dict[tuple[float, float, str], list[str]] = {}
    duration: float | None = None
    for annotation in edf.annotations:
        if annotation.text == WHOLE:
            duration = annotation.duration
            continue
        text, _, channel = annotation.text.partition("@@")
        length = math.nan if annotation.duration is None else annotation.duration
        grouped.setdefault((annotation.onset, length, text), []).extend([channel] if channel else [])
    keys = list(grouped)
    onset, length = (np.array([key[i] for key in keys], dtype=float) for i in (0, 1))
    channels = [",".join(names) or "all" for names in grouped.values()]
    events, notes = interpret(
        onset, length, [key[2] for key in keys], channels, range(1, len(keys) + 1), allow, words, unpaired
    )
    if edf.num_signals:
        if edf.is_continuous:
            duration = edf.duration
        else:
            notes = (*notes, "the recording has gaps, so its duration was not taken from it")
    return EventFile(events, duration, None, BACKGROUND in [key[2] for key in keys], notes)


def annotations_only(events: pd.DataFrame, duration: float) -> bytes:
    """Return an EDF+ file without signals; an annotation `recording_duration` states the recording's length."""
    edfio = _edfio()
    marks = [edfio.EdfAnnotation(0.0, duration, WHOLE), *_annotations(events)]
    edf = edfio.Edf([], annotations=marks, recording=edfio.Recording(equipment_code="tsattn"))
    return bytes(edf.to_bytes())


def annotate_edf(
    source: str | Path,
    path: str | Path,
    events: pd.DataFrame,
    *,
    allow: Collection[str] = (),
    overwrite: bool = False,
) -> None:
    """Write a new EDF+ file: the samples of another EDF file, bit for bit, and these annotations in place of its own.

    Args:
        source: An EDF file; it stays as it is.
        path: To make.
        events: `tsattn.events.table`; channels must be among the file's.
        allow: Texts of annotations that may pass.
        overwrite: Write over a file that exists already (never over `source`).

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        ValueError: If the source is no EDF file, has gaps (EDF+D), or an event does not fit it.
    """
    if Path(path).resolve() == Path(source).resolve():
        raise ValueError("The new file would replace the recording itself: choose another path.")
    edfio, edf = _edfio(), _open(Path(source))
    if not edf.num_signals:
        raise ValueError("The EDF file has no signals to copy.")
    if not edf.is_continuous:
        raise ValueError("The EDF file has gaps (EDF+D), which this copy would lose: write the annotations only.")
    marks = _checked(events, edf.duration, edf.labels, allow)
    record, records = edf.data_record_duration, edf.num_data_records
    if not _exact(record, records):
        record = _record(edf.duration, [len(signal.digital) for signal in edf.signals])
    for signal in edf.signals:
        _scrub(signal)
    copy = edfio.Edf(  # a new header: every field that is not named here is blank
        edf.signals,
        recording=edfio.Recording(equipment_code="tsattn"),
        data_record_duration=record,
        annotations=_annotations(marks),
    )
    _write(copy, path, overwrite)


def write_edf(
    signal: xr.DataArray,
    path: str | Path,
    events: pd.DataFrame,
    *,
    allow: Collection[str] = (),
    rest: Literal["raise", "leave out"] = "raise",
    overwrite: bool = False,
) -> None:
    """Write a recording that is in memory as a new EDF+ file with annotations.

    Samples become 16-bit integers over each channel's own range: the error is at most half of range / 65535.

    Args:
        signal: Dims `channel` (names) and `time`, attribute `sfreq` in Hz, microvolts (`Recording.to_xarray`).
        path: To make.
        events: `tsattn.events.table`; channels must be among the signal's.
        allow: Texts of annotations that may pass.
        rest: What happens if the samples cannot be cut into EDF's data records, whose length in seconds has 8
            characters (15361 samples at 512 Hz): an error, or the last samples, less than a second, are left out.
        overwrite: Write over a file that exists already.

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        ValueError: If a sample is NaN, a name is longer than 16 characters, an event does not fit, or the number of
            samples cannot be cut into EDF's data records.
    """
    edfio = _edfio()
    signal = signal.transpose("channel", "time")
    values, names = np.asarray(signal.values, float), [str(name) for name in signal["channel"].values]
    sfreq = signal.attrs.get("sfreq")
    if sfreq is None:
        raise ValueError("No sampling rate: the signal needs the attribute sfreq in Hz.")
    if not np.isfinite(values).all():
        missing = int((~np.isfinite(values)).any(0).argmax())
        raise ValueError(f"Sample {missing} is missing (NaN), which EDF has no number for: write the stretches apart.")
    long = [name for name in names if len(name) > 16 or not name.isascii()]
    if long:
        raise ValueError(f"Channel {long[0]!r} has a name that EDF cannot hold, expected up to 16 ASCII characters.")
    if rest == "leave out":
        values = values[:, : _divisible(values.shape[1], float(sfreq))]
    duration = values.shape[1] / float(sfreq)
    marks = _checked(events, duration, names, allow)
    signals = [
        edfio.EdfSignal(row, float(sfreq), label=name, physical_dimension="uV", physical_range=_range(row))
        for row, name in zip(values, names, strict=True)
    ]
    edf = edfio.Edf(
        signals,
        recording=edfio.Recording(equipment_code="tsattn"),
        starttime=time(0, 0, 0),
        data_record_duration=_record(duration, [values.shape[1]] * len(names)),
        annotations=_annotations(marks),
    )
    _write(edf, path, overwrite)


def _edfio() -> Any:
    try:
        import edfio
    except ImportError:
        raise ValueError("EDF needs edfio: pip install 'tsattn[neuro]'") from None
    return edfio


def _open(path: Path) -> Any:
    edfio = _edfio()
    with path.open("rb") as file:
        if file.read(8) != b"0       ":
            raise ValueError("it is no EDF file, whatever its ending says.")
    try:
        return edfio.read_edf(path)
    except Exception as problem:  # edfio's own message may quote the header
        raise ValueError(f"its EDF header or data cannot be read ({type(problem).__name__}).") from None


def _scrub(signal: Any) -> None:
    """Blank a signal's fields for free text; samples, name and ranges stay, to the last character of the header."""
    if not signal.label.isascii():
        raise ValueError("A channel of the EDF file has a name that is no ASCII text, which EDF does not allow.")
    if not FILTER.fullmatch(signal.prefiltering):
        signal.prefiltering = ""
    if re.fullmatch("[^ -~]V", signal.physical_dimension):  # a micro sign
        signal.physical_dimension = "uV"
    signal.transducer_type = ""
    signal._set_reserved("")  # has no public setter


def _checked(events: pd.DataFrame, duration: float, names: Sequence[str], allow: Collection[str]) -> pd.DataFrame:
    events = scrubbed(check_events(events, duration, overlapping="keep"), allow)
    for row, told in events["channels"].items():
        unknown = sorted(set(told.split(",")) - {"all", *names})
        if unknown:
            raise ValueError(f"Event row {row} is of channel {unknown[0]!r}, which the recording does not have.")
    return events


def _annotations(events: pd.DataFrame) -> list[Any]:
    edfio = _edfio()
    return [
        edfio.EdfAnnotation(onset, duration, kind + ("" if name == "all" else f"@@{name}"))
        for onset, duration, kind, channels in events[["onset", "duration", "event_type", "channels"]].to_numpy()
        for name in channels.split(",")
    ]


def _range(row: np.ndarray) -> tuple[float, float]:
    """A channel's range in numbers that fit 8 characters, and never without width."""
    low, high = float(row.min()), float(row.max())
    digits = 7 - len(str(int(max(abs(low), abs(high)))))  # sign, point
    if digits < 0:
        raise ValueError(f"A sample is {max(abs(low), abs(high)):g} uV, which EDF's header has no room for.")
    step = 10.0 ** -max(digits - 1, 0)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return (round(low, digits), round(high, digits)) if high > low else (low - 1, low + 1)


def _record(duration: float, lengths: Sequence[int]) -> float:
    """The data record nearest to 1 s that cuts the recording without a rest and is exact in EDF's 8 characters."""
    common = math.gcd(*lengths)
    counts = [n for n in _divisors(common) if sum(lengths) // n * 2 <= RECORD_BYTES or n == common]
    for records in sorted(counts, key=lambda n: abs(math.log(duration / n))):
        record = duration / records
        if len(str(record).removesuffix(".0")) <= 8 and record * records == duration and _exact(record, records):
            return record
    raise ValueError(
        f"{max(lengths)} samples in {duration:.6f} s cannot be cut into EDF data records without a rest: "
        "leave out some samples at the end (rest='leave out'), or write the annotations only."
    )


def _divisible(samples: int, sfreq: float) -> int:
    """The most of `samples` that records of a simple length hold; all of them if some record divides them."""
    try:
        _record(samples / sfreq, [samples])
    except ValueError:
        steps = [sfreq * record for record in (1.0, 0.5, 0.25, 0.125)]
        return max((samples // int(step) * int(step) for step in steps if step == int(step)), default=samples)
    return samples


def _divisors(number: int) -> list[int]:
    small = [n for n in range(1, math.isqrt(number) + 1) if number % n == 0]
    return sorted({*small, *(number // n for n in small)})


def _exact(record: float, records: int) -> bool:
    """Whether every record's onset, as edfio computes and writes it, is the exact multiple of the record's length."""
    step = Decimal(str(record))
    return all(Decimal(str(float(onset))) == i * step for i, onset in enumerate(np.arange(records) * record))


def _write(edf: Any, path: str | Path, overwrite: bool) -> None:
    files.refuse_existing(path, overwrite)
    files.write_atomically(path, edf.write)
