"""Multi-variate parallel attention (MVPA) over a grid of time steps and channels; `reference.py` says what it means.

`mvpa_attention` checks its arguments, chooses a form of the computation and calls it. Three give the same numbers:

    reference   the definition: dense, differentiable any number of times, attention maps, element dropout
    torch       factorised, memory linear in the tokens, any device                               (factorised.py)
    triton      the same on a GPU, fused                                                          (kernel.py)

`mvpa_last` is the same for the queries of the last step alone (last.py).

Read `reference.py`, then `factorised.py`, then `kernel.py`. Multi-variate parallel attention: MVPFormer (Carzaniga et
al., 2025); here written from a description of IBM/multi-variate-parallel-transformer (Apache-2.0).
"""

import importlib.util
import logging
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd import forward_ad

from tsattn.ops.mvpa.dropout import drop, structured_dropout, uniform
from tsattn.ops.mvpa.last import mvpa_last
from tsattn.ops.mvpa.problem import Backend, DropoutKind, Inputs, Options, check_choices, check_masks, check_tensors
from tsattn.ops.mvpa.reference import MVPAMaps, mvpa_reference
from tsattn.ops.mvpa.registration import mvpa_forward

__all__ = ["Backend", "DropoutKind", "MVPAMaps", "drop", "mvpa_attention", "mvpa_last", "structured_dropout"]

DENSE_BYTES = 4 << 30  # above this, the dense form has to be asked for by name
DENSE_TENSORS = 8  # of tokens x tokens that it holds at once: logits, their terms and indices, weights
logger = logging.getLogger(__name__)


