"""What reading and checking have to say of a recording or of a file of events."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Note:
    """What a reader or a check has to say of a recording; never holds a name, a date or a free text of the file."""

    level: Literal["info", "warning"]
    text: str
