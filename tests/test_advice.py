"""Advice is followed to the letter: what a message proposes is copied from it, and the command does what is right."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recordings.edf_files import write_edf
from support import SMALL, tsattn

from tsattn import parsing
from tsattn.cli import FUNCTIONS, TRAINING

FIT = ["fit", "-c", "forecast/itransformer.yaml", *SMALL, "--trainer.limit_train_batches=1", "--trainer.max_epochs=1",
       "--trainer.limit_val_batches=1", "--test", "false", "--run_dir", "r"]  # fmt: skip
ADVISED = re.compile(r"`(--[a-z][\w.]* [^`]+)`")


def advised(text: str) -> list[list[str]]:
    """Return the options with a value that a message puts into backquotes, as a shell splits them."""
    return [shlex.split(found) for found in ADVISED.findall(text) if "..." not in found]


def follow(
    command: list[object],
    folder: Path,
    steps: int = 4,
    choose: Callable[[list[list[str]]], list[str]] = lambda ways: ways[0],
):
    """Run a command, do what its message says, and so on until it works; return the run and what was added."""
    added: list[str] = []
    for _ in range(steps + 1):
        done = tsattn(*command, *added, cwd=folder)
        ways = advised(done.stderr)
        if done.returncode == 0 or not ways:
            break
        added += choose(ways)
    assert done.returncode == 0, f"after {added}: {done.stderr}"
    return done, added


def targets(folder: Path, table: Path, *more: str) -> set[str]:
    command = ["forecast", "--checkpoint", "r/best.ckpt", "--table", table, "--out", "f.csv", "--overwrite", *more]
    follow(command, folder)
    return set(pd.read_csv(folder / "f.csv", keep_default_na=False)["target_name"])


def frame(rows: int = 400, names: tuple[str, ...] = ("v0", "v1")) -> pd.DataFrame:
    at = np.arange(rows)
    waves = {name: np.round(np.sin(at / 4 + place), 4) for place, name in enumerate(names)}
    return pd.DataFrame({"date": pd.date_range("2024-01-01", periods=rows, freq="h").astype(str), **waves})


# ---- tables


@pytest.mark.parametrize("name", ["weather", "Load: actual", "#note", "it's", "[text]", "$HOME", "~", "two  blanks"])
def test_a_column_of_words_is_left_out_under_any_name(name: str, tmp_path: Path):
    table = tmp_path / "t.csv"
    frame().assign(**{name: "windy"}).to_csv(table, index=False)
    _done, added = follow([*FIT, "--data.table", table], tmp_path)
    assert added[0].endswith("exclude")
    assert targets(tmp_path, table) == {"v0", "v1"}


def test_several_columns_are_left_out_one_after_the_other(tmp_path: Path):
    table = tmp_path / "t.csv"
    frame().assign(a="x", b="y", c="z").to_csv(table, index=False)
    follow([*FIT, "--data.table", table], tmp_path)
    assert targets(tmp_path, table) == {"v0", "v1"}


def test_a_column_without_training_values_is_left_out(tmp_path: Path):
    table = tmp_path / "t.csv"
    made = frame()
    made["late: one"] = [np.nan] * 350 + [1.0] * 50
    made.to_csv(table, index=False)
    follow([*FIT, "--data.table", table], tmp_path)
    assert targets(tmp_path, table) == {"v0", "v1"}


def test_repeated_times_are_dropped(tmp_path: Path):
    table = tmp_path / "t.csv"
    made = frame()
    pd.concat([made[:101], made[100:]]).to_csv(table, index=False)
    done, _ = follow([*FIT, "--data.table", table], tmp_path)
    assert "400 rows" in done.stdout


def test_a_table_without_times_is_read_as_equally_spaced(tmp_path: Path):
    table = tmp_path / "t.csv"
    frame().drop(columns="date").to_csv(table, index=False)
    follow([*FIT, "--data.table", table], tmp_path)
    assert targets(tmp_path, table) == {"v0", "v1"}


def test_an_output_that_exists_is_overwritten_when_that_is_asked_for(tmp_path: Path, run: Path, table: Path):
    (tmp_path / "f.csv").write_text("mine")
    command = ["forecast", "--checkpoint", run / "best.ckpt", "--table", table, "--out", "f.csv"]
    done = tsattn(*command, cwd=tmp_path)
    [way] = re.findall(r"pass (--[\w.]+ \w+)", done.stderr)
    assert tsattn(*command, *shlex.split(way), cwd=tmp_path).returncode == 0
    assert len(pd.read_csv(tmp_path / "f.csv")) == 48


def test_a_run_folder_is_written_over_or_continued_as_its_message_says(tmp_path: Path):
    table = tmp_path / "t.csv"
    frame().to_csv(table, index=False)
    assert tsattn(*FIT, "--data.table", table, cwd=tmp_path).returncode == 0
    refused = tsattn(*FIT, "--data.table", table, cwd=tmp_path)
    assert "--overwrite true" in refused.stderr
    assert tsattn(*FIT, "--data.table", table, "--overwrite", "true", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("options", "right"),
    [
        (["--data.horizon", "6"], "--model.network.horizon"),
        (["--model.context", "24"], "--model.network.context"),
        (["--data.lr", "0.1"], "--model.lr"),
        (["--table", "t.csv"], "--data.table"),
        (["--max_epochs", "3"], "--trainer.max_epochs"),
        (["--data.exlude", "v0"], "--data.exclude"),
    ],
)
def test_the_option_that_is_proposed_is_one_of_the_parser(options: list[str], right: str, tmp_path: Path):
    table = tmp_path / "t.csv"
    frame().to_csv(table, index=False)
    refused = tsattn(*FIT, "--data.table", table, *options, cwd=tmp_path)
    assert refused.returncode == 1
    [found] = re.findall(r"(?:Did you mean|pass) (--[\w.]+\w)", refused.stderr)
    assert found == right
    again = tsattn(*FIT, "--data.table", table, found, options[1], cwd=tmp_path)
    assert again.returncode == 0, again.stderr


# ---- recordings and events


def volts(path: Path, **header: object) -> Path:
    generator = np.random.default_rng(0)
    signals = [(generator.normal(0, 400, 256 * 60)).astype(int) for _ in range(3)]
    return write_edf(path, signals, [256] * 3, **header)


def test_a_file_that_was_cut_is_read_as_far_as_it_goes(tmp_path: Path):
    path = volts(tmp_path / "a.edf")
    path.write_bytes(path.read_bytes()[: -256 * 2 * 3 * 5])
    done, added = follow(["recordings", "inspect", path], tmp_path)
    assert added == ["--on_mismatch", "warn"]
    assert "55 data records" in done.stdout or "holds 55" in done.stdout


def test_values_in_another_unit_are_read_in_it(tmp_path: Path):
    path = volts(tmp_path / "a.edf", unit="")
    data = bytearray(path.read_bytes())
    at = 256 + 3 * (16 + 80 + 8)  # physical minimum and maximum
    data[at : at + 48] = b"".join(text.ljust(8) for text in [b"-0.00328"] * 3 + [b"0.003277"] * 3)
    path.write_bytes(data)
    _, added = follow(["recordings", "prepare", path, "--out", "s.zarr"], tmp_path)
    assert added == ["--unit", "V"]


def test_recordings_that_cannot_be_prepared_are_left_out(tmp_path: Path):
    (tmp_path / "in").mkdir()
    volts(tmp_path / "in/a.edf")
    write_edf(tmp_path / "in/b.edf", [np.zeros(256 * 60, int)] * 3, [256] * 3)
    done = tsattn("recordings", "prepare", "in", "--out", "s.zarr", cwd=tmp_path)
    if done.returncode:
        done, added = follow(["recordings", "prepare", "in", "--out", "s.zarr"], tmp_path)
        assert added == ["--skip", "true"]
    assert "1 recordings" in done.stdout or "2 recordings" in done.stdout


EVENTS = "onset\tduration\teventType\tdateTime\trecordingDuration\n{}\t{}\tsz\t2024-01-01 00:00:00\t600.00\n"


def test_events_past_the_end_are_cut_when_that_is_asked_for(tmp_path: Path):
    (tmp_path / "a_events.tsv").write_text(EVENTS.format("580.0", "60.0"))
    _, added = follow(["events", "export", "a_events.tsv", "--to", "csv", "--out", "a.csv"], tmp_path)
    assert added == ["--outside", "clip"]
    found = pd.read_csv(tmp_path / "a.csv")
    assert (found["onset"] + found["duration"]).tolist() == [600.0]


def test_the_duration_that_no_file_states_is_asked_for(tmp_path: Path):
    (tmp_path / "a.csv").write_text("onset,duration,event_type\n10,20,sz\n")
    command = ["events", "export", "a.csv", "--to", "szcore", "--out", "a_events.tsv"]
    refused = tsattn(*command, cwd=tmp_path)
    assert refused.returncode == 1
    assert "--duration" in refused.stderr
    assert tsattn(*command, "--duration", "600", cwd=tmp_path).returncode == 0


# ---- what messages name


def test_a_message_names_only_options_of_its_command(tmp_path: Path, run: Path):
    table = tmp_path / "t.csv"
    made = pd.read_csv(run.parent / "my.csv")
    made[made.columns[1]] = made[made.columns[1]].astype(object)
    made.iloc[5, 1] = "n/k"
    made.to_csv(table, index=False)
    done = tsattn("forecast", "--checkpoint", run / "best.ckpt", "--table", table, "--out", "f.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert made.columns[1] in done.stderr
    from tsattn.commands.tables import forecast

    known = {option.flag for option in parsing.options_of(forecast)}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w.]*", done.stderr)) <= known


def test_messages_spell_options_as_each_command_does():
    from tsattn.commands import recordings, tables, weights
    from tsattn.train.arguments import Classes, Spelling

    for_forecast = parsing.Spelling(parsing.options_of(tables.forecast), {"quantile_levels": "quantiles"})
    assert for_forecast["timestamp"] == "--timestamp"
    assert for_forecast["quantile_levels"] == "--quantiles"
    assert "exclude" not in for_forecast
    for_prepare = parsing.Spelling(parsing.options_of(recordings.prepare))
    assert for_prepare["implausible"] == "--changes.implausible"
    assert for_prepare["unit"] == "--unit"
    assert "timestamp" not in for_prepare
    assert parsing.Spelling(parsing.options_of(weights.import_checkpoint))["heads"] == "--given.heads"
    of_tables = Classes(["-c", str(Path(__file__).parents[1] / "configs/forecast/itransformer.yaml")])
    for name, flag in {
        "target": "--data.target",
        "horizon": "--model.network.horizon",
        "lr": "--model.lr",
        "max_epochs": "--trainer.max_epochs",
        "quantile_levels": "--model.quantiles",
        "run_dir": "--run_dir",
        "seed": "--seed_everything",
    }.items():
        assert Spelling("fit", of_tables)[name] == flag
    assert "run_dir" not in Spelling("test", of_tables)
    assert "variates" not in Spelling("fit", of_tables)
    around = Classes(["-c", str(Path(__file__).parents[1] / "configs/forecast/gateformer-around-patchtst.yaml")])
    assert Spelling("fit", around)["horizon"] == "--model.network.network.horizon"
    assert set(TRAINING) | set(FUNCTIONS)
