"""What a text in an events file means: a seizure, its begin or end, no seizure, or words that must not travel on.

Free text of an annotation may hold a person's name. So an event has two words: its type, which is of a closed list
("sz" and SzCORE's sub-types, which are those of ILAE 2017 in HED-SCORE; "bckg"; "annotation" for everything else), and
its text, which is empty unless the caller lets it through by name. Letting a text through never changes the type.
"""

import re
import unicodedata
from collections.abc import Collection, Iterable
from fnmatch import fnmatch
from typing import NamedTuple

from tsattn.events.table import NOT_STATED, SEIZURE

BACKGROUND = "bckg"  # SzCORE: no seizure in this stretch
ANNOTATION = "annotation"
MACHINE = ("bad_acq_skip", "bad boundary", "edge boundary", "boundary")  # mne's and EEGLAB's own words
WORDS = frozenset(
    "foc gen uo uon a ia ua f2b m nm um automatisms atonic clonic spasms hyperkinetic myoclonic tonic autonomic "
    "behavior cognitive emotional sensory tonicClonic myoTC myoAtonic typical atypical eyelidMyo eyelidMyio".split()
)
_MOTOR = "automatisms atonic clonic spasms hyperkinetic myoclonic tonic"
_OTHER = "autonomic behavior cognitive emotional sensory"
SZCORE = frozenset(  # eventType of SzCORE (HED-SCORE levels in epilepsy2bids' events.json, "Myio" as it stands there)
    ["sz", "sz_foc", "sz_foc_f2b", "sz_gen", "sz_gen_m", "sz_gen_nm", "sz_uo", "sz_uo_m", "sz_uo_nm"]
    + ["sz_foc_a", "sz_foc_ia"]
    + [f"sz_foc_{aware}_{kind}" for aware in ("a", "ia", "ua") for kind in ("m", "nm", "um")]
    + [f"sz_foc_{aware}_m_{word}" for aware in ("a", "ia", "ua") for word in _MOTOR.split()]
    + [f"sz_foc_{aware}_nm_{word}" for aware in ("a", "ia", "ua") for word in _OTHER.split()]
    + [f"sz_gen_m_{word}" for word in "tonicClonic clonic tonic myoTC myoAtonic atonic spasms".split()]
    + [f"sz_gen_nm_{word}" for word in "typical atypical myoclonic eyelidMyio".split()]
    + ["sz_uo_m_tonicClonic", "sz_uo_m_spasms", "sz_uo_nm_behavior"]
)
# As in OpenNeuro ds004100 ("sz onset"), ds003029 ("eeg sz start"), Persyst ("seizure1,2") and TUH ("seiz").
SEIZURE_WORDS = ("seizure", "sz", "szr", "seiz", "ictal")
BEFORE = re.compile(
    r"(\b(no|non|not|without|post|pre|inter|peri|last|since|pseudo|denies)\b[ -]*|[a-z]-)(a |the |any )?$"
)  # take a seizure word back
TAKEN_BACK = re.compile(r"[ _-]*(free|like|log|button|precautions|meds?|threshold|medication|detection off)\b")
AFTER = re.compile(rf"-[a-z]|{TAKEN_BACK.pattern}")
ONSET = "onset|offset"  # said of seizures alone; "start" and "end" are said of everything
BEGIN = "onset|starts?|started|starting|begins?|began|beginning|commences?|commenced|commencement"
END = "offset|ends?|ended|ending|stops?|stopped|stopping|finish|finishes|finished|ceases?|ceased|terminates?|terminated"
EDGES = {side: re.compile(rf"(.*?)[ :-]*\b({words})\b[ :-]*(.*)") for side, words in (("begin", BEGIN), ("end", END))}
SEEN_IN = frozenset("eeg ieeg seeg ecog electrographic electrical clinical".split())
QUALIFIERS = SEEN_IN | frozenset("definite probable possible first the of is a".split())
CONTACT = re.compile(r"[a-z]{1,5}'?\d{1,3}(-[a-z']*\d{1,3})?")
NUMBER = re.compile(r"\d{1,3}(-\d{1,3})?")
BETWEEN = re.compile(r"\b(spread|to|in|at|from|and|contacts?)\b|[,;&+/]")


class Edge(NamedTuple):
    """A mark for the begin or the end of a seizure.

    Attributes:
        side: "begin" or "end".
        said: Whether the text says that it is of a seizure; "onset" alone does not.
        what: What is left of the text without its side, "eeg", "clinical" and contacts: "sz", "sz 2", "".
        how: Those words: "eeg", "ad1-3".
    """

    side: str
    said: bool
    what: str
    how: str


