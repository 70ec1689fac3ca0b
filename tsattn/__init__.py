"""tsattn: multivariate time-series and neural-signal forecasting with attention.

Importing the package opens no file, asks no device and imports neither torch, Triton, mne nor Lightning; what it names
is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsattn.detection.detector import Detector
    from tsattn.events.score import score_events
    from tsattn.forecasting.forecaster import Forecaster
    from tsattn.recordings.modules import RecordingDataModule
    from tsattn.recordings.preparation.prepare import prepare
    from tsattn.recordings.recording import Recording

__version__ = "0.1.0"
__all__ = ["Detector", "Forecaster", "Recording", "RecordingDataModule", "__version__", "prepare", "score_events"]

WHERE = {
    "Detector": "tsattn.detection.detector",
    "Forecaster": "tsattn.forecasting.forecaster",
    "Recording": "tsattn.recordings.recording",
    "RecordingDataModule": "tsattn.recordings.modules",
    "prepare": "tsattn.recordings.preparation.prepare",
    "score_events": "tsattn.events.score",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name in WHERE:
        return getattr(importlib.import_module(WHERE[name]), name)
    raise AttributeError(f"module 'tsattn' has no attribute {name!r}")
