"""What is damaged in a store is refused in one sentence that names it: samples by checksums, attributes by a schema."""

import copy
import json
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tsattn import documents
from tsattn.cli import main
from tsattn.events.table import make_events
from tsattn.recordings.preparation.prepare import prepare
from tsattn.recordings.recording import Recording, from_array
from tsattn.recordings.store import _say_without, open_store

pytest.importorskip("zarr")
SFREQ, SECONDS, CHANNELS = 256.0, 30, 6
BAD: list[Any] = [None, True, -1, 0, 3, 1e400, 2**70, "x", "", [], {}, [None], [[1]], {"a": 1}, ["a", 1], float("nan")]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    x = 50 * np.random.default_rng(0).standard_normal((CHANNELS, round(SECONDS * SFREQ)))
    x[:, 2_000:2_500] = np.nan
    events = make_events([3.0, 12.0], [4.0, 2.0])
    prepare(from_array(x.astype(np.float32), SFREQ, id="rec", events=events), path, preset="raw", memory=6e5)
    return path


@pytest.fixture
def store(healthy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(healthy, tmp_path / "s.zarr"))


def read_all(path: Path) -> np.ndarray:
    recording = open_store(path)["rec"]
    return recording.read(0, recording.n_samples)


def is_refused(recording: Recording, row: int) -> bool:
    try:
        recording.read(0, recording.n_samples, [row])
    except ValueError as error:
        return "is damaged" in str(error)
    return False


# Samples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_every_damaged_byte_of_a_shard_is_an_error_for_every_way_of_reading(dtype: str, tmp_path: Path):
    x = 50 * np.random.default_rng(1).standard_normal((CHANNELS, 12_000)).astype(np.float32)
    prepare(from_array(x, SFREQ, id="rec"), tmp_path / "s.zarr", preset="raw", dtype=dtype, memory=6e5)
    names = ["signal", "scaling"] if dtype == "int16" else ["signal"]
    files = [file for name in names for file in sorted((tmp_path / "s.zarr/rec" / name).glob("c.*"))]
    assert len(files) >= len(names)
    random = np.random.default_rng(2)
    for file in files:
        good = file.read_bytes()
        for place in random.integers(0, len(good), 20):
            bad = bytearray(good)
            bad[place] ^= 1 << int(random.integers(8))
            file.write_bytes(bad)
            # A recording made anew has another stamp; the same one would be read from the open file.
            facts = tmp_path / "s.zarr/rec/zarr.json"
            facts.write_text(re.sub(r'"stamp": "[^"]*"', f'"stamp": "{random.integers(1 << 60)}"', facts.read_text()))
            with pytest.raises(ValueError, match=r"\.zarr is damaged: c\.\S+ of rec (has other|is missing or cut off)"):
                read_all(tmp_path / "s.zarr")
            recording = open_store(tmp_path / "s.zarr")["rec"]
            assert any(is_refused(recording, row) for row in range(CHANNELS))
        file.write_bytes(good)


def test_checksums_cover_the_last_chunk_and_the_missing_samples(healthy: Path):
    found = read_all(healthy)
    assert np.isnan(found[:, 2_000:2_500]).all()
    assert np.isfinite(found[:, -1]).all()


def test_a_store_of_before_opens_and_says_so_once(store: Path, caplog: pytest.LogCaptureFixture):
    before = read_all(store)
    facts = json.loads((store / "rec/zarr.json").read_text())
    del facts["attributes"]["layout"]["checksums"]
    (store / "rec/zarr.json").write_text(json.dumps(facts))
    shutil.rmtree(store / "rec/checksums")
    _say_without.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(read_all(store), before, equal_nan=True)
        read_all(store)
    assert caplog.text.count("before samples had checksums") == 1


# Attributes ------------------------------------------------------------------------------------------------------


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*at, key))


def changed(tree: Any, at: tuple[Any, ...], value: Any) -> Any:
    tree = copy.deepcopy(tree)
    if not at:
        return value
    here = tree
    for key in at[:-1]:
        here = here[key]
    if value is places:  # stands for "taken away"
        del here[at[-1]]
    else:
        here[at[-1]] = value
    return tree


