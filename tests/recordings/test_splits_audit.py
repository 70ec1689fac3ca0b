"""No window of two parts shares time or signal, however the split was made; and leaks made by hand are refused."""

import itertools
import json
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from tsattn.events.table import make_events, seizures
from tsattn.recordings.recording import Recording, from_array, make_channels
from tsattn.recordings.splits.fingerprint import Twins
from tsattn.recordings.splits.leaks import audit, twins_in_report
from tsattn.recordings.splits.split import split
from tsattn.recordings.splits.splits import Span, Splits
from tsattn.recordings.windows.places import Windowing, place_windows


class Unread:
    """A source of which nobody reads."""

    def read(self, rows, start, stop):
        raise AssertionError("nothing is read")


def recording(id: str, subject: str, hours: float, seizures: list[float] = (), **rest) -> Recording:
    events = make_events(list(seizures), [60.0] * len(seizures))
    channels = make_channels(["A1", "A2"], 64.0)
    return Recording(Unread(), id, subject, channels, hours * 3600.0, events, **rest)


def some(random: np.random.Generator, subjects: int, clocks: bool) -> list[Recording]:
    found = []
    for s in range(subjects):
        clock = datetime(2001, 2, 3)
        for r in range(int(random.integers(1, 4))):
            hours = float(random.uniform(0.3, 6.0))
            count = int(random.integers(0, 6))
            onset = np.sort(random.uniform(0, hours * 3600 - 60, count)).tolist()
            start = clock if clocks else None
            found.append(recording(f"s{s}r{r}", f"s{s}", hours, onset, start=start))
            clock += timedelta(hours=hours * float(random.uniform(0.7, 2.0)))  # some overlap with the next one
    return found


def clock_spans(
    recordings: list[Recording], splits: Splits, windowing: Windowing
) -> list[tuple[str, float, float, str]]:
    """Every window of the split on its subject's clock (or its recording's own): subject, begin, end, part."""
    out = []
    for item in recordings:
        own = item.start is None
        key = item.id if own else item.subject
        shift = 0.0 if own else (item.start - datetime(2001, 1, 1)).total_seconds()
        for span in splits.of(item.id):
            begin = place_windows(item, windowing, span.begin, span.end).begin + shift
            out += [(key, b, b + windowing.window_seconds, span.part) for b in begin]
    return out


@pytest.mark.parametrize("by", ["subject", "seizure", "time"])
@pytest.mark.parametrize("clocks", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_no_windows_of_two_parts_overlap_in_time(by, clocks, seed):
    random = np.random.default_rng([seed, clocks])
    recordings = some(random, 6, clocks)
    windowing = Windowing(5, 5.0, float(random.choice([5.0, 1.7, 25.0])))
    embargo = float(random.choice([25.0, 60.0, 125.0]))
    made = split(recordings, by, seed=seed, embargo_seconds=embargo, fingerprints=[nothing()] * len(recordings))
    windows = sorted(clock_spans(recordings, made, windowing))
    assert {part for *_, part in windows} == {"train", "val", "test"}
    reached: dict[str, tuple[float, str]] = {}
    for key, begin, end, part in windows:
        last, before = reached.get(key, (-np.inf, part))
        if part != before:
            assert begin - last >= embargo - 1e-3, (key, begin, last)
        if end >= last:
            reached[key] = (end, part)
    distance = made.report["smallest_distance_seconds"]
    assert distance is None if by == "subject" else distance >= embargo - 1e-3


def nothing():
    from tsattn.recordings.splits.fingerprint import Fingerprint

    return Fingerprint(np.empty(0, np.uint64), np.empty(0), np.empty(0, np.int32), 0)


@pytest.mark.parametrize("seed", range(5))
def test_by_subject_each_subject_lies_in_one_part_and_every_part_has_seizures(seed):
    random = np.random.default_rng(seed)
    recordings = [
        recording(f"r{i}", f"s{i}", float(random.uniform(1, 20)), [500.0] * (i < 3 + seed % 2)) for i in range(12)
    ]
    made = split(recordings, "subject", seed=seed, fingerprints=[nothing()] * 12)
    assert sum(row["subjects"] for row in made.report["parts"].values()) == 12
    assert all(row["seizures"] >= 1 for row in made.report["parts"].values())
    hours = np.array([row["hours"] for row in made.report["parts"].values()])
    assert hours / hours.sum() == pytest.approx([0.7, 0.15, 0.15], abs=0.12)
    assert not made.report["notes"]


def test_a_part_without_a_seizure_is_said():
    recordings = [recording(f"r{i}", f"s{i}", 2.0, [500.0] * (i < 2)) for i in range(6)]
    made = split(recordings, "subject", fingerprints=[nothing()] * 6)
    lacking = [part for part, row in made.report["parts"].items() if not row["seizures"]]
    assert len(lacking) == 1
    assert any(note.startswith(f"{lacking[0]} has no seizure") for note in made.report["notes"])
    assert f"{lacking[0]} has no seizure" in str(made)


def test_too_few_subjects_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"1 subject cannot fill 3 parts.*by seizure or time"):
        split([recording("r", "s", 2.0)], "subject", fingerprints=[nothing()])


