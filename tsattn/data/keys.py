"""Which columns tell series apart, and which only number the rows: neither is forecast, and series are never mixed.

A key is a column of few values beside which every time is there once. A column of row numbers goes up by one from row
to row, first in the file or under a usual name.
"""

import itertools
import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from tsattn.data.numbers import kind
from tsattn.data.wording import listed

log = logging.getLogger(__name__)

ITEMS = ("item_id", "unique_id")  # of AutoGluon and Chronos, of Nixtla
ROW_NAMES = (  # that tools and people give to row numbers
    *("", "#", "index", "level_0", "idx", "id", "no", "nr", "num", "number", "sno", "slno", "instant", "obs"),
    *("row", "rowid", "rownum", "rownumber", "rowname", "rownames", "rowno", "record", "recordid", "recordno", "rn"),
)


def _bare(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum() or c == "#")


def row_numbers(frame: pd.DataFrame, keep: Sequence[str] = (), first: str | None = None) -> list[str]:
    """Name the columns that only number the rows.

    Args:
        frame: With names that are text.
        keep: Columns that somebody named, which are data.
        first: First column of the file, which may have any name.
    """
    found = []
    for name in frame.columns:
        unnamed = name.startswith("Unnamed: ") or name in ("index", "level_0", "")
        if name in keep or not (name == first or unnamed or _bare(name) in ROW_NAMES or name.lower() in ROW_NAMES):
            continue
        column = frame[name]
        if not pd.api.types.is_integer_dtype(column.dtype) or len(column) < 3 or column.isna().any():
            continue
        steps = np.diff(column.to_numpy(dtype=np.int64))
        if unnamed:  # of a frame that was filtered, sorted or put together by pandas
            up = bool((steps > 0).all() or (steps == 1).mean() > 0.5 or column.is_unique)
        else:
            up = bool((steps == 1).all())
        if up:
            found.append(name)
    return found


def readable(
    frame: pd.DataFrame,
    source: str,
    *,
    named: Sequence[str] = (),
    others: Sequence[str] = (),
    first: str | None = None,
    truth: bool = True,
) -> list[str]:
    """Name the columns that are read though nobody asked for them: numbers that are neither times nor row numbers.

    What is left out is named in a warning.

    Args:
        frame: Without its clock and items.
        source: For messages.
        named: Columns that somebody asked for; they are returned, whatever they hold.
        others: Columns that look like times.
        first: First column of the file.
        truth: Whether truth values are numbers here.
    """
    counted = row_numbers(frame, [*named, *others], first)
    free = [name for name in frame.columns if name not in named]
    kinds = {name: kind(frame[name]) for name in free}
    numbers = [n for n in free if kinds[n] == "numbers" or (truth and kinds[n] == "truth values")]
    if not named and counted and all(name in counted or name in others for name in numbers):
        counted = [n for n in counted if n.startswith("Unnamed: ") or n in ("index", "level_0", "")]
    if counted:
        log.warning("%s: %s only numbers the rows and is left out.", source, listed(counted))
    chosen = [name for name in numbers if name not in counted and name not in others]
    rest = [n for n in free if n not in numbers and n not in others and n not in counted and kinds[n] != "times"]
    if rest:
        log.warning("%s: %s hold no numbers and are left out; name them by a role, or mend them.", source, listed(rest))
    return [name for name in frame.columns if name in named or name in chosen]


def likely_keys(frame: pd.DataFrame, times: Int[np.ndarray, " row"], without: Sequence[str] = ()) -> list[str]:
    """Name the column, or the two columns, beside which every time is there once; [] if none does that.

    Args:
        frame: All columns that the table has.
        times: Of every row, as whole numbers; some are there several times.
        without: Columns that are the clock.
    """
    rows = len(frame)
    place, distinct_times = pd.factorize(times)
    most = int(np.bincount(place).max()) if rows else 0
    if most < 2:
        return []
    candidates: dict[str, tuple[np.ndarray, int]] = {}
    for name in frame.columns:
        column = frame[name]
        if name in without or pd.api.types.is_datetime64_any_dtype(column.dtype) or column.isna().any():
            continue
        numeric = pd.api.types.is_numeric_dtype(column.dtype)
        if numeric and pd.api.types.is_float_dtype(column.dtype) and not (column % 1 == 0).all():
            continue
        codes, values = pd.factorize(column)
        if not 2 <= len(values) <= max(rows // 3, 2):
            continue
        full = rows / (len(values) * len(distinct_times))
        if numeric and full < 0.3 and not _bare(name).endswith("id"):
            continue  # counts that differ by chance
        candidates[name] = codes, len(values)

    def once(codes: np.ndarray) -> bool:
        return not pd.Index(place.astype(np.int64) * (int(codes.max()) + 1) + codes).has_duplicates

    alone = [name for name, (codes, values) in candidates.items() if values >= most and once(codes)]
    if alone:
        return [min(alone, key=lambda name: (candidates[name][1] - most, name.lower() not in ITEMS))]
    few = list(candidates)[:12]
    for i, one in enumerate(few):
        for other in few[i + 1 :]:
            codes = candidates[one][0].astype(np.int64) * candidates[other][1] + candidates[other][0]
            if once(pd.factorize(codes)[0]):
                return [one, other]
    return []


def mixed(frame: pd.DataFrame, times: Int[np.ndarray, " row"], without: Sequence[str] = ()) -> str:
    """Name the column whose series would be averaged with one another though no time repeats; "" if there is none.

    Series one below the other make the times go back where one ends; series in turns are known by the column's name.

    Args:
        frame: All columns that the table has.
        times: Of every row, as whole numbers.
        without: Columns that are the clock.
    """
    back = np.flatnonzero(np.diff(times) < 0) + 1
    for name in frame.columns:
        column = frame[name]
        if name in without or pd.api.types.is_float_dtype(column.dtype) or column.isna().any():
            continue
        codes, values = pd.factorize(column)
        if not 2 <= len(values) <= max(len(frame) // 3, 2):
            continue
        changes = np.flatnonzero(np.diff(codes) != 0) + 1
        below = len(back) > 0 and len(changes) == len(values) - 1 and set(back) <= set(changes)
        if below:  # parts of one series that stand in another order do not overlap
            spans = sorted((times[codes == code].min(), times[codes == code].max()) for code in range(len(values)))
            below = any(begin < end for (_, end), (begin, _) in itertools.pairwise(spans))
        ids = _bare(name).endswith("id") and len(changes) > len(values)
        if below or (ids and len(np.unique(times)) == len(times)):
            return name
    return ""


def many(times: Int[np.ndarray, " row"]) -> bool:
    """Return whether so many rows repeat a time that it is no accident of a few."""
    return bool(10 * pd.Index(times).duplicated().sum() >= len(times))
