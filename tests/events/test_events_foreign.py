"""What we write is read by others (epilepsy2bids, szcore-evaluation, mne, pyedflib), and what they write, by us."""

import importlib.util
import re
from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd
import pytest
from test_events_doors import write_edf

from tsattn.commands.events import export, score
from tsattn.events import vocabulary
from tsattn.events.counting import RULES
from tsattn.events.edf import annotate_edf
from tsattn.events.files import read_events, write_events
from tsattn.events.score import score_events
from tsattn.events.table import make_events

HEAD = "onset\tduration\teventType\tconfidence\tchannels\tdateTime\trecordingDuration\n"


def types() -> list[str]:
    """Every type that the vocabulary of the package can make, and some that SzCORE does not have."""
    known = [name.replace("_", "-") for name in sorted(vocabulary.SZCORE)]
    return [*known, "sz-foc-ua", "sz-gen-nm-eyelidMyo", "sz-uon", "sz-foc-a-tonic"]


def read_as_epilepsy2bids(path: Path) -> list[tuple]:
    """The rules of `epilepsy2bids.annotations.Annotations.loadTsv` (0.0.7): an unknown eventType is "n/a"."""
    table = pd.read_csv(path, delimiter="\t")
    found = []
    for _, row in table.iterrows():
        kind = row["eventType"] if row["eventType"] in vocabulary.SZCORE | {"bckg"} else "n/a"
        channels = row["channels"].split(",") if isinstance(row["channels"], str) else "n/a"
        found.append((float(row["onset"]), float(row["duration"]), kind, channels, float(row["recordingDuration"])))
    return found


def test_every_type_is_written_in_a_word_that_szcores_readers_know(tmp_path: Path):
    kinds = types()
    events = make_events(np.arange(len(kinds)) * 10.0, [5.0] * len(kinds), kinds, channels="n/a")
    write_events(tmp_path / "x.tsv", events, "szcore", duration=10.0 * len(kinds))
    theirs = read_as_epilepsy2bids(tmp_path / "x.tsv")
    assert len(theirs) == len(kinds)
    assert [kind for _, _, kind, _, _ in theirs if kind not in vocabulary.SZCORE] == []
    assert {channels if isinstance(channels, str) else "list" for *_, channels, _ in theirs} == {"n/a"}
    again = read_events(tmp_path / "x.tsv").events
    exact = [kind for kind in kinds if kind.replace("-", "_") in vocabulary.SZCORE]
    assert again["event_type"].tolist()[: len(exact)] == exact
    assert again["event_type"].tolist()[len(exact) :] == ["sz-foc", "sz-gen-nm-eyelidMyio", "sz", "sz-foc-a"]
    if importlib.util.find_spec("epilepsy2bids"):
        from epilepsy2bids.annotations import Annotations

        package = Annotations.loadTsv(str(tmp_path / "x.tsv"))
        assert [event["eventType"].name for event in package.events] == [kind for _, _, kind, _, _ in theirs]
        assert package.getMask(1).sum() == 5 * len(kinds)


@pytest.mark.parametrize("channels", ["n/a", "all", "A1", "A1,A2,A3"])
@pytest.mark.parametrize("format", ["szcore", "bids", "csv", "edf"])
def test_channels_that_nobody_stated_stay_unstated(format: str, channels: str, tmp_path: Path):
    path = tmp_path / f"x{'.edf' if format == 'edf' else '.csv' if format == 'csv' else '.tsv'}"
    write_events(path, make_events([1.0], [2.0], "sz-foc-ia", channels=channels), format, duration=60.0)  # type: ignore[arg-type]
    found = read_events(path).events["channels"].tolist()
    assert found == (["all"] if format == "edf" and channels == "n/a" else [channels])  # EDF+ has no word for it


