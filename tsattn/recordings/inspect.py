"""What a recording is, in plain data and in lines for a terminal, without a person, a date or a free text in it."""

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from tsattn.events.table import is_seizure
from tsattn.recordings.checks import (
    BAD_IN_FILE,
    Checks,
    check,
    find_bads,
    listed,
    mark_bads,
    percent,
    shown_reason,
)
from tsattn.recordings.preparation.plan import plan
from tsattn.recordings.preparation.preset import Preset, make_preset
from tsattn.recordings.recording import SIGNAL_TYPES, Note, Recording
from tsattn.recordings.shafts import contact
from tsattn.recordings.subjects import count_told, known

WIDTH = 100
FIRST_ONSETS = 4


@dataclass(frozen=True, eq=False)
class Inspection:
    """What `inspect` found.

    Attributes:
        id: Of the recording.
        subject: Pseudonym.
        subject_known: Whether something says whose it is, so that another subject is another person.
        reader: Which reader opened it, or "" if none did.
        duration: Seconds, gaps included.
        start_known: Whether the file says when it began (the date itself is not told).
        rates: Channels by rate (Hz).
        types: Channels by type.
        units: Channels by the unit in the file.
        shafts: Contacts by electrode, as their names say; empty if the names say nothing.
        positions: How many channels have one.
        coordinate_frame: Of the positions.
        gaps: How many.
        gap_seconds: Of all gaps.
        longest_gap: Seconds.
        events: One entry an event type and text: `type`, `text`, `count`, `seconds` (of all), `first` (the first
            onsets, s).
        bads: Reason by channel.
        channels: What `check` measured, one row a channel.
        looked_at: Seconds that were measured.
        mains: Hz, None if it does not stand out.
        steps: What preparation will do, in words.
        preset: Of that preparation.
        notes: What reading and checking have to say.
    """

    id: str
    subject: str
    subject_known: bool
    reader: str
    duration: float
    start_known: bool
    rates: dict[float, int]
    types: dict[str, int]
    units: dict[str, int]
    shafts: dict[str, int]
    positions: int
    coordinate_frame: str
    gaps: int
    gap_seconds: float
    longest_gap: float
    events: tuple[dict[str, Any], ...]
    bads: dict[str, str]
    channels: pd.DataFrame
    looked_at: float
    mains: float | None
    steps: tuple[str, ...]
    preset: str
    notes: tuple[Note, ...]

    def __str__(self) -> str:
        return text(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data (JSON knows all of it but NaN)."""
        plain = asdict(self) | {"channels": self.channels.reset_index().to_dict("list")}
        return plain | {
            "notes": [asdict(note) for note in self.notes],
            "rates": {f"{k:g}": v for k, v in self.rates.items()},
        }


def inspect(
    recording: Recording, preset: str | Preset = "swec", *, whole: bool = False, checks: Checks | None = None
) -> Inspection:
    """Look at a recording: its header's facts, and its samples in stretches.

    Args:
        recording: To look at.
        preset: Whose steps are told.
        whole: Measure everything that was recorded, not some stretches.
        checks: What `check` found, if it was asked before.

    Raises:
        ValueError: If there is no such preset, or nothing was recorded.
    """
    parameters = make_preset(preset) if isinstance(preset, str) else preset
    checks = check(recording, whole=whole) if checks is None else checks
    judged = mark_bads(recording, parameters.bad_rules, checks) if parameters.bad_rules else recording
    steps, doubts = _plan(judged, parameters)
    table = recording.channels
    marked = table[table["status"] == "bad"]
    bads = {row["name"]: shown_reason(row["reason"]) for _, row in marked.iterrows()}
    for name, reason in find_bads(recording, checks=checks).items():
        bads[name] = reason if bads.get(name, BAD_IN_FILE) == BAD_IN_FILE else bads[name]
    lengths = [end - begin for begin, end in recording.gaps]
    placed = table[["x", "y", "z"]].notna().all(axis=1)
    return Inspection(
        id=recording.id,
        subject=recording.subject,
        subject_known=known(recording),
        reader=str(recording.about.get("reader", "")),
        duration=recording.duration,
        start_known=recording.start is not None,
        rates=_counts(table["sfreq"]),
        types=_counts(table["type"]),
        units=_counts(table["unit"]),
        shafts=_shafts(recording),
        positions=int(placed.sum()),
        coordinate_frame=recording.coordinate_frame,
        gaps=len(lengths),
        gap_seconds=float(sum(lengths)),
        longest_gap=float(max(lengths, default=0.0)),
        events=tuple(_event_rows(recording.events)),
        bads={name: bads[name] for name in table["name"] if name in bads},
        channels=checks.channels,
        looked_at=checks.seconds,
        mains=checks.mains,
        steps=steps,
        preset=parameters.name,
        notes=_apart([*recording.notes, *checks.notes, *doubts]),
    )


def text(found: Inspection, full: bool = False) -> str:
    """Return lines for a terminal of 100 columns.

    Args:
        found: By `inspect`.
        full: With a line for each channel.
    """
    size = found.channels.shape[0]
    rates = ", ".join(
        f"{rate:g} Hz" + (f" ({count})" if len(found.rates) > 1 else "") for rate, count in found.rates.items()
    )
    units = {unit or "not stated": count for unit, count in found.units.items()}
    lines = [
        found.id,
        _line("subject", found.subject if found.subject_known else "not known"),
        _line("length", f"{clock_text(found.duration)}; start time {'known' if found.start_known else 'unknown'}"),
        _line("channels", f"{size} ({_told(found.types)}) at {rates}"),
        _line("units", f"{_told(units) if len(units) > 1 else next(iter(units))} in the file"),
    ]
    if found.reader:
        lines.insert(2, _line("reader", found.reader))
    if found.shafts:
        lines.append(_line("shafts", ", ".join(f"{name} ({count})" for name, count in found.shafts.items())))
    frame = f", frame {found.coordinate_frame}" if found.positions else ""
    lines.append(
        _line("positions", f"of {found.positions} of {size} channels{frame}" if found.positions else "unknown")
    )
    gaps = f"{found.gaps}, {clock_text(found.gap_seconds)} in all, the longest {clock_text(found.longest_gap)}"
    lines.append(_line("gaps", gaps if found.gaps else "none"))
    if not found.events:
        lines.append(_line("events", "none"))
    for i, row in enumerate(found.events):
        more = ", ..." if row["count"] > len(row["first"]) else ""
        length = f", {clock_text(row['seconds'])} in all" if row["seconds"] > 0 else ""
        at = ", ".join(clock_text(onset) for onset in row["first"])
        called = row["type"] + (f" {row['text']!r}" if row["text"] else "")
        lines.append(_line("" if i else "events", f"{row['count']} x {called}{length}, at {at}{more}"))
    looked = f"looked at {clock_text(found.looked_at)}"
    brain = found.channels[found.channels["type"].isin(SIGNAL_TYPES)]
    measured = (brain if len(brain) else found.channels)["spread"].median()
    mains = f", mains {found.mains:g} Hz" if found.mains else ""
    lines.append(_line("signal", f"median spread {measured:.3g} µV{mains} ({looked})"))
    lines += _bad_lines(found.bads)
    lines.append(_line("will do", f"by preset {found.preset}:"))
    lines += [_line("", f"{i + 1}. {step}") for i, step in enumerate(found.steps)]
    lines += [_line("warning" if note.level == "warning" else "note", note.told) for note in found.notes]
    if full:
        lines += ["", textwrap.indent(channel_table(found), "  ")]
    return "\n".join(lines)


def channel_table(found: Inspection) -> str:
    """Return one line a channel: type, shares that are not zero, spread, offset, step."""
    table = found.channels
    shown = pd.DataFrame({"type": table["type"]})
    for name in ("missing", "flat", "clipped", "mains"):
        shown[name] = ["" if pd.isna(share) or share < 5e-4 else percent(share) for share in table[name]]
    for name in ("spread", "offset", "step"):
        shown[name + " µV"] = [f"{value:.3g}" for value in table[name]]
    shown["bad"] = [found.bads.get(str(name), "").partition(":")[0][:24] for name in table.index]
    return shown.rename_axis(None).to_string(justify="right")


def summary(found: Sequence[Inspection]) -> str:
    """Return one line a recording."""
    rows = [
        {
            "recording": row.id if len(row.id) <= 40 else "…" + row.id[-39:],
            "length": clock_text(row.duration),
            "ch": row.channels.shape[0],
            "Hz": "/".join(f"{rate:g}" for rate in row.rates),
            "gaps": row.gaps or "",
            "sz": sum(entry["count"] for entry in row.events if is_seizure([entry["type"]])[0]) or "",
            "bad": len(row.bads) or "",
            "warnings": sum(note.level == "warning" for note in row.notes) or "",
        }
        for row in found
    ]
    total = clock_text(sum(row.duration for row in found))
    table = pd.DataFrame(rows).to_string(index=False, justify="right")
    people = count_told(found, [not row.subject_known for row in found])
    return f"{table}\n\n{len(found)} recordings of {people}, {total} in all"


def clock_text(seconds: float) -> str:
    """Return h:mm:ss, with tenths under a minute."""
    if seconds < 59.95:
        return f"0:00:{seconds:04.1f}"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _line(head: str, told: str) -> str:
    return textwrap.fill(
        told, WIDTH, initial_indent=f"  {head:<10}", subsequent_indent=" " * 12, break_long_words=False
    )


def _bad_lines(bads: dict[str, str]) -> list[str]:
    """Give channels with one reason together; numbers in a reason stay with a single channel."""
    if not bads:
        return [_line("bad", "none")]
    groups: dict[str, list[str]] = {}
    for name, reason in bads.items():
        groups.setdefault(reason.partition(":")[0], []).append(name)
    told = [f"{listed(names, 8)} ({bads[names[0]] if len(names) == 1 else kind})" for kind, names in groups.items()]
    return [_line("" if i else "bad", f"{line}") for i, line in enumerate(told)]


def _counts(column: pd.Series) -> dict[Any, int]:
    return {key: int(count) for key, count in column.value_counts().items()}


def _told(counts: dict[Any, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _event_rows(events: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    texts = events.get("text", pd.Series("", index=events.index))
    for (kind, text), group in events.groupby([events["event_type"], texts], sort=False):
        onsets = group["onset"].dropna().head(FIRST_ONSETS).tolist()
        seconds = float(group["duration"].clip(lower=0).sum())
        rows.append({"type": str(kind), "text": str(text), "count": len(group), "seconds": seconds, "first": onsets})
    return sorted(rows, key=lambda row: (not is_seizure([row["type"]])[0], row["type"], row["text"]))


def _apart(notes: Sequence[Note]) -> tuple[Note, ...]:
    """Leave out what was said before in the same words (up to a colon: two looks measure a little apart)."""
    seen: dict[str, Note] = {}
    for note in notes:
        seen.setdefault(note.text.partition(":")[0], note)
    return tuple(sorted(seen.values(), key=lambda note: note.level != "warning"))


def _plan(recording: Recording, preset: Preset) -> tuple[tuple[str, ...], list[Note]]:
    """Say what preparation does to this recording, step by step, and what it warns of."""
    try:
        chain = plan(recording, preset)
    except ValueError as problem:
        return ("nothing: it cannot be prepared so",), [Note("warning", str(problem))]
    steps = [_in_words(step) for step in chain.steps if step.get("method") or step["step"] != "resample"]
    if recording.gaps:
        steps.append("leave gaps missing (NaN); filters begin anew after each")
    return tuple(steps), [note for note in chain.notes if note.level == "warning"]


def _in_words(step: dict[str, Any]) -> str:
    if step["step"] == "channels":
        fate = "dropped" if step["bads"] == "drop" else "kept and marked, and in no reference"
        told = f"; {len(step['bad'])} bad ones {fate}" if step["bad"] else ""
        return f"keep {step['to']} of {step['from']} channels (signals only{told}), in microvolts"
    if step["step"] == "resample":
        way = "polyphase" if step["method"] == "polyphase" else "linear interpolation, which aliases"
        return f"resample {step['channels']} channels from {step['from']:g} Hz to {step['to']:g} Hz, {way}"
    if step["step"] == "notch":
        told = ", ".join(f"{frequency:g}" for frequency in step["frequencies"])
        return f"notch at {told} Hz (quality {step['quality']:g}, zero phase)"
    if step["step"] == "band":
        low, high = (f"{edge:g}" if edge else "open" for edge in step["band"])
        return f"band-pass {low} to {high} Hz, Butterworth of order {step['order']} forwards and backwards"
    if step["step"] == "reference":
        what = "along shafts" if "shafts" in step else "of all good channels at each instant"
        return f"{step['method']} reference {what}, {step['to']} channels"
    return ", ".join(f"{key} {value}" for key, value in step.items())


def _shafts(recording: Recording) -> dict[str, int]:
    """Return the contacts of each shaft; channels of the brain's signal only."""
    names = recording.channels["name"][recording.channels["type"].isin(("seeg", "ecog", "dbs"))]
    found: dict[str, int] = {}
    for place in filter(None, map(contact, names)):
        found[place[0]] = found.get(place[0], 0) + 1
    return found
