"""A BIDS iEEG data set of simulated recordings, with a derivative that tells what no clinic would know.

Signals are EDF, as clinics have them: 16 bits with a range for each channel, so that a step is a small part of the
amplifier's noise, zero stays zero, and readers map it without unpacking. mne-bids writes what stands beside them.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from tsattn import documents, extras
from tsattn.files import refuse_existing
from tsattn.recordings.recording import Recording
from tsattn.recordings.simulate.record import simulate_recording, truth
from tsattn.recordings.simulate.scene import Level
from tsattn.recordings.simulate.signal import MAINS

MAKER = "tsattn recordings simulate"
TASK = "simulated"
TRUTH = "tsattn-truth"  # folder under derivatives/
LONGEST_RUN = 1.0  # h
FIRST_DAY = datetime(2000, 1, 1, tzinfo=UTC)
SUBJECTS, CHANNELS = 0, 1  # streams of random numbers that belong to no subject
DIGITAL = 32767  # both ways, so that zero is zero
EVENT_COLUMNS = {
    "onset": {"Description": "When it begins, from the first sample.", "Units": "s"},
    "duration": {"Description": "How long it lasts; 0 for a mark.", "Units": "s"},
    "trial_type": {"Description": "sz: a seizure. The data set's README tells the types of the derivative."},
    "channels": {"Description": "Names joined by commas; of a seizure, in the order in which it recruits them."},
}
README = """\
SYNTHETIC iEEG with known seizures, made by `{maker}` (tsattn {version}, level {level}, seed {seed}).

No person was recorded. Each contact has a Wendling neural mass of its own (Eur. J. Neurosci. 15:1499, 2002); the spread
of a seizure is prescribed (distance / speed), not emergent propagation; positions are made up within a head's size.
Skill on this data is no evidence of clinical accuracy. At the level "easy" seizures can be told by line length alone.

Events are the seizures (`sz`) that an expert would mark, with the channels that each recruits. No channel's status is
bad, as clinics often mark none. What no clinic would know is in derivatives/{truth}, one row each:

    recruited                one seizure in one channel, from when it gets there to its end
    discharge                rhythmic, not marked as a seizure
    emg, movement, pop       artefacts and the channels that have them
    flat, mains              the contact that dies and the one that hums (level "hard")

Runs of a subject follow each other without a pause but are drawn one by one: there is a seam between them.

