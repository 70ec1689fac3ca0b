"""Names are data: what is typed for a column, a text or a path is that text, on the command line and in files of -c."""

from pathlib import Path

import pandas as pd
import pytest
from support import SMALL, tsattn

from tsattn import parsing, typed
from tsattn.commands import events, recordings, tables, weights
from tsattn.data.modules import TableData

ODD = ["#orders", "~", "null", "&a", "*b", "Load: actual", "[mW]", "Unnamed: 4", "on", "NO", "1e3", "001", "101", "a,b",
       "- x", "-5C", "{k}", "x y", "it's", '"q"', "=1", "!tag", "%d", "@home", "a: b: c", "größe", "π"]  # fmt: skip


def odd_table(path: Path, names: list[str], rows: int = 300) -> Path:
    columns = {name: [(row * (place + 2)) % 7 for row in range(rows)] for place, name in enumerate(names)}
    times = pd.date_range("2024-01-01", periods=rows, freq="h")
    pd.DataFrame({"date": times, **columns}).to_csv(path, index=False)
    return path


# ---- lists and columns


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("[a, b]", ["a", "b"]),
        ("[773869,767541]", ["773869", "767541"]),
        ("[NO, ON, null, ~, 001, 1e3]", ["NO", "ON", "null", "~", "001", "1e3"]),
        ('["a, b", c]', ["a, b", "c"]),
        ("['it''s', c]", ["it's", "c"]),
        ("it's, c", ["it's", "c"]),
        ("[*]", ["*"]),
        ("[[mW], x]", ["[mW]", "x"]),
        ("#orders, Load: actual", ["#orders", "Load: actual"]),
        ("[]", []),
        ("[a, ]", ["a"]),
    ],
)
def test_the_members_of_a_list_are_the_text_as_it_is_typed(text: str, found: list[str]):
    assert typed.members(text) == found


@pytest.mark.parametrize("text", ["a,,b", "[,a]", ""])
def test_a_list_with_an_empty_member_is_refused(text: str):
    with pytest.raises(ValueError, match="empty member"):
        typed.members(text)


@pytest.mark.parametrize("name", ODD)
def test_a_value_that_equals_a_column_is_that_column(name: str):
    assert typed.chosen(name, [*ODD, "a", "b", "mW"]) == [name]


def test_a_list_is_of_columns_also_of_those_with_a_comma():
    assert typed.chosen("[a, b]", ["a", "b"]) == ["a", "b"]
    assert typed.chosen("a,b,c", ["a,b", "c"]) == ["a,b", "c"]
    assert typed.chosen("power, kW, c", ["power, kW", "c"]) == ["power, kW", "c"]
    assert typed.chosen(["#1", "a,b"], ["#1", "a", "b"]) == ["#1", "a", "b"]
    assert typed.chosen("[x, y]", ["a"]) == ["x", "y"]  # for the caller to refuse
    assert typed.chosen(101, [101]) == ["101"]
    assert typed.chosen([101, "102"], ["101", "102"]) == ["101", "102"]
    assert typed.chosen(None, ["None"]) == []


# ---- functions as commands


def arguments(function, *args: str) -> dict:
    return parsing.parse(parsing.options_of(function), args, "command")


@pytest.mark.parametrize("name", [*ODD, "--x"])
def test_text_options_of_functions_are_taken_as_typed(name: str):
    needed = ["--checkpoint=c", "--table=t", "--out=o"]
    assert arguments(tables.forecast, *needed, f"--timestamp={name}")["timestamp"] == name
    assert arguments(tables.forecast, *needed, f"--item_id={name}")["item_id"] == name
    assert arguments(tables.forecast, "--checkpoint=c", f"--table={name}", "--out=o")["table"] == Path(name)
    if name != "--x":
        assert arguments(tables.forecast, *needed, "--timestamp", name)["timestamp"] == name
        assert arguments(recordings.inspect, "a.edf", "--subject", name)["subject"] == name


@pytest.mark.parametrize("text", ["[*]", "*", "[spike*]", "[NO, ON]", "spike, *burst", "[001]"])
def test_lists_of_texts_are_taken_as_typed(text: str):
    kept = arguments(recordings.inspect, "a.edf", "--keep_text", text)["keep_text"]
    assert kept == [part.strip() for part in text.strip("[]").split(",")]
    assert arguments(recordings.inspect, "a.edf", "--keep_text", "a", "--keep_text", "b")["keep_text"] == ["a", "b"]


