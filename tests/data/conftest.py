"""Shared by the tests of the data wing: real tables, small ones, and a server that can misbehave."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tsattn import messages

OPTIONS = (
    *("table", "timestamp", "time_format", "decimal", "thousands", "encoding", "variate_column", "value_column"),
    *("exclude", "resample", "drop_duplicates", "target", "exogenous", "known", "freq", "snap", "zone", "split"),
)


@pytest.fixture
def shell() -> Iterator[None]:
    """Messages name options as `tsattn fit` does."""
    with messages.command({name: f"--data.{name}" for name in OPTIONS}):
        yield


@pytest.fixture(scope="session")
def benchmarks(shared: Path) -> Path:
    """The folder of real benchmark tables."""
    folder = shared / "data" / "benchmarks"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the real tables are not on this machine")
    return folder


@pytest.fixture(scope="session")
def protocol(shared: Path) -> Path:
    """The folder of recorded outputs of the authors' loaders."""
    return shared / "parity" / "forecasters"


@pytest.fixture
def wide() -> pd.DataFrame:
    """A complete hourly table: 200 rows, three variates, the values of which say where they stand (100 v + row)."""
    rows = np.arange(200)
    frame = pd.DataFrame({name: 1000.0 * v + rows for v, name in enumerate(("b", "a", "c"))})
    frame.insert(0, "date", pd.date_range("2024-03-01", periods=200, freq="h"))
    return frame


class Server:
    """Serves `files` by path; cuts the connection half way through the paths in `cut`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.asked: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                body = server.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if self.path in server.cut else body)

            def log_message(self, *args: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A mirror on this machine that `fetch` is sent to."""
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("TSATTN_MIRROR", server.url)
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()
