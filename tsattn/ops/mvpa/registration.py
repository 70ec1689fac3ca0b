"""MVPA as two operators of torch.library: opaque to `torch.compile`, differentiable, known to fake tensors.

Ours. `tsattn::mvpa_forward` and `tsattn::mvpa_backward` call the plain form (`factorised.py`) or the Triton one
(`kernel.py`), as their last argument says. They trust their arguments: `mvpa_attention` has checked them.
"""

import importlib
from types import ModuleType

import torch

from tsattn.ops.mvpa.problem import Inputs, Options, check_masks

INPUTS = (
    "Tensor query, Tensor? key, Tensor value, Tensor time_key, Tensor channel_key, Tensor content_bias, "
    "Tensor time_bias, Tensor channel_bias, Tensor? channel_mask, Tensor? time_mask, Tensor? key_mask"
)  # those of `Inputs`
OPTIONS = "int window, bool causal, bool full_last, float scale, str backend"  # those of `Options`, and who computes
TENSORS, NUMBERS = len(Inputs._fields), len(Options._fields) + 1
GRADIENTS = 8  # of the inputs: all but the masks
UNSAFE = (torch.Tag.cudagraph_unsafe,)  # masks are read on the host
FORMS = {"torch": "tsattn.ops.mvpa.factorised", "triton": "tsattn.ops.mvpa.kernel"}


def _call(arguments: tuple) -> tuple[Inputs, Options, ModuleType]:
    """Return inputs, options and the form; Triton is imported here, at the first call that asks for it."""
    *options, backend = arguments[TENSORS:]
    return Inputs._make(arguments[:TENSORS]), Options._make(options), importlib.import_module(FORMS[backend])


@torch.library.custom_op(
    "tsattn::mvpa_forward", mutates_args=(), schema=f"({INPUTS}, {OPTIONS}) -> (Tensor, Tensor)", tags=UNSAFE
)
def mvpa_forward(*arguments):
    """Return output and log-sum-exp."""
    inputs, options, form = _call(arguments)
    check_masks(inputs)
    with torch.autocast(inputs.query.device.type, enabled=False):
        return form.forward(inputs, options)


@mvpa_forward.register_fake
def _(query, *arguments):
    kind = torch.float64 if query.dtype == torch.float64 else torch.float32
    return query.new_empty(query.shape), query.new_empty(query.shape[:4], dtype=kind)


@torch.library.custom_op(
    "tsattn::mvpa_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor out, Tensor lse, {INPUTS}, {OPTIONS}) -> ({', '.join(['Tensor'] * GRADIENTS)})",
    tags=UNSAFE,
)
def mvpa_backward(grad, out, lse, *arguments):
    """Return the gradients of the first eight inputs; that of an absent key is empty."""
    inputs, options, form = _call(arguments)
    with torch.autocast(grad.device.type, enabled=False):
        grads = form.backward(grad, inputs, out, lse, options)
    return tuple(grad.new_empty(0) if g is None else g for g in grads)


@mvpa_backward.register_fake
def _(grad, out, lse, *arguments):
    return tuple(grad.new_empty(0) if x is None else x.new_empty(x.shape) for x in arguments[:GRADIENTS])


def _remember(ctx, inputs, output):
    ctx.save_for_backward(*output, *inputs[:TENSORS])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)
    ctx.options = inputs[TENSORS:]


def _differentiate(ctx, grad, _):
    if grad is None:
        return (None,) * (TENSORS + NUMBERS)
    grads = mvpa_backward(grad, *ctx.saved_tensors, *ctx.options)
    grads = (g if need else None for g, need in zip(grads, ctx.needs_input_grad, strict=False))
    return *grads, *(None,) * (TENSORS + NUMBERS - GRADIENTS)


def _differentiate_twice(ctx, *grads):
    raise NotImplementedError(
        "mvpa_attention has no second derivative in its torch and triton forms. "
        "Pass backend='reference' to differentiate twice."
    )


mvpa_forward.register_autograd(_differentiate, setup_context=_remember)
mvpa_backward.register_autograd(_differentiate_twice, setup_context=lambda ctx, inputs, output: None)
