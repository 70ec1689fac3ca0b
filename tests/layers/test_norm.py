"""Instance normalisation: known answers, missing values, gradients."""

import pytest
import torch

from tsattn.layers.norm import normalise


def test_known_answer():
    series, mean, scale = normalise(torch.tensor([[[1.0, 3.0]]]))
    assert mean.item() == 2.0
    assert scale.item() == pytest.approx((1 + 1e-5) ** 0.5)
    assert series.flatten().tolist() == pytest.approx([-1, 1], rel=1e-5)


def test_missing_values_count_in_neither_statistic_and_become_zero():
    past = torch.tensor([[[1.0, float("nan"), 3.0, 1e9]]])
    observed = torch.tensor([[[True, False, True, False]]])
    masked, whole = normalise(past, observed), normalise(past[..., [0, 2]])
    torch.testing.assert_close(masked.series[..., [0, 2]], whole.series)
    assert masked.series[0, 0, [1, 3]].tolist() == [0, 0]
    torch.testing.assert_close(masked.scale, whole.scale)


@pytest.mark.parametrize("masked", [False, True])
def test_constant_and_empty_series_stay_finite(masked: bool):
    past = torch.full((1, 2, 4), 7.0)
    observed = torch.tensor([[[True] * 4, [False] * 4]]) if masked else None
    series, mean, scale = normalise(past, observed)
    assert torch.equal(series, torch.zeros(1, 2, 4))
    assert mean.flatten().tolist() == [7, 0 if masked else 7]
    assert scale.flatten().tolist() == pytest.approx([1e-5**0.5] * 2)


def test_everything_observed_equals_no_mask_with_gradient():
    past = torch.randn(2, 3, 10, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 3, 10, dtype=torch.float64)

    def gradient(observed):
        series, _, scale = normalise(past, observed)
        return torch.autograd.grad((series * weight).sum() + scale.sum(), past)[0]

    torch.testing.assert_close(gradient(torch.ones(2, 3, 10, dtype=torch.bool)), gradient(None))
