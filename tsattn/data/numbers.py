"""Cells as numbers: one format for a whole file, and what is ambiguous in it is refused by column.

A number is written in a `Format`: what stands before the decimals, and between the thousands. A file is read in one
format alone; a DataFrame's texts are read in the plain one ("1234.5"). A cell that could be read in two ways is an
error that names the column, the cell and the options that decide.
"""

import datetime
import decimal
import fractions
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn.data.wording import Door, advice, plain

log = logging.getLogger(__name__)

Kind = Literal["numbers", "truth values", "times", "text", "empty"]

EXACT = 2**53  # whole numbers up to here have a float64 of their own
_MANY = 2000  # cells that tell what a column holds
_SAMPLE = 200  # different cells; a column is text if none of so many is a number
_BLANKS = " \u00a0\u2007\u2009\u202f"  # what typesetters put between thousands
_SIGNS = re.compile(r"[%‰€$£¥₹₽₩]|\b(?:EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|Fr|kr)\b\.?")
_WORDS = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE)


@dataclass(frozen=True)
class Format:
    """How numbers are written in a text file.

    Attributes:
        decimal: Decimal separator of a text file, "." or ",".
        thousands: Thousands separator of a text file: ".", ",", "'", " " or "_"; "none": there is none; None: not
            known.

    Raises:
        ValueError: If one is another character, or both are the same.
    """

    decimal: str = "."
    thousands: str | None = None

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal is {self.decimal!r}, expected '.' or ','.")
        if self.thousands not in (None, "none", ".", ",", "'", " ", "_"):
            raise ValueError(f"thousands is {self.thousands!r}, expected one of '.', ',', \"'\", ' ', '_', or 'none'.")
        if self.thousands == self.decimal:
            other = "," if self.decimal == "." else "."
            raise ValueError(
                f"decimal and thousands are both {self.decimal!r}, expected two characters; "
                f"{advice('table', 'pass {decimal}', '{thousands=none}', decimal=other)}."
            )

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as Python writes them."""
        return self.decimal == "." and self.thousands in (None, "none")


PLAIN = Format()


def _pattern(point: str, group: str | None) -> re.Pattern[str]:
    """Match whole cells; a group separator stands before each three digits, or nowhere."""
    whole = r"\d*"
    if group is not None:
        between = f"[{_BLANKS}]" if group == " " else "['’]" if group == "'" else re.escape(group)
        whole = rf"(?:[1-9]\d{{0,2}}(?:{between}\d{{3}})+|\d*)"
    return re.compile(rf"[+-]?(?=[.,]?\d){whole}(?:{re.escape(point)}\d*)?(?:[eE][+-]?\d+)?")


_UNGROUPED = {point: _pattern(point, None) for point in ".,"}
_GROUPED = {(point, group): _pattern(point, group) for point in ".," for group in ".,' _" if point != group}


def _clean(cell: str) -> str:
    return cell.strip().replace("\u2212", "-")  # a typographic minus


def _plainly(cell: str, point: str) -> str:
    """Write a number that is known to be one as Python does."""
    kept = re.sub(rf"[^0-9eE+{re.escape(point)}-]", "", cell)
    return kept.replace(point, ".")


def looks_like_number(cell: str) -> bool:
    """Whether a cell is a number in some format, maybe with a unit of money or per cent."""
    if len(cell) > 60 or ":" in cell:
        return False
    bare = _SIGNS.sub("", cell).strip()
    return any(p.fullmatch(bare) for p in (*_UNGROUPED.values(), *_GROUPED.values()))


def read_texts(column: pd.Series, written: Format, name: str, source: str) -> pd.Series:
    """Read the texts of one column of a file in its format.

    Args:
        column: Texts, NaN where blank.
        written: The file's format.
        name: Of the column, for messages.
        source: The file, for messages.

    Returns:
        float64 if every cell is a number; else the same texts, their numbers as Python writes them, so that no later
        reading finds another format in them.

    Raises:
        ValueError: If cells are numbers of another format, or could be read in two ways.
    """
    codes, cells = pd.factorize(column.astype(object))
    if len(cells) > _SAMPLE and not any(looks_like_number(_clean(str(cell))) for cell in cells[:_SAMPLE]):
        return column  # names, or dates
    texts = [_clean(str(cell)) for cell in cells]
    point = written.decimal
    group = None if written.thousands in (None, "none") else written.thousands
    mine = _UNGROUPED[point] if group is None else _GROUPED[point, group]
    known = [bool(mine.fullmatch(text) or _WORDS.fullmatch(text)) or not text for text in texts]
    wrong = [text for text, fits in zip(texts, known, strict=True) if not fits]
    if not wrong:
        found = ["nan" if not t else t if _WORDS.fullmatch(t) else _plainly(t, point) for t in texts]
        values = np.array([*(float(text) for text in found), np.nan])
        return pd.Series(values[codes], index=column.index, name=column.name)
    numeric = [text for text in wrong if looks_like_number(text)]
    if not numeric or 2 * len(wrong) - 2 * len(numeric) > len(texts):
        if written.is_plain:
            return column
        kept = [_plainly(t, point) if fits and t else t for t, fits in zip(texts, known, strict=True)]
        return pd.Series(np.array([*kept, None], dtype=object)[codes], index=column.index, name=column.name)
    if written.thousands is None:
        for between in ("'", " ", "_", *((",",) if point == "." else (".",))):
            wide = _GROUPED[point, between]
            if all(wide.fullmatch(text) or not looks_like_number(text) for text in wrong):
                if between not in ".," or _shows_thousands(texts, point, between):
                    log.warning(
                        "%s: %r holds %s, read as %s: %r stands between the thousands.",
                        source, name, repr(numeric[0]), _plainly(numeric[0], point), between,
                    )  # fmt: skip
                    return read_texts(column, Format(point, between), name, source)
                break
    row = int(np.argmax(np.isin(codes, [k for k, text in enumerate(texts) if text == numeric[0]])))
    raise ValueError(
        f"Column {name!r} of {source} holds {numeric[0]!r} in data row {row + 1}, expected numbers such as "
        f"'1234{point}5'; {_way(numeric, texts, written, name)}."
    )


def _shows_thousands(texts: Sequence[str], point: str, between: str) -> bool:
    """Whether a separator can only stand between thousands: twice in a cell, beside decimals, or beside small numbers.

    "1.250" alone may be a thousand or one and a quarter. In a file with decimal commas, "847" beside "1.003" says that
    nobody wrote decimals.
    """
    if any(text.count(between) > 1 or (between in text and point in text) for text in texts):
        return True
    return point == "," and any(text and between not in text for text in texts)


def _way(numeric: Sequence[str], texts: Sequence[str], written: Format, name: str) -> str:
    """Say which options read cells that are numbers of another format."""
    leave = advice("table", "leave the column out by {exclude}", exclude=name)
    leave = f", or {leave}" if leave else ""
    if any(_SIGNS.search(text) for text in numeric):
        return f"take the sign away from the column{leave}"
    other = "," if written.decimal == "." else "."
    grouped = [text for text in numeric if _GROUPED[written.decimal, other].fullmatch(text)]
    if len(grouped) < len(numeric):
        if any(written.decimal in text and other in text for text in numeric):
            return advice("table", "pass {decimal} and {thousands}", decimal=other, thousands=written.decimal) + leave
        if all(_UNGROUPED[other].fullmatch(text) for text in numeric):
            none = " and {thousands=none}" if written.thousands == other else ""
            return (
                advice("table", f"if its decimals stand after {other!r} pass {{decimal}}{none}", decimal=other) + leave
            )
        return f"bring its cells to one way of writing numbers{leave}"
    example = grouped[0]
    ways: tuple[str, ...] = (f"if it is {_plainly(example, written.decimal)}, pass {{thousands}}",)
    if written.decimal == ".":
        ways += (f"if it is {_plainly(example, other)}, pass {{decimal}}",)
    return advice("table", *ways, thousands=other, decimal=other) + leave


def suspicious(values: Float[np.ndarray, " row"]) -> bool:
    """Return whether numbers read with decimal points could be thousands: 847 beside what may have been "1.003"."""
    values = np.abs(values[~np.isnan(values)])
    broken = values[values % 1 != 0]
    if not len(broken) or len(broken) == len(values) or values.max(initial=0) >= 1000 or broken.min() < 1:
        return False
    thousand = broken * 1000
    return bool((np.abs(thousand - np.round(thousand)) < 1e-6 * thousand).all())


def refuse_thousands(texts: pd.Series, name: str, source: str) -> None:
    """Raise ValueError if every number with a point has three digits after it, and others have none.

    Args:
        texts: The cells as they are written.
        name: Of the column.
        source: The file.
    """
    cells = [_clean(str(cell)) for cell in texts.dropna().unique()]
    pointed = [cell for cell in cells if "." in cell]
    others = [cell for cell in cells if "." not in cell and cell]
    if not pointed or not others or not all(re.fullmatch(r"[+-]?[1-9]\d{0,2}\.\d{3}", cell) for cell in pointed):
        return
    if not all(re.fullmatch(r"[+-]?\d{1,3}", cell) for cell in others):
        return
    whole = pointed[0].replace(".", "")
    raise ValueError(
        f"Column {name!r} of {source} holds {others[0]!r} and {pointed[0]!r}, of which nobody knows whether it is "
        f"{whole} or {pointed[0]}, expected one of the two formats to be named; if it is {whole}, "
        f"{advice('table', 'pass {decimal=,} and {thousands=.}')}, if it is {pointed[0]}, "
        f"{advice('table', 'pass {thousands=none}')}."
    )


# Columns of a frame ----------------------------------------------------------------------------------------------


def _floats(column: pd.Series) -> tuple[Float[np.ndarray, " row"], int | None, bool]:
    """Turn a column into float64; return it, the first row that is not a number, and whether digits were lost."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        column = column.astype(object)
    elif pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        lost = pd.api.types.is_integer_dtype(dtype) and bool((np.abs(values) > EXACT).any())
        return values, None, lost
    if pd.api.types.is_datetime64_any_dtype(dtype) or dtype.kind in "mc":
        return np.full(len(column), np.nan), 0, False
    cells = column.astype(object).to_numpy()
    is_text = np.fromiter((isinstance(cell, str) for cell in cells), dtype=bool, count=len(cells))
    values, wrong = np.full(len(cells), np.nan), np.zeros(len(cells), dtype=bool)
    codes, texts = pd.factorize(cells[is_text])
    known = [_of_text(text) for text in texts]
    values[is_text] = np.array([value if value is not None else np.nan for value in known])[codes] if known else []
    wrong[is_text] = np.array([value is None for value in known], dtype=bool)[codes] if known else []
    others = np.flatnonzero(~is_text)
    found = pd.to_numeric(pd.Series(cells[others], dtype=object), errors="coerce")
    values[others] = np.nan if pd.api.types.is_complex_dtype(found.dtype) else found.to_numpy(dtype=np.float64)
    odd = others[np.isnan(values[others]) & ~np.asarray(pd.isna(cells[others]))]
    for row in odd:  # `Decimal` and `Fraction`; all else is no number
        wrong[row] = not _is_number(cells[row])
        values[row] = np.nan if wrong[row] else float(cells[row])
    large = others[np.abs(values[others]) > EXACT]
    lost = any(isinstance(cells[row], (int, np.integer)) and int(cells[row]) != int(values[row]) for row in large)
    return values, int(wrong.argmax()) if wrong.any() else None, lost


