"""The store: what is written is what is read, by us and by zarr-python; damage and strangers are refused."""

import json
import multiprocessing
import pickle
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from tsattn.events.table import make_events
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.privacy import shifted
from tsattn.recordings.recording import Recording, from_array, make_channels
from tsattn.recordings.store import open_store
from tsattn.recordings.store.quantise import combine, quantise

zarr = pytest.importorskip("zarr")
SFREQ = 512.0
MEMORY = 8e5  # a shard of about ten seconds


def values(channels: int = 5, seconds: float = 47.3, seed: int = 0) -> np.ndarray:
    x = 50 * np.random.default_rng(seed).standard_normal((channels, round(seconds * SFREQ)))
    x[:, 6_000:17_000] = np.nan  # a shard of it is missing altogether
    x[1, 20_000:20_100] = np.nan
    return x.astype(np.float32)


def recording(x: np.ndarray, id: str = "sub-1_run-1", **rest: object) -> Recording:
    return from_array(x, SFREQ, id=id, **rest)


@pytest.fixture(params=["int16", "float32"])
def dtype(request) -> str:
    return request.param


def test_what_is_stored_is_read_by_any_rows_and_any_stretch(tmp_path: Path, dtype: str):
    x = values()
    store = prepare(recording(x), tmp_path / "s.zarr", preset="raw", dtype=dtype, memory=MEMORY)
    found = store["sub-1_run-1"]
    everything = found.read(0, found.n_samples)
    assert everything.dtype == np.float32
    assert np.array_equal(np.isnan(everything), np.isnan(x))
    if dtype == "float32":
        assert np.array_equal(everything, x, equal_nan=True)
    else:
        assert np.nanmax(np.abs(everything - x)) < 50 * 5 / 32767
    rng = np.random.default_rng(1)
    for _ in range(60):
        start, stop = np.sort(rng.integers(0, x.shape[1] + 1, 2)).tolist()
        rows = rng.permutation(5)[: rng.integers(1, 6)].tolist()
        assert np.array_equal(found.read(start, stop, rows), everything[rows, start:stop], equal_nan=True)
    assert np.array_equal(found.read(3, 9, [2, 2, 0]), everything[[2, 2, 0], 3:9])
    assert found.read(7, 7).shape == (5, 0)


def test_zarr_python_reads_the_same(tmp_path: Path, dtype: str):
    store = prepare(recording(values()), tmp_path / "s.zarr", preset="raw", dtype=dtype, memory=MEMORY)
    ours = store["sub-1_run-1"].read(0, 24_218)
    group = zarr.open_group(tmp_path / "s.zarr", mode="r")["sub-1_run-1"]
    theirs = group["signal"][:].astype(np.float32)
    if dtype == "int16":
        scale, offset = np.repeat(group["scaling"][:], 256, axis=2)[:, :, : theirs.shape[1]]
        theirs = np.where(theirs == -32768, np.nan, theirs * scale + offset)
    assert np.array_equal(theirs, ours, equal_nan=True)
    assert group["signal"].metadata.dimension_names == ("channel", "time")


