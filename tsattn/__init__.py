"""tsattn: multivariate time-series and neural-signal forecasting with attention.

Importing the package opens no file, asks no device and imports neither torch, Triton, mne nor Lightning; what it names
is imported when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsattn.predict import Forecaster

__version__ = "0.1.0"
__all__ = ["Forecaster", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Forecaster":
        from tsattn.predict import Forecaster

        return Forecaster
    raise AttributeError(f"module 'tsattn' has no attribute {name!r}")
