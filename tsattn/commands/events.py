"""Commands on events: score, export."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tsattn.events.files import EventFile
    from tsattn.events.interpret import Understanding

ENTITIES = ("sub", "ses", "task", "acq", "run")
ENDING = re.compile(r"(_events)?\.(tsv|csv|csv_bi|edf|bdf)$", re.IGNORECASE)
ASIDE = {"derivatives", "sourcedata"}  # of a BIDS root: events there are not those of its recordings
OTHER_TABLES = re.compile(r"(^|_)(channels|electrodes|scans|sessions|participants|samples|coordsystem)\.tsv$")
LAST_RECORD = 1.0  # s: durations that differ by less are one; some writers round to the last data record of a file
NOTES_SHOWN = 5


def score(
    reference: Path,
    hypothesis: Path,
    rules: Literal["szcore", "szcore-1s"] = "szcore",
    duration: float | None = None,
    out: Path | None = None,
    outside: Literal["raise", "clip", "drop"] = "raise",
    seizure_words: list[str] | None = None,
    unpaired: Literal["raise", "mark"] = "raise",
    bootstrap: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Score the seizures that were found against those of an expert: events, seconds, 5-second bins, latency.

    Args:
        reference: An events file (.tsv of SzCORE or BIDS, .csv, TUH's .csv_bi, EDF+ or BDF+), CHB-MIT's summary of its
            files, or a folder of *_events files, else of events files of any name (`derivatives` and `sourcedata` of a
            BIDS root are left aside).
        hypothesis: The same of what was found. Folders are matched by relative path, else by BIDS entities (sub, ses,
            task, acq, run). A reference without its hypothesis is an error, not "no seizure".
        rules: szcore, or szcore-1s, which cuts times to whole seconds first, as the package szcore-evaluation does.
        duration: Of each recording in seconds, where no file states it.
        out: Write all numbers to this .json, or those of each recording to this .csv.
        outside: What happens to events outside a recording: raise, clip, or drop.
        seizure_words: Words that mean a seizure besides seizure, sz and ictal, as a list: "[detection]".
        unpaired: A seizure whose end is not known: raise, or mark (a mark cannot be scored).
        bootstrap: Draws of subjects for the 95 % intervals; 0 for none.
        seed: Random seed of the bootstrap.
        overwrite: Write over a file that exists already.
    """
    from tsattn import files
    from tsattn.events.cohort import Scored, score_recordings
    from tsattn.events.interpret import Understanding

    if out is not None:
        if out.suffix not in (".json", ".csv"):
            raise ValueError(f"--out ends in {out.suffix or 'nothing'}, expected .json or .csv.")
        files.refuse_existing(out, overwrite)
    how = Understanding((), tuple(seizure_words or ()), unpaired, outside)
    references, hypotheses = _found(reference, "--reference: "), _found(hypothesis, "--hypothesis: ")
    matched = _matched(references, hypotheses, reference, hypothesis)
    notes: list[str] = []
    recordings: dict[str, Scored] = {}
    for expert, found in matched.items():
        name = _recording(expert)
        persons = {_subject(path) for path in (expert, found) if path is not None} - {None}
        if len(persons) > 1:
            raise ValueError(f"The reference is of {' and the hypothesis of '.join(sorted(map(str, persons)))}.")
        sides = [("the reference", expert)] + ([("the hypothesis", found)] if found is not None else [])
        read = [_read(path, how, notes, f"{side}, ") for side, path in sides]
        for (side, path), file in zip(sides, read, strict=True):
            _refuse_unclear(path, file, f"{side}, ")
        stated = {"its sidecar": _stated_beside(expert)}
        stated |= {side: file.duration for (side, _), file in zip(sides, read, strict=True)}
        if found is None:  # which stops the scoring
            recordings[name] = (_subject(expert) or name, read[0].events, None, 0.0)
            continue
        length = _duration(stated, duration, name)
        expert_events, found_events = (
            _within(file, length, outside, f"{side}, {name}", notes)
            for (side, _), file in zip(sides, read, strict=True)
        )
        recordings[name] = (_subject(expert) or name, expert_events, found_events, length)
    if len(recordings) < len(matched):
        raise ValueError("Two reference files are of the same recording: keep one of them.")
    scores = score_recordings(recordings, rules, bootstrap=bootstrap, seed=seed)
    alone = len(hypotheses) - len([found for found in matched.values() if found is not None])
    if alone:
        notes.append(f"{alone} of {len(hypotheses)} hypothesis files have no reference and were not scored")
    print(scores)
    _print_notes(notes)
    if out is not None:
        text = scores.to_json() if out.suffix == ".json" else scores.per_recording.to_csv()
        files.write_atomically(out, lambda file: file.write(text.encode()))
        print(f"written to {out}")


