"""Processes that end with the one that began them, and that leave Ctrl-C to it.

A worker is told of the death of its parent by the system where the system can (Linux), and watches a pipe elsewhere.
This file imports nothing but the standard library: a worker has it long before the package that it will work with, so
that one whose parent is killed while it still imports ends as well.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
_queue: Any = None  # in a worker: to the parent


def begin(queue: Any) -> None:
    """Begin a worker: the initializer of a pool.

    Args:
        queue: To the parent; its first item is the worker's process id.
    """
    global _queue
    _queue = queue
    with suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)  # it was killed before the system could be asked
    threading.Thread(target=_watch, daemon=True).start()
    queue.put(os.getpid())


def _watch() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def send(*news: Any) -> None:
    """Send something to the parent, from a worker."""
    _queue.put(news)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while processes are begun, so that it does not reach them; it comes afterwards."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end(pids: set[int]) -> None:
    """End workers at once; what they do must bear it."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
