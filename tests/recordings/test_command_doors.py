"""What a command says of recordings: in its own options alone, of all paths together, and not in what it stores."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from edf_files import write_edf

from tsattn import messages, parsing
from tsattn.commands import detect, events, recordings
from tsattn.recordings import from_array, open_recordings, subjects
from tsattn.recordings.inspect import inspect
from tsattn.recordings.places import revealed
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.preparation.preset import make_preset
from tsattn.recordings.readers import asked
from tsattn.recordings.splits.split import split
from tsattn.recordings.store import open_store

SFREQ = 256


def edf(path: Path, *labels: str, patient: str = "X X X X", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(seed).integers(-900, 900, (len(labels), 20 * SFREQ))
    return write_edf(path, list(x), [SFREQ] * len(labels), labels=labels, onsets=range(20), kind="EDF+C",
                     marks=[(3.0, 2.0, "detection"), (9.0, 1.0, "lights off")], patient=patient)  # fmt: skip


def spelt(function: object) -> parsing.Spelling:
    return parsing.Spelling(parsing.options_of(function))


def advice(path: Path, function: object = None) -> str:
    """Return the advice in the notes of a file, in Python or while a command runs."""
    if function is None:
        return " ".join(note.way for note in open_recordings(path)[0].notes)
    with messages.command(spelt(function)):
        return " ".join(note.way for note in open_recordings(path)[0].notes)


@pytest.mark.parametrize("function", [recordings.inspect, recordings.prepare, detect.detect, events.export])
def test_the_notes_of_a_file_name_options_of_the_running_command_alone(function, tmp_path: Path):
    path = edf(tmp_path / "a.edf", "LA1", "POST1", "EKG1")
    told = advice(path, function)
    flags = set(re.findall(r"(?<![\w-])--\w+", told))
    assert flags <= {option.flag for option in parsing.options_of(function)}
    assert not re.search(r"\w+=", told)  # Python's spelling
    assert ("--type" in flags) == (function is not events.export)
    in_python = advice(path)
    assert "type='ecog'" in in_python
    assert "signals=" in in_python
    assert "subject=" in in_python
    with messages.command(spelt(function)):
        whole = [note.told for note in open_recordings(path)[0].notes]
    assert not [text for text in whole if re.search(r"[;:] ?\.(?!\.)", text)]


def test_events_are_written_into_a_recording_of_which_there_is_much_to_say(tmp_path: Path):
    recording = edf(tmp_path / "a.edf", "LA1", "POST1", "EKG1")
    (tmp_path / "e.tsv").write_text("onset\tduration\ttrial_type\n5\t4\tsz\n")
    with messages.command(spelt(events.export)):
        events.export([tmp_path / "e.tsv"], "edf", tmp_path / "out.edf", recording=recording)
    (made,) = open_recordings(tmp_path / "out.edf")
    assert made.events[["onset", "duration"]].to_numpy().tolist() == [[5.0, 4.0]]


# Several paths ---------------------------------------------------------------------------------------------------


def test_a_pattern_of_one_file_is_right_for_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with_post, without = edf(tmp_path / "a.edf", "LA1", "POST1"), edf(tmp_path / "b.edf", "LA1", "LA2", seed=1)
    recordings.inspect([with_post, without], signals="POST*")
    told = capsys.readouterr().out
    assert "2 recordings" in told
    recordings.prepare([with_post, without], tmp_path / "s.zarr", preset="raw", signals="POST*", skip=True)
    assert (
        "POST1"
        in open_store(tmp_path / "s.zarr").recordings()[0].names + open_store(tmp_path / "s.zarr").recordings()[1].names
    )
    for call in (
        lambda: recordings.inspect([with_post, without], signals="NONE*"),
        lambda: recordings.prepare([with_post, without], tmp_path / "t.zarr", signals="NONE*", skip=True),
    ):
        with pytest.raises(ValueError, match=r"names 'NONE\*', and no channel is called so"):
            call()


def test_a_table_of_one_files_subject_is_right_for_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    one, two = edf(tmp_path / "a.edf", "LA1"), edf(tmp_path / "b.edf", "LA1", seed=1)
    (tmp_path / "people.csv").write_text("file,subject\na.edf,sub-9\n")
    recordings.inspect([one, two], subject=str(tmp_path / "people.csv"))
    assert "2 recordings" in capsys.readouterr().out
    (tmp_path / "people.csv").write_text("file,subject\nc.edf,sub-9\n")
    with pytest.raises(ValueError, match="speaks of none of the 2 recordings"):
        recordings.inspect([one, two], subject=str(tmp_path / "people.csv"))


def test_a_path_that_cannot_be_read_is_named_beside_a_pattern_of_no_channel(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no channel is called so.*Path 2: There is nothing at"):
        recordings.inspect([edf(tmp_path / "a.edf", "LA1"), tmp_path / "gone.edf"], signals="POST*")


def test_files_and_their_store_are_inspected_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = edf(tmp_path / "a.edf", "LA1", "LA2")
    prepare(open_recordings(path), tmp_path / "s.zarr", preset="raw")
    recordings.inspect([path, tmp_path / "s.zarr"])
    assert "2 recordings" in capsys.readouterr().out


# Stores ----------------------------------------------------------------------------------------------------------


def test_a_store_keeps_what_was_found_and_not_the_advice_of_who_prepared_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = edf(tmp_path / "a.edf", "LA1", "POST1", "EKG1")
    with messages.command(spelt(recordings.prepare)):
        recordings.prepare([path], tmp_path / "s.zarr", preset="raw")
        assert "--signals" in capsys.readouterr().out
    (stored,) = open_store(tmp_path / "s.zarr").recordings()
    told = [note.told for note in stored.notes]
    assert any("left out of the signal, by their names" in text for text in told)
    assert not [text for text in told if "--" in text or "=" in text]
    assert not subjects.known(stored)
    with messages.command(spelt(recordings.inspect)):
        recordings.inspect([tmp_path / "s.zarr"])
    assert "--" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [{"unit": "mV"}, {"subject": "sub-1"}, {"type": "ecog"}, {"signals": "LA*"}, {"on_mismatch": "warn"},
               {"seizure_words": ["detection"]}, {"keep_text": ["*"]}, {"unpaired": "raise"}, {"outside": "drop"}],
)  # fmt: skip
def test_what_is_settled_in_a_store_is_refused_by_its_name(option: dict, tmp_path: Path):
    prepare(from_array(np.random.default_rng(0).normal(size=(2, 4000)), 200.0, id="r"), tmp_path / "s.zarr",
            preset="raw")  # fmt: skip
    (name,) = option
    python = {name: tuple(value) if isinstance(value, list) else value for name, value in option.items()}
    python = {"signals": ("LA*",)} if name == "signals" else python
    with pytest.raises(ValueError, match=f"`{name}=...` was given for a store, where it is settled"):
        open_recordings(tmp_path / "s.zarr", **python)
    with (
        messages.command(spelt(recordings.inspect)),
        pytest.raises(ValueError, match=f"`--{name}` was given for a store"),
    ):
        recordings.inspect([tmp_path / "s.zarr"], **option)
    with messages.command(spelt(detect.detect)), pytest.raises(ValueError, match=f"`--{name}` was given for a store"):
        detect.opened(tmp_path / "s.zarr" / "r", recordings.reading_of(**{"signals": None} | option))


def test_half_a_store_is_opened_as_the_caller_can(tmp_path: Path):
    import json

    prepare(from_array(np.random.default_rng(0).normal(size=(2, 4000)), 200.0, id="r"), tmp_path / "s.zarr",
            preset="raw")  # fmt: skip
    about = json.loads((tmp_path / "s.zarr/zarr.json").read_text())
    about["attributes"]["expected"].append("q")
    (tmp_path / "s.zarr/zarr.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match=r"half-written.*, or pass `partial=True`"):
        open_store(tmp_path / "s.zarr")
    with messages.command(spelt(recordings.inspect)), pytest.raises(ValueError) as problem:
        open_store(tmp_path / "s.zarr")
    assert "partial" not in str(problem.value)


# Spelling --------------------------------------------------------------------------------------------------------


def test_the_same_signal_twice_is_refused_as_the_caller_can_mend_it(tmp_path: Path):
    x = np.random.default_rng(0).normal(size=(2, 200 * 60))
    same = [from_array(x, 200.0, id=id, subject=id) for id in ("r", "q")]
    with pytest.raises(ValueError, match=r"hold the same signal: remove one, or pass `twins='together'` or `twins='d"):
        split(same, twins="raise")
    with messages.command(spelt(recordings.split)), pytest.raises(ValueError, match="pass `--twins together` or"):
        split(same, twins="raise")


def test_a_path_of_another_machine_is_asked_for_as_the_caller_gives_it():
    with pytest.raises(FileNotFoundError, match=r"your own \(`store=...`, `splits=...`, `checkpoint=...`\)\."):
        revealed("rec-0123456789ab.zarr")
    with messages.command({"store": "--data.store"}), pytest.raises(FileNotFoundError, match=r"\(`--data.store`\)\."):
        revealed("rec-0123456789ab.zarr")


@pytest.mark.parametrize("workers", [1, 2])
def test_problems_found_in_a_process_of_its_own_are_spelt_alike(workers: int, tmp_path: Path):
    class Wrong:
        def read(self, rows, start, stop):
            raise ValueError("No." + messages.hint("pass {type=ecog}"))

    path = edf(tmp_path / "a.edf", "LA1", "LA2")
    good = open_recordings(path)
    with messages.command(spelt(recordings.inspect)):
        (found,) = recordings.inspected(good, make_preset("swec"), False, workers)
        assert found.id == good[0].id
        expected = inspect(good[0], make_preset("swec"))
    assert found.notes == expected.notes


def test_inspecting_processes_end_with_the_one_that_began_them(tmp_path: Path):
    """A parent that is killed leaves no worker behind."""
    for number in range(40):
        edf(tmp_path / "bids" / f"{number}.edf", "LA1", "LA2", seed=number)
    code = (
        "from pathlib import Path\n"
        "from tsattn.commands import recordings\n"
        "from tsattn.recordings import open_recordings\n"
        "from tsattn.recordings.preparation.preset import make_preset\n"
        "if __name__ == '__main__':\n"
        f"    found = open_recordings(Path({str(tmp_path / 'bids')!r}))\n"
        "    for one in recordings.inspected(found, make_preset('swec'), True, 2):\n"
        "        print(one.id, flush=True)\n"
    )
    script = tmp_path / "look.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline()  # workers are there
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    if not children.exists():
        parent.kill()
        pytest.skip("the system does not list a process's children")
    workers = [int(pid) for pid in children.read_text().split()]
    assert len(workers) >= 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    late = time.monotonic() + 20
    while (left := [pid for pid in workers if running(pid)]) and time.monotonic() < late:
        time.sleep(0.1)
    assert not left


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_said_of_files_is_checked_before_one_is_opened(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no table of subjects"):
        asked(subject=str(tmp_path / "gone.csv"))
