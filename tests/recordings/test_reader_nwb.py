"""NWB: microvolts, electrodes and holes as the file states them; links that leave the folder are refused."""

import datetime
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest

from tsattn.recordings.readers import Reading, nwb, open_recordings
from tsattn.recordings.recording import Recording

pynwb = pytest.importorskip("pynwb")
RATE = 200.0
BEGAN = datetime.datetime(2020, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


class Making:
    """A file with three contacts, of which the last is bad; `series` adds signals."""

    def __init__(self, label: str | None = "label", subject: str = "Jane Doe", size: float = 1.0) -> None:
        person = pynwb.file.Subject(subject_id=subject, species="Homo sapiens", age="P30Y", sex="F")
        self.file = pynwb.NWBFile("Jane Doe's night", "id", BEGAN, subject=person)
        group = self.file.create_electrode_group("LA", "depth", "hipp", self.file.create_device("amplifier"))
        if label:
            self.file.add_electrode_column(label, "name of the contact")
        self.file.add_electrode_column("bad", "bad")
        for i in range(3):
            named = {label: f"LA{i + 1}"} if label else {}
            self.file.add_electrode(
                x=size * i, y=size * 20.0, z=size * -30.0, location="hipp", group=group, bad=i == 2, **named
            )

    def series(self, values: np.ndarray, name: str = "ieeg", to=None, contacts=(0, 1, 2), **rest: object) -> "Making":
        region = self.file.create_electrode_table_region(list(contacts), "contacts")
        if "timestamps" not in rest:
            rest = {"rate": RATE, "starting_time": 0.0, **rest}
        data = pynwb.H5DataIO(values, chunks=True, compression="gzip") if isinstance(values, np.ndarray) else values
        one = pynwb.ecephys.ElectricalSeries(name=name, data=data, electrodes=region, **rest)
        (to or self.file.add_acquisition)(one)
        return self

    def write(self, path: Path) -> Path:
        with pynwb.NWBHDF5IO(str(path), "w") as io:
            io.write(self.file)
        return path


def noise(samples: int = 2000, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(-3000, 3000, (samples, channels)).astype(np.int16)


def only(path: Path, **said: object) -> Recording:
    (one,) = nwb.read(path, Reading(**said))
    return one


def test_values_are_data_times_conversion_and_channel_conversion_plus_offset(tmp_path: Path):
    values = noise()
    gain = np.array([1.0, 2.0, 0.5])
    path = Making().series(values, conversion=2.5e-7, offset=1e-5, channel_conversion=gain).write(tmp_path / "a.nwb")
    recording = only(path)
    truth = ((values * 2.5e-7 * gain + 1e-5) * 1e6).T
    assert recording.sfreq == RATE
    assert recording.duration == 10.0
    np.testing.assert_allclose(recording.read(0, 2000), truth, rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(recording.read(5, 9, [2, 0]), truth[[2, 0], 5:9], rtol=1e-6, atol=1e-4)
    with pynwb.NWBHDF5IO(str(path), "r") as io:  # pynwb's own volts
        one = io.read().acquisition["ieeg"]
        theirs = one.get_data_in_units()
        np.testing.assert_allclose(recording.read(0, 2000), np.asarray(theirs).T * 1e6, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(recording)).read(3, 7), recording.read(3, 7))


def test_a_stated_unit_sets_the_conversion_aside(tmp_path: Path):
    values = noise()
    path = Making().series(values).write(tmp_path / "a.nwb")
    assert any("says that its values are volts (conversion 1)" in note.text for note in only(path).notes)
    plain = only(path, unit="uV")
    np.testing.assert_array_equal(plain.read(0, 2000), values.T)
    assert not any("conversion 1" in note.text for note in plain.notes)


def test_electrodes_bring_names_bad_flags_and_positions(tmp_path: Path):
    for name, size, told in (("mm", 1.0, "mm"), ("um", 1000.0, "µm"), ("m", 1e-3, "m")):
        recording = only(Making(size=size).series(noise()).write(tmp_path / f"{name}.nwb"))
        np.testing.assert_allclose(recording.channels[["x", "y", "z"]].iloc[2], [0.002, 0.02, -0.03])
        assert any(f"taken as {told} by their size" in note.text for note in recording.notes)
    assert recording.names == ["LA1", "LA2", "LA3"]
    assert recording.channels["status"].tolist() == ["good", "good", "bad"]
    some = only(Making().series(noise(channels=2), contacts=(2, 0)).write(tmp_path / "some.nwb"))
    assert some.names == ["LA3", "LA1"]
    assert some.channels["status"].tolist() == ["bad", "good"]
    nameless = only(Making(label=None).series(noise()).write(tmp_path / "nameless.nwb"))
    assert nameless.names == ["E1", "E2", "E3"]
    assert any("no column of unique labels" in note.text for note in nameless.notes)


def test_holes_in_the_timestamps_are_nan_on_the_clock(tmp_path: Path):
    values = noise(1000)
    times = np.concatenate([50 + np.arange(400) / RATE, 60 + np.arange(600) / RATE])
    recording = only(Making().series(values, timestamps=times, conversion=1e-6).write(tmp_path / "a.nwb"))
    assert recording.sfreq == RATE
    assert recording.gaps == ((2.0, 10.0),)
    assert recording.duration == 13.0
    got = recording.read(0, recording.n_samples)
    np.testing.assert_allclose(got[:, :400], values[:400].T, rtol=1e-6)
    np.testing.assert_allclose(got[:, 2000:], values[400:].T, rtol=1e-6)
    assert np.isnan(got[:, 400:2000]).all()
    assert recording.start == BEGAN + datetime.timedelta(seconds=50)


def test_timestamps_with_jitter_and_an_odd_rate_keep_their_count(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(nwb, "AT_ONCE", 300)  # several reads
    rate = 999.4121105
    times = np.arange(5000) / rate + np.random.default_rng(0).normal(0, 2e-5, 5000)
    recording = only(Making().series(noise(5000), timestamps=times).write(tmp_path / "a.nwb"))
    assert recording.gaps == ()
    assert recording.n_samples == 5000
    assert recording.sfreq == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize("spoil", ["back", "nan", "short"])
def test_timestamps_that_do_not_rise_are_refused(tmp_path: Path, spoil: str):
    times = np.arange(2000) / RATE
    if spoil == "back":
        times[1000] = 0
    if spoil == "nan":
        times[1000] = np.nan
    path = Making().series(noise(), timestamps=times).write(tmp_path / "a.nwb")
    if spoil == "short":
        with h5py.File(path, "r+") as file:
            del file["acquisition/ieeg/timestamps"]
            file["acquisition/ieeg/timestamps"] = times[:5]
            file["acquisition/ieeg/timestamps"].attrs.update({"interval": np.int32(1), "unit": "seconds"})
    with pytest.raises(ValueError, match=r"do not rise all the way|has 5 timestamps and no rate"):
        only(path)


def test_intervals_are_events_and_only_seizures_and_kept_texts_show(tmp_path: Path):
    making = Making().series(noise(20000), starting_time=5.0)
    making.file.add_epoch(7.0, 9.0, ["seizure"])
    making.file.add_epoch(10.0, 11.0, ["Jane asleep"])
    making.file.add_trial(start_time=20.0, stop_time=21.0)
    table = pynwb.epoch.TimeIntervals(name="seizures", description="by Dr Roe")
    table.add_interval(start_time=30.0, stop_time=42.5)
    making.file.add_time_intervals(table)
    path = making.write(tmp_path / "a.nwb")
    recording = only(path)
    assert recording.events[["onset", "duration", "event_type"]].to_numpy().tolist() == [
        [2.0, 2.0, "sz"],
        [5.0, 1.0, "annotation"],
        [15.0, 1.0, "annotation"],
        [25.0, 12.5, "sz"],
    ]
    told = f"{recording.id} {recording.subject} {recording.notes} {recording.about} {recording.events.to_dict()}"
    assert not [word for word in ("Jane", "Doe", "Roe", "2020") if word in told]
    shown = only(path, keep_text=("Jane*",)).events
    assert shown["event_type"].tolist() == recording.events["event_type"].tolist()
    assert shown["text"].tolist() == ["", "Jane asleep", "", ""]


def test_every_series_of_the_acquisition_is_a_recording_and_processed_ones_are_told(tmp_path: Path):
    making = Making().series(noise()).series(noise() + 1, name="second")
    module = making.file.create_processing_module("ecephys", "processed")
    lfp = pynwb.ecephys.LFP(name="LFP")
    module.add(lfp)
    making.series(noise() * 0 + 7, name="low", to=lfp.add_electrical_series)
    first, second = nwb.read(making.write(tmp_path / "a.nwb"), Reading())
    assert (first.id[-7:], second.id[-7:]) == ("_run-01", "_run-02")
    assert first.subject == second.subject
    np.testing.assert_allclose(first.read(0, 10) + 1e6, second.read(0, 10), rtol=1e-6)
    assert any("1 electrical series in processing are left out" in note.text for note in first.notes)


def test_a_bids_name_is_kept_and_another_one_is_not(tmp_path: Path):
    kept = only(Making().series(noise()).write(tmp_path / "sub-01_task-rest_ieeg.nwb"))
    assert (kept.id, kept.subject) == ("sub-01_task-rest", "sub-01")
    other = only(Making().series(noise()).write(tmp_path / "JaneDoe.nwb"))
    assert "Jane" not in other.id + other.subject


def test_swapped_axes_are_refused(tmp_path: Path):
    path = Making().series(noise()).write(tmp_path / "a.nwb")
    with h5py.File(path, "r+") as file:
        old = file["acquisition/ieeg/data"]
        kept = dict(old.attrs)
        del file["acquisition/ieeg/data"]
        file["acquisition/ieeg/data"] = noise().T
        file["acquisition/ieeg/data"].attrs.update(kept)
    with pytest.raises(ValueError, match=r"shape \(3, 2000\) has 3 electrodes.*seem to be swapped: transpose it"):
        only(path)


def test_a_link_inside_the_folder_is_followed_and_one_out_of_it_refused(tmp_path: Path):
    root = tmp_path / "set"
    root.mkdir()
    path = Making().series(noise(), conversion=1e-6).write(root / "a.nwb")
    with h5py.File(root / "samples.h5", "w") as other, h5py.File(path, "r+") as file:
        file.copy("acquisition/ieeg/data", other, "data")
        del file["acquisition/ieeg/data"]
        file["acquisition/ieeg/data"] = h5py.ExternalLink("samples.h5", "data")
    np.testing.assert_allclose(only(path).read(0, 2000), noise().T, rtol=1e-6)
    (root / "samples.h5").rename(tmp_path / "samples.h5")
    with pytest.raises(ValueError, match="holds a link to a file that is not in its folder"):
        only(path)
    with h5py.File(path, "r+") as file:
        del file["acquisition/ieeg/data"]
        file["acquisition/ieeg/data"] = h5py.ExternalLink("../samples.h5", "data")
    with pytest.raises(ValueError, match="holds a link that leaves its folder, which is refused"):
        only(path)


def test_a_half_written_a_cut_a_strange_and_an_empty_file_are_refused(tmp_path: Path):
    path = Making().series(noise(40_000)).write(tmp_path / "a.nwb")
    whole = path.read_bytes()
    for keep in (0.4, 0.9):
        path.write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(ValueError, match="is a damaged HDF5 file"):
            open_recordings(path)
    path.write_bytes(b"0       " + bytes(600))
    with pytest.raises(ValueError, match="is not an HDF5 file, whatever its ending says"):
        nwb.read(path, Reading())
    with h5py.File(path, "w") as file:
        file["acquisition"] = 3
    with pytest.raises(ValueError, match="is not built as NWB files are"):
        nwb.read(path, Reading())
    with pytest.raises(ValueError, match="holds no ElectricalSeries"):
        only(Making().write(tmp_path / "none.nwb"))
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        kept = dict(file["acquisition/ieeg/data"].attrs)
        del file["acquisition/ieeg/data"]
        file.create_dataset("acquisition/ieeg/data", shape=(10**12, 3), dtype="i2", chunks=(10**6, 3)).attrs.update(
            kept
        )
    with pytest.raises(ValueError, match="half written: 1000000 of 1000000 chunks"):
        only(path)
