"""Commands on recordings: inspect, prepare, simulate, split."""

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tsattn import messages
from tsattn import workers as processes

if TYPE_CHECKING:
    from tsattn.recordings.inspect import Inspection
    from tsattn.recordings.readers import Reading
    from tsattn.recordings.recording import Note, Recording


Unit = Literal["nV", "uV", "mV", "V"]
Type = Literal["seeg", "ecog", "eeg", "dbs"]
Reference = Literal["none", "median", "average", "bipolar", "laplacian"]
HUNDREDS = 200  # recordings: above, several processes pay for their start
MANY = 20  # recordings: above, a table says more than a page on each


def inspect(
    paths: list[Path],
    plot: Path | None = None,
    full: bool = False,
    preset: Literal["swec", "raw"] = "swec",
    sfreq: float | None = None,
    notch: Literal[50, 60] | None = None,
    reference: Reference | None = None,
    changes: dict[str, Any] | None = None,
    unit: Unit | None = None,
    subject: str | None = None,
    type: Type | None = None,
    signals: str | None = None,
    on_mismatch: Literal["raise", "warn"] = "raise",
    keep_text: list[str] | None = None,
    seizure_words: list[str] | None = None,
    unpaired: Literal["raise", "mark"] = "mark",
    outside: Literal["raise", "clip", "drop"] = "clip",
    workers: int | None = None,
    overwrite: bool = False,
) -> None:
    """Say what recordings hold: channels, rates, gaps, events, bad channels, warnings, and what preparing them will do.

    Args:
        paths: Files, folders of a known layout (BIDS, SWEC, ...), or a store.
        plot: Picture of one recording (.png, .pdf, .svg), or a folder for a picture of each and an overview.
        full: Measure everything instead of twenty stretches, list every channel, and every one of many recordings.
        preset: Preset whose steps are listed: swec or raw.
        sfreq: Sampling rate after resampling, Hz; default: the preset's.
        notch: Hz of the mains to remove.
        reference: In place of the preset's.
        changes: Any other parameter of the preset.
        unit: Unit of the values, if the files do not say it or are wrong: nV, uV, mV or V.
        subject: Pseudonym of the person, if all files are of one; "folder" if each folder holds one person's files; or
            a .csv or .tsv with the columns file and subject.
        type: Of channels whose type only their names could tell: seeg, ecog, eeg or dbs.
        signals: Channels to count as signals: names or patterns, separated by commas; a leading ! excludes:
            'POST*,TEMP*,!EKG*'.
        on_mismatch: If a file contradicts its sidecars or itself: raise, or warn and believe the signal's own file.
        keep_text: Annotation texts that may be shown, as a list: "[spike*]"; what an event means does not change.
        seizure_words: Words that mean a seizure besides seizure, sz and ictal, as a list.
        unpaired: A seizure whose end is not known: raise, or mark (of no duration).
        outside: Events that the recording cannot hold: raise, clip, or drop.
        workers: Processes that look at the recordings; several are begun for hundreds of recordings if none is given.
        overwrite: Write over pictures that exist already.
    """
    from tsattn import files
    from tsattn.recordings import inspect as looking
    from tsattn.recordings import plots
    from tsattn.recordings.places import shown
    from tsattn.recordings.preparation.preset import make_preset
    from tsattn.recordings.privacy import scrub
    from tsattn.recordings.readers import asked, settle

    told_preset = make_preset(preset, **_given(sfreq=sfreq, notch=notch, reference=reference), **(changes or {}))
    reading = reading_of(
        unit=unit, subject=subject, type=type, signals=signals, on_mismatch=on_mismatch,
        keep_text=keep_text, seizure_words=seizure_words, unpaired=unpaired, outside=outside,
    )  # fmt: skip
    quiet()
    if plot is not None and plot.suffix:
        plots.ending_of(plot)
        files.refuse_existing(plot, overwrite)
    said = asked(**reading)
    recordings, unread = opened(paths, said)
    problems = [f"Path {number}: {scrub(str(problem), [paths[number - 1]])}" for number, problem in unread.items()]
    if recordings:
        with adding(problems):
            settle(recordings, said, doubles=plot is None)  # files and their store may be compared; not by pictures
    if plot is not None and plot.suffix and len(recordings) > 1:
        raise ValueError(f"--plot is one file, but there are {len(recordings)} recordings: give a folder.")
    if plot is not None and not plot.suffix:
        for name in (*(recording.id for recording in recordings), "overview"):
            files.refuse_existing(plot / f"{name}.png", overwrite)
    seen: list[looking.Inspection] = []
    looked = inspected(recordings, told_preset, full, workers)
    for recording, found in zip(recordings, looked, strict=True):
        if not isinstance(found, looking.Inspection):
            problems.append(f"{recording.id}: {scrub(str(found), [*recording.files, *paths])}")
            continue
        seen.append(found)
        if full or len(recordings) <= MANY:
            print(looking.text(found, full), end="\n\n")
        if plot is not None:
            picture = plot if plot.suffix else plot / f"{recording.id}.png"
            plots.plot_recording(recording, bads=found.bads, out=picture)
    if plot is not None and not plot.suffix and len(seen) > 1:
        plots.plot_store_overview(recordings, out=plot / "overview.png")
    if len(seen) > 1:
        print(looking.summary(seen))
    if len(seen) > MANY and not full:
        print_alike([(found.id, note) for found in seen for note in found.notes if note.level == "warning"])
    if plot is not None and seen:
        print(f"pictures written to {shown(plot)}")
    if problems and len(paths) == 1 and not seen:
        raise ValueError(problems[0].removeprefix("Path 1: "))
    if problems:
        raise ValueError(f"{len(problems)} paths or recordings could not be inspected. {' '.join(problems)}")


