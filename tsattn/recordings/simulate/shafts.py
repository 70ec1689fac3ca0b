"""Depth electrodes: names and positions of their contacts."""

import numpy as np
from jaxtyping import Float

CONTACTS_PER_SHAFT = 8
SPACING = 3.5  # mm between contacts
ROW = 5  # shafts side by side, from back to front; then the other hemisphere, then the next layer


def shaft_names(channels: int) -> tuple[str, ...]:
    """Return "A1" ... "A8", "B1", ...; after Z comes AA."""
    return tuple(f"{_letters(i // CONTACTS_PER_SHAFT)}{i % CONTACTS_PER_SHAFT + 1}" for i in range(channels))


def place_shafts(channels: int, random: np.random.Generator) -> Float[np.ndarray, "channel 3"]:
    """Return positions in metres (x to the right, y to the front, z up); contact 1 is the deepest of its shaft."""
    position = np.empty((channels, 3))
    for shaft, first in enumerate(range(0, channels, CONTACTS_PER_SHAFT)):
        layer, place = divmod(shaft, ROW)
        side = -1 if layer % 2 == 0 else 1
        deepest = np.array([side * (22 + 8 * (place % 2)), -40 + 20 * place, -10 + 22 * (layer // 2) + 6 * (place % 3)])
        deepest = deepest + random.normal(0, 3, 3)
        outwards = np.array([side, 0.1, 0.2]) + random.normal(0, 0.1, 3)
        outwards /= np.linalg.norm(outwards)
        contacts = np.arange(min(CONTACTS_PER_SHAFT, channels - first))
        position[first : first + len(contacts)] = deepest + SPACING * contacts[:, None] * outwards
    return position / 1000


def _letters(number: int) -> str:
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)
