"""What may be shown of a file or a person: pseudonyms that are stable on one machine and cannot be turned back.

A pseudonym is a keyed hash. The key is TSATTN_SALT, or a random one that is made once in the configuration folder and
never leaves it. Twelve hexadecimal digits: among 10^5 recordings two share one with probability n^2 / (2 * 16^12) =
2e-5 (with eight digits it would be 0.7).

File names are shown only if they are BIDS names, or if TSATTN_SHOW_NAMES=1 says that the screen is private. A BIDS
label (`sub-...`) is a pseudonym by the standard (BIDS specification, "Participant names and other labels"), and we take
it for one: nobody can tell a pseudonym from the name in `sub-JaneDoe_ieeg.edf`. Who writes names into labels shows
them.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path

DAY = 86400
WORD = re.compile(r"[a-z]{1,8}")
DIGITS = 12
SUFFIXES = frozenset(
    ".21e .avg .bdf .bin .cnt .csv .dat .e .edf .eeg .eeg.gz .egi .fif .fif.gz .fdt .gdf .gz .h5 .hdf .hdf5 "
    ".html .json .lay .log .mat .mef .mefd .mff .nc .ncs .nev .npy .npz .nwb .parquet .png .pdf .pnt .rec "
    ".set .svg .trc .tsv .tsv.gz .txt .vhdr .vmrk .zarr .zip".split()
)  # an ending of another kind may be a part of a name ("Doe.Jane")
BIDS_FIXED = frozenset(
    "README README.md README.txt CHANGES LICENSE dataset_description.json participants.tsv participants.json "
    "ieeg eeg meg derivatives sourcedata".split()
)
BIDS_STEM = re.compile(
    r"(sub|ses)-[A-Za-z0-9]+"
    r"(_(ses|task|acq|rec|run|space|split|proc|desc|recording|dir|atlas)-[A-Za-z0-9]+)*"
    r"(_(ieeg|eeg|meg|events|channels|electrodes|coordsystem|scans|sessions|annotations|physio|photo))?"
)


def pseudonym(text: str, kind: str) -> str:
    """Return `kind` and twelve hexadecimal digits that stand for `text`.

    Args:
        text: What must not be shown: a patient code, a path.
        kind: "sub" or "rec".

    Raises:
        OSError: If TSATTN_SALT is not set and no key can be kept in the configuration folder.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), key=_salt(), digest_size=DIGITS // 2).hexdigest()
    return f"{kind}-{digest}"


def shifted(start: datetime, subject: str) -> datetime:
    """Return a clock time moved back by a time that is the subject's secret: 10 to 60 years.

    The order and the distances of one subject's recordings stay as they are.

    Args:
        start: Of a recording.
        subject: Whose recording it is, by pseudonym.
    """
    digest = hashlib.blake2b(f"clock of {subject}".encode(), key=_salt(), digest_size=8).digest()
    return start - timedelta(seconds=DAY * 3650 + int.from_bytes(digest) % (DAY * 18250))


def label(path: str | Path) -> str:
    """Return how a file or folder may be called on screen, in a log or in an error.

    Args:
        path: A file or folder of the user's.
    """
    name = Path(path).name
    if shows_names() or is_bids_name(name):
        return name
    return pseudonym(os.path.abspath(path), "rec") + known_suffix(name)


def shows_names() -> bool:
    """Return whether the user said that the screen is private."""
    return os.environ.get("TSATTN_SHOW_NAMES") == "1"


def is_bids_name(name: str) -> bool:
    """Return whether a file or folder is called as BIDS says: known entities, suffix and ending, nothing between."""
    return name in BIDS_FIXED or bool(BIDS_STEM.fullmatch(name.removesuffix(known_suffix(name))))


def known_suffix(name: str) -> str:
    """Return the ending of a file's name if it is one of a format (".edf", ".fif.gz"), else nothing."""
    last_two = "".join(Path(name).suffixes[-2:])
    last = Path(name).suffix
    return next((suffix for suffix in (last_two, last) if suffix.lower() in SUFFIXES), "")


def scrub(text: str, paths: Iterable[str | Path]) -> str:
    """Replace files and folders in somebody else's message by their labels.

    Args:
        text: A message of a library's, which may name a file with its whole path.
        paths: What the user gave. What lies in a folder goes with it, to the end of the quotation or the line.
    """
    if shows_names():
        return text
    for path in sorted(map(str, paths), key=len, reverse=True):
        name = Path(path).name
        stem = name.removesuffix(known_suffix(name))
        forms = [os.path.realpath(path), os.path.abspath(path), path, name, "" if is_bids_name(stem) else stem]
        told = label(path).replace("\\", r"\\")
        for form in filter(lambda form: form.strip("./\\"), dict.fromkeys(forms)):
            before = "" if os.path.isabs(form) else r"(?<![\w-])"
            if WORD.fullmatch(form):  # "empty", "no": only where it is meant as a name, not in a sentence
                before = r"(?<=['\"/\\])"
            text = re.sub(rf"{before}{re.escape(form)}(?![\w-])([/\\][^'\"\n]*)?", told, text)
    return text


def _salt() -> bytes:
    given = os.environ.get("TSATTN_SALT")
    if given:
        return hashlib.blake2b(given.encode()).digest()
    folder = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "tsattn")
    file = os.path.join(folder, "salt")
    try:
        if not os.path.exists(file):
            _make_salt(Path(file))
        now = os.stat(file)
        salt = _read_salt(file, (now.st_mtime_ns, now.st_ino, now.st_size))
    except OSError as problem:
        raise OSError(
            f"The key of the pseudonyms cannot be kept in {folder} ({problem.strerror or problem}). "
            "Set TSATTN_SALT to a secret text of your own, the same in every run."
        ) from problem
    if len(salt) != 32:
        raise OSError(
            f"The key of the pseudonyms, {file}, has {len(salt)} bytes, expected 32. Restore it from a copy; or remove "
            "it, and every pseudonym changes."
        )
    return salt


@lru_cache(maxsize=4)  # every recording that is opened asks for it several times
def _read_salt(file: str, written: tuple[int, int, int]) -> bytes:
    """Return the key in a file, read anew when the file is another: of another time, place or size."""
    return Path(file).read_bytes()


def _make_salt(file: Path) -> None:
    """Write the key whole under another name, then link it: the first of several processes wins, all read the same."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".salt.{os.getpid()}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as new:
            new.write(secrets.token_bytes(32))
            new.flush()
            os.fsync(new.fileno())
        os.link(temporary, file)
    except FileExistsError:  # another process was first
        pass
    finally:
        temporary.unlink(missing_ok=True)
