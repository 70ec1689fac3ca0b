"""Checkpoints: whole or not at all, ours or refused, never a silent random start."""

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tsattn import checkpoint, files
from tsattn.contracts import ForecastNetwork, TableSpec
from tsattn.models.itransformer import ITransformer

SPEC = TableSpec(("a", "b"), 2, (1.0, 2.0), (3.0, 4.0), "h", ("hour",), 24)


@pytest.fixture
def network() -> ITransformer:
    torch.manual_seed(0)
    return ITransformer(8, 4, d_model=8, heads=2, layers=1, d_ff=8).eval()


def test_an_exported_folder_gives_back_network_and_table(network: ITransformer, tmp_path: Path):
    checkpoint.export(tmp_path / "out", network, SPEC, {"seed": 3})
    loaded = checkpoint.load(tmp_path / "out")
    past = torch.randn(2, 5, 8)
    assert torch.equal(loaded.network(past), network(past))
    assert loaded.spec == SPEC
    assert loaded.about == {"seed": 3}
    with pytest.raises(FileExistsError, match="overwrite=True"):
        checkpoint.export(tmp_path / "out", network, SPEC)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": [1.0]}, "1 means and 2 scales of 2 variates, expected one of each"),
        ({"mean": ["a", "b"]}, r"mean\[0\] is \'a\', expected a finite number"),
        (
            {"scale": [1.0, 0.0]},
            "'b' has the mean 2.0 and the deviation 0.0, expected finite numbers, the second above 0",
        ),
        ({"covariates": [{"name": "c", "role": "known", "scale": 0.0}]}, "'c' has the mean 0.0 and the deviation 0.0"),
        ({"targets": 3}, "targets is 3, expected 1 to 2"),
        ({"variates": ["a", "a"]}, "named twice in a, a"),
        ({"more": 1}, "'more', which this tsattn does not know"),
    ],
)
def test_a_damaged_table_is_refused(network: ITransformer, tmp_path: Path, changes: dict[str, Any], said: str):
    checkpoint.export(tmp_path / "folder", network, SPEC, {})
    path = tmp_path / "folder/config.json"
    config = json.loads(path.read_text())
    config["spec"] |= changes
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"is damaged: what it says of the data cannot be read .*{said}"):
        checkpoint.load(tmp_path / "folder")


def test_a_missing_path_is_an_error_and_no_random_start(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"No checkpoint at .*best\.ckpt"):
        checkpoint.load(tmp_path / "none" / "best.ckpt")


def test_a_truncated_file_is_named_as_such(run: Path, tmp_path: Path):
    whole = (run / "best.ckpt").read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.ckpt").write_bytes(whole[:size])
        with pytest.raises(ValueError, match="cut short or not a checkpoint"):
            checkpoint.load(tmp_path / "cut.ckpt")


def test_a_strangers_pickle_is_not_executed(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"tsattn": Evil(), "state_dict": {}}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match="cannot be read safely"):
        checkpoint.load(tmp_path / "evil.ckpt")
    assert not (tmp_path / "executed").exists()


def test_another_programs_checkpoint_is_refused(tmp_path: Path):
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"not a tsattn checkpoint.*import-checkpoint"):
        checkpoint.load(tmp_path / "other.ckpt")


@pytest.mark.parametrize("class_path", ["os.path.join", "tsattn.contracts.TableSpec", "torch.nn.Linear"])
def test_only_forecasters_are_built_from_a_file(class_path: str):
    with pytest.raises(ValueError, match="not a network"):
        checkpoint.build({"class_path": class_path, "init_args": {}})


def test_a_module_that_nobody_imported_is_not_imported():
    with pytest.raises(ValueError, match="import antigravity"):
        checkpoint.build({"class_path": "antigravity.Forecaster", "init_args": {}})


def test_weights_that_do_not_fit_are_named(network: ITransformer, tmp_path: Path):
    checkpoint.export(tmp_path, network, SPEC)
    entry = json.loads((tmp_path / "config.json").read_text())
    entry["network"]["init_args"]["layers"] = 2
    (tmp_path / "config.json").write_text(json.dumps(entry))
    with pytest.raises(ValueError, match="do not fit ITransformer: missing "):
        checkpoint.load(tmp_path)


def test_a_nested_recipe_is_rebuilt():
    class Wrapper(ForecastNetwork):
        def __init__(self, network: ForecastNetwork, width: int = 3) -> None:
            super().__init__(network.context, network.horizon)
            self.network = network
            self.map = nn.Linear(width, width)

    outer = Wrapper(ITransformer(8, 4, d_model=8, heads=2, layers=1, d_ff=8), width=5)
    assert json.loads(json.dumps(outer.recipe)) == outer.recipe
    assert outer.recipe["init_args"]["network"]["init_args"]["d_model"] == 8


def test_a_full_disk_leaves_the_old_file(tmp_path: Path):
    target = tmp_path / "kept.bin"
    target.write_bytes(b"old")

    def write(file) -> None:
        file.write(b"half of the new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_atomically(target, write)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_size_limit_of_the_system_leaves_the_old_file(tmp_path: Path):
    (tmp_path / "kept.bin").write_bytes(b"old")
    code = """
import resource, signal, sys
from tsattn import checkpoint, files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    files.write_atomically("kept.bin", lambda file: file.write(b"x" * 100_000))
except OSError as problem:
    sys.exit(str(problem.errno))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == str(errno.EFBIG), done.stderr
    assert (tmp_path / "kept.bin").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.bin"]
