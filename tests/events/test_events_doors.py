"""One file, every door: the reader of recordings, `tsattn.events` and the command line find the same events."""

from pathlib import Path

import edfio
import numpy as np
import pandas as pd
import pytest
from support import SHARED

from tsattn import messages
from tsattn.commands.events import export
from tsattn.events.files import read_events
from tsattn.events.fitting import fit_events
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.readers import open_recordings

NAMES = ("AD1", "AD2", "AD3", "LB1")
SECONDS = 400
TEXTS = (
    "seizure", "Seizure 2", "sz", "sz_foc_ia", "SZ-GEN", "szr, left", "ictal", "seiz", "bckg", "no seizure",
    "post-ictal",
    "sz onset", "sz offset", "seizure begins", "seizure ends", "start of seizure", "end of seizure", "eeg onset",
    "clinical onset", "onset", "offset", "AD1-3 onset", "AD1-3, LB1 onset", "definite onset", "EEG sz start", "szr end",
    "Seizure 1 started", "seizure 1 stopped", "I'm having a seizure", "movement", "spike [left]", "spike [AD1,AD2]",
    "spike@@LB1", "sz@@AD1", "ripple", "T1 start", "T1 end", "sz_onset", "REC START", "boundary", "Anfall",
    "Anfall Ende", "seizure-free", "sz-onset", "eeg_sz_start", "électrode", "=HYPERLINK(1)", "+5 mg",
    "seizure terminated",
)  # fmt: skip
LOOSE = dict(unpaired="mark", outside="clip", keep_text=("*",), seizure_words=("anfall",))


def marks_of(random: np.random.Generator) -> list[tuple[float, float | None, str]]:
    """Marks at times of their own, some outside of the recording, some without a duration."""
    count = int(random.integers(1, 14))
    onset = np.sort(random.choice(np.arange(-20, SECONDS + 30), count, replace=False)) + 0.25
    lasts = random.choice([None, 0.0, 2.5, 30.0, 200.0], count, p=[0.3, 0.2, 0.2, 0.2, 0.1])
    return list(zip(onset.tolist(), lasts.tolist(), random.choice(TEXTS, count).tolist(), strict=True))


