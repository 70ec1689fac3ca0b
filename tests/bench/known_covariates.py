"""Electricity prices with and without tomorrow's forecasts of load and wind: five markets, 168 -> 24 hours.

Each line is a run of `tsattn fit` whose settings differ in nothing but whether the two day-ahead forecasts are read in
their past only (the papers' setting) or over the horizon, too; scores are those of all test windows, standardised.

    python tests/bench/known_covariates.py --root FOLDER_OF_EPF --out RUNS
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
AHEAD = {
    "np": ["Grid load forecast", "Wind power forecast"],
    "pjm": ["System load forecast", "Zonal COMED load foecast"],  # the file's spelling
    "be": ["Generation forecast", "System load forecast"],
    "fr": ["Generation forecast", "System load forecast"],
    "de": ["Wind power forecast", "Ampirion zonal load forecast"],
}
SETTINGS = (
    "--model.network.context=168 --model.network.horizon=24 --model.network.d_model=256 --model.network.d_ff=512 "
    "--model.network.layers=2 --model.lr=0.0005 --model.schedule=cosine --data.batch_size=64 --trainer.max_epochs=4"
).split()
OF_MODEL = {"itransformer": [], "timexer": ["--model.network.patch=24"]}


def run(model: str, market: str, ahead: bool, seed: int, root: Path, out: Path) -> dict:
    """Train and test once, unless its scores are there."""
    folder = out / f"{model}-{market}-{'known' if ahead else 'past'}-{seed}"
    if not (folder / "metrics.json").exists():
        known = [f"--data.known={json.dumps(AHEAD[market])}"] if ahead else []
        subprocess.run(
            [sys.executable, ROOT / "cli.py", "fit", "-c", f"forecast/{model}.yaml", "-c", f"data/epf-{market}.yaml",
             "--data.root", root, "--run_dir", folder, "--overwrite=true", f"--seed_everything={seed}", *SETTINGS,
             *OF_MODEL[model], *known],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    return json.loads((folder / "metrics.json").read_text())


def main() -> None:
    """Run all and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/known_covariates"))
    parser.add_argument("--models", nargs="+", default=list(OF_MODEL))
    parser.add_argument("--markets", nargs="+", default=list(AHEAD))
    parser.add_argument("--seed", type=int, default=2021)
    given = parser.parse_args()
    print(f"{'model':14}{'market':8}{'past only: mse / mae':>24}{'known ahead: mse / mae':>26}{'mse ratio':>11}")
    for model in given.models:
        for market in given.markets:
            past, known = (run(model, market, ahead, given.seed, given.root, given.out) for ahead in (False, True))
            print(
                f"{model:14}{market:8}{past['mse']:>15.4f} / {past['mae']:.4f}{known['mse']:>17.4f} / "
                f"{known['mae']:.4f}{known['mse'] / past['mse']:>11.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
