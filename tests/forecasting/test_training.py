"""How `fit` and `finetune` train: schedules, what `about` records, interrupts, and what Lightning refuses."""

import logging
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from making import fitted, hours, small

from tsattn import Forecaster
from tsattn.forecasting.predictor import check_answer
from tsattn.tasks.optim import epoch_factors

# ---- the schedule


@pytest.mark.parametrize("schedule", ["cosine", "constant", "type1", "type3"])
def test_the_rate_of_each_epoch_is_that_of_the_schedule(frame: pd.DataFrame, schedule: str):
    options: dict[str, Any] = {
        "max_epochs": 4,
        "patience": 4,
        "learning_rate": 0.01,
        "trainer_kwargs": {"limit_train_batches": 2},
    }
    about = fitted(frame, schedule=schedule, **options).about
    assert about["training"]["schedule"] == schedule
    assert about["fit"]["history"]["rate"] == pytest.approx([0.01 * f for f in epoch_factors(schedule, 4)])
    if schedule == "cosine":  # which nobody has to ask for
        assert fitted(frame, **options).about == about


def test_the_papers_schedule_comes_by_name(frame: pd.DataFrame):
    found = fitted(frame, "patchtst-official", schedule="paper", max_epochs=2).about["training"]
    assert (found["schedule"], found["betas"]) == ("type3-patchtst", [0.95, 0.999])
    assert fitted(frame, schedule="paper").about["training"]["schedule"] == "type1"
    assert fitted(frame, "patchtst-official").about["training"]["betas"] == [0.95, 0.999]


