"""The wavelet transform against PyWavelets, and the encoder against the formula in its docstring."""

import warnings

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from tsattn.layers.wavelet import NOISE, USUAL, WaveletEncoder, coefficient_count, levels_of, wavelet_transform


def theirs(signal: Tensor, levels: int | None = None) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Level value of")  # deeper than PyWavelets thinks useful
        parts = pywt.wavedec(signal.double().numpy(), "db4", mode="periodic", level=levels)
    return torch.from_numpy(np.concatenate(parts, -1))


def encoder(samples: int, d_model: int = 6) -> WaveletEncoder:
    torch.manual_seed(samples)
    made = WaveletEncoder(samples, d_model)
    torch.nn.init.normal_(made.norm.weight, 1.0, 0.3)
    return made


def definition(signal: Tensor, made: WaveletEncoder) -> Tensor:
    """What the docstring says, in float64 and with a gradient."""
    coefficients = wavelet_transform(signal.double())
    normed = coefficients / (coefficients.square().mean(-1, keepdim=True) + 1e-5).sqrt() * made.norm.weight.double()
    return normed @ made.out.weight.double().T


def test_the_transform_equals_pywavelets_at_every_length():
    for samples in (*range(1, 201), 701, 1001, 1399, 2560, 5121):
        signal = torch.randn(2, samples, dtype=torch.float64, generator=torch.Generator().manual_seed(samples))
        expected = theirs(signal)
        assert levels_of(samples) == pywt.dwt_max_level(samples, "db4")
        assert coefficient_count(samples) == expected.shape[-1]
        torch.testing.assert_close(wavelet_transform(signal), expected, rtol=0, atol=1e-12, msg=f"{samples} samples")


@pytest.mark.parametrize("samples", [1, 2, 3, 5, 6, 7, 20])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_segments_shorter_than_the_filter_go_round_more_than_once(samples: int, levels: int):
    signal = torch.randn(samples, dtype=torch.float64, generator=torch.Generator().manual_seed(samples))
    torch.testing.assert_close(wavelet_transform(signal, levels), theirs(signal, levels), rtol=0, atol=1e-12)


def test_details_of_a_constant_are_0_and_each_level_doubles_its_power():
    found = wavelet_transform(torch.full((64,), 3.0, dtype=torch.float64))
    approximation = found[:14]  # 64, 35, 21, 14 samples
    torch.testing.assert_close(approximation, torch.full_like(approximation, 3 * 2**1.5), rtol=0, atol=1e-12)
    assert found[14:].abs().max() < 1e-12


@pytest.mark.parametrize("samples", [64, 700, 701, 1001, 1402, 2560])
def test_the_encoder_is_transform_norm_and_map_however_many_levels_are_one_matrix(samples: int):
    made = encoder(samples)
    signal = 20 * torch.randn(2, 3, samples)
    coefficients = theirs(signal)
    mean_square = coefficients.square().mean(-1, keepdim=True)
    normed = coefficients / (mean_square + 1e-5).sqrt() * made.norm.weight.double()
    expected = (normed @ made.out.weight.double().T).detach()
    torch.testing.assert_close(made(signal).double(), expected, rtol=0, atol=2e-5)
    assert (made.fine == 0) == (samples <= 700)


@pytest.mark.parametrize("samples", [7, 20, 33])
def test_the_derivative_of_the_transform_is_right(samples: int):
    signal = torch.randn(2, samples, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(wavelet_transform, (signal,))


@pytest.mark.parametrize("samples", [64, 1001])
def test_the_derivative_of_the_encoder_is_that_of_the_formula(samples: int):
    made = encoder(samples)
    signal = torch.randn(2, samples, requires_grad=True)
    along = torch.randn(2, 6)
    wanted = (signal, made.norm.weight, made.out.weight)
    found = torch.autograd.grad((made(signal) * along).sum(), wanted)
    expected = torch.autograd.grad((definition(signal, made) * along.double()).sum(), wanted)
    for ours, true in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, true, rtol=1e-4, atol=1e-5)


def test_a_tenfold_amplitude_changes_nothing_in_microvolts_and_volts_are_almost_nothing():
    made = encoder(64)
    signal = 30 * torch.randn(4, 64)
    torch.testing.assert_close(made(10 * signal), made(signal), rtol=0, atol=1e-5)
    assert made(1e-6 * signal).norm() < 0.02 * made(signal).norm()


def test_silence_is_a_zero_with_a_finite_derivative():
    made = encoder(64)
    signal = torch.zeros(2, 64, requires_grad=True)
    token = made(signal)
    token.sum().backward()
    assert token.eq(0).all()
    assert signal.grad is not None
    assert signal.grad.isfinite().all()


def test_a_segment_of_another_length_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match="Segments have 63 samples, the encoder was made for 64"):
        encoder(64)(torch.zeros(2, 63))


@pytest.mark.parametrize("samples", [64, 1001])
def test_autocast_leaves_transform_and_norm_in_float32(samples: int):
    made = encoder(samples)
    normed: list[Tensor] = []
    made.norm.register_forward_hook(lambda module, inputs, output: normed.append(output))
    signal = 20 * torch.randn(2, samples)
    made(signal)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        token = made(signal)
        made(signal.bfloat16())
    assert token.dtype == torch.bfloat16
    assert torch.equal(normed[0], normed[1])
    assert normed[1].dtype == normed[2].dtype == torch.float32


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("samples", [64, 1001])
def test_a_network_of_another_type_still_transforms_in_float32(samples: int, kind: torch.dtype):
    made = encoder(samples)
    read: list[Tensor] = []
    made.norm.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0]))
    signal = 20 * torch.randn(2, samples)
    made(signal)
    token = made.to(kind)(signal)
    assert token.dtype == read[1].dtype == kind
    assert torch.equal(read[1], read[0].to(kind))  # rounded once, at the end


def test_with_level_power_a_token_holds_the_power_of_each_level_of_the_signal_as_it_is():
    plain = encoder(64)
    torch.manual_seed(1)
    made = WaveletEncoder(64, 6, level_power=True)
    made.load_state_dict(plain.state_dict(), strict=False)
    signal = 30 * torch.randn(4, 64)
    parts = [
        torch.from_numpy(x) for x in pywt.wavedec(signal.double().numpy(), "db4", mode="periodic", level=levels_of(64))
    ]
    power = torch.stack([part.square().mean(-1) for part in parts], -1)
    assert made.power is not None
    added = made.power((0.5 * (power + NOISE).log() - USUAL).float())
    torch.testing.assert_close(made(signal), plain(signal) + added, rtol=0, atol=1e-5)
    assert (made(10 * signal) - made(signal)).abs().max() > 0.1  # unlike without it
    made(signal).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in made.parameters())
