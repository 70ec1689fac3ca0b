"""What may be shown of a file or a person: pseudonyms that are stable on one machine and cannot be turned back.

A pseudonym is a keyed hash. The key is TSATTN_SALT, or a random one that is made once in the configuration folder
and never leaves it. File names are shown only if they are BIDS names (which hold a label, not a name), or if
TSATTN_SHOW_NAMES=1 says that the screen is private.
"""

import hashlib
import os
import re
import secrets
from pathlib import Path

BIDS_NAME = re.compile(r"sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*(_[A-Za-z0-9]+)?(\.[A-Za-z0-9.]+)?")


def pseudonym(text: str, kind: str) -> str:
    """Return `kind` and eight hexadecimal digits that stand for `text`.

    Args:
        text: What must not be shown: a patient code, a path.
        kind: "sub" or "rec".
    """
    digest = hashlib.blake2b(text.encode(), key=_salt(), digest_size=4).hexdigest()
    return f"{kind}-{digest}"


def label(path: str | Path) -> str:
    """Return how a file or folder may be called on screen, in a log or in an error.

    Args:
        path: A file or folder of the user's.
    """
    name = Path(path).name
    if os.environ.get("TSATTN_SHOW_NAMES") == "1" or BIDS_NAME.fullmatch(name):
        return name
    return pseudonym(str(Path(path).absolute()), "rec") + "".join(Path(path).suffixes[-1:])


def _salt() -> bytes:
    given = os.environ.get("TSATTN_SALT")
    if given:
        return hashlib.blake2b(given.encode()).digest()
    folder = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "tsattn"
    file = folder / "salt"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as new:
                new.write(secrets.token_bytes(32))
        except FileExistsError:  # another process was first
            pass
    return file.read_bytes()
