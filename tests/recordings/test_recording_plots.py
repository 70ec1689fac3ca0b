import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from tsattn.events.table import make_events
from tsattn.recordings import envelope as enveloping
from tsattn.recordings.envelope import envelope
from tsattn.recordings.plots import BAD, GOOD, plot_recording, plot_store_overview
from tsattn.recordings.recording import Recording, from_array, make_channels


def texts(figure: Figure) -> str:
    return "\n".join(found.get_text() for found in figure.findobj(Text))


def noise(channels: int = 6, seconds: float = 60.0, sfreq: float = 100.0, **rest: object) -> Recording:
    x = np.random.default_rng(0).standard_normal((channels, round(seconds * sfreq))) * 50
    x[:, round(20 * sfreq) : round(25 * sfreq)] = np.nan
    return from_array(x, sfreq, id="sub-01_run-1", subject="sub-01", **rest)


def test_the_range_in_each_pixel_is_the_lowest_and_highest_sample_whatever_is_read_at_once(
    monkeypatch: pytest.MonkeyPatch,
):
    recording = noise()
    x = recording.read(0, 6000)
    whole = envelope(recording, 100, 5900, 77)
    edges = np.linspace(100, 5900, 78).round().astype(int)
    for i, (a, b) in enumerate(pairwise(edges)):
        piece = x[:, a:b]
        if np.isnan(piece).all():
            assert np.isnan(whole[0][:, i]).all()
        else:
            np.testing.assert_array_equal(whole[0][:, i], np.nanmin(piece, 1))
            np.testing.assert_array_equal(whole[1][:, i], np.nanmax(piece, 1))
    for at_once in (6 * 300, 6 * 7):  # several pixels; less than one
        monkeypatch.setattr(enveloping, "READ", at_once)
        for one, other in zip(whole, envelope(recording, 100, 5900, 77), strict=True):
            np.testing.assert_array_equal(one, other)


@dataclass(frozen=True)
class Endless:
    def read(self, rows: Sequence[int], start: int, stop: int) -> np.ndarray:
        return np.sin(np.arange(start, stop) / 1000.0, dtype=np.float32)[None].repeat(len(rows), 0)


def test_an_overview_of_a_long_recording_needs_bounded_memory():
    """12 h x 4 channels x 512 Hz are 0.35 GB in float32, which nobody holds."""
    long = Recording(Endless(), "long", "long", make_channels(["A1", "A2", "A3", "A4"], 512.0), 12 * 3600.0)
    tracemalloc.start()
    figure = plot_recording(long)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert "0:00:00.0 to 12:00:00" in texts(figure)


def test_events_gaps_bad_channels_and_the_scale_are_drawn_and_told():
    events = make_events(
        np.array([5, 40, 30, 200]), np.array([10, 5, 0, 5]), ["sz", "sz-foc", "annotation", "late"], channels="all"
    )
    recording = noise(events=events)
    table = recording.channels.copy()
    table.loc[0, "status"] = "bad"
    figure = plot_recording(replace(recording, channels=table), bads={"C3": "flat"})
    told = texts(figure)
    for word in (
        "sub-01_run-1",
        "6 channels",
        "100 Hz",
        "seizure (sz, sz-foc)",
        "annotation",
        "gap",
        "bad channel",
        "µV",
    ):
        assert word in told
    assert "late" not in told
    colours = [to_hex(tick.get_color()) for tick in figure.axes[0].get_yticklabels()]
    assert colours == [BAD, GOOD, BAD, GOOD, GOOD, GOOD]


def test_an_event_is_shaded_from_its_onset_to_its_end_and_in_its_channels_rows():
    events = make_events([5.0, 40.0, 58.0], [10.0, 5.0, 9.0], "sz", channels=["all", "C2,C5", "all"])
    axes = plot_recording(noise(events=events), 8.0, 60.0).axes[0]
    seen = []
    for one in axes.collections:
        if to_hex(one.get_facecolor()[0] if len(one.get_facecolor()) else "w") == "#f08c00":
            for path in one.get_paths():
                (left, low), (right, high) = path.vertices.min(0), path.vertices.max(0)
                seen.append((round(left, 6), round(right, 6), low, high))
    assert sorted(seen) == [(8, 15, 0, 1), (40, 45, 0, 1), (40, 45, 0.5, 1.5), (40, 45, 3.5, 4.5), (58, 60, 0, 1)]


