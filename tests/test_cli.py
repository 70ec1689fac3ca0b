"""The command line: bad input ends in one sentence that says what to do, and nothing of the user's is lost."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import ROOT, SMALL, tsattn

from tsattn.cli import COMMANDS, main
from tsattn.data.modules import TableData

FIT = ["fit", "-c", "forecast/itransformer.yaml", *SMALL]


def refused(*args: object, cwd: Path) -> str:
    """Run a command that must end in one readable sentence; return it."""
    with contextlib.chdir(cwd), pytest.raises(SystemExit) as end:
        main([str(argument) for argument in args])
    assert isinstance(end.value.code, str)
    return end.value.code


def write(path: Path, frame: pd.DataFrame) -> Path:
    frame.to_csv(path, index=False)
    return path


@pytest.fixture
def frame(table: Path) -> pd.DataFrame:
    return pd.read_csv(table)


def test_both_doors_say_the_same():
    installed = Path(sys.executable).with_name("tsattn")
    assert installed.exists(), "the package is not installed"
    for args in (["--help"], ["data", "--help"], ["forecast", "--help"]):
        one = subprocess.run([installed, *args], capture_output=True, text=True, check=True).stdout
        other = subprocess.run([sys.executable, ROOT / "cli.py", *args], capture_output=True, text=True, check=True)
        assert one == other.stdout


def test_every_command_has_help():
    for command in COMMANDS:
        assert command in tsattn(command, "--help", cwd=ROOT).stdout


def test_a_misspelt_command_is_answered_with_the_right_one(tmp_path: Path):
    assert "Did you mean 'forecast'" in refused("forcast", cwd=tmp_path)


def test_a_missing_table(tmp_path: Path):
    assert "nowhere.csv" in refused(*FIT, "--data.table", "nowhere.csv", cwd=tmp_path)


def test_an_unknown_data_set_is_answered_with_the_nearest(tmp_path: Path):
    assert "etth1" in refused(*FIT, "--data.dataset", "eth1", cwd=tmp_path)
    assert "etth1" in refused("data", "describe", "eth1", cwd=tmp_path)


def test_an_unknown_configuration_is_answered_with_the_nearest(tmp_path: Path):
    message = refused("fit", "-c", "forecast/itransformr.yaml", cwd=tmp_path)
    assert "Did you mean forecast/itransformer.yaml?" in message


def test_neither_table_nor_data_set(tmp_path: Path):
    message = refused(*FIT, cwd=tmp_path)
    assert "table" in message
    assert "dataset" in message


def test_no_timestamp_column(tmp_path: Path, frame: pd.DataFrame):
    path = write(tmp_path / "t.csv", frame.drop(columns=frame.columns[0]))
    assert "--data.timestamp" in refused(*FIT, "--data.table", path, cwd=tmp_path)


def test_a_column_of_words(tmp_path: Path, frame: pd.DataFrame, caplog: pytest.LogCaptureFixture):
    frame["weather"] = "sunny"
    table = write(tmp_path / "t.csv", frame)
    message = refused(*FIT, "--data.table", table, "--data.exogenous", "weather", cwd=tmp_path)
    assert "weather" in message
    assert "sunny" in message
    data = TableData(table=table, context=24, horizon=6)  # nobody asked for it
    assert "weather" not in data.spec.variates
    assert "'weather'" in caplog.text


def test_irregular_and_repeated_timestamps_name_the_row_and_the_option(tmp_path: Path, frame: pd.DataFrame):
    gap = write(tmp_path / "gap.csv", frame.drop(index=[100]))
    assert "--data.freq" in refused(*FIT, "--data.table", gap, cwd=tmp_path)
    twice = write(tmp_path / "twice.csv", pd.concat([frame[:101], frame[100:]]))
    assert "--data.drop_duplicates" in refused(*FIT, "--data.table", twice, cwd=tmp_path)


def test_a_table_that_is_too_short_says_how_many_rows_are_needed(tmp_path: Path, frame: pd.DataFrame):
    message = refused(*FIT, "--data.table", write(tmp_path / "t.csv", frame[:70]), cwd=tmp_path)
    assert "60" in message  # context 48 + horizon 12
    assert "row" in message


def test_a_misspelt_key_is_named(tmp_path: Path, table: Path):
    message = refused(*FIT, "--data.table", table, "--model.network.d_modell", 8, cwd=tmp_path)
    assert "d_modell" in message
    (tmp_path / "bad.yaml").write_text("model:\n  init_args:\n    learning_rate: 0.1\n")
    message = refused("fit", "-c", "forecast/itransformer.yaml", "-c", "bad.yaml", "--data.table", table, cwd=tmp_path)
    assert "learning_rate" in message


def test_lengths_are_the_networks_to_say(tmp_path: Path, table: Path):
    message = refused(*FIT, "--data.table", table, "--data.horizon=7", cwd=tmp_path)
    assert "--model.network.horizon" in message


def test_a_wrapped_network_says_the_lengths(tmp_path: Path, table: Path):
    done = tsattn(
        "fit", "-c", "forecast/gateformer-around-patchtst.yaml", "--data.table", table, "--run_dir", "r",
        "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--model.network.network.horizon=24",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr.count("Warning")
    report = json.loads((tmp_path / "r/metrics.json").read_text())
    assert report["windows"] == 300 - 24 + 1
    for configuration in ([], ["-c", "r/config.yaml"]):
        done = tsattn("test", *configuration, "--ckpt_path", "r/best.ckpt", "--out", "again.json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads((tmp_path / "again.json").read_text())["mse"] == report["mse"]
        (tmp_path / "again.json").unlink()


def test_a_run_folder_is_not_written_over(tmp_path: Path, run: Path, table: Path):
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    message = refused(*FIT, "--data.table", table, "--run_dir", run, cwd=tmp_path)
    assert "holds a run already" in message
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_a_forecast_is_labelled_and_never_overwrites(tmp_path: Path, run: Path, table: Path):
    arguments = ["forecast", "--checkpoint", run / "best.ckpt", "--table", table, "--out", "f.csv", "--plot", "f.png"]
    done = tsattn(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    forecast, own = pd.read_csv(tmp_path / "f.csv"), pd.read_csv(table)
    assert list(forecast.columns) == ["item_id", "timestamp", "target_name", "predictions"]
    assert list(forecast["target_name"].unique()) == list(own.columns[1:])
    assert len(forecast) == 4 * 12
    last = pd.Timestamp(own.iloc[-1, 0])
    assert pd.Timestamp(forecast["timestamp"][0]) == last + pd.Timedelta("1h")
    assert (tmp_path / "f.png").stat().st_size > 10_000
    (tmp_path / "f.csv").write_text("mine")
    assert "--overwrite" in refused(*arguments, cwd=tmp_path)
    assert (tmp_path / "f.csv").read_text() == "mine"
    assert tsattn(*arguments, "--overwrite", cwd=tmp_path).returncode == 0


def test_a_wide_forecast_has_the_tables_columns(tmp_path: Path, run: Path, table: Path):
    arguments = ["forecast", "--checkpoint", run / "best.ckpt", "--table", table, "--out", "f.csv"]
    assert tsattn(*arguments, "--format", "wide", cwd=tmp_path).returncode == 0
    assert list(pd.read_csv(tmp_path / "f.csv").columns)[1:] == list(pd.read_csv(table).columns)[1:]


def test_a_table_without_the_checkpoints_columns(tmp_path: Path, run: Path, frame: pd.DataFrame):
    name = frame.columns[2]
    path = write(tmp_path / "t.csv", frame.drop(columns=name))
    message = refused("forecast", "--checkpoint", run / "best.ckpt", "--table", path, "--out", "f.csv", cwd=tmp_path)
    assert name in message


def test_a_context_with_missing_values_is_forecast_from_what_is_there(tmp_path: Path, run: Path, frame: pd.DataFrame):
    frame.iloc[-20:-10, 1] = np.nan
    path = write(tmp_path / "t.csv", frame)
    done = tsattn("forecast", "--checkpoint", run / "best.ckpt", "--table", path, "--out", "f.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert pd.read_csv(tmp_path / "f.csv")["predictions"].notna().all()


def test_a_constant_column_stays_finite(tmp_path: Path, frame: pd.DataFrame):
    frame[frame.columns[1]] = 7.0
    path = write(tmp_path / "t.csv", frame)
    done = tsattn(*FIT, "--data.table", path, "--run_dir", "r", "--trainer.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = tsattn("forecast", "--checkpoint", "r/best.ckpt", "--table", path, "--out", "f.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    forecast = pd.read_csv(tmp_path / "f.csv")
    flat = forecast.loc[forecast["target_name"] == frame.columns[1], "predictions"]
    assert np.isfinite(flat).all()
    assert np.abs(flat - 7).max() < 0.1


def test_other_lengths_than_the_checkpoints_are_refused(tmp_path: Path, run: Path, table: Path):
    message = refused(
        "test", "-c", run / "config.yaml", "--model.network.horizon", 24, "--ckpt_path", run / "best.ckpt", cwd=tmp_path
    )
    assert "12" in message
    assert "24" in message


def test_other_columns_than_the_checkpoints_are_refused(tmp_path: Path, run: Path, frame: pd.DataFrame):
    path = write(tmp_path / "t.csv", frame.rename(columns={frame.columns[1]: "other"}))
    message = refused("test", "--ckpt_path", run / "best.ckpt", "--data.table", path, cwd=tmp_path)
    assert "other" in message


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, run: Path, table: Path):
    (tmp_path / "cut.ckpt").write_bytes((run / "best.ckpt").read_bytes()[:5000])
    message = refused("forecast", "--checkpoint", "cut.ckpt", "--table", table, "--out", "f.csv", cwd=tmp_path)
    assert "cut short" in message
    shutil.copy(run / "config.yaml", tmp_path)
    assert "cut short" in refused("test", "--ckpt_path", "cut.ckpt", cwd=tmp_path)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, run: Path, table: Path):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "f.csv"
    message = refused("forecast", "--checkpoint", run / "best.ckpt", "--table", table, "--out", out, cwd=tmp_path)
    assert "file" in message


def test_data_is_found_under_tsattn_data(shared: Path, tmp_path: Path):
    done = tsattn("data", "describe", "etth1", cwd=tmp_path, TSATTN_DATA=str(shared / "data/benchmarks"))
    assert done.returncode == 0, done.stderr
    assert "17,420" in done.stdout or "17420" in done.stdout
    assert "BY-ND" in done.stdout


def test_an_exogenous_column_is_read_but_not_forecast(tmp_path: Path, frame: pd.DataFrame, table: Path):
    target = frame.columns[2]
    done = tsattn(
        "fit", "-c", "forecast/timexer.yaml", *SMALL, "--model.network.patch=12", "--data.table", table,
        "--data.target", target, "--run_dir", "r", "--trainer.max_epochs=1", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = tsattn("forecast", "--checkpoint", "r/best.ckpt", "--table", table, "--out", "f.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(pd.read_csv(tmp_path / "f.csv")["target_name"]) == {target}


def test_published_cells_run_with_one_word(shared: Path, tmp_path: Path):
    environment = {"TSATTN_DATA": str(shared / "data/benchmarks")}
    done = tsattn(
        "fit", "-c", "paper/itransformer-exchange-96", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2",
        cwd=tmp_path, **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert "itransformer-exchange-96-96" in run_dir.name
    assert os.path.exists(run_dir / "metrics.json")


def test_weights_of_the_authors_are_imported_and_scored(shared: Path, tmp_path: Path, table: Path):
    import torch
    from safetensors.torch import load_file

    recorded = load_file(shared / "parity/forecasters/itransformer_medium.safetensors")
    state = {name.removeprefix("param/"): tensor for name, tensor in recorded.items() if name.startswith("param/")}
    torch.save(state, tmp_path / "checkpoint.pth")
    arguments = ["import-checkpoint", "checkpoint.pth", "--from", "itransformer", "--out", "folder"]
    given = ["--given.heads", 8, "--given.normalize", "true", "--given.activation", "gelu"]
    assert "--given.heads" in refused(*arguments, cwd=tmp_path)
    done = tsattn(*arguments, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "38 used, 0 dropped, 0 missing" in done.stdout
    assert "--overwrite" in refused(*arguments, *given, cwd=tmp_path)
    assert "statistics" in refused(
        "forecast", "--checkpoint", "folder", "--table", table, "--out", "f.csv", cwd=tmp_path
    )  # never trained here: no scale
    done = tsattn("test", "-c", "folder/config.yaml", "--data.table", table, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "test split, all 205 windows" in done.stdout

    state.pop("projector.bias")
    torch.save(state, tmp_path / "checkpoint.pth")
    arguments[-1] = "other"
    assert "projector.bias" in refused(*arguments, *given, cwd=tmp_path)
    assert not (tmp_path / "other").exists()


def european(path: Path, frame: pd.DataFrame) -> Path:
    written = frame.assign(**{frame.columns[0]: pd.to_datetime(frame.iloc[:, 0]).dt.strftime("%d/%m/%Y %H:%M")})
    written.to_csv(path, sep=";", decimal=",")  # with pandas' own index in front
    return path


def test_a_european_table_is_read_as_it_is_meant(tmp_path: Path, frame: pd.DataFrame):
    from tsattn.data.tables import read_table

    path = european(tmp_path / "t.csv", frame)
    found = read_table(path, time_format="%d/%m/%Y %H:%M", decimal=",")
    assert list(found["variate"].values) == list(frame.columns[1:])
    assert found["values"].values == pytest.approx(frame.iloc[:, 1:].to_numpy().T)
    assert found.attrs["frequency"] == "h"
    way = ["--data.decimal", ",", "--data.timestamp", "date"]
    assert "--data.time_format" in refused(*FIT, "--data.table", path, *way, cwd=tmp_path)


def test_resampling_that_leaves_mostly_holes_is_refused(tmp_path: Path, frame: pd.DataFrame):
    short = frame[:288].assign(**{frame.columns[0]: pd.date_range("2023-01-01", periods=288, freq="h")})
    short[frame.columns[0]] = short[frame.columns[0]].dt.strftime("%d/%m/%Y %H:%M")  # twelve days, read as months
    path = write(tmp_path / "t.csv", short)
    message = refused(*FIT, "--data.table", path, "--data.resample", "1h", cwd=tmp_path)
    assert "--data.time_format" in message


def test_a_column_without_training_values_is_named_before_training(tmp_path: Path, frame: pd.DataFrame):
    frame[frame.columns[2]] = np.nan
    message = refused(*FIT, "--data.table", write(tmp_path / "t.csv", frame), cwd=tmp_path)
    assert frame.columns[2] in message
    assert "--data.exclude" in message


def test_a_column_that_ends_before_the_test_has_no_score_of_its_own(tmp_path: Path, frame: pd.DataFrame):
    frame.loc[1100:, frame.columns[2]] = np.nan
    path = write(tmp_path / "t.csv", frame)
    done = tsattn(*FIT, "--data.table", path, "--run_dir", "r", "--trainer.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r/metrics.json").read_text())
    assert report["per_target"][frame.columns[2]]["mse"] is None
    assert np.isfinite(report["mse"])


def test_a_run_table_with_other_columns_can_be_forecast_from(tmp_path: Path, run: Path, frame: pd.DataFrame):
    path = write(tmp_path / "t.csv", frame.assign(notes="windy"))
    done = tsattn("forecast", "--checkpoint", run, "--table", path, "--out", "f.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_forecast_does_not_replace_its_table(tmp_path: Path, run: Path, table: Path):
    path = shutil.copy(table, tmp_path / "t.csv")
    arguments = ["forecast", "--checkpoint", run, "--table", path, "--out", path, "--overwrite"]
    assert "the table itself" in refused(*arguments, cwd=tmp_path)
    assert path.read_bytes() == table.read_bytes()


def test_options_override_configurations_wherever_they_stand(tmp_path: Path, table: Path):
    done = tsattn(
        "fit", "--data.table", table, *SMALL, "-c", "forecast/itransformer.yaml", "--run_dir", "r",
        "--trainer.limit_train_batches=2", "--trainer.limit_test_batches=2", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "horizon: 12" in (tmp_path / "r/config.yaml").read_text()
    assert "256 of 289 windows" in done.stdout
    assert "limit_test_batches: null" in (tmp_path / "r/config.yaml").read_text()


def test_a_run_goes_on_only_as_itself(tmp_path: Path, run: Path, frame: pd.DataFrame):
    folder = tmp_path / "moved"
    shutil.copytree(run, folder)
    again = ["fit", "--run_dir", folder, "--ckpt_path", "last", "--trainer.max_epochs=3"]
    assert "lr was 0.001 and is 0.5" in refused(*again, "--model.lr=0.5", cwd=tmp_path)
    other = write(tmp_path / "t.csv", frame.assign(**{frame.columns[1]: 2 * frame.iloc[:, 1]}))
    assert "fingerprint" in refused(*again, "--data.table", other, cwd=tmp_path)
    assert "raise that" in refused(*again[:-1], "--trainer.max_epochs=1", cwd=tmp_path)
    done = tsattn(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    epochs = pd.read_csv(folder / "metrics.csv")
    assert epochs["epoch"].tolist() == [1, 2, 3]
    report = json.loads((folder / "metrics.json").read_text())
    assert epochs["val_loss"].idxmin() + 1 == report["best_epoch"]
