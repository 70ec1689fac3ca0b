"""Probabilities become events: known answers at every boundary, and nothing is made of what is not known."""

import json

import numpy as np
import pytest
import xarray as xr

from tsattn.events.detect import PostProcessing, smooth, stretches, to_events
from tsattn.events.fit import fit_postprocessing
from tsattn.events.table import make_events, no_events

NAN = float("nan")


def spans(probability: object, hop: float | None = None, **settings: object) -> list[tuple[float, float]]:
    events = to_events(probability, hop, **settings)  # type: ignore[arg-type]
    return list(zip(events["onset"], events["duration"], strict=True))


def test_only_gaps_shorter_than_merge_gap_are_closed():
    probability = [0.0, 0.9, 0.9, 0.1, 0.9, 0.0]  # two events, 5 s apart
    assert spans(probability, 5.0, merge_gap=5.1) == [(5.0, 20.0)]
    assert spans(probability, 5.0, merge_gap=5.0) == [(5.0, 10.0), (20.0, 5.0)]


def test_an_event_begins_at_the_threshold_and_lasts_while_above_low():
    probability = [0.4, 0.5, 0.4, 0.3, 0.2, 0.4, 0.4]
    assert spans(probability, 1.0, threshold=0.5, low=0.3) == [(1.0, 3.0)]
    assert spans(probability, 1.0, threshold=0.5) == [(1.0, 1.0)]
    assert spans(probability, 1.0, threshold=0.51, low=0.3) == []


def test_hysteresis_is_that_of_a_state_machine():
    draw = np.random.default_rng(0)
    for _ in range(50):
        probability = draw.uniform(0, 1, 60).round(2)
        probability[draw.uniform(size=60) < 0.05] = NAN
        on, expected = False, []
        for i, value in enumerate(probability):
            on = (value >= 0.4) if on else (value >= 0.8)
            expected += [i] if on else []
        events = to_events(probability, 1.0, threshold=0.8, low=0.4)
        found = [i for row in events.itertuples() for i in range(int(row.onset), int(row.onset + row.duration))]
        assert found == expected


def test_an_unknown_window_ends_an_event_and_is_never_joined_across():
    assert spans([0.9, NAN, 0.9], 5.0, merge_gap=60.0) == [(0.0, 5.0), (10.0, 5.0)]
    assert spans([NAN, NAN], 5.0) == []
    holes = xr.DataArray([0.9, 0.9, 0.9], dims="window", coords={"time": ("window", [0.0, 5.0, 20.0])})
    assert spans(holes, merge_gap=60.0) == [(0.0, 10.0), (20.0, 5.0)]


def test_the_mean_does_not_reach_over_an_unknown_window():
    values = np.array([0.0, 0.0, 0.0, NAN, 1.0, 1.0])
    times = np.arange(6.0)
    smoothed = smooth(values, stretches(times, np.isnan(values), 1.0), 1)
    np.testing.assert_array_equal(smoothed, [0, 0, 0, NAN, 1, 1])
    assert spans(values, 1.0, smoothing=3.0, threshold=0.1) == [(4.0, 2.0)]


def test_smoothing_is_the_mean_of_windows_around():
    draw = np.random.default_rng(1)
    values = draw.uniform(size=40)
    smoothed = smooth(values, np.zeros(40, dtype=int), 2)
    for i in range(40):
        assert smoothed[i] == pytest.approx(values[max(i - 2, 0) : i + 3].mean(), abs=1e-12)
    half = to_events([0.5] * 9, 1.0, smoothing=5.0, threshold=0.5)
    assert half["duration"].tolist() == [9.0]  # no rounding error below the threshold


def test_the_mean_of_a_constant_is_the_constant_in_a_long_recording():
    (duration,) = to_events(np.full(10**5, 0.7), hop=5.0, smoothing=30.0, threshold=0.7)["duration"]
    assert duration == 5e5


def test_short_events_are_left_out_after_joining():
    probability = [0, 1, 0, 1, 0, 0, 0, 0, 1, 0]
    assert spans(probability, 5.0, min_duration=10.0, merge_gap=6.0) == [(5.0, 15.0)]
    assert spans(probability, 5.0, min_duration=5.0) == [(5.0, 5.0), (15.0, 5.0), (40.0, 5.0)]


def test_a_window_speaks_of_its_span_only():
    """MVPFormer reads 125 s, every 5 s, and speaks of the last 5 s."""
    probability = np.zeros(100)
    probability[40:43] = 0.9
    assert spans(probability, 5.0, span=5.0, offset=120.0) == [(320.0, 15.0)]
    assert spans(probability, 5.0, span=5.0, offset=120.0, begin=1000.0) == [(1320.0, 15.0)]
    assert spans(probability, 5.0, span=125.0) == [(200.0, 135.0)]
    assert spans(probability, 5.0, span=5.0, offset=120.0, duration=330.0) == [(320.0, 10.0)]


