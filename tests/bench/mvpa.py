"""Speed and memory of MVPA: correctness first, then forward, backward and both, against what else can compute it.

    OMP_NUM_THREADS=1 python tests/bench/mvpa.py                                 # a CPU, small grids
    OMP_NUM_THREADS=1 python tests/bench/mvpa.py --shapes 1x110x128 --rounds 1   # the dense form needs 12 GB
    OMP_NUM_THREADS=1 python tests/bench/mvpa.py --memory                        # extra memory against tokens
    python tests/bench/mvpa.py --reference DIR --csv mvpa.csv                    # a GPU; DIR: the authors' code

Contestants: `ours`, in the form that "auto" takes; `dense`, plain PyTorch that holds the N x N matrix, as MVPFormer's
torch path; `flex`, FlexAttention compiled with a score_mod (no backward on a CPU); `sdpa`, torch's fused attention
without the two biases, a lower bound for another function; `authors`, their Flash-MVPA; on a CPU `braindecode`, the
attention of its MVPFormer as a module, against ours as a module, if it is installed.

Whoever computes MVPA is first compared with the float64 definition on a small grid, and is not timed if it is wrong.
All run in this process, in turn: process time on a CPU, triton's `do_bench` on a GPU; median, 20 and 80 % quantiles.
Extra memory is what a process of its own needs beyond its inputs. The floor is the larger of useful operations over the
measured speed of a matrix product and least traffic over the measured speed of a copy.
"""

import argparse
import csv
import gc
import importlib.metadata
import importlib.util
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tsattn.layers.convert import Foreign
from tsattn.layers.mvpa import MVPAttention, take_attention
from tsattn.ops import mvpa_attention
from tsattn.ops.mvpa.flops import backward_flops, forward_flops

WINDOW = 10
NAMES = "query key value time_key channel_key content_bias time_bias channel_bias".split()
GPU_SHAPES = "32x25x128 4x110x128 1x110x128 4x1024x32 1x4096x16 4x64x512".split()
CPU_SHAPES = "1x25x16 1x25x128 1x110x16 1x110x64".split()
GPU_HEADS = ((12, 4, 64), (16, 8, 128))  # MVPFormer S and M: query heads, key/value heads, head size
CPU_HEADS = ((4, 2, 64),)


class Shape(NamedTuple):
    """One problem: samples, steps, channels, query heads, key/value heads, head size."""

    batch: int
    time: int
    channels: int
    heads: int
    kv_heads: int
    size: int

    def inputs(self, dtype: torch.dtype, device: str, grad: bool = False) -> dict[str, Tensor]:
        """Return random arguments of `mvpa_attention`, the same in every call."""
        b, t, c, h, k, d = self
        generator = torch.Generator().manual_seed(0)
        shapes = [(b, h, t, c, d), (b, k, t, c, d), (b, k, t, c, d), (1, k, t, d), (1, k, c, d), (k, d), (k, d), (k, d)]
        return {
            name: torch.randn(shape, generator=generator).to(device, dtype).requires_grad_(grad)
            for name, shape in zip(NAMES, shapes, strict=True)
        }


Contestant = Callable[..., Tensor]


def ours(**x: Tensor) -> Tensor:
    """Call tsattn in the form that it chooses."""
    return mvpa_attention(**x, window=WINDOW)


def dense(query, key, value, time_key, channel_key, content_bias, time_bias, channel_bias) -> Tensor:
    """Hold the N x N matrix, with no pass over it that the definition does not need."""
    batch, heads, time, channels, size = query.shape
    group, tokens = heads // key.shape[1], time * channels
    each = lambda x, axis: x.repeat_interleave(group, axis)  # noqa: E731
    u, v, z = (each(x, 0)[:, None] for x in (content_bias, time_bias, channel_bias))
    step = torch.arange(tokens, device=query.device) // channels
    channel = torch.arange(tokens, device=query.device) % channels
    elapsed = step[:, None] - step
    q = query.flatten(2, 3)
    logits = (q + u) @ each(key, 1).flatten(2, 3).mT
    logits = logits.masked_fill((elapsed > WINDOW) & (step < time - 1)[:, None], 0)
    wide = (batch, heads, tokens, tokens)
    logits = logits + ((q + v) @ each(time_key, 1).mT).gather(-1, elapsed.clamp(min=0).expand(wide))
    logits = logits + ((q + z) @ each(channel_key, 1).mT).gather(-1, (channel[:, None] - channel).abs().expand(wide))
    weights = (logits * size**-0.5).masked_fill(elapsed < 0, float("-inf")).softmax(-1)
    return (weights @ each(value, 1).flatten(2, 3)).view(query.shape)


