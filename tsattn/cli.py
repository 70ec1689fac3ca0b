"""The command line: one list of commands, each imported when it is called, so that `--help` answers at once.

`fit`, `validate` and `test` are Lightning's; every other command is a typed function whose docstring is its help.
"""

import difflib
import os
import re
import sys
from argparse import ArgumentError
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMANDS = {
    "fit": "train a forecaster, keep the best checkpoint, test it",
    "validate": "score a checkpoint on the validation windows",
    "test": "score a checkpoint on every test window",
    "forecast": "forecast the steps after a table's last row",
    "data": "list, describe, fetch or simulate tables",
    "configs": "list or show the shipped configurations",
    "import-checkpoint": "convert weights of a model's authors",
}
SOURCES = ("itransformer", "patchtst", "timexer", "gateformer", "tslib")
FLAGS = ("--overwrite", "--test", "--drop_duplicates", "--data.drop_duplicates")


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
    except (ValueError, ArgumentError, OSError) as problem:
        if os.environ.get("TSATTN_TRACEBACK"):
            raise
        sys.exit(f"tsattn {command}: {plain(str(problem))}")


def usage() -> str:
    """Return what `tsattn --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    commands = "\n".join(f"  {name:{width}}{what}" for name, what in COMMANDS.items())
    return (
        "usage: tsattn COMMAND [options]\n\n"
        "Multivariate time-series forecasting with attention.\n\n"
        f"{commands}\n\n"
        "  tsattn fit -c forecast/itransformer.yaml -c data/etth1.yaml\n"
        "  tsattn fit -c forecast/itransformer.yaml --data.table my.csv\n"
        "  tsattn forecast --checkpoint runs/.../best.ckpt --table my.csv --out forecast.csv --plot forecast.png\n\n"
        "`tsattn COMMAND --help` lists the options. Research software; not for clinical decisions."
    )


def run(command: str, args: list[str]) -> None:
    """Import and call one command."""
    args = spell_out_flags(args)
    if command in ("fit", "validate", "test"):
        from tsattn import shipped, train

        args = shipped.expand(args)
        if command == "fit":
            train.fit(args)
        else:
            train.evaluate(command, args)
        return

    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog=f"tsattn {command}", description=COMMANDS[command], exit_on_error=False)
    groups: dict[str, dict[str, Callable[..., None]]] = {
        "data": {"list": data_list, "describe": data_describe, "fetch": data_fetch, "simulate": data_simulate},
        "configs": {"list": configs_list, "show": configs_show},
    }
    if command in groups:
        members = groups[command]
        below = parser.add_subcommands(metavar="{" + ",".join(members) + "}")
        for name, member in members.items():
            member_parser = ArgumentParser(description=first_line(member), exit_on_error=False)
            member_parser.add_function_arguments(member, as_group=False, as_positional=name != "simulate")
            below.add_subcommand(name, member_parser, help=first_line(member))
        values = parser.parse_args(args)
        members[values.subcommand](**values[values.subcommand].as_dict())
        return
    function: Callable[..., None] = forecast if command == "forecast" else import_checkpoint
    if command == "import-checkpoint":
        parser.add_argument("file", type=Path, help="The authors' state dict (.pth, .pt or .safetensors).")
        parser.add_argument("--from", dest="source", required=True, help=", ".join(SOURCES))
    parser.add_function_arguments(function, as_group=False, skip={"file", "source"})
    function(**parser.parse_args(args).as_dict())


def plain(message: str) -> str:
    """Reduce an error of the command line's parser to the sentence in it.

    jsonargparse wraps what went wrong into the alternatives it tried and prints the whole configuration.
    """
    noise = r"(Does not validate|Subtypes:|Errors:|Expected a <class 'NoneType'>|Given value)"
    message = re.sub(r"Call to compute_fn of link '[^']*' with args \(.*?\) failed: ", "", message, flags=re.DOTALL)
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


def spell_out_flags(args: list[str]) -> list[str]:
    """Let `--overwrite` alone mean `--overwrite true`, and so for every other switch."""
    spelled: list[str] = []
    for index, argument in enumerate(args):
        spelled.append(argument)
        follower = args[index + 1] if index + 1 < len(args) else "-"
        if argument in FLAGS and follower.startswith("-"):
            spelled.append("true")
    return spelled


def forecast(
    checkpoint: Path,
    table: Path,
    out: Path,
    plot: Path | None = None,
    format: str = "long",
    timestamp: str | None = None,
    time_format: str | None = None,
    decimal: str = ".",
    variate_column: str | None = None,
    value_column: str | None = None,
    resample: str | None = None,
    drop_duplicates: bool = False,
    overwrite: bool = False,
) -> None:
    """Forecast the steps that follow a table's last row.

    Args:
        checkpoint: A run's best.ckpt or an exported folder.
        table: CSV or Parquet, wide or long, with at least `context` rows.
        out: CSV (or .parquet) to write.
        plot: Picture to write (.png, .pdf, .svg).
        format: `long` (timestamp, target_name, predictions) or `wide` (one column per target).
        timestamp: Name of the time column, if it is not found by itself.
        time_format: How times are written, as in strptime ("%d/%m/%Y %H:%M").
        decimal: What stands before the decimals in a text file.
        variate_column: Of a long table, the column that names the variate.
        value_column: Of a long table, the column that holds the values.
        resample: Bring the rows to this step first, by the mean ("1h").
        drop_duplicates: Keep the first of rows with equal timestamps.
        overwrite: Write over files that exist already.
    """
    from tsattn import checkpoint as files
    from tsattn.data.tables import read_table
    from tsattn.predict import Forecaster, plot_forecast

    if format not in ("long", "wide"):
        raise ValueError(f"--format is {format!r}, expected long or wide.")
    for path in filter(None, (out, plot)):
        files.refuse_existing(path, overwrite)
        if path.resolve() == table.resolve():
            raise ValueError(f"{path} is the table itself, which a forecast would replace: choose another --out.")
    if plot is not None and plot.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"--plot is {plot}, expected a name that ends in .png, .pdf or .svg.")
    forecaster = Forecaster.from_pretrained(checkpoint)
    try:
        dataset = read_table(
            table,
            timestamp=timestamp,
            time_format=time_format,
            decimal=decimal,
            variate_column=variate_column,
            value_column=value_column,
            columns=forecaster.spec.variates,
            resample=resample,
            drop_duplicates=drop_duplicates,
        )
    except ValueError as problem:  # the options that mend a table have no prefix here
        raise ValueError(str(problem).replace("--data.", "--")) from problem
    frame = forecaster.predict_df(dataset)
    if format == "wide":
        written = frame.pivot(index="timestamp", columns="target_name", values="predictions")
        written = written[list(forecaster.spec.target_names)].rename_axis(columns=None).reset_index()
    else:
        written = frame
    if out.suffix == ".parquet":
        content = written.to_parquet()
    else:
        content = written.to_csv(index=False, float_format="%.10g").encode()
    files.write_atomically(out, lambda file: file.write(content))
    print(f"{len(written)} rows written to {out}")
    if plot is not None:
        plot_forecast(frame, dataset, plot, forecaster.network.context)
        print(f"picture written to {plot}")


def data_list() -> None:
    """List the benchmark tables and where each was found."""
    from tsattn.data import fetch

    print(fetch.overview())


def data_describe(name: str, root: Path | None = None) -> None:
    """Say what a benchmark table is, its licence, splits and where it was found.

    Args:
        name: As in `tsattn data list`.
        root: Folder to look in first.
    """
    from tsattn.data import fetch

    print(fetch.describe(name, root))


def data_fetch(name: str, root: Path | None = None, overwrite: bool = False) -> None:
    """Download a benchmark table and check its sha256.

    Args:
        name: As in `tsattn data list`.
        root: Folder to put it in; default: TSATTN_DATA if set, else the cache.
        overwrite: Write over a file that exists already.
    """
    from tsattn.data import fetch

    path = fetch.fetch(name, root, overwrite=overwrite)
    print(f"{path}\nlicence: {fetch.benchmark(name).licence}")


def data_simulate(
    out: Path, rows: int = 4000, variates: int = 8, seed: int = 0, missing: float = 0.0, overwrite: bool = False
) -> None:
    """Write a simulated hourly table: cycles, trends, and variates that lead each other.

    Args:
        out: CSV to write.
        rows: Hours.
        variates: Columns.
        seed: Of the random numbers.
        missing: Share of the values left out, in runs as a failing sensor would.
        overwrite: Write over a file that exists already.
    """
    from tsattn import checkpoint as files
    from tsattn.data.simulate import simulate_table

    files.refuse_existing(out, overwrite)
    text = simulate_table(rows=rows, variates=variates, seed=seed, missing=missing).to_csv(index=False).encode()
    files.write_atomically(out, lambda file: file.write(text))
    print(f"{rows} rows of {variates} variates written to {out}")


def configs_list() -> None:
    """List the shipped configurations and the papers' settings."""
    from tsattn import shipped

    print(shipped.overview())