def test_by_seizure_every_part_of_a_subject_has_seizures_of_its_own():
    onset = [3000.0, 9000.0, 9200.0, 15000.0, 22000.0]  # the second and third are one bunch
    item = recording("r", "s", 8.0, onset)
    made = split([item], "seizure", (0.5, 0.25, 0.25), fingerprints=[nothing()])
    rows = made.report["parts"]
    assert sum(row["seizures"] for row in rows.values()) == 5  # none is cut, none stands twice
    assert all(row["seizures"] >= 1 for row in rows.values())
    for onset_, duration in seizures(item.events)[["onset", "duration"]].itertuples(index=False):
        (span,) = [s for s in made.of("r") if s.begin <= onset_ <= s.end]
        assert onset_ + duration <= span.end
        assert span.begin == 0 or onset_ - span.begin >= 125.0  # a whole window fits before
    (bunch,) = [s for s in made.of("r") if s.begin <= 9000.0 <= s.end]
    assert bunch.end > 9260.0


def test_folds_leave_each_seizure_out_once():
    item = recording("r", "s", 8.0, [3000.0, 9000.0, 15000.0, 22000.0])
    made = split([item], "seizure", folds=4, fingerprints=[nothing()])
    left_out = []
    for i in range(4):
        fold = audit([item], made.fold(i), twins=[])
        assert fold.report["parts"]["test"]["seizures"] == 1
        assert fold.report["parts"]["train"]["seizures"] == 2
        left_out += [round(s.begin) for s in fold.of("r", "test")]
    assert len(set(left_out)) == 4


def test_by_time_training_comes_first_and_a_border_does_not_cut_a_seizure():
    item = recording("r", "s", 10.0, [25180.0, 30000.0])  # 70 % of 36,000 s is 25,200 s
    made = split([item], "time", fingerprints=[nothing()])
    assert [s.part for s in made.of("r")] == ["train", "val", "test"]
    assert sum(row["seizures"] for row in made.report["parts"].values()) == 2
    for span in made.of("r"):
        inside = [t for t in (25180.0, 30000.0) if span.begin <= t <= span.end]
        assert all(t + 60 <= span.end for t in inside)
    assert made.of("r")[1].begin - made.of("r")[0].end == pytest.approx(125.0)


@pytest.mark.parametrize(
    ("onset", "duration", "whole"), [(24000.0, 8000.0, "val"), (20000.0, 10000.0, "train"), (28000.0, 8000.0, "test")]
)
def test_by_time_a_long_seizure_stays_whole(onset, duration, whole):
    item = recording("r", "s", 10.0)
    item = replace(item, events=make_events([onset], [duration]))
    made = split([item], "time", fingerprints=[nothing()])
    assert {part: row["seizures"] for part, row in made.report["parts"].items() if row["seizures"]} == {whole: 1}


def test_by_time_recordings_follow_their_clocks_and_lacking_them_is_said():
    late = recording("a", "s", 5.0, start=datetime(2001, 1, 2))
    early = recording("b", "s", 5.0, start=datetime(2001, 1, 1))
    made = split([late, early], "time", (0.5, 0.0, 0.5), fingerprints=[nothing()] * 2)
    assert {s.recording: s.part for s in made.spans} == {"b": "train", "a": "test"}
    blind = split([replace(late, start=None), replace(early, start=None)], "time", fingerprints=[nothing()] * 2)
    assert "order of ids" in " ".join(blind.report["notes"])


