"""What goes wrong in a training is one sentence, with options and commands that work when they are copied."""

import shlex
from pathlib import Path

import pytest
import torch
import yaml

from tsattn import faults, messages
from tsattn.train import arguments
from tsattn.train.config import of_run
from tsattn.train.failures import said
from tsattn.train.folder import find_checkpoint


def told(problem: BaseException, run_dir: Path | None = None) -> str:
    """Return what a user is told of an exception in a training."""
    try:
        with said(run_dir):
            raise problem
    except Exception as found:
        return faults.sentence(found)
    raise AssertionError


def fitting(*args: str) -> arguments.Spelling:
    """Return how messages spell options while `tsattn fit` runs on this command line."""
    return arguments.Spelling("fit", arguments.Classes(list(args)))


@pytest.mark.parametrize(
    ("kind", "size"),
    [("forecast/itransformer.yaml", "--model.network.d_model"), ("detect/mvpformer.yaml", "--model.scratch.d_model")],
)
def test_memory_and_workers_name_options_that_the_command_has(kind: str, size: str):
    from tsattn import shipped

    config = yaml.safe_dump(shipped.merged(kind))
    with messages.command(fitting("--config", config)):
        for problem in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
            sentence = told(problem)
            assert "not enough memory" in sentence
            assert "--data.batch_size" in sentence
            named = [word.strip("`().,;") for word in sentence.split() if word.strip("`(").startswith("--")]
            assert all(option in ("--data.batch_size", size) for option in named)
        ended = told(RuntimeError("DataLoader worker (pid 7) is killed by signal"))
        assert ("--data.workers" in ended) == kind.startswith("detect")


def test_a_package_that_is_absent_has_one_sentence():
    problem = ModuleNotFoundError("No module named 'zarr'", name="zarr")
    assert (
        told(problem) == faults.sentence(problem) == "The package zarr is not installed: pip install 'tsattn[neuro]'."
    )
    assert "pip install tensorboard" in told(ModuleNotFoundError("Neither `tensorboard` nor `x` is available."))


def test_an_interrupt_is_left_to_the_command():
    with pytest.raises(KeyboardInterrupt), said():
        raise KeyboardInterrupt


def test_commands_that_are_printed_can_be_copied(tmp_path: Path):
    run = tmp_path / "my run; echo"
    run.mkdir()
    (run / "config.yaml").write_text("model: {class_path: other.Task}\ndata: {class_path: other.Data}\n")
    with pytest.raises(FileNotFoundError) as problem:
        find_checkpoint("last", run)
    [command] = [part for part in str(problem.value).split("`") if part.startswith("tsattn fit")]
    assert shlex.split(command) == ["tsattn", "fit", "-c", str(run / "config.yaml"), "--run_dir", str(run)]
    with pytest.raises(ValueError, match="trust_config") as refused:
        of_run(run / "config.yaml", {}, "fit")
    [command] = [part for part in str(refused.value).split("`") if part.startswith("-c")]
    assert shlex.split(command) == ["-c", str(run / "config.yaml"), "--trust_config"]
