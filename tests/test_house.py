"""The house keeps its floors: a room imports only from lower ones, and importing the package costs little."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tsattn"
FLOORS = {
    "contracts": 1,
    "files": 0,
    "messages": -1,
    "typed": 0,
    "faults": 0,
    "parsing": 1,
    "manual": 3,
    "trust": 1,
    "metrics": 2,
    "quantiles": 1,
    "events": 1,
    "ops": 1,
    "shipped": 2,
    "data": 2,
    "recordings": 2,
    "checkpoint": 2,
    "layers": 3,
    "models": 4,
    "tasks": 4,
    "convert": 5,
    "forecasting": 5,
    "train": 5,
    "detection": 5,
    "commands": 6,
    "cli": 7,
}
NEVER = {  # outside packages that a room must do without
    "models": {"lightning", "pandas", "mne", "xarray", "jsonargparse"},
    "ops": {"lightning", "pandas", "mne", "xarray", "jsonargparse"},
    "layers": {"lightning", "pandas", "mne", "xarray", "jsonargparse"},
    "contracts": {"lightning", "pandas", "mne", "xarray"},
    "events": {"torch", "lightning", "mne", "zarr"},
    "checkpoint": {"lightning", "pandas", "mne", "xarray"},
    "forecasting": {"lightning"},
    "detection": {"lightning"},
}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


FILES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py" and "configs" not in path.parts]


def test_every_room_has_a_floor():
    assert {room_of(path) for path in FILES} == set(FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_lower_floors(path: Path):
    here = room_of(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "tsattn" or len(parts) == 1 or parts[1] not in FLOORS:
            continue
        assert parts[1] == here or FLOORS[parts[1]] < FLOORS[here], f"{here} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_does_without_what_its_readers_may_not_have(path: Path):
    assert not {name.partition(".")[0] for name in imports(path)} & NEVER.get(room_of(path), set())


def test_models_do_not_import_each_other():
    for path in (PACKAGE / "models").glob("*.py"):
        assert not [name for name in imports(path) if name.startswith("tsattn.models")], path.name


@pytest.mark.parametrize("path", sorted((PACKAGE / "ops").rglob("reference.py")), ids=lambda path: path.parent.name)
def test_the_definition_of_an_op_does_not_depend_on_what_it_judges(path: Path):
    ours = {name for name in imports(path) if name.startswith("tsattn")}
    assert ours
    assert all(name.startswith(f"tsattn.ops.{path.parent.name}.problem.") for name in ours), ours


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_a_kernel_imports_triton(path: Path):
    assert path.name == "kernel.py" or "triton" not in {name.partition(".")[0] for name in imports(path)}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    return done.stdout


def test_importing_the_package_loads_nothing_heavy():
    heavy = "torch triton mne lightning pandas xarray matplotlib".split()
    loaded = python(f"import sys, tsattn; print([m for m in {heavy} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_the_ops_and_the_forecasters_load_without_triton():
    loaded = python("import sys, tsattn.ops, tsattn.layers.mvpa; print('triton' in sys.modules)")
    assert loaded.strip() == "False"


def test_help_answers_without_torch():
    loaded = python("import sys; from tsattn.cli import main; main(['--help']); print('torch' in sys.modules)")
    assert loaded.strip().endswith("False")


def test_a_forecast_needs_neither_lightning_nor_mne_nor_triton():
    heavy = "triton mne lightning matplotlib".split()
    loaded = python(f"import sys, tsattn.forecasting.forecaster; print([m for m in {heavy} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_the_tested_versions_satisfy_the_declared_ranges():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"
    )
    pins = {name.lower().replace("_", "-"): version for name, version in pins.items()}
    assert pins["torch"] == "2.13.0"
    assert pins["triton"] == "3.7.1"
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[requirement.name.lower()]), text
