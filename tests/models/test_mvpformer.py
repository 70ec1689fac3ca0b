"""MVPFormer as a network of ours: which grids it takes, saved memory, compilation, what it refuses. (Parity: there.)"""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from support import ROOT
from torch import Tensor

from tsattn.models.mvpformer import MVPFormer


def small(**changes: object) -> MVPFormer:
    torch.manual_seed(0)
    sizes = dict(sfreq=32.0, segment_seconds=1.0, segments=4, d_model=8, layers=2, heads=2, kv_heads=1, d_ff=8)
    made = MVPFormer(**(sizes | {"positions": 6, "max_channels": 5, "window": 1} | changes))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    for p in made.parameters():
        p.data.normal_(std=0.3, generator=generator)
    return made


def signal(channels: int = 3, segments: int = 4, batch: int = 2) -> Tensor:
    return 20 * torch.randn(batch, segments, channels, 32, generator=torch.Generator().manual_seed(channels))


MASK = torch.tensor([[True] * 3, [True, True, False]])


def gradients(network: MVPFormer, last: bool) -> list[Tensor]:
    torch.manual_seed(7)  # of dropout
    tokens = network.encode(signal())
    found = network.mix_last(tokens, MASK) if last else network.predict_next(network.mix(tokens, MASK))
    found.square().sum().backward()
    return [found.detach()] + [torch.zeros(()) if p.grad is None else p.grad for p in network.parameters()]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("last", [False, True])
def test_computing_blocks_again_changes_neither_outputs_nor_gradients(last: bool, dropout: float):
    kept = gradients(small(dropout=dropout, residual_dropout=dropout), last)
    again = gradients(small(dropout=dropout, residual_dropout=dropout, checkpointing=True), last)
    for ours, expected in zip(again, kept, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
    assert max(float(x.abs().max()) for x in kept[1:]) > 0.1


def test_gradients_are_finite_with_padding_and_silence():
    silent = signal()
    silent[0, :, 1] = 0
    silent[1, :, 2] = 0
    network = small()
    network.predict_next(network(silent, MASK)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_any_number_of_channels_up_to_the_tables_length():
    network = small()
    for channels in range(1, 6):
        assert network(signal(channels)).isfinite().all()
    with pytest.raises(ValueError, match=r"6 channels, expected at most 5: choose some, or read them in several"):
        network(signal(6))
    with pytest.raises(ValueError, match="6 channels, expected at most 5"):
        network.mix_last(network.encode(signal(6)))


def test_weights_that_count_from_the_present_take_their_own_number_of_segments_alone():
    network = small()
    for segments in (3, 5):
        with pytest.raises(ValueError, match=f"{segments} segments, expected 4: with index='current'"):
            network(signal(segments=segments))


def test_absolute_distances_take_any_number_of_segments_up_to_the_tables_length():
    network = small(index="absolute", layers=1, window=10)
    for segments in range(1, 7):
        assert network(signal(segments=segments)).shape == (2, segments, 3, 8)
    with pytest.raises(ValueError, match="7 segments, expected at most positions=6"):
        network(signal(segments=7))


def test_with_absolute_distances_a_segment_means_the_same_in_a_longer_window():
    network = small(index="absolute")
    whole = signal(segments=6)
    longer = network(whole)[:, :4]
    shorter = network(whole[:, :4])
    # the last segment of a window reads all content, so it alone differs
    torch.testing.assert_close(longer[:, :3], shorter[:, :3], rtol=0, atol=1e-5)
    assert (longer[:, 3] - shorter[:, 3]).abs().max() > 1e-4


def test_no_segment_reads_a_later_one():
    network, other = small(), signal()
    other[:, 2:] += 30
    before, after = network(signal()), network(other)
    torch.testing.assert_close(after[:, :2], before[:, :2], rtol=0, atol=1e-6)
    assert (after[:, 2] - before[:, 2]).abs().max() > 1e-2


def test_padded_channels_have_no_output():
    network = small()
    assert network(signal(), MASK)[1, :, 2].eq(0).all()
    assert network.mix_last(network.encode(signal()), MASK)[1, 2].eq(0).all()


def test_a_network_without_a_head_says_so():
    network = small(generative=False)
    assert network.head is None
    with pytest.raises(NotImplementedError, match="MVPFormer was made without a head for pre-training"):
        network.predict_next(network(signal()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers is 0, expected at least 1"),
        ({"max_channels": 0}, "max_channels is 0"),
        ({"positions": 3}, "positions is 3, expected at least segments=4"),
        ({"heads": 3}, "d_model is 8 and heads 3, expected a multiple"),
        ({"sfreq": 33.3}, r"a segment of 1 s is 33.3 samples at 33.3 Hz, expected a whole number"),
        ({"segment_seconds": 0.0}, "segment_seconds is 0, expected above 0"),
    ],
)
def test_impossible_numbers_are_refused(changes: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        small(**changes)


@pytest.mark.slow
def test_it_compiles_as_one_graph_with_the_same_outputs_and_gradients():
    done = subprocess.run(  # in a process of its own, since checks of shapes are no part of a graph
        [sys.executable, __file__], cwd=ROOT, text=True, capture_output=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["mix", "mix, masked", "mix_last", "mix_last, masked"]


def compiled_equals_plain() -> None:
    for last, mask in itertools.product((False, True), (None, MASK)):

        def run(network: MVPFormer, signal: Tensor, last: bool = last, mask: Tensor | None = mask) -> Tensor:
            tokens = network.encode(signal)
            return network.mix_last(tokens, mask) if last else network.mix(tokens, mask)

        plain, compiled = small(), small()
        expected = run(plain, signal())
        found = torch.compile(run, backend="aot_eager", fullgraph=True)(compiled, signal())
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        expected.square().sum().backward()
        found.square().sum().backward()
        for ours, theirs in zip(compiled.parameters(), plain.parameters(), strict=True):
            assert (ours.grad is None) == (theirs.grad is None)
            if theirs.grad is not None:
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
        print(f"{'mix_last' if last else 'mix'}{', masked' if mask is not None else ''}")


if __name__ == "__main__":
    compiled_equals_plain()
