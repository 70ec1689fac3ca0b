"""The baselines and the bookkeeping of the detection bench, against known answers."""

import numpy as np
import pytest
import xarray as xr
from baselines import BandPower, LineLength, Logistic, band_powers, levelled, line_length, past, top_quarter
from detection import after_warm_up, auroc_of, cross_validate, make_folds, paired, scored_probability, splits_of

from tsattn.events.cohort import score_recordings
from tsattn.events.table import make_events
from tsattn.recordings.recording import from_array

SFREQ = 256.0


def sine(frequency: float, amplitude: float) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(5 * SFREQ)) / SFREQ)[None, None].astype(
        np.float32
    )


def patient(seed: int, seconds: int = 900):
    """Noise with a rhythm of 10 Hz in two of six channels during two seizures."""
    random = np.random.default_rng(seed)
    values = random.normal(0, 20, (6, round(seconds * SFREQ)))
    clock = np.arange(values.shape[1]) / SFREQ
    onsets = 300.0 + random.integers(0, 20), 600.0 + random.integers(0, 20)
    for onset in onsets:
        inside = (clock >= onset) & (clock < onset + 60)
        values[:2, inside] += 60 * np.sin(2 * np.pi * 10 * clock[inside])
    return from_array(values, SFREQ, id=f"rec{seed}", subject=f"sub{seed}", events=make_events(onsets, [60.0, 60.0]))


def test_a_sine_has_half_its_squared_amplitude_in_its_band_and_little_elsewhere():
    power = np.exp(band_powers(sine(10, 30), SFREQ)[0, 0, :-1])
    assert power[2] == pytest.approx(450, rel=0.01)
    assert power[[0, 1, 3, 4, 5, 6]].max() < 0.5


def test_the_line_length_of_a_slow_sine_is_four_amplitudes_a_cycle():
    assert np.exp(line_length(sine(2, 30), SFREQ))[0, 0] == pytest.approx(4 * 30 * 2, rel=0.01)


def test_the_top_quarter_counts_known_channels_only():
    values = np.array([[1.0, 5, 3, 9, 7, 2, 4, 8], [np.nan, 6, np.nan, 2, 1, np.nan, 0, np.nan], [np.nan] * 8])
    np.testing.assert_array_equal(top_quarter(values), [8.5, 6, np.nan])


def test_the_past_is_what_lies_before():
    np.testing.assert_array_equal(past(np.array([1.0, 2, 6, 4]), 2, np.nanmean), [np.nan, 1, 1.5, 4])


def test_the_level_of_the_past_knows_nothing_of_what_comes():
    values = np.random.default_rng(0).normal(size=(60, 3))
    changed = values.copy()
    changed[40:] += 100
    np.testing.assert_array_equal(levelled(values, "past")[:40], levelled(changed, "past")[:40])
    assert not np.allclose(levelled(values, "recording")[:40], levelled(changed, "recording")[:40])


@pytest.mark.parametrize("method", [LineLength, BandPower])
def test_features_of_the_past_do_not_change_with_the_future(method):
    whole = patient(0)
    cut = from_array(whole.read(0, round(500 * SFREQ)), SFREQ, id="cut", events=make_events([], []))
    theirs = method("past").features(whole)[:100]
    np.testing.assert_allclose(method("past").features(cut), theirs, rtol=1e-5, atol=1e-5)


def test_the_logistic_regression_finds_the_minimum_and_both_classes_weigh_the_same():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, 3))
    y = x @ [2.0, -1, 0] + random.logistic(size=400) > 1.5
    model = Logistic(0.01).fit(x, y)

    def objective(parameters):
        margin = np.where(y, 1, -1) * ((x - x.mean(0)) / x.std(0) @ parameters[1:] + parameters[0])
        loss = np.log1p(np.exp(-margin))
        return (loss[y].mean() + loss[~y].mean()) / 2 + 0.005 * (parameters[1:] ** 2).sum()

    best = objective(model.parameters)
    assert all(objective(model.parameters + 0.05 * step) > best for step in (*np.eye(4), *-np.eye(4)))
    assert model.loss(x, y) == pytest.approx(best - 0.005 * (model.parameters[1:] ** 2).sum())


def test_the_auroc_is_the_share_of_pairs_in_the_right_order():
    random = np.random.default_rng(0)
    values, positive = random.integers(0, 5, 40) / 4, random.random(40) < 0.3
    pairs = np.sign(values[positive][:, None] - values[~positive])
    assert auroc_of(values, positive) == pytest.approx((pairs + 1).mean() / 2)


@pytest.mark.parametrize(("subjects", "folds", "val"), [(10, 5, 2), (10, 10, 3), (7, 3, 2)])
def test_every_subject_is_tested_once_and_no_part_of_a_fold_shares_one(subjects, folds, val):
    names = [f"s{i}" for i in range(subjects)]
    made = make_folds(names, folds, val)
    assert sorted(name for fold in made for name in fold.test) == names
    for fold in made:
        assert sorted((*fold.train, *fold.val, *fold.test)) == names
        assert len(fold.val) == val


def test_folds_that_leave_nobody_to_train_on_are_refused():
    with pytest.raises(ValueError, match="4 subjects, 2 folds and 2 validation subjects"):
        make_folds(list("abcd"), 2, 2)


def test_a_seizure_in_the_warm_up_is_not_scored_and_one_across_its_end_is_cut():
    recording = from_array(np.zeros((1, 6000)), 10.0, events=make_events([20.0, 100.0, 300.0], [30.0, 50.0, 40.0]))
    events, duration = after_warm_up(recording)
    assert duration == 480
    assert events[["onset", "duration"]].values.tolist() == [[0, 30], [180, 40]]


def test_probabilities_keep_their_place_when_the_warm_up_is_left_out():
    class Told:
        def probability(self, recording):
            return xr.DataArray([0.1, 0.2, 0.3], dims="time", coords={"time": [115.0, 120.0, 125.0]})

    found = scored_probability(Told(), None)
    assert found.values.tolist() == [0.2, 0.3]
    assert found["time"].values.tolist() == [0, 5]


def test_the_paired_difference_is_that_of_the_pooled_f1_and_a_better_method_is_better_in_every_draw():
    reference = make_events([100.0, 1000.0], [60.0, 60.0])
    half, none = reference.iloc[:1], reference.iloc[:0]
    good, bad = (
        score_recordings({f"r{i}": (f"s{i}", reference, found, 2000.0) for i in range(4)}, bootstrap=10)
        for found in (half, none)
    )
    found = paired(good, bad, draws=50)
    assert found["difference"] == pytest.approx(2 / 3)
    assert (found["low"], found["high"], found["above_0"]) == pytest.approx((2 / 3, 2 / 3, 1))


def test_a_split_of_a_fold_holds_whole_recordings():
    a, b = (from_array(np.zeros((1, 1000)), 10.0, id=id) for id in "ab")
    spans = splits_of({"train": [b], "val": [a]}).spans
    assert [(span.recording, span.begin, span.end, span.part) for span in spans] == [
        ("a", 0, 100, "val"),
        ("b", 0, 100, "train"),
    ]


@pytest.mark.slow
def test_a_plain_rhythm_is_found_in_subjects_that_were_not_trained_on():
    recordings = [patient(seed) for seed in range(4)]
    folds = make_folds([item.subject for item in recordings], 2, 1)
    result = cross_validate(BandPower("past"), recordings, folds, draws=0)
    assert result.scores.pooled.value["sensitivity"] == 1
    assert result.scores.pooled.value["f1_event"] > 0.9
    assert min(result.auroc.values()) > 0.95