def event_type(text: str, words: Collection[str] = ()) -> str:
    """Return the type that stands for a text: "sz", a sub-type of it, "bckg", a word of mne's, or "annotation".

    A sub-type that SzCORE does not have is still a seizure: it becomes "sz".

    Args:
        text: Of an annotation, a `trial_type` or an `eventType`.
        words: More words that mean a seizure, besides `SEIZURE_WORDS` (case does not count).
    """
    text = text.strip()
    first, *rest = re.split("[-_]", text)
    if first.lower() == SEIZURE and rest and " " not in text and not TAKEN_BACK.match(text[len(SEIZURE) :].lower()):
        exact = {word.lower(): word for word in WORDS}
        known = [exact[word.lower()] for word in rest if word.lower() in exact]
        return "-".join([SEIZURE, *known]) if len(known) == len(rest) else SEIZURE
    if says_seizure(text, (*SEIZURE_WORDS, *words)):
        return SEIZURE
    word = text.casefold()
    return word if word == BACKGROUND or word in MACHINE else ANNOTATION


def let_through(text: str, keep_text: Collection[str]) -> str:
    """Return a text if it is on a list of those that may be shown, else nothing.

    Args:
        text: As in a file.
        keep_text: Whole texts; `*` stands for anything, case does not count.
    """
    text = clean(text)
    return text if any(fnmatch(text.casefold(), entry.strip().casefold()) for entry in keep_text) else ""


def szcore_type(kind: str) -> str:
    """Return SzCORE's word for a type: "sz-foc-ia" is "sz_foc_ia"; one that it does not have, the nearest above it."""
    parts = ["eyelidMyio" if part == "eyelidMyo" else part for part in kind.split("-")]
    while len(parts) > 1 and "_".join(parts) not in SZCORE:
        parts.pop()
    return "_".join(parts)


def edge(text: str, words: Collection[str] = ()) -> Edge | None:
    """Return what a text marks if it marks a seizure's begin or end ("sz onset", "end of seizure", "offset"), or None.

    Args:
        text: Of an annotation.
        words: More words that mean a seizure.
    """
    word = re.sub(r"[\s_]+", " ", text.strip().casefold())
    for side, pattern in EDGES.items():
        found = pattern.fullmatch(word)
        if not found:
            continue
        rest = f"{found[1]} {found[3]}".strip(" ,;:")
        kept = [part for part in rest.split() if part not in QUALIFIERS and not CONTACT.fullmatch(part.strip(",;"))]
        how = " ".join(part for part in rest.split() if part not in kept)
        if says_seizure(rest, (*SEIZURE_WORDS, *words)):
            return Edge(side, True, " ".join(kept), how)
        seen = re.search(ONSET, found[2]) or SEEN_IN.intersection(rest.split())
        if _qualified(rest) and (seen or side == "end"):
            return Edge(side, False, "", how)
    return None


def _qualified(rest: str) -> bool:
    """Return whether a text is nothing but "eeg", "clinical", ..., or nothing but contacts ("AD1-3, ATT1,2")."""
    if all(part in QUALIFIERS for part in rest.split()):
        return True
    parts = BETWEEN.sub(" ", rest).split()
    lettered = [bool(CONTACT.fullmatch(part)) for part in parts]
    return bool(parts) and lettered[0] and all(a or NUMBER.fullmatch(b) for a, b in zip(lettered, parts, strict=True))


def says_seizure(text: str, words: Collection[str] = SEIZURE_WORDS) -> bool:
    """Return whether a text holds a seizure word that is not taken back ("no seizure", "post-ictal", "seizure-free").

    Args:
        text: Any case.
        words: That mean a seizure.
    """
    word = re.sub(r"\s+", " ", text.strip().casefold())
    entries = sorted({entry.strip().casefold() for entry in words} - {""}, key=len, reverse=True)
    if not entries:
        return False
    any_word = "|".join(map(re.escape, entries))
    found = re.finditer(rf"(?<![a-z])({any_word})s?(?![a-z])", word)
    return any(not BEFORE.search(word[: match.start()]) and not AFTER.match(word[match.end() :]) for match in found)


def clean(text: str) -> str:
    """Return a text in one line, without control and escape characters."""
    shown = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in text)
    shown = "".join(letter for letter in shown if unicodedata.category(letter) not in ("Cf", "Cs", "Co"))
    return " ".join(shown.split())


def cell(text: str) -> str:
    """Return a text for a cell of a table: in one line, and no formula for a spreadsheet (`=`, `+`, `-`, `@` first)."""
    text = clean(text)
    return f"'{text}" if text[:1] in "=+-@" and text else text


def from_cell(text: str) -> str:
    """Return the text that `cell` wrote."""
    return text[1:] if text[:1] == "'" and text[1:2] in tuple("=+-@") else text


def names_cell(channels: str) -> str:
    """Return names joined by commas, each safe as a cell."""
    return ",".join(cell(name) for name in channels.split(",")) or NOT_STATED


def join_names(names: Iterable[str], otherwise: str = "all") -> str:
    """Return names as the table of events holds them, each once; `otherwise` if there is none."""
    return ",".join(dict.fromkeys(name for name in names if name)) or otherwise
