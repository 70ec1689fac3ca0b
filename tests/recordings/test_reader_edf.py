import multiprocessing
import pickle
import tracemalloc

import edfio
import mne
import numpy as np
import pytest
from edf_files import noise, write_edf
from support import SHARED

from tsattn.recordings.readers import Reading, edf, open_recordings
from tsattn.recordings.recording import Recording
from tsattn.recordings.units import doubt, sampled_spread, volts

IEEG = SHARED / "data" / "ieeg"
REAL = [
    "ecog_pt01_ictal/sub-pt01_ecog_ictal.edf",
    "epilepsy2bids_fixtures/siena/PN00/PN00-5.edf",
    "formats/EDF/duplicate_channel_labels.edf",
    "formats/EDF/test_uneven_samp.edf",
    "formats/EDF/test_edf_overlapping_annotations.edf",
    "formats/NihonKohden/MB0400FU.EDF",
    "scalp8_wang2018/wang2018_scalp8_seizure.edf",
    "szcore_fixtures/unipolar.edf",
]


def one(path, **reading) -> Recording:
    (recording,) = edf.read(path, Reading(**reading))
    return recording


def whole(recording: Recording, row: int) -> np.ndarray:
    sfreq = recording.channels["sfreq"][row]
    return recording.read(0, round(recording.duration * sfreq), [row])[0]


def told(recording: Recording) -> str:
    return " ".join(note.text for note in recording.notes)


@pytest.mark.parametrize("name", REAL)
def test_every_sample_and_annotation_is_what_edfio_reads(name):
    path = IEEG / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    theirs, ours = edfio.read_edf(path), one(path, keep_text=("*",))
    assert len(theirs.signals) == len(ours.channels)
    for row, signal in enumerate(theirs.signals):
        assert ours.channels["sfreq"][row] == signal.sampling_frequency
        scale = {"uV": 1, "mV": 1e3, "V": 1e6}.get(signal.physical_dimension, 1)
        span = (signal.physical_max - signal.physical_min) * scale
        np.testing.assert_allclose(whole(ours, row), signal.data * scale, atol=2e-7 * span, rtol=2e-7)
    expected = sorted((a.onset, a.duration or 0.0) for a in theirs.annotations)
    found = sorted(zip(ours.events["onset"], ours.events["duration"], strict=True))
    np.testing.assert_allclose(np.array(found), np.array(expected), atol=1e-9)


def test_a_gap_of_an_edf_d_is_nan_and_events_keep_their_clock(tmp_path):
    """mne reads these four records as four seconds."""
    values = noise(2, 400)
    path = write_edf(
        tmp_path / "d.edf",
        values,
        [100, 100],
        kind="EDF+D",
        onsets=[0.25, 1.25, 61.25, 62.25],
        marks=[(61.75, 1.0, "seizure")],
    )
    assert mne.io.read_raw_edf(path, verbose="ERROR").n_times == 400
    recording = one(path)
    assert recording.duration == 63.0
    assert recording.gaps == ((2.0, 61.0),)
    assert recording.n_samples == 6300
    signal = recording.read(0, 6300)
    np.testing.assert_allclose(signal[:, :200], np.stack(values)[:, :200] * 0.1, atol=1e-3)
    np.testing.assert_allclose(signal[:, 6100:], np.stack(values)[:, 200:] * 0.1, atol=1e-3)
    assert np.isnan(signal[:, 200:6100]).all()
    assert recording.observed() == [(0, 200), (6100, 6300)]
    assert recording.events[["onset", "duration", "event_type"]].values.tolist() == [[61.5, 1.0, "sz"]]
    assert recording.start.second == 5
    assert recording.start.microsecond == 250000


def test_record_times_are_believed_against_a_header_that_says_continuous(tmp_path):
    path = write_edf(tmp_path / "c.edf", noise(1, 300), [100], kind="EDF+C", onsets=[0, 1, 11])
    recording = one(path)
    assert recording.gaps == ((2.0, 11.0),)
    assert "says continuous" in told(recording)


def test_records_that_drift_by_less_than_a_sample_each_are_joined_and_the_drift_is_told(tmp_path):
    onsets = [k * 1.005 for k in range(10)]
    recording = one(write_edf(tmp_path / "c.edf", noise(1, 1000), [100], kind="EDF+D", onsets=onsets))
    assert recording.gaps == ()
    assert "drift by 0.045 s" in told(recording)


def test_records_out_of_order_are_refused(tmp_path):
    path = write_edf(tmp_path / "d.edf", noise(1, 300), [100], kind="EDF+D", onsets=[0, 5, 3])
    with pytest.raises(ValueError, match="data record 3 begins 3 s before the one before it ends"):
        one(path)


