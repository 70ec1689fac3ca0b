"""Probabilities of a stream, against each window read and classified by itself."""

import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import SEGMENTS, SFREQ, classifier, prepared, values

from tsattn.detection import streaming
from tsattn.detection.streaming import make_grid, stream
from tsattn.layers.classifier import SegmentClassifier
from tsattn.recordings.recording import Recording

SAMPLES = round(SFREQ)
CLOSE = 1e-6


def alone(made: SegmentClassifier, item: Recording, begin: int, readings: list[list[int]], gaps: str) -> float:
    """The definition: one window from its samples, each reading by itself; NaN where there is no answer."""
    window = item.read(begin * SAMPLES, (begin + SEGMENTS) * SAMPLES).reshape(-1, SEGMENTS, SAMPLES).swapaxes(0, 1)
    found = []
    for reading in readings:
        signal = window[:, reading]
        observed = np.isfinite(signal).all(-1)
        if gaps == "drop" and not observed.any(1).all():
            return np.nan
        if gaps == "mask" and not (observed.mean() >= 0.5 and observed[-1].any()):
            return np.nan
        signal = np.where(observed[..., None], signal, 0)
        with torch.no_grad():
            logits = made(torch.from_numpy(signal[None]), None, torch.from_numpy(observed[None]))
        found.append(float(logits.double().softmax(-1)[0, 1]))
    return float(np.mean(found))


def streamed(made: SegmentClassifier, item: Recording, stride: int, readings: list[list[int]], **more: Any):
    """All pieces of a stream put together, each exactly where the one before it ended."""
    grid = make_grid(made, item, stride)
    pieces, at = [], more.get("first", 0)
    for first, found in stream(made, item, grid, readings, **more):
        assert first == at
        at += len(found)
        pieces.append(found)
    return np.concatenate(pieces)


ALL = [[0, 1, 2, 3, 4]]
SEVERAL = [[0, 3], [1, 2, 4]]
READINGS = {"one reading": ALL, "two readings": SEVERAL}


@pytest.fixture(scope="module")
def expected() -> dict[str, list[float]]:
    made, item = classifier(), prepared(values(seconds=40.5))
    return {
        name: [alone(made, item, k, readings, "drop") for k in range(40 - SEGMENTS + 1)]
        for name, readings in READINGS.items()
    }


