"""One HTML file about the seizures that were found in a recording: self-contained, for the screen and for paper.

No script, no network: pictures are in the file. A recording goes by its pseudonym and times are counted from its start;
names of files, of persons and clock times stay out (`tsattn.recordings.privacy`). Everything is escaped (jinja2).
"""

import base64
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from tsattn import __version__
from tsattn.contracts import NOTICE
from tsattn.detection.explain import Explanation
from tsattn.detection.plots import clock, excerpt, plot_excerpt, plot_explanation, plot_probability, unanswered
from tsattn.events.cohort import Scores
from tsattn.events.score import METRICS, Score
from tsattn.events.table import check_events, own_channels, seizures
from tsattn.files import refuse_existing, write_atomically
from tsattn.recordings.privacy import label, scrub
from tsattn.recordings.recording import Recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 12  # events with a picture
TRACES = 16  # channels in it
TOLD = 3  # channels in the table of events
DPI = 150
COLOURS = 255  # of a picture, chosen so that rare ones stay as they are
ATTRIBUTES = ("hop", "span", "offset", "threshold")
STANDS_OUT = 1.15  # times the share that each channel had if all were read alike
METRIC_NAMES = {  # name and unit, by the words of `tsattn.events.score`
    "sensitivity": "Sensitivity, events",
    "precision": "Precision, events",
    "f1_event": "F1, events",
    "fp_per_day": "False detections per 24 h",
    "fp_per_hour": "False detections per hour",
    "sample_sensitivity": "Sensitivity, seconds",
    "sample_precision": "Precision, seconds",
    "sample_f1": "F1, seconds",
    "sample_fp_per_day": "Falsely detected seconds per 24 h",
    "kappa_5s": "Cohen's kappa, bins of 5 s",
    "f1_5s": "F1, bins of 5 s",
    "latency": "Median latency, s",
}


@runtime_checkable
class Detected(Protocol):
    """What a report is about."""

    @property
    def events(self) -> pd.DataFrame:
        """That were found: `tsattn.events.table`."""

    @property
    def probability(self) -> xr.DataArray:
        """Of each window; `time`: its begin in seconds; attributes `hop`, `span`, `offset` (s) and `threshold`."""

    @property
    def recording(self) -> Recording:
        """As the network read it."""

    @property
    def provenance(self) -> dict[str, Any]:
        """Plain data: what was used, and how."""


def write_report(
    path: str | Path,
    detection: Detected,
    *,
    reference: pd.DataFrame | None = None,
    scores: Score | Scores | None = None,
    explanations: Sequence[Explanation] = (),
    overwrite: bool = False,
) -> None:
    """Write one HTML file about a detection.

    Args:
        path: .html or .htm.
        detection: What was found.
        reference: An expert's events, to be shown beside it.
        scores: Of this recording, or of the cohort that it belongs to.
        explanations: Of windows, in any order. An event takes the one whose last segment lies in it; of several, the
            one with the highest probability.
        overwrite: Write over a file that is there.

    Raises:
        FileExistsError: If the file is there and `overwrite` is False.
        ValueError: If the path has another ending, the probability does not say what it speaks of, or a table of
            events is wrong.
    """
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"A report's name ends in .html or .htm; this one ends in {Path(path).suffix!r}.")
    refuse_existing(path, overwrite)
    page = _template().render(**_contents(detection, reference, scores, explanations))
    write_atomically(path, lambda file: file.write(page.encode()))


def line_length_change(recording: Recording, onset: float, around: float = 30.0) -> Float[np.ndarray, " channel"]:
    """Return how much longer a second of each channel's line is after an onset than before, -1 to 1.

    Line length is the mean absolute step from sample to sample; the change is (after - before) / (after + before). NaN
    for a channel without a sample on one of the sides.

    Args:
        recording: Of one rate.
        onset: Seconds from the recording's start.
        around: Seconds that are compared on each side, as far as the recording goes.
    """
    start, stop = excerpt(recording, onset, around)
    steps = np.abs(np.diff(recording.read(start, stop), axis=1))
    border = int(np.clip(round(onset * recording.sfreq) - start, 0, steps.shape[1]))
    before, after = (_mean(side) for side in (steps[:, :border], steps[:, border:]))
    total = before + after
    return np.divide(after - before, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0)


