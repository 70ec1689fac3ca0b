"""What quantile levels are: which make sense, which belong together, and what lies between two of them.

Ours. The pinball loss is that of Koenker and Bassett (1978).
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def check_levels(levels: Sequence[float], *, middle: bool = True) -> tuple[float, ...]:
    """Return quantile levels as a tuple.

    Args:
        levels: Of quantiles.
        middle: Whether 0.5 has to be among them, or between two of them.

    Raises:
        ValueError: If there are none, one is not inside (0, 1), they do not ascend, or they have no `middle`.
    """
    try:
        levels = tuple(float(level) for level in levels)
    except (TypeError, ValueError):
        raise ValueError(f"levels is {levels!r}, expected several numbers, such as [0.1, 0.5, 0.9].") from None
    if not levels:
        raise ValueError("levels is empty, expected at least one, such as [0.1, 0.5, 0.9].")
    for level in levels:
        if not 0.0 < level < 1.0:
            raise ValueError(f"levels holds {level:g}, expected numbers above 0 and below 1.")
    if any(second <= first for first, second in itertools.pairwise(levels)):
        raise ValueError(f"levels is {listed(levels)}, expected each to be larger than the one before.")
    if middle and 0.5 not in levels and not levels[0] < 0.5 < levels[-1]:
        raise ValueError(
            f"levels is {listed(levels)}, expected 0.5 or levels on both sides of it: a forecast needs its middle."
        )
    return levels


def pinball(
    quantiles: Float[Tensor, "*batch level"], truth: Float[Tensor, "*batch"], levels: Sequence[float]
) -> Float[Tensor, "*batch level"]:
    """Return the pinball loss of each quantile: level x error where it is below the truth, else (1 - level) x error."""
    level = torch.tensor(levels, dtype=quantiles.dtype, device=quantiles.device)
    error = truth[..., None] - quantiles
    return torch.maximum(level * error, (level - 1) * error)


def intervals(levels: Sequence[float]) -> list[tuple[int, int, float]]:
    """Return the central intervals among some levels: places of both bounds, and the probability between them."""
    found = []
    for low, level in enumerate(levels):
        high = next((i for i, other in enumerate(levels) if abs(other - (1 - level)) < 1e-9), None)
        if level < 0.5 and high is not None:
            found.append((low, high, 1 - 2 * level))
    return found


def at_levels(
    quantiles: Float[Tensor, "*batch level"], levels: Sequence[float], wanted: Sequence[float]
) -> Float[Tensor, "*batch wanted"]:
    """Interpolate quantiles linearly between their levels.

    Raises:
        ValueError: If a wanted level lies outside of those there are.
    """
    columns = []
    for level in wanted:
        above = next((i for i, own in enumerate(levels) if own >= level - 1e-9), None)
        if above is None or (above == 0 and levels[0] > level + 1e-9):
            raise ValueError(
                f"The quantile {level:g} was asked for, expected one from {levels[0]:g} to {levels[-1]:g}, between "
                "those that the forecaster has: train or calibrate it with wider `quantile_levels`."
            )
        if abs(levels[above] - level) < 1e-9:
            columns.append(quantiles[..., above])
        else:
            weight = (level - levels[above - 1]) / (levels[above] - levels[above - 1])
            columns.append(torch.lerp(quantiles[..., above - 1], quantiles[..., above], weight))
    return torch.stack(columns, -1)


def listed(levels: Sequence[float]) -> str:
    """Return levels as they are written in a message."""
    return f"[{', '.join(f'{level:g}' for level in levels)}]"
