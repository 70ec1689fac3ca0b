"""Events files: what is written is read again, here and by mne and edfio; what is wrong is named by its line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import SHARED

from tsattn.events.files import read_events, write_events
from tsattn.events.table import make_events, no_events, seizures
from tsattn.events.vocabulary import edge, event_type

IEEG = SHARED / "data" / "ieeg"
SZCORE = "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"
SUFFIX = {"szcore": ".tsv", "bids": ".tsv", "csv": ".csv", "edf": ".edf"}
NAMES = ("Jane Doe", "Doe", "1234567")


@pytest.fixture
def events() -> pd.DataFrame:
    return make_events(
        [10.25, 345600.123456, 400000.0],
        [20.5, 61.0, 5.0],
        ["sz", "sz-foc-ia-m-automatisms", "sz-gen"],
        [0.875, np.nan, 1.0],
        ["all", "A1,A2", "B'3"],
    )


@pytest.mark.parametrize("format", SUFFIX)
def test_what_is_written_is_read_again(format: str, events: pd.DataFrame, tmp_path: Path):
    path = tmp_path / f"x_events{SUFFIX[format]}"
    assert write_events(path, events, format, duration=500000.5) == 0  # type: ignore[arg-type]
    again = read_events(path)
    expected = events.assign(confidence=np.nan) if format == "edf" else events
    pd.testing.assert_frame_equal(again.events, expected)
    assert again.duration == (None if format == "bids" else 500000.5)
    assert again.start is None


@pytest.mark.parametrize("format", SUFFIX)
def test_a_recording_without_an_event_is_written_and_read_as_such(format: str, tmp_path: Path):
    path = tmp_path / f"x_events{SUFFIX[format]}"
    write_events(path, no_events(), format, duration=60.25)  # type: ignore[arg-type]
    again = read_events(path)
    assert again.events.empty
    assert again.background == (format in ("szcore", "csv"))
    if format == "szcore":
        assert path.read_text() == SZCORE + "0.0\t60.25\tbckg\tn/a\tall\t2000-01-01 00:00:00\t60.25\n"


def test_a_szcore_file_is_what_its_readers_expect(events: pd.DataFrame, tmp_path: Path):
    write_events(tmp_path / "x.tsv", events, "szcore", duration=500000.0)
    table = pd.read_csv(tmp_path / "x.tsv", sep="\t", na_values="n/a")
    assert list(table.columns) == SZCORE.split()
    assert pd.to_datetime(table["dateTime"], format="%Y-%m-%d %H:%M:%S").dt.year.tolist() == [2000] * 3
    assert table["onset"].tolist() == events["onset"].tolist()
    assert table["recordingDuration"].tolist() == [500000.0] * 3


def test_a_bids_file_has_a_description_of_every_column(events: pd.DataFrame, tmp_path: Path):
    write_events(tmp_path / "x_events.tsv", events, "bids")
    columns = (tmp_path / "x_events.tsv").read_text().splitlines()[0].split("\t")
    assert columns[:3] == ["onset", "duration", "trial_type"]
    assert set(json.loads((tmp_path / "x_events.json").read_text())) == set(columns)


@pytest.mark.parametrize("format", SUFFIX)
def test_no_free_text_is_written(format: str, tmp_path: Path):
    told = ["Jane Doe button", "sz-Doe", "MRN 1234567", "artefact"]
    events = make_events([1, 2, 3, 4], [1, 1, 1, 1], told, channels=["Jane Doe", "A1", "Doe", "A1"])
    path = tmp_path / f"x{SUFFIX[format]}"
    left = write_events(path, events, format, duration=60.0, keep_text=["artefact"])  # type: ignore[arg-type]
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert not [name for name in NAMES if name.encode() in written]
    again = read_events(path, keep_text=["artefact"]).events
    assert left == (3 if format == "szcore" else 0)
    types = ["sz"] if format == "szcore" else ["annotation", "sz", "annotation", "annotation"]
    assert again["event_type"].tolist() == types
    assert again["text"].tolist() == ([""] if format == "szcore" else ["", "", "", "artefact"])


def test_an_existing_file_is_refused_unless_told(events: pd.DataFrame, tmp_path: Path):
    path = tmp_path / "x_events.tsv"
    (tmp_path / "x_events.json").write_text("mine")
    with pytest.raises(FileExistsError):
        write_events(path, events, "bids")
    assert not path.exists()
    assert (tmp_path / "x_events.json").read_text() == "mine"
    write_events(path, events, "bids", overwrite=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x_events.json", "x_events.tsv"]


def test_what_cannot_be_written_is_refused(events: pd.DataFrame, tmp_path: Path):
    with pytest.raises(ValueError, match="The format szcore holds the recording's duration"):
        write_events(tmp_path / "x.tsv", events, "szcore")
    with pytest.raises(ValueError, match=r"after the recording's \(60 s\)"):
        write_events(tmp_path / "x.tsv", events, "szcore", duration=60.0)
    with pytest.raises(ValueError, match=r"A file in the format csv ends in \.csv"):
        write_events(tmp_path / "x.tsv", events, "csv", duration=5e5)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.tsv", "", "it is empty"),
        ("x.tsv", "onset,duration,eventType\n1,2,sz\n", "not separated by tabs"),
        ("x.csv", "onset;duration;event_type\n1;2;sz\n", "not separated by commas"),
        ("x.tsv", "onset\teventType\n1\tsz\n", "line 2 is a seizure without a duration"),
        ("x.tsv", "begin\tduration\n1\t2\n", "no column 'onset'"),
        ("x.tsv", "onset\tduration\teventType\n1\t2\tsz\nJane\t2\tsz\n", "line 3 has a text in 'onset'"),
        ("x.tsv", "onset\tduration\teventType\n1\t2\n", "line 2 has 2 columns, expected 3"),
        ("x.tsv", "onset\tduration\teventType\n1\t-2\tsz\n", r"line 2 is a seizure with a negative duration \(-2 s\)"),
        ("x.tsv", "onset\tduration\teventType\n1\tnan\tsz\n", "line 2 is a seizure without a duration"),
        ("x.tsv", "onset\tduration\teventType\nn/a\t2\tsz\n", "line 2 is a seizure without an onset"),
        ("x.tsv", "onset\tduration\teventType\n-4\t2\tsz\n", "line 2 is a seizure at -4 s, before"),
        ("x.tsv", "onset\tduration\ttrial_type\n4\t0\tsz onset\n", "line 2 begins a seizure that nothing ends"),
        ("x.tsv", "onset\tduration\ttrial_type\n4\t0\tsz offset\n", "line 2 ends a seizure that nothing begins"),
        ("x.tsv", SZCORE + "1\t2\tsz\t3\tall\tn/a\t60\n", "line 2 has a confidence of 3"),
        ("x.tsv", SZCORE + "1\t2\tsz\t1\tall\t1.2.2020\t60\n", "line 2 has no valid 'dateTime'"),
        ("x.tsv", SZCORE + "1\t2\tsz\t1\tall\tn/a\t60\n9\t2\tsz\t1\tall\tn/a\t61\n", "line 3 has another 'recordingD"),
        ("x.tsv", SZCORE + "1\t2\tsz\t1\tall\tn/a\t-60\n", "the recording's duration is -60 s"),
        ("x.tsv", "\x89PNG\x00", "it is not text"),
        ("x.edf", "no EDF", "it is not an EDF file"),
        ("x.docx", "", r"ends in \.docx, expected"),
    ],
)
def test_a_wrong_file_is_told_in_one_sentence(name: str, text: str, message: str, tmp_path: Path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as problem:
        read_events(tmp_path / name, called="rec-1")
    assert str(problem.value).startswith("rec-1")
    assert "Jane" not in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    (tmp_path / "x.tsv").write_bytes(b"\xff\xfe\x00onset")
    with pytest.raises(ValueError, match="not text in UTF-8"):
        read_events(tmp_path / "x.tsv")


def test_the_reader_understands_what_szcore_and_bids_allow(tmp_path: Path):
    path = tmp_path / "x.tsv"
    rows = "5\t2.5\tsz_foc_a\tn/a\tA1, A2\t2021-03-04 05:06:07\t60.0\n\n20\t4\tsz\t0.5\tn/a\t2021-03-04 05:06:07\t60\n"
    path.write_text("\ufeff" + SZCORE + rows)
    read = read_events(path)
    assert read.events["event_type"].tolist() == ["sz-foc-a", "sz"]
    assert read.events["channels"].tolist() == ["A1,A2", "n/a"]
    assert read.duration == 60.0
    assert read.start is not None
    assert read.start.year == 2021


def test_begins_and_ends_make_seizures_and_can_be_kept_as_marks(tmp_path: Path):
    path = tmp_path / "x.tsv"
    rows = "120.0\t0.0\tsz onset\n180\t0\tsz offset\n200\t0\tEEG sz start\n"
    path.write_text("onset\tduration\ttrial_type\n" + rows)
    marks = read_events(path, unpaired="mark")
    assert marks.events[["onset", "duration"]].to_numpy().tolist() == [[120.0, 60.0], [200.0, 0.0]]
    assert any("1 seizure marks have no end" in note.text for note in marks.notes)


def test_a_free_text_with_an_unusable_time_is_refused_or_dropped_and_told(tmp_path: Path):
    path = tmp_path / "x.tsv"
    path.write_text(
        "onset\tduration\ttrial_type\n-3\t1\tREC START Doe\nn/a\t1\tDoe\n5\tn/a\tDoe moves\n9\t4\tSeizure 2\n"
    )
    with pytest.raises(ValueError, match=r"1 events lie outside the recording.*outside='clip'"):
        read_events(path)
    read = read_events(path, outside="clip")
    assert read.events["event_type"].tolist() == ["annotation", "sz"]
    told = " ".join(note.text for note in read.notes)
    assert "1 events lie outside the recording: dropped" in told
    assert "1 annotations have no onset: left out" in told


def test_words_of_ones_own_can_mean_a_seizure(tmp_path: Path):
    path = tmp_path / "x.tsv"
    path.write_text("onset\tduration\ttrial_type\n9\t4\tDetection\n")
    assert read_events(path).events["event_type"].tolist() == ["annotation"]
    assert read_events(path, seizure_words=["detection"]).events["event_type"].tolist() == ["sz"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sz", "sz"),
        ("sz_foc_ia_m_automatisms", "sz-foc-ia-m-automatisms"),
        ("sz-gen-m-tonicClonic", "sz-gen-m-tonicClonic"),
        ("sz-foc-jane", "sz"),
        ("Seizure", "sz"),
        ("seizure1,2", "sz"),
        ("seizure of Jane", "sz"),
        ("EEG seizure", "sz"),
        ("sz-free", "annotation"),
        ("Jane, post-ictal", "annotation"),
        ("no seizure", "annotation"),
        ("bckg", "bckg"),
        ("", "annotation"),
    ],
)
def test_a_text_passes_only_if_its_words_are_known(text: str, expected: str):
    assert event_type(text) == expected


def test_boundaries_are_told_from_other_texts():
    texts = ("sz onset", "sz_offset", "eeg sz end", "Seizure start", "seizure begins", "onset", "AD1-3 onset")
    found = [edge(text) for text in texts]
    assert [mark.side for mark in found] == ["begin", "end", "end", "begin", "begin", "begin", "begin"]
    assert [mark.said for mark in found] == [True] * 5 + [False] * 2
    others = ("sz", "start", "Segment: REC START Kelly", "stimulus onset", "T1 start", "seizure button start")
    assert [edge(text) for text in others] == [None] * len(others)


def test_a_bare_onset_and_offset_are_a_seizure_only_where_nothing_else_is(tmp_path: Path):
    path = tmp_path / "x.tsv"
    head, bare = "onset\tduration\ttrial_type\n", "75.95\t0\tonset\n161.82\t0\toffset\n"
    path.write_text(head + bare)
    read = read_events(path)
    assert read.events[["onset", "duration"]].to_numpy().tolist() == [[75.95, pytest.approx(85.87)]]
    assert any("do not say what begins and ends" in note.text for note in read.notes)
    path.write_text(head + bare + "300\t10\tseizure\n")
    assert read_events(path).events["event_type"].tolist() == ["annotation", "annotation", "sz"]


def test_the_files_of_openneuro_and_of_szcore_are_read():
    if not IEEG.is_dir():
        pytest.skip(f"no {IEEG}: set TSATTN_SHARED to read real sidecars")
    (hup,) = (IEEG / "openneuro_sidecars" / "ds004100").rglob("sub-HUP060*run-01_events.tsv")
    (umf,) = (IEEG / "openneuro_sidecars" / "ds003029").rglob("sub-umf001*_events.tsv")
    shipped = IEEG / "ecog_pt01_ictal" / "sub-pt01_events.tsv"
    hfo = next((IEEG / "mne_hfo_bids").rglob("*_events.tsv"))
    assert read_events(hup).events[["onset", "duration"]].to_numpy().tolist() == [[120.0, pytest.approx(197.998)]]
    (pt01,) = (IEEG / "openneuro_sidecars" / "ds003029").rglob("sub-pt01*run-01_events.tsv")
    found = seizures(read_events(pt01).events)
    assert found[["onset", "duration"]].round(2).to_numpy().tolist() == [[75.95, 85.87]]
    assert read_events(umf).events["duration"].tolist() == [pytest.approx(31.000224761904757)]
    assert read_events(shipped).duration == 3.0
    assert read_events(shipped).events["channels"].iloc[0].split(",")[0] == "ATT1"
    assert set(read_events(hfo).events["event_type"]) == {"annotation"}
