"""Speed and memory of the preparation: noise that a Source makes while it is read, preset swec, on one core.

    OMP_NUM_THREADS=1 python tests/bench/prepare.py speed                  # 64 channels, 1024 -> 512 Hz, by step
    OMP_NUM_THREADS=1 python tests/bench/prepare.py memory --hours 1 4 24  # 128 channels at 512 Hz; 11 GB of disk a day

Each case runs in a process of its own, which says its peak resident memory (ru_maxrss). The store is written to
`--folder` and deleted; the disk is asked first.
"""

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

TILE = 10  # seconds of noise with one seed
STEPS = ("read", "resample", "filter", "reference", "quantise", "write")


@dataclass(frozen=True)
class Noise:
    """Seeded noise, tile by tile; it costs about as much as reading a file."""

    channels: int
    sfreq: int

    def read(self, rows, start, stop):
        step = TILE * self.sfreq
        out = np.empty((len(rows), stop - start), np.float32)
        for number in range(start // step, -(-stop // step)):
            tile = np.random.default_rng((7, number)).standard_normal((self.channels, step), dtype=np.float32)
            begin, end = max(start, number * step), min(stop, (number + 1) * step)
            part = tile[list(rows), begin - number * step : end - number * step]
            np.multiply(part, np.float32(50), out=out[:, begin - start : end - start])
        return out


def timed(found: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            found[name] += time.perf_counter() - begin

    return run


def one(channels: int, old: int, hours: float, folder: str) -> None:
    """Prepare one recording and print what it took."""
    from tsattn.recordings.preparation import chain
    from tsattn.recordings.preparation.prepare import prepare
    from tsattn.recordings.preparation.reference import Montage
    from tsattn.recordings.preparation.resample import Resampler
    from tsattn.recordings.recording import Recording, make_channels
    from tsattn.recordings.store import writing as store_writing

    found: dict[str, float] = defaultdict(float)
    for owner, attribute, name in (
        (Noise, "read", "read"),
        (Resampler, "run", "resample"),
        (chain, "zero_phase", "filter"),
        (Montage, "apply", "reference"),
        (store_writing, "quantise", "quantise"),
        (store_writing.RecordingWriter, "write", "write"),
    ):
        setattr(owner, attribute, timed(found, name, getattr(owner, attribute)))
    table = make_channels([f"C{i}" for i in range(channels)], float(old))
    recording = Recording(Noise(channels, old), "noise", "noise", table, hours * 3600)
    begin = time.perf_counter()
    store = prepare(recording, Path(folder) / "store.zarr", preset="swec")
    seconds = time.perf_counter() - begin
    found["write"] -= found["quantise"]
    size = sum(file.stat().st_size for file in store.path.rglob("*") if file.is_file())
    number = sum(file.is_file() for file in store.path.rglob("*"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({**found, "all": seconds, "peak": peak, "bytes": size, "files": number}))


def case(channels: int, old: int, hours: float, folder: Path) -> dict[str, float]:
    needed = hours * 3600 * 512 * channels * 2 * 1.1
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise SystemExit(f"{hours:g} h need {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free in {folder}.")
    with tempfile.TemporaryDirectory(dir=folder) as place:
        command = [sys.executable, __file__, "one", str(channels), str(old), str(hours), place]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def speed(folder: Path, repeats: int) -> None:
    hours = 0.5
    found = [case(64, 1024, hours, folder) for _ in range(repeats)]
    found.sort(key=lambda run: run["all"])
    middle = found[len(found) // 2]
    print(f"64 channels, 1024 -> 512 Hz, swec, int16, {hours:g} h, median of {repeats} runs:")
    told = ", ".join(f"{hours * 3600 / run['all']:.0f}" for run in found)
    print(f"  {hours * 3600 / middle['all']:.0f} x real time ({told})")
    for name in STEPS:
        print(f"  {name:10s} {middle[name]:6.2f} s  {middle[name] / middle['all']:5.1%}")
    rest = middle["all"] - sum(middle[name] for name in STEPS)
    print(f"  {'rest':10s} {rest:6.2f} s  {rest / middle['all']:5.1%}")
    print(f"  without reading: {hours * 3600 / statistics.median(r['all'] - r['read'] for r in found):.0f} x real time")


def memory(folder: Path, hours: list[float], old: int) -> None:
    print(f"128 channels, {old} -> 512 Hz, swec, int16:")
    for length in hours:
        run = case(128, old, length, folder)
        print(
            f"  {length:5g} h: peak {run['peak'] / 1e6:.0f} MB, {length * 3600 / run['all']:.0f} x real time, "
            f"{run['bytes'] / 1e9:.2f} GB in {run['files']:.0f} files",
            flush=True,
        )


def main() -> None:
    if sys.argv[1:2] == ["one"]:
        return one(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory"])
    parser.add_argument("--hours", type=float, nargs="+", default=[1.0, 4.0, 24.0])
    parser.add_argument("--sfreq", type=int, default=512, help="of the source, for memory")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    asked = parser.parse_args()
    if asked.what == "speed":
        speed(asked.folder, asked.repeats)
    else:
        memory(asked.folder, asked.hours, asked.sfreq)


if __name__ == "__main__":
    main()
