"""A recording as it would be after preparation, prepared where it is read: no store, no copy, bounded memory."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from tsattn.recordings.preparation.chain import COPIES, Chain
from tsattn.recordings.preparation.look import looked_at
from tsattn.recordings.preparation.plan import plan
from tsattn.recordings.preparation.preset import Preset
from tsattn.recordings.preparation.provenance import plain, versions
from tsattn.recordings.recording import Recording

MEMORY = 400e6  # bytes that a block and its copies take; more if so many channels do not fit
BLOCK_SECONDS = 120.0  # what is prepared at once, at most
BLOCKS = 2  # that are remembered


@dataclass(frozen=True, eq=False)
class PreparedSource:
    """Samples of a planned preparation, a block at a time.

    Attributes:
        chain: The plan.
        block: Samples that are prepared at once.
    """

    chain: Chain
    block: int
    _known: OrderedDict[int, np.ndarray] = field(default_factory=OrderedDict)

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.empty((len(rows), stop - start), np.float32)
        begin = start
        while begin < stop:
            number = begin // self.block
            end = min(stop, (number + 1) * self.block)
            first = number * self.block
            out[:, begin - start : end - start] = self._block(number)[list(rows), begin - first : end - first]
            begin = end
        return out

    def _block(self, number: int) -> np.ndarray:
        if number not in self._known:
            while len(self._known) >= BLOCKS:
                self._known.popitem(last=False)
            stop = min((number + 1) * self.block, self.chain.samples)
            self._known[number] = self.chain.block(number * self.block, stop)
        self._known.move_to_end(number)
        return self._known[number]


def prepared_view(recording: Recording, preset: Preset) -> Recording:
    """Return a recording whose samples are prepared when they are read.

    Its samples are looked at once, for bad channels and units (in twenty stretches). What is read in order is prepared
    once; equal to what `prepare` stores, but for the rounding to 16 bits.

    Args:
        recording: As it was recorded.
        preset: How to prepare it.

    Raises:
        ValueError: If it cannot be prepared so, or its values cannot be microvolts.
    """
    chain = plan(looked_at(recording, preset, remedy=False), preset)
    block = min(chain.block_samples(_memory(chain), round(chain.sfreq)), round(BLOCK_SECONDS * chain.sfreq))
    told = {"preset": preset.to_json(), "read": recording.about, "steps": list(chain.steps), "versions": versions()}
    return Recording(
        PreparedSource(chain, block),
        recording.id,
        recording.subject,
        chain.montage.channels,
        recording.duration,
        recording.events,
        tuple((begin / chain.sfreq, end / chain.sfreq) for begin, end in chain.gaps),
        start=recording.start,
        coordinate_frame=recording.coordinate_frame,
        notes=(*chain.recording.notes, *chain.notes),
        files=recording.files,
        about={"provenance": plain(told)},
    )


def _memory(chain: Chain) -> float:
    """Return the bytes that a block may take: one with no less of its own than half of what filters see at one end."""
    width = max(len(chain.recording.channels), len(chain.montage.channels)) * COPIES
    return max(MEMORY, 1.01 * width * (2.5 * chain.overlap + 2 * chain.sfreq))
