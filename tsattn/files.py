"""Read and write files of the user's: nothing is lost, nothing but regular files is touched."""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tsattn import messages


def refuse_existing(path: str | Path, overwrite: bool) -> None:
    """Raise FileExistsError if something is at `path` that must not be replaced.

    Args:
        path: The file that is to be written.
        overwrite: Whether a regular file may be replaced. A link, a device, a pipe or a socket never is.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    kind = kind_of(path)
    if kind not in ("regular file", "folder"):
        raise FileExistsError(f"{path} is a {kind}, and only a regular file is replaced: choose another path.")
    if not overwrite:
        raise FileExistsError(
            f"{path} exists already. Choose another path"
            + (f", or pass {messages.option('overwrite', True)}." if messages.has("overwrite") else ".")
        )


def kind_of(path: str | Path) -> str:
    """Return what is at a path, in words; a link is not followed."""
    mode = os.lstat(path).st_mode
    kinds = {
        stat.S_IFREG: "regular file",
        stat.S_IFDIR: "folder",
        stat.S_IFLNK: "link",
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
    }
    return kinds.get(stat.S_IFMT(mode), "device")


def write_atomically(path: str | Path, write: Callable[[Any], Any]) -> None:
    """Write a binary file whole or not at all: an interruption or a full disk leaves the old file as it was.

    Args:
        path: The file to make or replace.
        write: Called with a file open for binary writing, in the same folder.

    Raises:
        FileExistsError: If a link, a device or a pipe is at `path`.
        OSError: If the disk is full, or the folder cannot be written; with the file's name.
    """
    path = Path(path)
    refuse_existing(path, overwrite=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb", opener=_new) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, temporary)
        os.replace(temporary, path)
    except BaseException as problem:
        temporary.unlink(missing_ok=True)
        if isinstance(problem, OSError) and problem.errno is not None and problem.filename in (None, str(temporary)):
            raise OSError(problem.errno, f"{path} could not be written: {problem.strerror}") from problem
        raise


def _new(path: str, flags: int) -> int:
    """Open a file that is not there yet, so that no link of somebody else's is followed."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of a process that was killed
    return os.open(path, flags | os.O_EXCL, 0o666)


@contextlib.contextmanager
def locked(folder: str | Path, refusal: str) -> Iterator[None]:
    """Hold a lock on a folder, which the system takes back if this process is killed.

    Args:
        folder: That is there.
        refusal: What is said if another process holds it.

    Raises:
        ValueError: With `refusal`.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        yield
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise ValueError(refusal) from problem
        yield
    finally:
        os.close(opened)
