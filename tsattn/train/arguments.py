"""What is typed after `tsattn fit`, `validate` and `test`, and what files of `-c` say, made ready for jsonargparse.

jsonargparse reads every value as YAML, also a text that it has read before: a column called `#orders`, `null` or `[mW]`
would be nothing, or a list. The annotations of the classes that a command line speaks of say which options are text
(`typed.taken_as`). Those are handed over as quoted text, and quoted text is not read again.
"""

import inspect
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import set_dumper, set_loader

from tsattn import manual, messages, parsing, trust, typed
from tsattn.typed import Text

MODE = "tsattn"  # of jsonargparse: YAML in which quoted text stays text
LARGEST = 16 * 2**20  # bytes of a file of -c that is looked into
NOTHING = ("null", "Null", "NULL", "~")
ROOT: dict[str, Any] = {  # options that are not of a class
    "ckpt_path": str | None,
    "overwrite": bool,
    "trust_config": bool,
    "test": bool,
    "patience": int,
    "run_dir": Path | None,
    "out": Path | None,
    "seed_everything": int | bool,
}
OTHERS = ("config", "c", "help", "h", "print_config", "data", "model", "trainer")
LINKED_TO_DATA = ("context", "horizon", "segments", "segment_seconds", "max_channels", "seed")  # the network's to say
LINKED_TO_NETWORK = ("variates", "features", "future_covariates", "known_rows")  # read off the table
ALSO = {"quantile_levels": "quantiles", "learning_rate": "lr", "seed": "seed_everything", "df": "table"}
Place = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number (YAML 1.2), a date is text, and quoted text stays text."""


_NUMBER = re.compile(
    r"^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_Loader.yaml_implicit_resolvers = {
    letter: [pair for pair in pairs if pair[0] not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:float")]
    for letter, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+0123456789."))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Read a mapping whose quoted values stay text; keys are plain."""
    loader.flatten_mapping(node)
    made: dict[Any, Any] = {}
    for key, value in node.value:
        name = loader.construct_object(key, deep=True)
        made[str(name) if isinstance(name, Text) else name] = loader.construct_object(value, deep=True)
    return made


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    return Text(text) if node.style in ("'", '"') else text


def install() -> None:
    """Teach jsonargparse our reading and writing of YAML."""
    _Loader.add_constructor("tag:yaml.org,2002:str", _scalar)
    _Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
    set_loader(MODE, lambda text: yaml.load(text, _Loader), (yaml.YAMLError,))
    set_dumper(MODE, dump)


