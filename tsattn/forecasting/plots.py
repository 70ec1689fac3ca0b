"""Pictures of forecasts and of what a forecaster looked at; each returns a matplotlib figure and opens no window.

Ours. What is drawn is told by what is given: a frame of `predict_df` or `backtest`, a DataArray of `attention`, a frame
of `importance`. Colours are those of Okabe and Ito, viridis and RdBu, which colour-blind readers tell apart, too.
"""

import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from tsattn import files
from tsattn.data import tables
from tsattn.forecasting import frames
from tsattn.quantiles import intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tsattn.forecasting.predictor import Predictor

OBSERVED, FORECAST, OTHER = "0.25", "#D55E00", "#0072B2"
READ = "0.93"
MOST_PANELS = 12
MOST_WINDOWS = 24
MOST_LABELS = 24


class Picture(Figure):
    """A figure that a notebook shows, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        return _written(self, "png", 100)


def plot(
    predictor: "Predictor",
    what: Any,
    history: Any = None,
    *,
    item: Any = None,
    targets: str | Sequence[str] | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    **select: Any,
) -> Figure:
    """Draw a forecast, a backtest, attention or importance.

    Args:
        predictor: Who made it.
        what: What `predict_df`, `backtest`, `attention` or `importance` returned.
        history: Of a forecast: the table that it was made from; if it goes on, the actual values are drawn, too.
        item: Which item to draw; None: the first one.
        targets: Which targets; None: all, at most 12.
        steps: Of a forecast: steps of the history to draw; None: twice the context.
        out: A picture to write; its ending says the format.
        overwrite: Whether to write over a file that is there.
        **select: Of attention: which `layer`, `head`, `without` or `variate` to draw; of the others the mean is drawn.

    Raises:
        ValueError: If there is nothing to draw in it.
        FileExistsError: If `out` is there already and `overwrite` is False.
    """
    if out is not None:
        files.refuse_existing(Path(out), overwrite)
    if isinstance(what, xr.DataArray):
        figure = attention_figure(what, item, **select)
    else:
        if select:
            raise ValueError(
                f"{next(iter(select))!r} chooses a part of attention, expected a DataArray of `attention`."
            )
        frame, _ = frames.to_pandas(what, "The forecast")
        needed = {"source", "target_name"} if "importance" in frame else {"target_name", "predictions"}
        if not len(frame) or not needed <= set(frame.columns):
            raise ValueError(
                f"The frame has {len(frame)} rows and the columns {tables.listed(frame.columns, 8)}, expected what "
                "`predict_df`, `backtest` or `importance` returned; draw a table of your own by `DataFrame.plot`."
            )
        if "importance" in frame:
            figure = importance_figure(frame, targets)
        elif "cutoff" in frame:
            figure = backtest_figure(predictor, frame, item, targets)
        else:
            figure = forecast_figure(predictor, frame, history, item, targets, steps)
    if out is not None:
        picture = _written(figure, Path(out).suffix.lstrip(".") or "png", 120)
        files.write_atomically(out, lambda file: file.write(picture))
    return figure


def forecast_figure(
    predictor: "Predictor",
    frame: pd.DataFrame,
    history: Any = None,
    item: Any = None,
    targets: str | Sequence[str] | None = None,
    steps: int | None = None,
) -> Figure:
    """Draw each target's recent past, its forecast and its intervals, one panel per target.

    Raises:
        ValueError: If the item or a target is not in the frame, or no row of the history is before the forecast.
    """
    frame, clock, title, shown = _chosen(frame, item, targets)
    levels = _levels(frame)
    first, last = frame[clock].min(), frame[clock].max()
    past = later = None
    if history is not None:
        rows, _ = frames.to_pandas(history)
        columns = (str(frame.columns[0]), str(frame.columns[1]))
        whole = predictor.history(history, frame.iloc[0, 0], shown, len(rows), columns)
        past = whole[whole.index < first].tail(steps or 2 * predictor.context)
        later = whole[(whole.index >= first) & (whole.index <= last)]
        if not len(past):
            raise ValueError(f"The history has no row before {first}, expected those that the forecast was made from.")
    figure, panels = _panels(len(shown), frame[clock])
    for panel, name in zip(panels, shown, strict=True):
        ahead = frame[frame["target_name"] == name]
        if past is not None and later is not None:
            read = past.index[-min(predictor.context, len(past)) :]
            panel.axvspan(read[0], read[-1], color=READ, lw=0, label="read by the network")
            panel.plot(past.index, past[name], color=OBSERVED, lw=1, label="observed")
            if len(later):
                panel.plot(later.index, later[name], color=OBSERVED, lw=1, ls=(0, (2, 1.2)), label="actual")
        _band(panel, ahead, clock, levels)
        panel.plot(ahead[clock], ahead["predictions"], color=FORECAST, lw=1.6, label=_middle(levels))
        unit = predictor.unit(name)
        panel.set_title(f"{name} ({unit})" if unit else name, loc="left", fontsize=9)
    _head(figure, panels[0], f"{title}forecast")
    return figure


def backtest_figure(
    predictor: "Predictor",
    frame: pd.DataFrame,
    item: Any = None,
    targets: str | Sequence[str] | None = None,
) -> Figure:
    """Draw the actual values and the forecasts of it, one panel per target.

    Of windows that overlap, and of more than 24, only some are drawn, from the last one back; errors are of all.

    Raises:
        ValueError: If the item or a target is not in the frame.
    """
    frame, clock, title, shown = _chosen(frame, item, targets)
    levels = _levels(frame)
    drawn: list[Any] = []
    begin = None
    spans = frame.groupby("cutoff")[clock].agg(["min", "max"])
    for cutoff, span in spans[::-1].iterrows():
        if (begin is None or span["max"] < begin) and len(drawn) < MOST_WINDOWS:
            drawn.append(cutoff)
            begin = span["min"]
    figure, panels = _panels(len(shown), frame[clock])
    for panel, name in zip(panels, shown, strict=True):
        of_target = frame[frame["target_name"] == name]
        rows = of_target[of_target["cutoff"].isin(drawn)]
        truth = rows.sort_values(clock)
        panel.plot(truth[clock], truth["target"], color=OBSERVED, lw=1, label="actual")
        for cutoff in drawn:
            panel.axvline(cutoff, color="0.85", lw=0.6, zorder=0)
        for number, (_, window) in enumerate(rows.groupby("cutoff")):
            _band(panel, window, clock, levels, named=number == 0)
            label = _middle(levels) if number == 0 else None
            panel.plot(window[clock], window["predictions"], color=FORECAST, lw=1.2, label=label)
        error = (of_target["target"] - of_target["predictions"]).abs().mean()
        unit = predictor.unit(name)
        panel.set_title(f"{name}: mean absolute error {error:.3g}{f' {unit}' if unit else ''}", loc="left", fontsize=9)
    of_all = "" if len(drawn) == len(spans) else f" of {len(spans)}"
    note = ", errors of all" if of_all else ""
    _head(figure, panels[0], f"{title}{len(drawn)}{of_all} forecasts and actual values{note}")
    return figure


def attention_figure(attention: xr.DataArray, item: Any = None, **select: Any) -> Figure:
    """Draw weights as pictures, a row per query and a column per key; of one query, and of gates, as bars.

    Raises:
        ValueError: If an axis or item that was chosen is not there.
    """
    chosen = attention
    for name, value in {**select, **({} if item is None else {"item": item})}.items():
        if name not in attention.dims:
            raise ValueError(f"The attention has no axis {name!r}, expected some of {attention.dims}.")
        if value not in (there := attention[name].values.tolist()):
            raise ValueError(f"{value!r} is not on the axis {name!r}, expected one of {there}.")
        chosen = chosen.sel({name: value})
    of_item = ""
    if "item" in chosen.dims:
        chosen = chosen.isel(item=0)
    if "item" in chosen.coords:
        of_item = f"{chosen['item'].item()}, "
    apart = next((dim for dim in ("gate", "without", "layer") if dim in chosen.dims), None)
    rest = [dim for dim in chosen.dims if dim not in ("query", "key", "variate", apart)]
    if "query" in chosen.dims and "variate" in chosen.dims:
        rest.append("variate")
    chosen = chosen.mean(rest)
    values = [None] if apart is None else list(chosen[apart].values)
    pictures = [chosen if apart is None else chosen.sel({apart: value}) for value in values]
    titles = ["everything" if value == "nothing" else f"{apart} {value}" for value in values] if apart else [""]
    if apart == "gate":
        titles = [str(value) for value in values]
    if "query" not in chosen.dims:
        figure = _bars([(title, picture) for title, picture in zip(titles, pictures, strict=True)], "variate", 0.5)
    elif chosen.sizes["query"] == 1:
        even = 1 / chosen.sizes["key"]
        figure = _bars([(t, p.isel(query=0)) for t, p in zip(titles, pictures, strict=True)], "key", even)
    else:
        figure = _maps(titles, pictures)
    kind = attention.attrs.get("kind", "")
    over = f", mean over {' and '.join(str(dim) for dim in rest)}" if rest else ""
    fixed = "".join(f", {name} {value}" for name, value in select.items())
    what = "mean weight of each gate" if apart == "gate" else f"attention {kind!r}" if kind else "attention"
    figure.suptitle(
        f"{of_item}{attention.attrs.get('network', '')}: {what}{fixed}{over}", fontsize=9, x=0.01, ha="left"
    )
    return figure


def importance_figure(frame: pd.DataFrame, targets: str | Sequence[str] | None = None) -> Figure:
    """Draw, for each source, by how much the error grows without it.

    A target's own past is worth so much more than all else that it has no part in the scale.

    Raises:
        ValueError: If a target is not in the frame.
    """
    names = _some(list(dict.fromkeys(frame["target_name"])), targets, "The importance")
    table = 100 * frame.pivot(index="source", columns="target_name", values="importance")
    table = table.loc[list(dict.fromkeys(frame["source"])), names]
    own = table.index.to_numpy()[:, None] == table.columns.to_numpy()
    if table.shape[1] == 1:
        alone = names[0]
        row = table.loc[~own[:, 0], alone].sort_values()
        figure = Picture(figsize=(6.5, 0.3 * max(len(row), 2) + 1.1), layout="constrained")
        panel = figure.subplots()
        bars = panel.barh(list(row.index), row, color=OTHER, height=0.65)
        panel.bar_label(bars, [f"{value:+.1f} %" for value in row], fontsize=8, padding=3)
        low, high = min(row.min(), 0.0), max(row.max(), 1.0)  # less than a percent is no long bar
        panel.set_xlim(low - 0.12 * (high - low), high + 0.12 * (high - low))
        panel.axvline(0, color="0.3", lw=0.8)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlabel("by so much it grows, %", fontsize=8)
        past = f" (without its own past: {table[alone][alone]:+.0f} %)" if alone in table.index else ""
        figure.suptitle(f"error of {alone} without a column{past}", fontsize=9, x=0.01, ha="left")
        return figure
    shown = table.to_numpy()
    most = max(1.0, float(np.nanmax(np.abs(np.where(own, 0, shown)))))
    wide = 0.5 * table.shape[1] if table.shape[1] <= MOST_PANELS else min(0.3 * table.shape[1], 9)
    figure = Picture(figsize=(max(wide + 2.6, 5.2), min(0.32 * len(table), 9) + 1.5), layout="constrained")
    panel = figure.subplots()
    image = panel.imshow(shown, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    _ticks(panel, table.columns, table.index)
    panel.set_xlabel("error of", fontsize=8)
    panel.set_ylabel("without", fontsize=8)
    if table.shape[1] <= MOST_PANELS and len(table) <= MOST_LABELS:
        for (i, j), value in np.ndenumerate(shown):
            dark = abs(value) > 0.6 * most
            text = f"{value:+.0f}".replace("+0", "0").replace("-0", "0")
            panel.text(j, i, text, ha="center", va="center", fontsize=7, color="white" if dark else "0.2")
    bar = figure.colorbar(image, ax=panel, fraction=0.05, extend="both" if own.any() else "neither")
    bar.set_label("%, a target's own past may be beyond" if own.any() else "%", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle("by how much the error grows without a column, %", fontsize=9, x=0.01, ha="left")
    return figure


# ---- parts


def _written(figure: Figure, ending: str, dpi: int) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=ending, dpi=dpi)
    return buffer.getvalue()


def _some(every: list[str], wanted: str | Sequence[str] | None, what: str) -> list[str]:
    names = every if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    for name in names:
        if name not in every:
            raise ValueError(f"{what} has no target {name!r}, expected some of {', '.join(map(str, every))}.")
    return names


def _chosen(
    frame: pd.DataFrame, item: Any, targets: str | Sequence[str] | None
) -> tuple[pd.DataFrame, str, str, list[str]]:
    """Return the rows of one item, the column of times, the beginning of a title, and the targets to draw."""
    key, clock = map(str, frame.columns[:2])
    if not len(frame):
        raise ValueError("The forecast has no rows, expected some to draw.")
    item = frame[key].iloc[0] if item is None else item
    rows = frame[frame[key] == item]
    if not len(rows):
        first = ", ".join(map(repr, frame[key].unique()[:5]))
        raise ValueError(f"The forecast has no item {item!r}, expected one of those in it, such as {first}.")
    every = list(dict.fromkeys(rows["target_name"]))
    names = _some(every, targets, "The forecast")
    title = "" if frames.alone(np.array([item], dtype=object)) else f"{item}: "
    if len(names) > MOST_PANELS:
        title += f"{MOST_PANELS} of {len(names)} targets (others by `targets`): "
    return rows, clock, title, names[:MOST_PANELS]


def _levels(frame: pd.DataFrame) -> list[str]:
    """Return the columns of quantiles, which are called by their levels."""
    return [str(name) for name in frame.columns if re.fullmatch(r"0\.\d+|\d(\.\d+)?e-\d+", str(name))]


def _middle(levels: list[str]) -> str:
    return "median" if levels else "forecast"


def _panels(count: int, times: pd.Series) -> tuple[Figure, list["Axes"]]:
    """Return panels above each other, in two columns if there are many, with a common axis of times."""
    columns = 1 if count <= 4 else 2
    rows = -(-count // columns)
    height = 2.6 if count == 1 else 1.7
    figure = Picture(figsize=(9 if columns == 1 else 11.5, height * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    chosen = list(grid.T.flat)[:count]
    for panel in list(grid.T.flat)[count:]:
        panel.set_visible(False)
    for panel in chosen:
        panel.margins(x=0.01)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.xaxis.get_offset_text().set_fontsize(8)
    for column in grid.T:
        lowest = [panel for panel in column if panel.get_visible()][-1]
        lowest.tick_params(axis="x", labelbottom=True)
        lowest.xaxis.offsetText.set_visible(True)
    if pd.api.types.is_datetime64_any_dtype(times.dtype):
        locator = AutoDateLocator(tz=times.dt.tz, minticks=3, maxticks=8)
        chosen[0].xaxis.set_major_locator(locator)
        chosen[0].xaxis.set_major_formatter(
            ConciseDateFormatter(
                locator,
                tz=times.dt.tz,
                formats=["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S"],
                zero_formats=["", "%Y-%m", "%m-%d", "%m-%d", "%H:%M", "%H:%M"],
                offset_formats=["", "", "%Y", "%Y", "%Y-%m-%d", "%Y-%m-%d"],
            )
        )
    return figure, chosen


def _band(panel: "Axes", rows: pd.DataFrame, clock: str, levels: list[str], named: bool = True) -> None:
    """Shade each central interval, the widest palest."""
    pairs = sorted(intervals([float(level) for level in levels]), key=lambda pair: -pair[2])
    for number, (low, high, nominal) in enumerate(pairs):
        label = f"{100 * nominal:.4g} %" if named else None
        panel.fill_between(
            rows[clock], rows[levels[low]], rows[levels[high]], color=FORECAST, alpha=0.2 + 0.14 * number, lw=0,
            label=label,
        )  # fmt: skip


def _head(figure: Figure, panel: "Axes", title: str) -> None:
    """Put the title and one legend for all panels above them."""
    handles, labels = panel.get_legend_handles_labels()
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), fontsize=8, frameon=False)


def _label(value: Any) -> str:
    if isinstance(value, np.datetime64 | pd.Timestamp):
        return f"{pd.Timestamp(value):%m-%d %H:%M}"
    return re.sub(r"\d{4}-(\d\d-\d\d \d\d:\d\d):\d\d(\.\d+)?", r"\1", str(value))


def _places(values: Any) -> tuple[list[float], list[str], list[int]]:
    """Return places and texts of labels, few enough to be read; and of cells, where their patches begin."""
    labels = [_label(value) for value in values]
    cells = [label.split(" @ ")[-1] for label in labels]
    if len(labels) > MOST_LABELS and all(" @ " in label for label in labels):  # every row of a patch, then the next one
        begins = [i for i in range(len(cells)) if i == 0 or cells[i] != cells[i - 1]]
        middles = [(a + b - 1) / 2 for a, b in zip(begins, [*begins[1:], len(cells)], strict=True)]
        return middles, [cells[i] for i in begins], begins[1:]
    every = -(-len(labels) // MOST_LABELS)
    return [float(i) for i in range(0, len(labels), every)], labels[::every], []


def _ticks(panel: "Axes", columns: Any, rows: Any) -> None:
    """Name the columns and rows of a picture."""
    for axis, values, turn in ((panel.xaxis, columns, 90), (panel.yaxis, rows, 0)):
        places, labels, borders = _places(values)
        axis.set_ticks(places, labels, fontsize=7, rotation=turn)
        for border in borders:
            (panel.axvline if axis is panel.xaxis else panel.axhline)(border - 0.5, color="white", lw=0.6)


def _maps(titles: list[str], pictures: list[xr.DataArray]) -> Figure:
    rows, keys = pictures[0].sizes["query"], pictures[0].sizes["key"]
    width, height = np.clip(0.24 * keys, 1.6, 4.5), np.clip(0.24 * rows, 1.2, 4.5)
    columns = len(pictures) if len(pictures) * width <= 10 else 2
    lines = -(-len(pictures) // columns)
    figure = Picture(figsize=(max(width * columns + 2, 5.2), (height + 0.35) * lines + 1.2), layout="constrained")
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    largest = max(float(picture.max()) for picture in pictures)
    for panel in list(grid.flat)[len(pictures) :]:
        panel.set_visible(False)
    for panel, picture, title in zip(grid.flat, pictures, titles, strict=False):
        image = panel.imshow(picture.values, vmin=0, vmax=largest, cmap="viridis", aspect="auto")
        panel.set_title(title, fontsize=9, loc="left")
        _ticks(panel, picture["key"].values, picture["query"].values)
    labels = [_label(value) for value in pictures[0]["key"].values]
    cells = _places(labels)[2]
    within = f" (in each patch: {labels[0].split(' @ ')[0]} ... {labels[-1].split(' @ ')[0]})" if cells else ""
    for panel in grid[-1]:
        panel.set_xlabel(f"what is read{within}", fontsize=8)
    for panel in grid[:, 0]:
        panel.set_ylabel("who reads", fontsize=8)
    bar = figure.colorbar(image, ax=grid, fraction=0.05, pad=0.02)
    bar.ax.axhline(1 / keys, color="white", lw=1.5)
    bar.set_label(f"weight (line: all even, {1 / keys:.2g})", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def _bars(pictures: list[tuple[str, xr.DataArray]], axis: str, even: float) -> Figure:
    """Draw one number per name, and a line where all would be if they were even."""
    names = [_label(value) for value in pictures[0][1][axis].values]
    columns = len(pictures)
    height = min(0.25 * len(names), 9) + 1.2
    figure = Picture(figsize=(min(3.4 * columns + 1.5, 12), height), layout="constrained")
    panels = figure.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]
    for panel, (title, picture) in zip(panels, pictures, strict=True):
        panel.barh(np.arange(len(names)), picture.values, color=OTHER, height=0.65)
        panel.axvline(even, color=FORECAST, lw=1)
        panel.set_title(title, fontsize=9, loc="left")
        panel.set_xlabel(f"weight (line: all even, {even:.2g})", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    places, labels, _ = _places(names)
    panels[0].set_yticks(places, labels)
    panels[0].invert_yaxis()
    return figure
