"""What a text in an events file means: a seizure, its begin or end, no seizure, or words that must not travel on.

Free text of an annotation may hold a person's name. Only words of a closed list pass (SzCORE's types, which are those
of ILAE 2017 in HED-SCORE), and what the caller allows by name; a text with a seizure word that is not taken back
becomes "sz", every other one "annotation".
"""

import re
from collections.abc import Collection
from fnmatch import fnmatch

from tsattn.events.table import SEIZURE

BACKGROUND = "bckg"  # SzCORE: no seizure in this stretch
ANNOTATION = "annotation"
WORDS = frozenset(
    "foc gen uo uon a ia ua f2b m nm um automatisms atonic clonic spasms hyperkinetic myoclonic tonic autonomic "
    "behavior cognitive emotional sensory tonicClonic myoTC myoAtonic typical atypical eyelidMyo".split()
)
# As in OpenNeuro ds004100 ("sz onset"), ds003029 ("eeg sz start") and Persyst ("seizure1,2").
SEIZURE_WORDS = ("seizure", "sz", "szr", "ictal")
BEFORE = re.compile(
    r"(\b(no|non|not|without|post|pre|inter|peri|last|since|pseudo|denies)\b[ -]*|[a-z]-)(a |the |any )?$"
)  # take a seizure word back
TAKEN_BACK = re.compile(r"[ _-]*(free|like|log|button|precautions|meds?|threshold|medication|detection off)\b")
AFTER = re.compile(rf"-[a-z]|{TAKEN_BACK.pattern}")
BARE = re.compile(r"(eeg\s+|clinical\s+)?(?P<side>onset|offset)", re.IGNORECASE)  # ds003029's pt01
PAIR = re.compile(r"(eeg\s+)?(sz|szr|seizure)[\s_-]+((?P<begin>onset|start|begin)|offset|end|stop)", re.IGNORECASE)


def event_type(text: str, allow: Collection[str] = (), words: Collection[str] = ()) -> str:
    """Return the type that stands for a text: "sz", a sub-type of it, "bckg", an allowed text, or "annotation".

    A sub-type that SzCORE does not have is still a seizure: it becomes "sz".

    Args:
        text: Of an annotation, a `trial_type` or an `eventType`.
        allow: Texts that may pass as they are (each the whole text; `*` stands for anything, case does not count).
        words: More words that mean a seizure (case does not count).
    """
    text = text.strip()
    if any(fnmatch(text.casefold(), entry.casefold()) for entry in allow):
        return text
    first, *rest = re.split("[-_]", text)
    if first.lower() == SEIZURE and rest and " " not in text and not TAKEN_BACK.match(text[len(SEIZURE) :].lower()):
        known = next((form for form in (rest, [word.lower() for word in rest]) if WORDS.issuperset(form)), [])
        return "-".join([SEIZURE, *known])
    if says_seizure(text, (*SEIZURE_WORDS, *words)):
        return SEIZURE
    return BACKGROUND if text.lower() == BACKGROUND else ANNOTATION


def boundary(text: str) -> str | None:
    """Return "begin" or "end" if a text marks that of a seizure ("sz onset", "sz offset"), else None."""
    match = PAIR.fullmatch(text.strip())
    return None if match is None else "begin" if match["begin"] else "end"


def bare_boundary(text: str) -> str | None:
    """Return "begin" or "end" if a text is no more than "onset" or "offset", which do not say of what; else None."""
    match = BARE.fullmatch(text.strip())
    return None if match is None else "begin" if match["side"].lower() == "onset" else "end"


def says_seizure(text: str, words: Collection[str] = SEIZURE_WORDS) -> bool:
    """Return whether a text holds a seizure word that is not taken back ("no seizure", "post-ictal", "seizure-free").

    Args:
        text: Any case.
        words: That mean a seizure.
    """
    word = re.sub(r"\s+", " ", text.strip().casefold())
    any_word = "|".join(re.escape(entry.casefold()) for entry in sorted(words, key=len, reverse=True))
    if not any_word:
        return False
    found = re.finditer(rf"(?<![a-z])({any_word})s?(?![a-z])", word)
    return any(not BEFORE.search(word[: match.start()]) and not AFTER.match(word[match.end() :]) for match in found)
