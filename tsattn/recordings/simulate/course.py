"""The course of each contact's parameters through background, spikes, seizure and suppression.

A seizure goes from fast low-voltage activity over sinusoidal to spike-wave activity while the synapses slow down from
1.9 to 0.5 times their speed, at one pace for all contacts. A contact joins when the seizure reaches it: spikes, then
what the others do, at an amplitude that grows.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from tsattn.recordings.simulate.scene import Seizure
from tsattn.recordings.simulate.wendling import ACTIVITY, STEPS_PER_POINT, STEPS_PER_SECOND

POINTS_PER_SECOND = STEPS_PER_SECOND / STEPS_PER_POINT
PHASES = (  # share of the seizure, activity, amplitude, speed of the synapses
    (0.0, "fast onset", 1.0, 1.9),
    (0.12, "fast onset", 3.0, 1.6),
    (0.2, "quasi-sinusoidal", 0.3, 1.45),
    (0.45, "quasi-sinusoidal", 1.0, 0.95),
    (0.52, "spike-wave", 1.0, 0.9),
    (1.0, "spike-wave", 1.0, 0.5),
)
JOINING, GROWING = 1.5, 6.0  # s in which a contact joins, and in which it reaches its full amplitude
JOINS_AT = 0.3  # share of its amplitude
SPIKING_BEFORE, SUPPRESSED_AFTER = 25.0, 40.0  # s
SUPPRESSED_TO = 0.3
SPIKES_PER_SECOND = 0.6  # dips of B at the origin of seizures; not every dip is a spike


@dataclass(frozen=True)
class Course:
    """Parameters over time, every 62.5 ms.

    Attributes:
        mass: A, B, G and rate of each contact's mass.
        amplitude: Of the mass's signal.
        background: Of everything else that the contact sees of the brain.
    """

    mass: Float[np.ndarray, "4 point channel"]
    amplitude: Float[np.ndarray, "channel point"]
    background: Float[np.ndarray, "channel point"]


def make_course(
    points: int,
    seizures: list[Seizure],
    recruited: list[Float[np.ndarray, " channel"]],
    irritability: Float[np.ndarray, " channel"],
    random: np.random.Generator,
) -> Course:
    """Return the course of every channel.

    Args:
        points: How many.
        seizures: What happens.
        recruited: For each seizure, when it reaches each channel (s), NaN for never.
        irritability: How easily each channel spikes between seizures, in [0, 1].
        random: For the spikes.
    """
    channels = len(irritability)
    course = Course(
        np.empty((4, points, channels), np.float32),
        np.ones((channels, points), np.float32),
        np.ones((channels, points), np.float32),
    )
    course.mass[:] = np.array([*ACTIVITY["background"], 1.0])[:, None, None]
    decay = np.exp(-np.arange(2 * POINTS_PER_SECOND) / (0.35 * POINTS_PER_SECOND))
    for channel in np.flatnonzero(irritability > 0.01):
        dips = random.random(points) < irritability[channel] * SPIKES_PER_SECOND / POINTS_PER_SECOND
        course.mass[1, :, channel] -= 9 * np.clip(np.convolve(dips, decay)[:points], 0, 1)
    for seizure, onsets in zip(seizures, recruited, strict=True):
        for channel in np.flatnonzero(~np.isnan(onsets)):
            _seize(course, seizure, int(channel), float(onsets[channel]))
    return course


def _seize(course: Course, seizure: Seizure, channel: int, onset: float) -> None:
    """Lead one channel through a seizure that reaches it at `onset`."""
    time = np.arange(course.mass.shape[1]) / POINTS_PER_SECOND
    end = seizure.onset + seizure.duration
    mass = course.mass[:, :, channel]
    before = (time >= onset - SPIKING_BEFORE) & (time < onset)
    mass[1, before] = np.minimum(mass[1, before], 45 - 4 * (time[before] - onset + SPIKING_BEFORE) / SPIKING_BEFORE)

    during = (time >= onset) & (time < end)
    shares, activities, amplitudes, rates = zip(*PHASES, strict=True)
    share = (time[during] - seizure.onset) / seizure.duration
    joined = np.clip((time[during] - onset) / JOINING, 0, 1)
    grown = np.clip(JOINS_AT + (1 - JOINS_AT) * (time[during] - onset) / GROWING, 0, 1)
    ictal = [*zip(*(ACTIVITY[name] for name in activities), strict=True), rates]
    for row, (values, calm) in enumerate(zip(ictal, (*ACTIVITY["background"], 1.0), strict=True)):
        mass[row, during] = calm + joined * (np.interp(share, shares, values) - calm)
    course.amplitude[channel, during] = seizure.gain * np.interp(share, shares, amplitudes) * grown

    if seizure.marked:
        after = (time >= end) & (time < end + SUPPRESSED_AFTER)
        back = SUPPRESSED_TO + (1 - SUPPRESSED_TO) * (time[after] - end) / SUPPRESSED_AFTER
        mass[1, after] = ACTIVITY["background"][1]
        course.amplitude[channel, after] = course.background[channel, after] = back