@pytest.mark.parametrize("by", ["seizure", "time"])
@pytest.mark.parametrize("pause", [0.0, 60.0])
def test_an_embargo_lies_between_parts_even_where_one_recording_follows_another(by, pause):
    """Days of monitoring come as files of an hour, one right after the other."""
    begun = datetime(2001, 1, 1)
    hours = [
        recording(f"h{i}", "s", 1.0, [1800.0], start=begun + timedelta(seconds=i * (3600 + pause))) for i in range(10)
    ]
    made = split(hours, by, (0.5, 0.2, 0.3), fingerprints=[nothing()] * 10)
    clock = [(i * (3600 + pause), span) for i in range(10) for span in made.of(f"h{i}")]
    for (a, before), (b, after) in itertools.pairwise(clock):
        assert before.part == after.part or b + after.begin - (a + before.end) >= 125.0 - 1e-3
    assert sum(row["seizures"] for row in made.report["parts"].values()) == 10
    spans = hand_made(("h0", 0, 3600, "train"), ("h1", 0, 3600, "test"))
    with pytest.raises(ValueError, match=rf"are {pause:g} s apart; they were recorded in one subject"):
        audit(hours, spans, twins=[])


def test_by_time_an_embargo_lies_at_a_border_between_recordings_without_clocks():
    made = split(
        [recording("a", "s", 5.0), recording("b", "s", 5.0)], "time", (0.5, 0.0, 0.5), fingerprints=[nothing()] * 2
    )
    assert [(s.begin, s.end, s.part) for s in made.spans] == [(0.0, 17937.5, "train"), (62.5, 18000.0, "test")]


def test_seizures_after_the_recordings_end_are_not_split_and_those_without_an_end_are_refused():
    item = recording("r", "s", 8.0, [3000.0, 12000.0, 22000.0, 40000.0])
    made = split([item], "seizure", (0.5, 0.25, 0.25), fingerprints=[nothing()])
    assert {part: row["seizures"] for part, row in made.report["parts"].items()} == {"train": 1, "val": 1, "test": 1}
    item.events.loc[1, "duration"] = np.nan
    with pytest.raises(ValueError, match="r, seizures: Event row 1 has no finite duration"):
        split([item], "seizure", fingerprints=[nothing()])


def test_the_same_seed_gives_the_same_split_and_another_one_another():
    recordings = some(np.random.default_rng(3), 10, False)
    prints = [nothing()] * len(recordings)
    first, again, other = (split(recordings, "subject", seed=s, fingerprints=prints) for s in (4, 4, 5))
    assert first == again
    assert first.spans != other.spans


def test_a_saved_split_is_the_split_and_reads_line_by_line(tmp_path):
    recordings = some(np.random.default_rng(3), 6, False)
    made = split(recordings, "time", fingerprints=[nothing()] * len(recordings))
    made.save(tmp_path / "splits.json")
    assert Splits.load(tmp_path / "splits.json") == made
    lines = (tmp_path / "splits.json").read_text().splitlines()
    assert sum('"recording"' in line and '"part"' in line for line in lines) == len(made.spans)
    with pytest.raises(FileExistsError):
        made.save(tmp_path / "splits.json")
    assert twins_in_report(recordings, Splits.load(tmp_path / "splits.json")) == []


# Leaks made by hand ----------------------------------------------------------------------------------------------


def hand_made(*spans: tuple[str, float, float, str]) -> Splits:
    return Splits(tuple(Span(id, float(begin), float(end), part) for id, begin, end, part in spans))


def test_windows_that_share_time_are_refused():
    item = recording("r", "s", 1.0)
    with pytest.raises(ValueError, match=r"spans train 0 to 2000 s and test 1900 to 3000 s overlap"):
        audit([item], hand_made(("r", 0, 2000, "train"), ("r", 1900, 3000, "test")), twins=[])
    with pytest.raises(ValueError, match=r"are 60 s apart.*at least 125 s"):
        audit([item], hand_made(("r", 0, 2000, "train"), ("r", 2060, 3000, "test")), twins=[])
    assert audit([item], hand_made(("r", 0, 2000, "train"), ("r", 2125, 3000, "test")), twins=[])


def test_two_recorders_on_one_person_at_one_time_are_refused():
    a = recording("a", "s", 1.0, start=datetime(2001, 1, 1))
    b = recording("b", "s", 1.0, start=datetime(2001, 1, 1, 0, 30))
    spans = hand_made(("a", 0, 3600, "train"), ("b", 0, 3600, "test"))
    with pytest.raises(ValueError, match=r"share time; they were recorded in one subject"):
        audit([a, b], spans, twins=[])
    assert audit([replace(a, subject="t"), b], spans, twins=[])  # two people may


