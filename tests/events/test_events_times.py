"""Events across a recorder's pauses: both ends are on the true clock, whatever the format."""

from datetime import datetime, timedelta
from pathlib import Path

import mne
import numpy as np
import pytest
from test_events_doors import write_edf

from tsattn.events.clock import Clock
from tsattn.events.files import read_events
from tsattn.recordings.mne_object import from_mne
from tsattn.recordings.readers import open_recordings
from tsattn.recordings.recording import Recording
from tsattn.recordings.windows.labels import label_windows

RATE = 50


def stretches(random: np.random.Generator) -> Clock:
    """Recorded stretches in whole samples, with pauses of whole milliseconds between them."""
    count = int(random.integers(1, 5))
    lengths = (random.integers(4, 40, count) * 50 / RATE).tolist()
    pauses = (random.integers(1, 300, count) / 2).tolist()
    onsets = [0.0]
    for length, pause in zip(lengths[:-1], pauses, strict=False):
        onsets.append(onsets[-1] + length + pause)
    return Clock(tuple(onsets), tuple(lengths))


def true_sample(clock: Clock, sample: int) -> float:
    """Where a sample of the file lies, by counting."""
    for onset, length in zip(clock.onsets, clock.lengths, strict=True):
        if sample < round(length * RATE):
            return onset + sample / RATE
        sample -= round(length * RATE)
    raise AssertionError


@pytest.mark.parametrize("seed", range(30))
def test_both_ends_of_any_event_are_where_its_first_and_last_sample_are(seed: int):
    random = np.random.default_rng(seed)
    clock = stretches(random)
    samples = sum(round(length * RATE) for length in clock.lengths)
    first = random.integers(0, samples, 50)
    last = np.array([random.integers(a, samples) for a in first])  # included
    onset, length = clock.true_times(first / RATE, (last + 1 - first) / RATE)
    expected = [(true_sample(clock, a), true_sample(clock, b) + 1 / RATE) for a, b in zip(first, last, strict=True)]
    np.testing.assert_allclose(np.c_[onset, onset + length], expected, atol=1e-9)
    assert not [
        gap for gap in clock.gaps for a, n in zip(onset, length, strict=True) if gap[0] + 1e-9 < a + n < gap[1] - 1e-9
    ]


def test_marks_and_unknown_lengths_stay_what_they_are():
    clock = Clock((0.0, 100.0), (10.0, 10.0))
    onset, length = clock.true_times(np.array([5.0, 10.0, 12.0]), np.array([np.nan, 0.0, np.nan]))
    assert onset.tolist() == [5.0, 100.0, 102.0]
    np.testing.assert_array_equal(length, [np.nan, 0.0, np.nan])


def brainvision(path: Path, clock: Clock, marks: list[tuple[int, int, str]]) -> Path:
    """Write a BrainVision file whose stretches begin where the clock says; marks are (sample, samples, text)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = sum(round(length * RATE) for length in clock.lengths)
    np.random.default_rng(0).normal(0, 500, (samples, 2)).astype("<i2").tofile(path.with_suffix(".eeg"))
    begin, at, lines = datetime(2024, 1, 1, 12), 0, []
    for onset, length in zip(clock.onsets, clock.lengths, strict=True):
        stamp = (begin + timedelta(seconds=onset)).strftime("%Y%m%d%H%M%S%f")
        lines.append(f"New Segment,,{at + 1},1,0,{stamp}")
        at += round(length * RATE)
    lines += [f"Comment,{text},{first + 1},{count},0" for first, count, text in marks]
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\n" + "\n".join(f"Mk{i}={x}" for i, x in enumerate(lines, 1)) + "\n"
    )
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\n"
        f"NumberOfChannels=2\nSamplingInterval={1e6 / RATE:g}\n[Binary Infos]\nBinaryFormat=INT_16\n"
        "[Channel Infos]\nCh1=LA1,,0.1,µV\nCh2=LA2,,0.1,µV\n"
    )
    return path


@pytest.mark.parametrize("seed", range(8))
def test_seizures_of_brainvision_span_pauses(seed: int, tmp_path: Path):
    random = np.random.default_rng(seed)
    clock = stretches(random)
    samples = sum(round(length * RATE) for length in clock.lengths)
    first = np.sort(random.choice(samples - 1, 3, replace=False))
    count = [int(random.integers(2, samples - a + 1)) for a in first]
    marks = [(int(a), n, "seizure") for a, n in zip(first, count, strict=True)]
    (recording,) = open_recordings(brainvision(tmp_path / "a.vhdr", clock, marks))
    np.testing.assert_allclose(recording.gaps, np.reshape(clock.gaps, (-1, 2)), atol=1e-6)
    events = recording.events[recording.events["event_type"] == "sz"]
    found = np.c_[events["onset"], events["onset"] + events["duration"]]
    expected = [(true_sample(clock, a), true_sample(clock, a + n - 1) + 1 / RATE) for a, n, _ in marks]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    _labels_are_those_of_the_recording(recording)


def _labels_are_those_of_the_recording(recording: Recording) -> None:
    """Windows of one second are seizure where the recording's events are, on the same clock."""
    begin = np.arange(0, recording.duration - 1)
    labels = label_windows(recording.events, begin, 1, 1.0, "any_segment")
    events = recording.events[recording.events["event_type"] == "sz"]
    ends = events["onset"] + events["duration"]
    inside = [bool(((events["onset"] <= b + 1) & (ends >= b)).any()) for b in begin]
    assert labels.astype(bool).tolist() == inside


