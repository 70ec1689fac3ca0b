import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from support import SHARED

from tsattn.commands import recordings as commands
from tsattn.events.table import make_events
from tsattn.recordings.inspect import BAD_IN_FILE, WIDTH, clock_text, inspect, summary, text
from tsattn.recordings.preparation.preset import make_preset
from tsattn.recordings.recording import Note, Recording, from_array, make_channels


@pytest.fixture
def recording() -> Recording:
    """Two shafts and an ECG, a gap of 10 s, five events, one channel that its file calls bad and one flat."""
    x = np.cumsum(np.random.default_rng(0).standard_normal((9, 20_000)), axis=1)
    x -= x.mean(1, keepdims=True)
    x[3] = 7.0
    x[:, 2000:4000] = np.nan
    names = [f"LA{i}" for i in range(1, 5)] + [f"RB{i}" for i in range(1, 5)] + ["ECG"]
    position = np.full((9, 3), np.nan)
    position[:8] = 0.01
    table = make_channels(names, 200.0, ["seeg"] * 8 + ["ecg"], position=position, unit=["V"] * 8 + ["mV"])
    table.loc[1, ["status", "reason"]] = ["bad", "noisy, says nurse Jane"]
    events = make_events(
        np.array([70, 5, 30, 31, 32]), np.array([3, 10, 0, 0, 0]), ["sz-foc", "sz", *["annotation"] * 3]
    )
    return from_array(
        x,
        200.0,
        id="sub-01_run-1",
        subject="sub-01",
        channels=table,
        events=events,
        start=datetime(1962, 3, 4, 5, 6, 7),
        coordinate_frame="fsaverage",
        notes=(Note("info", "A note of a reader."),),
        about={"reader": "EDF"},
    )


def test_the_facts_are_what_was_put_in(recording: Recording):
    found = inspect(recording)
    assert (found.id, found.subject, found.reader, found.duration) == ("sub-01_run-1", "sub-01", "EDF", 100.0)
    assert found.rates == {200.0: 9}
    assert found.types == {"seeg": 8, "ecg": 1}
    assert found.units == {"V": 8, "mV": 1}
    assert found.shafts == {"LA": 4, "RB": 4}
    assert (found.positions, found.coordinate_frame) == (8, "fsaverage")
    assert (found.gaps, found.gap_seconds, found.longest_gap) == (1, 10.0, 10.0)
    assert found.events == (
        {"type": "sz", "text": "", "count": 1, "seconds": 10.0, "first": [5.0]},
        {"type": "sz-foc", "text": "", "count": 1, "seconds": 3.0, "first": [70.0]},
        {"type": "annotation", "text": "", "count": 3, "seconds": 0.0, "first": [30.0, 31.0, 32.0]},
    )
    assert found.bads == {"LA2": BAD_IN_FILE, "LA4": "flat: 100 % of the time"}
    assert found.start_known


def test_the_text_fits_a_terminal_and_tells_neither_date_nor_a_files_own_words(recording: Recording):
    told = text(inspect(recording), full=True)
    assert max(map(len, told.splitlines())) <= WIDTH
    for word in ("1962", "03-04", "5:06", "nurse", "Jane"):
        assert word not in told
    for word in ("sub-01_run-1", "0:01:40", "start time known", "LA (4), RB (4)", "A note of a reader.", "flat: 100 %"):
        assert word in told
    assert text(inspect(recording)) == str(inspect(recording))


def test_what_will_be_done_follows_the_preset_and_the_recording(recording: Recording):
    swec = " | ".join(inspect(recording, "swec").steps)
    for step in (
        "keep 6 of 9 channels (signals only; 2 bad ones dropped)",
        "resample 6 channels from 200 Hz to 512 Hz, polyphase",
        "band-pass 0.5 to 120 Hz",
        "median reference of all good channels",
        "leave gaps",
    ):
        assert step in swec
    assert any("band above 100 Hz is empty" in note.text for note in inspect(recording, "swec").notes)
    assert len(inspect(recording, "raw").steps) == 2
    own = inspect(recording, make_preset("raw", notch=50.0, reference="bipolar", bads="keep"))
    assert "notch at 50" in " ".join(own.steps)
    assert "bipolar reference along shafts" in " ".join(own.steps)
    with pytest.raises(ValueError, match="no preset 'swek'"):
        inspect(recording, "swek")
    only = recording.pick(["ECG"])
    assert inspect(only).steps == ("nothing: it cannot be prepared so",)
    assert any("has no channel of type seeg" in note.text for note in inspect(only).notes)


def test_it_is_plain_data(recording: Recording):
    plain = inspect(recording).to_dict()
    again = json.loads(json.dumps(plain))
    assert again["rates"] == {"200": 9}
    assert again["channels"]["name"] == recording.names


def test_a_note_is_told_once_and_warnings_come_first(recording: Recording):
    doubled = replace(recording, notes=(Note("info", "i"), Note("warning", "w: 3.1"), Note("warning", "w: 3.2")))
    notes = [note.text for note in inspect(doubled).notes]
    assert notes.count("i") == 1
    assert [note for note in notes if note.startswith("w")] == ["w: 3.1"]
    assert notes.index("w: 3.1") < notes.index("i")


def test_several_recordings_are_summed_up(recording: Recording):
    other = replace(recording, id="sub-01_" + "task-very_" * 8 + "run-2")
    told = summary([inspect(recording), inspect(other)])
    assert "2 recordings of 1 subject, 0:03:20 in all" in told
    assert max(map(len, told.splitlines())) <= WIDTH
    assert told.splitlines()[1].split() == ["sub-01_run-1", "0:01:40", "9", "200", "1", "2", "2", "1"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, "0:00:00.0"), (9.96, "0:00:10.0"), (59.94, "0:00:59.9"), (59.96, "0:01:00"), (3599.6, "1:00:00"),
     (100 * 3600.0 + 61, "100:01:01")],
)  # fmt: skip
def test_times_are_told_as_on_a_clock(seconds: float, told: str):
    assert clock_text(seconds) == told


@pytest.fixture
def scalp() -> Path:
    path = SHARED / "data" / "ieeg" / "scalp8_wang2018" / "wang2018_scalp8_seizure.edf"
    if not path.is_file():
        pytest.skip(f"no {path}: set TSATTN_SHARED")
    return path


def test_the_command_prints_writes_pictures_and_says_what_it_could_not_read(
    scalp: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = tmp_path / "Jane Doe.edf"
    broken.write_bytes(scalp.read_bytes()[:500])
    with pytest.raises(
        ValueError, match=r"1 paths or recordings could not be inspected. Path 2: rec-\w+\.edf has 500 bytes"
    ) as told:
        commands.inspect([scalp, broken], plot=tmp_path / "pictures", full=True)
    assert "Doe" not in str(told.value)
    printed = capsys.readouterr().out
    assert "8 (8 eeg) at 100 Hz" in printed
    assert "1 x sz" in printed
    assert len(list((tmp_path / "pictures").glob("rec-*.png"))) == 1
    with pytest.raises(FileExistsError, match="exists already"):
        commands.inspect([scalp], plot=tmp_path / "pictures")
    commands.inspect([scalp], plot=tmp_path / "one.svg")
    assert (tmp_path / "one.svg").read_text().startswith("<?xml")
    with pytest.raises(ValueError, match=r"ends in .png, .pdf, .svg"):
        commands.inspect([scalp], plot=tmp_path / "one.tiff")
