"""Brain TreeBank: `sub_N_trialXXX.h5`, group `data` with one set `electrode_i` a contact, 2048 Hz.

Beside the files, in the data set's folder: `electrode_labels/sub_N/electrode_labels.json` (label i belongs to
electrode_i; the marks * # _ are not of the name), `corrupted_elec.json`, `localization/sub_N/depth-wm.csv` with L, I
and P. Source: braintreebank.dev, Wang et al. (2024). sub_1 has one more electrode than labels.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn import documents, messages
from tsattn.recordings.privacy import label
from tsattn.recordings.readers import Reading, hdf5
from tsattn.recordings.recording import Note, Recording, make_channels
from tsattn.recordings.units import factor

NAME = "Brain TreeBank (HDF5)"
FILE = re.compile(r"(sub_(\d+))_trial(\d+)\.h5")
SET = re.compile(r"electrode_(\d+)")
SFREQ = 2048.0


def recognises(path: Path) -> bool:
    """Return whether this is a trial's file, or a folder of them, by name."""
    return bool(_files(path))


def read(path: Path, reading: Reading) -> list[Recording]:
    """Open every trial at a path.

    Args:
        path: A file, or the folder that holds them.
        reading: What the user says.

    Raises:
        ValueError: If a file is damaged, or its electrodes are of unlike length or more than their labels allow.
    """
    files = _files(path)
    if reading.subject and len({file.name.split("_trial")[0] for file in files}) > 1:
        raise ValueError("One subject was given for several people. Open the trials of one, or give none.")
    return [_open(file, reading) for file in files]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if FILE.fullmatch(path.name) else []
    return [file for file in sorted(path.iterdir()) if FILE.fullmatch(file.name)]


@dataclass(frozen=True)
class TreebankSource:
    """One data set a channel; see `tsattn.recordings.recording.Source`."""

    path: Path
    sets: tuple[str, ...]
    cache: int
    factor: float

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.empty((len(rows), stop - start), np.float32)
        with hdf5.damage_told(self.path):
            for i, row in enumerate(rows):
                out[i] = hdf5.kept_open(self.path, f"data/{self.sets[row]}", self.cache)[start:stop]
        return out if self.factor == 1 else out * np.float32(self.factor)


def _open(path: Path, reading: Reading) -> Recording:
    match = FILE.fullmatch(path.name)
    assert match
    person, number, trial = match.groups()
    who = f"Brain TreeBank {person}, trial {trial}"
    sets, samples, cache = _sets(path, who)
    root = _root(path, person)
    channels, notes = _channels(root, person, sets, who, reading)
    subject = reading.subject or f"sub-treebank{number}"
    return Recording(
        source=TreebankSource(path, sets, cache, factor(reading.unit or "uV")),
        id=f"{subject}_run-{int(trial):03d}",
        subject=subject,
        channels=channels,
        duration=samples / SFREQ,
        notes=(
            Note("warning", "The file states no unit: taken as microvolts.", messages.hint("say otherwise by {unit}")),
            *notes,
        ),
        files=(path,),
        about={
            "reader": NAME,
            "data set": "Brain TreeBank",
            "licence": "terms of braintreebank.dev",
            "contacts in L, I, P": _places(root, person),
        },
    )


def _sets(path: Path, who: str) -> tuple[tuple[str, ...], int, int]:
    """Return the electrodes' sets in the order of their numbers, their length, and the bytes to cache of each."""
    with hdf5.open_file(path) as file:
        hdf5.refuse_links(file, path.parent)
        group = file.get("data")
        names = [name for name in group or () if SET.fullmatch(name)]
        names.sort(key=lambda name: int(name.removeprefix("electrode_")))
        if [int(name.removeprefix("electrode_")) for name in names] != list(range(len(names))) or not names:
            raise ValueError(f"{who}: group data holds {len(names)} electrodes, expected electrode_0, electrode_1, ...")
        lengths, cache = set(), 0
        for name in names:
            signal = group[name]
            if len(signal.shape) != 1 or signal.dtype.kind not in "fiu" or signal.is_virtual:
                raise ValueError(f"{who}: {name} is {signal.dtype} of shape {signal.shape}, expected a row of numbers.")
            hdf5.need_written(signal, f"{who}, {name},")
            lengths.add(signal.shape[0])
            cache = max(cache, 2 * (signal.chunks or (0,))[0] * signal.dtype.itemsize)
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"{who}: its electrodes hold {sorted(lengths)} samples, expected one number above 0.")
    return tuple(names), lengths.pop(), cache


def _root(path: Path, person: str) -> Path | None:
    """Return the data set's folder, found by its labels: the file's, or one of the two above."""
    here = path.absolute().parent
    for folder in (here, *here.parents[:2]):
        if (folder / "electrode_labels" / person / "electrode_labels.json").is_file():
            return folder
    return None


def _bare(name: str) -> str:
    return re.sub(r"[*#_]", "", name).strip()


def _json(path: Path) -> Any:
    try:
        return documents.read_json(path, f"{label(path)} of Brain TreeBank")
    except ValueError as error:
        raise ValueError(f"{error} Is it cut short? Fetch it again.") from None


def _channels(
    root: Path | None, person: str, sets: tuple[str, ...], who: str, reading: Reading
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    notes = []
    labels = []
    if root is None:
        notes.append(Note("warning", "No electrode_labels.json near the file: contacts are called electrode_0, ..."))
    else:
        labels = [_bare(name) for name in _json(root / "electrode_labels" / person / "electrode_labels.json")]
        if len(labels) > len(sets):
            raise ValueError(f"{who} has {len(sets)} electrodes and {len(labels)} labels: labels of another person?")
    names = labels + list(sets[len(labels) :])
    types = ["stim" if re.match(r"dc|trig", name, re.I) else reading.type or "seeg" for name in names]
    reasons = [""] * len(names)
    if labels and len(names) > len(labels):
        notes.append(Note("warning", f"{len(names) - len(labels)} electrodes have no label: taken as bad."))
        reasons[len(labels) :] = ["no label"] * (len(names) - len(labels))
    corrupted = root / "corrupted_elec.json" if root else None
    if corrupted and corrupted.is_file():
        bad = {_bare(name) for name in _json(corrupted).get(person, [])}
        reasons = [
            "corrupted_elec.json" if name in bad else reason for name, reason in zip(names, reasons, strict=True)
        ]
    else:
        notes.append(Note("warning", "No corrupted_elec.json near the file: no contact is known as bad."))
    status = ["bad" if reason else "good" for reason in reasons]
    return make_channels(names, SFREQ, types, status, reasons, unit=reading.unit or "uV"), tuple(notes)


def _places(root: Path | None, person: str) -> dict[str, list[float]] | None:
    """Return L, I and P of the contacts: voxels, whose size and origin the data set does not state, so no positions."""
    file = root / "localization" / person / "depth-wm.csv" if root else None
    if file is None or not file.is_file():
        return None
    table = pd.read_csv(file)
    if not {"Electrode", "L", "I", "P"} <= set(table.columns):
        return None
    return {_bare(str(row["Electrode"])): [float(row[axis]) for axis in "LIP"] for _, row in table.iterrows()}
