"""Pre-training on small recordings: it learns, validation can be repeated, what is not there changes nothing."""

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from tsattn import checkpoint
from tsattn.contracts import RecordingBatch, SignalSpec
from tsattn.models.mvpformer import MVPFormer
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.splits.leaks import audit
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.tasks.pretrain import PretrainTask, similarity
from tsattn.tasks.recordings import masks, real_tokens

SFREQ = 32.0
PRESET = {"sfreq": 32.0, "band": [0.5, 12.0], "order": 4, "reference": "median", "notch": None, "quality": 30.0}


def make(id: str, channels: int, seconds: int = 40, **about: Any) -> Recording:
    """Rhythms that get slowly faster and slower, so that a segment can be told from others by the one before."""
    random = np.random.default_rng(ord(id))
    time = np.arange(round(seconds * SFREQ)) / SFREQ
    course = 2 * np.pi * time / random.uniform(15, 25, (channels, 1)) + random.uniform(0, 6, (channels, 1))
    rhythm = np.sin(2 * np.pi * np.cumsum(7 + 6 * np.sin(course), 1) / SFREQ)
    values = 30 * rhythm + 2 * random.normal(size=(channels, len(time)))
    return from_array(values.astype(np.float32), SFREQ, id=id, about={"provenance": {"preset": PRESET | about}})


RECORDINGS = [make("a", 3), make("b", 4), make("c", 2)]
SPANS = (Span("a", 0.0, 40.0, "train"), Span("b", 0.0, 40.0, "train"), Span("c", 0.0, 40.0, "val"))


def module(recordings: list[Recording] = RECORDINGS, **knobs: Any) -> RecordingDataModule:
    spans = tuple(span for span in SPANS if span.recording in {item.id for item in recordings})
    knobs = dict(segments=4, segment_seconds=1.0, stride_seconds=1.0, batch_size=9) | knobs
    return RecordingDataModule.from_recordings(recordings, splits=audit(recordings, Splits(spans), 4.0, []), **knobs)


def network(**changes: Any) -> MVPFormer:
    torch.manual_seed(0)
    sizes = dict(sfreq=SFREQ, segment_seconds=1.0, segments=4, d_model=16, layers=1, heads=2, kv_heads=1, d_ff=16)
    return MVPFormer(**(sizes | {"positions": 4, "max_channels": 4} | changes))


def trainer(epochs: int = 2) -> lightning.Trainer:
    torch.manual_seed(1)
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip


def scores(task: PretrainTask, data: RecordingDataModule | None = None) -> dict[str, float]:
    trainer().validate(task, datamodule=data or module(), verbose=False)
    return task.report()


@pytest.mark.parametrize("objective", ["corrected", "reference"])
def test_two_epochs_lower_the_loss_and_leave_scores(objective: str):
    task = PretrainTask(network(), objective=objective, negatives=10, lr=5e-3)
    data = module()
    before = scores(task, data)
    trainer().fit(task, datamodule=data)
    after = task.report()
    assert set(after) == {"loss", "accuracy", "cosine_1", "persistence_1", "cosine_2", "persistence_2"}
    assert after["loss"] < before["loss"] - 0.1
    assert after["accuracy"] > before["accuracy"]
    assert after["cosine_1"] > before["cosine_1"]
    assert scores(task, module()) == after  # the same negatives each time, in another module, too
    assert len(data.windows("val")) % 9 == 1  # the last batch has one row


def test_validation_changes_neither_weights_nor_the_random_numbers_of_training():
    task = PretrainTask(network(dropout=0.2))
    weights = {name: value.clone() for name, value in task.network.state_dict().items()}
    tester = trainer()
    torch.manual_seed(5)
    tester.validate(task, datamodule=module(), verbose=False)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    assert all(torch.equal(value, weights[name]) for name, value in task.network.state_dict().items())


def test_a_run_notes_whom_it_was_trained_on_and_a_later_score_does_not_change_that():
    task = PretrainTask(network())
    trainer(1).fit(task, datamodule=module())
    assert task.spec is not None
    assert (task.spec.pretrained_on, task.spec.trained_on, task.spec.preparation) == (("a", "b"), (), PRESET)
    scores(task, module([make("c", 2)]))
    assert (task.spec.pretrained_on, task.spec.trained_on) == (("a", "b"), ())


def a_batch(**knobs: Any) -> RecordingBatch:
    return next(iter(module(batch_size=60, **knobs).train_dataloader()))


