"""Variables of MATLAB files: version 5 through scipy, which loads a variable whole, version 7.3 (HDF5) through h5py.

A version 5 file that was cut short is found by its element sizes, without reading it (MAT-File Format, "Level 5").
"""

import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from tsattn.recordings.privacy import label
from tsattn.recordings.readers import hdf5, version

COMPRESSED = 15
DENSEST = 1032  # numbers of one byte that deflate can pack into a byte, at most
BROKEN = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, struct.error, zlib.error, NotImplementedError)

_last: tuple[tuple[Any, ...], Any] | None = None  # one variable of one version 5 file in each process


def shape(path: Path, name: str) -> tuple[int, ...]:
    """Return the shape of a variable as MATLAB says it, without loading it.

    Args:
        path: A `.mat` file.
        name: Of the variable.

    Raises:
        ValueError: If the file is damaged or of another format, or the variable is not there or no matrix of numbers.
    """
    if hdf5.is_hdf5(path):
        with hdf5.open_file(path) as file:
            hdf5.refuse_links(file, path.parent)
            if name not in file or not hasattr(file[name], "dtype"):
                raise _absent(path, name, list(file))
            found = file[name]
            if found.attrs.get("MATLAB_empty", 0):
                return tuple(int(n) for n in found[()])
            _numbers(path, name, found.dtype.kind in "fiu")
            hdf5.need_written(found, f"{label(path)}, variable {name},")
            return tuple(reversed(found.shape))
    _refuse_damaged(path)
    from scipy.io import whosmat

    try:
        variables = {entry[0]: entry for entry in whosmat(path)}
    except BROKEN:
        raise ValueError(f"{label(path)} is a damaged MATLAB file. Copy or download it again.") from None
    if name not in variables:
        raise _absent(path, name, list(variables))
    _numbers(path, name, variables[name][2] in ("double", "single") or "int" in variables[name][2])
    found = tuple(int(n) for n in variables[name][1])
    if math.prod(found) > DENSEST * path.stat().st_size:
        raise ValueError(f"{label(path)}: variable {name} claims to be {found}, more than its file can hold.")
    return found


def load(path: Path, name: str) -> np.ndarray:
    """Return a variable, whole, in MATLAB's order of axes.

    Raises:
        ValueError: As `shape`.
    """
    found = shape(path, name)
    if 0 in found:
        return np.empty(found)
    if hdf5.is_hdf5(path):
        with hdf5.open_file(path) as file:
            return file[name][()].T
    from scipy.io import loadmat

    try:
        return loadmat(path, variable_names=[name])[name]
    except BROKEN:
        raise ValueError(f"{label(path)} is a damaged MATLAB file. Copy or download it again.") from None


def stretch(path: Path, name: str, axis: int, start: int, stop: int) -> np.ndarray:
    """Return the part of a matrix with time steps `[start, stop)`; a version 5 variable stays in memory until the next.

    Args:
        path: A `.mat` file.
        name: Of the variable, a matrix.
        axis: Of time, as MATLAB has it: 1 for (channel, time).
        start: First step.
        stop: One past the last.

    Returns:
        (channel, time), in the file's type of number.
    """
    global _last
    if hdf5.is_hdf5(path):
        values = hdf5.kept_open(path, name)
        with hdf5.damage_told(path):
            return values[start:stop].T if axis == 1 else values[:, start:stop]
    key = (str(path), name, version(path))
    if _last is None or _last[0] != key:
        _last = None  # frees the one before the next is loaded
        _last = (key, load(path, name))
    return _last[1][:, start:stop] if axis == 1 else _last[1][start:stop].T


def _absent(path: Path, name: str, there: list[str]) -> ValueError:
    plain = [word for word in there if word.isidentifier() and len(word) < 24]
    return ValueError(
        f"{label(path)} has no variable {name} ({len(there)} others{': ' + ', '.join(plain[:5]) if plain else ''})."
    )


def _numbers(path: Path, name: str, yes: bool) -> None:
    if not yes:
        raise ValueError(f"{label(path)}: variable {name} holds no numbers, expected a matrix of them.")


def _refuse_damaged(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(128)
        if not head.startswith(b"MATLAB 5.0 MAT-file") or head[126:128] not in (b"IM", b"MI"):
            raise ValueError(f"{label(path)} is not a MATLAB file of version 5 or 7.3, whatever its ending says.")
        order = "<" if head[126:128] == b"IM" else ">"
        at = 128
        while at < size:
            file.seek(at)
            tag = file.read(8)
            if len(tag) < 8:
                at = size + 1
                break
            kind, length = struct.unpack(order + "II", tag)
            at += 8 + (length if kind == COMPRESSED else -(-length // 8) * 8)
    if at > size or size <= 128:
        raise ValueError(f"{label(path)} is a MATLAB file that was cut short. Copy or download it again.")