def test_facts_survive_the_store(tmp_path: Path):
    x = values(3)
    channels = make_channels(
        ["A1", "A2", "A3"], SFREQ, "ecog", ["good", "good", "bad"], ["", "", "flat"], np.array([[1, 2, np.nan]] * 3)
    )
    events = make_events([1.5, 30.0], [2.0, 5.0], ["sz", "sz-foc-ia"], [0.5, np.nan], ["all", "A1,A2"])
    one = recording(x, channels=channels, events=events, subject="sub-1", coordinate_frame="mni_tal", about={"read": 1},
                    start=datetime(2024, 5, 6))  # fmt: skip
    prepare(one, tmp_path / "s.zarr", preset="raw", quality=20.0)
    found = open_store(tmp_path / "s.zarr")["sub-1_run-1"]
    assert found.channels.equals(channels)
    assert found.events.equals(events)
    assert found.gaps == one.gaps
    assert found.observed() == one.observed()
    assert (found.duration, found.sfreq, found.subject) == (one.duration, SFREQ, "sub-1")
    assert found.coordinate_frame == "mni_tal"
    assert found.start == shifted(datetime(2024, 5, 6), "sub-1")
    provenance = found.about["provenance"]
    assert provenance["read"] == {"read": 1}
    assert [step["step"] for step in provenance["steps"]] == ["channels", "resample"]
    assert provenance["preset"]["name"] == "raw, changed"
    assert {"tsattn", "numpy", "scipy", "zarr"} <= set(provenance["versions"])
    assert len(provenance["sources"][0]["sha256"]) == 64
    statistics = found.about["statistics"]
    np.testing.assert_allclose(statistics["standard_deviation"], np.nanstd(x.astype(float), axis=1), rtol=1e-6)
    np.testing.assert_allclose(statistics["mean"], np.nanmean(x.astype(float), axis=1), atol=1e-5)
    assert statistics["samples"] == np.isfinite(x).sum(1).tolist()
    json.dumps(found.about, allow_nan=False)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_stored_recording_reads_in_other_processes(tmp_path: Path, method: str):
    x = values()
    found = prepare(recording(x), tmp_path / "s.zarr", preset="raw", dtype="float32")["sub-1_run-1"]
    here = found.read(100, 200)  # the file is open now
    with multiprocessing.get_context(method).Pool(2) as pool:
        there = pool.starmap(found.read, [(100, 200)] * 4)
    assert all(np.array_equal(part, here) for part in there)
    assert np.array_equal(pickle.loads(pickle.dumps(found)).read(100, 200), here)


def test_a_store_written_again_at_the_same_place_is_not_read_from_an_old_file(tmp_path: Path):
    for seed in (1, 2):
        x = values(seed=seed)
        found = prepare(recording(x), tmp_path / "s.zarr", preset="raw", dtype="float32")["sub-1_run-1"]
        assert np.array_equal(found.read(0, 100), x[:, :100])
        shutil.rmtree(tmp_path / "s.zarr")


# ---- 16 bits


def rounding(x: np.ndarray) -> float:
    """Rms error relative to the spread, of one channel, measured here."""
    codes, scaling, statistics = quantise(x.astype(np.float32)[None])
    scale, offset = np.repeat(scaling[:, 0].astype(float), 256, axis=1)
    error = (codes[0] * scale + offset)[: len(x)] - x.astype(np.float32)
    told = np.sqrt(statistics[0, 5] / statistics[0, 0])
    assert told == pytest.approx(np.sqrt(np.mean(error**2)), rel=0.05, abs=1e-6 * x.std())
    return float(np.sqrt(np.mean(error**2)) / x.std())


def test_16_bits_cost_less_than_1e_4_of_the_spread_whatever_stands_in_a_channel():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(512 * 60)
    assert rounding(noise) < 3e-5
    artefact = noise.copy()
    artefact[5000:5010] += 1e4
    assert rounding(artefact) < 1e-4
    assert rounding(noise + 1e4) < 1e-4  # a constant
    lone = np.zeros(512 * 60)
    lone[::256] = rng.standard_normal(120)  # a spike in every block
    assert rounding(lone) < 1e-4
    assert rounding(np.cumsum(noise)) < 1e-5


def test_an_artefact_costs_nothing_elsewhere():
    noise = np.random.default_rng(0).standard_normal((1, 5120)).astype(np.float32)
    loud = noise.copy()
    loud[0, 600] = 1e6
    for x in (noise, loud):
        codes, scaling, _ = quantise(x)
        error = codes[0, 1024:] * np.repeat(scaling[0, 0, 4:], 256) + np.repeat(scaling[1, 0, 4:], 256) - x[0, 1024:]
        assert np.abs(error).max() < 6e-5


