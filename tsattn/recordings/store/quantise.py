"""16 bits for a sample, with a scale and an offset for every 256 samples, and the error that this costs.

Enough for any channel: with half the range r of a block, rounding costs r / 32767 / sqrt(12) rms, while 256 samples of
that range spread by at least r * sqrt(2 / 256). So the error stays below 1.0e-4 of the spread even if a lone spike
stood in every block, and near 2.5e-5 for noise; an artefact or a constant costs no precision elsewhere. It is measured
all the same (`statistics`), and a store refuses what is above.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int16

BLOCK = 256  # samples that share a scale and an offset
MISSING = -32768  # code of a missing sample
LARGEST_CODE = 32767
STATISTICS = ("count", "mean", "centred_squares", "minimum", "maximum", "error_squares", "error_maximum")
PIECE = 16 * BLOCK  # samples that are worked on together, so that they stay in the cache
SMALLEST_SCALE = np.float32(1e-30)  # below, a block is constant


def quantise(
    values: Float32[np.ndarray, "channel time"],
) -> tuple[
    Int16[np.ndarray, "channel padded"],
    Float32[np.ndarray, "part channel block"],
    Float64[np.ndarray, "channel statistic"],
]:
    """Return codes, scaling and statistics.

    Args:
        values: Microvolts; NaN is missing. A last block that is not full is filled up with missing samples.

    Returns:
        Codes; scale and offset of every block (value = code * scale + offset); STATISTICS of every channel.
    """
    channels, samples = values.shape
    blocks = -(-samples // BLOCK)
    codes = np.empty((channels, blocks * BLOCK), np.int16)
    scaling = np.empty((2, channels, blocks), np.float32)
    found = []
    for begin in range(0, samples, PIECE):
        piece = values[:, begin : begin + PIECE]
        width = -(-piece.shape[1] // BLOCK)
        if piece.shape[1] < width * BLOCK:
            piece = np.pad(piece, ((0, 0), (0, width * BLOCK - piece.shape[1])), constant_values=np.nan)
        code, scale, offset, statistics = _piece(np.ascontiguousarray(piece).reshape(channels, width, BLOCK))
        codes[:, begin : begin + width * BLOCK] = code.reshape(channels, -1)
        place = slice(begin // BLOCK, begin // BLOCK + width)
        scaling[0][:, place], scaling[1][:, place] = scale, offset
        found.append(statistics)
    return codes, scaling, combine(np.stack(found))


def _piece(
    values: Float32[np.ndarray, "channel block sample"],
) -> tuple[
    Int16[np.ndarray, "channel block sample"],
    Float32[np.ndarray, "channel block"],
    Float32[np.ndarray, "channel block"],
    Float64[np.ndarray, "channel statistic"],
]:
    low, high = values.min(2), values.max(2)
    count = np.full(low.shape, values.shape[2])
    missing = None
    if np.isnan(low).any():
        missing = np.isnan(values)
        count -= missing.sum(2)
        low, high = np.fmin.reduce(values, axis=2), np.fmax.reduce(values, axis=2)
    offset = np.nan_to_num(low / 2 + high / 2)
    scale = np.nan_to_num(np.maximum(high - offset, offset - low)) / np.float32(LARGEST_CODE)
    inverse = np.where(scale > SMALLEST_SCALE, 1 / np.maximum(scale, SMALLEST_SCALE), np.float32(0))
    centred = values - offset[..., None]
    if missing is not None:
        centred[missing] = 0
    error = np.rint(centred * inverse[..., None])
    code = error.astype(np.int16)
    if missing is not None:
        code[missing] = MISSING
    error *= scale[..., None]
    error -= centred
    if missing is not None:
        error[missing] = 0

    share = 1 / np.maximum(count, 1)
    mean = centred.sum(2, dtype=np.float32).astype(float) * share
    squares = np.maximum(np.einsum("cbs,cbs->cb", centred, centred) - count * mean**2, 0)
    by_block = np.stack(
        [count, mean + offset, squares, low, high, np.einsum("cbs,cbs->cb", error, error), np.abs(error).max(2)]
    )
    return code, scale, offset, combine(by_block.astype(float).transpose(2, 1, 0))


def combine(parts: Float64[np.ndarray, "part channel statistic"]) -> Float64[np.ndarray, "channel statistic"]:
    """Return the statistics of stretches as those of the whole (Chan et al., 1979: centred squares do not cancel)."""
    count, mean, squares, low, high, error_squares, error = np.moveaxis(parts, 2, 0)
    total = count.sum(0)
    known = count > 0
    middle = np.where(known, count * mean, 0).sum(0) / np.maximum(total, 1)
    squares = np.where(known, squares + count * (mean - middle) ** 2, 0).sum(0)
    middle = np.where(total > 0, middle, np.nan)
    low, high = np.fmin.reduce(low, axis=0), np.fmax.reduce(high, axis=0)
    return np.stack([total, middle, squares, low, high, error_squares.sum(0), error.max(0)], axis=1)
