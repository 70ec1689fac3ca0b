"""The jobs of `analyst.py` by neuralforecast 3.3, in an environment of its own: its iTransformer on ETTh1, 96 -> 96.

CPU milliseconds on one thread; run it in turn with `analyst.py`. The network has the size of
configs/forecast/itransformer.yaml and is hardly trained, which no time depends on.

    OMP_NUM_THREADS=1 ENV_OF_NEURALFORECAST/bin/python tests/bench/analyst_neuralforecast.py ETTh1.csv.gz
"""

import logging
import statistics
import subprocess
import sys
import time
import warnings

warnings.filterwarnings("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


def main() -> None:
    """Fit a little, then measure."""
    import pandas as pd
    import torch
    from neuralforecast import NeuralForecast
    from neuralforecast.models import iTransformer

    torch.set_num_threads(1)
    table = pd.read_csv(sys.argv[1], parse_dates=["date"])[:14400]
    long = table.melt("date", var_name="unique_id", value_name="y").rename(columns={"date": "ds"})
    long = long.sort_values(["unique_id", "ds"], ignore_index=True)
    quiet = {"enable_progress_bar": False, "logger": False, "enable_model_summary": False}
    model = iTransformer(
        h=96, input_size=96, n_series=7, hidden_size=256, n_heads=8, e_layers=2, d_ff=256, max_steps=2, **quiet
    )
    forecaster = NeuralForecast([model], freq="h")
    forecaster.fit(long[long["ds"] < table["date"][11520]], val_size=2880)
    history = long.groupby("unique_id").tail(96)

    def measure(job, repeats: int) -> list[float]:
        job()
        taken = []
        for _ in range(repeats):
            begin = time.process_time()
            job()
            taken.append(1000 * (time.process_time() - begin))
        return taken

    past = torch.randn(1, 96, 7)

    def bare() -> None:
        with torch.no_grad():
            model({"insample_y": past, "futr_exog": None, "hist_exog": None, "stat_exog": None})

    print(f"bare network, 7 x 96: {statistics.median(measure(bare, 30)):.2f} ms")
    predict = measure(lambda: forecaster.predict(history), 20)
    print(f"predict, 96 rows of 7 channels: {statistics.median(predict):.1f} ms")
    test = long[long["ds"] >= table["date"][11520 - 96]]

    def backtest() -> None:
        found = forecaster.cross_validation(test, n_windows=None, test_size=2880, step_size=1, use_fitted=True)
        assert len(found) == 2785 * 96 * 7, len(found)

    print(f"cross_validation, all 2,785 windows: {statistics.median(measure(backtest, 2)):.0f} ms")
    taken = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import neuralforecast"], check=True, stderr=subprocess.DEVNULL)
        taken.append(time.perf_counter() - begin)
    print(f"import neuralforecast: {statistics.median(taken):.2f} s")


if __name__ == "__main__":
    main()
