"""Look at a recording before it is prepared: bad channels by a preset's rules, values that are no microvolts."""

from dataclasses import replace

from tsattn import messages
from tsattn.recordings.checks import check, mark_bads, unit_doubt
from tsattn.recordings.preparation.preset import Preset
from tsattn.recordings.recording import Recording


def looked_at(recording: Recording, preset: Preset, remedy: bool = True) -> Recording:
    """Return the recording with what a look at its samples says: bad channels, warnings.

    Args:
        recording: As it was recorded.
        preset: By whose rules.
        remedy: Whether an error says what can be done if the values are right; not where the preset is settled.

    Raises:
        ValueError: If the values cannot be microvolts.
    """
    if not preset.bad_rules and preset.implausible == "keep":
        return recording
    checks = check(recording)
    doubt = unit_doubt(checks)
    if doubt and preset.implausible == "raise":
        way = messages.hint("if they are right, say so by {implausible=keep}") if remedy else ""
        raise ValueError(f"{recording.id}: {doubt}{way}")
    told = {note.text for note in recording.notes}
    warned = tuple(note for note in checks.notes if note.level == "warning" and note.text not in told)
    looked = replace(recording, notes=(*recording.notes, *warned))
    return mark_bads(looked, preset.bad_rules, checks)
