"""Zero-phase filters that may be run block by block: design, how far a sample reaches, and filtering with edges.

A filter runs forwards and backwards in float64, as second-order sections (scipy.signal.sosfiltfilt). A stretch between
gaps is filtered by itself: its ends are continued by a point reflection of `padding` samples. A block in the middle is
given `reach` further samples on either side instead; what the filter still remembers from there is below 1e-12.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float64
from scipy import signal

from tsattn.recordings.preparation.preset import Preset

FORGOTTEN = 1e-12  # of what stood `reach` samples away; a constant of 10^6 spreads then leaves 10^-6


def harmonics(notch: float, quality: float, sfreq: float) -> list[float]:
    """Return the mains frequency and its harmonics whose notch lies below Nyquist, Hz."""
    number = math.floor(sfreq / 2 / notch / (1 + 0.5 / quality) - 1e-9)
    return [notch * (k + 1) for k in range(number)]


def design(preset: Preset, sfreq: float) -> Float64[np.ndarray, "section 6"] | None:
    """Return the second-order sections of the notches and the band-pass, None if there are none.

    Args:
        preset: Says which.
        sfreq: Hz, of what is filtered.

    Raises:
        ValueError: If a frequency is not below Nyquist.
    """
    sections = []
    if preset.notch is not None:
        frequencies = harmonics(preset.notch, preset.quality, sfreq)
        if not frequencies:
            raise ValueError(f"A notch at {preset.notch:g} Hz needs a rate above twice that, not {sfreq:g} Hz.")
        sections += [signal.tf2sos(*signal.iirnotch(f, preset.quality, fs=sfreq)) for f in frequencies]
    low, high = preset.band or (None, None)
    edges = [edge for edge in (low, high) if edge is not None]
    if edges:
        if max(edges) >= sfreq / 2:
            raise ValueError(
                f"The band ends at {max(edges):g} Hz, which must lie below half the sampling rate ({sfreq / 2:g} Hz): "
                "choose a lower one, or a higher sfreq."
            )
        kind = "bandpass" if len(edges) == 2 else "highpass" if low is not None else "lowpass"
        corner = edges if len(edges) == 2 else edges[0]
        sections.append(signal.butter(preset.order, corner, kind, fs=sfreq, output="sos"))
    return np.concatenate(sections) if sections else None


def reach(sos: Float64[np.ndarray, "section 6"]) -> int:
    """Return how many samples it takes the slowest pole to forget all but `FORGOTTEN`."""
    slowest = max(np.abs(np.roots(section[3:])).max() for section in sos)
    return math.ceil(math.log(FORGOTTEN) / math.log(slowest)) if slowest > 0 else len(sos) * 2


def padding(preset: Preset, sfreq: float) -> int:
    """Return the samples by which the ends of a stretch are continued: a period of the lowest frequency cut off.

    A shorter stretch cannot be filtered.
    """
    low, high = preset.band or (None, None)
    notch = preset.notch / preset.quality if preset.notch else None
    return math.ceil(sfreq / min(f for f in (low, high, notch) if f is not None))


def zero_phase(
    values: Float[np.ndarray, "channel time"],
    sos: Float64[np.ndarray, "section 6"],
    pad: int,
    begins: bool,
    ends: bool,
) -> Float64[np.ndarray, "channel time"]:
    """Filter every stretch between missing samples by itself.

    Args:
        values: NaN is missing, and stays so.
        sos: Second-order sections.
        pad: Samples by which the ends of a stretch are continued; a stretch must be longer, else it goes missing.
        begins: Whether the first sample is the recording's first; if not, what comes before is not missing.
        ends: The same of the last.
    """
    out = np.full(values.shape, np.nan)
    length = values.shape[1]
    for rows, start, stop in stretches(np.isnan(values)):
        left = start > 0 or begins
        right = stop < length or ends
        if (left or right) and stop - start <= pad:
            continue
        part = values[rows, start:stop].astype(float)
        extended = reflect(part, pad if left else 0, pad if right else 0)
        filtered = signal.sosfiltfilt(sos, extended, padtype=None)
        first = pad if left else 0
        out[rows, start:stop] = filtered[:, first : first + stop - start]
    return out


def reflect(values: Float[np.ndarray, "channel time"], before: int, after: int) -> Float[np.ndarray, "channel longer"]:
    """Continue both ends by a point reflection about the first and last sample (scipy's odd extension)."""
    parts = [values]
    if before:
        parts.insert(0, 2 * values[:, :1] - values[:, before:0:-1])
    if after:
        parts.append(2 * values[:, -1:] - values[:, -2 : -2 - after : -1])
    return np.concatenate(parts, axis=1) if len(parts) > 1 else values


def stretches(missing: Bool[np.ndarray, "channel time"]) -> list[tuple[slice | list[int], int, int]]:
    """Return `(rows, start, stop)` of what is not missing; rows with the same gaps come together."""
    if not missing.any():
        return [(slice(None), 0, missing.shape[1])] if missing.shape[1] else []
    if (missing == missing[0]).all():
        return [(slice(None), *run) for run in runs(~missing[0])]
    return [([row], *run) for row in range(len(missing)) for run in runs(~missing[row])]


def runs(flags: Bool[np.ndarray, " time"]) -> list[tuple[int, int]]:
    """Return `(start, stop)` of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
