"""Counting for the scores: rules, and what of two lists of seizures is right, false or missed. Arithmetic on spans.

The rules are SzCORE's (Dan et al., 2024, doi 10.1111/epi.18113) as the package timescoring 0.0.7 counts them; it is
not needed here. Two of its traps are closed: events may come unsorted and nested. Its rule changed in 0.0.6 (before,
a detection was false if any part of it was outside), so rules carry a version.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from tsattn.events import spans
from tsattn.events.table import check_events, seizures

Spans = tuple[np.ndarray, np.ndarray]  # begins and ends, seconds
Counts = dict[str, float | int]

GRID = 10.0  # Hz, of the event score
SAMPLES = 1.0  # Hz, of the sample score
BIN = 5.0  # s, a segment of MVPFormer; kappa and F1 on these are our definition
ANY = 1e-6  # a share above the smallest wanted, as in timescoring


@dataclass(frozen=True)
class Rules:
    """The parameters of the event score.

    Attributes:
        tolerance_start: Seconds before a reference event in which a detection counts.
        tolerance_end: Seconds after it.
        min_overlap: Share of the extended reference that must be detected; 0 is any overlap.
        max_duration: Longer events are cut into pieces of so many seconds; every piece counts.
        merge_gap: Events less than so many seconds apart are one.
        whole_seconds: Whether times and the recording's duration are cut to whole seconds first, and events of no
            whole second are left out, as the package szcore-evaluation does (masks at 1 Hz).
    """

    tolerance_start: float = 30.0
    tolerance_end: float = 60.0
    min_overlap: float = 0.0
    max_duration: float = 300.0
    merge_gap: float = 90.0
    whole_seconds: bool = False

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if (name != "whole_seconds" and not (math.isfinite(value) and value >= 0)) or (
                name == "max_duration" and value == 0
            ):
                raise ValueError(
                    f"{name} is {value:g}, expected {'above 0' if name == 'max_duration' else '0 or more'}."
                )

    @property
    def version(self) -> str:
        """What numbers must have in common to be compared, besides the parameters."""
        rule = "szcore-0.0.6+: a detection is false only if wholly outside"
        return f"{rule}; whole seconds" if self.whole_seconds else rule

    def to_dict(self) -> dict[str, Any]:
        """Return version and parameters as plain data."""
        return {"version": self.version, **asdict(self)}


RULES = {"szcore": Rules(), "szcore-1s": Rules(whole_seconds=True)}
COUNTS = (
    "reference true_positive false_positive seconds "
    "sample_reference sample_true_positive sample_false_positive sample_seconds "
    "bin_true_positive bin_false_positive bin_false_negative bin_true_negative"
).split()


def find_rules(rules: Rules | str) -> Rules:
    """Return rules by their name."""
    if isinstance(rules, Rules):
        return rules
    if rules not in RULES:
        raise ValueError(f"There are no rules {rules!r}, expected one of {', '.join(RULES)}, or a `Rules` of your own.")
    return RULES[rules]


def to_spans(table: pd.DataFrame, name: str, duration: float, outside: Literal["raise", "clip"] = "raise") -> Spans:
    """Return begins and ends of the seizures of a table, checked.

    Args:
        table: Events.
        name: What errors call the table.
        duration: Of the recording, seconds.
        outside: See `check_events`.
    """
    try:
        events = seizures(check_events(table, duration, overlapping="keep", outside=outside))
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from problem
    onset, length = events["onset"].to_numpy(float), events["duration"].to_numpy(float)
    if not (length > 0).all():
        raise ValueError(
            f"{name}: the seizure at {onset[length == 0][0]:g} s has no duration, expected more than 0 s: "
            "a mark cannot be scored."
        )
    return onset, onset + length


def to_seconds(events: Spans, duration: float) -> Spans:
    """Cut spans to whole seconds; those that touch then are one, and what covers no whole second is gone."""
    begin, end = (np.minimum(np.floor(times), np.floor(duration)) for times in events)
    lasting = end > begin
    return spans.join(begin[lasting], end[lasting], 0.5)


def count_events(reference: Spans, hypothesis: Spans, duration: float, rules: Rules) -> Counts:
    """Count references, those that were found, and false detections; see `score_events`."""
    samples = round(duration * GRID)
    expert = spans.split(*spans.join(*reference, rules.merge_gap), rules.max_duration)
    found = spans.split(*spans.join(*hypothesis, rules.merge_gap), rules.max_duration)
    begin, end = _extend(expert, samples / GRID, rules)
    on_grid = spans.to_grid(begin, GRID, samples), spans.to_grid(end, GRID, samples)
    found_on_grid = spans.to_grid(found[0], GRID, samples), spans.to_grid(found[1], GRID, samples)
    share = _shared(spans.join(*found_on_grid), on_grid) / GRID / np.maximum(end - begin, 1e-9)
    hit = share > rules.min_overlap + ANY
    inside = _shared(spans.join(on_grid[0][hit], on_grid[1][hit]), found_on_grid)
    return {
        "reference": len(begin),
        "true_positive": int(hit.sum()),
        "false_positive": int((inside == 0).sum()),
        "seconds": samples / GRID,
    }


def count_samples(reference: Spans, hypothesis: Spans, duration: float) -> Counts:
    """Count seconds of the reference, right ones and false ones; see `score_events`."""
    samples = round(duration * SAMPLES)
    expert, found = (
        spans.join(spans.to_grid(begin, SAMPLES, samples), spans.to_grid(end, SAMPLES, samples))
        for begin, end in (reference, hypothesis)
    )
    both = int(_shared(expert, found).sum())
    return {
        "sample_reference": int((expert[1] - expert[0]).sum()),
        "sample_true_positive": both,
        "sample_false_positive": int((found[1] - found[0]).sum()) - both,
        "sample_seconds": samples / SAMPLES,
    }


def count_bins(reference: Spans, hypothesis: Spans, duration: float) -> Counts:
    """Count stretches of 5 s by what both lists say of them; see `score_events`."""
    bins = math.ceil(duration / BIN - 1e-9)
    expert, found = (  # 1e-9: a sum of times that misses a bin's edge by rounding lies on it
        spans.join(np.floor(begin / BIN + 1e-9).astype(int), np.minimum(np.ceil(end / BIN - 1e-9), bins).astype(int))
        for begin, end in (reference, hypothesis)
    )
    both = int(_shared(expert, found).sum())
    positive, told = (int((end - begin).sum()) for begin, end in (expert, found))
    return {
        "bin_true_positive": both,
        "bin_false_positive": told - both,
        "bin_false_negative": positive - both,
        "bin_true_negative": bins - positive - told + both,
    }


def latencies(reference: Spans, hypothesis: Spans, duration: float, rules: Rules) -> tuple[float, ...]:
    """Return the latency of each reference that was found, seconds; see `score_events`."""
    expert, found = spans.join(*reference, rules.merge_gap), spans.join(*hypothesis)
    begin, end = _extend(expert, duration, rules)
    hit = _shared(found, (begin, end)) / (end - begin) > rules.min_overlap + ANY
    first = np.searchsorted(found[1], begin[hit], side="right")  # the first that ends after the extension begins
    return tuple(float(late) for late in found[0][first] - expert[0][hit])


def _extend(events: Spans, duration: float, rules: Rules) -> Spans:
    return np.maximum(events[0] - rules.tolerance_start, 0), np.minimum(events[1] + rules.tolerance_end, duration)


def _shared(cover: Spans, parts: Spans) -> np.ndarray:
    """How much of each part lies in a cover of sorted spans that do not overlap."""
    return spans.covered(*cover, parts[1]) - spans.covered(*cover, parts[0])
