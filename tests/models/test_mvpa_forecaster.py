"""The MVPA forecaster and what its own maths promises."""

import pytest
import torch
from torch import Tensor

from tsattn.models.mvpa_forecaster import MVPAForecaster

SMALL = {"context": 24, "horizon": 6, "d_model": 16, "heads": 2, "d_ff": 24, "patch": 8, "stride": 8}


def build(**arguments) -> MVPAForecaster:
    """Return a network whose weights are large enough for every term of the attention to matter."""
    torch.manual_seed(0)
    network = MVPAForecaster(**(SMALL | arguments)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "attention" in name or "table" in name:
                parameter.normal_(std=0.3)
    return network


def batch(variates: int = 4, size: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(size, variates, 24, generator=generator).cumsum(-1),
        torch.rand(size, 2, 30, generator=generator) - 0.5,
    )


def test_parameters_are_counted_by_hand():
    d, ff, patch, count, horizon, layers = 16, 24, 8, 3, 6, 2
    attention = 6 * d * d + 3 * d  # query, key, value, time key, channel key, output; three biases
    block = attention + 2 * 2 * d + (d * ff + ff) + (ff * d + d)
    tables = 2 * count * d + 2 * d
    head = 2 * d + count * d * horizon + horizon
    expected = 2 * (patch * d + d) + tables + layers * block + head
    assert sum(x.numel() for x in MVPAForecaster(**SMALL, layers=layers).parameters()) == expected


def test_every_term_of_the_attention_is_read():
    network, (past, known) = build(), batch()
    network(past, known).square().sum().backward()
    untouched = [name for name, x in network.named_parameters() if x.grad is None or x.grad.abs().sum() == 0]
    assert untouched == []


def test_the_first_step_reads_the_last_one():
    maps = build().attention_maps(batch()[0])
    assert maps["layer 0"][:, :, :4, -4:].gt(0).all()  # four channels of the first and of the last patch


def test_reordering_variates_reorders_the_forecast():
    network, (past, known), order = build(), batch(), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(network(past[:, order], known), network(past, known)[:, order], atol=1e-4, rtol=1e-4)


def test_with_more_channel_rows_only_reversing_variates_reverses_the_forecast():
    network, past = build(channel_rows=4), batch()[0]
    torch.testing.assert_close(network(past.flip(1)), network(past).flip(1), atol=1e-4, rtol=1e-4)
    order = torch.tensor([2, 0, 3, 1])
    assert not torch.allclose(network(past[:, order]), network(past)[:, order], atol=1e-2)


def test_distances_beyond_the_table_share_its_last_row():
    few, many, past = build(channel_rows=2), build(channel_rows=4), batch()[0]
    state = few.state_dict()
    state["channel_table"] = state["channel_table"][torch.tensor([0, 1, 1, 1])]
    many.load_state_dict(state)
    torch.testing.assert_close(many(past), few(past))


@pytest.mark.parametrize("channel_rows", [2, 4])
def test_a_missing_last_variate_is_the_same_as_an_absent_one(channel_rows: int):
    network, past = build(channel_rows=channel_rows), batch()[0]
    observed = torch.ones_like(past, dtype=torch.bool)
    observed[:, -1] = False
    torch.testing.assert_close(network(past, None, observed)[:, :-1], network(past[:, :-1]), atol=1e-5, rtol=1e-4)


def test_a_missing_patch_is_not_read():
    network, past = build(), batch()[0]
    observed = torch.ones_like(past, dtype=torch.bool)
    observed[0, 1, 8:16] = False
    weights = network.attention_maps(past, None, observed)["layer 0"]
    hidden = 1 * 4 + 1  # patch 1 of variate 1
    assert weights[0, ..., hidden].eq(0).all()
    assert weights[1:, ..., hidden].gt(0).all()
    assert network(past, None, observed).isfinite().all()


def test_other_variates_are_read():
    network, past = build(), batch()[0]
    other = past.clone()
    other[:, 1] = other[:, 1].flip(-1)
    assert not torch.allclose(network(past)[:, 0], network(other)[:, 0], atol=1e-3)


def test_known_covariates_are_read_in_the_context_only():
    network, (past, known) = build(), batch()
    other = known.clone()
    other[..., 24:] = 9.0
    assert torch.equal(network(past, known), network(past, other))
    other[..., 23] = 9.0
    assert not torch.allclose(network(past, known), network(past, other), atol=1e-3)
    assert not torch.allclose(network(past, known), network(past), atol=1e-3)


def test_a_forecast_does_not_depend_on_the_other_samples():
    network, (past, known) = build(), batch()
    observed = torch.rand(past.shape, generator=torch.Generator().manual_seed(2)) > 0.3
    alone = [network(*(x[i : i + 1] for x in (past, known, observed))) for i in range(3)]
    torch.testing.assert_close(network(past, known, observed), torch.cat(alone), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("patch", "stride", "count"), [(8, 8, 3), (7, 7, 4), (7, 3, 7), (24, 5, 1)])
def test_the_patches_end_at_the_newest_step_or_less_than_a_stride_beyond(patch: int, stride: int, count: int):
    network = build(patch=patch, stride=stride)
    assert network.count == count
    assert 0 <= (count - 1) * stride + patch - 24 < stride
    assert network(batch()[0]).shape == (3, 4, 6)


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="channel_rows is 0, expected at least 1"):
        MVPAForecaster(**SMALL, channel_rows=0)
    with pytest.raises(ValueError, match="stride is 0"):
        MVPAForecaster(**(SMALL | {"stride": 0}))
    with pytest.raises(ValueError, match="d_model is 16 and heads 3"):
        MVPAForecaster(**(SMALL | {"heads": 3}))


