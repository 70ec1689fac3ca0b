"""The help of `fit`, `validate` and `test`: the options that people use, by job; `--help all` has every one.

Sentences, choices and defaults are read off the classes' docstrings and signatures in their source, so that the help
answers without importing what those classes need.
"""

import ast
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tsattn import parsing

DESCRIPTIONS = {
    "fit": "Train on a table or on recordings, keep the best checkpoint, and test it once on every window.",
    "validate": "Score a checkpoint on the validation windows.",
    "test": "Score a checkpoint on every test window.",
}
ROOT: dict[str, str | dict[str, str]] = {  # options that are not of a class
    "ckpt_path": {
        "fit": "Continue this checkpoint; `last` continues the newest run (or the one in --run_dir).",
        "validate": "The checkpoint to score; `best` or `last` mean those of the newest run.",
        "test": "The checkpoint to score; `best` or `last` mean those of the newest run.",
    },
    "run_dir": "Folder of the run; default: a new one in ./runs.",
    "test": "Test the best checkpoint once at the end (default: true).",
    "patience": "Epochs without a better score in validation after which training stops (default: 3).",
    "seed_everything": "Seed of the random numbers (default: 2021).",
    "out": "Write the scores to this JSON file.",
    "overwrite": "Write over files that exist already.",
    "trust_config": "Import any class that your own -c files and options name: only for what you wrote or read.",
}
OF_FIT = ("run_dir", "test", "patience")  # of fit alone
TRAINER = {
    "max_epochs": "Epochs at most (default: the configuration's, else 10).",
    "accelerator": "cpu, gpu or auto.",
    "devices": "How many of them; forecasters train on one.",
}
TABLE, STORE = "tsattn.data.modules.TableData", "tsattn.recordings.modules.RecordingDataModule"
FORECAST, DETECT = "tsattn.tasks.forecast.ForecastTask", "tsattn.tasks.detect.DetectTask"
PRETRAIN = "tsattn.tasks.pretrain.PretrainTask"
NETWORKS = ("itransformer.ITransformer", "patchtst.PatchTST", "patchtst.PatchTSTOfficial", "timexer.TimeXer",
            "gateformer.Gateformer", "mvpa_forecaster.MVPAForecaster", "mvpformer.MVPFormer")  # fmt: skip
LENGTHS = ("context", "horizon", "segments", "segment_seconds", "max_channels")  # the network's to say, not the data's
LINKED = (*LENGTHS, "seed", "variates", "features", "future_covariates", "known_rows", "network")  # by other options
NETWORK = "tsattn.models.itransformer.ITransformer"
JOBS: tuple[tuple[str, tuple[tuple[str, str, tuple[str, ...]], ...]], ...] = (  # heading; class, prefix, arguments
    ("A table", (
        (TABLE, "data", ("table", "dataset", "target", "exogenous", "known", "exclude", "timestamp", "time_format",
                         "decimal", "freq", "snap", "resample", "split")),
    )),
    ("The forecaster", (
        (NETWORK, "model.network", ("context", "horizon")),
        (FORECAST, "model", ("lr", "loss", "quantiles")),
        (TABLE, "data", ("batch_size",)),
    )),
    ("Recordings, and the detector", (
        (STORE, "data", ("store", "splits")),
        (DETECT, "model", ("checkpoint", "adapt")),
    )),
)  # fmt: skip


@dataclass(frozen=True)
class Argument:
    """An argument of a class, as its source has it.

    Attributes:
        name: Of the argument.
        help: Its sentence.
        choices: Words to choose from, if there are such.
        default: Its default as it is written; "" if there is none, or nothing.
        switch: Whether it is true or false.
    """

    name: str
    help: str
    choices: tuple[str, ...]
    default: str
    switch: bool

    def row(self, prefix: str, whole: bool = True) -> tuple[str, str]:
        """Return its line in a table of options, with the first sentence or the whole help."""
        text = self.help if whole else self.help.partition(". ")[0].removesuffix(".") + "."
        sign = "" if self.switch else "{" + ",".join(self.choices) + "}" if self.choices else "VALUE"
        default = f" (default: {self.default})" if self.default else ""
        return f"--{prefix}.{self.name} {sign}".rstrip(), f"{text}{default}"


def short(command: str) -> str:
    """Return what `tsattn fit --help` prints."""
    lines = _begin(command)
    for heading, parts in JOBS:
        rows = []
        for path, prefix, names in parts:
            arguments = arguments_of(path)
            rows += [arguments[name].row(prefix, whole=False) for name in names]
        lines += ["", f"{heading}:", *parsing.table(rows, 28)]
    lines += ["", "The run:", *parsing.table([*_root(command), *_trainer(command)], 28)]
    shown = {f"--{prefix}.{name}" for _, parts in JOBS for _, prefix, names in parts for name in names}
    others = [("of tables", TABLE, "data"), ("of forecasting", FORECAST, "model"), ("of recordings", STORE, "data"),
              ("of the detector", DETECT, "model")]  # fmt: skip
    lines += ["", "More options, which `--help all` explains:"]
    for what, path, prefix in others:
        more = [f"--{prefix}.{name}" for name in arguments_of(path) if f"--{prefix}.{name}" not in shown]
        rest = ", ".join(name for name in more if name.rpartition(".")[2] not in LINKED)
        lines += parsing.table([(what, rest)], 16)
    lines += parsing.table([("of networks", "--model.network.NAME, as in the file of -c"),
                            ("of training", "--trainer.NAME, those of lightning.Trainer")], 16)  # fmt: skip
    return "\n".join(lines)


