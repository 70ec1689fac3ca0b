import pytest
import torch

from tsattn.metrics import ForecastErrors


def scores(forecast: torch.Tensor, future: torch.Tensor, batch: int) -> tuple[dict[str, float], int]:
    errors = ForecastErrors(future.shape[1])
    for start in range(0, len(future), batch):
        errors.update(forecast[start : start + batch], future[start : start + batch])
    return {name: float(value) for name, value in errors.compute().items()}, int(errors.windows)


def test_the_batch_size_does_not_change_a_score():
    torch.manual_seed(0)
    forecast, future = torch.randn(2, 100, 3, 5)
    truth = {"mse": float((forecast - future).double().square().mean()), "mae": float((forecast - future).abs().mean())}
    for batch in (1, 7, 100, 512):
        found, windows = scores(forecast, future, batch)
        assert found == pytest.approx(truth, rel=1e-6)
        assert windows == 100


def test_missing_truths_are_not_counted_and_missing_forecasts_are_an_error():
    forecast, future = torch.ones(2, 1, 2), torch.zeros(2, 1, 2)
    future[0, 0, 0] = torch.nan
    future[1, 0, 1] = 3.0
    found, _ = scores(forecast, future, 2)
    assert found == {"mse": pytest.approx((1 + 1 + 4) / 3), "mae": pytest.approx((1 + 1 + 2) / 3)}
    forecast[1, 0, 1] = torch.nan
    with pytest.raises(ValueError, match=r"forecast\[1, target 0, step 1\] is nan"):
        scores(forecast, future, 2)


def test_units_are_the_scale_of_each_target():
    errors = ForecastErrors(2)
    errors.update(torch.tensor([[[1.0], [1.0]]]), torch.zeros(1, 2, 1))
    assert {k: float(v) for k, v in errors.in_units((2.0, 10.0)).items()} == {"mse": 52.0, "mae": 6.0}
    assert errors.per_target((2.0, 10.0))["mae_units"].tolist() == [2.0, 10.0]
