"""Open a prepared store: one zarr (v3) group for all recordings, read straight into float32 microvolts.

    store.zarr/           format "tsattn-recordings", version, preset, tsattn (its version), expected (ids to come)
      <recording id>/     facts as attributes (channels, events, gaps, provenance, quantisation, ...), complete
        signal            (channel, time), int16 or float32, uncompressed; inner chunks of seconds in shards of minutes
        scaling           (part, channel, block) float32, for int16: value = code * scale + offset, by 256 samples
        checksums         (shard, chunk of the shard x channel, and one of the scaling) uint32: crc32c of the bytes
        statistics        (shard, channel, statistic) float64, of every shard; written last: a kill leaves no half

Scale and offset for each 256 samples keep the rounding below 1e-4 of a channel's spread, whatever artefact stands
elsewhere (`quantise`). Code -32768 is missing, and so is what no shard holds; both read as NaN. The samples are not
compressed: the codes fill their 16 bits, so that lz4 and zstd save nothing after a byte shuffle and 2 to 9 % after a
bit shuffle (pt01 of ds003029, Zurich HFO); uncompressed, a window is a few reads and one multiplication.
Layout of shards: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/index.html
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn import messages
from tsattn.events.table import COLUMNS, make_events
from tsattn.extras import need
from tsattn.recordings.privacy import label
from tsattn.recordings.recording import CHANNEL_COLUMNS, Note, Recording
from tsattn.recordings.store.facts import check_recording, check_store, read_attributes
from tsattn.recordings.store.quantise import BLOCK
from tsattn.recordings.store.shard import Shard

FORMAT = "tsattn-recordings"
VERSION = 1
OPEN_SHARDS = 64  # files that a process keeps open, over all stores
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoreSource:
    """Samples of one recording of a store.

    Attributes:
        path: Folder of the recording in the store.
        channels: In the store.
        samples: Of a channel.
        chunk: Samples in an inner chunk.
        shard: Samples in a shard, a multiple of `chunk`.
        dtype: "int16" or "float32".
        empty: Shards that have no file because nothing was recorded there.
        stamp: Of this preparation, so that no other one's open file is read.
        checksums: Whether each channel of a chunk has one.
    """

    path: Path
    channels: int
    samples: int
    chunk: int
    shard: int
    dtype: str
    empty: tuple[int, ...]
    stamp: str
    checksums: bool = False

    def read(self, rows: Sequence[int], start: int, stop: int) -> Float[np.ndarray, "channel time"]:
        """Read samples; see `Source.read`."""
        out = np.empty((len(rows), stop - start), np.float32)
        begin = start
        while begin < stop:
            number = begin // self.shard
            end = min(stop, (number + 1) * self.shard)
            part, first = out[:, begin - start : end - start], number * self.shard
            if number in self.empty:
                part.fill(np.nan)
            else:
                _shard(self, number).read(rows, begin - first, end - first, part)
            begin = end
        return out


@lru_cache(maxsize=OPEN_SHARDS)
def _shard(source: StoreSource, number: int) -> Shard:
    scaling = source.path / "scaling" / f"c.0.0.{number}" if source.dtype == "int16" else None
    signal = source.path / "signal" / f"c.0.{number}"
    sums = source.path / "checksums" / f"c.{number}.0" if source.checksums else None
    return Shard(
        signal, scaling, sums, source.channels, source.chunk, source.shard // source.chunk, np.dtype(source.dtype)
    )


@lru_cache(maxsize=1000)
def _say_without(store: Path) -> None:
    log.warning(
        "%s was prepared before samples had checksums: damaged bytes in it would not be noticed. Prepare it again to "
        "have them.",
        label(store),
    )


@dataclass(frozen=True)
class Store:
    """A prepared store.

    Attributes:
        path: Of the zarr group.
        ids: Of the recordings, sorted.
        preset: The parameters of the preparation, its name among them.
        version: Of tsattn, which made it.
    """

    path: Path
    ids: tuple[str, ...]
    preset: dict[str, Any]
    version: str

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __getitem__(self, id: str) -> Recording:
        """Return a recording: its facts now, its samples when they are read."""
        if id not in self.ids:
            raise KeyError(f"{label(self.path)} has no recording {id!r}; it has {', '.join(self.ids[:20])}.")
        return _recording(self.path / id)

    def recordings(self) -> list[Recording]:
        """Return all recordings, in the order of their ids."""
        return [self[id] for id in self.ids]


def open_store(path: str | Path, *, partial: bool = False) -> Store:
    """Open a prepared store.

    Args:
        path: Folder that `tsattn.recordings.preparation.prepare` wrote.
        partial: Take the recordings that are complete, if the preparation did not come to its end.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it is no store of ours, was made by a newer tsattn, or is half-written.
    """
    need("zarr", "A store")
    path, who = Path(path), label(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no store at {who}.")
    attributes = read_attributes(path, who)
    if attributes.get("format") != FORMAT:
        raise ValueError(f"{who} is a zarr group, but no store of recordings: `tsattn recordings prepare`.")
    check_store(attributes, who)
    if attributes["version"] > VERSION:
        raise ValueError(
            f"{label(path)} has format version {attributes['version']}, this tsattn reads up to {VERSION}: "
            f"it was made by tsattn {attributes['tsattn']}, update to it."
        )
    done = {id for id in attributes["expected"] if _complete(path / id, who)}
    missing = sorted(set(attributes["expected"]) - done)
    if missing and not partial:
        raise ValueError(
            f"{label(path)} is half-written: {len(missing)} of {len(attributes['expected'])} recordings "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}) are not complete. Run the same "
            "`tsattn recordings prepare` again, which goes on where it stopped"
            + messages.advice(", or pass {partial}", partial=True)
            + "."
        )
    return Store(path, tuple(sorted(done)), dict(attributes["preset"]), attributes["tsattn"])


def open_group(path: Path, mode: Literal["r", "r+"] = "r") -> Any:
    """Open a zarr group.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it is something else.
    """
    zarr = need("zarr", "A store")
    if not path.exists():
        raise FileNotFoundError(f"There is no store at {label(path)}.")
    try:
        if not path.is_dir():
            raise NotADirectoryError
        return zarr.open_group(path, mode=mode, zarr_format=3)
    except (FileNotFoundError, ValueError, TypeError, KeyError, NotADirectoryError) as error:
        raise ValueError(f"{label(path)} is not a zarr v3 group, expected a store of prepared recordings.") from error


def _complete(path: Path, who: str) -> bool:
    return (path / "zarr.json").exists() and read_attributes(path, f"{who}: {path.name}").get("complete") is True


def _recording(path: Path) -> Recording:
    facts = read_attributes(path, f"{label(path.parent)}: {path.name}")
    check_recording(facts, path)
    try:
        return _made(path, facts)
    except (TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:  # what the schema does not know
        raise ValueError(f"{label(path.parent)}: {path.name} is damaged: {error}.") from error


def _made(path: Path, facts: dict[str, Any]) -> Recording:
    layout, provenance = facts["layout"], facts["provenance"]
    source = StoreSource(
        path.absolute(),
        layout["channels"],
        layout["samples"],
        layout["chunk"],
        layout["shard"],
        layout["dtype"],
        tuple(layout["empty_shards"]),
        facts["stamp"],
        layout.get("checksums") is not None,
    )
    if not source.checksums:
        _say_without(path.parent)
    if layout["block"] != BLOCK:
        raise ValueError(f"{facts['id']} has a scale for {layout['block']} samples, this tsattn reads {BLOCK}.")
    return Recording(
        source,
        facts["id"],
        facts["subject"],
        channels_from_json(facts["channels"]),
        float(facts["duration"]),
        events_from_json(facts["events"]),
        tuple((float(begin), float(end)) for begin, end in facts["gaps"]),
        start=None if facts["start"] is None else datetime.fromisoformat(facts["start"]),
        coordinate_frame=facts["coordinate_frame"],
        notes=tuple(Note(note["level"], note["text"]) for note in facts["notes"]),
        about={"provenance": provenance, "quantisation": facts["quantisation"], "statistics": facts["statistics"]},
    )


def table_to_json(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return a table as lists by column; what is NaN becomes None, which JSON knows."""
    return {
        str(name): [None if isinstance(value, float) and np.isnan(value) else value for value in column.tolist()]
        for name, column in table.items()
    }


def channels_from_json(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """Return a table of channels from `table_to_json`."""
    table = pd.DataFrame({name: columns[name] for name in CHANNEL_COLUMNS})
    return table.astype({"sfreq": float, "x": float, "y": float, "z": float})


def events_from_json(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """Return a table of events from `table_to_json`."""
    onset, duration, event_type, confidence, channels = (columns[name] for name in COLUMNS[:-1])
    text = columns.get("text", [""] * len(onset))  # stores up to 0.1 have none
    return make_events(onset, duration, event_type, np.array(confidence, float), channels, text)