def export(
    paths: list[Path],
    to: Literal["szcore", "bids", "edf", "csv"],
    out: Path,
    duration: float | None = None,
    recording: Path | None = None,
    keep_text: list[str] | None = None,
    allow: list[str] | None = None,
    seizure_words: list[str] | None = None,
    unpaired: Literal["raise", "mark"] = "raise",
    outside: Literal["raise", "clip", "drop"] = "raise",
    overwrite: bool = False,
) -> None:
    """Write events files anew as SzCORE TSV, BIDS events.tsv, EDF+ or CSV; the originals stay as they are.

    Args:
        paths: Events files (.tsv, .csv, TUH's .csv_bi, EDF+ or BDF+), CHB-MIT's summary of its files, or folders.
        to: The format to write: szcore, bids, edf or csv.
        out: A file for one events file; otherwise a folder, in which files keep their BIDS names (other names may hold
            a person's: a pseudonym takes their place).
        duration: Of each recording in seconds, where no file states it.
        recording: With `--to edf` and one events file, a recording: a new EDF+ file of it is written, with these events
            in place of its own annotations, and with a scrubbed header. Samples of EDF are copied as they are; those of
            other formats become 16-bit integers. Without one, `--to edf` holds annotations alone, which
            mne.read_annotations reads.
        keep_text: Annotation texts that may be shown, as a list: "[spike*]"; without one every text that is no
            seizure's type becomes "annotation".
        allow: Another name for keep_text.
        seizure_words: Words that mean a seizure besides seizure, sz and ictal, as a list.
        unpaired: A seizure whose end is not known: raise, or mark (of no duration).
        outside: Events outside a recording: raise, clip, or drop.
        overwrite: Write over files that exist already.
    """
    from tsattn import files
    from tsattn.events.edf import annotate_edf, write_edf
    from tsattn.events.files import SUFFIXES, write_events
    from tsattn.events.interpret import Understanding
    from tsattn.recordings.recording import Recording

    sources = [file for path in paths for file in _found(path).values()]
    if recording is not None and (to != "edf" or len(sources) != 1):
        raise ValueError("--recording goes with --to edf and one events file.")
    single = len(sources) == 1 and paths[0].is_file() and out.suffix.lower() == SUFFIXES[to]
    targets = [out] if single else [out / _target(source, SUFFIXES[to]) for source in sources]
    if len(set(targets)) < len(targets):
        raise ValueError("Two of the events files are of the same recording and would get the same name.")
    originals = {source.resolve() for source in sources}
    for target in targets:
        files.refuse_existing(target, overwrite)
        if target.resolve() in originals:
            raise ValueError("An events file would be replaced by its own export: choose another --out.")
    notes: list[str] = []
    texts = (*(keep_text or ()), *(allow or ()))
    how = Understanding(texts, tuple(seizure_words or ()), unpaired, outside)
    read = [_read(source, how, notes) for source in sources]
    if to == "szcore":
        for source, file in zip(sources, read, strict=True):
            _refuse_unclear(source, file)
    for source, target, file in zip(sources, targets, read, strict=True):
        name = _recording(source)
        length = None
        if recording is not None:
            persons = {_subject(source), _subject(recording)} - {None}
            if len(persons) > 1:
                raise ValueError(f"The events and the recording are of {' and '.join(sorted(map(str, persons)))}.")
            length = Recording.open(recording).duration
        elif to != "bids":
            stated = {"its sidecar": _stated_beside(source), "the file": file.duration}
            length = _duration(stated, duration, name)
        events = _within(file, length, outside, name, notes)
        if recording is not None:
            if recording.suffix.lower() == ".edf":
                annotate_edf(recording, target, events, keep_text=texts, overwrite=overwrite)
            else:
                write_edf(Recording.open(recording).to_xarray(), target, events, keep_text=texts, overwrite=overwrite)
            continue
        left = write_events(target, events, to, duration=length, keep_text=texts, overwrite=overwrite)
        if left:
            notes.append(f"{name}: {left} events that are not seizures have no place in SzCORE's format")
    _print_notes(notes)
    print(f"{len(targets)} written to {out}")


