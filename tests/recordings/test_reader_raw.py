import multiprocessing
import shutil

import mne
import numpy as np
import pytest
from support import SHARED

from tsattn.recordings.readers import Reading, neuralynx, open_recordings, raw
from tsattn.recordings.recording import Recording

FORMATS = SHARED / "data" / "ieeg" / "formats"
PERSYST = FORMATS / "Persyst" / "sub-pt1_ses-02_task-monitor_acq-ecog_run-01_clip2.lay"
REAL = [PERSYST, FORMATS / "NihonKohden" / "MB0400FU.EEG", FORMATS / "fif" / "sample_ecog_ieeg.fif"]
NEURALYNX = FORMATS / "neuralynx"


def one(path, reader=raw, **reading) -> Recording:
    (recording,) = reader.read(path, Reading(**reading))
    return recording


def here(path):
    if not path.exists():
        pytest.skip(f"{path.name} is not here")
    return path


def told(recording: Recording) -> str:
    return " ".join(note.text for note in recording.notes)


def make_raw(seconds: int = 10, sfreq: float = 100.0, kind: str = "seeg") -> mne.io.RawArray:
    info = mne.create_info(["LA1", "LA2", "LA3"], sfreq, kind)
    values = np.random.default_rng(0).normal(size=(3, round(seconds * sfreq))) * 5e-5
    return mne.io.RawArray(values, info, verbose="ERROR")


def write_brainvision(folder, values, sfreq=100.0, markers=(), unit="µV"):
    """Two channels of float32 microvolts, and markers as the recorder writes them."""
    (folder / "a.eeg").write_bytes(np.asarray(values, "<f4").T.tobytes())
    (folder / "a.vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=a.eeg\n"
        "[Marker Infos]\n" + "".join(f"Mk{i + 1}={marker}\n" for i, marker in enumerate(markers)),
        encoding="utf-8",
    )
    (folder / "a.vhdr").write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n[Common Infos]\nCodepage=UTF-8\nDataFile=a.eeg\n"
        "MarkerFile=a.vmrk\nDataFormat=BINARY\nDataOrientation=MULTIPLEXED\nNumberOfChannels=2\n"
        f"SamplingInterval={1e6 / sfreq:g}\n[Binary Infos]\nBinaryFormat=IEEE_FLOAT_32\n[Channel Infos]\n"
        f"Ch1=LA1,,1,{unit}\nCh2=LA2,,1,{unit}\n",
        encoding="utf-8",
    )
    return folder / "a.vhdr"


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.suffix)
def test_samples_are_what_mne_reads_in_microvolts(path, capsys):
    recording = one(here(path))
    expected = mne.io.read_raw(path, verbose="CRITICAL").get_data()
    capsys.readouterr()
    volts = (recording.channels["unit"] != "").to_numpy()
    found = recording.read(0, recording.n_samples)
    np.testing.assert_allclose(found[volts], expected[volts] * 1e6, rtol=1e-6, atol=1e-3)
    rows = [7, 2, 5]
    np.testing.assert_array_equal(recording.read(20, 60, rows), found[rows, 20:60])


def test_reading_prints_nothing_though_mne_does(capsys):
    raw._opened.cache_clear()
    one(here(PERSYST))
    out = capsys.readouterr()
    assert out.out + out.err == ""


def read_there(source) -> bytes:
    return source.read([2, 0], 10, 200).tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_source_of_mne_reads_the_same_in_another_process(tmp_path, method):
    make_raw().save(tmp_path / "a_raw.fif", verbose="ERROR")
    recording = one(tmp_path / "a_raw.fif")
    expected = recording.source.read([2, 0], 10, 200).tobytes()
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(read_there, (recording.source,)) == expected


@pytest.mark.parametrize("date", [1e9, None])
def test_events_of_a_cropped_fif_count_from_its_first_sample(tmp_path, date):
    whole = make_raw().set_meas_date(date)
    whole.set_annotations(mne.Annotations([6.0], [2.0], ["seizure"], orig_time=whole.info["meas_date"]))
    whole.crop(4.0, None).save(tmp_path / "a_raw.fif", verbose="ERROR")
    recording = one(tmp_path / "a_raw.fif")
    assert recording.events[["onset", "duration", "event_type"]].values.tolist() == [[2.0, 2.0, "sz"]]


