"""Learning rate and weight decay of the recording tasks."""

import pytest
import torch
from torch import nn

from tsattn.layers.classifier import SegmentClassifier
from tsattn.models.mvpformer import MVPFormer
from tsattn.tasks.optim import adamw, decay_groups, warmup_cosine


def network() -> MVPFormer:
    sizes = dict(sfreq=32.0, segment_seconds=1.0, segments=3, d_model=8, layers=1, heads=2, kv_heads=1, d_ff=8)
    return MVPFormer(**sizes, positions=4, max_channels=4)


def names(module: nn.Module, parameters: list[nn.Parameter]) -> set[str]:
    known = {id(p): name for name, p in module.named_parameters()}
    return {known[id(p)] for p in parameters}


def test_the_rate_rises_in_a_line_and_falls_by_half_a_cosine():
    found = [warmup_cosine(step, 4, 12) for step in range(13)]
    assert found[:5] == [0, 0.25, 0.5, 0.75, 1]
    assert found[6] == pytest.approx(0.5 + 0.5**1.5)  # a quarter of the way down
    assert found[8] == pytest.approx(0.5)
    assert found[12] == pytest.approx(0, abs=1e-12)
    assert found[4:] == sorted(found[4:], reverse=True)


def test_the_rate_stays_0_after_the_end_and_starts_at_1_without_a_warm_up():
    assert warmup_cosine(20, 4, 12) == pytest.approx(0, abs=1e-12)
    assert warmup_cosine(0, 0, 12) == 1
    assert warmup_cosine(3, 3, 3) == 1  # nothing left to fall in


def test_weights_of_linear_maps_decay_and_norms_tables_biases_and_queries_do_not():
    made = SegmentClassifier(network(), pooling="attentive")
    made.extra = nn.Linear(2, 2)
    heavy, light = decay_groups(made, 0.3)
    assert (heavy["weight_decay"], light["weight_decay"]) == (0.3, 0.0)
    norms = {f"network.{name}.weight" for name in ("encoder.norm", "norm", "layers.0.norm")}
    tables = {"network.time_table", "network.channel_table"}
    biases = {f"network.layers.0.attention.{name}_bias" for name in ("content", "time", "channel")}
    assert names(made, light["params"]) == norms | tables | biases | {"extra.bias", "pool.queries"}
    maps = {f"{name}.weight" for name, module in made.named_modules() if isinstance(module, nn.Linear)}
    assert names(made, heavy["params"]) == maps - {"network.head.weight"}  # which is not trained


def test_as_the_authors_have_it_everything_decays():
    made = network()
    (group,) = decay_groups(made, 0.3, "all")
    assert group["weight_decay"] == 0.3
    assert len(group["params"]) == len(list(made.parameters()))


def test_both_halves_of_adapters_decay_and_frozen_maps_are_in_no_group():
    made = SegmentClassifier(network(), lora_rank=2)
    (group,) = decay_groups(made, 0.3)
    adapters = {f"network.layers.0.attention.{x}.lora_{kind}" for x in ("query", "value") for kind in "AB"}
    assert names(made, group["params"]) == adapters | {"head.weight"}


def test_adamw_steps_at_the_scheduled_rates():
    parameter = nn.Parameter(torch.ones(1))
    made = adamw([{"params": [parameter], "weight_decay": 0.0}], lr=0.1, warmup=2, total=4)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    before, moved = 1.0, []
    for _ in range(4):
        parameter.grad = torch.ones(1)  # Adam moves by the rate while gradients do not change
        optimizer.step()
        scheduler.step()
        moved.append(before - parameter.item())
        before = parameter.item()
    assert moved == pytest.approx([0, 0.05, 0.1, 0.05], abs=1e-6)
