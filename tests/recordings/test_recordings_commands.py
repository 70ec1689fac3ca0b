"""A clinical researcher's way on the command line: simulate, inspect, prepare, split, score, export."""

import json
from pathlib import Path

import pandas as pd
import pytest
from support import SHARED, tsattn

from tsattn.recordings.store import open_store


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic")
    done(
        folder, "simulate", "--out", "bids", "--subjects", 3, "--hours", 0.1, "--channels", "[8, 12]", "--level", "hard"
    )
    done(folder, "prepare", "bids", "--preset", "swec", "--out", "store.zarr", "--workers", 2)
    return folder


def done(folder: Path, *args: object) -> str:
    result = tsattn("recordings", *args, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(folder: Path, *args: object) -> str:
    result = tsattn(*args, cwd=folder)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def test_what_was_simulated_is_inspected(folder: Path):
    told = done(folder, "inspect", "bids", "--plot", "pictures")
    for word in ("sub-01_task-simulated_run-01", "x sz", "flat", "mains", "median reference", "3 recordings"):
        assert word in told
    assert len(list((folder / "pictures").glob("sub-0*.png"))) == 3
    assert (folder / "pictures/overview.png").stat().st_size > 5_000


def test_the_store_holds_every_recording_without_its_bad_channels(folder: Path):
    store = open_store(folder / "store.zarr")
    assert sorted(store.ids) == [f"sub-0{i}_task-simulated_run-01" for i in (1, 2, 3)]
    for id in store.ids:
        truth = pd.read_csv(
            next((folder / "bids/derivatives").rglob(f"{id}*events.tsv")), sep="\t", keep_default_na=False
        )
        bad = truth[truth["trial_type"].isin(("flat", "mains"))]["channels"].tolist()
        assert len(bad) == 2
        assert not set(bad) & set(store[id].names)
        assert set(bad) == set(store[id].about["provenance"]["steps"][0]["bad"])
    again = done(folder, "prepare", "bids", "--preset", "swec", "--out", "store.zarr")
    assert "3 recordings, 0.30 h" in again


def test_a_split_is_audited_and_never_overwritten(folder: Path):
    told = done(folder, "split", "store.zarr", "--by", "subject", "--out", "splits.json", "--embargo", 125)
    assert all(part in told for part in ("train:", "val:", "test:"))
    spans = pd.DataFrame(json.loads((folder / "splits.json").read_text())["spans"])
    assert spans.groupby("recording")["part"].nunique().max() == 1
    assert "--overwrite" in refused(folder, "recordings", "split", "store.zarr", "--out", "splits.json")


def test_events_are_exported_and_score_perfectly_against_themselves(folder: Path):
    result = tsattn("events", "export", "bids", "--to", "szcore", "--out", "szcore", cwd=folder)
    assert result.returncode == 0, result.stderr
    result = tsattn("events", "score", "--reference", "bids", "--hypothesis", "szcore", "--out", "s.json", cwd=folder)
    assert result.returncode == 0, result.stderr
    assert json.loads((folder / "s.json").read_text())["pooled"]["f1_event"]["value"] == 1.0


def test_what_is_no_recording_is_one_sentence(folder: Path):
    (folder / "notes.edf").write_text("not an EDF file")
    assert "notes" not in refused(folder, "recordings", "prepare", "notes.edf", "--out", "x.zarr").replace(
        "notes.edf:", ""
    )
    assert "There is nothing" in refused(folder, "recordings", "inspect", "nowhere")
    assert "easy" in refused(folder, "recordings", "simulate", "--out", "x", "--level", "harder")


def test_a_real_ecog_recording_goes_into_a_store(tmp_path: Path):
    file = SHARED / "data/ieeg/ecog_pt01_ictal/sub-pt01_ecog_ictal.edf"
    if not file.exists():
        pytest.skip(f"no {file}")
    done(tmp_path, "prepare", file, "--preset", "swec", "--out", "s.zarr", "--type", "ecog", "--subject", "pt01")
    (recording,) = open_store(tmp_path / "s.zarr").recordings()
    assert (recording.sfreq, len(recording.names), recording.subject) == (512.0, 84, "pt01")
    assert recording.events["onset"].tolist() == [1.0]


def test_a_store_is_inspected_like_any_recording(folder: Path):
    told = done(folder, "inspect", "store.zarr", "--plot", "stored")
    assert "3 recordings" in told
    assert (folder / "stored/overview.png").exists()
    assert "settled" in refused(folder, "recordings", "inspect", "store.zarr", "--unit", "V")
