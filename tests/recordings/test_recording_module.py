"""From recordings and a split to batches: values, masks, names, orders, processes."""

from dataclasses import replace

import lightning
import numpy as np
import pytest
import torch

from tsattn.contracts import RecordingBatch
from tsattn.events.table import make_events
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.splits.leaks import audit
from tsattn.recordings.splits.split import split
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.recordings.windows.channel_choice import choose_channels

SFREQ = 64.0
CHANNELS = {"a": 3, "b": 5, "c": 2}


def make(id: str, channels: int, seconds: int = 120, gap: tuple[int, int] | None = None) -> Recording:
    values = np.random.default_rng(ord(id)).normal(size=(channels, round(seconds * SFREQ))).astype(np.float32)
    if gap:
        values[:, round(gap[0] * SFREQ) : round(gap[1] * SFREQ)] = np.nan
    names = [f"{id.upper()}{i + 1}" for i in range(channels)]
    return from_array(values, SFREQ, id=id, names=names, events=make_events([30.0, 90.0], [5.0, 5.0]))


RECORDINGS = [make(id, count) for id, count in CHANNELS.items()]
SPANS = [
    ("a", 0, 60, "train"),
    ("a", 70, 120, "val"),
    ("b", 0, 120, "train"),
    ("c", 0, 60, "test"),
    ("c", 70, 120, "val"),
]
SPLITS = audit(RECORDINGS, Splits(tuple(Span(i, float(a), float(b), p) for i, a, b, p in SPANS)), 5.0, [])


def module(recordings=RECORDINGS, splits=SPLITS, **knobs) -> RecordingDataModule:
    knobs = {"segments": 5, "segment_seconds": 1.0, "stride_seconds": 1.0, "batch_size": 7, "splits": splits} | knobs
    return RecordingDataModule.from_recordings(recordings, **knobs)


def rows(loader) -> list[tuple[int, float]]:
    """Recording and begin of every row that a loader gives, in its order."""
    return [row for batch in loader for row in zip(batch.recording.tolist(), batch.begin.tolist(), strict=True)]


def check(data: RecordingDataModule, batch: RecordingBatch) -> None:
    """Compare a batch with the samples of its recordings, one row at a time."""
    assert batch.signal.dtype == torch.float32
    for k in range(len(batch.signal)):
        item = data.recordings[int(batch.recording[k])]
        start = round(float(batch.begin[k]) * SFREQ)
        truth = item.read(start, start + 320).reshape(len(item.names), 5, 64).transpose(1, 0, 2)
        names = data.names(batch, k)
        places = [item.names.index(name) for name in names]
        real = batch.channel_mask[k].numpy()
        assert real.tolist() == [True] * len(names) + [False] * (len(real) - len(names))
        signal, observed = batch.signal[k].numpy(), batch.observed[k].numpy()
        expected = truth[:, places]
        whole = np.isfinite(expected).all(-1)
        assert np.array_equal(observed[:, real], whole)
        assert np.array_equal(signal[:, real], np.where(whole[..., None], expected, 0.0))
        assert not signal[:, ~real].any()
        assert not observed[:, ~real].any()
        onset, offset = item.events["onset"], item.events["onset"] + item.events["duration"]
        end = float(batch.begin[k]) + 5.0
        assert int(batch.label[k]) == int(((onset <= end) & (offset >= end - 1)).any())


@pytest.mark.parametrize("knobs", [{}, {"shuffle": "local", "block_seconds": 20.0, "blocks": 2}, {"gaps": "mask"}])
def test_a_batch_holds_the_samples_names_masks_and_labels_of_its_windows(knobs):
    recordings = [RECORDINGS[0], make("b", 5, gap=(40, 46)), RECORDINGS[2]]
    data = module(recordings, **knobs)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            check(data, batch)
    masked = any(not batch.observed[:, :, 0].all() for batch in data.train_dataloader())
    assert masked == (knobs.get("gaps") == "mask")


def test_patients_with_different_channels_share_a_batch_uncropped():
    batch = next(iter(module(batch_size=64).train_dataloader()))
    assert set(batch.channel_mask.sum(1).tolist()) == {3, 5}
    assert batch.signal.shape[2] == 5


