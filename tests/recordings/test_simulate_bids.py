"""A simulated BIDS data set reads back through mne-bids and through our own reader as what was simulated."""

import json
from functools import cache
from pathlib import Path

import mne
import mne_bids
import numpy as np
import pandas as pd
import pytest

from tsattn.recordings.readers import open_recordings
from tsattn.recordings.simulate import simulate_bids, simulate_recording, truth

SMALL = dict(subjects=2, hours=0.02, level="hard", channels=(8, 14), seed=7)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("simulated") / "bids"
    told: list[tuple[int, int]] = []
    made = simulate_bids(out, **SMALL, progress=lambda done, total: told.append((done, total)))
    assert (made.path, made.recordings, made.seizures, made.hours) == (out, 2, 2, 0.04)
    assert told == [(1, 2), (2, 2)]
    assert [path.name for path in out.parent.iterdir()] == ["bids"]  # nothing half-made stays
    return out


@cache
def again(root: Path, subject: int):
    """The same recording, simulated in memory."""
    path = mne_bids.BIDSPath(
        root=root,
        subject=f"{subject:02d}",
        task="simulated",
        run="01",
        datatype="ieeg",
        suffix="ieeg",
        extension=".edf",
    )
    channels = len(mne.io.read_raw_edf(path.fpath, verbose="error").ch_names)
    small = dict(channels=channels, duration=72.0, level="hard", seizures=1, seed=7, subject=subject)
    return path, simulate_recording(**small)


@pytest.mark.parametrize("subject", [1, 2])
def test_mne_bids_reads_back_samples_positions_and_events(root: Path, subject: int):
    path, expected = again(root, subject)
    raw = mne_bids.read_raw_bids(path, verbose="error")
    assert raw.ch_names == expected.names
    assert set(raw.get_channel_types()) == {"seeg"}
    assert raw.info["bads"] == []
    assert raw.info["line_freq"] == 50
    assert raw.info["sfreq"] == 512
    values = raw.get_data() * 1e6
    simulated = expected.read(0, expected.n_samples)
    step = np.ceil(np.abs(simulated).max(1)) / 32767
    assert (np.abs(values - simulated).max(1) <= 0.51 * step).all()
    assert step.max() < 0.25  # uV; the amplifier's noise is 1.5
    places = raw.get_montage().get_positions()
    assert places["coord_frame"] == "mni_tal"
    positions = np.stack([places["ch_pos"][name] for name in expected.names])
    np.testing.assert_allclose(positions, expected.channels[["x", "y", "z"]], atol=1e-9)
    seizures = [note for note in raw.annotations if note["description"] == "sz"]
    np.testing.assert_allclose([note["onset"] for note in seizures], expected.events["onset"])
    np.testing.assert_allclose([note["duration"] for note in seizures], expected.events["duration"])
    assert len(raw.annotations) == 1


def test_our_reader_reads_the_same_and_has_nothing_to_complain_of(root: Path):
    found = open_recordings(root)
    assert len(found) == 2
    for subject, recording in enumerate(found, start=1):
        _, expected = again(root, subject)
        assert (recording.id, recording.subject) == (expected.id, expected.subject)
        assert recording.duration == expected.duration
        assert recording.coordinate_frame == expected.coordinate_frame
        assert not [note.text for note in recording.notes if note.level == "warning"]
        pd.testing.assert_frame_equal(recording.events, expected.events)
        stretch = recording.read(1000, 2000)
        np.testing.assert_allclose(stretch, expected.read(1000, 2000), atol=0.13)


def test_a_dead_contact_is_exactly_flat_in_the_file(root: Path):
    """Zero stays zero in 16 bits."""
    path, expected = again(root, 1)
    known = truth(expected)
    flat = known[known["event_type"] == "flat"].iloc[0]
    values = mne.io.read_raw_edf(path.fpath, verbose="error").get_data(picks=flat["channels"])[0]
    assert (values[round(flat["onset"] * 512) :] == 0).all()


