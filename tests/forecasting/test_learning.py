"""What training does and leaves alone: seeds, windows, parts, finetuning, calibration."""

import numpy as np
import pandas as pd
import pytest
import torch
from making import LEVELS, MODELS, ahead, fitted, hours, items, small
from torch import nn

from tsattn import Forecaster
from tsattn.contracts import ForecastNetwork
from tsattn.data.simulate import simulate_table
from tsattn.forecasting.learning import part_starts, rows_of


def weights(forecaster: Forecaster) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in forecaster.network.state_dict().items()}


def moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


class Repeat(ForecastNetwork):
    """Repeats the last value; one parameter, which nothing but training moves."""

    last = ("shift",)

    def __init__(self, context: int, horizon: int) -> None:
        super().__init__(context, horizon)
        self.shift = nn.Linear(1, 1)
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)

    def forward(self, past, known=None, observed=None):
        return past[..., -1:].expand(-1, -1, self.horizon) + self.shift.bias


# ---- fit


def test_fit_returns_a_new_forecaster_and_leaves_the_old_one(frame, point):
    fresh = small()
    trained = fresh.fit(frame, max_epochs=1)
    assert fresh.network is None
    assert fresh.spec is None
    assert trained.spec.target_names == ("a", "b", "c")
    before = weights(point)
    again = point.fit(frame, target="a", max_epochs=1, seed=3)
    assert again.spec.target_names == ("a",)
    assert point.spec.target_names == ("a", "b", "c")
    assert not moved(before, weights(point))


def test_equal_seeds_make_equal_weights_and_other_seeds_others(frame):
    one, same, other = (fitted(frame, seed=seed) for seed in (5, 5, 6))
    assert not moved(weights(one), weights(same))
    assert moved(weights(one), weights(other))


def test_training_neither_reads_nor_moves_the_global_random_state(frame, point):
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(3), np.random.rand(3)
    torch.manual_seed(1)
    np.random.seed(1)
    first = fitted(frame)
    point.finetune(frame, max_epochs=1)
    point.calibrate(frame)
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all()
    torch.manual_seed(2)
    assert not moved(weights(first), weights(fitted(frame)))


def test_the_network_is_left_in_eval_mode_with_the_weights_of_its_best_epoch(frame):
    long = fitted(frame, max_epochs=6, learning_rate=0.5, patience=10)
    told = long.about["fit"]
    assert not long.network.training
    assert told["epochs"] == 6
    best = fitted(
        frame, max_epochs=6, learning_rate=0.5, patience=10, trainer_kwargs={"max_epochs": told["best_epoch"]}
    )
    if told["best_epoch"] < 6:
        assert best.about["fit"]["val_loss"] == pytest.approx(told["val_loss"])


def test_statistics_are_those_of_the_training_rows_of_all_items():
    panel = items({"x": 120, "y": 80})
    forecaster = fitted(panel, target=["b", "a"], past_covariates="c", val_size=0.25)
    rows = pd.concat([panel[:90], panel[120:180]])
    for name, mean, scale in zip(forecaster.spec.variates, forecaster.spec.mean, forecaster.spec.scale, strict=True):
        assert mean == pytest.approx(rows[name].mean())
        assert scale == pytest.approx(rows[name].std(ddof=0))
    assert forecaster.spec.variates == ("b", "a", "c")
    assert forecaster.spec.zone == ""


def test_no_window_crosses_items_and_none_of_validation_is_trained_on():
    begins = np.array([0, 50, 57, 100])
    validation = rows_of(0.2, np.diff(begins))
    assert validation.tolist() == [10, 1, 9]
    ends = begins[1:]
    train = part_starts(begins, begins[:-1], ends - validation, 8, 3, reach_back=False).numpy()
    held = part_starts(begins, ends - validation, ends, 8, 3, reach_back=True).numpy()
    owner = np.repeat(np.arange(3), np.diff(begins))
    for starts in (train, held):
        assert (owner[starts] == owner[starts + 10]).all()
    in_validation = np.concatenate([np.arange(end - n, end) for end, n in zip(ends, validation, strict=True)])
    rows = train[:, None] + np.arange(11)
    assert not np.isin(rows, in_validation).any()
    ahead_rows = held[:, None] + np.arange(8, 11)
    assert np.isin(ahead_rows, in_validation).all()
    assert len(held) == (10 - 2) + 0 + (9 - 2)
    assert len(train) == (40 - 10) + 0 + (34 - 10)


def test_an_item_of_the_training_never_sees_the_next_one():
    """The windows of item x would reach into y, whose values would be learned; here y is a cliff."""
    panel = items({"x": 60, "y": 60})
    panel.loc[60:, ["a", "b", "c"]] = panel.loc[:59, ["a", "b", "c"]].to_numpy() + 1e6

    class Spy(Repeat):
        def forward(self, past, known=None, observed=None):
            spans.append((past.amax(-1) - past.amin(-1)).max())
            return super().forward(past, known, observed)

    spans: list[torch.Tensor] = []
    Forecaster(Spy, context=12, horizon=3).fit(panel, target="a", max_epochs=1)
    assert torch.stack(spans).max() < 0.01  # of 1e6 / 5e5 = 2 standard deviations between the items


