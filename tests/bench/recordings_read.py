"""How fast windows come out of a prepared store, against the SWEC layout (HDF5, lz4, chunks of 3 min) through h5py.

    OMP_NUM_THREADS=1 python tests/bench/recordings_read.py [--minutes 40] [--seconds 4] [--folder DIR] [--csv out.csv]

Made up data, but noisy as a brain is (1/f, 0.1 µV steps of a 16-bit amplifier, two seizures): compression depends on
it. Both files lie in the page cache. Methods take turns, and each number is the median over the rounds; a ratio is the
median of the rounds' ratios. A segment is 5 s of one channel, 2,560 samples. Two processes need two free cores; "per
CPU second" leaves out what other programs took.
"""

import argparse
import csv
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from tsattn.events.table import make_events
from tsattn.recordings.modules import RecordingDataModule
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import from_array
from tsattn.recordings.store import open_store
from tsattn.recordings.windows.batches import RecordingLoader
from tsattn.recordings.windows.places import cut

CHANNELS, SFREQ, WINDOW, SEGMENT = 64, 512.0, 125, 5
STEP = 0.1  # µV, of the amplifier
GOAL = 6672 * 64 / 5  # segments per second for one pass over 6,672 h x 64 channels in an hour
ROUNDS = 5
CACHE = 80 * 2**20  # bytes: three chunks. One that held the whole file would be rare among hundreds of hours


def brain(seconds: int) -> np.ndarray:
    """Noise with the spectrum of a brain and two seizures, in microvolts."""
    random = np.random.default_rng(0)
    count = round(seconds * SFREQ)
    frequency = np.fft.rfftfreq(count, 1 / SFREQ)
    shape = np.where(frequency > 0, 1 / np.maximum(frequency, 0.5), 0).astype(np.float32)
    values = np.empty((CHANNELS, count), np.float32)
    clock = np.arange(count) / SFREQ
    for row in values:
        noise = np.fft.irfft(np.fft.rfft(random.normal(size=count)) * shape, count)
        row[:] = noise / noise.std() * 40
        for onset in (seconds * 0.3, seconds * 0.7):
            inside = (clock > onset) & (clock < onset + 60)
            row[inside] += 200 * np.sin(2 * np.pi * (4 + random.normal() * 0.1) * clock[inside]) ** 3
    return (np.round(values / STEP) * STEP).astype(np.float32)


def write_files(folder: Path, minutes: int) -> None:
    """Write the recording as a SWEC-like file and as two stores."""
    values = brain(minutes * 60)
    with h5py.File(folder / "swec.h5", "w") as file:
        file.create_dataset("data/ieeg", data=values, chunks=(CHANNELS, round(180 * SFREQ)), **hdf5plugin.LZ4())
    events = make_events([minutes * 18.0, minutes * 42.0], [60.0, 60.0])
    recording = from_array(values, SFREQ, id="bench", events=events)
    for dtype in ("int16", "float32"):
        prepare(recording, folder / f"{dtype}.zarr", preset="raw", dtype=dtype)  # type: ignore[arg-type]


