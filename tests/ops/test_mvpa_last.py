"""The last step of MVPA alone: equal to what the definition, in float64, gives at each sample's last real step.

`test_mvpa.py` says that the definition is what loops by hand give.
"""

import itertools
import math
import random
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tsattn.ops.mvpa import mvpa_attention, mvpa_last

EXACT = 1e-12  # of float64, relative to the largest element (or to 1, if that is more)
BIASES = ("content_bias", "time_bias", "channel_bias")


class Spec(NamedTuple):
    """What a call is made of."""

    time: int = 7
    channels: int = 5
    heads: int = 4
    kv_heads: int = 2
    size: int = 8
    batch: int = 3
    window: int | None = 2
    full_last: bool = True
    content: bool = True
    channel_mask: bool = False
    time_mask: str = ""  # "right" padding, of different lengths ("ragged"), a "hole" in it
    key_mask: str = ""  # "some" keys hidden; "all" of the first sample's
    tables: str = "shared"  # or "sample"
    bias: str = "head"  # "head", "kv_head", "absent"

    @property
    def options(self) -> dict[str, Any]:
        return {"window": self.window, "full_last": self.full_last}


Tensors = dict[str, Tensor]


def problem(spec: Spec, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensors, Tensors]:
    """Return random tensors, with queries of all steps, and masks."""
    generator = torch.Generator().manual_seed(seed)
    batch, time, channels, size = spec.batch, spec.time, spec.channels, spec.size
    own = batch if spec.tables == "sample" else 1
    shapes: dict[str, tuple[int, ...]] = {
        "query": (batch, spec.heads, time, channels, size),
        "key": (batch, spec.kv_heads, time, channels, size),
        "value": (batch, spec.kv_heads, time, channels, size),
        "time_key": (own, spec.kv_heads, time, size),
        "channel_key": (own, spec.kv_heads, channels, size),
    }
    if not spec.content:
        del shapes["key"]
    if spec.bias != "absent":
        shapes |= dict.fromkeys(BIASES, (spec.heads if spec.bias == "head" else spec.kv_heads, size))
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for name, shape in shapes.items()
    }
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
        if spec.key_mask == "all":
            masks["key_mask"][:1] = False
    return tensors, masks


def leaves(tensors: Tensors) -> Tensors:
    return {name: x.detach().clone().requires_grad_() for name, x in tensors.items()}


def at_last(x: Tensor, masks: Tensors) -> Tensor:
    """Return (B, H, T, ...) at each sample's last real step."""
    if "time_mask" not in masks:
        return x[:, :, -1]
    lasts = [max(t for t, real in enumerate(row) if real) for row in masks["time_mask"].tolist()]
    return torch.stack([sample[:, last] for sample, last in zip(x, lasts, strict=True)])


def last(tensors: Tensors, masks: Tensors, spec: Spec, **more: Any) -> Any:
    """Call `mvpa_last` with the last queries."""
    query = at_last(tensors["query"], masks)
    return mvpa_last(**{"key": None, **tensors, "query": query, **masks, **spec.options, **more})


def definition(tensors: Tensors, masks: Tensors, spec: Spec, **more: Any) -> tuple[Tensor, Tensor]:
    """Return output and weights of the definition at the last steps."""
    out, maps = mvpa_attention(
        **{"key": None, **tensors, **masks, **spec.options, **more}, return_maps=True, backend="reference"
    )
    return at_last(out, masks), at_last(maps.weights, masks)


def gradients(out: Tensor, weights: Tensor, inputs: Tensors, grad: tuple[Tensor, Tensor] | None = None) -> Tensors:
    """Return the gradients of every tensor, 0 where there is none, of random upstream ones."""
    if grad is None:
        generator = torch.Generator().manual_seed(1)
        some = (torch.randn(x.shape, generator=generator, dtype=torch.float64) for x in (out, weights))
        grad = (next(some), next(some))
    found = torch.autograd.grad((out, weights), list(inputs.values()), grad, allow_unused=True)
    return {
        f"gradient of {name}": torch.zeros_like(x) if g is None else g
        for (name, x), g in zip(inputs.items(), found, strict=True)
    }


def same(ours: Tensors, truth: Tensors, rounding: float = EXACT, about: object = "") -> None:
    assert set(ours) == set(truth)
    for name, expected in truth.items():
        atol = rounding * max(1.0, expected.abs().max().item() if expected.numel() else 0.0)
        torch.testing.assert_close(
            ours[name], expected, atol=atol, rtol=0, msg=lambda m, n=name: f"{n} of {about}: {m}"
        )


