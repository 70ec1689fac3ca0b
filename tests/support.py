"""What several tests need: where things are, and the command line in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHARED = Path(os.environ.get("TSATTN_SHARED", ROOT.parent / "shared"))


def tsattn(*args: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, str(ROOT / "cli.py"), *map(str, args)],
        cwd=cwd,
        text=True,
        capture_output=True,
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", **environment},
        check=False,
    )


SMALL = (
    "--model.network.d_model=16 --model.network.heads=2 --model.network.d_ff=16 --model.network.layers=1 "
    "--model.network.context=48 --model.network.horizon=12 --model.lr=0.001 --data.batch_size=64 "
    "--trainer.max_epochs=2"
).split()
