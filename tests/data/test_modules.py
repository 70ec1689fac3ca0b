"""The data module against the authors' recorded loaders, and what users may put into it."""

import json
import logging
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from tsattn.contracts import TableSpec
from tsattn.data.modules import PARTS, TableData
from tsattn.data.simulate import simulate_table


def scores(data: TableData, name: str, part: str = "test") -> tuple[float, float]:
    squared = absolute = count = 0.0
    for future, forecasts in data.naive_forecasts(part):  # type: ignore[arg-type]
        error = (forecasts[name] - future).double()
        squared, absolute, count = squared + error.square().sum(), absolute + error.abs().sum(), count + error.numel()
    return float(squared / count), float(absolute / count)


# The published protocol ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["M", "MS", "S"])
@pytest.mark.parametrize("part", PARTS)
def test_windows_scaling_and_marks_equal_the_recorded_loader(protocol: Path, mode: str, part):
    recorded = json.loads((protocol / "data_protocol.json").read_text())[f"{mode}_{part}"]
    data = TableData(
        table=protocol / "synthetic_hourly.csv",
        context=24,
        horizon=8,
        target=None if mode == "M" else "OT",
        exogenous="none" if mode == "S" else None,
    )
    starts = data.starts(part)
    assert len(starts) == recorded["len"]
    order = [data.spec.variates.index(name) for name in (["OT"] if mode == "S" else ["v1", "v2", "OT"])]
    np.testing.assert_allclose(np.array(data.spec.mean)[order], recorded["scaler_mean"], rtol=1e-12)
    np.testing.assert_allclose(np.array(data.spec.scale)[order], recorded["scaler_scale"], rtol=1e-12)
    if mode == "MS":
        return  # no windows were recorded
    arrays = np.load(protocol / "data_protocol.npz")
    for window in ("w0", "w1", "w2"):
        batch = data.windows().gather(starts[[recorded[f"{window}_index"]]])
        key = f"{mode}_{part}_{window}"
        np.testing.assert_allclose(batch.past[0, order].T, arrays[f"{key}_x"], atol=1e-6)
        np.testing.assert_allclose(batch.future[0, order].T, arrays[f"{key}_y"][-8:], atol=1e-6)
        marks = np.concatenate([arrays[f"{key}_mx"], arrays[f"{key}_my"][-8:]])
        np.testing.assert_allclose(batch.known[0].T, marks, atol=3e-8)


@pytest.mark.parametrize(
    ("name", "context", "horizon", "counts"),
    [
        ("etth1", 96, 96, (8449, 2785, 2785)),
        ("etth2", 96, 720, (7825, 2161, 2161)),
        ("ettm1", 96, 96, (34369, 11425, 11425)),
        ("weather", 96, 96, (36696, 5175, 10444)),
        ("exchange", 96, 96, (5120, 665, 1422)),
        ("illness", 36, 24, (617, 74, 170)),
        ("epf-np", 168, 24, (36500, 5219, 10460)),
        ("epf-de", 168, 24, (36500, 5219, 10460)),
    ],
)
def test_window_counts_are_the_papers(benchmarks: Path, name: str, context: int, horizon: int, counts):
    data = TableData(name, root=benchmarks, context=context, horizon=horizon)
    assert tuple(data.window_counts.values()) == counts
    assert data.spec.marks == ("hour", "dayofweek", "dayofmonth", "dayofyear")  # whatever the step


@pytest.mark.parametrize(
    ("name", "mse", "mae"),
    [("np", 0.440, 0.367), ("pjm", 0.127, 0.224), ("be", 0.585, 0.361), ("fr", 0.552, 0.302), ("de", 0.936, 0.620)],
)
def test_seasonal_naive_of_prices_is_the_known_one(benchmarks: Path, name: str, mse: float, mae: float):
    data = TableData(f"epf-{name}", root=benchmarks, target="OT", context=168, horizon=24)
    assert data.features == "MS"
    assert scores(data, "seasonal_naive") == (pytest.approx(mse, abs=1e-3), pytest.approx(mae, abs=1e-3))


def test_statistics_are_those_of_the_training_rows_only(benchmarks: Path):
    data = TableData("etth1", root=benchmarks)
    frame = pd.read_csv(benchmarks / "ETTh1.csv.gz", index_col=0)
    np.testing.assert_allclose(data.spec.mean, frame[:8640].mean(), rtol=1e-12)
    np.testing.assert_allclose(data.spec.scale, frame[:8640].std(ddof=0), rtol=1e-12)
    train = data.windows().values[:, :8640].double()
    assert train.mean(1).abs().max() < 1e-6
    assert (train.std(1, correction=0) - 1).abs().max() < 1e-6