def full(command: str) -> str:
    """Return what `tsattn fit --help all` prints: every option, class by class."""
    from docstring_parser import parse
    from lightning import Trainer

    lines = [*_begin(command), "", "The run:", *parsing.table(_root(command), 28)]
    of = [(TABLE, "data"), (STORE, "data"), (FORECAST, "model"), (DETECT, "model"), (PRETRAIN, "model")]
    of += [(f"tsattn.models.{name}", "model.network") for name in NETWORKS]
    for path, prefix in of:
        rows = [
            one.row(prefix) for one in arguments_of(path).values() if one.name not in LINKED or _own(path, one.name)
        ]
        lines += ["", f"{path.rpartition('.')[2]} (--{prefix} {path}):", *parsing.table(rows, 28)]
    told = {one.arg_name: one.description or "" for one in parse(Trainer.__init__.__doc__ or "").params}
    names = [name for name in inspect.signature(Trainer.__init__).parameters if name != "self"]
    rows = [
        (f"--trainer.{name} VALUE", " ".join(told.get(name, "").split()).replace("Default: ``None``.", ""))
        for name in names
    ]
    return "\n".join([*lines, "", "lightning.Trainer:", *parsing.table(rows, 28)])


def _own(path: str, name: str) -> bool:
    """Whether an argument that others are linked to is said here: lengths are the network's."""
    return path.startswith("tsattn.models.") and name in LENGTHS


def _begin(command: str) -> list[str]:
    usage = f"usage: tsattn {command} -c CONFIGURATION [-c ...] [options]"
    if command != "fit":
        usage = f"usage: tsattn {command} --ckpt_path CHECKPOINT [options]"
    examples = {
        "fit": [
            "  tsattn fit -c forecast/itransformer.yaml --data.table my.csv --model.network.horizon 24",
            "  tsattn fit -c forecast/timexer.yaml --data.table my.csv --data.target price",
            "  tsattn fit -c detect/mvpformer.yaml --data.store store.zarr --model.checkpoint FOLDER",
        ],
        "validate": ["  tsattn validate --ckpt_path runs/first/best.ckpt"],
        "test": ["  tsattn test --ckpt_path runs/first/best.ckpt --out scores.json"],
    }[command]
    about = (
        "-c takes a name of `tsattn configs list` or a YAML file of yours; of several the later one wins, and options "
    )
    about += "win over all. A list is written a,b; names of columns are taken as they are typed."
    return [usage, "", *parsing.wrapped(DESCRIPTIONS[command]), "", *examples, "", *parsing.wrapped(about)]


def root(command: str, name: str) -> str:
    """Return the sentence of an option that is not of a class."""
    text = ROOT[name]
    return text if isinstance(text, str) else text[command]


def _root(command: str) -> list[tuple[str, str]]:
    rows = []
    for name in ROOT:
        if (name in OF_FIT and command != "fit") or (name == "out" and command == "fit"):
            continue
        sign = "" if name in ("overwrite", "test", "trust_config") else " VALUE"
        rows.append((f"--{name}{sign}", root(command, name)))
    return rows


def _trainer(command: str) -> list[tuple[str, str]]:
    names = TRAINER if command == "fit" else {"accelerator": TRAINER["accelerator"]}
    return [(f"--trainer.{name} VALUE", text) for name, text in names.items()]


# ---- reading sources


@cache
def arguments_of(path: str) -> dict[str, Argument]:
    """Return the arguments of a class of this package, in order, without importing it."""
    from docstring_parser import parse

    module, _, name = path.rpartition(".")
    tree = _tree(module)
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    made = next(node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    docs = [ast.get_docstring(cls) or "", ast.get_docstring(made) or ""]
    told = {one.arg_name: " ".join((one.description or "").split()) for text in docs for one in parse(text).params}
    arguments = {}
    for argument, default in _with_defaults(made.args):
        annotation = ast.unparse(argument.annotation) if argument.annotation else ""
        shown = "" if default is None else ast.unparse(default).strip("'\"")
        switch = annotation == "bool"
        shown = {"None": "", "False": "", "True": "true"}.get(shown, shown)
        words = () if argument.annotation is None else tuple(_choices(argument.annotation, module))
        text = told.get(argument.arg, "").replace("None:", "default:")
        arguments[argument.arg] = Argument(argument.arg, text, words, shown, switch)
    return arguments


@cache
def _tree(module: str) -> ast.Module:
    path = Path(__file__).parents[1].joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def _with_defaults(arguments: ast.arguments) -> list[tuple[ast.arg, ast.expr | None]]:
    plain = [*arguments.posonlyargs, *arguments.args]
    missing: Sequence[Any] = [None] * (len(plain) - len(arguments.defaults))
    pairs = [*zip(plain, [*missing, *arguments.defaults], strict=True)]
    pairs += [*zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [pair for pair in pairs if pair[0].arg != "self"]


def _choices(annotation: ast.expr, module: str) -> list[str]:
    """Return the words of an annotation that is nothing but a Literal, or the name of one, or None."""
    if isinstance(annotation, ast.BinOp):
        sides = [_choices(side, module) for side in (annotation.left, annotation.right) if ast.unparse(side) != "None"]
        return [word for side in sides for word in side] if all(sides) else []
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).endswith("Literal"):
        inside = annotation.slice
        words = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        return [str(word.value) for word in words if isinstance(word, ast.Constant)]
    if not isinstance(annotation, ast.Name):
        return []
    for node in _tree(module).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == annotation.id:
            return _choices(node.value, module)
        if isinstance(node, ast.ImportFrom) and any((one.asname or one.name) == annotation.id for one in node.names):
            ours = node.module or ""
            return _choices(ast.Name(annotation.id), ours) if ours.startswith("tsattn.") else []
    return []