def test_validation_and_test_see_every_window_once_in_order():
    data = module(balance=0.5)
    a, c = [(0, float(t)) for t in range(70, 116)], [(2, float(t)) for t in range(70, 116)]
    assert rows(data.val_dataloader()) == a + c
    assert rows(data.test_dataloader()) == [(2, float(t)) for t in range(56)]


def test_training_windows_come_once_each_in_an_order_of_seed_and_epoch():
    def order(seed: int, epoch: int, **knobs) -> list[tuple[int, float]]:
        loader = module(seed=seed, **knobs).train_dataloader()
        loader.set_epoch(epoch)
        return rows(loader)

    every = [(0, float(t)) for t in range(56)] + [(1, float(t)) for t in range(116)]
    assert sorted(order(0, 0)) == every
    assert order(0, 0) != every
    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 0)
    assert sorted(order(0, 0, shuffle="local", block_seconds=20.0)) == every


def counting() -> tuple[list[Recording], list[tuple[int, int, int]]]:
    """The recordings, and a list to which each reading adds its source, first sample and end."""
    read = []

    class Counting:
        def __init__(self, source):
            self.source = source

        def read(self, rows, start, stop):
            read.append((id(self.source), start, stop))
            return self.source.read(rows, start, stop)

    return [replace(item, source=Counting(item.source)) for item in RECORDINGS], read


