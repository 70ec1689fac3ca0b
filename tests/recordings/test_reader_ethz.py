"""SWEC-ETHZ: hours on one clock, a missing hour as NaN, both axis orders, both kinds of MATLAB file."""

import pickle
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from tsattn.recordings.readers import Reading, ethz, matlab, open_recordings
from tsattn.recordings.recording import Recording

RATE = 2  # Hz: an hour has 7200 samples
FULL = 3600 * RATE


def save_v73(path: Path, variables: dict[str, np.ndarray]) -> None:
    """Write as MATLAB 7.3 does: HDF5 behind 512 bytes of text, axes reversed, an empty variable as its shape."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            values = np.atleast_2d(values)
            if values.size == 0:
                file[name] = np.array(values.shape, "u8")
                file[name].attrs["MATLAB_empty"] = np.uint8(1)
            else:
                file.create_dataset(name, data=values.T, chunks=True, compression="gzip")
            file[name].attrs["MATLAB_class"] = np.bytes_(b"double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b"\0"))


SAVERS = {"v5": savemat, "v5 packed": lambda path, v: savemat(path, v, do_compression=True), "v7.3": save_v73}


def write_long(root: Path, hours: dict[int, np.ndarray], seizures=((100.0, 160.0),), save=savemat) -> Path:
    folder = root / "ID03"
    folder.mkdir(parents=True)
    for hour, values in hours.items():
        save(folder / f"ID03_{hour}h.mat", {"EEG": values})
    begin, end = np.array(seizures, float).reshape(-1, 2).T
    save(
        folder / "ID03_info.mat", {"fs": np.float64(RATE), "seizure_begin": begin[:, None], "seizure_end": end[:, None]}
    )
    return folder


def hour(seed: int, samples: int = FULL) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3000, 3000, (3, samples)).astype(np.int16)


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path, save):
    read = []
    for value in (1, 2):
        folder = write_long(tmp_path / str(value), {1: np.full((3, 100), value)}, save=save)
        for file in folder.iterdir():
            file.replace(tmp_path / file.name)
        (recording,) = open_recordings(tmp_path)
        read.append(recording.read(0, 100).max())
    assert read == [1, 2]


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_hours_follow_each_other_on_the_clock_of_the_whole_recording(tmp_path: Path, save):
    hours = {1: hour(1), 2: hour(2), 10: hour(3, 1000)} | {k: hour(k + 20) for k in range(3, 10)}
    (recording,) = open_recordings(write_long(tmp_path, hours, [(3590.0, 3620.5), (32500.0, 32600.0)], save))
    truth = np.concatenate([hours[k] for k in sorted(hours)], axis=1)
    assert recording.id == "sub-ethzlongID03"
    assert recording.gaps == ()
    assert recording.n_samples == 9 * FULL + 1000
    for start, stop in [(0, 50), (FULL - 30, FULL + 30), (9 * FULL - 1, 9 * FULL + 1000), (0, 3 * FULL)]:
        np.testing.assert_array_equal(recording.read(start, stop), truth[:, start:stop])
    np.testing.assert_array_equal(recording.read(5, 9, [2, 0]), truth[[2, 0], 5:9])
    assert recording.events[["onset", "duration"]].to_numpy().tolist() == [[3590.0, 30.5], [32500.0, 100.0]]
    assert np.array_equal(pickle.loads(pickle.dumps(recording)).read(0, 50), truth[:, :50])


def test_a_missing_and_a_short_hour_are_nan_and_nothing_moves(tmp_path: Path):
    hours = {2: hour(2), 3: hour(3, FULL - 100), 5: hour(5)}
    (recording,) = open_recordings(write_long(tmp_path, hours, [(4000.0, 4010.0), (11000.0, 11060.0)]))
    assert recording.gaps == ((0.0, 3600.0), (3 * 3600.0 - 50, 4 * 3600.0))
    assert recording.duration == 5 * 3600
    got = recording.read(0, recording.n_samples)
    assert np.isnan(got[:, :FULL]).all()
    np.testing.assert_array_equal(got[:, FULL : 2 * FULL], hours[2])
    np.testing.assert_array_equal(got[:, 4 * FULL :], hours[5])
    assert np.isnan(got[:, 3 * FULL - 100 : 4 * FULL]).all()
    assert recording.events["onset"].tolist() == [4000.0, 11000.0]
    told = " ".join(note.text for note in recording.notes)
    assert "2 gaps of 2.01 h in all" in told
    assert "1 seizures begin in a gap" in told
    assert recording.observed() == [(FULL, 3 * FULL - 100), (4 * FULL, 5 * FULL)]


def test_only_one_file_of_version_5_stays_in_memory(tmp_path: Path):
    (recording,) = open_recordings(write_long(tmp_path, {1: hour(1), 2: hour(2), 3: hour(3)}))
    recording.read(0, recording.n_samples)
    assert matlab._last is not None
    assert matlab._last[0][0].endswith("ID03_3h.mat")
    assert matlab._last[1].dtype == np.int16


def test_seizures_after_the_hours_that_are_here_are_told_or_refused(tmp_path: Path):
    folder = write_long(tmp_path, {1: hour(1)}, [(100.0, 200.0), (9000.0, 9050.0)])
    (recording,) = open_recordings(folder)
    assert recording.events["onset"].tolist() == [100.0]
    assert any("a file missing" in note.text for note in recording.notes)
    with pytest.raises(ValueError, match="SWEC-ETHZ ID03: 1 events lie outside the recording"):
        open_recordings(folder, outside="raise")


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_a_recording_without_seizures_has_none(tmp_path: Path, save):
    (recording,) = open_recordings(write_long(tmp_path, {1: hour(1)}, [], save))
    assert len(recording.events) == 0


def test_a_short_term_file_holds_its_seizure_between_three_minutes_on_each_side(tmp_path: Path):
    values = {k: np.random.default_rng(k).normal(0, 50, (512 * (360 + k), 4)) for k in (2, 10)}
    (tmp_path / "ID7").mkdir()
    for k, eeg in values.items():
        savemat(tmp_path / "ID7" / f"Sz{k}.mat", {"EEG": eeg})
    two, ten = open_recordings(tmp_path)
    assert [two.id, ten.id] == ["sub-ethzshortID7_run-02", "sub-ethzshortID7_run-10"]
    assert two.subject == ten.subject
    assert ten.events[["onset", "duration"]].to_numpy().tolist() == [[180.0, 10.0]]
    np.testing.assert_array_equal(
        ten.read(512 * 179, 512 * 181), values[10][512 * 179 : 512 * 181].T.astype(np.float32)
    )
    (alone,) = open_recordings(tmp_path / "ID7" / "Sz2.mat")
    assert alone.id == two.id


def test_a_single_hour_or_its_info_is_refused_since_its_time_counts_from_the_first_hour(tmp_path: Path):
    folder = write_long(tmp_path, {1: hour(1), 2: hour(2)})
    for name in ("ID03_2h.mat", "ID03_info.mat"):
        with pytest.raises(ValueError, match=r"one file of a long-term recording.*Open its folder"):
            open_recordings(folder / name)


def test_swapped_axes_are_refused_in_both_sets(tmp_path: Path):
    folder = write_long(tmp_path, {1: hour(1).T})
    with pytest.raises(ValueError, match=r"7200 channels of 3 samples.*expected \(channel, time\)"):
        open_recordings(folder)
    short = tmp_path / "ID1"
    short.mkdir()
    savemat(short / "Sz1.mat", {"EEG": np.zeros((3, 200_000), "i2")})
    with pytest.raises(ValueError, match=r"200000 channels of 3 samples.*expected \(time, channel\)"):
        open_recordings(short)


def test_what_a_long_recording_cannot_be_is_refused(tmp_path: Path):
    def refused(match: str, name: str, hours: dict[int, np.ndarray], change=None) -> None:
        folder = write_long(tmp_path / name, hours)
        if change:
            change(folder)
        with pytest.raises(ValueError, match=match):
            open_recordings(folder)

    refused("hour 1 holds 7201 samples, more than an hour", "a", {1: hour(1, FULL + 1)})
    refused(r"its hours hold \[2, 3\] channels", "b", {1: hour(1), 2: hour(2)[:2]})
    refused(r"1 hour files and 0 IDxx_info\.mat", "c", {1: hour(1)}, lambda f: (f / "ID03_info.mat").unlink())
    refused("hours of another patient", "d", {1: hour(1)}, lambda f: savemat(f / "ID04_2h.mat", {"EEG": hour(2)}))
    refused("no variable EEG", "e", {1: hour(1)}, lambda f: savemat(f / "ID03_1h.mat", {"eeg": hour(2)}))
    refused("holds no numbers", "f", {1: hour(1)}, lambda f: savemat(f / "ID03_1h.mat", {"EEG": "text"}))
    info = {"fs": -1.0, "seizure_begin": [], "seizure_end": []}
    refused("expected one rate in Hz", "g", {1: hour(1)}, lambda f: savemat(f / "ID03_info.mat", info))
    info = {"fs": 2.0, "seizure_begin": [1.0, 5.0], "seizure_end": [3.0]}
    refused("2 seizure onsets and 1 offsets", "h", {1: hour(1)}, lambda f: savemat(f / "ID03_info.mat", info))


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
@pytest.mark.parametrize("keep", [0, 300, 0.5, 0.99])
def test_a_matlab_file_that_was_cut_short_says_so(tmp_path: Path, save, keep: float):
    folder = write_long(tmp_path, {1: hour(1), 2: hour(2)}, save=save)
    file = folder / "ID03_2h.mat"
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    with pytest.raises(
        ValueError, match=r"^rec-\w+\.mat (is a damaged HDF5|is a MATLAB file that was cut|is not a MATLAB)"
    ):
        open_recordings(folder)


def test_a_file_that_is_no_matlab_file_is_refused(tmp_path: Path):
    folder = write_long(tmp_path, {1: hour(1)})
    (folder / "ID03_1h.mat").write_bytes(b"0       X X X X" + bytes(300))
    with pytest.raises(ValueError, match=r"is not a MATLAB file of version 5 or 7\.3, whatever its ending says"):
        open_recordings(folder)


@pytest.mark.parametrize("packed", [False, True])
def test_a_matrix_larger_than_its_file_can_hold_is_refused_before_it_is_loaded(tmp_path: Path, packed: bool):
    folder = tmp_path / "ID1"
    folder.mkdir()
    savemat(folder / "Sz1.mat", {"EEG": np.zeros((200_000, 3), "i2")})
    file = bytearray((folder / "Sz1.mat").read_bytes())
    at = file.index(np.array([200_000, 3], "<i4").tobytes())
    file[at : at + 4] = np.array([2**31 - 1], "<i4").tobytes()
    if packed:
        body = zlib.compress(bytes(file[128:]))
        file[128:] = np.array([15, len(body)], "<u4").tobytes() + body
    (folder / "Sz1.mat").write_bytes(file)
    with pytest.raises(ValueError, match=r"claims to be \(2147483647, 3\), more than its file can hold"):
        open_recordings(folder)


def test_a_link_out_of_a_matlab_file_is_refused(tmp_path: Path):
    folder = write_long(tmp_path, {1: hour(1)}, save=save_v73)
    save_v73(tmp_path / "other.mat", {"EEG": hour(2)})
    with h5py.File(folder / "ID03_1h.mat", "r+") as file:
        del file["EEG"]
        file["EEG"] = h5py.ExternalLink("../other.mat", "EEG")
    with pytest.raises(ValueError, match="holds a link that leaves its folder"):
        open_recordings(folder)


def test_nan_stays_nan_and_a_stated_unit_is_turned_into_microvolts(tmp_path: Path):
    values = hour(1).astype(float)
    values[0, 5] = np.nan
    folder = write_long(tmp_path, {1: values})
    recording: Recording = ethz.read(folder, Reading(unit="mV"))[0]
    np.testing.assert_array_equal(recording.read(0, 10), (values[:, :10] * 1000).astype(np.float32))
