"""Annotations of a recording's file as its events: `tsattn.events.interpret` with the recording's channels.

What a text means never depends on the channels; they only let a mark that names contacts ("AD1-4, ATT1,2") keep them.
"""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from tsattn.events.interpret import Rows, understand
from tsattn.recordings.readers import Reading
from tsattn.recordings.readers.channel_names import contacts
from tsattn.recordings.recording import Note


def to_events(
    rows: Rows,
    reading: Reading,
    names: Sequence[str] = (),
    duration: float | None = None,
    sfreq: float | None = None,
) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Turn annotations into a table of events.

    Args:
        rows: Of the file.
        reading: What the user says of texts, and of events that the recording cannot hold.
        names: Of the channels, to find contacts in texts.
        duration: Of the recording, seconds.
        sfreq: Hz, of the fastest channel.

    Returns:
        `tsattn.events.table`, and what to say of it.

    Raises:
        ValueError: If a row is wrong, and the user did not say what to do then; the row is named.
    """
    find = partial(contacts, names=list(names))
    found = understand(rows, reading.understanding, duration, sfreq=sfreq, contacts=find)
    return found.events, found.notes
