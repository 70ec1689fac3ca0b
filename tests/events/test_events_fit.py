"""The search for post-processing: what it scores is what `to_events` finds, and flagging everything does not pay."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from tsattn.events.cohort import score_recordings
from tsattn.events.counting import Rules
from tsattn.events.detect import PostProcessing, to_events
from tsattn.events.fit import GRID, Fitted, fit_postprocessing
from tsattn.events.table import make_events

HOUR = 3600.0
OFTEN = make_events([300.0, 900.0, 1500.0, 2100.0, 2700.0, 3300.0], [60.0] * 6)  # a seizure every ten minutes
SETTING = list(GRID)


def fitted(probability: Any, reference: pd.DataFrame = OFTEN, **more: Any) -> Fitted:
    more.setdefault("grid", {"smoothing": (0.0, 15.0)})
    return fit_postprocessing({"a": probability}, {"a": reference}, {"a": HOUR}, 5.0, **more)


def knows_nothing() -> np.ndarray:
    return np.clip(np.random.default_rng(0).normal(0.5, 0.15, 720), 0, 1)


def knows_all() -> np.ndarray:
    probability = np.random.default_rng(1).uniform(0.0, 0.35, 720)
    for onset, duration in OFTEN[["onset", "duration"]].to_numpy():
        probability[int(onset / 5) : int((onset + duration) / 5)] += 0.5
    return probability


def test_every_setting_is_scored_by_the_events_that_it_gives():
    """With gaps (NaN, and windows that are not there), spans that overlap, and an end that cuts the last event."""
    rng = np.random.default_rng(2)
    probabilities, references, durations = {}, {}, {}
    where: dict[str, Any] = {"span": 20.0, "offset": 15.0}
    for name, windows in (("a", 150), ("b", 90)):
        values = np.clip(np.convolve(rng.uniform(-0.2, 1.2, windows), np.ones(4) / 4, "same"), 0, 1)
        values[rng.random(windows) < 0.05] = np.nan
        times = 5.0 * np.arange(windows + 30)
        times = np.delete(times, np.arange(60, 90))
        probabilities[name] = xr.DataArray(values, dims="time", coords={"time": times})
        references[name] = make_events([100.0, 420.0], [30.0, 20.0])
        durations[name] = float(times[-1]) + 18.0
    grid = {"smoothing": (0.0, 30.0), "threshold": (0.4, 0.5, 0.6, 0.7), "min_duration": (0.0, 20.0, 35.0)}
    rules = Rules(0.0, 0.0, 0.1, 60.0, 0.0)  # those of SzCORE would join most of what lies in so short recordings
    table = fit_postprocessing(probabilities, references, durations, grid=grid, rules=rules, **where).table
    assert len(table) == 2 * 4 * 2 * 2 * 3
    assert table["f1_event"].nunique() > 10
    for _, row in table.iterrows():
        setting = PostProcessing.from_dict({name: float(row[name]) for name in SETTING})
        events = {name: setting(probabilities[name], duration=durations[name], **where) for name in probabilities}
        scored = {name: (name, references[name], events[name], durations[name]) for name in probabilities}
        pooled = score_recordings(scored, rules, bootstrap=0).pooled["value"]
        for name in ("f1_event", "sensitivity", "precision", "fp_per_hour", "f1_5s"):
            assert row[name] == pytest.approx(pooled[name], nan_ok=True), (setting, name)


def test_a_probability_that_knows_nothing_does_not_make_a_detector_that_is_always_on(monkeypatch: pytest.MonkeyPatch):
    """Twelve pieces of 300 s, half of which touch a seizure, have a better F1 than honest guesses."""
    honest = fitted(knows_nothing())
    assert honest.table["flagged"].iloc[0] < 0.5
    monkeypatch.setattr("tsattn.events.fit.FLAGGED", math.inf)
    gamed = fitted(knows_nothing())
    assert gamed.table["flagged"].iloc[0] > 0.9
    assert gamed.table["f1_event"].iloc[0] > honest.table["f1_event"].iloc[0]


def test_the_limit_is_three_times_the_seizures_and_their_tolerances():
    """A box of which more and more lies above falling thresholds: 6 x (3 x 60 s + 90 s) = 1620 s are the limit."""
    probability = np.zeros(720)
    for onset in OFTEN["onset"]:
        place = int(onset / 5)
        probability[place - 20 : place + 40] = 0.25  # 300 s
        probability[place - 20 : place + 34] = 0.45  # 270 s
        probability[place : place + 12] = 0.65 if onset > 300 else 0.45  # the highest threshold misses the first
    grid = {"threshold": (0.2, 0.4, 0.6), "smoothing": (0.0,), "low": (1.0,), "merge_gap": (0.0,)}
    table = fitted(probability, grid=grid | {"min_duration": (0.0,)}).table.set_index("threshold")
    assert table["flagged"].to_dict() == pytest.approx({0.2: 0.5, 0.4: 0.45, 0.6: 300 / HOUR})
    assert table["f1_event"].to_dict() == pytest.approx({0.2: 1.0, 0.4: 1.0, 0.6: 10 / 11})
    assert table.index.tolist() == [0.4, 0.6, 0.2]


def test_many_short_events_that_the_rules_join_count_as_one_long_event():
    probability = np.zeros(720)
    probability[::12] = 0.9  # 5 s each minute
    table = fitted(probability, grid={"smoothing": (0.0,)}).table
    row = table[(table["threshold"] == 0.5) & (table["merge_gap"] == 0) & (table["min_duration"] == 0)].iloc[0]
    assert row["flagged"] == pytest.approx((59 * 60 + 5) / HOUR)
    assert len(to_events(probability, 5.0)) == 60


def test_good_probabilities_get_the_setting_that_they_would_get_without_a_limit(monkeypatch: pytest.MonkeyPatch):
    found = fitted(knows_all())
    assert found.table["f1_event"].iloc[0] == 1.0
    assert found.table["flagged"].iloc[0] == pytest.approx(6 * 60 / HOUR, rel=0.2)
    monkeypatch.setattr("tsattn.events.fit.FLAGGED", math.inf)
    assert fitted(knows_all()).best == found.best


def test_if_every_setting_flags_too_much_the_best_of_them_is_taken():
    found = fitted(np.full(720, 0.5), grid={"threshold": (0.3, 0.4)})
    assert found.table["flagged"].tolist() == [1.0] * len(found.table)
    assert found.best.threshold in (0.3, 0.4)
    assert found.table["f1_event"].iloc[0] == found.table["f1_event"].max() > 0


def test_seizures_that_the_expert_marked_twice_are_counted_once():
    twice = pd.concat([OFTEN, OFTEN], ignore_index=True)
    once = fitted(knows_nothing()).table
    pd.testing.assert_frame_equal(fitted(knows_nothing(), twice).table, once)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"grid": {"smoothing": (-5.0,)}}, "smoothing is -5, expected 0 s or more"),
        ({"grid": {"threshold": (0.0,)}}, "threshold is 0, expected above 0"),
        ({"grid": {"low": (1.5,)}}, "expected above 0 and at most the threshold"),
        ({"span": 0.0}, "span is 0 s, expected above 0"),
    ],
)
def test_settings_without_a_sense_are_refused(more: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        fitted(knows_nothing(), **more)
