"""Events as EDF+ annotations: a file of annotations only, or a new copy of a recording with them (through edfio).

Each event is one annotation, as viewers count them; of one channel it is `sz@@A1` (EDF+, 2.2.4), of several
`sz [A1,A2]`. Headers are scrubbed: no person, no date, no free text. Confidence has no place in EDF+.
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

from tsattn import extras, files
from tsattn.events import lists
from tsattn.events.edf_header import is_edf, read_header
from tsattn.events.edf_marks import WHOLE, annotation_rows, signal_labels
from tsattn.events.edf_time import read_annotations, read_times
from tsattn.events.files import EventFile, scrubbed
from tsattn.events.interpret import Understanding
from tsattn.events.table import check_events, is_seizure, own_channels
from tsattn.events.vocabulary import ANNOTATION, clean, szcore_type

FILTER = re.compile(r"((HP|LP|N):\s*\d+(\.\d+)?\s*Hz\s*)+")  # a prefiltering text that is no free text
RECORD_BYTES = 61440  # EDF's recommended largest data record


def read_edf(path: Path, how: Understanding, called: str = "it") -> EventFile:
    """Read the annotations of an EDF+ or BDF+ file, and the list of seizures that a data set keeps beside it.

    Raises:
        ValueError: If it is no such file, holds no annotations and has no list beside it, or a row is wrong.
    """
    if not is_edf(path):
        raise ValueError("it is not an EDF file, whatever its ending says.")
    header = read_header(path, called, annotations_only=True)
    beside = lists.beside(path)
    if "+" not in header.kind and not any(signal.is_annotation for signal in header.signals) and beside is None:
        raise ValueError("it is EDF without annotations, expected EDF+, or a list of seizures beside it.")
    records = header.held if header.records == -1 else min(header.records, header.held)
    labels = signal_labels(header)
    duration, whole, notes = header.stated, 0.0, header.notes
    if labels:
        clock, annotations, _, told = read_times(path, header, records, called)
        duration, notes = clock.duration, notes + told
    else:
        annotations, told = read_annotations(path, header, records)
        notes += told
        for one in [one for one in annotations if one.text == WHOLE]:
            annotations.remove(one)
            whole = one.duration
        duration = whole or duration
    rows = annotation_rows(annotations, labels, labels, notes)
    found = lists.understand_with(rows, beside, path, how, duration)
    return EventFile(found.events, duration, None, found.background, found.notes)


def annotations_only(events: pd.DataFrame, duration: float) -> bytes:
    """Return an EDF+ file without signals; its header states the recording's length."""
    edfio = _edfio()
    stated = f"recording_duration={np.format_float_positional(round(duration, 6), trim='0')}"
    told = edfio.Recording(equipment_code="tsattn", additional=(stated,))
    marks = _annotations(events) or [edfio.EdfAnnotation(0.0, duration, WHOLE)]  # a file of nothing cannot be made
    edf = edfio.Edf([], annotations=marks, recording=told)
    return bytes(edf.to_bytes())


def annotate_edf(
    source: str | Path,
    path: str | Path,
    events: pd.DataFrame,
    *,
    keep_text: Collection[str] = (),
    overwrite: bool = False,
) -> None:
    """Write a new EDF+ file: the samples of another EDF file, bit for bit, and these annotations in place of its own.

    Args:
        source: An EDF file; it stays as it is.
        path: To make.
        events: `tsattn.events.table`; channels must be among the file's.
        keep_text: Texts of annotations that may pass.
        overwrite: Write over a file that exists already (never over `source`).

    Raises:
        FileExistsError: If `path` exists and `overwrite` is False.
        ValueError: If the source is not an EDF file, has gaps (EDF+D), or an event does not fit it.
    """
    if Path(path).resolve() == Path(source).resolve():
        raise ValueError("The new file would replace the recording itself: choose another path.")
    edfio, edf = _edfio(), _open(Path(source))
    if not edf.num_signals:
        raise ValueError("The EDF file has no signals to copy.")
    if not edf.is_continuous:
        raise ValueError("The EDF file has gaps (EDF+D), which this copy would lose: write the annotations only.")
    marks = _checked(events, edf.duration, edf.labels, keep_text)
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
    keep_text: Collection[str] = (),
    rest: Literal["raise", "leave out"] = "raise",
    overwrite: bool = False,
) -> None:
    """Write a recording that is in memory as a new EDF+ file with annotations.

    Samples become 16-bit integers over each channel's own range: the error is at most half of range / 65535.

    Args:
        signal: Dims `channel` (names) and `time`, attribute `sfreq` in Hz, microvolts (`Recording.to_xarray`).
        path: To make.
        events: `tsattn.events.table`; channels must be among the signal's.
        keep_text: Texts of annotations that may pass.
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
    marks = _checked(events, duration, names, keep_text)
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
    return extras.need_file("edfio", "EDF")


def _open(path: Path) -> Any:
    edfio = _edfio()
    with path.open("rb") as file:
        if file.read(8) != b"0       ":
            raise ValueError("it is not an EDF file, whatever its ending says.")
    try:
        return edfio.read_edf(path)
    except Exception as problem:  # edfio's own message may quote the header
        raise ValueError(f"its EDF header or data cannot be read ({type(problem).__name__}).") from None


def _scrub(signal: Any) -> None:
    """Blank a signal's fields for free text; samples, name and ranges stay, to the last character of the header."""
    if not signal.label.isascii():
        raise ValueError("A channel of the EDF file has a name that is not ASCII text, which EDF does not allow.")
    if not FILTER.fullmatch(signal.prefiltering):
        signal.prefiltering = ""
    if re.fullmatch("[^ -~]V", signal.physical_dimension):  # a micro sign
        signal.physical_dimension = "uV"
    signal.transducer_type = ""
    signal._set_reserved("")  # has no public setter


def _checked(events: pd.DataFrame, duration: float, names: Sequence[str], keep_text: Collection[str]) -> pd.DataFrame:
    events = scrubbed(check_events(events, duration, overlapping="keep"), keep_text)
    for row, told in events["channels"].items():
        unknown = sorted(set(own_channels(told)) - set(names))
        if unknown:
            raise ValueError(f"Event row {row} is of channel {unknown[0]!r}, which the recording does not have.")
    return events


def _annotations(events: pd.DataFrame) -> list[Any]:
    """Return one annotation for each event: `sz`, `sz@@A1`, `sz [A1,A2]`."""
    edfio = _edfio()
    made = []
    for onset, duration, kind, channels, text in events[["onset", "duration", "event_type", "channels", "text"]].values:
        names = [clean(name) for name in own_channels(channels)]
        word = text if text and kind == ANNOTATION else szcore_type(kind) if is_seizure([kind])[0] else kind
        where = "" if not names else f"@@{names[0]}" if len(names) == 1 else f" [{','.join(names)}]"
        made.append(edfio.EdfAnnotation(onset, duration, word + where))
    return made


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