def mvpa_attention(
    query: Float[Tensor, "batch head time channel size"],
    key: Float[Tensor, "batch kv_head time channel size"] | None,
    value: Float[Tensor, "batch kv_head time channel size"],
    time_key: Float[Tensor, "#batch kv_head distance size"],
    channel_key: Float[Tensor, "#batch kv_head channel size"],
    *,
    content_bias: Float[Tensor, "bias_head size"] | None = None,
    time_bias: Float[Tensor, "bias_head size"] | None = None,
    channel_bias: Float[Tensor, "bias_head size"] | None = None,
    window: int | None = 10,
    causal: bool = True,
    full_last: bool = True,
    channel_mask: Bool[Tensor, "batch channel"] | None = None,
    time_mask: Bool[Tensor, "batch time"] | None = None,
    key_mask: Bool[Tensor, "batch time channel"] | None = None,
    dropout_p: float = 0.0,
    dropout: DropoutKind = "sample",
    training: bool = True,
    generator: torch.Generator | None = None,
    scale: float | None = None,
    return_lse: bool = False,
    return_maps: bool = False,
    backend: Backend = "auto",
) -> Tensor | tuple[Tensor | MVPAMaps | None, ...]:
    """Let every token of a time x channel grid read every other one, by content, elapsed time and channel distance.

    With s the scale, the query at (t, c) reads the key at (t', c') with the softmax over all keys of

        s (q + content_bias) · key[t', c']       if |t - t'| <= window, or t is the last step and `full_last`; else 0
      + s (q + time_bias) · time_key[t - t']
      + s (q + channel_bias) · channel_key[|c - c'|]

    Keys out of the window keep their other two terms, and so their weight. The `torch` and `triton` forms give the same
    bits in every run and sum float16 and bfloat16 in float32 (`triton` multiplies in the type of the inputs): the
    output is finite where the inputs are; gradients in float16 may overflow, so scale the loss as usual. Only masks
    protect from NaN: what is merely later than a causal query may reach it. Derivatives of the two forms are
    first-order backward ones; `reference` has them all.

    Args:
        query: Queries. Any strides.
        key: Content keys, with as many heads as `value`, a divisor of the query's: query head h reads key head
            h // (heads / kv heads). None for no content term.
        value: Values.
        time_key: Keys by elapsed time, nearest first. Causal: row t - t', T rows. Not causal: row t - t' + T - 1 of
            2T - 1, or T rows for |t - t'|. The first axis is 1 if all samples share them. Finite in every row, also in
            those that a padded sample does not use; `channel_key` too.
        channel_key: Keys by channel distance |c - c'|, nearest first, C rows.
        content_bias: Added to the query for the content term; one row per query head or per key/value head.
        time_bias: Added for the time term.
        channel_bias: Added for the channel term.
        window: Largest |t - t'| in steps with a content term; None for all.
        causal: Whether a token reads its own and earlier steps only (all channels of its own step).
        full_last: Whether the tokens of a sample's last step have content terms with all steps.
        channel_mask: True for a real channel. Padded ones are never read; their own output and gradient are 0, and what
            stands in them (NaN, say) does not matter.
        time_mask: True for a real step; the same along time. `torch.arange(T) < lengths[:, None]` for right padding.
        key_mask: True for a token that may be read. Unlike a padded token, a hidden one still has an output. A token
            that may read nothing gets 0.
        dropout_p: Probability of dropping a weight after the softmax, whose sum is left alone.
        dropout: What is dropped. "sample": whole steps and whole channels of keys, each kept with probability
            sqrt(1 - dropout_p), drawn for each sample. "call": drawn once for all samples (as MVPFormer's flash path).
            "element": single weights; dense form only.
        training: False turns dropout off.
        generator: For dropout; on the device of `query`. `torch.compile` cannot trace one.
        scale: Factor of the logits; 1 / sqrt(size) by default.
        return_lse: Also return the log-sum-exp of the logits of each row, (B, H, T, C), in float32 or float64, without
            a gradient; +inf for a token that reads nothing.
        return_maps: Also return the weights and the three terms, which takes the dense form.
        backend: "auto" takes "triton" for CUDA tensors where it can, else "torch", and "reference" for maps and element
            dropout; a form asked for by name is taken, or it is an error.

    Returns:
        (B, H, T, C, size) in the type of `query` (under autocast, in autocast's type); a tuple of it and what else was
        asked for, in the order of the arguments.

    Raises:
        ValueError: If shapes, types or masks do not fit, a sample is all padding (masks are read for it, so a GPU is
            waited for; not seen by a compiled "reference"), the backend cannot do it, or `key_mask` hides the keys with
            the largest logits by so much that the rest underflows.
        NotImplementedError: For a second or forward-mode derivative.

    Source:
        MVPFormer, Carzaniga et al. (2025), and its code at commit 9f5357b, which counts distances from the other end
        of its tables: see `tsattn.layers.mvpa`.
    """
    kind = query.device.type if isinstance(query, Tensor) else "cpu"
    autocast = kind != "meta" and torch.is_autocast_enabled(kind) and query.dtype != torch.float64
    biases = dict(content_bias=content_bias, time_bias=time_bias, channel_bias=channel_bias)
    masks = dict(channel_mask=channel_mask, time_mask=time_mask, key_mask=key_mask)
    check_choices(window, scale, dropout_p, dropout, backend)
    check_tensors(query, key, value, time_key, channel_key, biases, masks, causal, autocast)
    if generator is not None and generator.device != query.device:
        raise ValueError(f"generator is on {generator.device}, expected {query.device} as query.")
    if autocast:
        half = torch.get_autocast_dtype(kind)
        query, value, time_key, channel_key = (x.to(half) for x in (query, value, time_key, channel_key))
        key = None if key is None else key.to(half)
    u, v, z = (_per_head(bias, query, value) for bias in biases.values())
    inputs = Inputs(query, key, value, time_key, channel_key, u, v, z, **masks)
    steps = query.shape[2]
    if not causal and time_key.shape[2] == steps:  # by |t - t'|
        inputs = inputs._replace(time_key=torch.cat([time_key[:, :, 1:].flip(2), time_key], 2))
    window = steps if window is None else min(window, steps)
    options = Options(window, causal, full_last, query.shape[-1] ** -0.5 if scale is None else scale)

    p = dropout_p if training else 0.0
    form = _choose(backend, inputs, dense=return_maps or (p > 0 and dropout == "element"))
    if p > 0 and dropout != "element":
        inputs = inputs._replace(value=structured_dropout(value, p, dropout, generator))
    if form == "reference":
        if not torch.compiler.is_compiling():
            check_masks(inputs)
        out, lse, maps = _dense(inputs, options, p if dropout == "element" else 0.0, generator)
    else:
        _refuse_forward_mode(inputs)
        out, lse = mvpa_forward(*inputs, *options, form)
        maps = None
    lse = lse.detach().to(torch.promote_types(lse.dtype, torch.float32))
    asked = [x for x, wanted in ((lse, return_lse), (maps, return_maps)) if wanted]
    return (out, *asked) if asked else out


