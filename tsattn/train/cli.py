"""Lightning's command line for `fit`, `validate` and `test`, with our defaults, run folder and links."""

import argparse
import contextlib
import os
import re
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger

from tsattn import checkpoint, files, manual, trust
from tsattn.contracts import ForecastNetwork
from tsattn.data.modules import TableData
from tsattn.data.reading import Reading
from tsattn.recordings.places import revealed, shown
from tsattn.tasks.forecast import ForecastTask
from tsattn.tasks.progress import Progress
from tsattn.tasks.task import Task
from tsattn.train import arguments
from tsattn.train.folder import (
    FILES,
    RUNS,
    RunCheckpoint,
    Stop,
    WholeFileIO,
    begun,
    find_checkpoint,
    first_process,
    given_options,
)

RUN_DIR = "TSATTN_RUN_DIR"  # of a run in several processes
IN_RUN_DIR = "(run folder)"  # where a logger writes that was told no place


class TrainCLI(LightningCLI):
    """Lightning's command line with our defaults, run folder and links between network and data.

    Args:
        command: `fit`, `validate` or `test`.
        args: What follows it on the command line.
        held: Keeps the lock on the run folder.
    """

    def __init__(self, command: str, args: list[str], held: contextlib.ExitStack) -> None:
        self.command, self.held = command, held
        args = with_place_of_logger(args)
        self.data_options = {found[1] for one in args if (found := re.match(r"--data\.(?:init_args\.)?(\w+)", one))}
        trust.guard_parser()
        self.detects = any("tsattn.tasks.detect." in _text(argument) for argument in args)
        owned = re.compile(r"--data\.(init_args\.)?(context|horizon|segments|segment_seconds|max_channels)(=|$)")
        if wrong := next(filter(owned.match, args), None):
            name = owned.match(wrong)[2]  # type: ignore[index]
            where = "the checkpoint's" if self.detects else f"the network's to say: pass --model.network.{name}"
            raise ValueError(f"{wrong.partition('=')[0]} is {where}.")
        with warnings.catch_warnings():
            # The command line was read by tsattn/cli.py, which hands over what follows the command.
            warnings.filterwarnings("ignore", "LightningCLI's args parameter")
            super().__init__(
                L.LightningModule,
                L.LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                run=False,
                args=arguments.prepared(args, command),
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
                    "description": manual.DESCRIPTIONS[command],
                    "allow_abbrev": False,
                    "parser_mode": arguments.MODE,
                    "exit_on_error": False,
                },
            )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add our options and let network and data tell each other what they know."""
        parser.add_argument("--ckpt_path", type=str | None, default=None, help=manual.root(self.command, "ckpt_path"))
        parser.add_argument("--overwrite", type=bool, default=False, help=manual.root(self.command, "overwrite"))
        parser.add_argument("--trust_config", type=bool, default=False, help=manual.root(self.command, "trust_config"))
        of_fit = {  # the other commands take them, too, so that a run's config.yaml serves all three
            "test": (bool, True),
            "patience": (int, 3),
            "run_dir": (Path | None, None),
        }
        for name, (kind, default) in of_fit.items():
            text = manual.root(self.command, name) if self.command == "fit" else argparse.SUPPRESS
            parser.add_argument(f"--{name}", type=kind, default=default, help=text)
        if self.command != "fit":
            parser.add_argument("--out", type=Path | None, default=None, help=manual.root(self.command, "out"))
        network = "model.init_args.network.init_args"
        for name in ("context", "horizon", "segments", "segment_seconds", "max_channels"):
            parser.link_arguments("model", f"data.init_args.{name}", compute_fn=_length_by(name))
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        if self.detects:
            return  # its network is made of a checkpoint, and jsonargparse links no argument that is not there
        # These are read off the table. A network without the argument is not linked.
        # (Of a wrapped network they are given by hand: jsonargparse links no deeper argument that may be absent.)
        for name in ("variates", "features", "targets", "future_covariates", "known_rows"):
            parser.link_arguments("data", f"{network}.{name}", compute_fn=_by_table(name), apply_on="instantiate")

    def instantiate_classes(self) -> None:
        """Make data, task and trainer; what is typed as text reaches them as plain text."""
        typed, self.config = self.config, arguments.without_text(self.config)
        super().instantiate_classes()
        self.config = typed

    def before_instantiate_classes(self) -> None:
        """Decide the run folder, and refuse to write over another run."""
        self.resume: Path | None = None
        self._read_as_trained()
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
        logger = self.config.trainer.logger
        if getattr(logger, "init_args", None) and logger.init_args.get("save_dir") == IN_RUN_DIR:
            logger.init_args.save_dir = str(self.run_dir)
        if not first_process():
            return
        fresh = not self.run_dir.exists()
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if fresh:  # what refuses to start leaves no empty folder behind
            self.held.callback(self._remove_empty)
        self.held.enter_context(
            files.locked(
                self.run_dir,
                f"Another process is training in {self.run_dir}: wait for it, or choose another --run_dir.",
            )
        )
        if self.resume is None and begun(self.run_dir):
            if not self.config.overwrite:
                raise FileExistsError(
                    f"{self.run_dir} holds a run already. Choose another --run_dir, continue it with --ckpt_path last, "
                    "or pass --overwrite true."
                )
            there = [self.run_dir / name for name in FILES]
            for file in there:
                files.refuse_existing(file, overwrite=True)
            for file in there:
                file.unlink(missing_ok=True)

    def _remove_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.run_dir.rmdir()

    def _read_as_trained(self) -> None:
        """Read a table as that of the checkpoint was, where nothing else was said."""
        options = self.config.data.init_args
        asked = self.config.ckpt_path
        if asked is None or "time_format" not in options:  # recordings
            return
        path = find_checkpoint(asked, self.config.run_dir if self.command == "fit" else None)
        spec = checkpoint.read_entry(path).get("spec") or {}
        if "reading" not in spec:  # of recordings, or of before
            return
        usual = Reading()
        for name, value in {**spec["reading"], "freq": spec.get("gaps") or None}.items():
            said = name in self.data_options or name == "exclude"  # of columns that this table may not have
            if not said and name in options and options[name] == getattr(usual, name):
                options[name] = value

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Add the run folder's logger, checkpoints and early stopping to what the configuration asks for."""
        given = self.config_init.trainer
        kwargs["plugins"] = [WholeFileIO(), *(given.plugins or [])]
        if self.command != "fit":
            return super().instantiate_trainer(logger=False, enable_checkpointing=False, **kwargs)
        task: type[Task] = trust.imported(self.config.model.class_path, "The configuration", trust.TASKS, "task")
        monitor, mode = task.monitor
        self.best = RunCheckpoint(self.run_dir, "best", monitor=monitor, mode=mode)
        last = RunCheckpoint(self.run_dir, "last", save_on_train_epoch_end=True)
        within = RunCheckpoint(self.run_dir, "last", train_time_interval=timedelta(minutes=5))  # of a long epoch
        self.stop = Stop(monitor, mode=mode, patience=self.config.patience, check_finite=True)
        progress = Progress(self.best, self.run_dir / "metrics.csv", task.shown)
        own = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks] if given.callbacks else []
        if given.logger is False and any(isinstance(one, (LearningRateMonitor, DeviceStatsMonitor)) for one in own):
            kwargs["logger"] = CSVLogger(self.run_dir)  # they need one
        if given.default_root_dir is None:
            kwargs["default_root_dir"] = self.run_dir  # of loggers
        kwargs["callbacks"] = [progress, self.best, self.stop, last, within, *own]
        trainer = super().instantiate_trainer(**kwargs)
        if trainer.world_size > 1 and issubclass(task, ForecastTask):
            raise ValueError(
                f"{trainer.world_size} processes were asked for, and one is what forecasters train in so far: leave "
                "out --trainer.devices and --trainer.num_nodes."
            )
        return trainer

    def _new_run(self) -> Path:
        """Return a folder for a new run; processes that this one starts find its name in their environment."""
        if RUN_DIR in os.environ and not first_process():
            return Path(os.environ[RUN_DIR])
        started = [int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "SLURM_NTASKS")]
        if max(*started, self.config.trainer.num_nodes) > 1:
            raise ValueError("Several processes were started, which must agree on a run folder: pass --run_dir.")
        data = self.config.data.init_args
        name_of_data = shown(data["store"]) if data.get("store") else Path(str(data.get("table") or "data")).name
        source = data.get("dataset") or name_of_data.partition(".")[0]
        network = _network_of(self.config.model) or {"class_path": "network"}
        name = network["class_path"].rpartition(".")[2].lower()
        lengths = [str(_length(self.config.model, length)) for length in ("context", "horizon")]
        task = self.config.model.class_path.rpartition(".")[2].removesuffix("Task").lower()
        what = task if "None" in lengths else "-".join(lengths)
        made = RUNS / f"{datetime.now():%Y%m%d-%H%M%S}-{name}-{source}-{what}-{os.getpid()}"
        os.environ[RUN_DIR] = str(made)
        return made


