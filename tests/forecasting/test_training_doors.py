"""The command line and Python train alike: the same task, optimiser, schedule, network and weights."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from making import MODELS, hours, small

from tsattn import Forecaster, checkpoint, cli, shipped
from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.forecasting.recipes import Settings, recipe_of
from tsattn.tasks import forecast as task_module
from tsattn.tasks.forecast import ForecastTask

SIZES = "--model.network.context 24 --model.network.horizon 6 --model.network.d_model 8 --model.network.d_ff 8".split()
ONE = ["--trainer.max_epochs", "1", "--test", "false"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What optimisers were made with, in the order in which they were."""
    calls: list[dict[str, Any]] = []
    plain = task_module.adam

    def spy(parameters: Any, **settings: Any) -> Any:
        calls.append(settings)
        return plain(parameters, **settings)

    monkeypatch.setattr(task_module, "adam", spy)
    return calls


def shipped_task(model: str) -> tuple[dict[str, Any], int]:
    config = shipped.merged(f"forecast/{model}.yaml")
    return config["model"]["init_args"], config["data"]["init_args"]["batch_size"]


@pytest.mark.parametrize("model", MODELS)
def test_a_recipe_says_all_that_the_configuration_says(model: str):
    task, batch_size = shipped_task(model)
    settings = Settings.of(shipped.merged(f"forecast/{model}.yaml"), model)
    assert settings.task == {name: value for name, value in task.items() if name != "network"}
    assert settings.batch_size == batch_size
    larger = recipe_of(model, {}).settings
    assert larger.batch_size == max(32, batch_size)
    assert larger.task["lr"] == pytest.approx(task["lr"] * (larger.batch_size / batch_size) ** 0.5)
    assert {**larger.task, "lr": task["lr"]} == settings.task


@pytest.mark.parametrize("model", MODELS)
def test_the_papers_optimiser_and_schedule_are_those_of_the_configuration(model: str, asked: list[dict[str, Any]]):
    task, batch_size = shipped_task(model)
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in task.items() if name != "network"}
    spec = TableSpec(("a", "b", "c"), 3, (0.0,) * 3, (1.0,) * 3, "h")
    expected = ForecastTask(small(model).recipe.build(spec), **settings)
    expected._trainer = type("T", (), {"max_epochs": 3})()
    expected.configure_optimizers()
    small(model).fit(
        hours(120), max_epochs=3, schedule="paper", learning_rate=task["lr"], batch_size=batch_size,
        trainer_kwargs={"limit_train_batches": 1},
    )  # fmt: skip
    wanted, found = asked
    assert {**found, "betas": tuple(found["betas"])} == {**wanted, "betas": tuple(wanted["betas"])}


@pytest.mark.parametrize("more", ["model", "data", "trainer", "top"])
def test_what_a_recipe_cannot_take_is_refused_and_what_it_can_is_taken(more: str, monkeypatch: pytest.MonkeyPatch):
    config = shipped.merged("forecast/itransformer.yaml")
    if more == "trainer":
        config["trainer"]["gradient_clip_val"] = 0.5
    elif more == "top":
        config["warmth"] = 3
    else:
        config[more]["init_args"]["warmth"] = 3
    monkeypatch.setattr(shipped, "merged", lambda name, own=True: config)
    if more == "trainer":
        assert recipe_of("itransformer", {}).settings.trainer == {"gradient_clip_val": 0.5}
        used = small().fit(hours(60), max_epochs=1).about["training"]["trainer_kwargs"]
        assert used == {"gradient_clip_val": 0.5}
        return
    with pytest.raises(ValueError, match="warmth"):
        small().fit(hours(60), max_epochs=1)


@pytest.mark.parametrize("model", ["itransformer", "patchtst-official"])
def test_one_epoch_gives_the_same_weights_by_both_doors(model: str, tmp_path: Path, asked: list[dict[str, Any]]):
    """Dropout is on: even the random numbers are the same."""
    frame = hours(200)
    frame.to_csv(tmp_path / "table.csv", index=False)
    task, batch_size = shipped_task(model)
    heads = ["--model.network.heads", "2", "--model.network.layers", "1"]
    table = ["--data.table", str(tmp_path / "table.csv"), "--data.marks", "none", "--seed_everything", "3"]
    words = ["fit", "-c", f"forecast/{model}.yaml", *SIZES, *heads, *table, *ONE, "--run_dir", str(tmp_path / "run")]
    cli.main(words)
    by_command = checkpoint.load(tmp_path / "run" / "best.ckpt", ForecastNetwork)
    by_python = small(model).fit(
        frame[:160], val_size=20, max_epochs=1, schedule="paper", learning_rate=task["lr"], batch_size=batch_size,
        seed=3, marks="none",
    )  # fmt: skip
    one, other = asked
    assert {**one, "betas": tuple(one["betas"])} == {**other, "betas": tuple(other["betas"])}
    assert by_command.spec.mean == pytest.approx(by_python.spec.mean, rel=1e-12)
    theirs, ours = by_command.network.state_dict(), by_python.network.state_dict()
    assert theirs.keys() == ours.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("targets", "past", "known"), [(["a", "b"], ["c"], []), (["a"], ["b"], ["c"]), (["a", "b"], [], ["c"])]
)
def test_both_doors_tell_a_network_the_same_of_its_table(targets, past, known, tmp_path: Path):
    hours(200).to_csv(tmp_path / "table.csv", index=False)
    roles = [f"--data.target={targets}".replace("'", ""), f"--data.exogenous={past}".replace("'", "")]
    roles += [f"--data.known={known}".replace("'", "")] if known else []
    words = ["fit", "-c", "forecast/timexer.yaml", *SIZES, "--model.network.heads", "2", "--model.network.patch", "8"]
    cli.main([*words, "--data.table", str(tmp_path / "table.csv"), *roles, *ONE, "--run_dir", str(tmp_path / "run")])
    by_command = checkpoint.load(tmp_path / "run" / "best.ckpt", ForecastNetwork).network
    frame = pd.read_csv(tmp_path / "table.csv")
    by_python = Forecaster("timexer", context=24, horizon=6, d_model=8, d_ff=8, heads=2, patch=8).fit(
        frame, target=targets, past_covariates=past, known_covariates=known, max_epochs=1
    )
    assert by_command.recipe == by_python.network.recipe
