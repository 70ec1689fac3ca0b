"""What a channel's name tells: its type and its bare name. Scalp names: 10-10 system; the rest is what recorders write.

A depth or grid contact is letters and a number (LA3, "EEG LF 01-Ref"). Names of scalp and of contacts overlap (F3, C4,
A1), so a whole list decides: Fp1, Fp2 and midline electrodes (Fz, Cz, Pz) say that the two-letter names are scalp.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from tsattn.recordings.recording import SIGNAL_TYPES, Note

SCALP = re.compile(r"(fp|af|f|ft|fc|t|c|tp|cp|p|po|o|n|i|a|m|sp|pg)(z|\d{1,2})", re.IGNORECASE)
MIDLINE = re.compile(r"(af|f|fc|c|cp|p|po|o)z|fp[12z]", re.IGNORECASE)
CONTACT = re.compile(
    r"(?!ch|chan|channel|eeg|signal|sig|data|unnamed|x\d|dc|trig)([a-z][a-z'_ ]*?)[ _-]?'?(\d{1,3})'?", re.I
)
OTHER = (  # in this order
    ("ecg", re.compile(r"\b(ecg|ekg)|(ecg|ekg)\d?[lr]?$", re.IGNORECASE)),
    ("eog", re.compile(r"\b[hv]?eog|^(loc|roc|lue|lle|rue|rle)\b", re.IGNORECASE)),
    ("emg", re.compile(r"\bemg|^(chin|delt|quad|tib)", re.IGNORECASE)),
    ("stim", re.compile(r"^(sti|trig|trg|stim|mark|event|status|photic)|^ttl", re.IGNORECASE)),
    (
        "misc",
        re.compile(
            r"^(dc|resp|airflow|air|flow|thor|abd|snore|sp[ao]o?2|sao2|osat|pulse|pleth|pr$|hr$|bpm|temp|pos|light|mic|"
            r"etco2|bp\d?|ref|gnd|patient event|spu|xair|nasal|effort|batt|impedance|c\d+-\d+|\$|-)",
            re.IGNORECASE,
        ),
    ),
)
PREFIX = re.compile(r"^(eeg|seeg|ieeg|ecog|pol|poly|dbs)[ _-]+", re.IGNORECASE)
SUFFIX = re.compile(r"[ -_](ref|le|ar|avg|av|aa|g2|cz?ref|org|gnd|a1a2|a1\+a2|vref)$", re.IGNORECASE)


def bare(name: str) -> str:
    """Return the name without the words that recorders put around it: "EEG LF 01-Ref" is "LF 01"."""
    return SUFFIX.sub("", PREFIX.sub("", name.strip())).strip(" .")


def guess_types(names: Sequence[str]) -> list[str | None]:
    """Return mne's word for the type of each channel; None where its name tells nothing.

    Args:
        names: Of all channels of a recording: they are read together.
    """
    cores = [bare(name) for name in names]
    scalp = any(MIDLINE.fullmatch(part) for core in cores for part in core.split("-"))
    return [_type(name.strip(), core, scalp) for name, core in zip(names, cores, strict=True)]


def _type(name: str, core: str, scalp: bool) -> str | None:
    for kind, pattern in OTHER:
        if pattern.search(core) or pattern.search(name):
            return kind
    parts = [part.strip() for part in core.split("-")]
    if re.match(r"seeg[ _-]", name, re.IGNORECASE):
        return "seeg"
    if re.match(r"ecog[ _-]", name, re.IGNORECASE):
        return "ecog"
    lettered = [part for part in parts if not part.isdigit()]  # "LA1-2" is a pair, too
    if scalp and all(SCALP.fullmatch(part) for part in lettered):
        return "eeg"
    if lettered and all(CONTACT.fullmatch(part) for part in lettered):
        return "seeg"
    both = all(SCALP.fullmatch(part) for part in lettered)  # a bipolar row of scalp names without a midline
    return "eeg" if lettered and both and (len(parts) > 1 or re.match(r"eeg\b", name, re.IGNORECASE)) else None


def settle_types(
    names: Sequence[str], voltage: Sequence[bool], wanted: str | None = None
) -> tuple[list[str], tuple[Note, ...]]:
    """Return a type for each channel, and what was guessed.

    Args:
        names: Of all channels.
        voltage: Whether a channel is in volts, as far as the file says so.
        wanted: Type of the channels that may record the brain, by the user's word (`Reading.type`).
    """
    guessed = guess_types(names)
    types, unknown = [], 0
    for kind, in_volts in zip(guessed, voltage, strict=True):
        if wanted and in_volts and (kind is None or kind in SIGNAL_TYPES):
            kind = wanted
        unknown += kind is None and in_volts
        types.append(kind if kind and (in_volts or kind not in SIGNAL_TYPES) else "misc")
    notes = []
    if unknown:
        notes.append(
            Note(
                "warning", f"{unknown} channels have names that tell no type: taken as misc; type='seeg' changes that."
            )
        )
    shafts = types.count("seeg")
    if shafts and not wanted:
        notes.append(
            Note(
                "info",
                f"{shafts} channels are taken as seeg by their names (LA3, ...); type='ecog' or 'eeg' changes it.",
            )
        )
    return types, tuple(notes)


def tells_types(note: Note) -> bool:
    """Return whether a note is one of `settle_types`."""
    return "names that tell no type" in note.text or "taken as seeg by their names" in note.text


def contacts(text: str, names: Sequence[str]) -> list[str]:
    """Return the channels that a text names, if it names channels and nothing else; else nothing.

    "AD1-4, ATT1,2" is AD1 to AD4, ATT1 and ATT2; "PD" is every contact of that shaft.

    Args:
        text: An annotation.
        names: Of the channels.
    """
    bares, shafts = _by_shaft(tuple(names))
    text = re.sub(r"(?<=[a-z'])\s+(?=\d)", "", text.casefold())
    words = re.sub(r"\b(spread|onset|to|in|at|from|and|contacts?)\b|[;&+/]", ",", text)
    named: list[str] = []
    shaft = ""
    for word in filter(None, (part.strip() for part in words.replace(" ", ",").split(","))):
        found = re.fullmatch(r"([a-z']*)(\d{1,3})?(?:-([a-z']*)(\d{1,3}))?", word)
        if found is None:
            return []
        letters, first, other, last = found.groups()
        shaft = letters or shaft
        if other and other != shaft:
            return []
        if first is None:
            if last is not None or shaft not in shafts:
                return []
            named += shafts[shaft]
            continue
        numbers = range(int(first), int(last or first) + 1)
        places = [bares.get(f"{shaft}{n}", bares.get(f"{shaft}{n:02d}")) for n in numbers]
        if shaft not in shafts or not places:
            return []
        named += [place for place in places if place]
    return list(dict.fromkeys(named))


@lru_cache(maxsize=8)  # a recording may have 10^5 annotations, and each is looked at
def _by_shaft(names: tuple[str, ...]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the names by their bare form, and those of each shaft."""
    bares = {bare(name).replace(" ", "").casefold(): name for name in names}
    shafts: dict[str, list[str]] = {}
    for core, name in bares.items():
        found = CONTACT.fullmatch(core)
        if found:
            shafts.setdefault(found.group(1), []).append(name)
    return bares, shafts


def unique(names: Sequence[str]) -> list[str]:
    """Return the names with a number behind those that stand several times, as mne does: "A-0", "A-1"."""
    taken = set(names)
    out, count = [], dict.fromkeys(names, 0)
    for name in names:
        if list(names).count(name) == 1:
            out.append(name)
            continue
        while f"{name}-{count[name]}" in taken:
            count[name] += 1
        out.append(f"{name}-{count[name]}")
        taken.add(out[-1])
    return out
