"""What every forecaster asks of its input, said in one sentence before any arithmetic.

Ours. Shapes only, so that it costs nothing and `torch.compile` and `torch.export` see through it.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tsattn.contracts import ForecastNetwork


def forecast_size(network: ForecastNetwork, outputs: int) -> int:
    """Return how many numbers a network's last map gives for each target: `outputs` for every step.

    Raises:
        ValueError: If `outputs` is below 1.
    """
    if outputs < 1:
        raise ValueError(f"{type(network).__name__}: outputs is {outputs}, expected at least 1 number per step.")
    return network.horizon * outputs


def check_future(network: ForecastNetwork, covariates: int | None, rows: int | None) -> None:
    """Refuse arguments `future_covariates` and `known_rows` that are no numbers of rows.

    Raises:
        ValueError: If one is negative, or there are fewer rows than covariates, or rows without `future_covariates`.
    """
    name = type(network).__name__
    if covariates is not None and covariates < 0:
        raise ValueError(f"{name}: future_covariates is {covariates}, expected None or a number of rows.")
    if rows is not None and (covariates is None or rows < covariates):
        raise ValueError(
            f"{name}: known_rows is {rows} with future_covariates={covariates}, expected None, or at least as many "
            "rows as covariates."
        )


def check_batch(
    network: ForecastNetwork,
    past: Float[Tensor, "batch variate context"],
    known: Float[Tensor, "batch known total"] | None,
    observed: Bool[Tensor, "batch variate context"] | None,
) -> None:
    """Compare a batch with what a network was made for.

    Args:
        network: Who asks.
        past: As in `ForecastNetwork.forward`.
        known: As in `ForecastNetwork.forward`.
        observed: As in `ForecastNetwork.forward`.

    Raises:
        ValueError: If a length, a number of variates or a shape differs, or if values are missing and the network
            cannot read that (the last is not checked in a compiled network).
    """
    name = type(network).__name__
    if past.ndim != 3:
        raise ValueError(f"{name}: past has shape {tuple(past.shape)}, expected (batch, variate, context).")
    if past.shape[2] != network.context:
        raise ValueError(
            f"{name}: past has {past.shape[2]} steps, expected context={network.context}. "
            "Axis order is (batch, variate, time)."
        )
    if past.shape[1] < 1:
        raise ValueError(f"{name}: past has no variate, expected at least 1.")
    if network.variates is not None and past.shape[1] != network.variates:
        raise ValueError(
            f"{name}: past has {past.shape[1]} variates, expected the {network.variates} that the weights are for."
        )
    total = network.context + network.horizon
    if known is not None and (known.ndim != 3 or known.shape[0] != past.shape[0] or known.shape[2] != total):
        raise ValueError(
            f"{name}: known has shape {tuple(known.shape)}, expected ({past.shape[0]}, any, {total}): "
            f"context={network.context} and horizon={network.horizon} steps of each mark."
        )
    if network.future_covariates is not None and (known is None or known.shape[1] < network.future_covariates):
        found = "None" if known is None else f"{known.shape[1]} rows"
        raise ValueError(
            f"{name}: known is {found}, expected at least the {network.future_covariates} covariates of "
            f"future_covariates={network.future_covariates}, with their horizon."
        )
    if network.known_rows is not None and known is not None and known.shape[1] != network.known_rows:
        raise ValueError(
            f"{name}: known has {known.shape[1]} rows, expected the {network.known_rows} that the weights are for."
        )
    if observed is None:
        return
    if observed.shape != past.shape:
        raise ValueError(
            f"{name}: observed has shape {tuple(observed.shape)}, expected that of past, {tuple(past.shape)}."
        )
    if not network.reads_missing and not torch.compiler.is_compiling() and not bool(observed.all()):
        raise ValueError(
            f"{name}: observed has {int((~observed).sum())} missing values, expected none, because "
            f"{network.why_no_missing}. Fill them and pass observed=None."
        )
