"""Readers of recordings, one file a format; what they return is a `Recording`, whatever the format.

A reader is a module with `NAME` (what it is called), `recognises(path)` (by what is in the file or folder, not by its
ending alone; cheap) and `read(path, reading)` (a list of recordings; opens headers only). The order of READERS decides
where two would do.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tsattn.recordings.recording import Recording

READERS = ("bids", "swec", "ethz", "segments", "treebank", "mef", "nwb", "edf", "raw")  # modules here
Unit = Literal["nV", "uV", "mV", "V"]


@dataclass(frozen=True)
class Reading:
    """What the user says of files that the files do not say, or say wrongly.

    Attributes:
        unit: Of the values in the file, against what it says or keeps silent about.
        subject: Pseudonym of the person; without it BIDS says who it is, or a hash of the header's patient code.
        type: Of the channels whose type nothing tells.
        seizure_words: Annotations that hold one of these words are seizures.
        keep_text: Annotation texts that may be kept as they are; every other one becomes "annotation".
    """

    unit: Unit | None = None
    subject: str | None = None
    type: str | None = None
    seizure_words: tuple[str, ...] = ("seizure", "sz", "ictal")
    keep_text: tuple[str, ...] = ()


def open_recordings(path: str | Path, **reading: Any) -> list[Recording]:
    """Open every recording at a path: a file, or a folder of a known layout.

    Args:
        path: What to open.
        reading: Attributes of `Reading`.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If no reader knows it, or it is damaged: what was found, and what was expected.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is nothing at {path}.")
    for name in READERS:
        reader = importlib.import_module(f"tsattn.recordings.readers.{name}")
        if reader.recognises(path):
            return reader.read(path, Reading(**reading))
    raise ValueError(f"{path} is of no format that tsattn reads.")
