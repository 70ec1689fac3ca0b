"""How a table is read: the options that a training settles and that travel with its checkpoint.

Ours. Whatever says how a file or frame is understood (number format, clock, grid) is one value here, so that the next
table is read as the one of the training was, on the command line and in Python.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tsattn.contracts import TableSpec


@dataclass(frozen=True)
class Reading:
    """Options of reading a table; each is the one of `TableData` and of `tsattn forecast` with the same name.

    Attributes:
        timestamp: Column with the times, or several that are joined; None: found; "none": the rows have no clock.
        time_format: How times are written, as in strptime ("%d/%m/%Y %H:%M"); None: ISO 8601, else month before day.
        zone: Time zone of the clock ("Europe/Berlin"): times are brought there, and times without a zone are of it.
        decimal: Decimal separator of a text file.
        thousands: Thousands separator of a text file; "none": there is none; None: not known, and what could be read
            in two ways is an error.
        encoding: Encoding of a text file; None: UTF-8, else Windows-1252 with a warning.
        variate_column: Of a long table: the column that says which variate a row is of.
        value_column: Of a long table: the column with the values.
        exclude: Columns that are left out.
        drop_duplicates: Whether the first of several rows with the same time is kept, the others dropped.
        snap: Step to whose nearest point each time is moved ("1h"); None: times are taken as they are.
        resample: Step to which rows are averaged ("1h"); None: they are not.
        freq: Step at which absent rows are missing ones ("h"); None: an absent row is an error.

    Raises:
        ValueError: If an option is not of its type.
    """

    timestamp: str | tuple[str, ...] | None = None
    time_format: str | None = None
    zone: str | None = None
    decimal: str = "."
    thousands: str | None = None
    encoding: str | None = None
    variate_column: str | None = None
    value_column: str | None = None
    exclude: tuple[str, ...] = ()
    drop_duplicates: bool = False
    snap: str | None = None
    resample: str | None = None
    freq: str | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "exclude" or (field.name == "timestamp" and isinstance(value, tuple)):
                right = isinstance(value, tuple) and all(isinstance(name, str) for name in value)
            elif field.name == "drop_duplicates":
                right = isinstance(value, bool)
            else:
                right = isinstance(value, str) or (value is None and field.name != "decimal")
            if not right:
                raise ValueError(f"{field.name} is {value!r}, which is not an option of that name.")

    def found(self, clock: Sequence[str]) -> "Reading":
        """Return this with the clock named by the columns that it was made of; none if it is an index."""
        if not clock:
            return dataclasses.replace(self, timestamp="none" if self.timestamp == "none" else None)
        return dataclasses.replace(self, timestamp=clock[0] if len(clock) == 1 else tuple(clock))

    @classmethod
    def of(cls, spec: TableSpec) -> "Reading":
        """Return how the table of a training was read; the defaults of what a checkpoint does not say.

        Raises:
            ValueError: If the checkpoint says something that this version does not know.
        """
        names = {field.name for field in dataclasses.fields(cls)} - {"freq"}  # which is `TableSpec.gaps`
        unknown = [name for name in spec.reading if name not in names]
        if unknown:
            raise ValueError(
                f"The checkpoint says how its table was read by {unknown[0]!r}, which this version does not know; "
                "install a newer one."
            )
        plain: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list | tuple) else v for name, v in spec.reading.items()
        }
        return cls(**plain, freq=spec.gaps or None)

    def to_plain(self) -> dict[str, Any]:
        """Return what differs from the defaults, in lists, numbers and strings; `freq` is `TableSpec.gaps`."""
        said: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "freq" and value != field.default:
                said[field.name] = list(value) if isinstance(value, tuple) else value
        return said

    def replaced(self, given: Mapping[str, Any]) -> tuple["Reading", list[tuple[str, str]]]:
        """Put options in place of these, and say in words which ones changed.

        Args:
            given: By name; None stands for one that was not given.

        Returns:
            The reading, and each option that had another value in words ("decimal ',' in place of '.'"), with its name.
        """
        wanted = {name: value for name, value in given.items() if value is not None}
        changed = {name: value for name, value in wanted.items() if value != getattr(self, name)}
        said = [(f"{name} {value!r} in place of {getattr(self, name)!r}", name) for name, value in changed.items()]
        return dataclasses.replace(self, **changed), said

    def within(self, columns: Iterable[Any]) -> "Reading":
        """Return this for a table with some columns: of those that a training named, the ones that it has."""
        there = set(map(str, columns))
        clock = {self.timestamp} if isinstance(self.timestamp, str) else set(self.timestamp or (None,))
        long = {self.variate_column, self.value_column} <= there
        return dataclasses.replace(
            self,
            timestamp=self.timestamp if self.timestamp == "none" or clock <= there else None,
            variate_column=self.variate_column if long else None,
            value_column=self.value_column if long else None,
            exclude=tuple(name for name in self.exclude if name in there),
        )
