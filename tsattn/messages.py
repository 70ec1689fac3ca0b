"""How a message names an option: as the running command spells it, or as an argument of Python.

A check far below does not know who called it. It writes `option("timestamp", "ds")`, which is `--data.timestamp ds`
while `tsattn fit` runs, `--timestamp ds` in `tsattn forecast`, and `timestamp='ds'` in a notebook; an option that the
caller does not have is not proposed.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_OPTIONS: ContextVar[Mapping[str, str] | None] = ContextVar("options of the running command", default=None)
_PART = re.compile(r"\{(\w+)(?:=([^{}]*))?\}")  # {timestamp}, {decimal=,}


@contextmanager
def command(options: Mapping[str, str]) -> Iterator[None]:
    """Let messages name the options of a command while it runs.

    Args:
        options: Name of each argument, and the option that sets it: `{"timestamp": "--data.timestamp"}`.
    """
    token = _OPTIONS.set(options)
    try:
        yield
    finally:
        _OPTIONS.reset(token)


def spelling() -> Mapping[str, str] | None:
    """Return the options of the running command; None in Python."""
    return _OPTIONS.get()


def on_command_line() -> bool:
    """Return whether a command of `tsattn` is running, so that advice is for a shell."""
    return _OPTIONS.get() is not None


def has(name: str) -> bool:
    """Return whether the caller can set this option; Python has every one that a message names."""
    options = _OPTIONS.get()
    return options is None or name in options


def option(name: str, value: Any = None) -> str:
    """Spell an option, with a value if one is given, such that it works when it is copied.

    Raises:
        KeyError: If the running command has no such option; ask `has` first, or use `advice`.
    """
    options = _OPTIONS.get()
    if options is None:
        return f"{name}=..." if value is None else f"{name}={value!r}"
    if value is None:
        return options[name]
    if isinstance(value, bool):
        return f"{options[name]} {str(value).lower()}"
    if isinstance(value, (list, tuple)):
        value = ",".join(map(str, value)) if not any("," in str(item) for item in value) else list(value)
    return f"{options[name]} {shlex.quote(str(value))}"


def advice(*ways: str, joint: str = ", or ", **values: Any) -> str:
    """Join the ways out of an error that the caller has.

    Args:
        *ways: Sentences with options in braces: "name the column by {timestamp}", "pass {decimal=,}". A way with an
            option that the running command does not have is left out.
        joint: What is put between two ways.
        **values: Values that are only known now: `advice("leave it out by {exclude}", exclude="Unnamed: 4")`.

    Returns:
        The ways with their options spelled out, in backquotes; "" if none is left.
    """

    def spelled(match: re.Match[str]) -> str:
        return f"`{option(match[1], values.get(match[1], match[2]))}`"

    possible = [way for way in ways if all(has(match[1]) for match in _PART.finditer(way))]
    return joint.join(_PART.sub(spelled, way) for way in possible)


def hint(*ways: str, joint: str = ", or ", **values: Any) -> str:
    """Return `advice` as a sentence to put behind another one, with a space in front; "" if there is none."""
    told = advice(*ways, joint=joint, **values)
    return f" {told[0].upper()}{told[1:]}." if told else ""


def adopt(options: Mapping[str, str] | None) -> None:
    """Let this process, a worker, name options as the process does that started it (`spelling` says how)."""
    _OPTIONS.set(options)
