"""Lists of seizures that CHB-MIT and TUH keep beside their recordings: found, told, and read alike by every door."""

from pathlib import Path

import pytest
from support import SHARED
from test_events_doors import rows, write_edf

from tsattn.commands.events import export, score
from tsattn.events import lists
from tsattn.events.files import read_events
from tsattn.recordings.inspect import inspect, text
from tsattn.recordings.readers import open_recordings

SUMMARY = """Data Sampling Rate: 256 Hz
*************************

File Name: chb01_03.edf
File Start Time: 13:43:04
File End Time: 14:43:04
Number of Seizures in File: 2
Seizure 1 Start Time: 20 seconds
Seizure 1 End Time: 45 seconds
Seizure 2 Start Time:             100 seconds
Seizure 2 End Time:               130 seconds

File Name: chb01_04.edf
Number of Seizures in File: 0
"""
TUH = """# version = csv_v1.0.0
# duration = 400.0000 secs
#
channel,start_time,stop_time,label,confidence
"""
BI = TUH + "TERM,0.0000,12.5000,bckg,1.0000\nTERM,12.5000,40.2500,seiz,0.7500\nTERM,40.2500,400.0000,bckg,1.0000\n"
BY_CHANNEL = (
    TUH + "FP1-F7,12.0,30.0,cpsz,1.0\nF7-T3,20.0,45.0,cpsz,0.5\nFP1-F7,100.0,120.0,gnsz,1.0\nF7-T3,45.0,90.0,bckg,1.0\n"
)


@pytest.fixture
def chb(tmp_path: Path) -> Path:
    (tmp_path / "chb").mkdir()
    (tmp_path / "chb" / "chb01-summary.txt").write_text(SUMMARY)
    for name in ("chb01_03", "chb01_04", "chb01_05"):
        write_edf(tmp_path / "chb" / f"{name}.edf", [(200.0, 5.0, "blink")])
    return tmp_path / "chb"


def test_seizures_of_a_summary_are_those_of_its_files_by_every_door(chb: Path, tmp_path: Path):
    first, second, third = open_recordings(sorted(chb.glob("*.edf")))
    assert rows(first.events) == [
        (20.0, 25.0, "sz", ""),
        (100.0, 30.0, "sz", ""),
        (200.0, 5.0, "annotation", ""),
    ]
    for recording, file in ((first, "chb01_03.edf"), (second, "chb01_04.edf"), (third, "chb01_05.edf")):
        assert rows(read_events(chb / file).events) == rows(recording.events)
    assert read_events(chb / "chb01_03.edf").events["channels"].tolist() == ["n/a", "n/a", "all"]
    assert "A list of seizures lies beside the file: 2 are of this recording." in text(inspect(first), False)
    assert "0 are of this recording" in text(inspect(second), False)
    assert "list of seizures" not in text(inspect(third), False)
    assert chb / "chb01-summary.txt" in first.files
    export([chb / "chb01-summary.txt"], "csv", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 2
    export([chb / "chb01_03.edf"], "szcore", tmp_path / "x.tsv")
    assert read_events(tmp_path / "x.tsv").events["onset"].tolist() == [20.0, 100.0]
    export([chb / "chb01_04.edf"], "szcore", tmp_path / "y.tsv")
    assert read_events(tmp_path / "y.tsv").background


def test_a_folder_of_the_data_set_is_opened_whole(chb: Path):
    found = open_recordings(chb)
    assert len(found) == 3
    assert not [note for one in found for note in one.notes if "left out" in note.text]


def test_the_folder_of_chb_mit_is_scored_against_itself(chb: Path, capsys: pytest.CaptureFixture[str]):
    (chb / "chb01_05.edf").unlink()
    score(chb, chb, bootstrap=0)
    assert "2 recordings" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Seizure 2 End Time:               130 seconds\n", "promises 2 in file 1 of it, and states 1"),
        ("Seizure 1 Start Time: 20 seconds\n", "ends a seizure that nothing begins"),
    ],
)
def test_a_summary_that_lacks_a_line_is_refused_by_both_doors(chb: Path, line: str, message: str):
    (chb / "chb01-summary.txt").write_text(SUMMARY.replace(line, ""))
    for read in (open_recordings, read_events):
        with pytest.raises(ValueError, match=message):
            read(chb / "chb01_03.edf")


@pytest.mark.parametrize(("ending", "content"), [(".csv_bi", BI), (".csv", BY_CHANNEL)])
def test_a_list_of_tuh_is_read_beside_its_file_and_alone(ending: str, content: str, tmp_path: Path):
    edf = write_edf(tmp_path / "aaaaaaac_s001_t000.edf", [])
    (tmp_path / f"aaaaaaac_s001_t000{ending}").write_text(content)
    (recording,) = open_recordings(edf)
    alone = read_events(tmp_path / f"aaaaaaac_s001_t000{ending}")
    wanted = [(12.5, 27.75, "sz", "")]
    if ending == ".csv":
        wanted = [(12.0, 33.0, "sz-foc-ia", ""), (100.0, 20.0, "sz-gen", "")]
    assert rows(recording.events) == rows(alone.events) == rows(read_events(edf).events) == wanted
    assert alone.duration == 400.0
    assert recording.events["confidence"].iloc[0] == (0.75 if ending == ".csv_bi" else 1.0)
    assert "A list of seizures lies beside the file" in text(inspect(recording), False)
    export([tmp_path / f"aaaaaaac_s001_t000{ending}"], "szcore", tmp_path / "x.tsv")
    assert rows(read_events(tmp_path / "x.tsv").events) == wanted


def test_the_list_without_types_of_channels_comes_first_and_a_folder_of_tuh_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    edf = write_edf(tmp_path / "tuh" / "aaaaaaac_s001_t000.edf", [(300.0, 5.0, "seizure")])
    edf.with_suffix(".csv").write_text(BY_CHANNEL)
    edf.with_suffix(".csv_bi").write_text(BI)
    (recording,) = open_recordings(tmp_path / "tuh")
    assert rows(recording.events) == [(12.5, 27.75, "sz", "")]
    assert any("1 seizures among the file's own annotations gave way" in note.text for note in recording.notes)
    score(tmp_path / "tuh", tmp_path / "tuh", bootstrap=0)
    assert "1 recording of 1 subject" in capsys.readouterr().out.replace("1 subjects", "1 subject")


def test_another_table_beside_a_recording_is_no_list(tmp_path: Path):
    edf = write_edf(tmp_path / "x.edf", [(1.0, 2.0, "seizure")])
    edf.with_suffix(".csv").write_text("a,b\n1,2\n")
    assert lists.beside(edf) is None
    assert rows(open_recordings(edf)[0].events) == [(1.0, 2.0, "sz", "")]


def test_the_shipped_summary_of_chb05_is_read():
    folder = SHARED / "data" / "ieeg" / "epilepsy2bids_fixtures" / "chbmit" / "chb05"
    if not folder.is_dir():
        pytest.skip("the fixtures are not here")
    found = lists.read_summary(folder / "chb05-summary.txt")
    of_06 = found["chb05_06.edf"]
    assert of_06.onset.tolist() == [417.0]
    assert of_06.length.tolist() == [115.0]
    assert lists.beside(folder / "chb05_06.edf") == folder / "chb05-summary.txt"
