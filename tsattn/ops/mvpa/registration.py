"""MVPA as two operators of torch.library: opaque to `torch.compile`, differentiable, known to fake tensors.

Ours. `tsattn::mvpa_forward` and `tsattn::mvpa_backward` call the plain form (`factorised.py`) or the Triton one
(`kernel.py`), as their last argument says. They trust their arguments: `mvpa_attention` has checked them.
"""

import importlib
from types import ModuleType

import torch
from torch import Tensor

from tsattn.ops.mvpa.problem import Inputs, Options, check_masks

ARGUMENTS = 16  # of the forward operator
UNSAFE = (torch.Tag.cudagraph_unsafe,)  # masks are read on the host
FORMS = {"torch": "tsattn.ops.mvpa.factorised", "triton": "tsattn.ops.mvpa.kernel"}


def _form(backend: str) -> ModuleType:
    return importlib.import_module(FORMS[backend])  # Triton is imported here, at the first call that asks for it


@torch.library.custom_op("tsattn::mvpa_forward", mutates_args=(), tags=UNSAFE)
def mvpa_forward(
    query: Tensor,
    key: Tensor | None,
    value: Tensor,
    time_key: Tensor,
    channel_key: Tensor,
    content_bias: Tensor,
    time_bias: Tensor,
    channel_bias: Tensor,
    channel_mask: Tensor | None,
    time_mask: Tensor | None,
    key_mask: Tensor | None,
    window: int,
    causal: bool,
    full_last: bool,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp; see `tsattn.ops.mvpa.problem` for the arguments."""
    inputs = Inputs(
        query, key, value, time_key, channel_key, content_bias, time_bias, channel_bias,
        channel_mask, time_mask, key_mask,
    )  # fmt: skip
    check_masks(inputs)
    with torch.autocast(query.device.type, enabled=False):
        return _form(backend).forward(inputs, Options(window, causal, full_last, scale))


@mvpa_forward.register_fake
def _(query, *arguments):
    kind = torch.float64 if query.dtype == torch.float64 else torch.float32
    return query.new_empty(query.shape), query.new_empty(query.shape[:4], dtype=kind)


@torch.library.custom_op("tsattn::mvpa_backward", mutates_args=(), tags=UNSAFE)
def mvpa_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor | None,
    value: Tensor,
    time_key: Tensor,
    channel_key: Tensor,
    content_bias: Tensor,
    time_bias: Tensor,
    channel_bias: Tensor,
    channel_mask: Tensor | None,
    time_mask: Tensor | None,
    key_mask: Tensor | None,
    out: Tensor,
    lse: Tensor,
    window: int,
    causal: bool,
    full_last: bool,
    scale: float,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of the first eight inputs; that of an absent key is empty."""
    inputs = Inputs(
        query, key, value, time_key, channel_key, content_bias, time_bias, channel_bias,
        channel_mask, time_mask, key_mask,
    )  # fmt: skip
    with torch.autocast(query.device.type, enabled=False):
        grads = _form(backend).backward(grad, inputs, out, lse, Options(window, causal, full_last, scale))
    return tuple(query.new_empty(0) if g is None else g for g in grads)  # type: ignore[return-value]


@mvpa_backward.register_fake
def _(grad, *arguments):
    query = arguments[0]
    return tuple(query.new_empty(0) if x is None else x.new_empty(x.shape) for x in arguments[:8])


def _remember(ctx, inputs, output):
    *tensors, window, causal, full_last, scale, backend = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.options = window, causal, full_last, scale, backend


def _differentiate(ctx, grad, _):
    if grad is None:
        return (None,) * ARGUMENTS
    grads = mvpa_backward(grad, *ctx.saved_tensors, *ctx.options)
    return *(g if need else None for g, need in zip(grads, ctx.needs_input_grad, strict=False)), *(None,) * 8


def _differentiate_twice(ctx, *grads):
    raise NotImplementedError(
        "mvpa_attention has no second derivative in its torch and triton forms. "
        "Pass backend='reference' to differentiate twice."
    )


mvpa_forward.register_autograd(_differentiate, setup_context=_remember)
mvpa_backward.register_autograd(_differentiate_twice, setup_context=lambda ctx, inputs, output: None)
