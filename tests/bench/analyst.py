"""What the analyst waits for: prediction from a tensor and from frames, backtests, import; against the bare network.

Each figure is a ratio, or a difference, against the same network called by itself in the same process, on one thread.

    OMP_NUM_THREADS=1 python tests/bench/analyst.py [--etth1 ETTh1.csv.gz]
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import tsattn
from tsattn.data.simulate import simulate_table

ROOT = Path(__file__).parents[2]


def timed(*jobs: Callable[[], object], repeats: int = 30) -> list[list[float]]:
    """Run jobs in turn, and return their milliseconds on the processor, which a busy machine changes least."""
    for job in jobs:
        job()
    taken: list[list[float]] = [[] for _ in jobs]
    for _ in range(repeats):
        for job, times in zip(jobs, taken, strict=True):
            begin = time.process_time()
            job()
            times.append(1000 * (time.process_time() - begin))
    return taken


def tell(name: str, ours: list[float], bare: list[float], asked: str) -> None:
    """Print medians, and by how much one is above the other."""
    here, there = statistics.median(ours), statistics.median(bare)
    pairs = [a / b for a, b in zip(ours, bare, strict=True)]
    low, _, middle, _, high = statistics.quantiles(pairs, n=6)
    print(
        f"{name:46}{here:9.2f} ms  bare {there:9.2f} ms  + {here - there:7.2f} ms  x {middle:5.2f} "
        f"({low:.2f}-{high:.2f})  asked: {asked}",
        flush=True,
    )


def main() -> None:
    """Measure all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--etth1", type=Path, help="the benchmark table; else a simulated one of its size")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.etth1:
        table = pd.read_csv(given.etth1)[:14400]
    else:
        table = simulate_table(rows=14400, variates=7)
    forecaster = tsattn.Forecaster("itransformer", context=96, horizon=96).fit(
        table[:11520], val_size=2880, max_epochs=1, trainer_kwargs={"limit_train_batches": 2, "limit_val_batches": 1}
    )
    network, spec = forecaster.network, forecaster.spec
    assert network is not None
    assert spec is not None

    history = table[-96:]
    past = torch.tensor(history[list(spec.variates)].to_numpy().T, dtype=torch.float32)[None]
    times = pd.DatetimeIndex(pd.date_range(history[table.columns[0]].iloc[0], periods=192, freq="h"))
    from tsattn.data.calendar import calendar_features

    known = calendar_features(times, spec.marks)[None]

    def bare(batch: int = 1) -> None:
        with torch.no_grad():
            network(past.expand(batch, -1, -1), known.expand(batch, -1, -1))

    ours, alone = timed(lambda: forecaster.predict(past, known), bare)
    tell("predict, a tensor of 7 x 96", ours, alone, "+ 0.5 ms")
    parsed = history.assign(**{table.columns[0]: pd.to_datetime(history[table.columns[0]])})
    ours, text, alone = timed(
        lambda: forecaster.predict_df(parsed), lambda: forecaster.predict_df(history), bare, repeats=50
    )
    tell("predict_df, 96 rows of 7 channels", ours, alone, "8 ms in all")
    tell("  the same, times as text", text, alone, "")

    def windows() -> None:
        with torch.no_grad():
            values = torch.tensor(table[list(spec.variates)].to_numpy().T[:, -2880 - 96 :], dtype=torch.float32)
            marks = calendar_features(pd.DatetimeIndex(table[table.columns[0]][-2880 - 96 :]), spec.marks)
            every, ahead = values.unfold(1, 192, 1).transpose(0, 1), marks.unfold(1, 192, 1).transpose(0, 1)
            for begin in range(0, len(every), 512):
                network(every[begin : begin + 512, :, :96], ahead[begin : begin + 512])

    test = table[-2880 - 96 :]
    found = forecaster.backtest(test, step=1)
    assert len(found) == 2785 * 96 * 7, len(found)
    ours, alone = timed(lambda: forecaster.backtest(test, step=1), windows, repeats=5)
    tell("backtest, all 2,785 windows", ours, alone, "x 1.2")

    items = 10_000
    rng = np.random.default_rng(0)
    many = pd.DataFrame(
        {
            "item_id": np.repeat([f"item {i}" for i in range(items)], 96),
            "timestamp": np.tile(pd.date_range("2024-01-01", periods=96, freq="h"), items),
            "target": rng.normal(size=items * 96),
        }
    )
    of_many = tsattn.Forecaster("itransformer", context=72, horizon=24).fit(
        many[: 96 * 50], val_size=0, max_epochs=1, trainer_kwargs={"limit_train_batches": 2}
    )
    inner = of_many.network
    assert inner is not None
    values = torch.tensor(rng.normal(size=(items, 1, 72)), dtype=torch.float32)
    marks = torch.zeros(items, len(of_many.spec.marks), 96)  # type: ignore[union-attr]

    def forward() -> None:
        with torch.no_grad():
            for begin in range(0, items, 512):
                inner(values[begin : begin + 512], marks[begin : begin + 512])

    ours, alone = timed(lambda: of_many.predict_df(many), forward, repeats=5)
    tell("predict_df, 10,000 items of 1 channel", ours, alone, "x 1.2")

    def seconds(code: str) -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
        return time.perf_counter() - begin

    rows = {"import torch": [], "import tsattn": [], "import torch, tsattn; tsattn.Forecaster": []}
    for _ in range(5):
        for code, times_of in rows.items():
            times_of.append(seconds(code))
    print(
        "  ".join(f"{code}: {statistics.median(taken):.2f} s" for code, taken in rows.items()), " asked: torch + 0.3 s"
    )


if __name__ == "__main__":
    main()
