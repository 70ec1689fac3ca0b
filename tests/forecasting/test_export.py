"""An exported file forecasts what the forecaster does, in a process that has none of this package."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from making import LEVELS, MODELS, ahead, fitted, hours

from tsattn import Forecaster

ELSEWHERE = """
import sys
import torch
folder, compiled = sys.argv[1], sys.argv[2] == "compiled"
for case in torch.load(folder + "/cases.pt"):
    path = folder + "/" + case["file"]
    network = torch._inductor.aoti_load_package(path) if compiled else torch.export.load(path).module()
    for inputs, expected in case["pairs"]:
        with torch.no_grad():
            found = network(*inputs)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=lambda said: case["file"] + said)
heavy = [name for name in ("tsattn", "lightning", "pandas", "xarray") if name in sys.modules]
assert not heavy, heavy
"""
FRAME = hours(90).assign(n=np.arange(90) % 7 / 3.0, promo=np.where(np.arange(90) % 3, "yes", "no"), site=2.5)
COVARIATES = {"target": "a", "past_covariates": "c", "known_covariates": ["n", "promo"], "static_covariates": "site"}


def forecasters() -> dict[str, Forecaster]:
    knowing = ("itransformer", "timexer")
    made = {model: fitted(FRAME, model, target=["a", "b", "c"]) for model in MODELS if model not in knowing}
    made |= {model: fitted(FRAME, model, **COVARIATES) for model in knowing}
    made["quantile"] = fitted(FRAME, "itransformer", target=["a", "b"], quantile_levels=LEVELS)
    made["student-t"] = fitted(
        FRAME, "patchtst", target=["a", "b"], quantile_levels=LEVELS, distribution="student-t"
    )  # fmt: skip
    made["calibrated"] = fitted(FRAME, "gateformer", target=["a", "b"], past_covariates="c").calibrate(FRAME, size=80)
    return made


def pairs(forecaster: Forecaster) -> list[tuple[tuple[torch.Tensor, ...], torch.Tensor]]:
    """Inputs in the table's units, with and without missing values, and the forecasts of this process."""
    generator = torch.Generator().manual_seed(0)
    spec, network = forecaster.spec, forecaster.network
    found = []
    for size in (1, 5):
        past = torch.tensor(spec.mean)[:, None] + torch.tensor(spec.scale)[:, None] * torch.randn(
            size, len(spec.variates), forecaster.context, generator=generator
        )
        known = torch.rand(size, len(spec.known_rows), forecaster.context + forecaster.horizon, generator=generator)
        for missing in (False, True):
            if missing and network.reads_missing:
                past = torch.where(torch.rand(past.shape, generator=generator) < 0.2, torch.nan, past)
                past[0, 0] = torch.nan
            inputs = (past, known) if network.reads_known and spec.known_rows else (past,)
            expected = forecaster.predict_quantiles(*inputs)
            found.append((inputs, expected if forecaster.levels else expected[..., 0]))
    return found


def run_elsewhere(folder: Path, how: str = "exported") -> None:
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder), how], cwd=folder, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_exported_file_needs_nothing_of_this_package(tmp_path: Path):
    cases = []
    for number, (name, forecaster) in enumerate(forecasters().items()):
        path = forecaster.export(tmp_path / f"{number}.pt2")
        assert path == tmp_path / f"{number}.pt2"
        shown = pairs(forecaster)
        assert all(torch.isfinite(expected).all() for _, expected in shown), name
        cases.append({"file": path.name, "pairs": shown})
    torch.save(cases, tmp_path / "cases.pt")
    run_elsewhere(tmp_path)


def test_what_a_file_reads_is_in_the_tables_units():
    """Numbers of a static covariate, too, and a category as 1 or 0: as a frame has them."""
    frame = FRAME
    forecaster = fitted(frame, "itransformer", **COVARIATES, marks="none")
    future = {"n": np.arange(6) / 3.0, "promo": np.array(["no"] * 6, dtype=object)}
    expected = forecaster.predict_df(frame, ahead(frame, **future))["predictions"].to_numpy()
    past = torch.tensor(frame[["a", "c"]].to_numpy().T[:, -24:])[None]
    promo = np.concatenate([frame["promo"].to_numpy()[-24:], future["promo"]])
    rows = [np.concatenate([frame["n"].to_numpy()[-24:], future["n"]]), promo == "no", promo == "yes", np.full(30, 2.5)]
    known = torch.tensor(np.stack(rows).astype(np.float64))[None]
    assert forecaster.spec.known_rows == ("n", "promo = no", "promo = yes", "site")
    assert forecaster.predict(past, known).numpy().reshape(-1) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"known has 3 rows, expected the 4 of `spec.known_rows`: 'n', 'promo = no'"):
        forecaster.predict(past, known[:, :3])


def test_a_file_is_not_overwritten_and_has_one_ending(point, tmp_path: Path):
    with pytest.raises(ValueError, match=r"expected a name that ends in \.pt2"):
        point.export(tmp_path / "network.pt")
    point.export(tmp_path / "network.pt2")
    with pytest.raises(FileExistsError, match="overwrite"):
        point.export(tmp_path / "network.pt2")
    with pytest.raises(ValueError, match="not trained yet"):
        Forecaster("itransformer", context=24, horizon=6).export(tmp_path / "other.pt2")


def test_exporting_leaves_the_forecaster_as_it_is(point, frame, tmp_path: Path):
    before = point.predict_df(frame)
    point.export(tmp_path / "network.pt2")
    assert point.predict_df(frame).equals(before)
    assert not point.network.training


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method:DeprecationWarning")  # inductor's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_file_needs_nothing_of_this_package(quantile, tmp_path: Path):
    path = quantile.export(tmp_path / "network.pt2", compile=True)
    torch.save([{"file": path.name, "pairs": pairs(quantile)}], tmp_path / "cases.pt")
    run_elsewhere(tmp_path, "compiled")