def _mean(x: Float[np.ndarray, "channel time"]) -> Float[np.ndarray, " channel"]:
    known = np.isfinite(x)
    count = known.sum(1)
    return np.divide(np.where(known, x, 0).sum(1, dtype=float), count, out=np.full(len(x), np.nan), where=count > 0)


def _contents(
    detection: Detected,
    reference: pd.DataFrame | None,
    scores: Score | Scores | None,
    explanations: Sequence[Explanation],
) -> dict[str, Any]:
    recording, probability = detection.recording, detection.probability
    missing = [name for name in ATTRIBUTES if name not in probability.attrs]
    if missing or probability.dims != ("time",) or "time" not in probability.coords:
        what = f"the attribute {missing[0]!r}" if missing else "one dimension 'time' with its coordinate"
        raise ValueError(f"The probability lacks {what}: a report must know of which seconds each value speaks.")
    duration = recording.duration
    events = check_events(detection.events, duration, overlapping="keep", outside="clip")
    expert = None
    if reference is not None:
        expert = seizures(check_events(reference, duration, overlapping="keep", outside="clip"))
    explained = [_explanation_of(onset, length, explanations) for onset, length in _spans(events)]
    sure = events["confidence"].fillna(-1).to_numpy()
    shown = np.sort(np.argsort(-sure, kind="stable")[:SHOWN]).tolist()
    trace = plot_probability(probability, events, duration, reference=expert, gaps=recording.gaps)
    return {
        "notice": NOTICE,
        "version": __version__,
        "id": recording.id,
        "subject": recording.subject,
        "summary": list(_summary(recording, events, probability)),
        "trace": _picture(trace),
        "events": [
            _row(i, event, explained[i], expert, i in shown) for i, event in enumerate(events.to_dict("records"))
        ],
        "with_reference": expert is not None,
        "references": []
        if expert is None
        else [_reference_row(i, one, events) for i, one in enumerate(_spans(expert))],
        "shown": [_section(i, recording, events, expert, explained[i]) for i in shown],
        "left_out": len(events) - len(shown),
        "most": SHOWN,
        "scores": None if scores is None else _scores(scores),
        "provenance": [
            (str(name), list(_flat("", value, recording.files))) for name, value in detection.provenance.items()
        ],
        "threshold": f"{float(probability.attrs['threshold']):.3g}",
        "smoothing": f"{float(probability.attrs.get('smoothing', 0.0)):.3g}",
        "seen": detection.provenance.get("subject_seen", ""),
        "span": f"{float(probability.attrs['span']):g}",
        "reads": f"{float(probability.attrs['offset']) + float(probability.attrs['span']):g}",
        "occluded": any(one is not None and one.occlusion is not None for one in explained),
        "explained": any(one is not None for one in explained),
    }


def _spans(events: pd.DataFrame) -> list[tuple[float, float]]:
    return list(zip(events["onset"].tolist(), events["duration"].tolist(), strict=True))


def _explanation_of(onset: float, length: float, explanations: Sequence[Explanation]) -> Explanation | None:
    inside = [
        one for one in explanations if one.end > onset + 1e-6 and one.end - one.segment_seconds < onset + length - 1e-6
    ]
    return max(inside, key=lambda one: one.probability["whole"], default=None)


