"""A simulated recording: the same for the same seed, without seams, its truth true, its levels as hard as they say."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata, spearmanr

from tsattn.recordings.recording import Recording
from tsattn.recordings.simulate import Seizure, simulate_recording, truth
from tsattn.recordings.simulate.course import make_course
from tsattn.recordings.simulate.scene import implant, spread
from tsattn.recordings.simulate.signal import coloured, run_masses


@pytest.fixture(scope="module")
def easy() -> Recording:
    return simulate_recording(duration=360.0, channels=24, seed=3)


@pytest.fixture(scope="module")
def hard() -> list[Recording]:
    return [simulate_recording(level="hard", channels=16, seed=seed) for seed in range(3)]


def line_length_auc(recording: Recording, seconds: float = 5.0) -> float:
    """How well mean |difference| of 5-s windows, averaged over channels, tells windows within a seizure from others."""
    values, samples = recording.read(0, recording.n_samples), round(seconds * recording.sfreq)
    windows = values.shape[1] // samples
    steps = np.abs(np.diff(values[:, : windows * samples], axis=1, prepend=values[:, :1]))
    score = steps.reshape(len(values), windows, samples).mean((0, 2))
    middle = (np.arange(windows) + 0.5) * seconds
    events = recording.events
    ictal = np.zeros(windows, bool)
    for onset, duration in zip(events["onset"], events["duration"], strict=True):
        ictal |= (middle >= onset) & (middle < onset + duration)
    rank, positive = rankdata(score), ictal.sum()
    return (rank[ictal].sum() - positive * (positive + 1) / 2) / (positive * (windows - positive))


def rows(recording: Recording, kind: str) -> pd.DataFrame:
    known = truth(recording)
    return known[known["event_type"] == kind]


def test_equal_seeds_make_equal_recordings():
    small = dict(channels=10, duration=40.0, level="hard", seed=5)
    one, two = simulate_recording(**small), simulate_recording(**small)
    np.testing.assert_array_equal(one.source.values, two.source.values)
    pd.testing.assert_frame_equal(one.events, two.events)
    pd.testing.assert_frame_equal(truth(one), truth(two))
    other = simulate_recording(**small | {"seed": 6})
    assert abs(np.corrcoef(one.source.values[0], other.source.values[0])[0, 1]) < 0.2


def test_a_seed_means_the_same_numbers_as_ever():
    """Another machine's exp and BLAS may differ in the last bits, not in what is drawn."""
    found = simulate_recording(channels=4, duration=20.0, seizures=0, seed=1).read(0, 10240)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 5120], [15.7516, 0.6502, 8.1638, -2.6774], rtol=0, atol=0.01)


def test_no_subject_and_no_run_repeats_anothers_noise():
    small = dict(channels=6, duration=30.0, seizures=0, seed=2)
    found = [simulate_recording(**small, subject=s, run=r) for s, r in ((1, 1), (1, 2), (2, 1), (2, 2), (0, 1))]
    values = np.concatenate([recording.source.values[:, 512:] for recording in found])
    values = np.diff(values, axis=1)  # white enough for a correlation to mean something
    between = np.corrcoef(values) * (1 - np.kron(np.eye(len(found)), np.ones((6, 6))))
    assert np.abs(between).max() < 0.06
    assert found[0].channels.equals(found[1].channels)
    assert not np.allclose(found[0].channels["x"], found[2].channels["x"])


def test_seizures_come_at_other_times_in_every_subject_and_run():
    small = dict(channels=2, duration=60.0, seed=2)
    found = [simulate_recording(**small, subject=s, run=r).events["onset"].item() for s, r in ((1, 1), (1, 2), (2, 1))]
    assert len(set(found)) == 3


def test_distant_contacts_share_the_reference_and_nothing_else():
    values = simulate_recording(channels=24, duration=30.0, seizures=0).source.values[[0, 12, 23], 512:]
    between = np.corrcoef(np.diff(values, axis=1))[np.triu_indices(3, 1)]
    assert (between > 0.2).all()
    assert between.max() < 0.5


