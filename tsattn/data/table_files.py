"""Files of tables as pandas frames: encodings, separators, headers, formats of numbers, and limits on their sizes.

pandas reads; here it is decided how. A file that is not what its name says is one sentence that names it. What has to
be assumed (an encoding, a line of units that is passed over) is a warning.
"""

import codecs
import csv
import gzip
import io
import logging
import os
import stat
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from tsattn import typed
from tsattn.data import numbers
from tsattn.data.clock import NUMBERED
from tsattn.data.numbers import Format
from tsattn.data.wording import advice, listed

log = logging.getLogger(__name__)

TEXTS = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz")
MOST_PACKED = 200  # times that a table of text may grow when it is unpacked; measurements grow 3 to 20 times
FREE = 64 * 2**20  # bytes; smaller tables may be packed as tightly as they like
_HEAD = 200  # lines that are looked at before pandas reads them all


def read_frame(
    path: Path,
    decimal: str = ".",
    thousands: str | None = None,
    encoding: str | None = None,
    *,
    skip: Sequence[str] = (),
    only: Sequence[str] | None = None,
    option: str = "table",
) -> tuple[pd.DataFrame, bool]:
    """Read a file into a frame.

    Args:
        path: The file.
        decimal: Decimal separator of a text file, "." or ",".
        thousands: Thousands separator of a text file; "none": there is none; None: not known.
        encoding: Encoding of a text file; None: UTF-8 (or UTF-16 with its mark), else Windows-1252 with a warning.
        skip: Columns whose numbers nobody reads, so that they may be written in any way; names, or lists as typed.
        only: The only columns whose numbers are read, likewise; None: all.
        option: By which the file was named, for messages.

    Returns:
        The frame, and whether a clock may be expected in it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder or a pipe, is damaged, is too large for the memory, holds two columns of one
            name, or numbers in another format.
    """
    _check_place(path, option)
    name = path.name.lower()
    written = Format(decimal, thousands)
    if name.endswith(TEXTS):
        return _read_text(path, written, encoding, skip, only)
    if name.endswith(".npz"):
        with _whole(path, _ARRAYS):
            return _read_npz(path), False
    if name.endswith(".parquet"):
        import pyarrow

        with _whole(path, (*_ARRAYS, pyarrow.ArrowException)):
            return _read_parquet(path), True
    raise ValueError(
        f"{path} has an unknown ending, expected .csv, .tsv or .txt (or these with .gz), .npz or .parquet."
    )


def _check_place(path: Path, option: str) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{path.absolute()} does not exist, expected a table; check {advice('table', f'{{{option}}}')}."
        ) from None
    if stat.S_ISDIR(mode):
        raise ValueError(f"{path} is a folder, expected a file with one table.")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is a pipe or a device, expected a regular file; write the table to a file first.")


class _Damaged(ValueError):
    """Of ours: a sentence that is complete."""


_TEXT = (
    *(pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error),
    *(EOFError, gzip.BadGzipFile, zlib.error, OverflowError),
)
_ARRAYS = (  # what numpy and pyarrow raise on bytes that were changed
    *(EOFError, zlib.error, zipfile.BadZipFile, KeyError, TypeError, IndexError, OverflowError, SyntaxError),
    *(NotImplementedError, RuntimeError, ValueError, tokenize.TokenError),
)


@contextmanager
def _whole(path: Path, broken: tuple[type[Exception], ...]) -> Iterator[None]:
    """Turn what libraries raise on a damaged file into one sentence that names it."""
    try:
        yield
    except _Damaged as refusal:
        raise ValueError(str(refusal)) from None
    except MemoryError as error:
        raise ValueError(f"{path} is too large for this machine's memory, expected a smaller table.") from error
    except broken as error:
        told = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be read as a table ({told}), expected a complete file of the kind that its name says."
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        told = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as a table ({told}), expected a complete file.") from error


# Sizes -----------------------------------------------------------------------------------------------------------


def available_memory() -> int:
    """Return how many bytes this process may still take, by the system and by the limits set for it."""
    found = [int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))] if hasattr(os, "sysconf") else []
    try:
        with Path("/proc/meminfo").open() as lines:
            found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    except (OSError, ValueError, IndexError):
        pass
    try:
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{what}").read_text()) for what in ("max", "current"))
        found.append(max(limit - used, 0))
    except (OSError, ValueError):
        pass
    return min(found) if found else 2**63


