"""MVPA in Triton: forward and backward, memory linear in the number of tokens, no atomics.

Tokens lie on a grid of T steps and C channels, token n = t C + c. Query i = (t, c) sees key j = (t', c') with logit

    S_ij = content_ij + time_i[t'] + channel_i[c']              (all three times `scale`)
    time_i[t'] = (q_i + v) . time_key[t - t']       channel_i[c'] = (q_i + z) . channel_key[|c - c'|]
    content_ij = (q_i + u) . k_j  for *near* keys: |t - t'| <= window, or t is the sample's last step; 0 for *far* keys.

**Two stages.** Without content the weight of a far key is a product, exp(S_ij) = exp(time_i[t']) exp(channel_i[c']),
so one row's far weights are an outer product A_i[t'] E_i[c'] and

    sum_far exp(S) V = sum_t' A_i[t'] (E_i . V_t') = sum_c' E_i[c'] (A_i . V_:c')         one product, no exp per pair,

in either order: *channels first* (the matrix product runs over c') or *time first* (over t'). Their row maximum is
max A + max E, exactly, and their normaliser is (sum A)(sum E). Near keys are ordinary flash attention, one key step
at a time, so that time_i[t'] is a vector and the tile of channel_i is loaded once for all steps. The far launch leaves
its normalised output and log-sum-exp, the near launch merges: out = sum_x exp(lse_x - lse) out_x.

**Biases.** time_i and channel_i are computed once into scratch (float32, base 2), where every mask is written as -inf:
masked key steps and masked query rows in `time`, masked key channels in `channel`. The attention kernels know of no
other mask. Masked tokens are zeroed on entry, so whatever stood there cannot leak. Rows without any permitted key have
out = 0, lse = +inf, hence P = 0 and zero gradients. Scratch holds one chunk of queries of at most SCRATCH_BYTES.

**Backward**, with P = exp(S - lse), delta_i = grad_i . out_i and G = grad V^T:

    dS = P (G - delta);  dV = P^T grad;  dk = dS^T (q + u);  dq = dS k + dtime . time_key + dchannel . channel_key
    dtime_i[t'] = sum_c' dS_ij;   dchannel_i[c'] = sum_t' dS_ij        (in the layout of the biases)
    far: P = A E (with lse inside A), so dtime[t'] = A[t'] (E . G_t' - delta sum E) and
         dchannel[c'] = E[c'] (sum_t' A[t'] G - delta sum A): one product, none of dS is ever formed.

One pass owns queries (dq, dtime, dchannel), one owns keys (dk, dv, over all query heads of its key head); both in a
far and a near launch. Every sum has one owner and a fixed order: results are bit-reproducible.

Layouts in memory, all contiguous: query, out, grad [B, H, N, d]; key, value [B, Hk, N, d]; for a chunk of n queries
`time` [B H, distance, n] (rows of time_key from the chunk's first one, r_begin) and `channel` [B H, n, C].
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from tsattn.ops.mvpa.problem import Inputs, Options, last_steps, padding

SCRATCH_BYTES = 256 * 2**20  # of biases and their gradients alive at once; more only buys larger launches
NARROW = 16  # width of the tiles that only look for a maximum
TABLE_GRADIENT_ROWS = 2048  # queries summed by one program into a time_key or channel_key gradient

LOG2E = tl.constexpr(1.4426950408889634)  # kernels work in base 2: exp(x) = 2^(x LOG2E)
LN2 = tl.constexpr(0.6931471805599453)
NEG_INF = tl.constexpr(float("-inf"))

# Arguments whose value makes no better kernel: one compilation serves all. C is not among them: a multiple of 16 does.
VARYING = ["H", "G", "T", "window", "n_begin", "n_end", "r_begin", "n_distance", "qk_scale", "scale"]


def _jit(function: Callable[..., Any]) -> Any:
    """`triton.jit` of the bare function: where the tests check types at run time, it comes wrapped."""
    return triton.jit(inspect.unwrap(function), do_not_specialize=VARYING)


# ------------------------------------------------------------------------------------------------ shared by the kernels


@_jit
def _tile(o_row, n_row, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Offsets and mask of rows `o_row` (counted from a pointer already moved there) of a matrix [n_row, D]."""
    o_d = tl.arange(0, BLOCK_D)
    offset = o_row[:, None] * D + o_d[None, :]
    mask = (o_row < n_row)[:, None]
    if BLOCK_D != D:
        mask = mask & (o_d < D)[None, :]
    return offset, mask


@_jit
def _query_block(T, C, n_begin, n_end, r_begin, n_distance, stride_t, CAUSAL: tl.constexpr, BLOCK_M: tl.constexpr):
    """A program that owns queries: which head and rows, their steps, and the offsets of their biases."""
    i_m, i_z = tl.num_programs(0) - 1 - tl.program_id(0), tl.program_id(1).to(tl.int64)  # the longest rows first
    n_first = n_begin + i_m * BLOCK_M
    o_m = tl.arange(0, BLOCK_M)
    m_row = n_first + o_m < n_end
    o_t = (n_first + o_m) // C
    t_min, t_max = n_first // C, (tl.minimum(n_first + BLOCK_M, n_end) - 1) // C
    o_time = i_z * n_distance * stride_t + i_m * BLOCK_M + o_m
    o_channel = (i_z * (n_end - n_begin) + i_m * BLOCK_M) * C + o_m * C
    first_distance = r_begin if CAUSAL else r_begin - T + 1
    return i_z, n_first, m_row, o_t, t_min, t_max, first_distance, o_time, o_channel


@_jit
def _content_steps(t_min, t_max, t_last, T, window, CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr):
    """Key steps of a block of queries at t_min..t_max: near are [lo, hi), far are [0, lo) and [hi, end)."""
    lo = tl.maximum(t_min - window, 0)
    if CAUSAL:
        hi = t_max + 1
        end = t_max + 1
    else:
        hi = tl.minimum(t_max + window + 1, T)
        end = T
    if FULL_LAST:
        has_last = (t_min <= t_last) & (t_last <= t_max)
        lo = tl.where(has_last, 0, lo)
        hi = tl.where(has_last, end, hi)
    return lo, hi, end


@_jit
def _far_step(i, lo, hi, CAUSAL: tl.constexpr):
    """The i-th step of [0, lo) followed by [hi, end)."""
    if CAUSAL:
        return i
    else:
        return tl.where(i < lo, i, i - lo + hi)


@_jit
def _near_rows(t, t_last, T, window, CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr):
    """Query steps that see key step t with content: [lo, hi), and the last step if it lies beyond (else last = -1)."""
    if CAUSAL:
        lo = t
    else:
        lo = tl.maximum(t - window, 0)
    hi = tl.minimum(t + window + 1, T)
    if FULL_LAST:
        last = tl.where(t_last >= hi, t_last, -1)  # before `lo` it would mean that key step t is masked
    else:
        last = -1
    return lo, hi, last


@_jit
def _finite(x):
    """A row maximum fit for subtraction: rows of -inf have no maximum, any number does."""
    return tl.where(x == NEG_INF, 0.0, x)


