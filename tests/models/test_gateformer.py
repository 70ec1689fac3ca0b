"""Gateformer, its framework form, and what their gates promise."""

import pytest
import torch

from tsattn.contracts import ForecastNetwork
from tsattn.layers.norm import normalise
from tsattn.models.gateformer import GatedForecaster, Gateformer
from tsattn.models.itransformer import ITransformer
from tsattn.models.patchtst import PatchTST
from tsattn.models.timexer import TimeXer

SMALL = {"d_model": 16, "heads": 2, "layers": 2, "d_ff": 16}


def test_size_on_etth1_is_that_of_the_reference():
    assert sum(x.numel() for x in Gateformer(96, 96, layers=1).parameters()) == 133_344


def test_reordering_variates_reorders_the_forecast():
    network = Gateformer(24, 4, **SMALL).eval()
    past, order = torch.randn(2, 5, 24), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(network(past[:, order]), network(past)[:, order], atol=1e-5, rtol=1e-4)


def test_layers_of_a_stack_start_alike_and_then_differ():
    network = Gateformer(24, 4, **SMALL)
    for stack in (network.temporal, network.stage.layers):
        first, second = (torch.cat([x.flatten() for x in layer.parameters()]) for layer in stack)
        assert torch.equal(first, second)
        assert first.data_ptr() != second.data_ptr()


@pytest.mark.parametrize("form", ["own", "framework"])
def test_gate_2_at_one_makes_variates_independent(form: str):
    if form == "own":
        network = Gateformer(24, 4, **SMALL).eval()
    else:
        network = GatedForecaster(Gateformer(24, 4, **SMALL), **SMALL).eval()
        shut(network.network)
    past = torch.randn(2, 3, 24)
    other = past.clone()
    other[:, 1] = torch.randn(2, 24)
    assert not torch.equal(network(other)[:, 0], network(past)[:, 0])
    shut(network)
    assert torch.equal(network(other)[:, 0], network(past)[:, 0])


def shut(network: Gateformer | GatedForecaster) -> None:
    """Set gate 2 to one: what attention between variates says does not pass."""
    with torch.no_grad():
        for gate in (network.stage.gate_before, network.stage.gate_after):
            gate.weight.zero_()
            gate.bias.fill_(1e4)


def test_the_framework_form_trains_stage_and_network_but_not_its_unused_head():
    network = GatedForecaster(ITransformer(24, 4, **SMALL), **SMALL)
    network(torch.randn(2, 3, 24)).sum().backward()
    idle = {name for name, x in network.named_parameters() if x.grad is None}
    assert idle == {"network.projection.weight", "network.projection.bias"}


def test_networks_that_leave_variates_out_are_refused():
    class Plain(ForecastNetwork):
        def forward(self, past, known=None, observed=None):
            return past[..., -self.horizon :]

    with pytest.raises(ValueError, match="Plain has no per-variate features"):
        GatedForecaster(Plain(24, 4))
    one_target = GatedForecaster(TimeXer(24, 4, 3, "MS", **SMALL, patch=8), **SMALL)
    with pytest.raises(ValueError, match="TimeXer gives features of 1 variates, expected all 3"):
        one_target(torch.randn(2, 3, 24))


@pytest.mark.parametrize("form", ["own", "framework"])
def test_gates_say_which_token_passes(form: str):
    """At 1, gate 1 lets the whole context through and not the patches, gate 2 what was before attention."""
    network = Gateformer(24, 4, **SMALL).eval()
    if form == "framework":
        network = GatedForecaster(PatchTST(24, 4, **SMALL), **SMALL).eval()
    past = torch.randn(2, 3, 24)
    gates = network.gates(past)
    assert list(gates) == ["gate 1", "gate 2"]
    for gate in gates.values():
        assert gate.shape == (2, 3, 16)
        assert gate.gt(0).all()
        assert gate.lt(1).all()
    with torch.no_grad():
        network.stage.gate_global.bias.fill_(1e4)
    shut(network)
    assert all(gate.eq(1).all() for gate in network.gates(past).values())
    whole = network.stage.embedding(normalise(past).series)
    torch.testing.assert_close(network.features(past), whole)


def test_the_framework_form_passes_on_what_its_network_reads():
    network = GatedForecaster(ITransformer(24, 4, **SMALL, future_covariates=1), **SMALL).eval()
    past, known = torch.randn(2, 3, 24), torch.randn(2, 2, 28)
    assert network.future_covariates == 1
    assert network.reads_known
    other = known.clone()
    other[..., 24:] += 1
    assert not torch.equal(network(past, other), network(past, known))
    with pytest.raises(ValueError, match="GatedForecaster: known is None, expected at least the 1 covariates"):
        network(past)
    alone = GatedForecaster(PatchTST(24, 4, **SMALL, patch=8, stride=8), **SMALL)
    assert alone.reads_covariates
    assert not alone.reads_known
    assert alone.patching == (8, 8, 4)
