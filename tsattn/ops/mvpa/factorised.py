"""Multi-variate parallel attention in plain PyTorch with memory linear in the tokens: any device, forward and backward.

Ours. Out of the content window a logit is a sum of a term of the key's time and a term of its channel, so its
exponential is a product. For a query row i,

    exp(a_i[t'] + b_i[c']) = alpha_i[t'] E_i[c']      a = time term, b = channel term, alpha = exp(a), E = exp(b)

and everything that softmax needs of the T_out * C keys out of the window follows from T_out + C numbers:

    largest logit            max a + max b                           attained by a real key, so nothing overflows
    sum of exponentials      (sum alpha) (sum E)
    weighted sum of values   sum_c' E[c'] (alpha @ V[:, c'])  =  sum_t' alpha[t'] (E @ V[t'])

No content is computed there and no exponential per pair. Keys in the window are read as usual. Queries are taken in
blocks of a few time steps; a block sees the window of all its steps at once (content zeroed row by row) and treats what
lies out of every step's window as a product. A block of all steps is the dense form: small grids are taken so.

The backward pass recomputes all of it from the saved log-sum-exp L and D = sum(dO * O), as flash attention does. With
alpha = exp(a - L), so that P = alpha E, and G[t', c'] = dO · V[t', c'], the only product with the keys themselves,

    da[t'] = alpha[t'] (sum_c' G[t', c'] E[c'] - D sum(E))
    db[c'] = E[c'] (sum_t' alpha[t'] G[t', c'] - D sum(alpha))
    dV = P^T dO

Neither pass holds a tensor of tokens x tokens. There are no scattered writes: relative distances are read and written
through views whose rows are shifted by their stride, so the result is the same in every run.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tsattn.ops.mvpa.problem import Inputs, Options, last_steps, padding

ROWS = 256  # query rows of one block, if the grid has as many
DENSE_TOKENS = 256  # up to here one block takes every step
CPU_SCRATCH = 4 << 20  # bytes of the largest temporary tensor, about: 1 to 16 MiB are equally fast
DEVICE_SCRATCH = 256 << 20
# A row whose sum of exponentials is below exp(this) has lost its keys to underflow, which takes a `key_mask`.
DEEPEST = {torch.float32: -69.0, torch.float64: -690.0}
NEVER = float("-inf")


def forward(inputs: Inputs, options: Options) -> tuple[Tensor, Tensor]:
    """Return the output, in the type of the query, and the log-sum-exp of every row, (B, H, T, C) in at least float32.

    A row that may read nothing gets 0 and +inf.
    """
    query, kv_heads = inputs.query, inputs.value.shape[1]
    out = torch.zeros(query.shape, dtype=query.dtype, device=query.device)
    lse = torch.full(query.shape[:4], float("inf"), dtype=_working_type(query), device=query.device)
    for part in _parts(inputs, options):
        for block in _blocks(part):
            rows, sums = _forward_block(part, block)
            _grouped(out, kv_heads)[block.place] = rows.view(block.shape).to(out.dtype)
            _grouped(lse, kv_heads)[block.place] = sums.view(block.shape[:-1])
    hidden = padding(inputs.channel_mask, inputs.time_mask)
    if hidden is not None:
        out.masked_fill_(hidden[..., None], 0)
        lse.masked_fill_(hidden, float("inf"))
    return out, lse


def backward(grad: Tensor, inputs: Inputs, out: Tensor, lse: Tensor, options: Options) -> tuple[Tensor | None, ...]:
    """Return the gradients of the first eight inputs, in their types and shapes."""
    kv_heads, work = inputs.value.shape[1], _working_type(inputs.query)
    others = inputs.differentiable[1:]
    totals = [None if x is None else torch.zeros(x.shape, dtype=work, device=x.device) for x in others]
    of_query = torch.zeros(inputs.query.shape, dtype=inputs.query.dtype, device=grad.device)
    hidden = padding(inputs.channel_mask, inputs.time_mask)
    if hidden is not None:
        grad = grad.masked_fill(hidden[..., None], 0)
    for part in _parts(inputs, options):
        sums = _Gradients(part)
        for block in _blocks(part):
            d_out, o, row_lse = (_grouped(x, kv_heads)[block.place].to(work) for x in (grad, out, lse))
            d_out, dot = d_out.reshape(block.rows.shape), (d_out * o).sum(-1).view(*block.rows.shape[:3], 1)
            d_rows = _backward_block(part, block, sums, d_out, dot, row_lse.reshape(dot.shape))
            _grouped(of_query, kv_heads)[block.place] = d_rows.view(block.shape).to(of_query.dtype)
        sums.add_to(totals, part)
    if hidden is not None:
        of_query.masked_fill_(hidden[..., None], 0)
    return of_query, *(None if x is None or t is None else t.to(x.dtype) for t, x in zip(totals, others, strict=True))


def _working_type(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _grouped(x: Tensor, kv_heads: int) -> Tensor:
    """View (B, H, ...) as (B, key/value head, query head of it, ...)."""
    return x.unflatten(1, (kv_heads, -1))


def _of_samples(table: Tensor, samples: slice) -> Tensor:
    return table if table.shape[0] == 1 else table[samples]


# ------------------------------------------------------------------------------------------------ parts of a call
class _Part:
    """Some samples (b) and key/value heads (k) with g query heads each; all in working type but the query.

    The steps after the samples' last real one are cut off; what must not be read is 0.

    Attributes:
        query: (b, k, g, T, C, d).
        key, value: (b, k, T, C, d); `key` is None where there is no content.
        time_rows: (1 or b, k, distances, d) by t' - t, ascending from 1 - T, so that the rows of a query go up with its
            keys (see `_shifted_view`); zeros for keys after a causal query.
        channel_rows: (1 or b, k, 2C - 1, d) by c' - c, likewise.
        content_bias, time_bias, channel_bias: (k, g, 1, d), scaled.
        channel_mask, time_mask, key_mask: (b, C), (b, T) and (b, T, C), or None.
    """

    def __init__(self, inputs: Inputs, options: Options, samples: slice, heads: slice, time: int) -> None:
        self.samples, self.heads, self.options = samples, heads, options
        kv_heads, all_steps, work = inputs.value.shape[1], inputs.value.shape[2], _working_type(inputs.query)
        self.channel_mask, self.time_mask, self.key_mask = (None if m is None else m[samples] for m in inputs.masks)
        self.time_mask = None if self.time_mask is None else self.time_mask[:, :time]
        self.key_mask = None if self.key_mask is None else self.key_mask[:, :time]
        hidden = padding(self.channel_mask, self.time_mask)
        self.unread = hidden  # (b, 1, T, C) where no key is to be read
        if self.key_mask is not None:
            self.unread = ~self.key_mask[:, None] if hidden is None else hidden | ~self.key_mask[:, None]

        self.query = _grouped(inputs.query, kv_heads)[samples, heads, :, :time]
        if hidden is not None:
            self.query = self.query.masked_fill(hidden[:, :, None, ..., None], 0)
        self.key = None if inputs.key is None else self.readable(inputs.key[samples, heads, :time].to(work))
        self.value = self.readable(inputs.value[samples, heads, :time].to(work))
        r = _of_samples(inputs.time_key, samples)[:, heads].to(work)
        if options.causal:
            self.time_rows = torch.cat([r[:, :, :time].flip(2), r.new_zeros(*r.shape[:2], time - 1, r.shape[3])], 2)
        else:
            self.time_rows = r[:, :, all_steps - time : all_steps + time - 1].flip(2)
        ch = _of_samples(inputs.channel_key, samples)[:, heads].to(work)
        self.channel_rows = torch.cat([ch[:, :, 1:].flip(2), ch], 2)
        self.content_bias, self.time_bias, self.channel_bias = (
            _grouped(x[None], kv_heads)[0, heads, :, None].to(work) * options.scale for x in inputs.biases
        )

    def readable(self, x: Tensor) -> Tensor:
        """Return (b, k, T, C, d) with 0 where no key is to be read."""
        return x.contiguous() if self.unread is None else x.masked_fill(self.unread[..., None], 0)


def _parts(inputs: Inputs, options: Options) -> Iterator[_Part]:
    """Cut a call into parts, one (sample, head) pair at least, whose largest temporary tensor keeps to the budget.

    The samples of a part have the same last step.
    """
    batch, kv_heads, time, channels, _ = inputs.value.shape
    group = inputs.query.shape[1] // kv_heads
    lasts = [time - 1] * batch if inputs.time_mask is None else last_steps(inputs.time_mask).tolist()
    width, height = _block_size(group, time, channels)
    near = time if inputs.key is not None and options.full_last else min(time, height + 2 * options.window)
    elements = (
        group * width * max(height * (time + 2 * channels), (1 if options.full_last else height) * near * channels)
    )
    pairs = max(1, _scratch(inputs.query.device) // (elements * _working_type(inputs.query).itemsize))
    some_heads, some_samples = min(kv_heads, pairs), max(1, pairs // kv_heads)
    start = 0
    while start < batch:
        stop = start + 1
        while stop < min(batch, start + some_samples) and lasts[stop] == lasts[start]:
            stop += 1
        for head in range(0, kv_heads, some_heads):
            heads = slice(head, min(kv_heads, head + some_heads))
            yield _Part(inputs, options, slice(start, stop), heads, lasts[start] + 1)
        start = stop


def _scratch(device: torch.device) -> int:
    return CPU_SCRATCH if device.type == "cpu" else DEVICE_SCRATCH


# ------------------------------------------------------------------------------------------------ blocks of a part
class _Block:
    """Query rows of some steps and channels of a part, m = g * steps * channels of them, and two terms of their logits.

    Attributes:
        shape: (b, k, g, steps, channels, d).
        place: Where the rows are in a grouped tensor of the whole call.
        near: Key steps from ... to that are in the window of some row.
        far: Those that are in no row's window.
        beyond: (steps, near steps), True where a key that is read is out of its row's window; None if nowhere.
        rows: The queries, (b, k, m, d).
        time_query, channel_query: The same with the bias of a term, scaled; `content_query` makes the third.
        by_time: (b, k, m, key steps), scaled, -inf where hidden.
        by_channel: (b, k, m, C), scaled, -inf where hidden.
    """

    def __init__(self, part: _Part, start: int, stop: int, left: int, right: int) -> None:
        time, channels = part.value.shape[2:4]
        options = part.options
        self.place = (part.samples, part.heads, slice(None), slice(start, stop), slice(left, right))
        keys = stop if options.causal else time
        if part.key is None:
            self.near = (0, 0)
        elif options.full_last and stop == time:
            self.near = (0, keys)
        else:
            self.near = (max(0, start - options.window), min(keys, stop + options.window))
        self.far = [(begin, end) for begin, end in ((0, self.near[0]), (self.near[1], keys)) if end > begin]

        key_step, query_step = torch.arange(keys), torch.arange(start, stop)[:, None]
        hidden = (key_step > query_step) if options.causal else torch.zeros(stop - start, keys, dtype=torch.bool)
        beyond = ((key_step - query_step).abs() > options.window) & ~hidden
        if options.full_last and stop == time:
            beyond[-1] = False
        beyond = beyond[:, slice(*self.near)]
        self.beyond = beyond.to(part.value.device) if beyond.any() else None

        rows = part.query[:, :, :, start:stop, left:right].to(part.value.dtype)
        self.shape, self.scale = tuple(rows.shape), options.scale
        self.rows = rows.reshape(*self.shape[:2], -1, self.shape[-1])
        self.time_query, self.channel_query = self._biased(part.time_bias), self._biased(part.channel_bias)
        self.time_span = slice(time - stop, time + keys - 1 - start)  # t' - t from -(stop - 1) to keys - 1 - start
        self.channel_span = slice(channels - right, 2 * channels - 1 - left)
        self.by_time = _shift(self.time_query @ part.time_rows[:, :, self.time_span].mT, self.shape, 3)
        if hidden.any():
            self.by_time.view(*self.shape[:5], keys).masked_fill_(hidden.to(rows.device)[:, None], NEVER)
        if part.time_mask is not None:
            self.by_time.masked_fill_(~part.time_mask[:, None, None, :keys], NEVER)
        self.by_channel = _shift(self.channel_query @ part.channel_rows[:, :, self.channel_span].mT, self.shape, 4)
        if part.channel_mask is not None:
            self.by_channel.masked_fill_(~part.channel_mask[:, None, None], NEVER)

    def content_query(self, part: _Part) -> Tensor:
        """Return scale * (queries + content bias), (b, k, m, d)."""
        return self._biased(part.content_bias)

    def _biased(self, bias: Tensor) -> Tensor:
        grouped = self.rows.view(*self.shape[:3], -1, self.shape[-1])
        return torch.add(bias, grouped, alpha=self.scale).view(self.rows.shape)


def _block_size(group: int, time: int, channels: int) -> tuple[int, int]:
    """Return the channels and the steps of a block: every channel of some steps, or some channels of one step."""
    width = min(channels, max(1, ROWS // group))
    return width, time if time * channels <= DENSE_TOKENS else min(time, max(1, ROWS // (group * width)))


def _blocks(part: _Part) -> Iterator[_Block]:
    """Cut a part into blocks of query rows."""
    group, time, channels = part.query.shape[2:5]
    width, height = _block_size(group, time, channels)
    start = 0
    while start < time:
        stop = min(time, start + height)
        if part.options.full_last and start < time - 1 and height < time:
            stop = min(stop, time - 1)  # the last step reads all content: a block of its own
        for left in range(0, channels, width):
            yield _Block(part, start, stop, left, min(channels, left + width))
        start = stop


def _shift(by_distance: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """Turn (b, k, m, distances) into (b, k, m, keys): each further place on a query axis starts a distance earlier."""
    return _shifted_view(by_distance, shape, axis).reshape(*by_distance.shape[:3], -1)


def _unshift(by_key: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """Turn (b, k, m, keys) into (b, k, m, distances), 0 where there is no key: the transpose of `_shift`."""
    if shape[axis] == 1:
        return by_key
    by_distance = by_key.new_zeros(*by_key.shape[:3], by_key.shape[3] + shape[axis] - 1)
    view = _shifted_view(by_distance, shape, axis)
    view.copy_(by_key.view(view.shape))
    return by_distance


def _shifted_view(by_distance: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    """View (b, k, m, distances) as (b, k, g, steps, channels, keys) with each place on `axis` starting one earlier.

    Three queries 0, 1, 2 with three keys 0, 1, 2 have the distances -2 ... 2 in this order:

        query 0:  . . 0 1 2        keys 0, 1, 2 are the distances 0 ... 2, the third number of the row and on
        query 1:  . -1 0 1 .       -1 ... 1, from the second on
        query 2:  -2 -1 0 . .      from the first on

    so that the view begins at the third number and a row's stride is one less than its length.
    """
    assert by_distance.storage_offset() == 0
    grid = by_distance.view(*shape[:5], -1)
    strides = list(grid.stride())
    strides[axis] -= 1
    return grid.as_strided((*shape[:5], grid.shape[5] - shape[axis] + 1), strides, shape[axis] - 1)


# ------------------------------------------------------------------------------------------------ one block
def _forward_block(part: _Part, block: _Block) -> tuple[Tensor, Tensor]:
    """Return the output, (b, k, m, d), and the log-sum-exp, (b, k, m), of a block."""
    begin, end = block.near
    channel_most = block.by_channel.amax(-1, keepdim=True)
    most = [block.by_time[..., a:b].amax(-1, keepdim=True) + channel_most for a, b in block.far]
    if end > begin:
        weights = _near_logits(part, block, block.by_time)
        most.append(weights.amax(-1, keepdim=True))
    shift = most[0] if len(most) == 1 else torch.cat(most, -1).amax(-1, keepdim=True)
    shift = shift.masked_fill(shift == NEVER, 0)

    total, out = torch.zeros_like(shift), torch.zeros_like(block.rows)
    if end > begin:
        weights.sub_(shift).exp_()
        total += weights.sum(-1, keepdim=True)
        out = weights @ part.value[:, :, begin:end].flatten(2, 3)
    if block.far:
        e, channel_most = _exp(block.by_channel)
        for begin, end in block.far:
            alpha, time_most = _exp(block.by_time[..., begin:end])
            alpha *= (time_most + channel_most - shift).exp_()  # never above 1: `shift` is the largest of such sums
            total += _far_total(part, alpha, e, begin, end)
            _add_far_values(part, alpha, e, begin, end, out)
    if part.key_mask is not None:
        _refuse_underflow(part, block, total)
    out.div_(total.masked_fill(total == 0, 1))
    return out, torch.where(total > 0, shift + total.log(), float("inf"))[..., 0]


def _exp(term: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exponentials of a term (b, k, m, *) over the largest of its row, and that largest one (b, k, m, 1)."""
    most = term.amax(-1, keepdim=True)
    most = most.masked_fill(most == NEVER, 0)
    return (term - most).exp_(), most