def size(path: Path) -> float:
    """Bytes per sample on disk."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


class Hdf5:
    """The SWEC layout, as the authors' loader reads it."""

    def __init__(self, folder: Path) -> None:
        self.data = h5py.File(folder / "swec.h5", rdcc_nbytes=CACHE)["data/ieeg"]
        self.samples = self.data.shape[1]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Read samples as float32."""
        return self.data[:, start:stop]


def reader(kind: str, folder: Path) -> tuple[Callable[[int, int], np.ndarray], int]:
    """Return a function that reads (channel, time), and the number of samples."""
    if kind == "hdf5":
        file = Hdf5(folder)
        return file.read, file.samples
    recording = open_store(folder / f"{kind.partition(' ')[0]}.zarr")["bench"]
    if kind.endswith("unchecked"):  # as a store of before, without checksums
        recording = replace(recording, source=replace(recording.source, checksums=False))  # type: ignore[type-var]
    return recording.read, recording.n_samples


def spans(samples: int, order: str, seed: int) -> Iterator[tuple[int, int]]:
    """Windows without end: at random places, or one after the other."""
    length, random, start = round(WINDOW * SFREQ), np.random.default_rng(seed), 0
    while True:
        if order == "random":
            start = int(random.integers(0, samples - length + 1))
        elif start + length > samples:
            start = 0
        yield start, start + length
        start += length


def rate(kind: str, folder: Path, order: str, seconds: float, seed: int) -> tuple[float, float]:
    """Windows per second, and per second of CPU time, in this process."""
    read, samples = reader(kind, folder)
    places = spans(samples, order, seed)
    read(*next(places))
    count, begun, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < seconds:
        read(*next(places))
        count += 1
    return count / (time.perf_counter() - begun), count / (time.process_time() - cpu)


def _go(queue, barrier, *arguments) -> None:
    barrier.wait()
    queue.put(rate(*arguments))


def rate_of(processes: int, kind: str, folder: Path, order: str, seconds: float, seed: int) -> tuple[float, float]:
    """Windows per second of several processes together, and of one of them per second of CPU time."""
    if processes == 1:
        return rate(kind, folder, order, seconds, seed)
    context = get_context("fork")
    queue, barrier = context.Queue(), context.Barrier(processes)
    running = [
        context.Process(target=_go, args=(queue, barrier, kind, folder, order, seconds, seed * 100 + i))
        for i in range(processes)
    ]
    for process in running:
        process.start()
    found = [queue.get() for _ in running]
    for process in running:
        process.join()
    return sum(wall for wall, _ in found), statistics.mean(cpu for _, cpu in found)


def loader_rate(folder: Path, workers: int, kind: str, shuffle: str, seconds: float) -> float:
    """Windows per second of the data module's training loader, batches of 8."""
    data = RecordingDataModule(
        folder / f"{kind}.zarr", stride_seconds=1.0, workers=workers, shuffle=shuffle, block_seconds=300.0, blocks=4
    )
    test = data.test_dataloader()
    assert isinstance(test, RecordingLoader)
    local = shuffle == "local"
    test.dataset.reader.block_seconds = data.block_seconds if local else None
    test.dataset.reader.blocks = data.blocks
    loader = RecordingLoader(test.dataset, 8, shuffle=shuffle, workers=workers, count=100_000)  # type: ignore[arg-type]
    stream = iter(loader)
    for _ in range(2 * max(workers, 1)):
        next(stream)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        count += len(next(stream).label)
    return count / (time.perf_counter() - begun)


