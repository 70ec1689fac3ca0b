"""How cells and names of a table are written in messages."""

from typing import Any

import numpy as np


def plain(value: Any) -> str:
    """Return a cell as Python writes it, for a message."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def listed(names: Any, most: int = 12) -> str:
    """Return names in quotes, the first ones of many, for a message."""
    names = [repr(str(name)) for name in names]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
