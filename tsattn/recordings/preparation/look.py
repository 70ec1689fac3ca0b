"""Look at a recording before it is prepared: bad channels by a preset's rules, values that are no microvolts."""

from dataclasses import replace

from tsattn.recordings.checks import check, mark_bads, unit_doubt
from tsattn.recordings.preparation.preset import Preset
from tsattn.recordings.recording import Recording


def looked_at(recording: Recording, preset: Preset) -> Recording:
    """Return the recording with what a look at its samples says: bad channels, warnings.

    Raises:
        ValueError: If the values cannot be microvolts.
    """
    if not preset.bad_rules and preset.implausible == "keep":
        return recording
    checks = check(recording)
    doubt = unit_doubt(checks)
    if doubt and preset.implausible == "raise":
        raise ValueError(f"{recording.id}: {doubt} If they are right, say so by implausible='keep'.")
    told = {note.text for note in recording.notes}
    warned = tuple(note for note in checks.notes if note.level == "warning" and note.text not in told)
    looked = replace(recording, notes=(*recording.notes, *warned))
    return mark_bads(looked, preset.bad_rules, checks)
