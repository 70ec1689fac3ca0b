import ast
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from support import ROOT

from tsattn.recordings import privacy
from tsattn.recordings.privacy import is_bids_name, label, pseudonym, scrub


@pytest.fixture(autouse=True)
def salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSATTN_SALT", "a secret of the test")
    monkeypatch.delenv("TSATTN_SHOW_NAMES", raising=False)


def test_a_pseudonym_is_stable_differs_by_salt_and_holds_nothing_of_the_text(monkeypatch: pytest.MonkeyPatch):
    first = pseudonym("Jane Doe", "sub")
    assert first == pseudonym("Jane Doe", "sub")
    assert re.fullmatch(r"sub-[0-9a-f]{12}", first)
    assert pseudonym("Jane Doe ", "sub") != first
    monkeypatch.setenv("TSATTN_SALT", "another")
    assert pseudonym("Jane Doe", "sub") != first


def test_pseudonyms_of_many_recordings_are_unique():
    """Chance of a collision among 30,000: 2e-6; with 8 digits it would be 0.1."""
    assert len({pseudonym(str(i), "rec") for i in range(30_000)}) == 30_000


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("Doe.Jane", ""),
        ("Doe_Jane.edf", ".edf"),
        ("DOE^JANE.EDF", ".EDF"),
        ("jane.doe.fif.gz", ".fif.gz"),
        ("scan.1962-03-04", ""),
        ("sub-01_JaneDoe.edf", ".edf"),  # no suffix of BIDS
        ("sub-01.JaneDoe.edf", ".edf"),
        ("sub-01_name-JaneDoe_ieeg.edf", ".edf"),  # no entity of BIDS
        ("sub-01_ieeg.edf.Jane", ""),
        ("JaneDoe", ""),
    ],
)
def test_a_file_name_that_may_hold_a_name_is_shown_as_a_pseudonym_with_a_known_ending(name: str, ending: str):
    told = label(Path("/data/ward") / name)
    assert re.fullmatch(rf"rec-[0-9a-f]{{12}}{re.escape(ending)}", told)


@pytest.mark.parametrize(
    "name",
    [
        "sub-01",
        "ses-02",
        "sub-01_ses-02_task-sleep_acq-ecog_run-01_ieeg.vhdr",
        "sub-01_channels.tsv",
        "sub-pt1_ses-02_task-monitor_acq-ecog_run-01",
        "dataset_description.json",
    ],
)
def test_a_bids_name_is_shown(name: str):
    assert is_bids_name(name)
    assert label(Path("/data/Jane Doe") / name) == name


def test_one_file_has_one_label_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert label("x.edf") == label(tmp_path / "x.edf") == label(tmp_path / "a" / ".." / "x.edf")


def test_names_are_shown_where_the_screen_is_private(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TSATTN_SHOW_NAMES", "1")
    assert label("/data/JaneDoe.edf") == "JaneDoe.edf"


def test_a_message_of_a_library_loses_the_file_and_what_lies_below_a_folder(tmp_path: Path):
    folder = tmp_path / "Jane Doe"
    file = folder / "visit 1" / "doe jane.edf"
    text = (
        f"[Errno 2] No such file: '{file}', and\nfile://{file}\nUnable to open {folder}/x y/JaneDoe.edf\n"
        "while reading doe jane.edf (doe jane) at 50. Hz."
    )
    done = scrub(text, [folder, file, "."])
    assert "ane" not in done
    assert "oe" not in done
    assert done.endswith(" at 50. Hz.")
    assert done.count("rec-") == 5


def test_a_short_path_does_not_eat_the_message():
    assert scrub("a banana in A1, 50 Hz", ["."]) == "a banana in A1, 50 Hz"
    assert scrub("a banana", ["n"]) == "a banana"


MAKE = "from tsattn.recordings.privacy import pseudonym; print(pseudonym('x', 'sub'))"


def test_processes_that_start_at_once_agree_on_one_key_and_leave_nothing_else(tmp_path: Path):
    """A reader of a half-written key would hash with another key, and one person would get two pseudonyms."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    del environment["TSATTN_SALT"]
    started = [
        subprocess.Popen([sys.executable, "-c", MAKE], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    assert len({process.communicate()[0] for process in started}) == 1
    assert all(process.returncode == 0 for process in started)
    key = tmp_path / "tsattn" / "salt"
    assert [file.name for file in key.parent.iterdir()] == ["salt"]
    assert len(key.read_bytes()) == 32
    assert key.stat().st_mode & 0o077 == 0


def test_a_key_that_cannot_be_kept_is_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TSATTN_SALT")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be kept.*TSATTN_SALT"):
        pseudonym("x", "sub")


def test_a_file_system_without_links_is_said_and_leaves_no_half_made_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("TSATTN_SALT")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(privacy.os, "link", refuse)
    with pytest.raises(OSError, match=r"Operation not permitted.*TSATTN_SALT"):
        pseudonym("x", "sub")
    assert list((tmp_path / "tsattn").iterdir()) == []


def test_a_damaged_key_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TSATTN_SALT")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "tsattn").mkdir()
    (tmp_path / "tsattn" / "salt").write_bytes(b"short")
    with pytest.raises(OSError, match="has 5 bytes, expected 32"):
        pseudonym("x", "sub")


HEADER_WORDS = re.compile(
    r"patient|subject_info|birth|hospital|technician|admin|local_recording|recording_id|meas_date|header|raw\.info"
)


def spoken(tree: ast.AST) -> list[ast.Call]:
    """Calls that log, print or warn."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "print" or re.fullmatch(
                r"(logging|logger|log|LOG|_log|warnings)\.(debug|info|warn|warning|error|exception|critical|log)",
                called,
            ):
                found.append(node)
    return found


@pytest.mark.parametrize("room", ["recordings", "events"])
def test_no_module_logs_prints_or_warns_with_a_part_of_a_raw_header(room: str):
    """What it would say is looked for in the values that go in, not in the words around them."""
    for path in (ROOT / "tsattn" / room).rglob("*.py"):
        for call in spoken(ast.parse(path.read_text())):
            values = [node for node in ast.walk(call) if isinstance(node, ast.Name | ast.Attribute | ast.Subscript)]
            for value in values:
                assert not HEADER_WORDS.search(ast.unparse(value)), f"{path}:{call.lineno}"


def test_a_shifted_clock_keeps_the_order_of_one_subject_and_hides_when_it_was(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TSATTN_SALT", "pepper")
    first, second = datetime(2024, 5, 6, 7, 8, 9), datetime(2024, 5, 8, 1, 0, 0)
    moved = privacy.shifted(first, "sub-01")
    assert privacy.shifted(second, "sub-01") - moved == second - first
    assert 10 * 365 <= (first - moved).days < 60 * 365
    assert privacy.shifted(first, "sub-02") != moved
