"""What training costs beyond the network: CPU time per step against a bare loop, the data path, a forecast.

    OMP_NUM_THREADS=1 python tests/bench/training_step.py [--rounds 5] [--csv out.csv]

Both loops run in this process, in turn, on the same windows of ETTh1 (found as `tsattn fit` finds it), with the same
module, dropout, fused Adam and batch. Ratios are of CPU seconds, median over the rounds.
"""

import argparse
import csv
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import lightning as L
import numpy as np
import pandas as pd
import torch

from tsattn import Forecaster, checkpoint, train
from tsattn.contracts import ForecastNetwork
from tsattn.data.modules import TableData
from tsattn.data.tables import read_table
from tsattn.models.itransformer import ITransformer
from tsattn.models.patchtst import PatchTST
from tsattn.models.timexer import TimeXer
from tsattn.tasks.forecast import ForecastTask

NETWORKS = {  # sizes of the comparison with neuralforecast (batch 32, d_model 256, two layers)
    "ITransformer": lambda: ITransformer(96, 96, d_model=256, heads=8, layers=2, d_ff=256),
    "TimeXer": lambda: TimeXer(96, 96, variates=7, d_model=256, heads=8, layers=2, d_ff=256),
    "PatchTST": lambda: PatchTST(96, 96, d_model=256, heads=8, layers=2, d_ff=256),
}


def bare(network: ForecastNetwork, batches: list) -> float:
    """Return CPU seconds per step of the plainest loop over windows that are gathered already."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    network.train()
    started = time.process_time()
    for batch in batches:
        optimizer.zero_grad()
        forecast = network(batch.past, batch.known, batch.observed)
        torch.nn.functional.mse_loss(forecast, batch.future).backward()
        optimizer.step()
    return (time.process_time() - started) / len(batches)


class Clock(L.Callback):
    """CPU seconds of the steps alone: from the first batch's start to the last batch's end."""

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: object, index: int) -> None:
        """Start at the first step (its gathering lies before, the last one's is counted instead)."""
        if index == 0:
            self.started = time.process_time()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop after the last step."""
        self.seconds = time.process_time() - self.started


def ours(network: ForecastNetwork, steps: int) -> float:
    """Return CPU seconds per step of `tsattn fit`'s trainer, data path included."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=1, limit_train_batches=steps, limit_val_batches=0, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=[clock], default_root_dir=folder,
            accelerator="cpu",
        )  # fmt: skip
        data = TableData(dataset="etth1", batch_size=32)
        trainer.fit(ForecastTask(network, schedule="constant"), datamodule=data)
    return clock.seconds / steps


def training(rounds: int, steps: int) -> list[dict]:
    data = TableData(dataset="etth1", batch_size=32)
    data.prepare()
    loader = iter(data.train_dataloader())
    batches = [next(loader) for _ in range(steps)]
    rows = []
    for name, make in NETWORKS.items():
        bare(make(), batches[:3])
        ratios, times = [], []
        for _ in range(rounds):
            plain, full = bare(make(), batches), ours(make(), steps)
            ratios.append(full / plain)
            times.append((plain, full))
        rows.append(
            {
                "what": f"training step, {name}, ETTh1 96->96, batch 32",
                "ms": 1e3 * statistics.median(t for _, t in times),
                "against": "bare loop over gathered windows",
                "against_ms": 1e3 * statistics.median(t for t, _ in times),
                "ratio": statistics.median(ratios),
            }
        )
    return rows


def data_path(rounds: int) -> list[dict]:
    rows = []
    for variates in (7, 321):
        index = pd.date_range("2016-01-01", periods=26_000, freq="h", name="date")
        values = np.random.default_rng(0).normal(size=(26_000, variates)).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "wide.parquet"
            pd.DataFrame(values, index=index, columns=[f"v{i}" for i in range(variates)]).reset_index().to_parquet(path)
            data = TableData(table=path, batch_size=32)
            data.prepare()
            loader = data.train_dataloader()
        times = []
        for _ in range(rounds):
            batches = iter(loader)
            next(batches)
            started = time.process_time()
            for _ in range(100):
                next(batches)
            times.append((time.process_time() - started) / 100)
        rows.append({"what": f"data path, {variates} variates x 26,000 rows", "ms": 1e3 * statistics.median(times)})
    return rows