def test_solar_and_pems_follow_their_own_rules(tmp_path: Path):
    """PEMS: borders at int(0.6 n) and int(0.8 n), and no context from the part before."""
    rows = 16_992
    np.savez(tmp_path / "PEMS04.npz", data=np.random.default_rng(0).random((rows, 2, 3)).astype(np.float32))
    data = TableData("pems04", root=tmp_path, horizon=12)
    assert [(each["begin"], each["end"]) for each in data.splits.values()] == [
        (0, 10_195),
        (10_195, 13_593),
        (13_593, rows),
    ]
    assert [int(data.starts(part)[0]) for part in PARTS] == [0, 10_195, 13_593]
    assert data.spec.marks == ()
    assert data.spec.fill == "forward"
    assert next(iter(data.test_dataloader())).known is None
    np.savetxt(tmp_path / "solar_AL.txt", np.random.default_rng(0).random((1001, 2)), delimiter=",", fmt="%.4f")
    data = TableData("solar", root=tmp_path)
    assert [(each["begin"], each["end"]) for each in data.splits.values()] == [(0, 700), (700, 801), (801, 1001)]


def test_a_changed_benchmark_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    simulate_table(rows=500).to_csv(tmp_path / "weather.csv", index=False)
    TableData("weather", root=tmp_path, context=24, horizon=8).prepare()
    assert "not byte for byte" in caplog.text


def test_a_benchmark_given_as_a_table_is_recognised(benchmarks: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        TableData(table=benchmarks / "ETTh1.csv.gz").prepare()
    assert "`dataset='etth1'`" in caplog.text


# Columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "exogenous", "variates", "targets", "features"),
    [
        (None, None, ("b", "a", "c"), 3, "M"),
        ("c", None, ("c", "b", "a"), 1, "MS"),
        (["c", "b"], None, ("c", "b", "a"), 2, "M"),
        ("c", "none", ("c",), 1, "S"),
        ("c", [], ("c",), 1, "S"),
        ("a", "c", ("a", "c"), 1, "MS"),
        (None, "b", ("a", "c", "b"), 2, "M"),
        (None, "none", ("b", "a", "c"), 3, "M"),
    ],
)
def test_targets_come_first_then_exogenous(wide: pd.DataFrame, target, exogenous, variates, targets, features):
    data = TableData.from_frame(wide, target=target, exogenous=exogenous, context=10, horizon=5)
    assert data.spec.variates == variates
    assert data.targets == data.spec.targets == targets
    assert data.features == features
    assert data.dataset_["variate"].values.tolist() == list(variates)
    batch = next(iter(data.val_dataloader()))
    assert batch.past.shape[1] == len(variates)
    assert batch.future.shape[1] == targets
    restored = data.spec.restore(batch.future)
    names = ["b", "a", "c"]
    assert (restored[0, :, 0] // 1000).round().tolist() == [names.index(name) for name in variates[:targets]]


def test_wrong_columns_are_named(wide: pd.DataFrame):
    with pytest.raises(ValueError, match=r"no column 'd', expected one of 'b', 'a', 'c'; check `target=...`"):
        TableData.from_frame(wide, target="d").prepare()
    with pytest.raises(ValueError, match=r"'a' is both target and exogenous"):
        TableData.from_frame(wide, target="a", exogenous=["a", "b"]).prepare()
    with pytest.raises(ValueError, match="every column once"):
        TableData.from_frame(wide, target=["a", "a"]).prepare()
    with pytest.raises(ValueError, match="No column is left"):
        TableData.from_frame(wide, exogenous=["a", "b", "c"]).prepare()


def test_exactly_one_source():
    for knobs in ({}, {"dataset": "etth1", "table": "my.csv"}):
        with pytest.raises(ValueError, match=r"expected exactly one.*`dataset='etth1'`.*`table='my.csv'`"):
            TableData(**knobs)
    with pytest.raises(ValueError, match="did you mean etth1"):
        TableData("eth1")
    with pytest.raises(ValueError, match="horizon is 0"):
        TableData("etth1", horizon=0)


def test_the_callers_frame_is_not_changed():
    frame = simulate_table(rows=300, missing=0.05)
    before = frame.copy(deep=True)
    data = TableData.from_frame(frame, context=24, horizon=6, fill="linear")
    data.windows().values.zero_()
    list(data.naive_forecasts())
    pd.testing.assert_frame_equal(frame, before)


# Splits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "borders"),
    [
        (None, [(0, 140), (140, 160), (160, 200)]),
        ([0.5, 0.25, 0.25], [(0, 100), (100, 150), (150, 200)]),
        ([0.5, 0.1, 0.1], [(0, 100), (100, 120), (120, 140)]),
        ([120, 40, 30], [(0, 120), (120, 160), (160, 190)]),
        ([120.0, 40.0, 30.0], [(0, 120), (120, 160), (160, 190)]),
        ([0.8, 0, 0.2], [(0, 160), (160, 160), (160, 200)]),
    ],
)
def test_splits(wide: pd.DataFrame, split, borders):
    data = TableData.from_frame(wide, split=split, context=10, horizon=5)
    assert [(each["begin"], each["end"]) for each in data.splits.values()] == borders
    assert data.splits["train"]["windows"] == borders[0][1] - 14
    assert data.splits["test"]["windows"] == borders[2][1] - borders[2][0] - 4
    if split == [0.8, 0, 0.2]:
        assert data.val_dataloader() == []


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ([0.7, 0.3], "expected three fractions"),
        ([0.7, 0.3, 0.3], "add up to 1.3"),
        ([100, 100, 100], "asks for 300 rows, but the table has 200"),
        ([100, 0.5, 20], "only fractions"),
        ([0, 0.5, 0.5], "expected three fractions"),
        ([-0.1, 0.5, 0.5], "expected three fractions"),
    ],
)
def test_nonsense_splits_are_refused(wide: pd.DataFrame, split, message: str):
    with pytest.raises(ValueError, match=message):
        TableData.from_frame(wide, split=split, context=10, horizon=5).prepare()


