"""Small tables and small forecasters for the tests of this room."""

from typing import Any

import numpy as np
import pandas as pd

from tsattn import Forecaster

CONTEXT, HORIZON = 24, 6
MODELS = (
    "itransformer",
    "patchtst",
    "patchtst-official",
    "timexer",
    "gateformer",
    "mvpa",
    "gateformer-around-patchtst",
)
LEVELS = (0.1, 0.5, 0.9)


def hours(rows: int = 200, freq: str = "h", seed: int = 0, start: str = "2024-01-01", **more: Any) -> pd.DataFrame:
    """Two cycles, `a` and `b`, and a random walk, `c`."""
    random = np.random.default_rng(seed)
    step = np.arange(rows)
    columns = {
        "a": 10 + 3 * np.sin(step / 4) + 0.1 * random.normal(size=rows),
        "b": np.cos(step / 4) + 0.1 * random.normal(size=rows),
        "c": random.normal(size=rows).cumsum(),
    }
    return pd.DataFrame({"timestamp": pd.date_range(start, periods=rows, freq=freq), **columns, **more})


def items(lengths: dict[str, int] | None = None, **more: Any) -> pd.DataFrame:
    """The same for several items, which end at the same time."""
    lengths = lengths or {"x": 200, "y": 200}
    longest = max(lengths.values())
    parts = [
        hours(longest, seed=seed, **more)[longest - rows :].assign(item_id=name)
        for seed, (name, rows) in enumerate(lengths.items())
    ]
    return pd.concat(parts, ignore_index=True)[["item_id", *parts[0].columns.drop("item_id")]]


def ahead(frame: pd.DataFrame, steps: int = HORIZON, freq: str = "h", **columns: Any) -> pd.DataFrame:
    """The rows that follow each item's last one."""
    if "item_id" not in frame:
        times = pd.date_range(frame["timestamp"].iloc[-1], periods=steps + 1, freq=freq)[1:]
        return pd.DataFrame({"timestamp": times, **columns})
    parts = [ahead(part.drop(columns="item_id"), steps, freq, **columns) for _, part in frame.groupby("item_id")]
    named = [part.assign(item_id=name) for name, part in zip(sorted(frame["item_id"].unique()), parts, strict=True)]
    return pd.concat(named, ignore_index=True)


def small(model: str = "itransformer", context: int = CONTEXT, horizon: int = HORIZON, **arguments: Any) -> Forecaster:
    """An untrained one that trains in a blink."""
    sizes: dict[str, Any] = {"d_model": 8, "d_ff": 8, "heads": 2, "layers": 1}
    if model == "gateformer":
        sizes = {"d_model": 8, "d_ff": 8, "heads": 2}
    if model == "mvpa":
        sizes["patch"] = 6
    if model == "gateformer-around-patchtst":
        sizes = {}
    return Forecaster(model, context=context, horizon=horizon, **{**sizes, **arguments})


def fitted(frame: Any, model: str = "itransformer", **options: Any) -> Forecaster:
    """One of one epoch."""
    return small(model).fit(frame, **{"max_epochs": 1, **options})
