"""From a course of parameters to what the amplifier delivers: masses, volume conduction, background, reference, mains.

Time is cut into pieces that are integrated side by side, which is what makes this fast. Between seizures a mass forgets
where it started within a second or two (two runs that get the same input become equal to the last bit), so every piece
begins a little earlier, with the input that its predecessor got, and there is no seam. A seizure is one piece.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float
from scipy import fft
from scipy.signal import butter, sosfilt

from tsattn.recordings.simulate.course import Course
from tsattn.recordings.simulate.wendling import STEPS_PER_POINT, STEPS_PER_SECOND, integrate

PIECE, RUN_UP, TAIL = 20.0, 4.0, 4.0  # s: between seizures; forgotten before a piece; kept with a seizure
BATCH = 1 << 24  # steps x masses that are integrated at once: 64 MB
BLOCK = 1 << 14  # steps of input that one generator gives
MICROVOLTS = 55.0  # that an electrode sees of a mass's mV
STRENGTH_JITTER = 0.3  # sd of the logarithm, between contacts
CONDUCTION = 4.0  # mm over which a contact sees its neighbours
MAINS = 50.0  # Hz

Key = tuple[int, ...]  # seed of a stream of random numbers


def run_masses(
    course: Course, steps: int, whole: Sequence[tuple[float, float]], key: Key
) -> Float[np.ndarray, "channel step"]:
    """Integrate every contact's mass over a recording.

    Args:
        course: Parameters.
        steps: Of the integration.
        whole: Stretches in seconds that must not be cut.
        key: Of the input.

    Returns:
        mV, less the mass's rest in background.
    """
    channels = course.mass.shape[2]
    signal = np.empty((channels, steps), np.float32)
    run_up = round(RUN_UP * STEPS_PER_SECOND)
    for batch in _batches(_pieces(steps, whole), channels):
        longest = run_up + max(end - begin for begin, end in batch)
        noise = np.zeros((longest, len(batch), channels), np.float32)
        first = [(begin - run_up) // STEPS_PER_POINT for begin, _ in batch]
        points = np.arange(-(-longest // STEPS_PER_POINT))
        held = np.clip(np.add.outer(points, first), 0, course.mass.shape[1] - 1)
        mass = course.mass[:, held]  # (parameter, point, piece, channel)
        for k, (begin, end) in enumerate(batch):
            noise[: run_up + end - begin, k] = _input(begin, end + run_up, channels, key)
        done = integrate(mass.reshape(4, len(points), -1), noise.reshape(longest, -1)).reshape(noise.shape)
        for k, (begin, end) in enumerate(batch):
            signal[:, begin:end] = done[run_up : run_up + end - begin, k].T
    return signal


def _pieces(steps: int, whole: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Cut `[0, steps)` into pieces that begin at points of the course; stretches in `whole` stay in one."""

    def point(seconds: float) -> int:
        return min(max(round(seconds * STEPS_PER_SECOND / STEPS_PER_POINT) * STEPS_PER_POINT, 0), steps)

    kept: list[list[int]] = []
    for begin, end in sorted((point(begin), point(end)) for begin, end in whole):
        if kept and begin <= kept[-1][1]:
            kept[-1][1] = max(kept[-1][1], end)
        else:
            kept.append([begin, end])
    pieces, at, length = [], 0, point(PIECE) or steps
    for begin, end in [*kept, [steps, steps]]:
        pieces += [(cut, min(cut + length, begin)) for cut in range(at, begin, length)]
        pieces += [(begin, end)] if end > begin else []
        at = end
    return pieces


def _batches(pieces: list[tuple[int, int]], channels: int) -> Iterator[list[tuple[int, int]]]:
    """Yield pieces of similar length together, as many as memory allows."""
    batch: list[tuple[int, int]] = []
    for piece in sorted(pieces, key=lambda piece: piece[0] - piece[1]):  # longest first
        longest = batch[0][1] - batch[0][0] if batch else 0
        unlike = longest > 2 * (piece[1] - piece[0]) + STEPS_PER_SECOND * PIECE
        if batch and (unlike or longest * channels * (len(batch) + 1) > BATCH):
            yield batch
            batch = []
        batch.append(piece)
    yield batch


