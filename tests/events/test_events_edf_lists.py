"""Annotation lists of EDF+ that are not as the standard has them: read where they can be, counted where not."""

from pathlib import Path

import numpy as np
import pytest
from test_events_doors import write_edf

from tsattn.events.edf_header import read_header
from tsattn.events.edf_time import parse_lists
from tsattn.events.files import read_events
from tsattn.recordings.readers import open_recordings


def spoilt(path: Path, body: bytes) -> Path:
    """Put other bytes behind the first record's time."""
    write_edf(path, [(0.0, None, "x" * 80), (30.0, 5.0, "seizure")], seconds=60)
    data = bytearray(path.read_bytes())
    head, count = int(data[184:192]), int(data[252:256])
    sizes = [int(data[256 + 216 * count + 8 * i : 264 + 216 * count + 8 * i]) for i in range(count)]
    at, own = head + 2 * sum(sizes[:-1]), 2 * sizes[-1]
    new = b"+0\x14\x14\0" + body
    assert len(new) <= own
    data[at : at + own] = new.ljust(own, b"\0")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("body", "onsets", "lost"),
    [
        (b"+5,5\x14sz\x14\0", [5.5, 30.0], 0),
        (b"+5,5\x152,25\x14sz\x14\0", [5.5, 30.0], 0),
        (b"5\x14sz\x14\0", [5.0, 30.0], 0),
        (b"+5\x14sz\0", [5.0, 30.0], 0),
        (b"+5\x15\x14sz\x14\0", [5.0, 30.0], 0),
        (b"+5\x14sz\x14seizure 2\x14\0", [5.0, 30.0], 0),
        (b"+five\x14sz\x14\0", [30.0], 1),
        (b"+1:05\x14sz\x14\0+7\x14sz\x14\0", [7.0, 30.0], 1),
        (b"garbage\0+-3\x14sz\x14\0", [30.0], 2),
        (b"+5\x15ten\x14sz\x14\0", [30.0], 1),
    ],
)
def test_what_can_be_read_is_read_and_the_rest_is_counted_by_both_doors(
    body: bytes, onsets: list[float], lost: int, tmp_path: Path
):
    path = spoilt(tmp_path / "x.edf", body)
    (recording,) = open_recordings(path)
    file = read_events(path, unpaired="mark")
    for events, notes in ((recording.events, recording.notes), (file.events, file.notes)):
        assert events["onset"][events["event_type"] == "sz"].tolist() == onsets
        told = [note.text for note in notes if "cannot be read" in note.text]
        assert told == ([f"{lost} annotations of the file cannot be read: their time is not a number."] if lost else [])


@pytest.mark.parametrize("seed", range(20))
def test_no_list_is_lost_without_being_counted(seed: int):
    random = np.random.default_rng(seed)
    parts = []
    for _ in range(20):
        good = b"+%d\x15%d\x14text\x14" % tuple(random.integers(0, 99, 2))
        bad = bytes(random.integers(32, 127, 12, dtype=np.uint8)) + b"\x14text\x14"
        parts.append(good if random.random() < 0.5 else b"x" + bad)
    found, unread = parse_lists(b"\0".join(parts) + b"\0\0\0")
    assert len(found) + unread == len(parts)
    assert unread == sum(part.startswith(b"x") for part in parts)


@pytest.mark.parametrize(
    ("written", "year", "notes"),
    [
        ("Startdate 02-MAR-1951 X X X", 1951, 0),
        ("Startdate 31-FEB-2020 X X X", 2004, 1),
        ("Startdate 02-MAERZ-2020 X X X", 2004, 1),
        ("Startdate 02.03.2020 X X X", 2004, 1),
        ("Startdate X X X X", 2004, 0),
        ("Routine 12", 2004, 0),
    ],
)
def test_an_invalid_date_of_edf_plus_falls_back_to_the_plain_one_and_is_told(
    written: str, year: int, notes: int, tmp_path: Path
):
    path = write_edf(tmp_path / "x.edf", [], seconds=10)
    data = bytearray(path.read_bytes())
    data[88:168] = written.encode().ljust(80)
    data[168:184] = b"05.06.0412.34.56"
    path.write_bytes(data)
    header = read_header(path, "it")
    assert header.start is not None
    assert header.start.year == year
    (recording,) = open_recordings(path)
    assert recording.start == header.start
    assert sum("not a date" in note.text for note in recording.notes) == notes
    assert "MAERZ" not in str(recording.notes)
