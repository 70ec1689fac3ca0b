"""Prepare recordings: streamed into one store, in bounded memory, over several processes, and on after an interruption.

    prepare("bids_root", "store.zarr", preset="swec", workers=2)

Every recording is planned before the first sample is written, so what cannot be done is said at once; which channels
are bad by the preset's rules is known once its samples were looked at, just before it begins. A shard is the unit of
work: it depends on nothing but the source, and one that is written is not computed again. The files of a recording are
hashed before it begins; a file that has changed since is refused.
"""

import contextlib
import errno
import logging
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from tsattn import messages
from tsattn.extras import need
from tsattn.files import locked, refuse_existing
from tsattn.recordings.preparation.chain import Chain
from tsattn.recordings.preparation.look import looked_at
from tsattn.recordings.preparation.plan import ALIASES, plan
from tsattn.recordings.preparation.preset import Preset, make_preset
from tsattn.recordings.preparation.provenance import check_id, check_same_facts, check_unchanged, facts_of, sources
from tsattn.recordings.privacy import label, scrub
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.store import FORMAT, Store, open_group, open_store
from tsattn.recordings.store.writing import RecordingWriter, chunk_samples, create_store
from tsattn.workers import begin, end, interrupts_held, send

MEMORY = 600e6  # bytes for a block and its copies, in each process
ERRORS_TOLD = 5
LARGEST_SHARD = 64e6  # bytes of a shard file
logger = logging.getLogger(__name__)
Progress = Callable[[str, float, float], None]
What = str | Path | Recording | xr.DataArray


def prepare(
    recordings: What | Iterable[What],
    out: str | Path,
    *,
    preset: str | Preset = "swec",
    workers: int = 1,
    resume: bool = True,
    dtype: Literal["int16", "float32"] = "int16",
    memory: float = MEMORY,
    skip: bool = False,
    progress: Progress | None = None,
    **changes: Any,
) -> Store:
    """Prepare recordings into a store.

    Args:
        recordings: Files, BIDS folders, recordings or labelled arrays (channel, time), one or several.
        out: Folder of the store, by custom "....zarr".
        preset: "swec", "raw" or parameters of your own.
        workers: Processes; each takes one recording at a time.
        resume: Go on in a store that is there, and add to it; False refuses one.
        dtype: "int16" rounds by less than 1e-4 of a channel's spread (rms) and says by how much; "float32" does not.
        memory: Bytes that the blocks of one process may take; the result does not depend on it.
        skip: Leave out recordings that cannot be prepared, with a warning in the log, instead of an error.
        progress: Called with a recording's id, its seconds that are done, and all of its seconds.
        changes: Parameters that differ from the preset: `tsattn.recordings.preparation.preset.Preset`.

    Returns:
        The store.

    Raises:
        ValueError: If a recording cannot be prepared so, two have one id, or the store was made in another way.
        FileExistsError: If the store is there and `resume` is False.
        OSError: If the disk is full; the same call goes on when there is room.
        KeyboardInterrupt: After Ctrl-C, with the way on in its text.
    """
    need("zarr", "A store")
    out = Path(out)
    if isinstance(preset, str):
        preset = make_preset(preset, **changes)
    elif changes:
        raise ValueError("Pass the parameters in the Preset, not beside it.")
    if dtype not in ("int16", "float32"):
        raise ValueError(f"dtype is {dtype!r}, expected 'int16' or 'float32'.")
    found = _recordings(recordings)
    ids = [recording.id for recording in found]
    for id in ids:
        check_id(id)
        if ids.count(id) > 1:
            raise ValueError(f"{ids.count(id)} recordings are called {id!r}, expected one: give them ids of their own.")
    chains, refused = _plans(found, preset, memory)
    if refused and (not skip or not chains):
        raise _summed(refused, len(found), "cannot be prepared, and nothing was written")
    found = [recording for recording in found if recording.id not in refused]
    if preset.resample == "ibm-linear":
        warnings.warn(ALIASES, stacklevel=2)
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1.")
    if not resume:
        refuse_existing(out, overwrite=False)

    try:
        _check_disk(chains, out, dtype)
        _open(out, preset, dtype)
        with _alone(out):
            _expect(out, [recording.id for recording in found])
            tasks = [(recording, preset, out, dtype, memory) for recording in found]
            failed = _here(tasks, progress) if workers == 1 else _in_processes(tasks, workers, progress)
    except OSError as error:
        if not _full(error) or isinstance(error, DiskFull):
            raise
        raise DiskFull(out, "is full") from error
    except KeyboardInterrupt:
        raise Interrupted(
            f"what is done stays in {label(out)}: run the same again, which goes on where it stopped."
        ) from None
    if failed and (not skip or len(failed) == len(found)):
        raise _summed(failed, len(found), "could not be prepared, the others are")
    for id, why in (refused | failed).items():
        logger.warning("%s was left out. %s", id, why)
    return open_store(out, partial=True)


