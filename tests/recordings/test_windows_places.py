"""Where windows lie, what their labels are, and what becomes of gaps."""

import numpy as np
import pandas as pd
import pytest

from tsattn.events.table import make_events, no_events
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.windows.labels import label_windows, seconds_before
from tsattn.recordings.windows.places import Windowing, place_windows, read_window

SFREQ = 64.0


def noise(seconds: float, channels: int = 3, sfreq: float = SFREQ, seed: int = 0, **rest) -> Recording:
    values = np.random.default_rng(seed).normal(size=(channels, round(seconds * sfreq))).astype(np.float32)
    return from_array(values, sfreq, **rest)


def windowing(**changes) -> Windowing:
    return Windowing(**{"segments": 5, "segment_seconds": 1.0, "stride_seconds": 1.0} | changes)


def test_all_windows_that_fit_are_placed_and_the_last_one_ends_with_the_recording():
    placed = place_windows(noise(90), windowing())
    assert placed.begin.tolist() == list(range(86))  # (90 - 5) / 1 + 1
    assert placed.start.tolist() == [64 * i for i in range(86)]


@pytest.mark.parametrize("seconds", [5.0, 4.984375, 0.5, 12.3])
def test_the_number_of_windows_is_floor_of_length_less_window_over_stride_plus_one(seconds):
    length = round(seconds * SFREQ)
    expected = (length - 320) // 64 + 1 if length >= 320 else 0
    assert len(place_windows(noise(seconds), windowing())) == expected


def test_a_stride_that_is_no_whole_number_of_samples_does_not_drift():
    placed = place_windows(noise(900), windowing(stride_seconds=0.3))  # 19.2 samples
    assert np.abs(placed.begin - np.arange(len(placed)) * 0.3).max() <= 0.5 / SFREQ + 1e-9
    assert placed.start[-1] + 320 <= 900 * SFREQ


def test_a_stretch_holds_the_windows_of_the_whole_grid_that_lie_in_it():
    recording = noise(100)
    whole = place_windows(recording, windowing(stride_seconds=3.0)).begin
    part = place_windows(recording, windowing(stride_seconds=3.0), 10.5, 61.0).begin
    assert part.tolist() == [b for b in whole if b >= 10.5 and b + 5 <= 61.0]


def test_two_months_of_windows_are_placed_and_labelled_in_a_second():
    class Nothing:
        def read(self, rows, start, stop):
            raise AssertionError("nothing is read")

    import time

    from tsattn.recordings.recording import make_channels

    events = make_events(np.arange(100) * 40_000.0 + 500, np.full(100, 60.0))
    recording = Recording(Nothing(), "long", "s", make_channels(["A1"], 512.0), 60 * 86400.0, events)
    begun = time.perf_counter()
    placed = place_windows(recording, Windowing())
    labels = label_windows(recording.events, placed.begin, 25, 5.0)
    assert time.perf_counter() - begun < 1.0
    assert len(placed) == (60 * 86400 - 125) // 5 + 1
    assert labels.sum() == 100 * 14  # ends of last segments from onset to offset + 5 s, both included, every 5 s


def with_gap() -> Recording:
    values = np.random.default_rng(1).normal(size=(3, 60 * 64)).astype(np.float32)
    values[:, 20 * 64 : 26 * 64] = np.nan
    return from_array(values, SFREQ)


def test_windows_that_touch_a_gap_are_dropped_and_counted():
    placed = place_windows(with_gap(), windowing())
    assert placed.begin.tolist() == [*range(16), *range(26, 56)]  # 15 ends where the gap begins
    assert placed.dropped == 10
    for start in placed.start:
        signal, observed = read_window(with_gap(), int(start), windowing())
        assert observed.all()
        assert np.isfinite(signal).all()


def test_masked_windows_say_which_segments_were_recorded_and_are_zero_only_there():
    recording = with_gap()
    placed = place_windows(recording, windowing(gaps="mask"))
    assert placed.begin.tolist() == [*range(18), *range(24, 56)]
    assert placed.dropped == 6  # of 18 to 23 more than half is missing
    truth = recording.read(0, recording.n_samples)
    for start in placed.start:
        signal, observed = read_window(recording, int(start), windowing(gaps="mask"))
        expected = truth[:, start : start + 320].reshape(3, 5, 64).transpose(1, 0, 2)
        assert np.array_equal(observed, ~np.isnan(expected).any(-1))
        assert np.array_equal(signal[observed], expected[observed])
        assert not signal[~observed].any()
        assert not observed.all() or not 16 <= start / 64 <= 25


def test_a_channel_that_is_missing_by_itself_is_masked_even_where_gaps_are_dropped():
    values = np.random.default_rng(1).normal(size=(3, 640))
    values[1, 70] = np.nan
    signal, observed = read_window(from_array(values, SFREQ), 0, windowing())
    assert np.argwhere(~observed).tolist() == [[1, 1]]
    assert not signal[1, 1].any()


