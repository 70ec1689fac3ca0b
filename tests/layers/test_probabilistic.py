"""Quantiles from numbers: known answers, likelihoods against scipy, coverage of conformal intervals."""

import math
from collections.abc import Callable, Iterator

import jaxtyping
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from tsattn.checkpoint import build
from tsattn.contracts import ForecastNetwork
from tsattn.layers.norm import normalise, restore
from tsattn.layers.probabilistic import (
    CalibratedForecaster,
    QuantileForecaster,
    StudentTForecaster,
    check_levels,
    conformal_offsets,
)

LEVELS = (0.1, 0.5, 0.9)


class Line(ForecastNetwork):
    """One linear map of the normalised context, for every series."""

    last = ("map",)

    def __init__(self, context: int = 8, horizon: int = 3, outputs: int = 1) -> None:
        super().__init__(context, horizon)
        self.outputs = outputs
        self.map = nn.Linear(context, horizon * outputs)

    def forward(self, past, known=None, observed=None):
        scale = normalise(past, observed)
        return restore(self.map(scale.series), scale, self.outputs)


class Mean(ForecastNetwork):
    """The mean of the context, for every step."""

    def forward(self, past, known=None, observed=None):
        return past.mean(-1, keepdim=True).expand(-1, -1, self.horizon)


def fitted(network: ForecastNetwork, levels=LEVELS, targets: int = 2, local: bool = True) -> CalibratedForecaster:
    wrapper = CalibratedForecaster(network, levels, targets, local).eval()
    wrapper.offset.copy_(torch.linspace(-1, 1, len(levels)).expand_as(wrapper.offset))
    return wrapper


def wrappers() -> dict[str, ForecastNetwork]:
    torch.manual_seed(0)
    return {
        "quantile": QuantileForecaster(Line(outputs=3), LEVELS).eval(),
        "one quantile": QuantileForecaster(Line(), [0.5]).eval(),
        "student": StudentTForecaster(Line(outputs=2), LEVELS).eval(),
        "calibrated": fitted(Line()),
        "calibrated everywhere alike": fitted(Line(), local=False),
        "calibrated quantiles": fitted(QuantileForecaster(Line(outputs=3), LEVELS)),
    }


WRAPPERS = list(wrappers())


@pytest.fixture
def compiled() -> Iterator[Callable[[Callable], Callable]]:
    """Compile a function without a graph break; shape checks are off, which torch.compile cannot trace."""
    jaxtyping.config.update("jaxtyping_disable", True)
    torch._dynamo.reset()
    yield lambda function: torch.compile(function, fullgraph=True, backend="aot_eager")
    jaxtyping.config.update("jaxtyping_disable", False)


def test_levels_that_mean_nothing_are_refused():
    assert check_levels([0.5]) == (0.5,)
    assert check_levels([0.1, 0.9]) == (0.1, 0.9)
    for levels, words in (
        ([], "levels is empty, expected at least one"),
        ([0.5, 1.0], "levels holds 1, expected numbers above 0 and below 1"),
        ([float("nan")], "levels holds nan"),
        ([0.1, 0.5, 0.5], r"levels is \[0.1, 0.5, 0.5\], expected each to be larger"),
        ([0.6, 0.9], r"levels is \[0.6, 0.9\], expected 0.5 or levels on both sides"),
    ):
        with pytest.raises(ValueError, match=words):
            check_levels(levels)


@pytest.mark.parametrize("name", WRAPPERS)
def test_quantiles_ascend_and_a_recipe_makes_them_again(name: str):
    network, past = wrappers()[name], torch.randn(4, 2, 8)
    forecast = network(past)
    assert network.levels is not None
    assert forecast.shape == (4, 2, 3, len(network.levels))
    assert forecast.diff(dim=-1).ge(0).all()
    again = build(network.recipe)
    again.load_state_dict(network.eval().state_dict(), strict=True)
    torch.testing.assert_close(again.eval()(past), forecast)
    assert all(last in dict(network.named_modules()) for last in network.last)


