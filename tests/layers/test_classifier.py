"""The classifier reads what was recorded and nothing else: not other patients, not padding, not gaps."""

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from tsattn import checkpoint
from tsattn.contracts import SignalSpec
from tsattn.layers.classifier import AttentivePool, SegmentClassifier
from tsattn.layers.lora import adapters
from tsattn.models.mvpformer import MVPFormer

Index = Literal["current", "absolute"]
POOLINGS = ("mean", "attentive")


def classifier(
    pooling: str = "mean", index: Index = "current", lora_rank: int = 0, seed: int = 0, **rest: int
) -> SegmentClassifier:
    torch.manual_seed(seed)
    network = MVPFormer(
        sfreq=32.0, segment_seconds=1.0, segments=4, d_model=8, layers=2, heads=2, kv_heads=1, d_ff=8, positions=6,
        max_channels=6, window=1, index=index,
    )  # fmt: skip
    made = SegmentClassifier(network, pooling=pooling, lora_rank=lora_rank, **rest)
    generator = torch.Generator().manual_seed(seed + 1)
    for p in made.parameters():  # away from the initial values, which are too small to notice much
        p.data.normal_(std=0.5, generator=generator)
    return made.eval()


def signal(channels: int, seed: int = 0, batch: int = 1) -> Tensor:
    return 20 * torch.randn(batch, 4, channels, 32, generator=torch.Generator().manual_seed(100 + seed))


def padded(one: Tensor, channels: int, filling: float) -> tuple[Tensor, Tensor]:
    whole = torch.full((*one.shape[:2], channels, 32), filling)
    whole[:, :, : one.shape[2]] = one
    return whole, (torch.arange(channels) < one.shape[2]).expand(len(one), -1)


@pytest.mark.parametrize("index", ["current", "absolute"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_patients_logits_depend_neither_on_the_batch_nor_on_padding(pooling: str, index: Index):
    made = classifier(pooling, index)
    alone = [made(signal(channels, channels)) for channels in (2, 5, 3)]
    assert (alone[0] - alone[1]).abs().max() > 1e-2
    for filling in (0.0, 1e4, float("nan")):
        parts = [padded(signal(channels, channels), 6, filling) for channels in (2, 5, 3)]
        together = made(torch.cat([part for part, _ in parts]), torch.cat([mask for _, mask in parts]))
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=2e-5)
    every = torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(made(signal(2, 2), every), alone[0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("filling", [0.0, 1e4, float("nan")])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_segments_that_were_not_recorded_are_not_read(pooling: str, filling: float):
    made = classifier(pooling)
    observed = torch.ones(2, 4, 3, dtype=torch.bool)
    observed[0, 1] = False
    observed[0, 3, 2] = False  # also one of the last segments, which "mean" averages
    observed[1, 0, 0] = False
    mask = torch.tensor([[True] * 3, [True, True, False]])
    first = signal(3, batch=2)
    second = torch.where(observed[..., None], first, filling)
    for channel_mask in (None, mask):
        expected = made(first, channel_mask, observed)
        torch.testing.assert_close(made(second, channel_mask, observed), expected, rtol=0, atol=1e-5)
        assert (made(first, channel_mask) - expected).abs().max() > 1e-3


def test_the_mean_is_over_the_recorded_channels_of_the_last_segment():
    made, observed = classifier(), torch.ones(1, 4, 4, dtype=torch.bool)
    observed[0, -1, 1] = False
    mask = torch.tensor([[True, True, True, False]])
    tokens = made.network.encode(signal(4))
    mixed = made.network.mix(tokens, mask, observed)
    expected = made.head((mixed[:, -1, 0] + mixed[:, -1, 2]) / 2)
    torch.testing.assert_close(made.classify(tokens, mask, observed), expected, rtol=0, atol=1e-6)


def test_attentive_pooling_is_a_mean_over_tokens_weighted_by_a_softmax():
    torch.manual_seed(0)
    pool = AttentivePool(8, 3).double()
    hidden = torch.randn(2, 4, 3, 8, dtype=torch.float64)
    kept = torch.rand(2, 4, 3) > 0.3
    expected = []
    for row, keep in zip(hidden, kept, strict=True):
        tokens = row[keep]
        weights = (pool.queries @ pool.key(tokens).T / 8**0.5).softmax(-1)
        expected.append(pool.out((weights @ pool.value(tokens)).flatten()))
    torch.testing.assert_close(pool(hidden, None, kept), torch.stack(expected))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("index", ["current", "absolute"])
def test_the_last_segment_alone_equals_the_last_of_all(index: Index, masked: bool):
    network = classifier(index=index).network
    tokens = network.encode(signal(5, batch=2))
    mask, observed = None, None
    if masked:
        mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
        observed = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(1)) > 0.3
        observed[:, -1] = True
    last, expected = network.mix_last(tokens, mask, observed), network.mix(tokens, mask, observed)[:, -1]
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-5)


def test_attention_of_each_layer_sums_to_1_over_what_may_be_read():
    made = classifier()
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    observed = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(1)) > 0.3
    tokens = made.network.encode(signal(5, batch=2))
    weights: list[Tensor] = []
    logits = made.classify(tokens, mask, observed, weights)
    assert len(weights) == 2
    unread = ~(observed & mask[:, None])
    for layer in weights:
        assert layer.shape == (2, 2, 5, 4, 5)  # batch, head, asking channel, segment, channel
        total = layer.sum((-2, -1))
        torch.testing.assert_close(total[0], torch.ones(2, 5))
        torch.testing.assert_close(total[1], torch.tensor([1.0, 1, 1, 0, 0]).expand(2, 5))
        assert layer.masked_select(unread[:, None, None]).eq(0).all()
    torch.testing.assert_close(logits, made.classify(tokens, mask, observed))


