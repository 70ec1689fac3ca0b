"""MEF3: holes are NaN on the true clock, in every window, and a damaged session is an error, not a short signal."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsattn.recordings.readers import Reading, mef, open_recordings
from tsattn.recordings.readers.stretches import Stretch
from tsattn.recordings.recording import Recording

MefWriter = pytest.importorskip("mef_tools.io").MefWriter
START = 1_600_000_000_000_000  # µs
SECRET = "level2"


def signal(seconds: float = 60, sfreq: float = 512, hole: tuple[float, float] | None = (20, 30), seed: int = 0):
    time = np.arange(round(seconds * sfreq)) / sfreq
    values = np.random.default_rng(seed).integers(-20000, 20000, time.size) / 100
    if hole:
        values[(time >= hole[0]) & (time < hole[1])] = np.nan
    return values


def write(
    folder: Path,
    channels: dict[str, np.ndarray],
    sfreq: dict[str, float] | float = 512.0,
    start: dict[str, int] | None = None,
    unit: bytes = b"uV",
    subject: bytes = b"none",
    annotations: list[dict] | None = None,
    password: str | None = SECRET,
) -> Path:
    """Write a session through mef_tools, a block a second, nothing interpolated."""
    path = folder / "night.mefd"
    writer = MefWriter(str(path), overwrite=True, password1="level1" if password else None, password2=password)
    writer.max_nans_written = 0
    writer.section2_ts_dict["units_description"] = unit
    writer.section3_dict["subject_ID"] = subject
    writer.section3_dict["subject_name_1"] = b"Jane"
    writer.section3_dict["subject_name_2"] = b"Doe"
    for name, values in channels.items():
        rate = sfreq[name] if isinstance(sfreq, dict) else sfreq
        writer.mef_block_len = int(rate)
        writer.write_data(values, name, START + (start or {}).get(name, 0), rate, precision=2)
    if annotations:
        writer.write_annotations(pd.DataFrame(annotations))
    writer.session.close()
    return path


@pytest.fixture(autouse=True)
def _password(monkeypatch):
    monkeypatch.setenv(mef.PASSWORD, SECRET)
    mef._session.cache_clear()


def only(path: Path, **said: object) -> Recording:
    (one,) = mef.read(path, Reading(**said))
    return one


def test_a_hole_of_ten_seconds_is_nan_and_the_length_is_that_of_the_clock(tmp_path: Path):
    values = signal()
    path = write(tmp_path, {"LA1": values, "LA2": values + 1})
    recording = only(path)
    assert recording.duration == 60.0
    assert recording.gaps == ((20.0, 30.0),)
    assert recording.names == ["LA1", "LA2"]
    got = recording.read(0, recording.n_samples)
    np.testing.assert_allclose(got, [values, values + 1], atol=0.011)  # mef_tools truncates to 0.01
    assert np.isnan(got).sum() == 2 * 10 * 512
    assert any(note.text.startswith("1 gaps of 10 s") for note in recording.notes)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(recording)).read(9000, 16000), got[:, 9000:16000])
    child = os.fork()
    if child == 0:  # pragma: no cover  (another process)
        os._exit(0 if np.array_equal(recording.read(9000, 16000), got[:, 9000:16000], equal_nan=True) else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("sfreq", [500.0, 512.0, 2048.0])
def test_every_window_holds_the_same_samples_as_mef_tools_reads_by_time(tmp_path: Path, sfreq: float):
    path = write(tmp_path, {"LA1": signal(40, sfreq, (10, 20))}, sfreq)
    recording = only(path)
    reader = pytest.importorskip("mef_tools.io").MefReader(str(path), SECRET)
    whole = reader.get_data("LA1")
    np.testing.assert_allclose(recording.read(0, recording.n_samples)[0], whole, rtol=1e-6)
    for start, stop in [(0, 1), (3, 700), (int(9.5 * sfreq), int(20.5 * sfreq)), (int(11 * sfreq), int(12 * sfreq))]:
        times = [START + round(at / sfreq * 1e6) for at in (start, stop)]
        theirs = reader.get_data("LA1", *times)
        np.testing.assert_allclose(recording.read(start, stop)[0], theirs, rtol=1e-6)


def test_a_session_without_a_password_opens_without_one(tmp_path: Path, monkeypatch):
    path = write(tmp_path, {"LA1": signal(5, hole=None)}, password=None)
    monkeypatch.delenv(mef.PASSWORD)
    assert only(path).gaps == ()


@pytest.mark.parametrize(("given", "match"), [(None, "none was given"), ("wrong", "the one given opens it not")])
def test_a_missing_or_wrong_password_is_named_and_never_shown(tmp_path: Path, monkeypatch, given, match):
    path = write(tmp_path, {"LA1": signal(5, hole=None)})
    if given:
        monkeypatch.setenv(mef.PASSWORD, given)
    else:
        monkeypatch.delenv(mef.PASSWORD)
    with pytest.raises(ValueError, match=rf"needs a password; {match}\. Set TSATTN_MEF_PASSWORD") as error:
        only(path)
    assert "wrong" not in str(error.value)


def test_channels_of_their_own_rate_start_and_holes_keep_their_place(tmp_path: Path):
    fast, slow = signal(20, 512, (5, 8)), signal(16, 256, (1, 4), seed=1)
    path = write(tmp_path, {"LA1": fast, "RB1": slow}, {"LA1": 512.0, "RB1": 256.0}, {"RB1": 4_000_000})
    recording = only(path)
    assert recording.duration == 20.0
    assert recording.gaps == ((5.0, 8.0),)
    late = recording.pick(["RB1"])
    got = late.read(0, late.n_samples)[0]
    assert np.isnan(got[: 4 * 256]).all()
    np.testing.assert_allclose(got[4 * 256 :], slow, atol=0.011)
    assert any("Channels lack stretches" in note.text for note in recording.notes)
    with pytest.raises(ValueError, match="channels at 256, 512 Hz"):
        recording.read(0, 10)


def test_annotations_become_events_and_no_text_or_name_passes(tmp_path: Path):
    marks = [
        dict(time=START + 5_000_000, type="Note", text="Jane Doe pressed the button", duration=0),
        dict(time=START + 7_000_000, type="EDFA", text="seizure 1", duration=3_000_000),
    ]
    path = write(tmp_path, {"LA1": signal(20, hole=None)}, annotations=marks, subject=b"Jane Doe 1970")
    recording = only(path)
    assert recording.events[["onset", "duration", "event_type"]].to_numpy().tolist() == [
        [5.0, 0.0, "annotation"],
        [7.0, 3.0, "sz"],
    ]
    told = f"{recording.id} {recording.subject} {recording.notes} {recording.about} {recording.events.to_dict()}"
    assert not [word for word in ("Jane", "Doe", "1970", "button", "night") if word in told]
    assert recording.subject == only(write(tmp_path / "2", {"LA1": signal(5)}, subject=b"Jane Doe 1970")).subject
    assert recording.subject != only(write(tmp_path / "3", {"LA1": signal(5)}, subject=b"Roe")).subject


@pytest.mark.parametrize(("unit", "scale"), [(b"uV", 1), (b"mV", 1e3), (b"V", 1e6), (b"nV", 1e-3)])
def test_units_of_the_file_are_brought_to_microvolts(tmp_path: Path, unit: bytes, scale: float):
    values = signal(5, hole=None)
    recording = only(write(tmp_path, {"LA1": values}, unit=unit))
    np.testing.assert_allclose(recording.read(0, 100)[0], values[:100] * scale, atol=0.011 * scale)


def test_an_unknown_unit_is_told(tmp_path: Path):
    path = write(tmp_path, {"LA1": signal(5, hole=None)}, unit=b"not_entered")
    assert any("1 channels state no unit of voltage" in note.text for note in only(path).notes)
    assert not any("no unit" in note.text for note in only(path, unit="uV").notes)


@pytest.mark.parametrize("ending", ["tdat", "tidx", "tmet"])
@pytest.mark.parametrize("keep", [0, 500, 0.6])
def test_a_session_that_was_cut_short_is_refused(tmp_path: Path, ending: str, keep: float):
    path = write(tmp_path, {"LA1": signal(), "LA2": signal()})
    file = next(path.glob(f"LA2.timd/*.segd/*.{ending}"))
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep if keep > 1 else keep * len(whole))])
    with pytest.raises(ValueError, match=r"^rec-\w+\.mefd"):
        only(path)


def test_damaged_blocks_are_an_error_and_not_a_short_signal(tmp_path: Path):
    path = write(tmp_path, {"LA1": signal()})
    recording = only(path)
    file = next(path.glob("LA1.timd/*.segd/*.tdat"))
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 50] = bytes(50)
    file.write_bytes(whole)
    with pytest.raises(ValueError, match=r"blocks of channel 1 are damaged"):
        recording.read(0, recording.n_samples)


def test_an_empty_folder_is_no_session(tmp_path: Path):
    (tmp_path / "night.mefd").mkdir()
    with pytest.raises(ValueError, match=r"holds no channel \(\*\.timd\)"):
        open_recordings(tmp_path / "night.mefd")


def toc(*blocks: tuple[int, int, int]) -> np.ndarray:
    """Blocks as (flag, samples, µs)."""
    flag, n, at = (np.array(column) for column in zip(*blocks, strict=True))
    return np.array([flag, n, np.cumsum(n) - n, at + START])


def test_blocks_join_within_jitter_part_at_holes_and_never_run_backwards():
    def of(*blocks: tuple[int, int, int]) -> tuple:
        return mef._stretches(toc(*blocks), 1000.0, START, "it")

    assert of((1, 500, 0), (0, 500, 500_000)) == ((Stretch(0, 0, 1000),), 0.0)
    assert of((1, 500, 0), (1, 500, 501_000)) == ((Stretch(0, 0, 1000),), 1.0)
    assert of((1, 500, 0), (1, 500, 700_000)) == ((Stretch(0, 0, 500), Stretch(700, 500, 500)), 0.0)
    assert of((1, 500, 0), (0, 500, 2_000_000)) == ((Stretch(0, 0, 500), Stretch(2000, 500, 500)), 0.0)
    for late in (-10, 10):  # µs a second: the recorder's crystal is not the header's rate
        (stretch,), apart = of(*((int(i == 0), 1000, i * (1_000_000 + late)) for i in range(3600)))
        assert stretch == Stretch(0, 0, 3_600_000)
        assert apart == pytest.approx(36, abs=0.1)
    with pytest.raises(ValueError, match="a block begins 300 samples before the one before it ends"):
        of((1, 500, 0), (1, 500, 200_000))