def test_the_truth_stands_in_a_derivative(root: Path):
    _, expected = again(root, 2)
    folder = root / "derivatives" / "tsattn-truth"
    table = pd.read_csv(
        folder / "sub-02" / "ieeg" / "sub-02_task-simulated_run-01_desc-truth_events.tsv",
        sep="\t",
        dtype={"channels": str},
    )
    known = truth(expected)
    assert {"recruited", "flat", "mains"} <= set(table["trial_type"])
    np.testing.assert_allclose(table[["onset", "duration"]], known[["onset", "duration"]])
    assert table["trial_type"].tolist() == known["event_type"].tolist()
    assert table["channels"].tolist() == known["channels"].tolist()
    assert json.loads((folder / "dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_the_sidecars_say_what_it_is(root: Path):
    described = json.loads((root / "dataset_description.json").read_text())
    maker = described["GeneratedBy"][0]
    assert maker["Name"] == "tsattn recordings simulate"
    assert "level hard, seed 7" in maker["Description"]
    readme = (root / "README").read_text()
    assert readme.startswith("SYNTHETIC")
    assert "not emergent" in readme
    assert "no evidence of clinical accuracy" in readme
    participants = pd.read_csv(root / "participants.tsv", sep="\t")
    assert participants["participant_id"].tolist() == ["sub-01", "sub-02"]
    sidecar = json.loads((root / "sub-01/ieeg/sub-01_task-simulated_run-01_ieeg.json").read_text())
    assert sidecar["RecordingDuration"] == 72
    assert sidecar["PowerLineFrequency"] == 50
    assert sidecar["SEEGChannelCount"] == len(pd.read_csv(next(root.glob("sub-01/ieeg/*channels.tsv")), sep="\t"))


def test_the_same_seed_makes_the_same_files(root: Path, tmp_path: Path):
    simulate_bids(tmp_path / "again", **SMALL)
    for file in sorted(root.rglob("*.*")):
        if file.suffix in (".edf", ".tsv", ".json"):
            assert (tmp_path / "again" / file.relative_to(root)).read_bytes() == file.read_bytes(), file.name


def test_long_recordings_come_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tsattn.recordings.simulate.bids.LONGEST_RUN", 0.01)
    made = simulate_bids(tmp_path / "out", subjects=1, hours=0.03, channels=3, seizures_per_hour=70.0)
    assert (made.recordings, made.seizures) == (3, 2)
    scans = pd.read_csv(tmp_path / "out/sub-01/sub-01_scans.tsv", sep="\t")
    starts = pd.to_datetime(scans["acq_time"])
    assert starts.diff().dropna().dt.total_seconds().tolist() == [36, 36]
    events = [len(pd.read_csv(file, sep="\t")) for file in sorted((tmp_path / "out/sub-01/ieeg").glob("*events.tsv"))]
    assert sorted(events) == [0, 1, 1]
    assert [len(recording.events) for recording in open_recordings(tmp_path / "out")] == events


def test_nothing_is_replaced_but_what_it_made_itself(root: Path, tmp_path: Path):
    tiny = dict(subjects=1, hours=0.005, channels=2, seizures_per_hour=0.0)
    simulate_bids(tmp_path / "mine", **tiny)
    with pytest.raises(FileExistsError, match="exists already"):
        simulate_bids(tmp_path / "mine", **tiny)
    simulate_bids(tmp_path / "mine", **tiny | {"subjects": 2}, overwrite=True)
    assert len(list((tmp_path / "mine").glob("sub-*"))) == 2
    for content in (None, "{}", '{"GeneratedBy": [{"Name": "somebody else"}]}', "no json"):
        precious = tmp_path / "precious"
        precious.mkdir(exist_ok=True)
        (precious / "data.txt").write_text("years of work")
        if content is not None:
            (precious / "dataset_description.json").write_text(content)
        with pytest.raises(FileExistsError, match="not replaced"):
            simulate_bids(precious, **tiny, overwrite=True)
        assert (precious / "data.txt").read_text() == "years of work"


def test_an_interruption_leaves_the_old_data_set_and_no_rubbish(tmp_path: Path):
    tiny = dict(subjects=2, hours=0.005, channels=2, seizures_per_hour=0.0)
    simulate_bids(tmp_path / "out", **tiny)
    before = (tmp_path / "out" / "README").read_text()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_bids(tmp_path / "out", **tiny | {"seed": 1}, overwrite=True, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "README").read_text() == before


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (dict(subjects=0), "0 subjects of 1 h"),
        (dict(hours=0.0), "4 subjects of 0 h"),
        (dict(hours=float("nan")), "of nan h"),
        (dict(channels=(20, 10)), "with 20 to 10 channels"),
        (dict(sfreq=512.5), "sfreq is 512.5.*whole number of Hz"),
        (dict(seizures_per_hour=-1.0), "seizures_per_hour -1"),
        (dict(hours=0.001, channels=2), "4 s at 512 Hz"),
        (dict(hours=0.01, channels=2, level="hard"), "expected at least 8"),
    ],
)
def test_what_makes_no_data_set_is_refused_and_leaves_nothing(tmp_path: Path, wrong: dict, told: str):
    with pytest.raises(ValueError, match=told):
        simulate_bids(tmp_path / "out", **wrong)
    assert not list(tmp_path.iterdir())
