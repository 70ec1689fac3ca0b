"""`tsattn fit`, `validate` and `test`: Lightning's command line, one run folder, and a score that can be checked.

A run folder holds `config.yaml` (the whole configuration; `tsattn fit -c` takes it), `best.ckpt` (lowest validation
loss), `last.ckpt` (after every epoch and every five minutes; `--ckpt_path last` continues it), `metrics.csv` (a row per
epoch) and `metrics.json` (the test).
"""

import argparse
import json
import logging
import math
import os
import platform
import re
import sys
import time
import warnings
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins.io import TorchCheckpointIO

import tsattn
from tsattn import checkpoint, files
from tsattn.contracts import ForecastNetwork, Network, TableSpec
from tsattn.data.modules import TableData
from tsattn.metrics import ForecastErrors
from tsattn.tasks.forecast import ForecastTask
from tsattn.tasks.progress import Progress

RUNS = Path("runs")
FILES = ("config.yaml", "best.ckpt", "last.ckpt", "metrics.csv", "metrics.json")  # of a run folder


class WholeFileIO(TorchCheckpointIO):
    """Checkpoints appear whole or not at all, and are read without unpickling code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a neighbouring file, then replace."""
        files.write_atomically(path, lambda file: torch.save(checkpoint, file))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read a checkpoint of ours, or raise one sentence."""
        return checkpoint.read_lightning(path, map_location or "cpu")


class RunCheckpoint(ModelCheckpoint):
    """One file of a fixed name in the run folder, replaced as a whole; the folder may be moved between two calls."""

    def __init__(self, folder: Path, name: str, **when: Any) -> None:
        super().__init__(folder, name, save_top_k=1, enable_version_counter=False, **when)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score so far along to where the folder is now."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        moved = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        models = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": models, "dirpath": self.dirpath})


class TrainCLI(LightningCLI):
    """Lightning's command line with our defaults, run folder and links between network and data.

    Args:
        command: `fit`, `validate` or `test`.
        args: What follows it on the command line.
    """

    def __init__(self, command: str, args: list[str]) -> None:
        self.command = command
        owned = re.compile(r"--data\.(init_args\.)?(context|horizon)(=|$)")
        if wrong := next(filter(owned.match, args), None):
            name = owned.match(wrong)[2]  # type: ignore[index]
            raise ValueError(f"{wrong.partition('=')[0]} is the network's to say: pass --model.network.{name}.")
        with warnings.catch_warnings():
            # The command line was read by tsattn/cli.py, which hands over what follows the command.
            warnings.filterwarnings("ignore", "LightningCLI's args parameter")
            super().__init__(
                L.LightningModule,
                L.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                run=False,
                args=args,
                save_config_callback=None,
                seed_everything_default=2021,
                auto_configure_optimizers=False,
                trainer_defaults={
                    "max_epochs": 10,
                    "devices": 1,
                    "logger": False,  # tasks/progress.py writes metrics.csv
                    "enable_progress_bar": False,  # tasks/progress.py shows one
                    "enable_model_summary": False,
                    "num_sanity_val_steps": 0,
                },
                parser_kwargs={
                    "prog": f"tsattn {command}",
                    "description": DESCRIPTIONS[command],
                    "allow_abbrev": False,
                    "exit_on_error": False,
                },
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our options and let network and data tell each other what they know."""
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=CKPT_HELP[self.command])
        parser.add_argument("--overwrite", type=bool, default=False, help="Write over files that exist already.")
        of_fit = {  # the other commands take them, too, so that a run's config.yaml serves all three
            "test": (bool, True, "Test the best checkpoint once at the end."),
            "patience": (int, 3, "Epochs without a better val_loss."),
            "run_dir": (Path | None, None, "Default: a new folder in ./runs."),
        }
        for name, (kind, default, text) in of_fit.items():
            help_text = text if self.command == "fit" else argparse.SUPPRESS
            parser.add_argument(f"--{name}", type=kind, default=default, help=help_text)
        if self.command != "fit":
            parser.add_argument("--out", type=Path | None, default=None, help="Write the scores to this JSON file.")
        network = "model.init_args.network.init_args"
        for name in ("context", "horizon"):
            parser.link_arguments("model", f"data.init_args.{name}", compute_fn=partial(_length, name=name))
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        # These are read off the table. A network without the argument is not linked.
        # (Of a wrapped network they are given by hand: jsonargparse links no deeper argument that may be absent.)
        parser.link_arguments("data", f"{network}.variates", compute_fn=_count_series, apply_on="instantiate")
        parser.link_arguments("data", f"{network}.features", compute_fn=_features, apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Decide the run folder, and refuse to write over another run."""
        self.resume: Path | None = None
        if self.config.ckpt_path is not None and "weights" in self.config.model.init_args:
            self.config.model.init_args.weights = None  # what the run started from, maybe long gone
        if self.command != "fit":
            if self.config.out is not None:
                files.refuse_existing(self.config.out, self.config.overwrite)
            return
        run_dir = self.config.run_dir
        if self.config.ckpt_path is not None:
            self.resume = find_checkpoint(self.config.ckpt_path, run_dir)
            run_dir = run_dir or self.resume.parent
        self.run_dir = run_dir or self._new_run()
        if self.resume is None and self.run_dir.exists() and any(self.run_dir.iterdir()):
            if not self.config.overwrite:
                raise FileExistsError(
                    f"{self.run_dir} holds a run already. Choose another --run_dir, continue it with --ckpt_path last, "
                    "or pass --overwrite true."
                )
            for name in FILES:
                (self.run_dir / name).unlink(missing_ok=True)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Add the run folder's logger, checkpoints and early stopping to what the configuration asks for."""
        given = self.config_init.trainer
        kwargs["plugins"] = [WholeFileIO(), *(given.plugins or [])]
        if self.command != "fit":
            return super().instantiate_trainer(logger=False, enable_checkpointing=False, **kwargs)
        self.best = RunCheckpoint(self.run_dir, "best", monitor="val_loss", mode="min")
        last = RunCheckpoint(self.run_dir, "last", save_on_train_epoch_end=True)
        within = RunCheckpoint(self.run_dir, "last", train_time_interval=timedelta(minutes=5))  # of a long epoch
        stop = EarlyStopping("val_loss", mode="min", patience=self.config.patience, check_finite=True)
        progress = Progress(self.best, self.run_dir / "metrics.csv")
        kwargs["callbacks"] = [progress, self.best, stop, last, within, *(given.callbacks or [])]
        trainer = super().instantiate_trainer(**kwargs)
        if trainer.world_size > 1:
            raise ValueError(
                f"{trainer.world_size} processes were asked for, and one is what tsattn trains in so far: leave out "
                "--trainer.devices and --trainer.num_nodes."
            )
        return trainer

    def _new_run(self) -> Path:
        network = self.config.model.init_args.network
        data = self.config.data.init_args
        source = data.get("dataset") or Path(str(data.get("table") or "data")).name.partition(".")[0]
        name = network.class_path.rpartition(".")[2].lower()
        lengths = "-".join(str(_length(self.config.model, length)) for length in ("context", "horizon"))
        return RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{name}-{source}-{lengths}-{os.getpid()}"


def _length(model: Any, name: str) -> int | None:
    """Return the context or horizon of the network in a model's configuration; a wrapped network is looked into."""
    inner = model
    while inner and "network" in inner.get("init_args", {}):
        inner = inner["init_args"]["network"]
    return inner["init_args"].get(name) if inner and inner is not model else None


def _count_series(data: L.LightningDataModule) -> int | None:
    return len(data.spec.variates) if isinstance(data, TableData) else None


def _features(data: L.LightningDataModule) -> str:
    return data.features if isinstance(data, TableData) else "M"


DESCRIPTIONS = {
    "fit": "Train a forecaster on a table, keep the best checkpoint, and test it once on every window.",
    "validate": "Score a checkpoint on the validation windows.",
    "test": "Score a checkpoint on every test window.",
}
CKPT_HELP = {
    "fit": "Continue this checkpoint; `last` continues the newest run (or the one in --run_dir).",
    "validate": "The checkpoint to score; `best` or `last` mean those of the newest run.",
    "test": "The checkpoint to score; `best` or `last` mean those of the newest run.",
}


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
    if not found:
        raise FileNotFoundError(f"No {asked}.ckpt in {run_dir or f'{RUNS}/*'}: train first, or name a checkpoint.")
    return max(found, key=lambda path: path.stat().st_mtime)


def fit(args: list[str]) -> None:
    """Run `tsattn fit`."""
    quiet()
    cli = TrainCLI("fit", with_config_of_checkpoint(args, "fit"))
    if cli.resume is not None:
        done = checkpoint.read_lightning(cli.resume)["epoch"] + 1
        if done > (cli.trainer.max_epochs or done):
            raise ValueError(
                f"{cli.resume} has {done} epochs behind it, expected fewer than --trainer.max_epochs "
                f"{cli.trainer.max_epochs}: raise that."
            )
    for part in ("val", *(["test"] if cli.config.test else [])):
        if not cli.datamodule.window_counts[part]:
            option = "" if part == "val" else ", or leave the test out by --test false"
            raise ValueError(f"There are no {part} windows: give that part rows by --data.split{option}.")
    cli.run_dir.mkdir(parents=True, exist_ok=True)
    print(describe(cli))
    if cli.resume is None or not (cli.run_dir / "config.yaml").exists():
        config = cli.config.clone()
        config.run_dir, config.ckpt_path, config.overwrite = None, None, False  # of this call, not of the run
        config.trainer.limit_val_batches = config.trainer.limit_test_batches = None
        cli.parser.save(config, cli.run_dir / "config.yaml", skip_none=False, overwrite=True)
    started = time.perf_counter()
    try:
        cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.resume, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        if (cli.run_dir / "last.ckpt").exists():
            print(f"\ninterrupted; continue with: tsattn fit --run_dir {cli.run_dir} --ckpt_path last")
        else:
            print("\ninterrupted before the first checkpoint")
        sys.exit(130)
    seconds = time.perf_counter() - started
    best = cli.run_dir / "best.ckpt"
    best_epoch = checkpoint.read_lightning(best)["epoch"] + 1
    epochs = cli.trainer.current_epoch
    if epochs < (cli.trainer.max_epochs or epochs):
        print(f"stopped early: val_loss has not fallen for {cli.config.patience} epochs")
    print(f"best checkpoint: {best} (epoch {best_epoch}, val_loss {float(cli.best.best_model_score or math.nan):.4f})")
    if not cli.config.test:
        print(f"test it with: tsattn test --ckpt_path {best}")
        return
    cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=best, weights_only=True, verbose=False)
    about = {
        "checkpoint": str(best),
        "best_epoch": best_epoch,
        "epochs_run": epochs,
        "train_seconds": round(seconds, 1),
    }
    write_scores(cli, "test", cli.run_dir / "metrics.json", about)


