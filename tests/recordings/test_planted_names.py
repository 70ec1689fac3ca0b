"""Names, dates, numbers and free texts are planted into files and their names; none may come out anywhere.

A new output of the package is one function more in OUTPUTS: it gets the planted files and a folder, and returns texts;
what it leaves in the folder is searched, too (contents and file names), and so is what was printed and logged.
"""

import importlib
import io
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from tsattn.recordings.recording import Recording

WORDS = (  # long enough not to occur by chance in compressed bytes
    "Zyxwilda", "Quombat", "HN4711887", "Grobnikow", "ADM998877", "Elsewhere-Clinic",
    "1962-03-04", "19620304", "04-MAR-1962", "04.03.62", "04.03.1962",
    "2019-07-23", "20190723", "23-JUL-2019", "23.07.19", "14:15:16", "14.15.16", "141516",
)  # fmt: skip
NEVER = re.compile("|".join(re.escape(word) for word in WORDS).encode(), re.IGNORECASE)
NAME, BIRTH, START = "Zyxwilda Quombat", date(1962, 3, 4), datetime(2019, 7, 23, 14, 15, 16)
TEXTS = [(2.0, 0.0, "Quombat button press"), (5.0, 8.0, "seizure, Mrs Quombat HN4711887"), (20.0, 0.0, "04.03.62")]


@dataclass(frozen=True)
class Planted:
    """Files of one kind that hold the words.

    Attributes:
        paths: What a user passes.
        recordings: What was read of them.
    """

    paths: list[Path]
    recordings: list[Recording]


def signals() -> np.ndarray:
    x = np.cumsum(np.random.default_rng(0).standard_normal((4, 40 * 256)), axis=1)
    x -= x.mean(1, keepdims=True)
    x[3] = 5.0  # a bad channel, to have a reason told
    return x


def edf_bytes() -> bytes:
    edfio = pytest.importorskip("edfio")
    marks = [edfio.EdfAnnotation(onset, duration or None, text) for onset, duration, text in TEXTS]
    edf = edfio.Edf(
        [
            edfio.EdfSignal(x, 256.0, label=f"LA{i + 1}", physical_dimension="uV", physical_range=(-500, 500),
                            transducer_type="Grobnikow electrode", prefiltering="HP:Quombat")
            for i, x in enumerate(np.clip(signals(), -500, 500))
        ],
        patient=edfio.Patient(code="HN4711887", sex="F", birthdate=BIRTH, name=NAME.replace(" ", "_"),
                              additional=("Quombat",)),
        recording=edfio.Recording(startdate=START.date(), hospital_administration_code="ADM998877",
                                  investigator_technician_code="Grobnikow", equipment_code="Elsewhere-Clinic"),
        starttime=START.time(),
        data_record_duration=1.0,
        annotations=marks,
    )  # fmt: skip
    return bytes(edf.to_bytes())


def make_edf(folder: Path) -> list[Path]:
    path = folder / "Quombat, Zyxwilda" / "Quombat.Zyxwilda 1962-03-04 HN4711887.edf"
    path.parent.mkdir(parents=True)
    path.write_bytes(edf_bytes())
    return [path]


