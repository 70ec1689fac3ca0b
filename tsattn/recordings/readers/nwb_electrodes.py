"""The electrode table of an NWB file as a table of channels: names, types, bad flags, positions in metres."""

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from tsattn.recordings.readers import Reading
from tsattn.recordings.readers.channel_names import settle_types
from tsattn.recordings.recording import Note, make_channels

NAMES = ("label", "channel_name", "electrode_name", "electrode_label", "name")
NAMELESS = "has no column of unique labels"  # in a note
BAD = ("bad", "is_bad", "bad_channel")


def electrodes(series: Any, sfreq: float, reading: Reading) -> tuple[pd.DataFrame, tuple[Note, ...]]:
    """Return the channels of an electrical series, and what to say of them.

    Args:
        series: `pynwb.ecephys.ElectricalSeries`.
        sfreq: Hz.
        reading: What the user says.
    """
    region = series.electrodes
    table = region.table.to_dataframe(index=True).iloc[np.asarray(region.data[:], int)].reset_index(drop=True)
    notes = []
    column = next((name for name in NAMES if name in table and table[name].astype(str).str.strip().is_unique), None)
    if column:
        names = table[column].astype(str).str.strip().tolist()
    else:
        names = [f"E{i + 1}" for i in range(len(table))]
        notes.append(Note("warning", f"The electrode table {NAMELESS}: channels are called E1 ... En."))
    types, said = settle_types(names, [True] * len(names), reading, default="seeg")
    notes += said
    bad = np.zeros(len(table), bool)
    for name in BAD:
        if name in table:
            bad |= table[name].fillna(False).astype(bool).to_numpy()
    if "good" in table:
        bad |= ~table["good"].fillna(True).astype(bool).to_numpy()
    if "status" in table:
        bad |= (table["status"].astype(str).str.casefold() == "bad").to_numpy()
    position, note = _positions(table)
    notes += [note] if note else []
    return make_channels(
        names,
        sfreq,
        types,
        np.where(bad, "bad", "good").tolist(),
        np.where(bad, "electrode table", "").tolist(),
        position,
        reading.unit or "V",
    ), tuple(notes)


def _positions(table: pd.DataFrame) -> tuple[Float[np.ndarray, "channel 3"] | None, Note | None]:
    """Return positions in metres; the size tells their unit, since files follow the schema (µm) or habit (mm)."""
    if not {"x", "y", "z"} <= set(table.columns):
        return None, None
    found = table[["x", "y", "z"]].astype(float).to_numpy()
    known = np.isfinite(found).all(1)
    if not known.any() or (found[known] == found[known][0]).all():
        return None, None  # nothing, or the same for all: a placeholder
    size = float(np.abs(found[known]).max())
    unit, scale = ("m", 1.0) if size < 0.3 else ("mm", 1e-3) if size < 300 else ("µm", 1e-6)
    return found * scale, Note("info", f"The positions state no unit: taken as {unit} by their size.")