def test_a_short_table_says_how_many_rows_each_part_needs(wide: pd.DataFrame):
    with pytest.raises(ValueError, match=r"200 rows.*train has 140 rows and needs 180, val has 20 rows and needs 60"):
        TableData.from_frame(wide, context=120, horizon=60).prepare()


def test_no_window_of_a_part_predicts_rows_of_another(wide: pd.DataFrame):
    data = TableData.from_frame(wide, context=10, horizon=5)
    for part in PARTS:
        starts = data.starts(part)
        assert starts[0] + 10 == (10 if part == "train" else data.splits[part]["begin"])
        assert starts[-1] + 15 == data.splits[part]["end"]


# Marks and seasons -----------------------------------------------------------------------------------------------


def test_marks_are_chosen():
    frame = simulate_table(rows=300, frequency="15min", variates=2)
    knobs = {"context": 24, "horizon": 8}
    assert len(TableData.from_frame(frame, **knobs).spec.marks) == 5
    assert len(TableData.from_frame(frame, marks="benchmark", **knobs).spec.marks) == 4
    data = TableData.from_frame(frame, marks="none", **knobs)
    assert data.spec.marks == ()
    assert next(iter(data.train_dataloader())).known is None
    assert data.spec.season == 96
    assert TableData.from_frame(frame, season=7, **knobs).spec.season == 7


def test_rows_without_times_have_no_marks(wide: pd.DataFrame):
    bare = wide.drop(columns="date")
    data = TableData.from_frame(bare, timestamp="none", context=10, horizon=5)
    assert data.spec.marks == ()
    assert data.spec.frequency == ""
    assert data.spec.season == 1
    with pytest.raises(ValueError, match=r"no times, expected \"none\""):
        TableData.from_frame(bare, timestamp="none", marks="true", context=10, horizon=5).prepare()


# Missing values --------------------------------------------------------------------------------------------------


def test_real_gaps_are_masked(benchmarks: Path):
    data = TableData(table=benchmarks / "beijing_air_wide.csv.gz", context=96, horizon=24)
    data.setup()
    assert len(data.spec.variates) == 132
    assert sum(data.missing.values()) == 72_205
    batch = next(iter(data.test_dataloader()))
    assert torch.equal(batch.observed, ~batch.past.isnan())
    assert 0 < batch.past.isnan().float().mean() < 0.1
    loader = data.train_dataloader()
    assert any(batch.future.isnan().any() for batch, _ in zip(loader, range(50), strict=False))
    observed = data.dataset_["values"].isel(time=slice(0, data.splits["train"]["end"]))
    np.testing.assert_allclose(data.spec.mean, observed.mean("time"), rtol=1e-10)
    np.testing.assert_allclose(data.spec.scale, observed.std("time"), rtol=1e-10)