Written with mne-bids: Appelhoff et al. (2019), https://doi.org/10.21105/joss.01896; iEEG-BIDS: Holdgraf et al. (2019),
https://doi.org/10.1038/s41597-019-0105-7.
"""


@dataclass(frozen=True)
class DataSet:
    """What was written.

    Attributes:
        path: Of the data set.
        recordings: How many.
        seizures: How many, over all recordings.
        hours: Recorded, over all recordings.
    """

    path: Path
    recordings: int
    seizures: int
    hours: float


def simulate_bids(
    out: str | Path,
    *,
    subjects: int = 4,
    hours: float = 1.0,
    level: Level = "easy",
    channels: int | tuple[int, int] = (24, 40),
    sfreq: float = 512.0,
    seizures_per_hour: float = 6.0,
    seed: int = 0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> DataSet:
    """Write a BIDS iEEG data set of simulated recordings (see `simulate_recording`).

    Args:
        out: Folder to make.
        subjects: How many; each has its own electrodes, origin of seizures and random numbers.
        hours: Of each subject, in runs of at most 1 h and equal length, rounded to whole seconds.
        level: "easy", which line length alone solves, or "hard".
        channels: How many, or the fewest and most that a subject may have.
        sfreq: Hz, a whole number.
        seizures_per_hour: On average; at least one a subject unless it is 0.
        seed: Random seed of the simulation.
        overwrite: Whether a data set that this function made may be replaced. Nothing else is ever removed.
        progress: Called with the number of recordings written, and of all.

    Returns:
        How much was written.

    Raises:
        ValueError: If the arguments make no data set, or mne-bids or edfio is missing.
        FileExistsError: If `out` exists, and `overwrite` is False or it is not a data set of this function's.
    """
    out = Path(out).absolute()
    fewest, most = (channels, channels) if isinstance(channels, int) else channels
    if subjects < 1 or not 0 < hours < np.inf or not 1 <= fewest <= most:
        raise ValueError(
            f"{subjects} subjects of {hours:g} h with {fewest} to {most} channels were asked for, "
            "expected at least one subject, more than 0 h and at least one channel."
        )
    if sfreq != round(sfreq) or not 0 <= seizures_per_hour < np.inf or seed < 0:
        raise ValueError(
            f"sfreq is {sfreq:g}, seizures_per_hour {seizures_per_hour:g}, seed {seed}: "
            "expected a whole number of Hz (EDF), and none below 0."
        )
    runs = int(np.ceil(hours / LONGEST_RUN - 1e-9))
    seconds = round(hours * 3600 / runs)
    total = max(1, round(seizures_per_hour * hours)) if seizures_per_hour else 0
    shares = np.diff(np.linspace(0, total, runs + 1).round().astype(int))
    _refuse_foreign(out, overwrite)
    _need_libraries()

    folder = out.with_name(f".{out.name}.{os.getpid()}.part")
    folder.mkdir(parents=True)
    try:
        found = 0
        for subject in range(1, subjects + 1):
            number = int(np.random.default_rng([seed, 0, SUBJECTS, CHANNELS, subject]).integers(fewest, most + 1))
            for run in range(1, runs + 1):
                recording = simulate_recording(
                    channels=number,
                    duration=float(seconds),
                    sfreq=sfreq,
                    level=level,
                    seizures=int(shares[run - 1]),
                    seed=seed,
                    subject=subject,
                    run=run,
                )
                _write_recording(recording, folder, subject, run, FIRST_DAY + timedelta(seconds=seconds * (run - 1)))
                found += len(recording.events)
                del recording  # before the next one is made
                if progress:
                    progress((subject - 1) * runs + run, subjects * runs)
        _describe(folder, level, seed)
        _replace(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return DataSet(out, subjects * runs, found, subjects * runs * seconds / 3600)


def _write_recording(recording: Recording, root: Path, subject: int, run: int, start: datetime) -> None:
    """Write the signal as EDF, let mne-bids take it in, and add events and truth."""
    import mne
    from mne_bids import BIDSPath, update_sidecar_json, write_raw_bids

    path = BIDSPath(subject=f"{subject:02d}", task=TASK, run=f"{run:02d}", datatype="ieeg", root=root)
    with TemporaryDirectory(dir=root.parent, prefix=f"{root.name}.edf") as scratch:
        file = Path(scratch) / "signal.edf"
        _write_edf(recording, file, start)
        raw = mne.io.read_raw_edf(file, verbose="error")
        raw.set_channel_types(dict.fromkeys(raw.ch_names, "seeg"), verbose="error")
        raw.info["line_freq"] = MAINS
        positions = recording.channels[["x", "y", "z"]].to_numpy()
        montage = mne.channels.make_dig_montage(
            dict(zip(recording.names, positions, strict=True)), coord_frame="mni_tal"
        )
        write_raw_bids(raw, path, montage=montage, overwrite=True, verbose="error")
        raw.close()
    sidecar = path.copy().update(suffix="ieeg", extension=".json")
    update_sidecar_json(  # mne-bids takes the time of the last sample for the duration
        sidecar, {"RecordingDuration": recording.duration, "iEEGReference": "common (simulated)"}, verbose="error"
    )
    events = path.copy().update(suffix="events", extension=".tsv").fpath
    _write_events(recording.events, events)
    hidden = root / "derivatives" / TRUTH / events.parent.relative_to(root)
    hidden.mkdir(parents=True, exist_ok=True)
    _write_events(truth(recording), hidden / events.name.replace("_events", "_desc-truth_events"))


def _write_edf(recording: Recording, file: Path, start: datetime) -> None:
    import edfio

    samples = recording.n_samples
    signals = []
    for i, name in enumerate(recording.names):
        values = recording.read(0, samples, [i])[0].astype(float)
        reach = float(np.ceil(np.abs(values).max())) or 1.0  # uV, a whole number: EDF keeps eight characters of it
        signals.append(
            edfio.EdfSignal(
                values,
                recording.sfreq,
                label=name,
                transducer_type="simulated depth electrode",
                physical_dimension="uV",
                physical_range=(-reach, reach),
                digital_range=(-DIGITAL, DIGITAL),
                prefiltering="HP:0.5Hz",
            )
        )
    edfio.Edf(
        signals, recording=edfio.Recording(startdate=start.date()), starttime=start.time(), data_record_duration=1
    ).write(file)


def _write_events(events: pd.DataFrame, file: Path) -> None:
    table = events.rename(columns={"event_type": "trial_type"})[list(EVENT_COLUMNS)]
    table.to_csv(file, sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    file.with_suffix(".json").write_text(json.dumps(EVENT_COLUMNS, indent=2) + "\n")


def _describe(root: Path, level: Level, seed: int) -> None:
    """Write dataset_description.json and README, of the data set and of its derivative."""
    from mne_bids import make_dataset_description

    said = f"level {level}, seed {seed}"
    by = [{"Name": MAKER, "Version": version("tsattn"), "Description": f"Wendling neural masses, {said}"}]
    for path, name, kind in (
        (root, f"Simulated iEEG with seizures ({said})", "raw"),
        (root / "derivatives" / TRUTH, f"What the simulation knows ({said})", "derivative"),
    ):
        make_dataset_description(
            path=path,
            name=name,
            dataset_type=kind,
            authors=[f"tsattn {version('tsattn')}"],
            generated_by=by,
            data_license="CC0",
            overwrite=True,
            verbose="error",
        )
    text = README.format(maker=MAKER, version=version("tsattn"), level=level, seed=seed, truth=TRUTH)
    (root / "README").write_text(text)


def _refuse_foreign(out: Path, overwrite: bool) -> None:
    """Raise if `out` exists and must stay: only what this file made may be replaced, and only if asked to."""
    refuse_existing(out, overwrite)
    if not out.exists():
        return
    try:
        made_by = documents.read_json(out / "dataset_description.json")["GeneratedBy"][0]["Name"]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        made_by = None
    if made_by != MAKER:
        raise FileExistsError(f"{out} was not made by `{MAKER}`, so it is not replaced. Choose another path.")


def _replace(folder: Path, out: Path) -> None:
    """Move a finished folder to its place; what was there is removed last."""
    old = folder.with_suffix(".old")
    if out.exists():
        out.rename(old)
    folder.rename(out)
    if old.exists():
        shutil.rmtree(old)


def _need_libraries() -> None:
    for name in ("edfio", "mne_bids"):
        extras.need_file(name, "A simulated BIDS data set")
