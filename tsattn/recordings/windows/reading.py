"""Read the windows of a batch: what they share is read once, and stretches that come again are remembered."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from tsattn.recordings.recording import Recording
from tsattn.recordings.windows.places import Windowing, cut, read_window

LARGEST_RUN = 30 * 2**20  # bytes: above 32 MiB, malloc gives fresh memory each time, which costs as much as reading


class WindowReader:
    """Reads windows of several recordings into arrays that the caller gives.

    Args:
        recordings: In the order of the places by which they are called.
        windowing: How windows are laid.
        block_seconds: Length of the stretches to remember; None remembers nothing.
        blocks: How many stretches to remember (64 channels, 512 Hz, 600 s: 79 MB each).
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        windowing: Windowing,
        block_seconds: float | None = None,
        blocks: int = 16,
    ) -> None:
        self.recordings = list(recordings)
        self.windowing = windowing
        self.block_seconds = block_seconds
        self.blocks = blocks
        self._known: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_known": OrderedDict()}  # a worker remembers for itself

    def length(self, recording: int) -> int:
        """Samples of a window, as they are read."""
        return self.windowing.segments * self.windowing.segment_samples(self.recordings[recording].sfreq)

    def samples(self, recording: int) -> int:
        """Samples of a segment, as they are returned."""
        return self.windowing.segment_samples(self.windowing.sfreq or self.recordings[recording].sfreq)

    def read(
        self,
        recording: int,
        starts: Sequence[int],
        channels: Sequence[Sequence[int]],
        out: Sequence[Float[np.ndarray, "segment _ time"]],
    ) -> list[Bool[np.ndarray, "segment _"]]:
        """Read windows of one recording.

        Args:
            recording: Its place.
            starts: First sample of each window.
            channels: Of each window: places in the recording's table.
            out: Of each window: where its samples go, (segment, channel, time).

        Returns:
            Of each window: False where a segment of a channel was not recorded whole; the signal is zero there.
        """
        item, length = self.recordings[recording], self.length(recording)
        observed: list[np.ndarray] = [np.empty(0)] * len(starts)
        if self.windowing.sfreq is not None:
            for k, start in enumerate(starts):
                signal, observed[k] = read_window(item, int(start), self.windowing, list(channels[k]))
                out[k][...] = signal
            return observed
        if self.block_seconds is not None:
            block = round(self.block_seconds * item.sfreq)
            for k, start in enumerate(starts):
                number, first = divmod(int(start), block)
                stretch = self._block(recording, number, block, length)
                observed[k] = cut(_rows(stretch, channels[k])[:, first : first + length], out[k])
            return observed
        for run in _runs(starts, length, LARGEST_RUN // (4 * len(item.rows))):
            begin, end = int(starts[run[0]]), int(starts[run[-1]]) + length
            chosen = list(channels[run[0]])
            alike = all(list(channels[k]) == chosen for k in run)
            stretch = item.read(begin, end, chosen if alike and len(chosen) < len(item.rows) else None)
            for k in run:
                first = int(starts[k]) - begin
                rows = stretch if alike else _rows(stretch, channels[k])
                observed[k] = cut(rows[:, first : first + length], out[k])
        return observed

    def _block(self, recording: int, number: int, block: int, length: int) -> np.ndarray:
        key = (recording, number)
        if key in self._known:
            self._known.move_to_end(key)
            return self._known[key]
        item = self.recordings[recording]
        stretch = item.read(number * block, min((number + 1) * block + length, item.n_samples))
        while len(self._known) >= self.blocks:
            self._known.popitem(last=False)
        self._known[key] = stretch
        return stretch


def _rows(stretch: np.ndarray, channels: Sequence[int]) -> np.ndarray:
    return stretch if list(channels) == list(range(len(stretch))) else stretch[list(channels)]


def _runs(starts: Sequence[int], length: int, longest: int) -> list[list[int]]:
    """Windows in groups that share at least half of their samples with the next one, each in time order."""
    runs: list[list[int]] = []
    for k in sorted(range(len(starts)), key=lambda k: starts[k]):
        run = runs[-1] if runs else None
        if run and starts[k] - starts[run[-1]] <= length / 2 and starts[k] + length - starts[run[0]] <= longest:
            run.append(k)
        else:
            runs.append([k])
    return runs