def _plans(found: Sequence[Recording], preset: Preset, memory: float) -> tuple[list[Chain], dict[str, ValueError]]:
    chains, refused = [], {}
    for recording in found:
        try:
            chain = plan(recording, preset)
            _block_samples(chain, memory)
            chains.append(chain)
        except ValueError as error:
            refused[recording.id] = error
    return chains, refused


def _summed(errors: dict[str, ValueError], count: int, what: str) -> ValueError:
    """Return one error for several: the first few in full."""
    if count == 1:
        return next(iter(errors.values()))
    told = " ".join(map(str, list(errors.values())[:ERRORS_TOLD]))
    more = f" And {len(errors) - ERRORS_TOLD} more." if len(errors) > ERRORS_TOLD else ""
    way = messages.hint("leave them out by {skip}", skip=True)
    return ValueError(f"{len(errors)} of {count} recordings {what}.{way} {told}{more}")


def _recordings(what: What | Iterable[What]) -> list[Recording]:
    from tsattn.recordings.readers import open_recordings

    if isinstance(what, xr.DataArray):
        return [from_array(what)]
    if isinstance(what, Recording):
        return [what]
    if isinstance(what, str | Path):
        return open_recordings(what)
    found = [recording for one in what for recording in _recordings(one)]
    if not found:
        raise ValueError("There are no recordings to prepare.")
    return found


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with the way on."""


class DiskFull(OSError):
    """There is no room for the store; errno is ENOSPC."""

    def __init__(self, out: Path, found: str) -> None:
        told = f"The disk of {label(out)} {found}: make room, then run the same again, which goes on where it stopped"
        super().__init__(errno.ENOSPC, told)


def _full(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def _check_disk(chains: Sequence[Chain], out: Path, dtype: str) -> None:
    """Refuse what cannot fit: days of recordings, or a header with absurd numbers."""
    needed = 0
    for chain in chains:
        recorded = chain.samples - sum(stop - start for start, stop in chain.gaps)
        written = sum(file.stat().st_size for file in (out / chain.recording.id / "signal").glob("c.*"))
        needed += max(0, recorded * len(chain.montage.channels) * np.dtype(dtype).itemsize - written)
    place = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DiskFull(out, f"has room for {free / 1e9:.3g} GB, the store needs {needed / 1e9:.3g} GB more")


def _open(out: Path, preset: Preset, dtype: str) -> None:
    """Make the store, or check that it was made in the same way."""
    wanted = {**preset.to_json(), "dtype": dtype}
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        out.parent.mkdir(parents=True, exist_ok=True)
        create_store(out, preset.to_json(), dtype)
    group = open_group(out, "r+")
    if group.attrs.get("format") != FORMAT:
        raise ValueError(f"{label(out)} is a zarr group, but no store of recordings: choose another path.")
    there = {**group.attrs["preset"], "dtype": group.attrs["dtype"]}
    differ = [
        f"{key} is {there.get(key)!r} there and {value!r} here"
        for key, value in wanted.items()
        if there.get(key) != value
    ]
    if differ:
        raise ValueError(f"{label(out)} was prepared in another way: {'; '.join(differ)}. Choose another path.")


def _expect(out: Path, ids: Sequence[str]) -> None:
    """Note what is to come, so that a store without it is known to be half-written."""
    group = open_group(out, "r+")
    before = [id for id in group.attrs["expected"] if (out / id).exists()]
    group.attrs["expected"] = sorted({*before, *ids})


def _alone(out: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a lock on the folder, which the system takes back if we are killed."""
    return locked(out, f"Another process is preparing into {label(out)}: wait for it.")