@pytest.mark.parametrize("name", WRAPPERS)
def test_quantiles_move_and_grow_with_the_series(name: str):
    network, past = wrappers()[name], torch.randn(4, 2, 8, dtype=torch.float64)
    if name == "calibrated everywhere alike":
        torch.testing.assert_close(network.double()(past + 5), network(past) + 5)
    else:
        torch.testing.assert_close(network.double()(3 * past + 5), 3 * network(past) + 5, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("name", WRAPPERS)
def test_it_exports_in_evaluation_mode(name: str):
    network, past = wrappers()[name], torch.randn(4, 2, 8)
    shapes = {"past": {0: torch.export.Dim("batch", min=2, max=64)}}
    program = torch.export.export(network, (past[:3],), dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(past), network(past))


@pytest.mark.parametrize("name", ["quantile", "student"])
def test_losses_compile_and_are_finite_far_away(name: str, compiled):
    network, past, future = wrappers()[name].train(), torch.randn(4, 2, 8), torch.randn(4, 2, 3)
    expected = network.losses(network.raw(past), future)
    assert expected.shape == future.shape

    def loss(past: Tensor, future: Tensor) -> Tensor:
        return network.losses(network.raw(past), future)

    torch.testing.assert_close(compiled(loss)(past, future), expected)
    extreme = network.losses(torch.zeros_like(network.raw(past)), 1e6 * future)
    assert extreme.isfinite().all()
    expected.sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in network.parameters())


def test_the_pinball_loss_has_its_known_answers():
    network = QuantileForecaster(Line(outputs=3, horizon=1), LEVELS)
    raw, future = torch.tensor([[[[3.0, 1.0, 2.0]]]]), torch.tensor([[[2.5]]])  # sorted: 1, 2, 3
    expected = (0.1 * 1.5 + 0.5 * 0.5 + 0.1 * 0.5) / 3
    assert network.losses(raw, future).item() == pytest.approx(expected)
    assert network.finish(raw).flatten().tolist() == [1, 2, 3]
    median = QuantileForecaster(Line(horizon=1), [0.5])
    assert median.losses(torch.tensor([[[1.0]]]), future).item() == pytest.approx(1.5 / 2)