def write_edf(path: Path, marks: list, seconds: int = SECONDS, names: tuple = NAMES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 50 * np.sin(np.arange(seconds * 32) / 5)
    signals = [edfio.EdfSignal(wave, 32, label=name, physical_dimension="uV") for name in names]
    annotations = [edfio.EdfAnnotation(*mark) for mark in marks]
    edfio.Edf(signals, annotations=annotations, patient=edfio.Patient(code="p1")).write(path)
    return path


def write_bids(root: Path, marks: list) -> tuple[Path, Path]:
    stem = root / "sub-01" / "ieeg" / "sub-01_task-x"
    write_edf(Path(f"{stem}_ieeg.edf"), [])
    rows = [f"{name}\tSEEG\tuV" for name in NAMES]
    Path(f"{stem}_channels.tsv").write_text("\n".join(["name\ttype\tunits", *rows]) + "\n")
    head = "onset\tduration\ttrial_type\trecordingDuration"
    rows = [f"{onset}\t{'n/a' if lasts is None else lasts}\t{text}\t{SECONDS}" for onset, lasts, text in marks]
    table = Path(f"{stem}_events.tsv")
    table.write_text("\n".join([head, *rows]) + "\n")
    return root, table


def rows(events: pd.DataFrame) -> list[tuple]:
    """What every door has to agree on; channels of texts that name contacts need the recording's names."""
    table = events[["onset", "duration", "event_type", "text"]].round({"onset": 6, "duration": 6})
    return sorted(table.itertuples(index=False, name=None))


@pytest.mark.parametrize("seed", range(40))
def test_random_annotations_are_the_same_events_by_every_door(seed: int, tmp_path: Path):
    marks = marks_of(np.random.default_rng(seed))
    plain = [mark for mark in marks if "@@" not in mark[2] and "[" not in mark[2]]  # ways of EDF+ alone
    edf = write_edf(tmp_path / "x.edf", plain)
    root, table = write_bids(tmp_path / "bids", plain)
    found = {
        "events, EDF+": read_events(edf, **LOOSE).events,
        "recordings, EDF+": open_recordings(edf, **LOOSE)[0].events,
        "events, BIDS": read_events(table, **LOOSE).events,
        "recordings, BIDS": open_recordings(root, **LOOSE)[0].events,
    }
    first = rows(found["events, EDF+"])
    assert {door: rows(events) for door, events in found.items()} == dict.fromkeys(found, first)
    both = write_edf(tmp_path / "y.edf", marks)
    ours, theirs = open_recordings(both, **LOOSE)[0].events, read_events(both, **LOOSE).events
    assert rows(ours) == rows(theirs)
    hidden = {**LOOSE, "keep_text": ()}
    bare = open_recordings(both, **hidden)[0].events  # what is shown never changes what a row means
    assert bare.drop(columns="text").equals(ours.drop(columns="text"))
    assert (bare["text"] == "").all()


@pytest.mark.parametrize("outside", ["clip", "drop", "raise"])
@pytest.mark.parametrize("unpaired", ["mark", "raise"])
@pytest.mark.parametrize("seed", range(5))
def test_the_same_policy_refuses_by_every_door(seed: int, unpaired: str, outside: str, tmp_path: Path):
    marks = [mark for mark in marks_of(np.random.default_rng(100 + seed)) if "@@" not in mark[2] and "[" not in mark[2]]
    edf = write_edf(tmp_path / "x.edf", marks)
    root, table = write_bids(tmp_path / "bids", marks)
    how = dict(unpaired=unpaired, outside=outside)
    answers = []
    for read in (
        lambda: read_events(edf, **how).events,
        lambda: read_events(table, **how).events,
        lambda: open_recordings(edf, **how)[0].events,
        lambda: open_recordings(root, **how)[0].events,
    ):
        try:
            answers.append(rows(read()))
        except ValueError as problem:
            answers.append("refused" if any(f"='{way}'" in str(problem) for way in ("mark", "clip", "drop")) else "")
    assert answers == [answers[0]] * 4


TABLES = sorted((SHARED / "data" / "ieeg").rglob("*_events.tsv"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name[4:-11].replace("_ses-presurgery", ""))
def test_real_tables_of_events_are_the_same_seizures_by_both_doors(path: Path):
    from tsattn.recordings.readers import Reading
    from tsattn.recordings.readers.bids_sidecars import read_events as of_bids

    events = read_events(path, unpaired="mark", outside="clip").events
    ours, _ = of_bids(path, [], Reading())
    assert rows(events) == rows(ours)


def test_the_seizures_of_ds003029_are_whole_by_both_doors():
    wanted = {
        "run-01": (75.95, 161.82),
        "run-02": (93.0, 180.73),
        "run-03": (108.81, 272.8),
        "run-04": (127.72, 219.79),
    }
    for run, (begin, end) in wanted.items():
        path = next((path for path in TABLES if "sub-pt01_ses" in path.name and run in path.name), None)
        if path is None:
            pytest.skip("the sidecars are not here")
        events = read_events(path).events
        found = events[events["event_type"] == "sz"]
        assert found["onset"].tolist() == [begin]
        assert (found["onset"] + found["duration"]).tolist() == [pytest.approx(end)]


def test_the_command_line_writes_what_the_reader_of_recordings_finds(tmp_path: Path):
    marks = [
        (10.0, 20.0, "szr, left"),
        (50.0, None, "start of seizure"),
        (90.0, None, "end of seizure"),
        (5.0, 1.0, "rest"),
    ]
    path = write_edf(tmp_path / "x.edf", marks)
    export([path], "bids", tmp_path / "x.tsv", keep_text=["r*"])
    table = pd.read_csv(tmp_path / "x.tsv", sep="\t", keep_default_na=False)
    (recording,) = open_recordings(path, keep_text=["r*"])
    pd.testing.assert_frame_equal(read_events(tmp_path / "x.tsv", keep_text=["*"]).events, recording.events)
    assert table["trial_type"].tolist() == ["annotation", "sz", "sz"]
    assert table["text"].tolist() == ["rest", "n/a", "n/a"]


@pytest.mark.parametrize("keep", [None, ["*"], ["seiz*"]])
def test_a_store_keeps_the_seizure_whatever_texts_are_shown(keep: list[str] | None, tmp_path: Path):
    path = write_edf(tmp_path / "x.edf", [(10.0, 15.0, "seizure"), (30.0, None, "spike")])
    recordings = open_recordings(path, **({} if keep is None else {"keep_text": keep}))
    store = prepare(recordings, tmp_path / "s.zarr", preset="raw")
    (stored,) = store.recordings()
    pd.testing.assert_frame_equal(stored.events, recordings[0].events)
    assert stored.events["event_type"].tolist() == ["sz", "annotation"]


def test_a_store_without_texts_of_events_still_opens(tmp_path: Path):
    from tsattn.recordings.store import events_from_json, table_to_json

    (recording,) = open_recordings(write_edf(tmp_path / "x.edf", [(10.0, 15.0, "seizure")]))
    columns = table_to_json(recording.events)
    del columns["text"]
    pd.testing.assert_frame_equal(events_from_json(columns), recording.events)


def test_words_given_as_one_text_are_refused(tmp_path: Path):
    path = write_edf(tmp_path / "x.edf", [(1.0, 1.0, "sz")])
    for read in (read_events, open_recordings):
        with pytest.raises(ValueError, match="list"):
            read(path, seizure_words="Anfall")


def test_fitting_never_moves_an_event_that_lies_inside():
    random = np.random.default_rng(7)
    from tsattn.events.table import make_events

    onset, length = random.uniform(0, 90, 200), random.uniform(0, 10, 200)
    given = make_events(onset, length)
    for outside in ("raise", "clip", "drop"):
        fitted, _ = fit_events(given, 100.0, outside)
        pd.testing.assert_frame_equal(fitted, given)


def test_a_door_without_an_option_does_not_propose_it(tmp_path: Path):
    path = write_edf(tmp_path / "x.edf", [(1.0, None, "seizure")])
    with messages.command({"outside": "--outside"}), pytest.raises(ValueError, match="Mend the file") as problem:
        read_events(path)
    assert "unpaired" not in str(problem.value)
    with messages.command({"unpaired": "--unpaired"}), pytest.raises(ValueError, match="`--unpaired mark`"):
        read_events(path)
