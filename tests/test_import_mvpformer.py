"""`tsattn import-checkpoint --from mvpformer` and `braindecode`: from the authors' files to a detector.

Fixtures: TSATTN_SHARED/parity/mvpformer, random weights and what the authors' code says with them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support import SHARED, tsattn
from torch import Tensor

from tsattn import checkpoint
from tsattn.cli import main
from tsattn.convert import read_state
from tsattn.detection.detector import Detector
from tsattn.layers.lora import adapters
from tsattn.models.mvpformer import MVPFormer
from tsattn.recordings.preparation.preset import make_preset
from tsattn.recordings.recording import from_array

FOLDER = SHARED / "parity" / "mvpformer"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no fixtures in {FOLDER}: set TSATTN_SHARED")
UNTOLD = ["--given.window", "10", "--given.activation", "silu", "--given.global_attention", "true"]
GIVEN = ["--given.heads", "4", "--given.segments", "13", "--given.sfreq", "512", *UNTOLD]
BASE, HEAD = (FOLDER / f"classification_lora.{name}.pt" for name in ("base", "head"))


def run(*args: object) -> None:
    main(["import-checkpoint", *map(str, args)])


def refused(*args: object) -> str:
    with pytest.raises(SystemExit) as end:
        run(*args)
    assert isinstance(end.value.code, str)
    return end.value.code


def recorded(name: str) -> dict[str, Tensor]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if key in ("x", "logits", "input")}


def atol(name: str) -> float:
    return float(json.loads((FOLDER / "manifest.json").read_text())["fixtures"][name]["suggested_atol_fp32"])


@pytest.mark.parametrize("name", ["classification_lora", "classification_released_layout"])
def test_base_and_head_become_a_detector_that_says_what_the_authors_does(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    files = [FOLDER / f"{name}.{kind}.pt" for kind in ("base", "head")]
    run("--from", "mvpformer", *files, "--out", tmp_path / "out", *GIVEN)
    printed = capsys.readouterr().out
    for file in files:
        for key in read_state(file):
            assert key in printed, key  # what became of it
    assert f"written to {tmp_path / 'out'}; its contract: 512 Hz, 0.5-120 Hz, median reference" in printed
    about = json.loads((tmp_path / "out" / "config.json").read_text())["about"]
    assert about == {"imported_from": "mvpformer", "files": [checkpoint.digest(file) for file in files]}

    made, truth = Detector.from_pretrained(tmp_path / "out"), recorded(name)
    with torch.no_grad():
        torch.testing.assert_close(made.network(truth["x"]), truth["logits"], rtol=0, atol=atol(name))
    assert made.spec.preparation == make_preset("swec").to_json()
    assert len(list(adapters(made.network))) > 0
    about = {"provenance": {"preset": made.spec.preparation}}
    for signal, logits in zip(truth["x"], truth["logits"], strict=True):  # (segment, channel, time)
        item = from_array(signal.permute(1, 0, 2).flatten(1).numpy(), 512.0, about=about)
        found = made.detect(item).probability
        assert found.size == 1
        assert float(found[0]) == pytest.approx(float(logits.double().softmax(-1)[1]), abs=atol(name))


def test_a_base_file_alone_is_a_network_to_fine_tune_and_no_detector(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run("--from", "mvpformer", BASE, "--out", tmp_path, *GIVEN)
    loaded = checkpoint.load(tmp_path)
    assert isinstance(loaded.network, MVPFormer)
    assert f"--model.checkpoint {tmp_path}" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds MVPFormer, expected a SegmentClassifier"):
        Detector.from_pretrained(tmp_path)


def test_the_command_runs_in_a_process_of_its_own(tmp_path: Path):
    done = tsattn("import-checkpoint", "--from", "mvpformer", BASE, HEAD, "--out", "out", *GIVEN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]


def test_keys_that_are_missing_or_unknown_are_named_until_they_are_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    state = read_state(BASE)
    gone = "mvpformer.h.1.mlp.up_proj.weight"
    del state[gone]
    torch.save(state | {"stranger": torch.zeros(1)}, tmp_path / "changed.pt")
    arguments = ["--from", "mvpformer", tmp_path / "changed.pt", HEAD, "--out", tmp_path / "out", *GIVEN]
    assert f"1 keys missing: {gone}" in refused(*arguments)
    assert "1 unknown keys: stranger" in refused(*arguments, "--given.allow", f"[{gone}]")
    assert not (tmp_path / "out").exists()
    capsys.readouterr()
    run(*arguments, "--given.allow", f"[{gone}, stranger]")
    lines = capsys.readouterr().out.splitlines()
    assert "stays as it was initialised, as allowed" in next(line for line in lines if gone in line)
    assert "has no place here, as allowed" in next(line for line in lines if "stranger" in line)
    assert Detector.from_pretrained(tmp_path / "out").network.network.layers[1].feedforward.up.weight.std() > 0


def test_one_file_with_adapters_needs_to_be_told_whether_they_are_merged(tmp_path: Path):
    torch.save(read_state(BASE) | read_state(HEAD), tmp_path / "one.pt")
    arguments = ["--from", "mvpformer", tmp_path / "one.pt", "--out", tmp_path / "out", *GIVEN]
    assert "--given.merged true or --given.merged false" in refused(*arguments)
    run(*arguments, "--given.merged", "false")
    truth = recorded("classification_lora")
    with torch.no_grad():
        found = Detector.from_pretrained(tmp_path / "out").network(truth["x"])
    torch.testing.assert_close(found, truth["logits"], rtol=0, atol=atol("classification_lora"))


def test_wrong_files_and_arguments_end_in_one_sentence(tmp_path: Path):
    (tmp_path / "cut.pt").write_bytes(BASE.read_bytes()[:5000])
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "config.json").write_text("mine")
    out = ["--out", tmp_path / "out"]
    for arguments, message in [
        ([tmp_path / "none.pt", *out, *GIVEN], "none.pt is no file, expected an authors' state dict"),
        ([BASE, tmp_path / "none.pt", *out, *GIVEN], "none.pt is no file"),
        ([tmp_path / "cut.pt", *out, *GIVEN], "is cut short, or holds more than tensors"),
        ([HEAD, BASE, *out, *GIVEN], "expected IBM's base file first"),
        ([BASE, HEAD, HEAD, *out, *GIVEN], "3 files were given, expected one or two"),
        ([BASE, HEAD, *out], "heads, segments, sfreq, window, activation, global_attention not given, and no shape"),
        ([BASE, HEAD, *out, *GIVEN, "--given.headz", 4], "MVPFormer has no argument 'headz'"),
        ([BASE, HEAD, *out, *GIVEN, "--given.heads", 5], "heads=5 given, expected a divisor of 32"),
        ([BASE, HEAD, "--out", tmp_path / "there", *GIVEN], "config.json exists already"),
    ]:
        assert message in refused("--from", "mvpformer", *arguments), message
    assert "--from is 'ibm', expected one of" in refused("--from", "ibm", BASE, *out)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "there" / "config.json").read_text() == "mine"
    run("--from", "mvpformer", BASE, "--out", tmp_path / "there", *GIVEN, "--overwrite")
    assert isinstance(checkpoint.load(tmp_path / "there").network, MVPFormer)


@pytest.mark.parametrize("name", ["braindecode_tiny", "braindecode_window"])
def test_weights_of_braindecode_become_a_detector_that_reads_recordings(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = FOLDER / "braindecode" / f"{name}.safetensors"
    config: dict[str, Any] = json.loads(file.with_suffix(".json").read_text())["config"]
    seconds = config["segment_len"] / config["sfreq"]
    run(
        "--from", "braindecode", file, "--out", tmp_path / "out", "--given.heads", config["n_heads"],
        "--given.sfreq", config["sfreq"], "--given.segment_seconds", seconds, "--given.segments", config["T"],
        *UNTOLD,
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert all(key in printed for key in load_file(file))
    assert "its contract: 128 Hz, from 0.5 Hz on, median reference" in printed
    made, truth = Detector.from_pretrained(tmp_path / "out"), recorded(f"braindecode/{name}")
    signal = truth["input"].unflatten(-1, (config["T"], -1)).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(made.network(signal), truth["logits"], rtol=0, atol=1e-4)
    item = from_array(np.random.default_rng(0).normal(size=(3, 512 * 60)) * 50, 512.0)
    found = made.detect(item)  # 120 Hz do not exist at 128 Hz
    assert found.probability.notnull().all()
    assert found.provenance["preparation"]["steps"][2]["band"] == [0.5, None]