def test_a_patch_longer_than_the_context_is_the_context():
    assert MVPAForecaster(24, 6, d_model=16, heads=2, d_ff=16, patch=25).count == 1


def test_every_step_of_the_context_is_read_whatever_the_patch():
    for patch, stride in ((12, None), (7, None), (8, 4), (24, None)):
        past = torch.randn(1, 2, 24).cumsum(-1).requires_grad_()
        MVPAForecaster(24, 6, d_model=16, heads=2, d_ff=16, patch=patch, stride=stride)(past).square().sum().backward()
        assert past.grad is not None
        assert past.grad.ne(0).all(), (patch, stride)


def test_a_stride_that_would_skip_steps_is_refused_in_words():
    with pytest.raises(ValueError, match="stride is 9 and patch 8, expected stride <= patch"):
        MVPAForecaster(24, 6, patch=8, stride=9)


def test_no_layers_are_refused_in_words():
    with pytest.raises(ValueError, match="layers is 0, expected at least 1"):
        MVPAForecaster(24, 6, patch=8, layers=0)


def test_marginals_are_those_of_the_maps_and_of_attention_without_a_term():
    network, (past, known) = build(layers=2), batch()
    observed = torch.ones_like(past, dtype=torch.bool)
    observed[0, 1, 8:16] = False
    observed[2, 0] = False
    marginals = network.marginals(past, known, observed)
    terms = ("all", "without content", "without time", "without channel")
    assert set(marginals) == {f"{axis} {term}" for axis in ("channels", "steps") for term in terms}
    for name, share in marginals.items():
        size = 6 if name.startswith("channels") else 3
        assert share.shape == (3, 2, 2, size, size)  # (batch, layer, head, query, key)
        torch.testing.assert_close(share.sum(-1), torch.ones(share.shape[:-1]))
        assert name.startswith("steps") or share[2, ..., 0].eq(0).all()  # a variate with nothing observed
    for i in range(2):  # token t * channels + c
        cells = network.attention_maps(past, known, observed)[f"layer {i}"].view(3, 2, 3, 6, 3, 6)
        torch.testing.assert_close(marginals["channels all"][:, i], cells.sum(4).mean(2))
        torch.testing.assert_close(marginals["steps all"][:, i], cells.sum(5).mean(3))


@pytest.mark.parametrize(("term", "key"), [("content", "key"), ("time", "time_key"), ("channel", "channel_key")])
def test_without_a_term_a_layer_reads_as_if_its_keys_were_zero(term: str, key: str):
    network, (past, known) = build(layers=1), batch()
    marginals = network.marginals(past, known)
    with torch.no_grad():
        getattr(network.layers[0].attention, key).weight.zero_()
    silent = network.marginals(past, known)
    for axis in ("channels", "steps"):
        torch.testing.assert_close(marginals[f"{axis} without {term}"], silent[f"{axis} all"])
        assert not torch.allclose(marginals[f"{axis} all"], silent[f"{axis} all"], atol=1e-3)


def test_marginals_where_nothing_may_be_read_are_zero():
    network, (past, _) = build(), batch()
    marginals = network.marginals(past, None, torch.zeros_like(past, dtype=torch.bool))
    assert all(share.eq(0).all() for share in marginals.values())