def _check_size(path: Path, size: int, *, packed: int | None = None) -> None:
    """Raise ValueError if a table of so many bytes does not fit, or came out of too few of them (`packed`)."""
    if packed is not None and size > max(FREE, MOST_PACKED * packed):
        raise _Damaged(
            f"{path} has {path.stat().st_size / 1e6:.1f} MB, of which {packed / 1e6:.1f} unpack to {size / 1e6:,.0f}, "
            f"expected at most {MOST_PACKED} times as much; if it is a table, unpack it first and give the file that "
            "comes out."
        )
    free = available_memory()
    if size > free:
        raise _Damaged(
            f"{path} holds {size / 1e6:,.0f} MB, expected less than the {free / 1e6:,.0f} MB of memory that are free; "
            "give fewer rows or columns."
        )


# Text ------------------------------------------------------------------------------------------------------------


def _open(path: Path, raw: io.BufferedReader | None = None) -> gzip.GzipFile | io.BufferedReader:
    """Open a file, or what it packs; `raw` is the file if it is open already."""
    if path.name.lower().endswith(".gz"):
        return gzip.GzipFile(path, "rb", fileobj=raw)
    return path.open("rb") if raw is None else raw


def _encoding(path: Path, wanted: str | None) -> str:
    """Look through a file once: its size, and whether it is UTF-8."""
    if wanted is not None:
        try:
            codecs.lookup(wanted)
        except LookupError:
            raise _Damaged(
                f"encoding is {wanted!r}, expected one that Python knows, such as utf-8 or cp1252."
            ) from None
    size, utf8, first = 0, codecs.getincrementaldecoder("utf-8")(), b""
    is_utf8 = True
    with path.open("rb") as raw, _open(path, raw) as stream:
        while block := stream.read(2**20):
            first = first or block[:4]
            size += len(block)
            if isinstance(stream, gzip.GzipFile):
                _check_size(path, size, packed=raw.tell())
            elif size == len(block):
                _check_size(path, path.stat().st_size)
            if is_utf8:
                try:
                    utf8.decode(block)
                except UnicodeDecodeError:
                    is_utf8 = False
    if is_utf8:
        try:
            utf8.decode(b"", final=True)
        except UnicodeDecodeError:
            is_utf8 = False
    if wanted is not None:
        return wanted
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if is_utf8:
        return "utf-8-sig"
    return ""


def _read_text(
    path: Path, written: Format, wanted: str | None, skip: Sequence[str], only: Sequence[str] | None
) -> tuple[pd.DataFrame, bool]:
    with _whole(path, _TEXT):
        encoding = _encoding(path, wanted)
        if not encoding:
            encoding = "cp1252"
            try:
                with _open(path) as stream:
                    for block in iter(lambda: stream.read(2**20), b""):
                        block.decode("cp1252")
            except UnicodeDecodeError:
                encoding = "latin-1"
            log.warning(
                "%s is not UTF-8 and is read as %s; %s if that is wrong.",
                path, "Windows-1252 (cp1252)" if encoding == "cp1252" else "latin-1",
                advice("table", "pass {encoding}", encoding="..."),
            )  # fmt: skip
        try:
            layout = _Layout(path, _first_lines(path, encoding), written)
            frame = _parse(path, layout, encoding, written)
        except UnicodeError as error:
            raise _Damaged(
                f"{path} is not written in {encoding} ({error}); {advice('table', 'check {encoding}')}."
            ) from error
    source = str(path)
    names = [str(name).strip() for name in frame.columns]
    skip = typed.chosen(skip, names)
    only = None if only is None else typed.chosen(only, names)
    for name, bare in zip(frame.columns, names, strict=True):
        if bare in skip or (only is not None and bare not in only) or bare.lower() in NUMBERED:
            continue
        column = frame[name]
        if pd.api.types.is_numeric_dtype(column.dtype):
            continue
        frame[name] = numbers.read_texts(column, written, bare, source)
    if written.is_plain and written.thousands is None:
        _refuse_hidden_thousands(path, frame, layout, encoding, skip, only)
    return frame, not layout.headerless


def _first_lines(path: Path, encoding: str) -> list[str]:
    with _open(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline=None) as stream:
        lines = []
        for _ in range(_HEAD):
            line = stream.readline(2**24)
            if not line:
                break
            lines.append(line.rstrip("\r\n"))
    return lines


