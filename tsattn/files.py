"""Read and write files of the user's: nothing is lost, nothing but regular files is touched, no file is too large."""

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tsattn import messages

LARGEST_TEXT = 16 * 2**20  # bytes of a configuration or a sidecar that is read as a whole
DEEPEST = 100  # brackets within brackets that are walked


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


def read_text(path: str | Path, limit: int = LARGEST_TEXT) -> str:
    """Return the text of a regular file of bounded size.

    Args:
        path: The file; a link to one is followed.
        limit: Bytes.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is a folder, a device or a pipe, is too large, or is not text in UTF-8.
    """
    path = Path(path)
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError(f"{path} is a {kind_of(path.resolve())}, expected a regular file.")
    if about.st_size > limit:
        raise ValueError(f"{path} has {about.st_size / 1e6:.3g} MB, expected a text of at most {limit / 1e6:.3g} MB.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ValueError(f"{path} is not text in UTF-8 (byte {problem.start} is not), so it is damaged.") from problem


def read_json(path: str | Path, limit: int = LARGEST_TEXT) -> Any:
    """Return what a JSON file holds.

    Args:
        path: The file.
        limit: Bytes.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: As `read_text`; or if it is not JSON, or is nested too deeply.
    """
    text = read_text(path, limit)
    try:
        content = json.loads(text)
    except RecursionError as problem:
        raise ValueError(f"{path} is nested too deeply to be read, so it is damaged.") from problem
    except ValueError as problem:
        raise ValueError(f"{path} is damaged, expected JSON: {problem}") from problem
    refuse_bloat(content, path)
    return content


def refuse_bloat(content: Any, source: Any, children: Callable[[Any], list[Any]] | None = None) -> None:
    """Refuse data that are nested too deeply, hold themselves, or become huge when what is shared is written out.

    Args:
        content: Plain data: dictionaries, lists, and what is in them.
        source: Name for the message.
        children: Returns what is inside a container that may hold others; None: of dictionaries, lists and tuples.

    Raises:
        ValueError: Naming the source.
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
                    raise ValueError(f"{source} holds itself, so it is damaged.")
                stack.append(child)
        else:
            stack.pop()
            below = inside(node)
            size[id(node)] = 1 + sum(size.get(id(child), 1) for child in below)
            depth[id(node)] = 1 + max((depth.get(id(child), 1) for child in below), default=0)
            if depth[id(node)] > DEEPEST:
                raise ValueError(f"{source} is nested more than {DEEPEST} levels deep, so it is damaged.")
            if size[id(node)] > LARGEST_TEXT:
                raise ValueError(
                    f"{source} becomes more than {LARGEST_TEXT:,} entries when its references are followed."
                )


def _inside(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    return [value for value in values if isinstance(value, (dict, list, tuple))]
