"""A function as a command: parameters are options, annotations say how they are typed, the docstring is the help.

What is typed for a name, a path or another text is that text (`typed.py`); only numbers, switches and words of a list
are read as such.
"""

import difflib
import importlib
import inspect
import json
import shutil
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from tsattn import typed

POSITIONAL = ("name", "files", "paths", "store")  # parameters that are typed without an option in front
RENAMED = {"source": "--from"}  # `from` is a word of Python
NESTED = {"changes": "tsattn.recordings.preparation.preset.Preset"}  # what the dictionary `--changes.NAME` is made for
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Option:
    """One parameter of a command.

    Attributes:
        name: The parameter.
        flag: How it is typed: `--out`; of a positional one its name in capitals.
        annotation: Its type.
        default: Its default, `inspect.Parameter.empty` if it is required.
        help: Its sentence in the docstring.
    """

    name: str
    flag: str
    annotation: Any
    default: Any
    help: str

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is inspect.Parameter.empty

    @property
    def positional(self) -> bool:
        """Whether it is typed without an option in front."""
        return not self.flag.startswith("-")

    @property
    def nested(self) -> bool:
        """Whether it is a dictionary, whose members are typed `--changes.band`."""
        return any((typing.get_origin(part) or part) is dict for part in typed.parts_of(self.annotation))

    @property
    def words(self) -> list[str]:
        """The words that may be chosen from, if those are all that there is."""
        parts = [part for part in typed.parts_of(self.annotation) if part is not type(None)]
        if not parts or any(typing.get_origin(part) is not Literal for part in parts):
            return []
        return [str(word) for part in parts for word in typing.get_args(part)]

    def members(self) -> dict[str, Any]:
        """Annotations of the members of a dictionary, if it is known what it is made for."""
        if self.name not in NESTED:
            return {}
        module, _, name = NESTED[self.name].rpartition(".")
        made = getattr(importlib.import_module(module), name)
        hints = typing.get_type_hints(made)
        return (
            {field.name: hints[field.name] for field in fields(made) if field.name != "name"}
            if is_dataclass(made)
            else {}
        )


def options_of(function: Callable[..., None]) -> list[Option]:
    """Return the options of a command, in the order of its parameters."""
    from docstring_parser import parse

    told = {parameter.arg_name: parameter.description or "" for parameter in parse(function.__doc__ or "").params}
    hints = typing.get_type_hints(function)
    options = []
    for name, parameter in inspect.signature(function).parameters.items():
        flag = name.upper() if name in POSITIONAL else RENAMED.get(name, f"--{name}")
        options.append(Option(name, flag, hints[name], parameter.default, " ".join(told.get(name, "").split())))
    return options


class Spelling(Mapping[str, str]):
    """How messages spell the options of a command (`tsattn.messages.command`).

    Args:
        options: Of the command. A member of a dictionary is named as if it were an option itself: `implausible` is
            `--changes.implausible`.
        also: Other names for some of them, those that Python uses.
    """

    def __init__(self, options: Sequence[Option], also: Mapping[str, str] | None = None) -> None:
        self.options = options
        self.spelt = {option.name: option.flag for option in options}
        self.spelt |= {name: self.spelt[of] for name, of in (also or {}).items() if of in self.spelt}

    def __getitem__(self, name: str) -> str:
        if name in self.spelt:
            return self.spelt[name]
        for option in self.options:
            if option.nested and (name in option.members() if option.name in NESTED else name.isidentifier()):
                return f"{option.flag}.{name}"
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.spelt)

    def __len__(self) -> int:
        return len(self.spelt)