@pytest.mark.parametrize("text", ["0.5,0,0.5", "[0.5, 0, 0.5]", "0.5, 0, 0.5"])
def test_lists_of_numbers_need_no_brackets(text: str):
    assert arguments(recordings.split, "store", "--out=o", "--fractions", text)["fractions"] == [0.5, 0.0, 0.5]


def test_members_of_a_dictionary_are_typed_as_its_class_says():
    made = arguments(
        recordings.prepare, "a", "--out=o", "--changes.band=[1, 70]", "--changes.bad_rules", "[flat]",
        "--changes.notch", "null", "--changes.order=3", "--changes.reference", "none",
    )["changes"]  # fmt: skip
    assert made == {"band": [1.0, 70.0], "bad_rules": ["flat"], "notch": None, "order": 3, "reference": "none"}
    assert arguments(recordings.prepare, "a", "--out=o", "--changes.band", "null,70")["changes"] == {
        "band": [None, 70.0]
    }
    given = arguments(
        weights.import_checkpoint, "f", "--from", "patchtst", "--out=o", "--given.heads", "8",
        "--given.normalize", "true", "--given.allow", "[a.b, c]",
    )["given"]  # fmt: skip
    assert given == {"heads": 8, "normalize": True, "allow": ["a.b", "c"]}


