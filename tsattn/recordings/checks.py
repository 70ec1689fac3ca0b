"""Is a recording what it says? Flat, clipped, duplicate, mains-only and wrongly scaled channels; gaps, clock, events.

A few stretches are looked at (all of it, if asked), so a day costs seconds; what was measured and how stands in
`measures.py`. Thresholds were set on the real recordings and the simulator that the tests name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from tsattn.recordings import units
from tsattn.recordings.measures import MAD_TO_SD, MAINS, PROMINENT, Tally, spans
from tsattn.recordings.recording import SIGNAL_TYPES, Note, Recording

BAD_IN_FILE = "called bad by the file"
RULES = {  # a channel is bad if the measure is at least this
    "missing": 0.5,  # share of the observed time in which this channel has no samples while others have
    "flat": 0.2,  # share of seconds that are constant to one step of the values, pauses of all channels left out
    "clipped": 0.02,  # share of samples at the highest or lowest value, in runs of three or more
    "mains": 0.5,  # share of power above 1 Hz at the mains and harmonics, and MAINS_OUTLIER times the median channel's
    "duplicate": 1.0,  # the same signal as an earlier channel, up to scale, offset and rounding
    "unit": 300.0,  # spread over the median channel's, or under by this factor, and outside of `units.PLAUSIBLE`
}
MAINS_OUTLIER = 10.0  # mains that is as strong in every channel is the room's, and a notch takes it
COARSE = 4.0  # steps of the values within the spread; fewer are worth a word


@dataclass(frozen=True, eq=False)
class Checks:
    """What was found in a recording's samples.

    Attributes:
        channels: One row a channel, index is its name: `type`, `sfreq` (Hz), `missing`, `flat`, `clipped`, `mains`
            (shares in [0, 1], see `RULES`), `mains_uv` (µV, root mean square at the mains), `spread` (µV, median
            absolute deviation scaled to a standard deviation), `offset` (µV, median), `step` (µV, the smallest step
            of the values), `duplicate_of` (a name, or ""), `scale` (of this channel to that one).
        notes: What to say of the whole recording.
        mains: Hz, 50 or 60; None if neither stands out or the rate is too low.
        seconds: How much was looked at.
    """

    channels: pd.DataFrame
    notes: tuple[Note, ...]
    mains: float | None
    seconds: float


def check(recording: Recording, stretches: int = 20, seconds: float = 10.0, whole: bool = False) -> Checks:
    """Measure every channel in stretches spread over a recording, first and last included.

    Args:
        recording: To look at; mixed rates are fine.
        stretches: How many stretches.
        seconds: Length of each; less if the channels would not fit into memory.
        whole: Look at everything that was recorded, stretch by stretch.
    """
    table = recording.channels
    parts, notes = [], []
    for sfreq in table["sfreq"].unique().tolist():
        group = table[table["sfreq"] == sfreq]
        rows = group.index.to_numpy()
        judged = group["type"].isin(SIGNAL_TYPES).to_numpy() & (group["status"] != "bad").to_numpy()
        tally = Tally(len(rows), sfreq, judged)
        for start, stop in spans(recording, sfreq, stretches, seconds, whole, len(rows)):
            tally.add(recording.read(start, stop, rows.tolist()))
        if tally.samples == 0:
            raise ValueError(
                f"{recording.id} has nothing recorded in its {recording.duration:g} s: all of it is a gap."
            )
        chosen, prominence = tally.mains()
        parts.append((tally, chosen, _rows(group, tally, chosen)))
        notes += _group_notes(group["name"].to_numpy(), tally, chosen, prominence)
    channels = pd.concat([part for _, _, part in parts]).loc[table["name"]]
    mains = next((MAINS[chosen] for _, chosen, _ in parts if chosen is not None), None)
    looked = sum(tally.samples / tally.sfreq for tally, _, _ in parts) / len(parts)
    bad = table.set_index("name")["status"] == "bad"
    notes += [*clock_notes(recording), *event_notes(recording), *_channel_notes(channels, bad)]
    return Checks(channels, tuple(notes), mains, looked)


def find_bads(
    recording: Recording,
    rules: Sequence[str] | Mapping[str, float] = tuple(RULES),
    checks: Checks | None = None,
) -> dict[str, str]:
    """Return which channels of the brain's signal are bad by these rules, each with the reason and its number.

    Args:
        recording: To look at.
        rules: Names in `RULES`, or names with thresholds of your own.
        checks: What `check` found, if it was asked before.

    Returns:
        Reason by channel, in the order of the channels: `{"A3": "flat: 71 % of the time"}`. Channels that the
        recording itself calls bad are judged like the others.
    """
    unknown = [name for name in rules if name not in RULES]
    if unknown:
        raise ValueError(f"There is no rule {unknown[0]!r} for bad channels, expected some of {', '.join(RULES)}.")
    limits = dict(rules) if isinstance(rules, Mapping) else {name: RULES[name] for name in rules}
    table = (checks or check(recording)).channels
    brain = table[table["type"].isin(SIGNAL_TYPES)]
    usual = brain["spread"][brain["spread"] > 0].median()
    strength = (brain["mains_uv"] ** 2).median()
    found = {}
    for name, row in brain.iterrows():
        reasons = [_reason(rule, limits[rule], row, usual, strength) for rule in RULES if rule in limits]
        reason = next(filter(None, reasons), "")
        if reason:
            found[str(name)] = reason
    return found


def mark_bads(
    recording: Recording,
    rules: Sequence[str] | Mapping[str, float] = tuple(RULES),
    checks: Checks | None = None,
) -> Recording:
    """Return the recording with the channels that `find_bads` names called bad, beside those that were.

    Args:
        recording: To look at; it stays as it is.
        rules: As in `find_bads`.
        checks: What `check` found, if it was asked before.
    """
    table = recording.channels.copy()
    for name, reason in find_bads(recording, rules, checks).items():
        table.loc[table["name"] == name, ["status", "reason"]] = ["bad", reason]
    return replace(recording, channels=table)


def shown_reason(reason: str) -> str:
    """Return why a channel is bad, in our words; a file's own words may be anybody's."""
    return reason if reason.partition(":")[0] in RULES else BAD_IN_FILE


def _reason(rule: str, limit: float, row: pd.Series, usual: float, strength: float) -> str:
    if rule == "duplicate":
        return f"duplicate: same signal as {row['duplicate_of']}" if row["duplicate_of"] else ""
    if rule == "unit":
        spread = row["spread"]
        low, high = (edge * MAD_TO_SD for edge in units.PLAUSIBLE)
        if not spread > 0 or low <= spread <= high or 1 / limit < spread / usual < limit:
            return ""
        return f"unit: spread {spread:.3g} µV, median channel {usual:.3g} µV"
    if rule == "mains" and not row["mains_uv"] ** 2 >= MAINS_OUTLIER * strength:
        return ""
    share = row[rule]
    words = {
        "missing": "missing: {} of the recorded time",
        "flat": "flat: {} of the time",
        "clipped": "clipped: {} of the samples at the highest or lowest value",
        "mains": "mains: {} of the power",
    }
    return words[rule].format(percent(share)) if share >= limit else ""


def percent(share: float) -> str:
    """Return a share as a rounded percentage; small ones keep one digit."""
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.1g} %"


def _rows(group: pd.DataFrame, tally: Tally, chosen: int | None) -> pd.DataFrame:
    share, power = tally.mains_share(chosen)
    names = group["name"].to_numpy()
    table = pd.DataFrame(
        {
            "type": group["type"].to_numpy(),
            "unit": group["unit"].to_numpy(),
            "sfreq": tally.sfreq,
            "missing": tally.missing / tally.samples,
            "flat": tally.flat(),
            "clipped": tally.clipped(),
            "mains": share,
            "mains_uv": np.sqrt(power),
            "spread": tally.middle(tally.spread),
            "offset": tally.middle(tally.offset),
            "step": np.where(np.isfinite(tally.step), tally.step, np.nan),
            "duplicate_of": "",
            "scale": np.nan,
        },
        index=pd.Index(names, name="name"),
    ).astype({"duplicate_of": object})
    for first, second, scale in reversed(tally.duplicates()):  # the first of a group is the one that is kept
        table.loc[names[second], ["duplicate_of", "scale"]] = [names[first], scale]
    return table


def _group_notes(names: np.ndarray, tally: Tally, chosen: int | None, prominence: np.ndarray) -> list[Note]:
    notes = []
    paused = tally.paused()
    if paused > 0:
        notes.append(
            Note(
                "warning",
                f"{percent(paused)} of the seconds looked at are constant in nearly all channels at once: a pause that "
                "was written as values. It is not marked as a gap.",
            )
        )
    if chosen is not None:
        above = int((prominence[tally.judged] > PROMINENT).sum())
        notes.append(
            Note("info", f"Mains at {MAINS[chosen]:g} Hz stands out in {above} of {tally.judged.sum()} channels.")
        )
    return notes


def _channel_notes(channels: pd.DataFrame, bad: pd.Series) -> list[Note]:
    brain = channels[channels["type"].isin(SIGNAL_TYPES)]
    good = brain[~bad.loc[brain.index]]
    notes = []
    doubt = _unit_doubt(good)
    if doubt:
        notes.append(Note("warning", doubt))
    drowned = int((good["mains"] >= RULES["mains"]).sum())
    if drowned > len(good) / 2:
        notes.append(
            Note("warning", f"In {drowned} of {len(good)} channels over half of the power is mains. A notch is needed.")
        )
    coarse = good[(good["spread"] > 0) & (good["spread"] < COARSE * good["step"])]
    if len(coarse):
        notes.append(Note("warning", f"The spread of {listed(coarse.index)} is under {COARSE:g} steps of the values."))
    twins = brain[brain["duplicate_of"] != ""]
    if len(twins):
        told = [f"{name} = {row['scale']:.4g} x {row['duplicate_of']}" for name, row in twins.iterrows()]
        notes.append(Note("warning", f"The same signal under two names: {listed(told)}."))
    return notes


def unit_doubt(checks: Checks) -> str | None:
    """Return why a recording's values cannot be microvolts, in a sentence; None if they can."""
    return _unit_doubt(checks.channels[checks.channels["type"].isin(SIGNAL_TYPES)])


