"""Weights that are not finite numbers, or do not fit their recipe, are refused before anything is built."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import tsattn
from tsattn import checkpoint
from tsattn.contracts import SignalSpec, TableSpec
from tsattn.convert import read_state
from tsattn.detection.detector import Detector
from tsattn.forecasting.forecaster import Forecaster
from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.lora import save_adapters
from tsattn.layers.probabilistic import with_levels
from tsattn.models.itransformer import ITransformer
from tsattn.models.mvpformer import MVPFormer
from tsattn.recordings.recording import from_array

SPEC = TableSpec(("a", "b"), 2, (1.0, 2.0), (3.0, 4.0), "h", ("hour",), 24)


def forecaster() -> ITransformer:
    torch.manual_seed(0)
    return ITransformer(8, 4, d_model=8, heads=2, layers=1, d_ff=8)


def detector() -> SegmentClassifier:
    torch.manual_seed(0)
    sizes = dict(sfreq=32.0, segment_seconds=1.0, segments=3, d_model=8, layers=1, heads=2, kv_heads=1, d_ff=8)
    made = SegmentClassifier(MVPFormer(**sizes, positions=4, max_channels=4), lora_rank=2)
    for parameter in made.parameters():
        parameter.data.normal_(std=0.3)
    return made


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None], name: str = "model") -> None:
    weights = load_file(folder / f"{name}.safetensors")
    change(weights)
    save_file(weights, folder / f"{name}.safetensors")


def first_of(weights: dict[str, torch.Tensor]) -> str:
    return next(name for name in sorted(weights) if weights[name].is_floating_point() and weights[name].ndim == 2)


def put(value: Any) -> Callable[[dict[str, torch.Tensor]], None]:
    """Return a change of one number of one weight, or of the weight's type."""

    def change(weights: dict[str, torch.Tensor]) -> None:
        name = first_of(weights)
        if isinstance(value, torch.dtype):
            weights[name] = weights[name].to(value)
        else:
            weights[name] = weights[name].double() if abs(value) > 1e300 and np.isfinite(value) else weights[name]
            weights[name].view(-1)[0] = value

    return change


BAD = {
    "nan": (put(float("nan")), "not finite numbers"),
    "inf": (put(float("inf")), "not finite numbers"),
    "int8": (put(torch.int8), "is int8, expected float32"),
    "bool": (put(torch.bool), "is bool, expected float32"),
    "int64": (put(torch.int64), "is int64, expected float32"),
    "complex": (put(torch.complex64), "is complex64, expected plain real numbers"),
    "too large": (put(1e301), "too large for float32"),
}


@pytest.mark.parametrize("kind", BAD)
def test_both_kinds_of_networks_refuse_weights_that_are_no_finite_real_numbers(kind: str, tmp_path: Path):
    change, said = BAD[kind]
    checkpoint.export(tmp_path / "forecaster", forecaster(), SPEC)
    checkpoint.export(tmp_path / "detector", detector(), SignalSpec({"sfreq": 32.0}))
    for name, load in (("forecaster", Forecaster.from_pretrained), ("detector", Detector.from_pretrained)):
        load(tmp_path / name)
        change_weights(tmp_path / name, change)
        with pytest.raises(ValueError, match=said) as refused:
            load(tmp_path / name)
        assert str(tmp_path / name) in str(refused.value)


def test_half_precision_is_taken(tmp_path: Path):
    checkpoint.export(tmp_path / "folder", forecaster(), SPEC)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        change_weights(tmp_path / "folder", put(dtype))
        Forecaster.from_pretrained(tmp_path / "folder")


@pytest.mark.parametrize("kind", ["nan", "inf", "int8"])
def test_adapters_are_held_to_the_same(kind: str, tmp_path: Path):
    change, said = BAD[kind]
    save_adapters(tmp_path / "adapter", detector(), also=["head"])
    checkpoint.export(tmp_path / "detector", detector().merged(), SignalSpec({"sfreq": 32.0}))
    whole = Detector.from_pretrained(tmp_path / "detector", adapter=tmp_path / "adapter")
    assert isinstance(whole, Detector)
    change_weights(tmp_path / "adapter", change, "adapter_model")
    with pytest.raises(ValueError, match=said.partition(",")[0]):
        Detector.from_pretrained(tmp_path / "detector", adapter=tmp_path / "adapter")


def test_adapters_with_a_strength_that_is_no_number_are_refused(tmp_path: Path):
    made = detector()
    save_adapters(tmp_path / "adapter", made)
    path = tmp_path / "adapter/adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 16.0', '"lora_alpha": NaN'))
    with pytest.raises(ValueError, match="lora_alpha is nan"):
        Detector(made.merged(), SignalSpec({})).with_adapter(tmp_path / "adapter")


def test_authors_weights_are_held_to_the_same(tmp_path: Path):
    torch.save({"state_dict": {"a.weight": torch.tensor([1.0, float("nan")])}}, tmp_path / "authors.pth")
    with pytest.raises(ValueError, match=r"authors.pth: a.weight holds values that are not finite"):
        read_state(tmp_path / "authors.pth")


def test_a_run_is_not_continued_from_weights_that_are_not_finite(run: Path, tmp_path: Path):
    state = torch.load(run / "best.ckpt", weights_only=True)
    name = first_of(state["state_dict"])
    state["state_dict"][name][0, 0] = float("nan")
    torch.save(state, tmp_path / "best.ckpt")
    for load in (checkpoint.load, checkpoint.read_lightning, Forecaster.from_pretrained):
        with pytest.raises(ValueError, match=f"best.ckpt: {name} holds values that are not finite"):
            load(tmp_path / "best.ckpt")


