"""Flags and categories are as good as the numbers that they stand for."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from making import ahead, fitted, hours, small
from support import tsattn

from tsattn import Forecaster
from tsattn.contracts import Covariate, TableSpec
from tsattn.data import panel

FORMS = {
    "bool": lambda flag: flag.astype(bool),
    "nullable": lambda flag: flag.astype(bool).astype("boolean"),
    "object": lambda flag: flag.astype(bool).astype(object),
    "int": lambda flag: flag.astype("int8"),
    "nullable int": lambda flag: flag.astype("Int64"),
    "Decimal": lambda flag: flag.map(lambda value: Decimal(int(value))),
}


def promoted(share: float, kinds: int = 1, rows: int = 500, seed: int = 0) -> pd.DataFrame:
    """Sales that a promotion of some kind multiplies; `kind` 0 is none."""
    random = np.random.default_rng(seed)
    kind = random.choice(kinds + 1, rows, p=[1 - share, *[share / kinds] * kinds])
    lift = np.array([1.0, 3.0, 0.4, 1.8, 2.4])[kind]
    level = 20 + 4 * np.sin(2 * np.pi * np.arange(rows) / 7)
    frame = hours(rows, freq="D")[["timestamp"]]
    return frame.assign(sales=level * lift + random.normal(0, 1, rows), kind=kind, flag=(kind > 0).astype(float))


def trained(frame: pd.DataFrame, model: str, role: str, columns: Any, epochs: int = 2) -> Forecaster:
    sizes = {"patch": 8} if model in ("timexer", "mvpa") else {}
    made = small(model, horizon=7, d_model=16, d_ff=32, dropout=0.0, **sizes)
    return made.fit(
        frame, target="sales", max_epochs=epochs, learning_rate=0.01, marks="none", seed=1, **{role: columns}
    )


ROLES = [("itransformer", "known_covariates"), ("timexer", "known_covariates"), ("mvpa", "past_covariates")]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("model", "role"), ROLES)
@pytest.mark.parametrize("share", [0.06, 0.5])
def test_a_flag_is_the_same_in_every_form(model: str, role: str, form: str, share: float):
    """Bit by bit: an error of 5 % apart would be too much, and there is none."""
    frame = promoted(share)
    other = frame.assign(flag=FORMS[form](frame["flag"]))
    one, two = (trained(table[:400], model, role, "flag") for table in (frame, other))
    assert one.spec == two.spec
    pd.testing.assert_frame_equal(one.backtest(frame[370:]), two.backtest(other[370:]), check_exact=True)
    if role == "known_covariates":
        asked = (table[400:407][["timestamp", "flag"]] for table in (frame, other))
        pairs = zip((one, two), (frame, other), asked, strict=True)
        found = [made.predict_df(table[:400], rows) for made, table, rows in pairs]
        pd.testing.assert_frame_equal(*found, check_exact=True)


@pytest.mark.parametrize("kinds", [1, 2, 4])
@pytest.mark.parametrize("model", ["itransformer", "timexer"])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_a_known_category_is_the_columns_of_0_and_1_that_one_would_make_by_hand(model: str, kinds: int, share: float):
    frame = promoted(share, kinds)
    names = np.array(["none", "price", "leaflet", "radio", "shelf"])[frame["kind"]]
    ordered = sorted(set(names))
    named = frame.assign(name=names, **{f"is {name}": (names == name).astype(float) for name in ordered})
    one = trained(named[:400], model, "known_covariates", "name")
    two = trained(named[:400], model, "known_covariates", [f"is {name}" for name in ordered])
    np.testing.assert_allclose(one.spec.known_statistics, two.spec.known_statistics)
    assert one.network.recipe == two.network.recipe
    left, right = (made.backtest(named[370:])["predictions"].to_numpy() for made in (one, two))
    assert left == pytest.approx(right, rel=1e-4)


@pytest.mark.parametrize("form", ["bool", "category"])
@pytest.mark.parametrize("model", ["itransformer", "timexer"])
def test_a_rare_promotion_is_learned(model: str, form: str):
    """It triples sales on 6 % of days: who does not learn it is 40 apart there."""
    frame = promoted(0.06, rows=900)
    if form == "bool":
        frame["flag"] = frame["flag"].astype(bool)
    else:
        frame["flag"] = pd.Categorical(np.where(frame["flag"] > 0, "promotion", "none"))
    back = trained(frame[:700], model, "known_covariates", "flag", epochs=8).backtest(frame[670:], step=3)
    lifted = back[back["timestamp"].isin(frame.loc[frame["kind"] > 0, "timestamp"])]
    assert len(lifted) > 5
    assert (lifted["target"] - lifted["predictions"]).abs().mean() < 20


def test_gaps_in_a_flag_are_missing_values_in_every_form():
    frame = promoted(0.3, rows=200)
    frame.loc[[20, 50, 51], "flag"] = np.nan
    flag = frame["flag"].map({1.0: True, 0.0: False}).astype(object)
    other = frame.assign(flag=flag.where(flag.notna(), None))
    one, two = (trained(table, "timexer", "known_covariates", "flag", epochs=1) for table in (frame, other))
    assert one.spec == two.spec
    future = ahead(frame, steps=7, freq="D")
    given = [True, None, False, True, None, False, False]
    found = [
        made.predict_df(table, future.assign(flag=pd.Series(values, dtype=kind)))
        for made, table, values, kind in (
            (one, frame, [1.0, np.nan, 0.0, 1.0, np.nan, 0.0, 0.0], float),
            (two, other, given, object),
        )
    ]
    pd.testing.assert_frame_equal(*found, check_exact=True)


def test_a_flag_of_python_is_read_by_the_command_line(tmp_path: Path):
    frame = promoted(0.3, rows=207).assign(flag=lambda table: table["flag"].astype(bool))
    made = trained(frame[:200], "timexer", "known_covariates", "flag", epochs=1)
    made.save_pretrained(tmp_path / "folder")
    columns = ["timestamp", "sales", "flag"]
    frame[:200][columns].to_csv(tmp_path / "history.csv", index=False)
    frame[200:][["timestamp", "flag"]].to_csv(tmp_path / "future.csv", index=False)
    done = tsattn(
        "forecast", "--checkpoint", "folder", "--table", "history.csv", "--future", "future.csv", "--out", "out.csv",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = made.predict_df(frame[:200], frame[200:][["timestamp", "flag"]])["predictions"]
    assert pd.read_csv(tmp_path / "out.csv")["predictions"].to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-5)


def test_rows_of_a_category_are_those_of_an_older_version_where_a_checkpoint_says_so():
    values = np.array(["a", "b", "b", None, "b", "a"], dtype=object)
    made = panel.fit_covariate("kind", "known", values, True)
    assert made.shares == pytest.approx((0.4, 0.6))
    older = Covariate("kind", "known", ("a", "b"))
    times = pd.RangeIndex(6)
    plain = {"variates": ("y",), "targets": 1, "mean": (0.0,), "scale": (1.0,), "frequency": ""}
    old, new = (TableSpec(**plain, covariates=(covariate,)) for covariate in (older, made))
    assert (old.future_covariates, new.future_covariates) == (0, 2)
    rows = panel.known_rows(old, {"kind": values}, times)
    assert rows.tolist() == [[1, 0, 0, 0, 0, 1], [0, 1, 1, 0, 1, 0]]
    found = panel.known_rows(new, {"kind": values}, times)
    deviation = 0.24**0.5
    expected = torch.tensor([1.0, 0, 0, torch.nan, 0, 1])
    torch.testing.assert_close(found[0], (expected - 0.4) / deviation, equal_nan=True)
    torch.testing.assert_close(found[1], (1 - expected - 0.6) / deviation, equal_nan=True)
    assert TableSpec.from_dict(new.to_dict()) == new
    assert TableSpec.from_dict(old.to_dict()) == old


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"'kind' has the shares \[0.5\] of 2 categories, expected a number from 0 to"):
        Covariate("kind", "known", ("a", "b"), shares=(0.5,))


def test_text_stays_a_category_and_numbers_stay_numbers():
    assert panel.is_category(pd.Series(["1", "2"]))
    assert panel.is_category(pd.Series([True, "yes"], dtype=object))
    assert not panel.is_category(pd.Series([True, None], dtype=object))
    spec = fitted(hours(120).assign(kind=np.where(np.arange(120) % 2, "x", "y")), known_covariates="kind").spec
    assert spec.known_rows[:2] == ("kind = x", "kind = y")
