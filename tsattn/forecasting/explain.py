"""What a forecaster looked at, with names: attention maps as DataArrays, and what each column is worth by ablation.

Ours. Attention says where a network read, not what that was worth; ablation says what a column was worth to this
network, given all the others.
"""

import re
from typing import Any

import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from tsattn.contracts import Batch, ForecastNetwork, TableSpec
from tsattn.data.panel import Panel
from tsattn.forecasting import frames
from tsattn.forecasting.predictor import Predictor, check_answer
from tsattn.forecasting.recipes import unwrapped
from tsattn.quantiles import at_levels

WHOLE = "whole series"  # TimeXer's global token
SOLE = {"variate": "variates", "patch": "patches", "cell": "cells"}  # what a network's only kind of maps is called


@torch.no_grad()
def attention(predictor: Predictor, data: Any, future: Any, kind: str | None, columns: dict[str, Any]) -> xr.DataArray:
    """See `Forecaster.attention`."""
    window, panel = predictor.last_windows(data, future, **columns)
    network, spec = predictor.network, predictor.spec
    plain: Any = unwrapped(network)
    inputs = (window.past, window.known if network.reads_known else None, window.observed)
    named = {of_network or SOLE[axes[-1]]: of_network for of_network, axes in plain.attention_axes.items()}
    kinds = list(named)
    kinds += ["gates"] if hasattr(plain, "gates") else []
    kinds += ["channels", "steps"] if hasattr(plain, "marginals") else []
    if not kinds:
        raise ValueError(f"{type(plain).__name__} has no attention maps.")
    kind = kinds[0] if kind is None else kind
    if kind not in kinds:
        raise ValueError(f"{type(plain).__name__} has no attention of the kind {kind!r}, expected one of {kinds}.")
    axes = _Labels(plain, spec, panel, window)
    if kind == "gates" and hasattr(plain, "gates"):
        found = axes.gates(plain.gates(*inputs))
    elif kind in ("channels", "steps") and hasattr(plain, "marginals"):
        found = axes.marginals(plain.marginals(*inputs), kind)
    else:
        found = axes.maps(plain.attention_maps(*inputs), named[kind], plain.attention_axes[named[kind]])
    found = found.assign_coords(item=panel.items)
    found.attrs = {"kind": kind, "kinds": ", ".join(map(repr, kinds)), "network": type(plain).__name__}
    found.name = "attention"
    return found.squeeze("item", drop=frames.alone(panel.items)) if len(panel.items) == 1 else found


class _Labels:
    """Names for the axes of a network's maps."""

    def __init__(self, network: ForecastNetwork, spec: TableSpec, panel: Panel, window: Batch) -> None:
        known = list(spec.known_rows) if window.known is not None and network.reads_known else []
        self.series = list(spec.variates)
        self.rows = self.series + known
        self.targets = list(spec.target_names)
        exogenous = self.series if network.targets != 1 or len(self.series) == 1 else self.series[1:]
        only_one = network.targets == 1 and len(self.series) == 1
        self.exogenous = ([] if only_one else exogenous) + known
        self.patches: list[Any] = []
        if network.patching is not None:
            _, stride, count = network.patching
            first = [i * stride for i in range(count)]
            times = panel.times
            if len(panel.items) == 1 and isinstance(times, pd.DatetimeIndex):
                beyond = max(first[-1] + 1 - len(times), 0)  # a patch may lie in the padding only
                self.patches = list((times.append(panel.times_after(beyond)) if beyond else times)[first])
            else:
                self.patches = list(first)

    def _of(self, axis: str) -> list[Any]:
        if axis == "token":
            return [str(patch) for patch in self.patches] + [WHOLE]
        if axis == "cell":
            return [f"{row} @ {patch}" for patch in self.patches for row in self.rows]
        names = {"variate": self.rows, "target": self.targets, "exogenous": self.exogenous, "patch": self.patches}
        return names[axis]

    def maps(self, maps: dict[str, Tensor], kind: str, axes: tuple[str, ...]) -> xr.DataArray:
        """Stack the layers of one kind; the last two axes are query and key."""
        layers = [weights for name, weights in maps.items() if " ".join(re.sub(r"layer \d+", "", name).split()) == kind]
        values = torch.stack(layers).movedim(0, 1).float().cpu().numpy()
        names = [*axes[:-2], "query", "key"]
        coords: dict[str, Any] = {"layer": range(len(layers))}
        for name, axis, size in zip(names, axes, values.shape[2:], strict=True):
            of_own = self.series if axis == "variate" and name not in ("query", "key") else None
            coords[name] = range(size) if axis == "head" else (of_own or self._of(axis))[:size]
        array = xr.DataArray(values, dims=["item", "layer", *names], coords=coords)
        front = [dim for dim in array.dims if dim not in ("layer", "head", "query", "key")]
        return array.transpose(*front, "layer", "head", "query", "key")

    def gates(self, gates: dict[str, Tensor]) -> xr.DataArray:
        """Return the mean over the features of each gate."""
        values = torch.stack([gate.mean(-1) for gate in gates.values()], 1).float().cpu().numpy()
        return xr.DataArray(
            values, dims=["item", "gate", "variate"], coords={"gate": list(gates), "variate": self.series}
        )

    def marginals(self, marginals: dict[str, Tensor], kind: str) -> xr.DataArray:
        """Stack the sums over channels or steps with everything and without each term."""
        chosen = {name.removeprefix(f"{kind} "): v for name, v in marginals.items() if name.startswith(f"{kind} ")}
        values = torch.stack(list(chosen.values()), 1).float().cpu().numpy()
        names = self.rows if kind == "channels" else self.patches
        without = ["nothing" if name == "all" else name.removeprefix("without ") for name in chosen]
        coords = {"without": without, "layer": range(values.shape[2]), "head": range(values.shape[3])}
        return xr.DataArray(
            values,
            dims=["item", "without", "layer", "head", "query", "key"],
            coords={**coords, "query": names, "key": names},
        )


