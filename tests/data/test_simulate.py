"""The simulated table is the same every time, has what it promises, and the committed sample is made by it."""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsattn.data.modules import TableData
from tsattn.data.simulate import simulate_table
from tsattn.data.tables import read_table

SAMPLE = Path(__file__).parents[2] / "data" / "sample"


def test_equal_seeds_make_equal_tables():
    pd.testing.assert_frame_equal(simulate_table(seed=3, missing=0.1), simulate_table(seed=3, missing=0.1))
    assert not simulate_table(seed=3).equals(simulate_table(seed=4))


@pytest.mark.parametrize(
    ("rows", "variates", "frequency"), [(1, 1, "h"), (63, 2, "15min"), (500, 8, "D"), (40, 3, "W")]
)
def test_the_shape_is_what_was_asked_for(rows: int, variates: int, frequency: str):
    frame = simulate_table(rows=rows, variates=variates, frequency=frequency)
    assert frame.shape == (rows, variates + 1)
    assert np.isfinite(frame.drop(columns="date").to_numpy()).all()


@pytest.mark.parametrize("missing", [0.0, 0.05, 0.5])
def test_the_share_of_missing_values(missing: float):
    values = simulate_table(missing=missing).drop(columns="date")
    assert values.isna().to_numpy().mean() == pytest.approx(missing, abs=1e-4)


def test_the_past_of_other_variates_helps():
    """Least squares on the past of all variates predicts the next day better than on the own past alone."""
    frame = simulate_table(rows=4000, variates=8, seed=0)
    values = frame.drop(columns="date").to_numpy()
    values = (values - values.mean(0)) / values.std(0)
    context, ahead = 24, 6
    past = np.lib.stride_tricks.sliding_window_view(values, context, axis=0)[:-ahead]  # (row, variate, context)
    truth = values[context + ahead - 1 :]
    border = 3000
    better = 0
    for variate in range(1, 8):
        errors = []
        for features in (past[:, [variate]], past):
            flat = features.reshape(len(features), -1)
            weight = np.linalg.lstsq(flat[:border], truth[:border, variate], rcond=None)[0]
            errors.append(np.square(flat[border:] @ weight - truth[border:, variate]).mean())
        better += errors[1] < 0.9 * errors[0]
    assert better >= 5


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="0 rows"):
        simulate_table(rows=0)
    with pytest.raises(ValueError, match=r"missing is 1\.5"):
        simulate_table(missing=1.5)


def test_the_sample_is_small_and_made_by_its_script(tmp_path: Path):
    shutil.copy(SAMPLE / "make_sample.py", tmp_path)
    runpy.run_path(str(tmp_path / "make_sample.py"), run_name="__main__")
    assert (tmp_path / "simulated.csv").read_bytes() == (SAMPLE / "simulated.csv").read_bytes()
    assert (SAMPLE / "simulated.csv").stat().st_size < 40_000
    assert dict(read_table(SAMPLE / "simulated.csv").sizes) == {"variate": 4, "time": 400}
    assert TableData(table=SAMPLE / "simulated.csv", context=48, horizon=12).window_counts == {
        "train": 221,
        "val": 29,
        "test": 69,
    }
