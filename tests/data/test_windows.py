"""Windows are what slicing by hand gives, every one comes exactly once, and the table's length costs nothing."""

import time
import tracemalloc
from itertools import chain

import pytest
import torch

from tsattn.contracts import Batch
from tsattn.data.windows import WindowLoader, Windows, window_starts


def by_hand(windows: Windows, start: int) -> Batch:
    middle, end = start + windows.context, start + windows.context + windows.horizon
    return Batch(
        windows.values[:, start:middle],
        windows.values[: windows.targets, middle:end],
        None if windows.known is None else windows.known[:, start:end],
        None if windows.observed is None else windows.observed[:, start:middle],
    )


def make(variates: int, rows: int, targets: int, context: int, horizon: int, extras: bool) -> Windows:
    values = torch.randn(variates, rows)
    known = torch.randn(3, rows) if extras else None
    observed = torch.rand(variates, rows) > 0.1 if extras else None
    return Windows(values, targets, context, horizon, known, observed)


@pytest.mark.parametrize("extras", [False, True])
@pytest.mark.parametrize(
    ("variates", "rows", "targets", "context", "horizon"),
    [(1, 2, 1, 1, 1), (1, 63, 1, 17, 5), (7, 200, 7, 24, 8), (5, 97, 2, 1, 63), (17, 130, 1, 63, 1), (3, 40, 3, 33, 7)],
)
def test_gather_equals_slicing_by_hand(variates, rows, targets, context, horizon, extras):
    torch.manual_seed(0)
    windows = make(variates, rows, targets, context, horizon, extras)
    starts = torch.arange(len(windows))[torch.randperm(len(windows))][:19]
    batch = windows.gather(starts)
    expected = [by_hand(windows, start) for start in starts.tolist()]
    for name, tensor in batch._asdict().items():
        if tensor is None:
            assert getattr(expected[0], name) is None
            continue
        assert torch.equal(tensor, torch.stack([getattr(window, name) for window in expected])), name
        assert tensor.is_contiguous(), name


def test_gather_copies():
    windows = make(2, 30, 1, 4, 2, False)
    before = windows.values.clone()
    windows.gather(torch.tensor([0, 3])).past.zero_()
    assert torch.equal(windows.values, before)


def test_the_truth_may_differ_from_what_the_network_reads():
    values, truth = torch.zeros(2, 20), torch.ones(1, 20)
    batch = Windows(values, 1, 4, 2, truth=truth).gather(torch.tensor([0]))
    assert batch.past.sum() == 0
    assert batch.future.shape == (1, 1, 2)
    assert batch.future.sum() == 2


def test_a_start_outside_of_the_table_is_an_error():
    windows = make(2, 30, 1, 4, 2, False)
    with pytest.raises((IndexError, RuntimeError)):
        windows.gather(torch.tensor([len(windows)]))


def test_borders_reach_back_or_not():
    assert window_starts(100, 0, 60, 10, 5).tolist() == list(range(46))
    assert window_starts(100, 60, 80, 10, 5)[[0, -1]].tolist() == [50, 65]
    assert window_starts(100, 60, 80, 10, 5, reach_back=False)[[0, -1]].tolist() == [60, 65]
    assert window_starts(100, 4, 80, 10, 5)[0] == 0  # not enough rows to reach back to
    assert len(window_starts(100, 60, 64, 10, 5)) == 0
    with pytest.raises(ValueError, match=r"rows \[60, 101\)"):
        window_starts(100, 60, 101, 10, 5)


def test_a_table_without_room_for_a_window_is_refused():
    with pytest.raises(ValueError, match=r"9 rows.*6 \+ 4 = 10"):
        Windows(torch.zeros(1, 9), 1, 6, 4)
    with pytest.raises(ValueError, match="3 targets"):
        Windows(torch.zeros(2, 20), 3, 6, 4)


@pytest.mark.parametrize("batch_size", [1, 7, 512])
@pytest.mark.parametrize("shuffle", [False, True])
def test_an_epoch_covers_every_window_once_whatever_the_batch_size(batch_size: int, shuffle: bool):
    windows = Windows(torch.arange(300.0)[None], 1, 10, 5)
    starts = window_starts(300, 100, 200, 10, 5)
    loader = WindowLoader(windows, starts, batch_size, shuffle=shuffle)
    batches = list(loader)
    assert len(batches) == len(loader)
    seen = torch.cat([batch.past[:, 0, 0] for batch in batches])
    assert seen.sort().values.tolist() == starts.tolist()
    assert (seen.tolist() != starts.tolist()) == shuffle


