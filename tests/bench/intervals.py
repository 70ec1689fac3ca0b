"""Do the intervals hold? Coverage and width at 80 and 90 % in held-out windows, by every way to make them.

A small iTransformer, 96 -> 24 (prices: 168 -> 24), is trained on the training rows, its best epoch chosen and its
intervals calibrated on the validation rows, and every window of the test rows is forecast once. The table of prices is
Nord Pool's; the simulated one is `tsattn data simulate`'s with 8,000 rows and the seed 3.

    OMP_NUM_THREADS=1 python tests/bench/intervals.py --root FOLDER_OF_BENCHMARKS
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import tsattn
from tsattn.data.simulate import simulate_table
from tsattn.metrics import mean_scaled_error

LEVELS = (0.05, 0.1, 0.5, 0.9, 0.95)


def table(name: str, root: Path) -> tuple[pd.DataFrame, int, int, list[str] | None, int]:
    """Return a table, its training and validation rows, its targets (None: all) and the context."""
    if name == "simulated":
        return simulate_table(rows=8000, seed=3), 4800, 1600, None, 96
    if name == "etth1":
        return pd.read_csv(root / "ETTh1.csv.gz")[:14400], 8640, 2880, None, 96
    frame = pd.read_csv(root / "epf" / "NP.csv.gz").rename(columns=str.strip)
    rows = len(frame)
    return frame, int(0.7 * rows), rows - int(0.7 * rows) - int(0.2 * rows), ["OT"], 168


def scores(backtest: pd.DataFrame, train: pd.DataFrame) -> str:
    """Return coverage and width of both intervals, and CRPS, WQL and MASE, as a row of the table."""
    truth = backtest["target"].to_numpy()
    there = ~np.isnan(truth)
    cells = []
    for nominal, low, high in ((80, "0.1", "0.9"), (90, "0.05", "0.95")):
        inside = (truth >= backtest[low]) & (truth <= backtest[high])
        width = (backtest[high] - backtest[low])[there].mean()
        cells.append(f"{100 * inside[there].mean():6.1f} % of {nominal} (width {width:.4g})")
    errors = np.stack([truth - backtest[f"{level:g}"].to_numpy() for level in LEVELS], 1)[there]
    level = np.array(LEVELS)
    pinball = np.maximum(level * errors, (level - 1) * errors)
    wql = 2 * pinball.sum(0).mean() / np.abs(truth[there]).sum()
    mae = (backtest["target"] - backtest["predictions"]).abs().groupby(backtest["target_name"], sort=False).mean()
    mase = mean_scaled_error(mae.tolist(), train[list(mae.index)].to_numpy().T, 24)
    return f"{cells[0]:34}{cells[1]:34} CRPS {2 * pinball.mean():8.4f}  WQL {wql:.4f}  MASE {mase:.3f}"


def main() -> None:
    """Train twice per table and print a row for each kind of interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--tables", nargs="+", default=["etth1", "epf-np", "simulated"])
    parser.add_argument("--model", default="itransformer")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--local", choices=["chosen", "own", "alike"], default="chosen", help="width of the intervals")
    given = parser.parse_args()
    local = {"chosen": None, "own": True, "alike": False}[given.local]
    for name in given.tables:
        frame, train, held, target, context = table(name, given.root)
        known, test = frame[: train + held], frame[train + held - context :]
        past = [column for column in frame.columns[1:] if target and column not in target]
        untrained = tsattn.Forecaster(given.model, context=context, horizon=24, d_model=64, d_ff=128, layers=2)
        for how in ("point", "quantile", "student-t"):
            fitted = untrained.fit(
                known, target=target, past_covariates=past, val_size=held, max_epochs=given.epochs, learning_rate=1e-3,
                batch_size=64, schedule="paper", quantile_levels=None if how == "point" else LEVELS,
                distribution="student-t" if how == "student-t" else "quantile",
            )  # fmt: skip
            rows = {} if how == "point" else {how: fitted}
            calibrated = fitted.calibrate(known, quantile_levels=LEVELS, size=held, local=local)
            spread = "own deviation" if calibrated.about["calibration"]["local"] else "all alike"
            rows[f"{how} + conformal ({spread})"] = calibrated
            for label, forecaster in rows.items():
                row = scores(forecaster.backtest(test, step=1), frame[:train])
                print(f"{name:10} {label:38}{row}", flush=True)


if __name__ == "__main__":
    main()
