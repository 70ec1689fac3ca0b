"""What a store says of itself and of its recordings: read with bounds, and compared with what it has to be.

The attributes are JSON that anybody may have changed. Each is checked here, so that nothing behind this door meets a
text where it needs a number: one sentence names the store and the attribute.
"""

import re
from pathlib import Path
from typing import Any

from tsattn import documents
from tsattn.recordings.privacy import label

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
STORE: dict[str, Any] = {
    "format": str, "version": int, "preset": {"name": str}, "dtype": {"int16", "float32"}, "tsattn": str,
    "expected": [str],
}  # fmt: skip
_PLACE = (float, None)
RECORDING: dict[str, Any] = {
    "id": str, "subject": str, "sfreq": float, "duration": float, "start": (str, None), "coordinate_frame": str,
    "channels": {
        "name": [str], "type": [str], "sfreq": [float], "status": [str], "reason": [str], "x": [_PLACE], "y": [_PLACE],
        "z": [_PLACE], "unit": [str],
    },
    "events": {
        "onset": [float], "duration": [float], "event_type": [str], "confidence": [(float, None)], "channels": [str],
        "text?": [str],
    },
    "gaps": [[float]],
    "notes": [{"level": {"info", "warning"}, "text": str}],
    "provenance": {"preset": dict, "steps": [{"step": str}]},
    "layout": {
        "channels": int, "samples": int, "chunk": int, "shard": int, "dtype": {"int16", "float32"}, "block": int,
        "empty_shards": [int], "checksums?": {"crc32c"},
    },
    "stamp": str,
    "quantisation": {"dtype": str, "rms_error": [float], "largest_error": [float]},
    "statistics": {
        "samples": [int], "mean": [(float, None)], "standard_deviation": [float], "minimum": [(float, None)],
        "maximum": [(float, None)],
    },
}  # fmt: skip
LARGEST_CHUNK = 2**30  # bytes that are read at once; ours have some seconds


def read_attributes(folder: Path, who: str) -> dict[str, Any]:
    """Read the attributes of a zarr v3 group.

    Raises:
        ValueError: If there is none, or something else.
    """
    try:
        found = documents.read_json(folder / "zarr.json", who)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise ValueError(f"{who} is not a zarr v3 group, expected a store of prepared recordings ({error}).") from error
    attributes = found.get("attributes", {}) if isinstance(found, dict) else None
    if not isinstance(attributes, dict) or found.get("zarr_format") != 3 or found.get("node_type") != "group":
        raise ValueError(f"{who} is not a zarr v3 group, expected a store of prepared recordings.")
    return attributes


def check_store(attributes: dict[str, Any], who: str) -> None:
    """Check what a store says of itself.

    Raises:
        ValueError: Names the attribute.
    """
    documents.check(attributes, STORE, who)
    for id in attributes["expected"]:
        if not ID.fullmatch(id) or id == "zarr.json":
            raise ValueError(
                f"{who} is damaged: expected holds {documents.shortened(id)}, which is not a recording's id."
            )


def check_recording(facts: dict[str, Any], path: Path) -> None:
    """Check what a store says of a recording.

    Raises:
        ValueError: Names the store, the recording and the attribute.
    """
    who = f"{label(path.parent)}: {path.name}"
    documents.check(facts, RECORDING, who)
    layout = facts["layout"]

    def must(holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"{who} is damaged: {what}. Copy the store again, or prepare it again.")

    must(facts["id"] == path.name, f"id is {documents.shortened(facts['id'])}, expected {path.name!r}")
    for name in ("channels", "samples", "chunk", "shard", "block"):
        must(layout[name] > 0, f"layout.{name} is {layout[name]}, expected at least 1")
    must(layout["shard"] % layout["chunk"] == 0, "layout.shard is not a multiple of layout.chunk")
    must(layout["chunk"] % layout["block"] == 0, "layout.chunk is not a multiple of layout.block")
    must(layout["channels"] * layout["chunk"] * 4 <= LARGEST_CHUNK, "layout.chunk is larger than a chunk ever is")
    shards = -(-layout["samples"] // layout["shard"])
    for number in layout["empty_shards"]:
        must(0 <= number < shards, f"layout.empty_shards holds {number}, expected 0 to {shards - 1}")
    for table in ("channels", "events"):
        lengths = {
            name: len(facts[table][name]) for key in RECORDING[table] if (name := key.rstrip("?")) in facts[table]
        }
        for name, length in lengths.items():
            rows = layout["channels"] if table == "channels" else lengths["onset"]
            must(length == rows, f"{table}.{name} has {length} items, expected {rows}")
    for table in ("quantisation", "statistics"):
        for name, kind in RECORDING[table].items():
            if isinstance(kind, list):
                length = len(facts[table][name])
                must(length == layout["channels"], f"{table}.{name} has {length} items, expected {layout['channels']}")
    must(facts["sfreq"] > 0, f"sfreq is {facts['sfreq']:g}, expected above 0")
    for name, rate in zip(facts["channels"]["name"], facts["channels"]["sfreq"], strict=True):
        must(
            rate == facts["sfreq"],
            f"channels.sfreq of {documents.shortened(name)} is {rate:g}, and sfreq {facts['sfreq']:g}",
        )
    samples = facts["duration"] * facts["sfreq"]
    must(
        abs(samples - layout["samples"]) <= 1,
        f"duration is {facts['duration']:g} s, expected {layout['samples'] / facts['sfreq']:g} s for its samples",
    )
    for number, gap in enumerate(facts["gaps"]):
        must(
            len(gap) == 2 and 0 <= gap[0] <= gap[1], f"gaps[{number}] is {gap}, expected a begin and an end in seconds"
        )
