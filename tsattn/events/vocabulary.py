"""What a text in an events file means: a seizure, its begin or end, no seizure, or words that must not travel on.

Free text of an annotation may hold a person's name. Only words of a closed list pass (SzCORE's types, which are those
of ILAE 2017 in HED-SCORE), and what the caller allows by name; every other text becomes "annotation".
"""

import re
from collections.abc import Collection

from tsattn.events.table import SEIZURE

BACKGROUND = "bckg"  # SzCORE: no seizure in this stretch
ANNOTATION = "annotation"
WORDS = frozenset(
    "foc gen uo uon a ia ua f2b m nm um automatisms atonic clonic spasms hyperkinetic myoclonic tonic autonomic "
    "behavior cognitive emotional sensory tonicClonic myoTC myoAtonic typical atypical eyelidMyo".split()
)
# As in OpenNeuro ds004100 ("sz onset"), ds003029 ("eeg sz start") and Persyst ("seizure1,2").
PLAIN = re.compile(r"(sz|szr|seizure|ictal)s?([\s#,]*\d{1,3})*", re.IGNORECASE)
PAIR = re.compile(r"(eeg\s+)?(sz|szr|seizure)[\s_-]+((?P<begin>onset|start|begin)|offset|end|stop)", re.IGNORECASE)


def event_type(text: str, allow: Collection[str] = (), words: Collection[str] = ()) -> str:
    """Return the type that stands for a text: "sz", a sub-type of it, "bckg", an allowed text, or "annotation".

    A sub-type that SzCORE does not have is still a seizure: it becomes "sz".

    Args:
        text: Of an annotation, a `trial_type` or an `eventType`.
        allow: Texts that may pass as they are (each the whole text, case counts).
        words: More texts that mean a seizure (each the whole text, case does not count).
    """
    text = text.strip()
    if text in allow:
        return text
    first, *rest = re.split("[-_]", text)
    if first.lower() == SEIZURE and rest:
        return "-".join([SEIZURE, *rest]) if WORDS.issuperset(rest) else SEIZURE
    if PLAIN.fullmatch(text) or text.casefold() in {word.casefold() for word in words}:
        return SEIZURE
    return BACKGROUND if text.lower() == BACKGROUND else ANNOTATION


def boundary(text: str) -> str | None:
    """Return "begin" or "end" if a text marks that of a seizure ("sz onset", "sz offset"), else None."""
    match = PAIR.fullmatch(text.strip())
    return None if match is None else "begin" if match["begin"] else "end"
