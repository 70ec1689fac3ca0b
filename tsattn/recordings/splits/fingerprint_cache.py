"""Keep fingerprints in the store, beside the samples that they are of: the second split of a store reads no sample.

`<store>/<recording>/fingerprint` is a zarr array (2, landmark) of uint64: the hash, and milliseconds * 2^16 + channel.
Its attributes name the preparation (`stamp`) and the kind of landmark (`version`); one that does not fit is made anew.
"""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tsattn.recordings.recording import Recording
from tsattn.recordings.splits.fingerprint import VERSION, Fingerprint, fingerprint
from tsattn.recordings.store import StoreSource, need_zarr

log = logging.getLogger(__name__)


def kept_fingerprint(recording: Recording) -> Fingerprint:
    """Return a recording's fingerprint: from its store, or taken now and, if it lies in a store, kept there.

    Args:
        recording: From a store or from elsewhere.
    """
    source = recording.source
    if not isinstance(source, StoreSource) or recording.rows != tuple(range(source.channels)):
        return fingerprint(recording)
    folder = source.path / "fingerprint"
    known = _read(folder, source.stamp)
    if known is not None:
        return known
    found = fingerprint(recording)
    try:
        _write(folder, source.stamp, found)
    except OSError as problem:
        log.info("The fingerprint of %s cannot be kept in its store (%s).", recording.id, problem.strerror or "no room")
    return found


def _read(folder: Path, stamp: str) -> Fingerprint | None:
    zarr = need_zarr()
    if not folder.exists():
        return None
    array: Any = zarr.open_array(folder, mode="r", zarr_format=3)
    if array.attrs.get("stamp") != stamp or array.attrs.get("version") != VERSION:
        return None
    hashed, place = array[:]
    seconds, channel = (place >> np.uint64(16)).astype(float) / 1000, (place & np.uint64(0xFFFF)).astype(np.int32)
    return Fingerprint(hashed, seconds, channel, int(array.attrs["level"]))


def _write(folder: Path, stamp: str, found: Fingerprint) -> None:
    zarr = need_zarr()
    place = (np.rint(found.seconds * 1000).astype(np.uint64) << np.uint64(16)) | found.channel.astype(np.uint64)
    temporary = folder.with_name(f".fingerprint-{os.getpid()}")
    try:
        zarr.create_array(
            temporary,
            data=np.stack([found.hash, place]),
            zarr_format=3,
            dimension_names=("part", "landmark"),
            attributes={"version": VERSION, "stamp": stamp, "level": found.level},
        )
        if folder.exists():  # of another preparation
            shutil.rmtree(folder)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