@pytest.mark.parametrize("file", ["zarr.json", "rec/zarr.json"])
def test_no_single_change_of_an_attribute_ends_in_anything_but_a_sentence(file: str, store: Path):
    good = json.loads((store / file).read_text())
    tried = refused = 0
    for at in places(good):
        for value in [places, *BAD] if at else BAD:
            (store / file).write_text(json.dumps(changed(good, at, value)))
            tried += 1
            try:
                recording = open_store(store)["rec"]
                recording.read(0, 100)
                str(recording.about), len(recording.events), recording.names
            except ValueError as error:
                refused += 1
                if "\n" in str(error):
                    pytest.fail(f"{at} {value}: {error}")
            except KeyError:  # the store has no recording any more
                refused += file == "zarr.json"
    assert tried > 300
    assert refused > tried / 3


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (("layout", "samples"), "many", "layout.samples is 'many', expected a whole number"),
        (("channels", "x"), [0.0], "channels.x has 1 items, expected 6"),
        (("duration",), 9.0, "duration is 9 s, expected 30 s for its samples"),
        (("events", "onset"), ["a", "b"], r"events.onset\[0\] is 'a', expected a finite number"),
        (("gaps",), [[1.0]], r"gaps\[0\] is \[1.0\], expected a begin and an end"),
        (("notes",), [{"level": "bad", "text": ""}], r"notes\[0\].level is 'bad', expected one of 'info', 'warning'"),
        (("id",), "other", "id is 'other', expected 'rec'"),
        (("layout", "chunk"), 2**40, "layout"),
    ],
)
def test_the_sentence_names_store_recording_and_attribute(
    store: Path, at: tuple[str, ...], value: Any, message: str, monkeypatch
):
    good = json.loads((store / "rec/zarr.json").read_text())
    (store / "rec/zarr.json").write_text(json.dumps(changed(good, ("attributes", *at), value)))
    with pytest.raises(ValueError, match=rf"rec is damaged: {message}"):
        open_store(store)["rec"]
    with pytest.raises(SystemExit, match=rf"rec is damaged: {message}"):
        main(["recordings", "inspect", str(store)])


def test_an_id_that_leaves_the_store_is_refused(store: Path):
    good = json.loads((store / "zarr.json").read_text())
    good["attributes"]["expected"] = ["../../elsewhere"]
    (store / "zarr.json").write_text(json.dumps(good))
    with pytest.raises(ValueError, match=r"expected holds '\.\./\.\./elsewhere', which is not a recording's id"):
        open_store(store)


# Documents -------------------------------------------------------------------------------------------------------


def test_documents_are_bounded_in_size_depth_and_values(tmp_path: Path):
    file = tmp_path / "a.json"
    file.write_text("[" * 200_000)
    with pytest.raises(ValueError, match=r"a\.json is nested more than 64 levels deep"):
        documents.read_json(file)
    file.write_text("[" * 66 + "]" * 66)
    with pytest.raises(ValueError, match="nested more than 64 levels"):
        documents.read_json(file)
    file.write_text(" " * 2000)
    with pytest.raises(ValueError, match="has 2000 bytes, expected at most 1000"):
        documents.read_json(file, largest=1000)
    file.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(ValueError, match="is not UTF-8 text at byte 7"):
        documents.read_json(file)
    with pytest.raises(ValueError, match="is not a regular file"):
        documents.read_json(tmp_path)
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for one, two in zip("abcdefghi", "bcdefghij", strict=True):
        bomb += f"{two}: &{two} [{', '.join([f'*{one}'] * 10)}]\n"
    (tmp_path / "bomb.yaml").write_text(bomb)
    with pytest.raises(ValueError, match="becomes more than"):
        documents.read_yaml(tmp_path / "bomb.yaml")
    (tmp_path / "code.yaml").write_text("a: !!python/object/apply:os.system [true]")
    with pytest.raises(ValueError, match="could not determine a constructor"):
        documents.read_yaml(tmp_path / "code.yaml")
    assert documents.parse_json('\ufeff{"a": [1]}'.encode(), "b") == {"a": [1]}
