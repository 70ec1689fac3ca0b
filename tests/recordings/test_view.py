"""A recording that is prepared where it is read, against the same preparation written to a store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tsattn.events.table import make_events
from tsattn.recordings.preparation import view
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.preparation.preset import Preset, make_preset
from tsattn.recordings.preparation.view import prepared_view
from tsattn.recordings.recording import Recording, from_array, make_channels

pytest.importorskip("zarr")
SECONDS = 70.0
NAMES = ["LA1", "LA2", "LA3", "LB1", "LB2", "ECG"]
TYPES = ["seeg"] * 5 + ["ecg"]


def recording(sfreq: float = 256.0, gaps: bool = True, **rest: Any) -> Recording:
    """A rhythm that all share, noise, drifts; gaps of all channels and of one; a flat channel."""
    rng = np.random.default_rng(0)
    time = np.arange(round(SECONDS * sfreq)) / sfreq
    x = 40 * rng.normal(size=(6, len(time))) + 30 * np.sin(2 * np.pi * 7 * time) + 1000 * np.arange(6)[:, None]
    x[4] = 5.0
    if gaps:
        x[:, round(20.003 * sfreq) : round(33.3 * sfreq)] = np.nan
        x[1, round(50 * sfreq) : round(51.5 * sfreq)] = np.nan
    table = make_channels(NAMES, sfreq, TYPES)
    return from_array(x, sfreq, id="one", subject="sub-1", channels=table, **rest)


class Mixed:
    """Channels at two rates, of sines that exist at any rate."""

    def __init__(self, rates: list[float]) -> None:
        self.rates = rates

    def read(self, rows: list[int], start: int, stop: int) -> np.ndarray:
        time = np.arange(start, stop) / self.rates[rows[0]]
        return np.stack([60 * np.sin(2 * np.pi * (3.3 + row) * time + row) for row in rows])


def mixed() -> Recording:
    rates = [256.0, 256.0, 512.0, 512.0, 256.0]
    return Recording(Mixed(rates), "one", "sub-1", make_channels(NAMES[:5], rates, TYPES[:5]), SECONDS)


PRESETS = {
    "median": make_preset("swec", sfreq=128.0, band=(2.0, 50.0)),
    "notched, higher rate": make_preset("swec", sfreq=300.0, band=(2.0, None), notch=50.0, reference="average"),
    "bipolar": make_preset("swec", sfreq=None, band=(2.0, 60.0), reference="bipolar", bad_rules=()),
    "bads kept": make_preset("swec", sfreq=128.0, band=None, bads="keep", reference="none"),
    "raw": make_preset("raw"),
}


def both(item: Recording, preset: Preset, folder: Path) -> tuple[Recording, Recording]:
    changes = {name: value for name, value in vars(preset).items() if name != "name"}
    stored = prepare(item, folder / "s.zarr", preset="raw", dtype="float32", **changes)["one"]
    return prepared_view(item, preset), stored


def same(viewed: np.ndarray, stored: np.ndarray) -> None:
    """Equal to 1e-5 of each channel's spread, and missing in the same places."""
    np.testing.assert_array_equal(np.isnan(viewed), np.isnan(stored))
    spread = np.nanstd(stored, axis=1, keepdims=True)
    assert np.nanmax(np.abs(viewed - stored) / np.maximum(spread, 1e-3)) < 1e-5