def test_the_pinball_loss_is_least_at_the_quantiles():
    draws = torch.randn(1, 20_000, 1, generator=torch.Generator().manual_seed(0))
    network = QuantileForecaster(Line(outputs=3, horizon=1), LEVELS)
    numbers = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([numbers], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        network.losses(numbers.expand(1, 20_000, 1, 3), draws).mean().backward()
        optimizer.step()
    found = numbers.detach().sort().values
    torch.testing.assert_close(found, draws.flatten().quantile(torch.tensor(LEVELS)), atol=0.03, rtol=0)


def test_likelihood_and_quantiles_are_those_of_scipy():
    network = StudentTForecaster(Line(outputs=2), LEVELS).double().eval()
    with torch.no_grad():
        network.freedom.raw.copy_(torch.tensor([-2.0, 1.0, 30.0]))
    raw, future = torch.randn(5, 2, 3, 2, dtype=torch.float64), torch.randn(5, 2, 3, dtype=torch.float64)
    freedom = network.freedom().detach()
    assert freedom.tolist() == pytest.approx([2.1 + math.log1p(math.exp(x)) for x in (-2, 1, 30)])
    low, high = raw.sort(-1).values.unbind(-1)
    theirs = scipy.stats.t(freedom.numpy(), ((low + high) / 2).numpy(), ((high - low) / 2 + 1e-4).numpy())
    torch.testing.assert_close(network.losses(raw, future).detach(), -torch.as_tensor(theirs.logpdf(future.numpy())))
    expected = torch.stack([torch.as_tensor(theirs.ppf(level)) for level in LEVELS], -1)
    torch.testing.assert_close(network.eval().finish(raw), expected)
    torch.testing.assert_close(network.finish(raw.flip(-1)), expected)


def test_quantiles_follow_the_degrees_of_freedom_after_training_and_loading():
    network, raw = StudentTForecaster(Line(outputs=2), [0.05, 0.5, 0.95]).eval(), torch.randn(2, 2, 3, 2)
    before = network.finish(raw)
    other = StudentTForecaster(Line(outputs=2), [0.05, 0.5, 0.95])
    other.freedom.raw.data.fill_(-3.0)
    trained = other.finish(raw)
    assert not torch.allclose(trained, before)
    torch.testing.assert_close(other.eval().finish(raw), trained)
    network.load_state_dict(other.state_dict())  # without a call of `eval` afterwards
    torch.testing.assert_close(network.finish(raw), trained)
    assert not any("quantiles" in key for key in network.state_dict())


def test_networks_that_give_another_number_of_outputs_are_refused():
    with pytest.raises(ValueError, match="Line has outputs=1, expected a network made with outputs=3 for levels"):
        QuantileForecaster(Line(), LEVELS)
    with pytest.raises(ValueError, match="Line has outputs=3, expected a network made with outputs=2"):
        StudentTForecaster(Line(outputs=3), LEVELS)
    with pytest.raises(ValueError, match="QuantileForecaster has quantiles already"):
        QuantileForecaster(QuantileForecaster(Line(), [0.5]), [0.5])
    with pytest.raises(ValueError, match="Line has outputs=2 that mean nothing by themselves"):
        CalibratedForecaster(Line(outputs=2), LEVELS, 1)
    with pytest.raises(ValueError, match=r"levels is \[0.1, 0.9\], expected those of the network, \[0.5\]"):
        CalibratedForecaster(QuantileForecaster(Line(), [0.5]), [0.1, 0.9], 1)
    with pytest.raises(ValueError, match="targets is 0, expected at least 1 of Line"):
        CalibratedForecaster(Line(), LEVELS, 0)
    with pytest.raises(ValueError, match="the network forecasts 1 targets, expected 2"):
        fitted(Line())(torch.randn(1, 1, 8))
    with pytest.raises(NotImplementedError, match="no loss: train its network"):
        fitted(Line()).losses(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3))


def test_nine_errors_have_known_offsets():
    """With 9 windows, ranks are 10 times a share: exactly a whole number."""
    future = torch.tensor([3.0, 9, 1, 7, 5, 2, 8, 6, 4])[:, None, None]  # 1 ... 9
    spread = torch.full((9, 1, 1), 2.0)
    quantiles = torch.zeros(9, 1, 1, 4)
    one_sided = conformal_offsets(quantiles, future, spread, [0.1, 0.35, 0.5, 0.9])
    assert one_sided.flatten().tolist() == [0.5, 1.5, 2.5, 4.5]  # the 1st, 3rd, 5th and 9th of 0.5, 1, ..., 4.5
    signs = torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1, 1])[:, None, None]
    levels = [0.05, 0.35, 0.5, 0.65, 0.95]
    symmetric = conformal_offsets(torch.zeros(9, 1, 1), future * signs, spread, levels)
    assert symmetric.flatten().tolist() == [-4.5, -1.5, 0.0, 1.5, 4.5]  # the 9th and 3rd


def test_missing_futures_count_as_no_windows():
    generator = torch.Generator().manual_seed(0)
    forecast, future = torch.randn(2, 40, 3, 2, generator=generator)
    spread = torch.rand(40, 3, 1, generator=generator) + 0.5
    future[10:, 1, 1] = float("nan")
    found = conformal_offsets(forecast, future, spread, LEVELS)
    fewer = conformal_offsets(forecast[:10], future[:10], spread[:10], LEVELS)
    torch.testing.assert_close(found[1, 1], fewer[1, 1])
    assert found.isfinite().all()
    assert not torch.allclose(found[0], fewer[0])


