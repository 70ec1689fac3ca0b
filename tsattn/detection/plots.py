"""Pictures of a detection: the probability over a recording, the signal around an onset, what a window's answer read.

matplotlib, any backend. In them are channel names and times from the recording's start; no person's name and no date.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from tsattn.detection.explain import Explanation
from tsattn.recordings.envelope import envelope
from tsattn.recordings.plots import GAP, GOOD, SEIZURE_COLOUR, ending_of, save
from tsattn.recordings.recording import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE_COLOUR = "#2b6cb0"
BAR = "#5b7fa6"
UNKNOWN: dict[str, Any] = dict(facecolor="#f1f1f1", linewidth=0)
QUIET = "#667380"
PIXELS = 1500  # of a time axis
CUT = 1.4  # rows that a trace may reach above and below its middle
NICE = (1, 2, 5)
STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
NUMBERED = 40  # more numbers of events than these would cover each other
TERM_NAMES = {
    "whole": "as it is",
    "content": "without content",
    "time": "without time",
    "channel": "without channel distance",
}


def plot_probability(
    probability: xr.DataArray,
    events: pd.DataFrame,
    duration: float,
    *,
    reference: pd.DataFrame | None = None,
    gaps: Sequence[tuple[float, float]] = (),
    out: str | Path | None = None,
) -> "Figure":
    """Draw the seizure probability over a whole recording, with the threshold, events, gaps and an expert's events.

    Of a long recording each pixel shows the lowest and the highest probability in it.

    Args:
        probability: Of each window, NaN where unknown; `time` is each window's begin in seconds, the attributes `hop`,
            `span` and `offset` (s) say of which seconds it speaks, `threshold` what begins an event.
        events: That were found (`tsattn.events.table`).
        duration: Of the recording, seconds.
        reference: Events of an expert.
        gaps: Begin and end of what was not recorded, seconds.
        out: .png, .pdf or .svg to write.
    """
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    figure, axes = _figure((11.0, 2.7), out)
    legend: dict[str, Any] = {}
    unknown = unanswered(probability, duration)
    if unknown:
        spans = [(a, b - a) for a, b in unknown]
        axes.broken_barh(spans, (0, 1), transform=axes.get_xaxis_transform(), zorder=0, **UNKNOWN)
        legend["no answer"] = _patch(**UNKNOWN)
    legend |= _shade(axes, events, 0.0, duration, duration / 500)
    legend |= _mark_reference(axes, reference, 0.0, duration, duration / 500)
    legend |= _hatch(axes, gaps, 0.0, duration)
    begin, step, low, high = _trace(probability, duration)
    broken = np.diff(begin, append=np.inf) > 1.001 * step if len(begin) else np.zeros(0, bool)
    x = np.column_stack([begin, begin + step, begin + step]).ravel()
    bottom, top = (np.column_stack([y, y, np.where(broken, np.nan, y)]).ravel() for y in (low, high))
    axes.fill_between(x, bottom, top, color=GOOD, alpha=0.35, linewidth=0, zorder=3)
    (legend["probability"],) = axes.plot(x, top, color=GOOD, linewidth=0.9, zorder=4)
    threshold = float(probability.attrs["threshold"])
    smoothing = float(probability.attrs.get("smoothing", 0.0))
    legend[f"threshold {threshold:.3g}" + (f" (of the mean over {smoothing:g} s)" if smoothing else "")] = axes.axhline(
        threshold, color="#b3261e", linewidth=0.9, linestyle=(0, (5, 3))
    )
    if len(events) <= NUMBERED:
        for number, (onset, length) in enumerate(zip(events["onset"], events["duration"], strict=True), 1):
            axes.annotate(str(number), (onset + length / 2, 1), (0, 3), xycoords=("data", "axes fraction"), fontsize=8,
                          textcoords="offset points", ha="center", va="bottom", color="#a85f00")  # fmt: skip
    axes.set_xlim(0, duration)
    axes.set_ylim(-0.02, 1.06)  # room for the reference
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("seizure probability", fontsize=9)
    axes.xaxis.set_major_locator(MultipleLocator(next((step for step in STEPS if duration / step <= 12), STEPS[-1])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    axes.set_xlabel("h:mm:ss from the recording's start", fontsize=9)
    _finish(figure, legend, out)
    return figure


def plot_excerpt(
    recording: Recording,
    onset: float,
    events: pd.DataFrame,
    channels: Sequence[str],
    *,
    reference: pd.DataFrame | None = None,
    mass: dict[str, float] | None = None,
    around: float = 30.0,
    out: str | Path | None = None,
) -> "Figure":
    """Draw the signal around an onset, and beside it the share of attention that each channel got.

    Stretches with more samples than pixels are drawn as the range (lowest to highest) within each pixel.

    Args:
        recording: Of one rate.
        onset: Seconds from the recording's start.
        events: That were found; those in the excerpt are shaded.
        channels: Names, from the top.
        reference: Events of an expert.
        mass: Of each channel, see `Explanation.by_channel`; None leaves the bars out.
        around: Seconds before and after the onset, as far as the recording goes.
        out: .png, .pdf or .svg to write.
    """
    shown, sfreq = recording.pick(channels), recording.sfreq
    start, stop = excerpt(recording, onset, around)
    begin, end = start / sfreq, stop / sfreq
    size = (11.0, min(8.0, 1.5 + 0.28 * len(channels)))
    figure, axes = _figure(size, out, 1 if mass is None else 2, width_ratios=None if mass is None else [8, 1])
    traces: Axes = axes if mass is None else axes[0]
    if stop - start <= 2 * PIXELS:
        low = high = shown.read(start, stop).astype(float)
        times = np.arange(start, stop) / sfreq
    else:
        low, high, times = envelope(shown, start, stop, PIXELS)
    middle = _by_row(np.nanmedian, (low + high) / 2)
    low, high = low - middle, high - middle
    row = _row_height(low, high)
    for i in range(len(channels)):
        top, bottom = (i - np.clip(side[i] / row, -CUT, CUT) for side in (high, low))
        if low is high:
            traces.plot(times - onset, top, color=GOOD, linewidth=0.6, zorder=3)
        else:
            traces.fill_between(times - onset, top, bottom, color=GOOD, linewidth=0.4, zorder=3)
    moved = events.assign(onset=events["onset"] - onset)
    told = None if reference is None else reference.assign(onset=reference["onset"] - onset)
    legend = _shade(traces, moved, begin - onset, end - onset)
    legend |= _mark_reference(traces, told, begin - onset, end - onset)
    legend |= _hatch(traces, [(a - onset, b - onset) for a, b in recording.gaps], begin - onset, end - onset)
    legend["onset"] = traces.axvline(0, color="#b3261e", linewidth=1.2, zorder=5)
    traces.set_xlim(begin - onset, end - onset)
    traces.set_ylim(len(channels) - 0.2, -1.2)
    traces.set_yticks(range(len(channels)), [_plain(name) for name in channels], fontsize=8)
    traces.tick_params(axis="y", length=0)
    traces.spines["left"].set_visible(False)
    traces.set_xlabel("seconds from the onset", fontsize=9)
    _scale_bar(traces, row)
    if mass is not None:
        bars = axes[1]
        bars.barh(range(len(channels)), [100 * mass.get(name, np.nan) for name in channels], height=0.6, color=BAR)
        bars.axvline(100 / len(mass), color=QUIET, linewidth=0.9, linestyle=":")
        bars.set_ylim(*traces.get_ylim())
        bars.set_yticks([])
        bars.set_xlabel("attention, %", fontsize=9)
        bars.spines["left"].set_visible(True)
    _finish(figure, legend, out)
    return figure


def plot_explanation(
    explanation: Explanation, out: str | Path | None = None, *, layer: int | None = None, most: int = 24
) -> "Figure":
    """Draw what the last segment read (channels x segments), each channel's share, and the answer without each term.

    Args:
        explanation: Of one window.
        out: .png, .pdf or .svg to write.
        layer: Whose attention; None is the mean over layers.
        most: Channels that are drawn at most: those with the largest share, in the recording's order.
    """
    data = explanation.to_xarray()
    mass = data["mass"].mean("layer") if layer is None else data["mass"].isel(layer=layer)
    share = mass.sum("segment").values
    rows = np.sort(np.argsort(-share, kind="stable")[:most])
    names = [_plain(explanation.channels[i]) for i in rows]
    extra = "occlusion" in data
    figure, axes = _figure(
        (11.0, max(2.8, 1.4 + 0.19 * len(rows))), out, 4 if extra else 3, width_ratios=[5, 1.6, *([1.6] * extra), 2.2]
    )
    grid, bars, *between, terms = axes

    edges = np.append(data["segment"].values, 0.0)
    drawn = grid.pcolormesh(
        edges, np.arange(len(rows) + 1) - 0.5, 100 * mass.values.T[rows], cmap="Blues", vmin=0, rasterized=True
    )
    grid.set_yticks(range(len(rows)), names, fontsize=8)
    grid.tick_params(length=0, axis="y")
    grid.set_xlabel("seconds before the window's end", fontsize=9)
    which = f"mean of {data.sizes['layer']} layers" if layer is None else f"layer {range(data.sizes['layer'])[layer]}"
    left = f"; {len(rows)} of {len(share)} channels, {share[rows].sum():.0%} of it" if len(rows) < len(share) else ""
    grid.set_title(f"attention, % ({which}{left})", fontsize=9, loc="left")
    bar = figure.colorbar(drawn, ax=grid, pad=0.015, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)

    bars.barh(range(len(rows)), 100 * share[rows], height=0.65, color=BAR)
    bars.axvline(100 / len(share), color=QUIET, linewidth=0.9, linestyle=":")
    bars.set_title("channel, %", fontsize=9, loc="left")
    bars.set_xlabel("dotted: all alike", fontsize=8, color=QUIET)
    whole = explanation.probability["whole"]
    if extra:
        lost = whole - data["occlusion"].values[rows]
        between[0].barh(range(len(rows)), lost, height=0.65, color=[BAR if loss >= 0 else "#c08a5a" for loss in lost])
        between[0].axvline(0, color=QUIET, linewidth=0.8)
        between[0].set_title("lost without it", fontsize=9, loc="left")
        between[0].set_xlabel("probability", fontsize=8, color=QUIET)
    for one in (grid, bars, *between):
        one.set_ylim(len(rows) - 0.5, -0.5)
    for one in (bars, *between):
        one.set_yticks([])

    values = list(explanation.probability.values())
    labels = [TERM_NAMES.get(term, term) for term in explanation.probability]
    terms.barh(range(len(values)), values, height=0.34, color=[SEIZURE_COLOUR, *[BAR] * (len(values) - 1)])
    for i, (name, value) in enumerate(zip(labels, values, strict=True)):
        terms.text(0, i - 0.24, f"{name}: {value:.2f}", fontsize=8, va="bottom")
    terms.set_xlim(0, 1)
    terms.set_ylim(len(values) - 0.6, -0.8)
    terms.set_yticks([])
    terms.set_title("seizure probability", fontsize=9, loc="left")
    for one in axes:
        one.tick_params(labelsize=8)
    _finish(figure, {}, out)
    return figure


def excerpt(recording: Recording, onset: float, around: float = 30.0) -> tuple[int, int]:
    """Return the samples from `around` seconds before an onset to as many after it, as far as the recording goes."""
    start = max(0, round((onset - around) * recording.sfreq))
    stop = min(recording.n_samples, round((onset + around) * recording.sfreq))
    return min(start, recording.n_samples - 1), max(stop, 1)


def unanswered(probability: xr.DataArray, duration: float) -> list[tuple[float, float]]:
    """Return the stretches of a recording that no known probability speaks of, in seconds.

    Args:
        probability: See `plot_probability`.
        duration: Of the recording, seconds.
    """
    known = np.isfinite(probability.values)
    begin = probability["time"].values[known].astype(float) + float(probability.attrs["offset"])
    end = np.minimum(begin + float(probability.attrs["span"]), duration)
    found, last = [], 0.0
    for a, b in zip(begin.tolist(), end.tolist(), strict=True):
        if a > last + 1e-6:
            found.append((last, min(a, duration)))
        last = max(last, b)
    return [*found, (last, duration)] if duration > last + 1e-6 else found


def clock(seconds: float) -> str:
    """Return h:mm:ss."""
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _trace(
    probability: xr.DataArray, duration: float
) -> tuple[Float[np.ndarray, " point"], float, Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """Return where each window's seconds begin, the step (s), and its probability, lowest and highest of a pixel."""
    hop, span, offset = (float(probability.attrs[name]) for name in ("hop", "span", "offset"))
    begin = probability["time"].values.astype(float) + offset + (span - hop) / 2
    values = probability.values.astype(float)
    if len(values) <= 2 * PIXELS:
        return begin, hop, values, values
    step = duration / PIXELS
    pixel = np.floor(begin / step).astype(int)
    first = np.flatnonzero(np.diff(pixel, prepend=pixel[0] - 1))
    return pixel[first] * step, step, np.fmin.reduceat(values, first), np.fmax.reduceat(values, first)


