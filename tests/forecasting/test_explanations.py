"""What a forecaster looked at has names, and what a column is worth is found where it was put."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from making import CONTEXT, LEVELS, MODELS, ahead, fitted, hours, items, small

from tsattn import Forecaster
from tsattn.data.simulate import simulate_table

KINDS = {
    "itransformer": ["variates"],
    "patchtst": ["patches"],
    "patchtst-official": ["patches"],
    "timexer": ["exogenous", "patches"],
    "gateformer": ["variate", "temporal", "gates"],
    "mvpa": ["cells", "channels", "steps"],
    "gateformer-around-patchtst": ["variate", "network", "gates"],
}


@pytest.fixture(scope="module")
def trained() -> dict[str, Forecaster]:
    return {model: fitted(hours(80), model) for model in MODELS}


def cases() -> list[tuple[str, str]]:
    return [(model, kind) for model, kinds in KINDS.items() for kind in kinds]


@pytest.mark.parametrize(("model", "kind"), cases())
def test_weights_of_a_reader_add_up_to_one_and_have_names(trained, model: str, kind: str):
    found = trained[model].attention(hours(80), kind=kind)
    assert isinstance(found, xr.DataArray)
    assert found.attrs["kind"] == kind
    assert "item" not in found.dims
    if kind == "gates":
        assert found.dims == ("gate", "variate")
        assert found["variate"].values.tolist() == ["a", "b", "c"]
        assert ((found > 0) & (found < 1)).all()
        return
    assert found.dims[-4:] == ("layer", "head", "query", "key")
    sums = found.sum("key").values
    assert sums == pytest.approx(np.ones_like(sums), abs=1e-5)
    for axis in ("query", "key"):
        labels = found[axis].values.tolist()
        assert len(set(labels)) == len(labels)
    assert set(found.dims[:-4]) <= {"variate", "target", "without"}
    for axis in set(found.dims[:-4]) & {"variate", "target"}:
        assert found[axis].values.tolist() == ["a", "b", "c"]


def test_the_first_kind_is_the_default_and_others_are_listed(trained):
    for model, kinds in KINDS.items():
        assert trained[model].attention(hours(80)).attrs["kind"] == kinds[0]
        listed = r".*".join(f"'{kind}'" for kind in kinds)
        with pytest.raises(ValueError, match=f"no attention of the kind 'heads', expected one of .*{listed}"):
            trained[model].attention(hours(80), kind="heads")


def test_axes_are_named_by_columns_patches_and_rows_of_what_is_known():
    frame = hours(80).assign(promo=np.where(np.arange(80) % 2, "yes", "no"))
    options = {"target": ["a", "b"], "past_covariates": "c", "known_covariates": "promo"}
    future = ahead(frame, promo="yes")
    rows = ["a", "b", "c", "promo = no", "promo = yes", "hour", "dayofweek", "dayofmonth", "dayofyear"]
    found = fitted(frame, "itransformer", **options).attention(frame, future)
    assert found["query"].values.tolist() == rows
    assert found["key"].values.tolist() == rows
    timexer = fitted(frame, "timexer", **options, val_size=0)
    found = timexer.attention(frame, future)
    assert found["query"].values.tolist() == ["a", "b"]
    assert set(found["key"].values.tolist()) <= set(rows)
    assert {"c", "promo = yes", "hour"} <= set(found["key"].values.tolist())
    patches = timexer.attention(frame, future, kind="patches")
    assert patches["key"].values[-1] == "whole series"
    assert patches["key"].values[0] == str(frame["timestamp"].iloc[-CONTEXT])
    patchtst = fitted(frame, "patchtst", target=["a", "b"]).attention(frame)
    assert pd.DatetimeIndex(patchtst["key"].values).is_monotonic_increasing
    assert patchtst["key"].values[0] == np.datetime64(frame["timestamp"].iloc[-CONTEXT])


def test_the_map_of_an_item_is_that_of_the_item_alone(panel):
    forecaster = fitted(panel, target=["a", "b"])
    both = forecaster.attention(panel)
    assert both["item"].values.tolist() == ["x", "y"]
    alone = forecaster.attention(panel[200:])
    assert both.sel(item="y").values == pytest.approx(alone.values, abs=1e-6)
    assert alone["item"].item() == "y"


@pytest.mark.parametrize("kind", ["channels", "steps"])
def test_each_term_of_mvpa_is_left_out_in_turn(trained, kind: str):
    found = trained["mvpa"].attention(hours(80), kind=kind)
    assert found["without"].values.tolist() == ["nothing", "content", "time", "channel"]
    sums = found.sum("key").values
    assert sums == pytest.approx(np.ones_like(sums), abs=1e-5)
    changed = np.abs(found - found.sel(without="nothing")).max(["layer", "head", "query", "key"])
    assert (changed.sel(without=["content", "time" if kind == "steps" else "channel"]) > 0).all()


def test_attention_of_quantiles_is_that_of_the_network_inside(frame):
    forecaster = fitted(frame, "timexer", quantile_levels=LEVELS)
    calibrated = forecaster.calibrate(frame, size=100)
    for kind in ("exogenous", "patches"):
        inside, outside = forecaster.attention(frame, kind=kind), calibrated.attention(frame, kind=kind)
        xr.testing.assert_allclose(inside, outside)
        assert inside.attrs["network"] == "TimeXer"


# ---- importance


@pytest.fixture(scope="module")
def simulated() -> tuple[Forecaster, pd.DataFrame]:
    frame = simulate_table(rows=3000, variates=4, seed=1)
    frame["unrelated"] = np.random.default_rng(5).normal(size=3000).cumsum()
    forecaster = small("itransformer", context=48, horizon=12, d_model=32, d_ff=32).fit(
        frame[:2500], target=["load 1", "load 2", "load 3"], past_covariates=["driver", "unrelated"],
        max_epochs=5, learning_rate=3e-3,
    )  # fmt: skip
    return forecaster, frame


def test_what_leads_the_others_is_worth_more_than_what_has_nothing_to_do_with_them(simulated):
    forecaster, frame = simulated
    found = forecaster.importance(frame, windows=30)
    assert found.columns.tolist() == ["source", "target_name", "mae", "importance"]
    assert found["source"].unique().tolist() == ["load 1", "load 2", "load 3", "driver", "unrelated", "calendar"]
    assert len(found) == 6 * 3
    worth = found.groupby("source")["importance"].mean()
    assert worth["driver"] > 0.02
    assert worth["driver"] > worth["unrelated"] + 0.02


def test_importance_is_in_units_and_relative_to_the_error_with_everything(simulated):
    forecaster, frame = simulated
    found = forecaster.importance(frame, windows=20)
    back = forecaster.backtest(frame, windows=20)
    whole = (back["target"] - back["predictions"]).abs().groupby(back["target_name"]).mean()
    for row in found.itertuples():
        assert row.mae == pytest.approx((1 + row.importance) * whole[row.target_name], rel=1e-4)


def test_what_drives_a_target_is_worth_more_than_noise(driven):
    forecaster, frame = driven
    found = forecaster.importance(frame, windows=30).set_index("source")["importance"]
    assert found.index.tolist() == ["a", "driver", "noise", "promo"]
    assert found["driver"] > 0.5
    assert found["noise"] < 0.1
    assert found["driver"] > found["noise"] + 0.5


def test_importance_reads_items_and_quantiles():
    panel = items({"x": 120, "y": 120})
    forecaster = fitted(panel, target=["a", "b"], past_covariates="c", quantile_levels=LEVELS)
    found = forecaster.importance(panel, windows=2, step=3)
    assert np.isfinite(found[["mae", "importance"]].to_numpy()).all()
    with pytest.raises(ValueError, match="expected 500; ask for fewer `windows`"):
        forecaster.importance(panel, windows=500)