def _summary(recording: Recording, events: pd.DataFrame, probability: xr.DataArray) -> Iterator[tuple[str, str]]:
    duration = recording.duration
    lost = sum(end - begin for begin, end in recording.gaps)
    unknown = sum(end - begin for begin, end in unanswered(probability, duration))
    judged = (duration - unknown) / 3600
    lengths = events["duration"]
    yield "Duration", clock(duration)
    yield "Recorded", f"{(duration - lost) / 3600:.2f} h"
    yield "Gaps", f"{len(recording.gaps)}, {clock(lost)} in all" if recording.gaps else "none"
    yield "Channels", f"{len(recording.names)} at {recording.sfreq:g} Hz"
    yield "Without an answer", f"{unknown / duration:.1%} of the time"
    yield "Detected seizures", str(len(events))
    yield "Per hour with an answer", f"{len(events) / judged:.2f}" if judged > 0 else "n/a"
    several = (lengths.min(), lengths.median(), lengths.max()) if len(events) else ()
    yield "Shortest, median, longest", ", ".join(map(_seconds, several)) or "n/a"


def _row(
    i: int, event: Mapping[Any, Any], explanation: Explanation | None, expert: pd.DataFrame | None, shown: bool
) -> dict[str, Any]:
    channels = ", ".join(own_channels(event["channels"]))
    if explanation is not None:
        alike = STANDS_OUT / len(explanation.channels)
        top = [(name, share) for name, share in explanation.by_channel.items() if share >= alike][:TOLD]
        channels = ", ".join(f"{name} ({share:.0%})" for name, share in top) or "none stands out"
    met = [] if expert is None else _touched(event["onset"], event["duration"], expert)
    return {
        "number": i + 1,
        "onset": clock(event["onset"]),
        "duration": _seconds(event["duration"]),
        "confidence": "n/a" if math.isnan(event["confidence"]) else f"{event['confidence']:.2f}",
        "channels": channels,
        "met": ", ".join(f"R{j + 1}" for j in met) or "none",
        "shown": shown,
    }


def _reference_row(i: int, span: tuple[float, float], events: pd.DataFrame) -> dict[str, str]:
    met = _touched(*span, events)
    late = f"{events['onset'].iloc[met[0]] - span[0]:+.1f} s".replace("-", "−") if met else ""
    return {
        "number": f"R{i + 1}",
        "onset": clock(span[0]),
        "duration": _seconds(span[1]),
        "met": ", ".join(str(j + 1) for j in met) or "none",
        "late": late,
    }


def _touched(onset: float, length: float, others: pd.DataFrame) -> list[int]:
    """Return the places of the events that overlap a stretch."""
    return [i for i, (begin, lasts) in enumerate(_spans(others)) if begin <= onset + length and onset <= begin + lasts]


def _section(
    i: int, recording: Recording, events: pd.DataFrame, expert: pd.DataFrame | None, explanation: Explanation | None
) -> dict[str, Any]:
    onset = float(events["onset"].iloc[i])
    mass = None if explanation is None else explanation.by_channel
    channels, why = _chosen(recording, onset, mass)
    figure = plot_excerpt(recording, onset, events, channels, reference=expert, mass=mass)
    return {
        "number": i + 1,
        "onset": clock(onset),
        "duration": _seconds(float(events["duration"].iloc[i])),
        "excerpt": _picture(figure),
        "channels": f"{len(channels)} of {len(recording.names)} channels{why}",
        "explanation": None if explanation is None else _picture(plot_explanation(explanation)),
        "window": "" if explanation is None else f"{clock(explanation.begin)} to {clock(explanation.end)}",
    }


def _chosen(recording: Recording, onset: float, mass: dict[str, float] | None) -> tuple[list[str], str]:
    """Return the channels to draw, in the recording's order, and why these."""
    names = recording.names
    if len(names) <= TRACES:
        return names, ""
    if mass is not None and set(mass) & set(names):
        best, why = [name for name in mass if name in set(names)][:TRACES], "those that got most attention"
    else:
        change = np.nan_to_num(line_length_change(recording, onset), nan=-2.0)
        best = [names[i] for i in np.argsort(-change, kind="stable")[:TRACES]]
        why = "those whose line length grew most at the onset"
    return [name for name in names if name in set(best)], f": {why}"


