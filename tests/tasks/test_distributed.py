"""Training in two processes, by copies (DDP) and by shares (FSDP2) of the weights, against one process.

`torchrun --nproc_per_node 2 test_distributed.py FOLDER` does all runs and leaves what it found in FOLDER: reading the
libraries takes longer than they do.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from support import ROOT
from support import alone as command

import tsattn.events.fit
from tsattn import checkpoint, cli
from tsattn.events.table import make_events
from tsattn.models.mvpformer import MVPFormer
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.splits.leaks import audit
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.recordings.windows.batches import RecordingLoader
from tsattn.tasks.detect import DetectTask
from tsattn.tasks.pretrain import PretrainTask
from tsattn.train.folder import WholeFileIO

pytestmark = pytest.mark.slow
SFREQ = 32.0
SEGMENTS = 3
CLOSE = dict(rtol=0, atol=1e-12)  # steps are of 1e-3, in float64
FEW = dict(smoothing=(0.0,), threshold=(0.3, 0.5, 0.7), low=(1.0,), merge_gap=(0.0,), min_duration=(0.0,))
TRAIN, TEST = 76, 38  # windows


def make(id: str, channels: int, seconds: int = 40) -> Recording:
    """Noise with a rhythm in all channels from second 18 to 26."""
    time = np.arange(round(seconds * SFREQ)) / SFREQ
    values = 20 * np.random.default_rng(ord(id)).normal(size=(channels, len(time)))
    values += np.where((time >= 18) & (time < 26), 60 * np.sin(2 * np.pi * 3 * time), 0)
    return from_array(values.astype(np.float32), SFREQ, id=id, subject=f"s{id}", events=make_events([18.0], [8.0]))


RECORDINGS = (make("a", 3), make("b", 4), make("c", 2, 39), make("d", 3))
PARTS = {"a": "train", "b": "train", "c": "val", "d": "test"}


def module(**knobs: Any) -> RecordingDataModule:
    spans = tuple(Span(item.id, 0.0, item.duration, PARTS[item.id]) for item in RECORDINGS)
    splits = audit(list(RECORDINGS), Splits(spans), 3.0, [])
    knobs = dict(segments=SEGMENTS, segment_seconds=1.0, stride_seconds=1.0, splits=splits) | knobs
    return RecordingDataModule.from_recordings(RECORDINGS, **knobs)


def network(**changes: Any) -> MVPFormer:
    sizes = dict(d_model=8, layers=2, heads=2, kv_heads=1, d_ff=8, positions=4, max_channels=4)
    return MVPFormer(sfreq=SFREQ, segment_seconds=1.0, segments=SEGMENTS, **(sizes | changes))


class Draws(Callback):
    """A random number at the begin of every step, by epoch."""

    def __init__(self) -> None:
        self.found: dict[int, list[float]] = {}

    def on_train_batch_start(self, trainer: lightning.Trainer, *rest: Any) -> None:
        self.found.setdefault(trainer.current_epoch, []).append(torch.rand(()).item())


def trainer(processes: int, how: str = "ddp", epochs: int = 1, callbacks: Any = ()) -> lightning.Trainer:
    strategies = {
        "ddp": "ddp",
        "fsdp": ModelParallelStrategy(2, 1, save_distributed_checkpoint=False),
        "pieces": ModelParallelStrategy(2, 1),
        "tensors": ModelParallelStrategy(1, 2, save_distributed_checkpoint=False),
    }
    strategy: Any = strategies[how] if processes > 1 else "auto"
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=processes, strategy=strategy, plugins=[WholeFileIO()],
        callbacks=list(callbacks), logger=False, enable_checkpointing=bool(callbacks), enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ the runs
DETECTORS = {
    "full, ddp": ("full", "ddp"),
    "full, fsdp": ("full", "fsdp"),
    "lora, ddp": ("lora", "ddp"),
    "lora, fsdp": ("lora", "fsdp"),
    "attentive, ddp": ("attentive", "ddp"),
    "linear, fsdp": ("linear", "fsdp"),
}
TINY = (
    "--model.network.sfreq=32 --model.network.segment_seconds=1 --model.network.segments=3 --model.network.d_model=8 "
    "--model.network.heads=2 --model.network.kv_heads=1 --model.network.d_ff=8 --model.network.positions=3 "
    "--data.stride_seconds=1 --trainer.max_epochs=1 --trainer.accelerator=cpu --trainer.devices=2"
).split()


def detector_run(folder: Path, processes: int, adapt: Any, how: str) -> dict[str, Any]:
    """Three steps, each of all windows: processes share them out evenly, whichever they get."""
    torch.manual_seed(0)
    start: Any = {"scratch": network()} if adapt == "full" else {"checkpoint": folder / "pretrained"}
    task = DetectTask(**start, adapt=adapt, lr=1e-3, warmup=0.0)
    task.network.double()
    made = trainer(processes, how, 3)
    one_by_one = processes > 1 and adapt == "full"  # the 37 of validation leave one process an empty batch
    data = module(batch_size=TRAIN // processes, eval_batch_size=1 if one_by_one else 16)
    made.fit(task, datamodule=data)
    made.save_checkpoint(folder / f"{adapt}-{how}-{processes}.ckpt")
    scores = {name: float(value) for name, value in made.callback_metrics.items()}
    made.test(task, datamodule=data, verbose=False)
    windows = sum(len(begin) for _, begin, *_ in task._found)
    return {"scores": scores, "report": task.report(), "windows": windows}


def pretraining(seed: int = 0, **changes: Any) -> PretrainTask:
    torch.manual_seed(seed)
    return PretrainTask(network(**changes), lr=1e-3)


def pretraining_run(folder: Path, how: str) -> dict[str, Any]:
    """Two epochs in one go, and the second one anew from the checkpoint after the first."""
    found: dict[str, Any] = {}
    for name in ("whole", "again"):
        draws = Draws()
        keep = ModelCheckpoint(folder / f"{how}-{name}", "{epoch}", save_top_k=-1)
        made = trainer(2, how, 2, [keep, draws])
        first = folder / f"{how}-whole/epoch=0.ckpt" if name == "again" else None
        task = pretraining(dropout=0.3, residual_dropout=0.3)
        made.fit(task, datamodule=module(batch_size=8), ckpt_path=first, weights_only=True)
        found[name] = {"draws": draws.found, "loss": float(made.callback_metrics["train_loss"])}
    return found


def similarities(processes: int, how: str = "ddp", seed: int = 0, **knobs: Any) -> dict[str, float]:
    task = pretraining(seed)
    task.network.double()
    trainer(processes, how).validate(task, datamodule=module(**knobs), verbose=False)
    return task.report()


def refusal(how: str) -> str:
    with pytest.raises(ValueError) as caught:
        trainer(2, how).fit(pretraining(), datamodule=module())
    return str(caught.value)


def do_all(folder: Path) -> None:
    """Do all runs, in one of two processes."""
    tsattn.events.fit.GRID = FEW
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    found: dict[str, Any] = {name: detector_run(folder, 2, *of) for name, of in DETECTORS.items()}
    for how in ("ddp", "fsdp"):
        found[f"pretrain, {how}"] = pretraining_run(folder, how)
        seed = rank if how == "fsdp" else 0  # the weights of the first process are taken
        found[f"similarities, {how}"] = similarities(2, how, seed, batch_size=5)
        found[f"similarities one by one, {how}"] = similarities(2, how, seed, eval_batch_size=1)
    found |= {how: refusal(how) for how in ("pieces", "tensors")}
    start = [*"fit -c detect/mvpformer.yaml --data.store".split(), str(folder / "store.zarr")]
    of_network = [option for option in TINY if not option.startswith("--model.network")]
    cli.main([*start, *of_network, "--model.checkpoint", str(folder / "pretrained"), "--run_dir", str(folder / "run")])
    torch.save(found, folder / f"found{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With what the two processes have left there."""
    folder = tmp_path_factory.mktemp("several")
    torch.manual_seed(1)
    checkpoint.export(folder / "pretrained", network())
    prepare(RECORDINGS, folder / "store.zarr", preset="raw")
    done = several(__file__, str(folder), cwd=folder)
    (folder / "told").write_text(done.stdout + done.stderr)
    return folder


