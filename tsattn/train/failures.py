"""What goes wrong during training, in one sentence each: Lightning's refusals, memory, workers, disks, interrupts."""

import errno
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from tsattn import messages

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def said(run_dir: Path | None = None) -> Iterator[None]:
    """Turn what Lightning, torch and the system raise into a ValueError or OSError that says what to do.

    Args:
        run_dir: Of the run that is going on.
    """

    def go_on() -> str:
        return "" if run_dir is None or not (run_dir / "last.ckpt").exists() else f" Go on with: {again(run_dir)}"

    try:
        yield
    except MisconfigurationException as problem:
        raise ValueError(refusal(str(problem))) from problem
    except ModuleNotFoundError as problem:
        if problem.name or (name := missing(str(problem))) is None:
            raise
        raise ValueError(f"{first(str(problem))} Install it by: pip install {name}") from problem
    except OSError as problem:
        if problem.errno not in FULL:
            raise
        where = "" if run_dir is None else f"The run in {run_dir} ended: "
        told = problem.strerror or str(problem)
        raise OSError(problem.errno, f"{where}{told}. Make room.{go_on()}") from problem
    except (RuntimeError, MemoryError) as problem:
        told = str(problem)
        if isinstance(problem, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in told:
            ways = messages.hint("pass a smaller {batch_size}", "make the network smaller ({d_model})")
            raise ValueError(f"There is not enough memory.{ways}{go_on()}") from problem
        if re.search(r"DataLoader worker|exited unexpectedly|killed by signal", told):
            raise ValueError(
                "A reader process was ended from outside, perhaps for want of memory."
                f"{messages.hint('pass fewer {workers}')}{go_on()}"
            ) from problem
        if re.search(r"Early stopping conditioned on metric|monitored key|lightning", told):
            raise ValueError(refusal(told)) from problem
        raise


def again(run_dir: Path) -> str:
    """Return the command that continues a run."""
    return f"tsattn fit --run_dir {shlex.quote(str(run_dir))} --ckpt_path last"


def refusal(told: str) -> str:
    """Return one of Lightning's refusals in our words, or its first sentence."""
    if re.search(r"No supported gpu backend found|can not run|accelerator", told):
        return (
            "--trainer.accelerator asks for what this machine does not have: leave it out, or pass "
            f"--trainer.accelerator cpu. (Lightning: {first(told)})"
        )
    if "You requested gpu" in told or ("devices" in told and "gpu" in told.lower()):
        return f"--trainer.devices asks for more than this machine has: leave it out, or pass less. ({first(told)})"
    return f"The trainer refuses: {first(told)}"


def first(told: str) -> str:
    """Return the first sentence of a message, in one line."""
    line = " ".join(told.split())
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z])", line, maxsplit=1)[0]
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def missing(told: str) -> str | None:
    """Return the package that a message names as missing."""
    found = re.search(r"`?(\w+)`? (?:nor `\w+` )?is (?:available|not installed|required)|pip install (\w+)", told)
    return None if found is None else found[1] or found[2]
