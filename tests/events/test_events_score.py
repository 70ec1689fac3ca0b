"""The scores agree with timescoring 0.0.7 on its golden cases, and with answers that can be counted by hand."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import ROOT, SHARED

from tsattn.events.counting import BIN, Rules
from tsattn.events.score import METRICS, Score, measure, plain, score_events
from tsattn.events.table import make_events, no_events

GOLDEN = SHARED / "parity" / "szcore" / "szcore_golden.json"
PARAMETERS = {
    "toleranceStart": "tolerance_start",
    "toleranceEnd": "tolerance_end",
    "minOverlap": "min_overlap",
    "maxEventDuration": "max_duration",
    "minDurationBetweenEvents": "merge_gap",
}
KEYS = "refTrue tp fp sensitivity precision f1 fpRate".split()


def events(pairs: list | np.ndarray) -> pd.DataFrame:
    pairs = np.array(pairs, float).reshape(-1, 2)
    return make_events(pairs[:, 0], pairs[:, 1] - pairs[:, 0])


def as_timescoring(score: Score) -> tuple[dict, dict]:
    metrics = {name: plain(value) for name, value in score.metrics.items()}
    by_event = [score.counts[name] for name in ("reference", "true_positive", "false_positive")]
    by_event += [metrics[name] for name in ("sensitivity", "precision", "f1_event", "fp_per_day")]
    by_sample = [score.counts[f"sample_{name}"] for name in ("reference", "true_positive", "false_positive")]
    by_sample += [metrics[f"sample_{name}"] for name in ("sensitivity", "precision", "f1", "fp_per_day")]
    return dict(zip(KEYS, by_event, strict=True)), dict(zip(KEYS, by_sample, strict=True))


@pytest.fixture(scope="module")
def golden() -> list[dict]:
    if not GOLDEN.is_file():
        pytest.skip(f"no {GOLDEN}: set TSATTN_SHARED to compare with timescoring")
    return json.loads(GOLDEN.read_text())["cases"]


def test_every_golden_case_of_timescoring_is_met_to_the_last_bit(golden: list[dict]):
    assert len(golden) == 315
    for case in golden:
        rules = Rules(**{PARAMETERS[name]: value for name, value in case["params"].items()})
        score = score_events(events(case["ref"]), events(case["hyp"]), float(case["duration"]), rules)
        assert as_timescoring(score) == (case["event"], case["sample"]), case["name"]


def test_the_order_of_events_does_not_matter(golden: list[dict]):
    draw = np.random.default_rng(0)
    for case in golden[:60]:
        ref, hyp = (draw.permutation(np.array(case[key], float).reshape(-1, 2)) for key in ("ref", "hyp"))
        shuffled = score_events(events(ref)[::-1], events(hyp)[::-1], float(case["duration"]))
        assert shuffled.counts == score_events(events(case["ref"]), events(case["hyp"]), float(case["duration"])).counts


def test_an_event_inside_another_changes_no_count():
    """Timescoring cuts the outer event at the inner one's end when it joins them."""
    outer, nested = [[600, 900]], [[600, 900], [650, 660]]
    late = events([[880, 890]])
    assert score_events(events(nested), late, 3600.0).counts == score_events(events(outer), late, 3600.0).counts
    assert score_events(late, events(nested), 3600.0).counts == score_events(late, events(outer), 3600.0).counts


def brute_force(reference: pd.DataFrame, hypothesis: pd.DataFrame, duration: float) -> dict[str, int]:
    """Counts of the bins by looking at every one of them."""
    counts = dict.fromkeys(("true_positive", "false_positive", "false_negative", "true_negative"), 0)
    for begin in np.arange(0, duration, BIN):
        end = min(begin + BIN, duration)
        touched = [
            any(row.onset < end and row.onset + row.duration > begin for row in table.itertuples())
            for table in (reference, hypothesis)
        ]
        counts[("true_" if touched[0] == touched[1] else "false_") + ("positive" if touched[1] else "negative")] += 1
    return counts


def test_bins_are_counted_as_by_looking_at_every_one():
    draw = np.random.default_rng(1)
    for _ in range(40):
        duration = float(draw.integers(20, 400))
        ref, hyp = (np.sort(draw.integers(0, int(duration), (draw.integers(0, 4), 2)), axis=1) for _ in range(2))
        ref, hyp = events(ref[ref[:, 1] > ref[:, 0]]), events(hyp[hyp[:, 1] > hyp[:, 0]])
        score = score_events(ref, hyp, duration)
        counted = {name.removeprefix("bin_"): value for name, value in score.counts.items() if name.startswith("bin_")}
        assert counted == brute_force(ref, hyp, duration)


