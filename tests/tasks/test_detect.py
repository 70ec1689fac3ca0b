"""Fine-tuning a detector on small recordings: what is trained, what is refused, what travels in the checkpoint."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from tsattn import checkpoint
from tsattn.contracts import SegmentNetwork, SignalSpec
from tsattn.events.detect import PostProcessing
from tsattn.events.table import make_events
from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.lora import adapters
from tsattn.models.itransformer import ITransformer
from tsattn.models.mvpformer import MVPFormer
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.splits.leaks import audit
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.tasks.detect import TIE, DetectTask, adapted, freeze, stretches
from tsattn.tasks.recordings import masks

SFREQ = 32.0
PRESET = {"sfreq": 32.0, "band": [0.5, 12.0], "order": 4, "reference": "median", "notch": None, "quality": 30.0}


def make(id: str, channels: int = 3, seizures: tuple[float, ...] = (18.0,), **rest: Any) -> Recording:
    """40 s of noise; a seizure is 8 s of a rhythm in all channels."""
    random = np.random.default_rng(ord(id))
    time = np.arange(round(40 * SFREQ)) / SFREQ
    values = 20 * random.normal(size=(channels, len(time)))
    for onset in seizures:
        values += np.where((time >= onset) & (time < onset + 8), 100 * np.sin(2 * np.pi * 3 * time), 0)
    events = make_events(list(seizures), [8.0] * len(seizures))
    about = {"provenance": {"preset": PRESET | rest.pop("preset", {})}}
    return from_array(values.astype(np.float32), SFREQ, id=id, events=events, about=about, **rest)


RECORDINGS = (make("a"), make("b", 4), make("c", 2), make("d", 3))
PARTS = {"a": "train", "b": "train", "c": "val", "d": "test"}


def module(recordings: tuple[Recording, ...] = RECORDINGS, **knobs: Any) -> RecordingDataModule:
    spans = tuple(Span(item.id, 0.0, 40.0, PARTS[item.id]) for item in recordings)
    splits = audit(list(recordings), Splits(spans), 3.0, [])
    knobs = dict(segments=3, segment_seconds=1.0, stride_seconds=1.0, batch_size=16, splits=splits) | knobs
    return RecordingDataModule.from_recordings(recordings, **knobs)


def network(**changes: Any) -> MVPFormer:
    torch.manual_seed(0)
    sizes = dict(sfreq=SFREQ, segment_seconds=1.0, segments=3, d_model=8, layers=1, heads=2, kv_heads=1, d_ff=8)
    return MVPFormer(**(sizes | {"positions": 4, "max_channels": 4} | changes))


def trainer(epochs: int = 1) -> lightning.Trainer:
    torch.manual_seed(1)
    return lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip


def scratch(**changes: Any) -> DetectTask:
    return DetectTask(scratch=network(), adapt="full", **changes)


@pytest.fixture(autouse=True)
def few_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of three settings instead of three hundred, which take seconds with shapes checked."""
    grid = {
        "smoothing": (0.0,),
        "threshold": (0.3, 0.5, 0.7),
        "low": (1.0,),
        "merge_gap": (0.0,),
        "min_duration": (0.0,),
    }
    monkeypatch.setattr("tsattn.events.fit.GRID", grid)


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    """An exported network without a class head, of recordings like ours."""
    checkpoint.export(tmp_path / "pretrained", network(), SignalSpec(PRESET))
    return tmp_path / "pretrained"


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """An exported detector with adapters, trained enough to have weights of its own."""
    torch.manual_seed(3)
    made = SegmentClassifier(network(), pooling="attentive", queries=2, lora_rank=2)
    for p in made.parameters():
        p.data.normal_(std=0.3)
    checkpoint.export(tmp_path / "detector", made, SignalSpec(PRESET))
    return tmp_path / "detector"


# What is trained -------------------------------------------------------------------------------------------------

