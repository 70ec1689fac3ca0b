"""Damage files of every format that is read, byte by byte, and see that each ends in an answer or in one sentence.

    python tests/fuzz/fuzz.py [--format edf,csv] [--count 300] [--seed 0] [--keep DIR]

Each file is damaged by a seeded mutation (bits, runs of bytes, numbers in texts, cuts, insertions), then opened as a
user would open it. What may come out: a result, or ValueError, OSError or ImportError with one sentence. What may not:
any other exception, more than 10 seconds of work, more than 2 GB of memory on top, the end of the process. The number
of a mutation and the seed make it again: `--format edf --only 17`.
"""

import argparse
import contextlib
import faulthandler
import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
for folder in (TESTS, TESTS / "recordings", TESTS.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

SECONDS, MEMORY = 10, 2 * 2**30
WAIT = 6  # times so long by the clock on the wall
NUMBERS = [b"-1", b"0", b"1", b"1e400", b"nan", b"99999999", b"1e-30", b"-0.5", b"2147483648", b"4294967296", b"x", b""]
OURS = (ValueError, OSError, ImportError)


class Hang(BaseException):
    """More time than is allowed; no `except Exception` may take it away."""


@dataclass(frozen=True)
class Format:
    """How a sample is made, which of its files are damaged, and how it is used."""

    make: Callable[[Path], Path]
    use: Callable[[Path], None]
    files: str = "*"  # glob, of what is damaged, from the sample's folder


# Mutations -------------------------------------------------------------------------------------------------------


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Damage the bytes of a file once or a few times."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        kinds = [_bits, _run, _cut, _insert, _remove, _repeat, _number, _number, _number, _swap]
        chance.choice(kinds)(data, chance)
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    """Return a place, often in the header, where the meaning is."""
    most = min(len(data), chance.choice([256, 2048, 2048, len(data)]))
    return chance.randrange(most) if most else 0


def _bits(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 20)):
        if data:
            data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _run(data: bytearray, chance: random.Random) -> None:
    at, length = _place(data, chance), chance.choice([1, 4, 8, 64])
    fill = chance.choice([b"\x00", b"\xff", b" ", b"9", b"-", None])
    end = min(len(data), at + length)
    data[at:end] = fill * (end - at) if fill else chance.randbytes(end - at)