def _found(path: Path, side: str = "") -> dict[str, Path]:
    """Events files at a path, by their path relative to it without its ending.

    Args:
        path: A file or folder.
        side: How errors begin: which of two paths it is.
    """
    from tsattn.events import lists
    from tsattn.recordings.privacy import label

    if path.is_file():
        return _summarised(path, side) if lists.is_summary(path) else {"": path}
    if not path.is_dir():
        raise ValueError(f"{side}{label(path)} is not there.")
    inside = [
        file
        for file in sorted(path.rglob("*"))
        if ENDING.search(file.name) and file.is_file() and not ASIDE.intersection(file.relative_to(path).parts)
    ]
    called = [file for file in inside if re.search(r"_events\.\w+$", file.name)]
    if called:
        chosen = called
    else:
        tables = {file.stem for file in inside if file.suffix.lower() not in (".edf", ".bdf")}
        chosen = [file for file in inside if not OTHER_TABLES.search(file.name) and _holds_events(file, tables)]
    if not chosen:
        raise ValueError(
            f"{side}{label(path)} holds no *_events.tsv, *_events.csv or *_events.edf, no other .tsv or .csv with a "
            "column of onsets, no .csv_bi, and no EDF file with annotations or a list of seizures beside it."
        )
    found: dict[str, Path] = {}
    for file in chosen:
        key = ENDING.sub("", str(file.relative_to(path)))
        if key in found:
            raise ValueError(
                f"{side}{label(file)} and {label(found[key])} are of the same recording: keep one of them."
            )
        found[key] = file
    return found


def _holds_events(file: Path, tables: set[str]) -> bool:
    """Return whether a file that is not called `*_events` holds events; TUH's `.csv` gives way to its `.csv_bi`."""
    from tsattn.events import lists, tuh
    from tsattn.events.edf_header import is_edf, read_header
    from tsattn.events.tabular import read_cells

    try:
        if file.suffix.lower() in (".edf", ".bdf"):
            if file.stem in tables or not is_edf(file):
                return False
            header = read_header(file, "it", annotations_only=True)
            return any(signal.is_annotation for signal in header.signals) or lists.beside(file) is not None
        columns = read_cells(file)[0].columns
    except ValueError:
        return False
    if tuh.is_list(columns):
        return file.suffix.lower() == ".csv_bi" or not file.with_suffix(".csv_bi").is_file()
    return "onset" in columns and "duration" in columns


def _summarised(path: Path, side: str) -> dict[str, Path]:
    """The recordings that a summary of CHB-MIT names and that lie beside it."""
    from tsattn.events import lists
    from tsattn.recordings.privacy import label

    try:
        named = lists.read_summary(path)
    except ValueError as problem:
        raise ValueError(f"{side}{label(path)}: {problem}") from problem
    there = {file.stem: file for file in sorted(path.parent.iterdir()) if file.name.casefold() in named}
    if not there:
        raise ValueError(
            f"{side}{label(path)} lists the seizures of {len(named)} files, none of which lies beside it: they state "
            "how long the recordings are. Put them there."
        )
    return there


def _matched(
    references: dict[str, Path], hypotheses: dict[str, Path], reference: Path, hypothesis: Path
) -> dict[Path, Path | None]:
    """The hypothesis of each reference: the one at the same place, else the one of the same BIDS entities."""
    from tsattn.recordings.privacy import label

    if reference.is_file() != hypothesis.is_file():
        raise ValueError("--reference and --hypothesis are a file and a folder, expected two files or two folders.")
    same: dict[tuple[str, ...] | None, list[Path]] = {}
    for file in hypotheses.values():
        same.setdefault(_entities(file), []).append(file)
    same.pop(None, None)
    owner: dict[Path, Path] = {}
    matched: dict[Path, Path | None] = {}
    for place, expert in references.items():
        alike = same.get(_entities(expert), [])
        if place not in hypotheses and len(alike) > 1:
            told = " and ".join(label(file) for file in alike[:2])
            raise ValueError(f"{told} are both hypotheses of {label(expert)}: keep one of them.")
        found = hypotheses.get(place) or (alike[0] if alike else None)
        other = expert if found is None else owner.setdefault(found, expert)
        if other != expert:
            raise ValueError(f"{label(other)} and {label(expert)} have the same hypothesis: give each its own.")
        matched[expert] = found
    return matched


def _read(path: Path, how: "Understanding", notes: list[str], side: str = "") -> "EventFile":
    from tsattn.events.files import read_events
    from tsattn.recordings.privacy import label

    file = read_events(path, **vars(how), called=f"{side}{label(path)}")
    notes += [f"{label(path)}: {note.told}" for note in file.notes]
    return file


