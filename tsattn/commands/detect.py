"""The command `detect`: a recording in, events, a report and their provenance out."""

import contextlib
import json
import logging
import os
from collections.abc import Collection, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tsattn import messages

if TYPE_CHECKING:
    import pandas as pd

    from tsattn.detection.detector import Detection, Detector

Suffix = {".tsv": "szcore", ".csv": "csv", ".edf": "edf"}


def detect(
    checkpoint: Path,
    recording: Path,
    out: Path,
    report: Path | None = None,
    probabilities: Path | None = None,
    reference: Path | None = None,
    adapter: Path | None = None,
    more_channels: Literal["raise", "spread", "variance", "ensemble"] | None = None,
    stride: int = 1,
    threshold: float | None = None,
    explain: int = 12,
    device: str | None = None,
    unit: Literal["nV", "uV", "mV", "V"] | None = None,
    type: Literal["seeg", "ecog", "eeg", "dbs"] | None = None,
    signals: str | None = None,
    subject: str | None = None,
    on_mismatch: Literal["raise", "warn"] = "raise",
    keep_text: list[str] | None = None,
    seizure_words: list[str] | None = None,
    unpaired: Literal["raise", "mark"] = "mark",
    outside: Literal["raise", "clip", "drop"] = "clip",
    strict: bool = False,
    overwrite: bool = False,
) -> None:
    """Find seizures in a recording of any length, in bounded memory; goes on where it stopped.

    Args:
        checkpoint: Of a detector: a run's best.ckpt, or an exported folder.
        recording: A file, a folder that holds one recording, or STORE.zarr/ID of a prepared store.
        out: Events to write: .tsv (SzCORE), .csv, or .edf (EDF+ annotations). A .json beside it says where they come
            from: checksums, preparation, channels, post-processing.
        report: HTML page to write: what was found, when, why, with the signal around it.
        probabilities: CSV to write: the seizure probability of each window.
        reference: Events file of an expert, to score against; without it, seizures that the recording itself marks are
            shown, and scored, in the report.
        adapter: Folder of adapters for this patient (`tsattn export --form adapter`).
        more_channels: What is done with more channels than the network has room for: spread, variance, ensemble.
        stride: Segments from one window to the next.
        threshold: In the place of the fitted one; the other settings of post-processing stay.
        explain: How many events are explained in the report, those of the highest confidence.
        device: cpu, cuda, cuda:1, ...; a GPU is taken if there is one.
        unit: Unit of the values, if the file does not say it or is wrong: nV, uV, mV or V.
        type: Of channels whose type only their names could tell: seeg, ecog, eeg or dbs.
        signals: Channels to count as signals: names or patterns, separated by commas; a leading ! excludes:
            'POST*,TEMP*,!EKG*'.
        subject: Pseudonym of the person; "folder" if each folder holds one person's files; or a .csv or .tsv with the
            columns file and subject.
        on_mismatch: If a file contradicts its sidecars or itself: raise, or warn and believe the signal's own file.
        keep_text: Annotation texts that may be shown, as a list: "[spike*]"; what an event means does not change.
        seizure_words: Words that mean a seizure besides seizure, sz and ictal, as a list: of the recording's own marks,
            and of the reference.
        unpaired: A seizure of the recording's own marks whose end is not known: raise, or mark (of no duration).
        outside: Events of the recording itself that it cannot hold: raise, clip, or drop.
        strict: Refuse a recording that is unlike those of the training, by type, rate, montage or number of channels.
        overwrite: Write over files that exist already.
    """
    from dataclasses import replace

    import pandas as pd
    import torch

    from tsattn import files
    from tsattn.commands.recordings import Hours, quiet, reading_of
    from tsattn.contracts import NOTICE
    from tsattn.detection.detector import Detector
    from tsattn.events.files import write_events
    from tsattn.recordings.places import shown

    quiet()
    if out.suffix.lower() not in Suffix:
        raise ValueError(f"--out ends in {out.suffix or 'nothing'}, expected .tsv, .csv or .edf.")
    about = out.with_suffix(".json")
    targets = [target for target in (out, about, report, probabilities) if target is not None]
    apart(targets, [path for path in (recording, reference, checkpoint) if path is not None])
    for target in targets:
        files.refuse_existing(target, overwrite)
    expert = None if reference is None else read_reference(reference, seizure_words or ())
    with processes() as first:
        detector = Detector.from_pretrained(checkpoint, adapter=adapter)
        own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"
        move(detector, device or own)
        item = opened(
            recording,
            reading_of(
                unit=unit, subject=subject, type=type, signals=signals, on_mismatch=on_mismatch, keep_text=keep_text,
                seizure_words=seizure_words, unpaired=unpaired, outside=outside,
            ),
        )  # fmt: skip
        setting = None
        if threshold is not None:
            fitted = detector.postprocessing
            low = None if fitted.low is None else min(fitted.low, threshold)
            setting = replace(fitted, threshold=threshold, low=low)
        partial = out.with_name(f".{out.name}.partial")
        with (
            Hours(item.duration if first else 0.0) as hours,
            silent("tsattn.detection.detector.unlike_training"),
            noting("Nothing was written."),
        ):
            found = detector.detect(
                item,
                postprocessing=setting,
                more_channels=more_channels,
                stride=stride,
                strict=strict,
                partial=partial,
                keep_partial=True,  # until everything is written
                progress=(lambda done, whole: hours(item.id, done, whole)) if first else None,
            )
        if not first:
            return
        with whole(targets):
            out.parent.mkdir(parents=True, exist_ok=True)
            write_events(out, found.events, Suffix[out.suffix.lower()], duration=item.duration, overwrite=overwrite)  # type: ignore[arg-type]
            text = json.dumps(found.provenance, indent=2, default=str).encode()
            files.write_atomically(about, lambda file: file.write(text))
            if probabilities is not None:
                columns = {"window_begin_s": found.probability["time"], "spoken_of_s": found.probability["spoken_of"]}
                table = pd.DataFrame({**columns, "probability": found.probability}).to_csv(index=False).encode()
                files.write_atomically(probabilities, lambda file: file.write(table))
            expert = marked(found) if expert is None else expert
            scores = None if expert is None else score(found, expert)
            if report is not None:
                write_report(report, detector, found, expert, scores, explain, overwrite)
        for file in out.parent.glob(f"{partial.name}*"):
            file.unlink(missing_ok=True)
        print(told(found))
        for sentence in found.provenance["unlike_training"]:
            print(f"warning: {sentence}")
        if found.provenance["subject_seen"]:
            print(found.provenance["subject_seen"])
        if detector.spec.postprocessing is None and threshold is None:
            print("No post-processing was ever fitted: each 5 s at 0.5 counts. Fine-tune it, or choose a --threshold.")
        if scores is not None and expert is not None:
            metrics = scores.metrics
            found_of_them = f"sensitivity {metrics['sensitivity']:.3f}, " if len(expert) else ""
            rate = f"{metrics['fp_per_hour']:.2f} false detections an hour"
            print(f"against {len(expert)} marked seizure{'s' * (len(expert) != 1)}: {found_of_them}{rate}")
        print(NOTICE)
        print(f"written to {', '.join(map(shown, targets))}")


