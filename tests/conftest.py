"""Shared by all tests: the data outside the repository, a simulated table, and a trained run to look at."""

from pathlib import Path

import pytest
from support import SHARED, SMALL, tsattn


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the slow ones, so that no process is left alone with them at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
