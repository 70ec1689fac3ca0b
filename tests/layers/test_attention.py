"""Attention: torch's fused kernel and the written-out form agree; masks never leave a softmax empty."""

import pytest
import torch

from tsattn.layers.attention import CrossAttention, SelfAttention, attend, readable
from tsattn.layers.patch import patch_count, patches, patches_observed, sinusoids


@pytest.mark.parametrize("masked", [False, True])
def test_asking_for_the_softmax_changes_nothing(masked: bool):
    query, key, value = torch.randn(3, 2, 4, 5, 6).unbind()
    mask = readable(torch.tensor([[True, False, True, True, False], [False] * 5])) if masked else None
    maps: list[torch.Tensor] = []
    written_out = attend(query, key, value, mask, maps=maps)
    torch.testing.assert_close(attend(query, key, value, mask), written_out)
    torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 4, 5))
    if masked:
        assert maps[0][0, :, :, [1, 4]].eq(0).all()
        assert maps[0][1].gt(0).all()


def test_over_no_keys_only_the_bias_remains():
    attention = CrossAttention(8, 2)
    assert torch.equal(attention(torch.randn(3, 2, 8), torch.zeros(3, 0, 8)), attention.out.bias.expand(3, 2, 8))


def test_width_need_not_be_a_multiple_of_heads():
    attention = SelfAttention(20, 3)
    assert attention.qkv.out_features == 3 * 18
    assert attention(torch.randn(2, 5, 20)).shape == (2, 5, 20)
    with pytest.raises(ValueError, match="heads is 9, expected 1 to d_model=8"):
        SelfAttention(8, 9)


def test_dropout_of_attention_keeps_the_mean():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 1, 5, 6).unbind()
    many = torch.stack([attend(query, key, value, p=0.5) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(many, attend(query, key, value), atol=0.1, rtol=0)


def test_patches_repeat_the_last_value_and_know_what_was_seen():
    series = torch.arange(5.0).expand(1, 1, 5)
    assert patches(series, 3, 2, 2)[0, 0].tolist() == [[0, 1, 2], [2, 3, 4], [4, 4, 4]]
    observed = torch.tensor([[[False, False, False, False, True]]])
    assert patches_observed(observed, 3, 2, 2)[0, 0].tolist() == [False, True, True]
    assert patch_count(5, 3, 2, 2) == 3
    with pytest.raises(ValueError, match="context is 2 steps, expected at least patch=3"):
        patch_count(2, 3, 1)


def test_sinusoids_need_pairs():
    assert sinusoids(2, 4)[0].tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="d_model is 5, expected an even number"):
        sinusoids(2, 5)
