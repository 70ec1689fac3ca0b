"""How a preparation ends that does not come to its end: Ctrl-C, a killed parent, a full disk; and that it goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from edf_files import noise, write_edf

from tsattn.recordings.store import open_store

pytest.importorskip("zarr")
SLOW = """
import os, sys, time
from dataclasses import dataclass
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import Recording, make_channels

@dataclass(frozen=True)
class Slow:
    path: str

    def read(self, rows, start, stop):
        with open(self.path, "a") as log:
            log.write(f"{os.getpid()}\\n")
        time.sleep(0.3)
        return np.ones((len(rows), stop - start), np.float32)

if __name__ == "__main__":
    table = make_channels(["A1", "A2", "A3", "A4"], 1024.0)
    them = [Recording(Slow(sys.argv[2]), id, id, table, 600.0) for id in ("one", "two")]
    unseen = dict(bad_rules=(), implausible="keep")
    try:
        prepare(them, sys.argv[1], memory=3.9e6, workers=int(sys.argv[3]), **unseen)
    except KeyboardInterrupt as stopped:
        print("stopped:", stopped)
        sys.exit(130)
"""


def start(folder: Path, workers: int) -> subprocess.Popen[str]:
    (folder / "slow.py").write_text(SLOW)
    return subprocess.Popen(
        [sys.executable, str(folder / "slow.py"), str(folder / "s.zarr"), str(folder / "log"), str(workers)],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(what, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def members(session: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(rest[2]) == session and state != "Z":
                found.append(int(entry.name))
    return found


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@linux
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_is_one_sentence_leaves_no_process_and_the_store_goes_on(tmp_path: Path, workers: int):
    running = start(tmp_path, workers)
    wait_for(lambda: (tmp_path / "log").exists() and running.poll() is None)
    time.sleep(0.5)
    begun = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to parent and workers
    out, err = running.communicate(timeout=30)
    assert time.monotonic() - begun < 15
    assert running.returncode == 130
    assert "run the same again, which goes on where it stopped" in out
    assert "Traceback" not in err
    wait_for(lambda: members(running.pid) == [], 2.0)  # one that was killed is gone when the system has taken note
    with pytest.raises(ValueError, match="half-written: 2 of 2 recordings"):
        open_store(tmp_path / "s.zarr")


@linux
@pytest.mark.parametrize("when", ["while they begin", "while they work"])
def test_workers_of_a_killed_parent_end_with_it(tmp_path: Path, when: str):
    running = start(tmp_path, 2)
    log = tmp_path / "log"
    if when == "while they work":
        wait_for(lambda: log.exists() and len(set(log.read_text().split())) == 2)
    else:
        wait_for(lambda: len(members(running.pid)) >= 3)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    before = log.read_text() if log.exists() else ""
    limit = 2.0 if when == "while they work" else 30.0  # Python itself has to begin, and import, before it can end
    wait_for(lambda: members(running.pid) == [], limit)
    if when == "while they begin":
        assert (log.read_text() if log.exists() else "") == before


@linux
@pytest.mark.parametrize("command", ["inspect", "prepare"])
def test_ctrl_c_on_the_command_line_is_one_line_and_130(tmp_path: Path, command: str):
    for number in range(40):
        write_edf(tmp_path / "in" / f"{number}.edf", noise(8, 30_000), [500] * 8) if number else (
            (tmp_path / "in").mkdir()
        )
    code = "import sys; from tsattn.cli import main; print('begun', flush=True); main(sys.argv[1:])"
    where = ["--out", str(tmp_path / "s.zarr")] if command == "prepare" else []
    running = subprocess.Popen(
        [sys.executable, "-c", code, "recordings", command, str(tmp_path / "in"), *where],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert running.stdout is not None
    running.stdout.readline()
    time.sleep(3.0)
    assert running.poll() is None, running.communicate()
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130
    lines = [line for line in err.splitlines() if line.strip() and "h/s" not in line and "%|" not in line]
    assert len(lines) == 1, err
    assert lines[0].startswith("tsattn recordings: interrupted")
