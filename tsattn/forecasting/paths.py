"""Quantiles beyond the trained horizon: paths drawn from what is forecast, each the past of the next block.

Ours. Quantiles say how likely each value of a step is, not how the steps of a path belong together, and not what lies
between or outside of the levels that somebody asked for. Both are filled in here, so that an interval does not depend
on which other levels there are:

- Between and outside of its levels, a quantile is linear in the normal distribution's quantile (exact for normal noise,
  and on both sides of the middle by itself).
- From one step to the next, errors follow each other as those of an autoregressive process of order one whose spread
  grows as the forecast's does: one that stays as wide belongs to independent errors, one that grows with the square
  root of the steps to a random walk.

Paths are stratified: at each step every one of `PATHS` equally likely slices of the distribution has one path. The
draws are the same for all windows, so that a forecast depends on nothing but its own window.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

PATHS = 64  # of each window; a power of 2
SLICES = 16  # in which each path's forecast is pooled with the others
SEED = 20
AT_A_TIME = 1 << 24  # numbers that are pooled at a time
NOISE = 0.1  # share of the variance that is not yet a growth of the spread
FAR = 0.5  # deviations between the two levels that a tail is continued from


@dataclass(frozen=True)
class Shape:
    """Quantiles of any level, from those of a few.

    Attributes:
        scores: Normal scores (quantiles of the standard normal distribution) of the levels, ascending.
    """

    scores: Float[Tensor, " level"]

    @classmethod
    def of(cls, levels: Sequence[float], like: Tensor) -> "Shape":
        """Return the shape of some levels, on the device of a tensor."""
        return cls(torch.special.ndtri(torch.tensor(levels, dtype=torch.float64)).to(like))

    def __len__(self) -> int:
        return len(self.scores)

    def at(
        self, quantiles: Float[Tensor, "*batch level"], scores: Float[Tensor, "*batch path"]
    ) -> Float[Tensor, "*batch path"]:
        """Return quantiles at normal scores, in straight lines through those of the levels, and on in the tails."""
        if len(self) == 1:
            return quantiles.expand(*scores.shape)
        own = self.scores
        place = torch.bucketize(scores.contiguous(), own).clamp(1, len(own) - 1)
        low, high = quantiles.gather(-1, place - 1), quantiles.gather(-1, place)
        inner = low + (high - low) * (scores - own[place - 1]) / (own[place] - own[place - 1])
        below, above = self._tails(quantiles)
        found = torch.where(scores < own[0], quantiles[..., :1] + below * (scores - own[0]), inner)
        return torch.where(scores > own[-1], quantiles[..., -1:] + above * (scores - own[-1]), found)

    def spread(self, quantiles: Float[Tensor, "*batch level"]) -> Float[Tensor, "*batch"]:
        """Return the deviation of a normal distribution that is as wide."""
        if len(self) == 1:
            return torch.zeros_like(quantiles[..., 0])
        return (quantiles[..., -1] - quantiles[..., 0]) / (self.scores[-1] - self.scores[0])

    def _tails(self, quantiles: Float[Tensor, "*batch level"]) -> tuple[Tensor, Tensor]:
        """Return the slopes below the lowest and above the highest level."""
        own = self.scores
        first = next((i for i in range(1, len(own)) if own[i] - own[0] >= FAR), len(own) - 1)
        last = next((i for i in range(len(own) - 2, -1, -1) if own[-1] - own[i] >= FAR), 0)
        below = (quantiles[..., first] - quantiles[..., 0]) / (own[first] - own[0])
        above = (quantiles[..., -1] - quantiles[..., last]) / (own[-1] - own[last])
        return below[..., None], above[..., None]


def slices(count: int, like: Tensor) -> Float[Tensor, " slice"]:
    """Return the normal scores of the middles of so many equally likely slices."""
    levels = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return torch.special.ndtri(levels).to(like)


def correlations(spread: Float[Tensor, "*batch step"]) -> Float[Tensor, "*batch step"]:
    """Return how an error is correlated with that of the step before, by how the spread grows; 0 for the first step.

    Of an autoregressive process the variance v grows by v[h + 1] = v[1] + phi^2 v[h], and the correlation of both
    errors is phi times the ratio of their deviations. One phi is fitted to all steps; what is small is taken as none,
    because spreads are estimates.
    """
    variance = spread.double().square()
    before, grown = variance[..., :-1], variance[..., 1:] - variance[..., :1]
    tiny = torch.finfo(torch.float64).tiny
    share = (before * grown).sum(-1, keepdim=True) / before.square().sum(-1, keepdim=True).clamp(min=tiny)
    phi = ((share - NOISE) / (1 - NOISE)).clamp(0, 1).sqrt().to(spread)
    ratio = spread[..., :-1] / spread[..., 1:].clamp(min=torch.finfo(spread.dtype).tiny)
    return torch.cat([torch.zeros_like(spread[..., :1]), (phi * ratio).clamp(0, 1)], -1)


def draw(
    shape: Shape,
    quantiles: Float[Tensor, "window target step level"],
    before: Float[Tensor, "window target"] | None,
    block: int,
) -> Float[Tensor, "window target step"]:
    """Draw the next block of each path from its own forecast: of each window's paths, one in every slice.

    Args:
        shape: Of the levels.
        quantiles: Of each path, `PATHS` of a window side by side.
        before: Last value of each path; None: all have the same past.
        block: Its number; each has its own draws.
    """
    _, targets, steps, _ = quantiles.shape
    grid = slices(PATHS, quantiles)
    half = torch.randn((steps, PATHS // 2, targets), generator=torch.Generator().manual_seed(SEED + block))
    fresh = grid[_ranks(torch.cat([half, -half], 1), 1).to(grid.device)]  # each path has a mirrored one: medians hold
    follow = correlations(shape.spread(quantiles)).unflatten(0, (-1, PATHS))  # (batch, path, target, step)
    score = fresh[-1].expand(len(follow), -1, -1)  # (batch, path, target)
    if before is not None:
        score = grid[_spread_out(_ranks(before.unflatten(0, (-1, PATHS)), 1), block)]
    scores = [score]
    for step in range(steps - 1, 0, -1):  # backwards, from the value on which a random walk goes on
        rho = follow[..., step]
        score = rho * score + (1 - rho.square()).clamp(min=0).sqrt() * fresh[step - 1]
        score = grid[_ranks(score, 1)]  # every slice once again
        scores.append(score)
    return shape.at(quantiles, torch.stack(scores[::-1], -1).flatten(0, 1)[..., None])[..., 0]


def _spread_out(ranks: Int[Tensor, "*shape"], block: int) -> Int[Tensor, "*shape"]:
    """Give paths that are neighbours slices that are far apart, so that the sum of both is spread evenly, too.

    Source:
        L'Ecuyer, Lecot and Tuffin (2008), array-RQMC: paths are sorted, then take the next points of a van der Corput
        sequence; here with a digital shift of each block.
    """
    bits = PATHS.bit_length() - 1
    turned = torch.zeros_like(ranks)
    for bit in range(bits):
        turned |= ((ranks >> bit) & 1) << (bits - 1 - bit)
    shift = int(torch.randint(PATHS, (), generator=torch.Generator().manual_seed(-1 - block)))
    return turned ^ shift


def _ranks(values: Tensor, axis: int) -> Int[Tensor, "*shape"]:
    return values.argsort(axis).argsort(axis)


def pooled(
    shape: Shape, quantiles: Float[Tensor, "batch path target step level"], levels: Sequence[float]
) -> Float[Tensor, "batch target step level"]:
    """Return the quantiles of the mixture of all paths' forecasts, which are equally likely."""
    paths = quantiles.shape[1]
    # Each path is cut at other places, so that equal forecasts are cut in paths x SLICES equal slices.
    levels_of = (torch.arange(SLICES)[None] + (torch.arange(paths)[:, None] + 0.5) / paths) / SLICES
    scores = torch.special.ndtri(levels_of.double()).to(quantiles)[None, :, None, None]
    count = paths * SLICES
    place = (torch.tensor(levels, dtype=torch.float64) * count - 0.5).clamp(0, count - 1)  # middles of equal slices
    low = place.floor().long()
    weight = (place - low).to(quantiles)
    low = low.to(quantiles.device)
    found = []
    for part in quantiles.split(max(1, AT_A_TIME // (len(quantiles) * count * quantiles.shape[3])), 2):
        values = shape.at(part, scores.expand(*part.shape[:-1], SLICES))
        values = values.permute(0, 2, 3, 1, 4).flatten(-2).sort(-1).values
        found.append(torch.lerp(values[..., low], values[..., (low + 1).clamp(max=count - 1)], weight))
    return torch.cat(found, 1)


def extend(
    ask: Callable[[Tensor, int], Float[Tensor, "window target step level"]],
    first: Float[Tensor, "batch target step level"],
    levels: Sequence[float],
    blocks: int,
) -> Float[Tensor, "batch target steps level"]:
    """Return the quantiles of several blocks.

    Args:
        ask: Forecasts the next block of every path, given the paths of the block before, (batch * path, target, step),
            and that block's number, from 1 on.
        first: Quantiles of the first block.
        levels: Of the quantiles.
        blocks: How many there are, the first one included.
    """
    shape = Shape.of(levels, first)
    found = [first]
    if len(levels) == 1:  # says nothing of a spread: one path
        for block in range(1, blocks):
            found.append(ask(found[-1][..., 0], block))
        return torch.cat(found, 2)
    own, last = first.repeat_interleave(PATHS, 0), None
    for block in range(1, blocks):
        drawn = draw(shape, own, last, block - 1)
        own, last = ask(drawn, block), drawn[..., -1]
        found.append(pooled(shape, own.unflatten(0, (-1, PATHS)), levels))
    return torch.cat(found, 2)
