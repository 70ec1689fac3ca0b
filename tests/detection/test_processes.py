"""A detector in two processes against one: every window once, in order, with the same probabilities and events."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from small import detector, prepared, values

from tsattn.detection import detector as room
from tsattn.detection.detector import Detection
from tsattn.recordings.recording import Recording

pytestmark = pytest.mark.slow
CLOSE = 1e-6  # of float32, whose last digits depend on how many rows are multiplied at a time


def recording(seconds: float) -> Recording:
    x = values(channels=5, seconds=seconds)
    if seconds > 30:
        x[:, 20 * 32 : 21 * 32] = np.nan  # in the first half
    return prepared(x, id="item")


CASES: dict[str, tuple[float, dict[str, Any], dict[str, Any]]] = {  # seconds, of the call, of the network
    "57 windows": (60.5, {}, {}),
    "29 windows, every second one": (60.0, {"stride": 2}, {}),
    "two readings": (60.0, {"more_channels": "ensemble"}, {"max_channels": 3}),
    "one window, one process without any": (4.5, {}, {}),
}


def run(name: str, **more: Any) -> tuple[Detection, list[int]]:
    """Return what is detected, and which windows this process has computed."""
    seconds, call, network = CASES[name]
    seen: list[int] = []
    stream = room.stream

    def watched(*args: Any) -> Any:
        for first, found in stream(*args):
            seen.extend(range(first, first + len(found)))
            yield first, found

    with patch.object(room, "stream", watched):
        return detector(**network).detect(recording(seconds), **call, **more), seen


def plain(found: Detection, seen: list[int]) -> dict[str, Any]:
    probability, time = (torch.from_numpy(np.array(x)) for x in (found.probability.values, found.probability["time"]))
    return {"events": found.events.to_dict("list"), "probability": probability, "time": time, "seen": seen}


def process(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found: dict[str, Any] = {name: plain(*run(name)) for name in CASES}
    partial = folder / "partial"
    with patch.object(torch.distributed, "all_gather_object", side_effect=InterruptedError):
        try:
            run("57 windows", partial=partial)
        except InterruptedError:
            found["left"] = partial.with_name(f"partial.{rank}").is_file()
    found["again"] = plain(*run("57 windows", partial=partial))
    torch.save(found, folder / f"found{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        torch.multiprocessing.spawn(process, (folder,), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_probabilities_and_events_of_one(name: str, found: list[dict[str, Any]]):
    one, windows = run(name)
    for ours in (process[name] for process in found):
        np.testing.assert_array_equal(ours["time"], one.probability["time"])
        np.testing.assert_allclose(ours["probability"], one.probability, rtol=0, atol=CLOSE)
        expected = pd.DataFrame(one.events.to_dict("list"))
        pd.testing.assert_frame_equal(pd.DataFrame(ours["events"]), expected, rtol=0, atol=CLOSE)
        assert ours["events"]["onset"] == expected["onset"].tolist()
        assert ours["events"]["duration"] == expected["duration"].tolist()
    assert windows == list(range(len(one.probability)))
    if len(windows) > 1:
        assert len(one.events) > 1
        assert np.ptp(one.probability.dropna("time").values) > 0.3
    if name == "57 windows":
        assert one.probability.isnull().any()


@pytest.mark.parametrize("name", CASES)
def test_two_processes_share_the_windows_out(name: str, found: list[dict[str, Any]]):
    first, second = (process[name]["seen"] for process in found)
    count = len(found[0][name]["time"])
    assert count % 2 == 1
    assert first == list(range(count // 2 + 1))
    assert second == list(range(count // 2 + 1, count))


def test_what_a_process_has_done_is_kept_until_all_are_done(folder: Path, found: list[dict[str, Any]]):
    for process in found:
        assert process["left"]
        assert process["again"]["seen"] == []
        assert torch.equal(
            process["again"]["probability"].nan_to_num(), process["57 windows"]["probability"].nan_to_num()
        )
    assert not list(folder.glob("partial*"))