def _near_logits(part: _Part, block: _Block, by_time: Tensor) -> Tensor:
    """Return the logits of the keys in the window, (b, k, m, steps * channels), given the time term of all keys."""
    begin, end = block.near
    assert part.key is not None
    logits = by_time[..., begin:end, None] + block.by_channel[..., None, :]
    if part.key_mask is not None:
        logits.masked_fill_(~part.key_mask[:, None, None, begin:end], NEVER)
    logits = logits.flatten(3)
    query, keys = block.content_query(part), part.key[:, :, begin:end].flatten(2, 3)
    if block.beyond is None:
        logits.flatten(0, 1).baddbmm_(query.flatten(0, 1), keys.flatten(0, 1).mT)
    else:
        logits += _without_beyond(query @ keys.mT, block)
    return logits


def _without_beyond(content: Tensor, block: _Block) -> Tensor:
    """Zero (b, k, m, near steps * channels) in place where a key is out of its row's window."""
    assert block.beyond is not None
    content.view(*block.shape[:5], block.beyond.shape[1], -1).masked_fill_(block.beyond[:, None, :, None], 0)
    return content


def _far_total(part: _Part, alpha: Tensor, e: Tensor, begin: int, end: int) -> Tensor:
    """Return the sum of the products over the keys of the steps begin ... end - 1, (b, k, m, 1)."""
    if part.key_mask is None:
        return alpha.sum(-1, keepdim=True) * e.sum(-1, keepdim=True)
    read = part.key_mask[:, None, begin:end].to(alpha.dtype)
    return ((alpha @ read) * e).sum(-1, keepdim=True)