def _unit_doubt(channels: pd.DataFrame) -> str | None:
    lively = channels["spread"][channels["spread"] > 0]
    if not len(lively):
        return None
    return units.doubt(float(lively.median()) / MAD_TO_SD, str(channels["unit"][lively.index].mode()[0]))


def clock_notes(recording: Recording) -> list[Note]:
    """Return what does not fit between length, rates and gaps. (A file shorter than its clock: `Recording.read`.)"""
    notes = []
    for sfreq in recording.channels["sfreq"].unique():
        exact = recording.duration * sfreq
        if abs(exact - round(exact)) > 1e-3 * max(1.0, exact * 1e-9):
            notes.append(
                Note(
                    "info",
                    f"The duration is {exact:.3f} samples at {sfreq:g} Hz, which is not a whole number: rounded.",
                )
            )
    lost = sum(min(end, recording.duration) - begin for begin, end in recording.gaps)
    if lost > 0.5 * recording.duration:
        notes.append(Note("warning", f"{percent(lost / recording.duration)} of the recording's time is in gaps."))
    return notes


def event_notes(recording: Recording) -> list[Note]:
    """Return what is wrong with events: outside of the recording, without duration, in a gap."""
    events = recording.events
    if events.empty:
        return []
    onset, end = events["onset"], events["onset"] + events["duration"]
    before = np.array([(np.inf, -np.inf), *recording.gaps])  # the last gap that begins before an event does, if any
    place = np.searchsorted(before[1:, 0], onset, side="right")
    wrong = {
        "have no onset or duration": onset.isna() | events["duration"].isna(),
        "have a negative duration": events["duration"] < 0,
        "reach outside of the recording": (onset < 0)
        | (end > recording.duration + 1 / recording.channels["sfreq"].min()),
        "lie wholly in a gap": onset.ge(before[place, 0]) & end.le(before[place, 1]),
    }
    return [
        Note("warning", f"{which.sum()} of {len(events)} events {what}.")
        for what, which in wrong.items()
        if which.any()
    ]


def listed(names: Sequence[str] | pd.Index, most: int = 6) -> str:
    """Return names joined by commas, the rest as a number."""
    told = ", ".join(map(str, names[:most]))
    return told if len(names) <= most else f"{told} and {len(names) - most} more"