def test_annotations_of_a_discontinuous_edf_are_on_the_true_clock_by_both_doors(tmp_path: Path):
    path = write_edf(tmp_path / "gap.edf", [(0.0, None, "x" * 60), (5.0, 100.0, "seizure")], seconds=20)
    data = bytearray(path.read_bytes())
    data[192:197] = b"EDF+D"
    for second in range(10, 20):  # ten seconds, a pause of a minute and a half, ten seconds
        old = f"+{second}\x14\x14".encode()
        at = data.rindex(old)
        new = f"+{second + 90}".encode() + b"\x14\x14\x00"
        data[at : at + len(new)] = new
    path.write_bytes(data)
    (recording,) = open_recordings(path)
    assert recording.gaps == ((10.0, 100.0),)
    seizure = recording.events[recording.events["event_type"] == "sz"]
    assert seizure[["onset", "duration"]].to_numpy().tolist() == [[5.0, 100.0]]
    other = read_events(path)
    assert other.duration == recording.duration == 110.0
    assert other.events["onset"].tolist() == recording.events["onset"].tolist()
    assert other.events["duration"].tolist() == recording.events["duration"].tolist()


def test_a_seizure_that_goes_on_in_the_next_part_of_a_recording_is_not_cut_at_the_pause(tmp_path: Path):
    folder = tmp_path / "sub-01" / "ieeg"
    for part, marks in ((1, [(30.0, 60.0, "seizure"), (39.0, 500.0, "seizure")]), (2, [(3.0, 4.0, "sz-gen")])):
        write_edf(folder / f"sub-01_task-x_split-0{part}_ieeg.edf", marks, seconds=40)
    rows = [
        "ieeg/sub-01_task-x_split-01_ieeg.edf\t2024-01-01T12:00:00",
        "ieeg/sub-01_task-x_split-02_ieeg.edf\t2024-01-01T12:01:00",
    ]
    (tmp_path / "sub-01" / "sub-01_scans.tsv").write_text("\n".join(["filename\tacq_time", *rows]) + "\n")
    (recording,) = open_recordings(tmp_path)
    assert recording.gaps == ((40.0, 60.0),)
    found = recording.events[["onset", "duration", "event_type"]].to_numpy().tolist()
    assert found == [[30.0, 60.0, "sz"], [39.0, 61.0, "sz"], [63.0, 4.0, "sz-gen"]]


def test_a_cropped_recording_keeps_both_ends_of_what_began_before(tmp_path: Path):
    info = mne.create_info(["LA1", "LA2"], RATE, "seeg")
    raw = mne.io.RawArray(np.random.default_rng(0).normal(0, 1e-5, (2, 100 * RATE)), info, verbose="error")
    raw.set_annotations(mne.Annotations([10.0, 50.0], [30.0, 45.0], ["seizure", "seizure"]))
    raw.crop(20.0, 80.0)
    events = from_mne(raw).events
    found = np.c_[events["onset"], events["onset"] + events["duration"]]
    np.testing.assert_allclose(found, [[0.0, 20.0], [30.0, 60.02]], atol=1e-6)
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    events = open_recordings(tmp_path / "x_raw.fif")[0].events
    found = np.c_[events["onset"], events["onset"] + events["duration"]]
    np.testing.assert_allclose(found, [[0.0, 20.0], [30.0, 60.02]], atol=1e-6)