@pytest.mark.parametrize(
    ("function", "args", "said"),
    [
        (tables.forecast, ["--timestamp", ""], "--timestamp was given and is empty"),
        (tables.forecast, ["--table"], "--table has no value"),
        (tables.forecast, ["--horizon", "two"], "--horizon is 'two', expected a whole number"),
        (tables.forecast, ["--horizon", "1.5"], "expected a whole number"),
        (tables.forecast, ["--quantiles", "0.1,x"], "A member of --quantiles is 'x', expected a number"),
        (tables.forecast, ["--quantile", "0.1"], "Did you mean --quantiles"),
        (tables.forecast, ["x.csv"], "'x.csv' was not expected"),
        (tables.forecast, [], "--checkpoint and --table and --out are missing"),
        (tables.forecast, ["--overwrite=maybe"], "expected true or false"),
        (recordings.inspect, ["a", "--notch", "55"], "expected one of 50, 60"),
        (recordings.inspect, ["a", "--type", "segg"], "Did you mean seeg"),
        (recordings.inspect, ["a", "--changes.bnad", "1,2"], "Did you mean --changes.band"),
        (events.export, ["a", "--to", "szcor"], "Did you mean szcore"),
        (weights.import_checkpoint, ["a", "--form", "patchtst"], "Did you mean --from"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_option(function, args: list[str], said: str):
    with pytest.raises(ValueError, match=said):
        arguments(function, *args)


def test_values_may_stand_apart_or_behind_an_equals_sign_and_switches_alone():
    needed = ["--checkpoint", "c", "--table=t", "--out", "o"]
    made = arguments(tables.forecast, *needed, "--overwrite", "--drop_duplicates", "false", "--horizon", "1e1")
    assert (made["overwrite"], made["drop_duplicates"], made["horizon"]) == (True, False, 10)
    made = arguments(recordings.inspect, "a", "b", "--full", "c")
    assert made["paths"] == [Path("a"), Path("b"), Path("c")]
    assert made["full"] is True


# ---- fit


FIT = ["fit", "-c", "forecast/itransformer.yaml", *SMALL, "--trainer.limit_train_batches=1", "--trainer.max_epochs=1",
       "--trainer.limit_val_batches=1", "--test", "false", "--run_dir", "r"]  # fmt: skip


def targets(folder: Path, table: Path) -> list[str]:
    done = tsattn("forecast", "--checkpoint", "r/best.ckpt", "--table", table, "--out", "f.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    written = pd.read_csv(folder / "f.csv", keep_default_na=False, dtype={"target_name": str})
    return list(dict.fromkeys(written["target_name"]))


NAMES = ["#orders", "~", "&a", "Load: actual", "[mW]", "on", "001", "-5C", "a,b", "- x", "101", "102"]


@pytest.mark.parametrize("name", NAMES)
def test_the_column_that_is_typed_is_forecast(name: str, tmp_path: Path):
    table = odd_table(tmp_path / "t.csv", NAMES)
    done = tsattn(*FIT, "--data.table", table, "--data.target", name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert targets(tmp_path, table) == [name]
    done = tsattn("validate", "--ckpt_path", "r/best.ckpt", cwd=tmp_path)  # config.yaml says the same again
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--data.target", "[101,102]"], ["101", "102"]),
        (["--data.target", "101, #orders"], ["101", "#orders"]),
        (["--data.target", "[[mW], a,b]"], ["[mW]", "a,b"]),
        (["--data.target", "~", "--data.target", "#orders"], ["~", "#orders"]),
        (["--data.exclude", "Load: actual", "--data.exclude=~"], [n for n in NAMES if n not in ("Load: actual", "~")]),
        (["--data.exclude", "[~, -5C, - x, on, 001, a,b]"], ["#orders", "&a", "Load: actual", "[mW]", "101", "102"]),
        (["--data.exogenous", "[mW]", "--data.target", "#orders"], ["#orders"]),
    ],
)
def test_lists_of_columns_are_those_columns(options: list[str], left: list[str], tmp_path: Path):
    table = odd_table(tmp_path / "t.csv", NAMES)
    done = tsattn(*FIT, "--data.table", table, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert targets(tmp_path, table) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[101, 102]", ["101", "102"]),
        ("101", ["101"]),
        ("001", ["001"]),
        ("on", ["on"]),
        ("'~'", ["~"]),
        ("'#orders'", ["#orders"]),
        ('"[mW]"', ["[mW]"]),
        ("['~', on, 001]", ["~", "on", "001"]),
        ("null", NAMES),
    ],
)
def test_a_file_of_ones_own_names_columns_as_it_is_written(text: str, left: list[str], tmp_path: Path):
    table = odd_table(tmp_path / "t.csv", NAMES)
    (tmp_path / "own.yaml").write_text(f"data:\n  init_args:\n    target: {text}\n    split: 0.6,0.2,0.2\n")
    done = tsattn(*FIT, "--data.table", table, "-c", "own.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert targets(tmp_path, table) == left


def test_a_comment_in_the_place_of_a_name_is_refused(tmp_path: Path):
    table = odd_table(tmp_path / "t.csv", NAMES)
    (tmp_path / "own.yaml").write_text("data:\n  init_args:\n    target: #orders\n")
    done = tsattn(*FIT, "--data.table", table, "-c", "own.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "data.target in own.yaml is empty" in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--data.target", ""], "--data.target was given and is empty"),
        (["--data.target", "nowhere"], "no column 'nowhere'"),
        (["--data.target", "null"], "no column 'null'"),
        (["--data.season", "#24"], "--data.season was given as '#24', which is nothing"),
        (["--data.split", "0.6,x"], "A member of --data.split is 'x', expected a number"),
        (["--data.targt", "~"], "Did you mean --data.target"),
        (["--model.horizon", "12"], "Did you mean --model.network.horizon"),
        (["--run_dirr", "x"], "Did you mean --run_dir"),
    ],
)
def test_what_comes_to_nothing_or_is_misspelt_is_refused(options: list[str], said: str, tmp_path: Path):
    table = odd_table(tmp_path / "t.csv", NAMES)
    done = tsattn(*FIT, "--data.table", table, *options, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr


def test_texts_are_plain_where_they_arrive(tmp_path: Path):
    """A checkpoint is read without unpickling classes: a text of another type would make it unreadable."""
    import torch

    table = odd_table(tmp_path / "t.csv", NAMES)
    done = tsattn(*FIT, "--data.table", table, "--data.target", "[101, ~]", "--data.timestamp", "date", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    torch.load(tmp_path / "r/best.ckpt", weights_only=True)


# ---- Python


def test_python_names_columns_of_numbers():
    import numpy as np

    import tsattn as package

    times = pd.date_range("2024-01-01", periods=200, freq="h")
    frame = pd.DataFrame({101: range(200), 102: range(200, 0, -1), "x": 1.0}, index=times)
    for target, found in ((101, ["101"]), ([101, 102], ["101", "102"]), (np.int64(102), ["102"]), ("101", ["101"])):
        forecaster = package.Forecaster("itransformer", context=24, horizon=6, d_model=8, d_ff=8, heads=1)
        forecaster = forecaster.fit(frame, target=target, max_epochs=1)
        assert list(dict.fromkeys(forecaster.predict_df(frame)["target_name"])) == found
        data = TableData.from_frame(frame, target=found, context=24, horizon=6)
        assert list(data.spec.target_names) == found
