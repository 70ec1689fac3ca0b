"""What the annotations of an EDF+ or BDF+ file say, as rows: one reading, behind every door.

`text@@channel` marks one channel (EDF+, 2.2.4); `text [A1,A2]` is how this package writes an event of several, so that
one event is one annotation in every viewer.
"""

import re
from collections.abc import Callable, Sequence

import numpy as np

from tsattn.events.edf_header import Header
from tsattn.events.edf_time import Annotation
from tsattn.events.interpret import Rows
from tsattn.events.notes import Note
from tsattn.events.table import ALL
from tsattn.events.vocabulary import clean, join_names

WHOLE = "recording_duration"  # the annotation that stated it in files of tsattn up to 0.1


def signal_labels(header: Header) -> list[str]:
    """Return the labels of the signals that hold samples, in their order."""
    return [signal.label for signal in header.signals if not signal.is_annotation and signal.samples]


def annotation_rows(
    annotations: Sequence[Annotation],
    labels: Sequence[str],
    names: Sequence[str],
    notes: tuple[Note, ...] = (),
    contacts: Callable[[str], list[str]] | None = None,
) -> Rows:
    """Return annotations as rows.

    Args:
        annotations: Of the file.
        labels: Of its signals; empty in a file of annotations only, where every name is taken.
        names: What the recording calls these signals.
        notes: What reading left out.
        contacts: Returns the channels that a text names, if it names nothing else.
    """
    own: dict[str, str] = {}
    for label, name in zip(labels, names, strict=True):
        own.setdefault(label.strip().casefold(), name)
    texts, channels = [], []
    for annotation in annotations:
        text, named = _apart(annotation.text, own, contacts)
        texts.append(text)
        channels.append(join_names(named, otherwise=ALL))
    return Rows(
        np.array([one.onset for one in annotations], float),
        np.array([one.duration for one in annotations], float),
        texts,
        channels,
        places=[f"annotation {i + 1}" for i in range(len(texts))],
        notes=notes,
    )


def _apart(text: str, own: dict[str, str], contacts: Callable[[str], list[str]] | None) -> tuple[str, list[str]]:
    """Return a text without the channels that it names, and these; a text that names others stays whole."""
    before, mark, channel = text.rpartition("@@")
    told = [(before, [channel])] if mark else []
    if text.endswith("]"):
        told += [(text[: at.start()], text[at.end() : -1].split(",")) for at in re.finditer(r" \[", text)]
    for rest, parts in told:
        named = [own.get(part.strip().casefold(), "" if own else clean(part)) for part in parts]
        if all(named):
            return rest, named
        if contacts is not None and contacts(",".join(parts)):
            return rest, contacts(",".join(parts))
    return text, []