OPTIONS: dict[str, tuple[Any, ...]] = {
    "size": (3, 8),
    "window": (0, 2, 10, None),
    "full_last": (True, False),
    "content": (True, True, False),
    "channel_mask": (False, True),
    "time_mask": ("", "right", "ragged", "hole"),
    "key_mask": ("", "some", "all"),
    "tables": ("shared", "sample"),
    "bias": ("head", "kv_head", "absent"),
}
SIZES = (1, 2, 7)
HEADS = ((4, 2), (3, 3), (4, 1), (1, 1))
DRAWS = 8


def drawn(time: int, channels: int, heads: tuple[int, int]) -> list[Spec]:
    """Return some of the many calls of this shape, always the same ones."""
    dice = random.Random(f"{time} {channels} {heads}")
    return [
        Spec(time, channels, *heads, **{name: dice.choice(values) for name, values in OPTIONS.items()})
        for _ in range(DRAWS)
    ]


def test_every_pair_of_options_is_among_the_calls_that_are_tried():
    specs = [spec for shape in itertools.product(SIZES, SIZES, HEADS) for spec in drawn(*shape)]
    for a, b in itertools.combinations(OPTIONS, 2):
        met = {(getattr(spec, a), getattr(spec, b)) for spec in specs}
        assert met >= set(itertools.product(OPTIONS[a], OPTIONS[b])), (a, b)


@pytest.mark.parametrize("heads", HEADS, ids=lambda h: f"heads{h[0]}_{h[1]}")
@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("time", SIZES)
def test_output_weights_and_all_gradients_equal_the_definition(time: int, channels: int, heads: tuple[int, int]):
    for spec in drawn(time, channels, heads):
        tensors, masks = problem(spec)
        found = []
        for out, weights, inputs in (
            (*last(ours := leaves(tensors), masks, spec, return_weights=True), ours),
            (*definition(theirs := leaves(tensors), masks, spec), theirs),
        ):
            found.append({"output": out, "weights": weights, **gradients(out, weights, inputs)})
        same(*found, about=spec)
        torch.testing.assert_close(last(tensors, masks, spec), found[0]["output"], atol=0, rtol=0)


def test_rows_of_weights_sum_to_1_but_for_padding_and_for_queries_that_may_read_nothing():
    spec = Spec(channel_mask=True, time_mask="ragged", key_mask="all")
    tensors, masks = problem(spec)
    assert not masks["channel_mask"].all()
    _, weights = last(tensors, masks, spec, return_weights=True)
    assert weights.shape == (3, 4, 5, 7, 5)
    reads = masks["channel_mask"].clone()
    reads[0] = False
    torch.testing.assert_close(weights.sum((3, 4)), reads[:, None].expand(3, 4, 5).double(), atol=1e-14, rtol=0)
    real = masks["time_mask"][:, :, None] & masks["channel_mask"][:, None] & masks["key_mask"]
    assert weights.masked_select(~real[:, None, None]).eq(0).all()
    assert weights[1:].masked_select((real[:, None] & reads[:, :, None, None])[1:, None]).gt(0).all()


