"""What is known ahead as tokens: measured by its context, and rows that can be told apart."""

import pytest
import torch

from tsattn.layers.known import KnownEmbedding, normalise_known


def test_what_is_known_ahead_is_measured_by_its_context():
    nan = float("nan")
    known = torch.tensor([[[1.0, 3, 5, nan], [nan, 1, nan, 0], [nan, nan, 5, 6], [0, 0, 1, -1], [nan, nan, 7, nan]]])
    rows, told = normalise_known(known, covariates=4, context=2)
    spread = (1 + 1e-5) ** 0.5
    assert rows[0, 0].tolist() == pytest.approx([-1 / spread, 1 / spread, 3 / spread, 0])
    assert rows[0, 1].tolist() == [0, 0, 0, -10]  # one observed value has no spread
    assert rows[0, 2].tolist() == [0, 0, 0, 0]  # nothing to measure by
    assert rows[0, 3].tolist() == [0, 0, 10, -10]
    assert rows[0, 4].tolist() == [0, 0, 7, 0]
    assert told.tolist() == [[True, True, False, True, True]]
    as_they_are, told = normalise_known(known, covariates=0, context=2)
    assert torch.equal(as_they_are, known.nan_to_num(0.0))
    assert told.all()


def test_rows_with_vectors_of_their_own_are_no_set():
    known = torch.randn(1, 1, 6).expand(2, 3, 6)  # three rows alike
    alike = KnownEmbedding(6, 4, None)(known)
    assert torch.equal(alike[:, 0], alike[:, 1])
    named = KnownEmbedding(6, 4, 3)
    told = named(known)
    assert not torch.isclose(told[:, 0], told[:, 1]).any()
    assert torch.allclose(told - named.identity, torch.nn.functional.linear(known, named.weight, named.bias))


def test_the_patches_of_a_row_have_its_vector():
    known = torch.randn(2, 3, 5, 6)
    named = KnownEmbedding(6, 4, 3)
    for patch in range(5):
        assert torch.allclose(named(known)[:, :, patch], named(known[:, :, patch]), atol=1e-6)