def configs_show(name: str) -> None:
    """Print one shipped configuration.

    Args:
        name: As listed, for example forecast/itransformer.yaml or paper/itransformer-etth1-96.
    """
    from tsattn import shipped

    print(shipped.show(name))


def import_checkpoint(
    file: Path, source: str, out: Path, given: dict[str, Any] | None = None, overwrite: bool = False
) -> None:
    """Convert weights of a model's authors into an exported folder, and account for every key.

    Args:
        file: The authors' state dict (.pth, .pt or .safetensors).
        source: Whose code wrote it.
        out: Folder for config.json and model.safetensors.
        given: What shapes cannot tell, by name: `--given.heads 8 --given.context 96`.
        overwrite: Write over files that exist already.

    Raises:
        ValueError: If a key that the model needs is missing; nothing is written.
    """
    from tsattn import checkpoint as files
    from tsattn import shipped
    from tsattn.convert import convert, read_state

    if source not in SOURCES:
        raise ValueError(f"--from is {source!r}, expected one of {', '.join(SOURCES)}.")
    for name in ("config.json", "model.safetensors", "config.yaml"):
        files.refuse_existing(out / name, overwrite)
    converted = convert(source, read_state(file), **(given or {}))
    print(converted.report)
    files.export(out, converted.network, about={"imported_from": source, "file": file.name}, overwrite=overwrite)
    text = shipped.config_of(converted.network.recipe, out).encode()
    files.write_atomically(out / "config.yaml", lambda stream: stream.write(text))
    print(f"written to {out}; score it on a table with: tsattn test -c {out / 'config.yaml'} -c data/etth1.yaml")
