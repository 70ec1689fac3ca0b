"""What a command says when it ends in an exception: one sentence, without a traceback.

Exceptions that speak to the user (ValueError, OSError, ImportError) have their own sentence. Some of others' (no
memory, damaged files) are translated; anything else is a fault of ours, and says so.
"""

import argparse
import re
import struct
import zlib
from importlib import metadata

TRACEBACK = "TSATTN_TRACEBACK=1 before the command shows where"
MEMORY = re.compile(
    r"out of memory|not enough memory|can't allocate memory|cannot allocate memory|alloc_cpu", re.IGNORECASE
)
DISK = re.compile(r"no space left|disk quota|file write failed|unexpected pos", re.IGNORECASE)
USERS = (ValueError, argparse.ArgumentError, argparse.ArgumentTypeError)  # their text is for the user
OF_LIGHTNING = "MisconfigurationException"  # by name: its class is imported with Lightning only


def sentence(problem: BaseException) -> str:
    """Return what a user is told of an exception."""
    text = plain(str(problem)).strip()
    if isinstance(problem, MemoryError) or (isinstance(problem, RuntimeError) and MEMORY.search(text)):
        first = text.partition("\n")[0].partition(". ")[0].rstrip(".")
        told = f"There is not enough memory{f' ({first})' if first else ''}. Take less at a time, or a larger machine."
    elif isinstance(problem, RecursionError):
        told = f"Something is nested too deeply to be read, most likely a file of JSON or YAML ({TRACEBACK})."
    elif isinstance(problem, RuntimeError) and DISK.search(text):
        told = f"A file could not be written whole: is the disk full? ({text.partition(chr(10))[0]})"
    elif isinstance(problem, zlib.error | struct.error | EOFError):
        told = f"A file is damaged or cut short ({type(problem).__name__}: {text or 'it ends too early'})."
    elif isinstance(problem, ImportError):
        told = missing(problem, text)
    elif isinstance(problem, OSError) and problem.strerror and problem.errno is not None:
        names = [str(name) for name in (problem.filename, problem.filename2) if name is not None]
        told = ": ".join([problem.strerror, *names])
    elif isinstance(problem, OSError) or (isinstance(problem, USERS) and not isinstance(problem, UnicodeError)):
        told = text or f"{type(problem).__name__} ({TRACEBACK})"
    elif isinstance(problem, UnicodeError):
        told = f"A text is not in the encoding that was expected ({text})."
    elif type(problem).__name__ == OF_LIGHTNING:
        told = text
    else:
        told = (
            f"This is a fault of tsattn's, not yours: {type(problem).__name__}: {' '.join(text.split())}. {TRACEBACK}."
        )
    notes = " ".join(getattr(problem, "__notes__", ()))
    return visible(f"{told} {notes}".strip())


def missing(problem: ImportError, text: str) -> str:
    """Return what is said of a package that is not there, with the line that installs it."""
    name = (problem.name or "").partition(".")[0]
    if "pip install" in text or "tsattn[" in text or not name or name == "tsattn":
        return text
    try:
        needs = metadata.requires("tsattn") or []
    except metadata.PackageNotFoundError:
        needs = []
    for need in needs:
        wanted, _, condition = need.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        package = re.split(r"[^\w.-]", wanted.strip())[0].replace("-", "_").lower()
        if extra and extra[1] not in ("test", "docs") and package == name.replace("-", "_").lower():
            return f"The package {name} is not installed: pip install 'tsattn[{extra[1]}]'."
    if isinstance(problem, ModuleNotFoundError):
        return f"The package {name} is not installed: pip install {name}."
    return f"{text} ({TRACEBACK})."


def visible(text: str) -> str:
    """Return a text without signs that would move a terminal's cursor or change its colours."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else repr(sign)[1:-1] for sign in text)


def plain(message: str) -> str:
    """Reduce an error of jsonargparse's to the sentence in it.

    jsonargparse wraps what went wrong into the alternatives it tried and prints the whole configuration.
    """
    noise = r"(Does not validate|Subtypes:|Errors:|Expected nothing|Given value)"
    message = re.sub(r"Call to compute_fn of link .*? with args \(.*?\) failed: ", "", message, flags=re.DOTALL)
    message = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"Expected one of \1", message)
    message = re.sub(
        r"Expected an? <class '(?:\w+\.)*(\w+)'>", lambda match: f"Expected {KINDS.get(match[1], match[1])}", message
    )
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    where = re.findall(r"Problem with given class_path '(?:\w+\.)*(\w+)'", message)
    told = [line for line in lines if line and not re.match(rf"{noise}|Problem with given class_path|Parser key", line)]
    keys = re.findall(r'Parser key "([^"]+)"', message)
    text = " ".join(told) or message
    if where and text.startswith("Option "):
        return f"{where[-1]}: {text}"
    return f"{'.'.join(keys)}: {text}" if keys and text.startswith("Expected") else text


KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "list": "a list",
         "dict": "a mapping", "NoneType": "nothing"}  # fmt: skip