yaml.SafeDumper.add_representer(  # Lightning and jsonargparse write it, too
    Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


def dump(values: Any) -> str:
    """Write YAML; `Text` in double quotes."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=False)


def without_text(values: Any) -> Any:
    """Return a copy of a configuration with plain text, as everything after the command line expects it."""
    from jsonargparse import Namespace

    if isinstance(values, Text):
        return str(values)
    if isinstance(values, Namespace):
        made = Namespace()
        for name, value in vars(values).items():
            vars(made)[name] = without_text(value)
        return made
    if isinstance(values, dict):
        return {name: without_text(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)([without_text(value) for value in values])
    return values


class Classes:
    """The classes that a command line speaks of, by where they stand: ("data",), ("model", "network").

    Only classes of this package are looked into, whatever a configuration names; of others nothing is known here.

    Args:
        args: What was typed, shipped names of `-c` replaced by files.
    """

    def __init__(self, args: Sequence[str]) -> None:
        self.found: dict[Place, type] = {}
        for flag, value in _pairs(args):
            if flag in ("--config", "-c"):
                node = _compose(value)
                if node is not None:
                    self._walk(node, (), set())
            elif value is not None and flag.startswith("--"):
                place = _place(flag.removesuffix(".class_path"))
                if place in (("data",), ("model",)) or (
                    place[:1] == ("model",) and (flag.endswith(".class_path") or place[-1] in ("network", "scratch"))
                ):
                    self._name(place, value)

    def _walk(self, node: yaml.Node, place: Place, seen: set[int]) -> None:
        if not isinstance(node, yaml.MappingNode) or id(node) in seen:
            return
        seen.add(id(node))
        for key, value in node.value:
            if key.value == "class_path" and isinstance(value, yaml.ScalarNode):
                self._name(place, value.value)
            self._walk(value, place if key.value == "init_args" else (*place, str(key.value)), seen)

    def _name(self, place: Place, path: str) -> None:
        """Note a class of ours, by its path or its name alone; another one is no longer known."""
        found = ours(path)
        if found is not None:
            self.found[place] = found
        elif "." in path and place in self.found:
            del self.found[place]

    def annotations(self, place: Place) -> dict[str, Any] | None:
        """Return the annotated arguments of what stands there; None if that is not known."""
        if not place:
            return ROOT
        return None if place not in self.found else arguments_of(self.found[place])

    def annotation(self, place: Place) -> Any:
        """Return the annotation of one option; None if it is not known."""
        return (self.annotations(place[:-1]) or {}).get(place[-1])

    def options(self) -> list[str]:
        """Return every option that can be given to the known classes, and the usual ones of training."""
        names = [f"--{name}" for name in ROOT] + [f"--trainer.{name}" for name in manual.TRAINER]
        for place in sorted(self.found, key=len):
            linked = LINKED_TO_DATA if place == ("data",) else LINKED_TO_NETWORK
            names += [f"--{'.'.join((*place, one))}" for one in arguments_of(self.found[place]) if one not in linked]
        return names


class Spelling(Mapping[str, str]):
    """How messages spell the options of `fit`, `validate` and `test`: `--data.target`, `--model.network.horizon`.

    Args:
        command: Which of the three.
        classes: Those that the command line speaks of; None: they are not known yet.
    """

    def __init__(self, command: str, classes: Classes | None = None) -> None:
        self.command = command
        self.classes = classes

    def __getitem__(self, name: str) -> str:
        name = ALSO.get(name, name)
        of_fit = ("test", "patience", "run_dir")
        if name in ROOT and (name != "out" if self.command == "fit" else name not in of_fit):
            return f"--{name}"
        table = ours("tsattn.data.modules.TableData")
        assert table is not None
        found = {("data",): table} | (self.classes.found if self.classes else {})
        linked = {"data": LINKED_TO_DATA, "model": LINKED_TO_NETWORK}
        for place in sorted(found, key=lambda place: (place[0], len(place))):
            cls = found[place]
            if name not in linked[place[0]] and name in arguments_of(cls) and (*place, name) not in found:
                inner = (*place, "network")
                if place[0] == "model" and inner in found and name in arguments_of(found[inner]) and len(place) > 1:
                    continue  # of a network around another one, the inner one says the lengths
                return f"--{'.'.join((*place, name))}"
        from lightning import Trainer

        if name in inspect.signature(Trainer.__init__).parameters and name != "self":
            return f"--trainer.{name}"
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(ROOT)

    def __len__(self) -> int:
        return len(ROOT)


def ours(path: str) -> type | None:
    """Return a class of this package by its path, or by its name if it was imported; None for anything else."""
    if "." not in path:
        from lightning import LightningDataModule, LightningModule
        from torch import nn

        bases: tuple[type, ...] = (LightningDataModule, LightningModule, nn.Module)
        every = [cls for base in bases for cls in _below(base)]
        return next((cls for cls in every if cls.__name__ == path and cls.__module__.startswith("tsattn.")), None)
    places = (*trust.NETWORKS, *trust.TASKS, *trust.DATA)
    if not trust.listed(path, places):
        return None
    try:
        found = trust.imported(path, "The configuration", places)
    except ValueError:
        return None
    return found if isinstance(found, type) else None


def _below(base: type) -> Iterator[type]:
    classes: list[type] = base.__subclasses__()
    for cls in classes:
        yield cls
        yield from _below(cls)


def arguments_of(cls: type) -> dict[str, Any]:
    """Return the annotations of the arguments of a class, in order."""
    hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    return {name: hints.get(name, Any) for name in list(inspect.signature(cls).parameters)}


def prepared(args: Sequence[str], command: str) -> list[str]:
    """Return a command line in which text is text, lists are lists and switches have a value.

    Args:
        args: What was typed, shipped names of `-c` replaced by files.
        command: `fit`, `validate` or `test`.

    Raises:
        ValueError: If an option is not one of the class that it is meant for, lacks its value, or comes to nothing.
    """
    install()
    classes = Classes(args)
    spelling = messages.spelling()
    if isinstance(spelling, Spelling):
        spelling.classes = classes
    made: list[str] = []
    several: dict[Place, list[Text]] = {}  # names that are typed more than once
    for flag, value in _pairs(args):
        if flag in ("--config", "-c"):
            made += ["--config", _retagged(value, classes)]
            continue
        if not flag.startswith("--"):
            made.append(flag)
            continue
        place = _place(flag)
        annotation = _checked(flag, place, classes, command)
        if annotation is None:
            made += [flag] if value is None else [f"{flag}={value}"]
            continue
        kind = typed.taken_as(annotation)
        if value is None and kind == "switch":
            value = "true"
        if value is None:
            raise ValueError(f"{flag} has no value; one that begins with dashes is written {flag}=VALUE.")
        if kind in ("text", "names", "texts") and not value.strip():
            raise ValueError(f"{flag} was given and is empty, expected a value.")
        if kind == "text":
            made += ["--config", _setting(place, Text(value))]
        elif kind == "names":
            asked = several.setdefault(place, [])
            asked.append(Text(value))
            made += ["--config", _setting(place, asked[0] if len(asked) == 1 else list(asked))]
        elif kind == "texts":
            asked = several.setdefault(place, [])
            asked += map(Text, typed.members(value))
            made += ["--config", _setting(place, list(asked))]
        elif kind == "numbers" and value not in NOTHING:
            try:
                numbers = [typed.number(one) for one in typed.members(value)] and typed.members(value)
            except ValueError as problem:
                raise ValueError(f"A member of {flag} {problem}, as in 0.7,0.1,0.2.") from None
            made.append(f"{flag}=[{', '.join(numbers)}]")
        else:
            if value not in NOTHING[:3] and _is_nothing(value):
                raise ValueError(f"{flag} was given as {value!r}, which is nothing, expected a value.")
            made.append(f"{flag}={value}")
    return made


def _checked(flag: str, place: Place, classes: Classes, command: str) -> Any:
    """Return the annotation of an option; None if it is not ours to know.

    Raises:
        ValueError: If the class that it is of has no such argument.
    """
    if place[-1].endswith("+") or place[-1] in ("help", "class_path", "dict_kwargs") or place[0] == "trainer":
        return None
    if len(place) == 1 and place[0] in OTHERS:
        return None
    options = classes.annotations(place[:-1])
    if options is None:
        return None
    if place[-1] not in options:
        raise parsing.unknown(flag, classes.options(), command)
    return None if place in classes.found else options[place[-1]]


def _pairs(args: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Give each option and its value, None if it has none; what is not an option stands as one without a value."""
    rest = list(args)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        if not (parsing.is_option(flag) or flag in ("-c", "-h")):
            yield flag + equals + value, None
        elif equals:
            yield flag, value
        elif rest and not parsing.is_option(rest[0]) and rest[0] not in ("-c", "-h") and flag not in ("--help", "-h"):
            yield flag, rest.pop(0)
        else:
            yield flag, None


def _place(flag: str) -> Place:
    return tuple(part for part in flag.lstrip("-").split(".") if part != "init_args")


def _setting(place: Place, value: Any) -> str:
    """Return a configuration that sets one option."""
    for depth, name in enumerate(reversed(place)):
        value = {name: value}
        if 0 <= depth < len(place) - 1:
            value = {"init_args": value}
    return dump(value)


def _is_nothing(value: str) -> bool:
    try:
        return yaml.safe_load(value) is None
    except yaml.YAMLError:
        return False


def _compose(config: str | None) -> yaml.Node | None:
    """Return the tree of a file of `-c`, or of YAML text; None if that cannot be read (which jsonargparse says)."""
    if config is None:
        return None
    try:
        path = None if "\n" in config else Path(config)
        if path is not None and path.is_file() and path.stat().st_size > LARGEST:
            return None
        text = path.read_text(encoding="utf-8-sig") if path is not None and path.is_file() else config
        return yaml.compose(text, _Loader)
    except (yaml.YAMLError, OSError, ValueError, RecursionError):
        return None


def _retagged(config: str | None, classes: Classes) -> str:
    """Return a configuration in which what should be text is text; the path itself if there is nothing to change."""
    if config is None:
        raise ValueError("-c has no value, expected a configuration (`tsattn configs` lists them).")
    node = _compose(config)
    if not isinstance(node, yaml.MappingNode):
        return config
    where = config if "\n" not in config else "the configuration"
    return yaml.serialize(node, allow_unicode=True) if _retag(node, (), classes, where, set()) else config


def _retag(node: yaml.MappingNode, place: Place, classes: Classes, where: str, seen: set[int]) -> bool:
    changed = False
    for number, (key, value) in enumerate(node.value):
        here = place if key.value == "init_args" else (*place, str(key.value))
        if id(value) in seen:
            continue
        seen.add(id(value))
        annotation = classes.annotation(here) if here != place else None
        kind = "other" if annotation is None or here in classes.found else typed.taken_as(annotation)
        if isinstance(value, yaml.MappingNode):
            changed |= _retag(value, here, classes, where, seen)
        elif kind in ("text", "names", "texts"):
            name = ".".join(here)
            if isinstance(value, yaml.ScalarNode) and value.style is None and value.value in NOTHING:
                continue
            for scalar in [value] if isinstance(value, yaml.ScalarNode) else value.value:
                if not isinstance(scalar, yaml.ScalarNode):
                    continue
                if not scalar.value.strip():
                    raise ValueError(
                        f"{name} in {where} is empty, expected a value: text that begins with # is put in quotes, and "
                        "null sets nothing."
                    )
                if scalar.style is None:
                    scalar.tag, scalar.style, changed = "tag:yaml.org,2002:str", '"', True
            if kind == "texts" and isinstance(value, yaml.ScalarNode):
                node.value[number] = (key, _sequence(value, '"'))
        elif kind == "numbers" and isinstance(value, yaml.ScalarNode) and value.value not in (*NOTHING, ""):
            node.value[number] = (key, _sequence(value, None))
            changed = True
    return changed


def _sequence(node: yaml.ScalarNode, style: str | None) -> yaml.SequenceNode:
    """Return the list that a text of members is."""
    resolver = _Loader("")
    members = [
        yaml.ScalarNode(
            "tag:yaml.org,2002:str" if style else resolver.resolve(yaml.ScalarNode, one, (True, False)),
            one,
            style=style,
        )
        for one in typed.members(node.value)
    ]
    return yaml.SequenceNode("tag:yaml.org,2002:seq", members, flow_style=True)
