"""The neural mass against its textbook equations, solved by scipy, and against what its authors saw of it."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from scipy.signal import welch

from tsattn.recordings.simulate.wendling import ACTIVITY, integrate


def sigmoid(v: np.ndarray | float) -> np.ndarray | float:
    return 5 / (1 + np.exp(0.56 * (6 - v)))


def textbook_rates(y: np.ndarray) -> np.ndarray:
    """All five firing rates of Wendling et al. (2002), with the mean input."""
    c1, c2, c3, c4, c5, c6, c7 = 135.0, 108.0, 33.75, 33.75, 40.5, 13.5, 108.0
    return np.array(
        [
            sigmoid(y[1] - y[2] - y[3]),
            90 + c2 * sigmoid(c1 * y[0]),
            c4 * sigmoid(c3 * y[0]),
            c7 * sigmoid(c5 * y[0] - c6 * y[4]),
            sigmoid(c3 * y[0]),
        ]
    )


def synapses(a: float, b: float, g: float) -> tuple[np.ndarray, np.ndarray]:
    """W and w of the five filters."""
    return np.array([a, a, b, g, b]), np.array([100.0, 100.0, 50.0, 500.0, 50.0])


def solved(activity: str, seconds: float, times: np.ndarray) -> np.ndarray:
    """The signal without noise, by scipy's solver, from rest."""
    gain, speed = synapses(*ACTIVITY[activity])

    def change(_: float, state: np.ndarray) -> np.ndarray:
        y, slope = state[:5], state[5:]
        return np.concatenate([slope, gain * speed * textbook_rates(y) - 2 * speed * slope - speed**2 * y])

    found = solve_ivp(change, (0, seconds), np.zeros(10), "LSODA", times, rtol=1e-9, atol=1e-9)
    return found.y[1] - found.y[2] - found.y[3]


def course(activity: str, masses: int = 1, rate: float = 1.0) -> np.ndarray:
    return np.tile(np.array([*ACTIVITY[activity], rate])[:, None, None], (1, 1, masses))


@pytest.mark.parametrize("activity", ["spike-wave", "quasi-sinusoidal"])
def test_a_step_is_exact_for_rates_that_are_held(activity: str):
    """Against the matrix exponential of all ten textbook equations; ours has four filters, not five."""
    gain, speed = synapses(*ACTIVITY[activity])
    linear = np.zeros((15, 15))
    linear[:5, 5:10] = np.eye(5)
    linear[5:10, :5], linear[5:10, 5:10], linear[5:10, 10:] = (
        -np.diag(speed**2),
        -2 * np.diag(speed),
        np.diag(gain * speed),
    )
    step = expm(linear / 512)
    state, expected = np.zeros(10), []
    for _ in range(512):
        state = (step @ np.concatenate([state, textbook_rates(state[:5])]))[:10]
        expected.append(state[1] - state[2] - state[3])
    ours = integrate(course(activity), np.zeros((512, 1)), dtype=np.float64)[:, 0]
    assert np.ptp(expected) > 1
    np.testing.assert_allclose(ours, expected, atol=1e-9)


@pytest.mark.parametrize("activity", ["background", "spike-wave", "fast onset", "quasi-sinusoidal"])
def test_finer_steps_come_to_scipys_solution_in_proportion(activity: str):
    seconds = 0.5
    errors = []
    for steps_per_second in (512.0, 2048.0, 8192.0):
        steps = round(seconds * steps_per_second)
        ours = integrate(course(activity), np.zeros((steps, 1)), steps_per_second, np.float64)[:, 0]
        true = solved(activity, seconds, np.arange(1, steps + 1) / steps_per_second)
        errors.append(np.sqrt(np.mean((ours - true) ** 2)) / true.std())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.5)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.3)
    assert errors[2] < 0.1


