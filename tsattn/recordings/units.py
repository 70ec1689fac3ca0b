"""Volts and microvolts: what a file's word for its unit means, and whether the values can be what it says.

The range that `doubt` takes for plausible: the real recordings that we have spread by 9 to 97 µV (median absolute
deviation; an amplifier that nobody is connected to, by 1.5 to 1900), and a wrong prefix is a factor of 1000.
"""

import re
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from tsattn import messages
from tsattn.recordings.measures import spans
from tsattn.recordings.recording import SIGNAL_TYPES, Note, Recording

FACTORS = {"nV": 1e-3, "uV": 1.0, "mV": 1e3, "V": 1e6}  # to microvolts
SPELLED = re.compile(  # uV, uVolt, microV, micro volts, [uV], mVrms; what lost its first letter (".V", "?V") is unknown
    r"((?P<prefix>n|nano|u|mic|mcr?|micro|m|milli)[ ._-]?)?(v|vlt|volts?)([ ._-]?(rms|pp?))?", re.IGNORECASE
)
PREFIXES = {"n": "nV", "nano": "nV", "m": "mV", "milli": "mV", None: "V"}  # every other one is micro
MICRO = ("µ", "μ", "Âµ", "Î¼", "\x83Ê", "æ")  # µ, μ; both in UTF-8 read as Latin-1; Shift-JIS; code page 437
OTHER = re.compile(  # units that are known, and not of voltage
    r"%|percent|pct|bpm|/min|1/min|b/min|rpm|mmhg|cmh2o|kpa|hpa|pa|mbar|bar|psi|"
    r"(deg(rees?)?|°|º|�)? ?(c|f|cel|celsius)?|"
    r"deg(rees?)?|rad|k|kelvin|hz|khz|1/s|s|sec|ms|min|h|[kmg]?ohms?|[kmg]?[ωΩ]|[mun]?s/?(m|cm)?|[mun]?siemens|"
    r"[munpf]?a|[munpf]?amp(ere)?s?|m?g|m/s\^?2|m/s2?|mg/dl|ml|l|l/min|ml/min|lpm|mmol/l|lux|lx|lm|db(spl|a)?|"
    r"[munpf]?t|[munpf]?tesla|[mun]?w|n|newton|m|cm|mm|um|bool(ean)?|bits?|level|index|stages?|events?|counts?|none|"
    r"no unit|unitless|dimensionless|arb\.?( units?)?|a\.?u\.?|aru|n/?a",
    re.IGNORECASE,
)
SILENT = "do not state their unit"  # in a note or an error of a reader
PLAUSIBLE = (0.5, 5000.0)  # µV


def volts(text: str) -> str | None:
    """Return "nV", "uV", "mV" or "V" for a file's word for it; None if it is another unit, or none.

    Args:
        text: As in the file: "uV", "µV" in any encoding, "MV", "microvolts", ...
    """
    found = SPELLED.fullmatch(_plain(text))
    return None if found is None else PREFIXES.get(found["prefix"] and found["prefix"].casefold(), "uV")


def known_as_other(text: str) -> bool:
    """Return whether a file's word is a unit that is known, and none of voltage: "%", "bpm", "degC"; or no word."""
    word = _plain(text)
    return volts(text) is None and (not any(map(str.isalnum, word)) or bool(OTHER.fullmatch(word)))


def _plain(text: str) -> str:
    word = text.strip().strip("\x00")
    for micro in sorted(MICRO, key=len, reverse=True):
        word = word.replace(micro, "u")
    return word.strip().strip("[](){}<>").strip().rstrip(".")


def factor(unit: str) -> float:
    """Return what to multiply values in this unit with to have microvolts.

    Raises:
        ValueError: If the unit is not one of voltage.
    """
    known = volts(unit)
    if known is None:
        raise ValueError(f"The unit is {unit!r}, expected one of {', '.join(FACTORS)}.")
    return FACTORS[known]


