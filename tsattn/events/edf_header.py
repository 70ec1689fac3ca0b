"""The header of EDF, EDF+ and BDF, checked against the file before anything is read or allocated.

Fields: https://www.edfplus.info/specs/edf.html and edfplus.html, https://www.biosemi.com/faq/file_format.htm. edfio has
them, too; it holds a whole BDF in memory, joins the records of an EDF+D, and stops at the first odd number without
saying where. The tests compare what is read here with edfio.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tsattn.events.notes import Note

STATED = re.compile(r"\brecording_duration=(\d+(?:\.\d+)?)")  # in the header of a file of annotations only
MAGIC = {b"0       ": 2, b"\xffBIOSEMI": 3}  # first bytes: width of a sample
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
FIELDS = (16, 80, 8, 8, 8, 8, 8, 80, 8, 32)  # bytes of each field of a signal
ANONYMOUS = {"", "x", "0", "00", "none", "unknown", "anonymous", "anonym", "anonymized", "na", "n/a", "no_name", "-"}
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()


@dataclass(frozen=True)
class Signal:
    """One signal's header: physical value is `(digital - digital_min) * gain + physical_min`."""

    label: str
    dimension: str
    prefilter: str
    physical: tuple[float, float]
    digital: tuple[float, float]
    samples: int  # in a data record
    offset: int  # bytes from the record's start

    @property
    def is_annotation(self) -> bool:
        """Whether it holds EDF+ annotations, not samples."""
        return self.label in ANNOTATIONS


@dataclass(frozen=True)
class Header:
    """What the header says, and what the file holds."""

    signals: tuple[Signal, ...]
    records: int  # promised; -1 if the recorder did not close the file
    held: int  # whole records in the file
    rest: int  # bytes after the last whole record
    record_seconds: float
    record_bytes: int
    header_bytes: int
    width: int  # bytes of a sample
    kind: str  # "EDF", "EDF+C", "EDF+D", "BDF", "BDF+C", "BDF+D"
    start: datetime | None
    person: str  # what the header calls the patient, empty if anonymous: to be hashed, never shown
    notes: tuple[Note, ...] = ()
    stated: float | None = None  # s, of the recording, in a file of annotations only


def is_edf(path: Path) -> bool:
    """Return whether a file begins as EDF or BDF do."""
    with path.open("rb") as file:
        begin = file.read(256)
    return begin[:8] in MAGIC and (len(begin) < 256 or begin[236:244].strip() != b"" or path.suffix.lower() == ".edf")