@pytest.mark.parametrize("fill", ["forward", "linear"])
def test_filled_values_are_read_but_never_the_truth(fill):
    frame = simulate_table(rows=600, variates=3, missing=0.1, seed=5)
    data = TableData.from_frame(frame, context=24, horizon=6, fill=fill)
    gaps = 0
    masked = TableData.from_frame(frame, context=24, horizon=6)
    for filled, plain in zip(data.test_dataloader(), masked.test_dataloader(), strict=True):
        assert filled.observed is None
        assert not filled.past.isnan().any()
        assert torch.equal(filled.past[plain.observed], plain.past[plain.observed])
        assert torch.equal(filled.future.isnan(), plain.future.isnan())
        gaps += int(filled.future.isnan().sum())
    assert gaps
    assert data.spec.fill == fill


def test_a_complete_table_carries_no_mask(wide: pd.DataFrame):
    assert next(iter(TableData.from_frame(wide, context=10, horizon=5).train_dataloader())).observed is None


def test_a_constant_column_is_warned_of_and_stays_finite(caplog: pytest.LogCaptureFixture, wide: pd.DataFrame):
    wide["a"] = 0.1
    data = TableData.from_frame(wide, context=10, horizon=5)
    data.setup()
    assert "'a' is constant" in caplog.text
    assert data.spec.scale[1] == 1.0
    assert data.windows().values[1].abs().max() < 1e-6


@pytest.mark.parametrize("first", [140, 200])  # after the training rows, or never
def test_a_column_without_training_values_is_refused(wide: pd.DataFrame, first: int):
    wide["c"] = wide["c"].where(np.arange(200) >= first)
    with pytest.raises(ValueError, match=r"'c' has no value in the 140 training rows.*exclude='c'"):
        TableData.from_frame(wide, context=10, horizon=5).prepare()


