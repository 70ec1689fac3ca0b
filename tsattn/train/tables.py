"""What a run on a table prints and writes: its description, and its scores in both units beside naive forecasts."""

import json
import math
from pathlib import Path
from typing import Any, Literal

import torch

from tsattn import files
from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.data.modules import TableData
from tsattn.metrics import ForecastErrors, mean_scaled_error
from tsattn.tasks.forecast import ForecastTask
from tsattn.train.cli import TrainCLI
from tsattn.train.folder import provenance


def describe(cli: TrainCLI) -> str:
    """Return the lines that a run starts with: network, table, windows, folder."""
    network: ForecastNetwork = cli.model.network
    data: TableData = cli.datamodule
    size = sum(p.numel() for p in network.parameters() if p.requires_grad)
    windows = ", ".join(f"{name} {count:,}" for name, count in data.window_counts.items())
    return (
        f"{type(network).__name__} ({size:,} parameters): {network.context} -> {network.horizon} steps\n"
        f"{data.summary}\nwindows: {windows}\nrun folder: {cli.run_dir}"
    )


def score(task: ForecastTask, data: TableData, split: Literal["val", "test"]) -> dict[str, Any]:
    """Return the scores of the finished test or validation in both units, with the naive rows beside them."""
    spec: TableSpec = task.spec or data.spec
    scale = spec.scale[: spec.targets]
    errors = task.errors
    naive: dict[str, ForecastErrors] = {}
    for future, forecasts in data.naive_forecasts(split, spec=spec):
        if naive and all(int(e.windows) >= int(errors.windows) for e in naive.values()):
            break  # --trainer.limit_test_batches: the same windows, not more
        for name, forecast in forecasts.items():
            naive.setdefault(name, ForecastErrors(spec.targets)).update(forecast, future)
    per_target = {name: values.tolist() for name, values in errors.per_target(scale).items()}
    return {
        "split": split,
        "windows": int(errors.windows),
        "windows_of_the_split": data.window_counts[split],
        **_numbers(errors.compute()),
        "original_units": _numbers(errors.in_units(scale)),
        **({"quantiles": _numbers(task.quantile_errors.compute())} if task.quantile_errors is not None else {}),
        "mase": _finite(mean_scaled_error(per_target["mae_units"], data.train_targets, data.spec.season)),
        "naive": {
            name: {**_numbers(e.compute()), "original_units": _numbers(e.in_units(scale))} for name, e in naive.items()
        },
        "per_target": {
            name: {key: _finite(values[i]) for key, values in per_target.items()}
            for i, name in enumerate(spec.target_names)
        },
    }


def _numbers(scores: dict[str, torch.Tensor]) -> dict[str, float | None]:
    return {name: _finite(float(value)) for name, value in scores.items()}


def _finite(value: float) -> float | None:
    """Return the number, or None (JSON's null) where nothing was counted."""
    return value if math.isfinite(value) else None


def write_scores(cli: TrainCLI, split: Literal["val", "test"], path: Path | None, about: dict[str, Any]) -> None:
    """Print the scores as a table and write them to `path`, if one is given."""
    network: ForecastNetwork = cli.model.network
    scores = score(cli.model, cli.datamodule, split)
    report = {
        **scores,
        "network": network.recipe,
        "data": {"summary": cli.datamodule.summary, "fingerprint": cli.datamodule.fingerprint},
        "loss": cli.model.loss_name,
        **about,
        **provenance(cli),
    }
    if path is not None:
        text = json.dumps(report, indent=2, allow_nan=False, default=str)
        files.write_atomically(path, lambda file: file.write(text.encode()))
    counted, whole = scores["windows"], scores["windows_of_the_split"]
    print(f"\n{split} split, {'all ' if counted == whole else f'{counted:,} of '}{whole:,} windows")
    print(f"{'':16}{'mse':>10}{'mae':>10}{'mse (units)':>14}{'mae (units)':>14}")
    for name, row in {type(network).__name__: scores, **scores["naive"]}.items():
        units = row["original_units"]
        cells = [row["mse"], row["mae"], units["mse"], units["mae"]]
        mse, mae, mse_units, mae_units = (math.nan if cell is None else cell for cell in cells)
        print(f"{name:16}{mse:>10.4f}{mae:>10.4f}{mse_units:>14.5g}{mae_units:>14.5g}")
    if "quantiles" in scores:
        told = {key: math.nan if value is None else value for key, value in scores["quantiles"].items()}
        print("quantiles: " + ", ".join(f"{key} {value:.4f}" for key, value in told.items()))
    if len(scores["per_target"]) > 1:
        print("(units: means over all targets, whatever their units; metrics.json has each target alone)")
    if path is not None:
        print(f"written to {path}")
