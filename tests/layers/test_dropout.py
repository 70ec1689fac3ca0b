"""The fast dropout for CPUs keeps the promises of the slow one."""

import pytest
import torch
from torch.nn import functional as F

from tsattn.layers.dropout import Dropout, activate_dropped, add_dropped, dropout, keep_mask


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
def test_rate_and_mean_are_those_asked_for(p: float):
    torch.manual_seed(0)
    mask = keep_mask(torch.empty(1_000_003), p)
    sigma = (p * (1 - p) / mask.numel()) ** 0.5
    assert (mask == 0).float().mean().item() == pytest.approx(p, abs=5 * sigma + 2**-17)
    assert mask.double().mean().item() == pytest.approx(1.0, abs=5 * sigma / (1 - p))
    assert mask.unique().numel() == 2


def test_neighbours_are_independent():
    torch.manual_seed(0)
    dropped = (keep_mask(torch.empty(1 << 20), 0.5) == 0).double()
    for lag in (1, 2, 3, 4, 5):
        assert torch.corrcoef(torch.stack([dropped[:-lag], dropped[lag:]]))[0, 1].abs() < 0.005


def test_gradient_is_the_mask():
    x = torch.randn(3, 5, 7, requires_grad=True)
    torch.manual_seed(1)
    dropout(x, 0.3).sum().backward()
    torch.manual_seed(1)
    torch.testing.assert_close(x.grad, keep_mask(x, 0.3), rtol=0, atol=0)


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_fused_forms_equal_their_parts(activation: str):
    x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    residual = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(4, 9, dtype=torch.float64)
    torch.manual_seed(2)
    fused = torch.autograd.grad(activate_dropped(x, activation, 0.4), x, upstream)[0]
    torch.manual_seed(2)
    parts = torch.autograd.grad(dropout(getattr(F, activation)(x), 0.4), x, upstream)[0]
    torch.testing.assert_close(fused, parts)
    torch.manual_seed(3)
    fused_pair = torch.autograd.grad(add_dropped(residual, x, 0.4), (residual, x), upstream)
    torch.manual_seed(3)
    torch.testing.assert_close(fused_pair, torch.autograd.grad(residual + dropout(x, 0.4), (residual, x), upstream))


def test_second_derivatives_and_functional_gradients_exist():
    x = torch.randn(6, dtype=torch.float64, requires_grad=True)

    def value(x):
        torch.manual_seed(5)
        return activate_dropped(x, "gelu", 0.3)

    assert torch.autograd.gradcheck(value, (x,))
    assert torch.autograd.gradgradcheck(value, (x,))
    functional = torch.func.grad(lambda x: value(x).sum())(x)
    torch.testing.assert_close(functional, torch.autograd.grad(value(x).sum(), x)[0])


def test_seed_repeats_the_mask_and_evaluation_drops_nothing():
    x, module = torch.ones(100), Dropout(0.5)
    torch.manual_seed(4)
    first = module(x)
    assert not torch.equal(first, module(x))
    torch.manual_seed(4)
    assert torch.equal(first, module(x))
    assert module.eval()(x) is x


@pytest.mark.parametrize(("p", "expected"), [(0.0, 1.0), (1.0, 0.0), (1e-9, 1.0)])
def test_extreme_probabilities(p: float, expected: float):
    assert torch.equal(dropout(torch.ones(9), p), torch.full((9,), expected))


def test_a_probability_above_one_is_refused():
    with pytest.raises(ValueError, match=r"dropout is 1\.5, expected a probability"):
        Dropout(1.5)
