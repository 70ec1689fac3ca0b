"""What holds for every forecaster: shapes, missing values, compile, export, recipe, attention maps, messages."""

import importlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tsattn.contracts import ForecastNetwork
from tsattn.layers.probabilistic import QuantileForecaster, StudentTForecaster
from tsattn.models.gateformer import GatedForecaster, Gateformer
from tsattn.models.itransformer import ITransformer
from tsattn.models.mvpa_forecaster import MVPAForecaster
from tsattn.models.patchtst import PatchTST, PatchTSTOfficial
from tsattn.models.timexer import TimeXer

SMALL: dict[str, Any] = {"context": 24, "horizon": 6, "d_model": 16, "heads": 2, "layers": 2, "d_ff": 24}
PATCHED = SMALL | {"patch": 8, "stride": 4}
STAGE = {"d_model": 8, "heads": 2, "layers": 1, "d_ff": 8}
BUILD = {
    "ITransformer": lambda: ITransformer(**SMALL),
    "ITransformer raw": lambda: ITransformer(**SMALL, normalize=False, activation="relu", outputs=3),
    "ITransformer future": lambda: ITransformer(**SMALL, future_covariates=1),
    "PatchTST": lambda: PatchTST(**PATCHED),
    "PatchTSTOfficial": lambda: PatchTSTOfficial(**PATCHED),
    "PatchTSTOfficial own": lambda: PatchTSTOfficial(
        **PATCHED,
        affine=True,
        individual=True,
        subtract_last=True,
        pad_end=False,
        head_dropout=0.1,
        variates=3,
        outputs=2,
    ),
    "PatchTSTOfficial two": lambda: PatchTSTOfficial(**PATCHED, decomposition=True, kernel_size=5, outputs=2),
    "TimeXer M": lambda: TimeXer(**SMALL, variates=3, patch=8),
    "TimeXer MS": lambda: TimeXer(**SMALL, variates=3, features="MS", patch=8),
    "TimeXer remainder": lambda: TimeXer(**SMALL, variates=3, patch=7, targets=2, outputs=2),
    "TimeXer future": lambda: TimeXer(**SMALL, variates=3, patch=8, future_covariates=1),
    "Gateformer": lambda: Gateformer(**PATCHED),
    "MVPAForecaster": lambda: MVPAForecaster(**PATCHED),
    "MVPAForecaster remainder": lambda: MVPAForecaster(**SMALL, patch=7, stride=7, window=1, channel_rows=3, outputs=2),
    "Gated ITransformer": lambda: GatedForecaster(ITransformer(**SMALL), **STAGE),
    "Gated PatchTST": lambda: GatedForecaster(PatchTST(**PATCHED), **STAGE, outputs=2),
    "Gated TimeXer": lambda: GatedForecaster(TimeXer(**SMALL, variates=3, patch=8), **STAGE),
    "Quantile Gateformer": lambda: QuantileForecaster(Gateformer(**PATCHED, outputs=3), [0.1, 0.5, 0.9]),
    "Student PatchTST": lambda: StudentTForecaster(PatchTST(**PATCHED, outputs=2), [0.25, 0.75]),
}
READS_MISSING = [name for name in BUILD if name not in ("ITransformer raw", "PatchTSTOfficial two")]
SLOW = ("TimeXer remainder", "Gated PatchTST", "Quantile Gateformer", "Student PatchTST")  # to compile
FUTURE = ["ITransformer future", "TimeXer future"]
TARGETS = {"TimeXer MS": 1, "TimeXer remainder": 2}
NUMBERS = {
    "ITransformer raw": (3,),
    "PatchTSTOfficial own": (2,),
    "PatchTSTOfficial two": (2,),
    "TimeXer remainder": (2,),
    "MVPAForecaster remainder": (2,),
    "Gated PatchTST": (2,),
    "Quantile Gateformer": (3,),
    "Student PatchTST": (2,),
}


