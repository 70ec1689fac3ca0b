"""Training from the command line: one run folder, and a score that can be checked."""

from tsattn.train.run import evaluate, fit, quiet

__all__ = ["evaluate", "fit", "quiet"]
