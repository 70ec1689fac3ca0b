"""How messages about tables write cells and names, and which options each door has."""

import re
from typing import Any, Literal

import numpy as np

from tsattn import messages

Door = Literal["table", "panel"]  # `from_frame`, `TableData`, `tsattn fit`; or `read_panel`, `Forecaster`

_ONLY = {  # an option that is not listed is of both doors
    "table": {
        *("decimal", "thousands", "encoding", "variate_column", "value_column", "exclude", "exogenous", "known"),
    },
    "panel": {"item_id", "known_covariates", "past_covariates"},
}
_NAMED = re.compile(r"\{(\w+)[=}]")


def advice(door: Door, *ways: str, **values: Any) -> str:
    """Join the ways out of an error that a door has; see `messages.advice`.

    Args:
        door: Where the table came in.
        *ways: Sentences with options in braces. A way with an option of the other door is left out.
        **values: As in `messages.advice`.
    """
    other: set[str] = set()
    if door == "table":
        other = _ONLY["panel"]
    elif not messages.on_command_line():  # `tsattn forecast` reads panels, too, and knows its own options
        other = _ONLY["table"]
    return messages.advice(*(way for way in ways if not other & set(_NAMED.findall(way))), **values)


def plain(value: Any) -> str:
    """Return a cell as Python writes it, for a message."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def listed(names: Any, most: int = 12) -> str:
    """Return names in quotes, the first ones of many, for a message."""
    names = [repr(str(name)) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