def make_bids(folder: Path) -> list[Path]:
    root = folder / "Zyxwilda Quombat"
    ieeg = root / "sub-01" / "ieeg"
    ieeg.mkdir(parents=True)
    stem = "sub-01_task-rest_run-01"
    (ieeg / f"{stem}_ieeg.edf").write_bytes(edf_bytes())
    sidecar = {"TaskName": "rest", "SamplingFrequency": 256, "PowerLineFrequency": 50, "SoftwareFilters": "n/a",
               "iEEGReference": "Grobnikow", "InstitutionName": "Elsewhere-Clinic"}  # fmt: skip
    (ieeg / f"{stem}_ieeg.json").write_text(json.dumps(sidecar))
    rows = "".join(
        f"LA{i}\tSEEG\tuV\t0\t128\t256\t{'bad' if i == 2 else 'good'}\tnoisy, Dr Grobnikow\n" for i in range(1, 5)
    )
    head = "name\ttype\tunits\tlow_cutoff\thigh_cutoff\tsampling_frequency\tstatus\tstatus_description\n"
    (ieeg / f"{stem}_channels.tsv").write_text(head + rows)
    rows = "".join(f"{onset}\t{duration}\t{text}\n" for onset, duration, text in TEXTS)
    (ieeg / f"{stem}_events.tsv").write_text("onset\tduration\ttrial_type\n" + rows)
    (root / "participants.tsv").write_text("participant_id\tname\tbirth\nsub-01\tZyxwilda Quombat\t1962-03-04\n")
    (root / "sub-01" / "sub-01_scans.tsv").write_text(
        f"filename\tacq_time\nieeg/{stem}_ieeg.edf\t2019-07-23T14:15:16\n"
    )
    about = {"Name": "Quombat's days", "BIDSVersion": "1.8.0", "Authors": ["Grobnikow"]}
    (root / "dataset_description.json").write_text(json.dumps(about))
    return [root]


def make_fif(folder: Path) -> list[Path]:
    mne = pytest.importorskip("mne")
    info = mne.create_info([f"LA{i}" for i in range(1, 5)], 256.0, "seeg")
    raw = mne.io.RawArray(signals() * 1e-6, info, verbose="error")
    raw.set_meas_date(START.replace(tzinfo=UTC))
    raw.info["subject_info"] = {
        "his_id": "HN4711887",
        "last_name": "Quombat",
        "first_name": "Zyxwilda",
        "birthday": BIRTH,
    }
    raw.info["experimenter"], raw.info["description"] = "Grobnikow", "Elsewhere-Clinic"
    onset, duration, text = zip(*TEXTS, strict=True)
    raw.set_annotations(mne.Annotations(onset, duration, text))
    path = folder / "Quombat" / "Zyxwilda_Quombat_raw.fif"
    path.parent.mkdir(parents=True)
    raw.save(path, verbose="error")
    return [path]


SOURCES = {"edf": make_edf, "bids": make_bids, "fif": make_fif}
Output = Callable[[Planted, Path], Iterable[str]]
OUTPUTS: dict[str, Output] = {}


def output(function: Output) -> Output:
    OUTPUTS[function.__name__] = function
    return function


@output
def reading(planted: Planted, folder: Path) -> Iterable[str]:
    """Every fact of a recording that may be shown; `files`, `start` and `source` are for the code only."""
    for recording in planted.recordings:
        assert recording.events["event_type"].str.startswith("sz").any()  # the seizure was understood, not dropped
        shown = {one.name for one in fields(recording)} - {"files", "start", "source"}
        yield from (str(getattr(recording, name)) for name in shown)
        yield repr(recording)
        yield recording.channels.to_csv()
        yield recording.events.to_csv()
        yield json.dumps(recording.about, default=str)
        yield str(recording.to_xarray(0.0, 5.0))


@output
def inspecting(planted: Planted, folder: Path) -> Iterable[str]:
    from tsattn.recordings.inspect import inspect, summary, text

    found = [inspect(recording, preset) for recording in planted.recordings for preset in ("swec", "raw")]
    yield from (text(one, full=True) for one in found)
    yield from (json.dumps(one.to_dict()) for one in found)
    yield from map(repr, found)
    yield summary(found)


@output
def inspect_command(planted: Planted, folder: Path) -> Iterable[str]:
    from tsattn.commands.recordings import inspect

    inspect(planted.paths, plot=folder / "pictures", full=True)
    assert any((folder / "pictures").iterdir())
    return ()


@output
def pictures(planted: Planted, folder: Path) -> Iterable[str]:
    from tsattn.recordings.plots import plot_recording, plot_store_overview

    for ending in ("svg", "pdf", "png"):
        for figure in (
            plot_recording(planted.recordings[0], out=folder / f"recording.{ending}"),
            plot_store_overview(planted.recordings, out=folder / f"overview.{ending}"),
        ):
            yield from (found.get_text() for found in figure.findobj(Text))


