import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from support import SHARED

from tsattn.events.table import make_events
from tsattn.recordings.checks import RULES, check, event_notes, find_bads, mark_bads
from tsattn.recordings.measures import spans
from tsattn.recordings.recording import Recording, from_array, make_channels
from tsattn.recordings.units import check_silent

SFREQ = 256.0


def brainlike(channels: int = 8, seconds: float = 60.0, sfreq: float = SFREQ, seed: int = 0) -> np.ndarray:
    """1/f noise of 40 µV, in steps of 0.1 µV."""
    rng = np.random.default_rng(seed)
    n = round(seconds * sfreq)
    freqs = np.fft.rfftfreq(n, 1 / sfreq)
    spectrum = rng.standard_normal((channels, len(freqs), 2)) @ [1, 1j] / np.maximum(freqs, 1.0)
    x = np.fft.irfft(spectrum, n)
    return np.round(40 * x / x.std(1, keepdims=True), 1)


def texts(recording: Recording) -> str:
    return " ".join(note.text for note in check(recording).notes)


def test_a_clean_recording_has_nothing_to_say():
    found = check(from_array(brainlike(), SFREQ))
    assert found.notes == ()
    assert found.mains is None
    assert find_bads(from_array(brainlike(), SFREQ)) == {}


def test_spread_offset_and_step_are_what_was_put_in():
    x = brainlike(4, 200) + np.array([0.0, 500.0, -1000.0, 10.0])[:, None]
    found = check(from_array(x, SFREQ), whole=True).channels
    np.testing.assert_allclose(found["offset"], np.median(x, 1), atol=2)  # a median of medians
    np.testing.assert_allclose(found["spread"], 1.4826 * np.median(np.abs(x - np.median(x, 1)[:, None]), 1), rtol=0.1)
    np.testing.assert_allclose(found["step"], 0.1, rtol=1e-6)
    assert check(from_array(x, SFREQ), whole=True).seconds == 200


