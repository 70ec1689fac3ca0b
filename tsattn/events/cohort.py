"""Scores of many recordings: per recording, per subject, mean over subjects, pooled, with bootstrap intervals.

Aggregation as in szcore-evaluation (a3708b8): counts of a subject's recordings are summed, then scored; then mean and
standard deviation over subjects, without those in whom a number has no meaning. Pooled: counts of all are summed.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from tsattn.events.counting import COUNTS, Rules, find_rules
from tsattn.events.score import METRICS, Score, measure, median, plain, score_events

Scored = tuple[str, pd.DataFrame, pd.DataFrame | None, float]  # subject, reference, hypothesis, duration in s
INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True)
class Scores:
    """What many recordings were scored.

    Attributes:
        rules: By which they were.
        scores: Of each recording, by its name.
        subject_of: The subject of each recording.
        bootstrap: How many times subjects were drawn with replacement; 0 for no intervals.
        seed: Random seed of the bootstrap.
    """

    rules: Rules
    scores: dict[str, Score]
    subject_of: dict[str, str]
    bootstrap: int = 2000
    seed: int = 0

    @cached_property
    def per_recording(self) -> pd.DataFrame:
        """One row a recording: subject, counts, metrics."""
        rows = [score.counts | score.metrics for score in self.scores.values()]
        table = pd.DataFrame(rows, index=pd.Index(self.scores, name="recording"))
        table.insert(0, "subject", [self.subject_of[name] for name in self.scores])
        return table

    @cached_property
    def per_subject(self) -> pd.DataFrame:
        """One row a subject: number of recordings, sums of counts, metrics of these."""
        by = self.per_recording.groupby("subject")
        counts = by[list(COUNTS)].sum()
        table = counts.assign(**measure(_arrays(counts)), latency=[median(late) for late in self._latency.values()])
        table.insert(0, "recordings", by.size())
        return table

    @cached_property
    def over_subjects(self) -> pd.DataFrame:
        """One row a metric: mean and standard deviation over subjects, interval of the mean, number of subjects."""
        values = self.per_subject[list(METRICS)].to_numpy(float)
        table = pd.DataFrame(_mean_sd(values), index=["mean", "sd"], columns=list(METRICS)).T
        draws = np.stack([_mean_sd(values[drawn])[0] for drawn in self._draws]) if len(self._draws) else None
        table["low"], table["high"] = _interval(draws)
        table["subjects"] = np.isfinite(values).sum(0)
        return table.rename_axis("metric")

    @cached_property
    def pooled(self) -> pd.DataFrame:
        """One row a metric: value over all recordings, interval over subjects."""
        counts = self.per_subject[list(COUNTS)].to_numpy(float)
        late = list(self._latency.values())
        everyone = np.arange(len(counts))[None]
        table = pd.DataFrame({"value": _pool(counts, late, everyone)[0]}, index=pd.Index(METRICS, name="metric"))
        table["low"], table["high"] = _interval(_pool(counts, late, self._draws) if len(self._draws) else None)
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON (None for NaN), with the rules, their version and what the draws came from."""
        about = {"interval": "bootstrap over subjects, percentiles 2.5 and 97.5", "draws": len(self._draws)}
        return {
            "rules": self.rules.to_dict(),
            "bootstrap": about | {"seed": self.seed},
            "pooled": _records(self.pooled),
            "over_subjects": _records(self.over_subjects),
            "per_subject": _records(self.per_subject),
            "per_recording": _records(self.per_recording),
        }

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"

    def to_xarray(self) -> xr.Dataset:
        """Return counts and metrics with the dimension `recording`, and the subject as a second coordinate of it."""
        data = xr.Dataset.from_dataframe(self.per_recording).set_coords("subject")
        return data.assign_attrs(rules=json.dumps(self.rules.to_dict()))

    def __str__(self) -> str:
        total = self.per_subject[list(COUNTS)].sum()
        head = (
            f"{self.rules.version}\n"
            f"{_many(len(self.scores), 'recording')} of {_many(len(self.per_subject), 'subject')}, "
            f"{total['seconds'] / 3600:.2f} h; {_many(int(total['reference']), 'reference event')}, "
            f"{int(total['true_positive'])} found; {_many(int(total['false_positive']), 'false detection')}\n"
        )
        pooled, subjects = self.pooled, self.over_subjects
        rows = [("", "pooled", "95 % interval", "mean ± sd of subjects", "95 % interval")]
        for name in METRICS:
            a, b = (dict(zip(table.columns, table.loc[name], strict=True)) for table in (pooled, subjects))
            mean = f"{_short(b['mean'])} ± {_short(b['sd'])}"
            rows.append((name, _short(a["value"]), _between(a), mean, _between(b)))
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        notes = ["latency in s, negative if early; fp_per_day and sample_fp_per_day per 24 h. n/a: no meaning here."]
        if len(self.per_subject) < 2:
            notes.append("No intervals: they are drawn over subjects, and there is one.")
        return head + "\n" + "\n".join(lines) + "\n\n" + "\n".join(notes)

    @cached_property
    def _latency(self) -> dict[str, np.ndarray]:
        late: dict[str, list[float]] = {}
        for name in sorted(self.scores, key=lambda name: self.subject_of[name]):
            late.setdefault(self.subject_of[name], []).extend(self.scores[name].latency)
        return {subject: np.array(values) for subject, values in late.items()}

    @cached_property
    def _draws(self) -> np.ndarray:
        subjects = len(self.per_subject)
        draws = 0 if subjects < 2 else self.bootstrap
        return np.random.default_rng(self.seed).integers(subjects, size=(draws, subjects))


