"""Read one shard of a store: its index once, then each chunk by one `pread`, decoded straight into the result.

zarr-python reads the same files (a test compares). It takes twice the time with the decoding, and its event loop does
not live through a fork; a `pread` does not even move the file's position, so threads and forked workers may share it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from tsattn.extras import need
from tsattn.recordings.privacy import label
from tsattn.recordings.store.quantise import BLOCK, MISSING

NO_CHUNK = 2**64 - 1  # in the index, of a chunk that was not written


class Shard:
    """An open shard file."""

    def __init__(
        self, signal: Path, scaling: Path | None, channels: int, chunk: int, chunks: int, dtype: np.dtype
    ) -> None:
        """Open a shard.

        Args:
            signal: Its file.
            scaling: File of scales and offsets, for int16.
            channels: In the store.
            chunk: Samples in a chunk.
            chunks: In the shard.
            dtype: Of what is stored.

        Raises:
            ValueError: If a file is missing or cut off.
        """
        self.file = -1
        self.channels, self.chunk, self.dtype = channels, chunk, dtype.newbyteorder("<")
        try:
            self.file = os.open(signal, os.O_RDONLY)
            self.offsets = self._index(chunks)
            if scaling is not None:
                self.scaling = np.fromfile(scaling, "<f4").reshape(2, channels, chunks * chunk // BLOCK, 1)
        except (FileNotFoundError, ValueError) as error:
            recording = signal.parents[1]
            raise ValueError(
                f"{label(recording.parent)} is damaged: {signal.name} of {recording.name} is missing or cut off. "
                "Copy the store again, or prepare it again."
            ) from error

    def __del__(self) -> None:
        if self.file >= 0:
            os.close(self.file)

    def _index(self, chunks: int) -> list[int]:
        google_crc32c = need("google_crc32c", "A store")

        size, length = os.fstat(self.file).st_size, 16 * chunks + 4
        if size < length:
            raise ValueError
        tail = os.pread(self.file, length, size - length)
        if google_crc32c.value(tail[:-4]) != int.from_bytes(tail[-4:], "little"):
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
            self._decode(codes if few else codes[index], index, first, begin, end, part)

    def _fill(self, buffer: np.ndarray, place: int) -> None:
        view = memoryview(buffer.data).cast("B")
        while len(view):
            got = os.preadv(self.file, [view], place)
            if got == 0:
                raise ValueError("A shard of the store ends too early: copy the store again, or prepare it again.")
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