@pytest.mark.parametrize("gaps", [True, False], ids=["gaps", "no gaps"])
@pytest.mark.parametrize("name", PRESETS)
def test_what_is_read_is_what_would_be_stored(name: str, gaps: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(view, "BLOCK_SECONDS", 11.0)
    viewed, stored = both(recording(gaps=gaps), PRESETS[name], tmp_path)
    assert viewed.n_samples == stored.n_samples
    assert viewed.source.block == round(11.0 * viewed.sfreq)
    found = viewed.read(0, viewed.n_samples)
    assert found.dtype == np.float32
    same(found, stored.read(0, stored.n_samples))
    assert viewed.channels.equals(stored.channels)
    assert viewed.gaps == stored.gaps
    assert bool(viewed.gaps) == gaps
    facts = ("id", "subject", "duration", "sfreq", "coordinate_frame")
    assert [getattr(viewed, name) for name in facts] == [getattr(stored, name) for name in facts]
    one, other = (item.about["provenance"] for item in (viewed, stored))
    assert one["steps"] == other["steps"]
    assert Preset.from_json(one["preset"]) == PRESETS[name]


def test_channels_of_several_rates_come_at_one(tmp_path: Path):
    viewed, stored = both(mixed(), PRESETS["median"], tmp_path)
    same(viewed.read(0, viewed.n_samples), stored.read(0, stored.n_samples))


def test_any_order_of_reading_gives_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(view, "BLOCK_SECONDS", 5.0)
    item = recording()
    expected = prepared_view(item, PRESETS["median"]).read(0, round(SECONDS * 128))
    viewed = prepared_view(item, PRESETS["median"])
    rng = np.random.default_rng(1)
    for _ in range(40):
        start, stop = np.sort(rng.integers(0, expected.shape[1] + 1, 2)).tolist()
        rows = rng.permutation(len(expected))[: rng.integers(1, len(expected) + 1)].tolist()
        np.testing.assert_array_equal(viewed.read(start, stop, rows), expected[rows, start:stop])
    assert viewed.read(7, 7).shape == (len(expected), 0)


def test_reading_in_order_prepares_each_block_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(view, "BLOCK_SECONDS", 5.0)
    viewed, prepared = prepared_view(recording(), PRESETS["median"]), []
    block = type(viewed.source.chain).block

    def noted(self: Any, start: int, stop: int) -> np.ndarray:
        prepared.append(start)
        return block(self, start, stop)

    monkeypatch.setattr(type(viewed.source.chain), "block", noted)
    for start in range(0, viewed.n_samples - 256 + 1, 64):  # windows of two seconds, half a second apart
        viewed.read(start, start + 256)
    assert prepared == list(range(0, viewed.n_samples, 640))


def test_a_recording_of_many_channels_is_prepared_in_shorter_blocks(monkeypatch: pytest.MonkeyPatch):
    """Two hundred channels at 512 Hz with what filters see around a block do not fit into the usual share."""
    item = recording()
    expected = prepared_view(item, PRESETS["median"]).read(0, round(SECONDS * 128))
    monkeypatch.setattr(view, "MEMORY", 1e5)
    viewed = prepared_view(item, PRESETS["median"])
    assert viewed.source.block < 20 * 128
    same(viewed.read(0, viewed.n_samples), expected)


def test_events_stay_and_what_a_look_finds_is_told():
    events = make_events([5.0, 40.0], [2.0, 3.0])
    item = recording(events=events)
    viewed = prepared_view(item, PRESETS["median"])
    assert viewed.events.equals(events)
    assert "LB2" not in viewed.names  # flat
    assert viewed.about["provenance"]["steps"][0]["bad"] == {"LB2": "flat: 100 % of the time"}
    assert item.channels["status"].tolist() == ["good"] * 6


def test_values_that_are_no_microvolts_are_refused_when_it_is_made():
    item = recording(gaps=False)
    volts = replace(item, source=type(item.source)(item.source.values * 1e-6))
    with pytest.raises(ValueError, match=r"one: The values look like volts read as microvolts") as told:
        prepared_view(volts, PRESETS["median"])
    assert "implausible" not in str(told.value)  # a contract is not the reader's to change
    kept = replace(PRESETS["median"], implausible="keep")
    assert np.nanstd(prepared_view(volts, kept).read(0, 1000)) < 1e-3


def test_a_recording_that_is_too_short_for_the_filters_is_refused():
    x = np.random.default_rng(0).normal(size=(2, 200)) * 50
    with pytest.raises(ValueError, match="no stretch without a gap that is long enough for the filters"):
        prepared_view(from_array(x, 256.0), make_preset("swec", sfreq=128.0, band=(0.5, 50.0), bad_rules=()))
