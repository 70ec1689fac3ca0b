"""The MVPA layer: parameters, tables, padding, checkpoints of the authors, and several processes."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tsattn.layers.convert import Foreign
from tsattn.layers.mvpa import MVPAttention, take_attention
from tsattn.ops.mvpa import MVPAMaps

ROOT = Path(__file__).parents[2]
WIDTH = 16
EXACT = 1e-12


def layer(**options: Any) -> MVPAttention:
    """Return a small one in float64 with weights of the order of 1, so that attention is far from uniform."""
    torch.manual_seed(0)
    made = MVPAttention(WIDTH, 4, 2, **{"window": 2, **options}).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4 if parameter.ndim == 2 else 1.0)
    return made


def batch(time: int, channels: int, samples: int = 2, rows: int = 20, stacked: bool = False) -> tuple[Tensor, ...]:
    """Return tokens and two tables."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((samples, time, channels, WIDTH), (2, rows, WIDTH) if stacked else (rows, WIDTH), (rows, WIDTH))
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


# ------------------------------------------------------------------------------------------------ parameters
def test_all_parameters_start_as_normal_numbers_of_deviation_0_02():
    torch.manual_seed(0)
    for name, parameter in MVPAttention(256, 4, 2).named_parameters():
        count = parameter.numel()
        assert parameter.mean().item() == pytest.approx(0, abs=5 * 0.02 / count**0.5), name
        assert parameter.std().item() == pytest.approx(0.02, abs=5 * 0.02 / (2 * count) ** 0.5), name
        kurtosis = (parameter.double() / 0.02).pow(4).mean().item()  # 3 for normal numbers, 1.8 for uniform ones
        assert kurtosis == pytest.approx(3, abs=5 * (96 / count) ** 0.5), name


def test_parameters_know_neither_the_grid_nor_the_tables_and_there_are_no_buffers():
    made = MVPAttention(WIDTH, 4, 2)
    assert not list(made.buffers())
    assert {name: tuple(x.shape) for name, x in made.state_dict().items()} == {
        "query.weight": (16, 16), "key.weight": (8, 16), "value.weight": (8, 16), "time_key.weight": (8, 16),
        "channel_key.weight": (8, 16), "out.weight": (16, 16),
        "content_bias": (2, 4), "time_bias": (2, 4), "channel_bias": (2, 4),
    }  # fmt: skip
    for time, channels, rows in ((1, 1, 1), (3, 7, 9), (11, 2, 40)):
        tokens, time_table, channel_table = (x.float() for x in batch(time, channels, rows=rows))
        assert made(tokens, time_table, channel_table).shape == tokens.shape


def test_without_content_there_is_no_key_and_no_bias_for_it():
    names = set(MVPAttention(WIDTH, 4, 2, content=False).state_dict())
    assert set(MVPAttention(WIDTH, 4, 2).state_dict()) - names == {"key.weight", "content_bias"}


def test_every_parameter_and_both_tables_get_a_gradient():
    made = layer()
    inputs = tuple(x.requires_grad_() for x in batch(5, 3))
    made(*inputs).square().sum().backward()
    assert all(x.grad is not None and x.grad.ne(0).any() for x in (*inputs, *made.parameters()))
    assert inputs[1].grad[5:].eq(0).all()  # rows of distances that do not occur
    assert inputs[2].grad[3:].eq(0).all()


# ------------------------------------------------------------------------------------------------ tables and distances
def test_longer_tables_change_nothing():
    tokens, time_table, channel_table = batch(7, 5)
    for index in ("current", "absolute"):
        made = layer(index=index)
        expected = made(tokens, time_table[:7], channel_table[:5])
        assert torch.equal(made(tokens, time_table, channel_table), expected)


def test_with_absolute_distances_what_is_past_does_not_depend_on_how_long_a_recording_is():
    tokens, *tables = batch(9, 3)
    made = layer(index="absolute", full_last=False)
    whole = made(tokens, *tables)
    for time in (1, 2, 5, 8):
        torch.testing.assert_close(made(tokens[:, :time], *tables), whole[:, :time], atol=EXACT, rtol=0)


@pytest.mark.parametrize("change", [{"index": "current", "full_last": False}, {"index": "absolute", "full_last": True}])
def test_with_current_distances_or_a_full_last_step_it_does(change: dict[str, Any]):
    tokens, *tables = batch(9, 3)
    made = layer(**change)
    assert (made(tokens[:, :5], *tables) - made(tokens, *tables)[:, :5]).abs().max() > 0.01


