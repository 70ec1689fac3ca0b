"""Every notebook runs from top to bottom, imports only public names, and holds no stored output."""

import ast
import json
from pathlib import Path

import pytest
from support import ROOT, forked

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path: Path) -> list[dict]:
    return json.loads(path.read_text())["cells"]


def code_of(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in cells_of(path) if cell["cell_type"] == "code"]


def run_cells(path: Path) -> None:
    namespace: dict = {"__name__": "__main__"}
    for cell in code_of(path):
        exec(compile(cell, str(path), "exec"), namespace)


@each_notebook
@pytest.mark.slow
def test_a_notebook_runs(path: Path):
    done = forked(run_cells, path, cwd=path.parent)
    assert done.returncode == 0, done.stderr


@each_notebook
def test_a_notebook_asks_one_question_in_few_cells(path: Path):
    cells = cells_of(path)
    title = "".join(cells[0]["source"]).splitlines()[0]
    assert cells[0]["cell_type"] == "markdown"
    assert title.startswith("# ")
    assert title.endswith("?")
    assert len(cells) < 15


@each_notebook
def test_a_notebook_holds_no_output(path: Path):
    for cell in cells_of(path):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


@each_notebook
def test_a_notebook_imports_only_public_names(path: Path):
    for cell in code_of(path):
        for node in ast.walk(ast.parse(cell)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not any(part.startswith("_") for name in names for part in name.split("."))
