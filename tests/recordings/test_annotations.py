import numpy as np
import pandas as pd
import pytest

from tsattn.events.fitting import fit_events
from tsattn.events.interpret import Rows
from tsattn.events.table import make_events
from tsattn.recordings.readers import Reading
from tsattn.recordings.readers.annotations import to_events
from tsattn.recordings.readers.channel_names import contacts, guess_types, unique


def annotate(onset, duration, texts, reading=None, names=()):
    return to_events(Rows(np.array(onset, float), np.array(duration, float), texts), reading or Reading(), names)


def kinds(*texts: str, **reading) -> list[str]:
    events, _ = annotate(range(len(texts)), [0] * len(texts), texts, Reading(**reading))
    return events["event_type"].tolist()


def rows(events: pd.DataFrame) -> list:
    return events[["onset", "duration", "event_type", "channels"]].values.tolist()


@pytest.mark.parametrize(
    "text",
    ["Seizure", "seizure 2", "seizure1,2", "SZ", "EEG sz", "ictal", "Seizures", "I'm having a seizure", "GTC seizure?"],
)
def test_a_text_with_a_seizure_word_is_a_seizure(text):
    assert kinds(text) == ["sz"]


@pytest.mark.parametrize(
    "text",
    [
        "no seizure",
        "Post-ictal depress",
        "POST ICTAL",
        "postictal slowing",
        "interictal spikes",
        "inter-ictal",
        "non-seizure",
        "not a seizure",
        "seizure-free",
        "seizure log",
        "since last seizure",
        "szymanski, jan",
        "dr. Sz-nagy",
        "Jane Doe button press",
        "",
    ],
)
def test_a_text_that_speaks_of_seizures_otherwise_is_none(text):
    assert kinds(text) == ["annotation"]


def test_szcore_types_stay_as_they_are():
    assert kinds("sz-foc-ia", "SZ-GEN", "sz_foc_a", "bckg") == ["sz-foc-ia", "sz-gen", "sz-foc-a"]
    assert kinds("sz-foc-jane") == ["sz"]


@pytest.mark.parametrize("keep", [(), ("spike la3", "ripple_*"), ("*",), ("seiz*",)])
def test_a_text_that_is_let_through_stands_beside_its_meaning(keep):
    given = ("Spike LA3", "ripple_A1-2", "Spike LA4", "Seizure 2")
    events, _ = annotate(range(4), [0] * 4, given, Reading(keep_text=keep))
    assert events["event_type"].tolist() == ["annotation"] * 3 + ["sz"]
    shown = {(): [], ("*",): [0, 1, 2, 3], ("seiz*",): [3], ("spike la3", "ripple_*"): [0, 1]}[keep]
    assert events["text"].tolist() == [text if i in shown else "" for i, text in enumerate(given)]


def test_words_of_ones_own_mean_a_seizure_besides_the_usual_ones():
    assert kinds("Anfall", "seizure", "Anfall 2 begin", seizure_words=("anfall",)) == ["sz"] * 3
    assert kinds("Anfall", "seizure") == ["annotation", "sz"]


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("sz onset", "sz offset"),
        ("eeg sz start", "eeg sz end"),
        ("Seizure begins", "Seizure ends"),
        ("onset", "offset"),
        ("definite onset", "offset"),
        ("sz onset", "end"),
    ],
)
def test_marks_for_beginning_and_end_become_one_seizure(begin, end):
    events, notes = annotate([10, 20, 95], [0, 0, 0], [begin, "I'm having a sz", end])
    assert rows(events) == [[10, 85, "sz", "all"], [20, 0, "annotation", "all"]]
    assert "1 seizures were made of marks" in notes[0].text


@pytest.mark.parametrize("texts", [("stimulus onset", "stimulus offset"), ("Segment: REC START Kelly", "REC END")])
def test_beginnings_of_something_else_are_no_seizures(texts):
    assert kinds(*texts) == ["annotation", "annotation"]


def test_a_beginning_without_end_stays_a_mark_and_does_not_swallow_the_next_seizure():
    events, notes = annotate([100, 5000, 5100], [0] * 3, ["sz onset", "sz onset", "sz offset"])
    assert rows(events) == [[100, 0, "sz", "all"], [5000, 100, "sz", "all"]]
    assert any("1 seizure marks have no end" in note.text for note in notes)


def test_a_clinical_onset_after_the_electrographic_one_belongs_to_the_same_seizure():
    events, _ = annotate([100, 110, 160], [0] * 3, ["EEG sz onset", "clinical sz onset", "sz end"])
    assert rows(events) == [[100, 60, "sz", "all"], [110, 0, "annotation", "all"]]


def test_a_clinical_end_after_the_electrographic_one_belongs_to_the_same_seizure():
    given = ["EEG sz onset", "EEG sz end", "clinical sz end", "sz end"]
    events, notes = annotate([100, 160, 170, 3000], [0] * 4, given)
    assert rows(events) == [[100, 60, "sz", "all"], [170, 0, "annotation", "all"], [3000, 0, "sz", "all"]]
    assert any("1 seizure marks have no end" in note.text for note in notes)


def test_the_second_of_two_counted_seizures_does_not_close_the_first():
    events, _ = annotate([100, 300, 360], [0] * 3, ["seizure 1 onset", "seizure 2 onset", "seizure 2 offset"])
    assert rows(events) == [[100, 0, "sz", "all"], [300, 60, "sz", "all"]]


