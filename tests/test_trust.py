"""What comes with weights is data: no class path in it is imported unless it is on the list, whatever door it enters."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support import forked

from tsattn import checkpoint, trust
from tsattn.contracts import SignalSpec
from tsattn.layers.classifier import SegmentClassifier
from tsattn.layers.lora import save_adapters
from tsattn.models.mvpformer import MVPFormer

EVIL = "canary_module.Evil"
CANARY = """
from pathlib import Path
Path({touched!r}).touch()
class Evil:
    def __init__(self, *args, **kwargs):
        Path({touched!r}).touch()
"""


def run_all(doors: list[tuple[str, list[str]]], folder: str) -> None:
    """Call commands and loaders one after the other in one process, where a canary can be imported; print a table."""
    import tsattn
    from tsattn.cli import main

    sys.path.insert(0, folder)
    found = []
    for door, args in doors:
        try:
            if door == "command":
                main(args)
            elif door == "Forecaster":
                tsattn.Forecaster.from_pretrained(args[0])
            elif door == "Detector":
                tsattn.Detector.from_pretrained(args[0], **({"adapter": args[1]} if args[1:] else {}))
            said = "done"
        except SystemExit as end:
            said = str(end.code)
        except ValueError as problem:
            said = f"ValueError: {problem}"
        found.append([said, "canary_module" in sys.modules, Path(folder, "touched").exists()])
    Path(folder, "found.json").write_text(json.dumps(found))


def results(doors: list[tuple[str, list[Any]]], folder: Path) -> list[str]:
    """Return what each door said, after making sure that nothing ran and nothing was imported."""
    (folder / "canary_module.py").write_text(CANARY.format(touched=str(folder / "touched")))
    plain = [(door, [str(arg) for arg in args]) for door, args in doors]
    done = forked(run_all, plain, str(folder), cwd=folder)
    assert (folder / "found.json").exists(), done.stderr
    found = json.loads((folder / "found.json").read_text())
    for (_, args), (said, imported, touched) in zip(plain, found, strict=True):
        assert not imported, f"{args}: the canary was imported; {said}"
        assert not touched, f"{args}: the canary ran; {said}"
    assert "Traceback" not in done.stderr, done.stderr
    return [said for said, _, _ in found]


def runs(folder: Path) -> dict[str, Callable[[dict[str, Any]], None]]:
    """Return attacks: each changes a run's configuration."""
    touch = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", str(folder / "touched")]}}
    evil = {"class_path": EVIL}

    def trainer(**options: Any) -> Callable[[dict[str, Any]], None]:
        return lambda config: config["trainer"].update(options)

    def argument(part: str, name: str, value: Any) -> Callable[[dict[str, Any]], None]:
        return lambda config: config[part]["init_args"].update({name: value})

    def class_of(part: str) -> Callable[[dict[str, Any]], None]:
        return lambda config: config[part].update(class_path=EVIL)

    ddp = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"ddp_comm_state": touch}}
    hook = {"class_path": "lightning.pytorch.strategies.DDPStrategy", "init_args": {"ddp_comm_hook": EVIL}}
    profiler = {"class_path": "lightning.pytorch.profilers.PyTorchProfiler", "dict_kwargs": {"schedule": touch}}
    lambdas = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"setup": EVIL}}
    return {
        "strategy with a state": trainer(strategy=ddp),
        "strategy with a hook": trainer(strategy=hook),
        "strategy": trainer(strategy=evil),
        "profiler": trainer(profiler=profiler),
        "callback": trainer(callbacks=[evil]),
        "callback by word": trainer(callbacks=EVIL),
        "callback with a function": trainer(callbacks=[lambdas]),
        "logger": trainer(logger=evil),
        "logger with something": trainer(
            logger={"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": touch}}
        ),
        "plugin": trainer(plugins=[evil]),
        "number of epochs": trainer(max_epochs=touch),
        "task": class_of("model"),
        "data": class_of("data"),
        "network": argument("model", "network", evil),
        "argument of the network": lambda config: config["model"]["init_args"]["network"]["init_args"].update(
            d_model=touch
        ),
        "argument of the task": argument("model", "lr", touch),
        "argument of the data": argument("data", "target", [evil]),
        "another key": lambda config: config.update(optimizer=evil, lr_scheduler=touch),
    }


@pytest.mark.slow
def test_nothing_in_a_runs_folder_is_imported(run: Path, table: Path, tmp_path: Path):
    doors: list[tuple[str, list[Any]]] = []
    names = []
    for name, attack in runs(tmp_path).items():
        folder = tmp_path / name.replace(" ", "-")
        shutil.copytree(run, folder)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        attack(config)
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        best = folder / "best.ckpt"
        doors.append(("command", ["test", "--ckpt_path", best]))
        doors.append(("command", ["fit", "--ckpt_path", folder / "last.ckpt", "--trainer.max_epochs", 2]))
        doors.append(("command", ["test", "-c", folder / "config.yaml", "--ckpt_path", best]))
        names += [name] * 3
    said = dict(zip(zip(names, ["test", "fit", "own"] * len(names), strict=False), results(doors, tmp_path), strict=True))
    ignored = "strategy profiler callback logger plugin network another number".split()
    for (name, door), told in said.items():
        if door == "own":
            assert told != "done", f"{name}: found no refusal"
            assert "--trust_config" in told or "Expected" in told or "not" in told, told
        elif name.split()[0] in ignored:
            assert told == "done", f"{name}, {door}: {told}"
        else:
            assert "--trust_config" in told, f"{name}, {door}: {told}"
