"""Which part of a configuration is believed: all of the user's own, and of a run's folder what is data and network.

A folder with weights may be a stranger's. Its `config.yaml` tells which table or store was used and how, and the task's
numbers; the network is that of the checkpoint's recipe. Whatever would run (callbacks, loggers, strategies, plugins,
profilers) is left out, and said.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tsattn import checkpoint, documents, trust
from tsattn.contracts import ForecastNetwork

READ_OFF = ("variates", "features", "future_covariates", "known_rows")  # the table says them
NUMBERS = (  # of the trainer; plain ones
    "max_epochs", "min_epochs", "max_steps", "min_steps", "devices", "num_nodes", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "val_check_interval", "check_val_every_n_epoch",
    "accumulate_grad_batches", "gradient_clip_val", "deterministic", "benchmark", "inference_mode",
)  # fmt: skip
WORDS = ("accelerator", "strategy", "precision", "gradient_clip_algorithm")
LARGEST = 2**20  # bytes of a configuration
WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")  # no dot: not a class path


def of_run(file: Path, recipe: dict[str, Any], command: str) -> tuple[str, list[str]]:
    """Return what is believed of the `config.yaml` in a run's folder, as text for `--config`, and what is left out.

    Args:
        file: The `config.yaml`.
        recipe: Of the network in the checkpoint beside it.
        command: `fit`, `validate` or `test`.

    Raises:
        ValueError: If it is damaged, or asks for another task or another kind of data than tsattn's.
    """
    found = documents.read_yaml(file, largest=LARGEST)
    if not (isinstance(found, dict) and all(isinstance(found.get(part), dict) for part in ("model", "data"))):
        raise ValueError(f"{file} is not the configuration of a run: it has no model or no data. Pass one by -c.")
    believed: dict[str, Any] = {}
    for part, places in (("model", trust.TASKS), ("data", trust.DATA)):
        class_path, arguments = found[part].get("class_path"), found[part].get("init_args") or {}
        if not isinstance(class_path, str) or not trust.listed(class_path, places) or not isinstance(arguments, dict):
            raise ValueError(
                f"{file} asks for {class_path!r} as {part}, which is not one of tsattn's. If you wrote it, pass "
                f"`-c {shlex.quote(str(file))} --trust_config`."
            )
        believed[part] = {"class_path": class_path, "init_args": _without_classes(arguments, file, part)}
    own = found["model"]["init_args"] or {}
    if isinstance(own.get("network"), dict):
        believed["model"]["init_args"]["network"] = network_of(recipe)
    believed |= {name: found[name] for name in ("seed_everything", "patience", "test") if _is_number(found.get(name))}
    trainer = found.get("trainer") if isinstance(found.get("trainer"), dict) else {}
    assert isinstance(trainer, dict)
    if command == "fit":
        believed["trainer"] = {name: trainer[name] for name in NUMBERS if _is_number(trainer.get(name))}
        for name in WORDS:
            if isinstance(trainer.get(name), str) and WORD.fullmatch(trainer[name]):
                believed["trainer"][name] = trainer[name]
    left_out = [f"trainer.{name}" for name, value in trainer.items() if _runs(value)]
    return yaml.safe_dump(believed, sort_keys=False, allow_unicode=True), left_out


def network_of(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe as a configuration has it: without what a task wraps around it, or reads off the table."""
    while recipe["class_path"].startswith("tsattn.layers.probabilistic."):
        recipe = recipe["init_args"]["network"]
        recipe = {**recipe, "init_args": {k: v for k, v in recipe["init_args"].items() if k != "outputs"}}
    read_off = READ_OFF if issubclass(checkpoint.class_of(recipe), ForecastNetwork) else ()
    arguments = {name: value for name, value in recipe["init_args"].items() if name not in read_off}
    return {"class_path": recipe["class_path"], "init_args": arguments}


def _without_classes(arguments: dict[str, Any], file: Path, part: str) -> dict[str, Any]:
    """Return plain arguments; networks, which come from the checkpoint, are left out."""
    kept = {}
    for name, value in arguments.items():
        if part == "model" and name in ("network", "scratch"):
            continue
        if any(True for _ in class_paths(value)):
            raise ValueError(
                f"{file} names a class in {part}.{name}, where a run's folder has none. If you wrote it, pass "
                f"`-c {shlex.quote(str(file))} --trust_config`."
            )
        kept[name] = value
    return kept


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _runs(value: Any) -> bool:
    """Return whether a trainer's option is an object, or a list of them."""
    return (isinstance(value, (dict, list)) and bool(value)) or (isinstance(value, str) and not WORD.fullmatch(value))


def class_paths(content: Any) -> Iterator[str]:
    """Yield what stands behind every `class_path` in plain data."""
    stack = [content]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "class_path" in value:
                yield str(value["class_path"])
            stack += value.values()
        elif isinstance(value, (list, tuple)):
            stack += value


def check_own(args: list[str], trusted: bool) -> set[str]:
    """Read the user's own configurations, and refuse classes that are neither tsattn's nor Lightning's.

    Args:
        args: Of the command line, shipped names spelled out.
        trusted: Whether `--trust_config` was given: then every class that they name is taken.

    Returns:
        The class paths that are to be trusted.

    Raises:
        ValueError: If a file is not a configuration, or names a class that is not on the list.
    """
    listed = (*trust.NETWORKS, *trust.TASKS, *trust.DATA, *trust.LIGHTNING)
    named: set[str] = set()
    for option, value in _options(args):
        if option in ("--config", "-c"):
            is_text = "\n" in value or value.lstrip().startswith("{")
            content = (
                documents.parse_yaml(value, "The configuration")
                if is_text
                else documents.read_yaml(value, largest=LARGEST)
            )
            name = "The configuration" if is_text else value
            for class_path in [] if trusted else class_paths(content):
                if "." in class_path and not trust.listed(class_path, listed):
                    raise ValueError(
                        f"{name} asks for {class_path}, which is neither tsattn's nor one of Lightning's callbacks, "
                        "loggers, strategies, plugins or profilers. If you trust it, pass --trust_config."
                    )
            named |= trust.paths_in(content)
        elif option in ("--trainer", "--model", "--data", "--model.network") and Path(value[:255]).exists():
            named |= trust.paths_in(documents.read_yaml(value, largest=LARGEST))  # a file in the place of a value
        else:
            named |= {found[0] for found in trust.PATH.finditer(value)}
    return named if trusted else set()


def _options(args: list[str]) -> Iterator[tuple[str, str]]:
    for argument, follower in zip(args, [*args[1:], ""], strict=True):
        option, equals, value = argument.partition("=")
        if argument.startswith("-"):
            yield option, value if equals else follower
