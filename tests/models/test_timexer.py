"""TimeXer and what its own maths promises."""

import pytest
import torch

from tsattn.models.timexer import TimeXer

SMALL = {"d_model": 16, "heads": 2, "layers": 1, "d_ff": 16, "patch": 8}


def test_sizes_are_those_of_the_paper():
    etth1 = TimeXer(96, 96, 7, d_model=256, heads=8, layers=1, d_ff=2048)
    assert sum(x.numel() for x in etth1.parameters()) == 1_782_112
    nord_pool = TimeXer(168, 24, 3, "MS", d_model=512, heads=8, layers=3, d_ff=512, patch=24)
    assert sum(x.numel() for x in nord_pool.parameters()) == 8_087_576


def test_exogenous_series_have_no_order_and_any_number():
    network = TimeXer(24, 4, 3, "MS", **SMALL).eval()
    past = torch.randn(2, 3, 24)
    torch.testing.assert_close(network(past[:, [0, 2, 1]]), network(past), atol=1e-6, rtol=1e-5)
    assert network(torch.randn(2, 6, 24)).shape == (2, 1, 4)


def test_alone_and_without_marks_the_cross_attention_reads_nothing():
    network = TimeXer(24, 4, 1, "S", **SMALL).eval()
    past = torch.randn(2, 1, 24)
    assert network(past).isfinite().all()
    before = network(past)
    with torch.no_grad():
        network.layers[0].cross_attention.kv.weight.normal_()
    assert torch.equal(network(past), before)
    assert network.attention_maps(past)["layer 0 exogenous"].shape == (2, 2, 1, 0)
    observed = torch.rand(2, 1, 24) > 0.5
    assert network(past, observed=observed).isfinite().all()


def test_the_newest_steps_that_fill_no_patch_reach_the_exogenous_tokens_only():
    network = TimeXer(26, 4, 2, "MS", **SMALL, normalize=False).eval()
    past = torch.randn(2, 2, 26)
    target, exogenous = past.clone(), past.clone()
    target[:, 0, 24:] = 9.0
    exogenous[:, 1, 24:] = 9.0
    assert torch.equal(network(target), network(past))
    assert not torch.equal(network(exogenous), network(past))


def test_impossible_arguments_are_named():
    with pytest.raises(ValueError, match='features is "MM", expected "M", "MS" or "S"'):
        TimeXer(24, 4, 1, "MM", **SMALL)
    with pytest.raises(ValueError, match="variates is 2, expected 1"):
        TimeXer(24, 4, 2, "S", **SMALL)
    with pytest.raises(ValueError, match="context is 7 steps, expected at least patch=8"):
        TimeXer(7, 4, 2, "M", **SMALL)


def test_fewer_targets_than_series_read_all_of_them():
    network = TimeXer(24, 4, 3, targets=2, **SMALL).eval()
    past = torch.randn(2, 3, 24)
    assert network.targets == 2
    assert network.global_token.shape == (2, 16)
    assert network(past).shape == (2, 2, 4)
    for i in range(3):
        other = past.clone()
        other[:, i] = torch.randn(2, 24)
        assert not torch.allclose(network(other)[:, 1], network(past)[:, 1], atol=1e-4)


def test_all_series_as_targets_is_the_same_as_none_named():
    torch.manual_seed(0)
    named = TimeXer(24, 4, 3, targets=3, **SMALL).eval()
    torch.manual_seed(0)
    plain = TimeXer(24, 4, 3, **SMALL).eval()
    assert named.targets is plain.targets is None
    past = torch.randn(2, 3, 24)
    assert torch.equal(named(past), plain(past))


def test_impossible_targets_are_named():
    with pytest.raises(ValueError, match='targets is 4, expected None or 1 to 3 with features="M" and variates=3'):
        TimeXer(24, 4, 3, targets=4, **SMALL)
    with pytest.raises(ValueError, match='targets is 2, expected None or 1 with features="MS" and variates=3'):
        TimeXer(24, 4, 3, "MS", targets=2, **SMALL)
    with pytest.raises(ValueError, match="targets is 0"):
        TimeXer(24, 4, 1, "S", targets=0, **SMALL)
    assert TimeXer(24, 4, 3, "MS", targets=1, **SMALL).targets == 1
