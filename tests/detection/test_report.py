"""The report of a detection: what stands in it, what never does, and recordings that have little to show."""

import base64
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from matplotlib.collections import FillBetweenPolyCollection
from PIL import Image

from tsattn.detection import report as reporting
from tsattn.detection.explain import Explanation
from tsattn.detection.plots import PIXELS, plot_excerpt, plot_probability, unanswered
from tsattn.detection.report import NOTICE, line_length_change, write_report
from tsattn.events.cohort import score_recordings
from tsattn.events.score import score_events
from tsattn.events.table import make_events, no_events
from tsattn.recordings.recording import Recording, from_array

SFREQ = 64.0


@pytest.fixture(autouse=True)
def _coarse_pictures(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reporting, "DPI", 40)  # a third of the time


@dataclass
class Detection:
    events: pd.DataFrame
    probability: xr.DataArray
    recording: Recording
    provenance: dict[str, Any] = field(default_factory=dict)


def recording(channels: int = 4, seconds: float = 120.0, names: Sequence[str] | None = None, **rest: Any) -> Recording:
    x = np.random.default_rng(0).standard_normal((channels, round(seconds * SFREQ))) * 30
    x[:, round(20 * SFREQ) : round(25 * SFREQ)] = np.nan
    return from_array(x, SFREQ, id="sub-01_run-1", subject="sub-01", names=names, **rest)


def probability(values: Sequence[float] | np.ndarray, **attrs: float) -> xr.DataArray:
    """One window a second, which reads 10 s and speaks of the last two."""
    told = {"hop": 1.0, "span": 2.0, "offset": 8.0, "threshold": 0.5} | attrs
    times = np.arange(len(values), dtype=float)
    return xr.DataArray(np.asarray(values, float), dims="time", coords={"time": times}, attrs=told)


def detection(events: pd.DataFrame | None = None, **rest: Any) -> Detection:
    shown = recording(**rest)
    found = make_events([40.0, 90.0], [10.0, 20.0], confidence=[0.9, 0.7]) if events is None else events
    windows = max(0, int(shown.duration) - 9)
    return Detection(found, probability(np.full(windows, 0.2)), shown)


def explanation(names: Sequence[str], end: float, sure: float = 0.9, first: float = 0.0) -> Explanation:
    """Segments of 2 s; the last channel gets most attention, then the one before it, and so on."""
    mass = torch.arange(1, len(names) + 1, dtype=torch.float32).expand(2, 5, -1)
    mass = mass / mass.sum((1, 2), keepdim=True)
    return Explanation(tuple(names), mass, {"whole": sure, "content": 0.2, "time": 0.8, "channel": 0.7}, 2.0, end - 10)


def written(folder: Path, found: Detection, **rest: Any) -> str:
    write_report(folder / "report.html", found, **rest)
    return (folder / "report.html").read_text()


def told(page: str) -> str:
    """What a reader reads: no pictures, no style, no marks."""
    page = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", html.unescape(page))


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


# ----------------------------------------------------------------------------------------------- safe to hand on
def test_neither_file_names_nor_paths_nor_dates_come_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TSATTN_SALT", "a salt")
    monkeypatch.delenv("TSATTN_SHOW_NAMES", raising=False)
    file = Path("/clinic/Grobnikow/Zyxwilda_Quombat_19620304.edf")
    found = detection(files=(file,), start=datetime(2019, 7, 23, 14, 15, 16))
    found.provenance = {
        "checkpoint": {"folder": "/home/Grobnikow/runs/best", "also": Path("/home/Grobnikow/x.ckpt"), "sha256": "ab12"},
        "input": [{"file": str(file), "said": f"read {file} at once"}, {file.name: 1.5}],
        "note": file.stem,
    }
    page = written(tmp_path, found, explanations=[explanation(found.recording.names, 42.0)])
    for word in ("Zyxwilda", "Quombat", "Grobnikow", "clinic", "19620304", "2019", "14:15:16", "23-JUL"):
        assert word.lower() not in told(page).lower()
        assert word not in re.sub(r"base64,[^\"]+", "", page)
    assert "ab12" in page
    assert "1.5" in told(page)
    for picture in pictures(page):
        assert not picture.info.keys() - {"dpi", "transparency"}  # no text, no date, no software