def test_current_row_of_distance_d_is_absolute_row_of_what_is_left():
    tokens, time_table, channel_table = batch(6, 4)
    current, absolute = layer(index="current"), layer(index="absolute")
    turned = absolute(tokens, time_table[:6].flip(0), channel_table[:4].flip(0))
    torch.testing.assert_close(current(tokens, time_table, channel_table), turned, atol=EXACT, rtol=0)


@pytest.mark.parametrize("index", ["current", "absolute"])
def test_two_equal_stacked_tables_are_one_table_for_both_directions(index: str):
    tokens, time_table, channel_table = batch(6, 4)
    made = layer(index=index, causal=False)
    one = made(tokens, time_table, channel_table)
    torch.testing.assert_close(made(tokens, time_table.expand(2, -1, -1), channel_table), one, atol=EXACT, rtol=0)


@pytest.mark.parametrize("index", ["current", "absolute"])
def test_the_first_stacked_table_is_for_earlier_keys_and_the_second_for_later_ones(index: str):
    """Turning the time axis and the two tables leaves everything as it was, if they agree at distance 0."""
    zero = 5 if index == "current" else 0
    tokens, time_tables, channel_table = batch(6, 4, stacked=True)
    time_tables[1, zero] = time_tables[0, zero]
    made = layer(index=index, causal=False, full_last=False)
    turned = made(tokens.flip(1), time_tables.flip(0), channel_table)
    torch.testing.assert_close(turned.flip(1), made(tokens, time_tables, channel_table), atol=EXACT, rtol=0)
    # the first step has no earlier keys (but itself, at distance 0), the last one no later ones
    plain = made(tokens, time_tables, channel_table)
    other = time_tables.clone()
    other[0, [row for row in range(20) if row != zero]] += 1
    changed = (made(tokens, other, channel_table) - plain).abs().amax((0, 2, 3))
    assert changed[0] < EXACT
    assert changed[1:].gt(1e-3).all()


def test_reversing_the_channels_reverses_the_output():
    tokens, *tables = batch(5, 4)
    for index in ("current", "absolute"):
        made = layer(index=index)
        torch.testing.assert_close(made(tokens.flip(2), *tables), made(tokens, *tables).flip(2), atol=EXACT, rtol=0)


