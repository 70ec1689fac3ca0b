"""Write files of the user's without losing what was there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tsattn import messages


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Raise FileExistsError if `path` is there and `overwrite` is False."""
    if Path(path).exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists already. Choose another path"
            + (f", or pass {messages.option('overwrite', True)}." if messages.has("overwrite") else ".")
        )


def write_atomically(path: str | Path, write: Callable[[Any], Any]) -> None:
    """Write a binary file whole or not at all: an interruption or a full disk leaves the old file as it was.

    Args:
        path: The file to make or replace.
        write: Called with a file open for binary writing, in the same folder.
    """
    path = Path(path).resolve()  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
