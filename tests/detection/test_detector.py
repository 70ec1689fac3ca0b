"""The detector: whole recordings of any kind in, events and probabilities out, by the contract or not at all."""

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import lightning
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from small import FITTED, PRESET, SEGMENTS, SFREQ, classifier, detector, prepared, values

from tsattn import checkpoint
from tsattn.contracts import SignalSpec
from tsattn.detection import detector as module
from tsattn.detection.detector import Detection, Detector
from tsattn.events.detect import PostProcessing
from tsattn.events.score import score_events
from tsattn.events.table import make_events
from tsattn.layers.lora import adapters, load_adapters, save_adapters
from tsattn.models.itransformer import ITransformer
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.preparation.view import prepared_view
from tsattn.recordings.recording import Recording, from_array
from tsattn.tasks.detect import DetectTask

RAW = 128.0  # Hz, of recordings that are still to be prepared
CLOSE = 1e-6


def recording(channels: int = 5, gaps: bool = False, **rest: Any) -> Recording:
    """Two minutes as they were recorded."""
    x = values(channels, 120.0, RAW) + 500 * np.arange(channels)[:, None]
    if gaps:
        x[:, round(30.3 * RAW) : round(41 * RAW)] = np.nan
        x[1, round(80 * RAW) : round(84 * RAW)] = np.nan
    return from_array(x, RAW, **rest)


def array(**attributes: Any) -> xr.DataArray:
    x = values(5, 120.0, RAW)
    told = {"sfreq": RAW, "unit": "uV"} | attributes
    return xr.DataArray(x, dims=("channel", "time"), coords={"channel": list("ABCDE")}, attrs=told)


def same(found: Detection, expected: Detection, close: float = CLOSE) -> None:
    np.testing.assert_allclose(found.probability.values, expected.probability.values, rtol=0, atol=close)
    pd.testing.assert_frame_equal(found.events, expected.events, atol=close)


# What comes out --------------------------------------------------------------------------------------------------


def test_events_and_probabilities_come_out_labelled():
    found = detector().detect(recording(gaps=True))
    events, probability = found
    assert events is found.events
    assert probability.dims == ("time",)
    assert probability["time"].values.tolist() == [float(t) for t in range(117)]
    told = {"span": 1.0, "offset": 3.0, "hop": 1.0, "threshold": 0.55, "smoothing": 2.0, "recording": "array"}
    assert probability.attrs == told
    assert np.flatnonzero(np.isnan(probability)).tolist() == list(range(27, 41))
    expected = FITTED(probability, span=1.0, offset=3.0, duration=120.0)
    pd.testing.assert_frame_equal(events, expected)
    assert len(events) > 2
    assert (found.recording.sfreq, found.recording.names) == (SFREQ, ["C1", "C2", "C3", "C4", "C5"])


def test_where_it_comes_from_is_told_in_plain_data():
    found = detector({"gaps": "mask"}).detect(recording(id="one", subject="sub-1"), stride=2)
    told = json.loads(json.dumps(found.provenance))
    assert told["recording"] == {"id": "one", "subject": "sub-1", "duration_s": 120.0, "sfreq": SFREQ}
    steps = {step["step"]: step for step in told["preparation"]["steps"]}
    assert (steps["resample"]["from"], steps["resample"]["to"]) == (RAW, SFREQ)
    assert steps["band"]["band"] == [0.5, 12.0]
    assert steps["reference"]["method"] == "median"
    assert told["channels"] == {
        "recording": "one", "policy": "all", "of": 5, "read": 5, "readings": [[0, 1, 2, 3, 4]], "left_out": [],
    }  # fmt: skip
    assert told["detector"]["checkpoint"]["sha256"] == "0" * 64
    assert told["geometry"] == {"segments": 4, "segment_seconds": 1.0, "stride": 2}
    assert (told["gaps"], told["postprocessing"]) == ("mask", FITTED.to_dict())
    assert told["postprocessing_fitted_on"] == ["sub-v"]
    assert set(told["versions"]) == {"tsattn", "torch"}


def test_other_postprocessing_can_be_given_and_without_a_fitted_one_the_threshold_is_a_half():
    given = PostProcessing(threshold=0.9)
    found = detector().detect(recording(), postprocessing=given)
    assert found.provenance["postprocessing"] == given.to_dict()
    assert found.provenance["postprocessing_fitted_on"] == "given by hand"
    assert found.events["confidence"].min() >= 0.9
    plain = Detector(classifier(), SignalSpec(PRESET.to_json())).detect(recording())
    assert plain.provenance["postprocessing"] == PostProcessing().to_dict()
    assert (found.events["onset"] + found.events["duration"]).max() <= 120


