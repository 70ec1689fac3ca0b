"""Choose the post-processing on validation recordings: every setting of a small grid is scored by its events' F1.

F1 of events alone can be gamed where seizures are frequent: SzCORE cuts a detection of hours into pieces of 300 s and
counts every piece that touches a seizure as right. So a setting must not flag much more time than there is to find.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsattn.events import spans
from tsattn.events.counting import Counts, Rules, Spans, count_bins, count_events, find_rules, to_spans
from tsattn.events.detect import PostProcessing, Probability, hysteresis, smooth, stretches, windows
from tsattn.events.score import measure
from tsattn.events.table import SAME_TIME

GRID: dict[str, tuple[float, ...]] = {
    "smoothing": (0.0, 15.0, 30.0),
    "threshold": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "low": (0.7, 1.0),  # as a share of the threshold
    "merge_gap": (0.0, 30.0),
    "min_duration": (0.0, 10.0, 20.0),
}
FLAGGED = 3.0  # times the time in seizures, and their tolerances once: what a setting may flag; our own limit


@dataclass(frozen=True)
class Fitted:
    """What a search found.

    Attributes:
        best: The setting to save with the model.
        table: One row a setting, best first: the settings, `f1_event`, `sensitivity`, `precision`, `fp_per_hour`,
            `f1_5s`, pooled over the recordings, and `flagged`, the share of all time that its events take, joined as
            the rules join them. Settings that flag too much come last.
        rules: By which they were scored.
    """

    best: PostProcessing
    table: pd.DataFrame
    rules: Rules

    def to_dict(self) -> dict[str, Any]:
        """Return the best setting, what it scored, and by which rules, as plain data."""
        scored = {name: float(self.table.iloc[0][name]) for name in ("f1_event", "fp_per_hour", "f1_5s")}
        return {"setting": self.best.to_dict(), "scored": scored, "rules": self.rules.to_dict()}


def fit_postprocessing(
    probabilities: Mapping[str, Probability],
    references: Mapping[str, pd.DataFrame],
    durations: Mapping[str, float],
    hop: float | None = None,
    *,
    grid: Mapping[str, Sequence[float]] | None = None,
    rules: Rules | str = "szcore",
    span: float | None = None,
    offset: float = 0.0,
    begin: float = 0.0,
) -> Fitted:
    """Search the setting with the highest pooled F1 of events; among equals fewer false detections, then F1 of bins.

    Only settings are chosen whose events take at most `FLAGGED` times the time of the expert's seizures, plus for each
    seizure the tolerance that the rules grant before and after it (90 s of SzCORE). If none keeps to that, all are.

    Use validation subjects only: a setting that saw the test subjects flatters their scores.

    Args:
        probabilities: By the recording's name; see `to_events`.
        references: Events of the expert, by the recording's name.
        durations: Of the recordings, seconds.
        hop: As in `to_events`, and so for `span`, `offset` and `begin`.
        grid: Values to try; names not in it keep those of `GRID`. `low` is a share of the threshold.
        rules: Of the score.
        span: See `to_events`.
        offset: See there.
        begin: See there.

    Raises:
        ValueError: If the recordings differ between the mappings, or no reference holds a seizure.
    """
    rules = find_rules(rules)
    for what, given in (("reference", references), ("duration", durations)):
        unlike = sorted(set(probabilities) ^ set(given))
        if unlike:
            raise ValueError(f"{unlike[0]} has a probability or a {what}, but not both.")
    unknown = sorted(set(grid or {}) - set(GRID))
    if unknown:
        raise ValueError(f"There is no setting {unknown[0]!r} to search, expected {', '.join(GRID)}.")
    expert = {name: to_spans(references[name], f"reference of {name}", durations[name]) for name in probabilities}
    if not any(len(onset) for onset, _ in expert.values()):
        raise ValueError("No validation recording holds a seizure: without one no threshold can be chosen.")
    tolerance = rules.tolerance_start + rules.tolerance_end
    real = [spans.join(*events, rules.merge_gap) for events in expert.values()]
    most = sum(FLAGGED * float((end - onset).sum()) + tolerance * len(onset) for onset, end in real)
    whole = sum(durations[name] for name in probabilities)

    every = GRID | dict(grid or {})
    searched = [
        _search(probability, hop, every, durations[name], span, offset, begin)
        for name, probability in probabilities.items()
    ]
    rows, too_much = [], []
    for found in zip(*searched, strict=True):
        counts: Counts = {}
        flagged = 0.0
        for name, (_, (onset, end)) in zip(probabilities, found, strict=True):
            scored = count_events(expert[name], (onset, end), durations[name], rules)
            for key, value in (scored | count_bins(expert[name], (onset, end), durations[name])).items():
                counts[key] = counts.get(key, 0) + value
            onset, end = spans.join(onset, end, rules.merge_gap)
            flagged += float((end - onset).sum())
        setting = found[0][0]
        rows.append({**setting.to_dict(), **_metrics(counts), "flagged": flagged / whole})
        too_much.append(flagged > most + SAME_TIME)
    table = pd.DataFrame(rows)
    order = table.fillna({"f1_event": 0.0, "f1_5s": 0.0}).assign(too_much=too_much)
    by = ["too_much", "f1_event", "fp_per_hour", "f1_5s"]
    order = order.sort_values(by, ascending=[True, False, True, False], kind="stable")
    table = table.loc[order.index].reset_index(drop=True)
    best = {str(name): float(value) for name, value in table.iloc[0][list(GRID)].items()}
    return Fitted(PostProcessing.from_dict(best), table, rules)


def _search(
    probability: Probability,
    hop: float | None,
    grid: Mapping[str, Sequence[float]],
    duration: float,
    span: float | None,
    offset: float,
    begin: float,
) -> Iterator[tuple[PostProcessing, Spans]]:
    """Give the begins and ends of a recording's events for each setting; those of `to_events`, without its tables."""
    times, values, hop = windows(probability, hop, begin)
    span = hop if span is None else span
    if not span > 0:
        raise ValueError(f"span is {span:g} s, expected above 0.")
    stretch = stretches(times, np.isnan(values), hop)
    for smoothing in grid["smoothing"]:
        PostProcessing(smoothing)  # refuses what is out of range
        smoothed = smooth(values, stretch, math.floor(smoothing / hop / 2 + 1e-9))
        for threshold, low in itertools.product(grid["threshold"], grid["low"]):
            first, last = hysteresis(smoothed, stretch, threshold, low * threshold)
            onset, end = times[first] + offset, times[last] + offset + span
            torn = stretch[first[1:]] != stretch[last[:-1]]
            for merge_gap in grid["merge_gap"]:
                apart = (onset[1:] - end[:-1] >= merge_gap - SAME_TIME) | torn
                begins, ends = onset[np.r_[True, apart][: len(onset)]], end[np.r_[apart, True][: len(end)]]
                ends[:-1] = np.minimum(ends[:-1], begins[1:])
                begins, ends = np.maximum(begins, 0), np.minimum(ends, duration)
                for min_duration in grid["min_duration"]:
                    long = (ends - begins >= min_duration - SAME_TIME) & (ends > begins)
                    setting = PostProcessing(smoothing, threshold, low * threshold, merge_gap, min_duration)
                    yield setting, (begins[long], ends[long])


def _metrics(counts: Counts) -> dict[str, float]:
    absent = dict.fromkeys(("sample_reference", "sample_true_positive", "sample_false_positive", "sample_seconds"), 0)
    metrics = measure({name: np.float64(value) for name, value in (counts | absent).items()})
    return {name: float(metrics[name]) for name in ("f1_event", "sensitivity", "precision", "fp_per_hour", "f1_5s")}
