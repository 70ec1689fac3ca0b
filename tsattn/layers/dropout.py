"""Dropout that costs little on a CPU: four decisions from each 64 random bits, few passes over memory, few new tensors.

Ours. `torch.nn.functional.dropout` asks the CPU generator for one `bernoulli_` per element, one after the other, which
is 9 to 38 % of a training step of the forecasters' published code. Here the decisions are made on 16-bit integers in
place, where a pass costs a fraction of one over booleans, and the mask is multiplied where another pass over the values
is made anyway: after an activation, or in adding to a residual.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

LEVELS = 1 << 16  # a decision reads 16 random bits


def keep_mask(x: Float[Tensor, "*shape"], p: float) -> Float[Tensor, "*shape"]:
    """Return 0 with probability `p`, rounded to a multiple of 1/65536, else one over the probability of staying.

    Args:
        x: Tells shape, type and device; its values are not read.
        p: Probability of 0, in [0, 1].
    """
    dropped = round(p * LEVELS)
    if dropped == 0:
        return torch.ones_like(x)
    if dropped == LEVELS:
        return torch.zeros_like(x)
    count = x.numel()
    words = torch.randint(-(2**63), 2**63 - 1, ((count + 3) // 4,), device=x.device)
    lanes = words.view(torch.int16)[:count].view(x.shape)  # each of -32768 ... 32767 equally likely
    first = dropped - LEVELS // 2  # the smallest that stays
    return lanes.clamp_(first - 1, first).sub_(first - 1).to(x.dtype).mul_(LEVELS / (LEVELS - dropped))


def dropout(x: Float[Tensor, "*shape"], p: float, training: bool = True) -> Float[Tensor, "*shape"]:
    """Set each element to zero with probability `p` and scale the others, so that the mean stays.

    On a CPU `p` is rounded to a multiple of 1/65536 and the scale is one over the exact probability of staying;
    elsewhere this is `torch.nn.functional.dropout`.

    Args:
        x: Any shape.
        p: Probability of becoming zero, in [0, 1].
        training: False returns `x` itself.
    """
    if not training or p == 0.0:
        return x
    return x * keep_mask(x, p) if x.is_cpu else F.dropout(x, p)


def add_dropped(
    residual: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"], p: float, training: bool = True
) -> Float[Tensor, "*shape"]:
    """Return `residual + dropout(x, p, training)`, in one pass on a CPU."""
    if not training or p == 0.0:
        return residual + x
    return torch.addcmul(residual, x, keep_mask(x, p)) if x.is_cpu else residual + F.dropout(x, p)


def activate_dropped(
    x: Float[Tensor, "*shape"], activation: str, p: float, training: bool = True
) -> Float[Tensor, "*shape"]:
    """Return `dropout(activation(x), p, training)`, without a tensor for the activation alone on a CPU.

    Args:
        x: Any shape.
        activation: "gelu" (exact) or "relu".
        p: Probability of becoming zero, in [0, 1].
        training: False means no dropout.
    """
    eager = torch.is_grad_enabled() and not torch.compiler.is_compiling()  # a compiler fuses the parts by itself
    if training and p > 0.0 and x.is_cpu and eager:
        return _ActivateDropped.apply(x, keep_mask(x, p), activation)
    return dropout(_activate(x, activation), p, training)


def _activate(x: Tensor, activation: str) -> Tensor:
    return F.relu(x) if activation == "relu" else F.gelu(x)


class _ActivateDropped(torch.autograd.Function):
    """Activation times mask; saves their two inputs and writes each product over its factor."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, mask, activation):
        return _activate(x, activation).mul_(mask)

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, mask, ctx.activation = inputs
        ctx.save_for_backward(x, mask)

    @staticmethod
    def backward(ctx, gradient):
        x, mask = ctx.saved_tensors
        if ctx.activation == "relu":
            return torch.ops.aten.threshold_backward(gradient, x, 0).mul_(mask), None, None
        return torch.ops.aten.gelu_backward(gradient, x).mul_(mask), None, None


class Dropout(nn.Module):
    """`dropout` as a module, active in training mode.

    Args:
        p: Probability of becoming zero, in [0, 1].

    Raises:
        ValueError: If `p` is no probability.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"dropout is {p}, expected a probability in [0, 1].")
        self.p = p

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Drop elements of `x` in training mode; return `x` itself in evaluation mode."""
        return dropout(x, self.p, self.training)

    def add(self, residual: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the residual plus what dropout leaves of `x`."""
        return add_dropped(residual, x, self.p, self.training)

    def activate(self, x: Float[Tensor, "*shape"], activation: str) -> Float[Tensor, "*shape"]:
        """Return what dropout leaves of the activation of `x`."""
        return activate_dropped(x, activation, self.p, self.training)

    def extra_repr(self) -> str:
        """Say the probability."""
        return f"p={self.p}"