def _scores(scores: Score | Scores) -> dict[str, Any]:
    rules = scores.rules.to_dict()
    about = (
        f"Rules: {rules['version']}; tolerance {rules['tolerance_start']:g} s before and {rules['tolerance_end']:g} s "
        f"after, least overlap {rules['min_overlap']:.0%}, joined under {rules['merge_gap']:g} s, cut into pieces of "
        f"{rules['max_duration']:g} s."
    )
    if isinstance(scores, Score):
        counts = scores.counts
        about += (
            f" Counted by them: {counts['reference']:g} reference events, {counts['true_positive']:g} found, "
            f"{counts['false_positive']:g} false detections."
        )
        alone = [(METRIC_NAMES[name], _number(scores.metrics[name])) for name in METRICS]
        return {"about": about, "head": ("", "This recording"), "rows": alone}
    pooled = scores.pooled.to_dict("index")
    subjects = scores.over_subjects.to_dict("index")
    rows = []
    for name in METRICS:
        a, b = pooled[name], subjects[name]
        between = "n/a" if math.isnan(a["low"]) else f"{_number(a['low'])} to {_number(a['high'])}"
        rows.append((METRIC_NAMES[name], _number(a["value"]), between, f"{_number(b['mean'])} ± {_number(b['sd'])}"))
    about += f" {len(scores.scores)} recordings of {len(scores.per_subject)} subjects."
    return {"about": about, "head": ("", "Pooled", "95 % interval", "Mean ± sd of subjects"), "rows": rows}


def _flat(name: str, value: Any, files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Give the leaves of nested plain data as names and texts, without paths."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name} › {key}" if name else str(key), inner, files)
    elif isinstance(value, (list, tuple)) and any(isinstance(one, (Mapping, list, tuple)) for one in value):
        for number, inner in enumerate(value, 1):
            yield from _flat(f"{name} › {number}" if name else str(number), inner, files)
    else:
        several = ", ".join(_leaf(one, files) for one in value) if isinstance(value, (list, tuple)) else ""
        yield _leaf(name, files), several if isinstance(value, (list, tuple)) else _leaf(value, files)


def _leaf(value: Any, files: Sequence[Path]) -> str:
    if value is None or (isinstance(value, Mapping) and not value):
        return "none"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Path) or (isinstance(value, str) and re.match(r"(/|~|[A-Za-z]:\\|\\\\)\S", value)):
        return label(value)
    return scrub(str(value), files)