def test_an_edf_d_whose_records_do_not_say_when_they_began_is_refused(tmp_path):
    path = write_edf(tmp_path / "d.edf", noise(1, 300), [100], kind="EDF+D")
    with pytest.raises(ValueError, match="gaps cannot be placed"):
        one(path)


def test_a_time_stamp_years_away_is_refused_before_anything_is_allocated(tmp_path):
    path = write_edf(tmp_path / "d.edf", noise(1, 300), [100], kind="EDF+D", onsets=[0, 1, 1e9])
    with pytest.raises(ValueError, match="days after the one before it"):
        one(path)


@pytest.mark.parametrize("rows", [[0], [5, 2], list(range(12))])
def test_any_stretch_of_any_channels_is_the_same_as_of_the_whole(tmp_path, rows, monkeypatch):
    monkeypatch.setattr(edf, "BLOCK", 3000)  # several blocks
    path = write_edf(
        tmp_path / "d.edf", noise(12, 1000), [50] * 12, seconds=0.5, kind="EDF+D", onsets=[*range(10), *range(20, 30)]
    )
    recording = one(path)
    everything = recording.read(0, recording.n_samples)
    rng = np.random.default_rng(1)
    for _ in range(40):
        start, stop = sorted(rng.integers(0, recording.n_samples + 1, 2).tolist())
        np.testing.assert_array_equal(recording.read(start, stop, rows), everything[rows, start:stop])


def test_rates_stay_as_they_are_in_the_file(tmp_path):
    values = [*noise(1, 400), *noise(1, 40)]
    recording = one(write_edf(tmp_path / "m.edf", values, [100, 10]))
    assert recording.channels["sfreq"].tolist() == [100, 10]
    assert recording.read(5, 15, [1]).shape == (1, 10)
    with pytest.raises(ValueError, match="10, 100 Hz"):
        recording.read(0, 10)


def test_a_bdf_is_read_as_edfio_reads_it_and_not_whole(tmp_path):
    values = noise(3, 600, scale=1e6)
    path = write_edf(tmp_path / "b.bdf", values, [200] * 3, width=3, physical=(-262144, 262143.9))
    recording = one(path)
    for row, signal in enumerate(edfio.read_bdf(path).signals):
        np.testing.assert_allclose(whole(recording, row), signal.data, rtol=1e-6, atol=0.02)
    assert recording.about["format"] == "BDF"


def read_there(source) -> bytes:
    return source.read([0, 1], 10, 200).tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_source_reads_the_same_in_another_process(tmp_path, method):
    recording = one(write_edf(tmp_path / "p.edf", noise(2, 300), [100, 100]))
    here = recording.read(10, 200).tobytes()
    assert len(pickle.dumps(recording.source)) < 2000
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(read_there, (recording.source,)) == here


def test_a_truncated_file_is_refused_with_both_numbers_and_read_if_asked_to(tmp_path):
    values = noise(2, 1000)
    path = write_edf(tmp_path / "t.edf", values, [100, 100])
    path.write_bytes(path.read_bytes()[: 768 + 7 * 400 + 123])
    with pytest.raises(ValueError, match="promises 10 data records, the file holds 7 records and 123 bytes more"):
        one(path)
    recording = one(path, on_mismatch="warn")
    assert recording.duration == 7.0
    assert "promises 10 data records" in told(recording)


def test_a_file_that_the_recorder_did_not_close_is_read_with_a_note(tmp_path):
    recording = one(write_edf(tmp_path / "t.edf", noise(1, 300), [100], records="-1"))
    assert recording.duration == 3.0
    assert "did not close" in told(recording)


def test_a_header_that_promises_a_million_million_samples_costs_no_memory(tmp_path):
    path = write_edf(tmp_path / "t.edf", noise(1, 300), [100], records="99999999", each="99999999")
    tracemalloc.start()
    with pytest.raises(ValueError, match="holds no whole data record"):
        one(path)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"signals": "0"}, "no channels.*0 signals"),
        ({"signals": "-3"}, "number of signals is -3"),
        ({"signals": "9999"}, "header says that it has"),
        ({"bytes": "banana"}, "header length is not a number"),
        ({"bytes": "1000"}, "has 1000 bytes, expected 512"),
        ({"lasting": "0"}, "lasts 0 s"),
        ({"lasting": "-1"}, "lasts -1 s"),
        ({"lasting": "inf"}, "duration of a data record is not a number"),
        ({"records": "-7"}, "number of data records is -7"),
        ({"records": "2.5"}, "number of data records is 2.5"),
        ({"each": "-1"}, "samples per record of signal 1 is -1"),
        ({"each": "0"}, "no channels: 1 signals, none with samples"),
        ({"low": "nan"}, "physical minimum of signal 1 is not a number"),
        ({"most": "x"}, "digital maximum of signal 1 is not a number"),
    ],
)
def test_an_impossible_number_of_the_header_is_named(tmp_path, fields, sentence):
    path = write_edf(tmp_path / "bad.edf", noise(1, 300), [100], **fields)
    with pytest.raises(ValueError, match=sentence):
        one(path)