def test_asking_for_attention_does_not_change_an_attentive_answer():
    made, weights = classifier("attentive"), []
    tokens = made.network.encode(signal(3))
    assert torch.equal(made.classify(tokens, None, None, weights), made.classify(tokens))
    assert len(weights) == 2


# Adapters and flags ----------------------------------------------------------------------------------------------


def test_with_adapters_only_they_and_the_head_are_trained():
    made = classifier("attentive", lora_rank=2)
    trained = {name for name, p in made.named_parameters() if p.requires_grad}
    names = {
        f"network.layers.{i}.attention.{x}.lora_{kind}" for i in (0, 1) for x in ("query", "value") for kind in "AB"
    }
    pool = {f"pool.{name}" for name in ("queries", "key.weight", "value.weight", "out.weight")}
    assert trained == names | pool | {"head.weight"}


def test_without_adapters_all_but_the_head_of_pretraining_is_trained():
    frozen = {name for name, p in classifier().named_parameters() if not p.requires_grad}
    assert frozen == {"network.head.weight"}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_merged_gives_the_same_logits_and_is_like_a_new_classifier(pooling: str, training: bool):
    made = classifier(pooling, lora_rank=2).train(training)
    made.head.requires_grad_(False)  # as for one subject
    expected = made(signal(3))
    merged = made.merged()
    torch.testing.assert_close(merged(signal(3)), expected, rtol=1e-5, atol=1e-5)
    assert not list(adapters(merged))
    assert {module.training for module in merged.modules()} == {training}
    assert {name for name, p in merged.named_parameters() if not p.requires_grad} == {"network.head.weight"}
    assert merged.recipe["init_args"] == made.recipe["init_args"] | {"lora_rank": 0}


@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_exported_classifier_gives_the_same_logits(pooling: str, lora_rank: int, tmp_path: Path):
    made = classifier(pooling, "absolute", lora_rank, queries=3, outputs=3)
    checkpoint.export(tmp_path / "whole", made, SignalSpec({"sfreq": 32.0}, trained_on=("a",)))
    loaded = checkpoint.load(tmp_path / "whole", SegmentClassifier)
    assert torch.equal(loaded.network(signal(3)), made(signal(3)))
    assert loaded.network.recipe == made.recipe
    assert loaded.spec == SignalSpec({"sfreq": 32.0}, trained_on=("a",))
    expected = made(signal(3))
    checkpoint.export(tmp_path / "merged", made.merged())
    merged = checkpoint.load(tmp_path / "merged", SegmentClassifier).network
    torch.testing.assert_close(merged(signal(3)), expected, rtol=1e-5, atol=1e-5)


def test_what_means_nothing_is_refused():
    network = classifier().network
    with pytest.raises(ValueError, match="outputs is 1, expected at least 2 classes"):
        SegmentClassifier(network, outputs=1)
    with pytest.raises(ValueError, match="queries is 0, expected at least 1"):
        SegmentClassifier(network, pooling="attentive", queries=0)
    with pytest.raises(ValueError, match="No linear map is called 'keys'"):
        SegmentClassifier(network, lora_rank=2, lora_targets=["keys"])
