"""MVPA: the definition against loops by hand, the factorised form against the definition, and what both promise.

The definition (`backend="reference"`) in float64 is the truth here; `test_the_definition_is_what_loops_by_hand_give`
says why, and tests/parity says that it is the authors'. The constants of `factorised.py` that cut a call into blocks
are changed so that small grids meet every way of cutting.
"""

import importlib.util
import itertools
import logging
import math
import random
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tsattn.ops import mvpa
from tsattn.ops.mvpa import factorised, mvpa_attention, structured_dropout
from tsattn.ops.mvpa.problem import Inputs, Options

EXACT = 1e-11  # of float64, relative to the largest element (or to 1, if that is more): a few thousand sums
BIASES = ("content_bias", "time_bias", "channel_bias")


# ------------------------------------------------------------------------------------------------ problems
class Spec(NamedTuple):
    """What a call is made of."""

    time: int = 7
    channels: int = 5
    heads: int = 4
    kv_heads: int = 2
    size: int = 8
    batch: int = 2
    direction: str = "causal"  # "causal"; "signed" or "unsigned" distances of a call that is not causal
    window: int | None = 2
    full_last: bool = True
    content: bool = True
    channel_mask: bool = False
    time_mask: str = ""  # "right" padding, of different lengths ("ragged"), a "hole"
    key_mask: bool = False
    tables: str = "shared"  # or "sample"
    bias: str = "head"  # "head", "kv_head", "absent"
    cut: str = "one block"

    @property
    def options(self) -> dict[str, Any]:
        return {"window": self.window, "causal": self.direction == "causal", "full_last": self.full_last}

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads


Problem = tuple[dict[str, Tensor], dict[str, Tensor]]  # differentiable tensors, masks