@output
def errors(planted: Planted, folder: Path) -> Iterable[str]:
    """What goes wrong is told without the name of the file in which it went wrong."""
    from tsattn.commands.recordings import inspect
    from tsattn.recordings.readers import open_recordings

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(planted.paths[0].parent)
        broken = Path("../broken Quombat")
        broken.mkdir(exist_ok=True)
        whole = edf_bytes()
        content = {
            "Zyxwilda cut.edf": whole[: len(whole) // 2],
            "Zyxwilda head.edf": whole[:700],
            "Zyxwilda.mat": b"Quombat is no matrix",
            "Zyxwilda.txt": b"Zyxwilda Quombat\n",
            "Zyxwilda.h5": b"\x89HDF\r\n\x1a\n" + b"Quombat",
            "Zyxwilda.fif": b"Quombat",
            "Zyxwilda_numbers.edf": whole[:236] + b"Quombat " + whole[244:],
            "Zyxwilda_count.edf": whole[:252] + b"HN47" + whole[256:],
        }
        for name, data in content.items():
            (broken / name).write_bytes(data)
        tried = [*(broken / name for name in content), broken / "Zyxwilda missing.edf", broken]
        for path in tried:
            for way in (open_recordings, lambda path: inspect([path])):
                with pytest.raises((ValueError, OSError)) as told:  # noqa: PT012
                    way(path)
                    raise ValueError("it could be read")
                yield f"{path.name.replace('Zyxwilda', '')}: {told.value}".partition(": ")[2]
        recording = planted.recordings[0]
        for ask in (
            lambda: recording.read(0, 10**9),
            lambda: recording.pick(["Z9"]),
            lambda: recording.pick(types=["dbs"]),
        ):
            with pytest.raises(ValueError) as told:
                ask()
            yield str(told.value)
        shutil.rmtree(broken)


@output
def prepared_store(planted: Planted, folder: Path) -> Iterable[str]:
    prepare = importlib.import_module("tsattn.recordings.preparation.prepare").prepare
    made = prepare(planted.recordings, folder / "store.zarr", preset="raw")
    for recording in made.recordings():
        yield from map(str, (recording, recording.about, recording.notes, recording.channels.to_csv()))
        yield str(recording.to_xarray(0.0, 1.0))


@output
def split_of_a_store(planted: Planted, folder: Path) -> Iterable[str]:
    splitting = importlib.import_module("tsattn.recordings.splits.split")
    made = splitting.split(planted.recordings, by="time", embargo_seconds=1.0)
    yield str(made)
    if hasattr(made, "save"):
        made.save(folder / "splits.json")


@output
def exported_events(planted: Planted, folder: Path) -> Iterable[str]:
    write_events = importlib.import_module("tsattn.events.files").write_events
    recording = planted.recordings[0]
    for format, ending in (("szcore", "tsv"), ("bids", "tsv"), ("csv", "csv"), ("edf", "edf")):
        write_events(folder / f"{format}.{ending}", recording.events, format, duration=recording.duration)
        raw = recording.events.assign(event_type=[text for _, _, text in TEXTS][: len(recording.events)])
        write_events(folder / f"raw_{format}.{ending}", raw, format, duration=recording.duration)
    return ()


@output
def annotated_edf(planted: Planted, folder: Path) -> Iterable[str]:
    edf = importlib.import_module("tsattn.events.edf")
    source = next((path for path in planted.recordings[0].files if path.suffix == ".edf"), None)
    if source is None:
        pytest.skip("no EDF file among these")
    before = source.read_bytes()
    edf.annotate_edf(source, folder / "annotated.edf", planted.recordings[0].events)
    assert source.read_bytes() == before
    return ()


@output
def detection_with_its_report(planted: Planted, folder: Path) -> Iterable[str]:
    from tsattn.contracts import SignalSpec
    from tsattn.detection.detector import Detector
    from tsattn.detection.report import write_report
    from tsattn.events.detect import PostProcessing
    from tsattn.layers.classifier import SegmentClassifier
    from tsattn.models.mvpformer import MVPFormer
    from tsattn.recordings.preparation.preset import make_preset

    sizes = dict(segments=4, d_model=8, layers=1, heads=2, kv_heads=1, d_ff=8, positions=4, index="absolute")
    network = SegmentClassifier(MVPFormer(sfreq=64.0, segment_seconds=1.0, **sizes))
    preset = make_preset("swec", sfreq=64.0, band=(0.5, 20.0), bad_rules=(), implausible="keep")
    detector = Detector(network, SignalSpec(preset.to_json()))
    found = detector.detect(planted.recordings[0], postprocessing=PostProcessing(threshold=0.01))
    assert len(found.events)
    reasons = [detector.explain(found, float(found.events["onset"].iloc[0]))]
    reference = planted.recordings[0].events
    write_report(folder / "report.html", found, reference=reference, explanations=reasons)
    yield from map(str, (found.events.to_csv(), found.probability, json.dumps(found.provenance, default=str)))
    yield from map(str, (found.recording, found.recording.channels.to_csv(), reasons[0].to_xarray()))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Planted]:
    from tsattn.recordings.readers import open_recordings

    made: dict[str, Planted] = {}

    def make(kind: str) -> Planted:
        if kind not in made:
            paths = SOURCES[kind](tmp_path_factory.mktemp("Quombat"))
            made[kind] = Planted(paths, [one for path in paths for one in open_recordings(path)])
        return made[kind]

    return make


