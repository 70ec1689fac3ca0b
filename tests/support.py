"""What several tests need: where things are, and the command line in a process of its own."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("TSATTN_SHARED", ROOT.parent / "shared"))


# What commands import, so that a fork has it: a process of its own would need seconds for it.
PRELOADED = [
    f"tsattn.{name}"
    for name in (
        "cli", "train", "tasks.forecast", "tasks.detect", "tasks.pretrain", "commands.tables", "commands.weights",
        "commands.detect", "commands.recordings", "commands.events", "models.itransformer", "models.timexer",
        "models.patchtst", "models.gateformer", "forecasting.forecaster", "forecasting.plots", "recordings.modules",
        "recordings.inspect", "recordings.plots", "detection.report",
    )
]  # fmt: skip
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch and matplotlib are imported
os.environ.setdefault("MPLBACKEND", "Agg")
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(PRELOADED)


def tsattn(*args: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user does, forked off one that has imported everything."""
    return forked(_command, [str(arg) for arg in args], cwd=cwd, **environment)


def forked(function: Callable[..., None], *args: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Call a function in such a process; what it prints comes back."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "out"), Path(folder, "err")
        process = _server.Process(target=_redirected, args=(function, args, cwd, {**os.environ, **environment}, *told))
        process.start()
        process.join()
        out, err = (path.read_text() for path in told)
    return subprocess.CompletedProcess(args, process.exitcode, out, err)


def _redirected(
    function: Callable[..., None], args: Sequence[object], cwd: Path, environment: dict[str, str], out: Path, err: Path
) -> None:
    for descriptor, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    os.environ.clear()  # of when the server was started
    os.environ.update(environment)
    os.chdir(cwd)
    function(*args)


def _command(args: list[str]) -> None:
    from tsattn.cli import main

    sys.argv = [str(ROOT / "cli.py"), *args]
    main()


def alone(*args: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that begins from nothing, where that is the point."""
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *map(str, args)],
        cwd=cwd,
        text=True,
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )


SMALL = (
    "--model.network.d_model=16 --model.network.heads=2 --model.network.d_ff=16 --model.network.layers=1 "
    "--model.network.context=48 --model.network.horizon=12 --model.lr=0.001 --data.batch_size=64 "
    "--trainer.max_epochs=2"
).split()
