"""From a trained detector and a recording of any length to seizure events, their reasons and a report."""