# Baselines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("context", "horizon", "season"), [(10, 5, 7), (5, 20, 7), (4, 6, 24), (3, 3, 1)])
def test_naive_forecasts_by_hand(wide: pd.DataFrame, context: int, horizon: int, season: int):
    """A season may be longer than the context, and the horizon longer than a season."""
    data = TableData.from_frame(wide, context=context, horizon=horizon, season=season, eval_batch_size=7, target="a")
    values = data.windows().values[:1]
    seen = 0
    for future, forecasts in data.naive_forecasts("val"):
        for row in range(len(future)):
            first = int(data.starts("val")[seen]) + context  # row of the first target step
            assert torch.equal(future[row], values[:, first : first + horizon])
            for step in range(horizon):
                lag = season * -(-(step + 1) // season)
                assert forecasts["seasonal_naive"][row, 0, step] == values[0, first + step - lag]
                assert forecasts["last_value"][row, 0, step] == values[0, first - 1]
            seen += 1
    assert seen == data.window_counts["val"]


def test_naive_forecasts_are_the_windows_of_the_loader():
    frame = simulate_table(rows=900, variates=3, missing=0.1)
    data = TableData.from_frame(frame, context=24, horizon=6, eval_batch_size=50)
    for batch, (future, forecasts) in zip(data.test_dataloader(), data.naive_forecasts(), strict=True):
        assert torch.equal(batch.future.nan_to_num(9), future.nan_to_num(9))
        assert all(forecast.isfinite().all() for forecast in forecasts.values())


def test_a_season_without_rows_before_it_is_an_error(wide: pd.DataFrame):
    data = TableData.from_frame(wide, context=10, horizon=5, season=24)
    with pytest.raises(ValueError, match=r"first train window has 10 rows.*season of 24"):
        next(data.naive_forecasts("train"))


# With Lightning --------------------------------------------------------------------------------------------------


class Network(nn.Module):
    def __init__(self, reads_missing: bool) -> None:
        super().__init__()
        self.reads_missing, self.why_no_missing = reads_missing, "its patches have no mask"


class Task(lightning.LightningModule):
    """Fits one number and writes down which windows it saw."""

    def __init__(self, spec: TableSpec | None = None, reads_missing: bool = True) -> None:
        super().__init__()
        self.spec, self.network = spec, Network(reads_missing)
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[float] = []
        self.tested = 0

    def training_step(self, batch, index):
        self.seen.append(round(batch.past.nan_to_num().double().sum().item(), 4))
        return (self.weight - 1).square()

    def validation_step(self, batch, index):
        pass

    def test_step(self, batch, index):
        self.tested += len(batch.past)
        self.seen.append(round(batch.past.nan_to_num().double().sum().item(), 4))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Stop(lightning.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        if trainer.global_step == 14:
            trainer.save_checkpoint(trainer.default_root_dir + "/cut.ckpt")
            raise KeyError("power failure")


def trainer(folder: Path, **knobs) -> lightning.Trainer:
    return lightning.Trainer(
        default_root_dir=folder, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, **knobs,
    )  # fmt: skip


lightning_says = pytest.mark.filterwarnings(
    "ignore:.*isinstance.treespec, LeafSpec", "ignore:.*does not have many workers"
)


@pytest.fixture
def frame() -> pd.DataFrame:
    return simulate_table(rows=400, variates=3)


@lightning_says
def test_an_interrupted_run_sees_the_same_windows_as_an_uninterrupted_one(tmp_path: Path, frame: pd.DataFrame):
    def data() -> TableData:
        return TableData.from_frame(frame, context=24, horizon=6, batch_size=25, seed=4)

    whole, cut, resumed = Task(), Task(), Task()
    trainer(tmp_path, max_epochs=3).fit(whole, data())
    assert len(whole.seen) == 3 * 11  # ten batches of 25 and one of 1, never dropped
    assert len(set(whole.seen)) == 33  # another order every epoch
    with pytest.raises(KeyError):
        trainer(tmp_path, max_epochs=3, callbacks=[Stop()]).fit(cut, data())
    trainer(tmp_path, max_epochs=3).fit(resumed, data(), ckpt_path=tmp_path / "cut.ckpt", weights_only=True)
    assert cut.seen == whole.seen[:14]
    assert resumed.seen == whole.seen[14:]


@lightning_says
def test_every_test_window_is_counted(tmp_path: Path, frame: pd.DataFrame):
    for size in (1, 7, 512):
        data, task = TableData.from_frame(frame, context=24, horizon=6, eval_batch_size=size), Task()
        trainer(tmp_path).test(task, data, verbose=False)
        assert task.tested == data.window_counts["test"] == 75


@lightning_says
def test_a_loaded_model_is_tested_with_its_own_statistics(tmp_path: Path, frame: pd.DataFrame):
    data = TableData.from_frame(frame, context=24, horizon=6)
    own = data.spec
    scaled = frame.copy()
    scaled[frame.columns[1:]] = 5 * frame[frame.columns[1:]] + 3
    plain, other = Task(own), Task(own)
    trainer(tmp_path).test(plain, data, verbose=False)
    trainer(tmp_path).test(other, TableData.from_frame(scaled, context=24, horizon=6), verbose=False)
    assert plain.seen != other.seen
    ours = Task()
    trainer(tmp_path).test(ours, TableData.from_frame(scaled, context=24, horizon=6), verbose=False)
    assert ours.seen == pytest.approx(plain.seen, abs=0.1)  # its own statistics undo the scaling


@lightning_says
def test_a_model_of_other_columns_is_refused(tmp_path: Path, frame: pd.DataFrame):
    spec = TableData.from_frame(frame, context=24, horizon=6).spec
    renamed = TableData.from_frame(frame.rename(columns={"load 1": "pump"}), context=24, horizon=6)
    with pytest.raises(ValueError, match=r"'load 1', 'load 2'\].*'pump', 'load 2'\]"):
        trainer(tmp_path).test(Task(spec), renamed, verbose=False)
    reordered = TableData.from_frame(frame, target="load 1", context=24, horizon=6)
    with pytest.raises(ValueError, match=r"set `target=\.\.\.` and `exogenous=\.\.\.`"):
        trainer(tmp_path).test(Task(spec), reordered, verbose=False)


@lightning_says
def test_a_network_that_cannot_read_gaps_is_told_before_training(tmp_path: Path):
    frame = simulate_table(rows=400, variates=3, missing=0.05)
    with pytest.raises(ValueError, match=r"Network reads none \(its patches have no mask\).*`fill='forward'`"):
        trainer(tmp_path, max_epochs=1).fit(
            Task(reads_missing=False), TableData.from_frame(frame, context=24, horizon=6)
        )
    task = Task(reads_missing=False)
    trainer(tmp_path, max_epochs=1).fit(task, TableData.from_frame(frame, context=24, horizon=6, fill="linear"))
    assert task.seen


def test_reading_happens_once(benchmarks: Path, caplog: pytest.LogCaptureFixture):
    data = TableData("etth2", root=benchmarks)
    with caplog.at_level(logging.INFO):
        data.prepare()
        data.setup("fit")
        data.setup("test")
        assert data.windows() is data.windows()
    assert caplog.text.count("17420 rows") == 1
    assert data.fingerprint == data.dataset_.attrs["sha256"]
    assert len(data.fingerprint) == 64
    assert "17,420 rows" in data.summary