def _picture(figure: "Figure") -> str:
    """Return a figure as the text of a data URI."""
    from PIL import Image  # matplotlib writes its own PNG with it

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    # a third of the size
    few = Image.open(drawn).convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(small, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(small.getvalue()).decode()


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 120 else clock(value)


def _number(value: float) -> str:
    told = f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"
    return "n/a" if math.isnan(value) else told.replace("-", "−")


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(PAGE)


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Detected seizures: {{ id }}</title>
<style>
:root { --ink: #1f2d3d; --quiet: #5f6c7b; --line: #dde3ea; --soft: #f5f7fa; --accent: #a85f00; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--soft); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
main { max-width: 1100px; margin: 0 auto; padding: 2.2rem 2.4rem 2.6rem; background: #fff;
  border-left: 1px solid var(--line); border-right: 1px solid var(--line); min-height: 100vh; }
header p, figcaption, .quiet { color: var(--quiet); font-size: .9rem; }
header p { margin: .2rem 0 1.2rem; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.25; font-weight: 650; overflow-wrap: anywhere; }
h2 { margin: 2.4rem 0 .8rem; padding-bottom: .3rem; font-size: 1.2rem; border-bottom: 1px solid var(--line); }
h3 { margin: 1.8rem 0 .2rem; font-size: 1.02rem; }
.notice { margin: 0 0 1.6rem; padding: .7rem 1rem; background: #fff6e6; border: 1px solid #f0d5a5;
  border-left: 4px solid #f08c00; border-radius: 4px; font-weight: 600; color: #6b3d00; }
footer .notice { margin: 2.6rem 0 .6rem; }
dl.summary { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: .7rem; margin: 0; }
dl.summary div { padding: .6rem .9rem; background: var(--soft); border: 1px solid var(--line); border-radius: 6px; }
dl.summary dt { color: var(--quiet); font-size: .82rem; }
dl.summary dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
table { width: 100%; border-collapse: collapse; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .7rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
thead th { color: var(--quiet); font-weight: 600; font-size: .82rem; border-bottom: 2px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; }
a { color: var(--accent); }
figure { margin: .4rem 0 1rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { margin-top: .2rem; }
details { margin-top: 2.4rem; border: 1px solid var(--line); border-radius: 6px; }
summary { padding: .7rem 1rem; font-weight: 600; font-size: 1.05rem; cursor: pointer; }
details > div { padding: 0 1rem 1rem; }
details table { font-size: .85rem; margin-bottom: .6rem; }
details td:first-child { width: 34%; color: var(--quiet); }
.read dt { font-weight: 600; margin-top: .7rem; }
.read dd { margin: 0; }
@media (max-width: 700px) { main { padding: 1.2rem 1rem; } th, td { padding: .35rem .4rem; } }
@media print {
  @page { margin: 14mm; }
  body { background: #fff; font-size: 10.5pt; }
  main { max-width: none; padding: 0; border: 0; }
  figure, tr, .notice, dl.summary div { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  a { color: inherit; text-decoration: none; }
  ::details-content { content-visibility: visible; block-size: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
</style>
</head>
<body>
<main>
<header>
<h1>Detected seizures in {{ id }}</h1>
<p>{% if subject != id %}Subject {{ subject }}. {% endif %}All times are counted from the start of the recording.</p>
</header>
<p class="notice" role="note">{{ notice }}{% if seen %} {{ seen }}{% endif %}</p>

<section aria-label="Summary">
<dl class="summary">
{% for name, value in summary %}
<div><dt>{{ name }}</dt><dd>{{ value }}</dd></div>
{% endfor %}
</dl>
</section>

<section>
<h2>Seizure probability</h2>
<figure>
<img src="{{ trace }}" alt="Seizure probability over the whole recording, with the threshold and the detected seizures">
<figcaption>Each value speaks of {{ span }} s; the threshold is {{ threshold }}
{%- if smoothing != "0" %}, of the mean over {{ smoothing }} s, which is not drawn{% endif %}. Numbers are those of the
table below.</figcaption>
</figure>
</section>

<section>
<h2>Detected seizures</h2>
{% if events %}
<table>
<thead><tr><th class="number">No.</th><th class="number">Onset</th><th class="number">Duration</th>
<th class="number">Confidence</th>{% if with_reference %}<th>Overlaps reference</th>{% endif %}
<th>{{ "Channels (share of attention)" if explained else "Channels" }}</th></tr></thead>
<tbody>
{% for event in events %}
<tr><td class="number">{% if event.shown %}<a href="#event-{{ event.number }}">{{ event.number }}</a>
{%- else %}{{ event.number }}{% endif %}</td>
<td class="number">{{ event.onset }}</td><td class="number">{{ event.duration }}</td>
<td class="number">{{ event.confidence }}</td>{% if with_reference %}<td>{{ event.met }}</td>{% endif %}
<td>{{ event.channels or ("not explained" if explained else "all") }}</td></tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>No seizure was detected.</p>
{% endif %}
{% if with_reference %}
<h3>Reference events</h3>
{% if references %}
<table>
<thead><tr><th class="number">No.</th><th class="number">Onset</th><th class="number">Duration</th>
<th>Overlapping detections</th><th class="number">First of them, from the onset</th></tr></thead>
<tbody>
{% for one in references %}
<tr><td class="number">{{ one.number }}</td><td class="number">{{ one.onset }}</td>
<td class="number">{{ one.duration }}</td><td>{{ one.met }}</td><td class="number">{{ one.late }}</td></tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>The reference has no seizure in this recording.</p>
{% endif %}
{% endif %}
</section>

{% if shown %}
<section>
<h2>The signal around each onset</h2>
{% if left_out %}
<p class="quiet">The {{ most }} detections of the highest confidence are shown; {{ left_out }} more
{{ "is" if left_out == 1 else "are" }} in the table alone.</p>
{% endif %}
{% for event in shown %}
<article class="event" id="event-{{ event.number }}">
<h3>{{ event.number }}. Onset {{ event.onset }}, {{ event.duration }}</h3>
<figure>
<img src="{{ event.excerpt }}" alt="Signal around the onset of detection {{ event.number }}">
<figcaption>{{ event.channels }}.</figcaption>
</figure>
{% if event.explanation %}
<figure>
<img src="{{ event.explanation }}"
 alt="Attention behind detection {{ event.number }} by channel and time; the probability without each of its terms">
<figcaption>What the last segment of the window {{ event.window }} read.</figcaption>
</figure>
{% endif %}
</article>
{% endfor %}
</section>
{% endif %}

{% if scores %}
<section>
<h2>Scores against the reference</h2>
<table>
<thead><tr>
{% for cell in scores.head %}
<th{% if not loop.first %} class="number"{% endif %}>{{ cell }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in scores.rows %}
<tr>{% for cell in row %}<td{% if not loop.first %} class="number"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
<p class="quiet">{{ scores.about }} n/a: no meaning here.</p>
</section>
{% endif %}

<section class="read">
<h2>How to read this page</h2>
<dl>
<dt>Probability</dt>
<dd>The network reads {{ reads }} s of all channels and says how probable a seizure is in the last {{ span }} s of them.
It has no answer where too little was recorded, nor before the first {{ reads }} s are complete: shaded grey.</dd>
<dt>Detection and confidence</dt>
<dd>A detection begins where the probability, after the smoothing that the provenance names, reaches the threshold.
Its onset is as exact as the windows' step. The confidence is the highest smoothed probability within; it is no measured
rate of being right.</dd>
<dt>Signal</dt>
<dd>As the network read it, after preparation; dark bands are the range within each pixel. All channels have one
scale, and peaks that would reach far over their neighbours are cut.</dd>
{% if explained %}
<dt>Attention</dt>
<dd>The share of its reading that the last segment gave to each channel and each earlier segment. It tells what was
read, not where a seizure begins, and a channel that was hardly read may matter. The dotted line is where every channel
would be if all were read alike.</dd>
<dt>Probability without a term</dt>
<dd>The network asked again with a part of its attention left out: what the segments contain, how long ago they were,
or how far apart channels stand in the list. A large change says that the answer leaned on that part.</dd>
{% if occluded %}
<dt>Lost without it</dt>
<dd>How much lower the probability is if nobody may read that channel; negative if it is higher.</dd>
{% endif %}
{% endif %}
{% if with_reference %}
<dt>Reference</dt>
<dd>Events of an expert, or of whatever table was given for it. The tables compare plain overlap{% if scores %}; the
scores have tolerances of their own{% endif %}.</dd>
{% endif %}
</dl>
</section>

<details>
<summary>Provenance</summary>
<div>
{% for name, rows in provenance %}
<table>
<thead><tr><th colspan="2">{{ name }}</th></tr></thead>
<tbody>
{% for key, value in rows %}
<tr>{% if key %}<td>{{ key }}</td><td>{{ value }}</td>{% else %}<td colspan="2">{{ value }}</td>{% endif %}</tr>
{% endfor %}
</tbody>
</table>
{% else %}
<p>Nothing was told.</p>
{% endfor %}
</div>
</details>

<footer>
<p class="notice" role="note">{{ notice }}{% if seen %} {{ seen }}{% endif %}</p>
<p class="quiet">Written by tsattn {{ version }}.</p>
</footer>
</main>
</body>
</html>
"""
