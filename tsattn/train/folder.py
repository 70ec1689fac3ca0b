"""A run's folder: which files it holds, how checkpoints are written, and what `--ckpt_path` means."""

import os
import platform
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

import tsattn
from tsattn import checkpoint, files
from tsattn.contracts import Network
from tsattn.train.config import of_run

RUNS = Path("runs")
FILES = ("config.yaml", "best.ckpt", "last.ckpt", "metrics.csv", "metrics.json")  # of a run folder


class WholeFileIO(TorchCheckpointIO):
    """Checkpoints appear whole or not at all, and are read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a neighbouring file, then replace.

        Raises:
            OSError: If the disk is full, with the file's name.
        """
        files.write_atomically(path, lambda file: _save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint of ours, or raise one sentence."""
        return checkpoint.read_lightning(path, map_location or "cpu")


def _save(content: dict[str, Any], file: Any) -> None:
    """Write by torch, whose own error of a full disk says neither that it is full nor where."""
    told = _Told(file)
    try:
        torch.save(content, told)
    except RuntimeError as problem:
        if told.problem is None:
            raise
        raise told.problem from problem


class _Told:
    """A file that remembers why it could not be written."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.problem: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return int(self.file.write(data))
        except OSError as problem:
            self.problem = problem
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class RunCheckpoint(ModelCheckpoint):
    """One file of a fixed name in the run folder, replaced as a whole; the folder may be moved between two calls."""

    def __init__(self, folder: Path, name: str, **when: Any) -> None:
        super().__init__(folder, name, save_top_k=1, enable_version_counter=False, **when)

    def state_dict(self) -> dict[str, Any]:
        """Return the scores so far, with names of files in the place of whole paths, which may hold a person's name."""
        plain = super().state_dict()
        names = {
            key: Path(plain[key]).name if plain[key] else plain[key]
            for key in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        best = {Path(path).name: score for path, score in plain["best_k_models"].items()}
        return {**plain, **names, "best_k_models": best, "dirpath": ""}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score so far along to where the folder is now; no other file than this one's is meant."""
        own = f"{self.dirpath}/{self.filename}.ckpt"

        def here(path: str) -> str:
            return own if path else path

        moved = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        models = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": models, "dirpath": self.dirpath})


class Stop(EarlyStopping):
    """Early stopping of a run; one that goes on counts the epochs before, by the patience of now."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take everything but the patience, which the command line says."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    @property
    def stopped_early(self) -> bool:
        """Whether it has ended the run, now or before."""
        return self.wait_count >= self.patience

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Do not train on where the run had stopped already."""
        if self.stopped_early:
            trainer.should_stop = True


def find_checkpoint(asked: str, run_dir: Path | None = None) -> Path:
    """Return the file that `--ckpt_path` means.

    Raises:
        FileNotFoundError: If there is none, saying where it was looked for.
    """
    if asked not in ("best", "last"):
        path = Path(asked)
        if not path.exists():
            raise FileNotFoundError(f"No checkpoint at {asked}. Runs keep theirs in {RUNS}/<run>/best.ckpt.")
        return path / "best.ckpt" if (path / "best.ckpt").exists() else path
    folders = [run_dir] if run_dir else [p.parent for p in RUNS.glob(f"*/{asked}.ckpt")]
    found = [folder / f"{asked}.ckpt" for folder in folders if (folder / f"{asked}.ckpt").exists()]
    if not found and run_dir and (run_dir / "config.yaml").exists():
        raise FileNotFoundError(
            f"No {asked}.ckpt in {run_dir}: the run was ended before its first checkpoint. Start it again by "
            f"`tsattn fit -c {shlex.quote(str(run_dir / 'config.yaml'))} --run_dir {shlex.quote(str(run_dir))}`."
        )
    if not found:
        raise FileNotFoundError(f"No {asked}.ckpt in {run_dir or f'{RUNS}/*'}: train first, or name a checkpoint.")
    return max(found, key=lambda path: path.stat().st_mtime)


def begun(run_dir: Path) -> bool:
    """Return whether a folder holds something that a new run must not mix with.

    A configuration, a table of epochs and half-written files alone are what is left of a start that was refused, or
    ended before the first checkpoint: the same command starts it again.
    """
    left = ("config.yaml", "metrics.csv", "lightning_logs")
    return any(file.name not in left and not file.name.endswith(".part") for file in run_dir.iterdir())


def given_options(args: list[str]) -> dict[str, str]:
    """Return the options of a command line by name; of one that stands twice, the last."""
    given: dict[str, str] = {}
    for argument, follower in zip(args, [*args[1:], ""][: len(args)], strict=True):
        name, equals, value = argument.partition("=")
        given[name] = value if equals else follower
    return given


def with_config_of_checkpoint(args: list[str], command: str) -> list[str]:
    """Put what is believed of the `config.yaml` beside `--ckpt_path` in front if no configuration was given.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or no configuration at all.
        ValueError: If the checkpoint is damaged or not ours.
    """
    if any(a == "--config" or a.startswith("--config=") for a in args) or {"-h", "--help"} & set(args):
        return args
    given = given_options(args)
    asked, run_dir = given.get("--ckpt_path"), given.get("--run_dir")
    if asked is None and ("--model" in given or "--model.class_path" in given):
        return args
    if asked is None:
        raise FileNotFoundError(
            f"No configuration was given: begin with tsattn {command} -c forecast/itransformer.yaml."
        )
    path = find_checkpoint(asked, Path(run_dir) if run_dir else None)
    recipe = checkpoint.load(path, Network).network.recipe
    folder = path if path.is_dir() else path.parent
    config = folder / "config.yaml"
    if not config.exists():
        raise FileNotFoundError(f"There is no config.yaml beside {path}: pass the run's configuration by -c.")
    believed, left_out = of_run(config, recipe, command)
    if left_out and command == "fit" and first_process():
        whole = f"-c {shlex.quote(str(config))} --trust_config"
        print(f"left out of {config}: {', '.join(left_out)}. If you wrote it, take all of it by `{whole}`.")
    return ["--config", believed, *args]


def first_process() -> bool:
    """Return whether this process is the only one, or the first of several, by what their launcher says."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))


def provenance(cli: Any) -> dict[str, Any]:
    """Return what a score must say of the run that made it, in plain data."""
    return {
        "seed": cli.config.seed_everything,
        "versions": {"tsattn": tsattn.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {
            "device": str(cli.trainer.strategy.root_device),
            "processes": cli.trainer.world_size,
            "threads": torch.get_num_threads(),
        },
        "command": shlex.join(["tsattn", *sys.argv[1:]]),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
