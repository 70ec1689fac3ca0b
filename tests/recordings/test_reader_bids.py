import json
import os
import shutil

import mne_bids
import numpy as np
import pytest
from edf_files import noise, write_edf
from support import SHARED

from tsattn.recordings.readers import Reading, bids, find_recordings, open_recordings
from tsattn.recordings.readers.bids_sidecars import find_sidecars, read_events, read_positions, read_tsv

IEEG = SHARED / "data" / "ieeg"
HFO = IEEG / "mne_hfo_bids"
SIDECARS = IEEG / "openneuro_sidecars"
TABLES = sorted(SIDECARS.rglob("*_events.tsv"))


def told(recording) -> str:
    return " ".join(note.text for note in recording.notes)


def write_tsv(path, columns: str, *rows: str) -> None:
    lines = ["\t".join(columns.split()), *("\t".join(row.split(",")) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")


@pytest.fixture
def root(tmp_path):
    """A data set of one subject with one recording of two channels, 10 s at 100 Hz, and sidecars that agree with it."""
    folder = tmp_path / "study" / "sub-01" / "ieeg"
    folder.mkdir(parents=True)
    (tmp_path / "study" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    write_edf(folder / "sub-01_task-rest_ieeg.edf", noise(2, 1000), [100, 100], patient="MRN4711 F X Jane_Doe")
    write_tsv(
        folder / "sub-01_task-rest_channels.tsv",
        "name type units sampling_frequency status status_description",
        "LA1,ECOG,uV,100,good,soz",
        "LA2,SEEG,uV,100,bad,noise said Jane",
    )
    write_tsv(
        folder / "sub-01_task-rest_events.tsv", "onset duration trial_type", "2.0,3.0,seizure", "6,n/a,Jane waves"
    )
    (folder / "sub-01_task-rest_ieeg.json").write_text(
        json.dumps({"SamplingFrequency": 100, "RecordingDuration": 10, "PowerLineFrequency": 50})
    )
    return tmp_path / "study"


def folder(root):
    return root / "sub-01" / "ieeg"


def test_channels_events_and_signal_are_what_mne_bids_reads():
    if not HFO.exists():
        pytest.skip("mne_hfo_bids is not here")
    (ours,) = open_recordings(HFO, keep_text=("*",))
    path = mne_bids.BIDSPath(subject="01", task="interictalsleep", run="01", datatype="ieeg", root=HFO)
    theirs = mne_bids.read_raw_bids(path, verbose="ERROR")
    assert ours.id == "sub-01_task-interictalsleep_run-01"
    assert ours.subject == "sub-01"
    assert ours.names == theirs.ch_names
    assert ours.channels["type"].tolist() == theirs.get_channel_types()
    np.testing.assert_allclose(ours.read(0, 10000), theirs.get_data() * 1e6, rtol=1e-6, atol=1e-3)
    inside = ours.events[ours.events["onset"] < 5]
    marks = theirs.annotations
    np.testing.assert_allclose(inside["onset"], np.sort(marks.onset), atol=1e-6)
    assert sorted(inside["text"]) == sorted(marks.description)
    assert "another unit of 50 channels" in told(ours)


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name[4:].split("_ses")[0] + path.name[-17:-11])
def test_each_real_table_of_events_is_read_without_a_text_left(path):
    root = next(parent for parent in path.parents if (parent / "dataset_description.json").exists())
    signal = path.with_name(path.name.replace("_events.tsv", "_ieeg.edf"))
    channels = read_tsv(find_sidecars(signal, root, "channels", ".tsv")[-1]) if "HUP060" not in path.name else None
    names = [] if channels is None else channels["name"].dropna().tolist()
    events, _ = read_events(path, names, Reading())
    raw = read_tsv(path)
    assert set(events["event_type"]) <= {"sz", "annotation"}
    assert len(events) + (events["duration"] > 0).sum() == len(raw)  # two marks make one seizure
    assert (events["event_type"] == "sz").any()
    assert not set(events["event_type"]) & set(raw["trial_type"])


def test_the_seizures_of_the_real_tables_are_where_their_marks_are():
    found = {}
    for path in TABLES:
        events, _ = read_events(path, [], Reading())
        found[path.name[4:].replace("ses-presurgery_task-ictal_acq-", "")] = [
            (round(onset, 2), round(duration, 2))
            for onset, duration in events[events["duration"] > 0][["onset", "duration"]].values.tolist()
        ]
    if not found:
        pytest.skip("the sidecars are not here")
    assert found["HUP064_ecog_run-01_events.tsv"] == [(120.0, 98.0)]
    assert found["HUP060_seeg_run-01_events.tsv"] == [(120.0, 198.0)]
    assert found["umf001_ecog_run-01_events.tsv"] == [(60.0, 31.0)]
    assert found["pt01_ecog_run-01_events.tsv"] == [(75.95, 85.87)]  # +85.9 s, as in CLINICAL's timeline
    assert found["pt01_ecog_run-03_events.tsv"] == [(108.81, 163.99)]
    assert found["pt01_ecog_run-04_events.tsv"] == [(127.72, 92.07)]
    assert found["jh103_ecog_run-01_events.tsv"] == []  # nothing marks an end of a seizure there


def test_contacts_that_marks_name_are_kept_as_channels():
    path = next((path for path in TABLES if "pt01" in path.name and "run-01" in path.name), None)
    if path is None:
        pytest.skip("the sidecars are not here")
    names = read_tsv(path.with_name(path.name.replace("events", "channels")))["name"].dropna().tolist()
    events, _ = read_events(path, names, Reading())
    spread = events[events["channels"] != "all"][["onset", "channels"]].values.tolist()
    assert spread[:2] == [[76.88, "AD1,AD2,AD3,AD4,ATT1,ATT2"], [77.81, "PD1,PD2,PD3,PD4"]]
    assert spread[-1] == [96.72, "SLT1,SLT2,SLT3"]


def test_positions_that_say_metres_and_hold_millimetres_are_told_apart():
    place = SIDECARS / "ds004100" / "sub-HUP064" / "ses-presurgery" / "ieeg"
    if not place.exists():
        pytest.skip("the sidecars are not here")
    electrodes, system = next(place.glob("*electrodes.tsv")), next(place.glob("*coordsystem.json"))
    names = ["EEG LF 01-Ref", "EEG EKG1-Ref", "absent"]
    positions, frame, notes = read_positions(electrodes, system, names)
    np.testing.assert_allclose(positions[0], np.array([-1.46523, 56.6861, -20.215324097541]) * 1e-3)
    assert np.isnan(positions[1:]).all()
    assert frame == "fsaverage"
    assert "taken as mm" in notes[0].text
    positions, _, notes = read_positions(electrodes, None, names)
    assert np.isnan(positions).all()
    assert "left out: their unit is" in notes[0].text


def test_a_data_set_whose_signals_are_pointers_says_what_to_do():
    if not SIDECARS.exists():
        pytest.skip("the sidecars are not here")
    with pytest.raises(
        ValueError, match=r"None of the 8 signals.*run-01_ieeg.vhdr is a pointer of git-annex.*datalad get"
    ):
        open_recordings(SIDECARS / "ds003029")


def test_a_link_to_content_that_is_not_here_says_what_to_do(root):
    (folder(root) / "sub-01_task-other_ieeg.edf").symlink_to("../../.git/annex/objects/x/y")
    recordings, left = find_recordings(root, Reading())
    assert [recording.id for recording in recordings] == ["sub-01_task-rest"]
    assert len(left) == 1
    assert "sub-01_task-other_ieeg.edf is a pointer" in left[0].why
    (recording,) = open_recordings(root)
    assert "1 files beside this recording were left out" in told(recording)


def test_what_the_sidecars_say_lies_over_the_signal(root):
    (recording,) = open_recordings(root)
    assert recording.channels[["name", "type", "status", "reason"]].values.tolist() == [
        ["LA1", "ecog", "good", "soz"],
        ["LA2", "seeg", "bad", "channels.tsv"],
    ]
    assert recording.events[["onset", "duration", "event_type"]].values.tolist() == [
        [2.0, 3.0, "sz"],
        [6.0, 0.0, "annotation"],
    ]
    assert recording.about["mains"] == 50
    assert len(recording.files) == 3
    shown = f"{recording.notes} {recording.channels.to_string()} {recording.events.to_string()} {recording.about}"
    assert "Jane" not in shown
    assert "4711" not in shown


@pytest.mark.parametrize("place", ["sub-01", "sub-01/ieeg", "sub-01/ieeg/sub-01_task-rest_ieeg.edf"])
def test_a_subject_a_folder_or_a_file_of_it_is_the_same_recording(root, place):
    (whole,), (part,) = open_recordings(root), open_recordings(root / place)
    assert part.id == whole.id == "sub-01_task-rest"
    assert part.subject == "sub-01"
    assert part.channels.equals(whole.channels)
    assert part.events.equals(whole.events)


def test_a_signal_without_sidecars_is_read_with_notes_on_what_is_missing(root):
    for path in [*folder(root).glob("*.tsv"), *folder(root).glob("*.json")]:
        path.unlink()
    (recording,) = open_recordings(root)
    assert recording.channels["type"].tolist() == ["seeg", "seeg"]
    assert "No channels.tsv" in told(recording)
    assert "No events.tsv" in told(recording)


def test_another_sampling_rate_in_a_sidecar_is_refused_or_told(root):
    path = folder(root) / "sub-01_task-rest_channels.tsv"
    path.write_text(path.read_text(encoding="utf-8-sig").replace("\t100\t", "\t512\t"))
    with pytest.raises(ValueError, match=r"channels.tsv says 512 Hz for LA1, the signal 100 Hz"):
        open_recordings(folder(root) / "sub-01_task-rest_ieeg.edf")
    (recording,) = open_recordings(root, on_mismatch="warn")
    assert recording.sfreq == 100
    assert "the signal was believed" in told(recording)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"SamplingFrequency": 512}, "says 512 Hz, the signal 100 Hz"),
        ({"RecordingDuration": 3600}, "says 3600 s, the signal has 10 s"),
    ],
)
def test_a_json_that_speaks_of_another_recording_is_refused(root, said, sentence):
    (folder(root) / "sub-01_task-rest_ieeg.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match=sentence):
        open_recordings(root)


def test_channels_that_do_not_match_are_refused_or_told(root):
    write_tsv(folder(root) / "sub-01_task-rest_channels.tsv", "name type", "LA1,ECOG", "LB9,ECOG")
    with pytest.raises(ValueError, match="2 rows, 1 of them for channels that the signal does not have; 1 of the"):
        open_recordings(root)
    (recording,) = open_recordings(root, on_mismatch="warn")
    assert recording.channels["type"].tolist() == ["ecog", "seeg"]


def test_a_row_without_a_name_belongs_to_the_one_channel_that_no_row_names(root):
    """A channels.tsv of ds003029 has such a row."""
    write_tsv(folder(root) / "sub-01_task-rest_channels.tsv", "name type status", "LA1,ECOG,good", "n/a,ECOG,bad")
    (recording,) = open_recordings(root)
    assert recording.channels[["name", "type", "status"]].values.tolist() == [
        ["LA1", "ecog", "good"],
        ["LA2", "ecog", "bad"],
    ]


def test_sidecars_are_inherited_and_the_nearest_wins(root):
    own = folder(root)
    (own / "sub-01_task-rest_channels.tsv").rename(own / "sub-01_channels.tsv")
    (own / "sub-01_task-rest_ieeg.json").unlink()
    (root / "task-rest_ieeg.json").write_text('{"PowerLineFrequency": 60, "SamplingFrequency": 100}')
    (root / "task-other_ieeg.json").write_text('{"PowerLineFrequency": 16.7}')
    (recording,) = open_recordings(root)
    assert recording.about["mains"] == 60
    assert recording.channels["type"].tolist() == ["ecog", "seeg"]
    (own / "sub-01_ieeg.json").write_text('{"PowerLineFrequency": 50}')
    assert open_recordings(root)[0].about["mains"] == 50


def test_a_unit_that_only_channels_tsv_states_is_taken(root):
    path = folder(root) / "sub-01_task-rest_ieeg.edf"
    values = noise(2, 1000)
    write_edf(path, values, [100, 100], unit="", physical=(-0.0032, 0.0032))
    with pytest.raises(ValueError, match=r"channels.tsv says that its unit is uV.*look like volts"):
        open_recordings(root)
    table = folder(root) / "sub-01_task-rest_channels.tsv"
    table.write_text(table.read_text(encoding="utf-8-sig").replace("\tuV\t", "\tV\t"))
    (recording,) = open_recordings(root)
    expected = (np.stack(values) + 32768) * 6400 / 65535 - 3200
    np.testing.assert_allclose(recording.read(0, 1000), expected, rtol=1e-5, atol=1e-3)
    assert "comes from channels.tsv" in told(recording)


def test_bad_events_are_told_and_the_user_decides(root):
    path = folder(root) / "sub-01_task-rest_events.tsv"
    write_tsv(
        path,
        "onset duration eventType confidence channels",
        "8,5,sz-foc-ia,0.9,LA2",
        "20,1,sz,n/a,all",
        "3,-2,sz,n/a,all",
    )
    (recording,) = open_recordings(root)
    table = recording.events
    assert table[["onset", "duration", "event_type", "channels"]].values.tolist() == [
        [3.0, 0.0, "sz", "all"],
        [8.0, 2.0, "sz-foc-ia", "LA2"],
    ]
    assert table["confidence"][1] == 0.9
    assert "1 events lie outside" in told(recording)
    assert len(open_recordings(root, outside="drop")[0].events) == 0
    with pytest.raises(ValueError, match=r"line 4 is a seizure with a negative duration"):
        open_recordings(root, outside="raise")


def test_an_onset_that_is_no_number_is_refused(root):
    write_tsv(folder(root) / "sub-01_task-rest_events.tsv", "onset duration trial_type", "1,1,sz", "noon,1,sz")
    with pytest.raises(ValueError, match=r"events.tsv: line 3 has a text in 'onset', expected a number"):
        open_recordings(root)


def test_runs_are_recordings_of_their_own(root):
    source = folder(root) / "sub-01_task-rest_ieeg.edf"
    for run in ("01", "02"):
        shutil.copy(source, folder(root) / f"sub-01_task-sz_run-{run}_ieeg.edf")
    ids = {recording.id for recording in open_recordings(root)}
    assert ids == {"sub-01_task-rest", "sub-01_task-sz_run-01", "sub-01_task-sz_run-02"}


def test_parts_of_one_recording_lie_on_one_clock_with_a_gap_between_them(root):
    own = folder(root)
    for path in own.iterdir():
        path.unlink()
    parts = [noise(2, 1000, seed) for seed in (1, 2, 3)]
    for i, values in enumerate(parts, 1):
        write_edf(own / f"sub-01_task-rest_split-0{i}_ieeg.edf", values, [100, 100])
    write_tsv(own / "sub-01_task-rest_split-03_events.tsv", "onset duration trial_type", "1,2,seizure")
    name = "ieeg/sub-01_task-rest_split-0{}_ieeg.edf,2020-01-02T03:04:{}"
    write_tsv(
        root / "sub-01" / "sub-01_scans.tsv",
        "filename acq_time",
        name.format(1, "05"),
        name.format(2, "15"),
        name.format(3, "45.500Z"),
    )
    (recording,) = open_recordings(root)
    assert recording.id == "sub-01_task-rest"
    assert recording.gaps == ((20.0, 40.5),)
    assert recording.duration == 50.5
    signal = recording.read(0, 5050)
    np.testing.assert_allclose(signal[:, :1000], np.stack(parts[0]) * 0.1, atol=1e-3)
    np.testing.assert_allclose(signal[:, 1000:2000], np.stack(parts[1]) * 0.1, atol=1e-3)
    np.testing.assert_allclose(signal[:, 4050:], np.stack(parts[2]) * 0.1, atol=1e-3)
    assert np.isnan(signal[:, 2000:4050]).all()
    assert recording.events[["onset", "duration"]].values.tolist() == [[41.5, 2.0]]
    write_tsv(
        root / "sub-01" / "sub-01_scans.tsv",
        "filename acq_time",
        name.format(1, "05"),
        name.format(2, "10"),
        name.format(3, "45"),
    )
    with pytest.raises(ValueError, match="part 2 begins 5 s before the one before it ends"):
        open_recordings(root)


def test_events_of_all_parts_count_from_the_first_one(root):
    own = folder(root)
    (own / "sub-01_task-rest_ieeg.json").unlink()
    (own / "sub-01_task-rest_ieeg.edf").unlink()
    for i in (1, 2):
        write_edf(own / f"sub-01_task-rest_split-0{i}_ieeg.edf", noise(2, 1000, i), [100, 100])
    write_tsv(own / "sub-01_task-rest_events.tsv", "onset duration trial_type", "1,2,seizure", "25,3,seizure")
    name = "ieeg/sub-01_task-rest_split-0{}_ieeg.edf,2020-01-02T03:04:{}"
    write_tsv(root / "sub-01" / "sub-01_scans.tsv", "filename acq_time", name.format(1, "05"), name.format(2, "25"))
    (recording,) = open_recordings(root)
    assert recording.gaps == ((10.0, 20.0),)
    assert recording.events[["onset", "duration"]].values.tolist() == [[1.0, 2.0], [25.0, 3.0]]
    (part,) = open_recordings(own / "sub-01_task-rest_split-02_ieeg.edf")
    assert "events.tsv is of all parts" in told(part)


def test_scalp_and_depth_that_were_recorded_together_are_two_recordings(root):
    (root / "sub-01" / "eeg").mkdir()
    write_edf(root / "sub-01" / "eeg" / "sub-01_task-rest_eeg.edf", noise(3, 1000), [100] * 3)
    recordings = open_recordings(root)
    assert [(one.id, len(one.channels)) for one in recordings] == [
        ("sub-01_task-rest_ieeg", 2),
        ("sub-01_task-rest_eeg", 3),
    ]


def test_a_time_in_scans_that_is_none_is_named_and_not_repeated(root):
    write_tsv(
        root / "sub-01" / "sub-01_scans.tsv", "filename acq_time", "ieeg/sub-01_task-rest_ieeg.edf,Jane's birthday"
    )
    with pytest.raises(ValueError, match=r"sub-01_scans.tsv: acq_time of .* is not a date and time") as error:
        open_recordings(root)
    assert "Jane" not in str(error.value)


def test_two_recordings_of_one_id_are_refused_with_both(root, tmp_path):
    shutil.copytree(root, tmp_path / "copy")
    with pytest.raises(
        ValueError, match=r"Two recordings are called sub-01_task-rest: .*\(rec-\w+\) and .*\(rec-\w+\)"
    ):
        open_recordings([root, tmp_path / "copy"])


def test_a_file_that_is_not_what_its_ending_says_is_named(root):
    path = folder(root) / "sub-01_task-rest_ieeg.edf"
    path.write_bytes(b"%PDF-1.4 and more of that")
    with pytest.raises(ValueError, match=r"sub-01_task-rest_ieeg.edf is not what its ending says"):
        open_recordings(root)


def test_nothing_in_a_plain_folder_is_left_without_a_word(tmp_path):
    place = tmp_path / "Jane Doe"
    (place / "deep").mkdir(parents=True)
    write_edf(place / "one.edf", noise(1, 300), [100])
    write_edf(place / "deep" / "two.edf", noise(1, 300), [100])
    (place / "deep" / "cut.edf").write_bytes((place / "one.edf").read_bytes()[:600])
    (place / "Jane's letter.txt").write_text("Dear ...")
    recordings, left = find_recordings(place, Reading())
    assert len(recordings) == 2
    assert len({recording.id for recording in recordings}) == 2
    assert sorted(one.path.name for one in left) == ["Jane's letter.txt", "cut.edf"]
    said = " ".join(one.why for one in left) + told(open_recordings(place)[0])
    assert "promises 3 data records" in said or "no whole data record" in said
    assert "Jane" not in said
    with pytest.raises(ValueError, match="holds no recording that can be read"):
        open_recordings(_only(tmp_path, "letter.txt"))


def test_a_folder_that_holds_itself_is_searched_once(tmp_path):
    write_edf(tmp_path / "one.edf", noise(1, 300), [100])
    (tmp_path / "again").symlink_to(tmp_path)
    recordings, left = find_recordings(tmp_path, Reading())
    assert len(recordings) == 1
    assert [one.path.name for one in left] == ["again"]


def _only(tmp_path, name):
    place = tmp_path / "letters"
    place.mkdir()
    (place / name).write_text("Dear ...")
    return place


def test_what_is_not_there_is_said_to_be_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is nothing at rec-"):
        open_recordings(tmp_path / "Jane Doe.edf")


def test_a_recording_of_bids_pickles(root):
    import pickle

    (recording,) = open_recordings(root)
    again = pickle.loads(pickle.dumps(recording))
    np.testing.assert_array_equal(again.read(0, 100), recording.read(0, 100))
    assert bids.recognises(root)
    assert not bids.recognises(root.parent)
    assert os.fspath(recording.files[0]).endswith("_ieeg.edf")


def test_names_in_another_form_are_matched_in_every_sidecar(root):
    """Recorders write "POL LA1", and people "LA1": which is bad and where it lies would be lost."""
    write_edf(
        folder(root) / "sub-01_task-rest_ieeg.edf", noise(2, 1000), [100, 100], labels=["POL LA01", "EEG LA 02-Ref"]
    )
    write_tsv(folder(root) / "sub-01_electrodes.tsv", "name x y z", "LA2,0.01,0.02,0.03", "LA1,0.02,0.02,0.03")
    (folder(root) / "sub-01_coordsystem.json").write_text('{"iEEGCoordinateUnits": "m", "iEEGCoordinateSystem": "MNI"}')
    (recording,) = open_recordings(root)
    assert recording.names == ["POL LA01", "EEG LA 02-Ref"]
    assert recording.channels["type"].tolist() == ["ecog", "seeg"]
    assert recording.channels["status"].tolist() == ["good", "bad"]
    assert "channels.tsv writes 2 names in another form ('LA1' for 'POL LA01')" in told(recording)


def test_what_the_user_says_by_name_lies_over_the_sidecars(root):
    (recording,) = open_recordings(root, signals=("!LA1",))
    assert recording.channels["type"].tolist() == ["misc", "seeg"]


def test_a_signal_in_an_unknown_unit_takes_the_one_of_channels_tsv(root):
    path = folder(root) / "sub-01_task-rest_ieeg.edf"
    write_edf(path, noise(2, 1000), [100, 100], unit=".V")
    (recording,) = open_recordings(root)
    assert recording.channels["type"].tolist() == ["ecog", "seeg"]
    assert "comes from channels.tsv" in told(recording)


@pytest.mark.parametrize("labels", [True, False])
def test_nwb_opens_inside_a_data_set_by_folder_and_by_path(root, labels):
    pytest.importorskip("pynwb")
    from test_reader_nwb import Making

    (folder(root) / "sub-01_task-rest_ieeg.edf").unlink()
    making = Making("label" if labels else None)
    making.series(np.random.default_rng(0).normal(size=(2560, 3)) * 5e-5, rate=256.0)
    path = making.write(folder(root) / "sub-01_task-rest_ieeg.nwb")
    (folder(root) / "sub-01_task-rest_ieeg.json").unlink()
    write_tsv(folder(root) / "sub-01_task-rest_channels.tsv", "name type status", *(f"N{k},SEEG,bad" for k in range(3)))
    for place in (root, path):
        (recording,) = open_recordings(place, on_mismatch="warn")
        assert (recording.id, recording.subject) == ("sub-01_task-rest", "sub-01")
        assert (len(recording.names), recording.sfreq, recording.duration) == (3, 256.0, 10.0)
        assert recording.events["event_type"].tolist()[:1] == ["sz"]
        if not labels:
            assert recording.names == ["N0", "N1", "N2"]
            assert recording.channels["status"].tolist() == ["bad"] * 3