LORA = {f"network.layers.0.attention.{x}.lora_{kind}" for x in ("query", "value") for kind in "AB"}
POOL = {f"pool.{name}" for name in ("queries", "key.weight", "value.weight", "out.weight")}
HEAD = {"head.weight"}


def trained(task: DetectTask) -> set[str]:
    return {name for name, p in task.network.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("adapt", "expected"),
    [("lora", LORA | HEAD), ("linear", HEAD), ("attentive", POOL | HEAD), ("full", None)],
)
def test_each_way_of_adapting_trains_what_it_says_and_a_run_changes_nothing_else(
    adapt: str, expected: set[str] | None, pretrained: Path
):
    task = DetectTask(pretrained, adapt=adapt, lr=1e-2, weight_decay=0.5)
    every = {name for name, _ in task.network.named_parameters()}
    assert trained(task) == (every - {"network.head.weight"} if expected is None else expected)
    before = {name: value.clone() for name, value in task.network.state_dict().items()}
    trainer().fit(task, datamodule=module())
    changed = {name for name, value in task.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == trained(task)


@pytest.mark.parametrize(
    ("adapt", "expected"),
    [("lora", LORA | HEAD | POOL), ("attentive", HEAD | POOL), ("subject", LORA), ("full", None)],
)
def test_a_finished_detector_is_merged_keeps_its_head_and_is_adapted_anew(
    adapt: str, expected: set[str] | None, detector: Path
):
    pooling = {"pooling": "attentive"} if adapt in ("lora", "full") else {}
    task = DetectTask(detector, adapt=adapt, lora_rank=3, **pooling)
    every = {name for name, _ in task.network.named_parameters()}
    assert trained(task) == (every - {"network.head.weight"} if expected is None else expected)
    assert {module.rank for _, module in adapters(task.network)} <= {3}
    signal = 20 * torch.randn(2, 3, 3, 32)
    before = checkpoint.load(detector).network(signal)
    torch.testing.assert_close(task.network(signal), before, rtol=1e-4, atol=1e-5)
    again = checkpoint.build(task.network.recipe)  # its recipe must know the kept pool's two queries
    again.load_state_dict(task.network.state_dict())
    torch.testing.assert_close(again(signal), task.network(signal))


def test_a_detector_with_another_pooling_gets_a_new_head(detector: Path):
    task = DetectTask(detector, adapt="linear")
    assert task.network.pool is None
    assert trained(task) == HEAD
    assert not torch.equal(task.network.head.weight, checkpoint.load(detector, SegmentClassifier).network.head.weight)


def test_a_network_from_scratch_is_trained_in_full():
    task = scratch(pooling="attentive")
    frozen = {name for name, p in task.network.named_parameters() if not p.requires_grad}
    assert frozen == {"network.head.weight"}


def test_freezing_for_a_subject_leaves_adapters_alone_trainable():
    made = adapted(SegmentClassifier(network(), pooling="attentive"), "subject", "mean", {"lora_rank": 2})
    freeze(made, "subject")
    assert {name for name, p in made.named_parameters() if p.requires_grad} == LORA


# Networks that are not there or do not fit -----------------------------------------------------------------------


@pytest.mark.parametrize("adapt", ["lora", "linear", "attentive", "subject"])
def test_adapting_without_a_checkpoint_is_refused(adapt: str):
    with pytest.raises(ValueError, match=rf"adapt='{adapt}' trains little .* pass `checkpoint="):
        DetectTask(scratch=network(), adapt=adapt)
    with pytest.raises(ValueError, match=r"or `adapt='full'` with `scratch=\.\.\.`, an untrained network"):
        DetectTask(adapt="full")


def test_a_checkpoint_and_a_network_at_once_are_refused(pretrained: Path):
    with pytest.raises(ValueError, match="A checkpoint and a network were given: the checkpoint brings its own"):
        DetectTask(pretrained, scratch=network(), adapt="full")


def test_a_forecaster_is_refused(tmp_path: Path):
    checkpoint.export(tmp_path, ITransformer(context=8, horizon=4, d_model=8, heads=2, layers=1, d_ff=8))
    with pytest.raises(ValueError, match="holds ITransformer, expected a network of recordings"):
        DetectTask(tmp_path)


def test_a_subject_without_a_finished_detector_is_refused(pretrained: Path):
    with pytest.raises(ValueError, match="adapt='subject' starts from a finished detector, and the checkpoint has no"):
        DetectTask(pretrained, adapt="subject")


def test_a_run_of_another_kind_is_refused(pretrained: Path):
    with pytest.raises(ValueError, match="holds MVPFormer, expected a seizure detector"):
        DetectTask(run=pretrained)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"focal": 0.0}, "focal is 0, expected above 0, or None"),
        ({"warmup": 1.0}, "warmup is 1, expected a share of the steps"),
        ({"class_weights": [1.0]}, r"class_weights is \[1.0\], expected two numbers above 0"),
        ({"class_weights": [1.0, 0.0]}, "expected two numbers above 0"),
        ({"class_weights": [1.0, math.nan]}, "expected two numbers above 0"),
        ({"class_weights": [1.0, math.inf]}, "expected two numbers above 0"),
        ({"class_weights": [1.0, 2.0, 3.0]}, "expected two numbers above 0"),
        ({"class_weights": [-1.0, 2.0]}, r"expected two numbers above 0 \(no seizure, seizure\), balanced or None"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        scratch(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sfreq": 64.0}, r"sfreq is 32 in the data and 64 in the network"),
        ({"segments": 4}, "segments is 3 in the data and 4 in the network"),
    ],
)
def test_windows_of_another_geometry_are_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        trainer().fit(DetectTask(scratch=network(**changes), adapt="full"), datamodule=module())


