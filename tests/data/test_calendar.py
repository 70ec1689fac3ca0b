"""Calendar marks against recorded values of the references, and the clocks that continue."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsattn.data.calendar import calendar_features, feature_names, season_of


@pytest.mark.parametrize("key", ["h", "min", "s", "D", "W", "ME", "B"])
def test_marks_of_every_frequency_equal_the_recorded_ones(protocol: Path, key: str):
    recorded = json.loads((protocol / "data_protocol.json").read_text())[f"tf_{key}"]
    times = pd.date_range(recorded["start"], periods=50, freq=recorded["step"])
    assert str(times[0]) == recorded["first"]
    expected = np.load(protocol / "data_protocol.npz")[f"tf_{key}"].T
    names = feature_names(recorded["step"])
    assert len(names) == len(expected)
    np.testing.assert_allclose(calendar_features(times, names).numpy(), expected, atol=3e-8)


@pytest.mark.parametrize(
    ("frequency", "names"),
    [
        ("h", ("hour", "dayofweek", "dayofmonth", "dayofyear")),
        ("2h", ("hour", "dayofweek", "dayofmonth", "dayofyear")),
        ("15min", ("minute", "hour", "dayofweek", "dayofmonth", "dayofyear")),
        ("90min", ("minute", "hour", "dayofweek", "dayofmonth", "dayofyear")),
        ("500ms", ("second", "minute", "hour", "dayofweek", "dayofmonth", "dayofyear")),
        ("24h", ("dayofweek", "dayofmonth", "dayofyear")),
        ("7D", ("dayofweek", "dayofmonth", "dayofyear")),
        ("W-TUE", ("dayofmonth", "weekofyear")),
        ("MS", ("month",)),
        ("BME", ("month",)),
        ("QS-OCT", ("month",)),
        ("YE", ()),
        ("", ()),
    ],
)
def test_true_marks_are_those_of_the_step(frequency: str, names: tuple[str, ...]):
    assert feature_names(frequency, "true") == names


def test_benchmark_marks_are_hourly_for_every_step():
    assert feature_names("15min", "benchmark") == feature_names("W", "benchmark") == feature_names("h", "true")
    assert feature_names("h", "none") == ()


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="unknown to pandas"):
        feature_names("fortnight")
    with pytest.raises(ValueError, match="weekday"):
        calendar_features(pd.date_range("2024", periods=2, freq="h"), ["weekday"])


def test_marks_follow_the_local_clock():
    times = pd.date_range("2024-03-31", periods=4, freq="h", tz="Europe/Zurich")  # 2 o'clock does not exist
    hour = calendar_features(times, ["hour"])[0] * 23 + 11.5
    assert hour.round().tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("frequency", "season"),
    [
        ("h", 24), ("15min", 96), ("10min", 144), ("5min", 288), ("D", 7), ("B", 5), ("W-SUN", 52), ("ME", 12),
        ("QS", 4), ("YE", 1), ("", 1), ("2ME", 1),
    ],
)  # fmt: skip
def test_seasons(frequency: str, season: int):
    assert season_of(frequency) == season
