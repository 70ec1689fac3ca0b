"""What the preparation does to a recording, as plain data: presets with names, every parameter of which can be changed.

`swec`: 0.5-120 Hz, 4th-order Butterworth forwards and backwards, median reference, 512 Hz: the form of the SWEC-ETHZ
recordings (http://ieeg-swez.ethz.ch), which MVPFormer was trained on. `raw`: as recorded, in microvolts, at one rate.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from tsattn import documents
from tsattn.recordings.checks import RULES
from tsattn.recordings.recording import SIGNAL_TYPES

CONTRACT = ("sfreq", "resample", "notch", "quality", "band", "order", "reference")  # what changes a signal, not which
Method = Literal["none", "median", "average", "bipolar", "laplacian"]


@dataclass(frozen=True)
class Preset:
    """Parameters of the preparation; the steps run in this order.

    Attributes:
        name: Of the preset; "swec, changed" if a parameter differs from the one that is called so.
        types: Channels that are kept, by type (mne's words).
        bads: "drop" leaves bad channels out; "keep" stores them, marked as bad. No reference ever uses one.
        bad_rules: By which rules channels are bad beside those that the files call so: names in `checks.RULES`.
        implausible: What happens to a recording whose values cannot be microvolts (`units.doubt`): "raise", or "keep".
        resample: "polyphase" (anti-aliased) or "ibm-linear", which aliases and is for parity with IBM's loader only.
        sfreq: Hz; None keeps the rate, the highest one if the channels have several.
        notch: Hz of the mains; it and its harmonics below Nyquist are removed. None: no notch.
        quality: Of each notch: its frequency divided by its width at -3 dB (one way).
        band: Hz of the pass-band; a border that is None is open. None: no filter.
        order: Of the Butterworth filter, one way.
        reference: "none"; "median" or "average" over all good channels at each instant (scalp and intracranial
            channels apart); "bipolar" or "laplacian" along shafts: `tsattn.recordings.preparation.reference`.
    """

    name: str
    types: tuple[str, ...] = SIGNAL_TYPES
    bads: Literal["drop", "keep"] = "drop"
    bad_rules: tuple[str, ...] = ()
    implausible: Literal["raise", "keep"] = "raise"
    resample: Literal["polyphase", "ibm-linear"] = "polyphase"
    sfreq: float | None = None
    notch: float | None = None
    quality: float = 30.0
    band: tuple[float | None, float | None] | None = None
    order: int = 4
    reference: Method = "none"

    def __post_init__(self) -> None:
        _check_words(asdict(self))
        for field in ("sfreq", "notch", "quality"):
            number = getattr(self, field)
            if number is not None and not 0 < number < 1e6:
                raise ValueError(
                    f"{field} is {number:g}, expected a positive number (of Hz, if it is not the quality)."
                )
        if not 1 <= self.order <= 10:
            raise ValueError(f"order is {self.order}, expected 1 to 10.")
        unknown = [rule for rule in self.bad_rules if rule not in RULES]
        if unknown:
            raise ValueError(f"bad_rules has {unknown[0]!r}, expected some of {', '.join(RULES)}.")
        if not self.types:
            raise ValueError("types is empty, expected at least one type of channel.")
        low, high = self.band or (None, None)
        if any(edge is not None and not edge > 0 for edge in (low, high)) or (low and high and low >= high):
            raise ValueError(f"band is {low} to {high} Hz, expected two rising frequencies above 0 (None is open).")

    def to_json(self) -> dict[str, Any]:
        """Return the parameters as plain data."""
        return {
            name: list(value) if isinstance(value, tuple) else value  # what JSON makes of a tuple
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preset":
        """Make it of what `to_json` returned, or of a store's attributes, which hold more."""
        return cls(**documents.arguments_of(cls, values, "the preparation", known_only=True))


def _check_words(values: dict[str, Any]) -> None:
    for field in ("bads", "implausible", "resample", "reference"):
        words = get_args(get_type_hints(Preset)[field])
        if field in values and values[field] not in words:
            raise ValueError(f"{field} is {values[field]!r}, expected one of {', '.join(words)}.")


PRESETS = {
    "swec": Preset("swec", bad_rules=tuple(RULES), sfreq=512.0, band=(0.5, 120.0), reference="median"),
    "raw": Preset("raw", bads="keep"),
}


def make_preset(name: str = "swec", **changes: Any) -> Preset:
    """Return a preset by name, with some parameters changed.

    Args:
        name: "swec" or "raw".
        changes: Attributes of `Preset`.
    """
    if name not in PRESETS:
        raise ValueError(f"There is no preset {name!r}, expected one of {', '.join(PRESETS)}.")
    unknown = sorted(set(changes) - set(asdict(PRESETS[name])) | (set(changes) & {"name"}))
    if unknown:
        raise ValueError(f"A preset has no parameter {unknown[0]!r}; it has {', '.join(asdict(PRESETS[name]))}.")
    _check_words(changes)
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    changed = replace(PRESETS[name], **changes)
    return changed if changed == PRESETS[name] else replace(changed, name=f"{name}, changed")


def differences(contract: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """Return how a preparation differs from a contract's, in what changes a signal; one clause each."""
    if not contract:
        return []
    if not there:
        return ["how they were prepared is not known"]
    return [
        f"{name} is {_told(there.get(name))} in the recordings and {_told(contract.get(name))} in the contract"
        for name in CONTRACT
        if _plain(there.get(name)) != _plain(contract.get(name))
        and not (name == "quality" and contract.get("notch") is None and there.get("notch") is None)
    ]


def _told(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
