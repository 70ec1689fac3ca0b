"""From a hospital's files to windows: readers, checks, preparation, store, windows, splits, a simulator. No model.

What a notebook needs has its name here and is imported when it is first used.
"""

import importlib
from typing import Any

WHERE = {
    "Recording": "recording",
    "RecordingDataModule": "modules",
    "Splits": "splits.splits",
    "check": "checks",
    "from_array": "recording",
    "from_mne": "mne_object",
    "open_recordings": "readers",
    "open_store": "store",
    "plot_recording": "plots",
    "plot_store_overview": "plots",
    "simulate_bids": "simulate",
    "simulate_recording": "simulate",
}
__all__ = sorted(WHERE)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in WHERE:
        return getattr(importlib.import_module(f"tsattn.recordings.{WHERE[name]}"), name)
    raise AttributeError(f"module 'tsattn.recordings' has no attribute {name!r}")