def test_the_notice_stands_before_and_after_everything_else(tmp_path: Path):
    read = told(written(tmp_path, detection()))
    assert read.count(NOTICE) == 2
    first, last = read.index(NOTICE), read.rindex(NOTICE)
    assert first < read.index("Duration")
    assert read.index("How to read this page") < read.index("Provenance") < last


def test_the_page_needs_no_network_and_runs_nothing(tmp_path: Path):
    found = detection()
    page = written(tmp_path, found, explanations=[explanation(found.recording.names, 42.0)])
    assert len(pictures(page)) == 4  # the probability, two excerpts, one explanation
    assert len(re.findall(r"\bsrc=", page)) == 4
    assert re.findall(r'href="([^"]*)"', page) == ["#event-1", "#event-2"]
    without = re.sub(r"base64,[^\"]+", "", page)
    assert not re.search(r"https?:|//|url\(|@import|<script|<link|<iframe|<object|\son\w+=", without)
    assert "default-src 'none'" in page


def test_channels_that_were_all_read_alike_are_not_named(tmp_path: Path):
    found = detection()
    one = explanation(found.recording.names, 42.0)
    alike = replace(one, mass=torch.full_like(one.mass, 1 / one.mass[0].numel()))
    assert "none stands out" in told(written(tmp_path, found, explanations=[alike]))


def test_a_patient_whom_the_detector_knows_is_said_beside_the_notice(tmp_path: Path):
    found = detection()
    found.provenance["subject_seen"] = "The detector was trained on sub-01."
    assert told(written(tmp_path, found)).count("patient. The detector was trained on sub-01.") == 2


def test_what_looks_like_html_is_shown_as_text(tmp_path: Path):
    evil = "<script>alert(1)</script>"
    found = detection(names=[evil, '"><img src=x>', "$\\frac{", "A4"])
    found.events = make_events([40.0], [10.0], event_type=f"sz-{evil}", channels=evil)
    found.provenance = {evil: {evil: [evil, {"deep": evil}]}}
    shown = explanation(found.recording.names[::-1], 42.0)  # the first channel gets most
    page = written(tmp_path, found, explanations=[shown], reference=found.events)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert (
        told(page).count(evil) == 6
    )  # once in the table of events, and the provenance's heading, two keys and two values
    assert told(page).count('"><img src=x>') == 1


def test_a_file_that_is_there_is_not_written_over_unless_asked(tmp_path: Path):
    path = tmp_path / "report.html"
    path.write_text("mine")
    with pytest.raises(FileExistsError):
        write_report(path, detection())
    assert path.read_text() == "mine"
    write_report(path, detection(), overwrite=True)
    assert NOTICE in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_another_ending_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"\.html.*'\.pdf'"):
        write_report(tmp_path / "report.pdf", detection())


@pytest.mark.parametrize("name", ["hop", "span", "offset", "threshold"])
def test_a_probability_that_does_not_say_what_it_speaks_of_is_refused(tmp_path: Path, name: str):
    found = detection()
    del found.probability.attrs[name]
    with pytest.raises(ValueError, match=f"lacks the attribute '{name}'"):
        written(tmp_path, found)


