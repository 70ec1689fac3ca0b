"""The README runs as printed."""

import re
import shlex
from pathlib import Path

import pytest
from support import ROOT, forked, tsattn

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def execute(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.slow
def test_the_commands_and_the_python_example_run_in_order(tmp_path: Path):
    for command in "".join(blocks("sh")).splitlines():
        name, *arguments = shlex.split(command)
        assert name == "tsattn"
        done = tsattn(*arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "forecast.png").stat().st_size > 10_000
    assert (tmp_path / "runs/first/metrics.json").exists()
    printed = ""
    for block in blocks("python"):
        done = forked(execute, block, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        printed += done.stdout
    assert "target_name" in printed
    assert "torch.Size([2, 4, 25, 64, 32])" in printed
    assert "torch.Size([2, 25, 19, 64])" in printed


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_to_files_exist(path: str):
    assert (ROOT / path).exists()
