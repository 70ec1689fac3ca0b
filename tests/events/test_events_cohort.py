"""Many recordings: sums within subjects, means over subjects, intervals, and no score for a missing prediction."""

import json

import numpy as np
import pandas as pd
import pytest

from tsattn.events.cohort import Scores, score_recordings
from tsattn.events.score import METRICS, score_events
from tsattn.events.table import make_events, no_events

HOUR = 3600.0


def seizures(*onset: float) -> pd.DataFrame:
    return make_events(onset, [60.0] * len(onset))


@pytest.fixture
def scores() -> Scores:
    return score_recordings(
        {
            "sub-1_run-1": ("sub-1", seizures(600.0, 1800.0), seizures(610.0), HOUR),
            "sub-1_run-2": ("sub-1", seizures(600.0), seizures(600.0, 2000.0), 2 * HOUR),
            "sub-2_run-1": ("sub-2", seizures(900.0), seizures(905.0), HOUR),
            "sub-3_run-1": ("sub-3", no_events(), seizures(50.0), HOUR),
        },
        bootstrap=500,
        seed=1,
    )


def test_a_subjects_counts_are_summed_before_they_are_scored(scores: Scores):
    one = scores.per_subject.loc["sub-1"]
    assert (one["recordings"], one["reference"], one["true_positive"], one["false_positive"]) == (2, 3, 2, 1)
    assert one["sensitivity"] == pytest.approx(2 / 3)
    assert one["fp_per_hour"] == pytest.approx(1 / 3)
    assert one["latency"] == 5.0  # of 10 and 0


def test_the_mean_over_subjects_leaves_out_those_without_a_number(scores: Scores):
    """Subject 3 has no seizure, so no sensitivity: nanmean and nanstd, as in szcore-evaluation."""
    row = scores.over_subjects.loc["sensitivity"]
    assert row["subjects"] == 2
    assert row["mean"] == pytest.approx(np.mean([2 / 3, 1]))
    assert row["sd"] == pytest.approx(np.std([2 / 3, 1]))
    for name in METRICS:
        values = scores.per_subject[name].dropna()
        assert scores.over_subjects.loc[name, "mean"] == pytest.approx(values.mean())
        assert scores.over_subjects.loc[name, "sd"] == pytest.approx(values.std(ddof=0))


def test_pooled_numbers_are_those_of_all_counts_together(scores: Scores):
    pooled = scores.pooled["value"]
    assert pooled["sensitivity"] == pytest.approx(3 / 4)
    assert pooled["precision"] == pytest.approx(3 / 5)
    assert pooled["fp_per_day"] == pytest.approx(24 * 2 / 5)
    assert pooled["latency"] == 5.0


def test_intervals_hold_the_value_and_come_again_with_the_seed(scores: Scores):
    for table, name in ((scores.pooled, "value"), (scores.over_subjects, "mean")):
        known = table.dropna()
        assert len(known) == len(METRICS)
        assert (known["low"] <= known[name] + 1e-12).all()
        assert (known["high"] >= known[name] - 1e-12).all()
    again = Scores(scores.rules, scores.scores, scores.subject_of, 500, 1)
    pd.testing.assert_frame_equal(again.pooled, scores.pooled)


def test_the_interval_of_a_mean_covers_what_the_bootstrap_of_one_number_does():
    """Sensitivity is 0 or 1 in 20 subjects: the mean of draws is binomial, whose percentiles are known."""
    from scipy.stats import binom

    recordings = {
        f"r{i}": (f"s{i}", seizures(600.0), seizures(600.0) if i < 12 else no_events(), HOUR) for i in range(20)
    }
    row = score_recordings(recordings, bootstrap=4000).over_subjects.loc["sensitivity"]
    assert row["low"] == pytest.approx(binom.ppf(0.025, 20, 0.6) / 20, abs=0.051)
    assert row["high"] == pytest.approx(binom.ppf(0.975, 20, 0.6) / 20, abs=0.051)


def test_one_subject_has_no_interval_and_the_text_says_why():
    alone = score_recordings({"r": ("s", seizures(600.0), seizures(600.0), HOUR)})
    assert alone.pooled["low"].isna().all()
    assert "there is one" in str(alone)


def test_a_missing_prediction_is_an_error_that_names_the_recording():
    given = {"sub-1_run-2": ("s", seizures(600.0), None, HOUR), "sub-1_run-3": ("s", no_events(), None, HOUR)}
    with pytest.raises(ValueError, match="no prediction for sub-1_run-2 and 1 more recording: a missing prediction"):
        score_recordings(given)
    with pytest.raises(ValueError, match="no recording to score"):
        score_recordings({})
    with pytest.raises(ValueError, match="sub-9: hypothesis: Event row 0"):
        score_recordings({"sub-9": ("s", no_events(), seizures(HOUR), HOUR)})


def test_the_result_is_plain_data_with_the_rule_and_the_draws(scores: Scores):
    told = json.loads(scores.to_json())
    assert told["rules"]["version"].startswith("szcore-0.0.6+")
    assert told["bootstrap"] == {
        "interval": "bootstrap over subjects, percentiles 2.5 and 97.5",
        "draws": 500,
        "seed": 1,
    }
    assert told["per_subject"]["sub-3"]["sensitivity"] is None
    assert set(told["per_recording"]) == set(scores.scores)
    assert told["pooled"]["f1_event"]["value"] == pytest.approx(2 / 3)


def test_the_labelled_array_and_the_text_say_the_same_as_the_table(scores: Scores):
    data = scores.to_xarray()
    assert data["fp_per_hour"].sel(recording="sub-1_run-2").item() == 0.5
    assert data["subject"].values.tolist() == ["sub-1", "sub-1", "sub-2", "sub-3"]
    text = str(scores)
    assert "4 recordings of 3 subjects, 5.00 h; 4 reference events, 3 found; 2 false detections" in text
    line = next(line for line in text.splitlines() if line.startswith("sensitivity"))
    assert line.split()[1] == "0.750"
    assert "0.833 ± 0.167" in line


def test_scores_of_one_recording_are_those_of_score_events(scores: Scores):
    alone = score_events(seizures(600.0), seizures(600.0, 2000.0), 2 * HOUR)
    assert scores.scores["sub-1_run-2"] == alone
    assert scores.per_recording.loc["sub-1_run-2", "precision"] == alone.metrics["precision"]