@torch.no_grad()
def importance(
    predictor: Predictor, data: Any, windows: int | None, step: int | None, columns: dict[str, Any]
) -> pd.DataFrame:
    """See `Forecaster.importance`."""
    network, spec = predictor.network, predictor.spec
    plain = unwrapped(network)
    batches = list(predictor.test_windows(data, windows, predictor.horizon if step is None else step, **columns))
    sources = _sources(plain, spec)
    scale = torch.tensor(spec.scale[: spec.targets], dtype=torch.float64)
    whole = _mae(network, batches, spec) * scale
    rows = []
    for name, (past, known) in sources.items():
        without = _mae(network, [_taken_away(batch, past, known, network) for batch in batches], spec) * scale
        for i, target in enumerate(spec.target_names):
            share = float(without[i] / whole[i] - 1) if whole[i] > 0 else float("nan")
            rows.append({"source": name, "target_name": target, "mae": float(without[i]), "importance": share})
    return pd.DataFrame(rows)


def _sources(network: ForecastNetwork, spec: TableSpec) -> dict[str, tuple[list[int], list[int]]]:
    """Return for each column the rows of `past` and of `known` that it fills."""
    sources: dict[str, tuple[list[int], list[int]]] = {name: ([i], []) for i, name in enumerate(spec.variates)}
    if network.reads_known:
        row = 0
        for covariate in spec.covariates:
            sources[covariate.name] = ([], list(range(row, row + covariate.rows)))
            row += covariate.rows
        if spec.marks:
            name = "calendar" if "calendar" not in sources else "calendar marks"
            sources[name] = ([], list(range(row, row + len(spec.marks))))
    return sources


def _taken_away(batch: Batch, past: list[int], known: list[int], network: ForecastNetwork) -> Batch:
    """Return a batch without some rows: missing where the network can read that, else their mean or no category, 0."""
    values, observed, ahead = batch.past, batch.observed, batch.known
    if past:
        values = values.clone()
        values[:, past] = 0.0
        if network.reads_missing:
            observed = torch.ones_like(values, dtype=torch.bool) if observed is None else observed.clone()
            observed[:, past] = False
    if known and ahead is not None:
        ahead = ahead.clone()
        ahead[:, known] = 0.0 if network.future_covariates is None else torch.nan
    return Batch(values, batch.future, ahead, observed)


def _mae(network: ForecastNetwork, batches: list[Batch], spec: TableSpec) -> Tensor:
    """Return the mean absolute error of each target, standardised."""
    total, count = torch.zeros(spec.targets, dtype=torch.float64), torch.zeros(spec.targets, dtype=torch.float64)
    for batch in batches:
        forecast = network(batch.past, batch.known, batch.observed)[:, : spec.targets]
        check_answer(forecast, spec, network, batch.past)
        if network.levels is not None:
            forecast = at_levels(forecast, network.levels, [0.5])[..., 0]
        there = ~batch.future.isnan()
        error = torch.where(there, forecast - batch.future, 0).abs().double()
        total += error.sum((0, 2)).cpu()
        count += there.sum((0, 2)).cpu()
    return total / count  # NaN where nothing came