@_jit
def _channel_max(p_channel, m_row, C, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """Maximum of channel_i over all channels: p_channel [BLOCK_M] points at the rows."""
    # One reduction, after the loop. Triton 3.6 crashes on or miscompiles a loop that carries the reduction of a loaded
    # tile (pass OptimizeThreadLocality; triton #11682, #11836), therefore the carried maximum stays two-dimensional.
    b_max = tl.full([BLOCK_M, BLOCK_C], NEG_INF, dtype=tl.float32)
    for c in range(0, C, BLOCK_C):
        o_c = c + tl.arange(0, BLOCK_C)
        m = m_row[:, None] & (o_c < C)[None, :]
        b_max = tl.maximum(b_max, tl.load(p_channel[:, None] + o_c[None, :], mask=m, other=NEG_INF))
    return _finite(tl.max(b_max, 1))


@_jit
def _time_offset(o_t, t, first_distance, stride_t):
    """Offset of time_i[t] in the time scratch of queries at steps o_t; 32 bits, see `_Problem.chunks`."""
    return (o_t - t - first_distance) * stride_t


# --------------------------------------------------------------------------------------------------------------- biases


@_jit
def time_bias_kernel(
    Q, TIME_KEY, BIAS, TIME, CHANNEL_MASK, TIME_MASK,
    H, G, T, C, n_begin, n_end, r_begin, n_distance, scale, time_stride, stride_t,
    CAUSAL: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """TIME[z, r, n] = ((q_n + v) . time_key[r_begin + r]) scale log2(e); -inf where n or its key step is masked."""
    i_m, i_r, i_z = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    i_b = i_z // H
    n_first = n_begin + i_m * BLOCK_M
    r_first = r_begin + i_r * BLOCK_C
    n_table = r_begin + n_distance

    o_m, o_r = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_C)
    o_q, m_q = _tile(o_m, n_end - n_first, D, BLOCK_D)
    o_k, m_k = _tile(o_r, n_table - r_first, D, BLOCK_D)
    b_q = tl.load(Q + (i_z * T * C + n_first) * D + o_q, mask=m_q, other=0.0)
    p_table = TIME_KEY + i_b * time_stride + ((i_z % H) // G * (T if CAUSAL else 2 * T - 1) + r_first) * D
    b_k = tl.load(p_table + o_k, mask=m_k, other=0.0)
    o_d = tl.arange(0, BLOCK_D)
    b_v = tl.load(BIAS + (i_z % H) * D + o_d, mask=o_d < D, other=0.0)
    # q stays as it is: (q + v).k = q.k + v.k, the second in float32, a number per distance
    b_time = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)  # [BLOCK_C, BLOCK_M]
    b_time = (b_time + tl.sum(b_k.to(tl.float32) * b_v[None, :], 1)[:, None]) * (scale * LOG2E)

    n = n_first + o_m
    m_row = n < n_end
    if CHANNEL_MASK is not None:
        m_real = tl.load(CHANNEL_MASK + i_b * C + n % C, mask=m_row, other=0) != 0
        b_time = tl.where(m_real[None, :], b_time, NEG_INF)
    if TIME_MASK is not None:
        m_real = tl.load(TIME_MASK + i_b * T + n // C, mask=m_row, other=0) != 0
        o_t = (n // C)[None, :] - (r_first + o_r)[:, None]
        if not CAUSAL:
            o_t += T - 1
        m_key = tl.load(TIME_MASK + i_b * T + o_t, mask=m_row[None, :] & (o_t >= 0) & (o_t < T), other=0) != 0
        b_time = tl.where(m_real[None, :] & m_key, b_time, NEG_INF)
    p_time = TIME + (i_z * n_distance + i_r * BLOCK_C) * stride_t + i_m * BLOCK_M
    m_time = (r_first + o_r < n_table)[:, None] & m_row[None, :]
    tl.store(p_time + o_r[:, None] * stride_t + o_m[None, :], b_time, mask=m_time)


@_jit
def channel_bias_kernel(
    Q, CHANNEL_KEY, BIAS, CHANNEL, CHANNEL_MASK,
    H, G, T, C, n_begin, n_end, scale, channel_stride,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """CHANNEL[z, n, c'] = ((q_n + z) . channel_key[|c - c'|]) scale log2(e); -inf where key channel c' is masked."""
    i_m, i_r, i_z = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    i_b = i_z // H
    n_first = n_begin + i_m * BLOCK_M
    r_first = i_r * BLOCK_C

    o_m, o_r = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_C)
    o_q, m_q = _tile(o_m, n_end - n_first, D, BLOCK_D)
    o_k, m_k = _tile(o_r, C - r_first, D, BLOCK_D)
    b_q = tl.load(Q + (i_z * T * C + n_first) * D + o_q, mask=m_q, other=0.0)
    p_table = CHANNEL_KEY + i_b * channel_stride + ((i_z % H) // G * C + r_first) * D
    b_k = tl.load(p_table + o_k, mask=m_k, other=0.0)
    o_d = tl.arange(0, BLOCK_D)
    b_v = tl.load(BIAS + (i_z % H) * D + o_d, mask=o_d < D, other=0.0)
    b_channel = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)  # [BLOCK_M, BLOCK_C], by distance
    b_channel = (b_channel + tl.sum(b_k.to(tl.float32) * b_v[None, :], 1)[None, :]) * (scale * LOG2E)

    # From distance to channel, without a gather: row n is written from its own channel c upwards and downwards.
    n = n_first + o_m
    o_up = (n % C)[:, None] + (r_first + o_r)[None, :]
    o_down = (n % C)[:, None] - (r_first + o_r)[None, :]
    m_up = (n < n_end)[:, None] & (o_up < C)
    m_down = (n < n_end)[:, None] & (o_down >= 0) & (r_first + o_r > 0)[None, :]
    b_up = b_channel
    b_down = b_channel
    if CHANNEL_MASK is not None:
        b_up = tl.where(tl.load(CHANNEL_MASK + i_b * C + o_up, mask=m_up, other=0) != 0, b_up, NEG_INF)
        b_down = tl.where(tl.load(CHANNEL_MASK + i_b * C + o_down, mask=m_down, other=0) != 0, b_down, NEG_INF)
    p_channel = CHANNEL + (i_z * (n_end - n_begin) + i_m * BLOCK_M) * C
    p_row = p_channel + o_m[:, None] * C
    tl.store(p_row + o_up, b_up, mask=m_up)
    tl.store(p_row + o_down, b_down, mask=m_down)


# -------------------------------------------------------------------------------------------------------------- forward


@_jit
def far_forward_channels_first_kernel(
    V, TIME, CHANNEL, LAST, OUT, LSE,
    H, G, T, C, window, n_begin, n_end, r_begin, n_distance, stride_t,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr,
    CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr, NEAR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out = sum_t' A[t'] (E . V_t') / Z over far keys: E is the tile that stays, the product runs over channels."""
    i_z, n_first, m_row, o_t, t_min, t_max, first_distance, o_time, o_channel = _query_block(
        T, C, n_begin, n_end, r_begin, n_distance, stride_t, CAUSAL, BLOCK_M
    )
    lo, hi, end = _far_steps(t_min, t_max, LAST, i_z // H, T, window, CAUSAL, FULL_LAST, NEAR)
    n_far = lo + end - hi

    p_time, p_channel = TIME + o_time, CHANNEL + o_channel
    p_v = V + i_z // G * T * C * D
    b_time_max = _time_max(p_time, o_t, m_row, n_far, lo, hi, first_distance, stride_t, BLOCK_M, BLOCK_T, CAUSAL)
    b_channel_max = _channel_max(p_channel, m_row, C, BLOCK_M, BLOCK_C)

    b_acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    b_sum_a = tl.zeros([BLOCK_M], dtype=tl.float32)
    b_sum_e = tl.zeros([BLOCK_M], dtype=tl.float32)
    for c in range(0, C, BLOCK_C):
        o_c = tl.arange(0, BLOCK_C)
        m_channel = m_row[:, None] & (c + o_c < C)[None, :]
        b_channel = tl.load(p_channel[:, None] + (c + o_c)[None, :], mask=m_channel, other=NEG_INF)
        b_e = tl.exp2(b_channel - b_channel_max[:, None]).to(V.dtype.element_ty)
        b_sum_e += tl.sum(b_e.to(tl.float32), 1)  # of the rounded weights: they sum to one exactly
        b_sum_a = tl.zeros([BLOCK_M], dtype=tl.float32)
        o_v, m_v = _tile(o_c, C - c, D, BLOCK_D)
        for i in range(0, n_far):
            t = _far_step(i, lo, hi, CAUSAL)
            m = m_row & (o_t >= t) if CAUSAL and not NEAR else m_row
            b_time = tl.load(p_time + _time_offset(o_t, t, first_distance, stride_t), mask=m, other=NEG_INF)
            b_a = tl.exp2(b_time - b_time_max)
            b_v = tl.load(p_v + (t * C + c).to(tl.int64) * D + o_v, mask=m_v, other=0.0)
            b_acc += b_a[:, None] * tl.dot(b_e, b_v, input_precision=PRECISION)
            b_sum_a += b_a
    _far_store(OUT, LSE, b_acc, b_sum_a * b_sum_e, b_time_max + b_channel_max, i_z * T * C + n_first, n_end - n_first,
               D, BLOCK_D, BLOCK_M, NEAR)  # fmt: skip


@_jit
def far_forward_time_first_kernel(
    V, TIME, CHANNEL, LAST, OUT, LSE,
    H, G, T, C, window, n_begin, n_end, r_begin, n_distance, stride_t,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_T: tl.constexpr,
    CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr, NEAR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """out = sum_c' E[c'] (A . V_:c') / Z over far keys: A is the tile that stays, the product runs over steps."""
    i_z, n_first, m_row, o_t, t_min, t_max, first_distance, o_time, o_channel = _query_block(
        T, C, n_begin, n_end, r_begin, n_distance, stride_t, CAUSAL, BLOCK_M
    )
    lo, hi, end = _far_steps(t_min, t_max, LAST, i_z // H, T, window, CAUSAL, FULL_LAST, NEAR)
    n_far = lo + end - hi

    p_time, p_channel = TIME + o_time, CHANNEL + o_channel
    p_v = V + i_z // G * T * C * D
    b_time_max = _time_max(p_time, o_t, m_row, n_far, lo, hi, first_distance, stride_t, BLOCK_M, BLOCK_T, CAUSAL)
    b_channel_max = _channel_max(p_channel, m_row, C, BLOCK_M, BLOCK_C)

    b_acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    b_sum_a = tl.zeros([BLOCK_M], dtype=tl.float32)
    b_sum_e = tl.zeros([BLOCK_M], dtype=tl.float32)
    o_d = tl.arange(0, BLOCK_D)
    for i in range(0, n_far, BLOCK_T):
        o_i = i + tl.arange(0, BLOCK_T)
        t = _far_step(o_i, lo, hi, CAUSAL)
        m = m_row[:, None] & (o_i < n_far)[None, :]
        if CAUSAL:
            m = m & (o_t[:, None] >= t[None, :])
        offset = _time_offset(o_t[:, None], t[None, :], first_distance, stride_t)
        b_time = tl.load(p_time[:, None] + offset, mask=m, other=NEG_INF)
        b_a = tl.exp2(b_time - b_time_max[:, None]).to(V.dtype.element_ty)
        b_sum_a += tl.sum(b_a.to(tl.float32), 1)
        b_sum_e = tl.zeros([BLOCK_M], dtype=tl.float32)
        o_v = t.to(tl.int64)[:, None] * C * D + o_d[None, :]
        m_v = (o_i < n_far)[:, None] & (o_d < D)[None, :]
        for c in range(0, C):
            b_e = tl.exp2(tl.load(p_channel + c, mask=m_row, other=NEG_INF) - b_channel_max)
            b_v = tl.load(p_v + c * D + o_v, mask=m_v, other=0.0)
            b_acc += b_e[:, None] * tl.dot(b_a, b_v, input_precision=PRECISION)
            b_sum_e += b_e
    _far_store(OUT, LSE, b_acc, b_sum_a * b_sum_e, b_time_max + b_channel_max, i_z * T * C + n_first, n_end - n_first,
               D, BLOCK_D, BLOCK_M, NEAR)  # fmt: skip


@_jit
def _far_steps(t_min, t_max, LAST, i_b, T, window, CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr, NEAR: tl.constexpr):
    """As `_content_steps`; without a content term (not NEAR) all steps are far."""
    if NEAR:
        t_last = tl.load(LAST + i_b)
        lo, hi, end = _content_steps(t_min, t_max, t_last, T, window, CAUSAL, FULL_LAST)
    else:
        end = t_max + 1 if CAUSAL else T
        lo = end
        hi = end
    return lo, hi, end


@_jit
def _time_max(
    p_time, o_t, m_row, n_far, lo, hi, first_distance, stride_t,
    BLOCK_M: tl.constexpr, BLOCK_T: tl.constexpr, CAUSAL: tl.constexpr,
):  # fmt: skip
    """Maximum of time_i over the far steps."""
    b_max = tl.full([BLOCK_M, BLOCK_T], NEG_INF, dtype=tl.float32)  # two-dimensional: see _channel_max
    for i in range(0, n_far, BLOCK_T):
        o_i = i + tl.arange(0, BLOCK_T)
        t = _far_step(o_i, lo, hi, CAUSAL)
        m = m_row[:, None] & (o_i < n_far)[None, :]
        if CAUSAL:
            m = m & (o_t[:, None] >= t[None, :])
        offset = _time_offset(o_t[:, None], t[None, :], first_distance, stride_t)
        b_max = tl.maximum(b_max, tl.load(p_time[:, None] + offset, mask=m, other=NEG_INF))
    return _finite(tl.max(b_max, 1))


@_jit
def _far_store(
    OUT, LSE, b_acc, b_sum, b_max, n, n_row,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, NEAR: tl.constexpr,
):  # fmt: skip
    """Normalised output and log-sum-exp: in base 2 and -inf if empty when the near launch follows, else final."""
    o_m = tl.arange(0, BLOCK_M)
    o_out, m_out = _tile(o_m, n_row, D, BLOCK_D)
    b_some = b_sum > 0
    b_lse = b_max + tl.log2(tl.where(b_some, b_sum, 1.0))
    b_out = b_acc / tl.where(b_some, b_sum, 1.0)[:, None]
    if NEAR:
        b_lse = tl.where(b_some, b_lse, NEG_INF)
        m_out = m_out & b_some[:, None]  # what is empty is not read either
    else:
        b_lse = tl.where(b_some, b_lse * LN2, float("inf"))
    tl.store(LSE + n + o_m, b_lse, mask=o_m < n_row)
    tl.store(OUT + n * D + o_out, b_out.to(OUT.dtype.element_ty), mask=m_out)


@_jit
def near_forward_kernel(
    Q, K, V, TIME, CHANNEL, LAST, OUT, LSE,
    H, G, T, C, window, n_begin, n_end, r_begin, n_distance, qk_scale, stride_t,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr, ALIGNED: tl.constexpr, MERGE: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Flash attention over near keys, one step at a time; then merge with what the far launch left in OUT and LSE.

    Q is q + u. ALIGNED: all rows of a block belong to one step, so no pair needs a mask.
    """
    i_z, n_first, m_row, o_t, t_min, t_max, first_distance, o_time, o_channel = _query_block(
        T, C, n_begin, n_end, r_begin, n_distance, stride_t, CAUSAL, BLOCK_M
    )
    o_m = tl.arange(0, BLOCK_M)
    t_last = tl.load(LAST + i_z // H)
    lo, hi, _ = _content_steps(t_min, t_max, t_last, T, window, CAUSAL, FULL_LAST)

    p_time, p_channel = TIME + o_time, CHANNEL + o_channel
    p_k = K + i_z // G * T * C * D
    p_v = V + i_z // G * T * C * D
    o_q, m_q = _tile(o_m, n_end - n_first, D, BLOCK_D)
    b_q = tl.load(Q + (i_z * T * C + n_first) * D + o_q, mask=m_q, other=0.0)

    b_acc = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    b_max = tl.full([BLOCK_M], NEG_INF, dtype=tl.float32)
    b_sum = tl.zeros([BLOCK_M], dtype=tl.float32)
    for c in range(0, C, BLOCK_C):
        o_c = tl.arange(0, BLOCK_C)
        m_channel = m_row[:, None] & (c + o_c < C)[None, :]
        b_channel = tl.load(p_channel[:, None] + (c + o_c)[None, :], mask=m_channel, other=NEG_INF)
        o_k, m_k = _tile(o_c, C - c, D, BLOCK_D)
        for t in range(lo, hi):
            b_k = tl.load(p_k + (t * C + c).to(tl.int64) * D + o_k, mask=m_k, other=0.0)
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * qk_scale
            if not ALIGNED:
                m_near = (o_t - t <= window) & (t - o_t <= window)
                if FULL_LAST:
                    m_near = m_near | (o_t == t_last)
                b_s = tl.where(m_near[:, None], b_s, 0.0)
            m = m_row & (o_t >= t) if CAUSAL and not ALIGNED else m_row
            b_time = tl.load(p_time + _time_offset(o_t, t, first_distance, stride_t), mask=m, other=NEG_INF)
            b_s += b_time[:, None] + b_channel
            b_new = tl.maximum(b_max, tl.max(b_s, 1))
            b_shift = _finite(b_new)
            b_p = tl.exp2(b_s - b_shift[:, None])
            b_decay = tl.exp2(b_max - b_shift)
            b_sum = b_sum * b_decay + tl.sum(b_p, 1)
            b_v = tl.load(p_v + (t * C + c).to(tl.int64) * D + o_k, mask=m_k, other=0.0)
            b_acc = tl.dot(b_p.to(b_v.dtype), b_v, b_acc * b_decay[:, None], input_precision=PRECISION)
            b_max = b_new

    p_lse = LSE + i_z * T * C + n_first + o_m
    p_out = OUT + (i_z * T * C + n_first) * D + o_q
    if MERGE:
        b_far_lse = tl.load(p_lse, mask=m_row, other=NEG_INF)
        b_far = tl.load(p_out, mask=m_q & (b_far_lse > NEG_INF)[:, None], other=0.0).to(tl.float32)
        b_shift = _finite(tl.maximum(b_max, b_far_lse))
        b_near_weight = tl.exp2(b_max - b_shift)
        b_far_weight = tl.exp2(b_far_lse - b_shift)
        b_acc = b_acc * b_near_weight[:, None] + b_far * b_far_weight[:, None]
        b_sum = b_sum * b_near_weight + b_far_weight
        b_max = b_shift
        tl.debug_barrier()  # several threads read one row of LSE: all have, before one of them overwrites it
    b_some = b_sum > 0
    b_norm = tl.where(b_some, b_sum, 1.0)
    tl.store(p_lse, tl.where(b_some, (b_max + tl.log2(b_norm)) * LN2, float("inf")), mask=m_row)
    tl.store(p_out, (b_acc / b_norm[:, None]).to(OUT.dtype.element_ty), mask=m_q)


# --------------------------------------------------------------------------------------- backward, owned by the queries


@_jit
def far_backward_query_kernel(
    V, TIME, CHANNEL, LAST, OUT, GRAD, LSE, DTIME, DCHANNEL, E, SHIFT, DELTA,
    H, G, T, C, window, n_begin, n_end, r_begin, n_distance, stride_t,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr, NEAR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dtime and dchannel of far keys. Leaves for the other launches: E, SHIFT with A = 2^(time + SHIFT), and DELTA."""
    i_z, n_first, m_row, o_t, t_min, t_max, first_distance, o_time, o_channel = _query_block(
        T, C, n_begin, n_end, r_begin, n_distance, stride_t, CAUSAL, BLOCK_M
    )
    o_m = tl.arange(0, BLOCK_M)
    lo, hi, end = _far_steps(t_min, t_max, LAST, i_z // H, T, window, CAUSAL, FULL_LAST, NEAR)

    p_v = V + i_z // G * T * C * D
    n = i_z * T * C + n_first
    o_grad, m_grad = _tile(o_m, n_end - n_first, D, BLOCK_D)
    b_grad = tl.load(GRAD + n * D + o_grad, mask=m_grad, other=0.0)
    b_out = tl.load(OUT + n * D + o_grad, mask=m_grad, other=0.0)
    b_delta = tl.sum(b_grad.to(tl.float32) * b_out.to(tl.float32), 1)
    b_channel_max = _channel_max(CHANNEL + o_channel, m_row, C, BLOCK_M, BLOCK_C)
    b_shift = b_channel_max - tl.load(LSE + n + o_m, mask=m_row, other=float("inf")) * LOG2E
    tl.store(DELTA + n + o_m, b_delta, mask=m_row)
    tl.store(SHIFT + n + o_m, b_shift, mask=m_row)

    for c in range(0, C, BLOCK_C):
        o_c = tl.arange(0, BLOCK_C)
        m_channel = m_row[:, None] & (c + o_c < C)[None, :]
        o_tile = o_channel[:, None] + (c + o_c)[None, :]
        b_channel = tl.load(CHANNEL + o_tile, mask=m_channel, other=NEG_INF)
        b_e = tl.exp2(b_channel - b_channel_max[:, None]).to(E.dtype.element_ty)
        tl.store(E + o_tile, b_e, mask=m_channel)
        b_e = b_e.to(tl.float32)
        b_sum_e = tl.sum(b_e, 1)
        b_sum_a = tl.zeros([BLOCK_M], dtype=tl.float32)
        b_ag = tl.zeros([BLOCK_M, BLOCK_C], dtype=tl.float32)
        o_v, m_v = _tile(o_c, C - c, D, BLOCK_D)
        if c > 0:
            tl.debug_barrier()  # dtime is read back below, perhaps by another thread than the one that stored it
        for i in range(0, lo + end - hi):
            t = _far_step(i, lo, hi, CAUSAL)
            m = m_row & (o_t >= t) if CAUSAL and not NEAR else m_row
            p_time = o_time + _time_offset(o_t, t, first_distance, stride_t)
            b_a = tl.exp2(tl.load(TIME + p_time, mask=m, other=NEG_INF) + b_shift)
            b_v = tl.load(p_v + (t * C + c).to(tl.int64) * D + o_v, mask=m_v, other=0.0)
            b_g = tl.dot(b_grad, tl.trans(b_v), input_precision=PRECISION)
            b_dtime = b_a * (tl.sum(b_e * b_g, 1) - b_delta * b_sum_e)
            if c > 0:
                b_dtime += tl.load(DTIME + p_time, mask=m, other=0.0)
            tl.store(DTIME + p_time, b_dtime, mask=m)
            b_ag += b_a[:, None] * b_g
            b_sum_a += b_a
        tl.store(DCHANNEL + o_tile, b_e * (b_ag - (b_delta * b_sum_a)[:, None]), mask=m_channel)


@_jit
def near_backward_query_kernel(
    Q, K, V, TIME, CHANNEL, LAST, GRAD, LSE, DELTA, DTIME, DCHANNEL, DQ_CONTENT,
    H, G, T, C, window, n_begin, n_end, r_begin, n_distance, qk_scale, stride_t,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr, ALIGNED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dtime of near keys, their share of dchannel (added to that of far keys), and dq of the content, dS k."""
    i_z, n_first, m_row, o_t, t_min, t_max, first_distance, o_time, o_channel = _query_block(
        T, C, n_begin, n_end, r_begin, n_distance, stride_t, CAUSAL, BLOCK_M
    )
    o_m = tl.arange(0, BLOCK_M)
    t_last = tl.load(LAST + i_z // H)
    lo, hi, _ = _content_steps(t_min, t_max, t_last, T, window, CAUSAL, FULL_LAST)

    p_k = K + i_z // G * T * C * D
    p_v = V + i_z // G * T * C * D
    n = i_z * T * C + n_first
    o_q, m_q = _tile(o_m, n_end - n_first, D, BLOCK_D)
    b_q = tl.load(Q + n * D + o_q, mask=m_q, other=0.0)
    b_grad = tl.load(GRAD + n * D + o_q, mask=m_q, other=0.0)
    b_lse = tl.load(LSE + n + o_m, mask=m_row, other=float("inf")) * LOG2E
    b_delta = tl.load(DELTA + n + o_m, mask=m_row, other=0.0)

    b_dq = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    for c in range(0, C, BLOCK_C):
        o_c = tl.arange(0, BLOCK_C)
        m_channel = m_row[:, None] & (c + o_c < C)[None, :]
        o_tile = o_channel[:, None] + (c + o_c)[None, :]
        b_channel = tl.load(CHANNEL + o_tile, mask=m_channel, other=NEG_INF)
        b_dchannel = tl.load(DCHANNEL + o_tile, mask=m_channel, other=0.0)
        o_k, m_k = _tile(o_c, C - c, D, BLOCK_D)
        if c > 0:
            tl.debug_barrier()  # as in the far kernel
        for t in range(lo, hi):
            b_k = tl.load(p_k + (t * C + c).to(tl.int64) * D + o_k, mask=m_k, other=0.0)
            b_v = tl.load(p_v + (t * C + c).to(tl.int64) * D + o_k, mask=m_k, other=0.0)
            m = m_row & (o_t >= t) if CAUSAL and not ALIGNED else m_row
            p_time = o_time + _time_offset(o_t, t, first_distance, stride_t)
            b_time = tl.load(TIME + p_time, mask=m, other=NEG_INF)
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * qk_scale
            if not ALIGNED:
                m_near = (o_t - t <= window) & (t - o_t <= window)
                if FULL_LAST:
                    m_near = m_near | (o_t == t_last)
                b_s = tl.where(m_near[:, None], b_s, 0.0)
            b_p = tl.exp2(b_s + (b_time - b_lse)[:, None] + b_channel)
            b_ds = b_p * (tl.dot(b_grad, tl.trans(b_v), input_precision=PRECISION) - b_delta[:, None])
            b_dtime = tl.sum(b_ds, 1)
            if c > 0:
                b_dtime += tl.load(DTIME + p_time, mask=m, other=0.0)
            tl.store(DTIME + p_time, b_dtime, mask=m)
            b_dchannel += b_ds
            if not ALIGNED:
                b_ds = tl.where(m_near[:, None], b_ds, 0.0)
            b_dq = tl.dot(b_ds.to(b_k.dtype), b_k, b_dq, input_precision=PRECISION)
        tl.store(DCHANNEL + o_tile, b_dchannel, mask=m_channel)
    tl.store(DQ_CONTENT + (i_z * (n_end - n_begin) + n_first - n_begin) * D + o_q, b_dq, mask=m_q)


# ------------------------------------------------------------------------------------------ backward, owned by the keys


@_jit
def near_backward_key_kernel(
    Q, K, V, TIME, CHANNEL, LAST, GRAD, LSE, DELTA, DK, DV,
    H, G, T, C, window, n_begin, n_end, r_begin, n_distance, qk_scale, scale, stride_t,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dk and dv of one key step's block of channels, from the chunk's queries that see it with content."""
    i_t, i_c, i_zk = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)  # small t has most queries
    t_last = tl.load(LAST + i_zk * G // H)
    lo, hi, last = _near_rows(i_t, t_last, T, window, CAUSAL, FULL_LAST)
    # Queries [a, b), and those of the last step [a_last, b_last), within the chunk; all heads of the group in one loop
    a, b = tl.maximum(lo * C, n_begin), tl.minimum(hi * C, n_end)
    a_last, b_last = tl.maximum(last * C, n_begin), tl.minimum(last * C + C, n_end)
    n_window = tl.maximum((b - a + BLOCK_M - 1) // BLOCK_M, 0)
    n_block = n_window
    if FULL_LAST:
        n_block += tl.maximum((b_last - a_last + BLOCK_M - 1) // BLOCK_M, 0)
    if n_block == 0:
        return  # most keys are far from all queries of a chunk

    c = i_c * BLOCK_C
    o_c = tl.arange(0, BLOCK_C)
    o_m = tl.arange(0, BLOCK_M)
    first_distance = r_begin if CAUSAL else r_begin - T + 1
    key = (i_zk * T * C + i_t * C + c) * D
    o_k, m_k = _tile(o_c, C - c, D, BLOCK_D)
    b_k = tl.load(K + key + o_k, mask=m_k, other=0.0)
    b_v = tl.load(V + key + o_k, mask=m_k, other=0.0)
    b_dk = tl.zeros([BLOCK_C, BLOCK_D], dtype=tl.float32)
    b_dv = tl.zeros([BLOCK_C, BLOCK_D], dtype=tl.float32)
    for i in range(0, G * n_block):
        i_z = i_zk * G + i // n_block
        i_m = i % n_block
        n_first = a + i_m * BLOCK_M
        n_stop = b
        if FULL_LAST:
            n_first = tl.where(i_m < n_window, n_first, a_last + (i_m - n_window) * BLOCK_M)
            n_stop = tl.where(i_m < n_window, b, b_last)
        m_row = n_first + o_m < n_stop
        o_t = (n_first + o_m) // C
        n = i_z * T * C + n_first
        o_q, m_q = _tile(o_m, n_stop - n_first, D, BLOCK_D)
        p_time = TIME + i_z * n_distance * stride_t + n_first - n_begin + o_m
        p_channel = CHANNEL + (i_z * (n_end - n_begin) + n_first - n_begin) * C + c
        b_q = tl.load(Q + n * D + o_q, mask=m_q, other=0.0)
        b_grad = tl.load(GRAD + n * D + o_q, mask=m_q, other=0.0)
        b_lse = tl.load(LSE + n + o_m, mask=m_row, other=float("inf")) * LOG2E
        b_delta = tl.load(DELTA + n + o_m, mask=m_row, other=0.0)
        b_time = tl.load(p_time + _time_offset(o_t, i_t, first_distance, stride_t), mask=m_row, other=NEG_INF)
        m = (o_c < C - c)[:, None] & m_row[None, :]
        b_channel = tl.load(p_channel + o_m[None, :] * C + o_c[:, None], mask=m, other=NEG_INF)
        # transposed, [BLOCK_C, BLOCK_M], so that P and dS are left operands as they come
        b_s = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION) * qk_scale
        b_p = tl.exp2(b_s + (b_time - b_lse)[None, :] + b_channel)
        b_dv = tl.dot(b_p.to(b_grad.dtype), b_grad, b_dv, input_precision=PRECISION)
        b_ds = b_p * (tl.dot(b_v, tl.trans(b_grad), input_precision=PRECISION) - b_delta[None, :])
        b_dk = tl.dot(b_ds.to(b_q.dtype), b_q, b_dk, input_precision=PRECISION)
    b_dk = b_dk * scale + tl.load(DK + key + o_k, mask=m_k, other=0.0)  # of earlier chunks
    b_dv += tl.load(DV + key + o_k, mask=m_k, other=0.0)
    tl.store(DK + key + o_k, b_dk, mask=m_k)
    tl.store(DV + key + o_k, b_dv, mask=m_k)


@_jit
def far_backward_key_kernel(
    TIME, LAST, GRAD, E, SHIFT, DV,
    H, G, T, C, window, n_begin, n_end, r_begin, n_distance, stride_t,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    CAUSAL: tl.constexpr, FULL_LAST: tl.constexpr, NEAR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dV_t' = sum_i E_i (A_i[t'] grad_i) of one key step's block of channels, over the chunk's queries far from it."""
    i_t, i_c, i_zk = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    if NEAR:
        t_last = tl.load(LAST + i_zk * G // H)
        lo, hi, _ = _near_rows(i_t, t_last, T, window, CAUSAL, FULL_LAST)
        after = tl.maximum(t_last, hi) if FULL_LAST else T  # the last step sees everything near; later ones are masked
    else:
        lo, hi, after = i_t, i_t, T
    # Queries [a, b) after the window, and before it, [0, b_early)
    a, b = tl.maximum(hi * C, n_begin), tl.minimum(after * C, n_end)
    n_late = tl.maximum((b - a + BLOCK_M - 1) // BLOCK_M, 0)
    n_block = n_late
    b_early = tl.minimum(lo * C, n_end)
    if not CAUSAL:
        n_block += tl.maximum((b_early - n_begin + BLOCK_M - 1) // BLOCK_M, 0)
    if n_block == 0:
        return

    c = i_c * BLOCK_C
    o_c = tl.arange(0, BLOCK_C)
    o_m = tl.arange(0, BLOCK_M)
    first_distance = r_begin if CAUSAL else r_begin - T + 1
    b_dv = tl.zeros([BLOCK_C, BLOCK_D], dtype=tl.float32)
    for i in range(0, G * n_block):
        i_z = i_zk * G + i // n_block
        i_m = i % n_block
        n_first = a + i_m * BLOCK_M
        n_stop = b
        if not CAUSAL:
            n_first = tl.where(i_m < n_late, n_first, n_begin + (i_m - n_late) * BLOCK_M)
            n_stop = tl.where(i_m < n_late, b, b_early)
        m_row = n_first + o_m < n_stop
        o_t = (n_first + o_m) // C
        n = i_z * T * C + n_first
        o_q, m_q = _tile(o_m, n_stop - n_first, D, BLOCK_D)
        p_time = TIME + i_z * n_distance * stride_t + n_first - n_begin + o_m
        p_e = E + (i_z * (n_end - n_begin) + n_first - n_begin) * C + c
        b_grad = tl.load(GRAD + n * D + o_q, mask=m_q, other=0.0)
        b_shift = tl.load(SHIFT + n + o_m, mask=m_row, other=NEG_INF)
        b_time = tl.load(p_time + _time_offset(o_t, i_t, first_distance, stride_t), mask=m_row, other=NEG_INF)
        m = m_row[:, None] & (o_c < C - c)[None, :]
        b_e = tl.load(p_e + o_m[:, None] * C + o_c[None, :], mask=m, other=0.0)
        b_grad = (tl.exp2(b_time + b_shift)[:, None] * b_grad.to(tl.float32)).to(b_grad.dtype)
        b_dv = tl.dot(tl.trans(b_e), b_grad, b_dv, input_precision=PRECISION)
    o_v, m_v = _tile(o_c, C - c, D, BLOCK_D)
    p_dv = DV + (i_zk * T * C + i_t * C + c) * D + o_v
    tl.store(p_dv, b_dv + tl.load(p_dv, mask=m_v, other=0.0), mask=m_v)


# ------------------------------------------------------------------------ backward, from the biases to query and tables


@_jit
def _load_dtime(DTIME, n, r, o_m, o_r, n_end, n_table, T, C, stride_t, CAUSAL: tl.constexpr):
    """dtime of queries n + o_m at distances r + o_r, [BLOCK_C, BLOCK_M]; DTIME points at query n, distance r."""
    o_t = ((n + o_m) // C)[None, :] - (r + o_r)[:, None]  # the key's step: pairs that do not exist were never written
    if not CAUSAL:
        o_t += T - 1
    m = (n + o_m < n_end)[None, :] & (r + o_r < n_table)[:, None] & (o_t >= 0) & (o_t < T)
    return tl.load(DTIME + o_r[:, None] * stride_t + o_m[None, :], mask=m, other=0.0)


@_jit
def _load_dchannel(DCHANNEL, n, r, o_m, o_r, n_end, C):
    """Gradient by channel distance, dchannel[c + r] + dchannel[c - r], [BLOCK_M, BLOCK_C]; DCHANNEL points at n."""
    o_up = ((n + o_m) % C)[:, None] + (r + o_r)[None, :]
    o_down = ((n + o_m) % C)[:, None] - (r + o_r)[None, :]
    m_row = (n + o_m < n_end)[:, None]
    p_row = DCHANNEL + o_m[:, None] * C
    b_up = tl.load(p_row + o_up, mask=m_row & (o_up < C), other=0.0)
    b_down = tl.load(p_row + o_down, mask=m_row & (o_down >= 0) & (r + o_r > 0)[None, :], other=0.0)
    return b_up + b_down


@_jit
def bias_backward_query_kernel(
    DQ_CONTENT, TIME_KEY, CHANNEL_KEY, DTIME, DCHANNEL, DQ, DBIAS,
    H, G, T, C, n_begin, n_end, r_begin, n_distance, scale, time_stride, channel_stride, stride_t,
    CAUSAL: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    NEAR: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq = scale (content + dtime . time_key + dchannel . channel_key); DBIAS: the sum of each part over the block."""
    i_m, i_z = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i_b, i_hk = i_z // H, (i_z % H) // G
    n_first = n_begin + i_m * BLOCK_M
    o_m, o_r, o_d = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_D)
    o_q, m_q = _tile(o_m, n_end - n_first, D, BLOCK_D)
    p_dbias = DBIAS + (i_z * tl.num_programs(0) + i_m) * (3 * D) + o_d

    b_dq = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    if NEAR:
        b_dq = tl.load(DQ_CONTENT + (i_z * (n_end - n_begin) + i_m * BLOCK_M) * D + o_q, mask=m_q, other=0.0)
    tl.store(p_dbias, tl.sum(b_dq, 0) * scale, mask=o_d < D)

    b_part = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    n_table = T if CAUSAL else 2 * T - 1
    p_table = TIME_KEY + i_b * time_stride + i_hk * n_table * D
    p_dtime = DTIME + i_z * n_distance * stride_t + i_m * BLOCK_M
    n_used = r_begin + n_distance
    if CAUSAL:
        n_used = tl.minimum(n_used, (n_first + BLOCK_M - 1) // C + 1)
    for r in range(r_begin, n_used, BLOCK_C):
        p = p_dtime + (r - r_begin) * stride_t
        b_dtime = _load_dtime(p, n_first, r, o_m, o_r, n_end, n_used, T, C, stride_t, CAUSAL)
        o_k, m_k = _tile(o_r, n_used - r, D, BLOCK_D)
        b_k = tl.load(p_table + r * D + o_k, mask=m_k, other=0.0).to(tl.float32)
        b_part = tl.dot(tl.trans(b_dtime), b_k, b_part, input_precision=PRECISION)
    tl.store(p_dbias + D, tl.sum(b_part, 0) * scale, mask=o_d < D)
    b_dq += b_part

    b_part = tl.zeros([BLOCK_M, BLOCK_D], dtype=tl.float32)
    p_table = CHANNEL_KEY + i_b * channel_stride + i_hk * C * D
    p_dchannel = DCHANNEL + (i_z * (n_end - n_begin) + i_m * BLOCK_M) * C
    for r in range(0, C, BLOCK_C):
        b_dchannel = _load_dchannel(p_dchannel, n_first, r, o_m, o_r, n_end, C)
        o_k, m_k = _tile(o_r, C - r, D, BLOCK_D)
        b_k = tl.load(p_table + r * D + o_k, mask=m_k, other=0.0).to(tl.float32)
        b_part = tl.dot(b_dchannel, b_k, b_part, input_precision=PRECISION)
    tl.store(p_dbias + 2 * D, tl.sum(b_part, 0) * scale, mask=o_d < D)
    b_dq = (b_dq + b_part) * scale
    tl.store(DQ + (i_z * T * C + n_first) * D + o_q, b_dq.to(DQ.dtype.element_ty), mask=m_q)


@_jit
def bias_backward_time_key_kernel(
    Q, BIAS, DTIME, DTABLE,
    H, G, T, C, n_begin, n_end, r_begin, n_distance, scale, stride_t,
    CAUSAL: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """DTABLE[split, zk, r] = scale sum_n dtime_n[r] (q_n + v), over ROWS queries, all heads of the group."""
    i_r, i_s, i_zk = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    n_split = n_begin + i_s * ROWS
    n_stop = tl.minimum(n_split + ROWS, n_end)
    r_first = r_begin + i_r * BLOCK_C
    n_block = tl.cdiv(n_stop - n_split, BLOCK_M)
    o_m, o_r, o_d = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_D)
    b_acc = tl.zeros([BLOCK_C, BLOCK_D], dtype=tl.float32)
    for i in range(0, G * n_block):
        i_z = i_zk * G + i // n_block
        n_first = n_split + i % n_block * BLOCK_M
        o_q, m_q = _tile(o_m, n_stop - n_first, D, BLOCK_D)
        b_q = tl.load(Q + (i_z * T * C + n_first) * D + o_q, mask=m_q, other=0.0).to(tl.float32)
        b_q += tl.load(BIAS + (i_z % H) * D + o_d, mask=o_d < D, other=0.0)[None, :]
        p = DTIME + (i_z * n_distance + i_r * BLOCK_C) * stride_t + n_first - n_begin
        b_dtime = _load_dtime(p, n_first, r_first, o_m, o_r, n_stop, r_begin + n_distance, T, C, stride_t, CAUSAL)
        b_acc = tl.dot(b_dtime, b_q, b_acc, input_precision=PRECISION)
    o_k, m_k = _tile(o_r, n_distance - i_r * BLOCK_C, D, BLOCK_D)
    p_table = DTABLE + ((i_s * tl.num_programs(2) + i_zk) * n_distance + i_r * BLOCK_C) * D
    tl.store(p_table + o_k, b_acc * scale, mask=m_k)


@_jit
def bias_backward_channel_key_kernel(
    Q, BIAS, DCHANNEL, DTABLE,
    H, G, T, C, n_begin, n_end, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr,
    ROWS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """DTABLE[split, zk, r] = scale sum_n (dchannel_n[c + r] + dchannel_n[c - r]) (q_n + z), as for time_key."""
    i_r, i_s, i_zk = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    n_split = n_begin + i_s * ROWS
    n_stop = tl.minimum(n_split + ROWS, n_end)
    n_block = tl.cdiv(n_stop - n_split, BLOCK_M)
    o_m, o_r, o_d = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_D)
    b_acc = tl.zeros([BLOCK_C, BLOCK_D], dtype=tl.float32)
    for i in range(0, G * n_block):
        i_z = i_zk * G + i // n_block
        n_first = n_split + i % n_block * BLOCK_M
        o_q, m_q = _tile(o_m, n_stop - n_first, D, BLOCK_D)
        b_q = tl.load(Q + (i_z * T * C + n_first) * D + o_q, mask=m_q, other=0.0).to(tl.float32)
        b_q += tl.load(BIAS + (i_z % H) * D + o_d, mask=o_d < D, other=0.0)[None, :]
        p = DCHANNEL + (i_z * (n_end - n_begin) + n_first - n_begin) * C
        b_dchannel = _load_dchannel(p, n_first, i_r * BLOCK_C, o_m, o_r, n_stop, C)
        b_acc = tl.dot(tl.trans(b_dchannel), b_q, b_acc, input_precision=PRECISION)
    o_k, m_k = _tile(o_r, C - i_r * BLOCK_C, D, BLOCK_D)
    p_table = DTABLE + ((i_s * tl.num_programs(2) + i_zk) * C + i_r * BLOCK_C) * D
    tl.store(p_table + o_k, b_acc * scale, mask=m_k)


# ------------------------------------------------------------------------------------------------------ launch settings


class Tile(NamedTuple):
    """One launch's tile: `rows` queries times `keys` keys (channels, steps or distances), warps, pipeline stages."""

    rows: int
    keys: int
    warps: int
    stages: int


# Stage -> largest padded head size -> tile. Chosen with `tests/ops/mvpa_compiled.py --all` (Triton 3.7.1, no GPU): what
# compiles for 8.0, 9.0 and 10.0 without spilling in the inner loops, fits the 99 KiB of 8.6, 8.9 and 12.0 up to head
# size 128, and gives each warp group of 9.0 its own 64 rows of a product. Never timed: a GPU may know better.
# The far and near launch of a pass must have the same `rows`: both divide the key steps by blocks of queries.
TILES_16 = {
    "bias": {64: Tile(64, 64, 4, 2), 128: Tile(64, 64, 4, 2), 256: Tile(64, 32, 4, 2)},
    "far_forward_channels_first": {64: Tile(128, 128, 8, 3), 128: Tile(128, 128, 8, 3), 256: Tile(64, 64, 8, 2)},
    "far_forward_time_first": {64: Tile(128, 64, 8, 3), 128: Tile(128, 128, 8, 3), 256: Tile(64, 64, 8, 2)},
    "near_forward": {64: Tile(128, 64, 8, 2), 128: Tile(128, 64, 8, 2), 256: Tile(64, 64, 8, 2)},
    "far_backward_query": {64: Tile(128, 64, 8, 2), 128: Tile(128, 64, 8, 2), 256: Tile(64, 32, 8, 2)},
    "near_backward_query": {64: Tile(128, 32, 8, 2), 128: Tile(128, 32, 8, 2), 256: Tile(64, 16, 4, 1)},
    "near_backward_key": {64: Tile(32, 128, 8, 2), 128: Tile(32, 128, 8, 2), 256: Tile(32, 64, 8, 1)},
    "far_backward_key": {64: Tile(64, 128, 8, 3), 128: Tile(64, 128, 8, 3), 256: Tile(64, 64, 8, 2)},
    "bias_backward": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 8, 2), 256: Tile(32, 32, 8, 1)},
}
TILES_32 = {  # each product is three of tf32
    "bias": {64: Tile(64, 32, 4, 2), 128: Tile(32, 32, 8, 1), 256: Tile(16, 16, 4, 1)},
    "far_forward_channels_first": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 8, 2), 256: Tile(32, 32, 8, 1)},
    "far_forward_time_first": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 8, 2), 256: Tile(32, 32, 8, 1)},
    "near_forward": {64: Tile(64, 32, 4, 2), 128: Tile(64, 32, 4, 1), 256: Tile(32, 16, 8, 1)},
    "far_backward_query": {64: Tile(64, 32, 4, 2), 128: Tile(32, 16, 8, 1), 256: Tile(16, 16, 4, 1)},
    "near_backward_query": {64: Tile(64, 16, 4, 1), 128: Tile(32, 32, 8, 1), 256: Tile(16, 16, 4, 1)},
    "near_backward_key": {64: Tile(16, 32, 4, 1), 128: Tile(16, 32, 8, 1), 256: Tile(16, 16, 8, 1)},
    "far_backward_key": {64: Tile(32, 64, 4, 2), 128: Tile(32, 64, 8, 1), 256: Tile(16, 32, 8, 1)},
    "bias_backward": {64: Tile(32, 32, 4, 2), 128: Tile(32, 32, 8, 1), 256: Tile(16, 32, 8, 1)},
}
# (architecture, bytes of a number, stage, largest padded head size)
TILES_ELSEWHERE = {
    (90, 2, "near_backward_query", 64): Tile(128, 64, 8, 2),
    (90, 2, "near_backward_query", 128): Tile(128, 64, 8, 2),
    (100, 4, "near_backward_query", 64): Tile(64, 32, 8, 2),
}


def tile(stage: str, dtype: torch.dtype, head_size: int, arch: int) -> Tile:
    """The launch settings of a stage on compute capability `arch` (90 for 9.0)."""
    sizes = (TILES_32 if dtype == torch.float32 else TILES_16)[stage]
    size = next(size for size in sizes if head_size <= size)
    return TILES_ELSEWHERE.get((arch, dtype.itemsize, stage, size), sizes[size])


def time_first(far_steps: int, channels: int) -> bool:
    """Sum far keys over time first? The summed axis is the matrix product's inner size: the longer one is better."""
    return far_steps > channels


def unsupported(query_dtype: torch.dtype, head_size: int, device: torch.device) -> str | None:
    """Why these kernels cannot do it, or None if they can."""
    interpreted = not isinstance(near_forward_kernel, triton.JITFunction)
    if not interpreted and device.type != "cuda":
        return f"the Triton kernels need a CUDA device, the tensors are on {device.type}"
    if query_dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"the Triton kernels compute in float32, float16 or bfloat16, not in {query_dtype}"
    if not 16 <= head_size <= 256:
        return f"the Triton kernels take head sizes 16 to 256, not {head_size}"
    if interpreted:
        if query_dtype == torch.bfloat16:
            return "Triton's interpreter multiplies bfloat16 wrongly (triton issue 11584)"
        return None
    if torch.version.hip is not None:
        return "the Triton kernels were never tried on ROCm"
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        return f"the Triton kernels need compute capability 8.0, this device has {capability[0]}.{capability[1]}"
    return None


# ------------------------------------------------------------------------------------------------------------ launchers


class _Problem:
    """One call's inputs as the kernels want them (contiguous, masked tokens zero), its sizes and its flags."""

    def __init__(self, inputs: Inputs, options: Options):
        query, value = inputs.query, inputs.value
        self.batch, self.heads, self.steps, self.channels, self.head_size = query.shape
        self.key_heads = value.shape[1]
        self.tokens = self.steps * self.channels
        self.distances = self.steps if options.causal else 2 * self.steps - 1
        self.causal, self.full_last, self.scale = options.causal, options.full_last, options.scale
        self.window = min(options.window, self.steps)
        self.near = inputs.key is not None
        self.dtype = query.dtype
        major, minor = torch.cuda.get_device_capability(query.device) if query.is_cuda else (0, 0)
        self.arch = 10 * major + minor

        self.padding = padding(inputs.channel_mask, inputs.time_mask)
        self.query, self.value = self.clean(query), self.clean(value)
        self.key = None if inputs.key is None else self.clean(inputs.key)
        tables = (inputs.time_key, inputs.channel_key)
        self.time_key, self.channel_key = (table.to(self.dtype).contiguous() for table in tables)
        biases = (inputs.content_bias, inputs.time_bias, inputs.channel_bias)
        self.content_bias, self.time_bias, self.channel_bias = (bias.float().contiguous() for bias in biases)
        masks = (inputs.channel_mask, inputs.time_mask)
        self.channel_mask, self.time_mask = (x if x is None else x.contiguous().view(torch.uint8) for x in masks)
        if inputs.time_mask is None:
            last = torch.full([self.batch], self.steps - 1, device=query.device)
        else:
            last = last_steps(inputs.time_mask)
        self.last = last.to(torch.int32)

        # q + u, added in float32 and rounded once; what float16 cannot hold becomes its largest number
        self.content_query = self.query
        if self.near:
            self.content_query = torch.empty_like(self.query)
            torch.add(self.query, self.content_bias[:, None, None, :], out=self.content_query)
            if self.dtype == torch.float16:
                largest = torch.finfo(self.dtype).max
                self.content_query.clamp_(-largest, largest)

    def clean(self, x: Tensor) -> Tensor:
        """`x` [B, heads, T, C, d] in the query's type, contiguous, zero where a token is masked."""
        if self.padding is not None:
            x = x.masked_fill(self.padding[..., None], 0)
        return x.to(self.dtype).contiguous()

    def tile(self, stage: str) -> Tile:
        """The stage's tile, no wider than it needs to be: `keys` are channels or, time first, steps."""
        chosen = tile(stage, self.dtype, self.head_size, self.arch)
        longest = self.channels
        if stage == "far_forward_time_first":
            longest = self.steps
        elif stage in ("bias", "bias_backward"):
            longest = max(self.distances, self.channels)
        return chosen._replace(keys=min(chosen.keys, max(16, triton.next_power_of_2(longest))))

    def chunks(self, bytes_per_query: int) -> Iterator["_Chunk"]:
        """Chunks of queries whose scratch, `bytes_per_query` for one head, stays within SCRATCH_BYTES.

        Whole samples while they fit, else whole steps of one sample, else tokens (64 of all heads are the least). One
        head's scratch has fewer than 2^31 elements, so that 32 bits hold offsets in it; everything else takes 64.
        """
        tokens = SCRATCH_BYTES // (bytes_per_query * self.heads)
        if tokens >= self.tokens:
            samples, tokens = tokens // self.tokens, self.tokens
        elif tokens >= self.channels:
            samples, tokens = 1, tokens // self.channels * self.channels
        else:
            samples, tokens = 1, max(tokens // 64 * 64, 64)
        samples = max(1, min(samples, 65535 // self.heads))  # CUDA's limit for the second and third axis of a grid
        for b_begin in range(0, self.batch, samples):
            for n_begin in range(0, self.tokens, tokens):
                b_end, n_end = min(b_begin + samples, self.batch), min(n_begin + tokens, self.tokens)
                yield _Chunk(self, b_begin, b_end, n_begin, n_end)


class _Chunk:
    """Queries n_begin..n_end of samples b_begin..b_end, with their biases in scratch."""

    def __init__(self, problem: _Problem, b_begin: int, b_end: int, n_begin: int, n_end: int):
        p = self.problem = problem
        self.samples, self.batch = slice(b_begin, b_end), b_end - b_begin
        self.n_begin, self.queries = n_begin, n_end - n_begin
        first_step, last_step = n_begin // p.channels, (n_end - 1) // p.channels
        # Distances of these queries' keys, as rows of time_key
        self.r_begin = 0 if p.causal else first_step
        self.distances = last_step + 1 if p.causal else last_step - first_step + p.steps

        stride_t = (self.queries + 15) // 16 * 16  # a multiple of 16, for aligned loads
        self.time = self.scratch(self.distances, stride_t)
        self.channel = self.scratch(self.queries, p.channels)
        of_samples = dict(
            V=p.value, K=p.key, LAST=p.last, CHANNEL_MASK=p.channel_mask, TIME_MASK=p.time_mask,
            TIME_KEY=p.time_key, CHANNEL_KEY=p.channel_key,
        )  # fmt: skip
        self.arguments = dict(
            H=p.heads, G=p.heads // p.key_heads, T=p.steps, C=p.channels, D=p.head_size,
            BLOCK_D=max(16, triton.next_power_of_2(p.head_size)),
            n_begin=n_begin, n_end=n_end, r_begin=self.r_begin, n_distance=self.distances,
            window=p.window, CAUSAL=p.causal, FULL_LAST=p.full_last, NEAR=p.near,
            scale=p.scale, qk_scale=p.scale * LOG2E.value,
            TIME=self.time, CHANNEL=self.channel, stride_t=stride_t,
            time_stride=p.time_key.stride(0) if p.time_key.shape[0] > 1 else 0,
            channel_stride=p.channel_key.stride(0) if p.channel_key.shape[0] > 1 else 0,
            **{name: self.slice(x) for name, x in of_samples.items()},
        )  # fmt: skip
        self.launch("bias", time_bias_kernel, self.time_table_grid, Q=self.slice(p.query), BIAS=p.time_bias)
        self.launch("bias", channel_bias_kernel, self.channel_table_grid, Q=self.slice(p.query), BIAS=p.channel_bias)

    def slice(self, x: Tensor | None) -> Any:
        """The chunk's samples of `x`, or all there is if the samples share it."""
        return x if x is None or x.shape[0] == 1 else x[self.samples]

    def scratch(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uninitialised, [B H, *shape] of this chunk."""
        return self.problem.query.new_empty([self.batch * self.problem.heads, *shape], dtype=dtype)

    def launch(self, stage: str, kernel: Any, grid: Callable[[Tile], tuple[int, ...]], **arguments: Any) -> None:
        """Start `kernel` with the tile of `stage`, and what it asks for of `arguments` and the chunk's own."""
        p = self.problem
        tile = p.tile(stage)
        known = {
            **self.arguments,
            "BLOCK_M": tile.rows,
            "BLOCK_C": tile.keys,
            "BLOCK_T": tile.keys,
            "ALIGNED": p.channels % tile.rows == 0 and self.n_begin % tile.rows == 0,
            "PRECISION": "tf32x3" if p.dtype == torch.float32 else "tf32",
            **arguments,
        }
        asked = {name: known[name] for name in kernel.arg_names}
        kernel[grid(tile)](**asked, num_warps=tile.warps, num_stages=tile.stages)

    def query_grid(self, tile: Tile) -> tuple[int, ...]:
        """One program per block of queries and head."""
        return (triton.cdiv(self.queries, tile.rows), self.batch * self.problem.heads)

    def key_grid(self, tile: Tile) -> tuple[int, ...]:
        """One program per key step, block of channels and key head."""
        p = self.problem
        return (p.steps, triton.cdiv(p.channels, tile.keys), self.batch * p.key_heads)

    def time_table_grid(self, tile: Tile) -> tuple[int, ...]:
        """One program per block of queries, block of distances and head."""
        return (
            triton.cdiv(self.queries, tile.rows),
            triton.cdiv(self.distances, tile.keys),
            self.batch * self.problem.heads,
        )

    def channel_table_grid(self, tile: Tile) -> tuple[int, ...]:
        """The same, with channel distances."""
        p = self.problem
        return (triton.cdiv(self.queries, tile.rows), triton.cdiv(p.channels, tile.keys), self.batch * p.heads)

    def time_key_grid(self, tile: Tile) -> tuple[int, ...]:
        """One program per block of distances, TABLE_GRADIENT_ROWS queries and key head."""
        p = self.problem
        splits = triton.cdiv(self.queries, TABLE_GRADIENT_ROWS)
        return (triton.cdiv(self.distances, tile.keys), splits, self.batch * p.key_heads)

    def channel_key_grid(self, tile: Tile) -> tuple[int, ...]:
        """The same, with channel distances."""
        p = self.problem
        splits = triton.cdiv(self.queries, TABLE_GRADIENT_ROWS)
        return (triton.cdiv(p.channels, tile.keys), splits, self.batch * p.key_heads)


def forward(inputs: Inputs, options: Options) -> tuple[Tensor, Tensor]:
    """Return the output, in the type of the query, and the log-sum-exp of every row, (B, H, T, C) in float32.

    A row that may read nothing gets 0 and +inf.
    """
    p = _Problem(inputs, options)
    out = torch.empty_like(p.query)
    lse = torch.empty(p.query.shape[:-1], dtype=torch.float32, device=p.query.device)
    far_steps = p.steps - 1 - p.window if p.near else p.steps  # of the row that has most
    with torch.cuda.device_of(p.query):
        for chunk in p.chunks(bytes_per_query=4 * (p.distances + p.channels)):
            result = dict(OUT=out[chunk.samples], LSE=lse[chunk.samples])
            if far_steps > 0:
                if time_first(far_steps, p.channels):
                    kernel, stage, narrow = far_forward_time_first_kernel, "far_forward_time_first", "BLOCK_C"
                else:
                    kernel, stage, narrow = far_forward_channels_first_kernel, "far_forward_channels_first", "BLOCK_T"
                chunk.launch(stage, kernel, chunk.query_grid, **result, **{narrow: NARROW})
            if p.near:
                near = dict(Q=p.content_query[chunk.samples], MERGE=far_steps > 0)
                chunk.launch("near_forward", near_forward_kernel, chunk.query_grid, **near, **result)
            del chunk  # before the next one takes its scratch
    return out, lse


def backward(grad: Tensor, inputs: Inputs, out: Tensor, lse: Tensor, options: Options) -> tuple[Tensor | None, ...]:
    """Return the gradients of the first eight inputs, in their types and shapes; None for an absent key."""
    p = _Problem(inputs, options)
    grad = p.clean(grad)
    out, lse = out.contiguous(), lse.contiguous()
    delta, shift = torch.empty_like(lse), torch.empty_like(lse)
    float32: dict[str, Any] = dict(dtype=torch.float32, device=grad.device)
    dquery = torch.empty_like(p.query)
    # Keys and tables gather from chunk after chunk, in float32
    dkey = torch.zeros(inputs.value.shape, **float32) if p.near else None
    dvalue = torch.zeros(inputs.value.shape, **float32)
    dtime_key = torch.zeros(inputs.time_key.shape, **float32)
    dchannel_key = torch.zeros(inputs.channel_key.shape, **float32)
    dbias = torch.zeros([p.heads, 3, p.head_size], **float32)

    scratch = 8 * (p.distances + p.channels) + p.query.element_size() * p.channels + 4 * p.head_size
    with torch.cuda.device_of(grad):
        for chunk in p.chunks(bytes_per_query=scratch):
            b, queries = chunk.samples, chunk.queries
            shared = dict(
                Q=p.content_query[b], OUT=out[b], GRAD=grad[b], LSE=lse[b], DELTA=delta[b], SHIFT=shift[b],
                E=chunk.scratch(queries, p.channels, dtype=p.dtype),
                DTIME=torch.empty_like(chunk.time), DCHANNEL=torch.empty_like(chunk.channel),
                DQ_CONTENT=chunk.scratch(queries, p.head_size) if p.near else None,
                DK=chunk.slice(dkey), DV=dvalue[b],
            )  # fmt: skip
            chunk.launch("far_backward_query", far_backward_query_kernel, chunk.query_grid, **shared)
            if p.near:
                chunk.launch("near_backward_query", near_backward_query_kernel, chunk.query_grid, **shared)
                chunk.launch("near_backward_key", near_backward_key_kernel, chunk.key_grid, **shared)
            chunk.launch("far_backward_key", far_backward_key_kernel, chunk.key_grid, **shared)

            # From dtime and dchannel to what the biases were made of
            blocks, _ = chunk.query_grid(p.tile("bias_backward"))
            parts = chunk.scratch(blocks, 3, p.head_size)
            shared.update(Q=p.query[b], DQ=dquery[b], DBIAS=parts)
            chunk.launch("bias_backward", bias_backward_query_kernel, chunk.query_grid, **shared)
            dbias += parts.view(chunk.batch, p.heads, blocks, 3, p.head_size).sum((0, 2))

            splits = triton.cdiv(queries, TABLE_GRADIENT_ROWS)
            table = torch.empty([splits, chunk.batch, p.key_heads, chunk.distances, p.head_size], **float32)
            shared.update(DTABLE=table, BIAS=p.time_bias, ROWS=TABLE_GRADIENT_ROWS)
            chunk.launch("bias_backward", bias_backward_time_key_kernel, chunk.time_key_grid, **shared)
            rows = slice(chunk.r_begin, chunk.r_begin + chunk.distances)
            chunk.slice(dtime_key)[:, :, rows] += table.sum((0, 1) if len(inputs.time_key) == 1 else 0)

            table = torch.empty([splits, chunk.batch, p.key_heads, p.channels, p.head_size], **float32)
            shared.update(DTABLE=table, BIAS=p.channel_bias)
            chunk.launch("bias_backward", bias_backward_channel_key_kernel, chunk.channel_key_grid, **shared)
            chunk.slice(dchannel_key).add_(table.sum((0, 1) if len(inputs.channel_key) == 1 else 0))
            del chunk, shared, parts, table  # before the next chunk takes its scratch
    biases = (x.clone() for x in dbias.unbind(1))  # what an operator returns must not share memory
    found = (dkey, dvalue, dtime_key, dchannel_key, *biases)
    dtypes = [x if x is None else x.dtype for x in inputs[1:8]]
    return dquery, *(x if x is None else x.to(dtype) for x, dtype in zip(found, dtypes, strict=True))
