"""Filters and resampling against scipy on the whole recording, torch, and what is known of a sine."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import signal

from tsattn.recordings.preparation.filters import design, harmonics, reach
from tsattn.recordings.preparation.plan import plan
from tsattn.recordings.preparation.preset import PRESETS, Preset, make_preset
from tsattn.recordings.preparation.resample import Resampler, rate_ratio
from tsattn.recordings.recording import Recording, from_array

RAW = PRESETS["raw"]


def drifting(channels: int, sfreq: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Noise on a random walk on a constant that is much larger: what an amplifier gives."""
    rng = np.random.default_rng(seed)
    n = round(seconds * sfreq)
    walk = np.cumsum(rng.standard_normal((channels, n)), 1) * 0.5
    return walk + 10 * rng.standard_normal((channels, n)) + 3000 * rng.standard_normal((channels, 1))


def whole(recording: Recording, preset: Preset) -> np.ndarray:
    chain = plan(recording, preset)
    return chain.block(0, chain.samples)


def in_blocks(recording: Recording, preset: Preset, length: int) -> np.ndarray:
    chain = plan(recording, preset)
    return np.concatenate(
        [chain.block(at, min(chain.samples, at + length)) for at in range(0, chain.samples, length)], axis=1
    )


def by_scipy(x: np.ndarray, up: int, down: int, preset: Preset, sfreq: float) -> np.ndarray:
    """The whole recording at once in float64, by scipy's own functions; ends continued by point reflection."""
    more = 40 * down
    longer = np.pad(x, ((0, 0), (more, more)), mode="reflect", reflect_type="odd")
    y = signal.resample_poly(longer, up, down, axis=1)[:, 40 * up :][:, : round(x.shape[1] * up / down)]
    parts = []
    if preset.notch:
        parts += [signal.tf2sos(*signal.iirnotch(k, 30, fs=sfreq)) for k in np.arange(preset.notch, 255, preset.notch)]
    if preset.band:
        parts += [signal.butter(4, preset.band, "bandpass", fs=sfreq, output="sos")]
    return signal.sosfiltfilt(np.concatenate(parts), y, axis=1, padlen=round(2 * sfreq)) if parts else y


@pytest.mark.parametrize(
    ("sfreq", "up", "down", "changes"),
    [
        (1024.0, 1, 2, {}),
        (256.0, 2, 1, {}),
        (512.0, 1, 1, {"notch": 50.0}),
        (1000.0, 64, 125, {"notch": 60.0}),
        (499.9, 5120, 4999, {}),
        (173.61, 51200, 17361, {}),
        (2000.0, 32, 125, {"band": None}),
    ],
)
def test_blocks_equal_scipy_on_the_whole_recording_to_1e_6_of_the_spread(sfreq, up, down, changes):
    preset = make_preset("swec", reference="none", **changes)
    x = drifting(2, sfreq, 130)
    expected = by_scipy(x, up, down, preset, 512.0)
    found = in_blocks(from_array(x, sfreq), preset, 9973)
    spread = expected.std(axis=1, keepdims=True)
    assert found.shape[1] == round(x.shape[1] / sfreq * 512)
    scale = np.maximum(spread, 0.2 * np.abs(expected))  # float32 comes out, whose step grows with the value
    assert (np.abs(found - expected) / scale).max() < 1e-6


@pytest.mark.parametrize("changes", [{}, {"band": None}, {"resample": "ibm-linear"}, {"band": (None, 100.0)}])
def test_with_gaps_blocks_equal_the_whole(changes):
    x = drifting(4, 1000.0, 100)
    x[:, 20_003:31_111] = np.nan
    x[:, 70_000:70_001] = np.nan
    x[1, 50_000:52_000] = np.nan  # one channel alone
    recording, preset = from_array(x, 1000.0), make_preset("swec", reference="average", **changes)
    expected = whole(recording, preset)
    for length in (5_000, 12_345):
        found = in_blocks(recording, preset, length)
        assert np.array_equal(np.isnan(found), np.isnan(expected))
        assert np.nanmax(np.abs(found - expected) / np.nanstd(expected, axis=1, keepdims=True)) < 1e-6