def _per_head(bias: Tensor | None, query: Tensor, value: Tensor) -> Tensor:
    """Return one row per query head: of none, or of one per key/value head."""
    heads = query.shape[1]
    if bias is None:
        return query.new_zeros(heads, query.shape[-1])
    return bias if bias.shape[0] == heads else bias.repeat_interleave(heads // value.shape[1], 0)


def _refuse_forward_mode(inputs: Inputs) -> None:
    """Raise where the operators would drop a tangent in silence."""
    if torch.compiler.is_compiling():
        return
    if any(x is not None and forward_ad.unpack_dual(x).tangent is not None for x in inputs.differentiable):
        raise NotImplementedError(
            "mvpa_attention has no forward-mode derivative in its torch and triton forms. Pass backend='reference'."
        )


def _choose(backend: str, inputs: Inputs, dense: bool) -> Literal["reference", "torch", "triton"]:
    """Return the form to take; `dense` if something is asked for that only the definition has.

    Raises:
        ValueError: If the form asked for by name cannot do it, or the dense one would be too large.
    """
    if backend == "reference":
        return "reference"
    if dense:
        if backend != "auto":
            raise ValueError(
                f"backend={backend!r} holds no weights, so it has no maps and no element dropout. "
                "Use backend='reference', or dropout='sample'."
            )
        batch, heads, time, channels, _ = inputs.query.shape
        need = DENSE_TENSORS * batch * heads * (time * channels) ** 2 * inputs.query.itemsize
        if need > DENSE_BYTES:
            raise ValueError(
                f"Maps and element dropout take the dense form, which needs about {need / 2**30:.1f} GiB for {batch} "
                f"samples of {time} steps x {channels} channels; name backend='reference' if that is meant."
            )
        return "reference"
    if backend == "torch" or (backend == "auto" and not inputs.query.is_cuda):
        return "torch"
    reason = why_not_triton(inputs)
    if backend == "triton":
        if reason:
            raise ValueError(f"backend='triton' is not possible: {reason}. Use backend='torch' or 'auto'.")
        return "triton"
    if reason and not torch.compiler.is_compiling():
        _say_once(reason)
    return "torch" if reason else "triton"


_said: set[str] = set()


def _say_once(reason: str) -> None:
    if reason not in _said:
        _said.add(reason)
        logger.warning("MVPA on a GPU in the torch form, which is slower than triton: %s.", reason)


def why_not_triton(inputs: Inputs) -> str | None:
    """Return the reason why the Triton form cannot take these tensors, or None if it can."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if inputs.key_mask is not None:
        return "it reads channel_mask and time_mask, but no key_mask"
    from tsattn.ops.mvpa import kernel

    return kernel.unsupported(inputs.query.dtype, inputs.query.shape[-1], inputs.query.device)


def _dense(inputs: Inputs, options: Options, p: float, generator: torch.Generator | None):
    """Call the definition, with the biases in the type of the query."""
    query = inputs.query
    biases = (x.to(query.dtype) for x in inputs[5:8])
    multiplier = None
    if p > 0:
        tokens = query.shape[2] * query.shape[3]
        keep = uniform((*query.shape[:2], tokens, tokens), query.device, generator) >= p
        multiplier = keep.to(query.dtype) / (1 - p)
    return mvpa_reference(Inputs._make((*inputs[:5], *biases, *inputs[8:])), options, multiplier)
