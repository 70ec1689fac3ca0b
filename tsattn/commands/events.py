"""Commands on events: score, export."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from tsattn.events.files import EventFile

ENTITIES = ("sub", "ses", "task", "acq", "run")
ENDING = re.compile(r"(_events)?\.(tsv|csv|edf)$", re.IGNORECASE)
ASIDE = {"derivatives", "sourcedata"}  # of a BIDS root: events there are not those of its recordings
NOTES_SHOWN = 5


def score(
    reference: Path,
    hypothesis: Path,
    rules: Literal["szcore"] = "szcore",
    duration: float | None = None,
    out: Path | None = None,
    outside: Literal["raise", "clip"] = "raise",
    seizure_words: list[str] | None = None,
    unpaired: Literal["raise", "mark"] = "raise",
    bootstrap: int = 2000,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Score the seizures that were found against those of an expert: events, seconds, 5-second bins, latency.

    Args:
        reference: An events file (.tsv of SzCORE or BIDS, .csv, EDF+), or a folder of *_events files
            (`derivatives` and `sourcedata` of a BIDS root are left aside).
        hypothesis: The same of what was found. Folders are matched by relative path, else by BIDS entities (sub, ses,
            task, acq, run). A reference without its hypothesis is an error, not "no seizure".
        rules: The only rules so far are szcore.
        duration: Of each recording in seconds, where no file states it.
        out: Write all numbers to this .json, or those of each recording to this .csv.
        outside: What happens to events outside a recording: raise, or clip.
        seizure_words: Words that mean a seizure besides seizure, sz and ictal, as a list: "[detection]".
        unpaired: What happens to a seizure's begin without an end: raise, or mark (a mark cannot be scored).
        bootstrap: Draws of subjects for the 95 % intervals; 0 for none.
        seed: Of these draws.
        overwrite: Write over a file that exists already.
    """
    from tsattn import files
    from tsattn.events.cohort import Scored, score_recordings

    if out is not None:
        if out.suffix not in (".json", ".csv"):
            raise ValueError(f"--out ends in {out.suffix or 'nothing'}, expected .json or .csv.")
        files.refuse_existing(out, overwrite)
    references, hypotheses = _found(reference), _found(hypothesis)
    matched = _matched(references, hypotheses, reference, hypothesis)
    notes: list[str] = []
    words = tuple(seizure_words or ())
    recordings: dict[str, Scored] = {}
    for expert, found in matched.items():
        name = _recording(expert)
        persons = {_subject(path) for path in (expert, found) if path is not None} - {None}
        if len(persons) > 1:
            raise ValueError(f"The reference is of {' and the hypothesis of '.join(sorted(map(str, persons)))}.")
        read = [_read(path, (), words, unpaired, notes) for path in (expert, found) if path is not None]
        for path, file in zip((expert, found), read, strict=False):
            _refuse_unclear(path, file)
        stated = [_stated_beside(expert), *(file.duration for file in read)]
        length = _duration(stated, duration, name) if found is not None else 0.0  # without one, scoring stops anyway
        answer = read[1].events if found is not None else None
        recordings[name] = (_subject(expert) or name, read[0].events, answer, length)
    if len(recordings) < len(matched):
        raise ValueError("Two reference files are of the same recording: keep one of them.")
    scores = score_recordings(recordings, rules, outside=outside, bootstrap=bootstrap, seed=seed)
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
    allow: list[str] | None = None,
    seizure_words: list[str] | None = None,
    unpaired: Literal["raise", "mark"] = "raise",
    outside: Literal["raise", "clip"] = "raise",
    overwrite: bool = False,
) -> None:
    """Write events files anew as SzCORE TSV, BIDS events.tsv, EDF+ or CSV; the originals stay as they are.

    Args:
        paths: Events files (.tsv, .csv, EDF+), or folders of *_events files.
        to: The format to write: szcore, bids, edf or csv.
        out: A file for one events file; otherwise a folder, in which files keep their BIDS names (other names may hold
            a person's: a pseudonym takes their place).
        duration: Of each recording in seconds, where no file states it.
        recording: With `--to edf` and one events file, a recording: a new EDF+ file of it is written, with these events
            in place of its own annotations, and with a scrubbed header. Samples of EDF are copied as they are; those of
            other formats become 16-bit integers. Without one, `--to edf` holds annotations alone, which
            mne.read_annotations reads.
        allow: Annotation texts that may pass, as a list; without one every text that is no seizure's type becomes
            "annotation".
        seizure_words: Words that mean a seizure besides seizure, sz and ictal, as a list.
        unpaired: What happens to a seizure's begin without an end: raise, or mark.
        outside: What happens to events outside a recording: raise, or clip.
        overwrite: Write over files that exist already.
    """
    from tsattn import files
    from tsattn.events.edf import annotate_edf, write_edf
    from tsattn.events.files import SUFFIXES, write_events
    from tsattn.events.table import check_events
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
    texts = tuple(allow or ())
    read = [_read(source, texts, tuple(seizure_words or ()), unpaired, notes) for source in sources]
    if to == "szcore":
        for source, file in zip(sources, read, strict=True):
            _refuse_unclear(source, file)
    for source, target, file in zip(sources, targets, read, strict=True):
        length = None
        if recording is not None:
            persons = {_subject(source), _subject(recording)} - {None}
            if len(persons) > 1:
                raise ValueError(f"The events and the recording are of {' and '.join(sorted(map(str, persons)))}.")
            length = Recording.open(recording).duration
        elif to != "bids":
            length = _duration([_stated_beside(source), file.duration], duration, _recording(source))
        events = file.events
        if outside == "clip":
            events = check_events(events, length, overlapping="keep", outside="clip")
            changed = len(file.events) - len(events)
            if changed:
                notes.append(f"{_recording(source)}: {changed} events outside the recording were left out")
        if recording is not None:
            if recording.suffix.lower() == ".edf":
                annotate_edf(recording, target, events, allow=texts, overwrite=overwrite)
            else:
                write_edf(Recording.open(recording).to_xarray(), target, events, allow=texts, overwrite=overwrite)
            continue
        left = write_events(target, events, to, duration=length, allow=texts, overwrite=overwrite)
        if left:
            notes.append(f"{_recording(source)}: {left} events that are no seizures have no place in SzCORE's format")
    _print_notes(notes)
    print(f"{len(targets)} written to {out}")