def test_progress_is_told_in_seconds_up_to_the_end():
    told: list[tuple[float, float]] = []
    detector().detect(recording(), stride=2, progress=lambda done, whole: told.append((done, whole)))
    done = [one for one, _ in told]
    assert done == sorted(set(done))
    assert len(done) > 2
    assert told[-1] == (118.0, 118.0)


def test_the_network_is_asked_as_it_is_used_and_nothing_is_left_to_be_differentiated():
    made = detector()
    assert not made.network.training
    assert made.detect(recording()).probability.size == 117
    assert all(p.grad is None for p in made.network.parameters())


# What goes in ----------------------------------------------------------------------------------------------------


def test_arrays_and_raw_objects_are_recordings_too():
    mne = pytest.importorskip("mne")
    made = detector()
    expected = made.detect(array())
    same(made.detect(from_array(values(5, 120.0, RAW), RAW, names=list("ABCDE"))), expected)
    info = mne.create_info(list("ABCDE"), RAW, "seeg")
    raw = mne.io.RawArray(values(5, 120.0, RAW) * 1e-6, info, verbose="error")
    same(made.detect(raw), expected, 1e-5)
    volts = array(unit="V")
    volts.values *= 1e-6
    same(made.detect(volts), expected, 1e-5)
    assert len(expected.events) > 2


def test_a_path_and_an_open_recording_give_the_same(tmp_path: Path):
    store = prepare(recording(id="one"), tmp_path / "s.zarr", preset="swec", sfreq=SFREQ, band=(0.5, 12.0))
    same(detector().detect(tmp_path / "s.zarr"), detector().detect(store["one"]))


def test_what_holds_no_recording_is_refused():
    with pytest.raises(
        ValueError, match="recording is a ndarray, expected a path, a Recording, a labelled array or an"
    ):
        detector().detect(values())
    with pytest.raises(ValueError, match=r"No sampling rate: pass sfreq in Hz \(an xarray may carry it"):
        detector().detect(xr.DataArray(values(), dims=("channel", "time"), coords={"channel": list("ABCDE")}))


# The contract ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ({"band": [0.5, 14.0]}, "band is 0.5 to 14.0 in the recordings and 0.5 to 12.0 in the contract"),
        ({"reference": "average"}, "reference is average in the recordings and median in the contract"),
        ({"sfreq": 64.0}, "sfreq is 64.0 in the recordings and 32.0 in the contract"),
        ({"notch": 10.0, "order": 2}, "notch is 10.0 in .* and None in the contract; order is 2 in .* and 4 in"),
    ],
)
def test_a_recording_that_was_prepared_otherwise_is_refused_with_what_differs(preset: dict[str, Any], message: str):
    about = {"provenance": {"preset": PRESET.to_json() | preset}}
    item = from_array(values(), preset.get("sfreq", SFREQ), id="one", about=about)
    with pytest.raises(ValueError, match=rf"one breaks the detector's contract: {message}.*Give the recording as it"):
        detector().detect(item)


def test_a_recording_that_was_prepared_as_it_must_be_is_not_prepared_again():
    made, item = detector(), recording(gaps=True)
    viewed = prepared_view(item, PRESET)
    before = made.detect(viewed)
    same(before, made.detect(item), 0)
    assert before.provenance["preparation"] == {"prepared_before": PRESET.to_json()}


def test_a_detector_that_does_not_know_its_preparation_reads_what_it_gets_and_says_so():
    made = Detector(classifier(), SignalSpec({}))
    found = made.detect(from_array(values(), SFREQ))
    assert "not known; read as it is" in found.provenance["preparation"]["none"]
    with pytest.raises(ValueError, match="array has 128 Hz, the detector was trained at 32 Hz: prepare it"):
        made.detect(recording())


def test_values_in_volts_that_do_not_say_so_are_refused():
    with pytest.raises(ValueError, match=r"array: The values look like volts read as microvolts.*pass `unit='V'`"):
        detector().detect(from_array(values(5, 120.0, RAW) * 1e-6, RAW))