def read_header(path: Path, called: str, *, annotations_only: bool = False) -> Header:
    """Read and check the header.

    Args:
        path: The file.
        called: How errors may call it.
        annotations_only: Whether a file without a signal will do.

    Raises:
        ValueError: If a number is impossible: which, and what was expected.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        fixed = file.read(256)
        if len(fixed) < 256:
            raise ValueError(f"{called} ends after {len(fixed)} bytes, within the first 256 of its EDF header.")
        width = MAGIC[fixed[:8]]
        count = _integer(fixed[252:256], "number of signals", called, 0)
        if count == 0:
            raise ValueError(f"{called} has no channels: its EDF header says 0 signals, expected at least one.")
        header_bytes = _integer(fixed[184:192], "header length", called, 256)
        if header_bytes != 256 * (count + 1):
            raise ValueError(
                f"{called}: the EDF header says that it has {header_bytes} bytes, expected {256 * (count + 1)} for "
                f"{count} signals."
            )
        if header_bytes > size:
            raise ValueError(f"{called} has {size} bytes, fewer than the {header_bytes} of its EDF header.")
        raw = file.read(256 * count)
    records = _integer(fixed[236:244], "number of data records", called, -1)
    seconds = _number(fixed[244:252], "duration of a data record", called)
    signals = _signals(raw, count, width, called)
    record_bytes = sum(signal.samples for signal in signals) * width
    empty = not any(signal.samples for signal in signals if not signal.is_annotation)
    if empty and not (annotations_only and record_bytes):
        raise ValueError(f"{called} has no channels: {count} signals, none with samples, expected at least one.")
    if seconds < 0 or (seconds == 0 and not empty):
        raise ValueError(f"{called}: a data record lasts {seconds:g} s by the EDF header, expected above 0.")
    held, rest = divmod(size - header_bytes, record_bytes)
    reserved = fixed[192:236].decode("latin-1").strip()
    base = "BDF" if width == 3 else "EDF"
    kind = base + (reserved[3:5] if re.match(r"(EDF|BDF)\+[CD]", reserved) else "")
    patient, recording = fixed[8:88].decode("latin-1").strip(), fixed[88:168].decode("latin-1").strip()
    start, notes = _start(fixed[168:176].decode("latin-1"), fixed[176:184].decode("latin-1"), recording)
    person = _person(patient, "+" in kind)
    whole = re.search(STATED, recording) if empty else None
    stated = float(whole[1]) if whole else None
    counts = (records, held, rest, seconds, record_bytes, header_bytes, width)
    return Header(signals, *counts, kind, start, person, notes, stated)


def _signals(raw: bytes, count: int, width: int, called: str) -> tuple[Signal, ...]:
    columns, at = [], 0
    for length in FIELDS:
        columns.append([raw[at + i * length : at + (i + 1) * length] for i in range(count)])
        at += length * count
    labels, _, dimensions, low, high, least, most, filters, samples, _ = columns
    signals: list[Signal] = []
    offset = 0
    for i in range(count):
        where = f"signal {i + 1}"
        held = _integer(samples[i], f"samples per record of {where}", called, 0)
        label = labels[i].decode("latin-1").strip("\x00 ")
        physical, digital = (math.nan, math.nan), (math.nan, math.nan)
        if label not in ANNOTATIONS:
            physical = (
                _number(low[i], f"physical minimum of {where}", called),
                _number(high[i], f"physical maximum of {where}", called),
            )
            digital = (
                _number(least[i], f"digital minimum of {where}", called),
                _number(most[i], f"digital maximum of {where}", called),
            )
        texts = (dimensions[i].decode("latin-1").strip("\x00 "), filters[i].decode("latin-1").strip("\x00 "))
        signals.append(Signal(label, *texts, physical, digital, held, offset))
        offset += held * width
    return tuple(signals)


def _number(field: bytes, what: str, called: str) -> float:
    try:
        value = float(field.decode("latin-1").strip("\x00 ").replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{called}: the EDF header's {what} is not a number.")
    return value


def _integer(field: bytes, what: str, called: str, least: int) -> int:
    value = _number(field, what, called)
    if value != int(value) or value < least:
        raise ValueError(f"{called}: the EDF header's {what} is {value:g}, expected a whole number from {least}.")
    return int(value)


def _start(date: str, time: str, recording: str) -> tuple[datetime | None, tuple[Note, ...]]:
    """Return when the recording began: by EDF+'s date of four digits, else by the header's own."""
    numbers = [re.findall(r"\d+", text) for text in (date, time)]
    if any(len(parts) != 3 for parts in numbers):
        return None, ()
    day, month, year = map(int, numbers[0])
    clock = numbers[1]
    own = _moment(year + (1900 if year >= 85 else 2000), month, day, clock)
    written = re.match(r"Startdate\s+(\S+)", recording)
    if written is None or written[1].upper() == "X":
        return own, ()
    parts = re.fullmatch(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})", written[1])
    if parts and parts[2].upper() in MONTHS:
        plus = _moment(int(parts[3]), MONTHS.index(parts[2].upper()) + 1, int(parts[1]), clock)
        if plus is not None:
            return plus, ()
    return own, (Note("warning", "The EDF+ date of the start is not a date: the plain header's was taken."),)


def _moment(year: int, month: int, day: int, clock: list[str]) -> datetime | None:
    hour, minute, second = map(int, clock)
    try:
        return datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None


def _person(patient: str, plus: bool) -> str:
    """Return the patient's code, or name, or (before EDF+) the whole field; empty if anonymous."""
    words = patient.split()
    telling = [words[i] for i in (0, 3) if len(words) > i] if plus else [patient]
    known = [word for word in telling if word.casefold() not in ANONYMOUS]
    return known[0] if known and set(words) != {"X"} else ""
