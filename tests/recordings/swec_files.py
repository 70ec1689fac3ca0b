"""Writes recordings in the layout of the SWEC data set: a virtual total file over parts packed with lz4."""

from itertools import pairwise
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

SECONDS = 180  # of a chunk
PACKINGS = {
    "lz4": lambda: hdf5plugin.LZ4(),
    "lz4hc": lambda: hdf5plugin.Blosc(cname="lz4hc", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE),
}


def noise(channels: int = 3, seconds: int = 400, sfreq: int = 64, seed: int = 0) -> np.ndarray:
    """Values in microvolts of which every sample differs, (channel, time) float32."""
    return np.random.default_rng(seed).normal(0, 50, (channels, seconds * sfreq)).astype(np.float32)


def write_part(path: Path, values: np.ndarray, sfreq: int = 64, packing: str = "lz4hc") -> None:
    """Write a file with `data/ieeg` only."""
    chunks = (len(values), min(SECONDS * sfreq, values.shape[1]))
    with h5py.File(path, "w") as file:
        file.create_dataset("data/ieeg", data=values, chunks=chunks, **PACKINGS[packing]())


def write_swec(
    root: Path,
    values: np.ndarray,
    patient: str = "ID60",
    sfreq: int = 64,
    parts: int = 2,
    seizures: list[tuple[float, float]] | None = [(20.0, 30.5)],  # noqa: B006  (read only)
    packing: str = "lz4hc",
    named: str | None = None,
    column: bool = False,
) -> Path:
    """Write a patient's folder and return the total file.

    Args:
        root: The folder of the data set.
        values: Microvolts, (channel, time).
        patient: IDxx.
        sfreq: Hz.
        parts: How many; 0 puts the samples into the total file.
        seizures: Onset and offset in seconds; None leaves the table out.
        packing: "lz4" or "lz4hc".
        named: How the total file names the parts: "../ID60_part_{}.h5"; None as they are.
        column: Whether the table has the shape (k, 1).
    """
    folder = root / patient
    folder.mkdir(parents=True, exist_ok=True)
    total = folder / f"{patient}_total.h5"
    if parts == 0:
        write_part(total, values, sfreq, packing)
    else:
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        edges = np.linspace(0, values.shape[1], parts + 1).round().astype(int)
        for k, (a, b) in enumerate(pairwise(edges)):
            write_part(folder / f"{patient}_part_{k + 1}.h5", values[:, a:b], sfreq, packing)
            name = (named or patient + "_part_{}.h5").format(k + 1)
            layout[:, a:b] = h5py.VirtualSource(name, "data/ieeg", shape=(len(values), b - a))
        with h5py.File(total, "w") as file:
            file.create_virtual_dataset("data/ieeg", layout)
    with h5py.File(total, "r+") as file:
        file.attrs["sampling_rate"] = np.float64(sfreq)
        if seizures is not None:
            table = np.array(seizures, dtype=[("onsets", "<f8"), ("offsets", "<f8")])
            file["data/seizures"] = table.reshape(-1, 1) if column else table
    return total
