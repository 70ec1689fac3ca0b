"""Every notebook runs from top to bottom, imports only public names, and holds no stored output."""

import ast
import contextlib
import json
from pathlib import Path

import pytest
from support import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def code_of(path: Path) -> list[str]:
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore::UserWarning:lightning")  # advice that a notebook's reader sees as well
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")
    namespace: dict = {"__name__": path.stem}
    with contextlib.chdir(path.parent):
        for cell in code_of(path):
            exec(compile(cell, str(path), "exec"), namespace)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_imports_only_public_names(path: Path):
    for cell in code_of(path):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.ImportFrom):
                assert not any(part.startswith("_") for part in (node.module or "").split("."))
                assert not any(alias.name.startswith("_") for alias in node.names)
