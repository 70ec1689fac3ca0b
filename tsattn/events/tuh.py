"""Lists of the TUH EEG Seizure Corpus: `.csv_bi` (seizure or not, of all channels) and `.csv` (types, by channel).

Comments before the table state the recording's duration; a row is channel, start_time, stop_time, label, confidence.
Labels: Shah et al., "The Temple University Hospital Seizure Detection Corpus" (2018), as SzCORE maps them.
"""

import re
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from tsattn.events.interpret import Rows
from tsattn.events.spans import join
from tsattn.events.table import ALL

COLUMNS = {"channel", "start_time", "stop_time", "label"}
LABELS = {
    "seiz": "sz",
    "fnsz": "sz-foc",
    "gnsz": "sz-gen",
    "spsz": "sz-foc-a",
    "cpsz": "sz-foc-ia",
    "absz": "sz-gen-nm",
    "tnsz": "sz-gen-m-tonic",
    "cnsz": "sz-gen-m-clonic",
    "tcsz": "sz-gen-m-tonicClonic",
    "atsz": "sz-gen-m-atonic",
    "mysz": "sz-gen-nm-myoclonic",
    "bckg": "bckg",
}
DURATION = re.compile(r"#\s*duration\s*=\s*(\d+(?:\.\d+)?)")


def is_list(columns: Collection[str]) -> bool:
    """Return whether a table has the columns of such a list."""
    return set(columns) >= COLUMNS


def duration(comments: Sequence[str]) -> float | None:
    """Return the recording's duration in seconds, if a comment states it."""
    found = [match for line in comments if (match := DURATION.match(line))]
    return float(found[0][1]) if found else None


def rows(table: pd.DataFrame) -> Rows:
    """Return the rows of a list; what one type covers without a break on several channels is one row of these."""
    from tsattn.events.tabular import numbers

    begin, end, sure = (numbers(table, name) for name in ("start_time", "stop_time", "confidence"))
    label = [LABELS.get(str(word).strip().lower(), str(word).strip()) for word in table["label"]]
    channel = [str(word).strip() for word in table["channel"]]
    out: list[tuple] = []
    for kind in dict.fromkeys(label):
        alike = [i for i, word in enumerate(label) if word == kind]
        apart = [i for i in alike if channel[i].upper() == "TERM" or not end[i] > begin[i]]
        out += [(begin[i], end[i] - begin[i], kind, ALL, sure[i], table.index[i]) for i in apart]
        over = np.array([i for i in alike if i not in apart], dtype=int)
        for first, last in zip(*join(begin[over], end[over], 1e-6), strict=True):
            inside = [i for i in over if first <= begin[i] <= last]
            names = ",".join(dict.fromkeys(channel[i] for i in inside))
            known = sure[inside][np.isfinite(sure[inside])]
            highest = known.max() if len(known) else np.nan
            out.append((first, last - first, kind, names, highest, table.index[inside[0]]))
    out.sort(key=lambda row: row[0])
    columns = list(zip(*out, strict=True)) or [()] * 6
    onset, length, texts, channels, confidence, lines = map(list, columns)
    places = [f"line {line}" for line in lines]
    return Rows(np.array(onset, float), np.array(length, float), texts, channels, np.array(confidence, float), places)