def test_a_sample_reads_the_same_with_and_without_padding():
    spec = Spec(time_mask="ragged", channel_mask=True, full_last=False)
    tensors, masks = problem(spec)
    padded, weights = last(tensors, masks, spec, return_weights=True)
    for b in range(spec.batch):
        steps, length = masks["time_mask"][b], int(masks["time_mask"][b].sum())
        alone = {name: x[b : b + 1][:, :, steps] if x.ndim == 5 else x for name, x in tensors.items()}
        alone["time_key"] = alone["time_key"][:, :, :length]
        mask = {"channel_mask": masks["channel_mask"][b : b + 1]}
        out, mass = last(alone, mask, spec, return_weights=True)
        torch.testing.assert_close(padded[b : b + 1], out, atol=EXACT, rtol=0)
        torch.testing.assert_close(weights[b : b + 1, :, :, :length], mass, atol=EXACT, rtol=0)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize(
    "spec",
    [
        Spec(channel_mask=True),
        Spec(time_mask="hole", full_last=False),
        Spec(channel_mask=True, time_mask="ragged", key_mask="some"),
        Spec(channel_mask=True, key_mask="all", content=False),
    ],
    ids=lambda s: "-".join(filter(None, ("channel" * s.channel_mask, s.time_mask, s.key_mask))),
)
def test_what_stands_in_masked_tokens_does_not_matter(spec: Spec, poison: float):
    """NaN or infinity in queries, keys, values and the gradients that come in."""
    tensors, masks = problem(spec)
    every = torch.ones(spec.batch, spec.time, spec.channels, dtype=torch.bool)
    steps, channels = masks.get("time_mask", every[:, :, 0]), masks.get("channel_mask", every[:, 0])
    padded = ~(steps[:, :, None] & channels[:, None])[:, None, ..., None]
    unread = padded | ~masks.get("key_mask", every)[:, None, ..., None]
    assert unread.any()
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(3, 4, 5, *rest, generator=generator, dtype=torch.float64) for rest in ((8,), (7, 5))]
    spoiled = dict(tensors)
    for name, where in (("query", padded), ("key", unread), ("value", unread)):
        if name in tensors:
            spoiled[name] = tensors[name].masked_fill(where, poison)
    spoilt_upstream = [upstream[0].masked_fill(~channels[:, None, :, None], poison)]
    spoilt_upstream += [upstream[1].masked_fill(~channels[:, None, :, None, None], poison)]
    found = []
    for some, grad in ((tensors, upstream), (spoiled, spoilt_upstream)):
        inputs = leaves(some)
        out, weights = last(inputs, masks, spec, return_weights=True)
        found.append({"output": out, "weights": weights, **gradients(out, weights, inputs, (grad[0], grad[1]))})
    clean, spoilt = found
    assert [name for name in clean if not torch.equal(clean[name], spoilt[name])] == []
    assert clean["output"].masked_select(~channels[:, None, :, None]).eq(0).all()


def test_a_sample_that_may_read_nothing_makes_no_nan_on_the_way_back():
    """Not even one that is masked later, by which torch's anomaly detection would stop."""
    tensors, masks = problem(Spec(key_mask="all"))
    inputs = leaves(tensors)
    with pytest.warns(UserWarning, match="Anomaly Detection"):
        anomaly = torch.autograd.detect_anomaly()
    with anomaly:
        out, weights = last(inputs, masks, Spec(), return_weights=True)
        (out.sum() + weights.square().sum()).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs.values())


def test_derivatives_of_second_order_are_those_of_finite_differences_also_where_a_sample_may_read_nothing():
    spec = Spec(2, 2, 2, 1, 1, 2, window=0, full_last=False, key_mask="all")
    tensors, masks = problem(spec)
    inputs = leaves(tensors)
    inputs["query"] = at_last(tensors["query"], masks).clone().requires_grad_()
    assert torch.autograd.gradgradcheck(
        lambda *x: mvpa_last(**dict(zip(inputs, x, strict=True)), **masks, **spec.options), tuple(inputs.values())
    )


@pytest.mark.parametrize("dropout", ["sample", "call"])
def test_the_generator_drops_the_same_steps_and_channels_as_in_the_whole_attention(dropout: str):
    spec = Spec(7, 6, channel_mask=True, time_mask="ragged")
    tensors, masks = problem(spec)
    clean, weights = last(tensors, masks, spec, return_weights=True)
    seeds = []
    for seed in (3, 4):
        given = {"dropout_p": 0.4, "dropout": dropout}
        ours, kept = last(
            tensors, masks, spec, **given, generator=torch.Generator().manual_seed(seed), return_weights=True
        )
        whole = mvpa_attention(
            **tensors, **masks, **spec.options, **given, generator=torch.Generator().manual_seed(seed), backend="torch"
        )
        torch.testing.assert_close(ours, at_last(whole, masks), atol=EXACT, rtol=0)
        torch.testing.assert_close(kept, weights, atol=0, rtol=0)  # those before dropout
        seeds.append(ours)
    assert not torch.equal(*seeds)
    assert torch.equal(last(tensors, masks, spec, dropout_p=0.4, dropout=dropout, training=False), clean)


