"""The command line: one list of commands, each imported when it is called, so that `--help` answers at once.

`fit`, `validate` and `test` are Lightning's; every other command is a typed function whose docstring is its help.
"""

import difflib
import importlib
import inspect
import os
import re
import sys
import typing
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any

COMMANDS = {
    "fit": "train a forecaster or a network of recordings, keep the best checkpoint, test it",
    "validate": "score a checkpoint on the validation windows",
    "test": "score a checkpoint on every test window",
    "forecast": "forecast the steps after a table's last row",
    "data": "list, describe, fetch or simulate tables",
    "recordings": "inspect, prepare, simulate or split EEG and iEEG recordings",
    "detect": "find seizures in a recording",
    "events": "score or export seizure events",
    "configs": "list or show the shipped configurations",
    "import-checkpoint": "convert weights of a model's authors",
    "export": "write a trained network as a folder, merged, or its adapters alone",
}
FUNCTIONS: dict[str, tuple[str, str | dict[str, str]]] = {  # a module of tsattn.commands, and what in it
    "forecast": ("tables", "forecast"),
    "import-checkpoint": ("weights", "import_checkpoint"),
    "export": ("weights", "export"),
    "detect": ("detect", "detect"),
    "data": ("tables", {"list": "data_list", "describe": "data_describe", "fetch": "data_fetch",
                        "simulate": "data_simulate"}),
    "configs": ("tables", {"list": "configs_list", "show": "configs_show"}),
    "recordings": ("recordings", {"inspect": "inspect", "prepare": "prepare", "simulate": "simulate",
                                  "split": "split"}),
    "events": ("events", {"score": "score", "export": "export"}),
}  # fmt: skip
POSITIONAL = ("name", "files", "paths", "store")
RENAMED = {"source": "--from"}
OPTION = re.compile(
    r"\b(?P<name>skip|unit|type|subject|on_mismatch|outside|unpaired|implausible)=(?P<value>True|'[\w-]+'|\.\.\.)"
)
FLAGS = ("--overwrite", "--test", "--data.drop_duplicates")  # of fit, validate and test


