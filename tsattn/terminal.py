"""What reaches a terminal: in letters that it has, and without what moves its cursor or changes its colours.

Names of channels, files and columns come from strangers' files. A terminal obeys escape sequences in them, and one of
ASCII (`LANG=C`) ends a program on a micro sign.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
PLAIN = str.maketrans({
    "µ": "u", "μ": "u", "°": "deg ", "±": "+-", "×": "x", "…": "...", "–": "-", "—": "-", "−": "-", "²": "^2",
    "Ω": "Ohm",
    "“": '"', "”": '"', "‘": "'", "’": "'", "≤": "<=", "≥": ">=", "→": "->", "█": "#", "▏": "|", "▕": "|",
})  # fmt: skip
MOVES = "\x1b[A"  # what a progress bar needs: a line up


def printable(text: str, encoding: str | None = None) -> str:
    """Return a text that a terminal shows and does not obey.

    Args:
        text: May hold new lines and tabs.
        encoding: Of the terminal; letters that it lacks become similar ones, or "?".
    """
    parts = [CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), part) for part in text.split(MOVES)]
    told = MOVES.join(parts)
    try:
        told.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        told = told.translate(PLAIN).encode(encoding or "ascii", "replace").decode(encoding or "ascii")
    return told


class Terminal:
    """A stream that writes `printable` text; everything else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        return int(self._stream.write(printable(text, getattr(self._stream, "encoding", None))) or 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Let everything that is printed go through `Terminal` for a while."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Terminal(sys.stdout), Terminal(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