def forecast(rounds: int) -> list[dict]:
    times: dict[str, list[float]] = {"checkpoint": [], "table": [], "forecast": [], "all": []}
    with tempfile.TemporaryDirectory() as folder:
        data = TableData(dataset="etth1")
        data.prepare()
        network = NETWORKS["ITransformer"]()
        checkpoint.export(folder + "/model", network, data.spec)
        table = folder + "/etth1.csv"
        frame = data.dataset_["values"].transpose("time", "variate").to_pandas()
        frame.to_csv(table)
        for _ in range(rounds + 1):
            started = time.perf_counter()
            forecaster = Forecaster.from_pretrained(folder + "/model")
            loaded = time.perf_counter()
            dataset = read_table(table)
            read = time.perf_counter()
            forecaster.predict_df(dataset).to_csv(folder + "/out.csv", index=False)
            done = time.perf_counter()
            parts = (loaded - started, read - loaded, done - read, done - started)
            for name, seconds in zip(times, parts, strict=True):
                times[name].append(seconds)
    return [
        {
            "what": f"tsattn forecast beyond imports, ETTh1 (17,420 rows x 7): {name}",
            "ms": 1e3 * statistics.median(t[1:]),
        }
        for name, t in times.items()
    ]


MEMORY = """
import re, sys
from tsattn import cli, shipped, train
from tsattn.data.modules import TableData
before = int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
if sys.argv[1] == "fit":
    sys.stdout = sys.stderr
    cli.main(["fit", "-c", "forecast/itransformer.yaml", "-c", "data/etth1.yaml", "--trainer.max_epochs=1",
              "--trainer.limit_train_batches=20"])
else:
    data = TableData(table=sys.argv[2], batch_size=32)
    data.prepare()
    for batch in data.train_dataloader():
        pass
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())  # ru_maxrss would count the parent's
print(before, int(peak[1]) / 1024, file=sys.__stdout__)
"""


def memory() -> list[str]:
    """Peak memory beyond imports, each in a process of its own: a whole fit with its test, and the data path alone."""
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        wide = Path(folder) / "wide.parquet"
        index = pd.date_range("2016-01-01", periods=26_000, freq="h", name="date")
        values = np.random.default_rng(0).normal(size=(26_000, 321))
        pd.DataFrame(values, index=index, columns=[f"v{i}" for i in range(321)]).reset_index().to_parquet(wide)
        for label, arguments in (
            ("fit and test, ETTh1 (table 1 MB, model and Adam 10 MB)", ["fit"]),
            ("an epoch of windows, 321 x 26,000 (table 64 MB, one batch 8 MB)", ["data", str(wide)]),
        ):
            done = subprocess.run(
                [sys.executable, "-c", MEMORY, *arguments], cwd=folder, capture_output=True, text=True, check=True
            )
            before, peak = map(float, done.stdout.split())
            lines.append(f"{peak - before:8.0f} MB  peak beyond imports ({before:.0f} MB), {label}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train.quiet()
    rows = data_path(options.rounds) + forecast(options.rounds) + training(options.rounds, options.steps)
    print("\n".join(memory()))
    for row in rows:
        against = f"   {row['against_ms']:.1f} ms {row['against']}, ratio {row['ratio']:.3f}" if "ratio" in row else ""
        print(f"{row['ms']:8.2f} ms  {row['what']}{against}")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["what", "ms", "against", "against_ms", "ratio", "torch", "machine", "date"])
            writer.writeheader()
            where = {"torch": torch.__version__, "machine": platform.processor() or platform.machine()}
            writer.writerows({**row, **where, "date": date.today().isoformat()} for row in rows)


if __name__ == "__main__":
    sys.exit(main())