def test_pieces_that_are_integrated_side_by_side_have_no_seam():
    """The same recording in one piece and in many, with spikes and a seizure in it."""
    random = np.random.default_rng(0)
    steps, channels = 90 * 512, 3
    seizure = Seizure(50.0, 20.0, (0,))
    reached = [np.array([50.0, 52.0, np.nan])]
    course = make_course(steps // 32 + 2, [seizure], reached, np.ones(channels), random)
    assert course.mass[1].min() < 45  # there are spikes
    many = run_masses(course, steps, [(45.0, 75.0)], (1, 2, 3, 4))
    whole = run_masses(course, steps, [(0.0, 90.0)], (1, 2, 3, 4))
    assert np.ptp(whole, axis=1).min() > 2
    np.testing.assert_allclose(many, whole, atol=1e-3)


def test_what_it_returns_is_a_recording_in_microvolts(easy: Recording):
    assert easy.names[:9] == ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "B1"]
    assert easy.source.values.shape == (24, 360 * 512)
    assert np.isfinite(easy.source.values).all()
    assert set(easy.channels["type"]) == {"seeg"}
    assert set(easy.channels["status"]) == {"good"}
    position = easy.channels[["x", "y", "z"]].to_numpy()
    assert np.linalg.norm(position, axis=1).max() < 0.1
    np.testing.assert_allclose(np.linalg.norm(np.diff(position[:8], axis=0), axis=1), 0.0035)
    calm = easy.to_xarray(0.0, easy.events["onset"][0] - 30).values
    assert 15 < np.median(calm.std(1)) < 60


def test_a_seizure_spreads_with_distance():
    implantation = implant(200, "easy", np.random.default_rng(0))
    seizure = Seizure(100.0, 80.0, (24, 25), speed=2.5, reach=45.0)
    onset = spread(seizure, implantation.position, np.random.default_rng(1))
    distance = 1000 * np.linalg.norm(implantation.position[:, None] - implantation.position[[24, 25]], axis=-1).min(1)
    assert onset[24] == 100
    assert 100 < onset[25] < 100.8
    np.testing.assert_array_equal(np.isnan(onset), distance > 45)
    reached = ~np.isnan(onset) & (distance > 0)
    factor = np.log((onset[reached] - 100) * 2.5 / distance[reached])
    assert abs(factor.mean()) < 0.08
    assert factor.std() == pytest.approx(0.15, rel=0.3)
    assert spearmanr(onset[reached], distance[reached]).statistic > 0.9


def test_the_truth_tells_the_channels_of_each_seizure_in_their_order(easy: Recording):
    known = rows(easy, "recruited")
    for _, seizure in easy.events.iterrows():
        end = seizure["onset"] + seizure["duration"]
        reached = known[(known["onset"] >= seizure["onset"]) & (known["onset"] < end)]
        assert ",".join(reached["channels"]) == seizure["channels"]
        assert reached["onset"].iloc[0] == seizure["onset"]
        np.testing.assert_allclose(reached["onset"] + reached["duration"], end)
    assert len(known) == sum(len(told.split(",")) for told in easy.events["channels"])


def test_a_seizure_is_where_and_when_the_truth_says_so():
    """Two recordings that differ only in a seizure's amplitude differ there, and nowhere else."""
    found, values = None, []
    for gain in (1.0, 1e-9):
        seizure = Seizure(20.0, 30.0, (1,), reach=15.0, gain=gain)
        found = simulate_recording(channels=24, duration=60.0, seizures=[seizure], seed=0)
        values.append(found.source.values)
    difference = values[0] - values[1]
    reached = rows(found, "recruited")
    assert 4 <= len(reached) <= 8
    assert np.abs(difference[:, : 20 * 512 - 32]).max() < 1e-3
    assert np.abs(difference[:, 51 * 512 :]).max() < 1
    for channel, onset in zip(reached["channels"], reached["onset"], strict=True):
        assert difference[found.names.index(channel), round(onset * 512) : round((onset + 4) * 512)].std() > 20
    position = found.channels[["x", "y", "z"]].to_numpy()
    inside = np.isin(found.names, reached["channels"])
    away = np.linalg.norm(position[:, None] - position[inside], axis=-1).min(1) > 0.015
    assert away.sum() >= 8
    assert difference[away].std() < 0.02 * difference[inside].std()