def test_few_samples_are_drawn_as_lines_and_the_bar_is_true_to_scale():
    recording = from_array(np.sin(np.arange(500) / 10)[None] * 100 + 3000, 100.0)
    axes = plot_recording(recording).axes[0]
    (line,) = axes.collections[0].get_segments()
    height = np.ptp(line[:, 1])  # in rows; the sine has 200 µV
    bar = next(one for one in axes.lines if one.get_linewidth() == 2)
    size = float(next(one.get_text() for one in axes.texts if "µV" in one.get_text()).split()[0])
    assert np.ptp(bar.get_ydata()) / size == pytest.approx(height / 200, rel=0.01)
    assert line[0, 0] == 0
    assert line[-1, 0] == pytest.approx(4.99)


def test_many_channels_are_thinned_out_and_the_title_says_so():
    recording = noise(90, 30.0)
    told = texts(plot_recording(recording))
    assert "40 of 90 channels, evenly spread" in told
    assert "C1\n" in told
    assert "C90" in told
    chosen = plot_recording(recording, channels=["C7", "C2"]).axes[0]
    assert [tick.get_text() for tick in chosen.get_yticklabels()] == ["C7", "C2"]


def test_flat_missing_and_mixed_channels_can_be_drawn():
    x = np.zeros((3, 4000))
    x[1] = np.nan
    assert "3 channels" in texts(plot_recording(from_array(x, 100.0, gaps=())))
    mixed = noise(4, 30.0)
    table = mixed.channels.assign(sfreq=[100.0, 100.0, 100.0, 50.0])
    assert "3 of 4 channels (those at 100 Hz)" in texts(plot_recording(replace(mixed, channels=table)))


@pytest.mark.parametrize(("begin", "end"), [(-1.0, 5.0), (5.0, 5.0), (10.0, 5.0), (0.0, 61.0)])
def test_a_stretch_outside_the_recording_is_refused(begin: float, end: float):
    with pytest.raises(ValueError, match=r"lasts 60 s.*expected a begin before the end"):
        plot_recording(noise(), begin, end)


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_picture_is_written_whole_and_is_the_same_twice(tmp_path: Path, ending: str):
    """A date in the file would say when the patient's data was looked at."""
    recording = noise(3, 30.0)
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    plot_recording(recording, out=first)
    plot_recording(recording, out=second)
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, second.name]
    with pytest.raises(ValueError, match=r"ends in .png, .pdf, .svg"):
        plot_recording(recording, out=tmp_path / "a.jpg")


def test_the_overview_has_a_row_for_each_recording_and_a_line_between_subjects(tmp_path: Path):
    events = make_events([5.0, 40.0], [10.0, 0.0], ["sz", "sz"])
    one = noise(events=events)
    recordings = [replace(one, id=f"sub-{s}_run-{r}", subject=f"sub-{s}") for s, r in ((2, 1), (1, 2), (1, 1))]
    figure = plot_store_overview(recordings, out=tmp_path / "store.svg")
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["sub-1_run-1", "sub-1_run-2", "sub-2_run-1"]
    assert len(axes.lines) == 1
    told = texts(figure)
    assert "3 recordings of 2 subjects, 0:03:00 in all, 6 seizures" in told
    assert "6 ch, 100 Hz" in told
    assert "sub-2_run-1" in (tmp_path / "store.svg").read_text()
    recorded = sum(bar.get_width() for bar in axes.patches if bar.get_y() < 0.5 and bar.get_height() == 0.62)
    assert recorded == pytest.approx(60)  # 55 s recorded and a gap of 5 s, in seconds
    with pytest.raises(ValueError, match="no recordings"):
        plot_store_overview([])
