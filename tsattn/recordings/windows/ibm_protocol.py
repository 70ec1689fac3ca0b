"""Where and how the authors' loader of MVPFormer reads its windows, errors included, so that numbers can be compared.

Facts: LongTermEEGDataset of IBM/multi-variate-parallel-transformer, and the arrays that it gave
(`dataset_windows.npz`). It places one window's length too few, and it resamples without a filter, so that what lies
above half of the new rate is folded down. Use it for comparison, not for work.
"""

import numpy as np
from jaxtyping import Float

from tsattn.events.table import seizures
from tsattn.recordings.recording import Recording

AROUND = 2  # windows before and after a seizure in which the stride is slowed down


def begins(
    recording: Recording, window: float, stride: float, segments: int, slowdown: bool
) -> Float[np.ndarray, " window"]:
    """List the second at which each window begins.

    Args:
        recording: Its length and its seizures.
        window: Length of a window, s.
        stride: Between windows, s.
        segments: Of a window.
        slowdown: Whether the stride is `stride / segments` near seizures.
    """
    length = recording.duration
    if not slowdown:
        return np.arange(max(int((length - 2 * window) // stride) + 1, 0)) * stride
    path = _Path(stride, stride / segments)
    events = seizures(recording.events)
    for onset, duration in zip(events["onset"], events["duration"], strict=True):
        first = max(path.index(onset - (AROUND + 1) * window) + 1, 0)
        if path.zones and first <= path.zones[-1][1]:  # the zones of two seizures overlap: they join
            path.zones[-1] = (path.zones[-1][0], first)
        path.open_zone = first
        last = min(path.index(onset + duration + AROUND * window), path.index(length - window))
        path.open_zone = None
        path.zones.append((first, last))
    slow = sum(b - a for a, b in path.zones)
    coarse = (length - slow * path.fine - 2 * window) // stride + 1
    return path.second(np.arange(max(int(coarse + slow), 0)))


class _Path:
    """Windows counted along a recording with a coarse stride, and a fine one in zones `[first, last)` of the count."""

    def __init__(self, stride: float, fine: float) -> None:
        self.stride = stride
        self.fine = fine
        self.zones: list[tuple[int, int]] = []
        self.open_zone: int | None = None

    def second(self, index: np.ndarray) -> Float[np.ndarray, " window"]:
        """Begin of the windows of these numbers."""
        slow = sum((np.clip(index, a, b) - a for a, b in self.zones), np.zeros(len(index), dtype=int))
        if self.open_zone is not None:
            slow = slow + np.maximum(index - self.open_zone, 0)
        return slow * self.fine + (index - slow) * self.stride

    def index(self, second: float) -> int:
        """Number of the last window that begins by this second."""
        base, at, step = 0, 0.0, self.stride
        edges = [(i, step) for a, b in self.zones for i, step in ((a, self.fine), (b, self.stride))]
        if self.open_zone is not None:
            edges.append((self.open_zone, self.fine))
        for edge, step_after in edges:
            edge_second = float(self.second(np.array([edge]))[0])
            if second >= edge_second:
                base, at, step = edge, edge_second, step_after
        return base + int((second - at) // step)


def interpolate(values: Float[np.ndarray, "channel time"], samples: int) -> Float[np.ndarray, "channel new_time"]:
    """Interpolate a stretch by straight lines, as torch's `interpolate(mode="linear")` does; there is no filter.

    Args:
        values: Any rate.
        samples: To return.
    """
    have = values.shape[-1]
    if have == samples:
        return values
    ratio = have / samples
    at = np.clip((np.arange(samples) + 0.5) * ratio - 0.5, 0, have - 1)
    left = np.minimum(at.astype(int), have - 1)
    right = np.minimum(left + 1, have - 1)
    weight = (at - left).astype(values.dtype)
    return values[:, left] * (1 - weight) + values[:, right] * weight


def nearest(values: Float[np.ndarray, " event"], time: Float[np.ndarray, " window"]) -> Float[np.ndarray, " window"]:
    """Return for each time the value that is nearest to it (of two as near, the earlier one); NaN if there is none."""
    if not len(values):
        return np.full(len(time), np.nan)
    ordered = np.sort(values)
    after = np.clip(np.searchsorted(ordered, time), 0, len(ordered) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(ordered[before] - time) <= np.abs(ordered[after] - time), ordered[before], ordered[after])
