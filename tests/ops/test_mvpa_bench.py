"""The benchmark of MVPA runs on a small grid on a CPU, checks its contestants first, and leaves a row for each."""

import csv
import gc
import importlib
import math
import sys
from pathlib import Path

import pytest
from support import ROOT


def test_the_benchmark_runs_on_a_small_grid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In this process; the first of the six memories is measured, in a process of its own, as all are on a real run."""
    monkeypatch.syspath_prepend(ROOT / "tests/bench")
    bench = importlib.import_module("mvpa")
    monkeypatch.setattr(bench, "Flex", object)  # made even if it is left out, and to make it imports the compiler
    measure = bench.extra_bytes

    def first(name, contestant, shape, x, wanted: str) -> float:
        return measure(name, contestant, shape, x, wanted) if (name, wanted) == ("ours", "forward") else math.nan

    monkeypatch.setattr(bench, "extra_bytes", first)
    options = ["--shapes", "1x4x3", "--rounds", "1", "--without", "flex", "braindecode"]
    monkeypatch.setattr(sys, "argv", ["mvpa.py", *options, "--csv", str(tmp_path / "rows.csv")])
    gc.freeze()  # the benchmark collects garbage before every call: not that of all other tests, too
    try:
        bench.main()
    finally:
        gc.unfreeze()
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {(row["contestant"], row["wanted"]) for row in rows} == {
        (name, wanted) for name in ("ours", "dense", "sdpa") for wanted in ("forward", "backward", "both")
    }
    assert all(float(row["median_ms"]) > 0 for row in rows)
    assert float(rows[0]["extra_mib"]) >= 0
    said = capsys.readouterr().out
    assert all(f"{name}: relative error" in said for name in ("ours", "dense"))