def test_a_damaged_file_is_read_or_refused_in_a_sentence_whatever_its_bytes(tmp_path):
    good = write_edf(
        tmp_path / "a.edf", noise(2, 60), [20, 20], kind="EDF+D", onsets=[0, 1, 9], marks=[(0.5, 1.0, "seizure")]
    ).read_bytes()
    path = tmp_path / "b.edf"
    rng = np.random.default_rng(0)
    outcomes = []
    for _ in range(150):
        data = bytearray(good)
        for at in rng.integers(8, len(data), rng.integers(1, 6)):
            data[at] = int(rng.choice(np.frombuffer(b"0123456789-+.eEnaif \x00\x14\x15\xff", np.uint8)))
        path.write_bytes(data)
        try:
            recording = one(path, on_mismatch="warn")
            rows = recording.channels["sfreq"] == recording.channels["sfreq"][0]
            recording.read(
                0, min(100, round(recording.duration * recording.channels["sfreq"][0])), np.flatnonzero(rows).tolist()
            )
            outcomes.append("read")
        except ValueError as problem:
            outcomes.append(str(problem))
    refused = [outcome for outcome in outcomes if outcome != "read"]
    assert 0 < len(refused) < len(outcomes)
    assert all(sentence.startswith("rec-") for sentence in refused)


def test_a_file_of_nothing_but_a_header_or_less_is_refused(tmp_path):
    path = write_edf(tmp_path / "h.edf", noise(1, 300), [100])
    data = path.read_bytes()
    path.write_bytes(data[:512])
    with pytest.raises(ValueError, match="no whole data record"):
        one(path)
    path.write_bytes(data[:100])
    with pytest.raises(ValueError, match="ends after 100 bytes"):
        one(path)


def test_a_channel_without_calibration_is_bad_and_not_scaled(tmp_path):
    recording = one(write_edf(tmp_path / "z.edf", noise(1, 300), [100], low="0", high="0"))
    assert recording.channels[["type", "status", "unit"]].values.tolist() == [["misc", "bad", ""]]


@pytest.mark.parametrize(
    ("word", "unit"),
    [
        ("uV", "uV"),
        ("µV", "uV"),
        ("μV", "uV"),
        ("ÂµV", "uV"),
        ("Î¼V", "uV"),
        ("UV", "uV"),
        ("mV", "mV"),
        ("MV", "mV"),
        ("V", "V"),
        ("nV", "nV"),
        ("microvolts", "uV"),
        (" uV ", "uV"),
        ("%", None),
        ("", None),
        ("bpm", None),
        ("u", None),
    ],
)
def test_words_for_units(word, unit):
    assert volts(word) == unit


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1), (b"\xb5V", 1), ("µV".encode(), 1), ("mV", 1e3), ("nV", 1e-3)])
def test_what_is_read_is_in_microvolts_whatever_the_file_has(tmp_path, unit, factor):
    values = noise(1, 300)
    recording = one(write_edf(tmp_path / "u.edf", values, [100], unit=unit))
    np.testing.assert_allclose(whole(recording, 0), values[0] * 0.1 * factor, rtol=1e-5, atol=1e-3 * factor)


def test_a_file_that_keeps_silent_about_its_unit_is_read_with_a_note_if_its_values_can_be_microvolts(tmp_path):
    recording = one(write_edf(tmp_path / "u.edf", noise(1, 300), [100], unit=""))
    assert "do not state their unit: taken as microvolts (spread 2" in told(recording)


def test_volts_without_a_unit_are_refused_and_read_once_the_unit_is_given(tmp_path):
    values = noise(1, 300)
    path = write_edf(tmp_path / "u.edf", values, [100], unit="", physical=(-0.0032, 0.0032))
    with pytest.raises(ValueError, match=r"look like volts read as microvolts.*unit='V'"):
        one(path)
    expected = (values[0] + 32768) * 6400 / 65535 - 3200
    np.testing.assert_allclose(whole(one(path, unit="V"), 0), expected, rtol=1e-5, atol=1e-3)


def test_the_unit_that_the_user_gives_overrules_the_header_with_a_note(tmp_path):
    values = noise(1, 300)
    recording = one(write_edf(tmp_path / "u.edf", values, [100], unit="uV"), unit="nV")
    np.testing.assert_allclose(whole(recording, 0), values[0] * 1e-4, rtol=1e-4, atol=1e-6)
    assert "whose header says otherwise" in told(recording)


