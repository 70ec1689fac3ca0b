"""Where a run's data is, without its path in what the run writes: a folder's name may hold a person's.

A configuration that is written names a store, a split or a checkpoint by its pseudonym (`privacy.label`). Which path
that is, is kept beside the key of the pseudonyms, on this machine alone, so that `tsattn test --ckpt_path` finds it
again; a run folder that is passed on says nothing, and its reader passes `--data.store`.
"""

import contextlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsattn import messages
from tsattn.files import write_atomically
from tsattn.recordings.privacy import is_bids_name, known_suffix, label, shows_names

PSEUDONYM = re.compile(r"rec-[0-9a-f]{12}(\.\w+)*")
RUN = re.compile(r"\d{8}-\d{6}-[\w-]+")  # a folder that `fit` named
HARMLESS = frozenset(
    "best last config metrics runs run run1 run2 store stores data out output outputs prepared recordings found events "
    "report reports probabilities scores split splits folds train val test detector detect pretrain pre model models "
    "exported checkpoint checkpoints results picture pictures plot plots store128 store256 store512 r p s".split()
)
MOST = 10_000  # places that are kept


def shown(path: str | Path) -> str:
    """Return how a file or folder of the user's may be called on screen: plain words as they are, else a label."""
    name = Path(path).name
    return name if _harmless(name) else label(path)


def hidden(path: str | Path) -> str:
    """Return what a configuration calls a path; which path that is, is kept on this machine.

    Args:
        path: As it was given; one of plain words ("store.zarr", "runs/.../best.ckpt") stays as it is.
    """
    text = str(path)
    if shows_names() or PSEUDONYM.fullmatch(text) or all(part == ".." or _harmless(part) for part in Path(text).parts):
        return text
    called = label(path) if PSEUDONYM.fullmatch(label(path)) else label(Path(path).parent / f"of {Path(path).name}")
    with contextlib.suppress(OSError):  # without it the reader is asked for the path
        known = _known()
        known.pop(called, None)
        known[called] = os.path.abspath(path)
        kept = json.dumps(dict(list(known.items())[-MOST:]), indent=0).encode()
        write_atomically(_file(), lambda file: _write_alone(file, kept))
    return called


def revealed(path: str | Path) -> Path:
    """Return the path that a configuration means: of a pseudonym, what it stands for on this machine.

    Raises:
        FileNotFoundError: If it is a pseudonym of another machine.
    """
    place = Path(path)
    if place.exists() or not PSEUDONYM.fullmatch(str(path)):
        return place
    known = _known().get(str(path))
    if known is None:
        options = messages.advice("{store}", "{splits}", "{checkpoint}", joint=", ")
        ways = f" ({options})" if options else ""
        raise FileNotFoundError(
            f"{path} stands for a path that is not known on this machine: pass the path of your own{ways}."
        )
    return Path(known)


def hide_places(config: Any) -> None:
    """Put pseudonyms in the place of paths of recordings into a configuration that is to be written.

    Args:
        config: Of the command line, with `data` and `model`; changed in place.
    """
    for part, names in (("data", ("store", "splits")), ("model", ("checkpoint", "run"))):
        arguments = getattr(getattr(config, part, None), "init_args", None)
        if arguments is None or getattr(config.data.init_args, "store", None) is None:
            continue
        for name in names:
            value = arguments.get(name)
            if isinstance(value, str | Path) and (os.sep in str(value) or Path(str(value)).exists()):
                arguments[name] = hidden(value)


def told_command(words: Sequence[str]) -> str:
    """Return a command line with labels in the place of paths."""
    told = list(words[:1])
    for word in words[1:]:
        option, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
        is_path = os.sep in value or Path(value[:255]).exists()
        plain = all(part == ".." or _harmless(part) for part in Path(value).parts)
        told.append(f"{option}{equals}{value if not is_path or plain or _shipped(value) else label(value)}")
    return " ".join(told)


def _shipped(value: str) -> bool:
    return bool(re.fullmatch(r"[a-z]+/[\w.-]+\.yaml", value))


def _harmless(name: str) -> bool:
    stem = name.removesuffix(known_suffix(name)).removesuffix(".ckpt").removesuffix(".yaml")
    return (
        stem.casefold() in HARMLESS
        or bool(RUN.fullmatch(stem))
        or is_bids_name(name)
        or bool(PSEUDONYM.fullmatch(name))
    )


def _write_alone(file: Any, content: bytes) -> None:
    """Write what nobody else on this machine may read."""
    os.fchmod(file.fileno(), 0o600)
    file.write(content)


def _file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "tsattn" / "places.json"


def _known() -> dict[str, str]:
    try:
        found = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(place) for name, place in found.items()} if isinstance(found, dict) else {}