def test_local_shuffling_reads_each_stretch_once_an_epoch():
    recordings, read = counting()
    loader = module(recordings, shuffle="local", block_seconds=10.0, blocks=8).train_dataloader()
    assert len(rows(loader)) == 56 + 116
    assert len(read) == len(set(read)) == 6 + 12
    order = rows(loader)
    assert order != sorted(order)
    assert len({(i, begin // 10) for i, begin in order[:12]}) > 1


def test_overlapping_windows_of_a_batch_are_read_once():
    recordings, read = counting()
    assert len(rows(module(recordings).test_dataloader())) == 56
    assert (
        sum(stop - start for _, start, stop in read) == 8 * 11 * 64
    )  # eight batches of seven windows: 5 + 6 s each, not 35


def test_a_balanced_epoch_has_the_share_asked_for_and_every_seizure_window_once():
    data = module(balance=0.25)
    table = data.windows("train")
    loader = data.train_dataloader()
    labels = torch.cat([batch.label for batch in loader])
    positives = int(table.positive.sum())
    assert (int(labels.sum()), len(labels)) == (positives, 4 * positives)
    loader.set_epoch(1)
    other = module(balance=0.25, windows_per_epoch=400).train_dataloader()
    assert sum(int(batch.label.sum()) for batch in other) == 100
    seen = rows(other)
    assert len(seen) == 400
    counts = [seen.count((int(r), float(b))) for r, b in zip(table.recording, table.begin, strict=True)]
    ratio = np.array(counts)[table.positive]
    assert ratio.max() - ratio.min() <= 1  # nobody twice before everybody once


def test_training_near_seizures_only():
    table = module(near_seconds=10.0).windows("train")
    assert table.begin[table.recording == 1].tolist() == [*map(float, range(15, 46)), *map(float, range(75, 106))]


def test_labels_per_segment_come_as_a_row_of_labels():
    batch = next(iter(module(label="per_segment").test_dataloader()))
    assert batch.label.shape == (7, 5)
    last = next(iter(module().test_dataloader()))
    assert torch.equal(batch.label[:, -1], last.label)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_epoch_goes_on_exactly(workers):
    def loader(workers=workers):
        return module(workers=workers).train_dataloader()

    whole, cut, resumed = loader(0), loader(), loader()
    for one in (whole, cut):
        one.set_epoch(3)
    expected = [batch.begin.tolist() for batch in whole]
    stream = iter(cut)
    for _ in range(4):
        next(stream)
    resumed.load_state_dict(cut.state_dict())
    resumed.set_epoch(3)
    assert [batch.begin.tolist() for batch in resumed] == expected[4:]
    assert [batch.begin.tolist() for batch in resumed] == expected  # only once


def test_workers_give_the_same_batches_in_the_same_order_in_every_epoch():
    alone, helped = (module(workers=workers, shuffle="local").train_dataloader() for workers in (0, 2))
    for epoch in range(2):
        alone.set_epoch(epoch)
        helped.set_epoch(epoch)
        pairs = list(zip(alone, helped, strict=True))
        assert len(pairs) == len(alone) == 25
        for ours, theirs in pairs:
            assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_memory_is_not_used_again_while_somebody_looks_at_it(workers):
    data = module(workers=workers, batch_size=4)
    loader = data.train_dataloader()
    views, expected = [], []
    for number, batch in enumerate(loader):
        if number % 5 == 0:  # a part of a batch is kept, the batch is not
            views.append(batch.signal[1:, 2].numpy())
            expected.append(views[-1].copy())
    assert len(views) == 9
    assert all(np.array_equal(a, b) for a, b in zip(views, expected, strict=True))
    del views, batch
    held = {batch.signal.data_ptr() for batch in loader}
    assert len(held) <= 2 * workers + 2 < len(loader)


def test_a_pass_that_is_broken_off_loses_nothing():
    loader = module(workers=2).train_dataloader()
    expected = [batch.begin.tolist() for batch in module().train_dataloader()]
    for _ in range(4):
        next(iter(loader))
        assert [batch.begin.tolist() for batch in loader] == expected
    slots = loader.dataset.slots
    assert len(slots._free) == 6


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_processes_share_evaluation_windows_without_dropping_or_repeating(world):
    from tsattn.recordings.windows.batches import RecordingLoader

    data = module()
    batches = data.test_dataloader().dataset
    parts = [rows(RecordingLoader(batches, 7, rank=rank, world=world)) for rank in range(world)]
    assert sorted([row for part in parts for row in part]) == [(2, float(t)) for t in range(56)]
    train = data.train_dataloader().dataset
    even = [rows(RecordingLoader(train, 7, shuffle="full", rank=r, world=world, even=True)) for r in range(world)]
    assert {len(part) for part in even} == {-(-172 // world)}
    assert len({row for part in even for row in part}) == 172


# Too many channels -----------------------------------------------------------------------------------------------


def shafts() -> Recording:
    names = [f"{shaft}{i}" for shaft, count in (("LA", 10), ("LH", 5), ("RA", 5)) for i in range(1, count + 1)]
    values = np.arange(20, dtype=np.float32)[:, None] + np.zeros((20, round(20 * SFREQ)), np.float32)
    return from_array(values, SFREQ, id="many", names=names)


def test_more_channels_than_room_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"many has 20 channels and the model has room for 8.*spread.*ensemble"):
        choose_channels(shafts(), 8)
    assert choose_channels(shafts(), 20) == [list(range(20))]


@pytest.mark.parametrize("room", range(1, 20))
def test_spread_takes_from_every_shaft_by_its_share_and_evenly_along_it(room):
    (chosen,) = choose_channels(shafts(), room, "spread")
    assert len(chosen) == len(set(chosen)) == room
    assert chosen == sorted(chosen)
    counts = [sum(i < 10 for i in chosen), sum(10 <= i < 15 for i in chosen), sum(i >= 15 for i in chosen)]
    for count, size in zip(counts, (10, 5, 5), strict=True):
        assert abs(count - room * size / 20) < 1.01
        assert count >= (room >= 3)
    along = np.diff([i for i in chosen if i < 10])
    assert not len(along) or along.max() - along.min() <= 1


def test_spread_leaves_no_shaft_out_if_there_is_room_for_one_contact_of_each():
    names = [*(f"GR{i}" for i in range(1, 65)), *(f"A{i}" for i in range(1, 4)), "Z1", "EKG"]
    item = from_array(np.zeros((len(names), 64), np.float32), SFREQ, names=names)
    (chosen,) = choose_channels(item, 8, "spread")
    assert [names[i] for i in chosen][-3:] == ["A2", "Z1", "EKG"]
    assert len(chosen) == 8


@pytest.mark.parametrize("room", [1, 3, 7, 8, 10, 19])
def test_ensemble_reads_each_channel_once_and_each_reading_goes_over_all_shafts(room):
    readings = choose_channels(shafts(), room, "ensemble")
    assert sorted([i for chosen in readings for i in chosen]) == list(range(20))
    assert len(readings) == -(-20 // room)
    assert max(map(len, readings)) <= room
    assert max(map(len, readings)) - min(map(len, readings)) <= 1
    if room >= 5:
        for chosen in readings:
            assert {("LA", "LH", "RA")[(i >= 10) + (i >= 15)] for i in chosen} == {"LA", "LH", "RA"}


def test_evaluation_makes_every_reading_of_a_window_and_training_one():
    item = shafts()
    spans = Splits((Span("many", 0.0, 10.0, "train"), Span("many", 15.0, 20.0, "test")))
    data = module([item], audit([item], spans, 5.0, []), max_channels=8, more_channels="ensemble")
    (batch,) = data.test_dataloader()
    assert batch.begin.tolist() == [15.0] * 3
    assert sorted(batch.channels[batch.channel_mask].tolist()) == list(range(20))
    for k in range(3):
        real = batch.channel_mask[k]
        assert torch.equal(batch.signal[k, 0, real, 0].long(), batch.channels[k, real])  # a channel's values: its place
        assert data.names(batch, k) == [item.names[i] for i in batch.channels[k, real].tolist()]
    train = data.train_dataloader()
    assert sorted(rows(train)) == [(0, float(t)) for t in range(6)]
    chosen = set()
    for epoch in range(8):
        train.set_epoch(epoch)
        chosen |= {tuple(c.tolist()) for batch in train for c in batch.channels}
    assert len(chosen) == 3


# Refusals --------------------------------------------------------------------------------------------------------


def test_a_hand_made_split_with_one_signal_on_two_sides_is_refused():
    signal = np.random.default_rng(1).normal(size=(3, 9_600))
    one = from_array(signal, SFREQ, id="b")
    twin = from_array(-3 * signal[::-1].copy(), SFREQ, id="z", subject="other")
    spans = Splits((Span("b", 0.0, 150.0, "train"), Span("z", 0.0, 150.0, "test")))
    with pytest.raises(ValueError, match=r"Leak: b .* and z"):
        module([one, twin], spans).prepare()


def test_parts_that_are_closer_than_a_window_are_refused():
    spans = Splits((Span("a", 0.0, 60.0, "train"), Span("a", 63.0, 120.0, "test")))
    with pytest.raises(ValueError, match=r"3 s apart.*at least 5 s"):
        module([RECORDINGS[0]], spans).prepare()


def test_recordings_at_different_rates_are_refused():
    other = from_array(np.zeros((2, 1000), np.float32), 50.0, id="slow")
    with pytest.raises(ValueError, match=r"50, 64 Hz, expected one rate"):
        module([RECORDINGS[0], other], None).prepare()


def test_a_balance_without_seizures_and_a_fit_without_windows_are_refused():
    calm = from_array(np.zeros((2, 6400), np.float32), SFREQ, id="calm")
    spans = audit([calm], Splits((Span("calm", 0.0, 100.0, "train"),)), 5.0, [])
    with pytest.raises(ValueError, match=r"no training window with a seizure among 96"):
        next(iter(module([calm], spans, balance=0.5).train_dataloader()))
    with pytest.raises(ValueError, match=r"no training window.*tsattn recordings split"):
        module([calm], None).setup("fit")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"balance": 1.0}, "balance is 1"),
        ({"windows_per_epoch": 0}, "is 0"),
    ],
)
def test_senseless_knobs_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        module(**knobs)
    with pytest.raises(ValueError, match="no recordings: pass store"):
        RecordingDataModule().prepare()


def test_bad_channels_are_left_out_unless_kept():
    item = make("a", 4)
    item.channels.loc[2, "status"] = "bad"
    assert module([item], None).recordings[0].names == ["A1", "A2", "A4"]
    assert module([item], None, bads="keep").recordings[0].names == ["A1", "A2", "A3", "A4"]


def test_folds_are_chosen_by_number():
    values = np.random.default_rng(0).normal(size=(2, 64 * 900)).astype(np.float32)
    item = from_array(values, SFREQ, id="a", events=make_events([100.0, 400.0, 700.0], [10.0] * 3))
    made = split([item], "seizure", folds=3, embargo_seconds=10.0)
    with pytest.raises(ValueError, match="3 folds: choose one"):
        module([item], made).prepare()
    with pytest.raises(ValueError, match="3 folds: choose one"):
        module([item], Splits(made.spans)).prepare()  # written by hand: nothing says that it has folds
    seen = [module([item], made, fold=k).windows("test").positive.sum() for k in range(3)]
    assert all(count > 0 for count in seen)


# Outside ---------------------------------------------------------------------------------------------------------


def test_a_window_comes_labelled():
    data = module([make("a", 3, gap=(20, 22))], None, gaps="mask")
    table = data.windows("test")
    number = int(np.flatnonzero(table.begin == 18.0)[0])
    array = data.window_array("test", number)
    assert array.dims == ("segment", "channel", "time")
    assert array["channel"].values.tolist() == ["A1", "A2", "A3"]
    assert array["segment"].values.tolist() == [18.0, 19.0, 20.0, 21.0, 22.0]
    assert np.isnan(array.sel(segment=slice(20.0, 21.0))).all()
    truth = data.recordings[0].read(18 * 64, 20 * 64)
    assert np.array_equal(array.sel(segment=slice(18.0, 19.0)).transpose("channel", ...).values.reshape(3, -1), truth)


def test_lightning_trains_validates_and_tests_on_the_module(tmp_path):
    class Task(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(64, 1)
            self.seen = {"train": 0, "val": 0, "test": 0}

        def _loss(self, batch: RecordingBatch, part: str):
            self.seen[part] += len(batch.label)
            weight = batch.observed[..., None].float()
            logit = (self.layer(batch.signal) * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
            return torch.nn.functional.binary_cross_entropy_with_logits(logit, batch.label.float())

        def training_step(self, batch, _):
            return self._loss(batch, "train")

        def validation_step(self, batch, _):
            self._loss(batch, "val")

        def test_step(self, batch, number):
            self._loss(batch, "test")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    task = Task()
    trainer = lightning.Trainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, datamodule=module())
    trainer.test(task, datamodule=module(), verbose=False)
    assert task.seen == {"train": 2 * 172, "val": 2 * 92, "test": 56}


def test_a_part_into_which_no_window_fits_is_an_error_and_one_that_is_absent_is_not():
    spans = (Span("a", 0.0, 60.0, "train"), Span("b", 0.0, 4.0, "test"))
    data = module(splits=audit(RECORDINGS, Splits(spans), 5.0, []))
    assert data.val_dataloader() == []
    with pytest.raises(ValueError, match=r"No window of 5 s fits into what the split has for test"):
        data.test_dataloader()


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        (dict(label_horizon=60.0), "label_horizon is 60, which label='last_segment' does not look at"),
        (dict(label_share=0.3), "label_share is 0.3, which label='last_segment' does not look at"),
        (dict(label="share", label_share=0.0), "label_share is 0, expected above 0"),
        (dict(label="preictal", label_horizon=-1.0), "label_horizon is -1 s, expected above 0"),
        (dict(fold=0), "there is no split"),
        (dict(fold=0, splits="subject"), "makes one without folds"),
        (dict(workers=-1), "workers is -1"),
        (dict(near_seconds=-5.0), "near_seconds is -5"),
        (dict(max_channels=0), "max_channels is 0"),
        (dict(block_seconds=0.0), "block_seconds is 0"),
    ],
)
def test_options_that_cannot_work_are_refused_before_a_file_is_opened(knobs: dict, told: str):
    with pytest.raises(ValueError, match=told):
        RecordingDataModule("there is no such store.zarr", **knobs)