def _figure(size: tuple[float, float], out: str | Path | None, columns: int = 1, **grid: Any) -> tuple["Figure", Any]:
    from matplotlib.figure import Figure

    if out is not None:
        ending_of(out)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(1, columns, **grid)
    for one in np.ravel(axes):
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color("#9aa5b1")
        one.tick_params(labelsize=8, color="#9aa5b1")
    return figure, axes


def _shade(axes: "Axes", events: pd.DataFrame, begin: float, end: float, least: float = 0.0) -> dict[str, Any]:
    spans = _within(events, begin, end, least)
    look: dict[str, Any] = dict(facecolor=SEIZURE_COLOUR, alpha=0.28, linewidth=0)
    axes.broken_barh(spans, (0, 1), transform=axes.get_xaxis_transform(), zorder=1, **look)
    return {"detected seizure": _patch(**look)} if spans else {}


def _mark_reference(
    axes: "Axes", reference: pd.DataFrame | None, begin: float, end: float, least: float = 0.0
) -> dict[str, Any]:
    spans = [] if reference is None else _within(reference, begin, end, max(least, (end - begin) / PIXELS))
    look: dict[str, Any] = dict(facecolor=REFERENCE_COLOUR, linewidth=0)
    axes.broken_barh(spans, (0.972, 0.028), transform=axes.get_xaxis_transform(), zorder=6, **look)
    return {"reference (expert)": _patch(**look)} if spans else {}