def test_a_stretch_between_gaps_is_filtered_as_if_it_were_a_recording_of_its_own():
    x = drifting(3, 1024.0, 60)
    x[:, 20 * 1024 : 30 * 1024] = np.nan
    preset = make_preset("swec")
    found = whole(from_array(x, 1024.0), preset)
    for begin, end in ((0, 20), (30, 60)):
        alone = whole(from_array(x[:, begin * 1024 : end * 1024], 1024.0), preset)
        np.testing.assert_allclose(found[:, begin * 512 : end * 512], alone, atol=1e-5)
    assert np.isnan(found[:, 20 * 512 : 30 * 512]).all()


def test_a_stretch_too_short_for_the_filters_goes_missing_with_a_note():
    x = drifting(2, 512.0, 30)
    x[:, 5000:6000] = np.nan
    x[:, 6500:7500] = np.nan  # 500 samples lie between: less than 2 s
    chain = plan(from_array(x, 512.0), make_preset("swec", reference="none"))
    assert np.isnan(chain.block(0, chain.samples)[:, 5000:7500]).all()
    assert chain.gaps == ((5000, 7500),)
    assert "1 stretches between gaps (0.977 s) are too short" in " ".join(note.text for note in chain.notes)
    assert plan(from_array(x, 512.0), RAW).gaps == ((5000, 6000), (6500, 7500))


def test_a_recording_shorter_than_the_filters_is_refused():
    with pytest.raises(ValueError, match=r"no stretch .* long enough for the filters \(above 2 s\).*preset raw"):
        plan(from_array(np.zeros((2, 900)), 512.0), make_preset("swec", reference="none"))


@pytest.mark.parametrize("sfreq", [1024.0, 499.9, 173.61, 2000.0])
def test_sample_m_stands_at_m_over_the_rate_also_after_a_gap(sfreq):
    n = round(60 * sfreq)
    time = np.arange(n) / sfreq
    x = 100 * np.sin(2 * np.pi * 7 * time)[None]
    x[:, round(20.0021 * sfreq) : round(33.337 * sfreq)] = np.nan
    found = whole(from_array(x, sfreq), replace(RAW, sfreq=512.0))[0]
    expected = 100 * np.sin(2 * np.pi * 7 * np.arange(len(found)) / 512)
    inside = np.convolve(np.isfinite(found), np.ones(201), "same") > 200.5  # away from the ends
    assert inside.sum() > 20_000
    shift = 100 * 2 * np.pi * 7 / 512  # what a shift by one sample would change
    assert np.abs(found - expected)[inside].max() < 0.02 * shift


def test_linear_interpolation_is_torchs_and_aliases_where_polyphase_does_not():
    torch = pytest.importorskip("torch")
    x = np.sin(2 * np.pi * 500 * np.arange(2048 * 10) / 2048)[None]
    with_alias = whole(from_array(x, 2048.0), replace(RAW, sfreq=512.0, resample="ibm-linear"))
    theirs = torch.nn.functional.interpolate(torch.tensor(x)[None], size=5120, mode="linear", align_corners=False)
    np.testing.assert_allclose(with_alias, theirs[0].numpy(), atol=1e-6)
    without = whole(from_array(x, 2048.0), replace(RAW, sfreq=512.0))

    def at_12_hz(y: np.ndarray) -> float:
        return 2 * np.abs(np.fft.rfft(y[0, 512:-512] * np.hanning(4096)))[12 * 8] / 2048

    assert at_12_hz(with_alias) == pytest.approx(0.72, abs=0.01)
    assert at_12_hz(without) < 0.0008


def test_linear_interpolation_upwards_is_torchs():
    torch = pytest.importorskip("torch")
    x = drifting(2, 200.0, 10)
    found = in_blocks(from_array(x, 200.0), replace(RAW, sfreq=512.0, resample="ibm-linear"), 777)
    theirs = torch.nn.functional.interpolate(torch.tensor(x)[None], size=5120, mode="linear", align_corners=False)
    np.testing.assert_allclose(found, theirs[0].numpy(), rtol=1e-6)


def test_channels_of_several_rates_come_to_one_and_stay_in_step():
    from tsattn.recordings.recording import Note, make_channels

    class Two:
        def read(self, rows, start, stop):
            sfreq = 1000.0 if list(rows) == [0] else 250.0
            return np.sin(2 * np.pi * 5 * np.arange(start, stop) / sfreq)[None].repeat(len(rows), 0)

    table = make_channels(["A1", "A2", "A3"], [1000.0, 250.0, 250.0])
    recording = Recording(Two(), "two", "two", table, 30.0)
    chain = plan(recording, RAW)
    assert chain.sfreq == 1000.0
    assert Note("info", "Brought to 1000 Hz from 250 (2 channels), 1000 (1 channels).") in chain.notes
    found = chain.block(0, chain.samples)[:, 1000:-1000]
    np.testing.assert_allclose(found[1], found[0], atol=5e-3)