def test_recordings_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match=r"array lasts 3.5 s, expected at least a window, 4 s"):
        detector().detect(from_array(values(seconds=3.5, sfreq=RAW), RAW))
    with pytest.raises(ValueError, match="no stretch without a gap that is long enough for the filters"):
        detector().detect(from_array(values(seconds=1.5, sfreq=RAW), RAW))


@pytest.mark.parametrize("of", ["file", "store"])
def test_a_recording_of_bad_channels_is_refused(of: str):
    item = recording(id="one") if of == "file" else prepared(values(), id="one")
    item = replace(item, channels=item.channels.assign(status="bad"))
    with pytest.raises(ValueError, match=r"one: all 5 (signal )?channels are bad, expected a good one"):
        detector().detect(item)


def test_bad_channels_are_not_read():
    item = prepared(values())
    bad = replace(item, channels=item.channels.assign(status=["good", "bad", "good", "good", "good"]))
    expected = detector().detect(item.pick(["C1", "C3", "C4", "C5"]))
    same(detector().detect(bad), expected)
    assert np.abs(expected.probability - detector().detect(item).probability).max() > 0.01


def test_more_channels_than_there_is_room_for_are_refused_with_what_may_be_done():
    with pytest.raises(ValueError, match=r"has 20 channels and the model has room for 12.*spread.*variance.*ensemble"):
        detector().detect(recording(20))


@pytest.mark.parametrize(("policy", "readings", "read"), [("spread", 1, 12), ("variance", 1, 12), ("ensemble", 2, 20)])
@pytest.mark.parametrize("asked", ["by the call", "as in training"])
def test_more_channels_are_read_as_a_policy_says_and_the_choice_is_told(
    policy: str, readings: int, read: int, asked: str
):
    item = prepared(values(20) * np.linspace(0.5, 2, 20)[:, None])
    made = detector({"more_channels": policy}) if asked == "as in training" else detector()
    found = made.detect(item, more_channels=None if asked == "as in training" else policy)
    told = found.provenance["channels"]
    assert (told["policy"], len(told["readings"]), told["read"], told["of"]) == (policy, readings, read, 20)
    assert len(told["left_out"]) == 20 - read
    assert [list(one) for one in found.readings] == told["readings"]
    each = [detector().detect(item.pick([item.names[i] for i in one])).probability for one in found.readings]
    np.testing.assert_allclose(found.probability, np.mean(each, axis=0), rtol=0, atol=CLOSE)


def test_missing_stretches_have_no_answer_or_are_read_over():
    item = recording(gaps=True)
    dropped, masked = (detector({"gaps": gaps}).detect(item).probability for gaps in ("drop", "mask"))
    assert np.isnan(dropped).sum() == 14
    assert 0 < np.isnan(masked).sum() < 14
    both = np.isfinite(dropped) & np.isfinite(masked)
    np.testing.assert_array_equal(dropped.values[both], masked.values[both])
    whole = detector().detect(recording()).probability
    assert np.isfinite(whole).all()
    assert np.abs(dropped - whole).max() > 1e-3  # what one channel lacks changes windows that have an answer


# The same as in training -----------------------------------------------------------------------------------------


def seizures_of(item: Recording) -> Recording:
    return replace(item, events=make_events([16.0, 64.0], [6.0, 6.0]))


@pytest.mark.parametrize("gaps", ["drop", "mask"])
def test_probabilities_and_scores_are_those_of_the_task_that_trained_it(
    gaps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    items = [seizures_of(recording(id="a", gaps=True)), seizures_of(recording(20, id="b"))]
    store = prepare(items, tmp_path / "s.zarr", preset="swec", sfreq=SFREQ, band=(0.5, 12.0))
    made = detector({"gaps": gaps, "more_channels": "ensemble"})
    made.save_pretrained(tmp_path / "detector")
    task = DetectTask(run=tmp_path / "detector", adapt="full")
    task.spec = task.load_weights(tmp_path / "detector")
    data = RecordingDataModule(
        tmp_path / "s.zarr", segments=SEGMENTS, segment_seconds=1.0, stride_seconds=1.0, eval_batch_size=7,
        max_channels=12, more_channels="ensemble", gaps=gaps,
    )  # fmt: skip
    collected: dict[str, xr.DataArray] = {}
    collect = DetectTask._collected

    def kept(self: DetectTask, *arguments: Any) -> Any:
        found = collect(self, *arguments)
        collected.update(found[0])
        return found

    monkeypatch.setattr(DetectTask, "_collected", kept)
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                                enable_model_summary=False)  # fmt: skip
    trainer.test(task, datamodule=data, verbose=False)
    assert task.scores is not None
    for id in ("a", "b"):
        found = made.detect(store[id])
        known = found.probability.dropna("time")
        tested = collected[id].sel(time=known["time"].values)
        np.testing.assert_allclose(tested, known, rtol=0, atol=CLOSE)
        assert collected[id].drop_sel(time=known["time"].values).isnull().all()
        assert found.probability.size - known.size == {("a", "drop"): 14, ("a", "mask"): 12}.get((id, gaps), 0)
        scored = score_events(items[0].events, found.events, 120.0).metrics
        assert scored["f1_event"] == pytest.approx(task.scores.per_recording.loc[id, "f1_event"])


