"""The README runs as printed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_commands_and_the_python_example_run_in_order(tmp_path: Path):
    assert shutil.which("tsattn", path=str(Path(sys.executable).parent)), "the package is not installed"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    for block in blocks("sh"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "forecast.png").stat().st_size > 10_000
    assert (tmp_path / "runs/first/metrics.json").exists()
    printed = ""
    for block in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert "target_name" in printed
    assert "torch.Size([2, 4, 25, 64, 32])" in printed
    assert "torch.Size([2, 25, 19, 64])" in printed


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_to_files_exist(path: str):
    assert (ROOT / path).exists()
