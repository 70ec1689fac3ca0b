"""Somebody unknown is not somebody else: where no file says whose it is, a split by subject asks."""

from pathlib import Path

import numpy as np
import pytest
from edf_files import write_edf
from support import tsattn

from tsattn.recordings import open_recordings, open_store, simulate_bids
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.splits.split import split
from tsattn.recordings.splits.splits import Splits
from tsattn.recordings.subjects import assigned, known, read_table


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files in each of three folders; nothing in them says whose they are."""
    root = tmp_path_factory.mktemp("files")
    for number in range(6):
        path = root / f"p{number // 2}" / f"r{number}.edf"
        path.parent.mkdir(exist_ok=True)
        digital = np.random.default_rng(number).integers(-500, 500, (3, 2000))
        write_edf(path, list(digital), [100] * 3)
    return root


@pytest.fixture(scope="module")
def store(files: Path) -> Path:
    prepare(files, files / "store.zarr", preset="raw")
    return files / "store.zarr"


def people(recordings: list[Recording]) -> list[list[int]]:
    """Return which recordings are of one person."""
    found: dict[str, list[int]] = {}
    for place, recording in enumerate(recordings):
        found.setdefault(recording.subject, []).append(place)
    return sorted(found.values())


def test_nobody_is_known_and_that_is_kept_in_a_store(files: Path, store: Path):
    for recordings in (open_recordings(sorted(files.glob("p*"))), open_store(store).recordings()):
        assert [known(recording) for recording in recordings] == [False] * 6


@pytest.mark.parametrize("door", ["store", "recordings"])
def test_a_split_by_subject_refuses_and_both_ways_out_work(door: str, files: Path, store: Path, tmp_path: Path):
    given = store if door == "store" else open_recordings(sorted(files.glob("p*")))
    with pytest.raises(ValueError, match=r"6 of 6 do not say it.*subject='folder'.*subject='people.csv'"):
        split(given, "subject")
    made = split(given, "subject", subject="folder")
    table = tmp_path / "people.csv"
    table.write_text("file,subject\n" + "".join(f"{files}/p{k // 2}/r{k}.edf,child {k // 2}\n" for k in range(6)))
    listed = split(given, "subject", subject=table)
    for one in (made, listed):
        assert sorted(len(one.of(recording)) for recording in one.made["subjects"]) == [1] * 6
        parts = {person: set() for person in one.made["subjects"].values()}
        for span in one.spans:
            parts[one.made["subjects"][span.recording]].add(span.part)
        assert len(parts) == 3
        assert all(len(found) == 1 for found in parts.values())


def test_the_command_line_says_the_same_and_its_advice_works(store: Path, tmp_path: Path):
    refused = tsattn("recordings", "split", store, "--by", "subject", "--out", "s.json", cwd=tmp_path)
    assert refused.returncode
    assert "--subject folder" in refused.stderr
    ran = tsattn(
        "recordings", "split", store, "--by", "subject", "--out", "s.json", "--subject", "folder", cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("1 subjects") == 3
    data = RecordingDataModule(store, tmp_path / "s.json", segments=2, segment_seconds=1.0)
    assert people(data.recordings) == people(assigned(open_store(store).recordings(), "folder"))
    assert all(known(recording) for recording in data.recordings)


def test_inspect_prepare_and_open_take_the_same_word(files: Path, tmp_path: Path):
    folders = sorted(files.glob("p*"))
    opened = open_recordings(folders, subject="folder")
    assert people(opened) == [[0, 1], [2, 3], [4, 5]]
    ran = tsattn("recordings", "inspect", *folders, "--preset", "raw", "--subject", "folder", cwd=tmp_path)
    assert "6 recordings of 3 subjects" in ran.stdout
    plain = tsattn("recordings", "inspect", *folders, "--preset", "raw", cwd=tmp_path)
    assert "6 recordings of 6 recordings that do not say whose they are" in plain.stdout
    done = tsattn(
        "recordings", "prepare", *folders, "--preset", "raw", "--subject", "folder", "--out", "s.zarr", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    stored = open_store(tmp_path / "s.zarr").recordings()
    assert people(stored) == people(sorted(opened, key=lambda one: one.id))
    split(stored, "subject")


def test_a_split_by_time_says_that_nobody_is_known(store: Path):
    made = split(store, "time", embargo_seconds=1.0)
    assert "6 recordings do not say whose they are" in " ".join(made.report["notes"])
    assert "(6 not known)" in str(made)


def test_a_table_is_checked(files: Path, tmp_path: Path):
    table = tmp_path / "people.csv"
    for text, told in (
        ("file,subject\n", "expected a header and two columns"),
        ("file,subject\na.edf,\n", "row 2: a file or a subject is missing"),
        ("file,subject\na.edf,x\na.edf,y\n", "row 3: this file has another subject"),
    ):
        table.write_text(text)
        with pytest.raises(ValueError, match=told):
            read_table(table)
    table.write_text("file,subject\nelsewhere.edf,x\n")
    with pytest.raises(ValueError, match="speaks of none of the 2 recordings"):
        open_recordings(files / "p0", subject=str(table))
    with pytest.raises(ValueError, match="expected 'folder'"):
        assigned(open_recordings(files / "p0"), "who knows")
    with pytest.raises(FileNotFoundError):
        open_recordings(files / "p0", subject="absent.tsv")


def test_a_data_set_or_a_header_that_names_people_is_believed(tmp_path: Path):
    for number in range(2):
        digital = np.random.default_rng(number).integers(-500, 500, (2, 500))
        write_edf(tmp_path / f"{number}.edf", list(digital), [100] * 2, patient=f"MRN{number} X X X", kind="EDF+C",
                  onsets=range(5))  # fmt: skip
    recordings = open_recordings(tmp_path)
    assert [known(recording) for recording in recordings] == [True, True]
    assert len({recording.subject for recording in recordings}) == 2
    assert len({one.subject for one in open_recordings(tmp_path, subject="folder")}) == 1


def test_an_array_without_a_name_is_of_nobody_known():
    values = np.random.default_rng(0).normal(size=(2, 8000)) * 50
    assert not known(from_array(values, 64.0))
    assert known(from_array(values, 64.0, id="sub-1_run-1"))
    assert known(from_array(values, 64.0, subject="sub-1"))


def test_a_split_that_was_written_before_is_read(tmp_path: Path, store: Path):
    made = split(store, "time", embargo_seconds=1.0)
    made.save(tmp_path / "s.json")
    assert Splits.load(tmp_path / "s.json").made.get("subjects") is None


def test_one_subject_for_recordings_that_name_several_people_is_refused(tmp_path: Path):
    simulate_bids(tmp_path / "bids", subjects=2, hours=0.02, level="easy")
    with pytest.raises(ValueError, match=r"'p07' was given .* several people: sub-01, sub-02"):
        open_recordings(tmp_path / "bids", subject="p07")
    assert [one.subject for one in open_recordings(tmp_path / "bids/sub-01", subject="p07")] == ["p07"]