def problem(spec: Spec, dtype: torch.dtype = torch.float64, seed: int = 0, peak: float = 1.0) -> Problem:
    """Return random tensors and masks; `peak` multiplies the keys and tables, hence the logits."""
    generator = torch.Generator().manual_seed(seed)
    batch, time, channels, heads, kv_heads, size = (
        spec.batch, spec.time, spec.channels, spec.heads, spec.kv_heads, spec.size,
    )  # fmt: skip

    def normal(*shape: int, factor: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator, dtype=torch.float64) * factor).to(dtype)

    own = batch if spec.tables == "sample" else 1
    rows = 2 * time - 1 if spec.direction == "signed" else time
    tensors = {
        "query": normal(batch, heads, time, channels, size),
        "key": normal(batch, kv_heads, time, channels, size, factor=peak),
        "value": normal(batch, kv_heads, time, channels, size),
        "time_key": normal(own, kv_heads, rows, size, factor=peak),
        "channel_key": normal(own, kv_heads, channels, size, factor=peak),
    }
    if not spec.content:
        del tensors["key"]
    if spec.bias != "absent":
        for name in BIASES:
            tensors[name] = normal(heads if spec.bias == "head" else kv_heads, size)
    masks = {}
    if spec.channel_mask:
        masks["channel_mask"] = torch.rand(batch, channels, generator=generator) < 0.7
        masks["channel_mask"][:, channels // 2] = True
    if spec.time_mask:
        lengths = torch.full((batch,), max(1, time - 2))
        if spec.time_mask == "ragged":
            lengths = (time - torch.arange(batch) * 3).clamp(min=1)
        masks["time_mask"] = torch.arange(time) < lengths[:, None]
        if spec.time_mask == "hole" and time > 3:
            masks["time_mask"][:, 1] = False
    if spec.key_mask:
        masks["key_mask"] = torch.rand(batch, time, channels, generator=generator) < 0.6
    return tensors, masks


def leaves(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}


def attend(tensors: dict[str, Tensor], masks: dict[str, Tensor], spec: Spec, backend: str, **more: Any) -> Any:
    """Call `mvpa_attention`."""
    arguments: dict[str, Any] = {"key": None, **tensors, **masks, **spec.options, "backend": backend, **more}
    return mvpa_attention(**arguments)


def results(
    given: Problem, spec: Spec, backend: str, dtype: torch.dtype | None = None, grad: Tensor | None = None
) -> dict[str, Tensor]:
    """Return output, log-sum-exp and the gradient of every tensor (0 where there is none), of a random upstream one."""
    tensors, masks = given
    inputs = leaves({name: x if dtype is None else x.to(dtype) for name, x in tensors.items()})
    out, lse = attend(inputs, masks, spec, backend, return_lse=True)
    if grad is None:
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        grad = grad.to(inputs["query"].dtype if dtype is None else next(iter(tensors.values())).dtype)
    names = list(inputs)
    found = torch.autograd.grad(out, [inputs[name] for name in names], grad.to(out.dtype), allow_unused=True)
    grads = {
        f"gradient of {name}": torch.zeros_like(inputs[name]) if g is None else g
        for name, g in zip(names, found, strict=True)
    }
    return {"output": out.detach(), "lse": lse, **grads}


def same(ours: dict[str, Tensor], truth: dict[str, Tensor], rounding: float = EXACT, about: object = "") -> None:
    assert set(ours) == set(truth)
    for name, expected in truth.items():
        finite = expected[expected.isfinite()]
        atol = rounding * max(1.0, finite.abs().max().item() if finite.numel() else 0.0)
        torch.testing.assert_close(
            ours[name], expected, atol=atol, rtol=0, msg=lambda m, n=name: f"{n} of {about}: {m}"
        )


def error(x: Tensor, truth: Tensor) -> float:
    """Return the largest difference over the largest value."""
    return ((x.double() - truth).abs().max() / truth.abs().max().clamp(min=1e-300)).item()


# ------------------------------------------------------------------------------------------------ ways of cutting
CUTS: dict[str, Callable[[Spec], tuple[int, int, int]]] = {  # ROWS, DENSE_TOKENS, CPU_SCRATCH
    "one block": lambda s: (1, 1 << 30, 1 << 30),
    "several steps": lambda s: (3 * s.group * s.channels, 0, 1 << 30),
    "single steps": lambda s: (s.group * s.channels, 0, 1),
    "some channels": lambda s: (s.group * max(1, s.channels // 3), 0, 3 * 8 * s.group * s.channels * s.size),
    "some samples": lambda s: (2 * s.group * s.channels, 0, 2 * 8 * s.kv_heads * 2 * s.group * s.channels**2 * s.time),
}


def cut(monkeypatch: pytest.MonkeyPatch, spec: Spec) -> None:
    for name, value in zip(("ROWS", "DENSE_TOKENS", "CPU_SCRATCH"), CUTS[spec.cut](spec), strict=True):
        monkeypatch.setattr(factorised, name, value)


OPTIONS: dict[str, tuple[Any, ...]] = {
    "size": (3, 8, 16),
    "direction": ("causal", "causal", "signed", "unsigned"),
    "window": (0, 2, 10, None),
    "full_last": (True, False),
    "content": (True, True, False),
    "channel_mask": (False, True),
    "time_mask": ("", "right", "ragged", "hole"),
    "key_mask": (False, True),
    "tables": ("shared", "sample"),
    "bias": ("head", "kv_head", "absent"),
    "cut": tuple(CUTS),
}
SIZES = (1, 2, 7, 17)
HEADS = ((4, 2), (3, 3), (4, 1), (1, 1))
DRAWS = 4


def drawn(time: int, channels: int, heads: tuple[int, int]) -> list[Spec]:
    """Return some of the many calls of this shape, always the same ones."""
    dice = random.Random(f"{time} {channels} {heads}")
    return [
        Spec(time, channels, *heads, **{name: dice.choice(values) for name, values in OPTIONS.items()})
        for _ in range(DRAWS)
    ]


ALL = [spec for shape in itertools.product(SIZES, SIZES, HEADS) for spec in drawn(*shape)]


def test_every_pair_of_options_is_among_the_calls_that_are_tried():
    for a, b in itertools.combinations(OPTIONS, 2):
        met = {(getattr(spec, a), getattr(spec, b)) for spec in ALL}
        assert met >= set(itertools.product(OPTIONS[a], OPTIONS[b])), (a, b)


def test_every_way_of_cutting_is_among_the_calls_that_are_tried(monkeypatch: pytest.MonkeyPatch):
    met: set[str] = set()
    for spec in ALL:
        cut(monkeypatch, spec)
        tensors, masks = problem(spec)
        biases = [tensors["query"].new_zeros(spec.heads, spec.size)] * 3
        named = [tensors.get(name) for name in ("query", "key", "value", "time_key", "channel_key")]
        if spec.direction == "unsigned":
            named[3] = torch.cat([named[3][:, :, 1:].flip(2), named[3]], 2)
        inputs = Inputs(*named, *biases, *(masks.get(name) for name in ("channel_mask", "time_mask", "key_mask")))
        window = spec.time if spec.window is None else min(spec.window, spec.time)
        options = Options(window, spec.direction == "causal", spec.full_last, 1.0)
        for part in factorised._parts(inputs, options):
            samples, heads, steps = part.samples, part.heads, part.value.shape[2]
            met.add("some samples" if samples.stop - samples.start < spec.batch else "all samples")
            met.add("some heads" if heads.stop - heads.start < spec.kv_heads else "all heads")
            met.add("fewer steps" if steps < spec.time else "all steps")
            for block in factorised._blocks(part):
                met.add(f"{'several' if block.shape[3] > 1 else 'one'} of the steps")
                met.add("some channels" if block.shape[4] < spec.channels else "all channels")
                met |= {"far keys before" if end <= block.near[0] else "far keys after" for _, end in block.far}
                met.add("nothing near" if block.near[0] == block.near[1] else "something near")
                met.add("rows with windows of their own" if block.beyond is not None else "one window")
                for begin, end in block.far:
                    longer = end - begin >= spec.channels
                    met.add("time first" if longer else "channel first")
                    count = block.rows[..., 0].numel()
                    chunks = list(
                        factorised._chunks(
                            spec.channels if longer else end - begin, count * spec.size * 8, block.rows.device
                        )
                    )
                    met.add("several chunks" if len(chunks) > 1 else "one chunk")
    assert met == {
        "some samples", "all samples", "some heads", "all heads", "fewer steps", "all steps", "several of the steps",
        "one of the steps", "some channels", "all channels", "far keys before", "far keys after", "nothing near",
        "something near", "rows with windows of their own", "one window", "time first", "channel first",
        "several chunks", "one chunk",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ the definition
def by_hand(given: Problem, spec: Spec) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp, one number at a time."""
    tensors, masks = given
    lists = {name: x.tolist() for name, x in tensors.items()}
    zeros = [[0.0] * spec.size] * spec.heads
    biases = [lists.get(name, zeros) for name in BIASES]
    out, lse = torch.zeros_like(tensors["query"]), torch.full(tensors["query"].shape[:4], math.inf, dtype=torch.float64)
    grid = list(itertools.product(range(spec.time), range(spec.channels)))
    for b, h in itertools.product(range(spec.batch), range(spec.heads)):
        kv = h // spec.group
        own = b if spec.tables == "sample" else 0
        u, v, z = (bias[h if len(bias) == spec.heads else kv] for bias in biases)
        real_step = masks.get("time_mask", torch.ones(spec.batch, spec.time, dtype=torch.bool))[b].tolist()
        real_channel = masks.get("channel_mask", torch.ones(spec.batch, spec.channels, dtype=torch.bool))[b].tolist()
        readable = masks.get("key_mask", torch.ones(spec.batch, spec.time, spec.channels, dtype=torch.bool))[b].tolist()
        last = max(t for t in range(spec.time) if real_step[t])
        for t, c in grid:
            if not (real_step[t] and real_channel[c]):
                continue
            query = lists["query"][b][h][t][c]

            def term(bias: list[float], key: list[float], query: list[float] = query) -> float:
                return sum((a + p) * k for a, p, k in zip(query, bias, key, strict=True)) / math.sqrt(spec.size)

            logits, values = [], []
            for t2, c2 in grid:
                hidden = not (real_step[t2] and real_channel[c2] and readable[t2][c2])
                if hidden or (spec.direction == "causal" and t2 > t):
                    continue
                row = t - t2 + spec.time - 1 if spec.direction == "signed" else abs(t - t2)
                logit = term(v, lists["time_key"][own][kv][row]) + term(z, lists["channel_key"][own][kv][abs(c - c2)])
                within = spec.window is None or abs(t - t2) <= spec.window or (spec.full_last and t == last)
                if within and spec.content:
                    logit += term(u, lists["key"][b][kv][t2][c2])
                logits.append(logit)
                values.append(lists["value"][b][kv][t2][c2])
            if not logits:
                continue
            total = sum(map(math.exp, logits))
            lse[b, h, t, c] = math.log(total)
            for logit, value in zip(logits, values, strict=True):
                out[b, h, t, c] += torch.tensor(value, dtype=torch.float64) * (math.exp(logit) / total)
    return out, lse


@pytest.mark.parametrize("direction", ["causal", "signed", "unsigned"])
@pytest.mark.parametrize("full_last", [True, False])
def test_the_definition_is_what_loops_by_hand_give(direction: str, full_last: bool):
    variants: list[dict[str, Any]] = [
        {}, {"window": 0}, {"window": None}, {"content": False}, {"channel_mask": True}, {"time_mask": "right"},
        {"time_mask": "hole"}, {"time_mask": "ragged", "key_mask": True}, {"tables": "sample", "bias": "kv_head"},
        {"bias": "absent"},
    ]  # fmt: skip
    for seed, variant in enumerate(variants):
        spec = Spec(5, 2, 2, 1, 2, direction=direction, full_last=full_last, **{"window": 1, **variant})
        given = problem(spec, seed=seed)
        out, lse = attend(*given, spec, "reference", return_lse=True)
        same({"out": out, "lse": lse}, dict(zip(("out", "lse"), by_hand(given, spec), strict=True)), about=spec)


# ------------------------------------------------------------------------------------------------ the torch form is it
@pytest.mark.parametrize("heads", HEADS, ids=lambda h: f"heads{h[0]}_{h[1]}")
@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("time", SIZES)
def test_output_lse_and_all_gradients_equal_the_definition(
    time: int, channels: int, heads: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    for spec in drawn(time, channels, heads):
        cut(monkeypatch, spec)
        given = problem(spec)
        same(results(given, spec, "torch"), results(given, spec, "reference"), about=spec)


FLOORS = {  # relative errors that always pass: half of an ulp of the largest number in halves, eight in float32, where
    torch.float32: 1e-6,  # sums of a few numbers may be exact in the definition
    torch.bfloat16: 2**-9,
    torch.float16: 2**-12,
}
ROUGH = [
    Spec(17, 7, size=16, window=2, cut="several steps", channel_mask=True),
    Spec(17, 7, size=16, window=2, direction="signed", full_last=False, cut="single steps"),
    Spec(7, 17, size=16, window=0, time_mask="ragged", tables="sample", cut="some channels"),
    Spec(17, 17, size=8, content=False, key_mask=True, cut="some samples"),
]


@pytest.mark.parametrize("spec", ROUGH, ids=lambda s: s.cut)
@pytest.mark.parametrize("dtype", FLOORS, ids=str)
@pytest.mark.parametrize("peak", [1.0, 12.0])
def test_errors_are_at_most_twice_those_of_the_definition_in_the_same_type(
    dtype: torch.dtype, spec: Spec, peak: float, monkeypatch: pytest.MonkeyPatch
):
    """Also where the logits are peaked; the backward pass then pays for one rounding of the log-sum-exp to float32,
    which is in every weight that it recomputes. All numbers are rounded to the type first; the truth is in float64."""
    cut(monkeypatch, spec)
    given = problem(spec, dtype, peak=peak)
    truth = results(given, spec, "reference", torch.float64)
    ours, dense = results(given, spec, "torch"), results(given, spec, "reference")
    for name, expected in truth.items():
        read = expected.isfinite()
        assert torch.equal(ours[name].isfinite(), read), name
        allowed = 2 * error(dense[name][read], expected[read]) + FLOORS[dtype]
        if peak > 1 and name.startswith("gradient"):
            allowed += truth["lse"][truth["lse"].isfinite()].abs().max().item() * 2**-24
        assert error(ours[name][read], expected[read]) <= allowed, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("spec", ROUGH, ids=lambda s: s.cut)
def test_two_runs_give_the_same_bits(spec: Spec, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    cut(monkeypatch, spec)
    given = problem(spec, dtype)
    first, second = results(given, spec, "torch"), results(given, spec, "torch")
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("cut_to", CUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_the_output_is_finite_where_the_inputs_are(dtype: torch.dtype, cut_to: str, monkeypatch: pytest.MonkeyPatch):
    """Numbers up to 6e4 (float16 ends at 65504) beside small ones: logits of 1e10, where float32 has steps of 1024."""
    generator, bad = torch.Generator().manual_seed(0), []
    for direction, content in itertools.product(("causal", "signed"), (True, False)):
        spec = Spec(9, 3, size=16, window=1, direction=direction, content=content, full_last=False, cut=cut_to)
        cut(monkeypatch, spec)
        for small in (0.0, 0.03, 0.1, 6e4):
            tensors, _ = problem(spec, dtype)
            for x in tensors.values():
                x.copy_((torch.rand(x.shape, generator=generator) * 2 - 1) * 6e4)
            if small < 6e4:  # a large channel term beside a small time term
                tensors["query"].fill_(6e4)
                tensors["channel_key"].fill_(6e4)
                tensors["time_key"].zero_()[..., 0] = small
            if not attend(tensors, {}, spec, "torch").isfinite().all():
                bad.append((direction, "content" if content else "no content", small))
    assert not bad


# ------------------------------------------------------------------------------------------------ what is masked
MASKED = [
    Spec(7, 5, channel_mask=True, time_mask="hole", cut="several steps"),
    Spec(7, 5, channel_mask=True, time_mask="ragged", key_mask=True, cut="single steps"),
    Spec(7, 5, direction="signed", time_mask="ragged", channel_mask=True, cut="one block"),
    Spec(7, 5, direction="unsigned", time_mask="right", content=False, cut="some channels"),
]


@pytest.mark.parametrize("spec", MASKED, ids=lambda s: s.cut)
@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_what_stands_in_masked_tokens_does_not_matter(
    backend: str, spec: Spec, poison: float, monkeypatch: pytest.MonkeyPatch
):
    """NaN or infinity in queries, keys, values and the gradient that comes in. Padding has output and gradients 0."""
    cut(monkeypatch, spec)
    tensors, masks = problem(spec)
    padded = mvpa.problem.padding(masks.get("channel_mask"), masks.get("time_mask"))
    padded = padded.expand(spec.batch, 1, spec.time, spec.channels)[..., None]
    unread = padded | ~masks["key_mask"][:, None, ..., None] if "key_mask" in masks else padded
    upstream = torch.randn(tensors["query"].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    clean = results((tensors, masks), spec, backend, grad=upstream)
    spoiled = dict(tensors)
    for name, where in (("query", padded), ("key", unread), ("value", unread)):
        if name in tensors:
            spoiled[name] = tensors[name].masked_fill(where, poison)
    spoilt = results((spoiled, masks), spec, backend, grad=upstream.masked_fill(padded, poison))
    assert all(torch.equal(clean[name], spoilt[name]) for name in clean), [
        name for name in clean if not torch.equal(clean[name], spoilt[name])
    ]
    zero = [("output", padded), ("gradient of query", padded), ("gradient of value", unread)]
    zero += [("gradient of key", unread)] if spec.content else []
    for name, where in zero:
        assert spoilt[name].masked_select(where).eq(0).all(), name
    assert spoilt["lse"].masked_select(padded[..., 0]).eq(math.inf).all()


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_token_that_may_read_nothing_has_output_0_and_gives_no_gradient(backend: str):
    spec = Spec(6, 3)
    tensors, masks = problem(spec)
    key_mask = torch.ones(2, 6, 3, dtype=torch.bool)
    key_mask[0, :2] = False
    found = results((tensors, masks | {"key_mask": key_mask}), spec, backend)
    assert found["output"][0, :, :2].eq(0).all()
    assert found["lse"][0, :, :2].eq(math.inf).all()
    assert found["gradient of query"][0, :, :2].eq(0).all()
    assert found["output"][0, :, 2:].ne(0).all()
    assert found["lse"][0, :, 2:].isfinite().all()


def test_a_key_mask_that_hides_the_largest_logits_by_far_is_refused_in_words(monkeypatch: pytest.MonkeyPatch):
    spec = Spec(6, 1, 1, 1, 2, batch=1, window=0, content=False, bias="absent", cut="single steps")
    cut(monkeypatch, spec)
    tensors, _ = problem(spec, torch.float32)
    for name in tensors:
        tensors[name] = torch.ones_like(tensors[name])
    tensors["time_key"][0, 0, 3] = 200.0  # the key three steps back wins by far, and is hidden
    key_mask = torch.ones(1, 6, 1, dtype=torch.bool)
    assert attend(tensors, {"key_mask": key_mask}, spec, "torch").isfinite().all()
    key_mask[0, 1] = False
    with pytest.raises(ValueError, match=r"key_mask hides the keys with the largest logits.*backend='reference'"):
        attend(tensors, {"key_mask": key_mask}, spec, "torch")
    assert attend(tensors, {"key_mask": key_mask}, spec, "reference")[0, 0, 4, 0].tolist() == pytest.approx([1, 1])


# ------------------------------------------------------------------------------------------------ forms of inputs
def test_reversing_the_channels_reverses_the_output(monkeypatch: pytest.MonkeyPatch):
    spec = Spec(9, 6, cut="several steps")
    cut(monkeypatch, spec)
    tensors, _ = problem(spec)
    turned = {name: x.flip(3) if x.ndim == 5 else x for name, x in tensors.items()}
    same({"out": attend(turned, {}, spec, "torch")}, {"out": attend(tensors, {}, spec, "torch").flip(3)})


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("cut_to", CUTS)
def test_strides_do_not_matter(backend: str, cut_to: str, monkeypatch: pytest.MonkeyPatch):
    """Transposed, sliced and expanded tensors, and an expanded gradient, as `out.sum().backward()` makes it."""
    spec = Spec(7, 5, tables="sample", cut=cut_to)
    cut(monkeypatch, spec)
    tensors, _ = problem(spec)
    tensors["value"] = tensors["value"][:1].expand(2, -1, -1, -1, -1)
    tensors["content_bias"] = tensors["content_bias"][:1].expand(4, -1)
    odd = {
        "query": tensors["query"].permute(4, 2, 0, 3, 1).contiguous().permute(2, 4, 1, 3, 0),
        "key": torch.stack([tensors["key"]] * 2, -1)[..., 1],
        "value": tensors["value"],
        "time_key": tensors["time_key"].flip(2).contiguous().flip(2).mT.contiguous().mT,
        "channel_key": torch.cat([tensors["channel_key"]] * 2, 2)[:, :, ::2],
        "content_bias": tensors["content_bias"],
        "time_bias": tensors["time_bias"].T.contiguous().T,
        "channel_bias": tensors["channel_bias"],
    }
    tensors["channel_key"] = odd["channel_key"].contiguous()
    assert all(not odd[name].is_contiguous() for name in ("query", "key", "value", "time_key", "content_bias"))
    found = []
    for some in (odd, {name: x.contiguous() for name, x in tensors.items()}):
        inputs = {name: x.requires_grad_() for name, x in some.items()}
        out = attend(inputs, {}, spec, backend)
        grads = torch.autograd.grad(out.sum(), list(inputs.values()))
        found.append({"output": out.detach(), **dict(zip(inputs, grads, strict=True))})
    same(*found)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_a_batch_of_no_samples_gives_none_and_no_gradient(backend: str):
    for masked in (False, True):
        spec = Spec(3, 2, batch=0, channel_mask=masked, time_mask="right" if masked else "", key_mask=masked)
        found = results(problem(spec), spec, backend)
        assert found["output"].shape == (0, 4, 3, 2, 8)
        assert found["lse"].shape == (0, 4, 3, 2)
        assert all(x.eq(0).all() for name, x in found.items() if name.startswith("gradient"))


NAMES = ("query", "key", "value", "time_key", "channel_key", *BIASES)


@pytest.mark.parametrize("wanted", [(), *((name,) for name in NAMES), ("query", "time_bias"), ("key", "channel_key")])
def test_any_subset_of_the_inputs_may_want_gradients(wanted: tuple[str, ...]):
    spec = Spec(5, 3)
    given = problem(spec)
    everything = results(given, spec, "torch")
    inputs = {name: x.clone().requires_grad_(name in wanted) for name, x in given[0].items()}
    out = attend(inputs, {}, spec, "torch")
    assert out.requires_grad == bool(wanted)
    if wanted:
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        out.backward(upstream)
    for name, x in inputs.items():
        if name in wanted:
            torch.testing.assert_close(x.grad, everything[f"gradient of {name}"], rtol=0, atol=0)
        else:
            assert x.grad is None


# ------------------------------------------------------------------------------------------------ autograd
@pytest.mark.parametrize(
    ("direction", "cut_to"), [("unsigned", "one block"), ("causal", "several steps"), ("unsigned", "some channels")]
)
def test_gradients_are_those_of_finite_differences(direction: str, cut_to: str, monkeypatch: pytest.MonkeyPatch):
    spec = Spec(4, 2, 2, 1, 2, 1, direction, window=1, channel_mask=True, time_mask="hole", cut=cut_to)
    cut(monkeypatch, spec)
    tensors, masks = problem(spec)
    inputs = leaves(tensors)
    assert torch.autograd.gradcheck(
        lambda *x: attend(dict(zip(inputs, x, strict=True)), masks, spec, "torch"), tuple(inputs.values())
    )


def test_the_definition_has_a_second_derivative_and_the_torch_form_says_that_it_has_none():
    spec = Spec(3, 2, 2, 1, 2, 1, window=0, full_last=False)
    inputs = leaves(problem(spec)[0])
    assert torch.autograd.gradgradcheck(
        lambda *x: attend(dict(zip(inputs, x, strict=True)), {}, spec, "reference"), tuple(inputs.values())
    )
    out = attend(inputs, {}, spec, "torch")
    (slope,) = torch.autograd.grad(out.square().sum(), inputs["query"], create_graph=True)
    with pytest.raises(NotImplementedError, match=r"no second derivative.*backend='reference'"):
        slope.sum().backward()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")  # by torch's own forward-mode formulas
def test_a_forward_mode_derivative_is_refused_and_not_zero():
    tensors, _ = problem(Spec(3, 2), torch.float64)

    def of_query(query: Tensor, backend: str) -> Tensor:
        return attend(tensors | {"query": query}, {}, Spec(3, 2), backend)

    tangent = torch.ones_like(tensors["query"])
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(tensors["query"], tangent)
        with pytest.raises(NotImplementedError, match=r"no forward-mode derivative.*backend='reference'"):
            of_query(dual, "torch")
        change = forward_ad.unpack_dual(of_query(dual, "reference")).tangent
    step = 1e-6 * tangent
    slope = (of_query(tensors["query"] + step, "torch") - of_query(tensors["query"] - step, "torch")) / 2e-6
    torch.testing.assert_close(change, slope, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_the_log_sum_exp_has_no_gradient(backend: str):
    spec = Spec(3, 2)
    out, lse = attend(leaves(problem(spec)[0]), {}, spec, backend, return_lse=True)
    assert out.requires_grad
    assert not lse.requires_grad


def operator_arguments(spec: Spec, dtype: torch.dtype) -> tuple[Any, ...]:
    tensors, masks = problem(spec, dtype)
    inputs = leaves(tensors)
    zeros = torch.zeros(spec.heads, spec.size, dtype=dtype)
    return (
        *(inputs.get(name) for name in NAMES[:5]),
        *(inputs.get(name, zeros) for name in BIASES),
        *(masks.get(name) for name in ("channel_mask", "time_mask", "key_mask")),
        spec.window, spec.direction == "causal", spec.full_last, 0.5, "torch",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "dtype"),
    [
        (Spec(4, 3), torch.float32),
        (Spec(4, 3, content=False, channel_mask=True), torch.float32),
        (Spec(4, 3, direction="signed", time_mask="right"), torch.bfloat16),
    ],
    ids=["plain", "no content", "signed and masked"],
)
def test_the_operator_passes_all_checks_of_torch_library(spec: Spec, dtype: torch.dtype):
    """Its schema, autograd registration, fake tensors, and tracing with static and dynamic shapes."""
    checks = torch.library.opcheck(torch.ops.tsattn.mvpa_forward, operator_arguments(spec, dtype))
    assert set(checks.values()) == {"SUCCESS"}
    assert len(checks) == 4


# ------------------------------------------------------------------------------------------------ compile, autocast
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("backend", "dynamic"), [("reference", False), ("auto", True)])
def test_compiled_forward_and_backward_equal_eager_ones(backend: str, dynamic: bool):
    """Without a graph break, and with dynamic shapes one graph serves every batch size, length and channel count."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(mvpa_attention, fullgraph=True, backend=counter, dynamic=dynamic)
    shapes = [(12, 3, 5), (13, 9, 6), (15, 10, 7)]  # no two sizes are equal: torch takes equal ones for one symbol
    compilations = []
    for time, channels, batch in shapes if dynamic else shapes[:1]:
        spec = Spec(time, channels, batch=batch, channel_mask=True, time_mask="ragged", tables="sample")
        tensors, masks = problem(spec, torch.float32)
        found = []
        for function in (compiled, mvpa_attention):
            inputs = leaves(tensors)
            out = function(**inputs, **masks, **spec.options, backend=backend)
            grads = torch.autograd.grad(out.square().sum(), list(inputs.values()))
            found.append({"output": out.detach(), **dict(zip(inputs, grads, strict=True))})
        same(*found, rounding=1e-6)
        compilations.append(counter.frame_count)
    assert compilations == compilations[:1] * len(compilations)


@pytest.mark.usefixtures("unchecked")
def test_structured_dropout_compiles_with_dynamic_shapes():
    compiled = torch.compile(mvpa_attention, fullgraph=True, backend="aot_eager", dynamic=True)
    for time in (5, 6):
        tensors, _ = problem(Spec(time, 3, window=2), torch.float32)
        out = compiled(**tensors, window=2, dropout_p=0.5)
        assert out.shape[2] == time
        assert out.isfinite().all()


@pytest.mark.parametrize("backend", ["reference", "torch"])
def test_under_autocast_the_output_is_bfloat16_and_gradients_keep_their_types(backend: str):
    spec = Spec(9, 5, size=16)
    tensors, _ = problem(spec, torch.float32)
    inputs = leaves(tensors)
    with torch.autocast("cpu", torch.bfloat16):
        out = attend(inputs, {}, spec, backend)
    assert out.dtype == torch.bfloat16
    grads = torch.autograd.grad(out.float().square().sum(), list(inputs.values()))
    assert all(g.dtype == torch.float32 for g in grads)
    precise = leaves({name: x.double() for name, x in tensors.items()})
    truth = attend(precise, {}, spec, "reference")
    slopes = torch.autograd.grad(truth.square().sum(), list(precise.values()))
    # 2^-8 is the rounding of one number; products of 16 of them, a softmax and a mean add a few
    assert error(out, truth) < 4 * 2**-8
    assert all(error(g, slope) < 8 * 2**-8 for g, slope in zip(grads, slopes, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(precise, {}, spec, backend).dtype == torch.float64


# ------------------------------------------------------------------------------------------------ maps
def test_maps_are_the_weights_and_the_terms_that_add_up_to_their_logits():
    for direction, window in (("causal", 2), ("signed", 1), ("unsigned", None)):
        spec = Spec(6, 3, direction=direction, window=window, full_last=False, channel_mask=True, key_mask=True)
        tensors, masks = problem(spec)
        out, maps = attend(tensors, masks, spec, "auto", return_maps=True)
        weights, logits = (x.flatten(4, 5) for x in (maps.weights, maps.content + maps.time + maps.channel))
        read = (weights > 0).any(-1, keepdim=True)  # rows that may read something
        torch.testing.assert_close(weights.sum(-1, keepdim=True), read.double(), atol=1e-14, rtol=0)
        expected = logits.masked_fill(weights == 0, -math.inf).softmax(-1).masked_fill(~read, 0)
        torch.testing.assert_close(weights, expected, atol=1e-14, rtol=0)
        values = tensors["value"].repeat_interleave(2, 1).flatten(2, 3)
        torch.testing.assert_close((weights.flatten(2, 3) @ values).view(out.shape), out, atol=1e-13, rtol=0)
        elapsed = torch.arange(6)[:, None] - torch.arange(6)
        for x in (maps.weights, maps.content, maps.time, maps.channel):
            assert x.shape == (2, 4, 6, 3, 6, 3)
            if direction == "causal":
                assert x[:, :, :, :, :, :].movedim(4, 3)[:, :, elapsed < 0].eq(0).all()
            assert (
                x.transpose(3, 4)[..., :][
                    (~masks["channel_mask"])[:, None, None, None, None, :].expand(2, 4, 6, 6, 3, 3)
                ]
                .eq(0)
                .all()
            )
        content = maps.content.movedim(4, 3)  # (B, H, T, T', C, C')
        if window is not None:
            assert content[:, :, elapsed.abs() > window].eq(0).all()
        assert content[:, :, elapsed == 0].ne(0).any()


# ------------------------------------------------------------------------------------------------ dropout
def test_structured_dropout_draws_channels_first_then_steps_from_the_generator():
    p, keep = 0.36, 0.8
    value = torch.randn(3, 2, 5, 4, 6)
    for per, draws in (("sample", 3), ("call", 1)):
        ours = structured_dropout(value, p, per, torch.Generator().manual_seed(7))
        generator = torch.Generator().manual_seed(7)
        of_channel = torch.rand(draws, 4, generator=generator) < keep
        of_time = torch.rand(draws, 5, generator=generator) < keep
        kept = of_time[:, None, :, None, None] & of_channel[:, None, None, :, None]
        torch.testing.assert_close(ours, value * kept / (1 - p))
        assert torch.equal(ours, structured_dropout(value, p, per, torch.Generator().manual_seed(7)))
        assert not torch.equal(ours, structured_dropout(value, p, per, torch.Generator().manual_seed(8)))


def test_samples_are_dropped_apart_for_sample_and_alike_for_call():
    value = torch.ones(64, 1, 5, 4, 1)
    alike = structured_dropout(value, 0.5, "call", torch.Generator().manual_seed(0))
    assert torch.equal(alike, alike[:1].expand_as(alike))
    apart = structured_dropout(value, 0.5, "sample", torch.Generator().manual_seed(0))
    assert len(apart.flatten(1).unique(dim=0)) > 32


@pytest.mark.parametrize("dropout", ["sample", "call", "element"])
def test_the_expected_output_is_the_one_without_dropout(dropout: str):
    """Mean over 4096 draws (512 of "call"); it may miss by 6 of its standard errors, which one of 120 numbers does for
    one seed in a few million."""
    p, draws = 0.3, 4096
    spec = Spec(5, 3, 2, 1, 4, batch=1)
    tensors, _ = problem(spec, torch.float32)
    generator = torch.Generator().manual_seed(0)
    clean = attend(tensors, {}, spec, "reference")
    if dropout == "call":
        found = torch.cat([
            attend(tensors, {}, spec, "auto", dropout_p=p, dropout=dropout, generator=generator)
            for _ in range(draws // 8)
        ])  # fmt: skip
    else:
        many = {name: x.expand(draws, *x.shape[1:]) if x.ndim == 5 else x for name, x in tensors.items()}
        found = attend(many, {}, spec, "auto", dropout_p=p, dropout=dropout, generator=generator)
    spread = found.std(0, keepdim=True) / len(found) ** 0.5
    assert spread.gt(0).all()
    assert ((found.mean(0, keepdim=True) - clean).abs() <= 6 * spread).all()


def test_the_generator_repeats_dropout_and_evaluation_turns_it_off():
    spec = Spec(5, 3)
    tensors, _ = problem(spec)
    clean = attend(tensors, {}, spec, "reference")
    for dropout, backend in (("sample", "torch"), ("call", "torch"), ("element", "reference"), ("sample", "reference")):

        def dropped(seed: int, dropout: str = dropout, backend: str = backend, **more: Any) -> Tensor:
            return attend(
                tensors, {}, spec, backend, dropout_p=0.4, dropout=dropout,
                generator=torch.Generator().manual_seed(seed), **more,
            )  # fmt: skip

        assert torch.equal(dropped(1), dropped(1))
        assert not torch.equal(dropped(1), dropped(2))
        torch.testing.assert_close(dropped(1, training=False), clean, atol=EXACT, rtol=0)
    given = dict(dropout_p=0.4, dropout="sample")
    kept = structured_dropout(tensors["value"], 0.4, "sample", torch.Generator().manual_seed(3))
    expected = attend(tensors | {"value": kept}, {}, spec, "reference")
    ours = attend(tensors, {}, spec, "torch", generator=torch.Generator().manual_seed(3), **given)
    torch.testing.assert_close(ours, expected, atol=EXACT, rtol=0)


# ------------------------------------------------------------------------------------------------ cost
@pytest.mark.parametrize("direction", ["causal", "signed"])
@pytest.mark.parametrize("window", [0, 2, None])
@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("full_last", [True, False])
def test_the_flop_counter_says_what_counting_all_pairs_gives(
    direction: str, window: int | None, content: bool, full_last: bool
):
    """A pair in the window takes 2 products forward (content, value) and 5 backward, another 1 and 2; a query takes one
    product forward and three backward with each step that it reads and each channel; a product is 2 * size operations.
    """
    from torch.utils.flop_counter import FlopCounterMode

    import tsattn.ops.mvpa.flops  # noqa: F401 (registers the formulas)

    spec = Spec(6, 3, direction=direction, window=window, content=content, full_last=full_last)
    grid = list(itertools.product(range(6), range(3)))
    forward = backward = 0
    for t, _ in grid:
        read = (t + 1 if direction == "causal" else 6) + 3
        forward += read
        backward += 3 * read
        for t2, _ in grid:
            if direction == "causal" and t2 > t:
                continue
            near = content and (window is None or abs(t - t2) <= window or (full_last and t == 5))
            forward += 2 if near else 1
            backward += 5 if near else 2
    each = 2 * spec.size * spec.batch * spec.heads
    tensors = leaves(problem(spec)[0])
    with FlopCounterMode(display=False) as counter:
        out = attend(tensors, {}, spec, "torch")
        assert counter.get_total_flops() == forward * each
        out.sum().backward()
    assert counter.get_total_flops() == (forward + backward) * each


class Ledger(TorchDispatchMode):
    """Counts the bytes of new tensors: the largest one, and the most that was alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.alive = self.peak = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.untyped_storage() not in self.known:
                storage = x.untyped_storage()
                self.known.add(storage)
                size = storage.nbytes()
                weakref.finalize(storage, self.free, size)
                self.alive += size
                self.largest, self.peak = max(self.largest, size), max(self.peak, self.alive)
        return result

    def free(self, size: int) -> None:
        self.alive -= size


def test_memory_grows_with_the_tokens_and_not_with_their_square(monkeypatch: pytest.MonkeyPatch):
    """At 512, 1024 and 2048 tokens of 16 channels, on top of what goes in: no temporary tensor is above the budget (or
    that of the inputs, whichever is larger), and the peak per token does not grow."""
    budget = 1 << 18
    monkeypatch.setattr(factorised, "CPU_SCRATCH", budget)
    monkeypatch.setattr(factorised, "ROWS", 64)
    peaks: dict[str, list[float]] = {"forward": [], "backward": []}
    for time in (32, 64, 128):
        spec = Spec(time, 16, 2, 1, 8, batch=1, window=4)
        *arguments, window, causal, full_last, scale, _ = operator_arguments(spec, torch.float32)
        inputs = Inputs(*(None if x is None else x.detach() for x in arguments))
        options = Options(window, causal, full_last, scale)
        tokens = time * spec.channels
        with torch.no_grad():
            with Ledger() as forward:
                out, lse = factorised.forward(inputs, options)
            with Ledger() as backward:
                grads = factorised.backward(torch.ones_like(out), inputs, out, lse, options)
        assert grads[0].shape == out.shape
        for name, ledger in (("forward", forward), ("backward", backward)):
            assert out.nbytes <= ledger.largest <= max(2 * budget, 2 * out.nbytes), name
            assert ledger.largest < tokens**2 * 4, name
            peaks[name].append(ledger.peak / tokens)
    for name, per_token in peaks.items():
        assert per_token == sorted(per_token, reverse=True), (name, per_token)


# ------------------------------------------------------------------------------------------------ the choice of a form
def on_a_gpu(**more: Any) -> Inputs:
    """Return a stand-in for inputs on a GPU, as far as the choice looks at them."""
    query = SimpleNamespace(
        is_cuda=True, dtype=torch.float32, shape=(1, 1, 2, 2, 16), device=torch.device("cuda"), itemsize=4
    )
    return Inputs(*[query] * 8, **more)  # type: ignore[arg-type]


@pytest.fixture
def no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Triton."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "triton" else found(name, *rest)
    )
    monkeypatch.setattr(mvpa, "_said", set())


@pytest.mark.usefixtures("unchecked", "no_triton")
def test_without_triton_asking_for_it_by_name_is_an_error_and_auto_takes_torch_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
):
    with pytest.raises(
        ValueError, match=r"backend='triton' is not possible: Triton is not installed\. Use backend='torch'"
    ):
        mvpa._choose("triton", on_a_gpu(), dense=False)
    with caplog.at_level(logging.WARNING, logger="tsattn.ops.mvpa"):
        assert [mvpa._choose("auto", on_a_gpu(), dense=False) for _ in range(3)] == ["torch"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "MVPA on a GPU in the torch form, which is slower than triton: Triton is not installed."
    ]


@pytest.mark.usefixtures("unchecked", "no_triton")
def test_a_choice_that_would_be_said_in_the_log_compiles():
    """Dynamo knows no loggers; a graph break here would make `fullgraph=True` impossible wherever Triton cannot."""

    inputs = on_a_gpu()

    def choice(x: Tensor) -> Tensor:
        return x + 1 if mvpa._choose("auto", inputs, dense=False) == "torch" else x

    compiled = torch.compile(choice, fullgraph=True, backend="eager")
    assert compiled(torch.zeros(())) == 1


@pytest.mark.usefixtures("unchecked", "no_triton")
def test_on_a_cpu_auto_takes_the_torch_form_without_a_word(caplog: pytest.LogCaptureFixture):
    spec = Spec(4, 3)
    given = problem(spec)
    with caplog.at_level(logging.DEBUG):
        assert torch.equal(attend(*given, spec, "auto"), attend(*given, spec, "torch"))
    assert not caplog.records


@pytest.mark.usefixtures("unchecked")
def test_a_key_mask_keeps_triton_away(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    with pytest.raises(ValueError, match="not possible: it reads channel_mask and time_mask, but no key_mask"):
        mvpa._choose("triton", on_a_gpu(key_mask=torch.ones(1, 2, 2, dtype=torch.bool)), dense=False)


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_triton_by_name_on_a_cpu_is_an_error_with_the_reason():
    spec = Spec(4, 3, size=16)
    with pytest.raises(ValueError, match=r"backend='triton' is not possible: .*need a CUDA device.* are on cpu"):
        attend(*problem(spec, torch.float32), spec, "triton")


@pytest.mark.usefixtures("unchecked")
def test_the_dense_form_is_not_taken_in_silence_where_it_is_large(monkeypatch: pytest.MonkeyPatch):
    spec = Spec(4, 3)
    given = problem(spec, torch.float32)
    need = 8 * 2 * 4 * 12**2 * 4
    for more in ({"return_maps": True}, {"dropout_p": 0.1, "dropout": "element"}):
        monkeypatch.setattr(mvpa, "DENSE_BYTES", need)
        attend(*given, spec, "auto", **more)
        monkeypatch.setattr(mvpa, "DENSE_BYTES", need - 1)
        with pytest.raises(
            ValueError, match=r"0\.0 GiB for 2 samples of 4 steps x 3 channels; name backend='reference'"
        ):
            attend(*given, spec, "auto", **more)
        attend(*given, spec, "reference", **more)
        attend(*given, spec, "auto", training=False, dropout_p=0.1, dropout="element")


# ------------------------------------------------------------------------------------------------ what does not fit
def shaped(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.ones(shape, dtype=dtype)


WRONG: list[tuple[dict[str, Any], str]] = [  # on (batch 2, heads 4, kv heads 2, time 3, channels 5, size 8)
    ({"value": shaped(2, 3, 3, 5, 8)}, "query has 4 heads and value 3, expected a multiple"),
    ({"value": shaped(2, 0, 3, 5, 8)}, "query has 4 heads and value 0"),
    ({"key": shaped(2, 4, 3, 5, 8)}, r"key has shape \(2, 4, 3, 5, 8\), expected \(2, 2, 3, 5, 8\)"),
    ({"value": shaped(2, 2, 3, 4, 8)}, r"value has shape \(2, 2, 3, 4, 8\), expected \(2, 2, 3, 5, 8\)"),
    ({"query": shaped(4, 3, 5, 8)}, r"query has shape \(4, 3, 5, 8\).*expected \(batch, head, time, channel, size\)"),
    (
        {"query": shaped(2, 4, 3, 0, 8)},
        "query has 4 heads, 3 steps, 0 channels and size 8, expected at least 1 of each",
    ),
    ({"query": shaped(2, 4, 0, 5, 8)}, "query has 4 heads, 0 steps, 5 channels"),
    ({"time_key": shaped(1, 2, 4, 8)}, r"time_key has shape \(1, 2, 4, 8\), expected \(1 or 2, 2, 3, 8\) for 3 steps"),
    ({"time_key": shaped(1, 2, 4, 8), "causal": False}, r"expected \(1 or 2, 2, 3 or 5, 8\) for 3 steps, not causal"),
    ({"time_key": shaped(1, 2, 5, 8)}, r"time_key has shape \(1, 2, 5, 8\), expected \(1 or 2, 2, 3, 8\)"),
    ({"time_key": shaped(2, 3, 8)}, r"time_key has shape \(2, 3, 8\)"),
    ({"channel_key": shaped(1, 2, 4, 8)}, r"channel_key has shape .* \(1 or 2, 2, 5, 8\) for 5 channels"),
    ({"channel_key": shaped(3, 2, 5, 8)}, r"channel_key has shape \(3, 2, 5, 8\)"),
    ({"content_bias": shaped(3, 8)}, r"content_bias has shape \(3, 8\), expected \(4, 8\) or \(2, 8\)"),
    ({"time_bias": shaped(4, 7)}, r"time_bias has shape \(4, 7\)"),
    ({"channel_bias": shaped(8)}, r"channel_bias has shape \(8,\)"),
    ({"window": -1}, "window is -1, expected a whole number of steps from 0, None for all, or key=None"),
    ({"scale": float("nan")}, "scale is nan, expected a finite number"),
    ({"scale": torch.tensor(0.3)}, r"scale is tensor\(0.3000\), expected a finite number"),
    ({"value": None}, "value is NoneType, expected a tensor"),
    ({"window": 2.5}, "window is 2.5, expected a whole number of steps"),
    ({"query": shaped(2, 0, 3, 5, 8)}, "query has 0 heads"),
    ({"query": shaped(8)}, r"query has shape \(8,\)"),
    ({"content_bias": shaped(3, 8)}, r"content_bias has shape \(3, 8\), expected \(4, 8\) or \(2, 8\)"),
    ({"time_bias": shaped(4, 8, dtype=torch.int64)}, "time_bias has type torch.int64, expected torch.float32 as query"),
    ({"channel_mask": shaped(2, 5)}, "channel_mask has type torch.float32, expected torch.bool"),
    ({"channel_mask": shaped(2, 4, dtype=torch.bool)}, r"channel_mask has shape \(2, 4\), expected \(2, 5\)"),
    ({"time_mask": shaped(1, 3, dtype=torch.bool)}, r"time_mask has shape \(1, 3\), expected \(2, 3\)"),
    ({"key_mask": shaped(2, 15, dtype=torch.bool)}, r"key_mask has shape \(2, 15\), expected \(2, 3, 5\)"),
    ({"channel_mask": shaped(2, 5)}, "channel_mask has type torch.float32, expected torch.bool"),
    ({"time_mask": shaped(2, 3, dtype=torch.int64)}, "time_mask has type torch.int64, expected torch.bool"),
    ({"channel_mask": torch.ones(2, 5, dtype=torch.bool, device="meta")}, "channel_mask is on meta, expected cpu"),
    ({"key": shaped(2, 2, 3, 5, 8, dtype=torch.float64)}, "key has type torch.float64, expected torch.float32"),
    (
        {"time_key": shaped(1, 2, 3, 8, dtype=torch.bfloat16)},
        "time_key has type torch.bfloat16, expected torch.float32",
    ),
    ({"backend": "cuda"}, "backend is 'cuda', expected one of 'auto', 'reference', 'torch', 'triton'"),
    ({"dropout": "token", "dropout_p": 0.1}, "dropout is 'token', expected one of 'sample', 'call', 'element'"),
    ({"dropout_p": 1.0}, r"dropout_p is 1.0, expected a probability in \[0, 1\)"),
    ({"dropout_p": -0.1}, "dropout_p is -0.1"),
    ({"dropout_p": math.nan}, "dropout_p is nan"),
    ({"backend": "torch", "return_maps": True}, "backend='torch' holds no weights, so it has no maps"),
    (
        {"backend": "torch", "dropout": "element", "dropout_p": 0.1},
        "no element dropout. Use backend='reference', or dropout='sample'",
    ),
]


def fitting() -> dict[str, Any]:
    names = {"query": (2, 4, 3, 5, 8), "key": (2, 2, 3, 5, 8), "value": (2, 2, 3, 5, 8)}
    return {name: shaped(*shape) for name, shape in names.items()} | {
        "time_key": shaped(1, 2, 3, 8),
        "channel_key": shaped(1, 2, 5, 8),
    }


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=lambda x: "-".join(x) if isinstance(x, dict) else "")
def test_what_does_not_fit_is_refused_in_words(change: dict[str, Any], sentence: str):
    assert mvpa_attention(**fitting()).shape == (2, 4, 3, 5, 8)
    with pytest.raises(ValueError, match=sentence):
        mvpa_attention(**{**fitting(), **change})


@pytest.mark.usefixtures("unchecked")
def test_integers_are_refused_in_words():
    whole = {name: x.long() for name, x in fitting().items()}
    with pytest.raises(ValueError, match=r"query has type torch.int64, expected one of torch.float16"):
        mvpa_attention(**whole)


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize(("mask", "size"), [("channel_mask", 5), ("time_mask", 3)])
def test_a_sample_of_nothing_but_padding_is_refused_by_its_index(backend: str, mask: str, size: int):
    some = torch.ones(2, size, dtype=torch.bool)
    some[1] = False
    with pytest.raises(ValueError, match=rf"{mask}\[1\] is all False, expected at least one that is real"):
        mvpa_attention(**fitting(), **{mask: some}, backend=backend)
