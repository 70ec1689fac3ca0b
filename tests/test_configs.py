"""Every shipped configuration builds its network; a misspelt key stops the run and is named."""

import importlib
import inspect
from pathlib import Path

import pytest

from tsattn import checkpoint, shipped
from tsattn.data import fetch

ROOT = Path(__file__).parents[1]
MODELS = sorted(path.name for path in (ROOT / "configs/forecast").glob("*.yaml"))
ROWS = [name.removeprefix("paper/") for name in shipped.names() if name.startswith("paper/")]


@pytest.mark.parametrize("name", MODELS)
def test_a_model_file_names_a_network_of_ours(name: str):
    network = shipped.merged(f"forecast/{name}")["model"]["init_args"]["network"]
    if "timexer" in name:
        network["init_args"]["variates"] = 7
    assert checkpoint.build(network).recipe["class_path"] == network["class_path"]


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "configs/pretrain").glob("*.yaml")))
def test_a_pretraining_file_builds_its_network_and_sets_only_what_its_task_and_data_have(name: str):
    import torch

    config = shipped.merged(f"pretrain/{name}")
    with torch.device("meta"):
        network = checkpoint.build(config["model"]["init_args"].pop("network"))
    assert network.samples == network.sfreq * network.segment_seconds
    assert_arguments(config["model"])
    assert_arguments(config["data"])


@pytest.mark.parametrize("name", ["detect/mvpformer.yaml", "data/recordings.yaml"])
def test_a_file_for_recordings_sets_only_what_its_classes_have(name: str):
    config = shipped.merged(name)
    for part in ("model", "data"):
        if part in config:
            assert_arguments(config[part])


def assert_arguments(config: dict) -> None:
    module, _, class_name = config["class_path"].rpartition(".")
    made = getattr(importlib.import_module(module), class_name)
    assert set(config["init_args"]) <= set(inspect.signature(made.__init__).parameters)


def test_every_data_file_names_a_set_of_the_registry():
    files = sorted(path.stem for path in (ROOT / "configs/data").glob("*.yaml") if path.stem != "recordings")
    assert files == sorted(fetch.names())
    for name in files:
        assert shipped.merged(f"data/{name}.yaml")["data"]["init_args"]["dataset"] == name


@pytest.mark.parametrize("name", ROWS)
def test_a_published_setting_only_sets_arguments_that_its_network_has(name: str):
    config = shipped.merged(f"paper/{name}")
    network = config["model"]["init_args"]["network"]
    module, _, class_name = network["class_path"].rpartition(".")
    signature = inspect.signature(getattr(__import__(module, fromlist=["x"]), class_name).__init__)
    assert set(network["init_args"]) <= set(signature.parameters)
    assert config["data"]["init_args"]["dataset"] in fetch.names()


def test_the_settings_are_those_of_the_papers_scripts(shared: Path):
    import csv

    with (shared / "results/hparams.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["dataset"] not in ("temp", "wind")]
    own = {row["name"]: row for row in shipped._paper().values()}
    sets = {
        "electricity": "electricity",
        "exchange_rate": "exchange",
        "national_illness": "illness",
        "solar_AL": "solar",
    }
    sets |= {name: f"epf-{name.lower()}" for name in ("NP", "PJM", "BE", "FR", "DE")}
    keys = {"e_layers": "layers", "d_model": "d_model", "d_ff": "d_ff", "n_heads": "heads", "lr": "lr"}
    keys |= {"batch_size": "batch_size", "epochs": "max_epochs", "patience": "patience", "seq_len": "context"}
    checked = 0
    for row in rows:
        if row["repo"] == "TSLib" and row["model"] != "PatchTST":
            continue  # its iTransformer and TimeXer scripts repeat the authors'
        data = sets.get(row["dataset"], row["dataset"].lower())
        model = "patchtst-official" if row["repo"] == "PatchTST" else row["model"].lower()
        covariates = "ms-" if row["features"] == "MS" and not data.startswith("epf") else ""
        ours = own[f"{model}-{covariates}{data}-{row['pred_len']}"]
        for theirs, name in keys.items():
            assert ours[name] == row[theirs].rstrip("*"), (row["script"], name)
        checked += 1
    assert checked == len(ROWS)
