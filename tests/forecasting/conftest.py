"""A few forecasters that many tests look at; nobody changes them."""

import numpy as np
import pandas as pd
import pytest
from making import LEVELS, fitted, hours, items, small

from tsattn import Forecaster


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    """200 hours of three columns."""
    return hours()


@pytest.fixture(scope="session")
def point(frame: pd.DataFrame) -> Forecaster:
    """Forecasts all three columns."""
    return fitted(frame)


@pytest.fixture(scope="session")
def quantile(frame: pd.DataFrame) -> Forecaster:
    """The same with quantiles."""
    return fitted(frame, quantile_levels=LEVELS)


@pytest.fixture(scope="session")
def panel() -> pd.DataFrame:
    """Two items of the same length."""
    return items()


@pytest.fixture(scope="session")
def of_items(panel: pd.DataFrame) -> Forecaster:
    """Forecasts `a` and `b` of each item, reads the past of `c`."""
    return fitted(panel, target=["a", "b"], past_covariates="c")


@pytest.fixture(scope="session")
def knowing(panel: pd.DataFrame) -> Forecaster:
    """Forecasts `a` of each item, and is told `b` of the horizon."""
    return fitted(panel, target="a", known_covariates="b")


@pytest.fixture(scope="session")
def driven() -> tuple[Forecaster, pd.DataFrame]:
    """A forecaster that has learned what drives `a`, and its table: `driver` and `promo`, but not `noise`."""
    random = np.random.default_rng(0)
    frame = hours(1500)[["timestamp"]]
    frame["driver"], frame["noise"] = random.normal(size=(2, 1500))
    frame["promo"] = random.random(1500) < 0.5
    frame["a"] = 20 + 5 * frame["driver"] + np.where(frame["promo"], 5.0, -5.0)
    forecaster = small("itransformer", d_model=32, d_ff=32).fit(
        frame,
        target="a",
        known_covariates=["driver", "noise", "promo"],
        max_epochs=6,
        learning_rate=1e-2,
        batch_size=16,
        marks="none",
    )
    return forecaster, frame
