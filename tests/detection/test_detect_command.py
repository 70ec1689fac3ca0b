"""`tsattn detect` and `tsattn export`: from files to files, and one sentence where something is wrong."""

import contextlib
import json
import re
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small import FITTED, PRESET, classifier, detector, values
from support import tsattn

from tsattn import checkpoint
from tsattn.cli import main
from tsattn.commands.detect import move
from tsattn.contracts import SignalSpec
from tsattn.detection.detector import Detector
from tsattn.events.files import read_events, write_events
from tsattn.events.table import make_events
from tsattn.layers.lora import adapters, load_adapters
from tsattn.models.itransformer import ITransformer
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import Recording, from_array
from tsattn.tasks.detect import DetectTask

edfio = pytest.importorskip("edfio")
RAW = 128.0
NEVER = re.compile(
    rb"Quombat|Zyxwilda|HN4711887|Grobnikow|1962-03-04|04-MAR-1962|2019-07-23|23-JUL-2019", re.IGNORECASE
)


def edf(path: Path, scale: float = 1.0, seconds: float = 100.0) -> Path:
    """Five channels with a seizure that the file marks, of a person whom it names."""
    x = np.clip(values(5, seconds, RAW), -490, 490) * scale
    signals = [
        edfio.EdfSignal(row, RAW, label=f"LA{i + 1}", physical_dimension="uV",
                        physical_range=(-500 * scale, 500 * scale), transducer_type="Grobnikow")
        for i, row in enumerate(x)
    ]  # fmt: skip
    file = edfio.Edf(
        signals,
        patient=edfio.Patient(code="HN4711887", birthdate=date(1962, 3, 4), name="Zyxwilda_Quombat"),
        recording=edfio.Recording(startdate=date(2019, 7, 23), investigator_technician_code="Grobnikow"),
        starttime=datetime(2019, 7, 23, 14, 15, 16).time(),
        data_record_duration=1.0,
        annotations=[edfio.EdfAnnotation(16.0, 6.0, "seizure, Mrs Quombat")],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(file.to_bytes()))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A recording, a detector that knows it, and one that has adapters."""
    folder = tmp_path_factory.mktemp("made")
    detector().save_pretrained(folder / "detector")
    spec = SignalSpec(PRESET.to_json(), postprocessing=FITTED.to_dict())
    checkpoint.export(folder / "adapted", classifier(lora_rank=2, seed=3), spec, {"seed": 3})
    return {
        "recording": edf(folder / "Quombat, Zyxwilda" / "Quombat.Zyxwilda 1962-03-04.edf"),
        "detector": folder / "detector",
        "adapted": folder / "adapted",
    }


def run(made: dict[str, Path], *args: object, given: str = "detector") -> None:
    main(["detect", "--checkpoint", str(made[given]), "--recording", str(made["recording"]), *map(str, args)])


def refused(*args: object) -> str:
    """Run a command that must end in one sentence; return it."""
    with pytest.raises(SystemExit) as end:
        main(list(map(str, args)))
    assert isinstance(end.value.code, str)
    assert "\n" not in end.value.code
    return end.value.code


def refused_detect(made: dict[str, Path], *args: object, **other: Path) -> str:
    paths = made | other
    return refused("detect", "--checkpoint", paths["detector"], "--recording", paths["recording"], *args)


# What is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["tsv", "csv", "edf"])
def test_events_and_where_they_come_from_are_written(
    ending: str, made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "new" / f"events.{ending}"
    run(made, "--out", out, "--probabilities", tmp_path / "p.csv")
    expected = Detector.from_pretrained(made["detector"]).detect(made["recording"])
    written = read_events(out).events
    assert len(written) == len(expected.events) > 2
    np.testing.assert_allclose(written[["onset", "duration"]], expected.events[["onset", "duration"]], atol=0.01)
    told = json.loads(out.with_suffix(".json").read_text())
    assert told["detector"]["checkpoint"] == checkpoint.digest(made["detector"])
    assert told["postprocessing"] == FITTED.to_dict()
    assert told["recording"]["duration_s"] == 100.0
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table.columns) == ["window_begin_s", "spoken_of_s", "probability"]
    times = expected.probability["time"].values
    truth = np.stack([times, times + 3.0, expected.probability.values], axis=1)
    np.testing.assert_allclose(table.to_numpy(), truth, rtol=0, atol=1e-6)
    printed = capsys.readouterr().out
    assert f"{len(written)} events in 0.03 h" in printed
    assert "Not a medical device" in printed
    assert f"written to events.{ending}, events.json, p.csv" in printed
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []


def test_the_threshold_stride_and_channels_are_the_users_to_say(made: dict[str, Path], tmp_path: Path):
    run(made, "--out", tmp_path / "e.tsv", "--threshold", 0.9, "--stride", 2)
    told = json.loads((tmp_path / "e.json").read_text())
    assert told["postprocessing"] == FITTED.to_dict() | {"threshold": 0.9}
    assert told["geometry"]["stride"] == 2
    run(made, "--out", tmp_path / "low.tsv", "--threshold", 0.3)
    assert json.loads((tmp_path / "low.json").read_text())["postprocessing"]["low"] == 0.3


def test_seizures_that_are_marked_are_scored_and_an_experts_file_goes_first(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run(made, "--out", tmp_path / "a.tsv")
    assert "against 1 marked seizure: sensitivity 1.000" in capsys.readouterr().out
    write_events(tmp_path / "expert.tsv", make_events([16.0, 64.0], [6.0, 6.0]), "szcore", duration=100.0)
    run(made, "--out", tmp_path / "b.tsv", "--reference", tmp_path / "expert.tsv")
    assert "against 2 marked seizures: sensitivity 1.000" in capsys.readouterr().out
    write_events(tmp_path / "calm.tsv", make_events([], []), "szcore", duration=100.0)
    run(made, "--out", tmp_path / "c.tsv", "--reference", tmp_path / "calm.tsv")
    assert re.search(r"against 0 marked seizures: [\d.]+ false detections an hour", capsys.readouterr().out)


def test_a_recording_of_a_store_is_named_by_its_id(made: dict[str, Path], tmp_path: Path):
    items = [from_array(values(5, 60.0, RAW, seed=k), RAW, id=f"sub-{k}") for k in (1, 2)]
    prepare(items, tmp_path / "s.zarr", preset="swec", sfreq=32.0, band=(0.5, 12.0))
    main(["detect", "--checkpoint", str(made["detector"]), "--recording", f"{tmp_path}/s.zarr/sub-2", "--out",
          f"{tmp_path}/e.tsv"])  # fmt: skip
    assert json.loads((tmp_path / "e.json").read_text())["recording"]["id"] == "sub-2"
    args = {"recording": tmp_path / "s.zarr" / "sub-3"}
    assert "no recording 'sub-3'; it has sub-1, sub-2" in refused_detect(made, "--out", tmp_path / "f.tsv", **args)
    args = {"recording": tmp_path / "s.zarr" / "sub-1"}
    message = refused_detect(made, "--out", tmp_path / "f.tsv", "--unit", "mV", **args)
    assert "`--unit` was given for a store, where it is settled" in message
    message = refused_detect(made, "--out", tmp_path / "f.tsv", recording=tmp_path / "s.zarr")
    assert "There are 2 recordings there, expected one" in message


def test_words_that_mean_a_seizure_are_those_of_the_recordings_own_marks(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """By both doors: the command scores against the marks that `Detector.detect` finds with the same words."""
    file = edfio.read_edf(edf(tmp_path / "a.edf"))
    file.set_annotations([edfio.EdfAnnotation(16.0, 6.0, "detection"), edfio.EdfAnnotation(40.0, 5.0, "spike")])
    file.write(tmp_path / "b.edf")
    given = {**made, "recording": tmp_path / "b.edf"}
    run(given, "--out", tmp_path / "a.tsv")
    assert "against" not in capsys.readouterr().out
    words = ("--seizure_words", "[detection]", "--keep_text", "[spike]")
    run(given, "--out", tmp_path / "b.tsv", *words)
    assert "against 1 marked seizure: sensitivity 1.000" in capsys.readouterr().out
    options = {"seizure_words": ("detection",), "keep_text": ("spike",)}
    found = Detector.from_pretrained(made["detector"]).detect(tmp_path / "b.edf", **options)
    assert found.recording.events["event_type"].tolist() == ["sz", "annotation"]
    assert found.recording.events["text"].tolist() == ["", "spike"]


def test_words_that_mean_a_seizure_are_those_of_the_reference(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "expert.tsv").write_text("onset\tduration\ttrial_type\n16\t6\tdetection\n")
    message = refused_detect(made, "--out", tmp_path / "a.tsv", "--reference", tmp_path / "expert.tsv")
    assert "Name the texts that mean a seizure by `--seizure_words`." in message
    reference = ("--reference", tmp_path / "expert.tsv", "--seizure_words", "[detection]")
    run(made, "--out", tmp_path / "b.tsv", *reference)
    assert "against 1 marked seizure: sensitivity 1.000" in capsys.readouterr().out


def test_an_answer_that_is_not_a_number_is_refused_and_nothing_is_written(made: dict[str, Path], tmp_path: Path):
    broken = detector()
    with torch.no_grad():
        broken.network.network.get_parameter(next(iter(dict(broken.network.network.named_parameters())))).fill_(1e38)
    broken.save_pretrained(tmp_path / "broken")
    message = refused_detect({**made, "detector": tmp_path / "broken"}, "--out", tmp_path / "a.tsv")
    assert re.search(r"no answer for the window at [\d.]+ s, where something was recorded", message)
    assert message.rstrip().endswith("Nothing was written.")
    assert not (tmp_path / "a.tsv").exists()


def test_the_name_of_a_person_comes_out_nowhere(
    made: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setenv("TSATTN_SALT", "a secret of the test")
    monkeypatch.delenv("TSATTN_SHOW_NAMES", raising=False)
    header = made["recording"].read_bytes()
    assert len(set(NEVER.findall(header))) >= 4  # else this could not fail
    caplog.set_level("DEBUG")
    with contextlib.chdir(tmp_path):
        for ending in ("tsv", "csv", "edf"):
            report = ["--report", f"{ending}/report.html", "--explain", 1] if ending == "tsv" else []
            run(made, "--out", f"{ending}/events.{ending}", "--probabilities", f"{ending}/p.csv", *report)
        told = [
            refused_detect(made, "--out", "events.tsv", "--stride", 0),
            refused_detect(made, "--out", "events.tsv", recording=edf(tmp_path / "in" / "Quombat.edf", seconds=2.0)),
            refused_detect(made, "--out", "events.tsv", recording=tmp_path / "Zyxwilda missing.edf"),
        ]
        cut = tmp_path / "in" / "Zyxwilda cut.edf"
        cut.write_bytes(header[:700])
        told.append(refused_detect(made, "--out", "events.tsv", recording=cut))
    (tmp_path / "in").rename(tmp_path.parent / f"in of {tmp_path.name}")
    seen = [*told, *capfd.readouterr(), *(record.getMessage() for record in caplog.records)]
    assert not [text for text in seen if NEVER.search(text.encode())]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 3 * 3 + 1
    for path in written:
        assert not NEVER.search(path.read_bytes()), path.name


def test_the_whole_command_runs_in_a_process_of_its_own(made: dict[str, Path], tmp_path: Path):
    done = tsattn(
        "detect", "--checkpoint", made["detector"], "--recording", made["recording"], "--out", "events.tsv",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "events in 0.03 h" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.json", "events.tsv"]


# What is refused -------------------------------------------------------------------------------------------------


def test_nothing_that_is_there_is_written_over(made: dict[str, Path], tmp_path: Path):
    arguments = ["--out", tmp_path / "e.tsv", "--report", tmp_path / "r.html", "--probabilities", tmp_path / "p.csv"]
    for name in ("e.tsv", "e.json", "r.html", "p.csv"):
        (tmp_path / name).write_text("mine")
        assert "exists already. Choose another path, or pass --overwrite true" in refused_detect(made, *arguments)
        assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
        (tmp_path / name).unlink()
    (tmp_path / "e.tsv").write_text("mine")
    run(made, "--out", tmp_path / "e.tsv", "--overwrite")
    assert len(read_events(tmp_path / "e.tsv").events) > 2


def test_no_output_replaces_another_one_or_what_is_read(made: dict[str, Path], tmp_path: Path):
    message = refused_detect(made, "--out", tmp_path / "e.csv", "--probabilities", tmp_path / "e.csv")
    assert "Two outputs have the same path" in message
    message = refused_detect(made, "--out", tmp_path / "e.csv", "--report", tmp_path / "x" / ".." / "e.json")
    assert "Two outputs have the same path" in message
    mine = edf(tmp_path / "mine.edf")
    before = mine.read_bytes()
    message = refused_detect(made, "--out", mine, "--overwrite", recording=mine)
    assert "would replace the recording" in message
    assert mine.read_bytes() == before
    expert = tmp_path / "expert.csv"
    message = refused_detect(made, "--out", expert, "--reference", expert, "--overwrite")
    assert "would replace the recording, the reference" in message
    assert list(tmp_path.iterdir()) == [mine]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--out", "events.txt"], r"--out ends in .txt, expected .tsv, .csv or .edf"),
        (["--out", "e.tsv", "--stride", "0"], "stride is 0 segments, expected at least 1"),
        (["--out", "e.tsv", "--threshold", "1.5"], "threshold is 1.5, expected above 0 and at most 1"),
        (
            ["--out", "e.tsv", "--more_channels", "crop"],
            "--more_channels is 'crop', expected one of raise, spread, variance, ensemble",
        ),
        (["--out", "e.tsv", "--device", "gpu"], "--device gpu cannot be used: "),
        (["--out", "e.tsv", "--reference", "none.tsv"], "The reference is not there"),
    ],
)
def test_options_that_have_no_sense_are_refused_before_anything_is_written(
    args: list[str], message: str, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert re.search(message, refused_detect(made, *args))
    assert list(tmp_path.iterdir()) == []


def test_a_reference_that_nobody_understands_is_refused_before_the_work(made: dict[str, Path], tmp_path: Path):
    expert = tmp_path / "expert.csv"
    expert.write_text("onset,duration,event_type\n16.0,6.0,Anfall\n")
    message = refused_detect(made, "--out", tmp_path / "e.tsv", "--reference", expert)
    assert "The reference has 1 rows, none of them a seizure by its text and none that says bckg" in message
    assert "Anfall" not in message


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_said_in_a_sentence():
    with pytest.raises(ValueError, match=r"--device cuda cannot be used: "):
        move(detector(), "cuda")


def test_recordings_that_break_the_contract_are_refused(made: dict[str, Path], tmp_path: Path):
    volts = edf(tmp_path / "in" / "v.edf", scale=1e-3)
    message = refused_detect(made, "--out", tmp_path / "e.tsv", recording=volts)
    assert re.search("rec-[0-9a-f]{12}: The values look like millivolts read as microvolts.*pass `--unit mV`", message)
    assert "implausible" not in message  # there is no such option here
    run(made | {"recording": volts}, "--out", tmp_path / "e.tsv", "--unit", "mV")
    message = refused_detect(made, "--out", tmp_path / "f.tsv", recording=tmp_path / "none.edf")
    assert re.search(r"rec-[0-9a-f]{12}\.edf", message)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_checkpoints_that_are_none_end_in_one_sentence_each(made: dict[str, Path], tmp_path: Path):
    (tmp_path / "cut.ckpt").write_bytes((made["detector"] / "model.safetensors").read_bytes()[:1000])
    torch.save({"tsattn": Bomb(tmp_path / "ran"), "state_dict": {}}, tmp_path / "bomb.ckpt")
    checkpoint.export(tmp_path / "table", ITransformer(context=8, horizon=4, d_model=8, heads=2, layers=1, d_ff=8))
    checkpoint.export(tmp_path / "body", classifier().network, SignalSpec(PRESET.to_json()))
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_bytes((made["detector"] / "config.json").read_bytes())
    (damaged / "model.safetensors").write_bytes((made["detector"] / "model.safetensors").read_bytes()[:-100])
    for name, expected in {
        "none.ckpt": "No checkpoint at",
        "cut.ckpt": "is cut short or not a checkpoint",
        "bomb.ckpt": "cannot be read safely as a checkpoint",
        "table": "holds ITransformer, expected a SegmentClassifier (`tsattn forecast` takes forecasters",
        "body": "holds MVPFormer, expected a SegmentClassifier",
        "damaged": "is damaged",
    }.items():
        assert expected in refused_detect(made, "--out", tmp_path / "e.tsv", detector=tmp_path / name), name
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "e.tsv").exists()


# Weights ---------------------------------------------------------------------------------------------------------


def probabilities(folder: Path, recording: Path, **more: Any) -> np.ndarray:
    return Detector.from_pretrained(folder, **more).detect(recording).probability.values


def test_export_writes_a_network_as_it_is_or_merged(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    expected = probabilities(made["adapted"], made["recording"])
    for form in ("as-is", "merged"):
        main(["export", "--checkpoint", str(made["adapted"]), "--out", str(tmp_path / form), "--form", form])
        found = checkpoint.load(tmp_path / form)
        assert len(list(adapters(found.network))) == (4 if form == "as-is" else 0)
        assert found.about["exported_from"] == checkpoint.digest(made["adapted"])
        assert found.about["seed"] == 3
        assert found.spec == checkpoint.load(made["adapted"]).spec
        np.testing.assert_allclose(probabilities(tmp_path / form, made["recording"]), expected, atol=1e-5)
    assert f"written to {tmp_path / 'merged'}" in capsys.readouterr().out
    message = refused("export", "--checkpoint", made["adapted"], "--out", tmp_path / "merged")
    assert "config.json exists already" in message


def test_a_patients_adapters_are_exported_and_added_by_detect(made: dict[str, Path], tmp_path: Path):
    """As in use: a finished detector, adapted to one person, whose adapters alone are kept."""
    task = DetectTask(made["detector"], adapt="subject", lora_rank=2)
    torch.manual_seed(5)
    for _, module in adapters(task.network):
        torch.nn.init.normal_(module.lora_B, std=0.3)
    fitted = replace(detector().spec, postprocessing=FITTED.to_dict() | {"threshold": 0.8})
    checkpoint.export(tmp_path / "run", task.network, fitted, task.about)
    main(["export", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "patient"), "--form", "adapter"])
    told = json.loads((tmp_path / "patient" / "adapter_config.json").read_text())["tsattn"]
    assert told["exported_from"] == checkpoint.digest(tmp_path / "run")
    run(made, "--out", tmp_path / "e.tsv", "--adapter", tmp_path / "patient", "--probabilities", tmp_path / "p.csv")
    found = pd.read_csv(tmp_path / "p.csv")["probability"].to_numpy()
    np.testing.assert_allclose(found, probabilities(tmp_path / "run", made["recording"]), atol=1e-5)
    assert np.abs(found - probabilities(made["detector"], made["recording"])).max() > 0.01
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["postprocessing"]["threshold"] == 0.8  # what was fitted for the patient goes with the adapters
    assert written["detector"]["adapter"] == checkpoint.digest(tmp_path / "patient" / "adapter_model.safetensors")
    assert load_adapters(tmp_path / "patient", checkpoint.load(made["detector"]).network) == told


def test_what_cannot_be_exported_so_is_refused(made: dict[str, Path], tmp_path: Path):
    message = refused("export", "--checkpoint", made["detector"], "--out", tmp_path / "a", "--form", "adapter")
    assert "The network has no adapters to save" in message
    checkpoint.export(tmp_path / "table", ITransformer(context=8, horizon=4, d_model=8, heads=2, layers=1, d_ff=8))
    message = refused("export", "--checkpoint", tmp_path / "table", "--out", tmp_path / "a", "--form", "merged")
    assert "holds ITransformer, which has no adapters to merge" in message
    assert not (tmp_path / "a").exists()
    message = refused_detect(made, "--out", tmp_path / "e.tsv", "--adapter", tmp_path / "none")
    assert "has no adapter_config.json, expected a folder of adapters" in message


def test_a_recording_is_opened_with_what_the_user_says_of_it(made: dict[str, Path], tmp_path: Path):
    run(made, "--out", tmp_path / "e.tsv", "--subject", "sub-7", "--type", "ecog")
    assert json.loads((tmp_path / "e.json").read_text())["recording"]["subject"] == "sub-7"
    assert Recording.open(made["recording"], type="ecog").channels["type"].eq("ecog").all()


@pytest.mark.parametrize("problem", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interrupt_leaves_nothing_that_needs_overwrite(
    problem: BaseException, made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arguments = ["--out", tmp_path / "e.tsv", "--probabilities", tmp_path / "p.csv", "--report", tmp_path / "r.html"]

    def fails(*_: object) -> None:
        raise problem

    with monkeypatch.context() as patched:
        patched.setattr("tsattn.commands.detect.write_report", fails)
        with pytest.raises((SystemExit, KeyboardInterrupt)):
            run(made, *arguments)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    run(made, *arguments)
    assert (tmp_path / "r.html").exists()


def test_the_command_says_when_a_recording_is_unlike_the_training(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    domain = {"recordings": 1, "types": {"eeg": 1}, "sfreq": [RAW, RAW], "channels": [5, 5], "montage": ["single"]}
    detector({"domain": domain}).save_pretrained(tmp_path / "d")
    other = made | {"detector": tmp_path / "d"}
    run(other, "--out", tmp_path / "e.tsv", "--report", tmp_path / "r.html")
    sentence = "The recording has channels of depth electrodes (seeg); the training recordings had scalp EEG (eeg)."
    assert f"warning: {sentence}" in capsys.readouterr().out
    assert sentence in json.loads((tmp_path / "e.json").read_text())["unlike_training"]
    assert sentence in (tmp_path / "r.html").read_text()
    assert sentence in refused_detect(other, "--out", tmp_path / "s.tsv", "--strict")
    assert not (tmp_path / "s.tsv").exists()