def test_a_seizure_slows_down_and_leaves_silence(easy: Recording):
    onset, duration = easy.events[["onset", "duration"]].iloc[0]
    first = easy.names.index(easy.events["channels"][0].split(",")[0])

    def rhythm(begin: float, end: float) -> float:
        values = easy.to_xarray(begin, end).values[first]
        spectrum = np.abs(np.fft.rfft(values * np.hanning(len(values)))) ** 2
        frequency = np.fft.rfftfreq(len(values), 1 / 512)
        return frequency[(frequency > 1.5)][spectrum[frequency > 1.5].argmax()]

    assert rhythm(onset + 0.3 * duration, onset + 0.4 * duration) > 8
    assert 1.5 < rhythm(onset + 0.85 * duration, onset + duration) < 4
    silence = easy.to_xarray(onset + duration + 2, onset + duration + 12).values[first].std()
    assert silence < 0.6 * easy.to_xarray(0.0, 60.0).values[first].std()


def test_the_easy_level_is_solved_by_line_length(easy: Recording):
    assert line_length_auc(easy) > 0.99


def test_the_hard_level_is_not(hard: list[Recording]):
    found = [line_length_auc(recording) for recording in hard]
    assert 0.65 < np.mean(found) < 0.85
    assert max(found) < 0.95


def test_the_hard_level_has_a_flat_and_a_mains_channel_and_nobody_says_so(hard: list[Recording]):
    for recording in hard:
        values = recording.source.values
        flat, mains = (rows(recording, kind)["channels"].item() for kind in ("flat", "mains"))
        dead = values[recording.names.index(flat)]
        begin = round(rows(recording, "flat")["onset"].item() * 512)
        assert (dead[begin:] == 0).all()
        assert dead[:begin].std() > 10
        power = np.abs(np.fft.rfft(values[:, : 60 * 512], axis=1)) ** 2
        of_mains = power[:, 60 * 50] / power[:, 60:].sum(1)
        assert of_mains[recording.names.index(mains)] > 0.5
        assert np.sort(of_mains)[-2] < 0.1
        assert set(recording.events["event_type"]) == {"sz"}
        assert set(recording.channels["status"]) == {"good"}
        first = {told.split(",")[0] for told in recording.events["channels"]}
        assert not first & {flat, mains}


def test_the_hard_level_has_faint_seizures_discharges_and_artefacts(hard: list[Recording]):
    for recording in hard:
        reached = recording.events["channels"].str.split(",").str.len()
        assert reached.min() < 0.75 * reached.max()
        discharges = rows(recording, "discharge")
        assert len(discharges) == 4
        for onset, duration in zip(discharges["onset"], discharges["duration"], strict=True):
            events = recording.events
            assert ((onset + duration < events["onset"]) | (onset > events["onset"] + events["duration"])).all()
        assert 5 <= sum(len(rows(recording, kind)) for kind in ("emg", "movement", "pop")) <= 13


def test_an_artefact_is_in_the_channels_that_the_truth_names():
    hard = simulate_recording(level="hard", channels=16, duration=300.0, seizures=0, seed=4)
    for _, burst in rows(hard, "emg").iterrows():
        inside = hard.to_xarray(burst["onset"], burst["onset"] + burst["duration"]).diff("time")
        before = hard.to_xarray(max(0.0, burst["onset"] - 1.5), burst["onset"] - 0.1).diff("time")
        ratio = (inside.std("time") / (before.std("time") + 1e-9)).to_series()
        dead = rows(hard, "flat")["channels"].item()
        named = [name for name in burst["channels"].split(",") if name != dead]
        others = [name for name in hard.names if name not in [*named, dead]]
        if others:
            assert ratio[named].median() > 1.5 * ratio[others].median()