def test_kappa_and_f1_of_a_table_that_is_in_every_textbook():
    """Cohen's own kind of example: 20 and 15 agree, 5 and 10 do not: observed 0.7, by chance 0.5, kappa 0.4."""
    reference = events([[0, 150]])  # 30 of 50 bins
    hypothesis = events([[50, 175]])  # 20 right, 5 false; 10 missed, 15 rightly left
    score = score_events(reference, hypothesis, 250.0)
    assert score.counts["bin_true_positive"] == 20
    assert score.counts["bin_false_positive"] == 5
    assert score.counts["bin_false_negative"] == 10
    assert score.metrics["kappa_5s"] == pytest.approx(0.4)
    assert score.metrics["f1_5s"] == pytest.approx(40 / 55)


def test_an_event_that_ends_where_a_bin_begins_does_not_touch_it():
    counts = score_events(events([[5, 10]]), events([[5, 10.001]]), 12.0).counts
    assert (counts["bin_true_positive"], counts["bin_false_positive"], counts["bin_true_negative"]) == (1, 1, 1)


def test_numbers_without_a_meaning_are_nan():
    nothing = score_events(no_events(), no_events(), 3600.0).metrics
    assert {name for name in METRICS if np.isnan(nothing[name])} == set(METRICS) - {
        "fp_per_day",
        "fp_per_hour",
        "sample_fp_per_day",
    }
    only_false = score_events(no_events(), events([[100, 110]]), 3600.0).metrics
    assert np.isnan(only_false["sensitivity"])
    assert (only_false["precision"], only_false["f1_event"], only_false["fp_per_hour"]) == (0.0, 0.0, 1.0)
    assert only_false["fp_per_day"] == 24.0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "latency"),
    [
        ([[600, 660]], [[612.5, 630]], (12.5,)),
        ([[600, 660]], [[575, 630]], (-25.0,)),  # early
        ([[600, 660]], [[575, 580], [620, 630]], (-25.0,)),  # the first that overlaps, tolerance included
        ([[600, 660]], [[560, 570], [640, 650]], (40.0,)),  # ends where the tolerance begins: is none
        ([[600, 1320]], [[610, 640], [1200, 1300]], (10.0,)),  # cut into three for the counts, one for the latency
        ([[600, 620], [720, 740]], [[600, 740]], (0.0, -120.0)),  # one detection of two references
        ([[600, 660], [2000, 2060]], [[2003, 2010]], (3.0,)),  # a missed reference has none
    ],
)
def test_latency_runs_from_a_references_onset_to_its_first_detection(
    reference: list, hypothesis: list, latency: tuple[float, ...]
):
    assert score_events(events(reference), events(hypothesis), 3600.0).latency == pytest.approx(latency)


def test_every_result_carries_the_rules_and_their_version():
    told = json.loads(json.dumps(score_events(no_events(), no_events(), 60.0).to_dict(), allow_nan=False))
    assert told["rules"]["version"] == "szcore-0.0.6+: a detection is false only if wholly outside"
    assert told["rules"]["merge_gap"] == 90.0
    assert told["metrics"]["sensitivity"] is None


def test_what_cannot_be_scored_is_refused():
    with pytest.raises(ValueError, match=r"reference: the seizure at 5 s has no duration"):
        score_events(make_events([5.0], [0.0]), no_events(), 60.0)
    with pytest.raises(ValueError, match=r"hypothesis: Event row 0 .* an end at 70 s, after the recording's"):
        score_events(no_events(), events([[50, 70]]), 60.0)
    with pytest.raises(ValueError, match="no rules 'nedc'"):
        score_events(no_events(), no_events(), 60.0, "nedc")
    with pytest.raises(ValueError, match="max_duration is 0, expected above 0"):
        Rules(max_duration=0.0)
    clipped = score_events(no_events(), events([[50, 70]]), 60.0, outside="clip")
    assert clipped.counts["sample_false_positive"] == 10


def test_rows_that_are_no_seizures_are_left_aside():
    noise = make_events([5, 20], [500, 0], ["annotation", "annotation"])
    assert score_events(noise, noise, 600.0).counts == score_events(no_events(), no_events(), 600.0).counts


def test_a_month_is_scored_without_a_sample_array():
    draw = np.random.default_rng(2)
    onset = np.sort(draw.uniform(0, 30 * 86400 - 60, 2000))
    length = np.full(2000, 30.0)
    score = score_events(make_events(onset, length), make_events(onset + 1, length), 30 * 86400.0)
    assert score.metrics["sensitivity"] == 1.0
    assert score.counts["false_positive"] == 0
    assert max(score.latency) == pytest.approx(1.0)


def test_measures_of_arrays_are_those_of_their_rows():
    draw = np.random.default_rng(3)
    names = list(score_events(no_events(), no_events(), 60.0).counts)
    table = {name: draw.integers(0, 3, 50).astype(float) for name in names}
    together = measure(table)
    for i, name in itertools.product(range(50), together):
        alone = measure({key: np.float64(values[i]) for key, values in table.items()})[name]
        assert together[name][i] == pytest.approx(float(alone), nan_ok=True)


def test_scoring_loads_neither_torch_nor_mne(tmp_path: Path):
    code = "import sys, tsattn.events.score, tsattn.events.cohort, tsattn.events.fit, tsattn.events.files; "
    code += "print([m for m in ('torch', 'mne', 'edfio', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"