def several(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Start two processes as `torchrun` does."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    told = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        [*start, *args], cwd=cwd, env={**os.environ, **told}, timeout=300, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, dict[str, Any]]:
    """The same detectors, trained in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tsattn.events.fit.GRID", FEW)
        return {adapt: detector_run(folder, 1, adapt, "ddp") for adapt in ("full", "lora", "attentive", "linear")}


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(path)[1]


# ------------------------------------------------------------------------------------------------ in Python
@pytest.mark.parametrize("name", DETECTORS)
def test_two_processes_train_a_detector_as_one_with_twice_the_batch_does(
    name: str, folder: Path, found: list[dict[str, Any]], alone: dict[str, dict[str, Any]]
):
    adapt, how = DETECTORS[name]
    ours, expected = weights(folder / f"{adapt}-{how}-2.ckpt"), weights(folder / f"{adapt}-ddp-1.ckpt")
    assert ours.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(ours[key], value, **CLOSE)
    for one in found:
        assert one[name]["scores"] == pytest.approx(alone[adapt]["scores"], rel=1e-9)
        assert one[name]["report"] == alone[adapt]["report"]
    assert [one[name]["windows"] for one in found] == [TEST // 2, TEST // 2]


def test_a_step_is_large_beside_what_two_processes_may_differ(folder: Path, alone: dict[str, dict[str, Any]]):
    torch.manual_seed(0)
    start = DetectTask(scratch=network(), adapt="full").network.state_dict()
    moved = [(value - start[name]).abs().max() for name, value in weights(folder / "full-ddp-1.ckpt").items()]
    assert sum(distance > 1e-4 for distance in moved) > 0.8 * len(moved)


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_a_checkpoint_of_two_processes_loads_as_any_other(how: str, folder: Path):
    loaded = checkpoint.load(folder / f"full-{how}-2.ckpt")
    assert loaded.spec.trained_on == ("sa", "sb")
    assert set(loaded.spec.postprocessing) >= {"threshold"}
    assert loaded.network(torch.zeros(2, SEGMENTS, 3, 32)).shape == (2, 2)


def test_shares_of_the_weights_pretrain_as_copies_do(folder: Path, found: list[dict[str, Any]]):
    shares, copies = (weights(folder / f"{how}-whole/epoch=1.ckpt") for how in ("fsdp", "ddp"))
    start = pretraining().network.state_dict()
    for name, value in copies.items():
        torch.testing.assert_close(shares[name], value, rtol=0, atol=1e-6)
    assert max(float((value - start[name]).abs().max()) for name, value in copies.items()) > 1e-3
    losses = {one[f"pretrain, {how}"]["whole"]["loss"] for one in found for how in ("ddp", "fsdp")}
    assert max(losses) - min(losses) < 1e-5


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_an_interrupted_run_of_two_processes_goes_on_exactly_each_with_its_own_random_numbers(
    how: str, folder: Path, found: list[dict[str, Any]]
):
    whole, again = (weights(folder / f"{how}-{name}/epoch=1.ckpt") for name in ("whole", "again"))
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    runs = [one[f"pretrain, {how}"] for one in found]
    for run in runs:
        assert run["again"]["draws"] == {1: run["whole"]["draws"][1]}
        assert run["again"]["loss"] == run["whole"]["loss"] == runs[0]["whole"]["loss"]
    first, second = ({x for epoch in run["whole"]["draws"].values() for x in epoch} for run in runs)
    assert len(first) == len(second) == 2 * 5  # 76 windows in batches of 2 x 8
    assert not first & second


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
@pytest.mark.parametrize(("batches", "size"), [("similarities", 5), ("similarities one by one", 1)])
def test_what_pretraining_scores_without_negatives_counts_every_window_once(
    batches: str, size: int, how: str, found: list[dict[str, Any]]
):
    """The loss has other negatives, those of a batch in one process."""
    expected = similarities(1, batch_size=size)
    names = [name for name in expected if name.startswith(("cosine", "persistence"))]
    assert len(names) == 4
    for one in found:
        ours = one[f"{batches}, {how}"]
        assert {name: ours[name] for name in names} == pytest.approx({name: expected[name] for name in names}, abs=1e-6)
        assert ours == found[0][f"{batches}, {how}"]
        assert ours["loss"] == pytest.approx(expected["loss"], rel=0.05)


def test_pieces_of_checkpoints_and_of_windows_are_refused(found: list[dict[str, Any]]):
    for how in ("pieces", "tensors"):
        assert "tensor_parallel_size=1" in found[0][how]
        assert "save_distributed_checkpoint=False" in found[1][how]


@pytest.mark.parametrize("knobs", [{}, {"max_channels": 2, "more_channels": "ensemble"}])
@pytest.mark.parametrize(("processes", "size"), [(2, 16), (2, 1), (3, 1), (3, 4), (5, 7), (50, 4)])
def test_processes_get_as_many_batches_of_evaluation_windows_each_window_once(
    processes: int, size: int, knobs: dict[str, Any]
):
    batches = module(**knobs).test_dataloader().dataset
    rows, counts, empty = [], set(), 0
    for rank in range(processes):
        loader = RecordingLoader(batches, size, rank=rank, world=processes)
        given = list(loader)
        counts |= {len(given), len(loader)}
        assert all(len(batch.label) <= size for batch in given)
        empty += sum(not len(batch.label) for batch in given)
        rows += [
            (float(begin), tuple(channels[channels >= 0].tolist()))
            for batch in given
            for begin, channels in zip(batch.begin, batch.channels, strict=True)
        ]
    readings = [tuple(reading) for reading in batches.channels[3]]
    assert len(readings) == (2 if knobs else 1)
    assert len(counts) == 1
    assert sorted(rows) == sorted((float(t), reading) for t in range(TEST) for reading in readings)
    assert empty == (max(0, processes - len(rows)) if size > 1 else -len(rows) % processes)


# ------------------------------------------------------------------------------------------------ on the command line
def test_torchrun_trains_a_detector_in_one_folder_and_says_so_once(folder: Path):
    told = (folder / "told").read_text()
    for words in ("run folder", "train: 2 recordings", "epoch 1/1", "best checkpoint", "test split", "written to"):
        assert told.count(words) == 1, told
    report = json.loads((folder / "run/metrics.json").read_text())
    assert report["machine"]["processes"] == 2
    task = DetectTask(run=folder / "run/best.ckpt")
    task.spec = task.load_weights(folder / "run/best.ckpt")
    data = RecordingDataModule(
        folder / "store.zarr", "subject", segments=SEGMENTS, segment_seconds=1.0, stride_seconds=1.0, seed=2021
    )
    trainer(1).test(task, datamodule=data, verbose=False)
    assert json.loads(json.dumps(task.report())) == report["scores"]


def test_one_command_pretrains_in_two_processes_in_one_new_folder(folder: Path):
    store = folder / "store.zarr"
    done = command(
        "fit", "-c", "pretrain/mvpformer-tiny.yaml", "--data.store", store, *TINY, "--trainer.strategy=ddp",
        cwd=folder, GLOO_SOCKET_IFNAME="lo",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "recommended" not in done.stderr
    told = done.stdout + done.stderr
    for words in ("run folder", "train: 2 recordings", "epoch 1/1", "best checkpoint", "test split", "written to"):
        assert told.count(words) == 1, told
    (run,) = (folder / "runs").iterdir()
    assert len((run / "metrics.csv").read_text().splitlines()) == 2
    report = json.loads((run / "metrics.json").read_text())
    assert report["machine"]["processes"] == 2
    task = PretrainTask(checkpoint.load(run / "best.ckpt").network)
    data = RecordingDataModule(store, "subject", segments=SEGMENTS, segment_seconds=1.0, stride_seconds=1.0, seed=2021)
    trainer(1).test(task, datamodule=data, verbose=False)
    for name, value in task.report().items():
        if name.startswith(("cosine", "persistence")):
            assert report["scores"][name] == pytest.approx(value, abs=1e-6)


if __name__ == "__main__":
    do_all(Path(sys.argv[1]))
