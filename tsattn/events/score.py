"""Scores of one recording: SzCORE's event and sample scores, kappa and F1 of 5-second bins, latency."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from tsattn.events.counting import (
    COUNTS,
    Counts,
    Rules,
    count_bins,
    count_events,
    count_samples,
    find_rules,
    latencies,
    to_seconds,
    to_spans,
)

METRICS = (
    "sensitivity precision f1_event fp_per_day fp_per_hour "
    "sample_sensitivity sample_precision sample_f1 sample_fp_per_day kappa_5s f1_5s latency"
).split()


@dataclass(frozen=True)
class Score:
    """What one recording was scored.

    Attributes:
        rules: By which it was.
        counts: By the names in `COUNTS`; sums of counts over recordings are the counts of all.
        latency: Of each detected reference, seconds; see `score_events`.
    """

    rules: Rules
    counts: Counts
    latency: tuple[float, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """The numbers by the names in `METRICS`; NaN where a number has no meaning (see `measure`)."""
        values = measure({name: np.float64(value) for name, value in self.counts.items()})
        return {name: float(value) for name, value in values.items()} | {"latency": median(self.latency)}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON: rules, counts, metrics (None for NaN), latencies."""
        metrics = {name: plain(value) for name, value in self.metrics.items()}
        return {"rules": self.rules.to_dict(), "counts": self.counts, "metrics": metrics, "latency": list(self.latency)}


def score_events(
    reference: pd.DataFrame,
    hypothesis: pd.DataFrame,
    duration: float,
    rules: Rules | str = "szcore",
    *,
    outside: Literal["raise", "clip"] = "raise",
) -> Score:
    """Compare the seizures that were found with those of an expert, in one recording.

    Events: each list is joined where gaps are under 90 s and cut into pieces of 300 s at most. A reference counts as
    found if a detection overlaps it, 30 s before and 60 s after included. A detection is false if it touches no found
    reference, so extended. Samples: seconds, `round(onset)` to `round(end)`. Bins: stretches of 5 s from the start
    (the last may be shorter), positive if an event covers a part of them; an event that ends where a bin begins does
    not touch it.

    Latency: for each found reference (joined, not cut, so that a long seizure counts once) the onset of the first
    detection that overlaps it, tolerance included, minus the reference's onset. Negative if the detection was early.

    Args:
        reference: Events of the expert; rows that are no seizures are left aside (`tsattn.events.table`).
        hypothesis: Events that were found.
        duration: Of the recording, seconds.
        rules: "szcore", "szcore-1s" (whole seconds), or other parameters.
        outside: What happens to events outside the recording; see `check_events`.

    Raises:
        ValueError: If a table is wrong, or a seizure has no duration.
    """
    rules = find_rules(rules)
    ref = to_spans(reference, "reference", duration, outside)
    hyp = to_spans(hypothesis, "hypothesis", duration, outside)
    if rules.whole_seconds:
        ref, hyp = to_seconds(ref, duration), to_seconds(hyp, duration)
        duration = float(math.floor(duration))
    counts = (
        count_events(ref, hyp, duration, rules) | count_samples(ref, hyp, duration) | count_bins(ref, hyp, duration)
    )
    return Score(rules, counts, latencies(ref, hyp, duration, rules))


def measure(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics of counts; arrays of counts give arrays.

    NaN, as in timescoring: sensitivity without a reference, precision without a detection, F1 without either. Kappa
    is NaN if reference and hypothesis agree that all bins are of one class.
    """
    metrics = dict(zip(("sensitivity", "precision", "f1_event"), _rates(counts, ""), strict=True))
    days = counts["seconds"] / 3600 / 24
    metrics["fp_per_day"] = _divide(counts["false_positive"], days)
    metrics["fp_per_hour"] = metrics["fp_per_day"] / 24
    rates = _rates(counts, "sample_")
    metrics |= dict(zip(("sample_sensitivity", "sample_precision", "sample_f1"), rates, strict=True))
    metrics["sample_fp_per_day"] = _divide(counts["sample_false_positive"], counts["sample_seconds"] / 3600 / 24)
    tp, fp, fn, tn = (counts[name] for name in COUNTS[-4:])
    bins = tp + fp + fn + tn
    agreement = _divide(tp + tn, bins)
    chance = _divide((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn), bins**2)
    metrics["kappa_5s"] = _divide(agreement - chance, 1 - chance)
    metrics["f1_5s"] = _divide(2 * tp, 2 * tp + fp + fn)
    return metrics


def median(values: tuple[float, ...] | np.ndarray) -> float:
    """Return the median; NaN of nothing."""
    return float(np.median(values)) if len(values) else math.nan


def plain(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if math.isnan(value) else float(value)


def _rates(counts: Mapping[str, Any], kind: str) -> tuple[Any, Any, Any]:
    reference, tp, fp = (counts[kind + name] for name in ("reference", "true_positive", "false_positive"))
    f1 = np.where(reference + fp == 0, np.nan, _divide(2 * tp, tp + fp + reference))
    return _divide(tp, reference), _divide(tp, tp + fp), f1


def _divide(a: Any, b: Any) -> Any:
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b != 0)
