"""Look at a recording before it is prepared: bad channels by a preset's rules, values that are no microvolts."""

from dataclasses import replace

from tsattn.recordings.checks import check, mark_bads, unit_doubt
from tsattn.recordings.preparation.preset import Preset
from tsattn.recordings.recording import Recording

KEEP = " If they are right, say so by implausible='keep'."


def looked_at(recording: Recording, preset: Preset, remedy: str = KEEP) -> Recording:
    """Return the recording with what a look at its samples says: bad channels, warnings.

    Args:
        recording: As it was recorded.
        preset: By whose rules.
        remedy: What an error says can be done if the values are right; nothing where the preset is not to be changed.

    Raises:
        ValueError: If the values cannot be microvolts.
    """
    if not preset.bad_rules and preset.implausible == "keep":
        return recording
    checks = check(recording)
    doubt = unit_doubt(checks)
    if doubt and preset.implausible == "raise":
        raise ValueError(f"{recording.id}: {doubt}{remedy}")
    told = {note.text for note in recording.notes}
    warned = tuple(note for note in checks.notes if note.level == "warning" and note.text not in told)
    looked = replace(recording, notes=(*recording.notes, *warned))
    return mark_bads(looked, preset.bad_rules, checks)
