"""Read JSON and YAML that others wrote: bounded in bytes, in depth and in values, and refused in one sentence.

A sidecar, a configuration or an index of weights is small. What is larger than its kind ever is, or nested so deeply
that Python's recursion ends, is damaged or was made to do harm; it is refused before anything is built from it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 64 * 2**20  # bytes of a document; the longest header of a safetensors file is 100 MB, a sidecar a few kB
DEEPEST = 64  # lists and tables inside each other; ours have at most 8
MOST = 5_000_000  # values, after YAML's references to others are followed


def read_json(path: str | Path, who: str | None = None, *, largest: int = LARGEST, deepest: int = DEEPEST) -> Any:
    """Read a JSON file.

    Args:
        path: The file; UTF-8, with or without a byte order mark.
        who: Its name in messages, where the path must not be shown.
        largest: Bytes that are read at most.
        deepest: Lists and tables inside each other.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is too large, nested too deeply, or not JSON; names the file and, where known, the line.
    """
    return _read(Path(path), who, largest, deepest, "JSON", json.loads)


def read_yaml(path: str | Path, who: str | None = None, *, largest: int = LARGEST, deepest: int = DEEPEST) -> Any:
    """Read a YAML file of plain values (no tags that build objects); arguments and errors as in `read_json`."""
    return _read(Path(path), who, largest, deepest, "YAML", _load_yaml)


def parse_json(text: str | bytes, who: str, *, deepest: int = DEEPEST) -> Any:
    """Read JSON that is in memory; errors as in `read_json`."""
    return _parse(text, who, deepest, "JSON", json.loads)


def _load_yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _read(path: Path, who: str | None, largest: int, deepest: int, form: str, load: Callable[[str], Any]) -> Any:
    who = str(path) if who is None else who
    if path.exists() and not path.is_file():
        raise ValueError(f"{who} is not a regular file, expected a {form} file.")
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{who} has {path.stat().st_size} bytes, expected at most {largest}: it is not such a file.")
    return _parse(content, who, deepest, form, load)


def _parse(content: str | bytes, who: str, deepest: int, form: str, load: Callable[[str], Any]) -> Any:
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        found = load(text)
        _check(found, deepest)
    except UnicodeDecodeError as error:
        raise ValueError(f"{who} is not UTF-8 text at byte {error.start}, expected {form}.") from error
    except RecursionError as error:
        raise ValueError(f"{who} is nested more than {deepest} levels deep, expected plain {form}.") from error
    except ValueError as error:
        raise ValueError(f"{who} is not the {form} that was expected: {error}") from error
    return found


def _check(found: Any, deepest: int) -> None:
    """Count values and levels without recursion."""
    count, level, here = 0, 0, [found]
    while here:
        count += len(here)
        if level > deepest:
            raise ValueError(f"it is nested more than {deepest} levels deep.")
        if count > MOST:
            raise ValueError(f"it stands for more than {MOST} values.")
        below: list[Any] = []
        for value in here:
            if isinstance(value, dict):
                below += [part for part in value.values() if isinstance(part, dict | list)]
                count += len(value)
            elif isinstance(value, list):
                below += [part for part in value if isinstance(part, dict | list)]
                count += len(value)
            if count > MOST:
                raise ValueError(f"it stands for more than {MOST} values.")
        here, level = below, level + 1