def build(name: str) -> ForecastNetwork:
    torch.manual_seed(0)
    return BUILD[name]().eval()


def batch(size: int = 2, variates: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Past, known (two marks) and a mask with scattered gaps, an unseen patch and an unseen variate."""
    generator = torch.Generator().manual_seed(1)
    past = torch.randn(size, variates, 24, generator=generator).cumsum(-1)
    known = torch.rand(size, 2, 30, generator=generator) - 0.5
    observed = torch.rand(size, variates, 24, generator=generator) > 0.2
    observed[0, 0, 8:16] = False
    observed[-1, -1] = False
    return past, known, observed


@pytest.fixture
def compiled(unchecked: None) -> Callable[[nn.Module], nn.Module]:
    """Compile a whole module without a graph break."""
    return lambda module: torch.compile(module, fullgraph=True, backend="aot_eager")


@pytest.mark.parametrize("name", BUILD)
def test_shapes_and_features(name: str):
    network, (past, known, _) = build(name), batch()
    targets = TARGETS.get(name, 3)
    assert network(past, known).shape == (2, targets, 6, *NUMBERS.get(name, ()))
    assert (network.targets or 3) == targets
    assert network.features(past, known).shape == (2, targets, network.feature_size)
    if name not in FUTURE:
        assert network(past).shape == network(past, known).shape


@pytest.mark.parametrize("name", BUILD)
def test_what_a_network_says_of_itself_is_true(name: str):
    network, (past, known, _) = build(name), batch()
    before, features = network(past, known), network.features(past, known)
    other = past.clone()
    other[:, 1] = -other[:, 1] + torch.arange(24)
    assert torch.allclose(network(other, known)[:, 0], before[:, 0], atol=1e-6) != network.reads_covariates
    marks = known.clone()
    marks[..., 10] += 1
    assert torch.equal(network(past, marks), before) != network.reads_known
    marks = known.clone()
    marks[..., 24:] += 1
    assert torch.equal(network(past, marks), before) == (network.future_covariates is None)
    assert network.levels is None or network(past, known).diff(dim=-1).ge(0).all()
    modules = dict(network.named_modules())
    with torch.no_grad():
        for last in network.last:
            for parameter in modules[last].parameters():
                parameter.add_(0.5)
    assert torch.equal(network.features(past, known), features)
    assert not torch.allclose(network.eval()(past, known), before)


@pytest.mark.parametrize("name", BUILD)
def test_every_map_has_the_axes_that_are_promised(name: str):
    network, (past, known, _) = build(name), batch()
    rows = known.shape[1] if network.reads_known else 0
    patch, stride, count = network.patching or (24, 24, 1)
    assert (count - 1) * stride < 24 <= (count - 1) * stride + patch + stride
    sizes = {"head": 2, "target": TARGETS.get(name, 3), "patch": count, "token": count + 1, "cell": count * (3 + rows)}
    sizes["exogenous"] = (2 if name == "TimeXer MS" else 3) + rows
    kinds = []
    for key, weights in network.attention_maps(past, known).items():
        kinds.append(" ".join(re.sub(r"layer \d+", "", key).split()))
        axes = network.attention_axes[kinds[-1]]
        expected = [sizes | {"variate": 3} for _ in axes[:-2]]  # as query and key, rows of `known` count, too,
        expected += [sizes | {"variate": 3 if kinds[-1] == "variate" else 3 + rows}] * 2  # but a gated stage has none
        assert weights.shape == (2, *(of[axis] for of, axis in zip(expected, axes, strict=True))), key
    assert set(kinds) == set(network.attention_axes)


@pytest.mark.parametrize("name", FUTURE)
def test_what_is_known_ahead_is_read_whatever_its_level_and_scale(name: str):
    network, (past, known, observed) = build(name), batch()
    before = network(past, known, observed)
    ahead = known.clone()
    ahead[:, 0] = 7 * ahead[:, 0] - 3
    torch.testing.assert_close(network(past, ahead, observed), before, atol=1e-3, rtol=1e-3)
    ahead[:, 0, 24:] += 1
    assert not torch.allclose(network(past, ahead, observed), before, atol=1e-2)
    ahead = known.clone()
    ahead[:, 1] += 1  # a mark, which has no level of its own
    assert not torch.allclose(network(past, ahead, observed), before, atol=1e-2)


@pytest.mark.parametrize("name", FUTURE)
def test_what_is_known_ahead_may_be_missing(name: str):
    network, (past, known, observed) = build(name), batch()
    known = torch.cat([known, known + 1], 1)
    known[0, 0] = known[0, 1] = float("nan")  # nothing at all of a covariate and of a mark
    known[1, 0, :24] = known[1, 1, 24:] = known[:, 2, ::3] = float("nan")
    known.requires_grad_()
    for mask in (observed, None):
        forecast = network(past, known, mask)
        (gradient,) = torch.autograd.grad(forecast.square().sum(), known)
        assert forecast.isfinite().all()
        assert gradient.isfinite().all()
        assert gradient[0, :2].eq(0).all()
        assert gradient[1, 0].eq(0).all()
        assert gradient[1, 1, :24].ne(0).all()
    torch.testing.assert_close(network(past, known)[:1], network(past[:1], known[:1, [0, 2, 3]]))  # as if not there
    every = torch.full_like(known, float("nan"))
    assert network(past, every, torch.zeros_like(observed)).isfinite().all()
    kind = next(iter(network.attention_axes))
    weights = network.attention_maps(past, known)[f"layer 0 {kind}".rstrip()]
    assert weights[0, ..., 3:5].eq(0).all()
    assert weights[1, ..., 4].gt(0).all()


@pytest.mark.parametrize("name", FUTURE)
def test_covariates_that_are_not_there_are_asked_for(name: str):
    network, (past, known, _) = build(name), batch()
    with pytest.raises(ValueError, match="known is None, expected at least the 1 covariates"):
        network(past)
    with pytest.raises(ValueError, match="known is 0 rows, expected at least the 1 covariates"):
        network(past, known[:, :0])
    with pytest.raises(ValueError, match="future_covariates is -1, expected None or a number"):
        type(network)(**network.recipe["init_args"] | {"future_covariates": -1})
    with pytest.raises(
        ValueError, match="known_rows is 0 with future_covariates=1, expected None, or at least as many"
    ):
        type(network)(**network.recipe["init_args"] | {"known_rows": 0})


@pytest.mark.parametrize("name", [*FUTURE, "MVPAForecaster"])
def test_rows_of_known_can_be_told_apart_if_there_is_a_number_of_them(name: str):
    def swapped(network: ForecastNetwork) -> bool:
        past, known, _ = batch()
        return torch.allclose(network(past, known.flip(1)), network(past, known), atol=1e-6)

    arguments = build(name).recipe["init_args"] | ({"future_covariates": 2} if name in FUTURE else {})
    assert swapped(type(build(name))(**arguments).eval())
    named = type(build(name))(**arguments | {"known_rows": 2}).eval()
    assert not swapped(named)
    past, known, _ = batch()
    with pytest.raises(ValueError, match="known has 3 rows, expected the 2 that the weights are for"):
        named(past, torch.cat([known, known[:, :1]], 1))
    with pytest.raises(ValueError, match="known_rows is -1"):
        type(named)(**arguments | {"known_rows": -1})


@pytest.mark.parametrize("name", [name for name in BUILD if "Q" not in name and "Student" not in name])
def test_more_outputs_change_the_last_map_alone(name: str):
    network, (past, known, _) = build(name), batch()

    def remade(outputs: int) -> ForecastNetwork:
        arguments = network.recipe["init_args"] | {"outputs": outputs}
        if "network" in arguments:
            arguments["network"] = network.network
        torch.manual_seed(0)
        return type(network)(**arguments).eval()

    one, three = remade(1), remade(3)
    kept = {key: x for key, x in one.state_dict().items() if not key.startswith(network.last)}
    state = three.state_dict() | kept
    for key in state.keys() - kept.keys():  # the second of the three numbers of each step is the one
        axis = 1 if name == "PatchTSTOfficial own" else 0  # after that of variates
        steps = state[key].unflatten(axis, (6, 3)).clone()
        steps.select(axis + 1, 1).copy_(one.state_dict()[key])
        state[key] = steps.flatten(axis, axis + 1)
    three.load_state_dict(state)
    torch.testing.assert_close(three(past, known)[..., 1], one(past, known), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="outputs is 0, expected at least 1"):
        remade(0)


@pytest.mark.parametrize("name", BUILD)
def test_attention_maps_are_distributions_and_unseen_keys_get_none(name: str):
    network, (past, known, observed) = build(name), batch()
    mask = observed if name in READS_MISSING else None
    maps = network.attention_maps(past, known, mask)
    assert maps
    for weights in maps.values():
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    if name == "ITransformer":
        assert list(maps) == ["layer 0", "layer 1"]
        assert maps["layer 0"].shape == (2, 2, 5, 5)
        assert maps["layer 0"][1, :, :, 2].eq(0).all()
        assert maps["layer 0"][0].gt(0).all()


@pytest.mark.parametrize("name", READS_MISSING)
def test_what_stands_at_missing_places_changes_nothing(name: str):
    network, (past, known, observed) = build(name), batch()
    expected = network(past, known, observed)
    assert expected.isfinite().all()
    for filler in (float("nan"), 1e30, 0.0):
        filled = torch.where(observed, past, filler).requires_grad_()
        forecast = network(filled, known, observed)
        assert torch.equal(forecast, expected)
        (gradient,) = torch.autograd.grad(forecast.square().sum(), filled)
        assert gradient.isfinite().all()
        assert gradient[~observed].eq(0).all()
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", READS_MISSING)
def test_nothing_observed_at_all_stays_finite(name: str):
    network, (past, known, observed) = build(name), batch()
    past = torch.full_like(past, float("nan")).requires_grad_()
    forecast = network(past, known, torch.zeros_like(observed))
    (gradient,) = torch.autograd.grad(forecast.sum(), past)
    assert forecast.isfinite().all()
    assert gradient.eq(0).all()
    network.train()(past, known, torch.zeros_like(observed)).sum().backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in network.parameters())


@pytest.mark.parametrize("name", READS_MISSING)
def test_everything_observed_equals_no_mask(name: str):
    network, (past, known, _) = build(name), batch()
    masked = network(past, known, torch.ones_like(past, dtype=torch.bool))
    torch.testing.assert_close(masked, network(past, known), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in BUILD if name not in READS_MISSING])
def test_a_network_that_cannot_read_gaps_says_why(name: str):
    network, (past, known, observed) = build(name), batch()
    with pytest.raises(ValueError, match=network.why_no_missing):
        network(past, known, observed)
    torch.testing.assert_close(network(past, known, torch.ones_like(observed)), network(past, known))


@pytest.mark.parametrize("name", BUILD)
def test_a_constant_variate_stays_finite(name: str):
    network, (past, known, _) = build(name), batch()
    past[:, 0] = 5.0
    past.requires_grad_()
    forecast = network(past, known)
    (gradient,) = torch.autograd.grad(forecast.square().sum(), past)
    assert forecast.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", BUILD)
def test_recipe_and_weights_make_an_equal_network(name: str):
    network, (past, known, _) = build(name), batch()

    def rebuild(recipe: dict[str, Any]) -> ForecastNetwork:
        module, _, cls = recipe["class_path"].rpartition(".")
        arguments = {k: rebuild(v) if isinstance(v, dict) else v for k, v in recipe["init_args"].items()}
        return getattr(importlib.import_module(module), cls)(**arguments)

    again = rebuild(network.recipe).eval()
    again.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(again(past, known), network(past, known))
    assert not any("position" in key for key in network.state_dict()) or "Official" in name


@pytest.mark.parametrize("name", [name for name in BUILD if name not in SLOW])
def test_it_compiles_whole_in_training(name: str, compiled):
    network, (past, known, observed) = build(name), batch()
    network.train()
    for module in network.modules():  # another order of random numbers is no error, so compare without them
        if hasattr(module, "p"):
            module.p = 0.0
    mask = observed if name in READS_MISSING else None
    expected = network(past, known, mask)
    expected_gradients = torch.autograd.grad(expected.sum(), list(network.parameters()), allow_unused=True)
    forecast = compiled(network)(past, known, mask)
    torch.testing.assert_close(forecast, expected)
    gradients = torch.autograd.grad(forecast.sum(), list(network.parameters()), allow_unused=True)
    for ours, theirs in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ITransformer", "TimeXer M"])
def test_it_compiles_with_dropout(name: str, compiled):
    network, (past, known, _) = build(name), batch()
    module = compiled(network.train())
    first, second = module(past, known), module(past, known)
    assert not torch.equal(first, second)
    first.sum().backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in network.parameters())


@pytest.mark.parametrize("name", BUILD)
def test_it_exports_for_any_batch_size(name: str):
    network, (past, known, observed) = build(name), batch()
    mask = observed if name in READS_MISSING else None
    size = torch.export.Dim("batch", min=2, max=64)
    shapes = {"past": {0: size}, "known": {0: size}, "observed": None if mask is None else {0: size}}
    program = torch.export.export(network, (past, known, mask), dynamic_shapes=shapes)
    past, known, observed = batch(5)
    mask = observed if name in READS_MISSING else None
    torch.testing.assert_close(program.module()(past, known, mask), network(past, known, mask))


@pytest.mark.parametrize("name", BUILD)
def test_a_short_past_and_short_marks_are_refused(name: str):
    network, (past, known, _) = build(name), batch()
    with pytest.raises(ValueError, match=r"past has 23 steps, expected context=24"):
        network(past[..., 1:])
    with pytest.raises(ValueError, match=r"known has shape \(2, 2, 24\), expected \(2, any, 30\)"):
        network(past, known[..., :24])


@pytest.mark.parametrize("name", [name for name in BUILD if build(name).variates == 3])
def test_a_fixed_number_of_variates_is_checked(name: str):
    with pytest.raises(ValueError, match="past has 4 variates, expected the 3"):
        build(name)(batch(variates=4)[0])


@pytest.mark.parametrize("name", [name for name in BUILD if build(name).variates is None])
def test_any_number_of_variates(name: str):
    for variates in (1, 5):
        past, known, _ = batch(variates=variates)
        shape = (2, build(name).targets or variates, 6, *NUMBERS.get(name, ()))
        assert build(name)(past, known).shape == shape


@pytest.mark.parametrize("name", BUILD)
def test_it_learns(name: str):
    network, (past, known, _) = build(name), batch()
    future = past[:, : TARGETS.get(name, 3), -6:]
    if name in NUMBERS:
        future = future[..., None]
    optimizer = torch.optim.Adam(network.train().parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = (network(past, known) - future).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", BUILD)
def test_mixed_precision_and_double_precision_work(name: str):
    network, (past, known, observed) = build(name), batch()
    mask = observed if name in READS_MISSING else None
    expected = network(past, known, mask)
    with torch.autocast("cpu", torch.bfloat16):
        forecast = network(past, known, mask)
    torch.testing.assert_close(forecast, expected, atol=0.1, rtol=0.1, check_dtype=False)
    with torch.autocast("cpu", torch.bfloat16):
        network.train()(past, known, mask).square().mean().backward()
    double = build(name).double()(past.double(), known.double(), mask)
    torch.testing.assert_close(double.float(), expected, atol=1e-4, rtol=1e-4)