def test_what_mne_fills_in_for_a_skip_is_nan(tmp_path):
    data = make_raw()
    data.set_annotations(mne.Annotations([3.0], [2.0], ["BAD_ACQ_SKIP"]))
    data.save(tmp_path / "a_raw.fif", verbose="ERROR")
    recording = one(tmp_path / "a_raw.fif")
    assert recording.gaps == ((3.0, 5.0),)
    assert len(recording.events) == 0
    missing = np.isnan(recording.read(0, 1000)).all(0)
    assert np.flatnonzero(missing).tolist() == list(range(300, 500))


def test_bads_types_positions_and_frame_come_along_and_the_person_does_not(tmp_path):
    data = make_raw().set_meas_date(1e9)
    data.info["bads"] = ["LA2"]
    data.info["subject_info"] = {"his_id": "MRN4711", "last_name": "Doe", "first_name": "Jane"}
    places = {name: [0.01 * i, 0.02, 0.03] for i, name in enumerate(data.ch_names)}
    data.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
    data.save(tmp_path / "Jane_raw.fif", verbose="ERROR")
    recording = one(tmp_path / "Jane_raw.fif")
    assert recording.channels["type"].tolist() == ["seeg"] * 3
    assert recording.channels["status"].tolist() == ["good", "bad", "good"]
    np.testing.assert_allclose(recording.channels[["x", "y", "z"]], list(places.values()), atol=1e-6)
    assert recording.coordinate_frame == "head"
    shown = f"{recording.id} {recording.subject} {recording.notes} {recording.about} {recording.channels.to_string()}"
    assert not {"Jane", "Doe", "4711"} & set(shown.replace("_", " ").split())
    assert "whose recording" not in told(recording)


def test_a_pause_between_brainvision_segments_is_a_gap(tmp_path):
    """mne reads on without a word."""
    values = np.random.default_rng(0).normal(size=(2, 1000)) * 50
    path = write_brainvision(
        tmp_path,
        values,
        markers=[
            "New Segment,,1,1,0,20200102030405000000",
            "Comment,seizure,501,100,0",
            "New Segment,,401,1,0,20200102030419000000",
        ],
    )
    assert mne.io.read_raw_brainvision(path, verbose="ERROR").n_times == 1000
    recording = one(path)
    assert recording.gaps == ((4.0, 14.0),)
    assert recording.duration == 20.0
    signal = recording.read(0, 2000)
    np.testing.assert_allclose(signal[:, 1400:], values[:, 400:], rtol=1e-5, atol=1e-4)
    assert np.isnan(signal[:, 400:1400]).all()
    seizure = recording.events[recording.events["event_type"] == "sz"]
    assert seizure[["onset", "duration"]].values.tolist() == [[15.0, 1.0]]


@pytest.mark.parametrize("first", ["New Segment,,1,1,0,20200102030405000000", "New Segment,,1,1,0"])
@pytest.mark.parametrize("second", ["New Segment,,401,1,0", "New Segment,,401,1,0,00000000000000000000"])
def test_brainvision_segments_without_a_time_are_told(tmp_path, first, second):
    values = np.random.default_rng(0).normal(size=(2, 1000)) * 50
    recording = one(write_brainvision(tmp_path, values, markers=[first, second]))
    assert recording.duration == 10.0
    assert "says 1 times that stretches were joined" in told(recording)
    assert "were joined" not in told(one(write_brainvision(tmp_path, values, markers=[first])))


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    values = np.random.default_rng(0).normal(size=(2, 1000)) * 50
    assert one(write_brainvision(tmp_path, values)).duration == 10.0
    assert one(write_brainvision(tmp_path, values, sfreq=200.0)).duration == 5.0


def test_a_brainvision_file_that_was_cut_off_or_is_absent_is_refused(tmp_path):
    path = write_brainvision(tmp_path, np.ones((2, 100)) * np.arange(100))
    data = tmp_path / "a.eeg"
    data.write_bytes(data.read_bytes()[:-3])
    with pytest.raises(ValueError, match="ends 5 bytes into a sample of 8 bytes"):
        one(path)
    assert "ends 5 bytes" in told(one(path, on_mismatch="warn"))
    data.unlink()
    raw._opened.cache_clear()
    with pytest.raises(ValueError, match="data file that its header names is not here"):
        one(path)