def _within(file: "EventFile", length: float | None, outside: Any, name: str, notes: list[str]) -> Any:
    """Return the events of a file within its recording; what rounding of the recording's end cuts off is no error."""
    from tsattn.events.fitting import fit_events

    slack = None if length is None else max(length, min(file.duration or 0.0, length + LAST_RECORD))
    try:
        events, told = fit_events(file.events, slack, outside)
    except ValueError as problem:
        raise ValueError(f"{name}: {problem}") from problem
    fitted, _ = fit_events(events, length)
    if len(fitted) < len(events):
        notes.append(f"{name}: {len(events) - len(fitted)} events in the last {LAST_RECORD:g} s lie after the end")
    notes += [f"{name}: {note.text}" for note in told]
    return fitted


def _refuse_unclear(path: Path, file: "EventFile", side: str = "") -> None:
    """A file of texts that we do not understand must not count as "no seizure"."""
    from tsattn.events.table import seizures

    if len(file.events) and not len(seizures(file.events)) and not file.background:
        raise ValueError(
            f"{side}{_recording(path)}: {len(file.events)} rows, none of them a seizure by its text and none that says "
            "bckg. Name the texts that mean a seizure: --seizure_words '[...]'."
        )


def _duration(stated: dict[str, float | None], given: float | None, name: str) -> float:
    """The one duration that files and the command line agree on, up to the rounding of a file's last record."""
    known = {"--duration": given} | stated
    told = {who: value for who, value in known.items() if value is not None}
    if not told:
        raise ValueError(f"{name}: no file states how long the recording is: pass --duration in seconds.")
    if max(told.values()) - min(told.values()) > LAST_RECORD:
        least, most = min(told, key=lambda who: told[who]), max(told, key=lambda who: told[who])
        raise ValueError(
            f"{name}: the recording is stated to last {told[least]:g} s and {told[most]:g} s ({least} and {most}): "
            "which one?"
        )
    return next(iter(told.values()))


def _stated_beside(path: Path) -> float | None:
    """The duration in the BIDS sidecar of the recording beside an events file, if there is one."""
    from tsattn import documents

    for kind in ("ieeg", "eeg"):
        sidecar = path.with_name(ENDING.sub("", path.name) + f"_{kind}.json")
        if path.name.lower().endswith("_events.tsv") and sidecar.is_file():
            try:
                value: Any = documents.read_json(sidecar, sidecar.name).get("RecordingDuration")
            except (ValueError, AttributeError):
                raise ValueError(f"{_recording(path)}: the sidecar _{kind}.json is no JSON object.") from None
            if isinstance(value, int | float) and value > 0:
                return float(value)
    return None


def _entities(path: Path) -> tuple[str, ...] | None:
    """BIDS entities that name a recording (run-1 is run-01); None without a subject."""
    told = dict(part.split("-", 1) for part in ENDING.sub("", path.name).split("_") if "-" in part)
    if "sub" not in told:
        return None
    return tuple(str(int(value)) if value.isdigit() else value for value in (told.get(key, "") for key in ENTITIES))


def _recording(path: Path) -> str:
    from tsattn.recordings.privacy import label

    return ENDING.sub("", label(path))


def _subject(path: Path) -> str | None:
    from tsattn.recordings.privacy import is_bids_name

    return path.name.split("_")[0].split(".")[0] if is_bids_name(path.name) else None


def _target(source: Path, suffix: str) -> Path:
    """Where in a folder a file is written: as in BIDS, by its entities; under a pseudonym if it has no BIDS name."""
    from tsattn.recordings.privacy import is_bids_name, pseudonym

    if not is_bids_name(source.name):
        return Path(f"{pseudonym(str(source.absolute()), 'rec')}_events{suffix}")
    stem = ENDING.sub("", source.name)
    folder = Path(*(part for part in stem.split("_") if part.startswith(("sub-", "ses-"))))
    kind = source.parent.name
    return folder / (kind if kind in ("eeg", "ieeg") else "") / f"{stem}_events{suffix}"


def _print_notes(notes: list[str]) -> None:
    notes = list(dict.fromkeys(notes))
    for note in notes[:NOTES_SHOWN]:
        print(f"note: {note}")
    if len(notes) > NOTES_SHOWN:
        print(f"note: and {len(notes) - NOTES_SHOWN} more like these")
