"""What is broken is refused in one sentence: what was found, where, what was expected, what to do."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from making import CONTEXT, HORIZON, MODELS, ahead, fitted, hours, items, small

from tsattn import Forecaster
from tsattn.models.itransformer import ITransformer

# ---- rows and clocks


@pytest.mark.parametrize("when", ["fit", "predict"])
def test_a_row_that_comes_twice_is_refused_with_its_item(panel, of_items, when: str):
    repeated = pd.concat([panel, panel[300:301]])
    said = r"the time 2024-01-05 04:00:00 twice in item 'y', .*`drop_duplicates=True`.*`item_id=\.\.\.`"
    with pytest.raises(ValueError, match=said):
        fitted(repeated) if when == "fit" else of_items.predict_df(repeated)


def test_items_that_nobody_named_are_repeated_rows(panel, of_items):
    with pytest.raises(
        ValueError, match=r"2024-01-01 00:00:00 twice, .*'shop' tells 2 series apart: .*`item_id='shop'`"
    ):
        of_items.predict_df(panel.rename(columns={"item_id": "shop"}))


def test_mixed_frequencies_are_refused_with_the_item(of_items):
    mixed = pd.concat([hours().assign(item_id="x"), hours(90, "2h").assign(item_id="y")])
    said = "mixed frequencies: item 'y' steps by 0 days 02:00:00, others by 0 days 01:00:00.*forecast them apart"
    with pytest.raises(ValueError, match=said):
        fitted(mixed)
    with pytest.raises(ValueError, match=said):
        of_items.predict_df(mixed)


def test_absent_rows_are_refused_and_the_options_are_named(panel, of_items):
    said = (
        r"steps from 2024-01-03 01:00:00 to 2024-01-03 04:00:00 in item 'y', expected a regular step of "
        r"0 days 01:00:00; take absent rows as missing by `freq='h'`"
    )
    with pytest.raises(ValueError, match=said):
        fitted(panel.drop(index=[250, 251]))
    with pytest.raises(ValueError, match=said):
        of_items.predict_df(panel.drop(index=[250, 251]))


def test_with_freq_absent_rows_are_missing_ones(panel, of_items):
    holes = panel.drop(index=[250, 251, 395])
    blank = panel.copy()
    blank.loc[[250, 251, 395], ["a", "b", "c"]] = np.nan
    pd.testing.assert_frame_equal(of_items.predict_df(holes, freq="h"), of_items.predict_df(blank))
    learned, expected = fitted(holes, freq="h"), fitted(blank)
    pd.testing.assert_frame_equal(learned.predict_df(blank), expected.predict_df(blank))
    pd.testing.assert_frame_equal(learned.predict_df(holes), expected.predict_df(blank))  # as in its training
    tuned = learned.finetune(holes, max_epochs=1)
    pd.testing.assert_frame_equal(tuned.predict_df(holes), expected.finetune(blank, max_epochs=1).predict_df(blank))


def test_the_step_is_remembered_as_it_was_said():
    """A day of a zone is not always 24 hours: "24h" is another clock than "D"."""
    frame = hours(90).assign(timestamp=pd.date_range("2024-01-20", periods=90, freq="24h", tz="Europe/Berlin"))
    learned = fitted(frame.drop(index=30), freq="24h", marks="none")
    forecast = learned.predict_df(frame.drop(index=80))
    assert forecast["predictions"].notna().all()
    learned.plot(forecast, history=frame.drop(index=80))


def test_categories_are_refused_by_a_network_that_reads_rows_as_a_set():
    class Plain(ITransformer):
        takes_future = False

        def __init__(self, context: int, horizon: int) -> None:
            super().__init__(context, horizon, d_model=8, heads=2, layers=1, d_ff=8)

    frame = items({"x": 60, "y": 60}).assign(size=lambda t: np.where(t["item_id"] == "x", "small", "large"))
    said = "Plain sets no `known_rows`, so it cannot tell one category of 'size' from another: leave it out"
    with pytest.raises(ValueError, match=said):
        Forecaster(Plain, context=12, horizon=3).fit(frame, target="a", static_covariates="size", max_epochs=1)


@pytest.mark.parametrize("name", ["predictions", "target_name", "cutoff", "0.1"])
def test_a_column_of_items_that_is_called_like_one_of_the_answer_is_refused(panel, name: str):
    with pytest.raises(ValueError, match=f"'{name}' is the column of items or times, expected another name"):
        fitted(panel.rename(columns={"item_id": name}), item_id=name, quantile_levels=(0.1, 0.5))


def test_a_history_without_the_item_is_refused_by_a_plot(panel, of_items):
    forecast = of_items.predict_df(panel)
    with pytest.raises(ValueError, match="The history has no item 'x', which was forecast, expected it beside 'y'"):
        of_items.plot(forecast, history=panel[panel["item_id"] == "y"], item="x")


def test_tensors_of_another_shape_are_refused(point):
    with pytest.raises(ValueError, match=r"past has the shape \(0, 3, 24\), expected \(batch, variate, context\)"):
        point.predict(torch.zeros(0, 3, 24))


def test_times_off_the_grid_of_freq_are_refused(frame):
    moved = frame.copy()
    moved.loc[60, "timestamp"] += pd.Timedelta("7min")
    with pytest.raises(ValueError, match=r"2024-01-03 12:07:00, which is not on the grid of h .*`snap='h'`"):
        fitted(moved, freq="h")


def test_a_freq_that_is_no_step_is_refused(frame):
    with pytest.raises(ValueError, match="freq is 'banana', expected a step as pandas writes it, such as 'h'"):
        fitted(frame, freq="banana")
    with pytest.raises(
        ValueError, match=r"no times that freq='h' could be a step of, .*name their column by `timestamp=\.\.\.`"
    ):
        fitted(frame, timestamp="none", freq="h", target="a")


def test_another_step_than_in_training_is_refused(point, frame):
    with pytest.raises(ValueError, match=r"has the step 2h, expected h, that of the training; .*`freq='h'`"):
        point.predict_df(frame[::2])


def test_no_rows_at_all_are_refused(point, frame):
    for do in (fitted, point.predict_df, point.backtest):
        with pytest.raises(ValueError, match="has no rows, expected at least one"):
            do(frame[:0])


def test_one_row_is_forecast_but_nothing_is_learned_from_it(point, frame):
    found = point.predict_df(frame[:1])
    assert np.isfinite(found["predictions"]).all()
    assert found["timestamp"].iloc[0] == frame["timestamp"][1]
    with pytest.raises(ValueError, match="one row per item, expected at least two in one of them to know the step"):
        fitted(frame[:1])


def test_a_table_that_is_too_short_to_learn_from_is_refused(frame):
    with pytest.raises(ValueError, match=r"6 rows, expected at least context \+ horizon = 24 \+ 6"):
        fitted(frame[:6])
    with pytest.raises(ValueError, match=r"No row is left to train on, .* smaller part for validation"):
        fitted(frame, val_size=200)


@pytest.mark.parametrize("name", ["timestamp", "when"])
def test_a_time_that_is_written_in_another_way_is_refused_with_its_row(frame, name: str):
    written = frame.assign(timestamp=frame["timestamp"].astype(str)).rename(columns={"timestamp": name})
    written.loc[120, name] = "06/01/2024 00:00"
    said = rf"Column '{name}' of the table holds '06/01/2024 00:00' in data row 121, expected a time, .*to_datetime"
    with pytest.raises(ValueError, match=said):
        fitted(written, timestamp=name)


def test_an_empty_time_is_refused_with_its_row(point, frame):
    empty = frame.assign(timestamp=frame["timestamp"].where(frame.index != 5))
    with pytest.raises(ValueError, match="holds NaT in data row 6, expected a time"):
        point.predict_df(empty)


def test_a_table_without_times_is_told_of_the_options_of_python(point, frame):
    for do in (fitted, point.predict_df):
        with pytest.raises(
            ValueError, match=r"no column of times .*`timestamp=\.\.\.`, or say `timestamp='none'`"
        ) as caught:
            do(frame.drop(columns="timestamp"))
        assert "--data" not in str(caught.value)
    with pytest.raises(ValueError, match="has no times, expected some, because the forecaster reads the calendar"):
        point.predict_df(frame, timestamp="none")


@pytest.mark.parametrize("marks", ["true", "none"])
def test_times_of_another_zone_are_the_same_instants_and_times_of_none_are_refused(frame, marks: str):
    there = frame.assign(timestamp=frame["timestamp"].dt.tz_localize("Europe/Berlin"))
    abroad = there.assign(timestamp=there["timestamp"].dt.tz_convert("Asia/Tokyo"))
    forecaster = fitted(there, marks=marks)
    pd.testing.assert_frame_equal(forecaster.predict_df(abroad), forecaster.predict_df(there))
    pd.testing.assert_frame_equal(forecaster.backtest(abroad), forecaster.backtest(there))
    with pytest.raises(ValueError, match=r"have no zone, those .* in Europe/Berlin, .*tz_localize\('Europe/Berlin'\)"):
        forecaster.predict_df(frame)
    said = fitted(frame, zone="Europe/Berlin", marks=marks)
    assert said.spec == dataclasses.replace(forecaster.spec, reading=said.spec.reading)
    pd.testing.assert_frame_equal(said.predict_df(frame), forecaster.predict_df(there))
    with pytest.raises(ValueError, match="are in the zone Asia/Tokyo, those of the training have none"):
        fitted(frame, marks=marks).predict_df(abroad)


# ---- what is known ahead


def known(panel: pd.DataFrame) -> pd.DataFrame:
    return ahead(panel, b=0.5)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f[:-2], r"lacks 2 of the 6 rows of item 'y' .* first one at 2024-01-09 12:00:00, .*left empty"),
        (lambda f: f[:6], r"lacks 6 of the 6 rows of item 'y' .* first one at 2024-01-09 08:00:00"),
        (lambda f: f.drop(index=8), r"lacks 1 of the 6 rows of item 'y' .* first one at 2024-01-09 10:00:00"),
        (
            lambda f: pd.concat([f, f[:6].assign(item_id="z")]),
            r"the item 'z' in data row 13, expected one of the history: 'x', 'y'; leave its rows out",
        ),
        (
            lambda f: pd.concat([f, f[9:10]]),
            r"the time 2024-01-09 11:00:00 of item 'y' again in data row 13, expected every time once; drop",
        ),
        (
            lambda f: f.assign(timestamp=f["timestamp"].dt.tz_localize("UTC")),
            r"are in the zone UTC, those of the training have none, .*tz_localize\(None\)",
        ),
        (lambda f: f.assign(timestamp=f["timestamp"] + pd.Timedelta("5min")), r"lacks 6 of the 6 rows"),
        (lambda f: f.drop(columns="b"), r"no column 'b', expected it beside 'timestamp', 'item_id'"),
        (lambda f: f.drop(columns="item_id"), r"no column 'item_id', expected one that says of which of the 2 items"),
        (lambda f: f.drop(columns="timestamp"), r"no column of times among 'b', expected one; name it by `timestamp"),
        (lambda f: f[:0], r"has no rows, expected 6 of each item"),
        (
            lambda f: f.astype({"b": object}).assign(b=["?" if i == 4 else 0.5 for i in range(12)]),
            r"holds '\?' in column 'b', data row 5, expected a finite number; leave the cell empty",
        ),
        (lambda f: f.assign(b=np.inf), r"holds inf in column 'b', data row 1, expected a finite number"),
    ],
)  # fmt: skip
def test_a_future_that_does_not_fit_the_history_is_refused(panel, knowing, spoil, said: str):
    with pytest.raises(ValueError, match="future_df .*" + said):
        knowing.predict_df(panel, spoil(known(panel)))


def test_order_and_further_rows_of_the_future_do_not_matter(panel, knowing):
    future = known(panel)
    expected = knowing.predict_df(panel, future)
    pd.testing.assert_frame_equal(knowing.predict_df(panel, future.sample(frac=1, random_state=0)), expected)
    more = pd.concat([panel[["item_id", "timestamp", "b"]], future, known(pd.concat([panel, future]))])
    pd.testing.assert_frame_equal(knowing.predict_df(panel, more), expected)


def test_a_future_is_wanted_if_and_only_if_it_was_declared(panel, knowing, of_items):
    with pytest.raises(ValueError, match="reads 'b' over the horizon, expected them in `future_df`"):
        knowing.predict_df(panel)
    with pytest.raises(ValueError, match=r"future_df was given, but .* without known covariates: leave it out"):
        of_items.predict_df(panel, known(panel))


# ---- columns


@pytest.mark.parametrize("role", ["target", "past_covariates", "known_covariates", "static_covariates"])
def test_a_column_that_is_not_there_is_refused_with_its_argument(frame, role: str):
    with pytest.raises(ValueError, match=rf"no column 'z', expected one of 'timestamp', 'a', .*check `{role}`"):
        fitted(frame, **{"target": "a", role: "z"})


def test_a_column_that_a_forecast_needs_is_asked_for(panel, of_items):
    with pytest.raises(ValueError, match="no column 'c', expected it beside 'item_id', 'timestamp', 'a', 'b'"):
        of_items.predict_df(panel.drop(columns="c"))


@pytest.mark.parametrize("role", ["target", "past_covariates", "known_covariates", "static_covariates"])
def test_a_column_without_any_value_is_refused_with_its_name(frame, role: str):
    empty = frame.assign(empty=np.nan)
    with pytest.raises(ValueError, match=r"Column 'empty' has no value in the 180 training rows, .*leave it out"):
        fitted(empty, **{"target": "a", role: "empty"})


def test_a_column_of_categories_without_any_value_is_refused_with_its_name(frame):
    empty = frame.assign(empty=pd.Series([None] * len(frame), dtype=object))
    with pytest.raises(ValueError, match="Column 'empty' has no value in the training rows, expected some categories"):
        fitted(empty, target="a", known_covariates="empty")


def test_a_column_has_one_role(frame, panel):
    with pytest.raises(ValueError, match="'b' is both past_covariates and known_covariates, expected one role"):
        fitted(frame, target="a", past_covariates="b", known_covariates="b")
    with pytest.raises(ValueError, match="'a' is both target and static_covariates, expected one role"):
        fitted(frame, target="a", static_covariates="a")
    with pytest.raises(ValueError, match="'a' is twice in target, expected one role"):
        fitted(frame, target=["a", "a"])
    for role, name in (("known_covariates", "item_id"), ("known_covariates", "timestamp")):
        with pytest.raises(ValueError, match=f"its items or times in the column '{name}', expected another one"):
            fitted(panel, target="a", **{role: name})
    with pytest.raises(ValueError, match="its items or times in the column 'timestamp', expected another one"):
        fitted(frame, target="timestamp")


def test_a_table_with_nothing_to_forecast_is_refused(frame):
    with pytest.raises(ValueError, match=r"No column of 'timestamp' is left to forecast, .*name it by `target`"):
        fitted(frame[["timestamp"]])


def test_numbers_that_are_written_as_text_are_read(point, frame):
    written = frame.assign(a=frame["a"].map("{!r}".format))
    pd.testing.assert_frame_equal(point.predict_df(written), point.predict_df(frame))


@pytest.mark.parametrize("when", ["fit", "predict"])
def test_text_in_a_target_is_refused_with_its_row(point, frame, when: str):
    broken = frame.astype({"a": object})
    broken.loc[190, "a"] = "broken"
    said = (
        r"holds 'broken' in column 'a', data row 191 at 2024-01-08 22:00:00, expected a finite number; leave the cell "
        r"empty .*covariate"
    )
    with pytest.raises(ValueError, match=said):
        fitted(broken, target="a") if when == "fit" else point.predict_df(broken)


def test_text_in_a_covariate_is_categories(frame):
    coloured = frame.assign(colour=np.where(frame.index % 3, "red", "blue"))
    forecaster = fitted(coloured, target="a", past_covariates="colour")
    assert forecaster.spec.known_rows[:2] == ("colour = blue", "colour = red")


def test_a_category_that_training_never_saw_is_refused_and_may_be_left_empty(frame):
    coloured = frame.assign(colour=np.where(frame.index % 3, "red", "blue"))
    forecaster = fitted(coloured, target="a", known_covariates="colour")
    green = coloured.assign(colour=coloured["colour"].where(coloured.index != 190, "green"))
    future = ahead(frame, colour="red")
    said = r"'green' in 'colour' at 2024-01-08 22:00:00, which training never saw, expected one of 'blue', 'red'; leave"
    with pytest.raises(ValueError, match=said):
        forecaster.predict_df(green, future)
    with pytest.raises(ValueError, match=r"'green' in 'colour' at 2024-01-09 08:00:00, which training never saw"):
        forecaster.predict_df(coloured, ahead(frame, colour="green"))
    empty = green.assign(colour=green["colour"].where(green.index != 190, None))
    found = forecaster.predict_df(empty, future.assign(colour=pd.Series([None] * HORIZON, dtype=object)))
    assert np.isfinite(found["predictions"]).all()


def test_too_many_categories_are_refused(frame):
    named = frame.assign(name=[f"n{i}" for i in frame.index])
    with pytest.raises(ValueError, match="'name' has 180 categories, expected at most 64: group the rare ones"):
        fitted(named, target="a", known_covariates="name")


def test_a_static_covariate_that_changes_within_an_item_is_refused(panel):
    sited = panel.assign(site=np.where(panel["item_id"] == "x", "north", "south"))
    forecaster = fitted(sited, target="a", static_covariates="site")
    changed = sited.assign(site=sited["site"].where(sited.index != 395, "north"))
    said = r"'south' and 'north' in 'site' in item 'y', expected one value in every item of a static .*declare it"
    for do in (forecaster.predict_df, lambda table: fitted(table, target="a", static_covariates="site")):
        with pytest.raises(ValueError, match=said):
            do(changed)


KINDS = ("numbers", "categories")
ROLES = ("past_covariates", "known_covariates", "static_covariates")
EVERY = {(role, kind) for role in ROLES for kind in KINDS}
REFUSED = {
    "patchtst": EVERY,
    "patchtst-official": EVERY,
    "gateformer": EVERY - {("past_covariates", "numbers")},
    "gateformer-around-patchtst": EVERY - {("past_covariates", "numbers")},
    "mvpa": {("known_covariates", kind) for kind in KINDS},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("model", MODELS)
def test_a_declared_column_changes_the_forecast_or_is_refused(model: str, role: str, kind: str):
    frame = items({"x": 60, "y": 60})
    if role == "static_covariates":
        frame["more"] = np.where(frame["item_id"] == "x", 1.0, 2.0)
    else:
        frame["more"] = np.arange(120) % 5 / 2.0
    if kind == "categories":
        frame["more"] = frame["more"].map("size {}".format)
    options = {"target": "a", role: "more", "val_size": 0}
    if (role, kind) in REFUSED.get(model, ()):
        with pytest.raises(ValueError, match=r"'more'.*(leave it out|pass it by past_covariates)"):
            fitted(frame, model, **options)
        return
    forecaster = fitted(frame, model, **options)
    known = role == "known_covariates"
    future = ahead(frame, more=frame["more"][0]) if known else None
    one, other = (frame["more"].unique()[i] for i in (0, 1))  # categories must not be a set without names
    changed = frame.assign(more=frame["more"].replace({one: other, other: one}))
    before = forecaster.predict_df(frame, future)["predictions"]
    assert np.abs(before - forecaster.predict_df(changed, future)["predictions"]).max() > 1e-6
    if known:
        moved = forecaster.predict_df(frame, future.assign(more=other))["predictions"]
        assert np.abs(before - moved).max() > 1e-6


@pytest.mark.parametrize(
    ("model", "role", "said"),
    [
        ("patchtst", "past_covariates", r"from its own past and cannot use 'c' \(past_covariates\): leave it out, or"),
        ("gateformer", "known_covariates", r"cannot use 'c' \(known_covariates\): leave it out, or take"),
        ("mvpa", "known_covariates", r"would read 'c' in its past only: pass it by past_covariates, or take"),
        ("patchtst-official", "static_covariates", r"cannot use 'c' \(static_covariates\): leave it out, or take"),
    ],
)
def test_a_column_that_the_network_cannot_use_is_refused_with_what_to_do(model: str, role: str, said: str):
    frame = hours(60).assign(c=1.0 if role == "static_covariates" else 0.0)
    frame.loc[3, "c"] = 1.0
    with pytest.raises(ValueError, match=said):
        fitted(frame, model, target="a", **{role: "c"})


# ---- arguments


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ((0.0, 0.5), "holds 0, expected numbers above 0 and below 1"),
        ((0.5, 1.5), "holds 1.5, expected numbers above 0 and below 1"),
        ((0.9, 0.5, 0.1), r"is \[0.9, 0.5, 0.1\], expected each to be larger than the one before"),
        ((0.1, 0.5, 0.5), "expected each to be larger than the one before"),
        ((), "is empty, expected at least one, such as"),
    ],
)
def test_quantile_levels_that_mean_nothing_are_refused(point, quantile, frame, levels, said: str):
    for do in (
        lambda: fitted(frame, quantile_levels=levels),
        lambda: quantile.predict_df(frame, quantile_levels=levels),
        lambda: quantile.backtest(frame, windows=1, quantile_levels=levels),
        lambda: point.calibrate(frame, quantile_levels=levels),
    ):
        with pytest.raises(ValueError, match=said):
            do()


def test_quantiles_that_the_forecaster_does_not_have_are_refused(point, quantile, frame):
    with pytest.raises(ValueError, match=r"quantile 0.05 was asked for, expected one from 0.1 to 0.9.*quantile_levels"):
        quantile.predict_df(frame, quantile_levels=(0.05, 0.5))
    with pytest.raises(ValueError, match=r"forecasts a point: train it by `fit\(quantile_levels=...\)`.*`calibrate`"):
        point.predict_df(frame, quantile_levels=(0.5,))
    with pytest.raises(ValueError, match=r"\[0.2, 0.5, 0.8\], expected those of the network, \[0.1, 0.5, 0.9\]"):
        quantile.calibrate(frame, quantile_levels=(0.2, 0.5, 0.8))
    with pytest.raises(ValueError, match=r"15 windows .* expected at least 499 for the level 0.001"):
        point.calibrate(frame, quantile_levels=(0.001, 0.5, 0.999))
    with pytest.raises(ValueError, match=r"last 3 rows hold no window of 24 \+ 6 steps, .*a larger `size`"):
        point.calibrate(frame, size=3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_epochs": 0}, "max_epochs is 0, expected a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size is 0, expected a whole number of at least 1"),
        ({"patience": -1}, "patience is -1, expected a whole number of at least 0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0, expected a number above 0"),
        ({"val_size": -1}, "size of a part is -1, expected a whole number of rows, or a share below 1"),
        ({"val_size": 1.0}, "size of a part is 1.0, expected a whole number of rows, or a share below 1"),
        ({"val_size": 1.5}, "size of a part is 1.5, expected a whole number of rows, or a share below 1"),
        ({"distribution": "student-t"}, 'distribution is "student-t", but no `quantile_levels` were asked for'),
        ({"item_id": "shop"}, "no column 'shop' of items, expected it beside 'timestamp', 'a'"),
    ],
)
def test_arguments_of_fit_that_mean_nothing_are_refused(frame, options, said: str):
    with pytest.raises(ValueError, match=said):
        fitted(frame, **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_epochs": "ten"}, "max_epochs is 'ten', expected a whole number of at least 1"),
        ({"batch_size": 1.5}, "batch_size is 1.5, expected a whole number of at least 1"),
        ({"learning_rate": "high"}, "learning_rate is 'high', expected a number above 0"),
        ({"seed": "one"}, "seed is 'one', expected a whole number of at least 0"),
        ({"val_size": "some"}, "size of a part is 'some', expected a whole number of rows, or a share below 1"),
        ({"quantile_levels": 0.5}, r"levels is 0.5, expected several numbers, such as \[0.1, 0.5, 0.9\]"),
        ({"target": 0.5}, "target is 0.5, expected the name of a column, or several"),
    ],
)
def test_arguments_of_fit_of_another_type_are_refused(frame, options, said: str):
    with pytest.raises(ValueError, match=said):
        fitted(frame, **options)


@pytest.mark.usefixtures("unchecked")
def test_numbers_that_count_something_are_whole(panel, of_items):
    with pytest.raises(ValueError, match=r"windows is 1\.5, expected a whole number of at least 1"):
        of_items.backtest(panel, windows=1.5)
    with pytest.raises(ValueError, match=r"context is 24\.5, expected a whole number of at least 1"):
        small(context=24.5)


def test_more_windows_than_there_are_are_refused(panel, of_items):
    with pytest.raises(
        ValueError,
        match=r"Item 'x' has 200 rows, enough for 29 windows of 24 \+ 6 steps, 6 apart, expected 100; ask for fewer",
    ):
        of_items.backtest(panel, windows=100)
    with pytest.raises(ValueError, match="step is 0, expected a whole number of at least 1"):
        of_items.backtest(panel, windows=2, step=0)
    with pytest.raises(ValueError, match="horizon is 0, expected a whole number of at least 1"):
        of_items.predict_df(panel, horizon=0)


def test_a_step_at_which_most_rows_are_absent_is_told(frame, caplog):
    daily = frame.assign(timestamp=pd.date_range("2024-01-01", periods=len(frame), freq="D"))
    fitted(daily, freq="h")
    assert f"has {len(frame)} rows and lacks {23 * (len(frame) - 1)} at the step 'h': is that its step?" in caplog.text


@pytest.mark.parametrize("name", ["item", "quantile"])
def test_a_variable_that_is_called_like_an_axis_of_the_answer_is_refused(frame, name: str):
    dataset = frame.set_index("timestamp").rename_axis("time").to_xarray().rename(a=name)
    with pytest.raises(ValueError, match=f"has the variable '{name}', expected another name"):
        fitted(dataset)


def test_unknown_models_and_arguments_are_refused():
    with pytest.raises(ValueError, match=r"no model 'itransfomer', expected one of .*Did you mean 'itransformer'\?"):
        Forecaster("itransfomer", context=CONTEXT, horizon=HORIZON)
    with pytest.raises(ValueError, match=r"ITransformer has no argument 'widht' to set here, expected one of context,"):
        small(widht=3)
    with pytest.raises(
        ValueError, match="GatedForecaster has no argument 'patch' to set here, expected one of context,"
    ):
        small("gateformer-around-patchtst", patch=4)
    with pytest.raises(ValueError, match="not trained yet: call `fit`"):
        small().predict_df(hours())
    with pytest.raises(TypeError, match=r"The table is a list, expected a DataFrame \(pandas, polars\)"):
        fitted([1, 2])


@pytest.mark.parametrize("model", MODELS)
def test_every_model_that_is_listed_can_be_made(model: str):
    forecaster = small(model)
    assert (forecaster.context, forecaster.horizon) == (CONTEXT, HORIZON)
    assert len(fitted(hours(60), model).predict_df(hours(60))) == 3 * HORIZON
    with pytest.raises(ValueError, match=f"expected one of .*{model}"):
        Forecaster("nothing")


# ---- files


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        Forecaster.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises((ValueError, FileNotFoundError), match=r"config\.json"):
        Forecaster.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises((ValueError, FileNotFoundError), match=str(tmp_path)):
        Forecaster.from_pretrained(tmp_path)


def test_weights_that_do_not_fit_the_configuration_are_refused(point, tmp_path: Path):
    point.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    text = json.dumps(config).replace('"d_model": 8', '"d_model": 16')
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="weights"):
        Forecaster.from_pretrained(tmp_path)


def test_nothing_is_overwritten_unless_it_is_asked_for(point, tmp_path: Path):
    point.save_pretrained(tmp_path)
    with pytest.raises(FileExistsError, match="overwrite"):
        point.save_pretrained(tmp_path)
    point.save_pretrained(tmp_path, overwrite=True)


# ---- at size


def test_one_bad_cell_among_a_million_is_found_at_once():
    rows = pd.DataFrame(
        {
            "item_id": np.repeat([f"i{k}" for k in range(100)], 10_000),
            "timestamp": np.tile(pd.date_range("2020-01-01", periods=10_000, freq="h"), 100),
            "a": np.random.default_rng(0).normal(size=1_000_000),
        }
    )
    forecaster = fitted(rows[:200])
    broken = rows.astype({"a": object})
    broken.loc[777_777, "a"] = "n/a?"
    begin = time.perf_counter()
    said = r"holds 'n/a\?' in column 'a', data row 777778 of item 'i77' at 2020-11-20 01:00:00, expected a finite"
    with pytest.raises(ValueError, match=said):
        forecaster.predict_df(broken)
    assert time.perf_counter() - begin < 3
    rows.loc[777_777, "a"] = np.inf
    with pytest.raises(ValueError, match="holds inf in column 'a', data row 777778 of item 'i77'"):
        forecaster.predict_df(rows)
