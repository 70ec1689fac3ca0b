"""What may be imported because a file or an option names it: one list, one function, asked before the import.

Weights come with a recipe of their network, runs with a configuration, configurations with class paths: all of it is
data of whoever wrote it. `imported` is the only way from a class path to a class, and `guard_parser` says the same to
the parser of the command line. What is not on the list is trusted by its user alone, by `--trust_config`.
"""

import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

NETWORKS = ("tsattn.models", "tsattn.layers")
TASKS = ("tsattn.tasks",)
DATA = ("tsattn.data.modules", "tsattn.recordings.modules")
LIGHTNING = (  # what Lightning's own options are made of
    "lightning.pytorch.accelerators",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "lightning.fabric.accelerators",
    "lightning.fabric.loggers",
    "lightning.fabric.plugins",
)
_TRUSTED: ContextVar[frozenset[str]] = ContextVar("what the user of this command trusts", default=frozenset())
_allowed: set[str] = set()  # by the last `guard_parser`
PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def listed(class_path: str, places: Iterable[str]) -> bool:
    """Return whether a class path is in one of these modules and packages."""
    return any(class_path == place or class_path.startswith(f"{place}.") for place in places)


def imported(class_path: Any, source: Any, places: Iterable[str], what: str = "network of tsattn's") -> Any:
    """Return the class that a path names, after checking that it may be imported.

    Args:
        class_path: Such as "tsattn.models.itransformer.ITransformer".
        source: Who asks for it, for messages: "The checkpoint".
        places: Modules and packages that it may be in. Beside them it may be in a module that the caller has imported
            already, or trusts; of the former nothing more is imported.
        what: What is in those places, for messages.

    Raises:
        ValueError: If it may not be imported, or is not there.
    """
    if not (isinstance(class_path, str) and PATH.fullmatch(class_path)):
        raise ValueError(f"{source} asks for {class_path!r}, which is not a class path, so it is damaged.")
    module_name, _, name = class_path.rpartition(".")
    if listed(class_path, places) or listed(class_path, _TRUSTED.get()):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as problem:
            raise ValueError(f"{source} asks for {class_path}, which this tsattn does not have.") from problem
    elif listed(class_path, ("tsattn",)):
        raise ValueError(f"{source} asks for {class_path}, which is not a {what}.")
    elif module_name in sys.modules:
        module = sys.modules[module_name]
    else:
        raise ValueError(
            f"{source} asks for {class_path}, which is not part of tsattn. If you trust it, run `import {module_name}` "
            f"first; on the command line, pass the configuration that names it by -c, with --trust_config."
        )
    found = vars(module).get(name)  # no `getattr`, which may import more
    if found is None:
        raise ValueError(f"{source} asks for {class_path}, which this tsattn does not have.")
    return found


@contextmanager
def trusting(class_paths: Iterable[str]) -> Iterator[None]:
    """Let `imported` take these class paths, and everything in the packages that they are in, for a while."""
    token = _TRUSTED.set(frozenset(_place(path) for path in class_paths if PATH.fullmatch(path)))
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def _place(class_path: str) -> str:
    """Return the package of a class path; a module of Python's own is not trusted as a whole."""
    top = class_path.partition(".")[0]
    return class_path if top in sys.stdlib_module_names else top


def guard_parser() -> None:
    """Tell jsonargparse what its values may import: tsattn's and Lightning's classes, and what `trusting` names.

    It holds for this process from now on: whatever an option, a configuration or a file inside another names is checked
    before it is imported, and no class is made where none is asked for.
    """
    from jsonargparse import set_parsing_settings

    global _allowed
    allowed = {*NETWORKS, *TASKS, *DATA, *LIGHTNING, *_TRUSTED.get()} - {"jsonargparse"}
    set_parsing_settings(
        instantiate_subclass_spec_in_any=False,
        import_path_denylist=["*", *sorted(_allowed - allowed)],
        import_path_allowlist=sorted(allowed),
    )
    _allowed = allowed


def paths_in(content: Any) -> set[str]:
    """Return every text in plain data that could be a class path."""
    found: set[str] = set()
    stack = [content]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, (list, tuple)):
            stack += value
        elif isinstance(value, str) and PATH.fullmatch(value):
            found.add(value)
    return found
