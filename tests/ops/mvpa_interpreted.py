"""The Triton kernels of MVPA in Triton's interpreter, against the definition in float64.

Run as a script, in a process of its own: `python tests/ops/mvpa_interpreted.py shapes` prints one line per case of that
group and exits with 1 if one fails. The interpreter is chosen when the kernels are imported. Float32 and float16 only:
the interpreter multiplies bfloat16 wrongly (triton issue 11584).

Each case checks the output, the log-sum-exp and all gradients. An error (largest difference over largest value) may be
twice that of the definition in the case's own dtype. Uninitialised memory is filled with NaN, masked tokens hold NaN,
and where a case runs twice, both runs give the same bits.
"""

import os
import sys
import time
from dataclasses import dataclass
from typing import Any

FLOOR = 1e-6  # relative error that always passes: float32 carries 6e-8, and sums of a few numbers may be exact in torch
NAMES = "query key value time_key channel_key content_bias time_bias channel_bias".split()


@dataclass(frozen=True)
class Case:
    """One call; `tile` (queries, keys) replaces every tile of the table, `scratch` the budget in bytes."""

    T: int
    C: int
    B: int = 1
    H: int = 2
    Hk: int = 1
    d: int = 16
    window: int = 2
    causal: bool = True
    full_last: bool = True
    dtype: str = "float32"
    content: bool = True
    channel_mask: bool = False
    time_mask: str = ""  # "right": padded at the end; "hole": a missing step, too; "left": padded at the start
    shared: bool = False  # one table for all samples
    strided: bool = False
    tile: tuple[int, int] | None = (16, 8)
    scratch: int | None = None
    time_first: bool | None = None
    twice: bool = False
    peaked: float = 1.0  # factor on the keys and tables
    public: bool = False  # through mvpa_attention and autograd


CASES = {
    "shapes": [
        Case(T=1, C=1, H=1),
        Case(T=1, C=17, H=1),
        Case(T=17, C=1, H=1, tile=None),
        Case(T=2, C=19, tile=(32, 16)),
        Case(T=3, C=5, tile=None),
        Case(T=3, C=19, H=1, window=0, tile=(16, 16)),
        Case(T=3, C=15, H=1, window=0),
        Case(T=4, C=16, window=1, tile=(16, 16)),
        Case(T=3, C=5, H=4, Hk=2, d=24, window=0, tile=(8, 8)),
        Case(T=4, C=5, Hk=2, d=64, window=1, tile=None),
        Case(T=4, C=6, d=128, H=1, window=1, tile=None),
        Case(T=5, C=5, H=1, window=0),
        Case(T=5, C=5, window=0, full_last=False),
        Case(T=5, C=5, H=1, causal=False, window=1, twice=True),
        Case(T=6, C=16, H=1, causal=False, full_last=False, window=1, tile=(32, 16)),
        Case(T=4, C=5, causal=False, window=4, full_last=False),
        Case(T=5, C=5, B=2, content=False, tile=(16, 4)),
        Case(T=5, C=4, content=False, causal=False, full_last=False, time_first=True, tile=(16, 4)),
        Case(T=9, C=2, H=1, window=1, time_first=True, tile=(8, 4)),
        Case(T=8, C=3, H=1, d=24, causal=False, window=1, time_first=True, tile=(8, 4)),
        Case(T=4, C=12, window=1, tile=(32, 16), peaked=6.0),
        Case(T=4, C=9, H=1, dtype="float16", channel_mask=True, strided=True, window=1),
        Case(T=5, C=3, Hk=2, d=24, dtype="float16", causal=False, time_first=True, window=1),
        Case(T=4, C=32, dtype="float16", window=1, tile=None),
    ],
    "masks": [
        Case(T=4, C=9, B=2, H=1, channel_mask=True, window=1),
        Case(T=3, C=9, B=2, H=1, channel_mask=True, causal=False, full_last=False, window=0),
        Case(T=6, C=3, B=2, H=1, time_mask="right", window=1),
        Case(T=6, C=3, B=2, time_mask="right", causal=False, window=1),
        Case(T=7, C=3, B=2, H=1, time_mask="hole", channel_mask=True, causal=False, window=1, time_first=True),
        Case(T=7, C=3, B=2, time_mask="hole", channel_mask=True, window=1, shared=True, time_first=True),
        Case(T=6, C=3, B=2, H=1, time_mask="left", channel_mask=True, window=1),
        Case(T=7, C=3, B=2, time_mask="hole", channel_mask=True, content=False, tile=(32, 4)),
        Case(T=3, C=3, B=2, channel_mask=True, window=1, public=True),
        Case(T=4, C=3, B=2, H=1, time_mask="right", causal=False, shared=True, public=True),
        Case(T=3, C=3, H=1, content=False, public=True),
    ],
    "chunks": [
        Case(T=4, C=3, B=3, H=1, scratch=900, strided=True, channel_mask=True, window=1, twice=True),
        Case(T=7, C=3, B=2, H=1, scratch=2_000, causal=False, time_mask="hole", window=1),
        Case(T=2, C=70, H=1, scratch=1, window=0, shared=True, tile=(32, 64)),
        Case(T=3, C=5, B=3, scratch=9_000, tile=None),
        Case(T=2, C=70, scratch=1, causal=False, channel_mask=True, tile=(64, 64)),
        Case(T=2, C=70, H=1, scratch=1, content=False, tile=(64, 64)),
    ],
}