def parse(options: Sequence[Option], args: Sequence[str], command: str) -> dict[str, Any]:
    """Return the arguments of a function, as typed on the command line.

    Args:
        options: Of the command.
        args: What was typed after its name.
        command: Its name, for messages.

    Raises:
        ValueError: If an option is unknown or lacks a value, or a value is not what its annotation says.
    """
    flags = {option.flag: option for option in options if not option.positional}
    places = [option for option in options if option.positional]
    given: dict[str, list[str]] = {}
    inner: dict[str, dict[str, Any]] = {}
    loose: list[str] = []
    rest = list(args)
    while rest:
        token = rest.pop(0)
        if token == "--":
            loose += rest
            break
        if not is_option(token):
            loose.append(token)
            continue
        flag, equals, value = token.partition("=")
        base, dot, member = flag.partition(".")
        if flag not in flags and not (dot and member and base in flags and flags[base].nested):
            raise unknown(flag, known(options), command)
        option = flags[flag] if flag in flags else flags[base]
        if not equals:
            switch = typed.taken_as(option.annotation) == "switch"
            if rest and not is_option(rest[0]) and (not switch or rest[0].lower() in WORDS):
                value = rest.pop(0)
            elif switch:
                value = "true"
            else:
                raise ValueError(f"{flag} has no value; one that begins with dashes is written {flag}=VALUE.")
        if flag in flags and not option.nested:
            given.setdefault(option.name, []).append(value)
        elif flag in flags:
            inner.setdefault(option.name, {}).update(_dictionary(value, flag))
        else:
            inner.setdefault(option.name, {})[member] = _member(option, member, value, flag)
    arguments: dict[str, Any] = dict(inner.items())
    for option in options:
        if option.name in given:
            arguments[option.name] = read(option.annotation, given[option.name], option.flag)
    for number, option in enumerate(places):
        many = typed.is_list(option.annotation)
        taken, loose = (loose, []) if many and number == len(places) - 1 else (loose[:1], loose[1:])
        if taken:
            inside = typed.members_of(option.annotation) if many else option.annotation
            values = [read(inside, [one], option.flag) for one in taken]
            arguments[option.name] = values if many else values[0]
    if loose:
        expected = "" if places else "; every value of this command follows its option"
        raise ValueError(f"{loose[0]!r} was not expected{expected} (`tsattn {command} --help`).")
    absent = [option.flag for option in options if option.required and option.name not in arguments]
    if absent:
        raise ValueError(
            f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing (`tsattn {command} --help`)."
        )
    return arguments


def is_option(token: str) -> bool:
    """Whether what was typed is an option, rather than a value such as -5 or the name -x."""
    return token.startswith("--") and token[2:3].isalpha()


def known(options: Sequence[Option]) -> list[str]:
    """Return every option as it can be typed, members of dictionaries among them."""
    flags = [option.flag for option in options if not option.positional]
    return flags + [f"{option.flag}.{member}" for option in options if option.nested for member in option.members()]


def unknown(flag: str, flags: Sequence[str], command: str) -> ValueError:
    """Return the refusal of an option that there is not, with the closest one that there is."""
    last = {one.rpartition(".")[2].lstrip("-"): one for one in reversed(flags)}  # the first of equal endings stays
    close = difflib.get_close_matches(flag, flags, n=1, cutoff=0.6)
    typed_last = flag.rpartition(".")[2].lstrip("-")
    by_end = difflib.get_close_matches(typed_last, last, n=1, cutoff=0.75)
    best = last[typed_last] if typed_last in last else close[0] if close else last[by_end[0]] if by_end else ""
    hint = f" Did you mean {best}?" if best else ""
    return ValueError(f"There is no option {flag}.{hint} `tsattn {command} --help` lists them.")


def read(annotation: Any, values: Sequence[str], flag: str) -> Any:
    """Return the value of an option of what was typed; a list that is given twice is one longer list.

    Raises:
        ValueError: If it is not what the annotation says, or nothing.
    """
    if typed.taken_as(annotation) in ("texts", "numbers") or typed.is_list(_only(annotation)):
        inside = typed.members_of(_only(annotation))
        return [_scalar(inside, one, f"A member of {flag}") for value in values for one in typed.members(value)]
    return _scalar(annotation, values[-1], flag)


def _only(annotation: Any) -> Any:
    """Return the one type that an annotation has beside None, or the annotation."""
    parts = [part for part in typed.parts_of(annotation) if part is not type(None)]
    return parts[0] if len(parts) == 1 else annotation


