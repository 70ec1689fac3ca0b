"""A table to try things on: seeded, realistic in its troubles, and predictable for a model that looks across variates.

Ours. One driver (a slow, weather-like process) moves every variate with a lag of its own, and later variates follow
earlier ones, so what a variate does next stands in the past of the others: attention across variates can use it.
"""

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from tsattn.data.calendar import season_of


def simulate_table(
    rows: int = 4000, variates: int = 8, frequency: str = "h", seed: int = 0, missing: float = 0.0
) -> pd.DataFrame:
    """Make a table of cycles, trends, lagged influences and noise.

    Args:
        rows: Steps, from 2024-01-01 00:00 on.
        variates: Columns beside the time; the first one, `driver`, is exogenous: it leads all others.
        frequency: pandas alias of the step.
        seed: Of all random numbers; equal seeds make equal tables.
        missing: Share of the values that is left out, in runs as of a failing sensor, at most 0.9.

    Returns:
        The column `date`, `driver` and `load 1`, `load 2`, ...; NaN where missing.

    Raises:
        ValueError: If there is nothing to simulate or too much is left out.
    """
    if rows < 1 or variates < 1:
        raise ValueError(f"{rows} rows of {variates} variates were asked for, expected at least one of each.")
    if not 0 <= missing <= 0.9:
        raise ValueError(f"missing is {missing}, expected a share between 0 and 0.9.")
    random = np.random.default_rng(seed)
    day = max(season_of(frequency), 2)
    longest = day  # lags reach back up to one season
    warm = 10 * day + longest
    steps = np.arange(-warm, rows)

    def slow_noise(memory: float) -> np.ndarray:  # autoregressive, unit variance
        return lfilter([np.sqrt(1 - memory**2)], [1.0, -memory], random.standard_normal(len(steps)))

    def cycle(period: int) -> np.ndarray:
        first, second = random.uniform(0, 2 * np.pi, 2)
        turn = 2 * np.pi * steps / period
        return np.sin(turn + first) + 0.4 * np.sin(2 * turn + second)

    driver = cycle(day) + 1.5 * slow_noise(0.98)
    columns = {"driver": driver}
    for number in range(1, variates):
        lag = int(random.integers(1, longest + 1))
        level, trend = random.uniform(20, 80), random.normal(0, 3) / max(rows, 1)
        series = 1.2 * cycle(day) + 0.6 * cycle(7 * day) + random.uniform(0.8, 1.6) * np.roll(driver, lag)
        if number > 1:  # follow an earlier variate, too
            leader = list(columns.values())[int(random.integers(1, number))]
            follow = int(random.integers(1, longest + 1))
            series += random.uniform(0.3, 0.7) * np.roll((leader - leader.mean()) / leader.std(), follow)
        columns[f"load {number}"] = level + random.uniform(3, 9) * series + trend * steps * 10 + slow_noise(0.5)
    values = np.stack(list(columns.values()), axis=1)[warm:].round(3)
    if missing:
        values[_failures(random, values.shape, missing)] = np.nan
    frame = pd.DataFrame(values, columns=list(columns))
    frame.insert(0, "date", pd.date_range("2024-01-01", periods=rows, freq=frequency))
    return frame


def _failures(random: np.random.Generator, shape: tuple[int, int], share: float) -> np.ndarray:
    """Choose runs of about 12 rows (one failing sensor each) until the share is reached."""
    rows, variates = shape
    lost = np.zeros(shape, dtype=bool)
    wanted = round(share * rows * variates)
    while (left := wanted - int(lost.sum())) > 0:
        begin, variate = int(random.integers(rows)), int(random.integers(variates))
        length = min(int(random.geometric(1 / 12)), left)
        lost[begin : begin + length, variate] = True
    return lost