@pytest.mark.parametrize("readings", READINGS)
@pytest.mark.parametrize("at_once", [1, 3, 4, 5, 24])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7, 11])
def test_every_window_has_the_probability_that_it_has_alone(
    stride: int, at_once: int, readings: str, expected: dict[str, list[float]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(streaming, "AT_ONCE", at_once)
    found = streamed(classifier(), prepared(values(seconds=40.5)), stride, READINGS[readings])
    np.testing.assert_allclose(found, expected[readings][::stride], rtol=0, atol=CLOSE)
    assert np.ptp(found) > 0.3  # far from indifferent


@pytest.mark.parametrize("segments", [4, 5, 23, 24, 25, 26, 27, 28, 48, 52])
def test_counts_of_windows_around_what_is_read_at_once_lose_none(segments: int):
    made, item = classifier(), prepared(values(seconds=float(segments)))
    found = streamed(made, item, 1, ALL)
    assert len(found) == segments - SEGMENTS + 1
    np.testing.assert_allclose(found[-1], alone(made, item, segments - SEGMENTS, ALL, "drop"), rtol=0, atol=CLOSE)


def test_few_windows_at_a_time_give_the_same(monkeypatch: pytest.MonkeyPatch):
    made, item = classifier(), prepared(values())
    whole = streamed(made, item, 1, SEVERAL)
    monkeypatch.setattr(streaming, "WINDOWS", 8 * SEGMENTS * 3 * 16 * 2)  # two windows of three channels
    np.testing.assert_allclose(streamed(made, item, 1, SEVERAL), whole, rtol=0, atol=CLOSE)


@pytest.mark.parametrize("stride", [1, 3])
def test_a_share_of_the_windows_has_the_same_probabilities(stride: int):
    made, item = classifier(), prepared(values())
    whole = streamed(made, item, stride, ALL)
    for first, stop in ((0, 5), (5, 6), (7, len(whole)), (len(whole) - 1, 10**6)):
        found = streamed(made, item, stride, ALL, first=first, stop=stop)
        np.testing.assert_allclose(found, whole[first:stop], rtol=0, atol=CLOSE)
    assert list(stream(made, item, make_grid(made, item, stride), ALL, first=3, stop=3)) == []


@pytest.mark.parametrize("stride", [1, 2])
def test_each_segment_is_read_and_encoded_once(stride: int, monkeypatch: pytest.MonkeyPatch):
    made, counts = classifier(), {"encoded": 0, "read": 0}
    encode, read = made.network.encode, Recording.read

    def counted(signal: torch.Tensor) -> torch.Tensor:
        counts["encoded"] += signal.shape[:-1].numel()
        return encode(signal)

    def counting(self: Recording, start: int, stop: int, *rest: Any) -> np.ndarray:
        counts["read"] += stop - start
        return read(self, start, stop, *rest)

    monkeypatch.setattr(made.network, "encode", counted)
    monkeypatch.setattr(Recording, "read", counting)
    item = prepared(values(seconds=61.0))
    assert len(streamed(made, item, stride, SEVERAL)) == (61 - SEGMENTS) // stride + 1
    needed = (61 - SEGMENTS) // stride * stride + SEGMENTS
    assert counts == {"encoded": needed * 5, "read": needed * SAMPLES}


def test_what_lies_between_windows_far_apart_is_not_read(monkeypatch: pytest.MonkeyPatch):
    read: list[tuple[int, int]] = []
    source = prepared(values(channels=2, seconds=330.0))

    class Logged:
        def read(self, rows: list[int], start: int, stop: int) -> np.ndarray:
            read.append((start // SAMPLES, stop // SAMPLES))
            return source.source.read(rows, start, stop)

    item = replace(source, source=Logged())
    made = classifier()
    found = streamed(made, item, 100, [[0, 1]])
    assert read == [(0, 24), (100, 124), (200, 224), (300, 304)]
    expected = [alone(made, item, k, [[0, 1]], "drop") for k in (0, 100, 200, 300)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)


# Gaps ------------------------------------------------------------------------------------------------------------


def with_gaps() -> np.ndarray:
    """A gap of all channels from 10.5 to 12.2 s, one sample at 30 s, and one that is longer than a window."""
    x = values()
    x[:, round(10.5 * SFREQ) : round(12.2 * SFREQ)] = np.nan
    x[:, 30 * SAMPLES] = np.nan
    x[:, 40 * SAMPLES : 47 * SAMPLES] = np.nan
    return x


@pytest.mark.parametrize("readings", [ALL, SEVERAL], ids=["one reading", "two readings"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_dropped_gaps_leave_exactly_the_windows_without_an_answer_that_touch_one(
    stride: int, readings: list[list[int]]
):
    made, item = classifier(), prepared(with_gaps())
    found = streamed(made, item, stride, readings, gaps="drop")
    for number, probability in enumerate(found):
        begin = number * stride
        touches = any(begin < end and begin + SEGMENTS > start for start, end in item.gaps)
        assert np.isnan(probability) == touches, begin
        if not touches:
            assert probability == pytest.approx(alone(made, item, begin, readings, "drop"), abs=CLOSE)
    assert 0.1 < np.isnan(found).mean() < 0.5


def test_masked_gaps_are_read_over_unless_half_of_a_window_or_all_of_its_last_segment_is_missing():
    made, item = classifier(), prepared(with_gaps())
    found = streamed(made, item, 1, ALL, gaps="mask")
    expected = [alone(made, item, k, ALL, "mask") for k in range(len(found))]
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
    # 10, 11 and 12 s are missing: windows that end with one of them, and those that begin with 10 or 11 s
    assert np.flatnonzero(np.isnan(found[:20])).tolist() == [7, 8, 9, 10]
    assert np.flatnonzero(np.isnan(found[20:36])).tolist() == [30 - 3 - 20]
    assert np.isnan(found[37:45]).all()
    assert np.isfinite(found[11])


@pytest.mark.parametrize("gaps", ["drop", "mask"])
def test_a_gap_of_one_channel_is_masked_and_costs_no_window(gaps: str):
    x = values()
    x[2, 15 * SAMPLES + 3 : 20 * SAMPLES] = np.nan
    made, item = classifier(), prepared(x)
    assert item.gaps == ()
    found = streamed(made, item, 1, ALL, gaps=gaps)
    assert np.isfinite(found).all()
    expected = [alone(made, item, k, ALL, gaps) for k in range(len(found))]
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
    filled = streamed(made, prepared(values()), 1, ALL)
    changed = np.abs(found - filled) > CLOSE
    assert np.flatnonzero(changed).tolist() == list(range(15 - SEGMENTS + 1, 20))


def test_what_stands_in_a_segment_that_was_not_recorded_whole_does_not_matter():
    x = with_gaps()
    made = classifier()
    first = streamed(made, prepared(x), 1, ALL, gaps="mask")
    x[:, round(12.2 * SFREQ) : 13 * SAMPLES] = 1e5  # the rest of a second in which recording began again
    np.testing.assert_array_equal(streamed(made, prepared(x), 1, ALL, gaps="mask"), first)


def test_a_recording_of_nothing_has_no_answer_and_no_warning():
    item = Recording(prepared(np.full((5, 640), np.nan)).source, "a", "a", prepared(values()).channels, 20.0)
    for gaps in ("drop", "mask"):
        assert np.isnan(streamed(classifier(), item, 1, ALL, gaps=gaps)).all()


# Grids -----------------------------------------------------------------------------------------------------------


def test_the_grid_says_where_windows_are():
    grid = make_grid(classifier(), prepared(values(seconds=21.7)), 3)
    assert (grid.count, grid.hop, grid.samples) == (6, 3.0, 32)
    assert grid.begin.tolist() == [0.0, 3.0, 6.0, 9.0, 12.0, 15.0]
    assert make_grid(classifier(), prepared(values(seconds=4.0))).count == 1


@pytest.mark.parametrize(
    ("seconds", "sfreq", "stride", "message"),
    [
        (3.9, 32.0, 1, r"lasts 3.90625 s, expected at least a window, 4 s"),
        (60.0, 32.0, 0, "stride is 0 segments, expected at least 1"),
        (60.0, 64.0, 1, "has 64 Hz, the detector was trained at 32 Hz: prepare it"),
    ],
)
def test_recordings_and_strides_that_do_not_fit_are_refused(seconds: float, sfreq: float, stride: int, message: str):
    from tsattn.recordings.recording import from_array

    with pytest.raises(ValueError, match=message):
        make_grid(classifier(), from_array(values(seconds=seconds, sfreq=sfreq), sfreq), stride)


# Memory ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class MadeUp:
    """Samples of any length that take no memory; counts how many were asked for at once."""

    sfreq: float
    most: list[int] = field(default_factory=lambda: [0])

    def read(self, rows: list[int], start: int, stop: int) -> np.ndarray:
        self.most[0] = max(self.most[0], stop - start)
        time = np.arange(start, stop) / self.sfreq
        return np.stack([50 * np.sin(2 * np.pi * (2.0 + 0.37 * row) * time + row) for row in rows]).astype(np.float32)


MEMORY = """
import resource, sys
import torch
from small import classifier, detector
from test_streaming import MadeUp
from tsattn.recordings.recording import Recording, make_channels

def peak(seconds):
    table = make_channels([f"LA{i + 1}" for i in range(24)], 64.0)
    item = Recording(MadeUp(64.0), "made", "made", table, seconds)
    found = detector(layers=1, d_model=64, max_channels=24).detect(item)
    assert found.probability.size == seconds - 3
    assert found.probability.notnull().all()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

torch.set_num_threads(1)
peak(600.0)
short, long = peak(1200.0), peak(12_000.0)
print(short, long)
"""


@pytest.mark.slow
def test_ten_times_longer_recordings_take_no_more_memory():
    """12 000 s of 24 channels: 74 MB of samples, 37 MB of them prepared, 74 MB of tokens."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], cwd=Path(__file__).parent, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    short, long = map(float, done.stdout.split())
    assert long - short < 20, (short, long)