def spread(values: Float[np.ndarray, "channel time"]) -> float:
    """Return the median over channels of the median absolute deviation, NaN left out; NaN if every channel is flat.

    Args:
        values: Any unit; a channel's mean does not matter.
    """
    found = []
    for channel in values:
        seen = channel[np.isfinite(channel)]
        if len(seen):
            deviation = float(np.median(np.abs(seen - np.median(seen))))
            if deviation > 0:
                found.append(deviation)
    return float(np.median(found)) if found else float("nan")


def sampled_spread(recording: Recording, seconds: float = 4.0, stretches: int = 3, most: int = 32) -> float:
    """Return the `spread` of a few short stretches of the channels that record the brain, gaps left out.

    Args:
        recording: What to read from.
        seconds: Length of a stretch.
        stretches: How many, evenly over what was recorded.
        most: How many channels at most, evenly over the table.
    """
    channels = recording.channels
    brain = np.flatnonzero(channels["type"].isin(SIGNAL_TYPES).to_numpy() & (channels["status"] != "bad").to_numpy())
    found = []
    for sfreq in channels["sfreq"].iloc[brain].unique():
        rows = [int(i) for i in brain if channels["sfreq"].iloc[i] == sfreq]
        rows = rows[:: -(-len(rows) // most)]
        places = list(spans(recording, sfreq, stretches + 2, seconds, False, len(rows)))
        found += [spread(recording.read(*place, rows)) for place in places[1:-1] or places]  # ends are often odd
    known = [value for value in found if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")


def doubt(microvolts: float, taken: str = "uV") -> str | None:
    """Return why values cannot be microvolts, and what they look like; None if they can.

    Args:
        microvolts: `spread` of the values as they were read; NaN says nothing.
        taken: The unit that was taken for the file's values, as it says or as the user said.
    """
    low, high = PLAUSIBLE
    if not np.isfinite(microvolts) or low <= microvolts <= high:
        return None
    if volts(taken) not in (None, "uV"):
        return (
            f"The values, taken as {taken}, cannot be right: half of them lie within {microvolts:.3g} µV of the "
            f"channel's median, expected {low:g} to {high:g}. Check the unit that was given or that the file states."
        )
    likely = [unit for unit, scale in FACTORS.items() if 2 <= microvolts * scale <= 1000]
    names = {"nV": "nanovolts", "mV": "millivolts", "V": "volts"}
    look = " or ".join(names[unit] for unit in likely if unit in names)
    look = f"look like {look} read as microvolts" if look else "are not microvolts"
    told = " or ".join(messages.advice("{unit}", unit=unit) for unit in likely) if messages.has("unit") else ""
    way = f" If so, pass {told}." if told else messages.hint("say by {unit} what the file holds")
    return (
        f"The values {look}: half of them lie within {microvolts:.3g} µV of the channel's median, expected "
        f"{low:g} to {high:g}.{way}"
    )


def check_silent(recording: Recording, called: str) -> Recording:
    """Return the recording with a note if its file keeps silent about the unit, and the values can be microvolts.

    Args:
        recording: Channels of the brain without a unit were read as microvolts.
        called: How an error may call the file.

    Raises:
        ValueError: If the values cannot be microvolts.
    """
    table = recording.channels
    units, types = table["unit"].tolist(), table["type"].tolist()
    silent = sum(unit == "" and kind in SIGNAL_TYPES for unit, kind in zip(units, types, strict=True))
    if not silent:
        return recording
    microvolts = sampled_spread(recording)
    problem = doubt(microvolts)
    if problem:
        raise ValueError(f"{called}: {silent} channels {SILENT}. {problem}")
    told = f"spread {microvolts:.3g} µV" if np.isfinite(microvolts) else "which nothing confirms: no value varies"
    note = Note("warning", f"{silent} channels {SILENT}: taken as microvolts ({told}).")
    return replace(recording, notes=(*recording.notes, note))
