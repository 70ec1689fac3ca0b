"""Brain TreeBank: electrode i belongs to label i, whatever the order of names in the file."""

import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from tsattn.recordings.readers import open_recordings
from tsattn.recordings.recording import Recording

LABELS = ["*T1a1", "T1a2", "#F3_b1", "DC1", "TRIG4", *(f"P2c{i}" for i in range(1, 7))]  # 11: electrode_10 sorts early


def write(root: Path, electrodes: int = 11, samples: int = 5000, labels: list[str] | None = LABELS) -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 50, (electrodes, samples)).astype(np.float32)
    with h5py.File(root / "sub_1_trial002.h5", "w") as file:
        for i, row in enumerate(values):
            file.create_dataset(f"data/electrode_{i}", data=row, chunks=(1000,), compression="gzip")
    if labels is not None:
        (root / "electrode_labels/sub_1").mkdir(parents=True, exist_ok=True)
        (root / "electrode_labels/sub_1/electrode_labels.json").write_text(json.dumps(labels))
        (root / "corrupted_elec.json").write_text(json.dumps({"sub_1": ["T1a2", "P2c_3"], "sub_2": ["T1a1"]}))
        (root / "localization/sub_1").mkdir(parents=True, exist_ok=True)
        (root / "localization/sub_1/depth-wm.csv").write_text("ID,Electrode,L,I,P\n1,*T1a1,10,20,30\n2,F3b1,1,2,3\n")
    return values


def only(root: Path) -> Recording:
    (one,) = open_recordings(root / "sub_1_trial002.h5")
    return one


def test_every_electrode_has_its_own_label(tmp_path: Path):
    values = write(tmp_path)
    recording = only(tmp_path)
    assert recording.id == "sub-treebank1_run-002"
    assert recording.sfreq == 2048.0
    assert recording.names == ["T1a1", "T1a2", "F3b1", "DC1", "TRIG4", *(f"P2c{i}" for i in range(1, 7))]
    np.testing.assert_array_equal(recording.read(990, 3010), values[:, 990:3010])
    np.testing.assert_array_equal(recording.pick(["P2c6", "T1a1"]).read(0, 9), values[[10, 0], :9])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(recording)).read(5, 9), values[:, 5:9])
    table = recording.channels.set_index("name")
    assert table.index[table["status"] == "bad"].tolist() == ["T1a2", "P2c3"]
    assert table.index[table["type"] == "stim"].tolist() == ["DC1", "TRIG4"]
    assert recording.about["contacts in L, I, P"] == {"T1a1": [10.0, 20.0, 30.0], "F3b1": [1.0, 2.0, 3.0]}
    assert any("no unit" in note.text for note in recording.notes)


def test_labels_are_found_from_a_folder_below(tmp_path: Path):
    write(tmp_path)
    inner = tmp_path / "subject_data" / "sub_1"
    inner.mkdir(parents=True)
    (tmp_path / "sub_1_trial002.h5").rename(inner / "sub_1_trial002.h5")
    assert only(inner).names[0] == "T1a1"


def test_an_electrode_without_a_label_is_bad_and_told(tmp_path: Path):
    write(tmp_path, electrodes=12)
    recording = only(tmp_path)
    assert recording.channels.iloc[11][["name", "status", "reason"]].tolist() == ["electrode_11", "bad", "no label"]
    assert any("1 electrodes have no label" in note.text for note in recording.notes)


def test_without_labels_contacts_are_called_by_their_set_and_this_is_told(tmp_path: Path):
    write(tmp_path, labels=None)
    recording = only(tmp_path)
    assert recording.names[9:] == ["electrode_9", "electrode_10"]
    told = " ".join(note.text for note in recording.notes)
    assert "No electrode_labels.json" in told
    assert "No corrupted_elec.json" in told


def test_more_labels_than_electrodes_are_refused(tmp_path: Path):
    write(tmp_path, electrodes=10)
    with pytest.raises(ValueError, match="Brain TreeBank sub_1, trial 002 has 10 electrodes and 11 labels"):
        only(tmp_path)


def test_unlike_lengths_missing_numbers_matrices_and_half_written_sets_are_refused(tmp_path: Path):
    def refused(match: str, change) -> None:
        write(tmp_path)
        with h5py.File(tmp_path / "sub_1_trial002.h5", "r+") as file:
            change(file["data"])
        with pytest.raises(ValueError, match=match):
            only(tmp_path)

    def replace(name: str, **made: object):
        def change(group: h5py.Group) -> None:
            del group[name]
            if made:
                group.create_dataset(name, **made)

        return change

    refused(r"hold \[4000, 5000\] samples", replace("electrode_4", data=np.zeros(4000, "f4")))
    refused("holds 10 electrodes, expected electrode_0, electrode_1", replace("electrode_4"))
    refused(r"of shape \(5000, 2\), expected a row", replace("electrode_4", data=np.zeros((5000, 2))))
    refused(
        "electrode_4, is half written: 5 of 5 chunks", replace("electrode_4", shape=(5000,), dtype="f4", chunks=(1000,))
    )
    refused("made but never written", replace("electrode_4", shape=(5000,), dtype="f4"))


def test_a_link_out_a_cut_file_and_cut_labels_are_refused(tmp_path: Path):
    root = tmp_path / "set"
    root.mkdir()
    write(root)
    with h5py.File(root / "sub_1_trial002.h5", "r+") as file:
        del file["data/electrode_3"]
        file["data/electrode_3"] = h5py.ExternalLink("/etc/secret.h5", "x")
    with pytest.raises(ValueError, match="holds a link that leaves its folder"):
        only(root)
    write(root)
    whole = (root / "sub_1_trial002.h5").read_bytes()
    (root / "sub_1_trial002.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="is a damaged HDF5 file"):
        only(root)
    (root / "sub_1_trial002.h5").write_bytes(whole)
    (root / "electrode_labels/sub_1/electrode_labels.json").write_text('["T1a1", ')
    with pytest.raises(ValueError, match=r"is not the JSON that was expected.* Is it cut short"):
        only(root)