def _input(begin: int, end: int, channels: int, key: Key) -> Float[np.ndarray, "step channel"]:
    """Return the input of steps `[begin, end)`: the same numbers whichever piece asks for them."""
    blocks = range(begin // BLOCK, -(-end // BLOCK))
    drawn = [np.random.default_rng([*key, b]).standard_normal((BLOCK, channels), dtype=np.float32) for b in blocks]
    return np.concatenate(drawn)[begin - blocks[0] * BLOCK : end - blocks[0] * BLOCK]


def coloured(
    samples: int, exponent: float, sfreq: float, random: np.random.Generator, flat_below: float = 0.5
) -> Float[np.ndarray, " time"]:
    """Return noise of unit standard deviation whose power falls as 1 / f^exponent above `flat_below` Hz."""
    length = fft.next_fast_len(samples, real=True)
    frequency = fft.rfftfreq(length, 1 / sfreq).astype(np.float32)
    spectrum = random.standard_normal((2, len(frequency)), dtype=np.float32)
    spectrum *= np.maximum(frequency, flat_below) ** np.float32(-exponent / 2)
    spectrum[:, 0] = 0
    noise = fft.irfft(spectrum[0] + 1j * spectrum[1], length)[:samples]
    return noise / noise.std()


def measure(
    masses: Float[np.ndarray, "channel step"],
    course: Course,
    position: Float[np.ndarray, "channel 3"],
    samples: int,
    sfreq: float,
    key: Key,
) -> Float[np.ndarray, "channel time"]:
    """Return what an AC-coupled amplifier with one reference records of the masses, in microvolts.

    Args:
        masses: mV; changed in place.
        course: Amplitudes.
        position: Metres.
        samples: To record.
        sfreq: Hz. Where it is not the integration's rate, masses are interpolated linearly.
        key: Of the noise.
    """
    channels, steps = masses.shape
    time, step_time = np.arange(samples) / sfreq, np.arange(steps) / STEPS_PER_SECOND
    point_time = np.arange(course.amplitude.shape[1]) * STEPS_PER_POINT / STEPS_PER_SECOND
    high_pass = butter(1, 0.5, "highpass", fs=STEPS_PER_SECOND, output="sos")
    aligned = sfreq == STEPS_PER_SECOND and samples == steps
    values = masses if aligned else np.empty((channels, samples), np.float32)
    for i, mass in enumerate(masses):
        random = np.random.default_rng([*key, i])
        mass[:] = sosfilt(high_pass, mass - np.median(mass[: 5 * STEPS_PER_SECOND]))
        values[i] = mass if aligned else np.interp(time, step_time, mass)
        strength = MICROVOLTS * random.lognormal(0, STRENGTH_JITTER)
        values[i] *= strength * np.interp(time, point_time, course.amplitude[i])
        values[i] += 22 * np.interp(time, point_time, course.background[i]) * coloured(samples, 1.6, sfreq, random)
    distance = np.linalg.norm(position[:, None] - position, axis=-1) * 1000
    conduct = np.exp(-distance / CONDUCTION)
    conduct = (conduct / np.linalg.norm(conduct, axis=1, keepdims=True)).astype(np.float32)
    for begin in range(0, samples, BLOCK):
        values[:, begin : begin + BLOCK] = conduct @ values[:, begin : begin + BLOCK]
    shared = np.random.default_rng([*key, channels])
    reference = 6 * coloured(samples, 1.0, sfreq, shared)
    phase = shared.uniform(0, 2 * np.pi, 2)
    hums = [
        (height * np.sin(2 * np.pi * MAINS * times * time + phase[k])).astype(np.float32)
        for k, (times, height) in enumerate([(1, 3.0), (3, 0.8)])
        if MAINS * times < sfreq / 2
    ]
    for i, row in enumerate(values):
        random = np.random.default_rng([*key, channels + 1 + i])
        row += reference
        for hum in hums:
            row += np.float32(random.uniform(0.3, 1.5)) * hum
        row += np.float32(1.5) * random.standard_normal(samples, dtype=np.float32)
    return values