class _Layout:
    """Where a text table has its header, and what separates its fields."""

    def __init__(self, path: Path, lines: list[str], written: Format) -> None:
        self.path = path
        if not lines or not any(line.strip() for line in lines):
            raise _Damaged(f"{path} is empty, expected a header and rows.")
        self.skipped, self.hashed = self._comments(lines)
        if not lines[self.skipped].strip():
            raise _Damaged(f"{path} begins with an empty line, expected a header; remove the line.")
        self.separator = _separator(lines[self.skipped])
        self.header = [field.strip() for field in self._fields(lines[self.skipped])]
        if self.hashed:
            self.header[0] = self.header[0].lstrip("#").strip()
        name = path.name.lower()
        self.headerless = name.endswith((".txt", ".txt.gz")) and all(_is_plain_number(f) for f in self.header)
        self.rows = [self._fields(line) for line in lines[self.skipped + (not self.headerless) :] if line.strip()]
        if not self.headerless:
            self._check_names()
            self._check_lengths(lines)
        self.units = not self.headerless and self._has_units(written)
        self.trailing = self._trailing()

    def _comments(self, lines: list[str]) -> tuple[int, bool]:
        """Count the lines above the header that begin with "#"; say whether the header does, too ("# time, load")."""
        above = 0
        while above < len(lines) and lines[above].lstrip().startswith("#"):
            above += 1
        if not above or above == len(lines):
            return 0, False
        self.separator = _separator(lines[above])
        below, last = self._fields(lines[above]), self._fields(lines[above - 1])
        hashed = len(last) == len(below) and _is_data(below)
        above -= hashed
        if above:
            log.warning("%s: %d lines of comments above the header are passed over.", self.path, above)
        return above, hashed and lines[above].lstrip().startswith("# ")

    def _fields(self, line: str) -> list[str]:
        return next(csv.reader([line], delimiter=self.separator, skipinitialspace=True), [])

    def _check_names(self) -> None:
        named = [name for name in self.header if name]
        twice = next((name for name in named if named.count(name) > 1), None)
        if twice is not None:
            raise _Damaged(f"{self.path} has two columns called {twice!r}, expected every name once; rename one.")
        if len(self.header) == 1 and self.rows and max(map(len, self.rows[:20])) > 1:
            most = max(map(len, self.rows[:20]))
            raise _Damaged(
                f"{self.path} has {self.header[0][:60]!r} in its first line and rows of {most} fields "
                "below, expected a header in the first line; remove the lines above it."
            )

    def _check_lengths(self, lines: list[str]) -> None:
        """Raise ValueError if one of the first rows is longer than the header, of which pandas makes names of rows."""
        longer = [len(row) > len(self.header) for row in self.rows]
        if not any(longer) or all(longer) or any('"' in line for line in lines):
            return
        wrong = longer.index(True)
        filled = [number for number, line in enumerate(lines, 1) if line.strip() and number > self.skipped + 1]
        raise _Damaged(
            f"{self.path} has {len(self.rows[wrong])} fields in line {filled[wrong]}, expected the {len(self.header)} "
            "of its header; correct the line."
        )

    def _has_units(self, written: Format) -> bool:
        """Whether the line below the header holds units: words where the lines after it hold numbers."""
        if len(self.rows) < 4 or len(self.rows[0]) != len(self.header):
            return False
        body = [row for row in self.rows[1:] if len(row) == len(self.header)]
        numeric = [
            place
            for place in range(len(self.header))
            if body and all(numbers.looks_like_number(row[place].strip()) for row in body if row[place].strip())
            and any(row[place].strip() for row in body)
        ]  # fmt: skip
        first = [self.rows[0][place].strip() for place in numeric]
        return (
            bool(numeric)
            and any(first)
            and not any(numbers.looks_like_number(c) or c.lower() in _BLANK for c in first if c)
        )

    def _trailing(self) -> bool:
        """Whether every row ends with a separator that the header does not have."""
        longer = [row for row in self.rows if len(row) == len(self.header) + 1]
        return not self.headerless and bool(longer) and len(longer) == len(self.rows) and not any(r[-1] for r in longer)


def _separator(line: str) -> str:
    counts = {separator: len(next(csv.reader([line], delimiter=separator), [])) for separator in ",;\t"}
    return max(counts, key=lambda separator: counts[separator])


_BLANK = ("", "na", "n/a", "nan", "null", "none", "-", "#n/a", "<na>")


def _is_plain_number(field: str) -> bool:
    try:
        float(field.replace(",", "."))
    except ValueError:
        return False
    return True


def _is_data(fields: list[str]) -> bool:
    return any(field.strip().lstrip("+-")[:1].isdigit() for field in fields)