def test_seizures_that_are_given_are_all_there_is():
    given = [Seizure(20.0, 15.0, (2,)), Seizure(45.0, 6.0, (5,), reach=8.0, marked=False)]
    found = simulate_recording(channels=8, duration=60.0, level="hard", seizures=given)
    assert found.events[["onset", "duration"]].to_numpy().tolist() == [[20.0, 15.0]]
    assert rows(found, "discharge")[["onset", "duration"]].to_numpy().tolist() == [[45.0, 6.0]]


@pytest.mark.parametrize("sfreq", [256.0, 1000.0, 2048.0])
def test_other_rates_show_the_same_seizure(sfreq: float):
    """The masses are the same; background noise is drawn at the recording's rate, so only slow parts are compared."""
    same = dict(channels=8, duration=40.0, seizures=[Seizure(12.0, 20.0, (0,))], seed=1)
    here = simulate_recording(sfreq=sfreq, **same).to_xarray(13.0, 31.0).interp(time=np.arange(13.1, 30.9, 1 / 200))
    there = simulate_recording(**same).to_xarray(13.0, 31.0).interp(time=here["time"])
    assert np.corrcoef(here.values[0], there.values[0])[0, 1] > 0.95


def test_long_recordings_have_a_seizure_each_ten_minutes():
    from tsattn.recordings.simulate.scene import plan, usual_number

    assert [usual_number(seconds) for seconds in (60.0, 300.0, 600.0, 3600.0)] == [1, 1, 2, 6]
    implantation = implant(32, "hard", np.random.default_rng(0))
    for seed in range(20):
        planned = plan(implantation, 3600.0, 6, "hard", np.random.default_rng(seed))
        marked = [seizure for seizure in planned if seizure.marked]
        assert len(marked) == 6
        apart = [b.onset - a.onset - a.duration for a, b in itertools.pairwise(marked)]
        assert min(apart) > 60
        assert len(planned) - len(marked) == 24


@pytest.mark.parametrize("exponent", [1.0, 2.2])
def test_coloured_noise_has_its_slope_and_unit_spread(exponent: float):
    noise = coloured(200_000, exponent, 512.0, np.random.default_rng(0))
    assert noise.std() == pytest.approx(1, rel=1e-5)
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / 512)
    band = (frequency > 1) & (frequency < 200)
    assert np.polyfit(np.log(frequency[band]), np.log(power[band]), 1)[0] == pytest.approx(-exponent, abs=0.05)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (dict(duration=5.0), "5 s at 512 Hz were asked for, expected at least 10 s"),
        (dict(sfreq=100.0), "600 s at 100 Hz were asked for, expected at least 10 s at more than 100 Hz"),
        (dict(duration=float("nan")), "nan s"),
        (dict(channels=0), "0 channels were asked for at level 'easy', expected at least 1"),
        (dict(channels=4, level="hard"), "expected at least 8"),
        (dict(seed=-1), "seed -1"),
        (dict(seizures=100), "100 seizures were asked for in 600 s, expected 0 to 30"),
        (dict(seizures=-1), "-1 seizures"),
        (dict(seizures=[Seizure(590.0, 20.0, (0,))]), "lasts 20 s from 590 s, expected it within 600 s"),
        (dict(seizures=[Seizure(10.0, 20.0, (32,))]), r"begins in channels \(32,\), expected some of 0 to 31"),
        (dict(seizures=[Seizure(10.0, 20.0, (0,), speed=0.0)]), "speed 0 mm/s"),
    ],
)
def test_what_makes_no_recording_is_refused(wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        simulate_recording(**wrong)


def test_truth_is_not_made_up(easy: Recording):
    from tsattn.recordings.recording import from_array

    with pytest.raises(ValueError, match="holds no truth"):
        truth(from_array(np.zeros((1, 10)), 1.0))
    assert truth(simulate_recording(channels=2, duration=10.0, seizures=0)).empty