# Data from which nothing can be learned, or by which nothing can be judged ---------------------------------------


def fit(*recordings: Recording, task: DetectTask | None = None, **knobs: Any) -> DetectTask:
    task = task or scratch()
    trainer().fit(task, datamodule=module(recordings, **knobs))
    return task


def test_training_without_a_seizure_is_refused():
    with pytest.raises(ValueError, match=r"None of the 76 training windows has a seizure.*recordings split --by subje"):
        fit(make("a", seizures=()), make("b", seizures=()), make("c"))


def test_training_on_seizures_alone_is_refused():
    item = make("a", seizures=(0.0, 8.0, 16.0, 24.0, 32.0))
    with pytest.raises(ValueError, match="All 38 training windows have a seizure: a detector needs both classes"):
        fit(item, make("c"))


def test_validation_without_a_seizure_is_refused():
    with pytest.raises(ValueError, match=r"No validation recording holds a seizure.*take another split"):
        fit(make("a"), make("c", seizures=()))


@pytest.mark.parametrize("rule", ["any_segment", "preictal"])
def test_labels_that_do_not_speak_of_the_last_segment_are_refused(rule: str):
    with pytest.raises(ValueError, match=f"label is '{rule}', expected last_segment"):
        fit(*RECORDINGS, label=rule)


def test_labels_of_segments_are_refused():
    with pytest.raises(ValueError, match="label is 'per_segment', expected last_segment"):
        fit(*RECORDINGS, label="per_segment")


def one_person(*, both: bool) -> tuple[Recording, ...]:
    return tuple(make(id, subject="same" if id in ("a", "c") or both else None) for id in "abc")


def test_one_person_in_training_and_validation_is_refused():
    with pytest.raises(
        ValueError, match=r"same is in validation and was trained on: such a score flatters itself. Split by subject"
    ):
        fit(*one_person(both=False))