def test_the_size_of_chunks_changes_nothing(monkeypatch):
    forecast, future, spread = torch.randn(30, 5, 2, 3), torch.randn(30, 5, 2), torch.rand(30, 5, 1) + 1
    whole = conformal_offsets(forecast, future, spread, LEVELS)
    monkeypatch.setattr("tsattn.layers.probabilistic.CHUNK", 100)
    torch.testing.assert_close(conformal_offsets(forecast, future, spread, LEVELS), whole)


@pytest.mark.parametrize(
    ("levels", "point", "needed"),
    [((0.5, 0.9), False, 9), ((0.02, 0.5), False, 49), ((0.1, 0.9), True, 4), ((0.5, 0.975), True, 19)],
)
def test_too_few_windows_for_a_level_are_said_with_the_number_that_is_needed(levels, point: bool, needed: int):
    future, spread = torch.randn(needed, 2, 3), torch.ones(needed, 2, 1)
    forecast = torch.zeros(needed, 2, 3) if point else torch.zeros(needed, 2, 3, 2)
    assert conformal_offsets(forecast, future, spread, levels).isfinite().all()
    future[0, 1, 2] = float("nan")
    with pytest.raises(ValueError, match=f"Target 1 has {needed - 1} windows .* step 3 .* at least {needed} for"):
        conformal_offsets(forecast, future, spread, levels)


def simulated(windows: int, seed: int, restless: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return pasts and futures of two series around 3, and each window's deviation, which differs if `restless`."""
    generator = torch.Generator().manual_seed(seed)
    deviation = torch.randn(windows, 2, 1, generator=generator).exp() if restless else torch.ones(windows, 2, 1)
    series = 3 + deviation * torch.randn(windows, 2, 66, generator=generator)
    return series[..., :64], series[..., 64:], deviation


@pytest.mark.parametrize("kind", ["point", "quantile"])
@pytest.mark.parametrize("local", [True, False])
def test_intervals_cover_what_they_promise(kind: str, local: bool):
    levels = (0.05, 0.1, 0.5, 0.9, 0.95)
    network: ForecastNetwork = Mean(64, 2)
    if kind == "quantile":  # wrong ones, all too narrow and too high
        network = fitted(network, levels, local=True)
        network.offset.copy_(torch.linspace(-0.1, 0.5, 5).expand_as(network.offset))
    wrapper = CalibratedForecaster(network, levels, 2, local).eval()
    past, future, _ = simulated(8_000, 1, restless=True)
    assert wrapper(past[:1]).isnan().all()
    wrapper.fit_offsets(network(past), future, wrapper.spread(past))
    past, future, deviation = simulated(20_000, 2, restless=True)
    forecast = wrapper(past)
    for low, high, promised in ((1, 3, 0.8), (0, 4, 0.9)):
        inside = (forecast[..., low] <= future) & (future <= forecast[..., high])
        assert inside.double().mean().item() == pytest.approx(promised, abs=0.01)
        calm, restless = (inside[group[..., 0]].double().mean().item() for group in (deviation < 0.5, deviation > 2))
        if local:
            assert calm == pytest.approx(promised, abs=0.03)
            assert restless == pytest.approx(promised, abs=0.03)
        elif kind == "point":
            assert calm > 0.99
            assert restless < promised - 0.15
    below = (future < forecast[..., 2]).double().mean().item()
    assert below == pytest.approx(0.5, abs=0.01)
    if kind == "point":
        torch.testing.assert_close(forecast[..., 2], network(past))


def test_missing_values_do_not_count_in_the_spread():
    wrapper, past = fitted(Line()), torch.randn(2, 3, 8)
    observed = torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(0)) > 0.3
    holes = torch.where(observed, past, float("nan"))
    torch.testing.assert_close(wrapper.spread(holes, observed), normalise(holes, observed).scale[:, :2])
    assert wrapper(holes, None, observed).isfinite().all()
    assert wrapper(holes, None, observed).shape == (2, 2, 3, 3)  # two targets of three forecasts
    assert fitted(Line(), local=False).spread(past).eq(1).all()
