"""How a run writes its checkpoints: whole or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tsattn.train.folder import WholeFileIO


def test_a_disk_that_is_full_leaves_the_checkpoint_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "best.ckpt"
    WholeFileIO().save_checkpoint({"epoch": 1, "weights": torch.arange(1000)}, path)
    before = path.read_bytes()
    save = torch.save

    def full(content: Any, file: Any) -> None:
        save(content, file)
        file.flush()
        file.truncate(500)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        WholeFileIO().save_checkpoint({"epoch": 2, "weights": torch.zeros(1000)}, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