def test_adapting_to_one_person_may_validate_on_them_and_says_what_that_is_worth(
    detector: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    task = fit(*one_person(both=True), task=DetectTask(detector, adapt="subject"))
    assert "same was trained on: the scores say nothing of other people." in caplog.text
    assert task.spec is not None
    assert (task.spec.trained_on, task.spec.validated_on) == (("same",), ("same",))


# The contract ----------------------------------------------------------------------------------------------------


def others(**preset: Any) -> tuple[Recording, ...]:
    return tuple(make(item.id, len(item.names), preset=preset) for item in RECORDINGS)


def test_recordings_of_another_kind_than_the_checkpoints_are_refused(pretrained: Path):
    with pytest.raises(
        ValueError,
        match=r"break the checkpoint's contract: band is 0.5 to 14.0 in the recordings and 0.5 to 12.0 in the "
        r"contract; reference is average in the recordings and median in the contract.*`contract='adopt'`",
    ):
        fit(*others(band=[0.5, 14.0], reference="average"), task=DetectTask(pretrained))


def test_a_contract_can_be_adopted_and_is_kept_from_then_on(pretrained: Path, tmp_path: Path):
    task = fit(*others(reference="average"), task=DetectTask(pretrained, contract="adopt"))
    assert task.spec is not None
    assert task.spec.preparation == PRESET | {"reference": "average"}
    checkpoint.export(tmp_path / "adopted", task.network, task.spec)
    with pytest.raises(ValueError, match="reference is median in the recordings and average in the contract"):
        fit(*RECORDINGS, task=DetectTask(tmp_path / "adopted"))


def test_recordings_that_say_nothing_of_their_preparation_are_refused(pretrained: Path):
    unknown = tuple(from_array(np.ones((2, 1280)), SFREQ, id=id, events=RECORDINGS[0].events) for id in "ac")
    with pytest.raises(ValueError, match="how they were prepared is not known"):
        fit(*unknown, task=DetectTask(pretrained))


def test_a_run_does_not_go_on_with_recordings_of_another_kind(tmp_path: Path):
    first = trainer(2)
    first.fit(scratch(), datamodule=module())
    first.save_checkpoint(tmp_path / "run.ckpt")
    task = DetectTask(run=tmp_path / "run.ckpt", adapt="full")
    with pytest.raises(ValueError, match="reference is average in the recordings and median in the contract"):
        trainer(2).fit(
            task, datamodule=module(others(reference="average")), ckpt_path=tmp_path / "run.ckpt", weights_only=True
        )


# The loss --------------------------------------------------------------------------------------------------------


def test_balanced_weights_make_both_classes_equal_in_sum():
    task = fit(*RECORDINGS, task=scratch(class_weights="balanced"))
    table = module().windows("train")
    share = table.positive.mean()
    assert 0.1 < share < 0.4
    expected = [0.5 / (1 - share), 0.5 / share]
    assert task.weights_of_classes.tolist() == pytest.approx(expected)
    assert expected[0] * (~table.positive).sum() == pytest.approx(expected[1] * table.positive.sum())
    drawn = fit(*RECORDINGS, task=scratch(class_weights="balanced"), balance=0.2)
    assert drawn.weights_of_classes.tolist() == pytest.approx([0.625, 2.5])  # of what is drawn


LOGITS = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])  # probabilities of 1/4 and 3/4
LABELS = torch.tensor([0, 1])


def test_the_loss_is_the_cross_entropy_weighted_by_class():
    each = [math.log(4), math.log(4 / 3)]
    assert scratch().loss(LOGITS, LABELS).item() == pytest.approx(sum(each) / 2)
    task = fit(*RECORDINGS, task=scratch(class_weights=[1.0, 3.0]))
    assert task.loss(LOGITS, LABELS).item() == pytest.approx((each[0] + 3 * each[1]) / 4)


def test_the_focal_loss_lets_easy_windows_count_less():
    task = scratch(focal=2.0)
    expected = ((3 / 4) ** 2 * math.log(4) + (1 / 4) ** 2 * math.log(4 / 3)) / 2
    assert task.loss(LOGITS, LABELS).item() == pytest.approx(expected)


# Scores ----------------------------------------------------------------------------------------------------------