# Files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    detector().save_pretrained(tmp_path / "detector")
    return tmp_path / "detector"


def test_a_saved_detector_comes_back_and_says_which_weights_it_has(folder: Path):
    found = Detector.from_pretrained(folder)
    same(found.detect(recording()), detector().detect(recording()), 0)
    assert found.spec == detector().spec
    assert found.about["checkpoint"] == checkpoint.digest(folder)
    assert found.about["checkpoint"]["file"] == "model.safetensors"


def test_the_hubs_mixin_leaves_the_configuration_as_it_is(folder: Path, tmp_path: Path):
    made = detector()
    checkpoint.export(tmp_path / "plain", made.network, made.spec, made.about)
    for name in ("config.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    made.save_pretrained(folder, overwrite=True)
    assert (folder / "config.json").read_bytes() == (tmp_path / "plain" / "config.json").read_bytes()


def test_what_is_there_is_not_overwritten_unless_asked(folder: Path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = detector(seed=1)
    with pytest.raises(FileExistsError, match=r"config.json exists already.*overwrite=True"):
        other.save_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(FileExistsError, match=r"model.safetensors exists already"):
        other.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before["model.safetensors"]
    other.save_pretrained(folder, overwrite=True)
    same(Detector.from_pretrained(folder).detect(recording()), other.detect(recording()), 0)


def test_a_path_that_is_not_there_is_an_error_and_nobody_is_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", refuse)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    for missing in ("owner/name", tmp_path / "none", str(tmp_path / "none.ckpt")):
        with pytest.raises(FileNotFoundError, match="No checkpoint at"):
            Detector.from_pretrained(missing)
    with pytest.raises(AssertionError, match="the network was asked"):
        Detector.from_pretrained("owner/name", offline=False)


def test_the_hub_gives_weights_and_configuration_and_nothing_that_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    asked: dict[str, Any] = {}

    def snapshot(repository: str, **wanted: Any) -> str:
        asked.update(wanted, repository=repository)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    found = Detector.from_pretrained("owner/name", offline=False, revision="abc")
    same(found.detect(recording()), detector().detect(recording()), 0)
    assert (asked["repository"], asked["revision"]) == ("owner/name", "abc")
    assert asked["allow_patterns"] == ["config.json", "model.safetensors"]
    assert Detector.from_pretrained(folder, offline=False).spec == found.spec  # what is here is not asked for


def test_what_is_pushed_is_what_is_saved(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def upload(self: Any, *, folder_path: Path, **_: Any) -> None:
        shutil.copytree(folder_path, tmp_path / "pushed")

    class Made:
        repo_id = "owner/name"

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *_, **__: Made())
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    detector().push_to_hub("owner/name")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "pushed" / name).read_bytes() == (folder / name).read_bytes()


def test_what_is_no_detector_is_refused(tmp_path: Path):
    made = classifier()
    checkpoint.export(tmp_path / "body", made.network, SignalSpec(PRESET.to_json()))
    with pytest.raises(ValueError, match="holds MVPFormer, expected a SegmentClassifier"):
        Detector.from_pretrained(tmp_path / "body")
    checkpoint.export(tmp_path / "table", ITransformer(context=8, horizon=4, d_model=8, heads=2, layers=1, d_ff=8))
    with pytest.raises(ValueError, match=r"holds ITransformer, expected a SegmentClassifier .*tsattn forecast"):
        Detector.from_pretrained(tmp_path / "table")
    checkpoint.export(tmp_path / "bare", made)
    with pytest.raises(ValueError, match="does not say what recordings its network was trained on"):
        Detector.from_pretrained(tmp_path / "bare")


def test_adapters_of_a_patient_are_added_and_named(folder: Path, tmp_path: Path):
    adapted = classifier(lora_rank=2)
    adapted.load_state_dict(classifier().state_dict(), strict=False)
    base = dict(classifier().named_parameters())
    for name, module_ in adapters(adapted):
        module_.weight.data.copy_(base[f"{name}.weight"])
    save_adapters(tmp_path / "patient", adapted)
    expected = Detector(adapted, detector().spec).detect(recording())
    found = Detector.from_pretrained(folder, adapter=tmp_path / "patient")
    same(found.detect(recording()), expected, 1e-5)
    assert np.abs(expected.probability - detector().detect(recording()).probability).max() > 0.05
    assert not list(adapters(found.network))
    assert found.about["adapter"] == checkpoint.digest(tmp_path / "patient" / "adapter_model.safetensors")
    assert found.about["checkpoint"] == checkpoint.digest(folder)
    told = found.detect(recording()).provenance["detector"]
    assert told["adapter"]["sha256"] == found.about["adapter"]["sha256"]
    found.save_pretrained(tmp_path / "merged")
    same(Detector.from_pretrained(tmp_path / "merged").detect(recording()), expected, 1e-5)


def test_adapters_on_a_detector_that_has_some_are_added_to_its_own(tmp_path: Path):
    first = classifier(lora_rank=2)
    merged = classifier(lora_rank=2).merged()
    patient = classifier(lora_rank=3, seed=4)
    save_adapters(tmp_path, patient)
    load_adapters(tmp_path, merged)
    found = Detector(first, detector().spec).with_adapter(tmp_path)
    same(found.detect(recording()), Detector(merged, detector().spec).detect(recording()))


def test_adapters_that_are_not_there_or_do_not_fit_are_refused(folder: Path, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"has no adapter_config.json, expected a folder of adapters"):
        Detector.from_pretrained(folder, adapter=tmp_path / "none")
    save_adapters(tmp_path / "wide", classifier(lora_rank=2, d_model=32))
    with pytest.raises(ValueError, match=r"the adapter of .* is .*, expected"):
        Detector.from_pretrained(folder, adapter=tmp_path / "wide")


# Interruptions ---------------------------------------------------------------------------------------------------

CHILD = """
import sys, time
from pathlib import Path
import torch
from small import values
from tsattn.detection import detector as module
from tsattn.recordings.recording import from_array

torch.set_num_threads(1)
module.SAVE_SECONDS = 0.0
folder, partial, marker = map(Path, sys.argv[1:])

def progress(done, whole):
    if done > 60:
        marker.write_text(str(done))
        time.sleep(600)

item = from_array(values(5, 120.0, 128.0), 128.0)
module.Detector.from_pretrained(folder).detect(item, partial=partial, progress=progress)
"""


def test_a_call_that_was_killed_goes_on_where_it_was(folder: Path, tmp_path: Path):
    partial, marker = tmp_path / "partial.npz", tmp_path / "marker"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(partial), str(marker)], cwd=Path(__file__).parent,
        stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        for _ in range(600):
            if marker.exists() and marker.stat().st_size:
                break
            assert child.poll() is None, child.stderr.read().decode() if child.stderr else ""
            time.sleep(0.1)
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    with np.load(partial) as file:
        saved = file["probability"]
    assert 40 < len(saved) <= 60
    made, item = Detector.from_pretrained(folder), from_array(values(5, 120.0, RAW), RAW)
    whole = made.detect(item)
    np.testing.assert_array_equal(saved, whole.probability[: len(saved)])
    told: list[float] = []
    again = made.detect(item, partial=partial, progress=lambda done, _: told.append(done))
    assert min(told) > len(saved)
    same(again, whole)
    np.testing.assert_array_equal(again.probability[: len(saved)], saved)
    assert not partial.exists()


