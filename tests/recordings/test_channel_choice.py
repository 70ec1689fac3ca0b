"""Channels chosen by variance, known answers on made-up recordings; and the account of any choice."""

import json

import numpy as np
import pytest
from scipy.stats import kurtosis

from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.recording import Recording, from_array, make_channels
from tsattn.recordings.splits.leaks import audit
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.recordings.windows import channel_choice
from tsattn.recordings.windows.channel_choice import choose_channels, describe_choice, rank_by_variance

SFREQ = 128.0


def noise(sd: list[float], seconds: int = 60, seed: int = 0) -> np.ndarray:
    """Channels of normal noise with these standard deviations (µV), each on an offset of its own."""
    values = np.random.default_rng(seed).normal(size=(len(sd), round(seconds * SFREQ)))
    return values * np.array(sd)[:, None] + 1000.0 * np.arange(len(sd))[:, None]


def recording(values: np.ndarray, **rest) -> Recording:
    return from_array(values, SFREQ, id="many", **rest)


def pops(values: np.ndarray, channel: int, sd: float, every: float) -> None:
    """Add an electrode's pops: up by 20 standard deviations at once, back within 0.1 s, every so many seconds."""
    decay = np.exp(-np.arange(round(every * SFREQ)) / (0.1 * SFREQ))
    values[channel] += 20.0 * sd * np.resize(decay, values.shape[1])


# The rule --------------------------------------------------------------------------------------------------------


def test_the_channels_with_the_largest_variance_are_read_in_the_order_of_the_recording():
    item = recording(noise([10.0, 50.0, 20.0, 40.0, 5.0, 30.0]))
    assert rank_by_variance(item) == [1, 3, 5, 2, 0, 4]
    assert choose_channels(item, 3, "variance") == [[1, 3, 5]]
    assert choose_channels(item, 1, "variance") == [[1]]
    assert choose_channels(item, 6, "variance") == [list(range(6))]


def test_offset_and_scale_of_the_whole_recording_change_nothing():
    values = noise([10.0, 50.0, 20.0, 40.0, 5.0, 30.0])
    expected = rank_by_variance(recording(values))
    assert rank_by_variance(recording(values * 1e-3 + 7.0)) == expected
    assert rank_by_variance(recording(values.astype(np.float32))) == expected


def test_the_moments_are_those_of_scipy():
    values = np.random.default_rng(1).laplace(size=(3, round(10 * SFREQ))) + np.array([[0.0], [1e4], [-3.0]])
    variance, excess = channel_choice._moments(recording(values), None)
    np.testing.assert_allclose(variance, values.var(axis=1), rtol=1e-10)
    np.testing.assert_allclose(excess, kurtosis(values, axis=1), rtol=1e-10)


def test_a_channel_with_pops_is_read_after_all_others_but_is_read_where_there_is_room():
    sd = [10.0, 11.0, 12.0, 13.0, 14.0]
    values = noise(sd)
    pops(values, 2, 12.0, every=5.0)
    item = recording(values)
    variance, excess = channel_choice._moments(item, None)
    assert int(np.argmax(variance)) == 2  # by variance alone it would be the first
    assert excess[2] > channel_choice.KURTOSIS_LEAST > 1.0 > np.delete(excess, 2).max()
    assert rank_by_variance(item) == [4, 3, 1, 0, 2]
    assert choose_channels(item, 4, "variance") == [[0, 1, 3, 4]]


def test_of_two_channels_with_pops_the_more_heavily_tailed_one_is_the_last():
    values = noise([10.0] * 8)
    pops(values, 0, 10.0, every=10.0)  # rarer: smaller variance, larger kurtosis
    pops(values, 1, 10.0, every=5.0)
    assert rank_by_variance(recording(values))[-2:] == [1, 0]


def test_pops_in_every_channel_mark_none_of_them():
    sd = [10.0, 30.0, 20.0]
    values = noise(sd)
    for channel, height in enumerate(sd):
        pops(values, channel, height * (1.0 + 0.1 * channel), every=5.0)
    item = recording(values)
    assert channel_choice._moments(item, None)[1].min() > channel_choice.KURTOSIS_LEAST
    assert rank_by_variance(item) == [1, 2, 0]


def test_one_seizure_does_not_lift_a_channel_nor_mark_it():
    values = noise([10.0, 20.0, 30.0], seconds=200)
    values[0, round(90 * SFREQ) : round(110 * SFREQ)] *= 50.0
    assert values[0].std() > values[2].std()
    assert rank_by_variance(recording(values)) == [2, 1, 0]


def test_equals_and_flat_channels_keep_the_order_of_the_recording():
    one = noise([10.0])
    values = np.concatenate([np.full_like(one, 0.1), one, one, np.full_like(one, 1e6 / 3), one])
    item = recording(values)
    assert rank_by_variance(item) == [1, 2, 4, 0, 3]
    assert choose_channels(item, 2, "variance") == [[1, 2]]


def test_other_signals_bad_channels_and_empty_ones_come_last():
    values = noise([500.0, 10.0, 400.0, 20.0, 300.0])
    values[4] = np.nan
    kinds = ["ecg", "seeg", "seeg", "ecog", "seeg"]
    status = ["good", "good", "bad", "good", "good"]
    item = recording(values, channels=make_channels(list("ABCDE"), SFREQ, kinds, status))
    assert rank_by_variance(item) == [3, 1, 0, 2, 4]


# What is looked at -----------------------------------------------------------------------------------------------


