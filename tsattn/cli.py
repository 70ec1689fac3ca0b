"""The command line: one list of commands, each imported when it is called, so that `--help` answers at once.

`fit`, `validate` and `test` are Lightning's; every other command is a typed function whose docstring is its help.
Whatever goes wrong ends in one sentence (`faults.py`); TSATTN_TRACEBACK=1 shows where it came from.
"""

import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable

from tsattn import faults, messages, parsing

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
ALSO = {  # what Python calls an option that a command calls otherwise
    "forecast": {"quantile_levels": "quantiles", "future_df": "future", "df": "table", "data": "table"},
    "detect": {"postprocessing": "threshold"},
}
TRAINING = ("fit", "validate", "test")


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
    except KeyboardInterrupt as problem:  # what was kept is said in its text
        if os.environ.get("TSATTN_TRACEBACK"):
            raise
        kept = f"; {faults.visible(str(problem))}" if str(problem) else ""
        print(f"tsattn {command}: interrupted{kept}", file=sys.stderr)
        sys.exit(130)
    except Exception as problem:
        if os.environ.get("TSATTN_TRACEBACK"):
            raise
        told = faults.sentence(problem)
        if re.search(r"\brec-[0-9a-f]{12}", told) and os.environ.get("TSATTN_SHOW_NAMES") != "1":
            told += " (TSATTN_SHOW_NAMES=1 shows the names of files.)"
        sys.exit(f"tsattn {command}: {told}")


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
    """Import and call one command, with messages that name its options."""
    if command in TRAINING:
        if {"-h", "--help"} & {argument.partition("=")[0] for argument in args}:
            from tsattn import manual

            print(manual.full(command) if asks_for_all(args) else manual.short(command))
            return
        from tsattn import shipped, train

        train.run(command, shipped.expand(args))
        return

    where, members = FUNCTIONS[command]
    module = importlib.import_module(f"tsattn.commands.{where}")
    if isinstance(members, str):
        call(command, getattr(module, members), args)
        return
    functions = {name: getattr(module, member) for name, member in members.items()}
    if not args or args[0] in ("-h", "--help"):
        rows = [(name, first_line(function)) for name, function in functions.items()]
        text = f"usage: tsattn {command} {{{','.join(members)}}} [options]\n\n{COMMANDS[command]}\n\n"
        text += "\n".join(parsing.table(rows, 12)) + f"\n\n`tsattn {command} NAME --help` lists the options of one."
        if args:
            print(text)
            return
        raise ValueError(f"expected one of {', '.join(members)}: `tsattn {command} NAME`.")
    if args[0] not in functions:
        close = difflib.get_close_matches(args[0], functions, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"There is no `tsattn {command} {args[0]}`.{hint} Expected one of {', '.join(members)}.")
    call(f"{command} {args[0]}", functions[args[0]], args[1:])


def call(command: str, function: Callable[..., None], args: list[str]) -> None:
    """Call the function of a command with what was typed, or print its help."""
    if {"-h", "--help"} & set(args):
        print(parsing.help_of(command, function))
        return
    options = parsing.options_of(function)
    with messages.command(parsing.Spelling(options, ALSO.get(command))):
        function(**parsing.parse(options, args, command))


def asks_for_all(args: list[str]) -> bool:
    """Whether `--help all` was typed."""
    follower = dict(zip(args, [*args[1:], ""], strict=True))
    return "all" in (follower.get("--help"), follower.get("-h")) or "--help=all" in args


def first_line(function: Callable[..., None]) -> str:
    """Return the first line of a function's docstring."""
    return (function.__doc__ or "").partition("\n")[0]
