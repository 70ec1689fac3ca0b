"""A wrong events table is refused in one sentence that names the row."""

import numpy as np
import pandas as pd
import pytest

from tsattn.events.table import check_events, make_events, no_events, seizures


@pytest.mark.parametrize(
    ("onset", "duration", "message"),
    [
        ([10.0, np.nan], [5.0, 5.0], r"Event row 1 has no finite onset"),
        ([10.0, 20.0], [5.0, np.nan], r"Event row 1 has no finite duration"),
        ([10.0, 20.0], [np.inf, 5.0], r"Event row 0 has no finite duration"),
        ([10.0, 20.0], [5.0, -3.0], r"Event row 1 has a negative duration \(-3 s\)"),
        ([-1.0, 20.0], [5.0, 3.0], r"Event row 0 has an onset of -1 s, before the recording's start"),
        ([10.0, 99.0], [5.0, 3.0], r"Event row 1 has an end at 102 s, after the recording\'s \(100 s\)"),
        ([10.0, 14.0], [5.0, 3.0], r"Event row 1 begins at 14 s, before an earlier one of its type ends \(15 s\)"),
    ],
)
def test_a_row_that_no_recording_can_hold_is_named(onset: list, duration: list, message: str):
    with pytest.raises(ValueError, match=message):
        check_events(make_events(onset, duration), 100.0)


def test_a_text_in_a_number_column_is_named_but_not_repeated():
    table = pd.DataFrame({"onset": ["1", "Jane Doe"], "duration": [1, 1], "event_type": "sz"})
    with pytest.raises(ValueError, match="Event row 1 has a text in 'onset'") as problem:
        check_events(table)
    assert "Jane" not in str(problem.value)


def test_a_missing_column_a_wrong_confidence_and_no_type_are_refused():
    with pytest.raises(ValueError, match="no column 'duration'"):
        check_events(pd.DataFrame({"onset": [1.0], "event_type": "sz"}))
    with pytest.raises(ValueError, match=r"a confidence of 1\.5"):
        check_events(make_events([1.0], [1.0], confidence=1.5))
    with pytest.raises(ValueError, match=r"duration is -1 s"):
        check_events(no_events(), -1.0)
    with pytest.raises(ValueError, match="no 'event_type'"):
        check_events(pd.DataFrame({"onset": [1.0], "duration": [1.0], "event_type": [None]}))


def test_overlapping_events_of_one_kind_become_one_and_others_stay():
    events = make_events([0, 5, 40, 8], [10, 10, 5, 1], ["sz", "sz", "sz", "annotation"], [0.2, 0.9, np.nan, np.nan])
    merged = check_events(events, overlapping="merge")
    assert merged[["onset", "duration", "event_type"]].to_numpy().tolist() == [
        [0.0, 15.0, "sz"],
        [8.0, 1.0, "annotation"],
        [40.0, 5.0, "sz"],
    ]
    assert merged["confidence"].iloc[0] == 0.9
    assert np.isnan(merged["confidence"].iloc[2])
    assert len(check_events(events, overlapping="keep")) == 4


def test_a_nested_event_does_not_shorten_the_one_around_it():
    merged = check_events(make_events([0, 5, 20], [100, 5, 5]), overlapping="merge")
    assert merged[["onset", "duration"]].to_numpy().tolist() == [[0.0, 100.0]]


def test_events_that_touch_marks_and_channels_of_their_own_do_not_overlap():
    touching = make_events([0.1, 0.3], [0.2, 1.0])  # 0.1 + 0.2 > 0.3 in floating point
    channels = make_events([5, 5, 6], [10, 10, 10], channels=["A1", "A2", "all"])
    marks = make_events([5, 7], [10, 0])
    for events in (touching, channels, marks):
        pd.testing.assert_frame_equal(check_events(events), events)


def test_what_lies_outside_is_cut_off_when_asked():
    events = make_events([-5, -20, 95, 100, 150], [10, 10, 10, 0, 5])
    clipped = check_events(events, 100.0, outside="clip")
    assert clipped[["onset", "duration"]].to_numpy().tolist() == [[0.0, 5.0], [95.0, 5.0], [100.0, 0.0]]


def test_an_end_that_passes_the_recordings_by_a_files_rounding_is_cut():
    assert check_events(make_events([90.0], [10.01]), 100.0)["duration"].tolist() == [10.0]
    assert check_events(make_events([100.01], [0.0]), 100.0)["onset"].tolist() == [100.0]  # not left out


def test_the_callers_table_stays_as_it_is():
    events = make_events([20, 10, 12], [5, 5, 5])[::-1]
    before = events.copy()
    check_events(events, 15.0, overlapping="merge", outside="clip")
    pd.testing.assert_frame_equal(events, before)


def test_only_sz_and_its_sub_types_are_seizures():
    events = make_events(range(5), [1] * 5, ["sz", "sz-foc-ia", "szx", "annotation", "bckg"])
    assert seizures(events)["event_type"].tolist() == ["sz", "sz-foc-ia"]


def test_a_table_of_columns_ignores_their_index():
    rows = pd.DataFrame({"onset": [3.0, 1.0], "confidence": [0.3, 0.1]}, index=[7, 9])
    table = make_events(rows["onset"], [1, 1], confidence=rows["confidence"])
    assert table["confidence"].tolist() == [0.1, 0.3]
