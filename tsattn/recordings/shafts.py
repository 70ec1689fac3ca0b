"""Which contacts lie side by side on one shaft, strip or grid, told from the channels' names.

A contact is the name of its shaft and a number: LA1, A'1, A1', "POL A1", "EEG A1-Ref", LA_01 ("LA", 1). Contacts are
neighbours if their numbers are consecutive. A name with more than `LONGEST_SHAFT` contacts is a grid: neighbours are
then in rows of eight, if its largest number is a multiple of eight; else its rows cannot be told from the names.
"""

import re
from collections.abc import Sequence

from tsattn.recordings.readers.channel_names import bare

CONTACT = re.compile(r"(?P<shaft>[^\W\d][^-]*?)[ _-]*0*(?P<number>\d+)(?P<prime>'?)")
LONGEST_SHAFT = 18  # contacts of the longest depth electrodes in use
GRID_ROW = 8


def contact(name: str) -> tuple[str, int] | None:
    """Return shaft and number of a contact, None if the name is of another kind.

    Args:
        name: Of a channel.
    """
    found = CONTACT.fullmatch(bare(name))
    return (found["shaft"] + found["prime"], int(found["number"])) if found else None


def shafts(names: Sequence[str]) -> dict[str, dict[int, str]]:
    """Return the channels of each shaft by their number, in rising order.

    Args:
        names: Of the channels.

    Raises:
        ValueError: If two channels are one contact.
    """
    found: dict[str, dict[int, str]] = {}
    for name in names:
        place = contact(name)
        if place is None:
            continue
        shaft = found.setdefault(place[0], {})
        if place[1] in shaft:
            raise ValueError(
                f"Channels {shaft[place[1]]!r} and {name!r} are both contact {place[1]} of shaft {place[0]!r}, "
                "expected one channel a contact: rename or leave out one."
            )
        shaft[place[1]] = name
    return {shaft: dict(sorted(numbers.items())) for shaft, numbers in found.items()}


def grids(names: Sequence[str]) -> dict[str, bool]:
    """Return what is taken for a grid, and whether its rows are known.

    Args:
        names: Of the channels.
    """
    found = shafts(names).items()
    return {shaft: max(numbers) % GRID_ROW == 0 for shaft, numbers in found if len(numbers) > LONGEST_SHAFT}


def neighbours(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of neighbouring contacts, along each shaft.

    Args:
        names: Of the channels.
    """
    pairs = []
    rows_known = grids(names)
    for shaft, numbers in shafts(names).items():
        grid = shaft in rows_known
        if grid and not rows_known[shaft]:
            continue
        for number, name in numbers.items():
            if number + 1 in numbers and not (grid and number % GRID_ROW == 0):
                pairs.append((name, numbers[number + 1]))
    return pairs