def inputs_of(case: Case, torch: Any) -> tuple[dict[str, Any], tuple[Any, Any], tuple[Any, Any]]:
    """Tensors by name (masked tokens NaN), the masks, and the gradient of the output with its padding."""
    generator = torch.Generator().manual_seed(case.T * 100 + case.C)

    def random(*shape: int, factor: float = 1.0) -> Any:
        x = torch.randn(*shape, generator=generator, dtype=torch.float64) * factor
        return x.to(getattr(torch, case.dtype))

    def tokens(heads: int, factor: float = 1.0) -> Any:
        if case.strided:
            return random(case.B, case.T, case.C, case.d, heads, factor=factor).permute(0, 4, 1, 2, 3)
        return random(case.B, heads, case.T, case.C, case.d, factor=factor)

    samples = 1 if case.shared else case.B
    distances = case.T if case.causal else 2 * case.T - 1
    tensors = dict(
        query=tokens(case.H),
        key=tokens(case.Hk, case.peaked) if case.content else None,
        value=tokens(case.Hk),
        time_key=random(samples, case.Hk, distances, case.d, factor=case.peaked),
        channel_key=random(samples, case.Hk, case.C, case.d, factor=case.peaked),
        content_bias=random(case.H, case.d, factor=0.3),
        time_bias=random(case.H, case.d, factor=0.3),
        channel_bias=random(case.H, case.d, factor=0.3),
    )
    channel_mask = time_mask = None
    real = torch.ones(case.B, case.T, case.C, dtype=torch.bool)
    if case.channel_mask:
        channel_mask = torch.ones(case.B, case.C, dtype=torch.bool)
        channel_mask[0, -1] = channel_mask[-1, 0] = channel_mask[-1, case.C // 2] = False
        real &= channel_mask[:, None, :]
    if case.time_mask:
        time_mask = torch.ones(case.B, case.T, dtype=torch.bool)
        if case.time_mask == "left":
            time_mask[0, :3] = False
        else:
            time_mask[0, -3:] = time_mask[1, -1:] = False
        if case.time_mask == "hole":
            time_mask[0, 2] = time_mask[1, 0] = False
        real &= time_mask[:, :, None]
    grad = tokens(case.H)
    for name in ("query", "key", "value"):
        if tensors[name] is not None:
            tensors[name] = tensors[name].masked_fill(~real[:, None, :, :, None], float("nan"))
    return tensors, (channel_mask, time_mask), (grad, ~real[:, None, :, :, None])


def defined(tensors: dict[str, Any], masks: tuple[Any, Any], grad: Any, dtype: Any, options: Any) -> list[Any]:
    """Output, log-sum-exp and gradients of the definition, computed in `dtype`."""
    import torch

    from tsattn.ops.mvpa.problem import Inputs
    from tsattn.ops.mvpa.reference import mvpa_reference

    leaves = {k: None if x is None else x.detach().to(dtype).requires_grad_() for k, x in tensors.items()}
    out, lse, _ = mvpa_reference(Inputs(*leaves.values(), *masks), options)
    wanted = [x for x in leaves.values() if x is not None]
    found = iter(torch.autograd.grad(out, wanted, grad.to(dtype), allow_unused=True))
    grads = [None if x is None else next(found) for x in leaves.values()]
    return [out.detach(), lse.detach(), *grads]


def through_the_door(tensors: dict[str, Any], masks: tuple[Any, Any], grad: Any, case: Case) -> list[Any]:
    """Output, log-sum-exp and gradients as a user gets them: `mvpa_attention`, the operators, autograd."""
    import torch

    from tsattn.ops import mvpa_attention

    leaves = {k: None if x is None else x.detach().requires_grad_() for k, x in tensors.items()}
    out, lse = mvpa_attention(
        **leaves, channel_mask=masks[0], time_mask=masks[1], window=case.window, causal=case.causal,
        full_last=case.full_last, return_lse=True, backend="triton",
    )  # fmt: skip
    found = iter(torch.autograd.grad(out, [x for x in leaves.values() if x is not None], grad))
    return [out.detach(), lse, *(None if x is None else next(found) for x in leaves.values())]


def huge_numbers() -> str:
    """What is wrong with float16 inputs near the largest number: q + u is more than the type holds."""
    import torch

    from tsattn.ops import mvpa_attention

    query = torch.full((1, 2, 3, 4, 16), 4e4, dtype=torch.float16)
    bias = torch.full((2, 16), 4e4)
    out = mvpa_attention(
        query, query, torch.randn(query.shape).half(), query[:, :, :, 0], query[:, :, 0], content_bias=bias,
        backend="triton",
    )  # fmt: skip
    return "" if out.isfinite().all() else "float16 near its limit gives NaN"


def failures_of(case: Case) -> tuple[list[str], float]:
    """What is wrong with the case, and the largest error as a multiple of what is allowed."""
    import torch

    from tsattn.ops.mvpa import kernel
    from tsattn.ops.mvpa.problem import Inputs, Options

    if case.tile is not None:
        kernel.tile = lambda *_: kernel.Tile(*case.tile, warps=4, stages=1)
        kernel.NARROW = min(kernel.NARROW, case.tile[1])
    kernel.SCRATCH_BYTES = case.scratch or 2**28
    kernel.TABLE_GRADIENT_ROWS = 64  # several splits
    if case.time_first is not None:
        kernel.time_first = lambda *_: case.time_first

    tensors, masks, (grad, padding) = inputs_of(case, torch)
    options = Options(window=case.window, causal=case.causal, full_last=case.full_last, scale=case.d**-0.5)
    dtype = getattr(torch, case.dtype)
    exact = defined(tensors, masks, grad, torch.float64, options)
    plain = defined(tensors, masks, grad, dtype, options)

    def ours() -> list[Any]:
        if case.public:
            return through_the_door(tensors, masks, grad.masked_fill(padding, float("nan")), case)
        inputs = Inputs(*tensors.values(), *masks)
        out, lse = kernel.forward(inputs, options)
        return [out, lse, *kernel.backward(grad.masked_fill(padding, float("nan")), inputs, out, lse, options)]

    found = ours()
    problems, worst = [], 0.0
    if len({x.untyped_storage().data_ptr() for x in found if x is not None}) < sum(x is not None for x in found):
        problems.append("two results share memory, which torch.library forbids")
    for name, x, want, torchs in zip(["out", "lse", *NAMES], found, exact, plain, strict=True):
        if want is None:
            if x is not None and x.abs().max() > 0:
                problems.append(f"{name} should be absent or zero")
            continue
        expected_dtype = torch.float32 if name == "lse" else dtype
        source = tensors.get(name)
        if source is not None and (x.shape != source.shape or x.dtype != source.dtype):
            problems.append(f"{name} is {x.dtype} {list(x.shape)}, expected {source.dtype} {list(source.shape)}")
        if x.dtype != expected_dtype:
            problems.append(f"{name} is {x.dtype}, expected {expected_dtype}")
        if not torch.equal(x.isinf(), want.isinf()) or x.isnan().any():
            problems.append(f"{name} has {int(x.isnan().sum())} NaN and {int(x.isinf().sum())} infinite values")
            continue
        real = want.isfinite()
        size = max(float(want[real].abs().max()), 1.0) if real.any() else 1.0
        error = float((x - want)[real].abs().max()) if real.any() else 0.0
        allowed = 2 * float((torchs - want)[real].abs().nan_to_num().max()) + FLOOR * size if real.any() else 1.0
        worst = max(worst, error / allowed)
        if error > allowed:
            problems.append(f"{name} is wrong by {error:.2g}, allowed {allowed:.2g}")
    if case.twice:
        again = ours()
        for name, x, y in zip(["out", "lse", *NAMES], found, again, strict=True):
            if x is not None and not torch.equal(x, y):
                problems.append(f"{name} differs between two runs")
    return problems, worst


def main(groups: list[str]) -> int:
    """Run the groups; 1 if a case failed."""
    os.environ["TRITON_INTERPRET"] = "1"
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    from tsattn.ops.mvpa import kernel

    print(f"Triton {kernel.triton.__version__}")
    if "shapes" in groups:
        problem = huge_numbers()
        print(problem or "ok: float16 near its limit")
        if problem:
            return 1
    shipped = {name: getattr(kernel, name) for name in ("tile", "time_first", "NARROW")}
    failed = 0
    for case in [case for group in groups for case in CASES[group]]:
        for name, x in shipped.items():
            setattr(kernel, name, x)
        start = time.perf_counter()
        problems, worst = failures_of(case)
        failed += bool(problems)
        verdict = "; ".join(problems) or f"ok, {worst:.2f} of the allowed error"
        print(f"{verdict} ({time.perf_counter() - start:.1f} s): {case}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(CASES)))
