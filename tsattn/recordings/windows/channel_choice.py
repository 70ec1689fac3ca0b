"""Which channels of a recording a model reads that has room for fewer: a policy by name, never a silent crop."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tsattn.recordings.recording import Recording
from tsattn.recordings.shafts import contact

MoreChannels = Literal["raise", "spread", "ensemble"]


def choose_channels(
    recording: Recording, max_channels: int | None = None, more_channels: MoreChannels = "raise"
) -> list[list[int]]:
    """Return the channels of each reading of a recording, as places in `recording.channels`, in its order.

    Args:
        recording: With more channels than a model has room for, or not.
        max_channels: Room of the model; None: any number.
        more_channels: Of what is done if there are more. "raise": an error. "spread": one reading of `max_channels`,
            each shaft with its share, evenly along it. "ensemble": as few readings as will do, each channel in one of
            them and each reading over all shafts; whoever scores takes the mean of their outputs.

    Returns:
        One list, or for "ensemble" several.

    Raises:
        ValueError: If there are more channels than room, with "raise".
    """
    names = recording.names
    if max_channels is not None and max_channels < 1:
        raise ValueError(f"max_channels is {max_channels}, expected at least 1.")
    if max_channels is None or len(names) <= max_channels:
        return [list(range(len(names)))]
    shafts = _shafts(names)
    if more_channels == "spread":
        return [sorted(_spread(shafts, max_channels))]
    if more_channels == "ensemble":
        along = [i for shaft in shafts for i in shaft]
        count = -(-len(names) // max_channels)
        return [sorted(along[k::count]) for k in range(count)]
    raise ValueError(
        f"{recording.id} has {len(names)} channels and the model has room for {max_channels}. Choose "
        'more_channels="spread" (evenly over the shafts) or "ensemble" (all of them, in several readings), or pick '
        "channels when you prepare."
    )


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
