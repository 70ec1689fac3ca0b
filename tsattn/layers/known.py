"""What is known ahead (`known` over context and horizon) as tokens, one for each row.

Ours: the authors of iTransformer and TimeXer read the context of calendar marks alone.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tsattn.layers.norm import normalise

FARTHEST = 10.0  # deviations from its mean that a known covariate is let go: one that was constant may jump to 316
IDENTITY = 0.5  # deviation of a row's own vector before training: about that of a token


class KnownEmbedding(nn.Linear):
    """A linear map of each row, or each of its patches, to a token, the same for all, and a learned vector of each row.

    Without the vectors the rows are a set: a network could not tell the row of one category from that of another, nor a
    forecast of wind from one of load.

    Args:
        steps: Of a row, or of its patches.
        d_model: Length of a token.
        rows: How many rows there are; None: any number, without vectors of their own.
    """

    def __init__(self, steps: int, d_model: int, rows: int | None) -> None:
        super().__init__(steps, d_model)
        self.identity = None if rows is None else nn.Parameter(IDENTITY * torch.randn(rows, d_model))

    def forward(self, known: Float[Tensor, "batch known *patch steps"]) -> Float[Tensor, "batch known *patch d_model"]:
        """Return one token for each row, or for each of its patches."""
        tokens = super().forward(known)
        if self.identity is None:
            return tokens
        return tokens + (self.identity if known.ndim == 3 else self.identity[:, None])


def normalise_known(
    known: Float[Tensor, "batch known total"], covariates: int, context: int
) -> tuple[Float[Tensor, "batch known total"], Bool[Tensor, "batch known"]]:
    """Centre and scale what is known ahead by its context, as `normalise` does the past; NaN is missing, and becomes 0.

    What lies more than `FARTHEST` deviations away is brought back to there.

    Args:
        known: Covariates with a level and a spread of their own, then rows that are read as they are.
        covariates: How many rows are of the first kind.
        context: Steps over which mean and deviation are taken, the first ones.

    Returns:
        The rows, and False for each that says nothing: nothing is observed, in its context if it has a level.
    """
    seen = ~known.isnan()
    filled = torch.where(seen, known, known.new_zeros(()))
    if covariates == 0:
        return filled, seen.any(-1)
    own, theirs = filled[:, :covariates], seen[:, :covariates]
    _, mean, scale = normalise(own[..., :context], theirs[..., :context])
    level = theirs[..., :context].any(-1)
    own = ((own - mean) / scale).clamp(-FARTHEST, FARTHEST)
    own = torch.where(theirs & level[..., None], own, known.new_zeros(()))
    return torch.cat([own, filled[:, covariates:]], 1), torch.cat([level, seen[:, covariates:].any(-1)], 1)