def interrupted(made: Detector, item: Recording, partial: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Leave a partial file behind."""

    def stop(done: float, _: float) -> None:
        if done > 60:
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "SAVE_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        made.detect(item, partial=partial, progress=stop, **more)
    assert partial.is_file()


def other_weights(made: Detector) -> Detector:
    made.network.head.weight.data.mul_(-1)
    made.about = {}
    return made


def test_what_is_kept_of_the_same_call_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    partial, told = tmp_path / "partial.npz", []
    interrupted(detector(), recording(), partial, monkeypatch)
    detector().detect(recording(), partial=partial, progress=lambda done, _: told.append(done))
    assert min(told) > 60


@pytest.mark.parametrize(
    ("made", "item", "more"),
    [
        (lambda: other_weights(detector()), lambda: recording(), {}),
        (lambda: detector({"gaps": "mask"}), lambda: recording(), {}),
        (lambda: detector(), lambda: recording(6), {}),
        (lambda: detector(), lambda: recording(gaps=True), {}),
        (lambda: detector(), lambda: from_array(values(5, 120.0, RAW, seed=1), RAW), {}),
        (lambda: detector(), lambda: recording(), {"stride": 2}),
    ],
    ids=["weights", "gaps", "channels", "missing samples", "samples", "stride"],
)
def test_what_is_kept_of_another_call_is_ignored_with_a_warning(
    made: Any, item: Any, more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):  # fmt: skip
    partial = tmp_path / "partial.npz"
    before = detector()
    before.about = made().about
    interrupted(before, recording(), partial, monkeypatch)
    expected = made().detect(item(), **more)
    same(made().detect(item(), partial=partial, **more), expected, 0)
    assert "is of another recording, detector or setting: begun anew" in caplog.text
    assert not partial.exists()


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"PK\x03\x04 cut short", None], ids=["empty", "text", "zip", "cut"]
)
def test_a_damaged_partial_file_is_ignored_with_a_warning(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    partial = tmp_path / "partial.npz"
    interrupted(detector(), recording(), partial, monkeypatch)
    partial.write_bytes(partial.read_bytes()[:-40] if content is None else content)
    same(detector().detect(recording(), partial=partial), detector().detect(recording()), 0)
    assert "begun anew" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_nothing_is_written_if_nobody_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "SAVE_SECONDS", -1.0)
    detector().detect(recording())
    assert list(tmp_path.iterdir()) == []


# Domain, and answers that are none --------------------------------------------------------------------------------


DOMAIN = {"recordings": 3, "types": {"seeg": 3}, "sfreq": [SFREQ, SFREQ], "channels": [4, 6], "montage": ["single"]}


def scalp(**rest: Any) -> Recording:
    names = ["Fp1", "Fp2", "Fz", "Cz", "Pz"]
    return prepared(values(5), names=names, type="eeg", **rest)


def test_a_recording_that_is_unlike_the_training_is_said_and_strictly_refused(caplog: pytest.LogCaptureFixture):
    made = detector({"domain": DOMAIN})
    with caplog.at_level("WARNING"):
        found = made.detect(scalp())
    (sentence,) = found.provenance["unlike_training"]
    assert "channels of scalp EEG (eeg); the training recordings had" in sentence
    assert sentence in caplog.text
    assert sentence in found.provenance["notes"]
    assert found.provenance["training"] == DOMAIN
    with pytest.raises(ValueError, match=r"is unlike the recordings of the detector's training.*scalp EEG"):
        made.detect(scalp(), strict=True)
    assert made.detect(prepared(values(5)), strict=True).provenance["unlike_training"] == []


def test_each_way_of_being_unlike_has_its_sentence():
    made = detector({"domain": DOMAIN | {"sfreq": [256.0, 512.0]}})
    pairs = [f"LA{k}-LA{k + 1}" for k in range(1, 9)]
    told = " ".join(made.detect(prepared(values(8), names=pairs)).provenance["unlike_training"])
    assert "sampled at 32 Hz, the training recordings at 256 to 512 Hz: it holds nothing above 16 Hz" in told
    assert "The recording has 8 channels, the training recordings 4 to 6." in told
    assert "channels are pairs by their names, those of the training recordings single" in told


def test_a_checkpoint_that_does_not_know_its_training_says_so_and_nothing_else():
    found = detector().detect(scalp(), strict=True)
    assert found.provenance["training"] == "not known"
    assert found.provenance["unlike_training"] == []


def test_the_contract_keeps_its_domain(tmp_path: Path):
    detector({"domain": DOMAIN}).save_pretrained(tmp_path / "d")
    assert Detector.from_pretrained(tmp_path / "d").spec.domain == DOMAIN


@pytest.mark.parametrize("where", ["head.weight", "network"])
def test_one_weight_that_is_no_number_is_an_error_and_never_a_gap(where: str):
    made = detector()
    parameters = dict(made.network.named_parameters())
    name = next(name for name in parameters if name.startswith(where))
    with torch.no_grad():
        parameters[name].view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match=r"no answer for the window at .* s, where something was recorded"):
        made.detect(prepared(values(5)))