def _cut(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _insert(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at:at] = chance.choice([b"\x00" * 8, b"[" * 5000, b'"', b"\n", b",", b"\t", b"\xff\xfe", chance.randbytes(16)])


def _remove(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.choice([1, 2, 8, 100])]


def _repeat(data: bytearray, chance: random.Random) -> None:
    at, length = _place(data, chance), chance.choice([1, 8, 100, 1000])
    data[at:at] = data[at : at + length] * chance.choice([1, 3])


def _number(data: bytearray, chance: random.Random) -> None:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", bytes(data[:20_000])))
    if found:
        match, number = chance.choice(found), chance.choice(NUMBERS)
        width = match.end() - match.start()
        if chance.random() < 0.5:  # fields of a fixed width keep it
            number = number[:width].ljust(width)
        data[match.start() : match.end()] = number


def _swap(data: bytearray, chance: random.Random) -> None:
    if data:
        one, two = _place(data, chance), _place(data, chance)
        data[one], data[two] = data[two], data[one]


# Samples ---------------------------------------------------------------------------------------------------------


def make_edf(folder: Path) -> Path:
    """EDF+C of three channels, with annotations."""
    from edf_files import noise, write_edf

    onsets = [float(i) for i in range(8)]
    marks = [(2.0, 3.0, "seizure"), (6.0, None, "note")]
    return write_edf(folder / "a.edf", noise(3, 800), [100] * 3, kind="EDF+C", onsets=onsets, marks=marks)


def make_brainvision(folder: Path) -> Path:
    """Header, markers and values."""
    import numpy as np
    from test_reader_raw import write_brainvision

    markers = ["New Segment,,1,1,0,20200101120000000000", "Comment,seizure,200,100,0", "New Segment,,500,1,0"]
    return write_brainvision(folder, np.random.default_rng(0).normal(0, 50, (2, 1000)), markers=markers)


def make_neuralynx(folder: Path) -> Path:
    """Two channels of their own files."""
    import numpy as np

    from tsattn.recordings.readers import neuralynx

    records = np.zeros(20, neuralynx.RECORD)
    records["time"], records["valid"] = np.arange(20) * 512_000, 512
    head = b"######## Neuralynx\r\n-SamplingFrequency 1000\r\n-ADBitVolts 0.0000001\r\n-AcqEntName %b\r\n"
    for name in (b"LA1", b"LA2"):
        (folder / f"{name.decode()}.ncs").write_bytes((head % name).ljust(neuralynx.HEADER, b"\0") + records.tobytes())
    return folder


def make_mef(folder: Path) -> Path:
    """A session without a password."""
    import numpy as np
    from test_reader_mef import write

    return write(folder, {"LA1": np.random.default_rng(0).normal(0, 50, 5120)}, password=None)


def make_swec(folder: Path) -> Path:
    """A total file over two parts, and a list of seizures."""
    from swec_files import noise, write_swec

    return write_swec(folder, noise(2, 100), parts=2)


def make_nwb(folder: Path) -> Path:
    """One series with its electrodes."""
    import test_reader_nwb

    return test_reader_nwb.Making().series(test_reader_nwb.noise()).write(folder / "a.nwb")


def make_bids(folder: Path) -> Path:
    """EDF with every sidecar."""
    import json

    from edf_files import noise, write_edf

    (folder / "dataset_description.json").write_text(json.dumps({"Name": "a", "BIDSVersion": "1.9.0"}))
    (folder / "participants.tsv").write_text("participant_id\tage\nsub-01\t30\n")
    at = folder / "sub-01" / "ieeg"
    at.mkdir(parents=True)
    name = "sub-01_task-rest"
    write_edf(at / f"{name}_ieeg.edf", noise(3, 800), [100] * 3)
    facts = {"SamplingFrequency": 100.0, "RecordingDuration": 8.0, "PowerLineFrequency": 50, "iEEGReference": "mean"}
    (at / f"{name}_ieeg.json").write_text(json.dumps(facts))
    rows = "".join(f"LA{i}\tSEEG\tuV\t0.5\t100\t100\tgood\n" for i in (1, 2, 3))
    head = "name\ttype\tunits\tlow_cutoff\thigh_cutoff\tsampling_frequency\tstatus\n"
    (at / f"{name}_channels.tsv").write_text(head + rows)
    (at / f"{name}_events.tsv").write_text("onset\tduration\ttrial_type\n2.0\t3.0\tsz\n6.0\tn/a\tnote\n")
    (at / "sub-01_electrodes.tsv").write_text("name\tx\ty\tz\nLA1\t1\t2\t3\nLA2\t4\t5\t6\nLA3\t7\t8\t9\n")
    (at / "sub-01_coordsystem.json").write_text(
        json.dumps({"iEEGCoordinateSystem": "ACPC", "iEEGCoordinateUnits": "mm"})
    )
    return folder


def _frame() -> Any:
    import numpy as np
    import pandas as pd

    clock = pd.date_range("2024-01-01", periods=120, freq="h")
    values = np.random.default_rng(0).normal(size=(120, 2)).round(3)
    return pd.DataFrame({"date": clock, "load": values[:, 0], "wind": values[:, 1]})


def make_csv(folder: Path) -> Path:
    """A table with a clock."""
    _frame().to_csv(folder / "a.csv", index=False)
    return folder / "a.csv"


def make_parquet(folder: Path) -> Path:
    """The same table."""
    _frame().to_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def make_store(folder: Path) -> Path:
    """A prepared store of one recording."""
    import numpy as np

    from tsattn.events.table import make_events
    from tsattn.recordings.preparation.prepare import prepare
    from tsattn.recordings.recording import from_array

    x = np.random.default_rng(0).normal(0, 50, (3, 3000)).astype(np.float32)
    prepare(from_array(x, 256.0, id="rec", events=make_events([2.0], [3.0])), folder / "s.zarr", preset="raw")
    return folder / "s.zarr"


def make_forecaster(folder: Path) -> Path:
    """An exported folder: config.json and model.safetensors."""
    from tsattn import checkpoint
    from tsattn.contracts import TableSpec
    from tsattn.models.itransformer import ITransformer

    network = ITransformer(8, 4, d_model=8, heads=2, layers=1, d_ff=8)
    spec = TableSpec(("load", "wind"), 2, (0.0, 1.0), (1.0, 2.0), "h", zone="")
    checkpoint.export(folder / "out", network, spec)
    return folder / "out"


def make_detector(folder: Path) -> Path:
    """An exported network of recordings, which has another contract."""
    from tsattn import checkpoint
    from tsattn.contracts import SignalSpec
    from tsattn.models.mvpformer import MVPFormer
    from tsattn.recordings.preparation.preset import make_preset

    sizes: dict[str, Any] = dict(d_model=8, layers=1, heads=2, kv_heads=1, d_ff=8, positions=4, max_channels=4)
    network = MVPFormer(sfreq=64.0, segment_seconds=1.0, segments=2, **sizes)
    checkpoint.export(folder / "out", network, SignalSpec(make_preset("raw").to_json()))
    return folder / "out"


def make_yaml(folder: Path) -> Path:
    """A configuration of one's own."""
    from tsattn import shipped

    (folder / "config.yaml").write_text(shipped.show("forecast/itransformer.yaml") + "\ntrainer:\n  max_epochs: 1\n")
    return folder / "config.yaml"


# Uses ------------------------------------------------------------------------------------------------------------


def use_recordings(path: Path) -> None:
    """Open, read the begin and the end, and inspect."""
    from tsattn.recordings import inspect
    from tsattn.recordings.preparation.preset import make_preset
    from tsattn.recordings.readers import open_recordings

    for recording in open_recordings(path):
        length = recording.n_samples
        recording.read(0, min(length, 300))
        recording.read(max(0, length - 300), length)
        len(recording.events)
        inspect.text(inspect.inspect(recording, make_preset("raw")), False)


def use_table(path: Path) -> None:
    """Read a table as `tsattn fit` and `tsattn forecast` do."""
    from tsattn.data import tables

    tables.read_table(path)


def use_checkpoint(path: Path) -> None:
    """Load an exported folder."""
    from tsattn import checkpoint

    checkpoint.load(path)


def use_yaml(path: Path) -> None:
    """Parse a configuration, up to the point where a table would be read."""
    from tsattn.cli import main

    with contextlib.suppress(SystemExit):
        main(["fit", "-c", str(path), "--data.table", "nowhere.csv", "--print_config"])


FORMATS: dict[str, Format] = {
    "edf": Format(make_edf, use_recordings),
    "brainvision": Format(make_brainvision, use_recordings, "a.v*"),
    "neuralynx": Format(make_neuralynx, use_recordings, "*.ncs"),
    "mef": Format(make_mef, use_recordings, "**/*.t*"),
    "swec": Format(make_swec, use_recordings, "**/*"),
    "nwb": Format(make_nwb, use_recordings),
    "bids": Format(make_bids, use_recordings, "**/*.[jt]s*"),
    "csv": Format(make_csv, use_table),
    "parquet": Format(make_parquet, use_table),
    "zarr": Format(make_store, use_recordings, "**/zarr.json"),
    "shard": Format(make_store, use_recordings, "**/c.*"),
    "config.json": Format(make_forecaster, use_checkpoint, "**/config.json"),
    "safetensors": Format(make_forecaster, use_checkpoint, "**/*.safetensors"),
    "detector": Format(make_detector, use_checkpoint, "**/config.json"),
    "config.yaml": Format(make_yaml, use_yaml),
}


# Running ---------------------------------------------------------------------------------------------------------


def damage(name: str, sample: Path, into: Path, seed: int, number: int) -> str:
    """Copy a sample and damage one of its files; return which."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(sample, into)
    chance = random.Random(f"{seed} {name} {number}")
    files = sorted(file for file in into.glob(FORMATS[name].files) if file.is_file())
    file = chance.choice(files)
    file.write_bytes(mutate(file.read_bytes(), chance))
    return str(file.relative_to(into))


def judge(use: Callable[[Path], None], path: Path) -> str:
    """Return "" if a use ended as it should, else what was wrong."""
    begun = time.process_time()
    for name in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(name, _ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of this process alone: the machine may be busy
    signal.alarm(WAIT * SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use(path)
    except OURS as error:
        told = str(error)
        if not told.strip() or "Traceback" in told:
            return f"no sentence: {type(error).__name__}: {told!r}"
    except Hang:
        return f"hang: more than {SECONDS} s\n{traceback.format_exc(limit=-6)}"
    except MemoryError:
        return f"memory: more than {MEMORY / 2**30:g} GiB\n{traceback.format_exc(limit=-6)}"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}\n{traceback.format_exc(limit=-8)}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
    took = time.process_time() - begun
    return f"hang: {took:.0f} s" if took > SECONDS else ""


def _ring(*_: object) -> None:
    raise Hang


def _work(name: str, sample: str, root: str, seed: int, numbers: Sequence[int], out: Any) -> None:
    """Go through mutations in a process with bounds, and say before and after each."""
    faulthandler.disable()
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    format, folder = FORMATS[name], Path(root)
    with contextlib.suppress(Exception):
        format.use(folder / "sample" / sample)  # imports, before memory is bounded
    now = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    for number in numbers:
        file = damage(name, folder / "sample", folder / "damaged", seed, number)
        out.send((number, file, None))
        out.send((number, file, judge(format.use, folder / "damaged" / sample)))
    out.send(None)


def fuzz(
    name: str, count: int, seed: int = 0, only: Sequence[int] | None = None, keep: Path | None = None
) -> list[str]:
    """Damage a format `count` times; return what went wrong, one text each."""
    context = get_context("fork" if sys.platform.startswith("linux") else "spawn")
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "sample").mkdir()
        made = FORMATS[name].make(Path(root) / "sample")
        sample = str(made.relative_to(Path(root) / "sample"))
        left = list(only) if only else list(range(count))
        while left:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(name, sample, root, seed, left, theirs))
            process.start()
            theirs.close()
            at: tuple[int, str] | None = None
            while True:
                try:
                    if not ours.poll(3 * WAIT * SECONDS):
                        raise EOFError
                    told = ours.recv()
                except EOFError:  # it ended, or hangs where no signal is heard
                    process.kill()
                    process.join()
                    if at is None:
                        return [*wrong, f"{name}: the worker ended before it began ({process.exitcode})"]
                    wrong.append(f"{name} {at[0]} ({at[1]}): the process ended or hung ({process.exitcode})")
                    left = [number for number in left if number > at[0]]
                    break
                if told is None:
                    left = []
                    process.join()
                    break
                number, file, outcome = told
                at = (number, file)
                if outcome:
                    wrong.append(f"{name} {number} ({file}): {outcome}")
                    if keep:
                        shutil.copytree(Path(root) / "damaged", keep / f"{name}-{number}", dirs_exist_ok=True)
    return wrong


def main() -> int:
    """Run, and print what went wrong."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--format", default=",".join(FORMATS))
    arguments.add_argument("--count", type=int, default=300)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--only", type=lambda text: [int(part) for part in text.split(",")])
    arguments.add_argument("--keep", type=Path)
    args = arguments.parse_args()
    bad = 0
    for name in args.format.split(","):
        begun = time.monotonic()
        wrong = fuzz(name, args.count, args.seed, args.only, args.keep)
        bad += len(wrong)
        print(f"{name}: {len(wrong)} of {args.count} went wrong, {time.monotonic() - begun:.0f} s", flush=True)
        for text in wrong:
            print(text, flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