Task = tuple[Recording, Preset, Path, str, float]


def _here(tasks: Sequence[Task], progress: Progress | None) -> dict[str, ValueError]:
    failed = {}
    for task in tasks:
        try:
            _prepare_one(task, progress)
        except ValueError as error:
            failed[task[0].id] = error
    return failed


def _in_processes(tasks: Sequence[Task], workers: int, progress: Progress | None) -> dict[str, ValueError]:
    context = get_context("spawn")  # a fork would take zarr's threads along, half
    queue = context.Queue()
    failed = {}
    pids: set[int] = set()
    with ProcessPoolExecutor(workers, context, begin, (queue,)) as pool:
        with interrupts_held():
            pending = {pool.submit(_in_worker, task, messages.spelling()): task[0].id for task in tasks}
        try:
            while pending:
                done, _ = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                _tell(queue, progress, pids)
                for future in done:
                    id = pending.pop(future)
                    try:
                        future.result()
                    except ValueError as error:
                        failed[id] = error
        except BrokenProcessPool as error:
            raise ValueError(
                "A worker was ended from outside, perhaps for want of memory. Run the same again, which goes on"
                + messages.advice(", with fewer {workers}", " a smaller {memory}", joint=" or")
                + "."
            ) from error
        except KeyboardInterrupt:
            _tell(queue, None, pids)
            end(pids)
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    _tell(queue, progress, pids)
    return failed


def _tell(queue: Any, progress: Progress | None, pids: set[int]) -> None:
    while not queue.empty():
        news = queue.get()
        if isinstance(news, int):
            pids.add(news)
        elif progress is not None:
            progress(*news)


def _in_worker(task: Task, options: Mapping[str, str] | None) -> None:
    messages.adopt(options)
    _prepare_one(task, send)


def _prepare_one(task: Task, progress: Progress | None) -> None:
    recording = task[0]
    try:
        _stream(task, progress)
    except ValueError:
        raise
    except Exception as error:  # a reader's library may raise anything, and name the file
        if isinstance(error, OSError) and _full(error):
            raise
        told = scrub(str(error), recording.files)
        raise ValueError(f"{recording.id} could not be prepared: {type(error).__name__}: {told}") from error


def _stream(task: Task, progress: Progress | None) -> None:
    recording, preset, out, dtype, memory = task
    chain = plan(looked_at(recording, preset), preset)
    facts = facts_of(chain)
    if RecordingWriter.begun(out, recording.id):
        writer = RecordingWriter(out, recording.id)
        stored = dict(writer.group.attrs)
        check_same_facts(facts, stored)
        check_unchanged(recording, stored["provenance"]["sources"])
        if stored["complete"]:
            return
    else:
        facts["provenance"]["sources"] = sources(recording)
        chunk, block = _block_samples(chain, memory)
        layout = dict(
            channels=len(chain.montage.channels), samples=chain.samples, chunk=chunk, shard=block, dtype=dtype
        )
        writer = RecordingWriter.begin(out, facts, layout)
    for shard in range(writer.shards):
        start, stop = writer.span(shard)
        if not writer.done(shard):
            writer.write(shard, chain.block(start, stop))
        if progress is not None:
            progress(recording.id, stop / chain.sfreq, recording.duration)
    writer.finish()


def _block_samples(chain: Chain, memory: float) -> tuple[int, int]:
    """Return the samples of a chunk and of a shard."""
    chunk = chunk_samples(chain.sfreq, chain.samples)
    largest = int(LARGEST_SHARD / 2 / len(chain.montage.channels))
    return chunk, min(chain.block_samples(memory, chunk), max(chunk, largest // chunk * chunk))
