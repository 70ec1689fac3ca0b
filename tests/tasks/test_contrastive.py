"""The pre-training objective: who may be a negative, a loss by hand, what does not count. (Parity: tests/parity.)"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tsattn.tasks.contrastive import contrast, draw_corrected, draw_reference


def test_the_loss_of_a_grid_of_two_by_hand():
    tokens = torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]])  # one row, two segments, one channel
    prediction = torch.tensor([[[[0.0, 5.0]], [[9.0, 9.0]]]])  # of the second segment; the last one is not read
    negatives = torch.tensor([[[[1]], [[0]]]])
    right = contrast(prediction, tokens, negatives, temperature=0.5)
    torch.testing.assert_close(right.logits, torch.tensor([[2.0, 0.0]]))  # cosines 1 and 0
    assert float(right.loss) == pytest.approx(math.log(1 + math.exp(-2)))
    assert float(right.accuracy) == 1
    wrong = contrast(prediction.flip(-1), tokens, negatives, temperature=0.5)
    assert float(wrong.loss) == pytest.approx(math.log(1 + math.exp(2)))
    assert float(wrong.accuracy) == 0


def test_a_negative_that_equals_the_positive_is_left_out():
    tokens = torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]], [[0.0, 2.0]]]])
    prediction = torch.ones(1, 3, 1, 2)
    found = contrast(prediction, tokens, torch.tensor([[[[0, 0]], [[2, 0]], [[0, 1]]]]), temperature=1.0)
    cosine = 1 / math.sqrt(2)
    expected = torch.tensor([[cosine, -math.inf, cosine], [cosine, cosine, -math.inf]])
    torch.testing.assert_close(found.logits, expected)
    assert float(found.loss) == pytest.approx(math.log(2))


def example(batch: int = 2, segments: int = 4, channels: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    shape = (batch, segments, channels)
    real = torch.rand(shape) > 0.3
    negatives = draw_corrected(real, 5)
    return torch.randn(*shape, 6, requires_grad=True), torch.randn(*shape, 6, requires_grad=True), negatives, real


def test_the_loss_is_the_mean_cross_entropy_of_the_rows_that_count():
    prediction, tokens, negatives, real = example()
    found = contrast(prediction, tokens, negatives, 0.2, real)
    losses, hits, flat = [], [], tokens.reshape(-1, 6)
    for b in range(2):
        for s in range(3):
            for c in range(3):
                if real[b, s, c] and real[b, s + 1, c]:
                    others = flat[negatives[b, s + 1, c]]
                    candidates = torch.cat([tokens[b, s + 1, c][None], others])
                    logits = F.cosine_similarity(prediction[b, s, c][None], candidates) / 0.2
                    losses.append(F.cross_entropy(logits, torch.tensor(0)))
                    hits.append(float(logits.argmax() == 0))
    assert int(found.counted.sum()) == len(losses) > 3
    torch.testing.assert_close(found.loss, torch.stack(losses).mean())
    assert float(found.accuracy) == pytest.approx(sum(hits) / len(hits))


def test_what_is_not_there_changes_neither_loss_nor_gradients():
    prediction, tokens, negatives, real = example()
    found = contrast(prediction, tokens, negatives, real=real)
    gradients = torch.autograd.grad(found.loss, (prediction, tokens))
    other = [torch.where(real[..., None], x, 0.0).detach().requires_grad_() for x in (prediction, tokens)]
    again = contrast(other[0], other[1], negatives, real=real)
    assert torch.equal(again.loss, found.loss)
    for ours, expected in zip(torch.autograd.grad(again.loss, other), gradients, strict=True):
        assert torch.equal(ours, expected)
        assert ours[~real].eq(0).all()
        assert ours.isfinite().all()


def test_targets_have_a_gradient_and_negatives_have_none():
    prediction, tokens, negatives, _ = example()
    only = contrast(prediction[:1], tokens[:1], negatives[:1].clamp(max=2))  # negatives: the first segment's tokens
    (gradient,) = torch.autograd.grad(only.loss, tokens)
    assert gradient[0, 0].eq(0).all()  # a negative, but never a target
    assert gradient[0, 1:].abs().sum((-1, -2)).gt(0).all()


@pytest.mark.parametrize("at_once", [1, 7 * 30, 10**9])
def test_pieces_equal_the_whole(at_once: int, monkeypatch: pytest.MonkeyPatch):
    prediction, tokens, negatives, real = example()
    whole = contrast(prediction, tokens, negatives, real=real)
    expected = torch.autograd.grad(whole.loss, (prediction, tokens))
    monkeypatch.setattr("tsattn.tasks.contrastive.AT_ONCE", at_once)
    pieces = contrast(prediction, tokens, negatives, real=real)
    torch.testing.assert_close(pieces.logits, whole.logits)
    for ours, theirs in zip(torch.autograd.grad(pieces.loss, (prediction, tokens)), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_autocast_does_not_round_the_logits():
    prediction, tokens, negatives, _ = example()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrast(prediction, tokens, negatives)
    assert torch.equal(found.logits, contrast(prediction, tokens, negatives).logits)


def test_a_batch_in_which_nothing_counts_has_the_loss_0():
    prediction, tokens, negatives, _ = example()
    found = contrast(prediction, tokens, negatives, real=torch.zeros(2, 4, 3, dtype=torch.bool))
    assert (found.loss.item(), found.accuracy.item()) == (0, 0)


# Draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 3])
def test_negatives_are_all_other_real_tokens_and_alike_often(batch: int):
    real = torch.rand(batch, 4, 3, generator=torch.Generator().manual_seed(0)) > 0.3
    real[-1, -1, -1] = real[0, 0, 0] = True
    count = 4000
    drawn = draw_corrected(real, count, torch.Generator().manual_seed(1))
    places = set(real.flatten().nonzero()[:, 0].tolist())
    for token in places:
        found, often = drawn.flatten(0, 2)[token].unique(return_counts=True)
        assert set(found.tolist()) == places - {token}  # of the last row, too
        expected = count / (len(places) - 1)
        assert (often - expected).abs().max() < 5 * math.sqrt(expected)


def test_two_real_tokens_are_each_others_negatives_and_one_is_too_few():
    real = torch.zeros(1, 3, 2, dtype=torch.bool)
    real[0, 0, 1] = True
    with pytest.raises(ValueError, match="The batch has 1 recorded segments, expected at least 2"):
        draw_corrected(real, 4)
    real[0, 2, 0] = True
    drawn = draw_corrected(real, 4).flatten(0, 2)
    assert drawn[1].eq(4).all()
    assert drawn[4].eq(1).all()


def test_draws_are_those_of_the_generator():
    real = torch.ones(2, 3, 2, dtype=torch.bool)
    first, again = (draw_corrected(real, 5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    pair = (draw_reference((2, 3, 2), 5, torch.device("cpu"), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(*pair)


def test_the_reference_draws_from_all_rows_but_the_last_and_its_first_token():
    drawn = draw_reference((3, 2, 2), 4000, torch.device("cpu"), torch.Generator().manual_seed(0)).flatten(0, 2)
    for token, found in enumerate(drawn):
        expected = set(range(9)) - {token} if token < 8 else set(range(8))
        assert set(found.tolist()) == expected


def test_the_reference_refuses_a_batch_of_one_row():
    with pytest.raises(ValueError, match="the batch has 1: pass objective='corrected', or batch_size 2 or more"):
        draw_reference((1, 3, 2), 5, torch.device("cpu"))
