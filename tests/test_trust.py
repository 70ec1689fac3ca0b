"""What comes with weights is data: no class path in it is imported unless it is on the list, at whatever door."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from support import forked

from tsattn import checkpoint, documents, trust
from tsattn.contracts import SignalSpec
from tsattn.layers.classifier import SegmentClassifier
from tsattn.models.mvpformer import MVPFormer
from tsattn.train.config import of_run
from tsattn.train.run import trusts

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
    said = dict(
        zip(zip(names, ["test", "fit", "own"] * len(names), strict=False), results(doors, tmp_path), strict=True)
    )
    refused = ("task", "data", "argument of the task", "argument of the data")
    for (name, door), told in said.items():
        if door == "own":
            assert told != "done", f"{name}: found no refusal"
        elif name in refused:
            assert "--trust_config" in told, f"{name}, {door}: {told}"
        else:  # what would run is left out, the network is that of the checkpoint
            assert told == "done", f"{name}, {door}: {told}"


RECIPES: dict[str, Any] = {
    "a module of a stranger": {"class_path": EVIL, "init_args": {}},
    "a function of the system": {"class_path": "os.system", "init_args": {"command": "touch touched"}},
    "a class of Python's": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "touched"]}},
    "a module that is not imported yet": {"class_path": "canary_module.inner.Evil", "init_args": {}},
    "a module of tsattn's that is no network": {"class_path": "tsattn.cli.main", "init_args": {"args": ["--help"]}},
    "not a path": {"class_path": "canary_module", "init_args": {}},
    "a path with a trick": {"class_path": "tsattn.models..canary_module.Evil", "init_args": {}},
    "inside a network": {
        "class_path": "tsattn.layers.probabilistic.QuantileForecaster",
        "init_args": {"network": {"class_path": EVIL, "init_args": {}}, "levels": [0.5]},
    },
    "inside a classifier": {
        "class_path": "tsattn.layers.classifier.SegmentClassifier",
        "init_args": {"network": {"class_path": EVIL, "init_args": {}}},
    },
}


def small_detector(folder: Path) -> Path:
    """Return an exported detector."""
    sizes = dict(sfreq=32.0, segment_seconds=1.0, segments=3, d_model=8, layers=1, heads=2, kv_heads=1, d_ff=8)
    body = MVPFormer(**sizes, positions=4, max_channels=4)
    checkpoint.export(folder, SegmentClassifier(body, lora_rank=2), SignalSpec({"sfreq": 32.0}))
    return folder


def test_no_door_imports_what_a_recipe_names(run: Path, table: Path, tmp_path: Path):
    doors: list[tuple[str, list[Any]]] = []
    own = run / "config.yaml"
    detector = small_detector(tmp_path / "detector")
    for name, recipe in RECIPES.items():
        place = tmp_path / name.replace(" ", "-")
        state = torch.load(run / "best.ckpt", weights_only=True)
        state["tsattn"]["network"] = recipe
        place.mkdir()
        torch.save(state, place / "best.ckpt")
        shutil.copy(own, place)
        folder = shutil.copytree(detector, place / "exported")
        config = json.loads((folder / "config.json").read_text())
        config["network"] = recipe
        (folder / "config.json").write_text(json.dumps(config))
        for path in (place / "best.ckpt", folder):
            out = place / "out"
            forecast = ["forecast", "--checkpoint", path, "--table", table, "--out", place / "out.csv"]
            detect = ["detect", "--checkpoint", path, "--recording", table, "--out", place / "out.tsv"]
            doors += [
                ("Forecaster", [path]),
                ("Detector", [path]),
                ("command", forecast),
                ("command", detect),
                ("command", ["export", "--checkpoint", path, "--out", out]),
                ("command", ["test", "--ckpt_path", path]),
                ("command", ["validate", "-c", own, "--ckpt_path", path]),
                ("command", ["fit", "-c", own, "--ckpt_path", path]),
                ("command", ["fit", "-c", own, "--model.weights", path, "--run_dir", place / "new"]),
                (
                    "command",
                    ["fit", "-c", "detect/mvpformer.yaml", "--data.store", "s.zarr", "--model.checkpoint", path],
                ),
            ]
    for (_, args), said in zip(doors, results(doors, tmp_path), strict=True):
        assert said != "done", args
        assert re.search("checkpoint|recipe|holds", said), f"{args}: {said}"


def test_a_module_that_was_imported_is_not_asked_for_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lazy = type(sys)("lazy_module")
    asked: list[str] = []
    lazy.__getattr__ = lambda name: asked.append(name)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    with pytest.raises(ValueError, match="does not have"):
        trust.imported("lazy_module.Anything", "The checkpoint", trust.NETWORKS)
    assert not asked


def test_her_own_class_needs_her_word(run: Path, table: Path, tmp_path: Path):
    (tmp_path / "own_nets.py").write_text(
        "from tsattn.models.itransformer import ITransformer\nclass OwnNet(ITransformer): ...\n"
    )
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["network"]["class_path"] = "own_nets.OwnNet"
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    fit = ["fit", "-c", tmp_path / "own.yaml", "--run_dir", tmp_path / "r", "--test", "false", "--trainer.max_epochs=1"]
    again = ["test", "--ckpt_path", tmp_path / "r/best.ckpt"]
    with_file = [*again, "-c", tmp_path / "r/config.yaml", "--trust_config"]
    doors = [("command", args) for args in (fit, [*fit, "--trust_config"], again, with_file)]
    refused, done, stranger, trusted = results(doors, tmp_path)
    assert "own.yaml asks for own_nets.OwnNet" in refused
    assert "--trust_config" in refused
    assert (done, trusted) == ("done", "done")
    assert stranger == "done" or "own_nets" in stranger  # it is imported already in this process


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{k + 1}: &a{k + 1} [*a{k}, *a{k}, *a{k}]\n" for k in range(40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{k + 1}: &a{k + 1} {{<<: [*a{k}, *a{k}, *a{k}]}}\n" for k in range(40))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "when its references are followed"),
        (MERGES, "when its references are followed"),
        ("a: &a [*a]", "holds itself"),
        ("[" * 100_000, "levels deep"),
        ("a: " + "[" * 200 + "]" * 200, "levels deep"),
        ("a: 'open", "is not the YAML"),
        ("a: " + "9" * 5000, "is not the YAML"),
    ],
)
def test_a_configuration_is_bounded(text: str, said: str, tmp_path: Path):
    with pytest.raises(ValueError, match=said):
        documents.parse_yaml(text, "The configuration")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=said):
        documents.read_yaml(tmp_path / "config.yaml")


def test_a_configuration_has_at_most_a_megabyte(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("x" * 2**21)
    with pytest.raises(ValueError, match=r"config\.yaml has 2097152 bytes, expected at most 1048576"):
        of_run(tmp_path / "config.yaml", {}, "test")


def test_plain_configurations_are_read_as_they_are():
    assert documents.parse_yaml("a: &x {b: 1}\nc: {<<: *x, d: [2.5, null, true, 'e']}", "it") == {
        "a": {"b": 1},
        "c": {"b": 1, "d": [2.5, None, True, "e"]},
    }
    assert documents.parse_yaml("", "it") is None


@pytest.mark.parametrize(
    ("said", "trusted"),
    [
        *(((), False), (("--trust_config",), True), (("--trust_config", "--test", "false"), True)),
        *((("--trust_config", word), True) for word in ("true", "True", "yes")),
        *(
            (("--trust_config", word), False)
            for word in ("0", "off", "null", "n", "False", "no", "falsch", "none", "~")
        ),
        *((("--trust_config=true",), True), (("--trust_config=",), False), (("--trust_config=0",), False)),
        (("--trust_config", "--trust_config=off"), False),
    ],
)
def test_only_a_plain_yes_trusts_a_configuration(said: tuple[str, ...], trusted: bool):
    assert trusts(["-c", "own.yaml", *said]) == trusted
    assert trusts([*said, "-c", "own.yaml"]) == trusted


def test_no_word_that_is_not_a_yes_imports_anything(run: Path, tmp_path: Path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["network"]["class_path"] = EVIL
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    fit = ["fit", "-c", tmp_path / "own.yaml", "--run_dir", tmp_path / "r"]
    words = ("0", "off", "null", "n")
    doors = [
        ("command", [*fit, *more]) for word in words for more in (["--trust_config", word], [f"--trust_config={word}"])
    ]
    for said in results(doors, tmp_path):
        assert f"own.yaml asks for {EVIL}" in said
