"""The wheel carries every configuration, and nothing that would land in somebody's site-packages by accident."""

import subprocess
import sys
import zipfile
from pathlib import Path

from support import ROOT


def test_the_wheel_holds_package_and_configs(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*") if path.is_file()}
    assert {f"tsattn/{name}" for name in configs} == {name for name in names if name.startswith("tsattn/configs/")}
    assert "tsattn/py.typed" in names
    assert {name.partition("/")[0] for name in names} == {"tsattn", "tsattn-0.1.0.dist-info"}