def test_a_flat_channel_is_kept_exactly():
    codes, scaling, statistics = quantise(np.full((1, 1000), 12.5, np.float32))
    assert (codes[0, :1000] == 0).all()
    assert (scaling == np.array([0, 12.5])[:, None, None]).all()
    assert statistics[0, :6].tolist() == [1000, 12.5, 0, 12.5, 12.5, 0]


def test_statistics_of_parts_are_those_of_the_whole():
    x = np.random.default_rng(0).standard_normal((2, 9000)).astype(np.float32) * 3 + 1e4
    x[0, 4000:6000] = np.nan
    whole = quantise(x)[2]
    parts = combine(np.stack([quantise(x[:, a:b])[2] for a, b in ((0, 4000), (4000, 6000), (6000, 9000))]))
    np.testing.assert_allclose(whole[:, :5], parts[:, :5], rtol=1e-7)
    np.testing.assert_allclose(np.sqrt(whole[:, 2] / whole[:, 0]), np.nanstd(x.astype(float), axis=1), rtol=1e-5)


def test_the_error_stands_in_the_store_and_too_large_a_one_is_refused(tmp_path: Path, monkeypatch):
    x = values()
    found = prepare(recording(x), tmp_path / "s.zarr", preset="raw")["sub-1_run-1"]
    error = found.about["quantisation"]
    assert all(1e-5 < rms < 3e-5 for rms in error["rms_error"])
    assert all(largest < 1e-4 for largest in error["largest_error"])
    monkeypatch.setattr("tsattn.recordings.store.writing.LARGEST_ERROR", 1e-5)
    with pytest.raises(ValueError, match=r"16 bits round C\d by 2.*standard deviation.*dtype='float32'"):
        prepare(recording(x), tmp_path / "t.zarr", preset="raw")


# ---- what is refused


def test_what_is_no_store_is_refused_in_a_sentence(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="There is no store at"):
        open_store(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file.zarr").write_bytes(b"not a store")
    for name in ("folder", "file.zarr"):
        with pytest.raises(ValueError, match="not a zarr v3 group, expected a store of prepared recordings"):
            open_store(tmp_path / name)
    zarr.create_group(tmp_path / "foreign.zarr", attributes={"format": "ome"})
    with pytest.raises(ValueError, match="a zarr group, but no store of recordings"):
        open_store(tmp_path / "foreign.zarr")
    prepare(recording(values()), tmp_path / "new.zarr", preset="raw")
    zarr.open_group(tmp_path / "new.zarr", mode="r+").attrs["version"] = 2
    with pytest.raises(ValueError, match="format version 2, this tsattn reads up to 1"):
        open_store(tmp_path / "new.zarr")


def test_a_half_written_store_is_refused_with_the_way_on(tmp_path: Path):
    two = [recording(values(), id="a"), recording(values(), id="b")]
    prepare(two, tmp_path / "s.zarr", preset="raw")
    zarr.open_group(tmp_path / "s.zarr/b", mode="r+").attrs["complete"] = False
    with pytest.raises(ValueError, match=r"half-written: 1 of 2 recordings \(b\).*Run the same"):
        open_store(tmp_path / "s.zarr")
    partial = open_store(tmp_path / "s.zarr", partial=True)
    assert list(partial) == [one.id for one in partial.recordings()] == ["a"]
    with pytest.raises(KeyError, match="no recording 'b'; it has a"):
        partial["b"]


@pytest.mark.parametrize("what", ["signal/c.0.0", "scaling/c.0.0.0"])
@pytest.mark.parametrize("how", ["gone", "cut"])
def test_a_damaged_shard_is_refused_and_never_read_as_missing(tmp_path: Path, what: str, how: str):
    found = prepare(recording(values()), tmp_path / "s.zarr", preset="raw", memory=MEMORY)["sub-1_run-1"]
    file = tmp_path / "s.zarr/sub-1_run-1" / what
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"is damaged: c\.0\.0 of sub-1_run-1 is missing or cut off"):
        found.read(0, 10)