def test_a_run_learns_saves_its_postprocessing_and_scores_the_test_by_it(tmp_path: Path):
    task, data, runner = scratch(lr=2e-2, class_weights="balanced", pooling="attentive"), module(), trainer(6)
    runner.fit(task, datamodule=data)
    metrics = {name: float(value) for name, value in runner.callback_metrics.items()}
    assert set(DetectTask.shown) <= set(metrics)
    assert metrics["val_f1_event"] == 1
    assert metrics["val_score"] == pytest.approx(metrics["val_f1_event"] - TIE * metrics["val_loss"])
    assert task.fitted is not None
    runner.save_checkpoint(tmp_path / "run.ckpt")
    loaded = checkpoint.load(tmp_path / "run.ckpt", SegmentClassifier)
    assert loaded.spec == task.spec
    assert loaded.spec.postprocessing == task.fitted.best.to_dict()
    assert loaded.spec.fitted["scored"]["f1_event"] == 1
    assert (loaded.spec.trained_on, loaded.spec.validated_on) == (("a", "b"), ("c",))
    trainer().test(task, datamodule=data, verbose=False)
    first = task.report()
    assert task.spec == loaded.spec  # scoring changes nothing that is told of the training

    again = DetectTask(run=tmp_path / "run.ckpt", adapt="full")
    again.spec = again.load_weights(tmp_path / "run.ckpt")
    trainer().test(again, datamodule=module(eval_batch_size=5), verbose=False)
    assert first["pooled"]["f1_event"]["value"] == 1
    assert again.report() == first


def test_a_network_without_postprocessing_is_not_scored():
    with pytest.raises(ValueError, match="has no post-processing, which `tsattn fit` fits on validation subjects"):
        trainer().test(scratch(), datamodule=module(), verbose=False)


class Loud(SegmentNetwork):
    """A token is the mean of a segment; a window's class depends on the mean of its last tokens alone."""

    def encode(self, signal: torch.Tensor) -> torch.Tensor:
        return torch.stack([signal.mean(-1), torch.zeros_like(signal[..., 0])], -1)

    def mix(self, tokens: torch.Tensor, channel_mask: Any = None, observed: Any = None) -> torch.Tensor:
        return tokens


def stepped(id: str, levels: tuple[float, ...]) -> Recording:
    """Channels at some level, and in each second 0.01 higher than in the one before."""
    values = np.array(levels)[:, None] + np.repeat(np.arange(40) * 0.01, 32)
    about = {"provenance": {"preset": PRESET}}
    return from_array(values, SFREQ, id=id, events=make_events([18.0], [8.0]), about=about)


def test_the_probabilities_of_several_readings_of_a_window_are_averaged():
    task = DetectTask(scratch=Loud(SFREQ, 1.0, 3, 2, 2), adapt="full")
    task.network.head.weight.data.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    levels = (-2.0, 0.5, 1.0, 3.0, -1.0)
    items = (make("a"), stepped("c", levels))
    data = module(items, max_channels=2, more_channels="ensemble", eval_batch_size=7)
    task.spec = SignalSpec({}, postprocessing=PostProcessing().to_dict())
    trainer().validate(task, datamodule=data, verbose=False)
    found, _ = task._collected(data, "val")
    assert list(found) == ["c"]
    chosen = {tuple(row[row >= 0].tolist()) for batch in data.val_dataloader() for row in batch.channels}
    assert sorted(i for one in chosen for i in one) == [0, 1, 2, 3, 4]
    assert len(chosen) == 3
    assert found["c"]["time"].values.tolist() == [float(t) for t in range(38)]
    for begin in (0, 17, 37):
        last = 0.01 * (begin + 2)
        each = [1 / (1 + math.exp(-(np.mean([levels[i] for i in one]) + last))) for one in chosen]
        assert float(found["c"].sel(time=float(begin))) == pytest.approx(np.mean(each), abs=1e-6)


