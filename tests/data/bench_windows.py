"""Ways to gather a batch of windows, timed: `OMP_NUM_THREADS=1 python tests/data/bench_windows.py`.

Prints CSV rows: CPU milliseconds per batch of 32 windows (context 96, horizon 96), median and 20/80 quantiles of 100
calls on one thread. `Windows.gather` is what the package does; the others are what it was chosen from.

A block of 24 MB is allocated and freed first, as the activations of any network would be: before that glibc maps and
unmaps every batch of 321 variates (4 MB and 4 MB), and the page faults cost two to three times the copy.
"""

import os
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tsattn.data.windows import Windows

BATCH, CONTEXT, HORIZON = 32, 96, 96
LENGTH = CONTEXT + HORIZON


def ways(values: Tensor) -> dict[str, Callable[[Tensor], object]]:
    variates, rows = values.shape
    windows = Windows(values, variates, CONTEXT, HORIZON)
    view = values.unfold(1, LENGTH, 1).transpose(0, 1)
    flat, steps = values.flatten(), torch.arange(LENGTH)
    offsets = (torch.arange(variates) * rows)[:, None] + steps
    by_time = values.T.contiguous()
    strides = np.lib.stride_tricks.sliding_window_view(values.numpy(), LENGTH, axis=1).transpose(1, 0, 2)
    return {
        "Windows.gather": windows.gather,
        "one index_select, then split": lambda starts: view.index_select(0, starts).split((CONTEXT, HORIZON), dim=2),
        "view[starts]": lambda starts: view[starts],
        "flat take": lambda starts: flat.take(starts[:, None, None] + offsets),
        "(time, variate) index_select, transposed copy": lambda starts: (
            by_time.index_select(0, (starts[:, None] + steps).flatten())
            .view(len(starts), LENGTH, variates)
            .transpose(1, 2)
            .contiguous()
        ),
        "stack of slices": lambda starts: torch.stack([values[:, s : s + LENGTH] for s in starts.tolist()]),
        "numpy strided view": lambda starts: torch.from_numpy(strides[starts.numpy()]),
    }


def main() -> None:
    torch.set_num_threads(1)
    torch.empty(6_000_000).zero_()
    generator = torch.Generator().manual_seed(0)
    print("way,variates,rows,median_ms,q20_ms,q80_ms,torch,cpu_load")
    for variates, rows in ((7, 17_420), (321, 26_304)):
        values = torch.randn(variates, rows, generator=generator)
        for name, gather in ways(values).items():
            laps = []
            for call in range(110):
                starts = torch.randint(0, rows - LENGTH + 1, (BATCH,), generator=generator)
                begin = time.process_time_ns()
                gather(starts)
                if call >= 10:
                    laps.append((time.process_time_ns() - begin) / 1e6)
            low, median, high = np.quantile(laps, (0.2, 0.5, 0.8))
            load = os.getloadavg()[0]
            print(f'"{name}",{variates},{rows},{median:.3f},{low:.3f},{high:.3f},{torch.__version__},{load:.1f}')


if __name__ == "__main__":
    main()
