"""Events in EDF+: read back by edfio and mne, samples untouched, header scrubbed, originals as they were."""

import hashlib
from pathlib import Path

import edfio
import mne
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from edfio import EdfAnnotation
from support import SHARED

from tsattn.events.edf import annotate_edf, write_edf
from tsattn.events.files import read_events, write_events
from tsattn.events.table import make_events, no_events

PERSON = ("Jane", "Doe", "4711", "1980", "Mueller")


@pytest.fixture
def events() -> pd.DataFrame:
    types = ["sz-foc-a", "annotation", "sz"]
    return make_events([1.25, 3.0, 5.5], [2.5, 0.0, 4.0], types, channels=["A1,A2", "all", "all"])


def recording(samples: int, sfreq: float = 512.0, channels: int = 3) -> xr.DataArray:
    values = np.random.default_rng(0).normal(0, 80, (channels, samples))
    names = [f"A{i + 1}" for i in range(channels)]
    return xr.DataArray(values, dims=("channel", "time"), coords={"channel": names}, attrs={"sfreq": sfreq})


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A file as a hospital writes it: a person in every place where EDF has room for one."""
    signal = edfio.EdfSignal(
        np.random.default_rng(1).normal(0, 50, 3050), 100, label="A1", physical_dimension="uV",
        transducer_type="electrode of Dr Mueller", prefiltering="HP:0.5Hz LP:120Hz",
    )  # fmt: skip
    other = edfio.EdfSignal(
        np.random.default_rng(2).normal(0, 50, 3050),
        100,
        label="A2",
        physical_dimension="uV",
        prefiltering="as Doe said",
    )
    edf = edfio.Edf(
        [signal, other],
        patient=edfio.Patient(code="4711", name="Jane_Doe", sex="F"),
        recording=edfio.Recording(hospital_administration_code="4711", investigator_technician_code="Mueller"),
        data_record_duration=0.5,
        annotations=[EdfAnnotation(3.0, None, "Jane Doe pressed the button")],
    )
    path = tmp_path / "Doe_Jane.edf"
    for one in edf.signals:
        one._set_reserved("Jane was here")  # edfio's anonymize() leaves this field, the transducer and the filter
    edf.write(path)
    return path


def test_the_copy_has_the_same_samples_the_new_events_and_no_person(
    hospital: Path, events: pd.DataFrame, tmp_path: Path
):
    before = hashlib.sha256(hospital.read_bytes()).hexdigest()
    out = tmp_path / "copy.edf"
    annotate_edf(hospital, out, events)
    source, copy = edfio.read_edf(hospital), edfio.read_edf(out)
    for ours, theirs in zip(copy.signals, source.signals, strict=True):
        np.testing.assert_array_equal(ours.digital, theirs.digital)
        assert ours.physical_range == theirs.physical_range
    assert copy.duration == source.duration == 30.5
    assert copy.is_continuous
    assert [tuple(mark) for mark in copy.annotations] == [
        (1.25, 2.5, "sz_foc_a [A1,A2]"),
        (3.0, 0.0, "annotation"),
        (5.5, 4.0, "sz"),
    ]
    assert not [word for word in PERSON if word.encode() in out.read_bytes()]
    assert copy.signals[0].prefiltering == "HP:0.5Hz LP:120Hz"
    assert hashlib.sha256(hospital.read_bytes()).hexdigest() == before
    pd.testing.assert_frame_equal(read_events(out).events, events)
    assert read_events(out).duration == 30.5


def test_mne_reads_the_events_with_their_channels_and_no_padding(hospital: Path, events: pd.DataFrame, tmp_path: Path):
    out = tmp_path / "copy.edf"
    annotate_edf(hospital, out, events)
    raw = mne.io.read_raw_edf(out, verbose="error")
    assert raw.n_times == 3050
    assert list(raw.annotations.description) == ["sz_foc_a [A1,A2]", "annotation", "sz"]
    np.testing.assert_array_equal(raw.annotations.onset, events["onset"])
    np.testing.assert_array_equal(raw.annotations.duration, events["duration"])
    annotate_edf(hospital, tmp_path / "one.edf", events.assign(channels=["A2", "all", "n/a"]))
    raw = mne.io.read_raw_edf(tmp_path / "one.edf", verbose="error")
    assert [tuple(names) for names in raw.annotations.ch_names] == [("A2",), (), ()]


def test_the_recording_itself_and_an_existing_file_are_never_written_over(hospital: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="would replace the recording itself"):
        annotate_edf(hospital, hospital, no_events(), overwrite=True)
    (tmp_path / "there.edf").write_text("mine")
    with pytest.raises(FileExistsError):
        annotate_edf(hospital, tmp_path / "there.edf", no_events())
    assert (tmp_path / "there.edf").read_text() == "mine"
    with pytest.raises(ValueError, match="of channel 'B1', which the recording does not have"):
        annotate_edf(hospital, tmp_path / "new.edf", make_events([1.0], [1.0], channels="A1,B1"))
    with pytest.raises(ValueError, match=r"after the recording's \(30\.5 s\)"):
        annotate_edf(hospital, tmp_path / "new.edf", make_events([30.0], [10.0]))


@pytest.mark.parametrize("samples", [5120, 15616, 15488, 15368])  # 10, 30.5, 30.25 and 30.015625 s at 512 Hz
def test_a_length_that_is_no_whole_number_of_seconds_is_not_padded(samples: int, events: pd.DataFrame, tmp_path: Path):
    signal = recording(samples)
    write_edf(signal, tmp_path / "x.edf", events)
    edf = edfio.read_edf(tmp_path / "x.edf")
    assert [len(one.data) for one in edf.signals] == [samples] * 3
    assert [one.sampling_frequency for one in edf.signals] == [512.0] * 3
    assert edf.is_continuous
    raw = mne.io.read_raw_edf(tmp_path / "x.edf", verbose="error")
    assert raw.n_times == samples
    assert list(raw.annotations.description) == ["sz_foc_a [A1,A2]", "annotation", "sz"]
    spread = np.ptp(signal.values, axis=1)[:, None]
    error = np.abs(raw.get_data(units="uV") - signal.values) / spread
    assert error.max() < 0.51 / 65535 * 1.01  # half a step, and the range rounded up to EDF's 8 characters


def test_a_length_that_no_record_divides_is_refused_and_not_padded(tmp_path: Path):
    with pytest.raises(ValueError, match=r"15361 samples in 30\.001953 s cannot be cut"):
        write_edf(recording(15361), tmp_path / "x.edf", no_events())
    assert not list(tmp_path.iterdir())
    write_edf(recording(15361), tmp_path / "x.edf", no_events(), rest="leave out")
    assert [len(one.data) for one in edfio.read_edf(tmp_path / "x.edf").signals] == [15360] * 3


def test_signals_that_edf_cannot_hold_are_refused(tmp_path: Path):
    gap = recording(1024).copy()
    gap[:, 100] = np.nan
    with pytest.raises(ValueError, match=r"Sample 100 is missing \(NaN\)"):
        write_edf(gap, tmp_path / "x.edf", no_events())
    long = recording(1024).assign_coords(channel=["A1", "A2", "B" * 17])
    with pytest.raises(ValueError, match="expected up to 16 ASCII characters"):
        write_edf(long, tmp_path / "x.edf", no_events())
    with pytest.raises(ValueError, match="needs the attribute sfreq"):
        write_edf(recording(1024).drop_attrs(), tmp_path / "x.edf", no_events())


def test_flat_and_large_channels_are_written(tmp_path: Path):
    signal = recording(1024).copy()
    signal[0] = 3.0
    signal[1] *= 1000
    signal[2] /= 1000
    write_edf(signal, tmp_path / "x.edf", no_events())
    read = np.stack([one.data for one in edfio.read_edf(tmp_path / "x.edf").signals])
    spread = np.maximum(np.ptp(signal.values, axis=1), 2.0)
    assert (np.abs(read - signal.values).max(1) / spread < 2 / 65535).all()


def test_a_file_of_annotations_only_is_read_by_edfio_and_mne(events: pd.DataFrame, tmp_path: Path):
    path = tmp_path / "x_events.edf"
    write_events(path, events, "edf", duration=3600.5)
    texts = [mark.text for mark in edfio.read_edf(path).annotations]
    assert texts == ["sz_foc_a [A1,A2]", "annotation", "sz"]
    marks = mne.read_annotations(path)
    assert list(marks.description) == texts
    np.testing.assert_array_equal(marks.onset, [1.25, 3.0, 5.5])
    assert read_events(path).duration == 3600.5


def test_a_recording_with_gaps_is_not_copied_and_states_no_duration(hospital: Path, tmp_path: Path):
    data = bytearray(hospital.read_bytes())
    last = data.rindex(b"+30\x14\x14")
    data[last : last + 5] = b"+90\x14\x14"  # the last record's clock: a gap of a minute
    (tmp_path / "gap.edf").write_bytes(data)
    with pytest.raises(ValueError, match=r"has gaps \(EDF\+D\)"):
        annotate_edf(tmp_path / "gap.edf", tmp_path / "x.edf", no_events())
    assert read_events(tmp_path / "gap.edf").duration == 90.5


def test_a_broken_header_and_plain_edf_are_told(hospital: Path, tmp_path: Path):
    data = hospital.read_bytes()
    (tmp_path / "cut.edf").write_bytes(data[:300])
    with pytest.raises(ValueError, match="fewer than the") as problem:
        read_events(tmp_path / "cut.edf")
    assert not [word for word in PERSON if word in str(problem.value)]
    edfio.Edf([edfio.EdfSignal(np.arange(100.0), 100)]).write(tmp_path / "plain.edf")
    with pytest.raises(ValueError, match="EDF without annotations"):
        read_events(tmp_path / "plain.edf")


def test_plain_edf_becomes_edf_plus(events: pd.DataFrame, tmp_path: Path):
    data = np.random.default_rng(3).integers(-2000, 2000, 3000).astype(np.int16)
    scale = dict(physical_dimension="uV", physical_range=(-3276.8, 3276.7), digital_range=(-32768, 32767))
    signals = [edfio.EdfSignal.from_digital(data, 100.0, label=name, **scale) for name in ("A1", "A2")]
    edfio.Edf(signals, data_record_duration=0.1).write(tmp_path / "plain.edf")  # 3 * 0.1 is not 0.3
    raw = bytearray((tmp_path / "plain.edf").read_bytes())
    raw[raw.index(b"uV") : raw.index(b"uV") + 2] = b"\xb5V"  # a micro sign, which some devices write
    (tmp_path / "plain.edf").write_bytes(raw)
    annotate_edf(tmp_path / "plain.edf", tmp_path / "x.edf", events)
    copy = edfio.read_edf(tmp_path / "x.edf")
    assert copy.reserved == "EDF+C"
    assert copy.is_continuous
    assert [one.physical_dimension for one in copy.signals] == ["uV", "uV"]
    np.testing.assert_array_equal(copy.signals[1].digital, data)
    pd.testing.assert_frame_equal(read_events(tmp_path / "x.edf").events, events)


def test_a_real_recording_keeps_every_sample(tmp_path: Path):
    folder = SHARED / "data" / "ieeg" / "ecog_pt01_ictal"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set TSATTN_SHARED to read a real recording")
    source = folder / "sub-pt01_ecog_ictal.edf"
    events = read_events(folder / "sub-pt01_events.tsv").events
    annotate_edf(source, tmp_path / "x.edf", events)
    ours = mne.io.read_raw_edf(tmp_path / "x.edf", verbose="error")
    theirs = mne.io.read_raw_edf(source, verbose="error")
    np.testing.assert_array_equal(ours.get_data(), theirs.get_data())
    assert len(ours.annotations) == len(events) == 1
    pd.testing.assert_frame_equal(read_events(tmp_path / "x.edf").events, events)
