"""How fast recordings are simulated: 10 min of 32 channels at 512 Hz, in ratio to real time.

    OMP_NUM_THREADS=1 python tests/bench/simulate.py [--rounds 3] [--csv out.csv]

Times are of the CPU, median over the rounds. For scale, a fixed piece of numpy work runs between them in the same
process: 20 real Fourier transforms of 2**22 float32 values and 4096 exponentials of (4, 1024).
"""

import argparse
import csv
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
from scipy import fft

from tsattn.recordings.simulate import simulate_recording

SECONDS = 600.0


def fixed_work() -> None:
    """Do what simulating mostly does, in a known amount."""
    noise = np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32)
    for _ in range(20):
        fft.rfft(noise)
    block = np.zeros((4, 1024), np.float32)
    for _ in range(4096):
        np.exp(block, out=block)
        block -= 1


def cpu(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Measure and print, one line a level."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--csv", type=Path)
    asked = parser.parse_args()
    rows = []
    for level in ("easy", "hard"):
        taken, scale = [], []
        for seed in range(asked.rounds):
            scale.append(cpu(fixed_work))
            taken.append(cpu(partial(simulate_recording, level=level, duration=SECONDS, seed=seed)))
        row = {
            "level": level,
            "channels": 32,
            "recorded_s": SECONDS,
            "cpu_s": round(statistics.median(taken), 2),
            "times_real_time": round(SECONDS / statistics.median(taken)),
            "fixed_work_s": round(statistics.median(scale), 2),
            "peak_rss_MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            "numpy": np.__version__,
            "machine": platform.machine(),
            "date": date.today().isoformat(),
        }
        rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()))
    if asked.csv:
        with asked.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