def test_an_answer_that_is_not_finite_is_no_gap():
    made = detector()
    found = Detector(made, SignalSpec({}))
    values = np.random.default_rng(0).normal(0, 20, (3, 320)).astype(np.float32)
    recording = from_array(values, 32.0, id="a")
    assert np.isfinite(found.detect(recording).probability.values).all()
    next(made.network.parameters()).data.fill_(float("nan"))  # as an overflow on some device would
    with pytest.raises(ValueError, match=r"no answer for the window at .* s, where something was recorded"):
        found.detect(recording)


def test_a_forecast_that_is_not_finite_is_an_error():
    frame = pd.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) % 7})
    frame.insert(0, "date", np.datetime64("2024-01-01") + np.arange(40) * np.timedelta64(1, "h"))
    made = tsattn.Forecaster("itransformer", context=8, horizon=4, d_model=8, d_ff=8, heads=1).fit(frame, max_epochs=1)
    made.predict(frame)
    next(made.network.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="The forecast of 'a' is not a finite number"):
        made.predict(frame)


# Sizes -----------------------------------------------------------------------------------------------------------

SIZES: dict[str, Any] = {
    "layers": 100_000, "d_model": 10**9, "horizon": 10**9, "context": 10**9, "d_ff": 10**12, "heads": 10**6,
}  # fmt: skip
LIMITED = """
import resource, sys
from tsattn import checkpoint, files, forecasting, detection
import tsattn.forecasting.forecaster, tsattn.detection.detector, tsattn.models.itransformer, tsattn.models.mvpformer
import time
begin = time.perf_counter()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    for load in (tsattn.Forecaster.from_pretrained, tsattn.Detector.from_pretrained, checkpoint.load):
        try:
            load(path)
        except ValueError as problem:
            pass
        else:
            sys.exit(f"{path} was loaded")
print(time.perf_counter() - begin, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_a_recipe_larger_than_its_weights_costs_neither_time_nor_memory(run: Path, tmp_path: Path):
    paths = []
    for name, value in SIZES.items():
        folder = tmp_path / name
        checkpoint.export(folder, forecaster(), SPEC)
        config = json.loads((folder / "config.json").read_text())
        config["network"]["init_args"][name] = value
        (folder / "config.json").write_text(json.dumps(config))
        state = torch.load(run / "best.ckpt", weights_only=True)
        state["tsattn"]["network"]["init_args"][name] = value
        torch.save(state, folder / "run.ckpt")
        paths += [str(folder), str(folder / "run.ckpt")]
    folder = tmp_path / "detector"
    checkpoint.export(folder, detector(), SignalSpec({}))
    config = json.loads((folder / "config.json").read_text())
    config["network"]["init_args"]["network"]["init_args"]["layers"] = 50_000
    (folder / "config.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *paths, str(folder)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    seconds, megabytes = map(float, done.stdout.split())
    assert megabytes < 300
    assert seconds < 60


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000 + "]" * 100_000, "levels deep"),
        ('{"network": ' + '{"a":' * 150 + "1" + "}" * 151, "levels deep"),
        ('{"network": {"class_path": "x.Y", "init_args": {"a": ' + "9" * 5000 + "}}}", "is not the JSON"),
        ("[]", "is not a tsattn config"),
        ('{"network": {"class_path": "tsattn.models.itransformer.ITransformer", "init_args": {"a": NaN}}}', "a is nan"),
    ],
)
def test_a_damaged_config_is_refused_in_one_sentence(text: str, said: str, tmp_path: Path):
    checkpoint.export(tmp_path / "folder", forecaster(), SPEC)
    (tmp_path / "folder/config.json").write_text(text)
    for load in (checkpoint.load, Forecaster.from_pretrained, Detector.from_pretrained):
        with pytest.raises(ValueError, match=said):
            load(tmp_path / "folder")


def test_a_pipe_and_a_huge_file_in_place_of_a_config_are_refused(tmp_path: Path):
    import os

    checkpoint.export(tmp_path / "folder", forecaster(), SPEC)
    path = tmp_path / "folder/config.json"
    path.unlink()
    os.mkfifo(path)
    begin = time.perf_counter()
    with pytest.raises(ValueError, match="is not a regular file"):
        checkpoint.load(tmp_path / "folder")
    assert time.perf_counter() - begin < 5
    path.unlink()
    with path.open("wb") as file:
        file.truncate(10**9)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="has 1000000000 bytes, expected at most"):
        checkpoint.load(tmp_path / "folder")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_a_view_that_claims_more_than_the_file_holds_is_refused(run: Path, tmp_path: Path):
    state = torch.load(run / "best.ckpt", weights_only=True)
    name = first_of(state["state_dict"])
    state["state_dict"][name] = torch.zeros(1).expand(30_000, 30_000)
    torch.save(state, tmp_path / "best.ckpt")
    with pytest.raises(ValueError, match=f"{name} has 900,000,000 values, and the file fewer"):
        checkpoint.load(tmp_path / "best.ckpt")


def test_every_wrapper_is_compared_without_memory(tmp_path: Path):
    for distribution in ("quantile", "student-t"):
        made = with_levels(forecaster(), (0.1, 0.5, 0.9), distribution)  # type: ignore[arg-type]
        checkpoint.export(tmp_path / distribution, made, SPEC)
        loaded = checkpoint.load(tmp_path / distribution).network
        for name, value in made.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name])