def test_the_rhythm_at_512_hz_is_that_of_the_equations():
    """Steps of 1 / 512 s shift the phase; what they do to period and height of spike-waves stays under 5 %."""
    times = np.arange(1, 4097) / 512
    for_us = integrate(course("spike-wave"), np.zeros((4096, 1)))[1024:, 0]
    true = solved("spike-wave", 8.0, times)[1024:]

    def cycles_per_second(signal: np.ndarray) -> float:
        crossings = np.flatnonzero((signal[:-1] < signal.mean()) & (signal[1:] >= signal.mean()))
        return 512 * (len(crossings) - 1) / (crossings[-1] - crossings[0])

    assert cycles_per_second(for_us) == pytest.approx(cycles_per_second(true), rel=0.05)
    assert np.ptp(for_us) == pytest.approx(np.ptp(true), rel=0.05)


@pytest.fixture(scope="module")
def seen() -> dict[str, np.ndarray]:
    """Ten masses of each activity with noise, 20 s, the first 4 s left out."""
    random = np.random.default_rng(0)
    noise = random.standard_normal((20 * 512, 10 * len(ACTIVITY)), dtype=np.float32)
    parameters = np.concatenate([course(activity, 10) for activity in ACTIVITY], axis=2)
    signal = integrate(parameters, noise)[4 * 512 :]
    return dict(zip(ACTIVITY, np.split(signal, len(ACTIVITY), axis=1), strict=True))


def peak(signal: np.ndarray) -> float:
    frequency, power = welch(signal, 512, nperseg=2048, axis=0)
    return float(frequency[1:][power.mean(1)[1:].argmax()])


def test_background_is_small_and_has_no_rhythm(seen):
    assert seen["background"].std(0).mean() == pytest.approx(0.33, rel=0.1)
    frequency, power = welch(seen["background"], 512, nperseg=1024, axis=0)
    power = power.mean(1)
    low, middle, high = (power[(frequency >= a) & (frequency < b)].mean() for a, b in ((1, 4), (8, 16), (32, 64)))
    assert low > 2 * middle > 2 * high


def test_spikes_are_sporadic_where_slow_inhibition_is_a_little_less(seen):
    spikes = (np.diff((seen["sporadic spikes"] > 5).astype(int), axis=0) == 1).sum(0) / 16
    assert not (seen["background"] > 5).any()
    assert 0.1 < spikes.mean() < 4  # per second


def test_spike_waves_come_at_4_to_5_hz_and_21_mv(seen):
    assert 4 <= peak(seen["spike-wave"]) <= 5
    assert np.ptp(seen["spike-wave"], axis=0).mean() == pytest.approx(21, rel=0.05)


def test_alpha_like_and_sinusoidal_rhythms_have_10_to_11_hz(seen):
    assert 9 <= peak(seen["alpha-like"]) <= 11
    assert 9.5 <= peak(seen["quasi-sinusoidal"]) <= 11.5
    assert seen["quasi-sinusoidal"].std() > 5 * seen["alpha-like"].std()


def test_a_fast_onset_is_low_and_fast(seen):
    assert 10 <= peak(seen["fast onset"]) <= 16
    assert seen["fast onset"].std(0).mean() < seen["background"].std(0).mean()


def test_synapses_at_twice_the_speed_do_the_same_in_half_the_time():
    noise = np.random.default_rng(0).standard_normal((2048, 3))
    slow = integrate(course("spike-wave", 3), noise, 512.0, np.float64)
    fast = integrate(course("spike-wave", 3, rate=2.0), noise, 1024.0, np.float64)
    np.testing.assert_allclose(fast, slow, rtol=1e-9)


def test_masses_do_not_act_on_each_other():
    noise = np.random.default_rng(0).standard_normal((1024, 5), dtype=np.float32)
    together = integrate(course("spike-wave", 5), noise)
    alone = integrate(course("spike-wave"), np.ascontiguousarray(noise[:, 3:4]))
    np.testing.assert_allclose(alone[:, 0], together[:, 3], atol=1e-3)