def test_one_signal_under_two_names_is_refused_where_its_seconds_meet():
    a, b = recording("a", "s", 1.0), recording("b", "t", 0.5)
    twin = [Twins(0, 1, 600.0, 2400.0, -600.0, 99)]  # b is minutes 10 to 40 of a
    with pytest.raises(ValueError, match=r"Leak: a .*train.* and b .*test"):
        audit([a, b], hand_made(("a", 0, 3600, "train"), ("b", 0, 1800, "test")), twins=twin)
    apart = (("a", 0, 600, "train"), ("a", 1300, 3600, "test"), ("b", 200, 500, "train"), ("b", 900, 1800, "test"))
    with pytest.raises(ValueError, match=r"at least 124\.75 s between parts"):  # a's 800 to 1100 s is training in b
        audit([a, b], hand_made(*apart[:1], ("a", 1150, 3600, "test"), *apart[2:]), twins=twin)
    assert audit([a, b], hand_made(*apart), twins=twin).report["twins"][0]["recordings"] == ["a", "b"]


def test_a_subject_under_two_names_is_refused_on_two_sides_even_if_no_second_is():
    a, b = recording("a", "s", 1.0), recording("b", "t", 1.0)
    twin = [Twins(0, 1, 0.0, 900.0, 0.0, 99)]
    with pytest.raises(ValueError, match="the same signal under two names, and their subjects lie in test and train"):
        audit([a, b], hand_made(("a", 2000, 3600, "train"), ("b", 0, 1800, "test")), twins=twin)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([("x", 0, 10, "train")], "recording x, which is not among the 1"),
        ([("r", 0, 4000, "train")], r"0 to 4000 s, expected one within 0 to 3600 s"),
        ([("r", 10, 10, "train")], "10 to 10 s"),
        ([("r", 0, 10, "validation")], "a part 'validation', expected train, val, test"),
        ([("r", float("nan"), 10, "train")], "nan to 10 s"),
        ([], "no spans"),
    ],
)
def test_spans_that_fit_no_recording_are_refused(spans, message):
    with pytest.raises(ValueError, match=message):
        audit([recording("r", "s", 1.0)], hand_made(*spans), twins=[])


def test_two_recordings_with_one_id_are_refused():
    item = recording("r", "s", 1.0)
    with pytest.raises(ValueError, match="Two recordings have the id r"):
        split([item, item], "time", fingerprints=[nothing()] * 2)


def test_an_edited_file_is_not_believed(tmp_path):
    recordings = some(np.random.default_rng(3), 6, False)
    split(recordings, "time", fingerprints=[nothing()] * len(recordings)).save(tmp_path / "s.json")
    plain = json.loads((tmp_path / "s.json").read_text())
    plain["spans"][0]["end"] -= 1.0
    (tmp_path / "s.json").write_text(json.dumps(plain))
    assert twins_in_report(recordings, Splits.load(tmp_path / "s.json")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "is not the JSON that was expected"),
        ("[]", 'no list "spans"'),
        ('{"spans": [{"recording": "a"}]}', "span 0 is"),
        ('{"spans": [], "version": 99}', "version 99"),
    ],
)
def test_a_file_that_is_no_split_is_refused(tmp_path, text, message):
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        Splits.load(tmp_path / "s.json")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"fractions": (0.5, 0.1, 0.1)}, "add up to 1"),
        ({"folds": 1}, "folds is 1"),
        ({"by": "time", "folds": 3}, "time has no folds"),
        ({"embargo_seconds": -1.0}, "embargo_seconds is -1"),
        ({"embargo_seconds": float("nan")}, "embargo_seconds is nan"),
    ],
)
def test_senseless_splits_are_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        split([recording("r", "s", 1.0)], **{"by": "seizure", "fingerprints": [nothing()]} | knobs)


def test_a_recording_in_memory_can_be_split_without_more():
    values = np.random.default_rng(0).normal(size=(2, 64 * 1000)).astype(np.float32)
    made = split([from_array(values, 64.0, id="a")], "time", (0.5, 0.0, 0.5))
    assert [s.part for s in made.spans] == ["train", "test"]