def test_element_dropout_drops_single_weights_and_divides_the_others_by_what_is_kept():
    """Values that are one 1 each make the output the weights themselves."""
    spec = Spec(time=6, channels=4, heads=2, kv_heads=1, size=24, batch=64)
    tensors, masks = problem(spec)
    tensors["value"] = torch.eye(24, dtype=torch.float64).view(1, 1, 6, 4, 24).expand(64, -1, -1, -1, -1)
    given = {"dropout_p": 0.3, "dropout": "element", "return_weights": True}
    out, weights = last(tensors, masks, spec, **given, generator=torch.Generator().manual_seed(0))
    factor = out / weights.flatten(3)
    dropped = factor == 0
    torch.testing.assert_close(factor[~dropped], torch.full_like(factor[~dropped], 1 / 0.7))
    count = dropped.numel()
    assert abs(dropped.sum().item() - 0.3 * count) < 5 * math.sqrt(0.3 * 0.7 * count)
    again, _ = last(tensors, masks, spec, **given, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out, again)


FLOORS = {torch.float32: 1e-6, torch.bfloat16: 2**-9, torch.float16: 2**-12}  # half of an ulp; eight of float32


@pytest.mark.parametrize("dtype", FLOORS, ids=str)
def test_errors_are_at_most_twice_those_of_the_definition_in_the_same_type(dtype: torch.dtype):
    for spec in (Spec(17, 7, size=16, channel_mask=True), Spec(7, 17, size=16, window=0, full_last=False)):
        tensors, masks = problem(spec, dtype)
        found = []
        for function, work in ((definition, torch.float64), (definition, dtype), (mvpa_last, dtype)):
            inputs = leaves({name: x.to(work) for name, x in tensors.items()})
            if function is definition:
                out = definition(inputs, masks, spec)[0]
            else:
                out, weights = last(inputs, masks, spec, return_weights=True)
                assert weights.dtype == torch.float32
            assert out.dtype == work
            upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
            grads = torch.autograd.grad(out, list(inputs.values()), upstream.to(dtype).to(work))
            assert all(g.dtype == work for g in grads)
            found.append({"output": out.detach(), **dict(zip(inputs, grads, strict=True))})
        truth, dense, ours = found
        for name, expected in truth.items():
            errors = [((x[name].double() - expected).abs().max() / expected.abs().max()).item() for x in (ours, dense)]
            assert errors[0] <= 2 * errors[1] + FLOORS[dtype], (name, spec)


def test_under_autocast_the_output_is_bfloat16_that_of_bfloat16_inputs_and_gradients_keep_their_types():
    spec = Spec(9, 5, size=16)
    tensors, masks = problem(spec, torch.float32)
    inputs = leaves(tensors)
    with torch.autocast("cpu", torch.bfloat16):
        out, weights = last(inputs, masks, spec, return_weights=True)
    assert (out.dtype, weights.dtype) == (torch.bfloat16, torch.float32)
    rounded = {name: x if name in BIASES else x.bfloat16() for name, x in tensors.items()}
    assert torch.equal(out, last(rounded, masks, spec))
    grads = torch.autograd.grad(out.float().square().sum(), list(inputs.values()))
    assert all(g.dtype == torch.float32 for g in grads)
    precise = {name: x.double() for name, x in tensors.items()}
    truth, _ = definition(precise, masks, spec)
    assert (out.double() - truth).abs().max() < 4 * 2**-8 * truth.abs().max()
    with torch.autocast("cpu", torch.bfloat16):
        assert last(precise, masks, spec).dtype == torch.float64


def test_strides_do_not_matter():
    """Queries and keys as a projection makes them, sliced, and an expanded table."""
    spec = Spec(tables="sample")
    tensors, masks = problem(spec)
    tensors["time_key"] = tensors["time_key"][:1].expand(3, -1, -1, -1)
    odd = dict(tensors)
    for name in ("query", "key", "value"):
        odd[name] = tensors[name].permute(0, 2, 3, 1, 4).contiguous().permute(0, 3, 1, 2, 4)
    odd["channel_key"] = torch.stack([tensors["channel_key"]] * 2, -1)[..., 1]
    even = {name: x.contiguous() for name, x in tensors.items()}
    same({"out": last(odd, masks, spec)}, {"out": last(even, masks, spec)})


