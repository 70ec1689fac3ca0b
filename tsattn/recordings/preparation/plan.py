"""Plan the preparation of one recording: what is kept, at which rate, with which filters, and whether it can be done.

Reads no samples, so everything that cannot be done is said before the first one is written.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tsattn import messages
from tsattn.recordings.checks import shown_reason
from tsattn.recordings.preparation.chain import Chain, Rate
from tsattn.recordings.preparation.filters import design, harmonics, padding, reach
from tsattn.recordings.preparation.preset import Preset
from tsattn.recordings.preparation.reference import INTRACRANIAL, Montage, make_montage
from tsattn.recordings.preparation.resample import Resampler, rate_ratio
from tsattn.recordings.recording import Note, Recording
from tsattn.recordings.shafts import shafts

Span = tuple[int, int]
ALIASES = (
    "resample='ibm-linear' aliases, without an anti-aliasing filter: what lies above the new Nyquist frequency comes "
    "back as a lower one. It is there to compare with IBM's loader; use 'polyphase' for anything else."
)


def plan(recording: Recording, preset: Preset) -> Chain:
    """Decide what is done to a recording.

    Args:
        recording: What to prepare.
        preset: How.

    Raises:
        ValueError: If no channel is left, a frequency is too high for the rate, or it is too short for the filters.
    """
    kept, notes = _keep(recording, preset)
    found = sorted(kept.channels["sfreq"].unique().tolist())
    sfreq = preset.sfreq or found[-1]
    samples = round(kept.duration * sfreq)
    if samples < 1:
        raise ValueError(f"{recording.id} lasts {kept.duration:g} s, which is not one sample at {sfreq:g} Hz.")
    rates = tuple(_rate(kept, old, sfreq, preset) for old in found)
    sos = design(preset, sfreq)
    pad = 0 if sos is None else padding(preset, sfreq)
    overlap = 0 if sos is None else max(reach(sos), pad + 1)
    names = recording.channels["name"][recording.channels["type"].isin(INTRACRANIAL)].tolist()
    montage = make_montage(kept.channels.assign(sfreq=sfreq, unit="uV"), preset.reference, names)
    gaps, too_short = _gaps(kept, rates, samples, pad / sfreq, sfreq)
    notes += [*montage.notes, *too_short, *_doubts(rates, preset, sfreq)]
    steps = _steps(recording, kept, preset, rates, sfreq, overlap, pad, montage)
    return Chain(kept, preset, sfreq, samples, rates, sos, overlap, pad, montage, gaps, tuple(notes), tuple(steps))


def _keep(recording: Recording, preset: Preset) -> tuple[Recording, list[Note]]:
    table = recording.channels
    signal, bad = table["type"].isin(preset.types), table["status"] == "bad"
    if not signal.any():
        there = ", ".join(sorted(set(table["type"])))
        raise ValueError(
            f"{recording.id} has no channel of type {', '.join(preset.types)} (it has {there})."
            + messages.hint(
                "say what its channels are by {type}", "which by {signals}", "which types to keep by {types}"
            )
        )
    if not (signal & ~bad).any():
        raise ValueError(f"{recording.id}: all {int(signal.sum())} signal channels are bad, expected a good one.")
    notes = []
    if not signal.all():
        others = ", ".join(f"{n} {kind}" for kind, n in table["type"][~signal].value_counts().items())
        notes.append(Note("info", f"Channels of other types are left out: {others}."))
    if (signal & bad).any():
        fate = "left out" if preset.bads == "drop" else "kept, but no reference uses them"
        notes.append(Note("info", f"{int((signal & bad).sum())} bad channels are {fate}."))
    kept = signal & ~bad if preset.bads == "drop" else signal
    return recording.pick(table["name"][kept].tolist()), notes


def _rate(recording: Recording, old: float, new: float, preset: Preset) -> Rate:
    rows = tuple(np.flatnonzero(recording.channels["sfreq"] == old).tolist())
    ratio = rate_ratio(old, new, recording.duration)
    gaps = tuple((round(begin * old), round(end * old)) for begin, end in recording.gaps)
    resampler = Resampler(ratio.numerator, ratio.denominator, preset.resample)
    return Rate(old, rows, round(recording.duration * old), gaps, resampler)


def _gaps(
    recording: Recording, rates: Sequence[Rate], samples: int, pad: float, sfreq: float
) -> tuple[tuple[Span, ...], list[Note]]:
    """Return the gaps on the new grid, with the stretches that are too short for the filters; and a note on these."""
    whole: list[Span] = []
    short: list[float] = []
    for number in range(len(recording.gaps) + 1):
        low, high = 0, samples
        long_enough = True
        for rate in rates:
            begin = rate.gaps[number - 1][1] if number else 0
            end = rate.gaps[number][0] if number < len(rate.gaps) else rate.samples
            long_enough &= end - begin > rate.resampler.padding
            low, high = max(low, rate.resampler.place(begin)), min(high, rate.resampler.place(end))
        if long_enough and high - low > pad * sfreq:
            whole.append((low, high))
        elif high > low:
            short.append((high - low) / sfreq)
    if not whole:
        raise ValueError(
            f"{recording.id} has no stretch without a gap that is long enough for the filters (above {pad:g} s): "
            "choose the preset raw, or a band that begins at a higher frequency."
        )
    edges = [0, *(edge for span in whole for edge in span), samples]
    gaps = tuple((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a)
    if not short:
        return gaps, []
    text = (
        f"{len(short)} stretches between gaps ({sum(short):.3g} s) are too short for the filters and count as missing."
    )
    return gaps, [Note("warning", text)]


def _doubts(rates: Sequence[Rate], preset: Preset, sfreq: float) -> list[Note]:
    notes = []
    changed = [rate for rate in rates if not rate.resampler.same]
    if changed:
        told = ", ".join(f"{rate.sfreq:.7g} ({len(rate.rows)} channels)" for rate in rates)
        notes.append(Note("info", f"Brought to {sfreq:.7g} Hz from {told}."))
    if preset.resample == "ibm-linear" and any(rate.sfreq > sfreq for rate in changed):
        notes.append(Note("warning", ALIASES))
    high = (preset.band or (None, None))[1]
    low = min(rate.sfreq for rate in rates)
    if low / 2 < (high or 0):
        notes.append(
            Note("warning", f"Recorded at {low:g} Hz: the band above {low / 2:g} Hz is empty in some channels.")
        )
    return notes


def _steps(
    recording: Recording,
    kept: Recording,
    preset: Preset,
    rates: Sequence[Rate],
    sfreq: float,
    overlap: int,
    pad: int,
    montage: Montage,
) -> list[dict[str, Any]]:
    """Return what is done as plain data, in order."""
    table = recording.channels[recording.channels["status"] == "bad"]
    bad = dict(zip(table["name"], map(shown_reason, table["reason"]), strict=True))
    step = {"step": "channels", "from": len(recording.channels), "to": len(kept.channels)}
    steps: list[dict[str, Any]] = [step | {"bads": preset.bads, "bad_rules": list(preset.bad_rules), "bad": bad}]
    for rate in rates:
        step = {"step": "resample", "channels": len(rate.rows), "from": rate.sfreq, "to": sfreq}
        if not rate.resampler.same:
            step |= {"method": preset.resample, "up": rate.resampler.up, "down": rate.resampler.down}
            step |= {"taps": len(rate.resampler.taps)}
        steps.append(step)
    both = {"phase": "zero (forwards and backwards)", "overlap_s": overlap / sfreq, "padding_s": pad / sfreq}
    if preset.notch is not None:
        frequencies = harmonics(preset.notch, preset.quality, sfreq)
        steps.append({"step": "notch", "frequencies": frequencies, "quality": preset.quality, **both})
    if preset.band is not None:
        steps.append({"step": "band", "band": list(preset.band), "kind": "Butterworth", "order": preset.order, **both})
    if preset.reference != "none":
        step = {"step": "reference", "method": preset.reference, "to": len(montage.channels)}
        if montage.matrix is not None:
            inside = kept.channels["name"][kept.channels["type"].isin(INTRACRANIAL)]
            step["shafts"] = {shaft: list(contacts) for shaft, contacts in shafts(inside.tolist()).items()}
        steps.append(step)
    return steps
