"""A healthy file is not called damaged: the message says why it is not read, and the way in that it names works."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tsattn.recordings import from_array, open_recordings
from tsattn.recordings.preparation.prepare import prepare

mne = pytest.importorskip("mne")


def refusal(path: Path) -> str:
    with pytest.raises(ValueError) as problem:
        open_recordings(path)
    assert "damaged" not in str(problem.value)
    return str(problem.value)


def epochs() -> "mne.EpochsArray":
    info = mne.create_info(["LA1", "LA2"], 100.0, "seeg")
    return mne.EpochsArray(np.random.default_rng(0).normal(size=(3, 2, 100)) * 1e-5, info, verbose="ERROR")


def test_epochs_of_fif_are_called_epochs(tmp_path: Path):
    epochs().save(tmp_path / "a-epo.fif", verbose="ERROR")
    assert "epochs" in refusal(tmp_path / "a-epo.fif")


def test_epochs_of_eeglab_are_called_epochs(tmp_path: Path):
    from scipy.io import savemat

    content = dict(setname="x", nbchan=2.0, trials=4.0, pnts=100.0, srate=100.0, xmin=0.0, xmax=0.99, icawinv=[],
                   icaweights=[], icasphere=[], icachansind=[], event=[], epoch=[], ref="common",
                   chanlocs=np.array([("LA1",), ("LA2",)], [("labels", object)]),
                   data=np.zeros((2, 100, 4), "f4"))  # fmt: skip
    savemat(tmp_path / "e.set", {"EEG": content})
    assert "epochs" in refusal(tmp_path / "e.set")


@pytest.mark.parametrize("ending", [".mat", ".npy", ".trc", ".xyz", ".txt"])
def test_a_matrix_is_shown_the_way_in(ending: str, tmp_path: Path):
    path = tmp_path / f"a{ending}"
    values = np.random.default_rng(0).normal(size=(3, 2000))
    if ending == ".mat":
        from scipy.io import savemat

        savemat(path, {"data": values})
    elif ending == ".npy":
        np.save(path, values)
    else:
        path.write_bytes(b"1 2 3\n" * 200)
    told = refusal(path)
    assert 'tsattn.recordings.from_array(values, sfreq, names, unit="uV")' in told
    assert "tsattn.recordings.from_mne(raw)" in told


def test_what_is_advised_works(tmp_path: Path):
    values = np.random.default_rng(0).normal(size=(3, 4000)) * 0.05
    start = datetime(2020, 1, 2, 3, 4, 5)
    made = from_array(values, 256.0, ["LA1", "LA2", "LA3"], unit="mV", start=start, id="sub-1_run-1")
    np.testing.assert_allclose(made.read(0, 4000), values * 1000)
    assert (made.names, made.start, made.sfreq) == (["LA1", "LA2", "LA3"], start, 256.0)
    stored = prepare(made, tmp_path / "s.zarr", preset="raw", dtype="float32").recordings()[0]
    np.testing.assert_allclose(stored.read(0, 4000), values * 1000, rtol=1e-6)
    from tsattn.recordings import from_mne

    raw = mne.io.RawArray(values * 1e-3, mne.create_info(made.names, 256.0, "seeg"), verbose="ERROR")
    np.testing.assert_allclose(from_mne(raw, id="sub-1_run-2").read(0, 4000), made.read(0, 4000))


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        (np.zeros((3, 10)), dict(names=["a", "b"]), "2 names for 3 channels"),
        (np.zeros((10, 2)), dict(names=["a", "b"]), r"pass values\.T"),
        (np.zeros((3, 10)), dict(unit="lux"), "unit is 'lux'"),
        (np.zeros((0, 10)), {}, "shape"),
    ],
)
def test_arrays_that_cannot_be_meant_are_refused(values: np.ndarray, options: dict, told: str):
    if values.shape[0] == 10:
        options = options | {"names": [str(k) for k in range(2)]}
    with pytest.raises(ValueError, match=told):
        from_array(values, 10.0, **options)


def test_a_labelled_array_keeps_its_unit_and_types():
    made = from_array(
        xr.DataArray(
            np.ones((2, 100)), dims=("channel", "time"), attrs={"sfreq": 10.0, "unit": "mV"},
            coords={"channel": ["a", "b"], "type": ("channel", ["eeg", "ecg"])},
        )
    )  # fmt: skip
    assert made.channels["type"].tolist() == ["eeg", "ecg"]
    assert made.read(0, 1)[0, 0] == 1000


@pytest.mark.parametrize(("package", "extra"), [("h5py", "neuro"), ("pynwb", "nwb")])
def test_a_missing_package_is_named_with_its_line(
    package: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Of one file, by an error; in a folder the file is left out, and the others are read."""
    import sys

    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.6.0"
    raw = mne.io.RawArray(np.ones((1, 100)) * 1e-6, mne.create_info(["LA1"], 100.0, "seeg"), verbose="ERROR")
    raw.save(tmp_path / "a_raw.fif", verbose="ERROR")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"needs {package}: pip install 'tsattn\[{extra}\]'\."):
        open_recordings(tmp_path / "a.nwb")
    (found,) = open_recordings(tmp_path)
    assert found.names == ["LA1"]
    assert any(f"needs {package}" in note.text for note in found.notes)
