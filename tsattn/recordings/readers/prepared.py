"""Read what `tsattn recordings prepare` wrote: a store is a source like any other."""

from dataclasses import fields, replace
from pathlib import Path

from tsattn.recordings.readers import Reading
from tsattn.recordings.readers.channel_names import option
from tsattn.recordings.recording import Recording
from tsattn.recordings.store import open_store

NAME = "tsattn store"


def recognises(path: Path) -> bool:
    """Return whether it is a zarr v3 group; whether it is one of ours, `read` says."""
    return (path / "zarr.json").is_file()


def read(path: Path, reading: Reading) -> list[Recording]:
    """Open every recording of a store.

    Args:
        path: Of the store.
        reading: Nothing of it can be changed any more: unit, person and events are settled in a store.

    Raises:
        ValueError: If it is not a store of ours, is half-written, or something was asked for that is settled.
    """
    refuse_settled(reading)
    store = open_store(path)
    told = f"{NAME}, preset {store.preset['name']}"
    return [replace(one, about={"reader": told, **one.about}) for one in store.recordings()]


def refuse_settled(reading: Reading) -> None:
    """Raise ValueError if anything is said of a store that only those who prepare it can say."""
    plain = Reading()
    for one in fields(Reading):
        if getattr(reading, one.name) != getattr(plain, one.name):
            raise ValueError(f"{option(one.name)} was given for a store, where it is settled: pass it when preparing.")
