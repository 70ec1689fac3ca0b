"""Events in seconds: from probabilities, to scores, in and out of files. No signal, no model."""
