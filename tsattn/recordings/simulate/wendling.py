"""The neural mass of Wendling et al.: what one contact of an electrode sees of its neighbourhood.

Four kinds of cells act on each other through their mean firing rates. A synapse turns a rate u into a potential y as
a second-order filter does, y'' = W w u - 2 w y' - w^2 y, with (W, w) = (A, a), (A, a), (B, b), (G, g) and the rates

    u0 = S(y1 - y2 - y3)              pyramidal cells
    u1 = p(t) + C2 S(C1 y0)           excitatory interneurons, and input p from afar
    u2 = C4 S(C3 y0)                  slow inhibition, on dendrites (GABA_A slow)
    u3 = C7 S(C5 y0 - C6 y4)          fast inhibition, on somata (GABA_A fast)
    u4 = S(C3 y0), filter (B, b)      slow inhibition of the fast one: y4 = y2 / C4, so it needs no filter of its own

    S(v) = 2 e0 / (1 + exp(r (v0 - v)));      the signal is y1 - y2 - y3, in mV.

Source: Wendling et al., Eur. J. Neurosci. 15:1499 (2002), https://doi.org/10.1046/j.1460-9568.2002.01985.x. Ours:
a rate that makes all synapses faster or slower, and steps that are exact for a rate u that is held. They are stable at
512 Hz although g = 500 / s, where Euler's are not.
"""

import numpy as np
from jaxtyping import Float

ACTIVITY = {  # (A, B, G) in mV: amplitudes of excitation, slow and fast inhibition
    "background": (5.0, 50.0, 15.0),
    "sporadic spikes": (5.0, 40.0, 15.0),
    "spike-wave": (5.0, 25.0, 15.0),
    "alpha-like": (5.0, 10.0, 15.0),
    "fast onset": (5.0, 5.0, 25.0),
    "quasi-sinusoidal": (5.0, 15.0, 0.0),
}
STEPS_PER_SECOND = 512  # of the integration, whatever the recording's rate
STEPS_PER_POINT = 32  # steps for which the parameters are held: 62.5 ms
SPEED = np.array([100.0, 100.0, 50.0, 500.0])  # a, a, b, g in 1 / s
C = 135.0 * np.array([1.0, 0.8, 0.25, 0.25, 0.3, 0.1, 0.8])  # C1 ... C7, synaptic contacts
HALF_RATE, THRESHOLD, STEEPNESS = 2.5, 6.0, 0.56  # e0 in 1 / s, v0 in mV, r in 1 / mV
INPUT_MEAN, INPUT_SD = 90.0, 30.0  # pulses / s; the sd is of steps of 1 / 512 s


def integrate(
    course: Float[np.ndarray, "4 point mass"],
    noise: Float[np.ndarray, "step mass"],
    steps_per_second: float = STEPS_PER_SECOND,
    dtype: type[np.float32] | type[np.float64] = np.float32,
) -> Float[np.ndarray, "step mass"]:
    """Integrate many masses side by side, from rest (all potentials zero).

    Args:
        course: A, B, G (mV) and the rate (1 leaves the synapses as fast as they are), each held for `STEPS_PER_POINT`
            steps; the last point is held to the end.
        noise: Of the input p, in standard deviations.
        steps_per_second: 1 / s.
        dtype: In which it is integrated.

    Returns:
        The signal in mV, after each step.
    """
    steps, masses = noise.shape
    last = course.shape[1] - 1
    y, slope, work, rest = np.zeros((4, 4, masses), dtype)  # of each synapse and mass
    signal: np.ndarray = np.empty((steps, masses), dtype)
    # S(v) = most / (1 + exp(bias - r v)): what of -r v comes from y0 and y2
    most = 2 * HALF_RATE * np.array([[1.0], [C[1]], [C[3]], [C[6]]])
    from_y0: np.ndarray = (-STEEPNESS * np.array([[0.0], [C[0]], [C[2]], [C[4]]])).astype(dtype)
    from_y2, steepness, bias = dtype(STEEPNESS * C[5] / C[3]), dtype(STEEPNESS), dtype(STEEPNESS * THRESHOLD)
    for begin in range(0, steps, STEPS_PER_POINT):
        a, b, g, rate = course[:, min(begin // STEPS_PER_POINT, last)].astype(float)
        step = SPEED[:, None] * rate / steps_per_second  # in the synapse's own time, (synapse, mass)
        decay = np.exp(-step)
        gain = np.stack([a, a, b, g]) / SPEED[:, None]  # y comes to rest at W u / w
        factors = (decay * (1 + step), decay * step, decay * (1 - step), gain * most)
        keep, exchange, slow_down, level = (factor.astype(dtype) for factor in factors)
        sd = INPUT_SD * np.sqrt(steps_per_second / STEPS_PER_SECOND / rate)  # so that its spectrum does not change
        arriving = (gain[1] * (INPUT_MEAN + sd * noise[begin : begin + STEPS_PER_POINT])).astype(dtype)
        for k, pulses in enumerate(arriving, start=begin):
            # The rates, and where each synapse would come to rest under them.
            np.multiply(from_y0, y[0], out=work)
            work[0] = steepness * (y[2] + y[3] - y[1])
            work[3] += from_y2 * y[2]
            work += bias
            np.exp(work, out=work)
            work += 1
            np.divide(level, work, out=rest)
            rest[1] += pulses
            # The exact way there in one step; `slope` is in the synapse's own time.
            y -= rest
            np.multiply(exchange, y, out=work)
            y *= keep
            y += exchange * slope
            y += rest
            slope *= slow_down
            slope -= work
            np.subtract(y[1], y[2], out=signal[k])
            signal[k] -= y[3]
    return signal