@contextlib.contextmanager
def silent(name: str) -> Iterator[None]:
    """Keep a logger from warning of what is printed."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def noting(sentence: str) -> Iterator[None]:
    """Put a sentence behind an error of the user's."""
    try:
        yield
    except ValueError as problem:
        problem.add_note(sentence)
        raise


@contextlib.contextmanager
def whole(targets: list[Path]) -> Iterator[None]:
    """Leave all outputs, or none that was not there: after a full disk or Ctrl-C the same call can be made again."""
    new = [target for target in targets if not target.exists()]
    try:
        yield
    except BaseException:
        for target in new:
            target.unlink(missing_ok=True)
        raise


def apart(outputs: list[Path], inputs: list[Path]) -> None:
    """Raise ValueError if two outputs are one file, or one of them is an input."""
    places = [path.resolve() for path in outputs]
    if len(set(places)) < len(places):
        raise ValueError("Two outputs have the same path (beside --out there is a .json): choose others.")
    if {path.resolve() for path in inputs} & set(places):
        raise ValueError("An output would replace the recording, the reference or the checkpoint: choose another path.")


def move(detector: "Detector", device: str) -> None:
    """Move a detector to a device.

    Raises:
        ValueError: If there is no such device, or no room on it.
    """
    try:
        detector.to(device)
    except (RuntimeError, AssertionError) as problem:  # torch raises the second where it was built without CUDA
        reason = str(problem).partition("\n")[0]
        raise ValueError(f"--device {device} cannot be used: {reason}") from problem


