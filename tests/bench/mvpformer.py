"""Speed and memory of MVPFormer: inference and training steps, and detection that encodes each segment once.

    OMP_NUM_THREADS=1 python tests/bench/mvpformer.py cpu         # against braindecode's, if it is installed (1.8.1)
    OMP_NUM_THREADS=1 python tests/bench/mvpformer.py streaming   # against every window encoded and attended anew
    python tests/bench/mvpformer.py gpu --csv gpu.csv             # sizes S and M, a training step, against dense torch

On a CPU both models have the same weights (`convert`), are first compared, and then run in turn in this process;
process time, median of the rounds. Extra memory is the peak of a process of its own beyond what it held before the
call, after a call of a small model. On a GPU time is that of events, median; the share of the peak is useful operations
(torch's FLOP counter, our formulas for attention) over time, over the measured rate of an 8192 x 8192 x 8192 product
in bfloat16.
"""

import argparse
import csv
import importlib.metadata
import importlib.util
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import torch
from torch import Tensor, nn

from tsattn.convert import convert
from tsattn.layers.classifier import SegmentClassifier
from tsattn.models.mvpformer import MVPFormer

SEGMENTS, SAMPLES = 25, 2560
MODEL = dict(d_model=768, layers=2, heads=12, kv_heads=4, d_ff=1728)  # MVPFormer-S's width
SIZES = {
    "S": dict(d_model=768, layers=12, heads=12, kv_heads=4, d_ff=1728),
    "M": dict(d_model=2048, layers=24, heads=16, kv_heads=8, d_ff=5632),
}


# ------------------------------------------------------------------------------------------------------------- CPU
def theirs(channels: int) -> nn.Module:
    """Return braindecode's model, with random weights."""
    from braindecode.models import MVPFormer as Port

    torch.manual_seed(0)
    made: nn.Module = Port(
        n_outputs=2,
        n_chans=channels,
        n_times=SEGMENTS * SAMPLES,
        sfreq=512,
        d_model=MODEL["d_model"],
        n_layers=MODEL["layers"],
        n_heads=MODEL["heads"],
        n_head_kv=MODEL["kv_heads"],
        d_inner=MODEL["d_ff"],
    )
    return made.eval()


def ours(port: nn.Module) -> SegmentClassifier:
    """Return our model with the port's weights."""
    network = convert("braindecode", port.state_dict()).network
    assert isinstance(network, SegmentClassifier)
    return network


def signal(channels: int) -> Tensor:
    """Return one window, (1, channel, time)."""
    return torch.randn(1, channels, SEGMENTS * SAMPLES, generator=torch.Generator().manual_seed(1)) * 50


def call(who: str, model: nn.Module, x: Tensor, training: bool) -> Callable[[], Any]:
    """Return a function that runs one pass, or one step without the optimiser."""
    fed = x if who == "braindecode" else x.unflatten(-1, (SEGMENTS, SAMPLES)).transpose(1, 2)
    label = torch.tensor([1])

    def infer() -> Tensor:
        with torch.inference_mode():
            return model(fed)

    def step() -> Tensor:
        model.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(model(fed), label)
        loss.backward()
        return loss.detach()

    return step if training else infer


def extra_memory(who: str, channels: int, training: bool, report: Any) -> None:
    """Send the MiB by which one call raises this process's peak."""
    torch.set_num_threads(1)
    port = theirs(channels)
    model = port if who == "braindecode" else ours(port)
    model.requires_grad_(True)
    small = theirs(2)
    call(who, small if who == "braindecode" else ours(small), signal(2), training)()  # what is loaded at a first call
    run = call(who, model, signal(channels), training)
    filled = torch.ones(64 << 20)  # raises the peak to where the call begins, whatever building the models took
    del filled
    before = resident()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    run()
    report.send(peak() - before)


def resident() -> float:
    """Return this process's memory in MiB."""
    return _status("VmRSS")


def peak() -> float:
    """Return its peak since it was last cleared."""
    return _status("VmHWM")


def _status(name: str) -> float:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(name))
    return int(line.split()[1]) / 1024


