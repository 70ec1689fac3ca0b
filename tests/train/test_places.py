"""A store, a split or a run whose folder has a patient's name: the name is in nothing that a run writes or prints."""

from pathlib import Path

import numpy as np
import pytest
from support import tsattn

from tsattn.recordings.places import hidden, revealed, shown, told_command

edfio = pytest.importorskip("edfio")
NAME = "QuombatZyxwilda"
SIZES = (
    "--model.network.class_path tsattn.models.mvpformer.MVPFormer --model.network.sfreq 64 "
    "--model.network.segment_seconds 5 --model.network.segments 4 --model.network.d_model 16 --model.network.layers 1 "
    "--model.network.heads 2 --model.network.kv_heads 1 --model.network.d_ff 16 --model.network.positions 4 "
    "--model.network.max_channels 32 --model.network.index absolute"
).split()
FEW = "--trainer.max_epochs 1 --data.batch_size 4".split()


@pytest.fixture(autouse=True)
def own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))


def test_a_name_in_every_path_is_in_no_output(tmp_path: Path):
    folder = tmp_path / NAME
    (folder / f"{NAME}_files").mkdir(parents=True)
    for k in range(3):
        values = np.random.default_rng(k).normal(0, 40, (3, 64 * 120))
        values[:, 80 * 64 : 100 * 64] += 150 * np.sin(np.arange(20 * 64) / 4)
        signals = [
            edfio.EdfSignal(row, 64.0, label=f"LA{i + 1}", physical_dimension="uV", physical_range=(-800, 800))
            for i, row in enumerate(values)
        ]
        edfio.Edf(signals, patient=edfio.Patient(code=f"code{k}"),
                  annotations=[edfio.EdfAnnotation(80.0, 20.0, "seizure")],
                  ).write(folder / f"{NAME}_files" / f"{NAME}{k}.edf")  # fmt: skip
    printed = ""

    def run(*args: object) -> str:
        nonlocal printed
        ran = tsattn(*args, cwd=folder, XDG_CONFIG_HOME=str(tmp_path / "settings"))
        assert ran.returncode == 0, ran.stderr
        printed += ran.stdout + ran.stderr
        return ran.stdout

    store, splits = folder / f"{NAME}.zarr", folder / f"{NAME}.json"
    run("recordings", "prepare", f"{NAME}_files", "--preset", "swec", "--sfreq", 64, "--changes.band", "[0.5,25]",
        "--out", store.name)  # fmt: skip
    run("recordings", "split", store.name, "--by", "subject", "--fractions", "[0.34,0.33,0.33]", "--out", splits.name)
    data = ["--data.store", store, "--data.splits", splits]
    run(
        "fit",
        "-c",
        "pretrain/mvpformer-tiny.yaml",
        *data,
        *SIZES,
        *FEW,
        "--data.windows_per_epoch",
        8,
        "--test",
        "false",
    )
    (first,) = (folder / "runs").iterdir()
    run("fit", "-c", "detect/mvpformer.yaml", *data, *FEW, "--model.checkpoint", first / "best.ckpt")
    (second,) = (folder / "runs").glob("*-detect-*")
    run("test", "--ckpt_path", second / "best.ckpt", "--out", "scores.json")  # finds its store again
    run("detect", "--checkpoint", second / "best.ckpt", "--recording", folder / f"{NAME}_files" / f"{NAME}0.edf",
        "--out", "found.tsv", "--report", "report.html", "--probabilities", "p.csv")  # fmt: skip
    assert NAME not in printed.replace(str(second), "").replace(str(first), "")
    written = [*(path for path in (folder / "runs").rglob("*") if path.is_file()), *folder.glob("*.t*"),
               folder / "scores.json", folder / "found.json", folder / "report.html", folder / "p.csv"]  # fmt: skip
    assert len(written) > 9
    for path in written:
        assert NAME not in str(path.relative_to(folder)), path
        assert NAME.encode() not in path.read_bytes(), path


def test_a_path_comes_back_on_this_machine_and_not_on_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store = tmp_path / f"{NAME}.zarr"
    store.mkdir()
    called = hidden(store)
    assert NAME not in called
    assert called.endswith(".zarr")
    assert revealed(called) == store
    assert revealed(hidden(called)) == store
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another"))
    with pytest.raises(FileNotFoundError, match=r"not known on this machine: pass the path of your own"):
        revealed(called)


def test_plain_words_stay_as_they_are():
    for path in ("store.zarr", "runs/20260101-120000-mvpformer-store-detect-1/best.ckpt", "../data/splits.json"):
        assert hidden(path) == path
    assert shown("/home/x/events.tsv") == "events.tsv"
    assert NAME not in shown(f"/home/x/{NAME}.tsv")
    told = told_command(["tsattn", "fit", "-c", "detect/mvpformer.yaml", f"--data.store=/x/{NAME}.zarr"])
    assert told.startswith("tsattn fit -c detect/mvpformer.yaml --data.store=rec-")