def test_padded_channels_change_nothing():
    batch = a_batch()
    assert masks(batch)[0] is not None
    task = PretrainTask(network()).eval()
    wide = batch._replace(signal=torch.where(batch.channel_mask[:, None, :, None], batch.signal, 1e3))
    found = []
    for one in (batch, wide):
        prediction, tokens = task(one)
        contrast = task.compare(prediction, tokens, real_tokens(one), torch.Generator().manual_seed(0))
        gradient = torch.autograd.grad(contrast.loss, task.network.head.weight)[0]
        found.append((contrast.loss, contrast.accuracy, contrast.counted, gradient))
    assert int(found[0][2].sum()) == int(real_tokens(batch)[:, 1:].sum())
    for ours, other in zip(*found, strict=True):
        assert torch.equal(ours, other)
    alone = int((batch.recording == 0).nonzero()[0, 0])  # three channels of four
    own = batch._replace(**{name: getattr(batch, name)[alone : alone + 1] for name in batch._fields})
    narrow = own._replace(
        signal=own.signal[:, :, :3], channel_mask=own.channel_mask[:, :3], observed=own.observed[:, :, :3]
    )
    torch.testing.assert_close(task(narrow)[0][0], task(batch)[0][alone, :, :3], rtol=0, atol=1e-5)


def test_masks_are_none_where_nothing_is_masked():
    whole = a_batch()
    assert masks(whole)[1] is None
    same = whole._replace(channel_mask=torch.ones_like(whole.channel_mask), observed=torch.ones_like(whole.observed))
    assert masks(same) == (None, None)
    hole = same.observed.clone()
    hole[0, 1, 0] = False
    assert masks(same._replace(observed=hole))[1] is hole


def test_similarity_is_the_cosine_with_a_later_token():
    prediction, tokens = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    found = similarity(prediction, tokens, 2)
    assert found.shape == (2, 2, 3)
    one, later = prediction[1, 0, 2], tokens[1, 2, 2]
    torch.testing.assert_close(found[1, 0, 2], one @ later / one.norm() / later.norm())
    torch.testing.assert_close(similarity(tokens, tokens.roll(1, 1), 1), torch.ones(2, 3, 3))


# Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negatives": 0}, "negatives is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"warmup": 1.0}, "warmup is 1, expected a share of the steps"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PretrainTask(network(), **changes)


@pytest.mark.parametrize("knobs", [{"batch_size": 1}, {"eval_batch_size": 1}])
def test_the_reference_objective_refuses_batches_of_one_row_before_it_begins(knobs: dict[str, int]):
    with pytest.raises(ValueError, match="batches have 1: pass objective='corrected', or batch_size 2 or more"):
        trainer().fit(PretrainTask(network(), objective="reference"), datamodule=module(**knobs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sfreq": 64.0}, r"sfreq is 32 in the data and 64 in the network.*tsattn recordings prepare --sfreq 64"),
        ({"segments": 3}, "segments is 4 in the data and 3 in the network"),
        ({"segment_seconds": 2.0}, "segment_seconds is 1 in the data and 2 in the network"),
    ],
)
def test_windows_of_another_geometry_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        trainer().fit(PretrainTask(network(**changes)), datamodule=module())


def test_a_network_without_a_head_is_refused():
    with pytest.raises(NotImplementedError, match="made without a head for pre-training"):
        trainer().fit(PretrainTask(network(generative=False)), datamodule=module())


def test_recordings_of_another_kind_than_the_checkpoints_are_refused_and_can_be_adopted(tmp_path: Path):
    checkpoint.export(tmp_path, network(), SignalSpec(PRESET | {"band": [0.5, 14.0], "reference": "average"}))
    task = PretrainTask(network(), checkpoint=tmp_path)
    with pytest.raises(
        ValueError,
        match=r"band is 0.5 to 12.0 in the recordings and 0.5 to 14.0 in the contract; reference is median in the "
        r"recordings and average in the contract.*`contract='adopt'`",
    ):
        trainer().fit(task, datamodule=module())
    task = PretrainTask(network(), checkpoint=tmp_path, contract="adopt")
    trainer(1).fit(task, datamodule=module())
    assert task.spec is not None
    assert task.spec.preparation == PRESET
    assert task.about["started_from"]["file"] == "model.safetensors"


def test_a_run_does_not_go_on_with_recordings_of_another_kind(tmp_path: Path):
    first = trainer(1)
    first.fit(PretrainTask(network()), datamodule=module())
    first.save_checkpoint(tmp_path / "run.ckpt")
    other = [make(id, channels, reference="average") for id, channels in (("a", 3), ("b", 4), ("c", 2))]
    task = PretrainTask(network())
    with pytest.raises(ValueError, match="reference is average in the recordings and median in the contract"):
        trainer(1).fit(task, datamodule=module(other), ckpt_path=tmp_path / "run.ckpt", weights_only=True)
