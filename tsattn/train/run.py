"""`tsattn fit`, `validate` and `test`: Lightning's command line, one run folder, and a score that can be checked.

A run folder holds `config.yaml` (the whole configuration; `tsattn fit -c` takes it), `best.ckpt` (best validation
score), `last.ckpt` (after every epoch and every five minutes; `--ckpt_path last` continues it), `metrics.csv` (a row
per epoch) and `metrics.json` (the test).
"""

import contextlib
import logging
import math
import re
import shlex
import sys
import time
import warnings
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Literal

from tsattn import checkpoint, messages, trust
from tsattn.recordings.places import hide_places
from tsattn.tasks.forecast import ForecastTask
from tsattn.tasks.recordings import RecordingTask
from tsattn.train.cli import TrainCLI, of_checkpoint
from tsattn.train.config import check_own
from tsattn.train.failures import again, said
from tsattn.train.folder import find_checkpoint, first_process, given_options, with_config_of_checkpoint


def scores_of(cli: TrainCLI) -> ModuleType:
    """Return the module that describes and scores a run of this kind."""
    if isinstance(cli.model, ForecastTask):
        from tsattn.train import tables

        return tables
    from tsattn.train import recordings

    return recordings


@contextmanager
def configured(command: str, args: list[str]) -> Iterator[TrainCLI]:
    """Read a command line, and hold its run folder until the command is done.

    Raises:
        ValueError: If something may not be imported, or another process trains in the folder.
    """
    quiet()
    with trust.trusting(check_own(args, trusts(args))), contextlib.ExitStack() as held, said():
        try:
            cli = TrainCLI(command, of_checkpoint(with_config_of_checkpoint(args, command), command), held)
        except (ValueError, ArgumentError, ImportError) as problem:
            denied = re.search(r"Importing '([\w.]+)' is not allowed", str(problem))
            if denied is None:
                raise
            raise ValueError(
                f"{denied[1]} is neither tsattn's nor one of Lightning's callbacks, loggers, strategies, plugins or "
                "profilers, so it is not imported. If you trust it, pass --trust_config."
            ) from problem
        yield cli


def trusts(args: list[str]) -> bool:
    """Return whether `--trust_config` is said, bare or with a plain yes; any other word trusts nothing."""
    asked = given_options(args).get("--trust_config", "false").lower()
    bare = "--trust_config" in args and (asked == "" or asked.startswith("-"))
    return bare or asked in ("true", "yes")


def fit(args: list[str]) -> None:
    """Run `tsattn fit`."""
    with configured("fit", args) as cli, said(cli.run_dir):
        _fit(cli)


def _fit(cli: TrainCLI) -> None:
    if cli.resume is not None:
        done = checkpoint.read_lightning(cli.resume)["epoch"] + 1
        if done > (cli.trainer.max_epochs or done) > 0:
            raise ValueError(
                f"{cli.resume} has {done} epochs behind it, expected fewer than --trainer.max_epochs "
                f"{cli.trainer.max_epochs}: raise that."
            )
    if cli.trainer.limit_val_batches == 0:
        raise ValueError("--trainer.limit_val_batches 0 leaves nothing to choose the best epoch by: leave it out.")
    check_options(cli)
    check_windows(cli, ["val", *(["test"] if cli.config.test else [])])
    first = cli.trainer.is_global_zero
    if first:
        print(scores_of(cli).describe(cli))
    if first and (cli.resume is None or not (cli.run_dir / "config.yaml").exists()):
        config = cli.config.clone()
        config.run_dir, config.ckpt_path = None, None  # of this call, not of the run
        config.overwrite = config.trust_config = False
        config.trainer.limit_val_batches = config.trainer.limit_test_batches = None
        hide_places(config)
        cli.parser.save(config, cli.run_dir / "config.yaml", skip_none=False, overwrite=True)
    started = time.perf_counter()
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.resume, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        if first:
            _tell_of_interrupt(cli)
        sys.exit(130)
    seconds = time.perf_counter() - started
    best = cli.run_dir / "best.ckpt"
    if not best.exists():  # --trainer.fast_dev_run keeps none
        print("no checkpoint was kept, so nothing is tested")
        return
    best_epoch = checkpoint.read_lightning(best)["epoch"] + 1
    epochs = cli.trainer.current_epoch
    name = cli.best.monitor
    if first and cli.stop.stopped_early:
        print(f"stopped early: {name} has not become better for {cli.config.patience} epochs")
    if first:
        score = math.nan if cli.best.best_model_score is None else float(cli.best.best_model_score)
        print(f"best checkpoint: {best} (epoch {best_epoch}, {name} {score:.4f})")
    if not cli.config.test:
        if first and cli.datamodule.window_counts["test"]:
            print(f"test it with: tsattn test --ckpt_path {shlex.quote(str(best))}")
        return
    cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=best, weights_only=True, verbose=False)
    about = {
        "checkpoint": str(best),
        "best_epoch": best_epoch,
        "epochs_run": epochs,
        "train_seconds": round(seconds, 1),
    }
    scores_of(cli).write_scores(cli, "test", cli.run_dir / "metrics.json", about)