def apart(function: Callable[..., None], *arguments: Any) -> float:
    """Run a function in a fresh process and return what it sends."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=function, args=(*arguments, there))
    process.start()
    value: float = here.recv()
    process.join()
    return value


def cpu(rounds: int) -> list[dict[str, Any]]:
    """Compare inference and a training step with braindecode's model."""
    torch.set_num_threads(1)
    rows = []
    has_port = importlib.util.find_spec("braindecode") is not None
    if not has_port:
        print("braindecode is not installed: ours alone", file=sys.stderr)
    for channels, training in ((128, False), (64, True)):
        names = ["braindecode", "ours"] if has_port else ["ours"]
        models: dict[str, nn.Module] = {}
        if has_port:
            models["braindecode"] = theirs(channels)
            models["ours"] = ours(models["braindecode"])
        else:
            models["ours"] = SegmentClassifier(MVPFormer(**MODEL, generative=False))  # type: ignore[arg-type]
        for model in models.values():
            model.requires_grad_(True)
        calls = {who: call(who, models[who], signal(channels), training) for who in names}
        first = {who: calls[who]() for who in names}
        if has_port:
            error = float((first["ours"] - first["braindecode"]).abs().max())
            assert error < 1e-3, error
        seconds: dict[str, list[float]] = {who: [] for who in names}
        for _ in range(rounds):
            for who in names:
                begin = time.process_time()
                calls[who]()
                seconds[who].append(time.process_time() - begin)
        del models, calls
        memory = {who: apart(extra_memory, who, channels, training) for who in names if has_port}
        for who in names:
            rows.append(
                {
                    "what": f"{'training step' if training else 'inference'} {SEGMENTS} x {channels}",
                    "who": who,
                    "cpu_s": round(statistics.median(seconds[who]), 3),
                    "extra_mib": round(memory.get(who, float("nan"))),
                }
            )
        if has_port:
            ratio = statistics.median(a / b for a, b in zip(seconds["braindecode"], seconds["ours"], strict=True))
            less = memory["braindecode"] / max(1.0, memory["ours"])
            rows[-1] |= {"times_faster": round(ratio, 2), "times_less_memory": round(less, 1)}
    return rows


# ------------------------------------------------------------------------------------------------------- streaming
def streaming(rounds: int, channels: int = 32, windows: int = 50) -> list[dict[str, Any]]:
    """Compare detection that keeps tokens with one that reads, encodes and attends every window anew."""
    import numpy as np

    from tsattn.detection.streaming import make_grid, stream
    from tsattn.recordings.recording import from_array

    torch.set_num_threads(1)
    torch.manual_seed(0)
    classifier = SegmentClassifier(MVPFormer(**MODEL, generative=False)).eval()  # type: ignore[arg-type]
    values = np.random.default_rng(0).normal(size=(channels, (windows + SEGMENTS - 1) * SAMPLES)) * 50
    recording = from_array(values.astype(np.float32), 512.0, id="noise")
    grid = make_grid(classifier, recording)
    encoded = {"kept": 0, "anew": 0}

    def kept() -> np.ndarray:
        reading = [list(range(channels))]
        return np.concatenate([found for _, found in stream(classifier, recording, grid, reading)])

    @torch.inference_mode()
    def anew() -> np.ndarray:
        found = []
        for window in range(grid.count):
            raw = recording.read(window * SAMPLES, (window + SEGMENTS) * SAMPLES)
            x = torch.from_numpy(raw).unflatten(-1, (SEGMENTS, SAMPLES)).transpose(0, 1)[None]
            hidden = classifier.network(x)  # all segments of the last layer, as a model without a last-step form does
            found.append(float(classifier.head(hidden[:, -1].mean(1)).double().softmax(-1)[0, 1]))
        return np.array(found)

    spent = {"kept": [], "anew": []}
    in_encoder = {"kept": [], "anew": []}
    inner = classifier.network.encoder.forward

    def timed(signal: Tensor) -> Tensor:
        begin = time.process_time()
        out = inner(signal)
        clock[0] += time.process_time() - begin
        encoded[running[0]] += signal.shape[:-1].numel()
        return out

    classifier.network.encoder.forward = timed
    clock, running = [0.0], ["kept"]
    first = {}
    for _ in range(rounds):
        for name, run in (("kept", kept), ("anew", anew)):
            clock[0], running[0], begin = 0.0, name, time.process_time()
            first[name] = run()
            spent[name].append(time.process_time() - begin)
            in_encoder[name].append(clock[0])
    error = float(np.abs(first["kept"] - first["anew"]).max())
    assert error < 1e-5, error
    median = {name: statistics.median(values) for name, values in spent.items()}
    encoder = {name: statistics.median(values) for name, values in in_encoder.items()}
    return [
        {
            "what": f"{windows} windows of {SEGMENTS} x {channels}, stride one segment",
            "kept_cpu_s": round(median["kept"], 2),
            "anew_cpu_s": round(median["anew"], 2),
            "times_faster": round(median["anew"] / median["kept"], 2),
            "segments_encoded": f"{encoded['anew'] / encoded['kept']:.1f} times fewer",
            "encoder_times_faster": round(encoder["anew"] / encoder["kept"], 1),
            "largest_difference": error,
        }
    ]