def main(args: list[str] | None = None) -> None:
    """Run one command.

    Args:
        args: The command line after the program's name; None reads it from the process.
    """
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return
    if args[0] == "--version":
        import importlib.metadata

        print(importlib.metadata.version("tsattn"))
        return
    command, rest = args[0], args[1:]
    try:
        if command not in COMMANDS:
            close = difflib.get_close_matches(command, COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"There is no command {command!r}.{hint} The commands are {', '.join(COMMANDS)}.")
        run(command, rest)
    except KeyboardInterrupt as problem:
        print(f"tsattn {command}: interrupted{f'; {problem}' if str(problem) else ''}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `tsattn ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, ArgumentError, OSError, ImportError) as problem:
        extra_is_missing = "tsattn[" in str(problem)
        if os.environ.get("TSATTN_TRACEBACK") or (isinstance(problem, ImportError) and not extra_is_missing):
            raise
        told = OPTION.sub(as_option, plain(str(problem)))
        if re.search(r"\brec-[0-9a-f]{12}", told) and os.environ.get("TSATTN_SHOW_NAMES") != "1":
            told += " (TSATTN_SHOW_NAMES=1 shows the names of files.)"
        sys.exit(f"tsattn {command}: {told}")


def as_option(match: re.Match[str]) -> str:
    """Spell what Python is told (`unit='V'`, `skip=True`) as the shell is."""
    name, value = match["name"], match["value"].strip("'")
    name = f"changes.{name}" if name == "implausible" else name
    return f"--{name}" if value == "True" else f"--{name} {value}"


def usage() -> str:
    """Return what `tsattn --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{what}" for name, what in COMMANDS.items())
    return (
        "usage: tsattn COMMAND [options]\n\n"
        "Multivariate time-series and neural-signal forecasting with attention.\n\n"
        f"{commands}\n\n"
        "  tsattn fit -c forecast/itransformer.yaml -c data/etth1.yaml\n"
        "  tsattn fit -c forecast/itransformer.yaml --data.table my.csv\n"
        "  tsattn forecast --checkpoint runs/.../best.ckpt --table my.csv --out forecast.csv --plot forecast.png\n"
        "  tsattn recordings prepare bids_folder --preset swec --out store.zarr\n"
        "  tsattn fit -c detect/mvpformer.yaml --data.store store.zarr --model.checkpoint mvpformer-s\n"
        "  tsattn detect --checkpoint runs/.../best.ckpt --recording patient.edf --out events.tsv --report r.html\n\n"
        "`tsattn COMMAND --help` lists the options. Research software; not for clinical decisions."
    )


def run(command: str, args: list[str]) -> None:
    """Import and call one command."""
    if command in ("fit", "validate", "test"):
        from tsattn import shipped, train

        args = shipped.expand(spell_out_flags(args, FLAGS))
        if command == "fit":
            train.fit(args)
        else:
            train.evaluate(command, args)
        return

    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"tsattn {command}", description=COMMANDS[command], exit_on_error=False)
    where, members = FUNCTIONS[command]
    module = importlib.import_module(f"tsattn.commands.{where}")
    functions = {name: getattr(module, member) for name, member in _pairs(members)}
    flags = [f"--{name}" for function in functions.values() for name in switches(function)]
    args = spell_out_flags(args, flags)
    if isinstance(members, str):
        add_arguments(parser, functions[""])
        functions[""](**parser.parse_args(args).as_dict())
        return
    below = parser.add_subcommands(metavar="{" + ",".join(members) + "}")
    for name, function in functions.items():
        member_parser = ArgumentParser(description=first_line(function), exit_on_error=False)
        add_arguments(member_parser, function)
        below.add_subcommand(name, member_parser, help=first_line(function))
    values = parser.parse_args(args)
    functions[values.subcommand](**values[values.subcommand].as_dict())


def _pairs(members: str | dict[str, str]) -> list[tuple[str, str]]:
    return [("", members)] if isinstance(members, str) else list(members.items())


def switches(function: Callable[..., None]) -> list[str]:
    """Return the parameters of a function that are true or false."""
    return [name for name, parameter in inspect.signature(function).parameters.items() if parameter.annotation is bool]


def add_arguments(parser: Any, function: Callable[..., None]) -> None:
    """Make a function's parameters arguments of a parser; those in POSITIONAL stand without a dash."""
    from docstring_parser import parse

    told = {parameter.arg_name: parameter.description for parameter in parse(function.__doc__ or "").params}
    parameters = inspect.signature(function).parameters
    apart = {name for name in parameters if name in POSITIONAL or name in RENAMED}
    for name in parameters:
        kind = parameters[name].annotation
        if name in RENAMED:
            parser.add_argument(RENAMED[name], dest=name, required=True, type=kind, help=told[name])
        elif name in POSITIONAL and typing.get_origin(kind) is list:
            parser.add_argument(name, nargs="+", type=typing.get_args(kind)[0], help=told[name])
        elif name in POSITIONAL:
            parser.add_argument(name, type=kind, help=told[name])
    parser.add_function_arguments(function, as_group=False, skip=apart)


def plain(message: str) -> str:
    """Reduce an error of the command line's parser to the sentence in it.

    jsonargparse wraps what went wrong into the alternatives it tried and prints the whole configuration.
    """
    noise = r"(Does not validate|Subtypes:|Errors:|Expected a <class 'NoneType'>|Given value)"
    message = re.sub(r"Call to compute_fn of link .*? with args \(.*?\) failed: ", "", message, flags=re.DOTALL)
    message = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"Expected one of \1", message)
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    where = re.findall(r"Problem with given class_path '(?:\w+\.)*(\w+)'", message)
    told = [line for line in lines if line and not re.match(rf"{noise}|Problem with given class_path|Parser key", line)]
    keys = re.findall(r'Parser key "([^"]+)"', message)
    sentence = " ".join(told) or message
    if where and sentence.startswith("Option "):
        return f"{where[-1]}: {sentence}"
    return f"{'.'.join(keys)}: {sentence}" if keys and sentence.startswith("Expected") else sentence


def first_line(function: Callable[..., None]) -> str:
    """Return the first line of a function's docstring."""
    return (function.__doc__ or "").partition("\n")[0]


def spell_out_flags(args: list[str], flags: Sequence[str]) -> list[str]:
    """Let `--overwrite` alone mean `--overwrite true`, and so for every other switch."""
    spelled: list[str] = []
    for index, argument in enumerate(args):
        spelled.append(argument)
        follower = args[index + 1] if index + 1 < len(args) else "-"
        if argument in flags and follower.startswith("-"):
            spelled.append("true")
    return spelled
