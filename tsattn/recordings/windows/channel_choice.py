"""Which channels of a recording a model reads that has room for fewer: a policy by name, never a silent crop.

"spread" and "ensemble" look at the names alone. "variance" looks at the signal, never at events: at `STRETCHES`
stretches of `SECONDS` s, evenly spread over the parts of the recording that the caller names, or over all of it. The
choice for a window then rests on what comes after it, too: fine for a recording that is complete, not for a detector
at the bedside, which must name a part that lies before.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from tsattn.recordings.measures import MAD_TO_SD, spans
from tsattn.recordings.recording import CLOCK_ROUNDING, SIGNAL_TYPES, Recording
from tsattn.recordings.shafts import contact

MoreChannels = Literal["raise", "spread", "variance", "ensemble"]

STRETCHES = 20
SECONDS = 10.0  # of a stretch
KURTOSIS_LEAST = 20.0  # spikes make up to 13 (F041 of the Bonn recordings); pops of 20 SD, back in 0.1 s, each 5 s: 29
KURTOSIS_OUTLIER = 10.0  # scaled median absolute deviations above the median channel

Parts = Sequence[tuple[float, float]]


def choose_channels(
    recording: Recording,
    max_channels: int | None = None,
    more_channels: MoreChannels = "raise",
    parts: Parts | None = None,
) -> list[list[int]]:
    """Return the channels of each reading of a recording, as places in `recording.channels`, in its order.

    Args:
        recording: With more channels than a model has room for, or not.
        max_channels: Room of the model; None: any number.
        more_channels: Of what is done if there are more. "raise": an error. "spread": one reading of `max_channels`,
            each shaft with its share, evenly along it. "variance": one reading of the `max_channels` channels with the
            largest variance, those with an artefact's kurtosis after all others (see `rank_by_variance`). "ensemble":
            as few readings as will do, each channel in one of them and each reading over all shafts; whoever scores
            takes the mean of their outputs.
        parts: For "variance": `(begin, end)` in seconds of what is looked at; None: the whole recording.

    Returns:
        One list, or for "ensemble" several.

    Raises:
        ValueError: If there are more channels than room, with "raise"; or nothing to look at, with "variance".
    """
    names = recording.names
    if max_channels is not None and max_channels < 1:
        raise ValueError(f"max_channels is {max_channels}, expected at least 1.")
    if max_channels is None or len(names) <= max_channels:
        return [list(range(len(names)))]
    if more_channels == "variance":
        return [sorted(rank_by_variance(recording, parts)[:max_channels])]
    shafts = _shafts(names)
    if more_channels == "spread":
        return [sorted(_spread(shafts, max_channels))]
    if more_channels == "ensemble":
        along = [i for shaft in shafts for i in shaft]
        count = -(-len(names) // max_channels)
        return [sorted(along[k::count]) for k in range(count)]
    raise ValueError(
        f"{recording.id} has {len(names)} channels and the model has room for {max_channels}. Choose "
        'more_channels="spread" (evenly over the shafts), "variance" (the largest, artefacts last) or "ensemble" (all '
        "of them, in several readings), or pick channels when you prepare."
    )


def describe_choice(
    recording: Recording, readings: Sequence[Sequence[int]], more_channels: MoreChannels, parts: Parts | None = None
) -> dict[str, Any]:
    """Return what `choose_channels` chose in plain data, for a record of how a result came about.

    Args:
        recording: As given to `choose_channels`.
        readings: What it returned.
        more_channels: As given to it.
        parts: As given to it.

    Returns:
        `recording` (its id), `policy` ("all" if nothing had to be chosen), `of` and `read` (numbers of channels),
        `readings` (places in `recording.channels`) and `left_out` (names); for "variance" also `looked_at`:
        `stretches` and `seconds` of each, and `parts` (None: the whole recording).
    """
    names = recording.names
    read = {i for reading in readings for i in reading}
    chosen = len(readings) > 1 or len(read) < len(names)
    about: dict[str, Any] = {
        "recording": recording.id,
        "policy": more_channels if chosen else "all",
        "of": len(names),
        "read": len(read),
        "readings": [list(map(int, reading)) for reading in readings],
        "left_out": [name for i, name in enumerate(names) if i not in read],
    }
    if about["policy"] == "variance":
        told = None if parts is None else [[float(begin), float(end)] for begin, end in parts]
        about["looked_at"] = {"stretches": STRETCHES, "seconds": SECONDS, "parts": told}
    return about


def rank_by_variance(recording: Recording, parts: Parts | None = None) -> list[int]:
    """Return all channels of a recording, as places in `recording.channels`, the one to be read first at the front.

    First the channels of falling variance; then those whose kurtosis is an artefact's, of rising kurtosis; last those
    that are no brain signal, that are marked as bad or of which nothing was recorded. Equals keep their order. A
    channel's variance and excess kurtosis (0 for a normal distribution) are medians over stretches, each stretch about
    its own mean: one seizure or one movement changes neither. An artefact's kurtosis lies above `KURTOSIS_LEAST`, and
    above the median of the brain's channels by `KURTOSIS_OUTLIER` median absolute deviations. Spikes have a large
    kurtosis, too: hence the high limits, and hence such channels come late but are not forbidden.

    Args:
        recording: At one rate.
        parts: `(begin, end)` in seconds of what is looked at; None: the whole recording.

    Raises:
        ValueError: If a part lies outside of the recording, or nothing was recorded there.

    Source:
        Our own rule. That channels are chosen by variance and kurtosis is said of iEEG detectors, but we found no
        published statement of how; it is not in the code of MVPFormer (arXiv:2506.20354). To be compared with "spread".
    """
    variance, kurtosis = _moments(recording, parts)
    table = recording.channels
    brain = table["type"].isin(SIGNAL_TYPES).to_numpy() & (table["status"] != "bad").to_numpy() & ~np.isnan(variance)
    shaped = kurtosis[brain & ~np.isnan(kurtosis)]
    middle = float(np.median(shaped)) if len(shaped) else 0.0
    spread = MAD_TO_SD * float(np.median(np.abs(shaped - middle))) if len(shaped) else 0.0
    artefact = brain & (kurtosis > max(KURTOSIS_LEAST, middle + KURTOSIS_OUTLIER * spread))
    rank = np.where(brain, artefact, 2)
    falling = np.where(artefact, kurtosis, -np.nan_to_num(variance))
    return np.lexsort((falling, rank)).tolist()


def _moments(
    recording: Recording, parts: Parts | None
) -> tuple[Float[np.ndarray, " channel"], Float[np.ndarray, " channel"]]:
    """Return variance (µV²) and excess kurtosis, medians over stretches; NaN where none can be told."""
    found = []
    looked = recording if parts is None else _only(recording, parts)
    for start, stop in spans(looked, recording.sfreq, STRETCHES, SECONDS, False, len(recording.names)):
        if stop - start < recording.sfreq:  # under a second between gaps
            continue
        x = recording.read(start, stop).astype(np.float64)
        there = np.isfinite(x)
        count = np.where(2 * there.sum(1) >= x.shape[1], there.sum(1), np.nan)  # half a stretch or nothing
        least = np.where(there, x, np.inf).min(1)
        x[~there] = 0.0
        x -= np.where(np.isfinite(least), least, 0.0)[:, None]  # constants become exact zeros
        x[~there] = 0.0
        x -= (x.sum(1) / count)[:, None]
        x[~there] = 0.0
        x *= x
        second = x.sum(1) / count
        x *= x
        fourth = x.sum(1) / count
        found.append((second, fourth / np.where(second > 0, second, np.nan) ** 2 - 3.0))
    if not found:
        where = "its" if parts is None else "the given parts of its"
        raise ValueError(
            f"{recording.id} has no second on end recorded in {where} {recording.duration:g} s, expected signal to "
            'choose channels by variance: choose more_channels="spread", or other parts.'
        )
    middle = np.ma.median(np.ma.masked_invalid(np.array(found)), axis=0)
    variance, kurtosis = np.ma.filled(middle, np.nan)
    return variance, kurtosis


def _only(recording: Recording, parts: Parts) -> Recording:
    """Return the recording with gaps wherever no part lies."""
    outside, at = [], 0.0
    for begin, end in sorted(parts):
        if not 0 <= begin < end <= recording.duration + CLOCK_ROUNDING:
            raise ValueError(
                f"{recording.id}: a part from {begin:g} to {end:g} s was given, expected one within 0 and "
                f"{recording.duration:g} s."
            )
        outside.append((at, begin))
        at = max(at, end)
    gaps: list[tuple[float, float]] = []
    for begin, end in sorted([*recording.gaps, *outside, (at, recording.duration)]):
        if begin >= end:
            continue
        if gaps and begin <= gaps[-1][1]:
            gaps[-1] = (gaps[-1][0], max(end, gaps[-1][1]))
        else:
            gaps.append((begin, end))
    return replace(recording, gaps=tuple(gaps))


def _shafts(names: Sequence[str]) -> list[list[int]]:
    """Places of the channels by shaft, each along its contacts; what is no contact stands together at the end."""
    found: dict[str, list[tuple[int, int]]] = {}
    for i, name in enumerate(names):
        shaft, number = contact(name) or ("", i)
        found.setdefault(shaft, []).append((number, i))
    return [[i for _, i in sorted(found[shaft])] for shaft in sorted(found, key=lambda shaft: (shaft == "", shaft))]


def _spread(shafts: list[list[int]], room: int) -> list[int]:
    size = np.array([len(shaft) for shaft in shafts])
    share = size * room / size.sum()
    quota = np.floor(share).astype(int)
    if room >= len(shafts):
        quota = np.maximum(quota, 1)
    while quota.sum() != room:  # the largest remainder gains or loses one
        step = 1 if quota.sum() < room else -1
        free = (quota < size) if step == 1 else (quota > 1)
        quota[int(np.argmax(np.where(free, step * (share - quota), -np.inf)))] += step
    return [shaft[int((k + 0.5) * len(shaft) / n)] for shaft, n in zip(shafts, quota, strict=True) for k in range(n)]
