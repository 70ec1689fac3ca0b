"""Write a prepared store, shard by shard; `store` says what lies where, and reads it.

A shard's statistics are written last: they say that it is done, so a kill at any moment loses the shards in work, only.
"""

import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64

import tsattn
from tsattn.recordings.store import FORMAT, VERSION, need_zarr, open_group
from tsattn.recordings.store.quantise import BLOCK, MISSING, STATISTICS, combine, quantise

LARGEST_ERROR = 1e-4  # rms of the rounding, relative to the channel's standard deviation
WORTH_TELLING = 0.01  # share of what was recorded that a channel lacks
CHUNK_SECONDS = 10.0  # a random window of 125 s then reads 8 % more than it needs


def create_store(path: Path, preset: dict[str, Any], dtype: str) -> None:
    """Make an empty store."""
    zarr = need_zarr()

    facts = dict(format=FORMAT, version=VERSION, preset=preset, dtype=dtype, tsattn=tsattn.__version__, expected=[])
    zarr.create_group(path, zarr_format=3, attributes=facts)


def chunk_samples(sfreq: float, samples: int) -> int:
    """Return the length of a chunk: about ten seconds, whole blocks, not longer than the recording."""
    blocks = min(round(CHUNK_SECONDS * sfreq / BLOCK), -(-samples // BLOCK))
    return max(1, blocks) * BLOCK


class RecordingWriter:
    """Writes one recording into a store; made again after an interruption, it knows which shards are done."""

    def __init__(self, store: Path, id: str) -> None:
        """Open a recording that `begin` started."""
        self.path = store / id
        self.group = open_group(self.path, "r+")
        self.layout: dict[str, Any] = dict(self.group.attrs["layout"])
        for rest in self.path.rglob("*.partial"):  # of a write that was interrupted
            rest.unlink()

    @classmethod
    def begin(cls, store: Path, facts: dict[str, Any], layout: dict[str, Any]) -> "RecordingWriter":
        """Make a recording without samples.

        Args:
            store: Path of the store.
            facts: Attributes of the recording.
            layout: `channels`, `samples`, `chunk`, `shard` (samples) and `dtype`.
        """
        zarr = need_zarr()

        path = store / facts["id"]
        if path.exists():
            shutil.rmtree(path)  # a beginning that did not come to its attributes
        unfinished: Any = zarr.create_group(path, zarr_format=3)
        channels, samples, shard = layout["channels"], layout["samples"], layout["shard"]
        shards = -(-samples // shard)
        plain: dict[str, Any] = dict(
            compressors=None, filters=None, chunk_key_encoding={"name": "default", "separator": "."}
        )
        unfinished.create_array(
            "signal", shape=(channels, samples), dtype=layout["dtype"], chunks=(channels, layout["chunk"]),
            shards=(channels, shard), fill_value=MISSING if layout["dtype"] == "int16" else float("nan"),
            dimension_names=("channel", "time"), **plain,
        )  # fmt: skip
        full = {"write_empty_chunks": True}
        if layout["dtype"] == "int16":
            unfinished.create_array(
                "scaling", shape=(2, channels, -(-samples // BLOCK)), dtype="float32", fill_value=0.0, config=full,
                chunks=(2, channels, shard // BLOCK), dimension_names=("part", "channel", "block"), **plain,
            )  # fmt: skip
        unfinished.create_array(
            "statistics", shape=(shards, channels, len(STATISTICS)), dtype="float64", fill_value=0.0, config=full,
            chunks=(1, channels, len(STATISTICS)), dimension_names=("shard", "channel", "statistic"), **plain,
        )  # fmt: skip
        stamp = uuid.uuid4().hex
        layout = {**layout, "block": BLOCK, "missing": MISSING, "statistics": list(STATISTICS), "empty_shards": []}
        unfinished.attrs.update({**facts, "layout": layout, "stamp": stamp, "complete": False})
        return cls(store, facts["id"])

    @staticmethod
    def begun(store: Path, id: str) -> bool:
        """Return whether a recording is in the store, with all that is known before its samples."""
        path = store / id
        return (path / "zarr.json").exists() and "layout" in open_group(path).attrs

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-self.layout["samples"] // self.layout["shard"])

    def span(self, shard: int) -> tuple[int, int]:
        """Return first sample of a shard and one past its last."""
        return shard * self.layout["shard"], min((shard + 1) * self.layout["shard"], self.layout["samples"])

    def done(self, shard: int) -> bool:
        """Return whether a shard is written."""
        return (self.path / "statistics" / f"c.{shard}.0.0").exists()

    def write(self, shard: int, values: Float32[np.ndarray, "channel time"]) -> None:
        """Write a shard, its statistics last."""
        start, stop = self.span(shard)
        codes, scaling, statistics = quantise(values)
        if self.layout["dtype"] == "int16":
            blocks = slice(start // BLOCK, start // BLOCK + scaling.shape[2])
            self.group["signal"][:, start:stop] = codes[:, : stop - start]
            self.group["scaling"][:, :, blocks] = scaling
        else:
            statistics[:, 5:] = 0.0
            self.group["signal"][:, start:stop] = values
        self.group["statistics"][shard] = statistics

    def finish(self) -> None:
        """Check what the rounding cost, note what is missing beside the gaps, and mark the recording as complete.

        Raises:
            ValueError: If 16 bits are too few for a channel.
        """
        parts = self.group["statistics"][:]
        total = combine(parts)
        names = self.group.attrs["channels"]["name"]
        count, spread = total[:, 0], np.sqrt(total[:, 2] / np.maximum(total[:, 0], 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            rms = np.where(spread > 0, np.sqrt(total[:, 5] / np.maximum(count, 1)) / spread, 0.0)
            largest = np.where(spread > 0, total[:, 6] / spread, 0.0)
        if rms.max() > LARGEST_ERROR:
            worst = int(rms.argmax())
            raise ValueError(
                f"{self.path.name}: 16 bits round {names[worst]} by {rms[worst]:.1e} of its standard deviation "
                f"(rms), expected at most {LARGEST_ERROR:g}. Prepare into another store with dtype='float32'."
            )
        empty = [k for k in range(self.shards) if not (self.path / "signal" / f"c.0.{k}").exists()]
        if any(parts[k, :, 0].any() for k in empty):
            raise ValueError(f"{self.path.name}: a shard's file has gone from the store. Delete it and prepare again.")
        self.group.attrs.update(
            {
                "notes": [*self.group.attrs["notes"], *self._losses(count)],
                "layout": {**self.layout, "empty_shards": empty},
                "quantisation": {
                    "dtype": self.layout["dtype"],
                    "relative_to": "standard deviation of the channel",
                    "rms_error": rms.tolist(),
                    "largest_error": largest.tolist(),
                },
                "statistics": {
                    "samples": count.astype(int).tolist(),
                    "mean": [_plain(m) for m in total[:, 1]],
                    "standard_deviation": spread.tolist(),
                    "minimum": [_plain(m) for m in total[:, 3]],
                    "maximum": [_plain(m) for m in total[:, 4]],
                },
                "complete": True,
            }
        )

    def _losses(self, count: Float64[np.ndarray, " channel"]) -> list[dict[str, str]]:
        """Say which channels miss much of what was recorded: pauses of their own, and stretches too short to filter."""
        facts = self.group.attrs
        paused = sum(round((end - begin) * facts["sfreq"]) for begin, end in facts["gaps"])
        lost = 1 - count / max(self.layout["samples"] - paused, 1)
        if lost.max() < WORTH_TELLING:
            return []
        worst = facts["channels"]["name"][int(lost.argmax())]
        text = (
            f"{(lost >= WORTH_TELLING).sum()} of {len(count)} channels miss more than {100 * WORTH_TELLING:g} % of the "
            f"recorded time, {worst} most ({100 * lost.max():.0f} %): pauses of their own, or stretches between pauses "
            "that are too short for the filters."
        )
        return [{"level": "warning", "text": text}]


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
