"""SWEC's HDF5 layout: the right samples at the right time, and never zeros for what is not there."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  (unpacks lz4)
import numpy as np
import pytest
from swec_files import noise, write_part, write_swec

from tsattn.recordings.readers import Reading, hdf5, open_recordings, swec
from tsattn.recordings.recording import Recording

REAL = "parity/mvpformer/ieeg"


def only(path: Path, **said: object) -> Recording:
    found, left = swec.read(path, Reading(**said))
    assert not left
    (one,) = found
    return one


@pytest.fixture
def values() -> np.ndarray:
    return noise()


def test_the_recorded_files_of_the_parity_set_are_read_as_hdf5_reads_them(shared: Path):
    found = open_recordings(shared / REAL)
    assert [(r.id, r.sfreq, r.n_samples, len(r.channels)) for r in found] == [
        ("sub-swecID01", 64.0, 5760, 3),
        ("sub-swecID02", 128.0, 5184, 4),
    ]
    for recording in found:
        with h5py.File(recording.files[0]) as file:
            np.testing.assert_array_equal(recording.read(0, recording.n_samples), file["data/ieeg"][:])
    assert found[0].events[["onset", "duration"]].to_numpy().tolist() == [[20.0, 8.5], [61.25, 4.75]]
    assert found[0].events["event_type"].tolist() == ["sz", "sz"]
    assert len(found[0].files) == 3


@pytest.mark.parametrize("packing", ["lz4", "lz4hc"])
@pytest.mark.parametrize("parts", [0, 1, 3])
def test_every_window_holds_the_samples_that_were_written(tmp_path: Path, values, packing: str, parts: int):
    recording = only(write_swec(tmp_path, values, parts=parts, packing=packing))
    n = values.shape[1]
    for start, stop in [(0, n), (0, 0), (n // 3 - 5, n // 3 + 5), (n - 1, n), (100, 2 * n // 3 + 100)]:
        np.testing.assert_array_equal(recording.read(start, stop), values[:, start:stop])
    np.testing.assert_array_equal(recording.read(50, 5000, [2, 0]), values[[2, 0], 50:5000])
    np.testing.assert_array_equal(recording.pick(["C2"]).read(7, 70), values[[1], 7:70])


def test_a_patient_s_file_folder_and_the_data_set_s_folder_open_the_same(tmp_path: Path, values):
    total = write_swec(tmp_path, values)
    write_swec(tmp_path, values + 1, patient="ID61")
    assert only(total).files == only(total.parent).files
    found, left = swec.read(tmp_path, Reading())
    assert [r.id for r in found] == ["sub-swecID60", "sub-swecID61"]
    assert left == []


def test_a_patient_s_folder_without_its_total_file_is_named_as_left(tmp_path: Path, values):
    write_swec(tmp_path, values)
    write_swec(tmp_path, values, patient="ID61").unlink()
    found, left = swec.read(tmp_path, Reading())
    assert [r.id for r in found] == ["sub-swecID60"]
    assert [one.why for one in left] == ["SWEC ID61 has no ID61_total.h5."]
    with pytest.raises(ValueError, match="holds parts of a SWEC recording but no"):
        swec.read(tmp_path / "ID61", Reading())


def test_one_part_alone_is_refused(tmp_path: Path, values):
    total = write_swec(tmp_path, values)
    with pytest.raises(ValueError, match=r"one part of a recording.*Open the IDxx_total\.h5"):
        open_recordings(total.with_name("ID60_part_1.h5"))


def test_a_recording_pickles_without_its_open_file_and_reads_the_same_in_a_forked_process(tmp_path: Path, values):
    recording = only(write_swec(tmp_path, values))
    first = recording.read(0, 100)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(recording)).read(0, 100), first)
    assert len(pickle.dumps(recording.source)) < 2000
    mine = [file for file, _ in hdf5._open.values()]  # kept, so that nothing new gets their addresses
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  (another process)
        same = np.array_equal(recording.read(0, 100), first)
        fresh = not any(file is old for file, _ in hdf5._open.values() for old in mine) and hdf5._process == os.getpid()
        os.write(writer, b"yes" if same and fresh else b"no")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 3) == b"yes"
    os.close(reader)
    os.close(writer)


def test_the_next_window_in_a_chunk_does_not_decode_the_chunk_again(tmp_path: Path, values):
    total = write_swec(tmp_path, values, parts=1)
    recording = only(total)
    second = 64
    recording.read(0, 125 * second)
    part = total.with_name("ID60_part_1.h5")
    with h5py.File(part) as file:
        chunk = file["data/ieeg"].id.get_chunk_info(0)
    written = part.stat()
    with part.open("r+b") as raw:  # what is on the disk is spoilt; what was decoded is not
        raw.seek(chunk.byte_offset + 16)
        raw.write(b"\xff" * 64)
    os.utime(part, ns=(written.st_atime_ns, written.st_mtime_ns))
    np.testing.assert_array_equal(recording.read(5 * second, 130 * second), values[:, 5 * second : 130 * second])
    hdf5._open.clear()
    with pytest.raises(ValueError, match=r"^rec-\w+\.h5 is damaged: HDF5 cannot unpack samples"):
        recording.read(5 * second, 130 * second)


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path, values):
    only(write_swec(tmp_path / "a", values)).read(0, 10)
    for file in write_swec(tmp_path / "b", values + 1).parent.iterdir():
        file.replace(tmp_path / "a" / file.parent.name / file.name)
    again = only(tmp_path / "a" / "ID60")
    np.testing.assert_array_equal(again.read(0, 10), values[:, :10] + 1)


def test_files_that_are_open_are_closed_when_their_chunks_would_fill_the_memory(tmp_path: Path, values, monkeypatch):
    monkeypatch.setattr(hdf5, "KEEP_BYTES", 0)
    hdf5._open.clear()
    recording = only(write_swec(tmp_path, values, parts=4))
    np.testing.assert_array_equal(recording.read(0, recording.n_samples), values)
    assert len(hdf5._open) == 2


def test_an_absent_part_is_refused_by_name_where_hdf5_would_give_zeros(tmp_path: Path, values):
    total = write_swec(tmp_path, values, parts=3)
    total.with_name("ID60_part_2.h5").unlink()
    with h5py.File(total) as file:
        assert (file["data/ieeg"][:, 9000:10000] == 0).all()  # the trap
    with pytest.raises(ValueError, match=r"SWEC ID60 lacks 1 of 3 parts.*zeros by HDF5: ID60_part_2\.h5\."):
        swec.read(total, Reading())


def test_the_misnamed_parts_of_hugging_face_are_known_and_a_link_in_the_folder_mends_them(tmp_path: Path, values):
    total = write_swec(tmp_path, values, patient="ID20", named="ID02_part_{}.h5")
    with pytest.raises(
        ValueError, match=r"lacks 2 of 2 parts.*another patient, ID02.*ln -s ID20_part_1\.h5 ID02_part_1"
    ):
        swec.read(total, Reading())
    for k in (1, 2):
        total.with_name(f"ID02_part_{k}.h5").symlink_to(f"ID20_part_{k}.h5")
    np.testing.assert_array_equal(only(total).read(0, values.shape[1]), values)


@pytest.mark.parametrize("way", ["..", "absolute", "link out"])
def test_parts_outside_the_folder_are_refused(tmp_path: Path, values, way: str):
    other = tmp_path / "elsewhere"
    other.mkdir()
    write_part(other / "ID60_part_1.h5", values)
    name = {
        "..": "../elsewhere/ID60_part_{}.h5",
        "absolute": str(other / "ID60_part_{}.h5"),
        "link out": "ID60_part_{}.h5",
    }[way]
    total = write_swec(tmp_path, values, parts=1, named=name)
    total.with_name("ID60_part_1.h5").unlink()
    if way == "link out":
        total.with_name("ID60_part_1.h5").symlink_to(other / "ID60_part_1.h5")
    with pytest.raises(ValueError, match="takes 1 of 1 parts from outside its folder, which is refused"):
        swec.read(total, Reading())


@pytest.mark.parametrize("where", ["total", "part"])
def test_an_external_link_out_of_the_folder_is_refused(tmp_path: Path, values, where: str):
    total = write_swec(tmp_path, values)
    write_part(tmp_path / "secret.h5", values)
    file = total if where == "total" else total.with_name("ID60_part_1.h5")
    with h5py.File(file, "r+") as opened:
        opened["more"] = h5py.ExternalLink("../secret.h5", "/data/ieeg")
    with pytest.raises(ValueError, match="holds a link that leaves its folder, which is refused"):
        swec.read(total, Reading())


def test_samples_in_a_raw_file_beside_are_refused(tmp_path: Path, values):
    total = tmp_path / "ID60_total.h5"
    (tmp_path / "raw.bin").write_bytes(values.tobytes())
    with h5py.File(total, "w") as file:
        file.create_dataset(
            "data/ieeg", shape=values.shape, dtype="f4", external=[(str(tmp_path / "raw.bin"), 0, values.nbytes)]
        )
        file.attrs["sampling_rate"] = 64
    with pytest.raises(ValueError, match="holds a raw file that leaves its folder"):
        swec.read(total, Reading())


def test_parts_that_leave_a_hole_or_are_shorter_than_the_total_says_are_refused(tmp_path: Path, values):
    total = write_swec(tmp_path, values)
    write_part(total.with_name("ID60_part_2.h5"), values[:, :1000])
    with pytest.raises(ValueError, match=r"part 2 holds \(3, 1000\).*at least 12800 samples"):
        swec.read(total, Reading())
    layout = h5py.VirtualLayout((3, 2000), "f4")
    layout[:, 1000:] = h5py.VirtualSource("ID60_part_2.h5", "data/ieeg", shape=(3, 1000))
    with h5py.File(total, "w") as file:
        file.create_virtual_dataset("data/ieeg", layout)
        file.attrs["sampling_rate"] = 64
    with pytest.raises(ValueError, match=r"do not follow one another.*sample 0"):
        swec.read(total, Reading())


def test_a_chunk_that_was_never_written_is_refused(tmp_path: Path, values):
    total = write_swec(tmp_path, values, parts=1)
    with h5py.File(total.with_name("ID60_part_1.h5"), "w") as file:
        half = file.create_dataset("data/ieeg", shape=values.shape, dtype="f4", chunks=(3, 1000))
        half[:, :5000] = values[:, :5000]
    with pytest.raises(ValueError, match=r"half written: 21 of 26 chunks are not there.*zeros"):
        swec.read(total, Reading())


def test_a_header_that_claims_a_million_million_samples_is_refused_before_anything_is_read(tmp_path: Path):
    total = tmp_path / "ID60_total.h5"
    with h5py.File(total, "w") as file:
        file.create_dataset("data/ieeg", shape=(4, 10**12), dtype="f4", chunks=(4, 10**6))
        file.attrs["sampling_rate"] = 512
    with pytest.raises(ValueError, match="half written: 1000000 of 1000000 chunks"):
        swec.read(total, Reading())


@pytest.mark.parametrize("keep", [100, 0.5, 0.98])
def test_a_file_that_was_cut_short_says_so(tmp_path: Path, values, keep: float):
    total = write_swec(tmp_path, values)
    for file in (total, total.with_name("ID60_part_2.h5")):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
        with pytest.raises(ValueError, match=r"^rec-\w+\.h5 is a damaged HDF5 file.*cut short"):
            swec.read(total, Reading())
        file.write_bytes(whole)
    only(total)


def test_a_file_that_is_not_hdf5_whatever_its_ending_says(tmp_path: Path):
    total = tmp_path / "ID60_total.h5"
    total.write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(ValueError, match="is not an HDF5 file, whatever its ending says"):
        open_recordings(total)


def test_the_rate_may_be_a_number_or_an_array_of_one_and_nothing_else(tmp_path: Path, values):
    total = write_swec(tmp_path, values)
    for good in (np.array(64), np.array([64.0]), np.int64(64)):
        with h5py.File(total, "r+") as file:
            file.attrs["sampling_rate"] = good
        assert only(total).sfreq == 64
    for bad in (0, -512, np.nan, np.array([1, 2]), "512 Hz"):
        with h5py.File(total, "r+") as file:
            file.attrs["sampling_rate"] = bad
        with pytest.raises(ValueError, match="expected one rate in Hz above 0"):
            swec.read(total, Reading())
    with h5py.File(total, "r+") as file:
        del file.attrs["sampling_rate"]
    with pytest.raises(ValueError, match="lacks the attribute sampling_rate"):
        swec.read(total, Reading())


def test_swapped_axes_texts_and_empty_sets_are_refused(tmp_path: Path, values):
    def refused(data: object, match: str) -> None:
        with h5py.File(tmp_path / "ID60_total.h5", "w") as file:
            file["data/ieeg"] = data
            file.attrs["sampling_rate"] = 64
        with pytest.raises(ValueError, match=match):
            swec.read(tmp_path / "ID60_total.h5", Reading())

    refused(values.T, "25600 channels of 3 samples; the axes seem to be swapped")
    refused(values[0], "expected a matrix of numbers")
    refused(values[:, :0], "is empty")
    refused(np.array([[b"a", b"b"]]), "expected a matrix of numbers")


def test_seizures_may_be_a_column_empty_or_absent(tmp_path: Path, values):
    column = only(write_swec(tmp_path / "a", values, seizures=[(61.25, 66.0), (20.0, 28.5)], column=True))
    assert column.events[["onset", "duration"]].to_numpy().tolist() == [[20.0, 8.5], [61.25, 4.75]]
    empty = only(write_swec(tmp_path / "b", values, seizures=[]))
    assert len(empty.events) == 0
    assert not [note for note in empty.notes if note.level == "warning"]
    absent = only(write_swec(tmp_path / "c", values, seizures=None))
    assert len(absent.events) == 0
    assert any("none is known, there may be some" in note.text for note in absent.notes)


@pytest.mark.parametrize("bad", [(500.0, 510.0), (-20.0, -10.0), (30.0, 20.0), (np.nan, 20.0)])
def test_a_seizure_that_the_recording_cannot_hold_is_told_or_refused(tmp_path: Path, values, bad):
    total = write_swec(tmp_path, values, seizures=[(20.0, 30.0), bad])
    with pytest.raises(ValueError, match="SWEC ID60: 1 events"):
        swec.read(total, Reading(outside="raise"))
    told = only(total)
    assert any(note.level == "warning" and "1 events" in note.text for note in told.notes)
    assert (told.events["onset"] + told.events["duration"]).max() <= told.duration


def test_a_table_without_the_two_fields_is_refused(tmp_path: Path, values):
    total = write_swec(tmp_path, values, seizures=None)
    with h5py.File(total, "r+") as file:
        file["data/seizures"] = np.zeros((2, 2))
    with pytest.raises(ValueError, match="expected onsets and offsets in seconds"):
        swec.read(total, Reading())


def test_nan_in_the_file_stays_nan(tmp_path: Path, values):
    values[1, 300:400] = np.nan
    np.testing.assert_array_equal(only(write_swec(tmp_path, values)).read(0, 1000), values[:, :1000])


def test_a_unit_that_the_user_states_is_turned_into_microvolts(tmp_path: Path, values):
    recording = only(write_swec(tmp_path, values), unit="mV")
    np.testing.assert_allclose(recording.read(0, 100), values[:, :100] * 1000, rtol=1e-6)
    assert recording.channels["unit"].unique().tolist() == ["mV"]


def test_patients_that_were_published_twice_name_their_twin(tmp_path: Path, values):
    pairs = {"ID01": "ID20", "ID04": "ID24", "ID18": "ID40", "ID40": "ID18", "ID34": "ID12"}
    for one, other in pairs.items():
        notes = only(write_swec(tmp_path, values, patient=one)).notes
        assert any(f"{one} is known to be the same patient as {other}:" in note.text for note in notes)
    assert not any("same patient" in note.text for note in only(write_swec(tmp_path, values, patient="ID23")).notes)
    assert len(swec.TWINS) == 36


def test_a_file_of_the_layout_with_another_name_is_called_by_a_pseudonym(tmp_path: Path, values):
    total = write_swec(tmp_path, values, parts=0)
    renamed = total.rename(tmp_path / "JaneDoe.h5")
    (recording,) = open_recordings(renamed)
    told = f"{recording.id} {recording.subject} {recording.notes} {recording.about}"
    assert "Jane" not in told
    assert recording.subject.startswith("sub-")


def test_one_subject_for_several_patients_is_refused(tmp_path: Path, values):
    write_swec(tmp_path, values)
    write_swec(tmp_path, values, patient="ID61")
    with pytest.raises(ValueError, match="One subject was given for 2 patients"):
        swec.read(tmp_path, Reading(subject="sub-01"))


@pytest.mark.parametrize("packing", ["lz4", "lz4hc"])
def test_without_hdf5plugin_one_sentence_says_what_to_install(tmp_path: Path, values, packing: str):
    total = write_swec(tmp_path, values, packing=packing)
    code = (
        "import sys; sys.modules['hdf5plugin'] = None\n"
        "from pathlib import Path; from tsattn.recordings.readers import Reading, swec\n"
        f"try: swec.read(Path({str(total)!r}), Reading())\nexcept ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert "which needs hdf5plugin: pip install 'tsattn[neuro]'." in done.stdout
    assert "lz4" in done.stdout