@pytest.mark.parametrize(("unit", "factor"), [("µV", 1), ("mV", 1e3), ("nV", 1e-3)])
def test_brainvision_units_become_microvolts(tmp_path, unit, factor):
    values = np.random.default_rng(0).normal(size=(2, 300)) * 50
    path = write_brainvision(tmp_path, values, unit=unit)
    np.testing.assert_allclose(one(path).read(0, 300), values * factor, rtol=1e-4, atol=1e-3 * factor)
    np.testing.assert_allclose(one(path, unit="uV").read(0, 300), values, rtol=1e-4, atol=1e-3)


def test_persyst_sample_times_place_a_gap(tmp_path):
    for file in (here(PERSYST), here(PERSYST.with_suffix(".dat"))):
        shutil.copy(file, tmp_path / file.name)
    path = tmp_path / PERSYST.name
    text = path.read_text()
    path.write_text(text.replace("0=9468.360", "0=9468.360\n400=9480.360"))
    recording = one(path)
    assert recording.gaps == ((2.0, 12.0),)
    assert np.isnan(recording.read(400, 2400)).all()
    np.testing.assert_array_equal(recording.read(2400, 2847), one(PERSYST).read(400, 847))


def test_what_mne_cannot_read_is_one_sentence_without_its_text(tmp_path):
    path = tmp_path / "Jane Doe.fif"
    path.write_bytes(b"\x00\x00\x00\x64" + b"Jane Doe" * 40)
    with pytest.raises(ValueError, match=r"rec-\w+\.fif cannot be read: mne stops with") as error:
        one(path)
    assert "Jane" not in str(error.value)
    assert error.value.__cause__ is None


def test_a_file_is_no_fif_because_it_ends_so(tmp_path):
    path = tmp_path / "a.fif"
    path.write_bytes(b"%PDF-1.4 ...")
    assert not raw.recognises(path)
    with pytest.raises(ValueError, match="is a PDF file, not a recording"):
        open_recordings(path)


def test_gaps_of_a_neuralynx_file_are_where_its_records_say():
    """neo, and mne through it, refuse this file, and name these three gaps (50, 3.499 and 11.5 ms)."""
    recording = one(here(NEURALYNX / "LAHC1_3_gaps.ncs"), neuralynx)
    np.testing.assert_allclose([b - a for a, b in recording.gaps], [0.05, 0.0035, 0.0115], atol=1e-4)
    signal, whole = recording.read(0, recording.n_samples)[0], one(NEURALYNX / "LAHC1.ncs", neuralynx).read(0, 11691)[0]
    seen = np.isfinite(signal)
    assert seen.sum() == 11691 - 130
    np.testing.assert_array_equal(signal[seen], whole[seen])


@pytest.mark.parametrize(("late", "jitter", "drift"), [(0, 100, ""), (200, 0, "drift by up to 0.4 s")])
def test_time_stamps_of_neuralynx_that_drift_are_told_and_jitter_is_not(tmp_path, late, jitter, drift):
    """Microseconds by which each record is late, and by which every other one is."""
    records = np.zeros(2000, neuralynx.RECORD)
    at = np.arange(len(records))
    records["time"] = at * (512_000 + late) + at % 2 * jitter
    records["valid"] = 512
    head = b"######## Neuralynx\r\n-SamplingFrequency 1000\r\n-ADBitVolts 0.0000001\r\n-AcqEntName LA1\r\n"
    (tmp_path / "LA1.ncs").write_bytes(head.ljust(neuralynx.HEADER, b"\0") + records.tobytes())
    recording = one(tmp_path, neuralynx)
    assert recording.gaps == ()
    assert drift in told(recording)
    assert ("drift" in told(recording)) == bool(drift)


def test_a_folder_of_neuralynx_files_is_one_recording_at_their_own_rates(tmp_path):
    for name in ("LAHC2.ncs", "LAHCu1.ncs", "xEKG1.ncs"):
        shutil.copy(here(NEURALYNX / name), tmp_path / name)
    recording = one(tmp_path, neuralynx)
    assert recording.channels[["name", "type", "sfreq"]].values.tolist() == [
        ["LAHC2", "seeg", 2000],
        ["LAHCu1", "seeg", 32000],
        ["xEKG1", "ecg", 2000],
    ]
    single = one(tmp_path / "LAHCu1.ncs", neuralynx)
    np.testing.assert_array_equal(recording.read(5000, 90000, [1]), single.read(5000, 90000))
    path = tmp_path / "LAHC2.ncs"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="ends 944 bytes into a record of 1044"):
        one(tmp_path, neuralynx)