def test_optimiser_decay_and_betas_reach_the_optimiser_and_about(frame: pd.DataFrame):
    seen: list[Any] = []

    class Look(Callback):
        def on_train_start(self, trainer: Any, module: Any) -> None:
            seen.append(trainer.optimizers[0])

    options: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.1, "betas": [0.8, 0.99]}
    made = small().fit(frame, max_epochs=1, trainer_kwargs={"callbacks": Look()}, **options)
    tuned = made.finetune(frame, max_epochs=1, trainer_kwargs={"callbacks": [Look()]}, **options)
    for optimizer, about in zip(seen, (made.about, tuned.about), strict=True):
        assert isinstance(optimizer, torch.optim.AdamW)
        assert (optimizer.defaults["betas"], optimizer.defaults["weight_decay"]) == ((0.8, 0.99), 0.1)
        assert {name: about["training"][name] for name in options} == options


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "cosin"}, "schedule is 'cosin', expected one of constant, .*, paper. Did you mean 'cosine'"),
        ({"schedule": None}, "schedule is None, expected one of constant"),
        ({"optimizer": "adamm"}, "optimizer is 'adamm', expected one of adam, adamw. Did you mean 'adam"),
        ({"loss": "mape"}, "loss is 'mape', expected one of mse, mae, huber"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0, expected a number of at least 0"),
        ({"betas": (0.9,)}, r"betas is \(0.9,\), expected two numbers from 0 to below 1"),
        ({"betas": (0.9, 1.0)}, r"betas is \(0.9, 1.0\), expected two numbers from 0 to below 1"),
        ({"betas": 0.9}, "betas is 0.9, expected two numbers"),
        ({"trainer_kwargs": ["max_steps"]}, r"trainer_kwargs is \['max_steps'\], expected arguments of lightning.Tra"),
        ({"loss": "mae", "quantile_levels": (0.1, 0.5, 0.9)}, "loss is 'mae', and quantiles have a loss of their own"),
    ],
)
def test_settings_that_mean_nothing_are_refused_before_anything_is_trained(frame, options: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        fitted(frame, **options)
    if "quantile_levels" not in options:
        with pytest.raises(ValueError, match=said):
            fitted(frame).finetune(frame, max_epochs=1, **options)


# ---- what is recorded


def test_about_says_what_was_used_and_still_does_after_loading(frame: pd.DataFrame, tmp_path: Path):
    made = small().fit(frame, learning_rate=0.02, batch_size=64, loss="mae", max_epochs=2, patience=7)
    used = made.about["training"]
    wanted = {"learning_rate": 0.02, "batch_size": 64, "loss": "mae", "max_epochs": 2, "patience": 7}
    assert {name: used[name] for name in wanted} == wanted
    assert (used["schedule"], used["optimizer"], used["weight_decay"]) == ("cosine", "adam", 0.0)
    fit = made.about["fit"]
    assert fit["epochs"] == 2
    assert all(len(fit["history"][name]) == 2 for name in ("train_loss", "val_loss", "rate"))
    assert fit["val_loss"] == min(fit["history"]["val_loss"]) == fit["history"]["val_loss"][fit["best_epoch"] - 1]
    made.save_pretrained(tmp_path / "folder")
    again = Forecaster.from_pretrained(tmp_path / "folder")
    assert again.about == made.about
    anew = again.fit(frame, trainer_kwargs={"max_steps": 2}).about["training"]  # as the model's configuration says
    assert (anew["learning_rate"], anew["batch_size"], anew["max_epochs"]) == (1e-4, 32, 10)


@pytest.mark.parametrize(("distribution", "loss"), [("quantile", "pinball"), ("student-t", "student-t likelihood")])
def test_the_loss_of_quantiles_is_called_by_its_name(frame: pd.DataFrame, distribution: Any, loss: str):
    made = fitted(frame, quantile_levels=(0.1, 0.5, 0.9), distribution=distribution)
    assert made.about["training"]["loss"] == loss
    assert made.finetune(frame, max_epochs=1).about["training"]["loss"] == loss


# ---- an interrupt


class Interrupt(Callback):
    """Presses Ctrl-C when a batch of an epoch has been trained."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer: Any, module: Any, *rest: Any) -> None:
        if trainer.current_epoch == self.epoch and trainer.global_step % trainer.num_training_batches == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.fixture
def interruptible() -> Any:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("val_size", [0.1, 0])
def test_an_interrupt_keeps_the_best_epoch_and_says_so(frame: pd.DataFrame, caplog, val_size: float):
    options: dict[str, Any] = {"schedule": "constant", "val_size": val_size, "patience": 9}
    with caplog.at_level(logging.WARNING):
        made = fitted(frame, max_epochs=9, trainer_kwargs={"callbacks": [Interrupt(2)]}, **options)
    assert "Interrupted in epoch 3 of 9: epoch" in caplog.text
    fit = made.about["fit"]
    assert fit["interrupted"] is True
    assert fit["epochs"] == 2
    shorter = fitted(frame, max_epochs=2, **options)
    assert shorter.about["fit"]["interrupted"] is False
    pd.testing.assert_frame_equal(made.predict_df(frame), shorter.predict_df(frame))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # the next Ctrl-C works, too
    tuned = made.finetune(frame, max_epochs=9, trainer_kwargs={"callbacks": Interrupt(1)}, **options)
    assert tuned.about["fit"]["interrupted"] is True


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_before_the_first_epoch_is_over_is_a_keyboard_interrupt(frame: pd.DataFrame):
    with pytest.raises(KeyboardInterrupt):
        fitted(frame, max_epochs=9, trainer_kwargs={"callbacks": [Interrupt(0)]})
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_callback_that_ends_the_interpreter_does_so(frame: pd.DataFrame):
    class Leave(Callback):
        def on_train_batch_end(self, *rest: Any) -> None:
            raise SystemExit(3)

    with pytest.raises(SystemExit, match="3"):
        fitted(frame, trainer_kwargs={"callbacks": [Leave()]})


# ---- what Lightning refuses


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"acelerator": "cpu"}, "'acelerator', which is not an argument of lightning.Trainer: did you mean 'accelera"),
        ({"devices": 2}, "trainer_kwargs asks for 2 processes, and one is what forecasters train in"),
        ({"devices": "two"}, r"trainer_kwargs \(devices='two'\) cannot be done"),
        ({"strategy": "dpp"}, r"trainer_kwargs \(strategy='dpp'\) cannot be done"),
        ({"precision": "16-mixd"}, r"trainer_kwargs \(precision='16-mixd'\) cannot be done"),
        ({"accelerator": "tpu"}, r"trainer_kwargs \(accelerator='tpu'\) cannot be done"),
        ({"limit_train_batches": 2.5}, r"trainer_kwargs \(limit_train_batches=2.5\) cannot be done"),
        ({"limit_train_batches": 0}, r"Not one step was trained, because of trainer_kwargs \(limit_train_batches=0\)"),
        ({"max_steps": 0}, r"Not one step was trained, because of trainer_kwargs \(max_steps=0\)"),
        ({"callbacks": 3}, "trainer_kwargs has the callback 3, expected"),
    ],
)
def test_what_lightning_refuses_is_a_value_error_that_names_it(frame: pd.DataFrame, given: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=said):
        fitted(frame, trainer_kwargs=given)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(frame: pd.DataFrame):
    with pytest.raises(ValueError, match=r"trainer_kwargs \(accelerator='gpu'\) cannot be done: .*gpu"):
        fitted(frame, trainer_kwargs={"accelerator": "gpu"})


@pytest.mark.parametrize("given", [{"limit_val_batches": 0}, {"barebones": True}])
def test_without_a_validation_the_last_weights_are_kept_which_is_told(frame: pd.DataFrame, given: Any, caplog):
    made = fitted(frame, trainer_kwargs=given)
    assert "No validation has run in" in caplog.text
    fit = made.about["fit"]
    assert fit["steps"] == given.get("max_steps", 5)
    assert fit["val_loss"] is None
    assert math.isfinite(fit["history"]["train_loss"][0])
    assert np.isfinite(made.predict_df(frame)["predictions"]).all()


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_another_precision_is_that_of_the_training_alone(frame: pd.DataFrame, precision: str):
    made = fitted(frame, trainer_kwargs={"precision": precision})
    assert {value.dtype for value in made.network.state_dict().values()} == {torch.float32}
    assert np.isfinite(made.predict_df(frame)["predictions"]).all()


def test_the_error_of_a_callback_is_the_callbacks_own(frame: pd.DataFrame):
    class Broken(Callback):
        def on_train_start(self, *rest: Any) -> None:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fitted(frame, trainer_kwargs={"callbacks": [Broken()]})


def test_a_rate_that_is_too_high_is_told_in_the_word_of_python(frame: pd.DataFrame):
    with pytest.raises(ValueError, match=r"training loss of epoch \d+ is (nan|inf), .* Lower `learning_rate`"):
        fitted(frame, learning_rate=1e20, max_epochs=5, val_size=0)


# ---- an answer that is not finite


@pytest.mark.parametrize("door", ["predict_df", "backtest", "predict", "calibrate", "importance"])
def test_an_answer_that_is_not_finite_is_an_error(frame: pd.DataFrame, door: str):
    made = fitted(frame)
    with torch.no_grad():
        made.network.projection.weight[0, 0] = math.nan
    given = torch.randn(1, 3, 24) if door == "predict" else frame
    with pytest.raises(
        ValueError, match=r"forecast of 'a' is not a finite number, .* projection.weight are not finite"
    ):
        getattr(made, door)(given)


def test_of_a_series_without_any_value_nothing_is_expected(point: Forecaster):
    assert point.network is not None
    assert point.spec is not None
    forecast = torch.zeros(2, 3, 6)
    forecast[1, 2] = math.nan
    past = torch.zeros(2, 3, 24)
    observed = torch.ones(2, 3, 24, dtype=torch.bool)
    observed[1, 2] = False
    check_answer(forecast, point.spec, point.network, past, observed)
    observed[1, 2, 5] = True
    for there in (observed, None):
        with pytest.raises(ValueError, match="forecast of 'c' is not a finite number"):
            check_answer(forecast, point.spec, point.network, past, there)


def test_an_infinite_number_in_a_tensor_is_named(frame: pd.DataFrame, point: Forecaster):
    past = torch.randn(1, 3, 24)
    past[0, 1, 3] = math.inf
    with pytest.raises(ValueError, match=r"is not a finite number, .*'b' holds a value that is not finite"):
        point.predict(past)


# ---- rows ahead


def test_a_category_that_is_only_ahead_is_said_of_the_rows_ahead():
    frame = hours(206).assign(day=np.where(np.arange(206) % 7 > 4, "weekend", "work"))
    made = fitted(frame[:200], target="a", known_covariates="day")
    future = frame[200:][["timestamp", "day"]]
    with pytest.raises(ValueError, match=r"^future_df has 'feast' in 'day' at 2024-01-09 08:00:00, which training nev"):
        made.predict_df(frame[:200], future.assign(day="feast"))
    broken = frame[:200].assign(day=["feast", *frame["day"][1:200]])
    broken.loc[190, "day"] = "feast"
    with pytest.raises(ValueError, match=r"^The table has 'feast' in 'day' at"):
        made.predict_df(broken, future)