def test_a_gap_between_two_samples_of_the_grid_is_not_joined():
    recording = with_gap()
    shifted = place_windows(recording, windowing(stride_seconds=1 / 64))
    touching = [b for b in shifted.begin if b + 5 > 20 and b < 26]
    assert touching == []
    assert shifted.dropped == 320 + 384 - 1


def test_a_segment_that_is_no_whole_number_of_samples_is_refused():
    with pytest.raises(ValueError, match=r"1 s is 173\.61 samples at 173\.61 Hz.*whole"):
        place_windows(noise(20, sfreq=173.61), windowing())


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"segments": 0}, "segments is 0"),
        ({"stride_seconds": 0.0}, "stride_seconds is 0"),
        ({"segment_seconds": float("nan")}, "segment_seconds is nan"),
        ({"sfreq": 64.0}, "prepare recordings"),
        ({"min_recorded": 0.0}, "min_recorded is 0"),
    ],
)
def test_senseless_knobs_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        windowing(**knobs)


# Labels ----------------------------------------------------------------------------------------------------------


def slow_label(events: pd.DataFrame, begin: float, rule: str, segments: int, seconds: float, **numbers):
    """The rules as sentences, one window and one event at a time."""
    spans = [(r.onset, r.onset + r.duration) for r in events.itertuples() if r.event_type.startswith("sz")]

    def touched(a, b):
        return int(any(onset <= b and offset >= a for onset, offset in spans))

    end = begin + segments * seconds
    if rule == "last_segment":
        return touched(end - seconds, end)
    if rule == "any_segment":
        return touched(begin, end)
    if rule == "per_segment":
        return [touched(begin + i * seconds, begin + (i + 1) * seconds) for i in range(segments)]
    if rule == "share":
        fine = (np.arange(begin * 1000, end * 1000) + 0.5) / 1000
        return int(np.mean([any(a <= t < b for a, b in spans) for t in fine]) >= numbers["share"] - 1e-9)
    if touched(begin, end):
        return -1
    return int(any(end < onset <= end + numbers["horizon"] for onset, _ in spans))


@pytest.mark.parametrize("rule", ["last_segment", "any_segment", "share", "per_segment", "preictal"])
@pytest.mark.parametrize("seed", range(6))
def test_labels_are_what_their_sentence_says_for_overlapping_and_nested_events(rule, seed):
    random = np.random.default_rng(seed)
    onset, duration = random.integers(0, 70, 6) / 2, random.choice([0, 0.5, 3, 20], 6)
    events = make_events(onset, duration, random.choice(["sz", "sz-foc-ia", "annotation"], 6).tolist())
    begin = np.arange(0, 40, 2.5)
    numbers = {"share": 0.3, "horizon": 8.0}
    found = label_windows(events, begin, 4, 1.5, rule, **numbers)
    assert found.tolist() == [slow_label(events, b, rule, 4, 1.5, **numbers) for b in begin]


def test_touching_the_last_segment_with_either_end_counts():
    events = make_events([20.0], [8.5])
    begin = np.array([14.9, 15.0, 24.4, 24.5, 24.6])
    assert label_windows(events, begin, 5, 1.0).tolist() == [0, 1, 1, 1, 0]


def test_what_is_no_seizure_is_no_label_and_no_event_is_no_seizure():
    begin = np.arange(5.0)
    assert not label_windows(make_events([0.0], [100.0], "annotation"), begin, 5, 1.0).any()
    for rule in ("last_segment", "any_segment", "share", "per_segment", "preictal"):
        assert not label_windows(no_events(), begin, 5, 1.0, rule).any()


def test_a_seizure_that_does_not_say_when_it_ends_is_refused():
    """It would be a seizure up to the recording's end; and one that ends before it begins would hide another."""
    with pytest.raises(ValueError, match="Event row 1 has no finite duration"):
        label_windows(make_events([1.0, 10.0], [2.0, np.nan]), np.arange(9.0), 5, 1.0)
    with pytest.raises(ValueError, match=r"a negative duration \(-8 s\)"):
        label_windows(make_events([10.0, 12.0], [20.0, -8.0]), np.arange(9.0), 5, 1.0)


def test_what_two_events_share_counts_once():
    covered = seconds_before(np.array([0.0, 1.0, 10.0]), np.array([5.0, 3.0, 11.0]), np.array([2.0, 8.0, 20.0]))
    assert covered.tolist() == [2.0, 5.0, 6.0]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [({"share": 0.0}, "share is 0"), ({"share": 1.1}, "share is 1.1"), ({"horizon": -1.0}, "-1 s")],
)
def test_a_senseless_number_of_a_rule_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        label_windows(no_events(), np.arange(3.0), 5, 1.0, **knobs)
