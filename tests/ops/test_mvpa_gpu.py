"""The Triton form on a real GPU against the float64 definition: output and every gradient, in three types."""

import itertools

import pytest
import torch

from tsattn.ops import mvpa_attention

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GRIDS = [(2, 4, 2, 13, 17, 16), (2, 12, 4, 25, 64, 64), (2, 16, 8, 25, 33, 128), (2, 4, 4, 7, 5, 32)]
LARGEST = {torch.float32: 2e-3, torch.bfloat16: 3e-2, torch.float16: 6e-3}  # relative error; float32 products are tf32
CASES = list(itertools.product(GRIDS, LARGEST, [10, 3, None], [False, True]))


@pytest.mark.parametrize(("grid", "dtype", "window", "masked"), CASES)
def test_output_and_gradients_equal_the_definition(grid, dtype, window, masked):
    batch, heads, kv_heads, time, channels, size = grid
    generator = torch.Generator("cuda").manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", dtype=torch.float64, generator=generator)

    given = [random(batch, n, time, channels, size) for n in (heads, kv_heads, kv_heads)]
    given += [random(1, kv_heads, time, size), random(1, kv_heads, channels, size)]
    given += [0.3 * random(kv_heads, size) for _ in range(3)]
    upstream = random(batch, heads, time, channels, size).to(dtype)
    real = torch.arange(channels, device="cuda") < torch.tensor([[channels], [max(1, channels // 2)]], device="cuda")
    found = []
    for exact, backend in ((torch.float64, "reference"), (dtype, "triton")):
        leaves = [x.to(dtype).to(exact).requires_grad_() for x in given]
        names = ("content_bias", "time_bias", "channel_bias")
        biases = dict(zip(names, leaves[5:], strict=True))
        mask = real if masked else None
        out = mvpa_attention(*leaves[:5], **biases, window=window, channel_mask=mask, backend=backend)
        out.backward(upstream.to(exact))
        found.append([out.detach().double(), *(x.grad.double() for x in leaves)])
    for expected, ours in zip(*found, strict=True):
        assert (ours - expected).norm() <= LARGEST[dtype] * expected.norm()
