"""The house keeps its floors: a room imports only from lower ones, and importing the package costs little."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tsattn"
FLOORS = {
    "contracts": 1,
    "documents": 0,
    "extras": 0,
    "files": 0,
    "messages": -1,
    "terminal": 0,
    "typed": 0,
    "faults": 0,
    "parsing": 1,
    "manual": 3,
    "trust": 1,
    "metrics": 2,
    "workers": 0,
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


def third_packages(path: Path) -> list[tuple[str, bool]]:
    """The packages outside the standard library that a file imports, and whether inside a function."""
    found = []

    def walk(node: ast.AST, inside: bool) -> None:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("need", "importlib.import_module"):
            names = [argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)]
        tops = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"tsattn"}
        found.extend((top, inside) for top in tops)
        typing_only = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            walk(child, inside or typing_only or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    walk(ast.parse(path.read_text()), False)
    return found


def declared() -> dict[str, set[str]]:
    """The distributions that pyproject names: those always installed under "", those of each extra under its name."""
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: {canonical(Requirement(text).name) for text in texts} for extra, texts in lists.items()}


def canonical(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_is_imported_is_declared(path: Path):
    """A package that only comes along with another one is gone when that one no longer needs it."""
    from importlib.metadata import packages_distributions

    from tsattn.extras import EXTRAS

    owners, lists = packages_distributions(), declared()
    for name, inside in third_packages(path):
        ours = {canonical(owner) for owner in owners.get(name, [name])}
        if ours & lists[""]:
            continue
        assert name in EXTRAS, f"{path.name} imports {name}, which pyproject.toml does not declare"
        assert ours & lists[EXTRAS[name]], f"the extra {EXTRAS[name]} does not bring {name}"
        assert inside, f"{path.name} imports {name} of the extra {EXTRAS[name]} at its top"
        said = f"tsattn[{EXTRAS[name]}]" in path.read_text() or re.search(r"\bneed(_file)?\(", path.read_text())
        assert said, f"{path.name} does not name the extra of {name}"


def test_a_missing_extra_is_named_on_both_doors(tmp_path: Path):
    hidden = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'zarr': raise ModuleNotFoundError('none', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import numpy as np\n"
        "from tsattn.recordings import from_array\n"
        "from tsattn.recordings.preparation.prepare import prepare\n"
        "try: prepare(from_array(np.zeros((1, 512), np.float32), 256.0), sys.argv[1] + '/a.zarr', preset='raw')\n"
        "except ImportError as error: print(error)\n"
        "from tsattn.cli import main\n"
        "main(['recordings', 'split', sys.argv[1], '--out', sys.argv[1] + '/s.json'])\n"
    )
    done = subprocess.run([sys.executable, "-c", hidden, tmp_path], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 1
    assert "A store needs zarr: pip install 'tsattn[neuro]'." in done.stdout
    assert "A store needs zarr: pip install 'tsattn[neuro]'." in done.stderr
    assert "Traceback" not in done.stderr


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


def test_the_oldest_versions_are_the_lower_bounds():
    """A bound that no list installs is a bound that nobody tests."""
    from packaging.requirements import Requirement

    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and line[0] != "#")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *(text for name in ("neuro", "mef", "nwb") for text in extras[name])]:
        requirement = Requirement(text)
        (bound,) = (one.version for one in requirement.specifier if one.operator == ">=")
        oldest = pins[canonical(requirement.name)]
        if requirement.name not in ("torch", "triton"):  # see the file
            assert f"{oldest}.".startswith(f"{bound}.") or f"{oldest}.0" == bound, (text, oldest)
        assert requirement.specifier.contains(oldest), text