NAMES = ["G4", "G5", "G16", "AD1", "AD2", "AD3", "AD4", "ATT1", "ATT2", "PD1", "PD2", "EEG LF 01-Ref", "EEG LF 02-Ref"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("AD1-4, ATT1,2", ["AD1", "AD2", "AD3", "AD4", "ATT1", "ATT2"]),
        ("PD", ["PD1", "PD2"]),
        ("G16", ["G16"]),
        ("spread G4,5", ["G4", "G5"]),
        ("AD1-3 onset", ["AD1", "AD2", "AD3"]),
        ("LF1-2", ["EEG LF 01-Ref", "EEG LF 02-Ref"]),
        ("LF 01", ["EEG LF 01-Ref"]),
        ("G99", []),
        ("L head turn", []),
        ("G16 seen by Jane", []),
        ("", []),
    ],
)
def test_a_text_of_contacts_and_nothing_else_names_them(text, named):
    assert contacts(text, NAMES) == named


def test_a_beginning_that_names_contacts_keeps_them():
    events, _ = annotate([93, 180], [0, 0], ["AD1-3 onset", "offset"], names=NAMES)
    assert rows(events) == [[93, 87, "sz", "AD1,AD2,AD3"]]


@pytest.mark.parametrize(
    ("names", "types"),
    [
        (["F3", "F4", "C3", "A1"], ["seeg"] * 4),
        (["F3", "F4", "Fz", "A1"], ["eeg"] * 4),
        (["FP1-F7", "F7-T7", "CZ-PZ"], ["eeg"] * 3),
        (["LA1-LA2", "LA2-3", "B'7"], ["seeg"] * 3),
        (["SEEG LA1", "ECOG G1", "POL LA3"], ["seeg", "ecog", "seeg"]),
        (
            ["EKG1", "ECG EKG", "LOC", "Chin EMG", "DC12", "TRIG", "$A1", "CH1"],
            [*"ecg ecg eog emg misc stim misc".split(), None],
        ),
    ],
)
def test_a_list_of_names_tells_types(names, types):
    assert guess_types(names) == types


def test_names_become_unique_without_meeting_others():
    assert unique(["A", "B", "A", "A-0"]) == ["A-1", "B", "A-2", "A-0"]


def test_bad_times_of_events_are_clipped_or_dropped_and_always_told():
    given = make_events(np.array([-5, -5, 10, 20, 30, 90, 200, np.nan]), np.array([2, 10, -1, np.nan, 5, 50, 1, 1]))
    clipped, notes = fit_events(given, 100.0)
    assert clipped[["onset", "duration"]].values.tolist() == [[0, 5], [10, 0], [20, 0], [30, 5], [90, 10]]
    said = " ".join(note.text for note in notes)
    for part in (
        "1 events have no onset: dropped",
        "1 events have a negative duration: kept as marks",
        "1 events have no duration: kept as marks",
        "2 events lie outside the recording: dropped",
        "2 events reach beyond the recording: cut",
    ):
        assert part in said
    dropped, _ = fit_events(given, 100.0, "drop")
    assert dropped[["onset", "duration"]].values.tolist() == [[20, 0], [30, 5]]
    with pytest.raises(ValueError, match=r"1 events have no onset.*outside='clip'"):
        fit_events(given, 100.0, "raise")


def test_overlapping_seizures_are_told_and_kept():
    events, notes = fit_events(make_events([0.0, 5.0, 50.0], [10.0, 10.0, 1.0]), 100.0)
    assert len(events) == 3
    assert "1 seizures begin before" in notes[0].text


def test_an_event_that_only_touches_the_recording_lies_outside_and_a_mark_at_its_end_does_not():
    events, notes = fit_events(make_events([-5.0, 0.0, 100.0, 100.0], [5.0, 0.0, 0.0, 5.0]), 100.0)
    assert events[["onset", "duration"]].values.tolist() == [[0.0, 0.0], [100.0, 0.0]]
    assert [note.text for note in notes] == ["2 events lie outside the recording: dropped."]


def test_an_event_ends_with_the_recording_at_the_latest():
    events, notes = fit_events(make_events([90.0], [10.001]), 100.0, sfreq=512)
    assert (events["onset"] + events["duration"]).tolist() == [100.0]
    assert notes == ()


def test_one_seizure_written_channel_by_channel_is_one_seizure():
    given = Rows(np.full(3, 5.0), np.full(3, 9.0), ["sz"] * 3, ["A1", "A2", "A3"])
    events, _ = to_events(given, Reading(), ("A1", "A2", "A3"))
    assert rows(events) == [[5.0, 9.0, "sz", "A1,A2,A3"]]


@pytest.mark.parametrize("keep", [(), ("*",), ("sz*",)])
def test_one_seizure_in_two_wordings_is_one_seizure_whatever_is_shown(keep):
    given = Rows(np.array([5.0, 5.0, 5.0]), np.array([9.0, 9.0, 1.0]), ["seizure", "sz 2", "spike"])
    events, _ = to_events(given, Reading(keep_text=keep))
    assert rows(events) == [[5.0, 9.0, "sz", "all"], [5.0, 1.0, "annotation", "all"]]
    assert events["text"].tolist() == {(): ["", ""], ("*",): ["seizure; sz 2", "spike"], ("sz*",): ["sz 2", ""]}[keep]
