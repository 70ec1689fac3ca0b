"""What is printed can be shown by every terminal, and moves none."""

from pathlib import Path

import numpy as np
import pytest
from support import alone, tsattn

from tsattn.terminal import MOVES, printable

pytest.importorskip("edfio")


@pytest.mark.parametrize(
    ("text", "encoding", "told"),
    [
        ("40 µV … 3 × 5", "ascii", "40 uV ... 3 x 5"),
        ("40 µV", "utf-8", "40 µV"),
        ("Größe", "ascii", "Gr??e"),
        ("a\x1b[2Jb\r\n\tc", "utf-8", "a\\x1b[2Jb\r\n\tc"),
        ("\u202eevil", "utf-8", "\\u202eevil"),
        (MOVES + "bar", "utf-8", MOVES + "bar"),
    ],
)
def test_letters_and_control_characters(text: str, encoding: str, told: str):
    assert printable(text, encoding) == told


def test_inspect_ends_well_on_a_terminal_of_ascii(tmp_path: Path):
    import edfio

    signals = [
        edfio.EdfSignal(np.random.default_rng(k).normal(0, 50, 2000), 100.0, label=f"LA{k}", physical_dimension="uV",
                        physical_range=(-500, 500))
        for k in range(1, 4)
    ]  # fmt: skip
    path = tmp_path / "na\x1b[31mme.edf"
    edfio.Edf(signals).write(path)
    ran = alone("recordings", "inspect", path, cwd=tmp_path, PYTHONIOENCODING="ascii", LANG="C", TSATTN_SHOW_NAMES="1")
    assert ran.returncode == 0, ran.stderr
    assert "uV" in ran.stdout
    assert "\x1b" not in ran.stdout + ran.stderr
    absent = tsattn("recordings", "inspect", tmp_path / "no\x1b[31m.edf", cwd=tmp_path, TSATTN_SHOW_NAMES="1")
    assert absent.returncode
    assert "\x1b" not in absent.stderr