# --------------------------------------------------------------------------------------------------- what it says
def test_times_are_hours_minutes_and_seconds_from_the_start(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((2, 4000 * 8))
    found = Detection(
        make_events([3723.0], [130.0], confidence=0.75), probability(np.full(3991, 0.1)), from_array(x, 8.0, id="long")
    )
    read = told(written(tmp_path, found))
    assert "1 1:02:03 0:02:10 0.75 all" in read
    assert "Onset 1:02:03, 0:02:10" in read
    assert "Duration 1:06:40" in read


def test_the_summary_counts_what_was_recorded_and_what_has_an_answer(tmp_path: Path):
    """120 s with a gap of 5 s. Known are windows 0 to 29 and 60 to 109: seconds 8 to 39 and 68 to 119."""
    found = detection()
    values = np.full(110, 0.2)
    values[30:60] = np.nan
    found.probability = probability(values)
    read = told(written(tmp_path, found))
    assert "Recorded 0.03 h" in read
    assert "Gaps 1, 0:00:05 in all" in read
    assert "Without an answer 31.7% of the time" in read  # 38 of 120 s
    assert "Detected seizures 2" in read
    assert f"Per hour with an answer {2 / (82 / 3600):.2f}" in read
    assert "Shortest, median, longest 10.0 s, 15.0 s, 20.0 s" in read


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5] * 111, [(0.0, 8.0)]),
        ([0.5] * 50 + [np.nan] * 30 + [0.5] * 31, [(0.0, 8.0), (59.0, 88.0)]),
        ([np.nan, np.nan, 0.5], [(0.0, 10.0), (12.0, 120.0)]),
        ([np.nan] * 111, [(0.0, 120.0)]),
        ([], [(0.0, 120.0)]),
    ],
)
def test_seconds_have_an_answer_if_a_known_window_speaks_of_them(
    values: list[float], expected: list[tuple[float, float]]
):
    assert unanswered(probability(values), 120.0) == expected


def test_references_are_shown_with_the_detections_that_overlap_them(tmp_path: Path):
    reference = make_events([38.5, 60.0, 115.0], [5.0, 5.0, 0.0], event_type=["sz", "sz", "annotation"])
    read = told(written(tmp_path, detection(), reference=reference))
    assert "1 0:00:40 10.0 s 0.90 R1 all 2 0:01:30 20.0 s 0.70 none all" in read
    assert "R1 0:00:38 5.0 s 1 +1.5 s R2 0:01:00 5.0 s none" in read
    assert "R3" not in read


def test_of_many_detections_the_most_confident_have_pictures_and_the_others_are_counted(tmp_path: Path):
    sure = np.linspace(0.5, 0.9, 15)
    sure[[2, 7]] = 0.1, np.nan
    found = detection(make_events(np.arange(15) * 7.0 + 5, np.full(15, 3.0), confidence=sure), channels=1)
    page = written(tmp_path, found)
    assert [int(one) for one in re.findall(r'id="event-(\d+)"', page)] == [2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15]
    assert "The 12 detections of the highest confidence are shown; 3 more are in the table alone" in told(page)
    assert "0:00:54 3.0 s n/a" in told(page)


def test_an_event_takes_the_surest_explanation_whose_last_segment_lies_in_it(tmp_path: Path):
    found = detection(names=["A1", "A2", "A3", "A4"])
    names = found.recording.names
    told_of = [
        explanation(names, 40.0, 0.99),  # ends where the first event begins
        explanation(["A2", "A1"], 42.0, 0.8),
        explanation(names, 44.0, 0.9),
        explanation(["A1", "A2"], 53.0, 0.99),  # its window touches the first event, its last segment does not
        explanation(["A1", "A2"], 89.0, 0.99),  # between the events
    ]
    read = told(written(tmp_path, found, explanations=told_of))
    assert "0.90 A4 (40%), A3 (30%)" in read
    assert "0.70 not explained" in read
    assert "the window 0:00:34 to 0:00:44 read" in read


def test_scores_of_a_recording_are_told_with_their_rules(tmp_path: Path):
    found = detection()
    reference = make_events([41.0], [10.0])
    scores = score_events(reference, found.events, 120.0)
    read = told(written(tmp_path, found, reference=reference, scores=scores))
    assert f"Sensitivity, seconds {scores.metrics['sample_sensitivity']:.3f}" in read
    assert "Median latency, s −1.000" in read
    assert scores.rules.version in read
    assert "tolerance 30 s before and 60 s after" in read
    assert "1 reference events, 1 found, 0 false detections" in read


def test_scores_of_a_cohort_are_told_pooled_and_over_subjects(tmp_path: Path):
    found = detection()
    one = (make_events([41.0], [10.0]), found.events, 120.0)
    scores = score_recordings({"a": ("s1", *one), "b": ("s2", one[0], no_events(), 120.0)}, bootstrap=20)
    read = told(written(tmp_path, found, scores=scores))
    assert "Sensitivity, events 0.500 0.000 to 1.000 0.500 ± 0.500" in read
    assert "2 recordings of 2 subjects" in read
    alone = score_recordings({"a": ("s1", *one)})
    assert "Sensitivity, events 1.000 n/a 1.000 ± 0.000" in told(written(tmp_path, found, scores=alone, overwrite=True))


