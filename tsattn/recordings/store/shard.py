"""Read one shard of a store: its index once, then each chunk by one `pread`, decoded straight into the result.

Each channel of a chunk has a checksum (crc32c), which is compared whenever it is read: damaged bytes are an error and
never samples. Stores of before have none, which `open_store` says.

zarr-python reads the same files (a test compares). It takes twice the time with the decoding, and its event loop does
not live through a fork; a `pread` does not even move the file's position, so threads and forked workers may share it.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from tsattn.extras import need
from tsattn.recordings.privacy import label
from tsattn.recordings.store.quantise import BLOCK, MISSING

NO_CHUNK = 2**64 - 1  # in the index, of a chunk that was not written


class Damaged(ValueError):
    """What a store holds is not what was written into it."""


class Shard:
    """An open shard file."""

    def __init__(
        self,
        signal: Path,
        scaling: Path | None,
        sums: Path | None,
        channels: int,
        chunk: int,
        chunks: int,
        dtype: np.dtype,
    ) -> None:
        """Open a shard.

        Args:
            signal: Its file.
            scaling: File of scales and offsets, for int16.
            sums: File of checksums; None if the store has none.
            channels: In the store.
            chunk: Samples in a chunk.
            chunks: In the shard.
            dtype: Of what is stored.

        Raises:
            ValueError: If a file is missing, cut off or damaged.
        """
        self.file = -1
        self.recording, self.name = signal.parents[1], signal.name
        self.crc32c: Callable[[Any], int] = need("google_crc32c", "A store").value
        self.sums: np.ndarray | None = None
        self.channels, self.chunk, self.dtype = channels, chunk, dtype.newbyteorder("<")
        try:
            self.file = os.open(signal, os.O_RDONLY)
            self.offsets = self._index(chunks)
            if scaling is not None:
                self.scaling = np.fromfile(scaling, "<f4").reshape(2, channels, chunks * chunk // BLOCK, 1)
            if sums is not None:
                found = np.fromfile(sums, "<u4")
                self.sums = found[:-1].reshape(chunks, channels)
                if scaling is not None and self.crc32c(np.ascontiguousarray(self.scaling)) != found[-1]:
                    raise self._damaged("has other scales of its samples than were written")
        except (FileNotFoundError, ValueError) as error:
            if isinstance(error, Damaged):
                raise
            raise self._damaged("is missing or cut off") from error

    def __del__(self) -> None:
        if self.file >= 0:
            os.close(self.file)

    def _damaged(self, how: str) -> "Damaged":
        return Damaged(
            f"{label(self.recording.parent)} is damaged: {self.name} of {self.recording.name} {how}. Copy the store "
            "again, or prepare it again."
        )

    def _index(self, chunks: int) -> list[int]:
        size, length = os.fstat(self.file).st_size, 16 * chunks + 4
        if size < length:
            raise ValueError
        tail = os.pread(self.file, length, size - length)
        if self.crc32c(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
            raise ValueError
        return np.frombuffer(tail, "<u8", 2 * chunks).tolist()[::2]

    def read(self, rows: Sequence[int], start: int, stop: int, out: Float32[np.ndarray, "channel time"]) -> None:
        """Read samples `[start, stop)`, counted from the shard's first, into `out`."""
        index = slice(None) if list(rows) == list(range(self.channels)) else list(rows)
        few = isinstance(index, list) and 4 * len(index) <= self.channels
        codes = np.empty((len(rows) if few else self.channels, self.chunk), self.dtype)
        for number in range(start // self.chunk, -(-stop // self.chunk)):
            first = number * self.chunk
            begin, end = max(start, first), min(stop, first + self.chunk)
            part = out[:, begin - start : end - start]
            place = self.offsets[number]
            if place == NO_CHUNK:
                part.fill(np.nan)
                continue
            if few:
                for i, row in enumerate(rows):
                    self._fill(codes[i], place + row * codes[i].nbytes)
            else:
                self._fill(codes, place)
            if self.sums is not None:
                self._check(codes, self.sums[number], rows if few else range(self.channels), first)
            self._decode(codes if few else codes[index], index, first, begin, end, part)

    def _check(self, codes: np.ndarray, sums: np.ndarray, rows: Sequence[int], first: int) -> None:
        for code, row in zip(codes, rows, strict=True):
            if self.crc32c(code) != sums[row]:
                raise self._damaged(f"has other samples at {first} to {first + self.chunk} than were written")

    def _fill(self, buffer: np.ndarray, place: int) -> None:
        view = memoryview(buffer.data).cast("B")
        while len(view):
            got = os.preadv(self.file, [view], place)
            if got == 0:
                raise self._damaged("ends too early")
            view, place = view[got:], place + got

    def _decode(
        self, codes: np.ndarray, index: slice | list[int], first: int, begin: int, end: int, part: np.ndarray
    ) -> None:
        if self.dtype.kind == "f":
            part[:] = codes[:, begin - first : end - first]
            return
        blocks = slice(begin // BLOCK, -(-end // BLOCK))
        low, high = blocks.start * BLOCK, blocks.stop * BLOCK
        codes = codes[:, low - first : high - first]
        whole = low == begin and high == end
        values = part if whole else np.empty(codes.shape, np.float32)
        shape = (len(codes), -1, BLOCK)
        view = values.reshape(shape, copy=False)
        np.multiply(codes.reshape(shape, copy=False), self.scaling[0][index, blocks], out=view)
        view += self.scaling[1][index, blocks]
        if codes.min() == MISSING:
            values[codes == MISSING] = np.nan
        if not whole:
            part[:] = values[:, begin - low : end - low]