@contextlib.contextmanager
def processes() -> Iterator[bool]:
    """Join the other processes that a launcher (torchrun) started, if it did; give whether this one is the first."""
    import torch

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_ID" in os.environ:
            raise ValueError("SLURM started several processes that do not know of each other: start them by torchrun.")
        yield True
        return
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=7))  # until the last one's share is done
    try:
        yield torch.distributed.get_rank() == 0
    finally:
        torch.distributed.destroy_process_group()


def opened(path: Path, reading: dict[str, Any]) -> Any:
    """Open a recording: of a file, or of a store by `STORE.zarr/ID`."""
    from tsattn.recordings.recording import Recording

    if not (path.parent / "zarr.json").is_file():
        return Recording.open(path, **reading)
    from tsattn.recordings.readers import Reading
    from tsattn.recordings.readers.prepared import refuse_settled
    from tsattn.recordings.store import open_store

    refuse_settled(Reading(**reading))
    store = open_store(path.parent)
    if path.name not in store.ids:
        raise ValueError(f"The store has no recording {path.name!r}; it has {', '.join(store.ids[:20])}.")
    return store[path.name]


def read_reference(path: Path, seizure_words: Collection[str] = ()) -> "pd.DataFrame":
    """Return the seizures of an expert's file.

    Args:
        path: An events file.
        seizure_words: Words that mean a seizure besides seizure, sz and ictal.

    Raises:
        ValueError: If it cannot be read, or none of its texts says whether there was a seizure.
    """
    from tsattn.events.files import read_events
    from tsattn.events.table import seizures

    file = read_events(path, outside="clip", seizure_words=seizure_words, called="The reference")
    found = seizures(file.events)
    if len(file.events) and not len(found) and not file.background:
        raise ValueError(
            f"The reference has {len(file.events)} rows, none of them a seizure by its text and none that says bckg. "
            "Name the texts that mean a seizure" + messages.advice(" by {seizure_words}") + "."
        )
    return found


def marked(found: "Detection") -> "pd.DataFrame | None":
    """Return the seizures that the recording itself marks; None if it marks none."""
    from tsattn.events.table import seizures

    events = seizures(found.recording.events)
    events = events[events["duration"] > 0]
    return events if len(events) else None


def score(found: "Detection", reference: "pd.DataFrame") -> Any:
    """Score a detection against an expert by SzCORE's rules."""
    from tsattn.events.score import score_events

    return score_events(reference, found.events, found.recording.duration, outside="clip")


def write_report(
    path: Path,
    detector: "Detector",
    found: "Detection",
    reference: "pd.DataFrame | None",
    scores: Any,
    most: int,
    overwrite: bool,
) -> None:
    """Write the HTML report, with the events of the highest confidence explained."""
    from tsattn.detection.report import write_report as write

    chosen = found.events.nlargest(max(0, most), "confidence").sort_values("onset")
    explanations = [detector.explain(found, moment(found, *span)) for span in chosen[["onset", "duration"]].to_numpy()]
    write(path, found, reference=reference, scores=scores, explanations=explanations, overwrite=overwrite)


def moment(found: "Detection", onset: float, duration: float) -> float:
    """Return the begin of the segment of an event that is most surely a seizure."""
    speaks = found.probability["spoken_of"].values
    inside = (speaks >= onset - 1e-6) & (speaks < onset + duration - 1e-6)
    if not inside.any():
        return float(onset)
    return float(speaks[inside][found.probability.fillna(-1).values[inside].argmax()])


def told(found: "Detection") -> str:
    """Return the lines that the command prints."""
    from tsattn.detection.plots import clock

    events, item = found.events, found.recording
    unknown = float(found.probability.isnull().mean())
    lines = [f"{item.id}: {len(events)} events in {item.duration / 3600:.2f} h"]
    if unknown:
        lines[0] += f", no answer for {unknown:.1%} of it (gaps)"
    for onset, duration, confidence in events[["onset", "duration", "confidence"]].head(20).to_numpy(float):
        lines.append(f"  {clock(onset)}  {duration:7.1f} s  confidence {confidence:.2f}")
    if len(events) > 20:
        lines.append(f"  ... and {len(events) - 20} more")
    return "\n".join(lines)
