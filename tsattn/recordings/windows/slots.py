"""Memory for batches that is used again as soon as nobody holds the batch, and that reader processes write into.

A batch of windows is some hundred megabytes. Fresh memory of that size costs as much as reading into it (the kernel
clears it page by page), and a copy from process to process costs it twice. A slot is cleared once.
"""

import mmap
import weakref

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor


class Slots:
    """Slots of one size.

    Args:
        count: How many there are. Memory is taken when a slot is first used.
        size: Bytes of a slot.
        shared: Whether processes that are forked from this one shall see the same memory. If not, it is a little
            faster: the kernel gives it in huge pages.
    """

    def __init__(self, count: int, size: int, shared: bool) -> None:
        self._memory = [mmap.mmap(-1, size) if shared else np.empty(size, np.uint8) for _ in range(count)]
        self._free = list(range(count))
        self._taken: set[int] = set()

    def take(self) -> int | None:
        """Return the number of a free slot to be written, None if all are in use."""
        if not self._free:
            return None
        slot = self._free.pop()  # the last one given back: its memory is warm
        self._taken.add(slot)
        return slot

    def array(self, slot: int, shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
        """Return a slot as an array to write into."""
        return np.ndarray(shape, np.float32, buffer=self._memory[slot])

    def lend(self, slot: int, shape: tuple[int, ...]) -> Float32[Tensor, "..."]:
        """Return a written slot as a tensor; when it and every view of it are gone, the slot is free again."""
        self._taken.remove(slot)
        array = self.array(slot, shape)  # the tensor's storage holds this object, and nothing else does
        weakref.finalize(array, self._free.append, slot).atexit = False
        return torch.from_numpy(array)

    def reclaim(self) -> None:
        """Free the slots of batches that were begun and never came; nobody may be writing any more."""
        self._free += self._taken
        self._taken.clear()
