"""`tsattn events` as a user runs it: two files, two folders, what is missing, and no name on the screen."""

import json
from pathlib import Path

import pandas as pd
import pytest
from support import tsattn

from tsattn.commands.events import export, score
from tsattn.events.files import read_events, write_events
from tsattn.events.table import make_events, no_events


def bids(root: Path, subject: str, run: int, events: pd.DataFrame, *, folder: str = "ieeg") -> Path:
    path = root / f"sub-{subject}" / "ses-1" / folder / f"sub-{subject}_ses-1_task-rest_run-{run:02d}_events.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_events(path, events, "szcore", duration=3600.0)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """References and hypotheses of two subjects."""
    for subject, run, found in (("01", 1, 605.0), ("01", 2, 1500.0), ("02", 1, 620.0)):
        bids(tmp_path / "ref", subject, run, make_events([600.0], [60.0]))
        bids(tmp_path / "hyp", subject, run, make_events([found], [30.0]))
    return tmp_path / "ref", tmp_path / "hyp"


def test_the_command_line_scores_two_folders_and_writes_every_number(folders: tuple[Path, Path], tmp_path: Path):
    reference, hypothesis = folders
    done = tsattn(
        "events", "score", "--reference", reference, "--hypothesis", hypothesis, "--out", "s.json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "3 recordings of 2 subjects, 3.00 h; 3 reference events, 2 found; 1 false detection\n" in done.stdout
    told = json.loads((tmp_path / "s.json").read_text())
    assert told["per_subject"]["sub-01"]["sensitivity"] == 0.5
    assert told["per_subject"]["sub-02"]["latency"] == 20.0
    again = tsattn(
        "events", "score", "--reference", reference, "--hypothesis", hypothesis, "--out", "s.json", cwd=tmp_path
    )
    assert again.returncode == 1
    assert "exists already" in again.stderr


def test_the_command_line_exports_files_by_position(folders: tuple[Path, Path], tmp_path: Path):
    bids(folders[0] / "derivatives", "01", 1, no_events())  # not the events of the data set
    done = tsattn("events", "export", folders[0], "--to", "csv", "--out", "csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 written to csv" in done.stdout
    assert len(list((tmp_path / "csv").rglob("*.csv"))) == 3
    path = tmp_path / "csv/sub-02/ses-1/ieeg/sub-02_ses-1_task-rest_run-01_events.csv"
    assert read_events(path).events["onset"].tolist() == [600.0]


def test_a_missing_prediction_stops_and_writes_nothing(folders: tuple[Path, Path], tmp_path: Path):
    next(folders[1].rglob("sub-02*")).rename(tmp_path / "away")
    with pytest.raises(ValueError, match="no prediction for sub-02_ses-1_task-rest_run-01: a missing prediction"):
        score(*folders, out=tmp_path / "s.csv")
    assert not (tmp_path / "s.csv").exists()


def test_files_at_other_places_are_matched_by_their_entities(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in folders[1].rglob("*_events.tsv"):
        file.rename(flat / file.name.replace("run-0", "desc-cnn_run-"))
    bids(flat, "03", 1, no_events())
    score(folders[0], flat, out=tmp_path / "s.csv")
    table = pd.read_csv(tmp_path / "s.csv")
    assert table["true_positive"].tolist() == [1, 0, 1]
    assert "1 of 4 hypothesis files have no reference and were not scored" in capsys.readouterr().out


def test_two_predictions_of_one_recording_are_refused(folders: tuple[Path, Path]):
    bids(folders[1], "01", 1, no_events(), folder="eeg")
    for file in (folders[1] / "sub-01").rglob("ieeg/*run-01*"):
        file.rename(file.with_name(file.name.replace("run-01", "run-1")))
    with pytest.raises(ValueError, match="are both hypotheses of sub-01"):
        score(*folders)


def test_two_references_of_one_prediction_are_refused(folders: tuple[Path, Path]):
    reference, hypothesis = folders
    original = next(hypothesis.rglob("sub-02*.tsv"))
    original.rename(original.with_name(original.name.replace("_run-01", "_run-1")))
    original = next(reference.rglob("sub-02*.tsv"))
    original.with_name(original.name.replace("_run-01", "_run-01_desc-second")).write_bytes(original.read_bytes())
    with pytest.raises(ValueError, match=r"have the same hypothesis: give each its own"):
        score(reference, hypothesis)


def test_a_duration_is_needed_once_and_must_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    events = make_events([10.0], [5.0])
    write_events(tmp_path / "a_events.tsv", events, "bids")
    write_events(tmp_path / "b_events.csv", events, "csv", duration=100.0)
    with pytest.raises(ValueError, match="no file states how long the recording is: pass --duration"):
        score(tmp_path / "a_events.tsv", tmp_path / "a_events.tsv")
    score(tmp_path / "a_events.tsv", tmp_path / "b_events.csv")
    assert "0.03 h" in capsys.readouterr().out
    with pytest.raises(ValueError, match="stated to last 100 s and 200 s"):
        score(tmp_path / "a_events.tsv", tmp_path / "b_events.csv", duration=200.0)


def test_the_duration_of_a_bids_sidecar_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "sub-1_task-rest_events.tsv"
    write_events(path, make_events([10.0], [5.0]), "bids")
    (tmp_path / "sub-1_task-rest_ieeg.json").write_text('{"RecordingDuration": 7200.0}')
    score(path, path)
    assert "2.00 h" in capsys.readouterr().out


def test_texts_that_nobody_understands_do_not_count_as_no_seizure(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "sub-1_events.tsv"
    path.write_text("onset\tduration\ttrial_type\n10\t5\tdetection\n")
    with pytest.raises(ValueError, match="sub-1: 1 rows, none of them a seizure"):
        score(path, path, duration=60.0)
    score(path, path, duration=60.0, seizure_words=["detection"])
    assert "1 reference event, 1 found" in capsys.readouterr().out


def test_a_name_in_a_file_name_or_a_text_reaches_neither_screen_nor_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TSATTN_SALT", "a test")
    path = tmp_path / "Jane_Doe_events.tsv"
    path.write_text("onset\tduration\ttrial_type\tchannels\n10\t5\tsz\tA1\n20\t1\tDoe moves\tJane\n")
    score(path, path, duration=60.0, out=tmp_path / "scores.json")
    for to in ("szcore", "bids", "csv", "edf"):
        export([path], to, tmp_path / to, duration=60.0)
    shown = capsys.readouterr()
    written = [file for file in tmp_path.rglob("*") if file.is_file() and file != path]
    assert len(written) == 6
    for told in (shown.out, shown.err, *(file.name + file.read_bytes().decode("latin-1") for file in written)):
        assert "Jane" not in told
        assert "Doe" not in told
    path.write_text("onset\tduration\ttrial_type\nDoe\t5\tsz\n")
    with pytest.raises(ValueError, match=r"rec-[0-9a-f]+\.tsv: line 2") as problem:
        score(path, path)
    assert "Doe" not in str(problem.value)


def test_an_export_never_replaces_what_it_came_from(tmp_path: Path):
    path = bids(tmp_path, "01", 1, make_events([10.0], [5.0]))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="would be replaced by its own export"):
        export([path], "szcore", path, overwrite=True)
    with pytest.raises(ValueError, match="would be replaced by its own export"):
        export([tmp_path], "bids", tmp_path, overwrite=True)
    assert path.read_bytes() == before


def test_nothing_is_written_if_one_target_exists(folders: tuple[Path, Path], tmp_path: Path):
    export([folders[0]], "csv", tmp_path / "csv")
    files = sorted((tmp_path / "csv").rglob("*.csv"))
    files[0].unlink()
    with pytest.raises(FileExistsError):
        export([folders[0]], "csv", tmp_path / "csv")
    assert sorted((tmp_path / "csv").rglob("*.csv")) == files[1:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"out": Path("s.xlsx")}, r"--out ends in \.xlsx, expected \.json or \.csv"),
    ],
)
def test_wrong_options_are_refused(folders: tuple[Path, Path], arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        score(*folders, **arguments)


def test_wrong_paths_are_refused(folders: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(ValueError, match="is not there"):
        score(tmp_path / "nowhere", folders[1])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"holds no \*_events\.tsv"):
        score(folders[0], tmp_path / "empty")
    with pytest.raises(ValueError, match="a file and a folder"):
        score(folders[0], next(folders[1].rglob("*.tsv")))
    with pytest.raises(ValueError, match="--recording goes with --to edf"):
        export([folders[0]], "csv", tmp_path / "x", recording=tmp_path / "r.edf")


def test_what_is_not_understood_is_not_exported_as_no_seizure(tmp_path: Path):
    path = tmp_path / "sub-01_task-x_events.tsv"
    path.write_text("onset\tduration\ttrial_type\n5\t10\tbig one\n")
    with pytest.raises(ValueError, match=r"none of them a seizure by its text.*--seizure_words"):
        export([path], "szcore", tmp_path / "x.tsv", duration=60.0)
    export([path], "szcore", tmp_path / "x.tsv", duration=60.0, seizure_words=["big one"])
    assert "5.0\t10.0\tsz" in (tmp_path / "x.tsv").read_text()


def test_events_outside_are_clipped_on_request(tmp_path: Path):
    path = tmp_path / "sub-01_task-x_events.tsv"
    path.write_text("onset\tduration\ttrial_type\n5\t10\tsz\n55\t10\tsz\n70\t10\tsz\n")
    with pytest.raises(ValueError, match=r"outside='clip'"):
        export([path], "szcore", tmp_path / "x.tsv", duration=60.0)
    export([path], "szcore", tmp_path / "x.tsv", duration=60.0, outside="clip")
    assert len((tmp_path / "x.tsv").read_text().splitlines()) == 3


def test_two_persons_are_not_scored_against_each_other(tmp_path: Path):
    for name in ("sub-01_task-x_events.tsv", "sub-02_task-x_events.tsv"):
        (tmp_path / name).write_text("onset\tduration\ttrial_type\n5\t10\tsz\n")
    with pytest.raises(ValueError, match="reference is of sub-01 and the hypothesis of sub-02"):
        score(tmp_path / "sub-01_task-x_events.tsv", tmp_path / "sub-02_task-x_events.tsv", duration=60.0)


def test_an_event_of_another_person_is_not_written_into_a_recording(tmp_path: Path):
    path = tmp_path / "sub-01_task-x_events.tsv"
    path.write_text("onset\tduration\ttrial_type\n5\t10\tsz\n")
    with pytest.raises(ValueError, match="are of sub-01 and sub-02"):
        export([path], "edf", tmp_path / "x.edf", recording=tmp_path / "sub-02_task-x_ieeg.edf")