def test_a_class_of_ones_own_is_a_model(frame):
    forecaster = Forecaster(Repeat, context=5, horizon=2).fit(frame, max_epochs=1, learning_rate=1e-12)
    found = forecaster.predict_df(frame)
    for name in "abc":
        last = frame[name].iloc[-1]
        assert found.loc[found["target_name"] == name, "predictions"].tolist() == pytest.approx([last, last], rel=1e-4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("distribution", ["quantile", "student-t"])
def test_every_model_learns_quantiles(model: str, distribution: str):
    frame = hours(80)
    forecaster = fitted(frame, model, quantile_levels=LEVELS, distribution=distribution)
    found = forecaster.predict_df(frame, quantile_levels=(0.1, 0.3, 0.9))
    assert found.columns.tolist() == ["item_id", "timestamp", "target_name", "predictions", "0.1", "0.3", "0.9"]
    assert (found["0.1"] <= found["0.3"]).all()
    assert (found["0.3"] <= found["predictions"] + 1e-9).all()
    assert (found["predictions"] <= found["0.9"]).all()
    assert forecaster.levels == LEVELS


def test_what_is_known_ahead_is_learned_numbers_and_categories(driven):
    """Rows of 0 and 1 without a name would be a set: an uplift could not be told from its opposite."""
    forecaster, frame = driven
    promo, driver = np.array([True, False, True, True, False, False]), np.array([2.0, -2.0, 0.0, 1.0, -1.0, 0.5])
    found = {}
    for turned in (promo, ~promo):
        future = ahead(frame, driver=driver, noise=0.0, promo=turned)
        found[turned[0]] = forecaster.predict_df(frame, future)["predictions"].to_numpy()
    both = (found[True] + found[False]) / 2
    slope, _ = np.polyfit(driver, both, 1)
    assert 2.5 < slope < 7.5
    assert np.corrcoef(driver, both)[0, 1] > 0.9
    uplift = (found[True] - found[False]) * np.where(promo, 1, -1)
    assert (uplift > 0.5).all()


def test_which_of_five_categories_comes_is_learned():
    """Each has its own level; in the order of their names these go up and down."""
    chance = np.random.default_rng(0)
    kind, level = np.repeat(chance.integers(0, 5, 150), 6), np.array([3.0, -2.0, 1.0, -3.0, 2.0])
    frame = hours(900).assign(a=level[kind] + chance.normal(0, 0.2, 900), kind=np.array(list("vwxyz"))[kind])
    forecaster = small("timexer", d_model=16, d_ff=16).fit(
        frame, target="a", known_covariates="kind", marks="none", max_epochs=10, learning_rate=0.005, val_size=0
    )
    found = [
        forecaster.predict_df(frame, ahead(frame, kind=np.array([name] * 6)))["predictions"].mean() for name in "vwxyz"
    ]
    assert np.argsort(found).tolist() == np.argsort(level).tolist()
    assert np.corrcoef(found, level)[0, 1] > 0.9


# ---- finetune


def test_finetuning_everything_moves_everything_and_leaves_the_old_one(frame, point):
    before = weights(point)
    tuned = point.finetune(frame, max_epochs=1)
    assert moved(before, weights(tuned)) == before.keys()
    assert not moved(before, weights(point))
    assert tuned.about["before"]["fit"] == point.about["fit"]


@pytest.mark.parametrize("model", MODELS)
def test_finetuning_the_head_moves_the_last_map_alone(model: str):
    frame = hours(80)
    forecaster = fitted(frame, model)
    before = weights(forecaster)
    tuned = forecaster.finetune(frame, mode="head", max_epochs=1)
    changed = moved(before, weights(tuned))
    assert changed
    assert all(name.startswith(forecaster.network.last) for name in changed)
    assert {name.rpartition(".")[0] for name in changed} == {
        name for name, module in forecaster.network.named_modules()
        if name.startswith(forecaster.network.last) and list(module.parameters(recurse=False))
    }  # fmt: skip
    assert all(parameter.requires_grad for parameter in tuned.network.parameters())


@pytest.mark.parametrize("levels", [None, LEVELS])
@pytest.mark.parametrize("model", MODELS)
def test_finetuning_by_lora_moves_attention_alone_and_leaves_no_adapters(model: str, levels):
    frame = hours(80)
    forecaster = fitted(frame, model, quantile_levels=levels)
    before = weights(forecaster)
    tuned = forecaster.finetune(frame, mode="lora", lora_rank=2, max_epochs=2, learning_rate=1e-2)
    changed = moved(before, weights(tuned))
    parts = (".qkv.", ".out.") if model == "patchtst-official" else ("attention.",)
    assert changed
    assert all(any(part in name for part in parts) for name in changed)
    assert all(name.endswith("weight") for name in changed)
    for name in changed:
        update = weights(tuned)[name] - before[name]
        assert torch.linalg.matrix_rank(update.double(), atol=1e-5) <= 2
    assert tuned.network.recipe == forecaster.network.recipe
    assert not moved(before, weights(forecaster))


def test_finetuning_takes_statistics_anew_and_keeps_columns_and_categories():
    frame = items({"x": 100, "y": 100}, promo="no")
    frame["promo"] = np.where(frame.index % 2, "yes", "no")
    forecaster = fitted(frame, target="a", past_covariates=["c", "promo"])
    shifted = frame.assign(a=frame["a"] + 1000)[:100]
    tuned = forecaster.finetune(shifted[shifted["promo"].notna()], max_epochs=1)
    assert tuned.spec.mean[0] == pytest.approx(shifted["a"][:90].mean())
    assert tuned.spec.variates == ("a", "c")
    assert tuned.spec.covariates == forecaster.spec.covariates
    assert tuned.predict_df(shifted)["predictions"].between(980, 1040).all()


# ---- calibrate


def test_offsets_are_the_quantiles_of_errors_that_are_known():
    """Repeating the last value of 0, 1, 0, 2, 0, 3, ... errs by numbers that can be counted."""
    rows = 400
    frame = hours(rows)[["timestamp"]].assign(a=np.random.default_rng(0).integers(0, 100, rows).astype(float))
    forecaster = Forecaster(Repeat, context=4, horizon=1).fit(frame, max_epochs=1, learning_rate=1e-12)
    size = 99
    calibrated = forecaster.calibrate(frame, quantile_levels=(0.1, 0.5, 0.9), size=size, local=False)
    values = frame["a"].to_numpy()
    errors = np.sort(np.abs(np.diff(values))[-size:])
    radius = errors[int(np.ceil((size + 1) * 0.8)) - 1]
    found = calibrated.predict_df(frame).iloc[0]
    assert found["predictions"] == pytest.approx(values[-1], abs=1e-3)
    assert found["0.9"] - found["predictions"] == pytest.approx(radius, rel=1e-4)
    assert found["predictions"] - found["0.1"] == pytest.approx(radius, rel=1e-4)
    assert calibrated.about["calibration"] == {"windows": size, "levels": [0.1, 0.5, 0.9], "local": False}


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    return simulate_table(rows=6000, variates=4, seed=3)


@pytest.fixture(scope="module")
def on_simulated(simulated: pd.DataFrame) -> Forecaster:
    return small("itransformer", context=48, horizon=6, d_model=16, d_ff=16).fit(
        simulated[:2500], max_epochs=2, learning_rate=2e-3
    )


@pytest.mark.parametrize("local", [True, False])
def test_intervals_of_a_point_forecaster_hold_what_they_say(simulated, on_simulated, local: bool):
    levels = (0.05, 0.1, 0.5, 0.9, 0.95)
    calibrated = on_simulated.calibrate(simulated[:4500], size=2000, quantile_levels=levels, local=local)
    back = calibrated.backtest(simulated[4500 - 48 :], step=1)
    for low, high, nominal in (("0.1", "0.9", 0.8), ("0.05", "0.95", 0.9)):
        inside = (back["target"] >= back[low]) & (back["target"] <= back[high])
        assert inside.mean() == pytest.approx(nominal, abs=0.02)
    plain = on_simulated.backtest(simulated[4500 - 48 :], step=1)
    assert back["predictions"].to_numpy() == pytest.approx(plain["predictions"].to_numpy(), rel=1e-5, abs=1e-5)


def test_calibrated_quantiles_ascend_and_hold_what_they_say(simulated):
    trained = small("itransformer", context=48, horizon=6, d_model=16, d_ff=16).fit(
        simulated[:2500], max_epochs=1, learning_rate=2e-3, quantile_levels=LEVELS
    )
    calibrated = trained.calibrate(simulated[:4500], size=2000)
    back = calibrated.backtest(simulated[4500 - 48 :], step=1)
    assert (back["0.1"] <= back["0.5"]).all()
    assert (back["0.5"] <= back["0.9"]).all()
    assert back["target"].between(back["0.1"], back["0.9"]).mean() == pytest.approx(0.8, abs=0.02)


def test_calibrating_again_and_finetuning_drop_the_old_offsets(frame, point, caplog):
    once = point.calibrate(frame, quantile_levels=(0.2, 0.5, 0.8), size=100)
    twice = once.calibrate(frame, quantile_levels=(0.2, 0.5, 0.8), size=100)
    pd.testing.assert_frame_equal(once.predict_df(frame), twice.predict_df(frame))
    tuned = once.finetune(frame, max_epochs=1)
    assert "calibrate again" in caplog.text
    assert tuned.levels == ()
    assert point.levels == ()
    assert "0.2" not in tuned.predict_df(frame)