@pytest.mark.parametrize("copy", [False, True])
def test_each_event_is_one_annotation_for_every_viewer(copy: bool, tmp_path: Path):
    names = tuple(f"A{i + 1}" for i in range(24))
    events = make_events(
        [5.0, 100.0, 200.0], [50.0, 0.0, 3.0], ["sz-foc", "annotation", "sz"], channels=[",".join(names), "all", "A7"]
    )
    path = tmp_path / "x_events.edf"
    if copy:
        annotate_edf(write_edf(tmp_path / "source.edf", [], names=names), path, events)
    else:
        write_events(path, events, "edf", duration=400.0)
    texts = [mark.text for mark in edfio.read_edf(path).annotations]
    assert texts == [f"sz_foc [{','.join(names)}]", "annotation", "sz@@A7"]
    marks = mne.read_annotations(path)
    assert len(marks) == len(events)
    np.testing.assert_array_equal(marks.onset, events["onset"])
    np.testing.assert_array_equal(marks.duration, events["duration"])
    pd.testing.assert_frame_equal(read_events(path).events, events)
    assert read_events(path).duration == 400.0
    if copy and importlib.util.find_spec("pyedflib"):
        import pyedflib

        with pyedflib.EdfReader(str(path)) as reader:
            onset, _, said = reader.readAnnotations()
        assert said.tolist() == texts
        np.testing.assert_allclose(onset, events["onset"])


EVIL = ('=HYPERLINK("http://x")', "+1", "-2", "@SUM(A1)", "\x1b[31mred", "two\tcells", "a\nb", "=cmd|' /C calc'!A0")


@pytest.mark.parametrize("format", ["szcore", "bids", "csv", "edf"])
@pytest.mark.parametrize("evil", EVIL)
def test_no_formula_and_no_escape_character_is_written(format: str, evil: str, tmp_path: Path):
    events = make_events([1.0, 2.0], [2.0, 1.0], ["sz", "annotation"], channels=[f"{evil},A1", "all"], text=["", evil])
    path = tmp_path / f"x{'.edf' if format == 'edf' else '.csv' if format == 'csv' else '.tsv'}"
    write_events(path, events, format, duration=60.0, keep_text=["*"])  # type: ignore[arg-type]
    again = read_events(path, keep_text=["*"]).events
    shown = vocabulary.clean(evil)
    assert again["channels"][0] == f"{shown},A1"
    if format != "szcore":
        assert again["text"].tolist()[-1] == shown
    if format == "edf":
        return
    content = path.read_text()
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", content)
    table = pd.read_csv(path, sep="," if format == "csv" else "\t", dtype=str, keep_default_na=False)
    cells = [name for cell in table.drop(columns=["onset", "duration"]).to_numpy().ravel() for name in cell.split(",")]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@")]


def folder_of_others(root: Path, name: str, onset: float, whole: float) -> None:
    path = root / "sub-01" / "ses-01" / "eeg" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEAD + f"{onset:.2f}\t60.00\tsz\tn/a\tn/a\t2020-01-01 00:00:00\t{whole:.2f}\n")


def test_folders_that_others_write_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder_of_others(tmp_path / "ref", "sub-01_ses-01_task-szMonitoring_run-00_events.tsv", 100.0, 3600.0)
    folder_of_others(
        tmp_path / "hyp", "sub-01_ses-01_task-szMonitoring_run-00.tsv", 3540.5, 3600.5
    )  # a last record more
    (tmp_path / "hyp" / "participants.tsv").write_text("participant_id\nsub-01\n")
    score(tmp_path / "ref", tmp_path / "hyp", bootstrap=0, out=tmp_path / "o.json")
    assert "1 reference event, 0 found; 1 false detection" in capsys.readouterr().out
    folder_of_others(tmp_path / "hyp", "sub-01_ses-01_task-szMonitoring_run-00.tsv", 100.0, 3700.0)
    with pytest.raises(ValueError, match=r"3600 s and 3700 s \(the reference and the hypothesis\)"):
        score(tmp_path / "ref", tmp_path / "hyp")