def leaks(what: str, data: bytes) -> list[str]:
    return [f"{what}: ...{data[max(0, m.start() - 60) : m.end() + 20]!r}" for m in NEVER.finditer(data)]


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("name", OUTPUTS)
def test_nothing_that_was_planted_comes_out(
    kind: str,
    name: str,
    planted: Callable[[str], Planted],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TSATTN_SALT", "a secret of the test")
    monkeypatch.delenv("TSATTN_SHOW_NAMES", raising=False)
    caplog.set_level(logging.DEBUG)
    folder = tmp_path / "out"
    folder.mkdir()
    printed = io.StringIO()
    files = planted(kind)
    capfd.readouterr()
    caplog.clear()
    with redirect_stdout(printed), redirect_stderr(printed):
        told = [str(text) for text in OUTPUTS[name](files, folder)]
    seen = [*told, printed.getvalue(), *capfd.readouterr(), *(record.getMessage() for record in caplog.records)]
    found = [leak for text in seen for leak in leaks("text", text.encode())]
    for path in folder.rglob("*"):
        found += leaks("file name", str(path.relative_to(folder)).encode())
        if path.is_file():
            found += leaks(path.name, path.read_bytes())
    assert not found, "\n".join(found[:5])


@pytest.mark.parametrize("kind", SOURCES)
def test_opening_prints_and_logs_nothing_that_was_planted(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    from tsattn.recordings.readers import open_recordings

    paths = SOURCES[kind](tmp_path)
    caplog.set_level(logging.DEBUG)
    capfd.readouterr()
    caplog.clear()
    for recording in open_recordings(paths[0]):
        recording.read(0, 100)
    seen = [*capfd.readouterr(), *(record.getMessage() for record in caplog.records)]
    assert not [leak for text in seen for leak in leaks("text", text.encode())]


def test_the_words_are_in_the_files_that_were_planted(tmp_path: Path):
    """Else the tests above could not fail."""
    for kind, make in SOURCES.items():
        content = b"".join(
            p.read_bytes() for path in make(tmp_path / kind) for p in [path, *path.rglob("*")] if p.is_file()
        )
        found = {match.decode().casefold() for match in NEVER.findall(content)}
        assert {"zyxwilda", "quombat", "hn4711887", "grobnikow", "elsewhere-clinic"} <= found, kind
