"""Shared by all tests: the data outside the repository, a simulated table, and a trained run to look at."""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
from support import SHARED, SMALL, tsattn


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow ones, file by file in turn in both halves of the tests: two processes begin with one each."""
    halves: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    slow = [item for item in items if item.get_closest_marker("slow")]
    for number, (_, of_file) in enumerate(itertools.groupby(slow, key=lambda item: item.path)):
        halves[number % 2].extend(of_file)
    fast = [item for item in items if not item.get_closest_marker("slow")]
    middle = len(items) // 2 - len(halves[0])
    items[:] = halves[0] + fast[: max(middle, 0)] + halves[1] + fast[max(middle, 0) :]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real tables and parity fixtures."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED}: set TSATTN_SHARED to run the tests on real tables")
    return SHARED


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated table of 1500 hours and 4 variates."""
    from tsattn.data.simulate import simulate_table

    path = tmp_path_factory.mktemp("table") / "my.csv"
    simulate_table(rows=1500, variates=4, seed=1).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def run(table: Path) -> Path:
    """The folder of a small run on that table, made by the command line."""
    folder = table.parent / "run"
    done = tsattn(
        "fit", "-c", "forecast/itransformer.yaml", "--data.table", table, "--run_dir", folder, *SMALL, cwd=table.parent
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Call the package as its users do, without the check of types and shapes, which torch.compile cannot trace."""

    def forget() -> None:
        """Drop what was compiled, if anything was: it holds the check, or its absence."""
        if "torch._dynamo" in sys.modules:
            sys.modules["torch._dynamo"].reset()

    jaxtyping.config.update("jaxtyping_disable", True)
    forget()
    yield
    forget()
    jaxtyping.config.update("jaxtyping_disable", False)