def test_a_constant_much_larger_than_the_signal_leaves_no_trace_of_the_blocks():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 512 * 120)) + 1e6
    preset = make_preset("swec", reference="none")
    recording = from_array(x, 512.0)
    expected = whole(recording, preset)
    assert np.abs(in_blocks(recording, preset, 6000) - expected).max() / expected.std() < 1e-6


def test_the_overlap_is_where_the_filters_response_has_died():
    for changes in ({}, {"notch": 50.0}, {"band": (2.0, 30.0), "order": 2}, {"band": (None, 40.0)}):
        sos = design(make_preset("swec", **changes), 512.0)
        n = reach(sos)
        impulse = np.zeros(4 * n)
        impulse[0] = 1
        response = np.abs(signal.sosfilt(sos, impulse))
        assert response[n:].max() < 1e-9 * response.max()
        assert response[n // 3 :].max() > 1e-9 * response.max()  # and not much later


def test_a_notch_takes_the_mains_and_its_harmonics_and_leaves_the_rest():
    assert harmonics(50.0, 30.0, 512.0) == [50, 100, 150, 200, 250]
    assert harmonics(60.0, 30.0, 480.0) == [60, 120, 180]  # 240 Hz is Nyquist
    time = np.arange(512 * 30) / 512
    for frequency, gain in ((50, 0), (150, 0), (45, 1), (110, 1)):
        x = np.sin(2 * np.pi * frequency * time)[None]
        found = whole(from_array(x, 512.0), replace(RAW, notch=50.0))[0, 2560:-2560]
        assert found.std() * np.sqrt(2) == pytest.approx(gain, abs=0.04)


def test_rates_that_no_fraction_joins_are_refused_and_near_ones_get_a_short_filter():
    assert rate_ratio(173.61, 512.0, 60.0).as_integer_ratio() == (51_200, 17_361)
    assert rate_ratio(1024.0001, 512.0, 10.0) == 0.5  # drifts by 5e-4 samples
    assert max(rate_ratio(499.907, 512.0, 86_400.0).as_integer_ratio()) <= 100_000
    with pytest.raises(ValueError, match=r"1/2, drifts by 4.3 samples over 86400 s, .* less than 0.5.*sfreq=512.00005"):
        rate_ratio(1024.0001, 512.0, 86_400.0)


def test_a_band_beyond_nyquist_is_refused():
    with pytest.raises(ValueError, match=r"band ends at 120 Hz.*half the sampling rate \(100 Hz\)"):
        design(make_preset("swec"), 200.0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"band": (10.0, 1.0)}, "band is 10.0 to 1.0 Hz"),
        ({"band": (0.0, 1.0)}, "band is 0.0 to"),
        ({"sfreq": -1.0}, "sfreq is -1"),
        ({"reference": "medain"}, "reference is 'medain', expected one of none, median"),
        ({"order": 0}, "order is 0"),
        ({"types": ()}, "types is empty"),
        ({"bandpass": (1, 2)}, "no parameter 'bandpass'"),
    ],
)
def test_a_preset_refuses_what_makes_no_sense(changes, match):
    with pytest.raises(ValueError, match=match):
        make_preset("swec", **changes)


def test_a_changed_preset_does_not_keep_its_name():
    assert make_preset("swec").name == "swec"
    assert make_preset("swec", order=4) == PRESETS["swec"]
    assert make_preset("swec", notch=50.0).name == "swec, changed"
    with pytest.raises(ValueError, match="no preset 'swek', expected one of swec, raw"):
        make_preset("swek")


def test_a_resampler_of_the_same_rate_gives_the_very_samples():
    x = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    assert np.array_equal(Resampler(1, 1).run(x, 0, 50, 0, 50), x)


@pytest.mark.parametrize("old", [1e-6, 1e-3, 1e9])
def test_a_rate_of_a_damaged_header_is_refused_before_a_filter_is_built(old: float):
    """A record of a million seconds once asked for gigabytes of filter."""
    with pytest.raises(ValueError, match=r"cannot be brought to 512 Hz, .* times apart"):
        rate_ratio(old, 512.0, 8.0)
