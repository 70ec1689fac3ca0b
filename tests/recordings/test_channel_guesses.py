"""What is guessed from a channel's name or unit is said, and the user decides: in Python and on the command line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from edf_files import write_edf
from support import tsattn

from tsattn.recordings import open_recordings
from tsattn.recordings.readers.channel_names import guess_types, matched
from tsattn.recordings.recording import Recording
from tsattn.recordings.units import known_as_other, volts

WORDS = "POST TEMP AIR REF POS MIC MARK TIB FLOW LIGHT PULSE C BP DCA".split()


def edf(path: Path, labels: Sequence[str], units: Sequence[str] | None = None) -> Path:
    digital = np.random.default_rng(0).integers(-500, 500, (len(labels), 1000))
    write_edf(path, list(digital), [100] * len(labels), labels=labels)
    if units:
        data, count = bytearray(path.read_bytes()), len(labels)
        for number, word in enumerate(units):
            at = 256 + 96 * count + 8 * number
            data[at : at + 8] = word.encode("latin-1").ljust(8)
        path.write_bytes(data)
    return path


def one(path: Path, **reading: object) -> Recording:
    (recording,) = open_recordings(path, **reading)
    return recording


def warnings(recording: Recording) -> str:
    return " ".join(note.text for note in recording.notes if note.level == "warning")


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("form", ["{w}{k}", "{w}{k}-{n}", "{w}{k}-{w}{n}", "POL {w}'{k:02d}", "EEG {w} {k}-Ref"])
def test_a_shaft_is_a_shaft_whatever_its_word_means_elsewhere(word: str, form: str):
    names = [form.format(w=word, k=k, n=k + 1) for k in range(1, 8)]
    assert guess_types([*names, "LA1", "LA2", "LA3"]) == ["seeg"] * 10


@pytest.mark.parametrize("name", ["ECG", "EMG", "EOG", "CHIN", "DC", "TRIG", "RESP", "EKG", "EVENT"])
def test_some_words_are_no_shaft_however_many_of_them_there_are(name: str):
    assert set(guess_types([f"{name}{k}" for k in range(1, 9)])).isdisjoint({"seeg", "eeg", "ecog"})


def test_blood_pressures_are_no_shaft():
    assert guess_types(["BP1", "BP2", "BP3", "BP4"]) == ["misc"] * 4


@pytest.mark.parametrize(
    "names",
    [
        [f"E{k}" for k in range(1, 129)],  # EGI
        [f"E{k}" for k in range(1, 65)] + ["Cz"],
        [f"{row}{k}" for row in "ABCD" for k in range(1, 33)],  # BioSemi
        "1L 1R 2L 2R 3L 3R 1Z 2Z 3Z 1LA 1RB".split(),
        "F3-M2 F4-M1 C3-M2 C4-M1 O1-M2 O2-M1".split(),  # sleep: no midline
        [f"EEG {name}-REF" for name in "F3 F4 C3 C4".split()],
        "Fp1 Fp2 F3 F4 Fz Cz Pz O1 O2".split(),
    ],
)
def test_caps_are_scalp(names: list[str]):
    assert set(guess_types(names)) == {"eeg"}


def test_long_rows_of_one_letter_tell_no_type():
    assert guess_types([f"M{k}" for k in range(1, 61)]) == [None] * 60


def test_short_shafts_called_e_and_grids_stay_intracranial():
    assert set(guess_types([f"{s}{k}" for s in "ADE" for k in range(1, 13)])) == {"seeg"}
    assert set(guess_types([f"G{k}" for k in range(1, 65)])) == {"seeg"}


def test_what_is_left_out_is_named_and_names_bring_it_back(tmp_path: Path):
    labels = ["LA1", "LA2", "MIC1", "EKG1", "Thing"]
    path = edf(tmp_path / "a.edf", labels)
    plain = one(path)
    assert plain.channels["type"].tolist() == ["seeg", "seeg", "misc", "ecg", "misc"]
    assert all(name in warnings(plain) for name in labels[2:])
    assert one(path, type="ecog").channels["type"].tolist() == ["ecog", "ecog", "ecog", "ecg", "ecog"]
    said = one(path, signals=("mic*", "THING", "!la2"))
    assert said.channels["type"].tolist() == ["seeg", "misc", "seeg", "ecg", "seeg"]
    assert one(path, signals=("EKG1",), type="dbs").channels["type"].tolist()[3] == "dbs"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [("MIC1", 3), ("[MIC*, EKG1]", 4), ("MIC1,!LA2", 2), ("'mic?'", 3)],
)
def test_both_doors_take_the_same_names(typed: str, kept: int, tmp_path: Path):
    path = edf(tmp_path / "a.edf", ["LA1", "LA2", "MIC1", "EKG1"])
    ran = tsattn("recordings", "inspect", path, "--preset", "raw", "--signals", typed, cwd=tmp_path)
    assert f"keep {kept} of 4 channels" in ran.stdout, ran.stderr
    names = tuple(word.strip(" '") for word in typed.strip("[]").split(","))
    found = one(path, signals=names).channels["type"].isin(["seeg"])
    assert found.sum() == kept


def test_a_name_that_no_channel_has_is_an_error_on_both_doors(tmp_path: Path):
    path = edf(tmp_path / "a.edf", ["LA1", "LA2"])
    with pytest.raises(ValueError, match=r"'XX\*', and no channel is called so; there are LA1, LA2"):
        open_recordings(path, signals=("XX*",))
    ran = tsattn("recordings", "inspect", path, "--signals", "XX*", cwd=tmp_path)
    assert ran.returncode
    assert "'XX*'" in ran.stderr


@pytest.mark.parametrize(
    ("word", "unit"),
    [
        ("uVolt", "uV"), ("microV", "uV"), ("[uV]", "uV"), ("micro volts", "uV"), ("mVolt", "mV"), ("Volts", "V"),
        (".V", None), ("?V", None), ("_V", None), ("%", None), ("Pulse", None), ("kV", None),
    ],
)  # fmt: skip
def test_words_for_volts(word: str, unit: str | None):
    assert volts(word) == unit


def test_units_that_are_known_and_none_of_voltage():
    for word in ("%", "bpm", "degC", "mmHg", "C", "°C", "Ohm", "l/min", ""):
        assert known_as_other(word), word
    for word in (".V", "uV", "Pulse", "kV"):
        assert not known_as_other(word), word


def test_words_that_are_not_known_are_all_named_and_unit_decides(tmp_path: Path):
    path = edf(tmp_path / "a.edf", ["LA1", "LA2", "LA3", "LA4", "SpO2"], [".V", "?V", "uV", "uV", "%"])
    plain = one(path)
    assert plain.channels["type"].tolist() == ["misc", "misc", "seeg", "seeg", "misc"]
    assert "'.V' (LA1)" in warnings(plain)
    assert "'?V' (LA2)" in warnings(plain)
    decided = one(path, unit="uV")
    assert decided.channels["type"].tolist() == ["seeg"] * 4 + ["misc"]
    np.testing.assert_array_equal(decided.read(0, 1000, [0]), plain.read(0, 1000, [0]))
    scaled = one(path, unit="mV")
    np.testing.assert_allclose(scaled.read(0, 1000, [0]), 1000 * plain.read(0, 1000, [0]), rtol=1e-5)
    assert scaled.channels["type"].tolist()[4] == "misc"


def test_a_signal_in_an_unknown_unit_needs_the_unit(tmp_path: Path):
    path = edf(tmp_path / "a.edf", ["LA1", "LA2"], [".V"])
    with pytest.raises(ValueError, match=r"'LA1', whose unit is '.V'.*unit='uV'"):
        open_recordings(path, signals=("LA*",))
    assert one(path, signals=("LA*",), unit="uV").channels["type"].tolist() == ["seeg"] * 2


def test_a_word_for_a_unit_cannot_move_the_cursor(tmp_path: Path):
    path = edf(tmp_path / "a.edf", ["LA1", "LA2"], ["\x1b[2J"])
    assert "\x1b" not in warnings(one(path))
    ran = tsattn("recordings", "inspect", path, cwd=tmp_path)
    assert "\x1b" not in ran.stdout + ran.stderr


def test_names_in_other_forms_are_matched_where_one_alone_is_meant():
    assert matched(["POL LA1", "POL LA2"], ["LA1", "LA2"]) == ({"POL LA1": 0, "POL LA2": 1}, ("POL LA1", "POL LA2"))
    assert matched(["EEG LA 01-Ref", "x"], ["la1", "y"])[0] == {"EEG LA 01-Ref": 0}
    assert matched(["LA1", "POL LA1"], ["LA1", "la 1"])[0] == {"LA1": 0, "POL LA1": 1}
    assert matched(["POL LA1", "EEG LA1"], ["LA1", "LA2"])[0] == {}  # two could be meant
    assert matched(["POL LA2", "POL LA1"], ["LA1", "LA2"])[0] == {}  # another order
