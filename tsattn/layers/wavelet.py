"""Segments of a signal to tokens: wavelet coefficients, normalised together, then one linear map.

Ours, from a description of MVPFormer's encoder (Carzaniga et al., 2025). The transform is Daubechies' db4 with the
boundary that PyWavelets calls "periodic" (Daubechies, Ten Lectures on Wavelets, 1992; the taps as PyWavelets 1.8 has
them): `pywt.wavedec(x, "db4", "periodic", level)` in batches, on any device, with a gradient.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

LOW = (
    -0.010597401785069032, 0.0328830116668852, 0.030841381835560764, -0.18703481171909309,
    -0.027983769416859854, 0.6308807679298589, 0.7148465705529157, 0.2303778133088965,
)  # fmt: skip
HIGH = tuple((-1) ** (j + 1) * LOW[7 - j] for j in range(8))
TAPS = len(LOW)
NOISE = 1e-2  # µV²: below an amplifier's noise, so that silence has a logarithm
USUAL = 3.0  # of half the logarithm of a level's power in microvolts: 20 µV
PIECE = 2**20  # numbers that are transformed together on a CPU: their windows take eight times as much
AT_ONCE = 700  # samples: from here down, all levels are one matrix product, which is faster than eight small ones


def levels_of(samples: int) -> int:
    """Return how often a segment is halved: floor(log2(samples / 7)), at least 0."""
    return max(0, math.floor(math.log2(samples / (TAPS - 1))))


def level_sizes(samples: int) -> list[int]:
    """Return the numbers of coefficients of a segment: of the approximation, then of the details, coarse to fine."""
    details, length = [], samples
    for _ in range(levels_of(samples)):
        length = (length + TAPS - 1) // 2
        details.append(length)
    return [length, *reversed(details)]


def coefficient_count(samples: int) -> int:
    """Return the number of wavelet coefficients of a segment."""
    return sum(level_sizes(samples))


def halve(signal: Float[Tensor, "*batch time"], taps: Float[Tensor, "tap 2"]) -> tuple[Tensor, Tensor]:
    """Return the approximation and the detail of one level, each `(time + 7) // 2` long.

    Args:
        signal: Continued periodically at both ends.
        taps: Low and high pass, turned round.
    """
    length = signal.shape[-1]
    half = (length + TAPS - 1) // 2
    if length < TAPS:
        around = signal[..., torch.arange(2 - TAPS, 2 * half, device=signal.device) % length]
    else:
        around = torch.cat([signal[..., 2 - TAPS :], signal, signal[..., : 2 * half - length]], -1)
    both = around.unfold(-1, TAPS, 2) @ taps
    return both[..., 0], both[..., 1]


def wavelet_transform(
    signal: Float[Tensor, "*batch time"], levels: int | None = None
) -> Float[Tensor, "*batch coefficient"]:
    """Return the coefficients of every level, coarse to fine: approximation, then details.

    Args:
        signal: Floating; computed in its own type.
        levels: How often the signal is halved; None: `levels_of(time)`.
    """
    taps = signal.new_tensor([LOW[::-1], HIGH[::-1]]).T
    details = []
    for _ in range(levels_of(signal.shape[-1]) if levels is None else levels):
        signal, detail = halve(signal, taps)
        details.append(detail)
    return torch.cat([signal, *reversed(details)], -1)


class WaveletEncoder(nn.Module):
    """One token for each segment: its wavelet coefficients, divided by their root mean square, through a linear map.

    The mean square has 1e-5 added, so amplitudes do not matter while signals are in microvolts; one in volts would
    become almost nothing.

    Args:
        samples: Of a segment.
        d_model: Length of a token.
        level_power: Whether the logarithms of each level's mean square, of the signal as it is, are added through a
            linear map of their own: then amplitudes do matter, in every octave. Not the authors'.
    """

    def __init__(self, samples: int, d_model: int, level_power: bool = False) -> None:
        super().__init__()
        self.sizes = level_sizes(samples)
        self.power = nn.Linear(len(self.sizes), d_model) if level_power else None
        self.samples = samples
        size = coefficient_count(samples)
        self.norm = nn.RMSNorm(size, eps=1e-5)
        self.out = nn.Linear(size, d_model, bias=False)
        self.fine, length = 0, samples
        while self.fine < levels_of(samples) and length > AT_ONCE:
            length, self.fine = (length + TAPS - 1) // 2, self.fine + 1
        rest = wavelet_transform(torch.eye(length, dtype=torch.float64), levels_of(samples) - self.fine)
        bits = rest.float().view(torch.int32)  # a float32 matrix that stays one when the network changes its type
        self.register_buffer("coarse_bits", bits, persistent=False)
        self.coarse_bits: Tensor

    def forward(self, signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch d_model"]:
        """Encode segments; the transform is computed in float32, whatever autocast and the weights' type say.

        Raises:
            ValueError: If a segment has another length than the encoder was made for.
        """
        if signal.shape[-1] != self.samples:
            raise ValueError(f"Segments have {signal.shape[-1]} samples, the encoder was made for {self.samples}.")
        with torch.autocast(signal.device.type, enabled=False):
            rows = signal.reshape(-1, self.samples)
            step = max(1, PIECE // self.samples) if rows.device.type == "cpu" else len(rows)
            parts = [self._coefficients(part.float()) for part in rows.split(max(1, step))]
            raw = torch.cat(parts) if len(parts) > 1 else parts[0]
            coefficients = self.norm(raw.to(self.norm.weight))
        tokens = self.out(coefficients)
        if self.power is not None:
            tokens = tokens + self.power(self._levels(raw).to(self.norm.weight))
        return tokens.view(*signal.shape[:-1], tokens.shape[-1])

    def _levels(self, raw: Float[Tensor, "row coefficient"]) -> Float[Tensor, "row level"]:
        """Half the logarithm of each level's mean square, about 0 for 20 µV."""
        power = torch.stack([part.square().mean(-1) for part in raw.split(self.sizes, -1)], -1)
        return 0.5 * (power + NOISE).log() - USUAL

    def _coefficients(self, signal: Float[Tensor, "row time"]) -> Float[Tensor, "row coefficient"]:
        coarse = self.coarse_bits.view(torch.float32)
        rest, fine = wavelet_transform(signal, self.fine).tensor_split([len(coarse)], -1)
        return torch.cat([rest @ coarse, fine], -1)
