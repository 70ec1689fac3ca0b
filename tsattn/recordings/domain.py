"""What a network's training recordings were like, in plain data, and how another recording is unlike them.

A detector answers for any signal that it is given; of one that is unlike its training, the answer means little. Kept
are the types of channels, the rates at which they were recorded, how many there were, and whether names are of contacts
or of pairs. Filters and reference are the contract's own (`preset.differences`).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tsattn.recordings.recording import SIGNAL_TYPES, Recording
from tsattn.recordings.shafts import contact

WORDS = {"seeg": "depth electrodes (seeg)", "ecog": "grids or strips (ecog)", "eeg": "scalp EEG (eeg)", "dbs": "dbs"}
RATE_TOLERANCE = 0.01  # of a rate
COUNT_TOLERANCE = 0.25  # by which the number of channels may leave the range of the training


def describe(recordings: Sequence[Recording]) -> dict[str, Any]:
    """Return what recordings were like: `types`, `sfreq`, `channels`, `montage` and the number of `recordings`.

    Args:
        recordings: As a network reads them: prepared, without bad channels.
    """
    facts = [_facts(recording) for recording in recordings]
    return {
        "recordings": len(facts),
        "types": dict(Counter(kind for fact in facts for kind in fact["types"])),
        "sfreq": [min(fact["sfreq"][0] for fact in facts), max(fact["sfreq"][1] for fact in facts)],
        "channels": [min(fact["channels"] for fact in facts), max(fact["channels"] for fact in facts)],
        "montage": sorted({fact["montage"] for fact in facts}),
    }


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return what the recordings of two trainings were like together."""
    return {
        "recordings": first["recordings"] + second["recordings"],
        "types": dict(Counter(first["types"]) + Counter(second["types"])),
        "montage": sorted({*first["montage"], *second["montage"]}),
    } | {key: [min(first[key][0], second[key][0]), max(first[key][1], second[key][1])] for key in ("sfreq", "channels")}


def unlike(recording: Recording, domain: dict[str, Any] | None) -> list[str]:
    """Return how a recording is unlike those of a training, one sentence each; nothing if that is not known.

    Args:
        recording: As a network reads it: prepared, without bad channels.
        domain: Of `describe`; None for a checkpoint that does not say it.
    """
    if not domain:
        return []
    fact, told = _facts(recording), []
    strange = [kind for kind in fact["types"] if kind not in domain["types"]]
    if strange:
        trained = _words(list(domain["types"]))
        told.append(f"The recording has channels of {_words(strange)}; the training recordings had {trained}.")
    low, high = domain["sfreq"]
    slow, fast = fact["sfreq"]
    if slow < low * (1 - RATE_TOLERANCE):
        told.append(
            f"The recording was sampled at {slow:g} Hz, the training recordings at {_range(low, high)} Hz: it holds "
            f"nothing above {slow / 2:g} Hz."
        )
    elif fast > high * (1 + RATE_TOLERANCE):
        told.append(f"The recording was sampled at {fast:g} Hz, the training recordings at {_range(low, high)} Hz.")
    few, many = domain["channels"]
    if not few * (1 - COUNT_TOLERANCE) <= fact["channels"] <= many * (1 + COUNT_TOLERANCE):
        told.append(f"The recording has {fact['channels']} channels, the training recordings {_range(few, many)}.")
    if fact["montage"] not in domain["montage"]:
        told.append(
            f"The recording's channels are {fact['montage']} by their names, those of the training recordings "
            f"{' and '.join(domain['montage'])}."
        )
    return told


def _facts(recording: Recording) -> dict[str, Any]:
    provenance = recording.about.get("provenance") or {}
    rates = [float(step["from"]) for step in provenance.get("steps", ()) if step.get("step") == "resample"]
    rates = rates or recording.channels["sfreq"].tolist()
    table = recording.channels
    names = table["name"][table["type"].isin(SIGNAL_TYPES)].tolist()
    made = (provenance.get("preset") or {}).get("reference") in ("bipolar", "laplacian")  # and so the names are
    pairs = sum(_is_pair(name) for name in names)
    return {
        "types": sorted(set(table["type"]) & set(SIGNAL_TYPES)),
        "sfreq": (min(rates), max(rates)),
        "channels": len(table),
        "montage": "made in the preparation" if made else "pairs" if names and pairs > len(names) / 2 else "single",
    }


def _is_pair(name: str) -> bool:
    first, between, second = name.partition("-")
    return bool(between) and contact(first) is not None and (contact(second) is not None or second.strip().isdigit())


def _words(types: Sequence[str]) -> str:
    return " and ".join(WORDS.get(kind, kind) for kind in types)


def _range(low: float | int, high: float | int) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