def _scalar(annotation: Any, text: str, flag: str) -> Any:
    parts = [part for part in typed.parts_of(annotation) if part is not type(None)]
    if not text.strip():
        raise ValueError(f"{flag} was given and is empty, expected a value.")
    words = [word for part in parts if typing.get_origin(part) is Literal for word in typing.get_args(part)]
    for word in words:
        if str(word) == text.strip():
            return word
    problem = ""
    for kind in (int, float):
        if kind in parts:
            try:
                return typed.number(text, kind)
            except ValueError as found:
                problem = problem or str(found)
    if bool in parts and text.strip().lower() in WORDS:
        return WORDS[text.strip().lower()]
    if str in parts:
        return text
    if Path in parts:
        return Path(text)
    if Any in parts:
        return guess(text)
    if words:
        close = difflib.get_close_matches(text, map(str, words), n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        also = " or a number" if problem else ""
        raise ValueError(f"{flag} is {text!r}, expected one of {', '.join(map(str, words))}{also}.{hint}")
    if bool in parts:
        raise ValueError(f"{flag} is {text!r}, expected true or false.")
    raise ValueError(f"{flag} {problem}.")


def _member(option: Option, member: str, text: str, flag: str) -> Any:
    """Return a member of a dictionary; it may be set to nothing ("null"), where its annotation allows that."""
    hints = option.members()
    if option.name in NESTED and member not in hints:
        raise unknown(flag, [f"{option.flag}.{name}" for name in hints], "COMMAND")
    if option.name not in NESTED:
        return guess(text)
    annotation = hints[member]
    nothing = text.strip().lower() in ("null", "none")
    if nothing and type(None) in typed.parts_of(annotation):
        return None
    only = _only(annotation)
    if not typed.is_list(only):
        return _scalar(annotation, text, flag)
    inside = typed.members_of(only)
    optional = type(None) in typed.parts_of(inside)
    return [
        None if optional and one.lower() in ("null", "none") else _scalar(inside, one, f"A member of {flag}")
        for one in typed.members(text)
    ]


def _dictionary(text: str, flag: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{flag} is {text!r}, expected its members one by one, {flag}.NAME VALUE.")
    return value


def guess(text: str) -> Any:
    """Return a number, true or false, a list in brackets, or else the text."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [guess(one) for one in typed.members(text)]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


# ---- help


def help_of(command: str, function: Callable[..., None]) -> str:
    """Return the help of a command: its docstring, and each option with its type, words and default."""
    options = options_of(function)
    needed = [
        option.flag if option.positional else f"{option.flag} {sign(option)}" for option in options if option.required
    ]
    optional = [f"[{option.flag}]" for option in options if option.positional and not option.required]
    rest = ["[options]"] if any(not option.required for option in options) else []
    begin = (function.__doc__ or "").partition("Args:")[0].partition("Raises:")[0]
    usage = f"usage: tsattn {' '.join([command, *needed, *optional, *rest])}"
    broken = textwrap.wrap(usage, 110, subsequent_indent=" " * 7, break_long_words=False, break_on_hyphens=False)
    lines = [*broken, "", *wrapped(begin)]
    rows: list[tuple[str, str]] = []
    for option in options:
        name = option.flag if option.positional else f"{option.flag} {sign(option)}".rstrip()
        rows.append((name, option.help + note(option)))
        if option.nested and option.name in NESTED:
            rows.append(("", f"One of {', '.join(f'{option.flag}.{member}' for member in option.members())}."))
    return "\n".join([*lines, "", *table(rows)])


def sign(option: Option) -> str:
    """Return what is shown in the place of an option's value."""
    kind = typed.taken_as(option.annotation)
    if option.nested:
        return "NAME=VALUE" if option.name not in NESTED else "..."
    if kind == "switch":
        return ""
    if option.words:
        return "{" + ",".join(option.words) + "}"
    parts = typed.parts_of(option.annotation)
    if kind in ("texts", "names"):
        return "A,B"
    if kind == "numbers" or typed.is_list(_only(option.annotation)):
        return "1,2"
    return "PATH" if Path in parts else "NUMBER" if {int, float} & set(parts) else "TEXT"


def note(option: Option) -> str:
    """Return what follows an option's sentence: whether it is needed, or its default."""
    if option.required:
        return " (needed)"
    if option.default is None or option.default is False or option.default == []:
        return ""
    shown = ",".join(map(str, option.default)) if isinstance(option.default, list | tuple) else option.default
    return f" (default: {str(shown).lower() if shown is True else shown})"


def table(rows: Sequence[tuple[str, str]], left: int = 26) -> list[str]:
    """Return lines of two columns."""
    lines: list[str] = []
    for name, text in rows:
        told = wrapped(text, left + 2)
        if len(name) > left - 2 and name:
            lines += [f"  {name}", *(" " * (left + 2) + line for line in told)]
        else:
            first, *more = told or [""]
            lines += [f"  {name:{left}}{first}".rstrip(), *(" " * (left + 2) + line for line in more)]
    return lines


def wrapped(text: str, indent: int = 0) -> list[str]:
    """Return a text in lines that fit the terminal."""
    width = min(shutil.get_terminal_size((110, 24)).columns, 120)
    return textwrap.wrap(
        " ".join(text.split()), max(30, width - indent), break_long_words=False, break_on_hyphens=False
    )
