"""What reading and checking have to say of a recording or of a file of events."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Note:
    """What a reader or a check has to say of a recording; never holds a name, a date or a free text of the file.

    Attributes:
        level: Whether the result may suffer from it.
        text: What was found, in sentences.
        way: What the reader may do about it, as `tsattn.messages.hint` spells it for the caller, or "". It is of the
            call that reads the files: a store keeps the text alone.
    """

    level: Literal["info", "warning"]
    text: str
    way: str = ""

    @property
    def told(self) -> str:
        """The text, and the way out behind it."""
        return self.text + self.way