def sdpa(query, key, value, **_: Tensor) -> Tensor:
    """Attend without the biases, causal by token: another function, of about the same work as the causal dense one."""
    q, k, v = (x.flatten(2, 3) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).view(query.shape)


class Flex:
    """FlexAttention with both biases gathered in a score_mod; compiled once for each shape."""

    def __init__(self) -> None:
        from torch.nn.attention import flex_attention as flex

        self.attend = torch.compile(flex.flex_attention, dynamic=False)
        self.create_mask = flex.create_block_mask
        self.masks: dict[tuple, object] = {}

    def __call__(self, query, key, value, time_key, channel_key, content_bias, time_bias, channel_bias) -> Tensor:
        """Compute MVPA; the two bias tensors (N x T and N x C) are part of the work."""
        time, channels, size = query.shape[2:]
        tokens, group, scale = time * channels, query.shape[1] // key.shape[1], size**-0.5
        u, v, z = (x.repeat_interleave(group, 0)[:, None] for x in (content_bias, time_bias, channel_bias))
        q = query.flatten(2, 3)
        by_time = (q + v) @ time_key.repeat_interleave(group, 1).mT
        by_channel = (q + z) @ channel_key.repeat_interleave(group, 1).mT

        def score(s, b, h, i, j):
            elapsed = i // channels - j // channels
            content = torch.where((elapsed <= WINDOW) | (i >= tokens - channels), s, 0.0)
            near = by_time[b, h, i, elapsed.clamp(min=0)] + by_channel[b, h, i, (i % channels - j % channels).abs()]
            return content + near * scale

        if (time, channels) not in self.masks:
            self.masks[time, channels] = self.create_mask(
                lambda b, h, i, j: i // channels >= j // channels, None, None, tokens, tokens, device=query.device.type
            )
        k, v = key.flatten(2, 3), value.flatten(2, 3)
        block_mask = self.masks[time, channels]
        return self.attend(q + u, k, v, score_mod=score, block_mask=block_mask, enable_gqa=True).view(query.shape)


