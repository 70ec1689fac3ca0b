"""Load a checkpoint and answer with a labelled forecast: a table in, a table out, in the table's own units."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from tsattn import checkpoint, files
from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.data.calendar import calendar_features, future_times
from tsattn.data.tables import fill_missing, from_frame

log = logging.getLogger(__name__)


class Forecaster:
    """A trained network together with what it must know of its table.

    Args:
        network: In eval mode.
        spec: Names, units and statistics of the table it was trained on.
    """

    def __init__(self, network: ForecastNetwork, spec: TableSpec) -> None:
        self.network = network.eval()
        self.spec = spec

    @classmethod
    def from_pretrained(cls, path: str | Path) -> "Forecaster":
        """Load a run's `.ckpt` or an exported folder.

        Raises:
            FileNotFoundError: If there is nothing at `path`.
            ValueError: If it is damaged, not ours, or has never been trained on a table.
        """
        loaded = checkpoint.load(path, ForecastNetwork)
        if loaded.spec is None:
            raise ValueError(
                f"{path} holds weights without a table's statistics (they were imported, not trained here), so a "
                "forecast would have no scale. Run `tsattn fit` or `tsattn test` with --model.weights on a table."
            )
        return cls(loaded.network, loaded.spec)

    def save_pretrained(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write `config.json` and `model.safetensors`.

        Raises:
            FileExistsError: If they are there already and `overwrite` is False.
        """
        checkpoint.export(folder, self.network, self.spec, overwrite=overwrite)

    @torch.no_grad()
    def predict(
        self,
        past: Float[Tensor, "batch variate context"],
        known: Float[Tensor, "batch known total"] | None = None,
    ) -> Float[Tensor, "batch target horizon"]:
        """Forecast from tensors in the table's units; NaN is missing. The result is float64 on the network's device."""
        device = next(self.network.parameters()).device
        scaled = self.spec.standardise(past.to(device))
        known = None if known is None else known.to(device)
        missing = scaled.isnan()
        observed = None
        if missing.any():
            if not self.network.reads_missing:
                where = self.spec.variates[int(missing.any(dim=-1).any(dim=0).nonzero()[0, 0])]
                raise ValueError(
                    f"The context of {where} has missing values, and {type(self.network).__name__} cannot read them: "
                    f"{self.network.why_no_missing}. Fill them first, or train with --data.fill forward."
                )
            observed = ~missing
        return self.spec.restore(self.network(scaled, known, observed)[:, : self.spec.targets])

    def predict_df(self, table: pd.DataFrame | xr.Dataset) -> pd.DataFrame:
        """Forecast the steps that follow the last row.

        Args:
            table: At least `context` rows with the columns the network was trained on; others are ignored.
                A DataFrame is not changed.

        Returns:
            One row per target and step: `timestamp`, `target_name`, `predictions`, in the table's order and units.

        Raises:
            ValueError: If columns or rows are missing, or the step between rows is another one than in training.
        """
        if isinstance(table, pd.DataFrame):
            table = from_frame(table, columns=self.spec.variates)
        window = self._window(table)
        times = table["time"].to_index()[-self.network.context :]
        if self.spec.frequency and not isinstance(times, pd.DatetimeIndex):
            raise ValueError(
                f"The table has no timestamps, but the forecaster was trained on steps of {self.spec.frequency}."
            )
        ahead = _steps_after(times, self.spec.frequency, self.network.horizon)
        known = None
        if self.spec.marks:
            whole = pd.DatetimeIndex(times.append(ahead))
            known = torch.as_tensor(calendar_features(whole, self.spec.marks))[None]
        for name, row in zip(self.spec.variates, window.isnan(), strict=True):
            if row.all():
                log.warning(
                    "%s has no value in the %d rows that are read; what is forecast from it means little.",
                    name,
                    len(row),
                )
        forecast = self.predict(window[None], known)[0].cpu().numpy()
        return pd.DataFrame(
            {
                "timestamp": ahead.take(np.tile(np.arange(len(ahead)), self.spec.targets)),
                "target_name": np.repeat(self.spec.target_names, self.network.horizon),
                "predictions": forecast.reshape(-1),
            }
        )

    def _window(self, table: xr.Dataset) -> Float[Tensor, "variate context"]:
        """Return the last `context` rows of the columns in training order, checked."""
        names = [str(name) for name in table["variate"].values]
        absent = [name for name in self.spec.variates if name not in names]
        if absent:
            raise ValueError(
                f"The table has no column {absent[0]!r}{f' (and {len(absent) - 1} more)' if len(absent) > 1 else ''}; "
                f"the forecaster was trained on {_some(self.spec.variates)}, the table has {_some(names)}."
            )
        context, rows = self.network.context, table.sizes["time"]
        if rows < context:
            raise ValueError(
                f"The table has {rows} rows, the forecaster reads {context}: {context - rows} more needed."
            )
        found = table.attrs.get("frequency", "")
        if found != self.spec.frequency:
            raise ValueError(
                f"The table's step is {found or 'unknown'}, the forecaster was trained on {self.spec.frequency}. "
                f"Pass --resample {self.spec.frequency} to bring it there."
            )
        values = table["values"].sel(variate=list(self.spec.variates))
        if self.spec.fill != "none":
            values = fill_missing(values, self.spec.fill)  # of the whole table, as in training
        values = values.isel(time=slice(-context, None))
        return torch.from_numpy(np.ascontiguousarray(values.values, dtype=np.float64))


def _steps_after(times: pd.Index, frequency: str, horizon: int) -> pd.Index:
    if isinstance(times, pd.DatetimeIndex):
        return future_times(times[-1], frequency, horizon)
    return pd.RangeIndex(int(times[-1]) + 1, int(times[-1]) + 1 + horizon)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")


def plot_forecast(forecast: pd.DataFrame, table: xr.Dataset, path: str | Path, context: int) -> None:
    """Draw each target's recent past and its forecast, one panel per target (at most 12).

    Args:
        forecast: As returned by `Forecaster.predict_df`.
        table: The table it was made from.
        path: Picture to write; the ending says the format.
        context: Steps the network read; twice as many are drawn, the read ones shaded.
    """
    from io import BytesIO

    from matplotlib.figure import Figure

    targets = list(dict.fromkeys(forecast["target_name"]))
    shown = targets[:12]
    columns = 1 if len(shown) <= 4 else 2
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(5.5 * columns + 1, 1.9 * rows + 0.8), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False)
    times = table["time"].to_index()[-2 * context :]
    for panel, name in zip(panels.T.flat, shown, strict=False):
        past = table["values"].sel(variate=name).values[-2 * context :]
        ahead = forecast[forecast["target_name"] == name]
        panel.axvspan(times[-min(context, len(times))], times[-1], color="0.94", lw=0)
        panel.plot(times, past, color="0.25", lw=1)
        panel.plot(ahead["timestamp"], ahead["predictions"], color="tab:orange", lw=1.6)
        panel.set_title(name, loc="left", fontsize=9)
        panel.margins(x=0.01)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in list(panels.T.flat)[len(shown) :]:
        panel.set_visible(False)
    for column in panels.T:
        lowest = [panel for panel in column if panel.get_visible()][-1]
        lowest.tick_params(axis="x", labelbottom=True, rotation=20)
    note = "" if len(targets) == len(shown) else f"; {len(shown)} of {len(targets)} targets drawn"
    figure.suptitle(f"observed (read by the network: shaded) and forecast{note}", fontsize=9, x=0.01, ha="left")
    buffer = BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", dpi=120)
    files.write_atomically(path, lambda file: file.write(buffer.getvalue()))
