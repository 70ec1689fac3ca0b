"""Settings of the authors that no shape tells: each is given, or read from their configuration, or refused by name."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from test_convert import authors_itransformer
from test_convert_mvpformer import GIVEN as MVPFORMER
from test_convert_mvpformer import base
from torch import Tensor

from tsattn.cli import main
from tsattn.convert import MODELS, TOLD, TSLIB_MODELS, convert, find_weights, read_config

ITRANSFORMER = {"heads": 2, "normalize": True, "activation": "gelu"}
CONFIG: dict[str, Any] = {  # as braindecode's `save_pretrained` writes it, for the weights of `braindecode`
    "n_outputs": 2, "n_chans": 3, "n_times": 96, "input_window_seconds": None, "sfreq": 32.0, "chs_info": None,
    "segment_seconds": 1.0, "d_model": 8, "n_layers": 1, "n_heads": 4, "n_head_kv": 2, "d_inner": 12,
    "local_window": 2, "global_att": True, "max_segments": 5, "max_channels": 6, "drop_prob": 0.1,
    "activation": "torch.nn.modules.activation.SiLU", "pooling": "mean", "braindecode_version": "1.8.1",
}  # fmt: skip


def braindecode() -> dict[str, Tensor]:
    names = {
        "encoder.ln.weight": "patch_embed.ln.weight", "encoder.proj.weight": "patch_embed.proj.weight",
        "mvpformer.ln_f.weight": "ln_f.weight", "mvpformer.positional_embedding.weight": "positional_embedding.weight",
        "mvpformer.channel_embedding.weight": "channel_embedding.weight",
    }  # fmt: skip
    state = {}
    for key, value in base().items():
        if key in ("seizure_embeddings", "head.head.weight") or key.endswith("ln_2.weight"):
            continue
        key = names.get(key, key.replace("mvpformer.h.", "blocks."))
        state[key] = value.flatten() if key.endswith("attn_bias") else value
    return state | {"final_layer.weight": torch.ones(2, 8)}


@pytest.mark.parametrize("path", sorted({*MODELS.values(), *TSLIB_MODELS.values()}))
def test_each_argument_of_a_model_has_its_source(path: str):
    """A new argument that changes a forecast and that no shape tells has to be asked for."""
    module, _, name = path.rpartition(".")
    model = getattr(importlib.import_module(module), name)
    assert set(TOLD[path]) == set(inspect.signature(model.__init__).parameters) - {"self"}
    assert set(TOLD[path].values()) <= {"shape", "given", "training", "ours"}


@pytest.mark.parametrize("name", [*ITRANSFORMER])
def test_a_setting_that_no_shape_tells_is_refused_by_name(name: str):
    given = {key: value for key, value in ITRANSFORMER.items() if key != name}
    with pytest.raises(ValueError, match=f"itransformer: {name} not given.*{name}=.*--given.{name}"):
        convert("itransformer", authors_itransformer(), **given)


def test_braindecode_without_its_configuration_is_refused_with_every_name():
    names = "heads, segments, sfreq, segment_seconds, window, activation, global_attention"
    with pytest.raises(ValueError, match=f"braindecode: {names} not given"):
        convert("braindecode", braindecode())


def test_the_configuration_tells_what_shapes_do_not():
    made = convert("braindecode", braindecode(), config=CONFIG).network
    init = made.recipe["init_args"]["network"]["init_args"]
    found = {name: init[name] for name in ("heads", "kv_heads", "segments", "sfreq", "segment_seconds", "window")}
    assert found == dict(heads=4, kv_heads=2, segments=3, sfreq=32.0, segment_seconds=1.0, window=2)
    by_hand = convert("braindecode", braindecode(), **MVPFORMER | {"window": 2, "segment_seconds": 1.0}).network
    signal = torch.randn(1, 3, 3, 32)
    assert torch.equal(made(signal), by_hand(signal))
    other = convert("braindecode", braindecode(), config=CONFIG | {"local_window": 1}).network
    assert not torch.equal(made(signal), other(signal)) or init["window"] != 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"activation": "torch.nn.modules.activation.GELU"},
            "activation='gelu', and this network has activation='silu'",
        ),
        ({"global_att": False}, "global_attention=False, and this network has global_attention=True"),
        ({"pooling": "concat"}, "pooling is 'concat'"),
        ({"n_times": 100}, "100 samples are not whole segments of 32"),
        ({"n_head_kv": 4}, "kv_heads=4 given, expected 2 from the shapes"),
        ({"n_heads": 3}, "heads=3 given, expected a divisor of 8"),
        ({"new_attention": True}, "its configuration has 'new_attention'.*does not know"),
    ],
)
def test_a_configuration_that_asks_for_something_else_is_refused(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        convert("braindecode", braindecode(), config=CONFIG | change)


def test_what_is_given_by_hand_may_not_contradict_the_configuration():
    with pytest.raises(ValueError, match="heads=2 given, and 4 in the authors' configuration"):
        convert("braindecode", braindecode(), config=CONFIG, heads=2)


def test_settings_of_a_script_are_read_by_their_names():
    config = {"n_heads": 2, "use_norm": 1, "activation": "relu", "seq_len": 6, "root_path": "./data", "dropout": 0.3}
    init = convert("itransformer", authors_itransformer(), config=config).network.recipe["init_args"]
    assert {name: init[name] for name in ("heads", "normalize", "activation", "context", "dropout")} == dict(
        heads=2, normalize=True, activation="relu", context=6, dropout=0.3
    )
    with pytest.raises(ValueError, match="context=7 given, expected 6 from the shapes"):
        convert("itransformer", authors_itransformer(), config=config | {"seq_len": 7})
    with pytest.raises(ValueError, match="task_name is 'imputation'"):
        convert("itransformer", authors_itransformer(), config=config | {"task_name": "imputation"})
    with pytest.raises(ValueError, match="normalize=False given, expected True"):
        convert("tslib", authors_itransformer(), config=config | {"use_norm": 0})


def import_checkpoint(*arguments: object) -> None:
    main(["import-checkpoint", *map(str, arguments)])


@pytest.mark.parametrize("form", ["file", "folder"])
def test_the_command_reads_the_configuration_beside_the_weights(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(braindecode(), folder / "model.safetensors")
    what = folder if form == "folder" else folder / "model.safetensors"
    with pytest.raises(SystemExit, match="window"):
        import_checkpoint(what, "--from", "braindecode", "--out", tmp_path / "without")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    import_checkpoint(what, "--from", "braindecode", "--out", tmp_path / "out")
    assert f"settings of {folder / 'config.json'}: sfreq=32.0" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "config.json").read_text())["network"]["init_args"]["network"]["init_args"]
    assert (written["heads"], written["window"]) == (4, 2)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"activation": "torch.nn.modules.activation.ReLU"}))
    with pytest.raises(SystemExit, match="relu"):
        import_checkpoint(what, "--from", "braindecode", "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_configuration_elsewhere_is_named_and_none_leaves_it_out(tmp_path: Path):
    torch.save(authors_itransformer(), tmp_path / "checkpoint.pth")
    (tmp_path / "args.yaml").write_text(yaml.safe_dump({"n_heads": 2, "use_norm": 1, "activation": "gelu"}))
    arguments = [tmp_path / "checkpoint.pth", "--from", "itransformer"]
    import_checkpoint(*arguments, "--out", tmp_path / "one", "--config", tmp_path / "args.yaml")
    (tmp_path / "config.json").write_text(json.dumps({"n_heads": 4, "use_norm": 1, "activation": "gelu"}))
    given = ["--given.heads", 2, "--given.normalize", "true", "--given.activation", "gelu"]
    with pytest.raises(SystemExit, match="heads=2 given, and 4 in the authors' configuration"):
        import_checkpoint(*arguments, *given, "--out", tmp_path / "two")
    import_checkpoint(*arguments, *given, "--out", tmp_path / "two", "--config", "none")
    one, two = (json.loads((tmp_path / name / "config.json").read_text())["network"] for name in ("one", "two"))
    assert one == two


def test_folders_and_configurations_that_cannot_be_read_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"is a folder with 0 files of weights \(none\)"):
        find_weights(tmp_path)
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"2 files of weights \(a.pth, b.pth\), expected one"):
        find_weights(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"config\.json is nested more than 64 levels deep"):
        read_config(tmp_path / "config.json")
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="holds no table of settings"):
        read_config(tmp_path / "config.json")
