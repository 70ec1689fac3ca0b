"""Training from the command line: one run folder, and a score that can be checked."""

from tsattn import messages
from tsattn.train import arguments
from tsattn.train.run import evaluate, fit, quiet

__all__ = ["evaluate", "fit", "quiet", "run"]


def run(command: str, args: list[str]) -> None:
    """Run `tsattn fit`, `validate` or `test`; messages name the options that it has.

    Args:
        command: Which one.
        args: What was typed after it, shipped names of `-c` replaced by files.
    """
    with messages.command(arguments.Spelling(command)):
        if command == "fit":
            fit(args)
        else:
            evaluate(command, args)
