"""Which stretches of which recordings are for training, validation and test; kept in a JSON file that people can read.

A `Splits` is made by `split.split`, by hand, or read from a file. `leaks.audit` proves that no window of two parts
shares time or signal; its report travels in the file, with a digest, so that an edited file is audited again.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tsattn import documents
from tsattn.files import refuse_existing, write_atomically
from tsattn.recordings.privacy import label
from tsattn.recordings.recording import Recording

FORMAT = "tsattn-splits"
VERSION = 1
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Span:
    """A stretch of a recording that belongs to one part.

    Attributes:
        recording: Its id.
        begin: Seconds from the recording's start; no window of the part begins before.
        end: Seconds; no window of the part ends after.
        part: "train", "val" or "test"; or "fold0", "fold1", ... (see `Splits.fold`).
    """

    recording: str
    begin: float
    end: float
    part: str


@dataclass(frozen=True)
class Splits:
    """Stretches of recordings by part.

    Attributes:
        spans: Sorted by recording and time.
        made: How: `by`, `fractions` or `folds`, `seed`, `embargo_seconds`.
        report: Of the audit; see `leaks.audit`.
    """

    spans: tuple[Span, ...]
    made: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, training first."""
        found = {span.part for span in self.spans}
        known = [part for part in PARTS if part in found]
        return (*known, *sorted(found - set(known), key=lambda part: (len(part), part)))

    def of(self, recording: str, part: str | None = None) -> list[Span]:
        """Return the spans of a recording, of one part or of all."""
        return [s for s in self.spans if s.recording == recording and part in (None, s.part)]

    def fold(self, number: int, val: bool = True) -> "Splits":
        """Return the split in which one fold is for test, the next one for validation, and the others for training.

        Args:
            number: Of the fold, from 0.
            val: Whether there is a validation part.
        """
        folds = self.made.get("folds")
        if folds is None or not 0 <= number < folds:
            raise ValueError(f"Fold {number} was asked of {folds or 'no'} folds.")
        if val and folds < 3:
            raise ValueError(
                f"{folds} folds leave nothing to train on beside validation and test: split into 3 or more, or pass "
                "Splits.fold(..., val=False)."
            )
        roles = {f"fold{i}": "train" for i in range(folds)} | {f"fold{number}": "test"}
        if val:
            roles[f"fold{(number + 1) % folds}"] = "val"
        spans = tuple(replace(span, part=roles[span.part]) for span in self.spans)
        return Splits(spans, {**self.made, "fold": number})

    def digest(self, recordings: Sequence[Recording]) -> str:
        """Return a hash of the spans and of the recordings' ids, lengths and numbers of channels."""
        facts = [[r.id, round(r.duration, 3), len(r.names)] for r in sorted(recordings, key=lambda r: r.id)]
        spans = sorted([s.recording, round(s.begin, 3), round(s.end, 3), s.part] for s in self.spans)
        return hashlib.sha256(json.dumps([facts, spans]).encode()).hexdigest()

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a JSON file, one line a span.

        Raises:
            FileExistsError: If there is a file and `overwrite` is False.
        """
        refuse_existing(path, overwrite)
        head = json.dumps({"format": FORMAT, "version": VERSION, "made": self.made, "report": self.report}, indent=2)
        lines = ",\n".join("    " + json.dumps(asdict(span)) for span in self.spans)
        text = f'{head[:-2]},\n  "spans": [\n{lines}\n  ]\n}}\n'
        write_atomically(path, lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: str | Path) -> "Splits":
        """Read what `save` wrote, or what a person wrote: only `spans` are needed.

        Raises:
            FileNotFoundError: If nothing is there.
            ValueError: If it is no such file.
        """
        named = label(path)
        try:
            plain = documents.read_json(path, named)
        except ValueError as error:
            raise ValueError(f"{error} Expected a file that `tsattn recordings split` wrote.") from error
        if not isinstance(plain, dict) or not isinstance(plain.get("spans"), list):
            raise ValueError(f'{named} has no list "spans", expected a file that `tsattn recordings split` wrote.')
        shape = {"version?": int, "spans": [dict], "made?": (dict, None), "report?": (dict, None)}
        documents.check(plain, shape, named)
        if plain.get("version", VERSION) > VERSION:
            raise ValueError(f"{named} is of version {plain['version']}, this tsattn reads up to {VERSION}.")
        spans = []
        for number, entry in enumerate(plain["spans"]):
            try:
                span = Span(str(entry["recording"]), float(entry["begin"]), float(entry["end"]), str(entry["part"]))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{named}: span {number} is {entry!r}, expected recording, begin and end in seconds, and part."
                ) from error
            spans.append(span)
        return cls(tuple(spans), dict(plain.get("made") or {}), dict(plain.get("report") or {}))

    def __str__(self) -> str:
        """The report in a few lines."""
        lines = []
        for part, row in self.report.get("parts", {}).items():
            lines.append(
                f"{part:>6}: {row['recordings']:4d} recordings, {row['subjects']:3d} subjects, {row['hours']:9.2f} h, "
                f"{row['seizures']:4d} seizures"
            )
        for twin in self.report.get("twins", []):
            a, b = twin["recordings"]
            lines.append(f" twins: {a} and {b} hold the same signal ({twin['end'] - twin['begin']:.0f} s of it).")
        lines += [f"  note: {note}" for note in self.report.get("notes", [])]
        return "\n".join(lines)