@pytest.mark.parametrize("side", ["reference", "hypothesis"])
def test_what_is_wrong_with_one_side_names_it(side: str, tmp_path: Path):
    for folder in ("reference", "hypothesis"):
        folder_of_others(tmp_path / folder, "sub-01_run-01_events.tsv", 100.0, 3600.0)
    (tmp_path / side / "sub-01/ses-01/eeg/sub-01_run-01_events.tsv").write_text(HEAD + "1\tx\tsz\tn/a\tn/a\tn/a\t60\n")
    with pytest.raises(ValueError, match=f"the {side}, sub-01_run-01_events.tsv: line 2 has a text in 'duration'"):
        score(tmp_path / "reference", tmp_path / "hypothesis")
    (tmp_path / side / "sub-01/ses-01/eeg/sub-01_run-01_events.tsv").unlink()
    with pytest.raises(ValueError, match=f"--{side}: .* holds no"):
        score(tmp_path / "reference", tmp_path / "hypothesis")


def whole_seconds(spans: list, duration: float) -> tuple[np.ndarray, list]:
    """The mask of 1 Hz that `epilepsy2bids` makes of events, and the events that `timescoring` makes of the mask."""
    mask = np.zeros(int(duration), dtype=bool)
    for onset, lasts in spans:
        mask[int(onset) : int(onset + lasts)] = True
    edges = np.flatnonzero(np.diff(np.r_[0, mask.astype(int), 0]))
    return mask, list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(25))
def test_whole_seconds_are_those_of_szcore_evaluation(seed: int):
    """The package cuts times to seconds by masks before it scores; what follows are SzCORE's rules."""
    random = np.random.default_rng(seed)
    duration = float(random.uniform(600, 4000))
    sides = []
    for _ in range(2):
        count = int(random.integers(0, 9))
        onset = np.sort(random.uniform(0, duration - 130, count))
        sides.append(
            list(zip(onset.tolist(), random.choice([0.4, 0.9, 12.3, 80.01, 120.0], count).tolist(), strict=True))
        )
    tables = [make_events([a for a, _ in side], [b for _, b in side]) for side in sides]
    ours = score_events(*tables, duration, "szcore-1s")
    masks, cut = zip(*(whole_seconds(side, duration) for side in sides), strict=True)
    assert ours.counts["sample_reference"] == masks[0].sum()
    assert ours.counts["sample_true_positive"] == (masks[0] & masks[1]).sum()
    assert ours.counts["sample_seconds"] == len(masks[0])
    whole = [make_events([a for a, _ in side], [b - a for a, b in side]) for side in cut]
    exact = score_events(*whole, float(int(duration)))
    assert ours.counts == exact.counts
    assert ours.rules.version != exact.rules.version
    if importlib.util.find_spec("timescoring"):
        from timescoring import scoring
        from timescoring.annotations import Annotation

        reference, hypothesis = (Annotation(mask, 1) for mask in masks)
        theirs = scoring.EventScoring(reference, hypothesis)
        found = [ours.counts[name] for name in ("reference", "true_positive", "false_positive")]
        assert found == [theirs.refTrue, theirs.tp, theirs.fp]


def test_the_rule_is_chosen_by_name(tmp_path: Path):
    assert set(RULES) == {"szcore", "szcore-1s"}
    folder_of_others(tmp_path / "ref", "sub-01_events.tsv", 100.9, 3600.0)
    score(tmp_path / "ref", tmp_path / "ref", rules="szcore-1s", bootstrap=0, out=tmp_path / "o.json")
    assert "whole seconds" in (tmp_path / "o.json").read_text()


def test_texts_let_through_come_back_beside_their_meaning(tmp_path: Path):
    path = write_edf(tmp_path / "x.edf", [(1.0, 2.0, "Seizure 2"), (9.0, 1.0, "spike LA3"), (20.0, 1.0, "Jane")])
    for to in ("bids", "csv"):
        out = tmp_path / f"x.{'tsv' if to == 'bids' else 'csv'}"
        export([path], to, out, keep_text=["seiz*", "spike*"])  # type: ignore[arg-type]
        assert "Jane" not in out.read_text()
        again = read_events(out, keep_text=["*"]).events
        assert again["event_type"].tolist() == ["sz", "annotation", "annotation"]
        assert again["text"].tolist() == ["Seizure 2", "spike LA3", ""]
