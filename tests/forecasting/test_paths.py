"""Beyond the trained horizon: intervals hold what they say, whatever the levels, on noise whose truth is known."""

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
import torch
from making import HORIZON, hours, small
from torch import Tensor

from tsattn.forecasting import paths

NORMAL = NormalDist()
SETS = [
    (0.1, 0.9),
    (0.1, 0.5, 0.9),
    (0.2, 0.5, 0.8),
    tuple(round(0.05 * i, 2) for i in range(1, 20)),
    (0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99),
    (0.05, 0.5, 0.6),
    (0.5, 0.9),
    (0.001, 0.5, 0.999),
]
BLOCKS, STEPS = 5, 6


def deviations(phi: float, steps: int) -> list[float]:
    """Of the errors of an autoregressive process, 1 to so many steps ahead; phi 0: independent, 1: a random walk."""
    return [sum(phi ** (2 * k) for k in range(step)) ** 0.5 for step in range(1, steps + 1)]


def oracle(phi: float, levels: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    """Return what forecasts the true quantiles from the last value."""
    scores = torch.tensor([NORMAL.inv_cdf(level) for level in levels])
    spread, fade = torch.tensor(deviations(phi, STEPS)), phi ** torch.arange(1, STEPS + 1)
    return lambda last: (last[..., None] * fade)[..., None] + spread[:, None] * scores


@pytest.mark.parametrize("levels", SETS, ids=lambda levels: f"{len(levels)} from {levels[0]}")
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 1.0])
def test_every_level_holds_its_share_of_known_noise_in_every_block(phi: float, levels: tuple[float, ...]):
    forecast = oracle(phi, levels)
    found = paths.extend(lambda path, block: forecast(path[..., -1]), forecast(torch.zeros(2, 3)), levels, BLOCKS)
    assert found.shape == (2, 3, BLOCKS * STEPS, len(levels))
    for step, truth in enumerate(deviations(phi, BLOCKS * STEPS)):
        for i, level in enumerate(levels):
            share = [NORMAL.cdf(float(value) / truth) for value in found[:, :, step, i].flatten()]
            assert share == pytest.approx([level] * 6, abs=0.025)
    assert (found.diff(dim=-1) >= 0).all()


def test_a_forecast_depends_on_nothing_but_its_own_window():
    forecast = oracle(0.8, (0.1, 0.5, 0.9))
    starts = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))

    def extended(last: Tensor) -> Tensor:
        return paths.extend(lambda path, block: forecast(path[..., -1]), forecast(last), (0.1, 0.5, 0.9), 3)

    together = extended(starts)
    for i in range(5):
        torch.testing.assert_close(extended(starts[i : i + 1]), together[i : i + 1])


def test_one_level_has_one_path():
    found = paths.extend(lambda path, block: path[..., None] + 1, torch.zeros(2, 1, 3, 1), (0.5,), 3)
    assert found[0, 0, :, 0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("kind", ["conformal", "trained"])
def test_intervals_of_a_trained_forecaster_hold_what_they_say_beyond_its_horizon(kind: str):
    """Of a random walk; errors of a network are its own, so this is less exact than the oracle."""
    random = np.random.default_rng(1)
    frame = hours(4200)[["timestamp"]].assign(walk=random.normal(size=4200).cumsum())
    options = {"max_epochs": 4, "learning_rate": 3e-3, "marks": "none", "batch_size": 64}
    for levels in ((0.1, 0.5, 0.9), (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)):
        if kind == "trained":
            made = small("patchtst").fit(frame[:3000], quantile_levels=levels, **options)
        else:
            made = small("patchtst").fit(frame[:2000], **options)
            made = made.calibrate(frame[2000:3000], size=900, quantile_levels=levels, local=False)
        back = made.backtest(frame[3000:], step=5, horizon=3 * HORIZON)
        inside = back["target"].between(back["0.1"], back["0.9"])
        shares = inside.groupby(back.groupby("cutoff").cumcount() // HORIZON).mean().to_numpy()
        own = 0.8 if kind == "conformal" else shares[0]  # what the network holds at the horizon that it learned
        assert shares == pytest.approx([own] * 3, abs=0.07), levels
