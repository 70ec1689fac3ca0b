"""Index levels with names are columns: AutoGluon's form, an index of items and times, is the same table as columns."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

_USUAL = ("item_id", "unique_id", "date", "ds", "timestamp", "time", "datetime")  # whatever their case


def with_index_columns(frame: pd.DataFrame, what: str, asked: Sequence[Any] = ()) -> pd.DataFrame:
    """Return the frame with the named levels of its index as columns; the frame is not changed.

    An index of times stays one, because it is the clock. Of a single index of numbers that are each there once nobody
    knows whether they are more than row numbers: it is a column if its name is asked for, or is one of items or times.

    Args:
        frame: Any.
        what: For messages.
        asked: Names of columns that somebody asked for.

    Raises:
        ValueError: If a level of several has no name, or a column has the same one.
    """
    index = frame.index
    if isinstance(index, pd.DatetimeIndex | pd.PeriodIndex):
        return frame
    if not isinstance(index, pd.MultiIndex):
        if index.name is None:
            return frame
        name = str(index.name).strip()
        labels = name in asked or name.lower() in _USUAL
        if not labels and isinstance(index, pd.RangeIndex):
            return frame
        if not labels and pd.api.types.is_numeric_dtype(index.dtype) and index.is_unique:
            return frame
    bare = [number for number, name in enumerate(index.names) if name is None]
    if bare:
        raise ValueError(
            f"{what} has an index of {index.nlevels} levels, and level {bare[0]} has no name, expected names such "
            "as item_id and timestamp; name them (`frame.index.names = [...]`), or make them columns (`reset_index`)."
        )
    own = {str(name).strip() for name in frame.columns}
    twice: Any = next((name for name in index.names if str(name).strip() in own), None)
    if twice is not None:
        same = index.get_level_values(twice).equals(pd.Index(frame[twice])) if twice in frame.columns else False
        if not same:
            raise ValueError(
                f"{what} has {str(twice)!r} in its index and as a column, and they differ, expected it once: drop one "
                f"of the two (`reset_index({str(twice)!r}, drop=True)`)."
            )
        frame = frame.drop(columns=twice)
    return frame.reset_index()