def authors(folder: Path) -> Contestant:
    """Return their Flash-MVPA, which counts distances from the far end of its tables."""
    spec = importlib.util.spec_from_file_location("authors_attn", folder / "attentions" / "attn.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(query, key, value, time_key, channel_key, content_bias, time_bias, channel_bias) -> Tensor:
        tables = (x.flip(2).expand(query.shape[0], -1, -1, -1).contiguous() for x in (time_key, channel_key))
        u, v, z = (x[None, :, None] for x in (content_bias, time_bias, channel_bias))
        q, k, val = (x.flatten(2, 3) for x in (query, key, value))
        out = module.flash_mvpa(
            q, u, v, z, k, *tables, val, causal=True, sm_scale=q.shape[-1] ** -0.5, window_size=WINDOW
        )
        return out.view(query.shape)

    return call


# ------------------------------------------------------------------------------------------------ measuring
def error(contestant: Contestant, dtype: torch.dtype, device: str) -> float:
    """Return the largest relative error of output and gradients on a small grid, against the float64 definition."""
    shape = Shape(2, 24, 16, 4, 2, 64)
    x = shape.inputs(dtype, device, grad=True)
    exact = {name: t.detach().double().requires_grad_() for name, t in x.items()}
    want = mvpa_attention(**exact, window=WINDOW, backend="reference")
    up = torch.randn(want.shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    try:
        got = contestant(**x)
        pairs = [(got, want)]
        mine = torch.autograd.grad(got, list(x.values()), up)
        pairs += zip(mine, torch.autograd.grad(want, list(exact.values()), up.double()), strict=True)
    except NotImplementedError as reason:
        print(f"    no backward: {str(reason).splitlines()[0][:90]}")
        pairs = [(contestant(**{name: t.detach() for name, t in x.items()}), want)]
    return max(float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in pairs)


def seconds(run: Callable[[], object], device: str, rounds: int) -> tuple[float, float, float]:
    """Return median, 20 and 80 % quantile of the time of one call."""
    if device == "cuda":
        from triton.testing import do_bench

        return tuple(1e-3 * t for t in do_bench(run, warmup=100, rep=400, quantiles=[0.5, 0.2, 0.8]))
    times = []
    for _ in range(rounds):
        gc.collect()
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    cuts = statistics.quantiles(times, n=5, method="inclusive") if rounds > 1 else times * 4
    return statistics.median(times), cuts[0], cuts[3]


def passes(contestant: Contestant, x: dict[str, Tensor], wanted: str) -> Callable[[], object]:
    """Return one call of the pass: forward, backward or both."""
    if wanted == "forward":
        leaves = {name: t.detach() for name, t in x.items()}

        def forward() -> object:
            with torch.no_grad():
                return contestant(**leaves)

        return forward
    leaves = {name: t.detach().requires_grad_() for name, t in x.items()}
    up = torch.randn_like(x["query"])
    if wanted == "backward":
        out = contestant(**leaves)
        return lambda: torch.autograd.grad(out, list(leaves.values()), up, retain_graph=True, allow_unused=True)
    return lambda: torch.autograd.grad(contestant(**leaves), list(leaves.values()), up, allow_unused=True)


def _extra_bytes(name: str, shape: Shape, wanted: str, answer) -> None:
    """Measure in a fresh process: the largest resident set while running, beyond that before it (Linux)."""
    contestant = {"ours": ours, "dense": dense, "sdpa": sdpa}[name]
    small = Shape(1, 2, 2, *shape[3:]).inputs(torch.float32, "cpu")
    passes(contestant, small, wanted)()  # whatever libraries allocate once
    run = passes(contestant, shape.inputs(torch.float32, "cpu"), wanted)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = _status("VmRSS")
    run()
    answer.put(_status("VmHWM") - before)


def _status(key: str) -> int:
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(key))
    return int(line.split()[1]) * 1024


def extra_bytes(name: str, contestant: Contestant, shape: Shape, x: dict[str, Tensor], wanted: str) -> float:
    """Return what a pass needs beyond its inputs, or NaN where that cannot be told."""
    if x["query"].is_cuda:
        run = passes(contestant, x, wanted)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    if name not in ("ours", "dense", "sdpa") or not Path("/proc/self/clear_refs").exists() or wanted == "backward":
        return float("nan")
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    child = context.Process(target=_extra_bytes, args=(name, shape, wanted, answer))
    child.start()
    child.join()
    return answer.get() if child.exitcode == 0 else float("nan")


def ceilings(device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Return operations a second of a large matrix product, and bytes a second of a copy, on this machine now."""
    n = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    product = seconds(lambda: a @ b, device, 5)[0]
    source = torch.empty(2**31 if device == "cuda" else 2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source), device, 5)[0]
    return 2 * n**3 / product, 2 * source.numel() / copy


def floor(shape: Shape, x: dict[str, Tensor], wanted: str, flops: float, traffic: float) -> float:
    """Return the seconds that no implementation of the factorised form can do without, to first order."""
    sizes = [tuple(t.shape) for t in x.values()]
    options = (None, None, None, WINDOW, True, True)  # no masks
    query_bytes = x["query"].nbytes + x["key"].nbytes + x["value"].nbytes
    work = moved = 0.0
    if wanted in ("forward", "both"):
        work += forward_flops(*sizes, *options)
        moved += query_bytes + x["query"].nbytes  # and the output
    if wanted in ("backward", "both"):
        work += backward_flops(None, None, None, *sizes, *options)
        moved += 2 * query_bytes + 2 * x["query"].nbytes  # inputs and their gradients; output and its gradient
    return max(work / flops, moved / traffic)


def braindecode_modules(shape: Shape) -> dict[str, Callable[[], Tensor]] | None:
    """Return its attention module and ours with the same weights, checked to agree, or None if it is not installed."""
    if importlib.util.find_spec("braindecode") is None:
        return None
    from braindecode.models.mvpformer import _MVPAttention

    batch, time_, channels, heads, kv_heads, size = shape
    width = heads * size
    theirs = _MVPAttention(d_model=width, n_heads=heads, n_head_kv=kv_heads).eval()
    foreign = Foreign(theirs.state_dict(), "braindecode", {})
    mine = MVPAttention(width, heads, kv_heads).eval()
    take_attention(foreign, "", "", kv_heads)
    mine.load_state_dict(foreign.ours)
    tokens, time_table, channel_table = (
        torch.randn(n) for n in ((batch, time_, channels, width), (time_, width), (channels, width))
    )
    tables = [t.expand(batch, -1, -1) for t in (time_table, channel_table)]

    def run(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def inner() -> Tensor:
            with torch.no_grad():
                return call()

        return inner

    both = {
        "module ours": run(lambda: mine(tokens, time_table, channel_table)),
        "module braindecode": run(lambda: theirs(tokens, *tables)),
    }
    torch.testing.assert_close(*(call() for call in both.values()), atol=2e-5, rtol=1e-4)
    return both


def report_memory(shapes: list[Shape]) -> None:
    """Print extra memory against tokens and the exponent of its growth."""
    for wanted in ("forward", "both"):
        points = []
        for shape in shapes:
            extra = extra_bytes("ours", ours, shape, shape.inputs(torch.float32, "cpu"), wanted)
            tokens = shape.time * shape.channels
            points.append((tokens, extra))
            print(f"{wanted:8} {shape.time:5} x {shape.channels:<4} {tokens:7} tokens {extra / 2**20:9.1f} MiB extra")
        logs = [(torch.tensor(float(n)).log(), torch.tensor(float(m)).log()) for n, m in points]
        slope = float((logs[-1][1] - logs[0][1]) / (logs[-1][0] - logs[0][0]))
        print(f"{wanted:8} grows as tokens ^ {slope:.2f} from the first to the last")


def main() -> None:
    """Check, time, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", help="samples x steps x channels, such as 4x110x128")
    parser.add_argument("--rounds", type=int, default=5, help="calls on a CPU")
    parser.add_argument("--without", nargs="*", default=[], help="contestants to leave out")
    parser.add_argument("--reference", type=Path, help="a checkout of the authors' repository")
    parser.add_argument("--csv", type=Path, help="file to append rows to")
    parser.add_argument("--memory", action="store_true", help="only memory against tokens, on a CPU")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    heads = GPU_HEADS if device == "cuda" else CPU_HEADS
    names = arguments.shapes or (GPU_SHAPES if device == "cuda" else CPU_SHAPES)
    shapes = [Shape(*map(int, name.split("x")), *head) for name in names for head in heads]
    if arguments.memory:
        report_memory([Shape(1, 100 * 2**i, 32, 4, 2, 64) for i in range(4)])
        return
    machine = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} thread"
    )
    triton = importlib.util.find_spec("triton")
    versions = {"torch": torch.__version__, "triton": importlib.metadata.version("triton") if triton else "none"}
    print(f"{machine}, {dtype}, {versions}")

    contestants: dict[str, Contestant] = {"ours": ours, "dense": dense, "flex": Flex(), "sdpa": sdpa}
    if arguments.reference:
        contestants["authors"] = authors(arguments.reference)
    contestants = {name: call for name, call in contestants.items() if name not in arguments.without}
    limit = {torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    for name in [n for n in contestants if n != "sdpa"]:
        try:
            wrong = error(contestants[name], dtype, device)
        except Exception as reason:  # a contestant that cannot run here
            print(f"{name}: left out, {type(reason).__name__}: {str(reason).splitlines()[0][:120]}")
            del contestants[name]
            continue
        print(f"{name}: relative error {wrong:.1e} against float64, limit {limit:.0e}")
        if not wrong < limit:
            del contestants[name]
            print(f"{name}: wrong, not timed")
    flops, traffic = ceilings(device, dtype)
    print(f"ceilings: {flops / 1e12:.2f} TFLOP/s, {traffic / 1e9:.0f} GB/s")

    rows: list[dict] = []
    for shape in shapes:
        x = shape.inputs(dtype, device)
        label = f"{shape.batch}x{shape.time}x{shape.channels} d={shape.size}"
        for wanted in ("forward", "backward", "both"):
            least = floor(shape, x, wanted, flops, traffic)
            base = None
            for name, contestant in contestants.items():
                try:
                    run = passes(contestant, x, wanted)
                    run()
                    median, low, high = seconds(run, device, arguments.rounds)
                    del run
                    extra = extra_bytes(name, contestant, shape, x, wanted)
                except Exception as reason:  # out of memory, no backward
                    print(f"{shape[:3]} {wanted:8} {name:8} cannot: {str(reason).splitlines()[0][:90]}")
                    continue
                base = median if name == "ours" else base
                rows.append(
                    dict(date=date.today().isoformat(), machine=machine, **versions, dtype=str(dtype),
                         **shape._asdict(), contestant=name, wanted=wanted, median_ms=1e3 * median,
                         q20_ms=1e3 * low, q80_ms=1e3 * high, floor_ms=1e3 * least, share=least / median,
                         extra_mib=extra / 2**20)
                )  # fmt: skip
                ratio = f"{median / base:6.1f} x ours" if base else ""
                print(
                    f"{label} {wanted:8} {name:8} {1e3 * median:9.2f} ms "
                    f"({1e3 * low:.2f} to {1e3 * high:.2f}) {ratio:14} extra {extra / 2**20:8.1f} MiB"
                    + ("" if name == "sdpa" else f", {100 * least / median:3.0f} % of the floor's speed"),
                    flush=True,
                )
        modules = braindecode_modules(shape) if device == "cpu" and "braindecode" not in arguments.without else None
        for name, call in (modules or {}).items():
            print(f"{label} forward {name:18} {1e3 * seconds(call, device, arguments.rounds)[0]:9.2f} ms")
    if arguments.csv and rows:
        new = not arguments.csv.exists()
        with arguments.csv.open("a", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            if new:
                writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