def _parse(path: Path, layout: _Layout, encoding: str, written: Format) -> pd.DataFrame:
    skip = list(range(layout.skipped))
    if layout.units:
        skip.append(layout.skipped + 1)
        log.warning("%s: the line below the header holds units (%s) and is passed over.", path, listed(layout.rows[0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.ParserWarning)  # of a separator at the end of each row
        frame = pd.read_csv(
            path,
            sep=layout.separator,
            decimal=written.decimal,
            header=None if layout.headerless else 0,
            skiprows=skip or None,
            index_col=False if layout.trailing else None,
            encoding=encoding,
            skipinitialspace=True,
            engine="c",
            low_memory=False,
        )
    if layout.hashed:
        frame = frame.rename(columns={frame.columns[0]: layout.header[0]})
    if not isinstance(frame.index, pd.RangeIndex):  # a header that is one field short: R's names of rows
        if frame.index.nlevels > 1:
            fields = len(layout.header)
            raise _Damaged(
                f"{path} has {fields} fields in its header and {fields + frame.index.nlevels} in its rows, "
                "expected the same number; give every column a name."
            )
        frame = frame.reset_index(names="Unnamed: 0")
    empty = [name for name in frame.columns if str(name).startswith("Unnamed: ") and frame[name].isna().all()]
    if empty and len(frame):
        log.warning("%s: %d columns without a name and without a value are passed over.", path, len(empty))
        frame = frame.drop(columns=empty)
    _refuse_short_rows(path, frame, layout, encoding)
    return frame


def _refuse_short_rows(path: Path, frame: pd.DataFrame, layout: _Layout, encoding: str) -> None:
    """Raise ValueError if a row has fewer fields than the header: pandas takes the others as missing."""
    if layout.headerless or len(layout.header) < 2 or not len(frame) or not frame[frame.columns[-1]].isna().any():
        return
    fewest = len(layout.header) - 1
    with _open(path) as raw, io.TextIOWrapper(raw, encoding=encoding, newline=None) as stream:
        for number, line in enumerate(stream, 1):
            if number <= layout.skipped + 1 or line.count(layout.separator) >= fewest or not line.strip():
                continue
            if '"' in line:
                return  # a field over several lines: only a parser can count
            raise _Damaged(
                f"{path} has {line.count(layout.separator) + 1} fields in line {number}, expected the {fewest + 1} of "
                "its header; complete the line or remove it."
            )


def _refuse_hidden_thousands(
    path: Path, frame: pd.DataFrame, layout: _Layout, encoding: str, skip: Sequence[str], only: Sequence[str] | None
) -> None:
    """Look at the cells of columns that may have been read as 1.003 where 1,003 was meant."""
    names = [
        name
        for name in frame.columns
        if pd.api.types.is_float_dtype(frame[name].dtype)
        and str(name).strip() not in skip
        and (only is None or str(name).strip() in only)
        and numbers.suspicious(frame[name].to_numpy())
    ]
    if not names or layout.headerless:
        return
    places = [frame.columns.get_loc(name) for name in names]
    header = [str(name).strip() for name in layout.header]
    usable = [(name, place) for name, place in zip(names, places, strict=True) if str(name).strip() in header]
    for name, _ in usable:
        place = header.index(str(name).strip())
        cells = pd.read_csv(
            path, sep=layout.separator, header=None, skiprows=layout.skipped + 1 + layout.units,
            usecols=[place], dtype=str, encoding=encoding, skipinitialspace=True, engine="c", index_col=False,
        ).iloc[:, 0]  # fmt: skip
        numbers.refuse_thousands(cells, str(name).strip(), str(path))


# Arrays and parquet ----------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> pd.DataFrame:
    with zipfile.ZipFile(path) as archive:
        member = next((info for info in archive.infolist() if info.filename in ("data.npy", "data")), None)
        if member is None:
            names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
            raise _Damaged(f"{path} holds the arrays {listed(names)}, expected one called `data`.")
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            wanted, there = int(np.prod(shape, dtype=object)) * dtype.itemsize, member.file_size - stream.tell()
        if wanted != there or dtype.hasobject:
            raise _Damaged(
                f"{path} says that `data` has the shape {shape} of {dtype}, {wanted:,} bytes, and holds {there:,}; it "
                "is damaged, expected as many bytes as its header says."
            )
        _check_size(path, max(wanted, 8 * int(np.prod(shape, dtype=object))), packed=path.stat().st_size)
    with np.load(path, allow_pickle=False) as archive:
        data = archive["data"]
    if data.ndim == 3:
        data = data[..., 0]
    if data.ndim != 2:
        raise _Damaged(f"`data` in {path} has {data.ndim} axes, expected (time, variate) or one more (feature).")
    if data.dtype.kind not in "buif":
        raise _Damaged(f"`data` in {path} is of {data.dtype}, expected numbers.")
    return pd.DataFrame(data.astype(np.float64))


def _read_parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        rows, columns = file.metadata.num_rows, file.metadata.num_columns
        _check_size(path, 8 * rows * columns)
        twice = [name for name in file.schema_arrow.names if file.schema_arrow.names.count(name) > 1]
    if twice:
        raise _Damaged(f"{path} has two columns called {twice[0]!r}, expected every name once; rename one.")
    return pd.read_parquet(path)
