"""Choose the post-processing on validation recordings: every setting of a small grid is scored by its events' F1."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tsattn.events.counting import Counts, Rules, count_bins, count_events, find_rules, to_spans
from tsattn.events.detect import PostProcessing, Probability, to_events
from tsattn.events.score import measure

GRID: dict[str, tuple[float, ...]] = {
    "smoothing": (0.0, 15.0, 30.0),
    "threshold": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "low": (0.7, 1.0),  # as a share of the threshold
    "merge_gap": (0.0, 30.0),
    "min_duration": (0.0, 10.0, 20.0),
}


@dataclass(frozen=True)
class Fitted:
    """What a search found.

    Attributes:
        best: The setting to save with the model.
        table: One row a setting, best first: the settings, `f1_event`, `sensitivity`, `precision`, `fp_per_hour`,
            `f1_5s`, pooled over the recordings.
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
    **where: Any,
) -> Fitted:
    """Search the setting with the highest pooled F1 of events; among equals fewer false detections, then F1 of bins.

    Use validation subjects only: a setting that saw the test subjects flatters their scores.

    Args:
        probabilities: By the recording's name; see `to_events`.
        references: Events of the expert, by the recording's name.
        durations: Of the recordings, seconds.
        hop: As in `to_events`, and so for `where`: span, offset, begin.
        grid: Values to try; names not in it keep those of `GRID`. `low` is a share of the threshold.
        rules: Of the score.
        where: More arguments of `to_events`.

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
    if not any(len(begin) for begin, _ in expert.values()):
        raise ValueError("No validation recording holds a seizure: without one no threshold can be chosen.")

    rows = []
    for smoothing, threshold, low, merge_gap, min_duration in itertools.product(*(GRID | dict(grid or {})).values()):
        setting = PostProcessing(smoothing, threshold, low * threshold, merge_gap, min_duration)
        counts: Counts = {}
        for name, probability in probabilities.items():
            events = to_events(probability, hop, duration=durations[name], **where, **setting.to_dict())  # type: ignore[arg-type]
            onset = events["onset"].to_numpy(float)
            found = onset, onset + events["duration"].to_numpy(float)
            scored = count_events(expert[name], found, durations[name], rules)
            for key, value in (scored | count_bins(expert[name], found, durations[name])).items():
                counts[key] = counts.get(key, 0) + value
        rows.append({**setting.to_dict(), **_metrics(counts)})
    table = pd.DataFrame(rows)
    order = table.fillna({"f1_event": 0.0, "f1_5s": 0.0}).sort_values(
        ["f1_event", "fp_per_hour", "f1_5s"], ascending=[False, True, False], kind="stable"
    )
    table = table.loc[order.index].reset_index(drop=True)
    best = {str(name): float(value) for name, value in table.iloc[0][list(GRID)].items()}
    return Fitted(PostProcessing.from_dict(best), table, rules)


def _metrics(counts: Counts) -> dict[str, float]:
    absent = dict.fromkeys(("sample_reference", "sample_true_positive", "sample_false_positive", "sample_seconds"), 0)
    metrics = measure({name: np.float64(value) for name, value in (counts | absent).items()})
    return {name: float(metrics[name]) for name in ("f1_event", "sensitivity", "precision", "fp_per_hour", "f1_5s")}
