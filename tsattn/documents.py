"""Read JSON and YAML that others wrote: bounded in bytes, in depth and in values, and refused in one sentence.

A sidecar, a configuration or an index of weights is small. What is larger than its kind ever is, or nested so deeply
that Python's recursion ends, is damaged or was made to do harm; it is refused before anything is built from it.
"""

import dataclasses
import json
import stat
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

LARGEST = 64 * 2**20  # bytes of a document; the longest header of a safetensors file is 100 MB, a sidecar a few kB
DEEPEST = 64  # lists and tables inside each other; ours have at most 8
LARGEST_NUMBER = 1e300  # beyond, arithmetic ends in infinity
MOST = 5_000_000  # values, after YAML's references to others are followed


def read_text(path: str | Path, who: str | None = None, largest: int = LARGEST) -> str:
    """Read a regular file of text, or a link to one.

    Args:
        path: The file; UTF-8, with or without a byte order mark.
        who: Its name in messages, where the path must not be shown.
        largest: Bytes that are read at most.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is a folder, a device or a pipe, too large, or not UTF-8.
    """
    path = Path(path)
    who = str(path) if who is None else who
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{who} is not a regular file, expected one of text.")
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{who} has {path.stat().st_size} bytes, expected at most {largest}: it is not such a file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{who} is not UTF-8 text at byte {error.start}, so it is damaged.") from error


def read_json(path: str | Path, who: str | None = None, *, largest: int = LARGEST, deepest: int = DEEPEST) -> Any:
    """Read a JSON file.

    Args:
        path: As in `read_text`.
        who: As in `read_text`.
        largest: As in `read_text`.
        deepest: Lists and tables inside each other.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: As `read_text`; or if it is nested too deeply, or not JSON (names the line).
    """
    return parse_json(read_text(path, who, largest), str(path) if who is None else who, deepest=deepest)


def parse_json(text: str | bytes, who: str, *, deepest: int = DEEPEST) -> Any:
    """Read JSON that is in memory; errors as in `read_json`."""
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{who} is nested more than {deepest} levels deep, expected plain JSON.") from error
    except ValueError as error:  # UnicodeDecodeError, too
        raise ValueError(f"{who} is not the JSON that was expected: {str(error).rstrip('.')}.") from error
    refuse_bloat(found, who, deepest=deepest)
    return found


def read_yaml(path: str | Path, who: str | None = None, *, largest: int = LARGEST, deepest: int = DEEPEST) -> Any:
    """Read a YAML file of plain values (no tags that build objects); arguments and errors as in `read_json`."""
    return parse_yaml(read_text(path, who, largest), str(path) if who is None else who, deepest=deepest)


def parse_yaml(text: str, who: str, *, deepest: int = DEEPEST) -> Any:
    """Read YAML that is in memory, after bounding what its references stand for; errors as in `read_json`."""
    import yaml

    def children(node: Any) -> list[Any]:
        if isinstance(node, yaml.MappingNode):
            return [part for pair in node.value for part in pair]
        return list(node.value) if isinstance(node, yaml.SequenceNode) else []

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
    except RecursionError as error:
        raise ValueError(f"{who} is nested more than {deepest} levels deep, expected plain YAML.") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{who} is not the YAML that was expected: {' '.join(str(error).split())}.") from error
    if node is None:
        return None
    refuse_bloat(node, who, children, deepest=deepest)
    try:
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError) as error:  # a date that is none, a number of too many digits
        raise ValueError(f"{who} is not the YAML that was expected: {' '.join(str(error).split())}.") from error


def refuse_bloat(
    content: Any, who: Any, children: Callable[[Any], list[Any]] | None = None, deepest: int = DEEPEST
) -> None:
    """Refuse data that are nested too deeply, hold themselves, or become huge when what is shared is written out.

    Args:
        content: Plain data: dictionaries, lists, and what is in them.
        who: Name for the message.
        children: Returns what is inside a container that may hold others; None: of dictionaries, lists and tuples.
        deepest: Containers inside each other.

    Raises:
        ValueError: Naming `who`.
    """
    inside = children or _inside
    size: dict[int, int] = {}  # of each container, written out
    depth: dict[int, int] = {}
    begun: set[int] = set()
    stack = [content]
    while stack:
        node = stack[-1]
        if id(node) in size:
            stack.pop()
        elif id(node) not in begun:
            begun.add(id(node))
            for child in inside(node):
                if id(child) in begun and id(child) not in size:
                    raise ValueError(f"{who} holds itself, so it is damaged.")
                stack.append(child)
        else:
            stack.pop()
            below = inside(node)
            size[id(node)] = 1 + sum(size.get(id(child), 1) for child in below)
            depth[id(node)] = 1 + max((depth.get(id(child), 1) for child in below), default=0)
            if depth[id(node)] > deepest + 1:
                raise ValueError(f"{who} is nested more than {deepest} levels deep, so it is damaged.")
            if size[id(node)] > MOST:
                raise ValueError(f"{who} becomes more than {MOST:,} entries when its references are followed.")


