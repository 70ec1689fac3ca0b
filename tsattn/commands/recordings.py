"""Commands on recordings: inspect, prepare, simulate, split."""

from pathlib import Path
from typing import Any, Literal


def inspect(
    paths: list[Path],
    plot: Path | None = None,
    preset: Literal["swec", "raw"] = "swec",
    full: bool = False,
    unit: Literal["nV", "uV", "mV", "V"] | None = None,
    subject: str | None = None,
    overwrite: bool = False,
) -> None:
    """Say what recordings hold: channels, rates, gaps, events, bad channels, warnings, and what preparing them will do.

    Args:
        paths: Files, or folders of a known layout (BIDS, SWEC, ...).
        plot: Picture of one recording (.png, .pdf, .svg), or a folder for a picture of each and an overview.
        preset: Preparation that is told: swec or raw.
        full: Measure everything instead of twenty stretches, and list every channel.
        unit: Of the values, if the files do not say it or are wrong: nV, uV, mV or V.
        subject: Pseudonym of the person, if all files are of one.
        overwrite: Write over pictures that exist already.
    """
    from tsattn import files
    from tsattn.recordings import inspect as looking
    from tsattn.recordings import plots
    from tsattn.recordings.preparation.preset import make_preset
    from tsattn.recordings.privacy import scrub
    from tsattn.recordings.readers import open_recordings

    make_preset(preset)
    if plot is not None and plot.suffix:
        plots.ending_of(plot)
        files.refuse_existing(plot, overwrite)
    reading = {key: value for key, value in {"unit": unit, "subject": subject}.items() if value is not None}
    recordings, problems = [], []
    for number, path in enumerate(paths, 1):
        try:
            recordings += open_recordings(path, **reading)
        except (ValueError, OSError) as problem:
            problems.append(f"Path {number}: {scrub(str(problem), [path])}")
    if plot is not None and plot.suffix and len(recordings) > 1:
        raise ValueError(f"--plot is one file, but there are {len(recordings)} recordings: give a folder.")
    seen: list[looking.Inspection] = []
    for recording in recordings:
        try:
            found = looking.inspect(recording, preset, whole=full)
        except (ValueError, OSError) as problem:
            problems.append(f"{recording.id}: {scrub(str(problem), [*recording.files, *paths])}")
            continue
        seen.append(found)
        print(looking.text(found, full), end="\n\n")
        if plot is not None:
            picture = plot if plot.suffix else plot / f"{recording.id}.png"
            files.refuse_existing(picture, overwrite)
            plots.plot_recording(recording, bads=found.bads, out=picture)
            print(f"picture of {recording.id} written\n")
    if plot is not None and not plot.suffix and len(seen) > 1:
        files.refuse_existing(plot / "overview.png", overwrite)
        plots.plot_store_overview(recordings, out=plot / "overview.png")
    if len(seen) > 1:
        print(looking.summary(seen))
    if problems and len(paths) == 1 and not seen:
        raise ValueError(problems[0].removeprefix("Path 1: "))
    if problems:
        raise ValueError(f"{len(problems)} paths or recordings could not be inspected. {' '.join(problems)}")


def prepare(
    paths: list[Path],
    out: Path,
    preset: Literal["swec", "raw"] = "swec",
    workers: int = 1,
    dtype: Literal["int16", "float32"] = "int16",
    sfreq: float | None = None,
    notch: float | None = None,
    reference: Literal["none", "median", "average", "bipolar", "laplacian"] | None = None,
    bads: Literal["drop", "keep"] | None = None,
    unit: Literal["nV", "uV", "mV", "V"] | None = None,
    subject: str | None = None,
    type: Literal["seeg", "ecog", "eeg", "dbs"] | None = None,
    on_mismatch: Literal["raise", "warn"] = "raise",
    keep_text: list[str] | None = None,
    changes: dict[str, Any] | None = None,
) -> None:
    """Bring recordings into one store: resampled, filtered, re-referenced, gaps as they are; goes on where it stopped.

    Args:
        paths: Files, or folders of a known layout (BIDS, SWEC, ...).
        out: Folder of the store, by custom "....zarr"; one of the same preparation is continued.
        preset: swec (0.5-120 Hz, median reference, 512 Hz) or raw (as recorded, in microvolts).
        workers: Processes.
        dtype: int16 (with the error that it costs in the store) or float32.
        sfreq: Hz, if not the preset's.
        notch: Hz of the mains to remove with its harmonics, 50 or 60.
        reference: none, median, average, bipolar or laplacian, if not the preset's.
        bads: drop or keep bad channels, if not as the preset does.
        unit: Of the values, if the files do not say it or are wrong: nV, uV, mV or V.
        subject: Pseudonym of the person, if all files are of one.
        type: Of channels whose type only their names could tell: seeg, ecog, eeg or dbs.
        on_mismatch: If a file contradicts its sidecars or itself: raise, or warn and believe the signal's own file.
        keep_text: Annotation texts that may be kept ("*" stands for anything); others become "annotation".
        changes: Any other parameter of the preset: `--changes.band "[1, 70]"`.
    """
    from tsattn.recordings.preparation import prepare as preparing
    from tsattn.recordings.readers import open_recordings

    given: dict[str, Any] = dict(
        unit=unit, subject=subject, type=type, on_mismatch=on_mismatch, keep_text=tuple(keep_text or ())
    )
    recordings = open_recordings(paths, **{key: value for key, value in given.items() if value is not None})
    named: dict[str, Any] = dict(sfreq=sfreq, notch=notch, reference=reference, bads=bads)
    named = {key: value for key, value in named.items() if value is not None}
    with Hours(sum(recording.duration for recording in recordings)) as hours:
        store = preparing.prepare(
            recordings, out, preset=preset, workers=workers, dtype=dtype, progress=hours, **named, **(changes or {})
        )
    for recording in store.recordings():
        for note in recording.notes:
            if note.level == "warning":
                print(f"{recording.id}: {note.text}")
    seconds = sum(store[id].duration for id in store.ids)
    print(f"{len(store.ids)} recordings, {seconds / 3600:.2f} h, in {out}")


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
        level: easy (the seizure stands out), or hard (faint seizures, artefacts, discharges, bad channels).
        channels: Fewest and most of a subject; `[24, 40]` if not given.
        seizures_per_hour: About so many.
        seed: Of the random numbers.
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
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    folds: int | None = None,
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
        embargo: Seconds left out between parts of one recording: at least one window.
        twins: Recordings that hold the same signal: together (in one part), drop (the later one), or raise.
        seed: Of the dealing.
        overwrite: Write over a file that exists already.
    """
    from tsattn import files
    from tsattn.recordings.splits.split import split as deal

    files.refuse_existing(out, overwrite)
    made = deal(store, by, fractions, folds, seed, embargo, twins)
    made.save(out, overwrite=overwrite)
    print(made)