def test_the_order_depends_on_seed_and_epoch_only():
    def order(seed: int, epoch: int) -> list[int]:
        loader = WindowLoader(windows, torch.arange(100), 8, shuffle=True, seed=seed)
        loader.sampler.set_epoch(epoch)
        torch.manual_seed(epoch + 1)  # must not matter
        return loader.order().tolist()

    windows = Windows(torch.zeros(1, 200), 1, 10, 5)
    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(4) for epoch in range(4)}) == 16


def test_a_pass_goes_on_where_it_was_interrupted():
    windows = Windows(torch.arange(200.0)[None], 1, 10, 5)

    def loader() -> WindowLoader:
        return WindowLoader(windows, torch.arange(50), 8, shuffle=True, seed=3)

    whole, cut, resumed = loader(), loader(), loader()
    for each in (whole, cut):
        each.set_epoch(2)
    expected = [batch.past[:, 0, 0].tolist() for batch in whole]
    passing = iter(cut)
    [next(passing) for _ in range(3)]
    resumed.load_state_dict(cut.state_dict())
    resumed.set_epoch(2)
    assert [batch.past[:, 0, 0].tolist() for batch in resumed] == expected[3:]
    assert [batch.past[:, 0, 0].tolist() for batch in resumed] == expected  # only once


@pytest.mark.parametrize("windows_in_part", [1, 2, 10, 23])
@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_windows(windows_in_part: int, world: int):
    windows = Windows(torch.arange(200.0)[None], 1, 10, 5)

    def shares(even: bool) -> list[list[int]]:
        result = []
        for rank in range(world):
            loader = WindowLoader(
                windows, torch.arange(windows_in_part), 4, shuffle=True, rank=rank, world=world, even=even
            )
            batches = list(loader)
            assert len(batches) == len(loader)
            result.append([int(start) for batch in batches for start in batch.past[:, 0, 0]])
        return result

    exact = shares(even=False)
    assert sorted(chain(*exact)) == list(range(windows_in_part))
    padded = shares(even=True)
    assert len({len(share) for share in padded}) == 1
    assert set(chain(*padded)) == set(range(windows_in_part))


def test_nonsense_loaders_are_refused():
    windows = Windows(torch.zeros(1, 20), 1, 4, 2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        WindowLoader(windows, torch.arange(3), 0)
    with pytest.raises(ValueError, match="rank is 2 of 2"):
        WindowLoader(windows, torch.arange(3), 1, rank=2, world=2)


def test_neither_time_nor_memory_grow_with_the_table():
    """A view whose gather copied the table would cost a hundred times more here."""

    def cost(rows: int) -> float:
        windows = Windows(torch.zeros(7, rows), 7, 96, 96)
        starts = torch.randint(0, len(windows), (32,))
        laps = []
        for _ in range(30):
            begin = time.process_time_ns()
            windows.gather(starts)
            laps.append(time.process_time_ns() - begin)
        return min(laps)

    assert cost(1_000_000) < 20 * cost(1_000) + 1e6
    tracemalloc.start()
    list(WindowLoader(Windows(torch.zeros(7, 50_000), 7, 96, 96), torch.arange(1000), 32, shuffle=True))
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gather_on_a_gpu_equals_gather_on_the_cpu():
    windows = make(5, 100, 2, 17, 9, True)
    starts = torch.tensor([0, 3, 70])
    for ours, theirs in zip(windows.to("cuda").gather(starts.cuda()), windows.gather(starts), strict=True):
        assert torch.equal(ours.cpu(), theirs)


def test_hidden_rows_of_what_is_known_end_with_the_context():
    known = torch.arange(60.0).view(3, 20) + 1
    windows = Windows(torch.zeros(1, 20), 1, 4, 2, known, hidden=slice(1, 2))
    batch = windows.gather(torch.tensor([0, 5, 14]))
    for row, start in zip(batch.known, (0, 5, 14), strict=True):
        expected = known[:, start : start + 6].clone()
        expected[1, 4:] = 0
        assert torch.equal(row, expected)
    assert torch.equal(windows.known, known)
    moved = windows.to("meta")
    assert moved.hidden == slice(1, 2)
