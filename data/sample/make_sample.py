"""Write `simulated.csv`, the table of the examples and tests: 400 hours of one driver and three loads.

Ours, simulated: no licence to mind. Run it from the repository's root: `python data/sample/make_sample.py`.
"""

from pathlib import Path

from tsattn.data.simulate import simulate_table

if __name__ == "__main__":
    simulate_table(rows=400, variates=4, seed=2024).to_csv(Path(__file__).parent / "simulated.csv", index=False)
