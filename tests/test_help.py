"""The help of every command: quick, complete where it says so, and only of options that there are."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, alone, tsattn

from tsattn import manual, parsing
from tsattn.cli import COMMANDS, FUNCTIONS, TRAINING


def functions() -> list[tuple[str, str, object]]:
    import importlib

    found = []
    for command, (module, members) in FUNCTIONS.items():
        there = importlib.import_module(f"tsattn.commands.{module}")
        names = {"": members} if isinstance(members, str) else members
        found += [(command, name, getattr(there, member)) for name, member in names.items()]
    return found


@pytest.mark.parametrize("command", TRAINING)
def test_short_help_is_short_and_names_what_people_use(command: str):
    text = manual.short(command)
    assert text.count("\n") < 120
    for option in (
        "--data.table",
        "--data.target",
        "--data.freq",
        "--data.snap",
        "--model.lr",
        "--model.network.horizon",
        "--data.store",
        "--ckpt_path",
    ):
        assert option in text
    assert not re.search(r"functools|0x[0-9a-f]{6}|<class|None:", text)


def test_short_help_imports_nothing_heavy(tmp_path: Path):
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = alone("fit", "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2
    run = "import sys; from tsattn.cli import main; main(['fit', '--help'])"
    code = f"{run}; print([name for name in ('torch', 'lightning', 'jsonargparse') if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True).stdout
    assert loaded.strip().endswith("[]")


@pytest.mark.parametrize("command", TRAINING)
def test_every_option_of_the_short_help_is_accepted(command: str, tmp_path: Path):
    """The parser itself takes each of them, on a table or on recordings."""
    from tsattn.train.arguments import Classes, _checked, _place

    text = manual.short(command)
    named = set(re.findall(r"--[a-z][\w.]*", text)) - {"--model.network.NAME", "--trainer.NAME", "--help"}
    lines = [line for line in text.splitlines() if not line.startswith("  tsattn")]
    named &= set(re.findall(r"--[a-z][\w.]*", "\n".join(lines)))
    on_tables = Classes(["--config", str(ROOT / "configs/forecast/itransformer.yaml")])
    on_recordings = Classes(["--config", str(ROOT / "configs/detect/mvpformer.yaml")])
    for flag in sorted(named - {"--model.network.", "--trainer."}):
        accepted = []
        for classes in (on_tables, on_recordings):
            try:
                _checked(flag, _place(flag), classes, command)
                accepted.append(True)
            except ValueError:
                accepted.append(False)
        assert any(accepted), flag


def test_the_parser_takes_every_option_of_tables_in_the_short_help(tmp_path: Path, table: Path):
    """`--print_config` prints what was parsed: each option of the help is a key of it."""
    done = tsattn(
        "fit", "-c", "forecast/itransformer.yaml", "--data.table", table, "--print_config", cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    import yaml

    config = yaml.safe_load(done.stdout)
    for heading, parts in manual.JOBS[:2]:
        for _, prefix, names in parts:
            place = config
            for part in prefix.split("."):
                place = place[part]["init_args"]
            assert set(names) - {"context", "horizon"} <= set(place) | {"context", "horizon"}, heading
    for name in manual.ROOT:
        assert name in config or name == "out"
    assert set(manual.TRAINER) <= set(config["trainer"])


def test_defaults_and_choices_are_those_of_the_classes():
    import inspect

    from tsattn.data.modules import TableData
    from tsattn.tasks.detect import DetectTask
    from tsattn.tasks.forecast import ForecastTask

    for cls in (TableData, ForecastTask, DetectTask):
        arguments = manual.arguments_of(f"{cls.__module__}.{cls.__name__}")
        parameters = inspect.signature(cls).parameters
        assert list(arguments) == list(parameters)
        for name, argument in arguments.items():
            default = parameters[name].default
            if isinstance(default, int | float | str) and not isinstance(default, bool):
                assert str(default) in (
                    argument.default,
                    str(float(argument.default or "nan"))
                    if argument.default.replace(".", "").replace("e-", "").isdigit()
                    else "",
                )
            assert argument.help, f"{cls.__name__}.{name} is not described"
    assert manual.arguments_of(manual.FORECAST)["schedule"].choices[0] == "constant"
    assert "preictal" in manual.arguments_of(manual.STORE)["label"].choices
    assert manual.arguments_of(manual.DETECT)["adapt"].choices == ("full", "lora", "linear", "attentive", "subject")


def test_help_all_has_every_option(tmp_path: Path):
    done = tsattn("fit", "--help", "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for option in ("--data.label_horizon", "--model.weight_decay", "--trainer.gradient_clip_val", "--data.ibm_sfreq",
                   "--model.network.d_model", "--model.lora_rank"):  # fmt: skip
        assert option in done.stdout
    assert not re.search(r"functools|0x[0-9a-f]{6}", done.stdout)


@pytest.mark.parametrize(
    ("command", "name", "function"), functions(), ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_every_function_shows_its_options_choices_and_sentences(command: str, name: str, function):
    text = parsing.help_of(" ".join([command, name]).strip(), function)
    for option in parsing.options_of(function):
        assert option.flag in text
        assert option.help, f"{command} {name}: {option.name} is not described"
        if option.words:
            assert "{" + ",".join(option.words) + "}" in text
    assert max(map(len, text.splitlines())) <= 130


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_answers_help_without_running(command: str, tmp_path: Path):
    done = tsattn(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"usage: tsattn {command}" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_examples_of_the_help_are_commands():
    for command in TRAINING:
        for line in manual.short(command).splitlines():
            if line.startswith("  tsattn"):
                words = shlex.split(line)
                assert words[1] in TRAINING
                for word in words:
                    if word.endswith(".yaml"):
                        assert (ROOT / "configs" / word).is_file(), word


def test_a_command_of_members_names_them(tmp_path: Path):
    done = tsattn("data", "fetsh", cwd=tmp_path)
    assert done.returncode == 1
    assert "Did you mean 'fetch'" in done.stderr
    done = tsattn("data", cwd=tmp_path)
    assert "list, describe, fetch, simulate" in done.stderr
