"""Whatever a library raises while it reads somebody's file ends in one sentence that names the file.

h5py raises RuntimeError and KeyError for damaged HDF5, others raise zlib.error, struct.error or IndexError. Our own
checks come first and say more; this is what stands behind them.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tsattn.recordings.privacy import scrub


@contextmanager
def guarded(who: str, paths: Iterable[str | Path] = ()) -> Iterator[None]:
    """Let ValueError, OSError, ImportError and MemoryError pass, and make a ValueError of every other exception.

    Args:
        who: What is read, as messages may call it.
        paths: Files whose names must not be shown.
    """
    try:
        yield
    except (ValueError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        told = " ".join(scrub(str(error), paths).split())[:200]
        raise ValueError(f"{who} could not be read ({type(error).__name__}: {told}).") from error
