"""MAYO and FNUSA pieces with NaN between them, and the Bonn set as it was published."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from tsattn.recordings.readers import open_recordings, segments

BONN = "data/ieeg/bonn"


def write(root: Path, name: str = "DATASET_MAYO", n: int = 5, **columns: object) -> tuple[Path, np.ndarray]:
    folder = root / name
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).normal(0, 50, (n, 15000))
    ids = [f"a{i}c-{i}" for i in range(n)]
    for i, segment in enumerate(ids):
        savemat(folder / f"{segment}.mat", {"data": values[i : i + 1]})
    kinds = ["noise", "pathology", "powerline", "physiology", "pathology"]
    table = pd.DataFrame(
        {
            "index": range(n),
            "segment_id": ids,
            "category_id": [1, 3, 0, 2, 3][:n],
            "category_name": kinds[:n],
            "patient_id": [4, 11, 4, 4, 11][:n],
            "reviewer_id": [2, 1, 2, 1, 1][:n],
            "soz": [0, 1, 1, np.nan, 1][:n],
        }
    ).assign(**columns)
    table.to_csv(folder / "segments.csv", index=False)
    return folder, values


def test_a_patient_is_one_recording_whose_pieces_never_touch(tmp_path: Path):
    folder, values = write(tmp_path)
    four, eleven = open_recordings(folder)
    assert [four.id, eleven.id] == ["sub-mayo4", "sub-mayo11"]
    assert [four.id for four in open_recordings(tmp_path)] == ["sub-mayo4", "sub-mayo11"]
    assert four.duration == 15.0
    assert four.gaps == ((3.0, 6.0), (9.0, 12.0))
    got = four.read(0, four.n_samples)[0]
    assert four.observed() == [(0, 15000), (30000, 45000), (60000, 75000)]
    for (a, b), row in zip(four.observed(), (0, 2, 3), strict=True):
        np.testing.assert_array_equal(got[a:b], values[row].astype(np.float32))
    assert np.isnan(got).sum() == 30000
    np.testing.assert_array_equal(four.read(29990, 30010)[0, 10:], values[2, :10].astype(np.float32))
    assert four.events["event_type"].tolist() == ["noise", "powerline", "physiology"]
    assert four.events["duration"].tolist() == [3.0] * 3
    assert four.about["clock"] == "none"
    assert four.about["soz"] == [False, True, None]
    assert four.about["row of segments.csv"] == [0, 2, 3]
    assert np.array_equal(pickle.loads(pickle.dumps(eleven)).read(0, 15000)[0], values[1].astype(np.float32))


def test_names_of_people_in_the_table_never_pass(tmp_path: Path):
    who = ["Doe Jane", "Roe Ann", "Doe Jane", "Doe Jane", "Roe Ann"]
    texts = ["noise", "Jane slept", "noise", "noise", "Jane slept"]
    folder, _ = write(tmp_path, "DATASET_OURS", patient_id=who, reviewer_id=who, category_name=texts)
    found = open_recordings(folder)
    told = " ".join(f"{r.id} {r.subject} {r.about} {r.notes} {r.events.to_dict()}" for r in found)
    assert not [word for word in ("Doe", "Roe", "Jane", "Ann") if word in told]
    assert len({r.subject for r in found}) == 2
    assert sorted({kind for r in found for kind in r.events["event_type"]}) == ["annotation", "noise"]
    allowed = open_recordings(folder, keep_text=("Jane slept",))
    assert sorted({kind for r in allowed for kind in r.events["event_type"]}) == ["annotation", "noise"]
    assert sorted({text for r in allowed for text in r.events["text"]}) == ["", "Jane slept"]


def test_opening_many_pieces_reads_none_of_them(tmp_path: Path, monkeypatch):
    folder = tmp_path / "DATASET_FNUSA"
    folder.mkdir()
    n = 3000
    for i in range(n):
        (folder / f"{i}.mat").touch()
    pd.DataFrame({"segment_id": range(n), "category_name": "noise", "patient_id": np.arange(n) % 14}).to_csv(
        folder / "segments.csv"
    )
    monkeypatch.setattr(segments.matlab, "load", lambda *_: pytest.fail("a piece was read"))
    found = open_recordings(folder)
    assert len(found) == 14
    assert sum(len(r.events) for r in found) == n


def test_a_table_that_does_not_fit_its_files_is_refused(tmp_path: Path):
    def refused(match: str, **columns: object) -> None:
        folder, _ = write(tmp_path / str(len(match)), **columns)
        with pytest.raises(ValueError, match=match):
            open_recordings(folder)

    refused("2 of 5 segments .* have no .mat file", segment_id=["a0c-0", "x", "y", "a3c-3", "a4c-4"])
    refused("1 segment ids are not plain names.*row 2", segment_id=["a0c-0", "../x", "a2c-2", "a3c-3", "a4c-4"])
    refused("1 segment ids stand twice", segment_id=["a0c-0", "a0c-0", "a2c-2", "a3c-3", "a4c-4"])
    folder, _ = write(tmp_path / "column")
    pd.read_csv(folder / "segments.csv").drop(columns="patient_id").to_csv(folder / "segments.csv")
    with pytest.raises(ValueError, match="lacks the column patient_id"):
        open_recordings(folder)


def test_a_piece_of_nobody_is_refused_and_not_left_out(tmp_path: Path):
    folder, _ = write(tmp_path, patient_id=[4, 11, None, 4, 11])
    with pytest.raises(ValueError, match="1 of 5 segments have no patient_id"):
        open_recordings(folder)


def test_a_piece_of_another_length_is_refused_when_it_is_read(tmp_path: Path):
    folder, _ = write(tmp_path)
    savemat(folder / "a0c-0.mat", {"data": np.zeros((1, 14999))})
    four, _ = open_recordings(folder)
    with pytest.raises(ValueError, match=r"holds \(1, 14999\) values, expected 1 x 15000"):
        four.read(0, 10)


def test_the_published_bonn_files_are_read_as_numpy_reads_them(shared: Path):
    found = open_recordings(shared / BONN / "s.zip")
    assert len(found) == 100
    first = next(r for r in found if r.id == "sub-bonnpatients_acq-S001")
    with zipfile.ZipFile(shared / BONN / "s.zip") as archive, archive.open("S/S001.txt") as text:
        np.testing.assert_array_equal(first.read(0, first.n_samples)[0], np.loadtxt(text))
    assert first.n_samples == 4097
    assert first.events[["onset", "duration"]].to_numpy().tolist() == [[0.0, 4097 / 173.61]]
    assert first.about["licence"].startswith("CC BY 4.0")
    assert any("no unit" in note.text for note in first.notes)


def test_the_five_published_zips_hold_500_recordings_of_two_groups_of_people(shared: Path):
    found = open_recordings(shared / BONN)
    assert len({r.id for r in found}) == 500
    assert {r.n_samples for r in found} == {4097}
    kinds = {(r.about["set"], r.subject, r.channels["type"][0], len(r.events)) for r in found}
    assert kinds == {
        ("S", "sub-bonnpatients", "seeg", 1),
        ("N", "sub-bonnpatients", "seeg", 0),
        ("F", "sub-bonnpatients", "seeg", 0),
        ("Z", "sub-bonnvolunteers", "eeg", 0),
        ("O", "sub-bonnvolunteers", "eeg", 0),
    }


def bonn_zip(path: Path, name: str, text: str = "1\n2\n-3\n", link: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (0o120777 if link else 0o100644) << 16
        archive.writestr(entry, text)
        archive.writestr("__MACOSX/._S001.txt", "x")
        archive.writestr("S/S002.txt", "1\n2\n")
    return path


def test_a_zip_that_leads_out_of_itself_is_refused(tmp_path: Path):
    for name in ("../S001.txt", "/etc/S001.txt", "S\\S001.txt"):
        with pytest.raises(ValueError, match="holds a file that leads out of it, which is refused"):
            open_recordings(bonn_zip(tmp_path / "s.zip", name))
    with pytest.raises(ValueError, match="holds a link, which is refused"):
        open_recordings(bonn_zip(tmp_path / "s.zip", "S/S001.txt", "/etc/passwd", link=True))


def test_texts_that_are_no_numbers_or_much_too_long_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="S001 of the Bonn set is damaged"):
        open_recordings(bonn_zip(tmp_path / "s.zip", "S/S001.txt", "1\nJane\n"))
    with pytest.raises(ValueError, match="holds a text of 2000000 bytes"):
        open_recordings(bonn_zip(tmp_path / "s.zip", "S/S001.txt", "1\n" * 10**6))


def test_a_zip_that_is_damaged_inside_says_so(tmp_path: Path):
    file = bonn_zip(tmp_path / "s.zip", "S/S001.txt")
    whole = bytearray(file.read_bytes())
    whole[whole.index(b"1\n2\n-3")] = ord("7")
    file.write_bytes(whole)
    with pytest.raises(ValueError, match="is a zip archive that cannot be unpacked"):
        open_recordings(file)


def test_unpacked_texts_and_zips_give_the_same(tmp_path: Path):
    packed = open_recordings(bonn_zip(tmp_path / "s.zip", "S/S001.txt"))
    (tmp_path / "S").mkdir()
    (tmp_path / "S" / "S001.TXT").write_text("1\n2\n-3\n")
    (plain,) = open_recordings(tmp_path / "S")
    assert plain.id == packed[0].id
    assert plain.read(0, 3).tolist() == packed[0].read(0, 3).tolist() == [[1.0, 2.0, -3.0]]
