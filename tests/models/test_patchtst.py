"""Both PatchTSTs and what their maths promises."""

import pytest
import torch

from tsattn.models.patchtst import PatchTST, PatchTSTOfficial

SMALL = {"d_model": 16, "heads": 2, "layers": 2, "d_ff": 16, "patch": 8, "stride": 4}


def test_sizes_on_etth1_are_those_of_the_references():
    """Time-Series-Library's position table and the official attention scales are no weights of ours.

    The table is a buffer there, so the count of parameters is theirs exactly; the official scales are counted as
    parameters only where a frozen scalar is (3 of them), and the spec's number leaves them out.
    """
    tslib = PatchTST(96, 96, d_model=512, heads=2, layers=1, d_ff=2048)
    assert sum(x.numel() for x in tslib.parameters()) == 3_751_520
    official = PatchTSTOfficial(336, 96, d_model=16, heads=4, layers=3, d_ff=128, dropout=0.3)
    assert sum(x.numel() for x in official.parameters()) == 81_728


@pytest.mark.parametrize("cls", [PatchTST, PatchTSTOfficial])
def test_a_variate_is_forecast_from_itself_alone(cls: type):
    network = cls(24, 4, **SMALL).eval()
    past = torch.randn(2, 3, 24)
    other = past.clone()
    other[:, 1] = torch.randn(2, 24)
    torch.testing.assert_close(network(other)[:, [0, 2]], network(past)[:, [0, 2]], atol=1e-6, rtol=0)


def test_own_weights_need_the_number_of_variates():
    with pytest.raises(ValueError, match="variates is None with affine=False and individual=True"):
        PatchTSTOfficial(24, 4, **SMALL, individual=True)


def test_impossible_arguments_are_named():
    with pytest.raises(ValueError, match="kernel_size is 4, expected an odd number"):
        PatchTSTOfficial(24, 4, **SMALL, decomposition=True, kernel_size=4)
    with pytest.raises(ValueError, match="d_model is 16, expected a multiple of heads=3"):
        PatchTSTOfficial(24, 4, **(SMALL | {"heads": 3}))
    with pytest.raises(ValueError, match='activation is "silu", expected "gelu" or "relu"'):
        PatchTST(24, 4, **SMALL, activation="silu")
    with pytest.raises(ValueError, match="horizon is 0, expected at least 1"):
        PatchTST(24, 0, **SMALL)


def test_the_last_observed_value_is_subtracted():
    network = PatchTSTOfficial(24, 4, **SMALL, subtract_last=True).eval()
    past, observed = torch.randn(1, 1, 24), torch.ones(1, 1, 24, dtype=torch.bool)
    observed[..., -3:] = False
    shifted = torch.where(observed, past, float("nan")) + 100
    torch.testing.assert_close(
        network(shifted, observed=observed) - 100, network(past, observed=observed), atol=1e-3, rtol=0
    )