def parts_of_a_window(folder: Path) -> dict[str, float]:
    """Milliseconds of what one int16 window costs, each part by itself."""
    recording = open_store(folder / "int16.zarr")["bench"]
    length = round(WINDOW * SFREQ)
    files = sorted((folder / "int16.zarr" / "bench" / "signal").rglob("c.*")) or sorted(
        file
        for file in (folder / "int16.zarr" / "bench" / "signal").rglob("*")
        if file.is_file() and file.stat().st_size > 1e6
    )
    codes = np.zeros((CHANNELS, length), np.int16)
    values = np.empty((CHANNELS, length), np.float32)
    out = np.empty((WINDOW // SEGMENT, CHANNELS, round(SEGMENT * SFREQ)), np.float32)
    scale = np.ones((CHANNELS, length // 256, 1), np.float32)
    handle = os.open(files[0], os.O_RDONLY)
    codes_view, values_view = (
        codes[:, : length // 256 * 256].reshape(CHANNELS, -1, 256),
        values[:, : length // 256 * 256].reshape(CHANNELS, -1, 256),
    )

    def convert() -> None:
        np.multiply(codes_view, scale, out=values_view)

    def offset() -> None:
        np.add(values_view, scale, out=values_view)

    what: dict[str, Callable[[], object]] = {
        "pread of the codes (memcpy from the page cache)": lambda: os.preadv(handle, [memoryview(codes).cast("B")], 0),
        "codes x scale": convert,
        "+ offset": offset,
        "search for missing": lambda: codes.min(),
        "whole read": lambda: recording.read(0, length),
        "cut into segments, masked": lambda: cut(values, out),
        "fresh memory for the window": lambda: np.empty_like(values).fill(0),
    }
    found = {}
    for name, do in what.items():
        took = []
        for _ in range(30):
            begun = time.perf_counter()
            do()
            took.append(time.perf_counter() - begun)
        found[name] = statistics.median(took) * 1e3
    os.close(handle)
    return found


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--minutes", type=int, default=40)
    arguments.add_argument("--seconds", type=float, default=4.0)
    arguments.add_argument("--folder", type=Path)
    arguments.add_argument("--csv", type=Path)
    args = arguments.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp())
    if not (folder / "int16.zarr").exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, args.minutes)
    rows: list[dict[str, object]] = []
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cores} cores, load before the start {load:.1f}, {platform.machine()}, Python {platform.python_version()}")
    samples = args.minutes * 60 * SFREQ * CHANNELS
    for name in ("swec.h5", "int16.zarr", "float32.zarr"):
        print(f"{name:14} {size(folder / name) / samples:.2f} bytes per sample")

    def note(what: str, value: float, unit: str) -> None:
        rows.append(
            dict(what=what, value=round(value, 3), unit=unit, cores=cores, load=round(load, 2), date=date.today())
        )
        print(f"{what:78} {value:10,.2f} {unit}", flush=True)

    kinds = ("hdf5", "int16", "int16 unchecked", "float32")
    for order in ("random", "in order"):
        alone: dict[str, float] = {}
        for processes in (1, 2):
            per: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
            for number in range(ROUNDS):
                for kind in kinds:
                    per[kind].append(rate_of(processes, kind, folder, order, args.seconds / ROUNDS, number))
            for kind in kinds:
                told = f"{order}, {kind}, {processes} process{'es' if processes > 1 else ''}"
                wall, cpu = (statistics.median(column) for column in zip(*per[kind], strict=True))
                segments = wall * WINDOW / SEGMENT * CHANNELS
                note(f"windows of 125 s x 64 ch, {told}", wall, "windows/s")
                note("    per CPU second", cpu, "windows/s")
                note("    segments", segments, "segments/s")
                note("    float32 out", segments * SEGMENT * SFREQ * 4 / 1e6, "MB/s")
                if processes == 1:
                    alone[kind] = wall
                    each = cpu * WINDOW / SEGMENT * CHANNELS
                    note("    cores for 85,402 segments/s", GOAL / each, "cores")
                else:
                    note("    against 1 process", wall / alone[kind], "x")
                if kind != "hdf5":
                    for i, what in enumerate(("", ", per CPU second")):
                        ratios = [a[i] / b[i] for a, b in zip(per[kind], per["hdf5"], strict=True)]
                        note(f"    against HDF5{what}", statistics.median(ratios), "x")
                if kind == "int16":
                    for i, what in enumerate(("", ", per CPU second")):
                        ratios = [a[i] / b[i] for a, b in zip(per[kind], per["int16 unchecked"], strict=True)]
                        note(f"    against the same without checksums{what}", statistics.median(ratios), "x")
    for kind in ("int16", "float32"):
        for shuffle in ("full", "local"):
            per_workers: dict[int, list[float]] = {0: [], 1: [], 2: []}
            for _ in range(3):
                for workers, found in per_workers.items():
                    found.append(loader_rate(folder, workers, kind, shuffle, args.seconds))
            for workers, found in per_workers.items():
                note(f"loader, {kind}, shuffle {shuffle}, {workers} workers", statistics.median(found), "windows/s")
            ratios = [b / a for a, b in zip(per_workers[1], per_workers[2], strict=True)]
            note(f"  2 workers against 1, {kind}, shuffle {shuffle}", statistics.median(ratios), "x")
    for name, milliseconds in parts_of_a_window(folder).items():
        note(f"one int16 window of 125 s x 64 ch: {name}", milliseconds, "ms")
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    if args.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