def with_place_of_logger(args: list[str]) -> list[str]:
    """Let a logger that has to be told where to write, and is not, write into the run folder."""
    name = given_options(args).get("--trainer.logger", "").rpartition(".")[2]
    told = any(re.match(r"--trainer\.logger\.(init_args\.)?save_dir(=|$)", argument) for argument in args)
    if name not in ("CSVLogger", "TensorBoardLogger") or told:
        return args
    return [*args, f"--trainer.logger.save_dir={IN_RUN_DIR}"]


def _text(argument: str) -> str:
    """Return an argument, or the text of the configuration that it names."""
    value = argument.partition("=")[2] if argument.startswith("--") else argument
    is_file = value.endswith((".yaml", ".yml")) and Path(value).is_file()
    return Path(value).read_text() if is_file else argument


def _network_of(model: Any) -> Any:
    """Return class path and arguments of the innermost network of a model's configuration, or of its checkpoint."""
    arguments = (model or {}).get("init_args") or {}
    network = arguments.get("network") or arguments.get("scratch")
    start = arguments.get("run") or arguments.get("checkpoint")
    if not network and start:
        network = checkpoint.read_entry(revealed(start))["network"]
    while network and (network.get("init_args") or {}).get("network"):
        network = network["init_args"]["network"]
    return network


