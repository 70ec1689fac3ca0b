"""What is typed on a command line is text, not YAML: `#orders`, `null`, `[mW]`, `on` and `001` are names like others.

A list is written with commas, with or without brackets: `a,b`, `[a, b]`; a member that holds a comma or is in brackets
itself is quoted: `["a, b", c]`. Which of these a value is, a list or the name of one column, only the table can tell:
`chosen` takes a value that equals a column as that column. `taken_as` reads the annotation of an option.
"""

import json
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Union

Kind = Literal["text", "names", "texts", "numbers", "switch", "word", "other"]


class Text(str):
    """Text that a reader of YAML must not read again."""

    __slots__ = ()


def members(text: str) -> list[str]:
    """Return the members of a list as they are typed, without blanks around them.

    Args:
        text: `a,b` or `[a, b]`; a member may be in single or double quotes. `[]` has no member.

    Raises:
        ValueError: If a member is empty.
    """
    text = text.strip()
    inside = text[1:-1] if text.startswith("[") and text.endswith("]") and len(text) > 1 else text
    found: list[str] = []
    part, quote = "", ""
    for sign in inside + ",":
        if quote:
            part += sign
            quote = "" if sign == quote and not part.endswith("\\" + sign) else quote
        elif sign == ",":
            found.append(part.strip())
            part = ""
        else:
            quote = sign if sign in "\"'" and not part.strip() else ""
            part += sign
    if quote:  # an apostrophe, not a quotation: no quote ends it
        found = [piece.strip() for piece in inside.split(",")]
    if (len(found) > 1 and not found[-1]) or (found == [""] and inside is not text):  # `[a, ]` and `[]`
        found.pop()
    if "" in found:
        raise ValueError(f"The list {text!r} has an empty member, expected something between two commas.")
    return [_unquoted(piece) for piece in found]


def _unquoted(text: str) -> str:
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "\"'":
        return text
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    try:
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def chosen(asked: Any, present: Iterable[Any]) -> list[str]:
    """Return the columns that are meant by a value of an option, or by names in Python.

    A value that equals a column is that column, whatever it looks like. Otherwise it is a list of them, and members
    that are no column alone are joined to one that holds a comma.

    Args:
        asked: Text as it was typed, a name that is not text (the number 101), or several of them; None: none.
        present: The columns of the table.

    Returns:
        Names of columns; what is no column is returned as it was asked for, for the caller to refuse.
    """
    if asked is None:
        return []
    known = {str(name) for name in present}
    names: list[str] = []
    for one in [asked] if isinstance(asked, str) or not isinstance(asked, Iterable) else asked:
        text = str(one)
        if text in known:
            names.append(text)
        elif text.strip() in known:
            names.append(text.strip())
        elif isinstance(one, str):
            names += _joined(members(text), known)
        else:
            names.append(text)
    return names


def _joined(parts: Sequence[str], known: set[str]) -> list[str]:
    """Join neighbours that are a column only together; `known` columns of one part come first."""
    names: list[str] = []
    rest = list(parts)
    while rest:
        sizes = [
            size
            for size in range(1, len(rest) + 1)
            if any(gap.join(rest[:size]) in known for gap in (",", ", "))
        ]  # fmt: skip
        size = sizes[0] if sizes else 1
        names.append(next((name for gap in (",", ", ") if (name := gap.join(rest[:size])) in known), rest[0]))
        rest = rest[size:]
    return names


def taken_as(annotation: Any) -> Kind:
    """Say how the value of an option is typed, by the annotation of the parameter that it sets.

    Returns:
        "text": one text or path; "names": one text or a list of them; "texts": a list of texts; "numbers": a list of
        numbers; "switch": true or false; "word": one of a list of words; "other": something else, such as a number.
    """
    kinds = [part for part in parts_of(annotation) if part is not type(None)]
    if not kinds:
        return "other"
    if kinds == [bool]:
        return "switch"
    if all(typing.get_origin(part) is Literal for part in kinds):
        words = [word for part in kinds for word in typing.get_args(part)]
        return "word" if all(isinstance(word, str) for word in words) else "other"
    lists = [part for part in kinds if is_list(part)]
    if lists == kinds:
        inner = {part for one in lists for part in parts_of(members_of(one))} - {type(None)}
        if inner <= {str, Path}:
            return "texts"
        return "numbers" if inner <= {int, float} else "other"
    texts = [part for part in kinds if part in (str, Path)]
    others = [part for part in kinds if part not in texts and part not in lists]
    if not texts or any(part in (int, float, bool, dict, Any) or typing.get_origin(part) for part in others):
        return "other"
    return "names" if lists else "text"


def parts_of(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without the unions and comments around them."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return parts_of(typing.get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [part for one in typing.get_args(annotation) for part in parts_of(one)]
    return [annotation]


def is_list(annotation: Any) -> bool:
    """Whether an annotation is of a list, a tuple or another sequence of members."""
    origin = typing.get_origin(annotation)
    return isinstance(origin, type) and issubclass(origin, Sequence) and bool(typing.get_args(annotation))


def members_of(annotation: Any) -> Any:
    """Return the annotation of a list's members."""
    inner = tuple(part for part in typing.get_args(annotation) if part is not Ellipsis)
    return Union[inner]  # noqa: UP007 - made while running


def number(text: str, kind: Callable[[str], Any] = float) -> Any:
    """Return a number that is typed, such as 12, 0.5 or 1e-4.

    Raises:
        ValueError: If it is not one, saying what was expected.
    """
    text = text.strip()
    try:
        if "_" in text:
            raise ValueError
        if kind is int and not text.lstrip("+-").isdigit() and (value := float(text)).is_integer():
            return int(value)  # 1e3
        return kind(text)
    except (ValueError, OverflowError):
        raise ValueError(f"is {text!r}, expected a {'whole ' if kind is int else ''}number") from None
