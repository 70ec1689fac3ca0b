"""Where a prepared recording comes from and what was done to it, as plain data; and whether its source has changed.

A file is told by its size and SHA-256, and called by its `privacy.label`. The clock time of a recording is stored
`privacy.shifted`, that of a file not at all.
"""

import hashlib
import json
import math
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tsattn.recordings.preparation.chain import Chain
from tsattn.recordings.privacy import label, pseudonym, shifted
from tsattn.recordings.recording import ArraySource, Recording
from tsattn.recordings.store import table_to_json
from tsattn.recordings.store.facts import ID

PACKAGES = ("tsattn", "numpy", "scipy", "zarr", "mne", "mne-bids", "edfio", "h5py", "mef-tools", "pynwb")
COMPARED = ("subject", "sfreq", "duration", "channels", "events", "gaps", "coordinate_frame")


def check_id(id: str) -> None:
    """Raise ValueError if a recording's id cannot be the name of a folder."""
    if not ID.fullmatch(id) or len(id) > 200 or id == "zarr.json":
        raise ValueError(
            f"A recording is called {id!r}, expected letters, digits, '_', '-', '+' and '.', a letter or digit first: "
            "it becomes a folder of the store."
        )


def facts_of(chain: Chain) -> dict[str, Any]:
    """Return what a store says of a recording, but for its samples and its sources."""
    recording = chain.recording
    notes = (*recording.notes, *chain.notes)
    facts = {
        "id": recording.id,
        "subject": recording.subject,
        "sfreq": chain.sfreq,
        "duration": recording.duration,
        "unit": "uV",
        "start": None if recording.start is None else shifted(recording.start, recording.subject).isoformat(),
        "channels": table_to_json(chain.montage.channels),
        "events": table_to_json(recording.events),
        "gaps": [[begin / chain.sfreq, end / chain.sfreq] for begin, end in chain.gaps],
        "coordinate_frame": recording.coordinate_frame,
        "notes": [{"level": note.level, "text": note.text} for note in notes],
        "provenance": {
            "read": recording.about,
            "preset": chain.preset.to_json(),
            "steps": list(chain.steps),
            "versions": versions(),
        },
    }
    return plain(facts)


def plain(value: Any) -> Any:
    """Return data as JSON can hold it: lists for tuples, None for NaN, the label of a path.

    Args:
        value: Numbers, texts, lists, tuples, mappings of these.

    Raises:
        TypeError: If there is something else in it.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, Path):
        return label(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    raise TypeError(f"Provenance holds a {type(value).__name__}, expected plain data.")


def versions() -> dict[str, str]:
    """Return the versions of the packages that take part, of those that are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def sources(recording: Recording) -> list[dict[str, Any]]:
    """Return label, size, SHA-256 and a keyed hash of the time of change of every file; of the values, for an array.

    Args:
        recording: Its files, or the files in its folders, are read once from end to end.
    """
    if isinstance(recording.source, ArraySource):
        values = np.ascontiguousarray(recording.source.values)
        digest = hashlib.sha256(values.data if values.size else b"").hexdigest()
        return [{"label": "array", "size": values.nbytes, "state": "array", "sha256": digest}]
    found = []
    for name, path in _files(recording):
        state = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found.append({"label": name, "size": state.st_size, "state": _state(path), "sha256": digest})
    return found


def check_unchanged(recording: Recording, stored: list[dict[str, Any]]) -> None:
    """Raise ValueError if a source differs from what a store says of it.

    Args:
        recording: What is to be prepared now.
        stored: What `sources` said when its preparation began. Files of the same size and time of change are taken
            as the same; those of another time are hashed again. A source without files cannot be checked.
    """
    files = _files(recording)
    in_files = not isinstance(recording.source, ArraySource)
    if in_files and [_state(path) for _, path in files] == [one["state"] for one in stored]:
        return
    now = [(one["size"], one["sha256"]) for one in sources(recording)]
    if now != [(one["size"], one["sha256"]) for one in stored]:
        raise ValueError(
            f"{recording.id}: its source has changed since its preparation began ({len(now)} files now, {len(stored)} "
            "then, not the same bytes): prepare into another store."
        )


def check_same_facts(facts: dict[str, Any], stored: dict[str, Any]) -> None:
    """Raise ValueError if a recording is not described as a store describes it."""
    facts = json.loads(json.dumps(facts))
    events = stored["events"]  # stores up to 0.1 hold no texts
    stored = stored | {"events": {"text": [""] * len(events["onset"])} | events}
    differ = [key for key in COMPARED if facts[key] != stored[key]]
    if facts["provenance"]["steps"] != stored["provenance"]["steps"]:
        differ.append("steps")
    if differ:
        raise ValueError(
            f"{facts['id']} is in the store with other {', '.join(differ)} than it has now: prepare into another "
            "store, or delete its folder in this one."
        )


def _files(recording: Recording) -> list[tuple[str, Path]]:
    return [(label(path), file) for path in recording.files for file in _inside(Path(path))]


def _state(path: Path) -> str:
    state = path.stat()
    return pseudonym(f"{state.st_size} {state.st_mtime_ns}", "state")


def _inside(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    yield from (file for file in sorted(path.rglob("*")) if file.is_file())
