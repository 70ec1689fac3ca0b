"""A small seeded sample of the fuzzing; `make fuzz` runs hundreds for each format."""

import random
import sys

import pytest
from fuzz import FORMATS, fuzz, mutate

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="bounds of memory need Linux")
EXTRAS = {"swec": "hdf5plugin", "mef": "mef_tools", "nwb": "pynwb", "zarr": "zarr", "shard": "zarr"}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_damaged_files_end_in_an_answer_or_in_a_sentence(name: str):
    pytest.importorskip(EXTRAS.get(name, "numpy"))
    assert fuzz(name, count=4, seed=5) == []


def test_a_mutation_is_made_again_by_its_seed_and_changes_something():
    content = b"sfreq,100\n1.5,2\n" * 20
    made = [mutate(content, random.Random(f"3 csv {number}")) for number in range(50)]
    assert made == [mutate(content, random.Random(f"3 csv {number}")) for number in range(50)]
    assert sum(one != content for one in made) > 40


def test_what_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch):
    """The harness itself: an exception that is not ours, memory, time and the end of the process are all seen."""
    import os
    from dataclasses import replace

    def bad(path) -> None:
        kind = path.read_bytes()[:1]
        if kind == b"k":
            raise KeyError("x")
        if kind == b"m":
            bytearray(3 * 2**30)
        if kind == b"e":
            os._exit(3)
        if kind == b"h":
            while True:
                pass

    def make(folder):
        (folder / "a").write_bytes(b"good")
        return folder / "a"

    monkeypatch.setattr("fuzz.SECONDS", 2)
    monkeypatch.setitem(FORMATS, "csv", replace(FORMATS["csv"], make=make, use=bad))
    words = {b"k": "KeyError", b"m": "memory: more than", b"e": "ended or hung", b"h": "hang: more than"}
    for kind, word in words.items():
        monkeypatch.setattr("fuzz.mutate", lambda content, chance, kind=kind: kind)
        (told,) = fuzz("csv", count=1)
        assert word in told