def _add_far_values(part: _Part, alpha: Tensor, e: Tensor, begin: int, end: int, out: Tensor) -> None:
    """Add the values of the steps begin ... end - 1, weighted by the products, to `out` (b, k, m, d).

    The order of the two sums is free. The first is a matrix product over steps or channels, the second passes once over
    its result; the product takes the longer of the two.
    """
    time_first = end - begin >= e.shape[-1]
    first, second = (alpha, e) if time_first else (e, alpha)
    count, size = out[..., 0].numel(), out.shape[-1]
    for some in _chunks(second.shape[-1], count * size * out.itemsize, out.device):
        values = part.value[:, :, begin:end]
        values = values[:, :, :, some] if time_first else values[:, :, some].transpose(2, 3)
        partial = (first @ values.flatten(3)).view(count, -1, size)
        out += torch.bmm(second[..., some].reshape(count, 1, -1), partial).view(out.shape)


def _chunks(count: int, bytes_each: int, device: torch.device) -> Iterator[slice]:
    """Cut `count` things of so many bytes into slices that keep to the budget."""
    step = max(1, _scratch(device) // bytes_each)
    for start in range(0, count, step):
        yield slice(start, min(count, start + step))


def _refuse_underflow(part: _Part, block: _Block, total: Tensor) -> None:
    """Raise if the sum of exponentials of a row that may read something has vanished.

    With `key_mask` the largest product out of the window may belong to a hidden key.
    """
    assert part.key_mask is not None
    visible = (block.by_time > NEVER).to(total.dtype)  # (b, k, m, T')
    tokens = part.key_mask if part.channel_mask is None else part.key_mask & part.channel_mask[:, None]
    some = tokens.any(-1).to(total.dtype)[:, None, : visible.shape[-1], None]
    deepest = DEEPEST[total.dtype]
    if bool(((total < math.exp(deepest)) & (visible @ some > 0)).any()):
        raise ValueError(
            f"key_mask hides the keys with the largest logits, and those that may be read are more than {-deepest:.0f} "
            "below them, where their weights vanish. Pass backend='reference', or check the size of the queries."
        )


# ------------------------------------------------------------------------------------------------ backward
class _Gradients:
    """Sums over the blocks of a part, each in the form of the part's own tensor."""

    def __init__(self, part: _Part) -> None:
        self.key = None if part.key is None else torch.zeros_like(part.key)
        self.value = torch.zeros_like(part.value)
        self.time_rows, self.channel_rows = torch.zeros_like(part.time_rows), torch.zeros_like(part.channel_rows)
        self.content_bias = torch.zeros_like(part.content_bias)
        self.time_bias = torch.zeros_like(part.time_bias)
        self.channel_bias = torch.zeros_like(part.channel_bias)

    def add_to(self, totals: list[Tensor | None], part: _Part) -> None:
        """Add to the gradients of the call's inputs from `key` on."""
        time, channels = part.value.shape[2:4]
        for total, mine in zip(totals[:2], (self.key, self.value), strict=True):
            if total is not None and mine is not None:
                total[part.samples, part.heads, :time] += part.readable(mine)
        of_time, of_channel = (_of_samples(x, part.samples)[:, part.heads] for x in totals[2:4] if x is not None)
        if part.options.causal:
            of_time[:, :, :time] += self.time_rows[:, :, :time].flip(2)
        else:
            all_steps = (of_time.shape[2] + 1) // 2
            of_time[:, :, all_steps - time : all_steps + time - 1] += self.time_rows.flip(2)
        of_channel += self.channel_rows[:, :, channels - 1 :]
        of_channel[:, :, 1:] += self.channel_rows[:, :, : channels - 1].flip(2)
        for total, mine in zip(totals[4:], (self.content_bias, self.time_bias, self.channel_bias), strict=True):
            if total is not None:
                total.unflatten(0, (-1, part.query.shape[2]))[part.heads] += mine[:, :, 0] * part.options.scale


def _backward_block(part: _Part, block: _Block, sums: _Gradients, d_out: Tensor, dot: Tensor, lse: Tensor) -> Tensor:
    """Add a block to `sums` and return the gradient of its rows, (b, k, m, d).

    Args:
        part: Where the block is.
        block: Queries and two terms of their logits.
        sums: Gradients so far.
        d_out: Gradient of the output, (b, k, m, d).
        dot: Sum of output times its gradient, (b, k, m, 1).
        lse: Log-sum-exp, (b, k, m, 1); +inf for a row that reads nothing.
    """
    begin, end = block.near
    d_by_time, d_by_channel = torch.zeros_like(block.by_time), torch.zeros_like(block.by_channel)
    d_rows = torch.zeros_like(block.rows)
    if end > begin:
        assert part.key is not None
        assert sums.key is not None
        keys, values = part.key[:, :, begin:end].flatten(2, 3), part.value[:, :, begin:end].flatten(2, 3)
        weights = _near_logits(part, block, block.by_time - lse).exp_()
        sums.value[:, :, begin:end] += (weights.mT @ d_out).view_as(sums.value[:, :, begin:end])
        d_logits = d_out @ values.mT
        d_logits.sub_(dot).mul_(weights)
        d_by_time[..., begin:end] = d_logits.unflatten(-1, (end - begin, -1)).sum(-1)
        d_by_channel += d_logits.unflatten(-1, (end - begin, -1)).sum(-2)
        if block.beyond is not None:
            _without_beyond(d_logits, block)
        sums.key[:, :, begin:end] += (d_logits.mT @ block.content_query(part)).view_as(sums.key[:, :, begin:end])
        d_rows = d_logits @ keys
        sums.content_bias += _by_head(d_rows, block)
    if block.far:
        e, channel_most = _exp(block.by_channel)
        for begin, end in block.far:
            alpha, time_most = _exp(block.by_time[..., begin:end])
            alpha *= (time_most + channel_most - lse).exp_()
            _far_backward(part, sums, alpha, e, begin, end, d_out, dot, d_by_time[..., begin:end], d_by_channel)
    of_time = (d_by_time, 3, block.time_query, block.time_span, part.time_rows, sums.time_rows, sums.time_bias)
    of_channel = (
        d_by_channel, 4, block.channel_query, block.channel_span, part.channel_rows,
        sums.channel_rows, sums.channel_bias,
    )  # fmt: skip
    for by_key, axis, query, span, table, of_table, of_bias in (of_time, of_channel):
        by_distance = _unshift(by_key, block.shape, axis)
        of_rows = by_distance.mT @ query
        of_table[:, :, span] += of_rows if table.shape[0] == of_rows.shape[0] else of_rows.sum(0, keepdim=True)
        of_query = by_distance @ table[:, :, span]
        of_bias += _by_head(of_query, block)
        d_rows += of_query
    return d_rows.mul_(block.scale)


def _by_head(of_rows: Tensor, block: _Block) -> Tensor:
    """Sum (b, k, m, d) over samples, steps and channels to (k, g, 1, d)."""
    return of_rows.view(*block.shape[:3], -1, block.shape[-1]).sum((0, 3)).unsqueeze(2)


def _far_backward(
    part: _Part,
    sums: _Gradients,
    alpha: Tensor,
    e: Tensor,
    begin: int,
    end: int,
    d_out: Tensor,
    dot: Tensor,
    d_by_time: Tensor,
    d_by_channel: Tensor,
) -> None:
    """Add what the keys of the steps begin ... end - 1 do; `alpha` times `e` is the normalised weight."""
    if part.key_mask is None:
        read_e, read_alpha = e.sum(-1, keepdim=True), alpha.sum(-1, keepdim=True)
    else:
        read = part.key_mask[:, None, begin:end].to(alpha.dtype)
        read_e, read_alpha = e @ read.mT, alpha @ read
    d_by_time -= alpha * dot * read_e
    d_by_channel -= e * dot * read_alpha
    count, channels = e[..., 0].numel(), e.shape[-1]
    for some in _chunks(end - begin, count * channels * d_out.itemsize, d_out.device):
        steps = slice(begin + some.start, begin + some.stop)
        some_alpha = alpha[..., some]
        products = d_out @ part.value[:, :, steps].flatten(2, 3).mT  # (b, k, m, steps * C): dO . V
        grid = products.view(count, -1, channels)
        d_by_time[..., some] += some_alpha * torch.bmm(grid, e.view(count, -1, 1)).view(some_alpha.shape)
        d_by_channel += e * torch.bmm(some_alpha.reshape(count, 1, -1), grid).view(e.shape)
        weights = torch.mul(some_alpha.reshape(count, -1, 1), e.view(count, 1, -1), out=grid).view(products.shape)
        sums.value[:, :, steps] += (weights.mT @ d_out).view_as(sums.value[:, :, steps])