def _length(model: Any, name: str) -> int | float | None:
    """Return what the innermost network says of the windows that it reads."""
    network = _network_of(model)
    return network["init_args"].get(name) if network else None


def _length_by(name: str) -> Callable[[Any], int | float | None]:
    """Return `_length` of one name, as a function whose name the parser can show."""

    def length_of_network(model: Any) -> int | float | None:
        return _length(model, name)

    return length_of_network


def _by_table(name: str) -> Callable[[L.LightningDataModule], Any]:
    """Return a function that reads one of `TableSpec.network_arguments`; of recordings, what no table has."""

    def argument_of_network(data: L.LightningDataModule) -> Any:
        if isinstance(data, TableData):
            return data.spec.network_arguments[name]
        return "M" if name == "features" else None

    return argument_of_network


def of_checkpoint(args: list[str], command: str) -> list[str]:
    """Say to a task of recordings that its network is that of `--ckpt_path`, not what that run had started from.

    Args:
        args: Of the command line, with a configuration.
        command: `fit`, `validate` or `test`.
    """
    asked = given_options(args).get("--ckpt_path")
    if asked is None or {"-h", "--help"} & set(args):
        return args
    run_dir = given_options(args).get("--run_dir")
    path = find_checkpoint(asked, Path(run_dir) if run_dir and command == "fit" else None)
    recipe = checkpoint.read_entry(path)["network"]
    if issubclass(checkpoint.class_of(recipe), ForecastNetwork):
        return args
    start: dict[str, Any] = {"checkpoint": None}
    if recipe["class_path"].endswith(".SegmentClassifier"):
        start |= {"scratch": None, "run": arguments.Text(path)}
    return [*args, "--config", arguments.dump({"model": {"init_args": start}})]
