"""Pictures of recordings: channels over time with events and gaps, and an overview of many. matplotlib, any backend.

In them are channel names, event types, times from the recording's start and the recording's id; no name, date or text.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn.events.table import is_seizure
from tsattn.recordings.envelope import envelope
from tsattn.recordings.inspect import clock_text
from tsattn.recordings.recording import Recording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GOOD, BAD = "#1f2d3d", "#d1495b"
SEIZURE_COLOUR = "#f08c00"
OTHER_COLOURS = ("#4c9f70", "#5b8bd0", "#9a6fb0", "#8c8c8c")  # told apart by colour-blind readers, too
TALLEST = 40.0  # inches: the rows of an overview share what is there
RECORDED = "#9db8d3"
GAP: dict[str, Any] = dict(facecolor="#e3e3e3", edgecolor="#a5a5a5", hatch="///", linewidth=0)
ENDINGS = (".png", ".pdf", ".svg")
CUT = 0.9  # rows that a trace may reach above and below its middle
NICE = (1, 2, 5)


def plot_recording(
    recording: Recording,
    begin: float = 0.0,
    end: float | None = None,
    *,
    channels: Sequence[str] | None = None,
    most: int = 40,
    bads: Mapping[str, str] | Sequence[str] = (),
    pixels: int = 1400,
    out: str | Path | None = None,
) -> "Figure":
    """Draw channels over time, with events as shaded spans and gaps hatched.

    Stretches with more samples than pixels are drawn as the range (lowest to highest) within each pixel. It is read
    piece by piece: a day costs its reading time, not its memory.

    Args:
        recording: What to draw; of several rates, the channels of the most common one unless `channels` says others.
        begin: Seconds from the recording's start.
        end: Seconds; None draws to the end.
        channels: Names, in the order from the top; None takes `most` of them, evenly spread.
        most: How many channels at most, if `channels` does not say which.
        bads: Channels to draw as bad, beside those that the recording calls bad.
        pixels: Of the time axis.
        out: .png, .pdf or .svg to write.

    Returns:
        The figure, which belongs to no window.
    """
    if out is not None:
        ending_of(out)
    end = recording.duration if end is None else end
    if not 0 <= begin < end <= recording.duration + 1e-9:
        raise ValueError(
            f"{recording.id} lasts {recording.duration:g} s, {begin:g} to {end:g} s was asked for; expected a begin "
            "before the end, both within it."
        )
    shown, told = _choose(recording, channels, most)
    sfreq = shown.sfreq
    start, stop = round(begin * sfreq), min(round(end * sfreq), shown.n_samples)
    if stop <= start:
        raise ValueError(f"{begin:g} to {end:g} s holds no sample at {sfreq:g} Hz.")
    figure, axes = _canvas(len(shown.names))
    bad = set(bads) | set(shown.channels["name"][shown.channels["status"] == "bad"])
    colours = [BAD if name in bad else GOOD for name in shown.names]
    if stop - start <= 2 * pixels:
        high = low = shown.read(start, stop).astype(float)
        times = np.arange(start, stop) / sfreq
        way = ""
    else:
        low, high, times = envelope(shown, start, stop, pixels)
        way = f", range within {(stop - start) / pixels / sfreq:.2g} s"
    middle = _median((low + high) / 2)
    low, high = low - middle, high - middle
    row = _row_height(low, high, end - begin) * (1.4 if stop - start > 20 * pixels else 1.0)  # filled: more room
    if not way:
        _draw_lines(axes, times, low, row, colours)
    else:
        _draw_ranges(axes, times, low, high, row, colours)
    largest = max(np.nanmax(high, initial=0), -np.nanmin(low, initial=0))
    cut = f", cut at ±{float(f'{CUT * row:.2g}'):g} µV" if largest > CUT * row else ""
    legend = _draw_events(axes, shown, begin, end)
    legend |= _draw_gaps(axes, shown.gaps, begin, end)
    if bad & set(shown.names):
        legend |= {"bad channel": _patch(facecolor=BAD)}
    _label_rows(axes, shown.names, colours)
    _time_axis(axes, begin, end)
    _scale_bar(axes, row)
    title = f"{recording.id}\n{told}, {clock_text(begin)} to {clock_text(end)} ({sfreq:g} Hz{way}{cut})"
    _finish(figure, axes, title, legend, out)
    return figure


def plot_store_overview(recordings: Sequence[Recording], *, out: str | Path | None = None) -> "Figure":
    """Draw one row a recording: what was observed, gaps, seizures, number of channels; subjects together.

    Args:
        recordings: In any order; time is counted from each one's start.
        out: .png, .pdf or .svg to write.
    """
    from matplotlib.figure import Figure

    if not recordings:
        raise ValueError("There are no recordings to draw.")
    order = sorted(recordings, key=lambda one: (one.subject, one.id))
    rows = len(order)
    longest = max(one.duration for one in order)
    unit, name = (3600.0, "hours") if longest > 2 * 3600 else (60.0, "minutes") if longest > 120 else (1.0, "seconds")
    tall = min(0.32, TALLEST / rows)  # inches a row
    crowded = tall < 0.14  # then subjects are named, not recordings
    figure = Figure(figsize=(11, 1.6 + tall * rows), layout="constrained")
    axes = figure.add_subplot()
    legend = {"recorded": _patch(facecolor=RECORDED)}
    for y, one in enumerate(order):
        for begin, end in _between(one):
            axes.barh(y, (end - begin) / unit, left=begin / unit, height=0.62, color=RECORDED, linewidth=0)
        for begin, end in one.gaps:
            axes.barh(y, (end - begin) / unit, left=begin / unit, height=0.62, **GAP)
            legend["gap"] = _patch(**GAP)
        for _, event in one.events[is_seizure(one.events["event_type"])].iterrows():
            wide = max(event["duration"], longest / 500)  # seconds in days: never thinner than can be seen
            axes.barh(y, wide / unit, left=event["onset"] / unit, height=0.86, color=SEIZURE_COLOUR, linewidth=0)
            legend["seizure"] = _patch(facecolor=SEIZURE_COLOUR)
        if crowded:
            continue
        about = f"{len(one.names)} ch, {'/'.join(f'{rate:g}' for rate in one.channels['sfreq'].unique())} Hz"
        axes.annotate(about, (1.0, y), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
                      va="center", fontsize=8, color="#444444")  # fmt: skip
    borders = [y for y in range(1, rows) if order[y].subject != order[y - 1].subject]
    for y in borders:
        axes.axhline(y - 0.5, color="#999999", linewidth=0.2 if crowded else 0.8)
    labels = [one.id if len(one.id) <= 60 else "…" + one.id[-59:] for one in order]
    named = [0, *borders] if crowded else range(rows)
    axes.set_yticks(named, [order[y].subject if crowded else labels[y] for y in named], fontsize=8)
    axes.set_ylim(rows - 0.5, -0.5)
    axes.set_xlim(0, longest / unit * 1.005)
    axes.set_xlabel(f"{name} from each recording's start")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="y", length=0)
    total = sum(one.duration for one in order)
    subjects = len({one.subject for one in order})
    found = sum(int(is_seizure(one.events["event_type"]).sum()) for one in order)
    title = f"{rows} recordings of {subjects} subjects, {clock_text(total)} in all, {found} seizures"
    _finish(figure, axes, title, legend, out)
    return figure


def _between(recording: Recording) -> list[tuple[float, float]]:
    edges = [0.0, *(time for gap in recording.gaps for time in gap), recording.duration]
    return [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if end > begin]


def _choose(recording: Recording, channels: Sequence[str] | None, most: int) -> tuple[Recording, str]:
    """Return a recording of the channels to draw, and what the title says of the choice."""
    total = len(recording.names)
    if channels is not None:
        shown = recording.pick(channels)
        return shown, f"{len(shown.names)} of {total} channels, chosen by name"
    usual = recording.channels["sfreq"].mode().iloc[0]
    same = recording.pick(sfreq=usual)
    if len(same.names) <= most:
        more = "" if len(same.names) == total else f" (those at {usual:g} Hz)"
        return same, f"{len(same.names)} of {total} channels{more}" if more else f"{total} channels"
    places = np.unique(np.linspace(0, len(same.names) - 1, most).round().astype(int))
    shown = same.pick([same.names[i] for i in places])
    return shown, f"{len(shown.names)} of {total} channels, evenly spread over the list"


def _canvas(rows: int) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, min(14.0, max(3.2, 1.9 + 0.24 * rows))), layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylim(rows - 0.3, -0.7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _median(x: Float[np.ndarray, "channel time"]) -> Float[np.ndarray, "channel 1"]:
    empty = np.isnan(x).all(1)
    middle = np.nanmedian(np.where(empty[:, None], 0.0, x), axis=1)
    return middle[:, None]


def _row_height(
    low: Float[np.ndarray, "channel pixel"], high: Float[np.ndarray, "channel pixel"], seconds: float
) -> float:
    """Return the µV between two rows: what the median channel keeps within, second by second, most of the time."""
    pieces = min(low.shape[1], max(4, round(seconds)))
    first = np.linspace(0, low.shape[1], pieces + 1).astype(int)[:-1]
    height = np.fmax.reduceat(high, first, axis=1) - np.fmin.reduceat(low, first, axis=1)
    lively = [np.nanpercentile(one, 75) for one in height if np.isfinite(one).any() and np.nanmax(one) > 0]
    return float(np.median(lively)) if lively and np.median(lively) > 0 else 1.0


def _draw_lines(axes: "Axes", times: np.ndarray, x: np.ndarray, row: float, colours: Sequence[str]) -> None:
    from matplotlib.collections import LineCollection

    y = np.arange(len(x))[:, None] - np.clip(x / row, -CUT, CUT)
    segments = [np.column_stack([times, line]) for line in y]
    axes.add_collection(LineCollection(segments, colors=list(colours), linewidths=0.7, zorder=3), autolim=False)


def _draw_ranges(
    axes: "Axes", times: np.ndarray, low: np.ndarray, high: np.ndarray, row: float, colours: Sequence[str]
) -> None:
    for i, colour in enumerate(colours):
        top, bottom = (i - np.clip(side[i] / row, -CUT, CUT) for side in (high, low))
        axes.fill_between(times, top, bottom, color=colour, linewidth=0.35, zorder=3, alpha=0.9)


def _draw_events(axes: "Axes", recording: Recording, begin: float, end: float) -> dict[str, Any]:
    """Shade events; the rows of channels that an event names are shaded once more."""
    events = recording.events
    shown = events.get("text", pd.Series("", index=events.index)).where(~is_seizure(events["event_type"]), "")
    called = shown.where(shown != "", events["event_type"])  # a text that was let through names what is no seizure
    kinds = sorted(called.unique(), key=lambda kind: not is_seizure([kind])[0])
    others = [kind for kind in kinds if not is_seizure([kind])[0]]
    colours = dict.fromkeys(kinds, SEIZURE_COLOUR)
    colours |= {kind: OTHER_COLOURS[min(i, len(OTHER_COLOURS) - 1)] for i, kind in enumerate(others)}
    legend: dict[str, Any] = {}
    place = {name: i for i, name in enumerate(recording.names)}
    last = events["onset"] + events["duration"].clip(lower=0)
    inside = (events["onset"] <= end) & (last >= begin)  # NaN is outside, too
    height = axes.get_xaxis_transform()
    for kind in kinds:  # one artist for all events of a type: there may be a hundred thousand
        alike, colour = inside & (called == kind), colours[kind]
        if not alike.any():
            continue
        first = events["onset"][alike].clip(begin, end).to_numpy()
        spans = list(zip(first, last[alike].clip(upper=end) - first, strict=True))  # begin, length
        axes.broken_barh(spans, (0, 1), facecolor=colour, alpha=0.22, linewidth=0, zorder=0, transform=height)
        axes.vlines(first, 0, 1, color=colour, linewidth=1.0, alpha=0.9, zorder=1, transform=height)
        rows: dict[int, list[tuple[float, float]]] = {}
        for span, names in zip(spans, events["channels"][alike], strict=True):
            for name in names.split(","):
                if name in place:
                    rows.setdefault(place[name], []).append(span)
        for row, own in rows.items():
            axes.broken_barh(own, (row - 0.5, 1), facecolor=colour, alpha=0.3, linewidth=0, zorder=1)
        legend[kind] = _patch(facecolor=colour, alpha=0.5)
    seizures = [kind for kind in legend if is_seizure([kind])[0]]
    told = {f"seizure ({', '.join(seizures)})": legend[seizures[0]]} if seizures else {}
    return told | {kind: patch for kind, patch in legend.items() if kind not in seizures}


def _draw_gaps(axes: "Axes", gaps: Sequence[tuple[float, float]], begin: float, end: float) -> dict[str, Any]:
    shown = [(max(a, begin), min(b, end) - max(a, begin)) for a, b in gaps if b > begin and a < end]
    axes.broken_barh(shown, (0, 1), zorder=2, transform=axes.get_xaxis_transform(), **GAP)
    return {"gap (nothing recorded)": _patch(**GAP)} if shown else {}


def _label_rows(axes: "Axes", names: Sequence[str], colours: Sequence[str]) -> None:
    size = 8 if len(names) <= 45 else 6
    axes.set_yticks(range(len(names)), [name if len(name) <= 16 else name[:15] + "…" for name in names], fontsize=size)
    axes.tick_params(axis="y", length=0)
    for tick, colour in zip(axes.get_yticklabels(), colours, strict=True):
        tick.set_color(colour)


def _time_axis(axes: "Axes", begin: float, end: float) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    axes.set_xlim(begin, end)
    span = end - begin
    if span <= 120 and end < 3600:
        axes.set_xlabel("seconds from the recording's start")
        return
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
    axes.xaxis.set_major_locator(MultipleLocator(next((step for step in steps if span / step <= 12), steps[-1])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: _hms(seconds)))
    axes.set_xlabel("h:mm:ss from the recording's start")


def _hms(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


def _scale_bar(axes: "Axes", row: float) -> None:
    """Draw a bar of a round number of µV, right of the traces."""
    decade = 10.0 ** np.floor(np.log10(row))
    size = max(decade * step for step in NICE if decade * step <= row * 1.0001)
    y = axes.get_ylim()[0] - 0.3  # the lowest row
    where = axes.get_yaxis_transform()
    axes.plot([1.012, 1.012], [y, y - size / row], color="black", linewidth=2, transform=where, clip_on=False)
    axes.text(1.018, y - size / row / 2, f"{size:g} µV", transform=where, va="center", fontsize=8)


def _patch(**look: Any) -> Any:
    from matplotlib.patches import Patch

    return Patch(**look)


def _finish(figure: "Figure", axes: "Axes", title: str, legend: dict[str, Any], out: str | Path | None) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    if legend:
        figure.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=8)
    if out is not None:
        save(figure, out)


def ending_of(path: str | Path) -> str:
    """Return a picture's ending without its dot; an error if matplotlib could write it but we do not promise it."""
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"A picture's name ends in {', '.join(ENDINGS)}; this one ends in {ending!r}.")
    return ending[1:]


def save(figure: "Figure", path: str | Path) -> None:
    """Write a figure whole or not at all; its file does not say when it was made.

    Args:
        figure: To write.
        path: .png, .pdf or .svg.
    """
    from matplotlib import rc_context

    from tsattn.files import write_atomically

    ending = ending_of(path)
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(ending)
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "tsattn"}):  # text stays text
        write_atomically(path, lambda file: figure.savefig(file, format=ending, dpi=130, metadata=dates))
