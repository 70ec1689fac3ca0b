"""The lowest and highest value within each pixel of a long recording, read in pieces, so that memory is bounded."""

import numpy as np
from jaxtyping import Float

from tsattn.recordings.recording import Recording

READ = 4_000_000  # samples read at once, over all channels: 32 MB


def envelope(
    recording: Recording, start: int, stop: int, pixels: int
) -> tuple[Float[np.ndarray, "channel pixel"], Float[np.ndarray, "channel pixel"], Float[np.ndarray, " pixel"]]:
    """Return the lowest and highest value of each channel within each pixel, and the pixels' times (s).

    Args:
        recording: Of one rate.
        start: First sample.
        stop: One past the last.
        pixels: How many; a pixel without any sample that is there is NaN.
    """
    edges = np.linspace(start, stop, pixels + 1).round().astype(int)
    at_sample = edges.tolist()
    size = len(recording.names)
    low, high = np.full((2, size, pixels), np.nan)
    at = 0
    while at < pixels:
        wanted = np.searchsorted(edges, edges[at] + READ // size, side="right") - 1
        last = min(max(int(wanted), at + 1), pixels)
        if last == at + 1:  # one pixel may be more than is held at once
            low[:, at], high[:, at] = _one_pixel(recording, at_sample[at], at_sample[last])
        else:
            x = recording.read(at_sample[at], at_sample[last])
            first = edges[at:last] - edges[at]
            low[:, at:last] = np.fmin.reduceat(x, first, axis=1)
            high[:, at:last] = np.fmax.reduceat(x, first, axis=1)
        at = last
    return low, high, (edges[:-1] + edges[1:]) / 2 / recording.sfreq


def _one_pixel(recording: Recording, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    size = len(recording.names)
    low, high = np.full((2, size), np.nan)
    step = max(1, READ // size)
    for at in range(start, stop, step):
        x = recording.read(at, min(at + step, stop))
        low, high = np.fmin(low, np.fmin.reduce(x, axis=1)), np.fmax(high, np.fmax.reduce(x, axis=1))
    return low, high
