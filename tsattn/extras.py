"""Packages of the extras: imported by the call that needs one, and named with their `pip install` line if absent."""

import importlib
from typing import Any

EXTRAS = {  # name to import: extra of pyproject.toml
    "edfio": "neuro",
    "google_crc32c": "neuro",
    "h5py": "neuro",
    "hdf5plugin": "neuro",
    "mne_bids": "neuro",
    "zarr": "neuro",
    "mef_tools": "mef",
    "pynwb": "nwb",
}


def need(name: str, what: str) -> Any:
    """Import a package, or a module of it, that an extra brings.

    Args:
        name: Name to import: "zarr", "pynwb.misc".
        what: Subject of the message: "A store", "NWB".

    Raises:
        ImportError: If the package is not installed; it names the extra.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is there, and something that it needs is not
        raise ImportError(missing(package, what), name=package) from error


def need_file(name: str, what: str) -> Any:
    """Import what reading a file needs; as `need`, but a folder leaves such a file out, and says why.

    Raises:
        ValueError: If the package is not installed; it names the extra.
    """
    try:
        return need(name, what)
    except ImportError as error:
        raise ValueError(str(error)) from error


def missing(package: str, what: str) -> str:
    """Return the sentence that says what to install."""
    return f"{what} needs {package.replace('_', '-')}: pip install 'tsattn[{EXTRAS[package]}]'."
