"""From a prepared store: windows are the recording's, copies are found, and their fingerprints are kept."""

import numpy as np
import pytest

from tsattn.events.table import make_events
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import from_array
from tsattn.recordings.splits import fingerprint as prints
from tsattn.recordings.splits.fingerprint_cache import _read, kept_fingerprint
from tsattn.recordings.splits.split import split
from tsattn.recordings.splits.splits import Splits
from tsattn.recordings.store import open_store

SFREQ = 128.0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    recordings = []
    for i in range(3):
        values = np.random.default_rng(i).normal(size=(4 + i, 128 * 150)).cumsum(1).astype(np.float32)
        values -= values.mean(1, keepdims=True)
        values[:, 128 * 60 : 128 * 64] = np.nan
        events = make_events([20.0, 100.0], [8.0, 8.0])
        recordings.append(from_array(values, SFREQ, id=f"r{i}", subject=f"s{i}", events=events))
    copy = from_array(recordings[0].source.values[::-1, 640:] * 2, SFREQ, id="r9", subject="s9")
    prepare([*recordings, copy], folder / "store.zarr", preset="raw")
    return folder / "store.zarr"


@pytest.fixture(scope="module")
def splits(store, tmp_path_factory):
    path = tmp_path_factory.mktemp("splits") / "splits.json"
    split(store, "subject", (0.4, 0.3, 0.3), embargo_seconds=5.0).save(path)
    return path


def test_the_same_signal_under_two_ids_of_a_store_is_found_and_kept_on_one_side(splits):
    made = Splits.load(splits)
    assert [twin["recordings"] for twin in made.report["twins"]] == [["r0", "r9"]]
    assert made.of("r0")[0].part == made.of("r9")[0].part


def test_a_fingerprint_is_kept_in_the_store_and_not_taken_again(store, splits, monkeypatch):
    recording = open_store(store)["r1"]
    fresh = prints.fingerprint(recording)
    monkeypatch.setattr("tsattn.recordings.splits.fingerprint_cache.fingerprint", lambda _: pytest.fail("taken again"))
    kept = kept_fingerprint(recording)
    assert np.array_equal(kept.hash, fresh.hash)
    assert np.array_equal(kept.channel, fresh.channel)
    assert kept.seconds == pytest.approx(fresh.seconds, abs=6e-4)
    assert kept.level == fresh.level
    monkeypatch.undo()
    assert _read(recording.source.path / "fingerprint", "another preparation") is None
    part = recording.pick(recording.names[:2])  # another recording: fewer channels
    assert set(kept_fingerprint(part).channel.tolist()) == {0, 1}


def test_a_store_that_cannot_be_written_is_split_all_the_same(store, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tsattn.recordings.splits.fingerprint_cache._read", lambda *_: None)
    monkeypatch.setattr("tsattn.recordings.splits.fingerprint_cache._write", refuse)
    assert split(store, "subject", (0.5, 0.0, 0.5), embargo_seconds=5.0).report["twins"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", ["full", "local"])
def test_batches_of_a_store_are_its_samples(store, splits, workers, shuffle):
    data = RecordingDataModule(
        store, splits, segments=5, segment_seconds=1.0, stride_seconds=2.0, batch_size=6, workers=workers,
        shuffle=shuffle, block_seconds=30.0,
    )  # fmt: skip
    seen = 0
    for batch in data.train_dataloader():
        for k in range(len(batch.label)):
            item = data.recordings[int(batch.recording[k])]
            start = round(float(batch.begin[k]) * SFREQ)
            truth = item.read(start, start + 640).reshape(len(item.names), 5, 128).transpose(1, 0, 2)
            assert np.array_equal(batch.signal[k, :, batch.channel_mask[k]].numpy(), truth)
            assert data.names(batch, k) == item.names
            seen += 1
    assert seen == len(data.windows("train")) > 0
    assert "left out at gaps" in data.summary


def test_the_split_file_is_believed_only_for_the_store_that_it_is_of(store, splits, tmp_path, caplog):
    caplog.set_level("INFO")
    RecordingDataModule(store, splits, segments=5, segment_seconds=1.0).prepare()
    assert "was not audited" not in caplog.text
    text = splits.read_text().replace('"begin": 0.0', '"begin": 1.0')
    (tmp_path / "edited.json").write_text(text)
    RecordingDataModule(store, tmp_path / "edited.json", segments=5, segment_seconds=1.0).prepare()
    assert "was not audited" in caplog.text


def test_an_absent_store_and_an_absent_split_are_named(store, tmp_path):
    with pytest.raises(FileNotFoundError):
        RecordingDataModule(tmp_path / "no.zarr").prepare()
    with pytest.raises(FileNotFoundError):
        RecordingDataModule(store, tmp_path / "no.json").prepare()
