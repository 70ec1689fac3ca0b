"""The configurations that come with the package: where they are, what `-c` means, and the papers' table of settings.

Their source is `configs/` of the checkout; a wheel carries the same files as `tsattn/configs/`. `configs/paper.csv`
holds one row per published setting (model, data set, horizon); `-c paper/<name>` stands for the model's file, the data
set's file and that row's differences, so any published cell is one word.
"""

import csv
import difflib
from functools import cache
from pathlib import Path
from typing import Any

TASK, DATA = "tsattn.tasks.forecast.ForecastTask", "tsattn.data.modules.TableData"
MODELS = {  # name in paper.csv -> the arguments that a row may set
    "itransformer": ("d_model", "heads", "layers", "d_ff", "dropout", "normalize"),
    "patchtst": ("d_model", "heads", "layers", "d_ff", "dropout", "patch", "stride"),
    "patchtst-official": ("d_model", "heads", "layers", "d_ff", "dropout", "patch", "stride"),
    "timexer": ("d_model", "heads", "layers", "d_ff", "dropout", "patch"),
    "gateformer": ("d_model", "heads", "layers", "d_ff", "dropout", "patch", "stride"),
}


def folder() -> Path:
    """Return the folder of the shipped configurations: inside the wheel, else beside the package in a checkout."""
    inside = Path(__file__).parent / "configs"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "configs"


def names() -> list[str]:
    """Return every name that `-c` knows, files first, then the papers' rows."""
    files = sorted(path.relative_to(folder()).as_posix() for path in folder().rglob("*.yaml"))
    return files + [f"paper/{name}" for name in _paper()]


def expand(args: list[str]) -> list[str]:
    """Replace the shipped names behind `-c` and `--config` by what they stand for.

    An existing file of the user's comes first.

    Raises:
        FileNotFoundError: For a name that is neither, with the nearest shipped one.
    """
    configs: list[str] = []  # in front, so that every option overrides them wherever it stands
    expanded: list[str] = []
    rest = iter(args)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option not in ("-c", "--config"):
            expanded.append(argument)
            continue
        value = value if equals else next(rest, "")
        for config in resolve(value):
            configs += ["--config", config]
    return configs + expanded


def resolve(name: str, own: bool = True) -> list[str]:
    """Return the files, or YAML text, that one configuration name stands for.

    Args:
        name: A file, a shipped one, or `paper/...`.
        own: Whether an existing file of the user's comes first.
    """
    if own and Path(name).is_file():
        return [name]
    if (folder() / name).is_file():
        return [str(folder() / name)]
    if name.startswith("paper/") and name.removeprefix("paper/") in _paper():
        row = _paper()[name.removeprefix("paper/")]
        base = [f"forecast/{row['model']}.yaml", f"data/{row['data']}.yaml"]
        return [*(str(folder() / file) for file in base), _to_yaml(differences(row))]
    close = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise FileNotFoundError(
        f"No configuration {name!r}: not a file, and not one of those that `tsattn configs` lists.{hint}"
    )


def differences(row: dict[str, str]) -> dict[str, Any]:
    """Return what one row of `paper.csv` sets, as a nested configuration."""
    network = {key: _number(row[key]) for key in MODELS[row["model"]] if row[key]}
    network |= {key: int(row[key]) for key in ("context", "horizon")}
    data: dict[str, Any] = {"batch_size": int(row["batch_size"])}
    if row["target"]:
        data["target"] = row["target"]
    if row["marks"]:
        data["marks"] = row["marks"]
    task: dict[str, Any] = {"lr": float(row["lr"]), "schedule": row["schedule"]}
    if row["onecycle_start"]:
        task["onecycle_start"] = float(row["onecycle_start"])
    task["network"] = {"init_args": network}
    return {
        "model": {"init_args": task},
        "data": {"init_args": data},
        "trainer": {"max_epochs": int(row["max_epochs"])},
        "patience": int(row["patience"]),
        "seed_everything": int(row["seed"]),
    }


def config_of(recipe: dict[str, Any], weights: Path) -> str:
    """Return a configuration for `-c` that starts from exported weights.

    Args:
        recipe: Of the network. What is read off the table (`variates`, `features`) is left out.
        weights: The exported folder.
    """
    arguments = {key: value for key, value in recipe["init_args"].items() if key not in ("variates", "features")}
    network = {"class_path": recipe["class_path"], "init_args": arguments}
    task = {"class_path": TASK, "init_args": {"weights": str(weights.resolve()), "network": network}}
    return _to_yaml({"model": task, "data": {"class_path": DATA}})


def overview() -> str:
    """Return the list that `tsattn configs` prints; the papers' rows are grouped by model."""
    rows: dict[str, list[str]] = {}
    for name, row in _paper().items():
        rows.setdefault(row["model"], []).append(name)
    files = [name for name in names() if name.endswith(".yaml")]
    lines = ["shipped files (combine a forecast/ and a data/ one):", *(f"  {name}" for name in files)]
    lines += ["", "published settings (one word each, `tsattn fit -c paper/NAME`):"]
    for model, members in rows.items():
        lines += [f"  {model}: {len(members)}", *(f"    paper/{name}" for name in members)]
    return "\n".join(lines)


def show(name: str) -> str:
    """Return the text of one configuration; of a paper's row, what its three parts come to."""
    parts = resolve(name)
    if len(parts) == 1:
        return Path(parts[0]).read_text().rstrip()
    return f"# {name}\n{_to_yaml(merged(name))}".rstrip()


def merged(name: str, own: bool = True) -> dict[str, Any]:
    """Return one configuration as a nested dictionary, later parts over earlier ones.

    Args:
        name: As for `resolve`.
        own: Whether an existing file of the user's comes first.
    """
    from tsattn import documents

    def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        both = {k: merge(below[k], v) if isinstance(v, dict) and k in below else v for k, v in above.items()}
        return {**below, **both}

    result: dict[str, Any] = {}
    for part in resolve(name, own):
        result = merge(result, documents.parse_yaml(part, name) if "\n" in part else documents.read_yaml(part))
    return result


@cache
def _paper() -> dict[str, dict[str, str]]:
    with (folder() / "paper.csv").open(newline="") as file:
        lines = [line for line in file if not line.startswith("#")]
    return {row["name"]: row for row in csv.DictReader(lines)}


def _number(text: str) -> int | float | bool:
    if text in ("true", "false"):
        return text == "true"
    return float(text) if "." in text else int(text)


def _to_yaml(config: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(config, sort_keys=False)