# ------------------------------------------------------------------------------------------------------------- GPU
def gpu(rounds: int, shapes: list[str]) -> list[dict[str, Any]]:
    """Measure a pre-training step of S and M: forward, contrastive loss, backward, AdamW, in bfloat16."""
    from torch.utils.flop_counter import FlopCounterMode

    import tsattn.ops.mvpa.flops  # noqa: F401  (tells the counter of our operators)
    from tsattn.tasks.contrastive import contrast, draw_corrected
    from tsattn.tasks.optim import decay_groups

    device = torch.device("cuda")
    a, b = torch.randn(2, 8192, 8192, device=device, dtype=torch.bfloat16)
    rate = 2 * 8192**3 / milliseconds(lambda: a @ b, 10) * 1e3
    del a, b
    print(f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s in a matrix product", file=sys.stderr)
    rows = []
    for text in shapes:
        size, batch, channels, *rest = text.split(":")
        for backend in rest[0].split("+") if rest else ["triton", "torch", "reference"]:
            torch.cuda.empty_cache()
            torch.manual_seed(0)
            network = MVPFormer(**SIZES[size], checkpointing=size == "M").to(device)  # type: ignore[arg-type]
            for module in network.modules():
                if hasattr(module, "backend"):
                    module.backend = backend
            x = torch.randn(int(batch), SEGMENTS, int(channels), SAMPLES, device=device) * 50
            real = torch.ones(x.shape[:3], dtype=torch.bool, device=device)
            optimizer = torch.optim.AdamW(decay_groups(network, 0.01), lr=1e-4, fused=True)

            def loss(network=network, x=x, real=real) -> Tensor:
                with torch.autocast("cuda", torch.bfloat16):
                    tokens = network.encode(x)
                    prediction = network.predict_next(network.mix(tokens))
                    return contrast(prediction, tokens, draw_corrected(real, 30), 0.1, real).loss

            def step(loss=loss, optimizer=optimizer) -> None:
                optimizer.zero_grad(set_to_none=True)
                loss().backward()
                optimizer.step()

            row: dict[str, Any] = {"size": size, "batch": int(batch), "channels": int(channels), "backend": backend}
            try:
                torch.cuda.reset_peak_memory_stats()
                step()
                with FlopCounterMode(display=False) as counter:
                    step()
                flops = counter.get_total_flops()
                took = milliseconds(step, rounds)
                found = float(loss().detach())
            except torch.OutOfMemoryError:
                rows.append(row | {"ms": "out of memory"})
                print(rows[-1], file=sys.stderr)
                continue
            tokens = int(batch) * SEGMENTS * int(channels)
            row |= {
                "ms": round(took, 1),
                "tokens_per_s": round(tokens / took * 1e3),
                "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
                "counted_tflop": round(flops / 1e12, 2),
                "share_of_matmul": round(flops / (took / 1e3) / rate, 3),
                "loss": round(found, 4),
            }
            rows.append(row)
            print(row, file=sys.stderr)
    return rows


def milliseconds(run: Callable[[], Any], rounds: int) -> float:
    """Return the median time of a call on the GPU."""
    for _ in range(3):
        run()
    times = []
    for _ in range(rounds):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def main() -> None:
    """Run one of the three and print its rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cpu", "streaming", "gpu"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", default=["S:8:64", "M:4:64"], help="size:batch:channels[:backend+...]")
    parser.add_argument("--csv")
    given = parser.parse_args()
    rows = {
        "cpu": lambda: cpu(given.rounds),
        "streaming": lambda: streaming(given.rounds),
        "gpu": lambda: gpu(given.rounds, given.shapes),
    }[given.what]()
    about = {"torch": torch.__version__, "python": platform.python_version(), "date": date.today().isoformat()}
    if importlib.util.find_spec("braindecode"):
        about["braindecode"] = importlib.metadata.version("braindecode")
    for row in rows:
        print("  ".join(f"{key}={value}" for key, value in row.items()))
    if given.csv:
        names = list(dict.fromkeys(name for row in rows for name in row))
        with open(given.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, [*names, *about])
            writer.writeheader()
            writer.writerows({**row, **about} for row in rows)
    print(f"peak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB", file=sys.stderr)


if __name__ == "__main__":
    main()