def test_stretches_count_from_their_own_begin_and_cut_seizures_at_their_borders():
    item = make("c", seizures=(4.0, 18.0, 32.0))
    spans = Splits((Span("a", 0.0, 40.0, "train"), Span("c", 8.0, 22.0, "val"), Span("c", 26.0, 40.0, "val")))
    found = stretches(module((make("a"), item), splits=audit([make("a"), item], spans, 3.0, [])), "val")
    assert list(found) == ["c, 8 to 22 s", "c, 26 to 40 s"]
    first, second = (events[["onset", "duration"]].values.tolist() for events, _ in found.values())
    assert first == [[0.0, 4.0], [10.0, 4.0]]
    assert second == [[6.0, 8.0]]
    assert [span.end - span.begin for _, span in found.values()] == [14.0, 14.0]


def test_a_stretch_without_a_window_has_no_probability_and_spoils_nothing():
    spans = Splits((
        Span("a", 0.0, 40.0, "train"), Span("c", 10.0, 30.0, "val"), Span("c", 34.0, 36.0, "val"),
    ))  # fmt: skip
    items = (make("a"), make("c"))
    task = scratch()
    trainer().fit(task, datamodule=module(items, splits=audit(list(items), spans, 3.0, [])))
    assert task.fitted is not None


def test_masks_reach_the_network():
    data = module(batch_size=80)
    batch = next(iter(data.train_dataloader()))
    assert masks(batch)[0] is not None
    task = scratch().eval()
    alone = int((batch.recording == 0).nonzero()[0, 0])
    narrow = task.network(batch.signal[alone : alone + 1, :, :3])
    torch.testing.assert_close(task(batch)[alone], narrow[0], rtol=0, atol=1e-5)


# Whom it was trained on -----------------------------------------------------------------------------------------------


def test_a_subject_of_an_earlier_training_is_not_scored_by_a_later_one(tmp_path: Path):
    first = scratch()
    trainer().fit(first, datamodule=module())
    assert first.spec is not None
    assert (first.spec.trained_on, first.spec.validated_on) == (("a", "b"), ("c",))
    checkpoint.export(tmp_path / "first", first.network, first.spec)
    spans = tuple(Span(id, 0.0, 40.0, part) for id, part in zip("abcd", ("val", "train", "train", "test"), strict=True))
    swapped = audit(list(RECORDINGS), Splits(spans), 3.0, [])
    with pytest.raises(ValueError, match="a is in validation and was trained on"):
        trainer().fit(DetectTask(tmp_path / "first", adapt="full"), datamodule=module(splits=swapped))


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_the_shipped_clipping_works_in_mixed_precision(precision: str):
    task = scratch()
    made = lightning.Trainer(
        max_steps=1, limit_val_batches=0, precision=precision, gradient_clip_val=1.0, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    made.fit(task, datamodule=module())
    assert made.global_step == 1


def test_adapting_to_one_person_is_refused_for_several(detector: Path):
    with pytest.raises(ValueError, match="adapt='subject' is for one person, training has 2"):
        fit(*RECORDINGS, task=DetectTask(detector, adapt="subject"))


def test_labels_that_no_detector_learns_are_refused_before_recordings_are_opened(monkeypatch: pytest.MonkeyPatch):
    data = module(label="preictal", label_horizon=60.0)
    monkeypatch.setattr(data, "prepare", lambda: pytest.fail("recordings were opened"))
    with pytest.raises(ValueError, match="label is 'preictal', expected last_segment"):
        trainer().fit(scratch(), datamodule=data)


def test_people_whom_nothing_tells_apart_are_refused():
    nobody = tuple(replace(item, about={**item.about, "subject_from": "unknown"}) for item in RECORDINGS[:3])
    with pytest.raises(ValueError, match=r"3 of 3 do not say it .*split STORE --by subject --subject folder"):
        fit(*nobody)


def test_a_trained_detector_knows_what_its_recordings_were_like():
    spec = fit(*RECORDINGS).spec
    assert spec is not None
    assert spec.domain == {
        "recordings": 2,
        "types": {"seeg": 2},
        "sfreq": [SFREQ, SFREQ],
        "channels": [3, 4],
        "montage": ["single"],
    }