def score_recordings(
    recordings: Mapping[str, Scored],
    rules: Rules | str = "szcore",
    *,
    outside: Literal["raise", "clip"] = "raise",
    bootstrap: int = 2000,
    seed: int = 0,
) -> Scores:
    """Score many recordings of several subjects.

    Args:
        recordings: By the recording's name: subject, reference, hypothesis, duration in seconds. A recording in which
            nothing was found has a hypothesis without rows; one without a hypothesis is an error.
        rules: As in `score_events`.
        outside: As in `score_events`.
        bootstrap: How many times subjects are drawn with replacement for the 95 % intervals; 0 for none.
        seed: Random seed of the bootstrap.

    Raises:
        ValueError: If there is no recording, one has no hypothesis, or a table is wrong; the recording is named.
    """
    rules = find_rules(rules)
    if not recordings:
        raise ValueError("There is no recording to score, expected at least one.")
    missing = [name for name, (_, _, hypothesis, _) in recordings.items() if hypothesis is None]
    if missing:
        more = f" and {_many(len(missing) - 1, 'more recording')}" if len(missing) > 1 else ""
        raise ValueError(
            f"There is no prediction for {missing[0]}{more}: a missing prediction is an error, not 'no seizure'. "
            "If nothing was found, give a table without rows (in a file: a bckg row)."
        )
    scores = {}
    for name, (_, reference, hypothesis, duration) in recordings.items():
        assert hypothesis is not None
        try:
            scores[name] = score_events(reference, hypothesis, duration, rules, outside=outside)
        except ValueError as problem:
            raise ValueError(f"{name}: {problem}") from problem
    return Scores(rules, scores, {name: scored[0] for name, scored in recordings.items()}, bootstrap, seed)


def _arrays(counts: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: counts[name].to_numpy(float) for name in COUNTS}


def _pool(counts: np.ndarray, late: list[np.ndarray], draws: np.ndarray) -> np.ndarray:
    """Metrics of the summed counts of each draw of subjects, (draw, metric)."""
    summed = counts[draws].sum(1)
    metrics = measure({name: summed[:, i] for i, name in enumerate(COUNTS)})
    latency = [median(np.concatenate([late[i] for i in drawn])) for drawn in draws]
    return np.stack([*metrics.values(), np.array(latency)], axis=1)


def _mean_sd(values: np.ndarray) -> np.ndarray:
    """Mean and standard deviation (over n, as nanstd) of the finite values of each column; NaN of none."""
    known = np.isfinite(values)
    count = known.sum(0)
    nothing = np.full(values.shape[1], np.nan)
    mean = np.divide(np.where(known, values, 0).sum(0), count, out=nothing.copy(), where=count > 0)
    spread = np.where(known, values - mean, 0) ** 2
    return np.stack([mean, np.sqrt(np.divide(spread.sum(0), count, out=nothing.copy(), where=count > 0))])


def _interval(draws: np.ndarray | None) -> tuple[Any, Any]:
    if draws is None:
        return math.nan, math.nan
    ends = np.full((2, draws.shape[1]), np.nan)
    for i, column in enumerate(draws.T):
        known = column[np.isfinite(column)]
        if len(known):
            ends[:, i] = np.percentile(known, INTERVAL)
    return ends[0], ends[1]


def _records(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    def value(cell: Any) -> Any:
        return cell if isinstance(cell, str) else plain(float(cell))

    return {str(row): {str(name): value(cell) for name, cell in cells.items()} for row, cells in table.iterrows()}


def _short(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}" if abs(value) < 100 else f"{value:.0f}"


def _between(row: dict[str, float]) -> str:
    return "n/a" if math.isnan(row["low"]) else f"{_short(row['low'])} to {_short(row['high'])}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