def inspected(
    recordings: list["Recording"], preset: Any, whole: bool, workers: int | None = None
) -> "Iterator[Inspection | ValueError | OSError]":
    """Give what `inspect` finds of each recording, in order, or why it finds nothing; in several processes if it pays.

    Raises:
        ValueError: If `workers` is below 1.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1.")
    count = min(os.cpu_count() or 1, 8) if workers is None and len(recordings) > HUNDREDS else workers or 1
    look = functools.partial(_look, preset=preset, whole=whole, options=messages.spelling())
    with bar("recordings looked at", "recording", len(recordings)) as done:
        if count == 1:
            for recording in recordings:
                yield look(recording)
                done()
            return
        context = get_context("spawn")
        queue = context.Queue()
        with ProcessPoolExecutor(count, context, processes.begin, (queue,)) as pool:
            with processes.interrupts_held():
                each = pool.map(look, recordings, chunksize=8)
            try:
                for found in each:
                    yield found
                    done()
            except BrokenProcessPool as error:
                raise ValueError(
                    "A worker was ended from outside, perhaps for want of memory."
                    + messages.hint("run the same again with fewer {workers}")
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                while not queue.empty():
                    processes.end({queue.get()})
                raise


def _look(
    recording: "Recording", preset: Any, whole: bool, options: Mapping[str, str] | None
) -> "Inspection | ValueError | OSError":
    from tsattn.recordings.inspect import inspect

    messages.adopt(options)
    try:
        return inspect(recording, preset, whole=whole)
    except (ValueError, OSError) as problem:
        return problem


@contextlib.contextmanager
def bar(told: str, unit: str, total: int | None = None) -> "Iterator[Callable[[], object]]":
    """Show how many things are done, on a terminal only; give what counts one more."""
    from tqdm import tqdm

    with tqdm(desc=told, unit=unit, total=total, disable=None, leave=False, delay=1.0) as shown:
        yield shown.update


def prepare(
    paths: list[Path],
    out: Path,
    preset: Literal["swec", "raw"] = "swec",
    workers: int = 1,
    dtype: Literal["int16", "float32"] = "int16",
    sfreq: float | None = None,
    notch: Literal[50, 60] | None = None,
    reference: Reference | None = None,
    bads: Literal["drop", "keep"] | None = None,
    changes: dict[str, Any] | None = None,
    skip: bool = False,
    unit: Unit | None = None,
    subject: str | None = None,
    type: Type | None = None,
    signals: str | None = None,
    on_mismatch: Literal["raise", "warn"] = "raise",
    keep_text: list[str] | None = None,
    seizure_words: list[str] | None = None,
    unpaired: Literal["raise", "mark"] = "mark",
    outside: Literal["raise", "clip", "drop"] = "clip",
) -> None:
    """Bring recordings into one store: resampled, filtered, re-referenced, gaps as they are; goes on where it stopped.

    Args:
        paths: Files, or folders of a known layout (BIDS, SWEC, ...).
        out: Folder of the store, by custom "....zarr"; one of the same preparation is continued.
        preset: swec (0.5-120 Hz, median reference, 512 Hz, bad channels dropped) or raw (as recorded, in microvolts).
        workers: Processes.
        dtype: int16 (with the error that it costs in the store) or float32.
        sfreq: Hz, if not the preset's.
        notch: Hz of the mains to remove with its harmonics.
        reference: In place of the preset's.
        bads: drop or keep bad channels, if not as the preset does.
        changes: Any other parameter of the preset: `--changes.band "[1, 70]" --changes.bad_rules "[flat]"`.
        skip: Leave out recordings that cannot be prepared, and say so, instead of stopping.
        unit: Unit of the values, if the files do not say it or are wrong: nV, uV, mV or V.
        subject: Pseudonym of the person, if all files are of one; "folder" if each folder holds one person's files; or
            a .csv or .tsv with the columns file and subject.
        type: Of channels whose type only their names could tell: seeg, ecog, eeg or dbs.
        signals: Channels to count as signals: names or patterns, separated by commas; a leading ! excludes:
            'POST*,TEMP*,!EKG*'.
        on_mismatch: If a file contradicts its sidecars or itself: raise, or warn and believe the signal's own file.
        keep_text: Annotation texts that may be shown, as a list: "[spike*]"; what an event means does not change.
        seizure_words: Words that mean a seizure besides seizure, sz and ictal, as a list.
        unpaired: A seizure whose end is not known: raise, or mark (of no duration).
        outside: Events that the recording cannot hold: raise, clip, or drop.
    """
    from tsattn.recordings.places import shown
    from tsattn.recordings.preparation import prepare as preparing
    from tsattn.recordings.readers import open_recordings

    quiet()
    reading = reading_of(
        unit=unit, subject=subject, type=type, signals=signals, on_mismatch=on_mismatch,
        keep_text=keep_text, seizure_words=seizure_words, unpaired=unpaired, outside=outside,
    )  # fmt: skip
    recordings = _opened(paths, reading) if skip else open_recordings(paths, **reading)
    named = _given(sfreq=sfreq, notch=notch, reference=reference, bads=bads) | (changes or {})
    with Hours(sum(recording.duration for recording in recordings)) as hours:
        store = preparing.prepare(
            recordings, out, preset=preset, workers=workers, dtype=dtype, skip=skip, progress=hours, **named
        )
    stored = store.recordings()
    ways = {note.text: note.way for one in recordings for note in one.notes}  # of this command; none is stored
    warnings = [(one.id, note) for one in stored for note in one.notes if note.level == "warning"]
    print_alike([(id, replace(note, way=ways.get(note.text, ""))) for id, note in warnings])
    there = len(stored) - len(set(hours.done) & set(store.ids))
    told = f", {there} of them there before" if there else ""
    print(f"{len(stored)} recordings, {sum(one.duration for one in stored) / 3600:.2f} h{told}, in {shown(out)}")


def _opened(paths: list[Path], reading: dict[str, Any]) -> list["Recording"]:
    """Open what can be opened, and say why the rest cannot."""
    from tsattn.recordings.readers import asked, settle

    said = asked(**reading)
    found, unread = opened(paths, said)
    problems = [f"Path {number} was left out. {problem}" for number, problem in unread.items()]
    if not found:
        raise ValueError(" ".join(problems))
    with adding(problems):
        settle(found, said)
    for told in problems:
        print(told)
    return found


def opened(paths: list[Path], reading: "Reading") -> "tuple[list[Recording], dict[int, ValueError | OSError]]":
    """Open the recordings at each path, and return them and why a path (counted from 1) could not be opened."""
    from tsattn.recordings.readers import open_path

    found: list[Recording] = []
    unread: dict[int, ValueError | OSError] = {}
    with bar("files opened", "file") as progress:
        for number, path in enumerate(paths, 1):
            try:
                found += open_path(path, reading, progress)
            except (ValueError, OSError) as problem:
                unread[number] = problem
    return found, unread


@contextlib.contextmanager
def adding(problems: list[str]) -> Iterator[None]:
    """Put the problems of single paths behind an error of all: what no file speaks of may be in one of these."""
    try:
        yield
    except ValueError as problem:
        raise ValueError(" ".join([str(problem), *problems])) from problem


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def signal_names(signals: str | None) -> tuple[str, ...] | None:
    """Return the names and patterns of channels in what was typed: parted by commas, in brackets and quotes or not.

    Raises:
        ValueError: If nothing was named.
    """
    if signals is None:
        return None
    names = tuple(word.strip().strip("'\"") for word in signals.strip().removeprefix("[").removesuffix("]").split(","))
    if not all(name.removeprefix("!") for name in names):
        raise ValueError(f"--signals is {signals!r}, expected names or patterns of channels, as in 'POST*,!EKG*'.")
    return names


def reading_of(signals: str | None, **options: Any) -> dict[str, Any]:
    """Return the attributes of a `Reading` from the options of a command: those that were given."""
    named = _given(signals=signal_names(signals), **options)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in named.items()}


def quiet() -> None:
    """Keep readers from logging what a note of the recording says, too."""
    logging.getLogger("tsattn.recordings.readers").setLevel(logging.ERROR)


def print_alike(notes: list[tuple[str, "Note"]]) -> None:
    """Print notes by recording; one that stands at several recordings, once."""
    places: dict[str, list[str]] = {}
    for id, note in notes:
        places.setdefault(note.told.replace(id, "It"), []).append(id)
    for text, ids in places.items():
        print(f"{ids[0] if len(ids) == 1 else f'{len(ids)} recordings'}: {text}")


class Hours:
    """A progress bar in hours of recording, on a terminal only."""

    def __init__(self, seconds: float) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=round(seconds / 3600, 2), unit="h", disable=None, leave=False)
        self.done: dict[str, float] = {}

    def __enter__(self) -> "Hours":
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def __call__(self, id: str, seconds: float, _: float) -> None:
        """Take a recording's id, its seconds that are done, and all of its seconds."""
        self.done[id] = seconds
        self.bar.update(sum(self.done.values()) / 3600 - self.bar.n)


