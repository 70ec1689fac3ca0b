import pickle
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tsattn.events.table import make_events
from tsattn.recordings.recording import Recording, from_array, make_channels


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, 1000))


def test_an_array_with_labels_comes_back_as_it_went_in(values: np.ndarray):
    given = xr.DataArray(
        values.T, dims=("time", "channel"), coords={"channel": ["A1", "A2", "B1", "B2"]}, attrs={"sfreq": 250.0}
    )
    back = from_array(given).to_xarray()
    assert back.dims == ("channel", "time")
    np.testing.assert_array_equal(back.values, values)
    assert back["channel"].values.tolist() == ["A1", "A2", "B1", "B2"]
    np.testing.assert_array_equal(back["time"].values, np.arange(1000) / 250)
    again = from_array(back)
    assert (again.sfreq, again.duration, again.n_samples) == (250.0, 4.0, 1000)
    part = again.to_xarray(1.0, 2.0)
    assert part["time"].values[0] == 1.0
    np.testing.assert_array_equal(part.values, values[:, 250:500])


def test_integers_are_microvolts_too():
    read = from_array(np.arange(20).reshape(2, 10), 10.0).read(0, 10)
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, np.arange(20).reshape(2, 10))


def test_a_rate_that_nobody_states_is_not_guessed(values: np.ndarray):
    with pytest.raises(ValueError, match="No sampling rate"):
        from_array(values)


def test_stretches_that_are_missing_in_every_channel_are_gaps_and_others_are_not(values: np.ndarray):
    values[:, :50] = np.nan
    values[:, 300:400] = np.nan
    values[1, 600:700] = np.nan
    values[:, 990:] = np.nan
    recording = from_array(values, 100.0)
    assert recording.gaps == ((0.0, 0.5), (3.0, 4.0), (9.9, 10.0))
    assert recording.observed() == [(50, 300), (400, 990)]
    assert recording.observed(50.0) == [(25, 150), (200, 495)]
    assert from_array(np.full((1, 10), np.nan), 1.0).observed() == []


@pytest.mark.parametrize(
    "gaps",
    [((5.0, 6.0), (1.0, 2.0)), ((1.0, 3.0), (2.0, 4.0)), ((2.0, 1.0),), ((2.0, 2.0),), ((-1.0, 1.0),), ((9.0, 11.0),),
     ((np.nan, 1.0),)],
)  # fmt: skip
def test_gaps_that_are_unsorted_overlap_or_lie_outside_are_refused(
    values: np.ndarray, gaps: tuple[tuple[float, float], ...]
):
    """`observed` would give stretches that were never recorded."""
    with pytest.raises(ValueError, match="expected gaps in order, apart from each other"):
        from_array(values, 100.0, gaps=gaps)


def test_channels_are_picked_by_name_type_rate_and_status(values: np.ndarray):
    table = make_channels(["A1", "A2", "E", "M"], [100.0, 100.0, 100.0, 50.0], ["seeg", "seeg", "ecg", "misc"])
    table.loc[1, "status"] = "bad"
    recording = from_array(values, 100.0, channels=table)
    assert recording.pick(["E", "A1"]).names == ["E", "A1"]
    np.testing.assert_array_equal(recording.pick(["E", "A1"]).read(0, 5), values[[2, 0], :5])
    assert recording.pick(types=["seeg"]).names == ["A1", "A2"]
    assert recording.pick(types=["seeg"], bads=False).names == ["A1"]
    assert recording.pick(sfreq=50.0).names == ["M"]
    twice = recording.pick(["M", "E", "A2"]).pick(["A2", "M"])
    np.testing.assert_array_equal(twice.source.read(list(twice.rows), 0, 5), values[[1, 3], :5])
    assert recording.names == ["A1", "A2", "E", "M"]  # the first is as it was
    with pytest.raises(ValueError, match="no channel 'B9'"):
        recording.pick(["B9"])
    with pytest.raises(ValueError, match="no channel is left of 4"):
        recording.pick(types=["dbs"])


def test_several_rates_are_refused_where_one_is_needed_and_told(values: np.ndarray):
    recording = from_array(values, 100.0, channels=make_channels(list("abcd"), [100.0, 100.0, 100.0, 50.0]))
    for ask in (lambda: recording.sfreq, lambda: recording.read(0, 10), recording.to_xarray):
        with pytest.raises(ValueError, match=r"channels at 50, 100 Hz. Prepare it.*pick\(sfreq="):
            ask()
    assert recording.read(0, 10, [0, 2]).shape == (2, 10)
    assert recording.pick(sfreq=100.0).sfreq == 100.0


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, 1001), (1001, 1002)])
def test_samples_outside_the_recording_are_refused(values: np.ndarray, start: int, stop: int):
    with pytest.raises(ValueError, match=rf"samples \[{start}, {stop}\) of 1000"):
        from_array(values, 100.0).read(start, stop)


def test_a_source_that_gives_fewer_samples_than_the_clock_promises_is_an_error(values: np.ndarray):
    recording = replace(from_array(values, 100.0), duration=12.0)
    with pytest.raises(ValueError, match=r"\[900, 1200\) of 4 channels.*100 of 4 came.*shorter than the 12 s"):
        recording.read(900, 1200)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"channels": make_channels([], [])}, "no channels"),
        ({"channels": make_channels(["A", "A"], 10.0)}, "'A' stands twice"),
        ({"channels": make_channels(["A", "B"], [10.0, 0.0])}, "rate is 0 Hz"),
        ({"channels": make_channels(["A", "B"], 10.0), "rows": (0,)}, "1 rows for 2 channels"),
        ({"duration": 0.0}, "lasts 0 s"),
        ({"duration": float("inf")}, "lasts inf s"),
        ({"duration": float("nan")}, "lasts nan s"),
    ],
)
def test_what_no_recording_can_be_is_refused(values: np.ndarray, change: dict, sentence: str):
    with pytest.raises(ValueError, match=sentence):
        replace(from_array(values, 100.0), **{"rows": (), **change})


def test_a_recording_pickles_with_everything_and_compares_by_identity(values: np.ndarray):
    recording = from_array(values, 100.0, events=make_events([1.0], [2.0]), start=datetime(2020, 1, 1))
    copy = pickle.loads(pickle.dumps(recording.pick(["C3", "C1"])))
    np.testing.assert_array_equal(copy.read(0, 1000), values[[2, 0]])
    assert copy.events.equals(recording.events)
    assert copy.start == recording.start
    assert recording != copy  # tables inside would make a comparison of contents an error
    assert len({recording, copy}) == 2


def test_its_text_holds_neither_files_nor_date(values: np.ndarray):
    """It is what a notebook shows, and what a traceback prints."""
    recording = from_array(
        values, 100.0, id="rec-1", files=(Path("/ward/JaneDoe.edf"),), start=datetime(1962, 3, 4), about={"x": "Doe"}
    )
    assert repr(recording) == "Recording('rec-1', 4 channels, 100 Hz, 10 s)"
    assert isinstance(recording, Recording)


def test_what_was_read_is_the_readers_to_change(values: np.ndarray):
    recording = from_array(values, 100.0)
    recording.read(0, 1000)[:] = 0
    assert recording.read(0, 1000).any()
