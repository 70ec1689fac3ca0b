"""Probabilities of all windows of a recording, streamed: each segment is read and encoded once, memory is bounded.

A window of 25 segments shares 24 with the next one. A token depends on its segment alone, so the last tokens are kept
and every window only attends anew.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsattn.layers.classifier import SegmentClassifier, answered
from tsattn.recordings.recording import Recording
from tsattn.recordings.windows.places import cut

AT_ONCE = 24  # segments that are read and encoded together
WINDOWS = 2**27  # numbers of the tokens of windows that attend together, times 8 that attention holds beside them


@dataclass(frozen=True)
class Grid:
    """Where windows lie: from the recording's start, each one `stride` segments after the one before.

    Attributes:
        segments: Of a window.
        stride: Segments.
        count: Windows that fit.
        segment_seconds: Length of a segment.
        samples: Of a segment.
    """

    segments: int
    stride: int
    count: int
    segment_seconds: float
    samples: int

    @property
    def begin(self) -> Float[np.ndarray, " window"]:
        """Seconds from the recording's start to each window's begin."""
        return np.arange(self.count) * self.stride * self.segment_seconds

    @property
    def hop(self) -> float:
        """Seconds from one window to the next."""
        return self.stride * self.segment_seconds


def make_grid(classifier: SegmentClassifier, recording: Recording, stride: int = 1) -> Grid:
    """Return the windows of a recording.

    Raises:
        ValueError: If its rate is not the network's, the stride is out of range, or no window fits.
    """
    network = classifier.network
    if abs(recording.sfreq - network.sfreq) > 1e-9:
        raise ValueError(
            f"{recording.id} has {recording.sfreq:g} Hz, the detector was trained at {network.sfreq:g} Hz: prepare it."
        )
    if stride < 1:
        raise ValueError(f"stride is {stride} segments, expected at least 1.")
    whole = int(recording.n_samples // network.samples)
    if whole < network.segments:
        raise ValueError(
            f"{recording.id} lasts {recording.duration:g} s, expected at least a window, {network.window_seconds:g} s."
        )
    count = (whole - network.segments) // stride + 1
    return Grid(network.segments, stride, count, network.segment_seconds, network.samples)


def stream(
    classifier: SegmentClassifier,
    recording: Recording,
    grid: Grid,
    readings: Sequence[Sequence[int]],
    gaps: str = "drop",
    first: int = 0,
    stop: int | None = None,
) -> Iterator[tuple[int, Float[np.ndarray, " window"]]]:
    """Return the seizure probabilities of windows `[first, stop)`, some at a time, in order.

    Args:
        classifier: In evaluation mode, on the device that is to be used.
        recording: Prepared.
        grid: Of `make_grid`.
        readings: Channels of each reading, as places in the recording's table; the mean over readings is returned.
        gaps: "drop": NaN for a window of which a segment was not recorded in any channel. "mask": NaN if less than half
            of it was recorded, or nothing of its last segment; segments that were not recorded are not read.
        first: Number of a window.
        stop: One past the last window; None: all.

    Returns:
        Number of the first window of each piece, and the probabilities.

    Raises:
        ValueError: If an answer is not finite where something was recorded; that is never taken for a gap.
    """
    stop = grid.count if stop is None else min(stop, grid.count)
    device = next(classifier.parameters()).device
    kept: list[tuple[Tensor, Tensor]] = [_nothing(classifier, len(reading), device) for reading in readings]
    begun = first * grid.stride  # segment of the first token that is kept
    segment, window = begun, first
    last = (stop - 1) * grid.stride + grid.segments if stop > first else begun
    while segment < last:
        until = min(segment + AT_ONCE, last)
        raw = recording.read(segment * grid.samples, until * grid.samples)
        for k, reading in enumerate(readings):
            tokens, observed = _encode(classifier, raw[list(reading)], until - segment, device)
            kept[k] = torch.cat([kept[k][0], tokens]), torch.cat([kept[k][1], observed])
        segment = until
        ready = min(stop, (segment - grid.segments) // grid.stride + 1) if segment >= grid.segments else window
        if ready <= window:
            continue
        yield window, _windows(classifier, kept, grid, window, ready, begun, gaps)
        window = ready
        begin = window * grid.stride
        kept = [(tokens[begin - begun :], observed[begin - begun :]) for tokens, observed in kept]
        segment, begun = max(segment, begin), begin  # what lies between windows far apart is not read


def _nothing(classifier: SegmentClassifier, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    width = classifier.network.d_model
    return torch.empty(0, channels, width, device=device), torch.empty(0, channels, dtype=torch.bool, device=device)


@torch.inference_mode()
def _encode(
    classifier: SegmentClassifier, values: np.ndarray, segments: int, device: torch.device
) -> tuple[Float[Tensor, "segment channel d_model"], Bool[Tensor, "segment channel"]]:
    signal = np.empty((segments, len(values), values.shape[1] // segments), np.float32)
    observed = cut(values, signal)
    return classifier.network.encode(torch.from_numpy(signal).to(device)).float(), torch.from_numpy(observed).to(device)


@torch.inference_mode()
def _windows(
    classifier: SegmentClassifier,
    kept: Sequence[tuple[Tensor, Tensor]],
    grid: Grid,
    first: int,
    stop: int,
    begun: int,
    gaps: str,
) -> Float[np.ndarray, " window"]:
    """Return the probabilities of windows whose tokens are kept."""
    places = torch.arange(first, stop) * grid.stride - begun
    total = torch.zeros(len(places), dtype=torch.float64)
    known = torch.ones(len(places), dtype=torch.bool)
    for tokens, observed in kept:
        size = max(1, WINDOWS // (8 * grid.segments * tokens.shape[1] * tokens.shape[2]))
        found, known_here = [], []
        for some in places.split(size):
            rows = (some[:, None] + torch.arange(grid.segments)).to(tokens.device)
            seen = observed[rows]  # (window, segment, channel)
            logits = classifier.classify(tokens[rows], None, None if bool(seen.all()) else seen)
            found.append(logits.double().softmax(-1)[:, 1].cpu())
            known_here.append(answered(seen, gaps).cpu())
        total += torch.cat(found)
        known &= torch.cat(known_here)
    mean = (total / len(kept)).clamp(0, 1)
    broken = known & ~mean.isfinite()
    if bool(broken.any()):
        begin = (first + int(broken.nonzero()[0])) * grid.hop
        raise ValueError(
            f"The detector has no answer for the window at {begin:g} s, where something was recorded: its weights or "
            "the signal hold values that are not finite, so nothing that it says can be relied on."
        )
    return torch.where(known, mean, torch.nan).numpy()
