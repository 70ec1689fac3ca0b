"""iTransformer and what its own maths promises."""

import torch

from tsattn.models.itransformer import ITransformer


def test_size_on_etth1_is_that_of_the_paper():
    assert sum(x.numel() for x in ITransformer(96, 96, d_model=256, d_ff=256).parameters()) == 841_568


def test_reordering_variates_reorders_the_forecast():
    network = ITransformer(16, 4, d_model=16, heads=2, d_ff=16).eval()
    past, known, order = torch.randn(2, 5, 16), torch.randn(2, 2, 20), torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(network(past[:, order], known), network(past, known)[:, order], atol=1e-5, rtol=1e-4)


def test_marks_are_read_in_the_context_only():
    network = ITransformer(16, 4, d_model=16, heads=2, d_ff=16).eval()
    past, known = torch.randn(2, 3, 16), torch.randn(2, 2, 20)
    other = known.clone()
    other[..., 16:] = 9.0
    assert torch.equal(network(past, known), network(past, other))
    other[..., 15] = 9.0
    assert not torch.equal(network(past, known), network(past, other))