def check_options(cli: TrainCLI) -> None:
    """Raise ValueError for options of recordings that the task cannot take, before one of them is opened."""
    if isinstance(cli.model, RecordingTask):
        cli.model.check_options(cli.datamodule)


def _tell_of_interrupt(cli: TrainCLI) -> None:
    """Say what an interrupted run leaves, and how it goes on."""
    best, last = (cli.run_dir / f"{name}.ckpt" for name in ("best", "last"))
    if best.exists():
        epoch = checkpoint.read_lightning(best)["epoch"] + 1
        print(f"\ninterrupted; the best epoch so far, {epoch}, is kept in {best}")
    else:
        print("\ninterrupted before the first epoch was scored: there is no best.ckpt")
    print(f"continue with: {again(cli.run_dir)}" if last.exists() else "the same command starts it again")


def check_windows(cli: TrainCLI, parts: list[str]) -> None:
    """Raise ValueError if a part that is to be scored has no window."""
    for part in parts:
        if not cli.datamodule.window_counts[part]:
            option = ", or leave the test out by --test false" if part == "test" and cli.command == "fit" else ""
            table = isinstance(cli.model, ForecastTask)
            what = f"{'rows' if table else 'recordings'} by {messages.option('split' if table else 'splits')}"
            raise ValueError(f"There are no {part} windows: give that part {what}{option}.")


def evaluate(command: str, args: list[str]) -> None:
    """Run `tsattn test` or `tsattn validate`; without `-c`, the configuration beside the checkpoint is taken."""
    with configured(command, args) as cli:
        _evaluate(command, cli)


def _evaluate(command: str, cli: TrainCLI) -> None:
    path = find_checkpoint(cli.config.ckpt_path) if cli.config.ckpt_path is not None else None
    if path is None and cli.config.model.init_args.get("weights") is None:
        weights = messages.advice("{weights} (imported weights)")
        of_tables = f" or {weights}" if weights and isinstance(cli.model, ForecastTask) else ""
        raise ValueError(f"tsattn {command} needs --ckpt_path (a trained run){of_tables}.")
    check_options(cli)
    split: Literal["val", "test"] = "val" if command == "validate" else "test"
    check_windows(cli, [split])
    if path is not None:
        cli.model.spec = cli.model.load_weights(path)
    run = cli.trainer.validate if command == "validate" else cli.trainer.test
    run(cli.model, datamodule=cli.datamodule, verbose=False)
    about = {"checkpoint": str(path or cli.config.model.init_args.get("weights"))}
    scores_of(cli).write_scores(cli, split, cli.config.out, about)


def quiet() -> None:
    """Silence Lightning's banners and tips, warnings about what this module means to do, and all processes but one."""
    for expected in (
        "Checkpoint directory",  # the run folder holds config.yaml already
        "The number of training batches",  # nothing is logged by step
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 with torch 2.13
    ):
        warnings.filterwarnings("ignore", f".*{expected}")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=False)
    logging.getLogger("tsattn").setLevel(logging.INFO if first_process() else logging.ERROR)