def _found(path: Path) -> dict[str, Path]:
    """Events files at a path, by their path relative to it without its ending."""
    from tsattn.recordings.privacy import label

    if path.is_file():
        return {"": path}
    if not path.is_dir():
        raise ValueError(f"{label(path)} is not there.")
    files = sorted(
        file
        for file in path.rglob("*_events.*")
        if ENDING.search(file.name) and file.is_file() and not ASIDE.intersection(file.relative_to(path).parts)
    )
    if not files:
        raise ValueError(f"{label(path)} holds no *_events.tsv, *_events.csv or *_events.edf.")
    found: dict[str, Path] = {}
    for file in files:
        key = ENDING.sub("", str(file.relative_to(path)))
        if key in found:
            raise ValueError(f"{label(file)} and {label(found[key])} are of the same recording: keep one of them.")
        found[key] = file
    return found


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


def _read(path: Path, allow: Collection[str], words: Collection[str], unpaired: str, notes: list[str]) -> "EventFile":
    from tsattn.events.files import read_events
    from tsattn.recordings.privacy import label

    file = read_events(path, allow=allow, seizure_words=words, unpaired=unpaired, called=label(path))  # type: ignore[arg-type]
    notes += [f"{label(path)}: {note}" for note in file.notes]
    return file


def _refuse_unclear(path: Path | None, file: "EventFile") -> None:
    """A file of texts that we do not understand must not count as "no seizure"."""
    from tsattn.events.table import seizures

    if path is not None and len(file.events) and not len(seizures(file.events)) and not file.background:
        raise ValueError(
            f"{_recording(path)}: {len(file.events)} rows, none of them a seizure by its text and none that says bckg. "
            "Name the texts that mean a seizure: --seizure_words '[...]'."
        )


def _duration(stated: list[float | None], given: float | None, name: str) -> float:
    """The one duration that files and the command line agree on."""
    from tsattn.events.table import ROUNDING

    known = [value for value in (given, *stated) if value is not None]
    if not known:
        raise ValueError(f"{name}: no file states how long the recording is: pass --duration in seconds.")
    if max(known) - min(known) > ROUNDING:
        raise ValueError(f"{name}: the recording is stated to last {min(known):g} s and {max(known):g} s: which one?")
    return known[0]


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