def _inside(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return [value for value in values if isinstance(value, (dict, list, tuple))]


@dataclasses.dataclass(frozen=True)
class Row:
    """Kinds of the items of a list that has so many."""

    kinds: tuple[Any, ...]


def check(value: Any, wanted: Any, who: str, where: str = "") -> None:
    """Compare plain data with what it has to be.

    Args:
        value: As JSON holds it.
        wanted: `str`, `bool`, `int`, `float` (any finite number), `dict` or `list` (whatever is in it), None; a set of
            values; a tuple of alternatives; `[kind]` for a list of such, `Row` for one of a fixed length;
            `{"name": kind}` for a table with these names (`"name?"` may be absent, others may be there); `{str: kind}`
            for a table with any names.
        who: Whose data it is, for the message.
        where: Place of `value` in it.

    Raises:
        ValueError: Names `who`, the place, what was found, and what was expected.
    """
    if isinstance(wanted, tuple):
        for one in wanted:
            if _is(value, one):
                check(value, one, who, where)
                return
    elif _is(value, wanted):
        if isinstance(wanted, Row):
            for number, (item, kind) in enumerate(zip(value, wanted.kinds, strict=True)):
                check(item, kind, who, f"{where}[{number}]")
        elif isinstance(wanted, list):
            for number, item in enumerate(value):
                check(item, wanted[0], who, f"{where}[{number}]")
        elif isinstance(wanted, dict) and str in wanted:
            for name, item in value.items():
                check(item, wanted[str], who, f"{where}.{name}" if where else name)
        elif isinstance(wanted, dict):
            for key, kind in wanted.items():
                name = key.removesuffix("?")
                place = f"{where}.{name}" if where else name
                if name in value:
                    check(value[name], kind, who, place)
                elif not key.endswith("?"):
                    raise ValueError(f"{who} is damaged: it has no {place}, expected {_told(kind)}.")
        return
    raise ValueError(f"{who} is damaged: {where or 'its content'} is {shortened(value)}, expected {_told(wanted)}.")


def _is(value: Any, wanted: Any) -> bool:
    """Return whether the outermost kind is right."""
    if wanted is None:
        return value is None
    if isinstance(wanted, set):
        return isinstance(value, str | int) and not isinstance(value, bool) and value in wanted
    if isinstance(wanted, Row):
        return isinstance(value, list) and len(value) == len(wanted.kinds)
    if isinstance(wanted, list) or wanted is list:
        return isinstance(value, list)
    if isinstance(wanted, dict) or wanted is dict:
        return isinstance(value, dict)
    if wanted is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST_NUMBER
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, wanted)


def _told(wanted: Any) -> str:
    if isinstance(wanted, tuple):
        return " or ".join(_told(one) for one in wanted)
    if isinstance(wanted, set):
        return "one of " + ", ".join(repr(value) for value in sorted(wanted, key=str))
    if isinstance(wanted, Row):
        return f"a list of {len(wanted.kinds)}: {', '.join(map(_told, wanted.kinds))}"
    if isinstance(wanted, list):
        return f"a list, each item {_told(wanted[0])}"
    if isinstance(wanted, dict):
        return "a table"
    words = {str: "a text", bool: "true or false", int: "a whole number", float: "a finite number", None: "null"}
    return words.get(wanted, "a list" if wanted is list else "a table")


def shortened(value: Any, most: int = 60) -> str:
    """Return a value for a message, cut off if it is long."""
    if isinstance(value, dict | list):
        return f"a {'table' if isinstance(value, dict) else 'list'} of {len(value)}"
    told = repr(value[: most + 1] if isinstance(value, str) else value)
    return told if len(told) <= most else f"{told[:most]}..."


def arguments_of(cls: Any, plain: Any, who: str, *, known_only: bool = False) -> dict[str, Any]:
    """Return the arguments of a dataclass that plain data hold, with their types checked; lists become tuples.

    Args:
        cls: The dataclass. Its type hints say what each field may be.
        plain: What `asdict` gave, perhaps through JSON.
        who: Whose data it is, for the message.
        known_only: Leave out fields that the class does not have, instead of an error.

    Raises:
        ValueError: Names `who`, the field, what was found, and what was expected.
    """
    plain = _listed(plain)
    wanted, hints = _schema(cls), typing.get_type_hints(cls)
    check(plain, wanted, who)
    unknown = [name for name in plain if name not in hints]
    if unknown and not known_only:
        raise ValueError(f"{who} has {shortened(unknown[0])}, which this tsattn does not know: install a newer one.")
    return {name: _made(value, hints[name]) for name, value in plain.items() if name in hints}


def _schema(cls: Any) -> dict[str, Any]:
    hints, schema = typing.get_type_hints(cls), {}
    for field in dataclasses.fields(cls):
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        schema[field.name if needed else f"{field.name}?"] = _wanted(hints[field.name])
    return schema


def _wanted(hint: Any) -> Any:
    """Return what `check` wants for a type hint."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return None
    if origin in (typing.Union, types.UnionType):
        return tuple(_wanted(one) for one in inside)
    if origin is typing.Literal:
        return set(inside)
    if origin in (tuple, list):
        kinds = tuple(_wanted(one) for one in inside if one is not ...)
        return [kinds[0]] if origin is list or ... in inside else Row(kinds)
    if origin is dict or hint is dict:
        return dict
    return _schema(hint) if dataclasses.is_dataclass(hint) else hint


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _listed(item) for name, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, list | tuple) else value


def _made(value: Any, hint: Any) -> Any:
    """Return plain data as a type hint wants them: tuples for lists, floats for whole numbers."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next((_made(value, one) for one in inside if _is(value, _wanted(one))), value)
    if hint is float:
        return float(value)
    if origin is tuple and isinstance(value, list):
        kinds = inside[:1] * len(value) if ... in inside else inside
        return tuple(_made(item, kind) for item, kind in zip(value, kinds, strict=True))
    return value