# ------------------------------------------------------------------------------------------------- which channels
def test_line_length_change_is_that_of_steps_before_and_after():
    steps = np.ones((4, 40))
    steps[0, 20:], steps[1, 20:], steps[2] = 3.0, 0.0, 0.0  # grows, stops, flat
    signs = np.where(np.arange(40) % 2, 1.0, -1.0)
    x = np.concatenate([np.zeros((4, 1)), np.cumsum(steps * signs, axis=1)], axis=1)
    x[3, :20] = np.nan  # not there before
    found = line_length_change(from_array(x, 1.0), 20.0)
    np.testing.assert_allclose(found, [0.5, -1.0, 0.0, np.nan])


def test_without_an_explanation_the_channels_that_changed_most_are_drawn(monkeypatch: pytest.MonkeyPatch):
    shown = recording(channels=20)
    shown.source.values[[3, 17], round(40 * SFREQ) :] *= 10
    shown.source.values[5, : round(40 * SFREQ)] *= 10
    monkeypatch.setattr(reporting, "TRACES", 2)
    assert reporting._chosen(shown, 40.0, None)[0] == ["C4", "C18"]
    by_mass = {"C20": 0.5, "C1": 0.3, "C2": 0.2}
    assert reporting._chosen(shown, 40.0, by_mass)[0] == ["C1", "C20"]


# --------------------------------------------------------------------------------------------- little or much to show
@pytest.mark.parametrize("seconds", [1.0, 26.0, 120.0])
@pytest.mark.parametrize("known", ["all", "none", "no windows"])
@pytest.mark.parametrize("events", ["none", "at the edges"])
def test_a_report_is_made_of_whatever_there_is(tmp_path: Path, seconds: float, known: str, events: str):
    """Recordings shorter than an excerpt, without an answer, shorter than a window; nothing found, or at the ends."""
    found = detection(no_events(), seconds=seconds, channels=2)
    if events != "none":
        found.events = make_events([0.0, seconds - 0.25], [0.25, 0.25], confidence=[0.9, np.nan])
    if known == "none":
        found.probability[:] = np.nan
    elif known == "no windows":
        found.probability = probability([])
    page = written(tmp_path, found)
    assert len(pictures(page)) == (1 if events == "none" else 3)
    assert ("No seizure was detected." in page) == (events == "none")
    if known != "all":
        assert "Without an answer 100.0% of the time" in told(page)
        assert "Per hour with an answer n/a" in told(page)


def test_one_high_window_among_a_hundred_thousand_is_drawn_in_its_place():
    values = np.full(100_000, 0.1)
    values[70_000], values[50_000:50_300] = 0.93, np.nan
    figure = plot_probability(probability(values), no_events(), 100_009.0)
    x, y = figure.axes[0].lines[0].get_data()
    assert len(x) <= 3 * (PIXELS + 1)
    assert np.nanmax(y) == 0.93
    assert abs(x[np.nanargmax(y)] - 70_008) < 100_009 / PIXELS
    assert np.isnan(y[(x > 50_100) & (x < 50_200)]).all()


def test_a_spike_of_one_sample_is_drawn_though_pixels_are_wider():
    x = np.zeros((2, 60 * 512), np.float32)
    x[:, ::2] = 10.0
    x[1, 40 * 512 + 7] = -24.0
    shown = from_array(x, 512.0, names=["A", "B"])
    figure = plot_excerpt(shown, 30.0, no_events(), ["A", "B"])
    bands = [one for one in figure.axes[0].collections if isinstance(one, FillBetweenPolyCollection)]
    assert len(bands) == 2
    corners = bands[1].get_paths()[0].vertices  # row 1; rows are 10 µV apart, the middle is 5 µV, down is down
    lowest = corners[corners[:, 1].argmax()]
    assert abs(lowest[0] - 10.0) < 60 / PIXELS
    assert lowest[1] == pytest.approx(1 + min(29 / 10, 1.4))