# ------------------------------------------------------------------------------------------------ padding
@pytest.mark.parametrize("index", ["current", "absolute"])
@pytest.mark.parametrize(("causal", "stacked"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_padded_sample_gives_what_it_gives_alone(index: str, causal: bool, stacked: bool, backend: str):
    """Of any length and channel count, whatever is in the padding."""
    tokens, *tables = batch(7, 6, samples=4, stacked=stacked)
    made = layer(index=index, causal=causal, backend=backend)
    sizes = ((7, 6), (7, 2), (1, 6), (4, 3))
    lengths, counts = torch.tensor(sizes).T
    time_mask, channel_mask = torch.arange(7) < lengths[:, None], torch.arange(6) < counts[:, None]
    real = time_mask[:, :, None] & channel_mask[:, None]
    tokens = tokens.masked_fill(~real[..., None], torch.nan)
    together = made(tokens, *tables, channel_mask=channel_mask, time_mask=time_mask)
    assert together[~real].eq(0).all()
    for i, (time, channels) in enumerate(sizes):
        alone = made(tokens[i : i + 1, :time, :channels], *tables)
        torch.testing.assert_close(together[i : i + 1, :time, :channels], alone, atol=EXACT, rtol=0)


@pytest.mark.parametrize("index", ["current", "absolute"])
def test_gradients_of_a_padded_batch_are_the_sums_of_those_of_its_samples(index: str):
    tokens, *tables = batch(7, 6, samples=2)
    made = layer(index=index)
    time_mask, channel_mask = torch.arange(7) < torch.tensor([[7], [4]]), torch.arange(6) < torch.tensor([[3], [6]])
    upstream = torch.randn(tokens.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = [*(x.requires_grad_() for x in tables), *made.parameters()]
    together = torch.autograd.grad(
        made(tokens, *tables, channel_mask=channel_mask, time_mask=time_mask), wanted, upstream
    )
    apart = [
        torch.autograd.grad(made(tokens[i : i + 1, :t, :c], *tables), wanted, upstream[i : i + 1, :t, :c])
        for i, (t, c) in enumerate(((7, 3), (4, 6)))
    ]
    for ours, *parts in zip(together, *apart, strict=True):
        torch.testing.assert_close(ours, sum(parts), atol=EXACT * max(1, ours.abs().max().item()), rtol=0)


def test_absolute_distances_do_not_mind_padding_in_front():
    tokens, *tables = batch(7, 6)
    made = layer(index="absolute")
    time_mask, channel_mask = (torch.arange(7) > 1).expand(2, 7), (torch.arange(6) > 2).expand(2, 6)
    padded = made(tokens, *tables, channel_mask=channel_mask, time_mask=time_mask)
    torch.testing.assert_close(padded[:, 2:, 3:], made(tokens[:, 2:, 3:], *tables), atol=EXACT, rtol=0)


def test_masks_of_nothing_but_real_tokens_change_nothing():
    tokens, *tables = batch(5, 4)
    for index, causal in itertools.product(("current", "absolute"), (True, False)):
        made = layer(index=index, causal=causal)
        masks = dict(
            channel_mask=torch.ones(2, 4, dtype=torch.bool), time_mask=torch.ones(2, 5, dtype=torch.bool),
            key_mask=torch.ones(2, 5, 4, dtype=torch.bool),
        )  # fmt: skip
        torch.testing.assert_close(made(tokens, *tables, **masks), made(tokens, *tables), atol=EXACT, rtol=0)


@pytest.mark.parametrize("stacked", [False, True])
def test_a_batch_of_no_samples_gives_none(stacked: bool):
    tokens, *tables = batch(5, 4, samples=0, stacked=stacked)
    made = layer(causal=not stacked)
    assert made(tokens, *tables).shape == (0, 5, 4, WIDTH)
    masks = dict(channel_mask=torch.ones(0, 4, dtype=torch.bool), time_mask=torch.ones(0, 5, dtype=torch.bool))
    assert made(tokens, *tables, **masks).shape == (0, 5, 4, WIDTH)


# ------------------------------------------------------------------------------------------------ maps, dropout
def test_maps_are_appended_and_change_nothing():
    made, inputs, maps = layer(), batch(5, 4), list[MVPAMaps]()
    expected = made(*inputs)
    for count in (1, 2):
        torch.testing.assert_close(made(*inputs, maps=maps), expected, atol=EXACT, rtol=0)
        assert len(maps) == count
    torch.testing.assert_close(maps[0].weights.sum((4, 5)), torch.ones(2, 4, 5, 4, dtype=torch.float64))


@pytest.mark.parametrize("options", [
    {"dropout": 0.4}, {"dropout": 0.4, "dropout_kind": "call"}, {"dropout": 0.4, "dropout_kind": "element"},
    {"residual_dropout": 0.4},
])  # fmt: skip
def test_dropout_acts_in_training_only(options: dict[str, Any]):
    made, inputs = layer(**options), batch(5, 4)
    expected = layer()(*inputs)
    made.train()
    torch.manual_seed(0)
    draws = torch.stack([made(*inputs) for _ in range(8)])
    assert (draws - expected).abs().flatten(1).amax(1).gt(0.01).sum() > 4  # a draw of "call" may drop nothing: 0.77^9
    assert len(draws.flatten(1).unique(dim=0)) > 4
    made.eval()
    torch.testing.assert_close(made(*inputs), expected, atol=EXACT, rtol=0)


# ------------------------------------------------------------------------------------------------ what does not fit
@pytest.mark.usefixtures("unchecked")
def test_counts_that_do_not_fit_are_refused_in_words():
    with pytest.raises(ValueError, match="d_model is 16 and heads 3, expected a multiple of heads"):
        MVPAttention(16, 3)
    with pytest.raises(ValueError, match="d_model is 16 and heads 0"):
        MVPAttention(16, 0)
    with pytest.raises(ValueError, match="heads is 4 and kv_heads 3, expected a divisor of heads"):
        MVPAttention(16, 4, 3)
    with pytest.raises(ValueError, match="heads is 4 and kv_heads 8"):
        MVPAttention(16, 4, 8)
    with pytest.raises(ValueError, match="index is 'relative', expected 'current' or 'absolute'"):
        MVPAttention(16, 4, index="relative")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dropout is 1\.5"):
        MVPAttention(16, 4, residual_dropout=1.5)


@pytest.mark.usefixtures("unchecked")
def test_tables_that_do_not_fit_are_refused_in_words():
    tokens, time_table, channel_table = batch(5, 4)
    with pytest.raises(ValueError, match=r"time_table has shape \(4, 16\), expected \(at least 5, 16\) for 5 steps"):
        layer()(tokens, time_table[:4], channel_table)
    with pytest.raises(
        ValueError, match=r"channel_table has shape \(3, 16\), expected \(at least 4, 16\) for 4 channels"
    ):
        layer()(tokens, time_table, channel_table[:3])
    with pytest.raises(ValueError, match=r"time_table has shape \(2, 20, 16\), expected \(at least 5, 16\) for"):
        layer()(tokens, time_table.expand(2, -1, -1), channel_table)
    with pytest.raises(ValueError, match=r"time_table has shape \(3, 20, 16\), .* or \(2, at least 5, 16\)"):
        layer(causal=False)(tokens, time_table.expand(3, -1, -1), channel_table)
    with pytest.raises(ValueError, match=r"channel_table has shape \(2, 20, 16\)"):
        layer()(tokens, time_table, channel_table.expand(2, -1, -1))
    with pytest.raises(ValueError, match=r"tokens has shape \(5, 4, 16\), expected \(batch, time, channel, 16\)"):
        layer()(tokens[0], time_table, channel_table)
    with pytest.raises(ValueError, match="tokens has 5 steps and 0 channels, expected at least 1 of each"):
        layer()(tokens[:, :, :0], time_table, channel_table)
    with pytest.raises(ValueError, match=r"time_table has shape \(20, 8\)"):
        layer()(tokens, time_table[:, :8], channel_table)


@pytest.mark.usefixtures("unchecked")
def test_masks_that_do_not_fit_are_refused_in_words():
    tokens, *tables = batch(5, 4)
    with pytest.raises(ValueError, match=r"channel_mask has shape \(2, 3\), expected \(2, 4\)"):
        layer()(tokens, *tables, channel_mask=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"time_mask has type torch.float32, expected torch.bool"):
        layer()(tokens, *tables, time_mask=torch.ones(2, 5))


@pytest.mark.parametrize("index", ["current", "absolute"])
def test_a_sample_of_nothing_but_padding_is_refused_by_its_index(index: str):
    tokens, *tables = batch(5, 4)
    nothing = torch.ones(2, 4, dtype=torch.bool)
    nothing[1] = False
    with pytest.raises(ValueError, match=r"channel_mask\[1\] is all False"):
        layer(index=index)(tokens, *tables, channel_mask=nothing)


# ------------------------------------------------------------------------------------------------ authors' weights
def theirs() -> dict[str, Tensor]:
    """Return a state dict as MVPFormer's authors save one layer's attention."""
    generator = torch.Generator().manual_seed(3)
    shapes = {
        "attn_bias": (24,), "q_attn.weight": (16, 16), "c_attn.weight": (16, 16), "position_net.weight": (8, 16),
        "channel_net.weight": (8, 16), "c_proj.weight": (16, 16),
    }  # fmt: skip
    state = {f"h.0.attn.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return state | {
        "h.0.attn.time_bias": torch.ones(1, 1, 9, 9, dtype=torch.bool),
        "h.0.attn.masked_bias": torch.tensor(-1e4),
    }


def test_the_authors_weights_load_strictly_and_every_key_has_a_fate():
    foreign = Foreign(theirs(), "mvpformer", {})
    take_attention(foreign, "", "h.0.attn", kv_heads=2)
    converted = foreign.finish("tsattn.layers.mvpa.MVPAttention", {})
    made = MVPAttention(WIDTH, 4, 2)
    made.load_state_dict(converted.state, strict=True)
    state = theirs()
    assert torch.equal(made.key.weight, state["h.0.attn.c_attn.weight"][:8])
    assert torch.equal(made.value.weight, state["h.0.attn.c_attn.weight"][8:])
    assert torch.equal(
        torch.stack([made.content_bias, made.time_bias, made.channel_bias]).flatten(), state["h.0.attn.attn_bias"]
    )
    fates = {entry.key: entry.fate for entry in converted.report}
    assert set(fates) == set(state)
    assert {key for key, fate in fates.items() if fate == "dropped"} == {
        "h.0.attn.time_bias",
        "h.0.attn.masked_bias",
    }


def test_a_layer_without_content_takes_the_rest():
    foreign = Foreign(theirs(), "mvpformer", {})
    take_attention(foreign, "block.attention", "h.0.attn", kv_heads=2, content=False)
    state = foreign.finish("", {}).state
    assert all(name.startswith("block.attention.") for name in state)
    mine = {name.removeprefix("block.attention."): x for name, x in state.items()}
    MVPAttention(WIDTH, 4, 2, content=False).load_state_dict(mine, strict=True)


def test_keys_that_nobody_knows_and_keys_that_are_missing_are_refused_by_name():
    foreign = Foreign(theirs() | {"h.0.attn.q_attn.bias": torch.zeros(16)}, "mvpformer", {})
    take_attention(foreign, "", "h.0.attn", kv_heads=2)
    with pytest.raises(ValueError, match=r"1 unknown keys: h\.0\.attn\.q_attn\.bias"):
        foreign.finish("", {})
    state = theirs()
    del state["h.0.attn.c_proj.weight"]
    foreign = Foreign(state, "mvpformer", {})
    take_attention(foreign, "", "h.0.attn", kv_heads=2)
    with pytest.raises(ValueError, match=r"1 keys missing: h\.0\.attn\.c_proj\.weight"):
        foreign.finish("", {})


# ------------------------------------------------------------------------------------------------ several processes
PROCESS = """
import os, sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from tsattn.layers.mvpa import MVPAttention

rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt")

class Network(torch.nn.Module):  # the tables belong to the model
    def __init__(self):
        super().__init__()
        self.time_table, self.channel_table = (torch.nn.Parameter(torch.empty(9, 16)) for _ in range(2))
        self.attention = MVPAttention(16, 4, 2, window=2)

    def forward(self, tokens):
        return self.attention(tokens, self.time_table, self.channel_table)

def step(wrap):
    network = Network().double()
    network.load_state_dict(given["state"])
    network = wrap(network)
    out = network(given["tokens"][2 * rank : 2 * rank + 2])
    (out * given["upstream"][2 * rank : 2 * rank + 2]).sum().backward()
    full = lambda x: x.full_tensor() if hasattr(x, "full_tensor") else x
    return out.detach(), {name.removeprefix("module."): full(x.grad) for name, x in network.named_parameters()}

found = {"ddp": step(DistributedDataParallel)}
mesh = init_device_mesh("cpu", (2,))

def shard(network):
    fully_shard(network.attention, mesh=mesh)
    fully_shard(network, mesh=mesh)
    return network

found["fsdp"] = step(shard)
torch.save(found, f"{folder}/found{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_give_the_output_and_gradients_of_one(tmp_path: Path):
    """With DistributedDataParallel and with `fully_shard`, both of which average gradients over the processes."""
    made = layer(index="current")
    tokens, time_table, channel_table = batch(5, 3, samples=4, rows=9)
    upstream = torch.randn(tokens.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    time_table.requires_grad_()
    channel_table.requires_grad_()
    out = made(tokens, time_table, channel_table)
    (out * upstream).sum().backward()
    expected = {f"attention.{name}": x.grad for name, x in made.named_parameters()}
    expected |= {"time_table": time_table.grad, "channel_table": channel_table.grad}
    state = {f"attention.{name}": x for name, x in made.state_dict().items()}
    state |= {"time_table": time_table.detach(), "channel_table": channel_table.detach()}
    torch.save({"state": state, "tokens": tokens, "upstream": upstream}, tmp_path / "given.pt")

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path)],
            env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    for rank in range(2):
        found = torch.load(tmp_path / f"found{rank}.pt")
        assert set(found) == {"ddp", "fsdp"}
        for kind, (output, gradients) in found.items():
            torch.testing.assert_close(output, out[2 * rank : 2 * rank + 2].detach(), atol=EXACT, rtol=0, msg=kind)
            assert set(gradients) == set(expected)
            for name, gradient in gradients.items():
                torch.testing.assert_close(
                    2 * gradient, expected[name], atol=1e-11, rtol=0, msg=lambda m, k=kind, n=name: f"{k}, {n}: {m}"
                )