def test_spans_that_overlap_do_not_make_events_that_overlap():
    assert spans([0.9, 0.1, 0.9], 5.0, span=20.0) == [(0.0, 30.0)]
    assert spans([0.9, NAN, 0.9], 5.0, span=20.0) == [(0.0, 10.0), (10.0, 20.0)]


def test_confidence_is_the_largest_or_the_mean_probability():
    probability = [0.1, 0.6, 0.8, 0.1]
    assert to_events(probability, 1.0)["confidence"].tolist() == [0.8]
    assert to_events(probability, 1.0, confidence="mean")["confidence"].tolist() == pytest.approx([0.7])


def test_lists_arrays_and_labelled_arrays_give_the_same():
    values = [0.1, 0.9, 0.9, 0.2]
    labelled = xr.DataArray(values, dims="window", coords={"time": ("window", [10.0, 15.0, 20.0, 25.0])})
    expected = [(15.0, 10.0)]
    assert spans(values, 5.0, begin=10.0) == spans(np.array(values), 5.0, begin=10.0) == spans(labelled) == expected


@pytest.mark.parametrize(
    ("probability", "hop", "message"),
    [
        ([0.2, 2.0], 5.0, r"probability\[1\] is 2.*sigmoid"),
        ([[0.2], [0.3]], 5.0, r"shape \(2, 1\), expected one value a window"),
        ([0.2, 0.3], None, "pass hop in seconds"),
        ([0.2, 0.3], 0.0, "hop is 0 s"),
        (xr.DataArray([0.1, 0.2], dims="w", coords={"time": ("w", [5.0, 5.0])}), None, "time does not increase"),
        (xr.DataArray([0.1, 0.2], dims="w", coords={"time": ("w", ["a", "b"])}), None, "expected seconds"),
    ],
)
def test_wrong_probabilities_are_refused(probability: object, hop: float | None, message: str):
    with pytest.raises(ValueError, match=message):
        spans(np.array(probability) if isinstance(probability, list) else probability, hop)


def test_a_setting_survives_the_way_through_json_and_wrong_ones_are_refused():
    setting = PostProcessing(15.0, 0.7, 0.5, 30.0, 10.0)
    assert PostProcessing.from_dict(json.loads(json.dumps(setting.to_dict()))) == setting
    with pytest.raises(ValueError, match="no setting 'treshold'"):
        PostProcessing.from_dict({"treshold": 0.5})
    with pytest.raises(ValueError, match=r"low is 0\.9, expected above 0 and at most the threshold, 0\.5"):
        PostProcessing(low=0.9)
    with pytest.raises(ValueError, match="threshold is 0, expected above 0"):
        PostProcessing(threshold=0.0)
    probability = [0.1, 0.9, 0.1]
    assert setting(probability, 5.0).equals(to_events(probability, 5.0, **setting.to_dict()))  # type: ignore[arg-type]


def test_the_search_finds_the_threshold_that_separates():
    """Background at 0.5, seizures at 0.8, a short false peak of 0.95: threshold between, and a minimum duration."""
    probability = np.full(720, 0.5)
    probability[200:220] = 0.8
    probability[500] = 0.95
    reference = make_events([1000.0], [100.0])
    fitted = fit_postprocessing(
        {"a": probability, "b": np.full(720, 0.5)},
        {"a": reference, "b": no_events()},
        {"a": 3600.0, "b": 3600.0},
        5.0,
        grid={"smoothing": (0.0,)},
    )
    assert 0.5 < fitted.best.threshold <= 0.8
    assert fitted.best.min_duration > 5.0
    assert fitted.table["f1_event"].iloc[0] == 1.0
    assert fitted.table["fp_per_hour"].iloc[0] == 0.0
    found = fitted.best(probability, 5.0)
    assert (found["onset"] + found["duration"]).tolist() == [1100.0]
    told = json.loads(json.dumps(fitted.to_dict()))
    assert PostProcessing.from_dict(told["setting"]) == fitted.best
    assert told["rules"]["version"].startswith("szcore")


def test_a_search_without_a_seizure_or_without_a_reference_is_refused():
    probability = {"a": np.zeros(10)}
    with pytest.raises(ValueError, match="No validation recording holds a seizure"):
        fit_postprocessing(probability, {"a": no_events()}, {"a": 50.0}, 5.0)
    with pytest.raises(ValueError, match="a has a probability or a reference, but not both"):
        fit_postprocessing(probability, {}, {"a": 50.0}, 5.0)
    with pytest.raises(ValueError, match="no setting 'treshold' to search"):
        fit_postprocessing(probability, {"a": no_events()}, {"a": 50.0}, 5.0, grid={"treshold": (0.5,)})