def _hatch(axes: "Axes", gaps: Sequence[tuple[float, float]], begin: float, end: float) -> dict[str, Any]:
    spans = [(max(a, begin), min(b, end) - max(a, begin)) for a, b in gaps if b > begin and a < end]
    axes.broken_barh(spans, (0, 1), transform=axes.get_xaxis_transform(), zorder=2, **GAP)
    return {"gap (nothing recorded)": _patch(**GAP)} if spans else {}


def _within(events: pd.DataFrame, begin: float, end: float, least: float) -> list[tuple[float, float]]:
    """Return begin and length of the events in a stretch, none shorter than can be seen."""
    spans = zip(events["onset"], events["onset"] + events["duration"].clip(lower=least), strict=True)
    return [(max(a, begin), min(b, end) - max(a, begin)) for a, b in spans if b >= begin and a <= end]


def _by_row(reduce: Any, x: Float[np.ndarray, "channel time"]) -> Float[np.ndarray, "channel 1"]:
    """Return a number for each row; 0 where nothing is known, which numpy warns of."""
    return np.array([[reduce(one) if np.isfinite(one).any() else 0.0] for one in x])


def _row_height(low: Float[np.ndarray, "channel pixel"], high: Float[np.ndarray, "channel pixel"]) -> float:
    """Return the µV between two rows: what the median channel keeps within, 96 % of the time."""
    spread = _by_row(lambda x: np.nanpercentile(x, 98), high) - _by_row(lambda x: np.nanpercentile(x, 2), low)
    lively = spread[spread > 0]
    return float(np.median(lively)) if len(lively) else 1.0


def _scale_bar(axes: "Axes", row: float) -> None:
    decade = 10.0 ** np.floor(np.log10(row))
    size = max(decade * step for step in NICE if decade * step <= row * 1.0001)
    x, y = 1.004, axes.get_ylim()[0] - 0.1
    where = axes.get_yaxis_transform()
    axes.plot([x, x], [y, y - size / row], color="black", linewidth=2, transform=where, clip_on=False)
    axes.text(x + 0.006, y - size / row / 2, f"{size:g} µV", transform=where, va="center", fontsize=8)


def _plain(name: str) -> str:
    """Return a name as matplotlib shows it literally: a dollar begins a formula there."""
    return (name if len(name) <= 16 else name[:15] + "…").replace("$", r"\$")


def _patch(**look: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(**look)


def _finish(figure: "Figure", legend: dict[str, Any], out: str | Path | None) -> None:
    if legend:
        figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    if out is not None:
        save(figure, out)