def test_real_recordings_are_plausible_and_a_wrong_prefix_of_each_is_not():
    for name in REAL[:1] + REAL[4:7]:
        if not (IEEG / name).exists():
            pytest.skip(f"{name} is not here")
        spread = sampled_spread(one(IEEG / name))
        assert doubt(spread) is None
        assert "volts read as microvolts" in doubt(spread * 1e-6)
        assert "millivolts" in doubt(spread * 1e-3)
        assert doubt(spread * 1e6) is not None
    assert doubt(float("nan")) is None


def test_channels_of_one_label_get_a_number(tmp_path):
    recording = one(write_edf(tmp_path / "n.edf", noise(3, 300), [100] * 3, labels=["EEG F1-Ref", "LB1", "EEG F1-Ref"]))
    assert recording.names == ["EEG F1-Ref-0", "LB1", "EEG F1-Ref-1"]
    assert "share their name" in told(recording)


def test_types_come_from_names_and_the_user_may_know_better(tmp_path):
    labels = ["EEG Fp1-Ref", "EEG Cz-Ref", "EEG LF 01-Ref", "ECG", "EMG chin", "DC01", "EVENT", "what?"]
    path = write_edf(tmp_path / "n.edf", noise(8, 300), [100] * 8, labels=labels)
    assert one(path).channels["type"].tolist() == "eeg eeg seeg ecg emg misc stim misc".split()
    assert "1 channels have names that tell no type" in told(one(path))
    assert one(path, type="ecog").channels["type"].tolist() == "ecog ecog ecog ecg emg misc stim ecog".split()


def test_marks_on_channels_keep_their_channel(tmp_path):
    marks = [(1.0, 1.0, "seizure@@LA2"), (2.0, None, "spike@@LA9"), (0.5, None, "mail me@@home")]
    path = write_edf(tmp_path / "e.edf", noise(2, 300), [100] * 2, kind="EDF+C", onsets=[0, 1, 2], marks=marks)
    events = one(path).events
    assert events[["onset", "event_type", "channels"]].values.tolist() == [
        [0.5, "annotation", "all"],
        [1.0, "sz", "LA2"],
        [2.0, "annotation", "all"],
    ]


def test_no_name_date_or_text_of_the_header_or_an_annotation_is_kept(tmp_path):
    path = write_edf(
        tmp_path / "Jane Doe.edf",
        noise(1, 300),
        [100],
        kind="EDF+C",
        onsets=[0, 1, 2],
        marks=[(1.0, None, "Jane Doe button press")],
        patient="MRN4711 F 03-MAR-1970 Jane_Doe",
        prefilter="HP:0.1Hz Jane LP:75Hz",
    )
    (recording,) = open_recordings(path)
    shown = " ".join(
        [
            recording.id,
            recording.subject,
            recording.channels.to_string(),
            recording.events.to_string(),
            repr(recording.notes),
            repr(recording.about),
        ]
    )
    for secret in ("Jane", "Doe", "4711", "1970", "2020", "button"):
        assert secret not in shown
    assert recording.about["prefilter"] == ["HP:0.1Hz LP:75Hz"]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="promises") as error:
        open_recordings(path)
    assert "Jane" not in str(error.value)


def test_one_person_has_one_pseudonym_and_a_file_of_nobody_says_so(tmp_path):
    paths = [
        write_edf(tmp_path / f"{i}.edf", noise(1, 300), [100], kind=kind, onsets=[0, 1, 2], patient=patient)
        for i, (kind, patient) in enumerate(
            [("EDF+C", "A1 F X Doe"), ("EDF+C", "A1 M X X"), ("EDF+C", "B2 X X X"), ("EDF+C", "X X X X")]
        )
    ]
    a, b, c, nobody = (one(path) for path in paths)
    assert a.subject == b.subject
    assert len({a.subject, c.subject, nobody.subject}) == 3
    assert "whose recording" in told(nobody)
    assert "whose recording" not in told(a)
    assert one(paths[3], subject="P7").subject == "P7"


def test_edf_is_known_by_its_content(tmp_path):
    path = write_edf(tmp_path / "renamed.fif", noise(1, 300), [100])
    assert open_recordings(path)[0].about["format"] == "EDF"
    text = tmp_path / "text.edf"
    text.write_text("Dear colleague, ...")
    assert not edf.recognises(text)


def test_a_day_of_128_channels_is_opened_and_read_in_little_memory(tmp_path):
    path = write_edf(tmp_path / "day.edf", noise(128, 512), [512] * 128, records="86400")
    with path.open("r+b") as file:  # zeros that take no space on disk
        file.truncate(256 * 129 + 86400 * 128 * 512 * 2)
    tracemalloc.start()
    recording = one(path)
    assert recording.duration == 86400
    assert recording.read(86000 * 512, 86000 * 512 + 64000).shape == (128, 64000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.2e8  # the window has 33 MB, a block of records 34 MB
