"""What happens in a simulated recording, before a sample exists: electrodes, where seizures begin, how they spread.

Depth electrodes (shafts) of eight contacts, 3.5 mm apart, enter from the side. A seizure begins in up to three
neighbouring contacts and reaches every other one within its reach after distance / speed, times a lognormal factor.
The spread is prescribed: it does not emerge from coupled masses.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from tsattn.recordings.simulate.shafts import CONTACTS_PER_SHAFT, place_shafts, shaft_names

Level = Literal["easy", "hard"]
SPREAD_JITTER = 0.15  # sd of the logarithm of the delay
BEFORE, AFTER = 30.0, 45.0  # s around a seizure in which it shows: spikes before, suppression after
SECONDS_PER_SEIZURE = 600.0  # by default, in long recordings
LEAST_SLOT = 240.0  # s that each of several seizures has to itself by default
SHORTEST_SLOT = 20.0  # s
STRONG, MIDDLING, FAINT = (2.5, 45.0, 1.0), (2.5, 45.0, 0.45), (2.0, 18.0, 0.2)  # speed, reach, gain of seizures
DISCHARGE = (3.0, 8.0, 0.5)
SECONDS_PER_DISCHARGE = 150.0


@dataclass(frozen=True)
class Seizure:
    """A seizure, or a rhythmic discharge that nobody would mark.

    Attributes:
        onset: Seconds from the recording's start.
        duration: Seconds.
        origin: Places of the channels where it begins; the first of them begins at `onset`.
        speed: Of its spread, mm / s.
        reach: mm; contacts farther from the origin are never recruited.
        gain: Amplitude; below 1 it is faint.
        marked: Whether it stands in the events. A discharge that is not marked is there to mislead detectors.
    """

    onset: float
    duration: float
    origin: tuple[int, ...]
    speed: float = 2.5
    reach: float = 45.0
    gain: float = 1.0
    marked: bool = True


@dataclass(frozen=True)
class Implantation:
    """The electrodes of a subject.

    Attributes:
        names: Shaft and number of each contact: "A1" is the deepest one of shaft A.
        position: Of each contact, metres, made up in the range of MNI space.
        origin: Channels where this subject's seizures begin.
        flat: Channel that stops recording, if any.
        mains: Channel drowned in mains hum, if any.
    """

    names: tuple[str, ...]
    position: Float[np.ndarray, "channel 3"]
    origin: tuple[int, ...]
    flat: int | None = None
    mains: int | None = None


def implant(channels: int, level: Level, random: np.random.Generator) -> Implantation:
    """Place the electrodes of one subject and choose where seizures begin and which contacts fail (hard level)."""
    if level not in ("easy", "hard"):
        raise ValueError(f"level is {level!r}, expected 'easy' or 'hard'.")
    fewest = 8 if level == "hard" else 1
    if channels < fewest:
        raise ValueError(f"{channels} channels were asked for at level {level!r}, expected at least {fewest}.")
    position = place_shafts(channels, random)
    shaft = int(random.integers(max(1, channels // CONTACTS_PER_SHAFT)))
    contacts = min(CONTACTS_PER_SHAFT, channels - shaft * CONTACTS_PER_SHAFT)
    size = min(3, contacts)
    first = shaft * CONTACTS_PER_SHAFT + int(random.integers(max(1, contacts - size)))
    origin = tuple(range(first, first + size))
    flat, mains = None, None
    if level == "hard":
        drifted = first + size  # seizures begin there, too
        healthy = [i for i in range(channels) if not first <= i <= drifted]
        flat, mains = (int(i) for i in random.choice(healthy, 2, replace=False))
    return Implantation(shaft_names(channels), position, origin, flat, mains)


def usual_number(duration: float) -> int:
    """Return how many seizures a recording gets by default: one each 10 min, two in 8 min, at least one."""
    return max(1, min(max(2, round(duration / SECONDS_PER_SEIZURE)), int(duration // LEAST_SLOT)))


def plan(
    implantation: Implantation, duration: float, number: int, level: Level, random: np.random.Generator
) -> list[Seizure]:
    """Spread seizures over a recording; at the hard level half of them are faint, with discharges in between.

    Raises:
        ValueError: If there is no room for so many.
    """
    if not 0 <= number * SHORTEST_SLOT <= duration:
        raise ValueError(
            f"{number} seizures were asked for in {duration:g} s, expected 0 to {duration // SHORTEST_SLOT:g}: "
            f"one in {SHORTEST_SLOT:g} s at most."
        )
    kinds = [STRONG] * number
    if level == "hard":
        kinds = [FAINT] * (number // 2) + [MIDDLING] * (number - number // 2)
        kinds = [kinds[i] for i in random.permutation(number)]
    found = []
    slot = duration / max(number, 1)
    for i, kind in enumerate(kinds):
        lasts = min(float(random.uniform(60, 90)), 0.4 * slot)
        before, after = min(BEFORE, 0.3 * slot), min(AFTER, 0.2 * slot)
        onset = slot * i + float(random.uniform(before, slot - lasts - after))
        drift = int(random.integers(2)) if implantation.origin[-1] + 1 < len(implantation.names) else 0
        origin = tuple(int(i) + drift for i in random.permutation(implantation.origin))
        found.append(Seizure(round(onset, 2), round(lasts, 2), origin, *kind))
    return found + (_discharges(implantation, duration, found, random) if level == "hard" else [])


def _discharges(
    implantation: Implantation, duration: float, seizures: list[Seizure], random: np.random.Generator
) -> list[Seizure]:
    """Place rhythmic discharges of 5 to 8 s away from the seizures; half of them at their origin."""
    found: list[Seizure] = []
    for i in range(round(duration / SECONDS_PER_DISCHARGE)):
        lasts = float(random.uniform(5, 8))
        where = random.choice(implantation.origin) if i % 2 else random.integers(len(implantation.names))
        for _ in range(100):  # a place that is free; none is left in a recording that is full of seizures
            onset = float(random.uniform(2, duration - lasts - 2))
            free = all(
                onset + lasts < other.onset - BEFORE or onset > other.onset + other.duration + AFTER
                for other in (*seizures, *found)
            )
            if free:
                found.append(Seizure(round(onset, 2), round(lasts, 2), (int(where),), *DISCHARGE, False))
                break
    return found


def spread(
    seizure: Seizure, position: Float[np.ndarray, "channel 3"], random: np.random.Generator
) -> Float[np.ndarray, " channel"]:
    """Return when a seizure reaches each channel, in seconds from the recording's start; NaN where it never does."""
    origin = list(seizure.origin)
    distance = np.linalg.norm(position[:, None] - position[origin], axis=-1).min(1) * 1000  # mm
    delay = distance / seizure.speed * random.lognormal(0, SPREAD_JITTER, len(position))
    delay[origin] = random.uniform(0, min(0.8, 0.1 * seizure.duration), len(origin))
    delay[origin[0]] = 0.0
    last = max(seizure.duration - 10, seizure.duration / 2)  # nothing is recruited when it is nearly over
    return np.where((distance <= seizure.reach) & (delay < last), seizure.onset + delay, np.nan)


def irritability(seizures: list[Seizure], position: Float[np.ndarray, "channel 3"]) -> Float[np.ndarray, " channel"]:
    """Return how easily each channel spikes between seizures: 1 at their origin, falling over 10 mm."""
    degree = np.zeros(len(position))
    for seizure in seizures:
        distance = np.linalg.norm(position[:, None] - position[list(seizure.origin)], axis=-1).min(1) * 1000
        degree = np.maximum(degree, np.exp(-distance / 10))
    return degree
