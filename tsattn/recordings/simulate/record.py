"""One simulated recording, in memory."""

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import pandas as pd

from tsattn.events.table import make_events, no_events
from tsattn.recordings.recording import ArraySource, Recording, make_channels
from tsattn.recordings.simulate.course import STEPS_PER_POINT, make_course
from tsattn.recordings.simulate.nuisance import add_nuisance
from tsattn.recordings.simulate.scene import (
    BEFORE,
    Implantation,
    Level,
    Seizure,
    implant,
    irritability,
    plan,
    spread,
    usual_number,
)
from tsattn.recordings.simulate.signal import MAINS, TAIL, measure, run_masses
from tsattn.recordings.simulate.wendling import STEPS_PER_SECOND

SUBJECT, PLAN, SPREAD, SPIKES, INPUT, NOISE, NUISANCE = range(7)  # streams of random numbers
SLOWEST = 2 * MAINS  # Hz; at this rate mains would be zero in every sample


def simulate_recording(
    *,
    channels: int = 32,
    duration: float = 600.0,
    sfreq: float = 512.0,
    level: Level = "easy",
    seizures: int | Sequence[Seizure] | None = None,
    seed: int = 0,
    subject: int = 1,
    run: int = 1,
) -> Recording:
    """Simulate an SEEG recording with known seizures: a Wendling neural mass for each contact.

    It is synthetic: each contact has a mass of its own, and the spread of a seizure is prescribed, not emergent. Skill
    on it is no evidence of clinical accuracy. The level "easy" can be told by line length alone; "hard" has faint
    seizures, rhythmic discharges that nobody marked, artefacts, slow states, a contact that dies and one that hums.

    Args:
        channels: Contacts, on shafts of eight: "A1" ... "A8", "B1", ...
        duration: Seconds.
        sfreq: Hz. The masses run at 512 Hz; at other rates they are interpolated.
        level: "easy" or "hard".
        seizures: How many, or which; by default one each 10 min, at least one (a short one, if the recording is
            short). Seizures that are given are all there is: then, the hard level adds no discharges of its own.
        seed: Random seed of the simulation: equal arguments give equal values on one machine.
        subject: Number of the subject: it has its own electrodes, origin of seizures and failing contacts.
        run: Number of the recording of this subject.

    Returns:
        Values in uV, float32, positions in metres (made up, in the range of MNI space), one event "sz" for each marked
        seizure with the channels that it recruits in the order in which it does. What no clinic would know is not
        among the events or the channels' status: ask `truth(recording)`.

    Raises:
        ValueError: If the arguments do not make a recording.
    """
    if not (duration >= 10 and np.isfinite(duration)) or not (sfreq > SLOWEST and np.isfinite(sfreq)):
        raise ValueError(
            f"{duration:g} s at {sfreq:g} Hz were asked for, expected at least 10 s at more than {SLOWEST:g} Hz."
        )
    if min(seed, subject, run) < 0:
        raise ValueError(f"seed {seed}, subject {subject}, run {run}: expected none of them below 0.")

    samples = round(duration * sfreq)
    implantation = implant(channels, level, np.random.default_rng([seed, subject, 0, SUBJECT, 0]))

    def stream(which: int) -> np.random.Generator:
        return np.random.default_rng([seed, subject, run, which, 0])

    if seizures is None or isinstance(seizures, int):
        number = usual_number(duration) if seizures is None else seizures
        happening = plan(implantation, duration, number, level, stream(PLAN))
    else:
        happening = list(seizures)
        _check(happening, duration, channels)
    random = stream(SPREAD)
    recruited = [spread(seizure, implantation.position, random) for seizure in happening]
    marked = [seizure for seizure in happening if seizure.marked]
    easily = irritability(marked, implantation.position)

    steps = round(samples / sfreq * STEPS_PER_SECOND)
    course = make_course(steps // STEPS_PER_POINT + 2, happening, recruited, easily, stream(SPIKES))
    whole = [(seizure.onset - BEFORE, seizure.onset + seizure.duration + TAIL) for seizure in happening]
    masses = run_masses(course, steps, whole, (seed, subject, run, INPUT))
    values = measure(masses, course, implantation.position, samples, sfreq, (seed, subject, run, NOISE))
    hidden = [_seizure_truth(happening, recruited, implantation)]
    if level == "hard":
        hidden.append(add_nuisance(values, sfreq, implantation, (seed, subject, run, NUISANCE), run <= 1))
    return Recording(
        ArraySource(values),
        id=f"sub-{subject:02d}_task-simulated_run-{run:02d}",
        subject=f"sub-{subject:02d}",
        channels=make_channels(implantation.names, sfreq, "seeg", position=implantation.position),
        duration=samples / sfreq,
        events=_marked_events(happening, recruited, implantation),
        coordinate_frame="fsaverage",
        about={
            "simulator": {"version": version("tsattn"), "level": level, "seed": seed, "subject": subject, "run": run},
            "truth": pd.concat(hidden).sort_values("onset", kind="stable").to_dict("records"),
        },
    )


def truth(recording: Recording) -> pd.DataFrame:
    """Return what a simulated recording holds but no clinic would know, as a table of events.

    Types: "recruited" (one row a seizure and channel, from when the seizure reaches it to its end), "discharge"
    (rhythmic, not marked), and at the hard level "emg", "movement", "pop", "flat", "mains", with their channels.
    """
    if "truth" not in recording.about:
        raise ValueError(f"{recording.id} holds no truth: it was not simulated, or it was written and read again.")
    rows = pd.DataFrame(recording.about["truth"])
    if rows.empty:
        return no_events()
    return make_events(rows["onset"], rows["duration"], rows["event_type"], rows["confidence"], rows["channels"])


def _check(seizures: list[Seizure], duration: float, channels: int) -> None:
    for seizure in seizures:
        if not (seizure.onset >= 0 and seizure.duration > 0 and seizure.onset + seizure.duration <= duration):
            raise ValueError(
                f"A seizure lasts {seizure.duration:g} s from {seizure.onset:g} s, expected it within {duration:g} s."
            )
        if not seizure.origin or not all(0 <= i < channels for i in seizure.origin):
            raise ValueError(f"A seizure begins in channels {seizure.origin}, expected some of 0 to {channels - 1}.")
        if not (seizure.speed > 0 and seizure.reach >= 0 and seizure.gain > 0):
            raise ValueError(
                f"A seizure has speed {seizure.speed:g} mm/s, reach {seizure.reach:g} mm and gain {seizure.gain:g}, "
                "expected them above 0."
            )


def _in_order(onsets: np.ndarray, names: Sequence[str]) -> list[tuple[float, str]]:
    return sorted((float(onset), name) for onset, name in zip(onsets, names, strict=True) if not np.isnan(onset))


def _marked_events(seizures: list[Seizure], recruited: list[np.ndarray], implantation: Implantation) -> pd.DataFrame:
    rows = [
        (seizure.onset, seizure.duration, ",".join(name for _, name in _in_order(onsets, implantation.names)))
        for seizure, onsets in zip(seizures, recruited, strict=True)
        if seizure.marked
    ]
    onset, duration, channels = zip(*rows, strict=True) if rows else ((), (), ())
    return make_events(onset, duration, channels=channels)


def _seizure_truth(seizures: list[Seizure], recruited: list[np.ndarray], implantation: Implantation) -> pd.DataFrame:
    rows = []
    for seizure, onsets in zip(seizures, recruited, strict=True):
        end, order = seizure.onset + seizure.duration, _in_order(onsets, implantation.names)
        if seizure.marked:
            rows += [(onset, end - onset, "recruited", name) for onset, name in order]
        else:
            rows.append((seizure.onset, seizure.duration, "discharge", ",".join(name for _, name in order)))
    onset, duration, kind, channels = zip(*rows, strict=True) if rows else ((), (), (), ())
    return make_events(onset, duration, kind, channels=channels)
