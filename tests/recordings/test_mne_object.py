"""A Raw object as a recording: volts to microvolts, its own clock, interruptions, and no name or date."""

from datetime import UTC, date, datetime
from typing import Any

import mne
import numpy as np
import pytest

from tsattn.recordings import from_mne
from tsattn.recordings.recording import Recording

SFREQ = 100.0


def raw(kinds: str | list[str] = "seeg", seconds: float = 10.0, **rest: Any) -> mne.io.RawArray:
    info = mne.create_info(["LA1", "LA2", "LA3"], SFREQ, kinds)
    values = np.random.default_rng(0).normal(size=(3, round(seconds * SFREQ))) * 5e-5
    return mne.io.RawArray(values, info, verbose="ERROR", **rest)


def annotated(*marks: tuple[float, float, str], made: mne.io.BaseRaw | None = None) -> mne.io.BaseRaw:
    made = raw() if made is None else made
    return made.set_annotations(mne.Annotations(*(list(column) for column in zip(*marks, strict=True))))


def rows(recording: Recording) -> list[list[Any]]:
    return recording.events[["onset", "duration", "event_type"]].to_numpy().tolist()


def texts(recording: Recording) -> str:
    return " ".join(note.text for note in recording.notes)


def test_volts_become_microvolts_at_any_place():
    made = raw()
    found = from_mne(made)
    np.testing.assert_array_equal(found.read(0, 1000), made.get_data() * 1e6)
    np.testing.assert_array_equal(found.read(20, 60, [2, 0]), made.get_data()[[2, 0], 20:60] * 1e6)
    assert found.read(7, 7).shape == (3, 0)
    assert (found.duration, found.sfreq, found.names) == (10.0, SFREQ, ["LA1", "LA2", "LA3"])


def test_types_and_bad_channels_come_along():
    made = raw(["ecog", "mag", "ecg"])
    made.info["bads"] = ["LA1"]
    found = from_mne(made)
    assert found.channels["type"].tolist() == ["ecog", "misc", "ecg"]
    assert found.channels["status"].tolist() == ["bad", "good", "good"]


def test_a_raw_without_a_brain_signal_is_refused():
    with pytest.raises(ValueError, match=r"channels of type ecg, misc, none of a brain signal: raw.set_channel_types"):
        from_mne(raw(["ecg", "mag", "misc"]))


@pytest.mark.parametrize("dated", [True, False])
@pytest.mark.parametrize("cropped", [0.0, 4.0])
def test_an_interruption_is_missing_and_a_seizure_an_event_on_the_clock_of_what_is_there(cropped: float, dated: bool):
    made = raw()
    if dated:
        made.set_meas_date(1e9)
    annotated((6.0, 1.5, "BAD_ACQ_SKIP"), (8.0, 1.0, "Seizure 1"), made=made)
    found = from_mne(made.crop(cropped, None))
    assert found.gaps == ((6.0 - cropped, 7.5 - cropped),)
    assert rows(found) == [[8.0 - cropped, 1.0, "sz"]]
    missing = np.isnan(found.read(0, found.n_samples))
    assert np.flatnonzero(missing.all(0)).tolist() == list(
        range(round(600 - 100 * cropped), round(750 - 100 * cropped))
    )
    assert missing.all(0).sum() == missing.any(0).sum()
    part = found.read(210, 300)
    np.testing.assert_array_equal(np.isnan(part), missing[:, 210:300])


def test_interruptions_that_overlap_are_one_and_those_outside_are_none():
    with pytest.warns(RuntimeWarning, match="outside the data range"):
        made = annotated((1.0, 2.0, "BAD_ACQ_SKIP"), (2.0, 2.0, "bad_acq_skip"), (9.5, 3.0, "BAD_ACQ_SKIP"))
    assert from_mne(made).gaps == ((1.0, 4.0), (9.5, 10.0))


def test_where_pieces_were_put_together_is_told_and_is_no_event():
    made = mne.concatenate_raws([raw(seconds=4.0), raw(seconds=3.0), raw(seconds=3.0)], verbose="ERROR")
    found = from_mne(made)
    assert "says 2 times that stretches were joined" in texts(found)
    assert rows(found) == []
    assert found.gaps == ()
    assert texts(from_mne(raw())) == ""


def test_events_keep_their_channels_and_other_texts_are_not_shown():
    made = raw()
    made.set_annotations(mne.Annotations([1.0, 5.0], [1.0, 2.0], ["Mrs Quombat", "sz"], ch_names=[[], ["LA2"]]))
    found = from_mne(made)
    assert rows(found) == [[1.0, 1.0, "annotation"], [5.0, 2.0, "sz"]]
    assert found.events["channels"].tolist() == ["all", "LA2"]


def test_names_and_dates_stay_behind():
    made = raw()
    made.set_meas_date(datetime(2019, 7, 23, tzinfo=UTC))
    made.info["subject_info"] = {"his_id": "HN4711", "last_name": "Quombat", "birthday": date(1962, 3, 4)}
    made.info["description"] = "Zyxwilda"
    found = from_mne(made, id="one", subject="sub-1")
    assert (found.id, found.subject, found.start) == ("one", "sub-1", None)
    shown = f"{found!r} {found.notes} {found.about} {found.files} {found.channels.to_csv()} {found.events.to_csv()}"
    assert not [word for word in ("HN4711", "Quombat", "1962", "2019", "Zyxwilda") if word in shown]
