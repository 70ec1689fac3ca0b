"""The same signal is found under another name, gain, channel order, rate and start; different signals are not."""

import numpy as np
import pytest
from scipy.signal import butter, resample_poly, sosfiltfilt

from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.splits.fingerprint import find_twins, fingerprint, landmarks
from tsattn.recordings.splits.split import split

SFREQ = 256.0
SECONDS = 200


def pink(seed: int, channels: int = 8, seconds: float = SECONDS, sfreq: float = SFREQ) -> np.ndarray:
    """Noise with the spectrum of a brain (1/f above 0.5 Hz), in microvolts."""
    count = round(seconds * sfreq)
    white = np.random.default_rng(seed).normal(size=(channels, count))
    frequency = np.fft.rfftfreq(count, 1 / sfreq)
    values = np.fft.irfft(np.fft.rfft(white) / np.maximum(frequency, 0.5), count)
    return (values / values.std() * 50).astype(np.float32)


ORIGINAL = pink(0)


def as_recording(values: np.ndarray, sfreq: float = SFREQ, id: str = "b", subject: str | None = None) -> Recording:
    return from_array(np.ascontiguousarray(values), sfreq, id=id, subject=subject)


@pytest.fixture(scope="module")
def original():
    return fingerprint(as_recording(ORIGINAL))


ORDER = np.random.default_rng(1).permutation(8)
COPIES = {
    "as it is": (ORIGINAL, SFREQ, 0.0),
    "other channel order, gain and sign": (-3.7 * ORIGINAL[ORDER], SFREQ, 0.0),
    "whole microvolts": (np.round(ORIGINAL), SFREQ, 0.0),
    "a cut of a minute": (ORIGINAL[:, 20_001:35_361], SFREQ, -20_001 / SFREQ),
    "one channel": (ORIGINAL[3:4], SFREQ, 0.0),
    "silence before it": (np.pad(ORIGINAL, ((0, 0), (3_333, 0))), SFREQ, 3_333 / SFREQ),
    "half the rate": (resample_poly(ORIGINAL, 1, 2, axis=1), SFREQ / 2, 0.0),
    "twice the rate": (resample_poly(ORIGINAL, 2, 1, axis=1), SFREQ * 2, 0.0),
    "200 Hz and a late start": (resample_poly(ORIGINAL[:, 999:], 25, 32, axis=1), 200.0, -999 / SFREQ),
    "0.5 to 120 Hz": (sosfiltfilt(butter(4, [0.5, 120], "band", fs=SFREQ, output="sos"), ORIGINAL), SFREQ, 0.0),
    "some noise": (ORIGINAL + np.random.default_rng(2).normal(size=ORIGINAL.shape) * 2.5, SFREQ, 0.0),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found_with_its_offset(name, original):
    values, sfreq, offset = COPIES[name]
    (twins,) = find_twins([original, fingerprint(as_recording(values.astype(np.float32), sfreq))])
    assert twins.offset == pytest.approx(offset, abs=0.03)
    shared = min(SECONDS, values.shape[1] / sfreq)
    assert twins.end - twins.begin > 0.7 * shared


def test_a_copy_without_its_middle_is_found_on_both_sides_of_the_cut(original):
    joined = np.concatenate([ORIGINAL[:, :20_000], ORIGINAL[:, 30_000:]], axis=1)
    twins = find_twins([original, fingerprint(as_recording(joined))])
    assert sorted(round(t.offset, 1) for t in twins) == [round(-10_000 / SFREQ, 1), 0.0]


def test_different_signals_and_two_halves_of_one_are_no_twins(original):
    prints = [original, *(fingerprint(as_recording(pink(seed))) for seed in range(1, 12))]
    half = ORIGINAL.shape[1] // 2
    assert find_twins(prints) == []
    assert find_twins([fingerprint(as_recording(ORIGINAL[:, s])) for s in (slice(half), slice(half, None))]) == []


@pytest.mark.parametrize("frequency", [3.0, 3.7, 5.0])
def test_rhythms_that_look_alike_are_no_twins(frequency):
    time = np.arange(SECONDS * 256) / SFREQ
    prints = []
    for seed in range(4):
        random = np.random.default_rng(seed)
        wander = np.cumsum(random.normal(size=(4, time.size)), axis=1) * 0.002
        waves = np.sign(np.sin(2 * np.pi * frequency * time + wander)) * 50
        prints.append(fingerprint(as_recording((waves + random.normal(size=waves.shape)).astype(np.float32))))
    assert find_twins(prints) == []


def test_flat_and_missing_channels_have_no_landmarks_and_gaps_make_none():
    values = ORIGINAL.copy()
    values[0] = 5.0
    values[1] = np.nan
    values[:, 10_000:12_000] = np.nan
    found = fingerprint(as_recording(values))
    assert not np.isin(found.channel, [0, 1]).any()
    whole = fingerprint(as_recording(ORIGINAL))
    same = np.isin(found.hash, whole.hash)
    assert same.mean() > 0.999  # what stands is what the signal says, not what the gap does
    inside = (found.seconds > 10_000 / SFREQ - 1) & (found.seconds < 12_000 / SFREQ)
    assert not inside.any()


def test_a_pass_in_blocks_is_the_whole_pass(monkeypatch, original):
    monkeypatch.setattr("tsattn.recordings.splits.fingerprint.BLOCK_SECONDS", 17.0)
    blocks = fingerprint(as_recording(ORIGINAL))
    whole = landmarks(ORIGINAL, SFREQ, 0.0, 0)
    assert sorted(blocks.hash.tolist()) == sorted(whole.hash.tolist())
    assert blocks.seconds == pytest.approx(whole.seconds, abs=1e-4)


def test_a_long_recording_keeps_what_its_short_copy_keeps_too(original):
    thin = landmarks(ORIGINAL, SFREQ, 0.0, level=3)
    assert 0.08 < len(thin) / len(original) < 0.18
    (twins,) = find_twins([thin, fingerprint(as_recording(ORIGINAL[:, 10_000:]))])
    assert twins.offset == pytest.approx(-10_000 / SFREQ, abs=0.03)


def test_a_rate_too_low_for_the_band_is_refused():
    with pytest.raises(ValueError, match="20 Hz, expected at least 32 Hz"):
        fingerprint(as_recording(ORIGINAL[:, :5000], 20.0))


def test_twins_stay_on_one_side_of_every_split():
    recordings = [as_recording(pink(s), id=f"r{s}", subject=f"s{s}") for s in range(5)]
    copy = -2.0 * recordings[0].source.values[ORDER][:, 2_560:]
    recordings.append(as_recording(copy, id="r9", subject="s9"))
    for seed in range(6):
        made = split(recordings, "subject", (0.5, 0.25, 0.25), seed=seed)
        assert {s.part for s in made.spans if s.recording == "r0"} == {
            s.part for s in made.spans if s.recording == "r9"
        }
        assert made.report["twins"][0]["recordings"] == ["r0", "r9"]
        assert "r0 and r9 hold the same signal" in str(made)
    made = split(recordings, "time", embargo_seconds=5.0)
    for part in ("train", "val", "test"):
        (a,), (b,) = made.of("r0", part), made.of("r9", part)
        assert a.end == pytest.approx(b.end + 10.0, abs=0.1)
    dropped = split(recordings, "subject", twins="drop")
    assert dropped.of("r9") == []
    assert dropped.report["unused"] == ["r9"]
    with pytest.raises(ValueError, match="r0 and r9 hold the same signal"):
        split(recordings, "subject", twins="raise")
