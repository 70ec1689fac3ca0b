"""What makes real recordings hard: slow states, muscle and movement, popping electrodes, dead and humming contacts."""

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.signal import butter, sosfilt

from tsattn.events.table import make_events
from tsattn.recordings.simulate.scene import Implantation
from tsattn.recordings.simulate.signal import MAINS, Key, coloured

ARTEFACTS_PER_HOUR = 75.0
SECONDS_PER_STATE = 86.0  # between which the slow state is interpolated
SLOW, HUM = 40.0, 400.0  # uV
FLAT_FROM = 0.3  # share of the first run


def add_nuisance(
    values: Float[np.ndarray, "channel time"], sfreq: float, implantation: Implantation, key: Key, first_run: bool
) -> pd.DataFrame:
    """Add it all, in place.

    Args:
        values: uV.
        sfreq: Hz.
        implantation: Names, and which contacts fail.
        key: Of the random numbers.
        first_run: Whether the dying contact dies in this run; later, it is dead from the start.

    Returns:
        Events of the types "emg", "movement", "pop", "flat" and "mains", with their channels.
    """
    _add_slow_state(values, sfreq, key)
    rows = _add_bursts(values, sfreq, implantation.names, np.random.default_rng([*key, 0]))
    samples = values.shape[1]
    if implantation.flat is not None:
        first = round(FLAT_FROM * samples) if first_run else 0
        values[implantation.flat, first:] = 0
        rows.append((first / sfreq, (samples - first) / sfreq, "flat", implantation.names[implantation.flat]))
    if implantation.mains is not None:
        values[implantation.mains] += HUM * np.sin(2 * np.pi * MAINS * np.arange(samples) / sfreq)
        rows.append((0.0, samples / sfreq, "mains", implantation.names[implantation.mains]))
    onset, duration, kind, channels = zip(*rows, strict=True) if rows else ((), (), (), ())
    return make_events(onset, duration, kind, channels=channels)


def _add_slow_state(values: Float[np.ndarray, "channel time"], sfreq: float, key: Key) -> None:
    """Add slow waves that come and go over minutes, as in sleep: half of them common to all contacts."""
    samples = values.shape[1]
    time = np.arange(samples) / sfreq
    random = np.random.default_rng([*key, 1])
    knots = max(2, round(samples / sfreq / SECONDS_PER_STATE) + 1)
    depth = np.interp(time, np.linspace(0, samples / sfreq, knots), random.uniform(0, 1, knots))
    depth = (SLOW * depth).astype(np.float32)
    common = depth * coloured(samples, 2.2, sfreq, random)
    for i, row in enumerate(values):
        row += common + depth * coloured(samples, 2.2, sfreq, np.random.default_rng([*key, 2 + i]))


def _add_bursts(
    values: Float[np.ndarray, "channel time"], sfreq: float, names: tuple[str, ...], random: np.random.Generator
) -> list[tuple[float, float, str, str]]:
    """Add muscle, movement and electrode pops at random times."""
    channels, samples = values.shape
    seconds = samples / sfreq
    muscle = butter(2, [15, min(110, 0.45 * sfreq)], "bandpass", fs=sfreq, output="sos")
    rows: list[tuple[float, float, str, str]] = []
    for onset in np.sort(random.uniform(0, seconds, round(ARTEFACTS_PER_HOUR * seconds / 3600))):
        kind = str(random.choice(["emg", "movement", "pop"], p=[0.45, 0.35, 0.2]))
        begin = int(onset * sfreq)
        end = min(samples, begin + int(random.uniform(1.5, 18) * sfreq))
        length = end - begin
        if length < sfreq:  # too near the end
            continue
        many = 1 if kind == "pop" else max(1, int(channels * random.uniform(0.1, 1)))
        chosen = np.sort(random.choice(channels, many, replace=False))
        swell = np.sqrt(np.sin(np.pi * np.arange(length) / length))
        if kind == "emg":
            burst = sosfilt(muscle, random.standard_normal((many, length)), axis=1) * random.lognormal(4.3, 0.5) * swell
        elif kind == "movement":
            common = coloured(length, 1.2, sfreq, random) * random.uniform(0.4, 1.2, (many, 1))
            own = np.stack([coloured(length, 1.2, sfreq, random) for _ in range(many)])
            burst = (common + 0.3 * own) * random.lognormal(5, 0.5) * swell
        else:
            sign = random.choice([-1, 1])
            burst = sign * random.lognormal(6.5, 0.4) * np.exp(-np.arange(length) / sfreq / 0.6)[None]
        values[chosen, begin:end] += burst.astype(np.float32)
        rows.append((begin / sfreq, length / sfreq, kind, ",".join(names[i] for i in chosen)))
    return rows