def _of_text(text: str) -> float | None:
    """Read a text in the plain format; NaN if it is blank, None if it is no number."""
    cell = _clean(text)
    if not cell:
        return math.nan
    return float(cell) if _UNGROUPED["."].fullmatch(cell) or _WORDS.fullmatch(cell) else None


def to_numbers(column: pd.Series) -> tuple[Float[np.ndarray, " row"], int | None]:
    """Turn a column into float64, blanks and NA into NaN; return it and the first row that is no number, if any.

    Texts are read in the plain format; `Decimal` and `Fraction` are numbers. Whole numbers that a float64 cannot hold
    are warned of.
    """
    values, bad, lost = _floats(column)
    if lost and bad is None:
        log.warning("Column %r holds whole numbers above 2^53: their last digits are lost.", str(column.name))
    return values, bad


def kind(column: pd.Series) -> Kind:
    """Say what a column holds, whatever its type; numbers with a few wrong cells among them are "numbers"."""
    dtype = column.dtype
    if pd.api.types.is_bool_dtype(dtype):
        return "truth values"
    if isinstance(dtype, pd.CategoricalDtype):
        return "text"
    if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype) or dtype.kind == "m":
        return "times"
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return "numbers"
    cells = column.dropna()
    if len(cells) > _MANY:  # an error among them is found when they are read
        cells = cells.iloc[:: len(cells) // _MANY]
    found = pd.unique(cells.map(lambda cell: _clean(cell) if isinstance(cell, str) else cell).astype(object))
    distinct = [cell for cell in found if not (isinstance(cell, str) and not cell)]
    if not distinct:
        return "empty"
    if all(isinstance(cell, (bool, np.bool_)) for cell in distinct):
        return "truth values"
    if all(isinstance(cell, (datetime.date, datetime.time, datetime.timedelta)) for cell in distinct):
        return "times"
    numeric = sum(looks_like_number(cell) if isinstance(cell, str) else _is_number(cell) for cell in distinct)
    return "numbers" if 2 * numeric >= len(distinct) else "text"


def _is_number(cell: object) -> bool:
    return isinstance(cell, (int, float, decimal.Decimal, fractions.Fraction, np.number))


def not_a_number(column: pd.Series, row: int, name: str, source: str, door: Door) -> str:
    """Say which cell of a column is not a number, and what to do about it.

    Args:
        column: Of a table.
        row: Of the cell.
        name: Of the column.
        source: The table.
        door: Where it came in.
    """
    cell = column.iloc[row]
    ways = advice(door, "leave the column out by {exclude}", exclude=name)
    ways = f"{ways} or correct the table" if ways else "correct the table, or leave the column out"
    return (
        f"Column {name!r} of {source} holds {plain(cell)} in data row {row + 1}, expected a number; {hint(cell)}{ways}."
    )


def hint(cell: object) -> str:
    """Say what to do about a cell that is a number in another format, ending in ", or "; "" if it is none."""
    text = _clean(cell) if isinstance(cell, str) else ""
    if not text or not looks_like_number(text):
        return ""
    if _SIGNS.search(text):
        return "take the sign away from its cells, or "
    said = advice("table", "{decimal=,}", "{thousands=,}", joint=" or ")
    return f"say how its numbers are written when the file is read ({said}), or " if said else ""
