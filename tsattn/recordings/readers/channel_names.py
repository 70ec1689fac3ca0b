"""What a channel's name tells: its type and its bare name. Scalp names: 10-10 system; the rest is what recorders write.

A depth or grid contact is letters and a number (LA3, "EEG LF 01-Ref"). Names of scalp and of contacts overlap (F3, C4,
A1), so a whole list decides: Fp1, Fp2 and midline electrodes (Fz, Cz, Pz) say that the two-letter names are scalp, and
so does a list of nothing but names of the 10-10 system in pairs. Names of shafts and of other sensors overlap, too
(TEMP, POST, AIR): running numbers say that it is a shaft. Every guess is said in a note, and `Reading.type`,
`Reading.unit` and `Reading.signals` overrule it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import TYPE_CHECKING

from tsattn import messages
from tsattn.recordings.recording import SIGNAL_TYPES, Note

if TYPE_CHECKING:
    from tsattn.recordings.readers import Reading
    from tsattn.recordings.recording import Recording

SCALP = re.compile(r"(fp|af|f|ft|fc|t|c|tp|cp|p|po|o|n|i|a|m|sp|pg)(z|\d{1,2})", re.IGNORECASE)
MIDLINE = re.compile(r"(af|f|fc|c|cp|p|po|o)z|fp[12z]", re.IGNORECASE)
SPOKE = re.compile(r"\d{1,2}[lrz][a-e]?", re.IGNORECASE)  # of caps with equal distances: 1Z, 2L, 3RB
CONTACT = re.compile(
    r"(?!ch|chan|channel|eeg|signal|sig|data|unnamed|x\d|dc|trig)([a-z][a-z'_ ]*?)[ _-]?'?(\d{1,3})'?", re.I
)
SHAFT = re.compile(r"([a-z][a-z'_ ]*?)[ _-]?'?(\d{1,3})'?", re.IGNORECASE)  # the same, of any word
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
NEVER_SHAFTS = re.compile(  # words that no electrode is called by, however many of them there are
    r"dc|trig|trg|sti|stim|ttl|event|status|photic|.*e[ck]g|.*eog|.*emg|chin|loc|roc|resp|osat|sp[ao]o?|sao|etco|pr|hr|bpm",
    re.IGNORECASE,
)
GENERIC = re.compile(r"ch|chan|channel|eeg|signal|sig|data|unnamed|x|dc|trig|trigger", re.IGNORECASE)
RUNNING = 3  # contacts with running numbers that make a shaft of a word that other sensors have, too
PRESSURES = 4  # of "BP": a polygraph's blood pressures are BP1 to BP4
LONGEST_SHAFT = 18  # contacts of the longest depth electrodes in use
NUMBERED = re.compile(
    r"[a-fh-z]|el|elec|electrode", re.IGNORECASE
)  # with LONGEST_SHAFT or more and nothing else: a cap?
PREFIX = re.compile(r"^(eeg|seeg|ieeg|ecog|pol|poly|dbs)[ _-]+", re.IGNORECASE)
SUFFIX = re.compile(r"[ -_](ref|le|ar|avg|av|aa|g2|cz?ref|org|gnd|a1a2|a1\+a2|vref)$", re.IGNORECASE)
LISTED = 12  # names in a note; above, a number says how many more


def bare(name: str) -> str:
    """Return the name without the words that recorders put around it: "EEG LF 01-Ref" is "LF 01"."""
    return SUFFIX.sub("", PREFIX.sub("", name.strip())).strip(" .")


@dataclass(frozen=True)
class Guess:
    """What one name tells, read together with all others.

    Attributes:
        type: mne's word; None if the name tells nothing.
        doubtful: Whether another sensor is meant by the word, and a contact could be by the form (TEMP1).
    """

    type: str | None
    doubtful: bool = False


def guess_types(names: Sequence[str]) -> list[str | None]:
    """Return mne's word for the type of each channel; None where its name tells nothing.

    Args:
        names: Of all channels of a recording: they are read together.
    """
    return [guess.type for guess in _guesses(tuple(names))]


@lru_cache(maxsize=8)  # the files of a data set have the same names
def _guesses(names: tuple[str, ...]) -> list[Guess]:
    cores = [bare(name) for name in names]
    shafts = _numbers(cores)
    cap = _cap(cores, shafts)
    scalp = any(MIDLINE.fullmatch(part) for core in cores for part in core.split("-")) or _paired(names, cores, shafts)
    return [_guess(name.strip(), core, scalp, shafts, cap) for name, core in zip(names, cores, strict=True)]


def _parts(core: str) -> list[tuple[str, int]] | None:
    """Return the contacts in a name: one, or two of a pair ("LA1-LA2", "LA1-2"); None if it is of another form."""
    parts = [part.strip() for part in core.split("-")]
    found: list[tuple[str, int]] = []
    for part in parts:
        if part.isdigit() and len(part) < 4 and found:
            found.append((found[-1][0], int(part)))
        elif match := SHAFT.fullmatch(part):
            found.append((match[1].strip().casefold(), int(match[2])))
        else:
            return None
    return found


def _numbers(cores: Sequence[str]) -> dict[str, set[int]]:
    """Return the numbers of the contacts by the word in front of them."""
    shafts: dict[str, set[int]] = {}
    for core in cores:
        for word, number in _parts(core) or ():
            shafts.setdefault(word, set()).add(number)
    return shafts


def _runs(word: str, shafts: dict[str, set[int]]) -> bool:
    """Return whether contacts of a word are numbered as those of a shaft."""
    numbers = shafts.get(word, set())
    least = PRESSURES + 1 if word == "bp" else RUNNING
    return (
        len(numbers) >= least
        and max(numbers) - min(numbers) < 2 * len(numbers)
        and not NEVER_SHAFTS.fullmatch(word.strip(" _'"))
    )


def _cap(cores: Sequence[str], shafts: dict[str, set[int]]) -> dict[str, str | None] | None:
    """Return the type of what is numbered as a cap is: of EGI (E1 to E128), of BioSemi (A1 to D32), of spokes (3LB)."""
    long = [word for word, numbers in shafts.items() if len(numbers) > LONGEST_SHAFT]
    if sum(bool(SPOKE.fullmatch(core)) for core in cores) >= max(4, len(cores) / 4):
        return dict.fromkeys(shafts, "eeg")
    if "e" in long and len(shafts["e"]) >= 0.8 * sum(map(len, shafts.values())):
        return {"e": "eeg"}
    letters = [word for word in shafts if len(word) == 1]
    rows = [word for word in letters if shafts[word] == set(range(1, 33))]
    if len(rows) > 1 and rows == letters and sorted(rows) == list("abcdefgh"[: len(rows)]):
        return dict.fromkeys(rows, "eeg")
    if len(shafts) == 1 and long and NUMBERED.fullmatch(long[0]) and long[0] != "c":
        return {long[0]: None}  # a cap or a grid, and nothing tells which
    return None


def _paired(names: Sequence[str], cores: Sequence[str], shafts: dict[str, set[int]]) -> bool:
    """Return whether a list without a midline is scalp: 10-10 names alone, left and right, no shaft from 1 on."""
    parts = {part for core in cores for part in core.split("-") if _parts(part.strip()) is not None}
    contacts = [_parts(part.strip()) for part in parts]
    known = {(word, number) for found in contacts for word, number in found or () if not _is_other(word)}
    if not known or not all(SCALP.fullmatch(f"{word}{number}") for word, number in known):
        return False
    if any({1, 2, 3} <= numbers for numbers in shafts.values()):
        return False
    mates = sum((word, number + 1 if number % 2 else number - 1) in known for word, number in known)
    called = any(re.match(r"eeg\b", name.strip(), re.IGNORECASE) for name in names)
    return mates >= 0.75 * len(known) and (called or len({word for word, _ in known}) >= 3)


def _is_shaft(part: str, shafts: dict[str, set[int]]) -> bool:
    """Return whether a name is of a shaft whose word only begins as a generic one does (DCA, CHL)."""
    found = SHAFT.fullmatch(part)
    word = found[1].strip().casefold() if found else ""
    return bool(word) and not GENERIC.fullmatch(word) and _runs(word, shafts)


def _is_other(word: str) -> bool:
    return any(pattern.search(word) for _, pattern in OTHER)


def _guess(name: str, core: str, scalp: bool, shafts: dict[str, set[int]], cap: dict[str, str | None] | None) -> Guess:
    contacts = _parts(core)
    other = next((kind for kind, pattern in OTHER if pattern.search(core) or pattern.search(name)), None)
    if other:
        never = not contacts or any(NEVER_SHAFTS.fullmatch(word.strip(" _'")) for word, _ in contacts)
        if never or not contacts:
            return Guess(other)
        if not all(_runs(word, shafts) for word, _ in contacts):
            return Guess(other, doubtful=True)
    if re.match(r"seeg[ _-]", name, re.IGNORECASE):
        return Guess("seeg")
    if re.match(r"ecog[ _-]", name, re.IGNORECASE):
        return Guess("ecog")
    if cap is not None and (SPOKE.fullmatch(core) or (contacts and all(word in cap for word, _ in contacts))):
        return Guess("eeg" if SPOKE.fullmatch(core) else cap[contacts[0][0]] if contacts else None)
    parts = [part.strip() for part in core.split("-")]
    lettered = [part for part in parts if not part.isdigit()]  # "LA1-2" is a pair, too
    if scalp and all(SCALP.fullmatch(part) for part in lettered):
        return Guess("eeg")
    if lettered and all(CONTACT.fullmatch(part) or _is_shaft(part, shafts) for part in lettered):
        return Guess("seeg")
    both = all(SCALP.fullmatch(part) for part in lettered)  # a bipolar row of scalp names without a midline
    told = lettered and both and (len(parts) > 1 or re.match(r"eeg\b", name, re.IGNORECASE))
    return Guess("eeg" if told else None)


def chosen(name: str, patterns: Sequence[str]) -> bool | None:
    """Return whether the user calls a channel a signal (True), or none (False); None if no pattern speaks of it.

    Args:
        name: Of the channel; its bare form counts, too.
        patterns: `Reading.signals`; a later one overrules those before it.
    """
    said = None
    forms = {name.strip().casefold(), bare(name).casefold()}
    for pattern in patterns:
        wanted = pattern.removeprefix("!").strip().casefold()
        if any(form == wanted or fnmatchcase(form, wanted) for form in forms):
            said = not pattern.startswith("!")
    return said


def settle_types(
    names: Sequence[str],
    voltage: Sequence[bool],
    reading: "Reading",
    units: Sequence[str] | None = None,
    default: str | None = None,
) -> tuple[list[str], tuple[Note, ...]]:
    """Return a type for each channel, and what was guessed: every channel in volts that is left out is named.

    Args:
        names: Of all channels.
        voltage: Whether a channel is in volts, as far as the file or `reading.unit` says so.
        reading: What the user says: `type` of the channels that may record the brain, `signals` by name.
        units: The file's word for the unit of each channel, where it is not known; "" elsewhere.
        default: Type of channels whose names tell nothing, in formats that hold nothing but such signals.

    Raises:
        ValueError: If a channel that the user calls a signal is in no unit of voltage.
    """
    guesses = _guesses(tuple(names))
    words = [""] * len(names) if units is None else units
    types: list[str] = []
    said = [chosen(name, reading.signals) for name in names]
    for guess, in_volts, mine, name, word in zip(guesses, voltage, said, names, words, strict=True):
        kind = guess.type or default
        if mine is not None:
            signal = kind if kind in SIGNAL_TYPES else "seeg"
            other = kind if kind and kind not in SIGNAL_TYPES else "misc"
            kind = (reading.type or signal) if mine else other
            if mine and not in_volts:
                raise ValueError(
                    f"{option('signals')} names channel {name!r}, whose unit is "
                    f"{_shown(word) if word else 'none of voltage'}."
                    + (messages.hint("say what it means by {unit=uV}") if word else " Leave it out of the list.")
                )
        elif reading.type and in_volts and (kind is None or kind in SIGNAL_TYPES or guess.doubtful):
            kind = reading.type
        types.append(kind if kind and (in_volts or kind not in SIGNAL_TYPES) else "misc")
    notes = []
    silent = [name for name, guess, mine, volt in zip(names, guesses, said, voltage, strict=True)
              if guess.type is None and mine is None and volt and not reading.type and not default]  # fmt: skip
    if silent:
        notes.append(
            Note(
                "warning",
                f"{len(silent)} channels have names that tell no type: taken as misc, and left out of the signal "
                f"({_listed(silent)}).",
                messages.hint("{type=seeg} changes that", "{signals} does", signals=silent[:1]),
            )
        )
    left = [f"{name} ({kind})" for name, kind, mine, volt in zip(names, types, said, voltage, strict=True)
            if volt and kind not in SIGNAL_TYPES and mine is None and name not in silent]  # fmt: skip
    if left:
        example = [left[0].rpartition(" (")[0]]
        notes.append(
            Note(
                "warning",
                f"{len(left)} channels in volts are left out of the signal, by their names: {_listed(left)}.",
                messages.hint("{signals} takes channels in", signals=example),
            )
        )
    notes += _unit_notes(names, guesses, voltage, words, said)
    for kind, example_name in (("seeg", "LA3"), ("eeg", "Fz")):
        count = sum(
            found == kind and mine is None and volt
            for found, mine, volt in zip(types, said, voltage, strict=True)
        )  # fmt: skip
        if count and not reading.type and not default:
            others = [f"{{type={word}}}" for word in ("ecog", "eeg", "seeg") if word != kind]
            notes.append(
                Note(
                    "info",
                    f"{count} channels are taken as {kind} by their names ({example_name}, ...).",
                    messages.hint(f"{' or '.join(others)} changes it"),
                )
            )
    return types, tuple(notes)


def _unit_notes(
    names: Sequence[str],
    guesses: Sequence[Guess],
    voltage: Sequence[bool],
    words: Sequence[str],
    said: Sequence[bool | None],
) -> list[Note]:
    """Name the words for units that are not known, all of them, and the channels that they leave out."""
    places: dict[str, list[str]] = {}
    for name, guess, volt, word, mine in zip(names, guesses, voltage, words, said, strict=True):
        if word and not volt and mine is None and (guess.type in (None, *SIGNAL_TYPES) or guess.doubtful):
            places.setdefault(_shown(word), []).append(name)
    if not places:
        return []
    told = "; ".join(f"{word} ({_listed(those)})" for word, those in places.items())
    count = sum(map(len, places.values()))
    way = messages.hint("if they are microvolts, pass {unit=uV}")
    return [Note("warning", f"{count} channels {UNKNOWN_UNIT}, and are left out of the signal: {told}.", way)]


def option(name: str) -> str:
    """Return an option of `Reading` in backquotes, as the caller spells it; its bare name where the caller has none."""
    return messages.advice(f"{{{name}}}") or f"`{name}`"


UNKNOWN_UNIT = "state a unit that is not known"  # in a note of a reader


def _shown(word: str) -> str:
    """Return a file's word for a unit as it may be shown: short, and nothing that moves a terminal's cursor."""
    return repr("".join(letter if letter.isprintable() else "?" for letter in word.strip())[:16])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def call_signals(recording: "Recording", patterns: Sequence[str], type: str | None) -> "Recording":
    """Return a recording in which channels are signals, or not, as the user says by name: above file and sidecars.

    Args:
        recording: Of any reader.
        patterns: `Reading.signals`.
        type: Of those that become signals and were none; None: seeg.
    """
    if not patterns:
        return recording
    table = recording.channels.copy()
    for place, (name, kind) in enumerate(zip(table["name"], table["type"], strict=True)):
        mine = chosen(name, patterns)
        if mine is True and kind not in SIGNAL_TYPES:
            table.loc[place, "type"] = type or "seeg"
        elif mine is False and kind in SIGNAL_TYPES:
            table.loc[place, "type"] = "misc"
    return replace(recording, channels=table)


def refuse_idle(patterns: Sequence[str], recordings: Sequence["Recording"]) -> None:
    """Raise ValueError if a pattern of `Reading.signals` speaks of no channel in any of the recordings."""
    names = {name for recording in recordings for name in recording.names}
    idle = [pattern for pattern in patterns if all(chosen(name, [pattern]) is None for name in names)]
    if idle:
        raise ValueError(
            f"{option('signals')} names {idle[0].removeprefix('!')!r}, and no channel is called so; there are "
            f"{_listed(sorted(names))}."
        )


def matched(own: Sequence[str], listed: Sequence[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return where each channel stands in a sidecar's list, and which of them stand there in another form.

    A name that is not listed as it is counts as one that differs by what recorders write around it (`POL `, `-Ref`),
    by case or by blanks, if that is meant by one channel and one entry alone and all of these are in order.

    Args:
        own: Names of the signal's channels, unique.
        listed: Of the sidecar.
    """
    place = {name: row for row, name in enumerate(listed)}
    found = {name: place[name] for name in own if name in place}
    taken = set(found.values())
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(listed):
        if row not in taken:
            rows.setdefault(_form(name), []).append(row)
    names: dict[str, list[str]] = {}
    for name in own:
        if name not in found:
            names.setdefault(_form(name), []).append(name)
    pairs = [(name[0], rows[form][0]) for form, name in names.items() if len(name) == len(rows.get(form, ())) == 1]
    if not pairs or [row for _, row in pairs] != sorted(row for _, row in pairs):
        return found, ()
    return found | dict(pairs), tuple(name for name, _ in pairs)


def _form(name: str) -> str:
    """Return a name without what recorders write around it, case, blanks and leading zeros."""
    core = re.sub(r"[\s_]+", "", bare(name)).casefold()
    return re.sub(r"(?<!\d)0+(?=\d)", "", core)


def tells_types(note: Note) -> bool:
    """Return whether a note is one of `settle_types` on types."""
    return any(
        words in note.text
        for words in ("names that tell no type", "by their names (", "left out of the signal, by their names")
    )


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