def simulate(
    out: Path,
    subjects: int = 4,
    hours: float = 1.0,
    level: Literal["easy", "hard"] = "easy",
    channels: list[int] | None = None,
    seizures_per_hour: float = 6.0,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Write simulated SEEG with known seizures as a BIDS data set; it says nothing of clinical accuracy.

    Args:
        out: Folder of the data set.
        subjects: How many; each has electrodes, seizures and noise of its own.
        hours: Of each subject.
        level: easy (seizures stand out), or hard (weaker seizures, artefacts, discharges, bad channels).
        channels: Fewest and most of a subject; `[24, 40]` if not given.
        seizures_per_hour: About so many.
        seed: Random seed of the simulation.
        overwrite: Replace a simulated data set that is there; nothing else is ever replaced.
    """
    from tqdm import tqdm

    from tsattn.recordings.simulate import simulate_bids

    bounds: dict[str, Any] = {} if channels is None else {"channels": (min(channels), max(channels))}
    with tqdm(total=subjects, unit="recording", disable=None, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        made = simulate_bids(
            out, subjects=subjects, hours=hours, level=level, seizures_per_hour=seizures_per_hour, seed=seed,
            overwrite=overwrite, progress=progress, **bounds,
        )  # fmt: skip
    print(f"{made.recordings} recordings, {made.hours:g} h, {made.seizures} seizures, in {made.path}")


def split(
    store: Path,
    out: Path,
    by: Literal["subject", "seizure", "time"] = "subject",
    fractions: list[float] = [0.7, 0.15, 0.15],  # noqa: B006
    folds: int | None = None,
    subject: str | None = None,
    embargo: float = 125.0,
    twins: Literal["together", "drop", "raise"] = "together",
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Split a store into training, validation and test, and prove that nothing leaks between them.

    Args:
        store: A prepared store.
        out: JSON to write.
        by: subject (a person is in one part), seizure (each person's seizures are dealt out) or time (first hours
            are for training).
        fractions: Of training, validation and test; 0 leaves a part out.
        folds: Parts of one size instead, for cross-validation.
        subject: Whose recordings are, where their files do not say it: "folder" (those of one folder are one
            person's), or a .csv or .tsv with the columns recording and subject. Training reads it from the split.
        embargo: Seconds left out between parts of one recording: at least one window.
        twins: Recordings that hold the same signal: together (in one part), drop (the later one), or raise.
        seed: Random seed of the split.
        overwrite: Write over a file that exists already.
    """
    from tsattn import files
    from tsattn.recordings.splits.split import split as deal

    files.refuse_existing(out, overwrite)
    made = deal(store, by, fractions, folds, seed, embargo, twins, subject=subject)
    empty = [part for part, share in zip(("train", "val", "test"), fractions, strict=False) if share and not folds]
    empty = [part for part in empty if part not in made.parts]
    if empty:
        told = " ".join(made.report.get("notes", []))
        raise ValueError(
            f"Nothing is left for {' and '.join(empty)}. {told} Split otherwise, lower --embargo, or leave the part "
            "out by a fraction of 0."
        )
    made.save(out, overwrite=overwrite)
    print(made)
