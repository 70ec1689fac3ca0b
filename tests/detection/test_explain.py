"""What an explanation says, against dense attention maps, networks that were really changed, and known answers."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tsattn.contracts import SegmentNetwork
from tsattn.detection.explain import (
    TERMS,
    Explanation,
    attention_mass,
    explain_window,
    probability_without,
    probability_without_channel,
)
from tsattn.detection.plots import plot_explanation
from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.lora import adapters
from tsattn.models.mvpformer import MVPFormer

SEGMENTS, CHANNELS = 4, 5
EXACT = 1e-12


def classifier(pooling: str = "mean", lora: int = 0, **given: Any) -> SegmentClassifier:
    """A tiny classifier in float64 whose attention is far from even."""
    torch.manual_seed(0)
    network = MVPFormer(
        sfreq=64.0, segment_seconds=1.0, segments=SEGMENTS, d_model=16, layers=3, heads=4, kv_heads=2, d_ff=16,
        positions=6, max_channels=8, window=1, **given,
    )  # fmt: skip
    made = SegmentClassifier(network, pooling=pooling, lora_rank=lora, lora_targets=("query", "key", "time_key"))
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "attention" in name or "table" in name or name == "head.weight":
                parameter.copy_(torch.randn_like(parameter) * 0.6)
    return made.double().eval()


def tokens() -> Tensor:
    return torch.randn(1, SEGMENTS, CHANNELS, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def masks(kind: str) -> dict[str, Tensor]:
    """Nothing, a channel less, or segments that were not recorded (one of the last ones among them)."""
    there, observed = torch.ones(1, CHANNELS, dtype=torch.bool), torch.ones(1, SEGMENTS, CHANNELS, dtype=torch.bool)
    there[0, 4] = False
    observed[0, 1, 2] = observed[0, -1, 0] = False
    return {"none": {}, "channel": {"channel_mask": there}, "both": {"channel_mask": there, "observed": observed}}[kind]


def dense_mass(made: SegmentClassifier, x: Tensor, told: dict[str, Tensor]) -> Tensor:
    """The same from the maps of all tokens by all tokens, which the definition gives."""
    network, found = made.network, []
    asking = torch.ones(CHANNELS, dtype=torch.bool)
    if "channel_mask" in told:
        asking &= told["channel_mask"][0]
    if "observed" in told:
        asking &= told["observed"][0, -1]
    rest = (network.time_table, network.channel_table, told.get("channel_mask"))
    for layer in network.layers:
        maps: list[Any] = []
        layer.attention(layer.norm(x), *rest, key_mask=told.get("observed"), maps=maps)
        found.append(maps[0].weights[0, :, -1, asking].mean((0, 1)))
        x = layer(x, *rest, told.get("observed"))
    return torch.stack(found)


@pytest.mark.parametrize("pooling", ["mean", "attentive"])
@pytest.mark.parametrize("kind", ["none", "channel", "both"])
def test_the_mass_is_that_of_the_dense_maps_and_each_layer_sums_to_one(kind: str, pooling: str):
    made, told = classifier(pooling), masks(kind)
    mass = attention_mass(made, tokens(), **told)
    torch.testing.assert_close(mass, dense_mass(made, tokens(), told), rtol=0, atol=EXACT)
    torch.testing.assert_close(mass.sum((1, 2)), torch.ones(3, dtype=mass.dtype), rtol=0, atol=EXACT)
    assert mass.std() > 0.01  # far from even, so that a mean over the wrong axis would show
    if kind == "both":
        assert (mass[:, :, 4] == 0).all()
        assert (mass[:, 1, 2] == 0).all()
        assert (mass[:, :, 0].sum(1) > 0).all()


def test_without_any_term_all_that_was_recorded_is_read_alike():
    made, told = classifier(), masks("both")
    with torch.no_grad():
        for layer in made.network.layers:
            for name in TERMS.values():
                getattr(layer.attention, name).weight.zero_()
    mass = attention_mass(made, tokens(), **told)
    readable = told["observed"] & told["channel_mask"][:, None]
    expected = readable.double() / readable.sum()
    torch.testing.assert_close(mass, expected.expand_as(mass), rtol=0, atol=EXACT)


@pytest.mark.parametrize("lora", [0, 2])
@pytest.mark.parametrize("kind", ["none", "both"])
def test_the_answer_without_a_term_is_that_of_a_network_whose_map_was_really_zeroed(kind: str, lora: int):
    made, told = classifier(lora=lora), masks(kind)
    assert len(list(adapters(made))) == (9 if lora else 0)
    before = copy.deepcopy(made.state_dict())
    found = probability_without(made, tokens(), **told)
    assert list(found) == ["whole", "content", "time", "channel"]
    whole = made.classify(tokens(), told.get("channel_mask"), told.get("observed")).softmax(-1)[0, 1].item()
    assert found["whole"] == pytest.approx(whole, abs=EXACT)
    for term, name in TERMS.items():
        other = copy.deepcopy(made)
        with torch.no_grad():
            for layer in other.network.layers:
                for parameter in getattr(layer.attention, name).parameters():
                    parameter.zero_()
        changed = other.classify(tokens(), told.get("channel_mask"), told.get("observed")).softmax(-1)[0, 1].item()
        assert found[term] == pytest.approx(changed, abs=EXACT)
        assert abs(found[term] - whole) > 1e-3
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("pooling", ["mean", "attentive"])
def test_a_hidden_channel_at_an_end_of_the_list_might_as_well_not_be_there(pooling: str):
    """Distances are between the others, so with absolute distances the first and the last one can be cut off."""
    made, x = classifier(pooling, index="absolute"), tokens()
    found = probability_without_channel(made, x, at_once=2)
    assert found.shape == (CHANNELS,)
    for hidden, left in ((0, x[:, :, 1:]), (CHANNELS - 1, x[:, :, :-1])):
        assert found[hidden].item() == pytest.approx(made.classify(left).softmax(-1)[0, 1].item(), abs=EXACT)
    assert found.std() > 1e-3


def test_what_stands_in_a_hidden_channel_does_not_matter():
    made, x = classifier(), tokens()
    x[0, :, 2] *= 100
    torch.testing.assert_close(
        probability_without_channel(made, x)[2], probability_without_channel(made, tokens())[2], rtol=0, atol=EXACT
    )


def test_no_answer_is_made_up_for_a_channel_that_is_not_there_or_the_only_one_recorded():
    told = masks("channel")
    observed = torch.ones(1, SEGMENTS, CHANNELS, dtype=torch.bool)
    observed[0, -1, [0, 1, 3]] = False
    found = probability_without_channel(classifier(), tokens(), told["channel_mask"], observed)
    assert found.isnan().tolist() == [False, False, True, False, True]


def test_an_explanation_is_labelled_with_channels_and_seconds_before_the_end():
    told = masks("channel")
    found = explain_window(classifier(), tokens(), ["A1", "A2", "B1", "B2"], begin=100.0, occlusion=True, **told)
    data = found.to_xarray()
    assert dict(data.sizes) == {"layer": 3, "segment": SEGMENTS, "channel": 4, "term": 4}
    assert data["segment"].values.tolist() == [-4.0, -3.0, -2.0, -1.0]
    assert (found.end, data.attrs["begin"]) == (104.0, 100.0)
    mass = attention_mass(classifier(), tokens(), **told)
    assert float(data["mass"].sel(layer=1, segment=-2.0, channel="B1")) == mass[1, 2, 2].item()
    assert float(data["probability"].sel(term="time")) == probability_without(classifier(), tokens(), **told)["time"]
    assert np.isfinite(data["occlusion"].values).all()
    shares = list(found.by_channel.values())
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)
    assert found.by_channel["B1"] == pytest.approx(mass[:, :, 2].sum(1).mean().item())


def test_the_picture_shows_the_channels_with_the_largest_share_in_their_order():
    mass = torch.full((2, 3, 6), 0.01)
    mass[:, :, 1], mass[:, :, 4] = 0.05, 0.2
    mass[1, 0, 4] = 0.5
    found = Explanation(tuple("ABCD$F"), mass, {"whole": 0.9, "content": 0.2}, 5.0)
    figure = plot_explanation(found, most=2)
    grid = figure.axes[0]
    assert [label.get_text() for label in grid.get_yticklabels()] == ["B", r"\$"]
    drawn = grid.collections[0].get_array().reshape(2, 3)
    np.testing.assert_allclose(drawn, 100 * mass.mean(0).T[[1, 4]])
    last = plot_explanation(found, most=2, layer=-1).axes[0]
    np.testing.assert_allclose(last.collections[0].get_array().reshape(2, 3), 100 * mass[1].T[[1, 4]])
    assert "layer 1" in last.get_title(loc="left")


def test_a_classifier_in_training_is_refused():
    made = classifier()
    made.network.layers[1].attention.train()
    for explain in (attention_mass, probability_without, probability_without_channel):
        with pytest.raises(ValueError, match=r"training mode.*eval\(\)"):
            explain(made, tokens())


def test_a_window_whose_last_segment_was_not_recorded_has_no_answer_to_explain():
    observed = torch.ones(1, SEGMENTS, CHANNELS, dtype=torch.bool)
    observed[:, -1] = False
    with pytest.raises(ValueError, match="last segment"):
        attention_mass(classifier(), tokens(), observed=observed)


class Averaging(SegmentNetwork):
    """A network without attention."""

    def __init__(self) -> None:
        super().__init__(64.0, 1.0, SEGMENTS, 16, None)

    def mix(self, tokens: Tensor, channel_mask: Tensor | None = None, observed: Tensor | None = None) -> Tensor:
        return tokens.cumsum(1)


def test_a_network_without_such_attention_is_refused():
    made = SegmentClassifier(Averaging()).double().eval()
    with pytest.raises(ValueError, match="MVPAttention"):
        probability_without(made, tokens())
    with pytest.raises(NotImplementedError, match="no attention weights"):
        attention_mass(made, tokens())


def test_each_channel_needs_its_name():
    with pytest.raises(ValueError, match="5 names for 4 channels"):
        explain_window(classifier(), tokens(), list("ABCDE"), **masks("channel"))
    with pytest.raises(ValueError, match="1 names for 2 channels"):
        Explanation(("A",), torch.ones(1, 1, 2), {"whole": math.nan}, 5.0)