def evaluate(command: str, args: list[str]) -> None:
    """Run `tsattn test` or `tsattn validate`; without `-c`, the configuration beside the checkpoint is taken."""
    quiet()
    cli = TrainCLI(command, with_config_of_checkpoint(args, command))
    path = find_checkpoint(cli.config.ckpt_path) if cli.config.ckpt_path is not None else None
    if path is None and cli.config.model.init_args.get("weights") is None:
        raise ValueError(f"tsattn {command} needs --ckpt_path (a trained run) or --model.weights (imported weights).")
    split: Literal["val", "test"] = "val" if command == "validate" else "test"
    if path is not None:
        cli.model.spec = cli.model.load_weights(path)
    run = cli.trainer.validate if command == "validate" else cli.trainer.test
    run(cli.model, datamodule=cli.datamodule, verbose=False)
    about = {"checkpoint": str(path or cli.config.model.init_args.weights)}
    write_scores(cli, split, cli.config.out, about)


def with_config_of_checkpoint(args: list[str], command: str) -> list[str]:
    """Put the `config.yaml` beside `--ckpt_path` in front if no configuration was given.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or no configuration at all.
        ValueError: If the checkpoint is damaged or not ours.
    """
    if any(a == "--config" or a.startswith("--config=") for a in args) or {"-h", "--help"} & set(args):
        return args
    given: dict[str, str] = {}
    for argument, follower in zip(args, [*args[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        given[name] = value if equals else follower
    asked, run_dir = given.get("--ckpt_path"), given.get("--run_dir")
    if asked is None and ("--model" in given or "--model.class_path" in given):
        return args
    if asked is None:
        raise FileNotFoundError(
            f"No configuration was given: begin with tsattn {command} -c forecast/itransformer.yaml."
        )
    path = find_checkpoint(asked, Path(run_dir) if run_dir else None)
    checkpoint.load(path, Network)
    config = (path if path.is_dir() else path.parent) / "config.yaml"
    if not config.exists():
        raise FileNotFoundError(f"There is no config.yaml beside {path}: pass the run's configuration by -c.")
    return ["--config", str(config), *args]


def describe(cli: TrainCLI) -> str:
    """Return the lines that a run starts with: network, table, windows, folder."""
    network: ForecastNetwork = cli.model.network
    data: TableData = cli.datamodule
    size = sum(p.numel() for p in network.parameters() if p.requires_grad)
    windows = ", ".join(f"{name} {count:,}" for name, count in data.window_counts.items())
    return (
        f"{type(network).__name__} ({size:,} parameters): {network.context} -> {network.horizon} steps\n"
        f"{data.summary}\nwindows: {windows}\nrun folder: {cli.run_dir}"
    )


def score(task: ForecastTask, data: TableData, split: Literal["val", "test"]) -> dict[str, Any]:
    """Return the scores of the finished test or validation in both units, with the naive rows beside them."""
    spec: TableSpec = task.spec or data.spec
    scale = spec.scale[: spec.targets]
    errors = task.errors
    naive: dict[str, ForecastErrors] = {}
    for future, forecasts in data.naive_forecasts(split, spec=spec):
        if naive and all(int(e.windows) >= int(errors.windows) for e in naive.values()):
            break  # --trainer.limit_test_batches: the same windows, not more
        for name, forecast in forecasts.items():
            naive.setdefault(name, ForecastErrors(spec.targets)).update(forecast, future)
    per_target = {name: values.tolist() for name, values in errors.per_target(scale).items()}
    return {
        "split": split,
        "windows": int(errors.windows),
        "windows_of_the_split": data.window_counts[split],
        **_numbers(errors.compute()),
        "original_units": _numbers(errors.in_units(scale)),
        "naive": {
            name: {**_numbers(e.compute()), "original_units": _numbers(e.in_units(scale))} for name, e in naive.items()
        },
        "per_target": {
            name: {key: _finite(values[i]) for key, values in per_target.items()}
            for i, name in enumerate(spec.target_names)
        },
    }


def _numbers(scores: dict[str, torch.Tensor]) -> dict[str, float | None]:
    return {name: _finite(float(value)) for name, value in scores.items()}


def _finite(value: float) -> float | None:
    """Return the number, or None (JSON's null) where nothing was counted."""
    return value if math.isfinite(value) else None


def write_scores(cli: TrainCLI, split: Literal["val", "test"], path: Path | None, about: dict[str, Any]) -> None:
    """Print the scores as a table and write them to `path`, if one is given."""
    network: ForecastNetwork = cli.model.network
    scores = score(cli.model, cli.datamodule, split)
    report = {
        **scores,
        "network": network.recipe,
        "data": {"summary": cli.datamodule.summary, "fingerprint": cli.datamodule.fingerprint},
        "seed": cli.config.seed_everything,
        "loss": cli.model.loss_name,
        **about,
        "versions": {"tsattn": tsattn.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"device": str(cli.trainer.strategy.root_device), "threads": torch.get_num_threads()},
        "command": " ".join(["tsattn", *sys.argv[1:]]),
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
    }
    if path is not None:
        text = json.dumps(report, indent=2, allow_nan=False, default=str)
        files.write_atomically(path, lambda file: file.write(text.encode()))
    counted, whole = scores["windows"], scores["windows_of_the_split"]
    print(f"\n{split} split, {'all ' if counted == whole else f'{counted:,} of '}{whole:,} windows")
    print(f"{'':16}{'mse':>10}{'mae':>10}{'mse (units)':>14}{'mae (units)':>14}")
    for name, row in {type(network).__name__: scores, **scores["naive"]}.items():
        units = row["original_units"]
        cells = [row["mse"], row["mae"], units["mse"], units["mae"]]
        mse, mae, mse_units, mae_units = (math.nan if cell is None else cell for cell in cells)
        print(f"{name:16}{mse:>10.4f}{mae:>10.4f}{mse_units:>14.5g}{mae_units:>14.5g}")
    if len(scores["per_target"]) > 1:
        print("(units: means over all targets, whatever their units; metrics.json has each target alone)")
    if path is not None:
        print(f"written to {path}")


def quiet() -> None:
    """Silence Lightning's banners, tips and device lines, and warnings about what this module means to do."""
    for expected in (
        "Checkpoint directory",  # the run folder holds config.yaml already
        "The number of training batches",  # nothing is logged by step
        r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning 2.6 with torch 2.13
    ):
        warnings.filterwarnings("ignore", f".*{expected}")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=False)
    logging.getLogger("tsattn").setLevel(logging.INFO)
