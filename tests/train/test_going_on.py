"""Runs that go on, that are interrupted, that meet each other, and Lightning's own options on the command line."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from support import ROOT, forked, tsattn
from torch.utils.data import DataLoader

from tsattn import files
from tsattn.contracts import Batch
from tsattn.models.itransformer import ITransformer
from tsattn.tasks.forecast import ForecastTask, Schedule

TINY = (
    "--model.network.context=24 --model.network.horizon=6 --model.network.d_model=8 --model.network.d_ff=8 "
    "--model.network.heads=1 --model.network.layers=1 --data.batch_size=256 --test=false"
).split()


def fit(table: Path, cwd: Path, *more: object, **environment: str) -> subprocess.CompletedProcess[str]:
    start = ["fit", "-c", "forecast/itransformer.yaml", "--data.table", table, *TINY]
    return tsattn(*start, *more, cwd=cwd, **environment)


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr.strip().splitlines()[-1]


def same_run(one: Path, two: Path) -> None:
    """Demand equal losses, rates and weights."""
    columns = ["epoch", "train_loss", "val_loss", "lr"]
    first, second = (pd.read_csv(folder / "metrics.csv")[columns] for folder in (one, two))
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    for name in ("best", "last"):
        a, b = (torch.load(folder / f"{name}.ckpt", weights_only=True)["state_dict"] for folder in (one, two))
        assert all(torch.equal(a[key], b[key]) for key in a)


# Going on --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["constant", "type1", "type3", "type3-patchtst", "cosine", "onecycle"])
def test_a_continued_run_does_what_a_longer_one_does_or_refuses(schedule: str, table: Path, tmp_path: Path):
    own = f"--model.schedule={schedule}"
    succeeds(fit(table, tmp_path, own, "--run_dir=part", "--trainer.max_epochs=3"))
    on = fit(table, tmp_path, own, "--run_dir=part", "--trainer.max_epochs=5", "--ckpt_path=last")
    if schedule in ("cosine", "onecycle"):
        assert "max_epochs was 3 and is 5. The schedule of the learning rate depends on" in refused(on)
        return
    succeeds(on)
    succeeds(fit(table, tmp_path, own, "--run_dir=whole", "--trainer.max_epochs=5"))
    same_run(tmp_path / "part", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_had_stopped_early_does_not_train_on(table: Path, tmp_path: Path):
    own = ["--model.lr=3", "--trainer.max_epochs=20", "--model.schedule=constant"]
    told = succeeds(fit(table, tmp_path, *own, "--run_dir=part", "--patience=1"))
    assert "stopped early" in told
    before = (tmp_path / "part/metrics.csv").read_text()
    more = ["--run_dir=part", "--ckpt_path=last"]
    told = succeeds(fit(table, tmp_path, *own[:1], "--trainer.max_epochs=25", own[2], *more, "--patience=1"))
    assert "stopped early" in told
    assert (tmp_path / "part/metrics.csv").read_text() == before
    succeeds(fit(table, tmp_path, *own, *more, "--patience=4"))  # as a run with that patience from the start
    succeeds(fit(table, tmp_path, *own, "--run_dir=whole", "--patience=4"))
    same_run(tmp_path / "part", tmp_path / "whole")


@pytest.mark.slow
def test_a_run_of_quantiles_goes_on(table: Path, tmp_path: Path):
    own = "--model.quantiles=[0.1,0.5,0.9]"
    succeeds(fit(table, tmp_path, own, "--run_dir=part", "--trainer.max_epochs=1"))
    done = tsattn("fit", "--run_dir=part", "--ckpt_path=last", "--trainer.max_epochs=2", "--test=false", cwd=tmp_path)
    succeeds(done)
    succeeds(fit(table, tmp_path, own, "--run_dir=whole", "--trainer.max_epochs=2"))
    same_run(tmp_path / "part", tmp_path / "whole")
    assert "test split" in succeeds(tsattn("test", "--ckpt_path", "part/best.ckpt", cwd=tmp_path))


@pytest.mark.parametrize(("name", "value"), [("limit_train_batches", 3), ("accumulate_grad_batches", 2)])
def test_a_run_does_not_go_on_with_other_steps(name: str, value: int, run: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    more = ["--ckpt_path=last", "--trainer.max_epochs=3", f"--trainer.{name}={value}"]
    assert name in refused(tsattn("fit", "--run_dir", tmp_path / "run", *more, cwd=tmp_path))


# One folder ------------------------------------------------------------------------------------------------------


def test_a_folder_in_which_a_run_is_going_on_is_refused(run: Path, table: Path, tmp_path: Path):
    shutil.copytree(run, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with files.locked(tmp_path / "run", "held"):
        for more in (["--overwrite"], ["--ckpt_path=last", "--trainer.max_epochs=9"], []):
            told = refused(fit(table, tmp_path, "--run_dir=run", *more))
            assert "Another process is training in run" in told
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(run: Path, table: Path, tmp_path: Path):
    (tmp_path / "run").mkdir()
    for name in ("config.yaml", "metrics.csv"):
        shutil.copy(run / name, tmp_path / "run")
    (tmp_path / "run/.last.ckpt.123.part").write_bytes(b"half")
    told = refused(tsattn("fit", "--run_dir=run", "--ckpt_path=last", cwd=tmp_path))
    advice = told.partition("`tsattn ")[2].partition("`")[0].split()
    succeeds(tsattn(*advice, "--trainer.max_epochs=1", cwd=tmp_path))
    assert len(pd.read_csv(tmp_path / "run/metrics.csv")) == 1


def test_a_refused_start_leaves_no_folder(tmp_path: Path):
    refused(fit(tmp_path / "none.csv", tmp_path, "--run_dir=new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "device"])
def test_only_regular_files_are_replaced(kind: str, tmp_path: Path):
    path = tmp_path / "out.csv"
    (tmp_path / "kept.txt").write_text("kept")
    if kind == "link":
        path.symlink_to(tmp_path / "kept.txt")
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "made.txt")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = Path("/dev/null")
    for write in (
        lambda: files.refuse_existing(path, overwrite=True),
        lambda: files.write_atomically(path, lambda file: file.write(b"new")),
    ):
        with pytest.raises(FileExistsError, match="only a regular file is replaced"):
            write()
    assert (tmp_path / "kept.txt").read_text() == "kept"
    assert not (tmp_path / "made.txt").exists()


# Ends ------------------------------------------------------------------------------------------------------------


def start(table: Path, cwd: Path, *more: str, before: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "cli.py"), "fit", "-c", "forecast/itransformer.yaml", "--data.table"]
    return subprocess.Popen(
        [*command, str(table), *TINY, "--run_dir=run", *more],
        cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, preexec_fn=before,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


@pytest.mark.slow
def test_an_interrupt_keeps_the_best_epoch_and_says_so(table: Path, tmp_path: Path):
    process = start(table, tmp_path, "--trainer.max_epochs=10000", "--patience=10000")
    wait_for(tmp_path / "run/last.ckpt", process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert "the best epoch so far" in told
    command = told.rpartition("continue with: tsattn ")[2].split()
    done = int(torch.load(tmp_path / "run/last.ckpt", weights_only=True)["epoch"]) + 1
    succeeds(tsattn(*command, f"--trainer.max_epochs={done + 1}", cwd=tmp_path))
    succeeds(tsattn("test", "--ckpt_path", "run/best.ckpt", cwd=tmp_path))


def test_a_disk_that_is_full_at_a_checkpoint_is_said_in_one_sentence(table: Path, tmp_path: Path):
    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, 16_000))

    process = start(table, tmp_path, "--trainer.max_epochs=1", before=no_room)
    told, _ = process.communicate(timeout=120)
    assert process.returncode == 1, told
    assert "Traceback" not in told, told
    assert os.strerror(errno.EFBIG) in told
    assert "run/" in told
    assert "Make room" in told


# Lightning's own options -----------------------------------------------------------------------------------------


def test_lightnings_own_options_work(table: Path, tmp_path: Path):
    options: dict[str, list[str]] = {
        "rate": ["--trainer.callbacks=LearningRateMonitor"],
        "stop": ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val_loss"],
        "keep": ["--trainer.callbacks=ModelCheckpoint", "--trainer.callbacks.monitor=val_mae"],
        "log": ["--trainer.logger=CSVLogger"],
        "few": ["--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"],
        "steps": ["--trainer.max_steps=2"],
        "only steps": ["--trainer.max_steps=7", "--trainer.max_epochs=-1"],
        "strategy": ["--trainer.strategy=auto", "--trainer.accelerator=cpu"],
        "seldom": ["--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=2"],
        "dry": ["--trainer.fast_dev_run=true"],
    }
    for name, own in options.items():
        folder = name.replace(" ", "-")
        told = succeeds(fit(table, tmp_path, "--trainer.max_epochs=1", *own, f"--run_dir={folder}"))
        for line in told.splitlines():
            if line.startswith("test it with: tsattn "):
                assert "test split" in succeeds(tsattn(*line.partition("tsattn ")[2].split(), cwd=tmp_path))
    assert (tmp_path / "rate/lightning_logs/version_0/metrics.csv").exists()
    assert "network.d_model: 8" in (tmp_path / "log/lightning_logs/version_0/hparams.yaml").read_text()
    assert torch.load(tmp_path / "steps/last.ckpt", weights_only=True)["global_step"] == 2
    assert pd.read_csv(tmp_path / "steps/metrics.csv")["val_loss"].notna().all()
    assert torch.load(tmp_path / "only-steps/last.ckpt", weights_only=True)["global_step"] == 7


def test_what_lightning_refuses_is_one_sentence(table: Path, tmp_path: Path):
    refusals: dict[str, list[str]] = {
        "a metric": ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val_nothing"],
        "no validation": ["--trainer.limit_val_batches=0"],
    }
    if not torch.cuda.is_available():
        refusals["a GPU"] = ["--trainer.accelerator=gpu"]
    for name, own in refusals.items():
        told = refused(fit(table, tmp_path, "--trainer.max_epochs=1", *own, f"--run_dir={name.replace(' ', '-')}"))
        assert any(word in told for word in ("val_nothing", "limit_val_batches", "--trainer.accelerator")), told


def test_no_hint_to_test_where_there_is_nothing_to_test(table: Path, tmp_path: Path):
    told = succeeds(fit(table, tmp_path, "--trainer.max_epochs=1", "--data.split=[0.8,0.2,0.0]", "--run_dir=run"))
    assert "tsattn test" not in told
    assert "There are no test windows" in refused(tsattn("test", "--ckpt_path", "run/best.ckpt", cwd=tmp_path))


@pytest.mark.parametrize("levels", [None, [0.1, 0.5, 0.9]])
@pytest.mark.parametrize("schedule", ["type1", "cosine", "onecycle"])
def test_a_task_takes_plain_loaders(levels: list[float] | None, schedule: Schedule, tmp_path: Path):
    torch.manual_seed(0)
    rows = torch.randn(24, 3, 12)

    def loader() -> Any:
        return DataLoader(range(24), 8, collate_fn=lambda at: Batch(rows[at][..., :8], rows[at][..., 8:]))  # type: ignore[arg-type]

    def trainer() -> L.Trainer:
        return L.Trainer(
            max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, callbacks=[EarlyStopping("val_loss")], num_sanity_val_steps=0,
        )  # fmt: skip

    def task() -> ForecastTask:
        return ForecastTask(
            ITransformer(8, 4, d_model=8, heads=2, layers=1, d_ff=8), quantiles=levels, schedule=schedule
        )

    first, own = trainer(), task()
    first.fit(own, loader(), loader())
    assert set(first.callback_metrics) >= {"val_loss", "val_mse", "val_mae", "train_loss"}
    (scores,) = first.test(own, loader(), verbose=False)
    assert scores["test_mse"] > 0
    first.save_checkpoint(tmp_path / "a.ckpt")
    again = ForecastTask.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(again.forward(next(iter(loader()))), own.eval().forward(next(iter(loader()))))
    trainer().fit(task(), loader(), loader(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)


# Without extras --------------------------------------------------------------------------------------------------


def without_extras(args: list[str]) -> None:
    import importlib.abc

    from tsattn.cli import main

    class Gone(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name.partition(".")[0] in ("zarr", "h5py", "edfio", "mne_bids", "pynwb", "mef_tools"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in list(sys.modules):
        if name.partition(".")[0] in ("zarr", "h5py", "edfio", "mne_bids", "pynwb", "mef_tools"):
            del sys.modules[name]
    sys.meta_path.insert(0, Gone())
    main(args)


def test_a_base_install_names_the_extra(tmp_path: Path):
    from edfio import Edf, EdfSignal

    noise = torch.randn(2560).double().numpy() * 50
    signals = [EdfSignal(noise, 256, label=f"A{k}", physical_dimension="uV") for k in (1, 2)]
    Edf(signals).write(tmp_path / "x.edf")
    (tmp_path / "x.nwb").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for args in (
        ["recordings", "prepare", "x.edf", "--out", "s.zarr"],
        ["recordings", "split", "s.zarr", "--out", "s.json"],
        ["recordings", "simulate", "--out", "bids"],
        ["recordings", "inspect", "x.nwb"],
        ["fit", "-c", "pretrain/mvpformer-tiny.yaml", "--data.store", "s.zarr"],
    ):
        done = forked(without_extras, args, cwd=tmp_path)
        assert "Traceback" not in done.stderr, done.stderr
        assert "pip install 'tsattn[neuro]'" in done.stderr, f"{args}: {done.stderr}"
