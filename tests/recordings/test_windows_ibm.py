"""The windows of the authors' loader of MVPFormer, array by array (recorded with their code)."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from support import SHARED

from tsattn.events.table import make_events
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.windows import ibm_protocol
from tsattn.recordings.windows.labels import label_windows
from tsattn.recordings.windows.places import Windowing, place_windows, read_window

FOLDER = SHARED / "parity" / "mvpformer"
VIEWS = ("plain", "two_rates", "slowdown", "first_two_channels")
pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the recorded windows are not on this machine")


def recording_of(patient: str) -> Recording:
    return Recording.open(FOLDER / "ieeg" / patient)


@pytest.fixture(scope="module")
def recorded() -> Iterator[dict[str, np.ndarray]]:
    with np.load(FOLDER / "dataset_windows.npz") as arrays:
        yield dict(arrays)


@pytest.mark.parametrize("view", VIEWS)
def test_the_ibm_protocol_gives_the_windows_of_the_authors_loader(view, recorded):
    entry = json.loads((FOLDER / "manifest.json").read_text())["fixtures"]["dataset_windows"]["config"]
    chosen = entry["views"][view]
    windowing = Windowing(
        entry["segments"],
        entry["segment_ms"] / 1000,
        entry["stride_ms"] / 1000,
        protocol="ibm",
        slowdown=chosen["kwargs"]["slowdown"],
        sfreq=float(entry["rate"]),
    )
    recordings = [recording_of(patient) for patient in chosen["patients"]]
    if "channels" in chosen["kwargs"]:
        recordings = [r.pick([r.names[i] for i in chosen["kwargs"]["channels"]]) for r in recordings]
    placed = [place_windows(recording, windowing) for recording in recordings]
    got: dict[str, list[np.ndarray]] = {}
    for patient, (recording, windows) in enumerate(zip(recordings, placed, strict=True)):
        events = recording.events
        last = windows.begin + windowing.window_seconds - windowing.last_seconds
        columns = {
            "begin_sec": windows.begin,
            "label": label_windows(
                events,
                windows.begin,
                windowing.segments,
                windowing.segment_seconds,
                last_seconds=windowing.last_seconds,
            ),
            "patient": np.full(len(windows), patient),
            "nearest_onset": ibm_protocol.nearest(events["onset"].to_numpy(), last),
            "nearest_offset": ibm_protocol.nearest((events["onset"] + events["duration"]).to_numpy(), last),
            "done": np.arange(len(windows)) == len(windows) - 1,
        }
        for name, values in columns.items():
            got.setdefault(name, []).append(values)
    for name, parts in got.items():
        assert np.concatenate(parts) == pytest.approx(recorded[f"{view}.{name}"], abs=1e-9), name
    begin = np.concatenate(got["begin_sec"])
    where = [(p, i) for p, windows in enumerate(placed) for i in range(len(windows))]
    for number in chosen["stored_windows"]:
        patient, i = where[number]
        signal, observed = read_window(recordings[patient], int(placed[patient].start[i]), windowing)
        assert signal == pytest.approx(recorded[f"{view}.data_{number}"], abs=1e-4), (number, begin[number])
        assert observed.all()


def test_the_data_module_gives_them_as_batches_of_patients_with_different_channels(recorded):
    recordings = [recording_of("ID01"), recording_of("ID02")]  # at 64 and 128 Hz, 3 and 4 channels
    data = RecordingDataModule.from_recordings(
        recordings, segments=5, segment_seconds=1.0, stride_seconds=1.0, protocol="ibm", ibm_sfreq=64.0, batch_size=16
    )
    batches = list(data.test_dataloader())
    assert torch.cat([batch.label for batch in batches]).tolist() == recorded["two_rates.label"].tolist()
    assert torch.cat([batch.begin for batch in batches]).tolist() == recorded["two_rates.begin_sec"].tolist()
    assert torch.cat([batch.recording for batch in batches]).tolist() == recorded["two_rates.patient"].tolist()
    for number in (0, 15, 37, 111):
        batch, row = batches[number // 16], number % 16
        signal = batch.signal[row][:, batch.channel_mask[row]].numpy()
        assert signal == pytest.approx(recorded[f"two_rates.data_{number}"], abs=1e-4)


def test_our_windows_are_those_of_the_authors_and_the_last_window_length():
    recording = recording_of("ID01")
    ours = place_windows(recording, Windowing(5, 1.0, 1.0)).begin
    theirs = place_windows(recording, Windowing(5, 1.0, 1.0, protocol="ibm")).begin
    assert ours[: len(theirs)].tolist() == theirs.tolist()
    assert ours[len(theirs) :].tolist() == [81.0, 82.0, 83.0, 84.0, 85.0]


@pytest.mark.parametrize(("have", "want"), [(640, 320), (1024, 320), (320, 320), (100, 250), (2560, 512)])
def test_interpolation_is_torchs(have, want):
    values = np.random.default_rng(0).normal(size=(3, have))
    theirs = torch.nn.functional.interpolate(torch.from_numpy(values)[None], size=want, mode="linear")[0].numpy()
    assert ibm_protocol.interpolate(values, want) == pytest.approx(theirs, abs=1e-12)


def test_slowed_zones_of_close_seizures_join():
    values = np.zeros((1, 400 * 8), np.float32)
    events = make_events([150.0, 180.0], [10.0, 10.0])
    begin = place_windows(
        from_array(values, 8.0, events=events), Windowing(5, 2.0, 2.0, protocol="ibm", slowdown=True)
    ).begin
    steps = np.diff(begin)
    slow = np.flatnonzero(np.isclose(steps, 0.4))
    assert np.array_equal(slow, np.arange(slow[0], slow[-1] + 1))  # one stretch without a break
    assert begin[slow[0]] == pytest.approx(122.0)  # the first coarse step past 150 - 3 windows
    assert begin[slow[-1] + 1] == pytest.approx(210.0, abs=0.4)  # 190 + 2 windows
    assert np.allclose(np.delete(steps, slow), 2.0)