def test_each_rule_finds_its_channel_and_no_other():
    x = brainlike(12, 120)
    t = np.arange(x.shape[1]) / SFREQ
    rng = np.random.default_rng(1)
    x[1, : x.shape[1] // 2] = -7.3  # half of the time constant
    x[3] = np.clip(x[3], -50, 50)  # clipped at 1.25 of its spread
    x[5] += np.round(300 * np.sin(2 * np.pi * 50 * t), 1)
    x[7] = x[2]
    x[8] = -1.25 * x[6] + 30  # scaled, turned and shifted
    x[9] *= 1e-6  # volts
    x[10] = np.where(rng.random(x.shape[1]) < 0.7, np.nan, x[10])
    bads = find_bads(from_array(x, SFREQ))
    assert {name: reason.split(":")[0] for name, reason in bads.items()} == {
        "C2": "flat",
        "C4": "clipped",
        "C6": "mains",
        "C8": "duplicate",
        "C9": "duplicate",
        "C10": "unit",
        "C11": "missing",
    }
    assert bads["C8"] == "duplicate: same signal as C3"
    assert "50 %" in bads["C2"]
    found = check(from_array(x, SFREQ))
    assert found.mains == 50.0
    assert found.channels.loc["C9", "scale"] == pytest.approx(-1.25)
    assert found.channels.loc["C6", "mains_uv"] == pytest.approx(300 / np.sqrt(2), rel=0.05)
    assert found.channels.loc["C11", "missing"] == pytest.approx(0.7, abs=0.02)
    assert found.channels.loc["C4", "clipped"] == pytest.approx(np.mean(np.abs(x[3]) == 50), rel=0.15)


def test_a_duplicate_that_was_rounded_twice_is_found_and_a_close_neighbour_is_not():
    """A neighbour at r = 0.9995 is physiology (volume conduction), not a copy."""
    x = brainlike(4, 60)
    x[1] = np.round(0.7 * x[0] / 0.25) * 0.25
    slope = np.diff(x[2]).std()
    x[3] = x[2] + 0.03 * slope * np.random.default_rng(0).standard_normal(x.shape[1])
    assert np.corrcoef(np.diff(x[2]), np.diff(x[3]))[0, 1] > 0.999
    assert list(find_bads(from_array(x, SFREQ))) == ["C2"]


def test_strong_mains_in_every_channel_is_the_rooms_and_makes_no_channel_bad():
    x = brainlike(8)
    x += 200 * np.sin(2 * np.pi * 60 * np.arange(x.shape[1]) / SFREQ)
    recording = from_array(x, SFREQ)
    assert find_bads(recording, ["mains"]) == {}
    assert check(recording).mains == 60.0
    assert "A notch is needed" in texts(recording)


def test_mains_below_the_reach_of_the_rate_is_unknown_not_absent():
    found = check(from_array(brainlike(4, 60, 100.0), 100.0))
    assert found.mains is None
    assert found.channels["mains"].isna().all()


def test_a_pause_written_as_zeros_is_said_and_makes_no_channel_bad():
    """HDF5 reads zeros where a part is missing; every channel is then flat at once."""
    x = brainlike(8, 100)
    x[:, : x.shape[1] // 2] = 0
    recording = from_array(x, SFREQ)
    assert "50 % of the seconds looked at are constant in nearly all channels" in texts(recording)
    assert find_bads(recording) == {}


def test_a_recording_that_is_flat_throughout_has_no_good_channel():
    assert list(find_bads(from_array(np.zeros((8, 2560)), SFREQ), ["flat"])) == [f"C{i}" for i in range(1, 9)]


@pytest.mark.parametrize(("factor", "unit"), [(1e-6, "V"), (1e-3, "mV"), (1e3, "nV")])
def test_a_wrong_unit_is_said_with_the_one_to_pass(factor: float, unit: str):
    assert f"unit='{unit}'" in texts(from_array(brainlike() * factor, SFREQ))
    assert find_bads(from_array(brainlike() * factor, SFREQ)) == {}  # all channels alike: no channel is to blame


def test_volts_that_do_not_say_so_are_refused_wherever_gaps_lie():
    x = brainlike(3, 100) * 1e-6
    for middle in (25, 50, 75):  # where a look at three places would look
        x[:, round((middle - 8) * SFREQ) : round((middle + 8) * SFREQ)] = np.nan
    table = make_channels(["A1", "A2", "A3"], SFREQ, unit="")
    with pytest.raises(ValueError, match=r"3 channels do not state their unit\. The values look like volts"):
        check_silent(from_array(x, SFREQ, channels=table), "a file")
    flat = check_silent(from_array(np.zeros((3, 2560)), SFREQ, channels=table), "a file")
    assert "nothing confirms" in flat.notes[0].text


def test_only_channels_of_the_brains_signal_are_suggested():
    x = brainlike(4)
    x[2:] = 0
    table = make_channels(["A1", "A2", "STI", "ECG"], SFREQ, ["seeg", "seeg", "stim", "ecg"])
    recording = from_array(x, SFREQ, channels=table)
    assert find_bads(recording) == {}
    assert check(recording).channels.loc["STI", "flat"] == 1


def test_rules_are_chosen_by_name_and_thresholds_are_ones_own():
    x = brainlike(4, 100)
    x[1, : round(10 * SFREQ)] = 5
    recording = from_array(x, SFREQ)
    assert find_bads(recording) == {}
    assert find_bads(recording, {"flat": 0.05}) == {"C2": "flat: 10 % of the time"}
    with pytest.raises(ValueError, match=r"no rule 'loud'.*flat, clipped"):
        find_bads(recording, ["loud"])


def test_bad_channels_are_marked_beside_those_that_were():
    x = brainlike(4)
    x[2] = 1
    table = make_channels(
        ["A1", "A2", "A3", "A4"], SFREQ, status=["bad", "good", "good", "good"], reason=["tsv", "", "", ""]
    )
    recording = from_array(x, SFREQ, channels=table)
    marked = mark_bads(recording).channels
    assert marked["status"].tolist() == ["bad", "good", "bad", "good"]
    assert marked["reason"].tolist() == ["tsv", "", "flat: 100 % of the time", ""]
    assert recording.channels.equals(table)


def test_gaps_are_not_looked_at_and_do_not_count_as_missing_channels():
    x = brainlike(4, 100)
    x[:, 5000:15000] = np.nan
    recording = from_array(x, SFREQ)
    found = check(recording)
    assert (found.channels["missing"] == 0).all()
    assert found.channels["spread"].notna().all()
    with pytest.raises(ValueError, match="all of it is a gap"):
        check(replace(recording, gaps=((0.0, 100.0),)))


@dataclass(frozen=True)
class Endless:
    """Any number of samples without holding one; remembers what was read."""

    reads: list

    def read(self, rows: Sequence[int], start: int, stop: int) -> np.ndarray:
        self.reads.append((start, stop))
        return np.random.default_rng(start).standard_normal((len(rows), stop - start)) * 50


def test_a_day_is_looked_at_from_its_first_to_its_last_sample_in_bounded_memory():
    day = 24 * 3600.0
    source = Endless([])
    recording = Recording(source, "day", "day", make_channels([f"A{i}" for i in range(64)], 512.0), day)
    tracemalloc.start()
    found = check(recording)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.seconds == 200
    assert source.reads[0][0] == 0
    assert max(stop for _, stop in source.reads) == round(day * 512)
    assert peak < 200e6
    assert max(stop - start for start, stop in source.reads) == 5120


def test_stretches_lie_in_what_was_recorded_and_the_whole_is_covered_once():
    recording = replace(from_array(np.zeros((1, 1000)), 10.0), gaps=((0.0, 20.0), (40.0, 60.0), (63.0, 64.0)))
    chosen = list(spans(recording, 10.0, 5, 4.0, False, 1))
    observed = recording.observed()
    assert all(any(a <= start < stop <= b for a, b in observed) for start, stop in chosen)
    assert chosen[0][0] == 200
    assert chosen[-1][1] == 1000
    everything = np.concatenate([np.arange(a, b) for a, b in spans(recording, 10.0, 5, 4.0, True, 1)])
    np.testing.assert_array_equal(everything, np.concatenate([np.arange(a, b) for a, b in observed]))


def test_mixed_rates_are_checked_each_at_its_own():
    class Two:
        def read(self, rows: Sequence[int], start: int, stop: int) -> np.ndarray:
            return brainlike(4, 60, 512.0 if max(rows) < 2 else 256.0)[list(rows), start:stop]

    table = make_channels(["A1", "A2", "A3", "A4"], [512.0, 512.0, 256.0, 256.0])
    found = check(Recording(Two(), "two", "two", table, 60.0)).channels
    assert found["sfreq"].tolist() == [512, 512, 256, 256]
    assert found.index.tolist() == ["A1", "A2", "A3", "A4"]


def test_events_that_the_recording_cannot_hold_are_counted():
    x = brainlike(2, 60)
    x[:, 2560:5120] = np.nan
    events = make_events([1.0, 50.0, 12.0, 5.0, np.nan], [2.0, 30.0, 3.0, -1.0, 1.0])
    told = texts(from_array(x, SFREQ, events=events))
    for sentence in (
        "1 of 5 events reach outside of the recording",
        "1 of 5 events lie wholly in a gap",
        "1 of 5 events have a negative duration",
        "1 of 5 events have no onset or duration",
    ):
        assert sentence in told


def test_an_event_is_in_a_gap_only_if_one_gap_holds_all_of_it():
    gaps = ((10.0, 20.0), (20.5, 30.0), (40.0, 50.0))
    events = make_events([5.0, 10.0, 12.0, 19.0, 20.2, 25.0, 45.0, 49.0], [3.0, 10.0, 2.0, 3.0, 0.0, 5.0, 1.0, 2.0])
    recording = replace(from_array(brainlike(2, 60), SFREQ, events=events), gaps=gaps)
    assert [note.text for note in event_notes(recording)] == ["4 of 8 events lie wholly in a gap."]


def test_a_clock_that_promises_more_than_the_source_holds_is_an_error():
    recording = from_array(brainlike(2, 60), SFREQ)
    longer = Recording(recording.source, "r", "r", recording.channels, 61.0)
    with pytest.raises(ValueError, match="shorter than the 61 s"):
        check(longer)


def test_coarse_values_are_worth_a_word():
    assert "C1, C2 is under 4 steps" in texts(from_array(np.round(brainlike(2) / 25) * 25, SFREQ))


def test_the_rules_on_real_recordings_find_what_is_wrong_with_them_and_nothing_else():
    """pt01 is a clean clip; mne's clip was anonymised by copying neighbours: 190 of its 394 rows are different."""
    mne = pytest.importorskip("mne")
    folder = SHARED / "data" / "ieeg"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set TSATTN_SHARED")
    raw = mne.io.read_raw_edf(folder / "ecog_pt01_ictal" / "sub-pt01_ecog_ictal.edf", verbose="error")
    clean = from_array(raw.get_data() * 1e6, raw.info["sfreq"], names=raw.ch_names)
    assert find_bads(clean) == {}
    assert check(clean).notes == ()
    raw = mne.io.read_raw_fif(folder / "formats" / "fif" / "sample_ecog_ieeg.fif", verbose="error")
    values = raw.get_data() * 1e6
    copied = find_bads(from_array(values, raw.info["sfreq"], names=raw.ch_names))
    assert len(copied) == 394 - len(np.unique(values, axis=0)) == 204
    assert all(reason.startswith("duplicate") for reason in copied.values())
    assert set(RULES) == {"missing", "flat", "clipped", "mains", "duplicate", "unit"}


def test_the_bad_channels_of_the_hard_simulation_are_found_and_no_other(monkeypatch: pytest.MonkeyPatch):
    folder = SHARED / "prototypes"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set TSATTN_SHARED")
    monkeypatch.syspath_prepend(str(folder))
    prototype = pytest.importorskip("sim_wendling")
    made = prototype.simulate(8, 120, 256, [prototype.Seizure(40, 30, (2, 3))], seed=3)
    truth = prototype.nuisance(made, seed=3)["bad"]
    bads = find_bads(from_array(made["data"], 256.0, names=made["ch_names"]))
    assert {name: reason.split(":")[0] for name, reason in bads.items()} == {
        name: what.split()[0] for name, what in truth
    }
