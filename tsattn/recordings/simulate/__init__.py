"""Recordings with known seizures, synthetic: Wendling neural masses, in memory or as a BIDS data set."""

from tsattn.recordings.simulate.bids import simulate_bids
from tsattn.recordings.simulate.record import simulate_recording, truth
from tsattn.recordings.simulate.scene import Seizure

__all__ = ["Seizure", "simulate_bids", "simulate_recording", "truth"]
