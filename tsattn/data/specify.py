"""The specification of a table: what a network must know of it, for the command line and for Python alike.

Ours. Statistics and categories are those of the training rows alone. Every field of `TableSpec` is filled here and
nowhere else, so that the same table has the same specification whichever door it came by.
"""

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tsattn import messages
from tsattn.contracts import Covariate, Fill, Role, TableSpec
from tsattn.data import calendar
from tsattn.data import panel as panels
from tsattn.data.panel import Panel
from tsattn.data.reading import Reading

log = logging.getLogger(__name__)

TAKEN = ("target_name", "target", "predictions", "cutoff")  # columns of an answer


def specify(
    panel: Panel,
    train: np.ndarray,
    *,
    targets: Sequence[str],
    past: Sequence[str] = (),
    covariates: Sequence[tuple[str, Role, bool]] = (),
    marks: Sequence[str] = (),
    season: int | None = None,
    fill: Fill = "none",
    names: tuple[str, str] = ("item_id", "timestamp"),
    units: Mapping[str, str] | None = None,
    how: Reading,
    before: TableSpec | None = None,
    mend: Callable[[str], str] = lambda _: "leave it out, or choose another `val_size`",
) -> TableSpec:
    """Take statistics and categories from the training rows.

    Args:
        panel: All rows.
        train: Which of them are of the training.
        targets: Columns to forecast.
        past: Columns of numbers that end with the context.
        covariates: Name, role and whether it holds categories, of what stands in the known rows, in their order.
        marks: Names of the calendar features.
        season: Steps of one season; None: the calendar's, 1 if that is longer than the training.
        fill: How missing values are filled.
        names: What an answer calls the columns of items and of times.
        units: Of the columns that have one.
        how: How the table was read.
        before: The specification that the network was trained with, if it goes on: its categories, marks and units
            hold.
        mend: What to do about a column without a value in the training rows, by its name.

    Raises:
        ValueError: If no row is left to train on, a column has no value there, or a name is one that an answer needs
            for a column of its own.
    """
    if not train.any():
        raise ValueError("No row is left to train on, expected some; choose a smaller part for validation.")
    variates = (*targets, *past)
    check_names((*variates, *(name for name, _, _ in covariates)), names)
    fitted = [panels.statistics(name, panel.columns[name][train], mend(name)) for name in variates]
    found: list[Covariate] = []
    for place, (name, role, text) in enumerate(covariates):
        known = panel.constant(name, "The table") if role == "static" else panel
        if before is not None and text:
            found.append(before.covariates[place])  # the weights know these categories
        else:
            found.append(panels.fit_covariate(name, role, known.columns[name][train], text, mend(name)))
    has_units = tuple((units or {}).get(name, "") for name in variates)
    usual = calendar.season_of(panel.frequency)
    if season is None and usual >= train.sum():
        log.info("A season of %d steps is longer than the training; the naive forecast repeats the last value.", usual)
    return TableSpec(
        variates=variates,
        targets=len(targets),
        mean=tuple(mean for mean, _ in fitted),
        scale=tuple(scale for _, scale in fitted),
        frequency=panel.frequency,
        marks=tuple(marks) if before is None else before.marks,
        season=season or (usual if usual < int(train.sum()) else 1),
        fill=fill if before is None else before.fill,
        covariates=tuple(found),
        units=has_units if any(has_units) else before.units if before is not None else (),
        columns=names,
        zone=panel.zone,
        gaps=how.freq or "",
        reading=how.to_plain(),
        step=panel.step,
    )


def check_names(read: Sequence[str], names: tuple[str, str], levels: Sequence[float] = ()) -> None:
    """Raise ValueError if a column is called as an answer calls one of its own, so that it could not be forecast.

    Args:
        read: Columns that the network reads.
        names: What an answer calls the columns of items and of times.
        levels: Of its quantiles, each of which has a column.
    """
    taken = (*TAKEN, *(f"{level:.12g}" for level in levels))
    for name in names:
        if name in taken or names[0] == names[1]:
            raise ValueError(
                f"{name!r} is the column of items or times, expected another name: a forecast calls its own column so."
            )
    for name, what in zip(names, ("items", "times"), strict=True):
        if name in read:
            ways = messages.advice("leave it out by {exclude}", exclude=name)
            raise ValueError(
                f"The table has values in the column {name!r}, as the column of {what} in a forecast is called, "
                f"expected another name: rename it{f', or {ways}' if ways else ''}."
            )
