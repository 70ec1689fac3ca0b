"""The benchmark of MVPA runs, checks its contestants first, and leaves a row for each."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from support import ROOT


def test_the_benchmark_runs_on_a_small_grid(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, ROOT / "tests/bench/mvpa.py", "--shapes", "1x4x3", "--rounds", "1", "--without", "flex",
         "braindecode", "--csv", tmp_path / "rows.csv"],
        cwd=ROOT, text=True, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["contestant"], row["wanted"]) for row in rows} == {
        (name, wanted) for name in ("ours", "dense", "sdpa") for wanted in ("forward", "backward", "both")
    }
    assert all(float(row["median_ms"]) > 0 for row in rows)
    assert "ours: relative error" in done.stdout
