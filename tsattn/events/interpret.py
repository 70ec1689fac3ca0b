"""From rows of an events file to events: texts become types, begins and ends of seizures become seizures."""

from collections.abc import Collection, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from tsattn.events.table import check_events, is_seizure, make_events
from tsattn.events.vocabulary import ANNOTATION, BACKGROUND, bare_boundary, boundary, event_type


def interpret(
    onset: np.ndarray,
    length: np.ndarray,
    texts: Sequence[str],
    channels: Sequence[str],
    places: Sequence[Any] | pd.Index,
    allow: Collection[str] = (),
    words: Collection[str] = (),
    unpaired: Literal["raise", "mark"] = "raise",
    confidence: np.ndarray | None = None,
    place: str = "annotation",
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Make events of rows of a file: texts become types, begins and ends of seizures become seizures.

    Rows that are no seizures and have no usable time are left out, which a note says; those of seizures are errors.

    Args:
        onset: Seconds; NaN if not stated.
        length: Seconds; NaN if not stated.
        texts: What each row says.
        channels: Of each row, as in the table of events.
        places: What errors call each row.
        allow: Texts that may pass.
        words: Texts that mean a seizure.
        unpaired: See `read_events`.
        confidence: Of each row.
        place: The word before the place in errors.
    """
    confidence = np.full(len(onset), np.nan) if confidence is None else confidence
    edge = [boundary(text) if not length[i] > 0 else None for i, text in enumerate(texts)]
    types = ["sz" if boundary(text) else event_type(text, allow, words) for text in texts]
    seizure = is_seizure(types)
    usable = np.isfinite(onset) & (onset >= 0) & ~(length < 0)
    pairs = _pairs(onset, edge, unpaired, [f"{place} {name}" for name in places])
    bare: dict[int, int] = {}
    if not seizure.any():  # marks that do not say what begins and ends, and nothing else that could be meant
        bare = _pairs(onset, [bare_boundary(text) for text in texts], "mark", [])
        types = ["sz" if i in bare else kind for i, kind in enumerate(types)]
        seizure, pairs = is_seizure(types), pairs | bare
    rows: list[tuple[float, float, str, float, str]] = []
    taken, marks, left, scrubbed = {end for _, end in pairs.items()}, 0, 0, 0
    for i, kind in enumerate(types):
        if kind == BACKGROUND or i in taken:
            continue
        if not seizure[i] and not usable[i]:
            left += 1
            continue
        duration = onset[pairs[i]] - onset[i] if i in pairs else length[i]
        if seizure[i]:
            _refuse_wrong(onset[i], duration, bool(edge[i]), f"{place} {places[i]}")
        marks += bool(seizure[i] and not duration > 0)
        scrubbed += kind == ANNOTATION
        where = "all" if kind == ANNOTATION else channels[i]  # a scrubbed row may hold a text there, too
        rows.append((onset[i], 0.0 if np.isnan(duration) else duration, kind, confidence[i], where))
    told = [
        (left, "left out, no seizures and without a usable time"),
        (scrubbed, "texts not on the allow-list, now 'annotation'"),
        (marks, "seizures that are marks without a duration"),
        (len(pairs), "seizures made of a begin and an end"),
        (len(bare), "of these from marks that do not say what begins and ends ('onset', 'offset')"),
    ]
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[]] * 5
    events = check_events(make_events(*columns), overlapping="keep")
    return events, tuple(f"{what}: {count}" for count, what in told if count)


def _pairs(onset: np.ndarray, edge: list[str | None], unpaired: str, places: list[str]) -> dict[int, int]:
    """Which end belongs to which begin, in time order."""
    pairs: dict[int, int] = {}
    waiting: int | None = None
    order = [i for i in np.argsort(onset, kind="stable") if edge[i]]
    for i in [*order, None]:
        wrong: int | None = None
        if i is not None and edge[i] == "end":
            if waiting is not None:
                pairs[waiting] = int(i)
            else:
                wrong = int(i)
            waiting = None
        else:
            wrong, waiting = waiting, None if i is None else int(i)
        if wrong is not None and unpaired == "raise":
            what = "begins a seizure that nothing ends"
            if edge[wrong] == "end":
                what = "ends a seizure that nothing begins"
            raise ValueError(f"{places[wrong]} {what}: mend it, or read it as a mark with unpaired='mark'.")
    return pairs


def _refuse_wrong(onset: float, duration: float, edge: bool, where: str) -> None:
    if not np.isfinite(onset):
        raise ValueError(f"{where} is a seizure without an onset, expected seconds.")
    if onset < 0:
        raise ValueError(f"{where} is a seizure at {onset:g} s, before the recording's start.")
    if duration < 0:
        raise ValueError(f"{where} is a seizure with a negative duration ({duration:g} s).")
    if np.isnan(duration) and not edge:
        raise ValueError(f"{where} is a seizure without a duration, expected seconds.")