def test_gaps_and_missing_stretches_are_left_out():
    values = noise([10.0, 20.0, 30.0, 40.0], seconds=100)
    values[:, round(10 * SFREQ) : round(70 * SFREQ)] = np.nan  # a gap
    values[1, : round(5 * SFREQ)] = np.nan  # of one channel alone
    values[2, round(70 * SFREQ) :] = np.nan
    item = recording(values)
    assert item.gaps == ((10.0, 70.0),)
    variance, excess = channel_choice._moments(item, None)
    np.testing.assert_allclose(np.sqrt(variance), [10.0, 20.0, 30.0, 40.0], rtol=0.05)
    assert np.abs(excess).max() < 0.6
    assert rank_by_variance(item) == [3, 2, 1, 0]


def test_only_the_named_parts_are_looked_at():
    values = noise([10.0, 20.0, 30.0], seconds=120)
    values[:, round(40 * SFREQ) : round(50 * SFREQ)] = np.nan
    late = slice(round(60 * SFREQ), None)
    values[:, late] = values[[2, 1, 0], late]  # the order of variances turns round
    item = recording(values)
    assert rank_by_variance(item, [(0.0, 60.0)]) == [2, 1, 0]
    assert rank_by_variance(item, [(60.0, 120.0)]) == [0, 1, 2]
    changed = values.copy()
    changed[:, late] = np.random.default_rng(2).normal(size=changed[:, late].shape) * [[1e3], [1e4], [1e5]]
    seen = channel_choice._moments(item, [(30.0, 60.0), (0.0, 20.0), (10.0, 35.0)])
    unseen = channel_choice._moments(recording(changed), [(30.0, 60.0), (0.0, 20.0), (10.0, 35.0)])
    for a, b in zip(seen, unseen, strict=True):
        assert np.array_equal(a, b)


def test_a_long_recording_is_looked_at_in_a_few_stretches(monkeypatch: pytest.MonkeyPatch):
    item = recording(np.ones((2, round(3600 * SFREQ)), np.float32))
    asked: list[tuple[int, int]] = []
    read = Recording.read

    def counted(self, start, stop, channels=None):
        asked.append((start, stop))
        return read(self, start, stop, channels)

    monkeypatch.setattr(Recording, "read", counted)
    rank_by_variance(item)
    assert len(asked) == 20
    assert {stop - start for start, stop in asked} == {round(10 * SFREQ)}
    assert (asked[0][0], asked[-1][1]) == (0, item.n_samples)


def test_nothing_to_look_at_and_parts_outside_are_refused():
    values = noise([10.0, 20.0])
    values[:, : round(30 * SFREQ)] = np.nan
    item = recording(values)
    with pytest.raises(ValueError, match=r"many has no second on end recorded in the given parts of its 60 s.*spread"):
        choose_channels(item, 1, "variance", [(0.0, 30.0)])
    for part in ((0.0, 61.0), (-1.0, 30.0), (30.0, 30.0)):
        with pytest.raises(ValueError, match=r"a part from .* expected one within 0 and 60"):
            choose_channels(item, 1, "variance", [part])


# The account -----------------------------------------------------------------------------------------------------


def test_the_error_for_too_many_channels_names_every_policy():
    with pytest.raises(ValueError, match=r"many has 3 channels.*room for 2.*spread.*variance.*ensemble"):
        choose_channels(recording(noise([1.0, 2.0, 3.0])), 2)


def test_a_choice_is_told_in_plain_data():
    item = recording(noise([10.0, 30.0, 20.0]), names=["A1", "A2", "B1"])
    parts = [(0.0, 30.0)]
    told = describe_choice(item, choose_channels(item, 2, "variance", parts), "variance", parts)
    assert told == {
        "recording": "many",
        "policy": "variance",
        "of": 3,
        "read": 2,
        "readings": [[1, 2]],
        "left_out": ["A1"],
        "looked_at": {"stretches": 20, "seconds": 10.0, "parts": [[0.0, 30.0]]},
    }
    assert json.loads(json.dumps(told)) == told
    whole = describe_choice(item, choose_channels(item, 2, "variance"), "variance")
    assert whole["looked_at"]["parts"] is None
    several = describe_choice(item, choose_channels(item, 2, "ensemble"), "ensemble")
    assert (several["policy"], several["read"], several["left_out"]) == ("ensemble", 3, [])
    assert len(several["readings"]) == 2
    assert "looked_at" not in several


def test_where_all_channels_fit_no_policy_is_claimed():
    item = recording(noise([10.0, 30.0]))
    told = describe_choice(item, choose_channels(item, 2, "variance"), "variance")
    assert told == {"recording": "many", "policy": "all", "of": 2, "read": 2, "readings": [[0, 1]], "left_out": []}


def test_the_data_module_looks_at_training_time_only_and_keeps_the_account(caplog: pytest.LogCaptureFixture):
    values = noise([10.0, 20.0, 30.0], seconds=120)
    values[0, round(60 * SFREQ) :] *= 1000.0  # loudest by far, in the part for test
    item = recording(values)
    spans = Splits((Span("many", 0.0, 60.0, "train"), Span("many", 70.0, 120.0, "test")))
    knobs = {"segments": 5, "segment_seconds": 1.0, "max_channels": 2, "more_channels": "variance"}
    data = RecordingDataModule.from_recordings([item], splits=audit([item], spans, 5.0, []), **knobs)
    (told,) = data.channel_choices
    assert (told["readings"], told["left_out"]) == ([[1, 2]], ["C1"])
    assert told["looked_at"]["parts"] == [[0.0, 60.0]]
    assert "2 of 3 channels are read, chosen by 'variance'" in caplog.text
    assert next(iter(data.test_dataloader())).channels[0].tolist() == [1, 2]
    unseen = RecordingDataModule.from_recordings([item], **knobs)  # all of it is for test
    (told,) = unseen.channel_choices
    assert (told["readings"], told["looked_at"]["parts"]) == ([[0, 2]], None)
