"""A table that is tested is read as that of the training was, and an option that is typed comes first."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import tsattn

from tsattn import Forecaster

SIZES = "--model.network.context 24 --model.network.horizon 6 --model.network.d_model 8 --model.network.d_ff 8".split()
MODEL = ["-c", "forecast/itransformer.yaml", *SIZES, "--model.network.heads", "2", "--model.network.layers", "1"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a European table with two clocks, of which the second is named."""
    folder = tmp_path_factory.mktemp("european")
    hours = pd.date_range("2024-01-03", periods=300, freq="h")
    wave = 1200 + 100 * np.sin(np.arange(300) / 4)
    frame = pd.DataFrame(
        {
            "date": (hours + pd.Timedelta("90D")).strftime("%d/%m/%Y %H:%M"),
            "read_at": hours.strftime("%d/%m/%Y %H:%M"),
            "y": [f"{value:,.2f}".translate(str.maketrans(",.", ".,")) for value in wave],
        }
    )
    frame.to_csv(folder / "t.csv", index=False, sep=";")
    how = ["--data.decimal", ",", "--data.thousands", ".", "--data.time_format", "%d/%m/%Y %H:%M"]
    table = ["--data.table", folder / "t.csv", "--data.timestamp", "read_at"]
    done = tsattn("fit", *MODEL, *table, *how, "--trainer.max_epochs", "1", "--run_dir", folder / "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_test_with_a_configuration_of_ones_own_reads_the_table_as_the_training_did(trained: Path):
    args = ["test", *MODEL, "--data.table", trained / "t.csv", "--ckpt_path", trained / "run/best.ckpt"]
    own, run = (tsattn(*one, cwd=trained) for one in (args, ["test", "--ckpt_path", trained / "run/best.ckpt"]))
    assert own.returncode == 0, own.stderr
    assert run.returncode == 0, run.stderr
    row = [line for line in own.stdout.splitlines() if line.startswith("ITransformer ")]
    assert row
    assert row == [line for line in run.stdout.splitlines() if line.startswith("ITransformer ")]
    spec = Forecaster.from_pretrained(trained / "run/best.ckpt").spec
    assert spec is not None
    assert abs(spec.mean[0] - 1200) < 20  # thousands were thousands


def test_an_option_that_is_typed_comes_before_what_the_training_read(trained: Path):
    args = ["test", *MODEL, "--data.table", trained / "t.csv", "--ckpt_path", trained / "run/best.ckpt"]
    done = tsattn(*args, "--data.decimal", ".", cwd=trained)
    assert done.returncode == 1
    assert "decimal and thousands are both '.'" in done.stderr