def test_a_batch_of_no_samples_gives_none_and_no_gradient():
    for spec in (Spec(3, 2, batch=0), Spec(3, 2, batch=0, channel_mask=True, key_mask="some", full_last=False)):
        tensors, masks = problem(spec)
        inputs = leaves(tensors)
        inputs["query"] = tensors["query"][:, :, -1].clone().requires_grad_()
        out, weights = mvpa_last(**inputs, **masks, **spec.options, return_weights=True)
        assert (out.shape, weights.shape) == ((0, 4, 2, 8), (0, 4, 2, 3, 2))
        assert all(x.eq(0).all() for x in gradients(out, weights, inputs).values())


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [x.untyped_storage().nbytes() // x.itemsize for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.elements = max(self.elements, *made, 0)
        return result


def test_no_tensor_is_larger_than_the_weights_forward_or_backward():
    spec = Spec(31, 8, channel_mask=True, time_mask="ragged", key_mask="some")
    tensors, masks = problem(spec, torch.float32)
    inputs = leaves(tensors)
    inputs["query"] = at_last(tensors["query"], masks).clone().requires_grad_()
    with Largest() as largest:
        out = mvpa_last(**inputs, **masks, **spec.options)
        out.sum().backward()
    assert largest.elements == 3 * 4 * 8 * 31 * 8


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("masked", [False, True])
def test_compiled_forward_and_backward_equal_eager_ones(masked: bool):
    """Without a graph break; after a second shape one graph serves every batch size, length and channel count (which
    takes long to compile, so only with masks)."""
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(mvpa_last, fullgraph=True, backend=counter)
    shapes = [(12, 3, 5), (13, 9, 6), (15, 10, 7)]
    for time, channels, batch in shapes if masked else shapes[:1]:
        spec = Spec(time, channels, batch=batch, full_last=masked)
        if masked:
            spec = spec._replace(channel_mask=True, time_mask="ragged", key_mask="all")
        tensors, masks = problem(spec, torch.float32)
        tensors["query"] = at_last(tensors["query"], masks)
        found = []
        for function in (compiled, mvpa_last):
            inputs = leaves(tensors)
            out, weights = function(**inputs, **masks, **spec.options, return_weights=True)
            grads = torch.autograd.grad(out.square().sum() + weights.square().sum(), list(inputs.values()))
            found.append({"output": out.detach(), **dict(zip(inputs, grads, strict=True))})
        same(*found, rounding=1e-6)
    assert counter.frame_count == (2 if masked else 1)


@pytest.mark.usefixtures("unchecked")
def test_structured_dropout_compiles():
    compiled = torch.compile(mvpa_last, fullgraph=True, backend="aot_eager")
    out = compiled(**fitting(), dropout_p=0.5)
    assert out.isfinite().all()
    assert not torch.equal(out, mvpa_last(**fitting()))


def fitting() -> dict[str, Any]:
    spec = Spec(3, 5, batch=2)
    tensors, _ = problem(spec, torch.float32)
    return {**tensors, "query": tensors["query"][:, :, -1]}


WRONG: list[tuple[dict[str, Any], str]] = [  # on (batch 2, heads 4, kv heads 2, time 3, channels 5, size 8)
    (
        {"query": torch.ones(2, 4, 3, 5, 8)},
        r"query is \(2, 4, 3, 5, 8\) and value \(2, 2, 3, 5, 8\), expected \(batch, head, channel, size\), of the last",
    ),
    ({"value": None}, r"and value NoneType, expected"),
    ({"value": torch.ones(2, 3, 3, 5, 8)}, "query has 4 heads and value 3, expected a multiple"),
    ({"key": torch.ones(2, 2, 4, 5, 8)}, r"key has shape \(2, 2, 4, 5, 8\), expected \(2, 2, 3, 5, 8\)"),
    ({"time_key": torch.ones(1, 2, 5, 8)}, r"time_key has shape \(1, 2, 5, 8\), expected \(1 or 2, 2, 3, 8\)"),
    ({"window": -1}, "window is -1, expected a whole number of steps from 0"),
    ({"dropout_p": 1.0}, r"dropout_p is 1.0, expected a probability in \[0, 1\)"),
    ({"time_mask": torch.tensor([[True] * 3, [False] * 3])}, r"time_mask\[1\] is all False, expected at least one"),
    ({"channel_mask": torch.ones(2, 4, dtype=torch.bool)}, r"channel_mask has shape \(2, 4\), expected \(2, 5\)"),
    ({"scale": math.nan}, "scale is nan, expected a finite"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=lambda x: "-".join(x) if isinstance(x, dict) else "")
def test_what_does_not_fit_is_refused_in_words(change: dict[str, Any], sentence: str):
    assert mvpa_last(**fitting()).shape == (2, 4, 5, 8)
    with pytest.raises(ValueError, match=sentence):
        mvpa_last(**{**fitting(), **change})
