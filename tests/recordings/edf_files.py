"""EDF, EDF+ and BDF written field by field, right or wrong as a test wants it (edfio writes right ones only)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def tal(onset: float, duration: float | None = None, *texts: str) -> bytes:
    length = b"" if duration is None else b"\x15" + f"{duration:g}".encode()
    return f"{onset:+.10g}".encode() + length + b"\x14" + "\x14".join(texts or [""]).encode() + b"\x14\x00"


def write_edf(
    path: Path,
    digital: Sequence[np.ndarray],
    samples: Sequence[int],
    *,
    seconds: float = 1.0,
    labels: Sequence[str] | None = None,
    unit: str | bytes = "uV",
    physical: tuple[float, float] = (-3276.8, 3276.7),
    kind: str = "",
    onsets: Sequence[float] | None = None,
    marks: Sequence[tuple[float, float | None, str]] = (),
    patient: str = "X X X X",
    prefilter: str = "",
    width: int = 2,
    **fields: str,
) -> Path:
    """Write `digital[i]`, `samples[i]` of it a record; `fields` overrule header fields (records, seconds, ...)."""
    records = len(digital[0]) // samples[0]
    labels = list(labels or [f"LA{i + 1}" for i in range(len(digital))])
    lists: list[bytes] = []
    if onsets is not None:
        lists = [tal(onset) for onset in onsets]
        for mark in marks:
            lists[0] += tal(*mark)
        space = -(-max(map(len, lists)) // width) * width
        lists = [one.ljust(space, b"\x00") for one in lists]
        labels.append("EDF Annotations" if width == 2 else "BDF Annotations")
    count = len(labels)
    ints = (-32768, 32767) if width == 2 else (-8388608, 8388607)
    n = [*samples, *([len(lists[0]) // width] if lists else [])]
    units = [unit] * len(digital) + [""] * bool(lists)

    def column(values: Sequence[object], length: int) -> bytes:
        return b"".join(
            (v if isinstance(v, bytes) else str(v).encode("latin-1")).ljust(length)[:length] for v in values
        )

    fixed = {
        "version": ("0", 8),
        "patient": (patient, 80),
        "recording": ("Startdate 02-JAN-2020 X X X", 80),
        "date": ("02.01.20", 8),
        "time": ("03.04.05", 8),
        "bytes": (256 * (count + 1), 8),
        "reserved": (kind, 44),
        "records": (records, 8),
        "lasting": (f"{seconds:g}", 8),
        "signals": (count, 4),
    }
    header = b"".join(column([fields.get(name, value)], length) for name, (value, length) in fixed.items())
    if width == 3:
        header = b"\xffBIOSEMI" + header[8:]
    ends = [[fields.get("low", physical[0])] * count, [fields.get("high", physical[1])] * count]
    header += column(labels, 16) + column([""] * count, 80) + column(units, 8)
    header += column(ends[0], 8) + column(ends[1], 8)
    header += column([fields.get("least", ints[0])] * count, 8) + column([fields.get("most", ints[1])] * count, 8)
    header += column([prefilter] * count, 80) + column([fields.get("each", k) for k in n], 8) + column([""] * count, 32)
    with path.open("wb") as file:
        file.write(header)
        for record in range(records):
            for values, k in zip(digital, samples, strict=True):
                part = np.asarray(values[record * k : (record + 1) * k], "<i4")
                file.write(
                    part.astype("<i2").tobytes() if width == 2 else part.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
                )
            if lists:
                file.write(lists[record])
    return path


def noise(channels: int, length: int, seed: int = 0, scale: float = 300.0) -> list[np.ndarray]:
    """Return integers whose spread is that of a signal in microvolts at a tenth of a microvolt per step."""
    return list((np.random.default_rng(seed).normal(size=(channels, length)) * scale).round().astype(int))
