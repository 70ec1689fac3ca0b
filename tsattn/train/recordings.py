"""What a run on recordings prints and writes: its description, and the scores of pre-training or of a detector."""

import json
import sys
from pathlib import Path
from typing import Any, Literal

from tsattn import files
from tsattn.contracts import NOTICE, SegmentNetwork
from tsattn.layers.classifier import SegmentClassifier
from tsattn.recordings.places import hidden, told_command
from tsattn.tasks.detect import DetectTask
from tsattn.tasks.pretrain import PretrainTask
from tsattn.train.cli import TrainCLI
from tsattn.train.folder import provenance


def describe(cli: TrainCLI) -> str:
    """Return the lines that a run starts with: network, recordings, windows, folder."""
    network: SegmentClassifier | SegmentNetwork = cli.model.network
    body = network.network if isinstance(network, SegmentClassifier) else network
    size = sum(p.numel() for p in network.parameters())
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    how = f", adapt {cli.model.adapt}" if isinstance(cli.model, DetectTask) else ""
    return (
        f"{type(body).__name__} ({size:,} parameters, {trained:,} trained{how}): windows of {body.segments} x "
        f"{body.segment_seconds:g} s at {body.sfreq:g} Hz\nrun folder: {cli.run_dir}"
    )


def write_scores(cli: TrainCLI, split: Literal["val", "test"], path: Path | None, about: dict[str, Any]) -> None:
    """Print the scores and write them to `path`, if one is given."""
    task: PretrainTask | DetectTask = cli.model
    spec = task.spec
    assert spec is not None
    report: dict[str, Any] = {"split": split, "network": task.network.recipe, "signal": spec.to_dict()}
    if isinstance(task, DetectTask):
        report["scores"] = task.report()
        told = str(task.scores)
    else:
        report["scores"] = task.report()
        told = "\n".join(f"{name:16}{value:>10.4f}" for name, value in task.report().items())
    report |= {"data": {"summary": cli.datamodule.summary}, "channels": cli.datamodule.channel_choices}
    report |= about | provenance(cli)
    report["command"] = told_command(["tsattn", *sys.argv[1:]])
    if "checkpoint" in about:
        report["checkpoint"] = hidden(about["checkpoint"])
    if not cli.trainer.is_global_zero:
        return
    if path is not None:
        text = json.dumps(report, indent=2, default=str)
        files.write_atomically(path, lambda file: file.write(text.encode()))
    print(f"\n{split} split\n{told}")
    if isinstance(task, DetectTask):
        print(NOTICE)
    if path is not None:
        print(f"written to {path}")
