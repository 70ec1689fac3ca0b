"""tsattn: multivariate time-series and neural-signal forecasting with attention.

Importing the package opens no file, asks no device and imports neither Triton nor mne nor Lightning.
"""

__version__ = "0.1.0"
