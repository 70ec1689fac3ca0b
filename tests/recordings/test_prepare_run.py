"""Preparing: going on after a kill or a full disk, several processes, and what is refused before it begins."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.signal import butter, resample_poly, sosfiltfilt

from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import Recording, from_array, make_channels
from tsattn.recordings.store import open_store
from tsattn.recordings.store.writing import RecordingWriter

pytest.importorskip("zarr")
UNSEEN = dict(bad_rules=(), implausible="keep")  # nothing is read but what is prepared
MEMORY = 3.9e6  # a shard of about twenty seconds for four channels of preset swec
CHILD = '''
"""A child that prepares from a file; its source writes down what it reads, and may kill the process."""
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import Recording, make_channels

@dataclass(frozen=True)
class Logged:
    path: str
    kill_at: int = -1

    def read(self, rows, start, stop):
        with open(self.path + ".log", "a") as log:
            log.write(f"{start} {stop}\\n")
        if 0 <= self.kill_at < start:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.load(self.path, mmap_mode="r")[list(rows), start:stop]

if __name__ == "__main__":
    file, out, kill_at, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    table = make_channels(["A1", "A2", "A3", "A4"], 1024.0)
    one = Recording(Logged(file, kill_at), "one", "one", table, 120.0, files=(Path(file),))
    two = Recording(Logged(file), "two", "two", table, 120.0, files=(Path(file),))
    unseen = dict(bad_rules=(), implausible="keep")  # nothing is read but what is prepared
    prepare([one, two] if workers > 1 else one, out, memory=3.9e6, workers=workers, **unseen)
'''


NAMES = ["A1", "A2", "A3", "A4"]


def recording(id: str = "one", seconds: float = 60.0, seed: int = 0, **rest: object) -> Recording:
    x = 50 * np.random.default_rng(seed).standard_normal((4, round(seconds * 1024)))
    return from_array(x, 1024.0, id=id, names=NAMES, **rest)


def child(folder: Path, out: str, kill_at: int = -1, workers: int = 1) -> subprocess.CompletedProcess[str]:
    script, file = folder / "child.py", folder / "signal.npy"
    script.write_text(CHILD)
    if not file.exists():
        x = np.random.default_rng(0).standard_normal((4, 120 * 1024)) + np.arange(4)[:, None] * 100
        x[:, 50_000:60_000] = np.nan
        np.save(file, x)
    file.with_name("signal.npy.log").write_text("")
    return subprocess.run(
        [sys.executable, str(script), str(file), str(folder / out), str(kill_at), str(workers)],
        text=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


def bytes_of(store: Path, id: str = "one") -> dict[str, bytes]:
    files = (file for kind in ("signal", "scaling", "statistics") for file in (store / id / kind).glob("c.*"))
    return {str(file.relative_to(store / id)): file.read_bytes() for file in files}


def test_what_was_killed_goes_on_bit_for_bit_and_computes_nothing_twice(tmp_path: Path):
    killed = child(tmp_path, "killed.zarr", kill_at=40_000)
    assert killed.returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match=r"half-written: 1 of 1 recordings \(one\)"):
        open_store(tmp_path / "killed.zarr")
    before = {name: (tmp_path / "killed.zarr/one" / name).stat() for name in bytes_of(tmp_path / "killed.zarr")}
    assert len(before) == 3 * 4  # of six shards
    (tmp_path / "killed.zarr/one/signal/c.0.5.0123.partial").write_bytes(b"half a shard")

    assert child(tmp_path, "killed.zarr").returncode == 0
    found = bytes_of(tmp_path / "killed.zarr")
    for name, state in before.items():
        now = (tmp_path / "killed.zarr/one" / name).stat()
        assert (now.st_ino, now.st_mtime_ns) == (state.st_ino, state.st_mtime_ns)
    reads = [int(line.split()[0]) for line in (tmp_path / "signal.npy.log").read_text().splitlines()]
    assert min(reads) > (4 * 20 - 25) * 1024  # nothing before the first missing shard and its overlap
    assert not list(tmp_path.rglob("*.partial"))

    table = make_channels(NAMES, 1024.0)
    file = tmp_path / "signal.npy"
    whole = Recording(Broken(file, 10**9), "one", "one", table, 120.0, files=(file,))
    prepare(whole, tmp_path / "whole.zarr", memory=MEMORY, **UNSEEN)
    assert found == bytes_of(tmp_path / "whole.zarr")


def test_a_worker_that_is_killed_is_told_and_the_same_call_goes_on(tmp_path: Path):
    failed = child(tmp_path, "s.zarr", kill_at=40_000, workers=2)
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("ValueError: A worker was ended")
    assert (tmp_path / "s.zarr/one/statistics/c.3.0.0").exists()  # what it had done stays


@dataclass(frozen=True)
class Broken:
    """A file that cannot be read beyond a sample."""

    file: Path
    end: int

    def read(self, rows, start, stop):
        if stop > self.end:
            raise ValueError("the file is cut off")
        return np.load(self.file, mmap_mode="r")[list(rows), start:stop]


def test_a_source_that_has_changed_since_is_refused_and_a_touched_one_is_not(tmp_path: Path):
    file = tmp_path / "Jane Doe.npy"
    values = np.random.default_rng(0).standard_normal((4, 1024 * 60))
    np.save(file, values)
    broken = replace(recording(), source=Broken(file, 50_000), files=(file,))
    whole = replace(broken, source=Broken(file, 10**9))
    with pytest.raises(ValueError, match="the file is cut off"):
        prepare(broken, tmp_path / "s.zarr", memory=MEMORY, **UNSEEN)
    stored = (tmp_path / "s.zarr/one/zarr.json").read_text()
    assert hashlib.sha256(file.read_bytes()).hexdigest() in stored
    assert "Jane" not in stored
    os.utime(file, ns=(1, 1))
    with pytest.raises(ValueError, match="the file is cut off"):  # the same bytes: it went on
        prepare(broken, tmp_path / "s.zarr", memory=MEMORY, **UNSEEN)
    values[0, 0] += 1
    np.save(file, values)
    with pytest.raises(ValueError, match="one: its source has changed since its preparation began") as told:
        prepare(whole, tmp_path / "s.zarr", memory=MEMORY, **UNSEEN)
    assert "Jane" not in str(told.value)


def test_a_full_disk_is_one_sentence_and_the_same_call_goes_on(tmp_path: Path, monkeypatch):
    write = RecordingWriter.write

    def full(self, shard, values):
        if shard == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(self, shard, values)

    monkeypatch.setattr(RecordingWriter, "write", full)
    with pytest.raises(OSError, match=r"The disk of .* is full: make room, then run the same again") as told:
        prepare(recording(), tmp_path / "s.zarr", memory=MEMORY)
    assert told.value.errno == errno.ENOSPC
    monkeypatch.setattr(RecordingWriter, "write", write)
    store = prepare(recording(), tmp_path / "s.zarr", memory=MEMORY)
    expected = prepare(recording(), tmp_path / "t.zarr", memory=MEMORY)
    assert np.array_equal(store["one"].read(0, 30_720), expected["one"].read(0, 30_720))


def test_what_cannot_fit_on_the_disk_is_refused_before_it_begins(tmp_path: Path):
    endless = replace(recording(), duration=1e9)
    with pytest.raises(OSError, match=r"has room for .* GB, the store needs 4.1e\+03 GB more: make room"):
        prepare(endless, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_what_a_library_says_of_a_file_is_told_without_its_name(tmp_path: Path):
    file = tmp_path / "Jane Doe.npy"
    file.write_bytes(b"nothing")
    broken = replace(recording(), source=Broken(file, 10**9), files=(file,))
    file.unlink()
    with pytest.raises(ValueError, match="one could not be prepared: FileNotFoundError") as told:
        prepare(broken, tmp_path / "s.zarr")
    assert "Jane" not in str(told.value)


def test_the_result_does_not_depend_on_the_memory(tmp_path: Path):
    small = prepare(recording(), tmp_path / "small.zarr", memory=MEMORY, dtype="float32")["one"]
    large = prepare(recording(), tmp_path / "large.zarr", dtype="float32")["one"]
    assert small.source.shard < large.source.shard
    a, b = small.read(0, small.n_samples), large.read(0, large.n_samples)
    assert np.abs(a - b).max() < 1e-6 * b.std()


def test_two_processes_write_what_one_writes(tmp_path: Path):
    found = [recording("a", seed=1), recording("b", seed=2), recording("c", seed=3)]
    seen: list[tuple[str, float, float]] = []
    two = prepare(found, tmp_path / "two.zarr", workers=2, memory=MEMORY, progress=lambda *news: seen.append(news))
    prepare(found, tmp_path / "one.zarr", memory=MEMORY)
    assert two.ids == ("a", "b", "c")
    for id in two:
        assert bytes_of(tmp_path / "two.zarr", id) == bytes_of(tmp_path / "one.zarr", id)
        assert (id, 60.0, 60.0) in seen


def test_an_xarray_and_a_recording_of_it_are_prepared_alike(tmp_path: Path):
    values = np.random.default_rng(0).standard_normal((1024 * 20, 3))
    array = xr.DataArray(
        values, dims=("time", "channel"), coords={"channel": ["A1", "A2", "A3"]}, attrs={"sfreq": 1024.0}
    )
    one = prepare(array, tmp_path / "a.zarr")["array"]
    two = prepare([from_array(array)], tmp_path / "b.zarr")["array"]
    assert one.names == ["A1", "A2", "A3"]
    assert np.array_equal(one.read(0, 10_240), two.read(0, 10_240))
    assert one.to_xarray(1.0, 2.0).sizes == {"channel": 3, "time": 512}


def test_recordings_may_be_added_and_complete_ones_are_left_alone(tmp_path: Path):
    prepare(recording("a"), tmp_path / "s.zarr", preset="raw")
    before = (tmp_path / "s.zarr/a/zarr.json").stat().st_mtime_ns
    store = prepare([recording("a"), recording("b", seed=1)], tmp_path / "s.zarr", preset="raw")
    assert store.ids == ("a", "b")
    assert (tmp_path / "s.zarr/a/zarr.json").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="exists already"):
        prepare(recording("c"), tmp_path / "s.zarr", preset="raw", resume=False)


def test_another_preset_into_a_store_is_refused_with_the_difference(tmp_path: Path):
    prepare(recording(), tmp_path / "s.zarr", preset="swec")
    with pytest.raises(ValueError, match=r"another way: .*band is \[0.5, 120.0\] there and \[1.0, 70.0\] here"):
        prepare(recording(), tmp_path / "s.zarr", preset="swec", band=(1.0, 70.0))
    with pytest.raises(ValueError, match="dtype is 'int16' there and 'float32' here"):
        prepare(recording(), tmp_path / "s.zarr", preset="swec", dtype="float32")
    with pytest.raises(ValueError, match="one: its source has changed"):
        prepare(recording(seed=1), tmp_path / "s.zarr", preset="swec")
    with pytest.raises(ValueError, match="in the store with other subject than it has now"):
        prepare(recording(subject="somebody"), tmp_path / "s.zarr", preset="swec")


def test_a_place_that_holds_something_else_is_left_as_it_is(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    for name in ("folder", "file"):
        with pytest.raises(ValueError, match="not a zarr v3 group"):
            prepare(recording(), tmp_path / name)
    assert (tmp_path / "folder/thesis.tex").read_text() == (tmp_path / "file").read_text() == "years of work"
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["thesis.tex"]


def test_two_preparations_into_one_store_at_once_are_refused(tmp_path: Path):
    prepare(recording("a"), tmp_path / "s.zarr", preset="raw")

    def again(*_: object) -> None:
        with pytest.raises(ValueError, match="Another process is preparing into"):
            prepare(recording("c"), tmp_path / "s.zarr", preset="raw")

    prepare(recording("b"), tmp_path / "s.zarr", preset="raw", progress=again)


# ---- what is refused before a sample is written


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: [recording("a"), recording("a")], "2 recordings are called 'a'"),
        (lambda: recording("../../etc"), r"A recording is called '../../etc', expected letters"),
        (lambda: recording(channels=make_channels(NAMES, 1024.0, status="bad")), "all 4 signal channels are bad"),
        (lambda: recording(channels=make_channels(NAMES, 1024.0, type="ecg")), "no channel of type seeg"),
        (lambda: recording(seconds=1.0), "no stretch without a gap that is long enough"),
        (lambda: replace(recording(), duration=1e-5), "which is not one sample"),
        (lambda: [], "There are no recordings to prepare"),
    ],
)  # fmt: skip
def test_what_cannot_be_prepared_is_refused_before_anything_is_written(tmp_path: Path, make, match):
    with pytest.raises(ValueError, match=match):
        prepare(make(), tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_more_channels_than_the_memory_holds_are_refused_with_what_they_need(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"4 channels at 512 Hz take 3.3\d MB at once.*1 MB are allowed.*Pass `memory="
    ):
        prepare(recording(), tmp_path / "s.zarr", memory=1e6)


def test_an_infinite_sample_is_refused_with_its_place(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((3, 1024 * 10))
    x[1, 5120] = -np.inf
    with pytest.raises(ValueError, match=r"array: channel C2 is infinite at 5\.000 s"):
        prepare(from_array(x, 1024.0), tmp_path / "s.zarr")


def test_one_recording_that_fails_does_not_stop_the_others(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((4, 1024 * 60))
    x[1, 5120] = np.inf
    bad = from_array(x, 1024.0, id="b")
    with pytest.raises(
        ValueError, match=r"1 of 3 recordings could not be prepared, the others are\. .*b: channel C2 is inf"
    ):
        prepare([recording("a"), bad, recording("c")], tmp_path / "s.zarr")
    assert open_store(tmp_path / "s.zarr", partial=True).ids == ("a", "c")


def test_linear_interpolation_warns_that_it_aliases(tmp_path: Path):
    with pytest.warns(UserWarning, match="resample='ibm-linear' aliases"):
        store = prepare(recording(), tmp_path / "s.zarr", preset="swec", resample="ibm-linear")
    assert any("aliases" in note.text for note in store["one"].notes)


def test_bad_channels_are_dropped_or_kept_and_never_a_reference(tmp_path: Path):
    x = np.random.default_rng(0).standard_normal((4, 512 * 10)).astype(np.float32)
    x[3] *= 1e4
    table = make_channels(["A1", "A2", "A3", "A4"], 512.0, status=["good", "good", "good", "bad"])
    one = from_array(x, 512.0, channels=table)
    kwargs = dict(preset="raw", reference="average", dtype="float32")
    drop = prepare(one, tmp_path / "drop.zarr", bads="drop", **kwargs)["array"]
    keep = prepare(one, tmp_path / "keep.zarr", **kwargs)["array"]
    assert (drop.names, keep.names) == (["A1", "A2", "A3"], ["A1", "A2", "A3", "A4"])
    np.testing.assert_allclose(drop.read(0, 5120), x[:3] - x[:3].mean(0), atol=1e-6)
    np.testing.assert_allclose(keep.read(0, 5120), x - x[:3].mean(0), atol=1e-2)
    assert any("1 bad channels are left out" in note.text for note in drop.notes)


def test_channels_that_are_bad_by_a_rule_are_left_out_and_the_store_says_why(tmp_path: Path):
    x = 50 * np.random.default_rng(0).standard_normal((4, 512 * 30))
    x[1, 3000:] = 7.0
    one = from_array(x, 512.0, names=NAMES)
    prepared = prepare(one, tmp_path / "s.zarr")["array"]
    assert prepared.names == ["A1", "A3", "A4"]
    step = prepared.about["provenance"]["steps"][0]
    assert step["bad"]["A2"].startswith("flat: ")
    assert "flat" in step["bad_rules"]
    assert prepare(one, tmp_path / "t.zarr", bad_rules=("mains",))["array"].names == NAMES


def test_a_real_seizure_is_prepared_as_scipy_does_it(tmp_path: Path, shared: Path):
    file = shared / "data/ieeg/ecog_pt01_ictal/sub-pt01_ecog_ictal.edf"
    if not file.exists():
        pytest.skip(f"no {file}")
    one = Recording.open(file)
    found = prepare(one, tmp_path / "s.zarr")[one.id]
    x = one.read(0, one.n_samples).astype(float)
    longer = np.pad(x, ((0, 0), (5000, 5000)), mode="reflect", reflect_type="odd")
    y = resample_poly(longer, 64, 125, axis=1)[:, 2560 : 2560 + 1536]
    y = sosfiltfilt(butter(4, (0.5, 120), "bandpass", fs=512, output="sos"), y, axis=1, padlen=1024)
    y -= np.median(y, axis=0)
    error = np.sqrt(np.mean((found.read(0, 1536) - y) ** 2, axis=1)) / y.std(axis=1)
    assert found.names == one.names
    assert error.max() < 1e-4
    np.testing.assert_allclose(error, found.about["quantisation"]["rms_error"], rtol=0.05)


def test_values_that_cannot_be_microvolts_are_refused_with_the_unit_to_pass(tmp_path: Path):
    x = 50e-6 * np.random.default_rng(0).standard_normal((4, 512 * 30))  # volts
    with pytest.raises(ValueError, match=r"look like volts read as microvolts.*unit='V'.*implausible='keep'"):
        prepare(from_array(x, 512.0), tmp_path / "s.zarr")
    array = from_array(x * 1e6, 512.0).to_xarray() * 1e-6
    array.attrs.update(sfreq=512.0, unit="V")
    prepared = prepare(array, tmp_path / "t.zarr", preset="raw", dtype="float32")["array"]
    np.testing.assert_allclose(prepared.read(0, 512), 1e6 * x[:, :512], rtol=1e-5)
    assert prepare(from_array(x, 512.0), tmp_path / "u.zarr", preset="raw", implausible="keep")["array"].sfreq == 512


def test_with_skip_what_cannot_be_prepared_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    volts = from_array(50e-6 * np.random.default_rng(0).standard_normal((4, 512 * 30)), 512.0, id="volts")
    short = from_array(np.zeros((2, 10)), 512.0, id="short")
    with pytest.raises(
        ValueError,
        match=r"1 of 2 recordings cannot be prepared, and nothing was written\. Leave them out by `skip=True`",
    ):
        prepare([recording(), short], tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
    store = prepare([recording(), short, volts], tmp_path / "s.zarr", skip=True, memory=MEMORY)
    assert store.ids == ("one",)
    assert "short was left out" in caplog.text
    assert "volts was left out" in caplog.text


def test_a_channel_that_lost_much_of_its_own_time_is_named(tmp_path: Path):
    x = 50 * np.random.default_rng(0).standard_normal((4, 512 * 60))
    x[2, 100 : 512 * 20] = np.nan
    prepared = prepare(from_array(x, 512.0, names=NAMES), tmp_path / "s.zarr")["array"]
    (text,) = [note.text for note in prepared.notes if "miss more than" in note.text]
    assert text.startswith("1 of 4 channels miss more than 1 % of the recorded time, A3 most (33 %)")
